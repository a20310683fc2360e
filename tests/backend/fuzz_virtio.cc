// Fuzz target: a virtio-net header and a frame of the fuzzer's choice. What is accepted must lie
// inside the frame.
#include <algorithm>
#include <cstdlib>

#include "backend/virtio.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using userstack::SegmentationType;
  userstack::backend::VirtioHeader header;
  if (size < header.size()) return 0;
  std::copy_n(data, header.size(), header.begin());
  const size_t length = size - header.size();
  const size_t contiguous = std::min<size_t>(length, userstack::kSmallBufferBytes);
  const auto offload =
      userstack::backend::DecodeVirtioHeader(header, data + header.size(), contiguous, length);
  if (!offload) return 0;
  const size_t checksum_end = size_t{offload->checksum_start} + offload->checksum_offset + 2;
  if (offload->checksum_needed && checksum_end > contiguous) std::abort();
  if (offload->header_length > contiguous) std::abort();
  if (offload->segmentation != SegmentationType::kNone && offload->segment_size == 0) std::abort();
  return 0;
}
