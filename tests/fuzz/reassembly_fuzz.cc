// Fragments: overlapping, repeated, out of order, oversized, of both families, in time and late.
// Input: steps of {flags, id, offset, length}. A datagram that comes out must be one whose bytes
// were all sent: every byte says where it stood.
#include <algorithm>

#include "netstack/base/byte_order.h"
#include "netstack/base/check.h"
#include "tests/fuzz/fuzz_host.h"

namespace userstack::testing {
namespace {

// The datagram that every fragment is cut from: position and id decide a byte.
uint8_t ByteAt(uint32_t id, uint32_t position) {
  return static_cast<uint8_t>(position * 7 + (position >> 8) + id * 31);
}

Bytes Whole(uint32_t id, uint32_t total, bool v6) {
  Bytes out(total);
  for (uint32_t i = 0; i < total; ++i) out[i] = ByteAt(id, i);
  Store16(&out[0], 5000);
  Store16(&out[2], static_cast<uint16_t>(kUdpPort + (v6 ? 1 : 0)));
  Store16(&out[4], static_cast<uint16_t>(total));
  Store16(&out[6], 0);
  Bytes frame = v6 ? ToHostV6(17, out) : ToHostV4(17, out);  // for its checksum
  return Bytes(frame.end() - total, frame.end());
}

Bytes Piece(uint32_t id, uint32_t offset, uint32_t length, uint32_t total, bool v6) {
  Bytes out(length);
  for (uint32_t i = 0; i < length; ++i) out[i] = ByteAt(id, offset + i);
  if (offset == 0) {
    const Bytes whole = Whole(id, total, v6);
    std::copy(whole.begin(), whole.begin() + std::min<size_t>(8, length), out.begin());
  }
  return out;
}

// A datagram's payload must be a run of one id's bytes from position 8 on.
void VerifyDatagram(const uint8_t* data, size_t size) {
  for (uint32_t id = 0; id < 8; ++id) {
    size_t i = 0;
    while (i < size && data[i] == ByteAt(id, static_cast<uint32_t>(i) + 8)) ++i;
    if (i == size) return;
  }
  Check(false, "fuzz: reassembly made up a datagram");
}

}  // namespace

void FuzzOne(const uint8_t* data, size_t size) {
  FuzzHost fuzzed;
  fuzzed.OpenEverything();
  fuzzed.on_datagram = VerifyDatagram;
  Input input(data, size);
  for (int steps = 0; !input.empty() && steps < 300; ++steps) {
    const uint8_t flags = input.U8();
    const uint8_t id = input.U8() & 7;
    const uint32_t offset = input.U8() * ((flags & 16) != 0 ? 256u : 8u);
    const uint32_t length = input.U8() * ((flags & 32) != 0 ? 8u : 1u);
    const bool more = (flags & 1) != 0, v6 = (flags & 2) != 0;
    const uint32_t total = (input.U8() + 1) * 8u;
    const Bytes body = Piece(id, offset, length, total, v6);
    Bytes frame;
    if (v6) {
      Bytes extension = {17, 0, 0, 0, 0, 0, 0, id};
      Store16(&extension[2], static_cast<uint16_t>(offset | (more ? 1 : 0)));
      frame = ToHostV6(44, Concat({extension, body}));
    } else {
      const auto field = static_cast<uint16_t>((offset / 8 & 0x1fff) | (more ? 0x2000 : 0));
      frame = EthernetFrame(kHostMac, kPeerMac, 0x0800,
                            Ipv4Packet(kPeerV4, kHostV4, 17, body, field, id));
      FixChecksums(&frame);
    }
    fuzzed.Input(std::move(frame));
    if ((flags & 128) != 0) fuzzed.Pass(Duration::Seconds(static_cast<int64_t>(flags & 12) * 3));
    fuzzed.host().stack().CheckInvariants();
  }
  fuzzed.Pass(Duration::Seconds(120));
  const Usage left = fuzzed.host().usage();
  Check(left.packets == 0 && left.frames == 0 && left.buffer_bytes == 0, "fuzz: memory is left");
}

std::vector<Bytes> FuzzSeeds() {
  std::vector<Bytes> seeds;
  for (const uint8_t family : {0, 2}) {
    const auto first = static_cast<uint8_t>(33 | family), last = static_cast<uint8_t>(32 | family);
    // flags, id, offset / 8, length / 8, total / 8 - 1
    seeds.push_back({first, 1, 0, 8, 15, last, 1, 8, 8, 15});
    seeds.push_back({last, 1, 8, 8, 15, first, 1, 0, 8, 15});
    seeds.push_back({first, 1, 0, 8, 23, first, 1, 4, 8, 23, last, 1, 12, 12, 23});
    seeds.push_back({first, 1, 0, 8, 23, first, 2, 0, 8, 23, last, 2, 8, 16, 23, last, 1, 8, 16});
    seeds.push_back({first, 3, 0, 8, 23, static_cast<uint8_t>(128 | 12 | first), 4, 0, 1, 1});
    seeds.push_back({static_cast<uint8_t>(last | 16), 5, 255, 255, 255, first, 5, 0, 255, 255});
    seeds.push_back({first, 6, 0, 1, 2, first, 6, 0, 1, 2, first, 6, 0, 1, 2, last, 6, 1, 2, 2});
  }
  return seeds;
}

}  // namespace userstack::testing
