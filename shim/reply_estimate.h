// ReplyEstimate: whether what a thread writes is usually the last of its connection, closed or shut
// down within microseconds (a server that answers one request and closes). Then the reply may wait
// for the FIN: one segment instead of two. One write that is not followed so by its close ends the
// belief, and it takes several to gain it again.
//
// Owner: the thread.
#pragma once

#include <algorithm>
#include <cstdint>

#include "netstack/base/time.h"

namespace userstack::shim {

class ReplyEstimate {
 public:
  // A close this soon after the write follows at once.
  static constexpr Duration kAtOnce = Duration::Microseconds(20);
  static constexpr uint8_t kEnough = 8;

  bool ExpectsClose() const { return closed_ >= kEnough; }

  // `connection` is only compared.
  void NoteWrite(const void* connection, Instant now) {
    if (written_ != nullptr && (written_ != connection || now - at_ > kAtOnce)) closed_ = 0;
    written_ = connection;
    at_ = now;
  }
  void NoteClose(const void* connection, Instant now) {
    if (written_ == nullptr || written_ != connection) return;
    written_ = nullptr;
    const bool at_once = now - at_ <= kAtOnce;
    closed_ = at_once ? static_cast<uint8_t>(std::min(closed_ + 1, int{kEnough})) : uint8_t{0};
  }

 private:
  const void* written_ = nullptr;
  Instant at_;
  uint8_t closed_ = 0;
};

}  // namespace userstack::shim
