#include "netstack/wire/tcp.h"

#include <algorithm>

namespace userstack::wire {
namespace {

enum OptionKind : uint8_t {
  kEnd = 0,
  kNop = 1,
  kMaximumSegmentSize = 2,
  kWindowScale = 3,
  kSackPermitted = 4,
  kSack = 5,
  kTimestamps = 8,
};

void ParseSackBlocks(const uint8_t* p, uint32_t length, TcpOptions* options) {
  // The kind and length bytes, then pairs of sequence numbers (RFC 2018 3).
  if (length < 10 || (length - 2) % 8 != 0) return;
  const unsigned count = std::min<unsigned>((length - 2) / 8, kTcpMaxSackBlocks);
  for (unsigned i = 0; i < count; ++i) {
    options->sack_blocks[i] = {{Load32(p + 2 + 8 * i)}, {Load32(p + 6 + 8 * i)}};
  }
  options->sack_count = static_cast<uint8_t>(count);
}

void ParseOption(const uint8_t* p, uint8_t length, TcpOptions* options) {
  switch (p[0]) {
    case kMaximumSegmentSize:
      if (length != 4) return;
      options->has_maximum_segment_size = true;
      options->maximum_segment_size = Load16(p + 2);
      return;
    case kWindowScale:
      if (length != 3) return;
      options->has_window_scale = true;
      options->window_scale = p[2];
      return;
    case kSackPermitted:
      if (length == 2) options->sack_permitted = true;
      return;
    case kSack:
      ParseSackBlocks(p, length, options);
      return;
    case kTimestamps:
      if (length != 10) return;
      options->has_timestamps = true;
      options->timestamp_value = Load32(p + 2);
      options->timestamp_echo_reply = Load32(p + 6);
      return;
  }
}

}  // namespace

bool ParseTcpOptions(const uint8_t* bytes, uint32_t length, TcpOptions* options) {
  *options = {};
  // The usual segment: two NOPs and timestamps, nothing else (RFC 7323 appendix A).
  if (length == kTcpTimestampBytes && Load32(bytes) == 0x0101080a) {
    options->has_timestamps = true;
    options->timestamp_value = Load32(bytes + 4);
    options->timestamp_echo_reply = Load32(bytes + 8);
    return true;
  }
  uint32_t at = 0;
  while (at < length) {
    if (bytes[at] == kEnd) return true;
    if (bytes[at] == kNop) {
      ++at;
      continue;
    }
    if (length - at < 2) return false;
    const uint8_t size = bytes[at + 1];
    if (size < 2 || size > length - at) return false;
    ParseOption(bytes + at, size, options);
    at += size;
  }
  return true;
}

uint32_t WriteTcpOptions(const TcpOptions& options, uint8_t* to, uint32_t capacity) {
  uint32_t at = 0;
  if (options.has_maximum_segment_size && capacity - at >= 4) {
    to[at] = kMaximumSegmentSize;
    to[at + 1] = 4;
    Store16(to + at + 2, options.maximum_segment_size);
    at += 4;
  }
  if (options.has_timestamps && capacity - at >= kTcpTimestampBytes) {
    // SACK-permitted takes the place of the two NOPs.
    to[at] = options.sack_permitted ? kSackPermitted : kNop;
    to[at + 1] = options.sack_permitted ? 2 : kNop;
    to[at + 2] = kTimestamps;
    to[at + 3] = 10;
    Store32(to + at + 4, options.timestamp_value);
    Store32(to + at + 8, options.timestamp_echo_reply);
    at += kTcpTimestampBytes;
  } else if (options.sack_permitted && capacity - at >= 4) {
    Store32(to + at, 0x01010402);
    at += 4;
  }
  if (options.has_window_scale && capacity - at >= 4) {
    Store32(to + at, 0x01030300u | options.window_scale);
    at += 4;
  }
  const uint32_t room = capacity - at;
  const uint32_t fit = room < 12 ? 0 : (room - 4) / 8;
  const uint32_t count = std::min<uint32_t>(options.sack_count, fit);
  if (count == 0) return at;
  Store32(to + at, 0x01010500u | (2 + 8 * count));
  at += 4;
  for (uint32_t i = 0; i < count; ++i) {
    Store32(to + at, options.sack_blocks[i].begin.value);
    Store32(to + at + 4, options.sack_blocks[i].end.value);
    at += 8;
  }
  return at;
}

}  // namespace userstack::wire
