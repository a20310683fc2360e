// Scratch: an array for the time of one call: on the stack when short, else pages from the kernel.
// Never malloc, which may be a program's own and call back into the hooks.
#pragma once

#include <sys/mman.h>

#include <cstddef>

#include "shim/real.h"

namespace userstack::shim {

template <typename T, size_t kInline>
class Scratch {
 public:
  explicit Scratch(size_t count) : count_(count) {
    if (count <= kInline) return;
    const long pages = RawSyscall(SYS_mmap, 0, Bytes(), PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    data_ = pages < 0 && pages > -4096 ? nullptr : reinterpret_cast<T*>(pages);
  }
  ~Scratch() {
    if (count_ > kInline && data_ != nullptr) RawSyscall(SYS_munmap, Word(data_), Bytes());
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  bool ok() const { return data_ != nullptr; }
  T* data() { return data_; }
  T& operator[](size_t i) { return data_[i]; }

 private:
  long Bytes() const { return static_cast<long>(count_ * sizeof(T)); }
  size_t count_;
  T inline_[kInline];
  T* data_ = inline_;
};

}  // namespace userstack::shim
