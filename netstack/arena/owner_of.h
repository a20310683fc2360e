// OwnerOf<&T::member>(pointer): the object in which a member (a Timer, mostly) is embedded.
#pragma once

#include <cstdint>

namespace userstack {

template <typename T, typename M>
T* OwnerOf(M T::*member, M* pointer) {
  // The offset of `member` in T, computed on a dummy address that is never read.
  constexpr uintptr_t kBase = 0x1000;
  const auto offset = reinterpret_cast<uintptr_t>(&(reinterpret_cast<T*>(kBase)->*member)) - kBase;
  return reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(pointer) - offset);
}

}  // namespace userstack
