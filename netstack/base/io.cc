#include "netstack/base/io.h"

#include <algorithm>
#include <cstring>

namespace userstack {

size_t IoCursor::CopyIn(void* to, size_t size) {
  size_t done = 0;
  while (done < size) {
    size_t length = 0;
    const uint8_t* piece = Piece(&length);
    if (length == 0) break;
    const size_t n = std::min(length, size - done);
    std::memcpy(static_cast<uint8_t*>(to) + done, piece, n);
    Advance(n);
    done += n;
  }
  return done;
}

size_t IoCursor::CopyOut(const void* from, size_t size) {
  size_t done = 0;
  while (done < size) {
    size_t length = 0;
    uint8_t* piece = Piece(&length);
    if (length == 0) break;
    const size_t n = std::min(length, size - done);
    std::memcpy(piece, static_cast<const uint8_t*>(from) + done, n);
    Advance(n);
    done += n;
  }
  return done;
}

}  // namespace userstack
