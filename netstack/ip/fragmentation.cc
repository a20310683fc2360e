// Fragmentation at the source (RFC 791 2.3, RFC 8200 4.5). Fragments share the datagram's slices:
// no payload byte is copied, except what stands in the frame's own storage.
#include <algorithm>

#include "netstack/ip/ip.h"

namespace userstack {
namespace {

// Room for Ethernet, IPv6, hop-by-hop and fragment headers in front of a fragment.
constexpr uint32_t kFragmentHeadroom = 72;

}  // namespace

// A new frame with bytes [offset, offset + length) of `frame` (its storage first, then its
// slices) and room for `headroom` bytes of headers in front, or nullptr.
Frame* Ip::CutFrame(const Frame& frame, uint32_t offset, uint32_t length, uint32_t headroom) {
  const uint32_t stored = frame.header_length();
  const uint32_t copied = offset < stored ? std::min(stored - offset, length) : 0;
  // Only a frame whose own storage was nearly full does not fit; none of our transports makes it.
  if (headroom + copied > kFrameStorage) return nullptr;
  Frame* cut = core_->frames.Allocate();
  if (cut == nullptr) return nullptr;
  cut->begin = cut->end = static_cast<uint16_t>(headroom);
  if (copied > 0) {
    std::memcpy(cut->Append(static_cast<uint16_t>(copied)), frame.header() + offset, copied);
    offset += copied;
    length -= copied;
  }
  uint32_t position = stored;
  for (unsigned i = 0; i < frame.slice_count && length > 0; ++i) {
    const Slice& slice = frame.slices[i];
    if (offset < position + slice.length) {
      const uint32_t skip = offset - position;
      const uint32_t n = std::min(slice.length - skip, length);
      // Cannot fail: no more slices than `frame` has.
      Check(cut->AddSlice(slice.buffer, slice.offset + skip, n), "fragment: too many slices");
      offset += n;
      length -= n;
    }
    position += slice.length;
  }
  return cut;
}

Status Ip::SendFragments(Frame* frame, const Route& route, const IpAddress& source,
                         const IpAddress& destination, const SendOptions& options, uint32_t mtu,
                         Instant now) {
  const bool v4 = destination.is_v4();
  uint32_t overhead =
      v4 ? wire::kIpv4HeaderBytes + (options.router_alert ? 4 : 0)
         : wire::kIpv6HeaderBytes + wire::kIpv6FragmentHeaderBytes + (options.router_alert ? 8 : 0);
  // A device cannot finish a checksum that spans several packets.
  if (frame->offload.checksum_needed) FinishChecksum(*frame);
  const uint32_t total = frame->length();
  const uint32_t most = (mtu - overhead) & ~7u;
  const uint32_t identification = NextIdentification(source, destination, options.protocol);
  Status result = Status::Ok();
  for (uint32_t offset = 0; offset < total && result.ok();) {
    const uint32_t length = std::min(most, total - offset);
    const bool more = offset + length < total;
    Frame* cut = CutFrame(*frame, offset, length, kFragmentHeadroom);
    if (cut == nullptr) {
      result = Status(ENOBUFS);
      break;
    }
    if (!more) frame->MoveChargeTo(cut);
    if (v4) {
      PrependIpv4(cut, source, destination, options,
                  {.more = more,
                   .has_identification = true,
                   .offset = static_cast<uint16_t>(offset),
                   .identification = identification});
    } else {
      const wire::Ipv6FragmentHeader header{options.protocol, static_cast<uint16_t>(offset), more,
                                            identification};
      PrependIpv6(cut, source, destination, options, &header);
    }
    core_->counters.Add(Counter::kIpFragmentsCreated);
    result = Transmit(cut, route, destination, options, now);
    offset += length;
  }
  core_->counters.Add(result.ok() ? Counter::kIpFragmentsOk : Counter::kIpFragmentsFails);
  core_->frames.Release(frame);
  return result;
}

}  // namespace userstack
