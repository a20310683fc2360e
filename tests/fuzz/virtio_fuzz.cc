// The virtio-net header in front of a frame, then the frame with what the header said of it into a
// stack. Input: {header (12 bytes), contiguous (2 bytes), frame}. On success every offset must lie
// inside the frame.
#include <algorithm>

#include "backend/virtio.h"
#include "netstack/base/check.h"
#include "tests/fuzz/fuzz_host.h"

namespace userstack::testing {

void FuzzOne(const uint8_t* data, size_t size) {
  if (size < backend::kVirtioHeaderBytes + 2) return;
  backend::VirtioHeader header;
  std::copy(data, data + header.size(), header.begin());
  Input input(data + header.size(), size - header.size());
  const uint16_t limit = input.U16();
  const Bytes frame = input.Take(input.left());
  const size_t contiguous = std::min<size_t>(limit, frame.size());
  // A copy of exactly the readable part, so that a sanitizer sees reads beyond it.
  const Bytes readable(frame.begin(), frame.begin() + static_cast<ptrdiff_t>(contiguous));
  const auto offload =
      backend::DecodeVirtioHeader(header, readable.data(), readable.size(), frame.size());
  if (!offload.has_value()) return;
  if (offload->checksum_needed) {
    const size_t end = size_t{offload->checksum_start} + offload->checksum_offset + 2;
    Check(end <= contiguous, "virtio: checksum field outside the frame");
  }
  if (offload->segmentation != SegmentationType::kNone) {
    Check(offload->segment_size > 0, "virtio: segments of nothing");
    Check(offload->header_length <= contiguous, "virtio: headers outside the frame");
  }
  FuzzHost fuzzed;
  fuzzed.OpenEverything();
  fuzzed.Input(frame, *offload);
  fuzzed.Pass(Duration::Seconds(2));
}

std::vector<Bytes> FuzzSeeds() {
  const Bytes all = {0xff, 0xff};
  const Bytes plain(12, 0), valid = {2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  const Bytes tcp4 = {1, 1, 54, 0, 100, 0, 34, 0, 16, 0, 0, 0};
  const Bytes tcp6 = {1, 4, 74, 0, 100, 0, 54, 0, 16, 0, 0, 0};
  const Bytes uso = {1, 5, 42, 0, 100, 0, 34, 0, 6, 0, 0, 0};
  const Bytes ufo = {1, 3, 42, 0, 200, 1, 34, 0, 6, 0, 0, 0};
  const Bytes checksum = {1, 0, 0, 0, 0, 0, 34, 0, 6, 0, 0, 0};
  const Bytes payload(450, 'p');
  const Bytes segment = TcpSegment(4000, kHostPort, 1, 1, 24, 1000, {}, payload);
  const Bytes udp = ToHostV4(17, UdpDatagram(5000, kUdpPort, payload));
  return {Concat({plain, all, ToHostV4(6, segment)}),
          Concat({valid, all, ToHostV6(6, segment)}),
          Concat({tcp4, all, ToHostV4(6, segment)}),
          Concat({tcp6, all, ToHostV6(6, segment)}),
          Concat({uso, all, udp}),
          Concat({ufo, all, udp}),
          Concat({checksum, all, udp})};
}

}  // namespace userstack::testing
