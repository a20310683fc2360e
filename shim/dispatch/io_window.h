// IoWindow: what is left of a caller's iovec after part of it was moved. Borrows the caller's
// array; gives it out in parts of a few entries, so that nothing is allocated.
#pragma once

#include <algorithm>
#include <cstddef>

#include "netstack/base/io.h"

namespace userstack::shim {

class IoWindow {
 public:
  explicit IoWindow(const IoVector& whole)
      : entries_(whole.entries()), count_(whole.count()), left_(whole.Total()) {}

  size_t left() const { return left_; }
  // The next part. *last: nothing follows it. Valid until the next call.
  IoVector Part(bool* last) {
    if (offset_ == 0 && count_ <= kEntries) {
      *last = true;
      return IoVector(entries_, count_);
    }
    size_t n = std::min(count_, kEntries);
    std::copy_n(entries_, n, part_);
    if (n != 0) {
      part_[0].iov_base = static_cast<char*>(part_[0].iov_base) + offset_;
      part_[0].iov_len -= offset_;
    }
    *last = n == count_;
    return IoVector(part_, n);
  }
  // `n` bytes of the part were moved.
  void Advance(size_t n) {
    left_ -= n;
    n += offset_;
    while (count_ != 0 && n >= entries_->iov_len) {
      n -= entries_->iov_len;
      ++entries_;
      --count_;
    }
    offset_ = n;
  }

 private:
  static constexpr size_t kEntries = 16;
  const iovec* entries_;
  size_t count_;
  size_t offset_ = 0;
  size_t left_;
  iovec part_[kEntries];
};

}  // namespace userstack::shim
