// The TCP header and its options (RFC 9293 3.1, RFC 7323, RFC 2018) as values. Nothing here reads
// beyond the length it is given, and every input gives either a value or false.
#pragma once

#include <array>
#include <cstdint>

#include "netstack/base/byte_order.h"
#include "netstack/base/sequence.h"

namespace userstack::wire {

inline constexpr uint32_t kTcpHeaderBytes = 20;
inline constexpr uint32_t kTcpMaxHeaderBytes = 60;
inline constexpr uint32_t kTcpMaxOptionBytes = 40;
inline constexpr uint32_t kTcpChecksumOffset = 16;
inline constexpr uint32_t kTcpTimestampBytes = 12;  // with its two NOPs
inline constexpr unsigned kTcpMaxSackBlocks = 4;
inline constexpr uint8_t kTcpMaxWindowScale = 14;  // RFC 7323 2.3

enum TcpFlag : uint8_t {
  kTcpFin = 0x01,
  kTcpSyn = 0x02,
  kTcpReset = 0x04,
  kTcpPush = 0x08,
  kTcpAck = 0x10,
  kTcpUrgent = 0x20,
  kTcpEce = 0x40,  // ECN-Echo
  kTcpCwr = 0x80,  // Congestion Window Reduced
};

struct TcpHeader {
  uint16_t source_port = 0;
  uint16_t destination_port = 0;
  SeqNum sequence;
  SeqNum acknowledgment;
  uint8_t header_length = kTcpHeaderBytes;  // bytes, options included: 20..60
  uint8_t flags = 0;                        // TcpFlag
  uint16_t window = 0;                      // as on the wire, not scaled
  uint16_t checksum = 0;
  uint16_t urgent_pointer = 0;

  bool Has(TcpFlag flag) const { return (flags & flag) != 0; }
};

// False when `length` bytes do not hold a whole header with its options. The checksum is not
// looked at.
[[nodiscard]] inline bool ParseTcpHeader(const uint8_t* bytes, uint32_t length, TcpHeader* header) {
  if (length < kTcpHeaderBytes) return false;
  const uint32_t header_length = (bytes[12] >> 4) * 4u;
  if (header_length < kTcpHeaderBytes || header_length > length) return false;
  header->source_port = Load16(bytes);
  header->destination_port = Load16(bytes + 2);
  header->sequence = {Load32(bytes + 4)};
  header->acknowledgment = {Load32(bytes + 8)};
  header->header_length = static_cast<uint8_t>(header_length);
  header->flags = bytes[13];
  header->window = Load16(bytes + 14);
  header->checksum = Load16(bytes + 16);
  header->urgent_pointer = Load16(bytes + 18);
  return true;
}

// Writes the fixed 20 bytes; `header.header_length` is a multiple of 4, options follow at `to +
// 20`.
inline void WriteTcpHeader(uint8_t* to, const TcpHeader& header) {
  Store16(to, header.source_port);
  Store16(to + 2, header.destination_port);
  Store32(to + 4, header.sequence.value);
  Store32(to + 8, header.acknowledgment.value);
  to[12] = static_cast<uint8_t>(header.header_length / 4 << 4);
  to[13] = header.flags;
  Store16(to + 14, header.window);
  Store16(to + 16, header.checksum);
  Store16(to + 18, header.urgent_pointer);
}

struct SackBlock {
  SeqNum begin;
  SeqNum end;  // one past the last byte
  bool operator==(const SackBlock&) const = default;
};

struct TcpOptions {
  bool has_maximum_segment_size = false;
  bool has_window_scale = false;
  bool sack_permitted = false;
  bool has_timestamps = false;
  uint8_t window_scale = 0;  // as received; the user clamps to kTcpMaxWindowScale
  uint8_t sack_count = 0;
  uint16_t maximum_segment_size = 0;
  uint32_t timestamp_value = 0;       // TSval
  uint32_t timestamp_echo_reply = 0;  // TSecr
  std::array<SackBlock, kTcpMaxSackBlocks> sack_blocks;
};

// Parses `length` option bytes (header_length - 20 of them, at header + 20). Unknown options are
// skipped; an option of impossible length ends the list, as in Linux; what came before it stands.
// `options` starts from its defaults. False when the list was malformed.
bool ParseTcpOptions(const uint8_t* bytes, uint32_t length, TcpOptions* options);

// Writes `options` in Linux's order and alignment, at most `capacity` (<= 40) bytes; returns the
// length, a multiple of 4. SACK blocks that do not fit are left out, last first.
uint32_t WriteTcpOptions(const TcpOptions& options, uint8_t* to, uint32_t capacity);

}  // namespace userstack::wire
