// IoVector: the caller's memory for one call, as in readv(2). Borrowed; never kept beyond the call.
// SendSpace is the other way round.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

namespace userstack {

class IoVector {
 public:
  IoVector(const iovec* entries, size_t count) : entries_(entries), count_(count) {}
  size_t Total() const {
    size_t total = 0;
    for (size_t i = 0; i < count_; ++i) total += entries_[i].iov_len;
    return total;
  }
  const iovec* entries() const { return entries_; }
  size_t count() const { return count_; }

 private:
  const iovec* entries_;
  size_t count_;
};

// Memory of the stack's for bytes to be sent, lent to a caller that fills it itself.
struct SendSpace {
  uint8_t* bytes = nullptr;
  uint32_t length = 0;
};

// A position in an IoVector, for calls that copy piece by piece.
class IoCursor {
 public:
  explicit IoCursor(const IoVector& io) : io_(io) {}
  // The next contiguous piece, of `*length` bytes (0 at the end).
  uint8_t* Piece(size_t* length) {
    while (index_ < io_.count() && offset_ == io_.entries()[index_].iov_len) {
      ++index_;
      offset_ = 0;
    }
    if (index_ >= io_.count()) {
      *length = 0;
      return nullptr;
    }
    const iovec& entry = io_.entries()[index_];
    *length = entry.iov_len - offset_;
    return static_cast<uint8_t*>(entry.iov_base) + offset_;
  }
  // Moves on by `n`, at most the current piece's length.
  void Advance(size_t n) { offset_ += n; }
  // Both return how many bytes they moved.
  size_t CopyIn(void* to, size_t size);           // caller's memory -> to
  size_t CopyOut(const void* from, size_t size);  // from -> caller's memory

 private:
  const IoVector& io_;
  size_t index_ = 0;
  size_t offset_ = 0;
};

}  // namespace userstack
