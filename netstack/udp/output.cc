// UDP output: one datagram, or one that grows under cork, or one buffer that is cut into many.
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>

#include "netstack/base/checksum.h"
#include "netstack/udp/udp.h"
#include "netstack/wire/udp.h"

namespace userstack {
namespace {

constexpr uint32_t kMaxSegments = 64;  // Linux: UDP_MAX_SEGMENTS

uint16_t SumFrame(const Frame& frame, const SendPlan& plan) {
  ChecksumAccumulator sum;
  sum.AddPseudoHeader(plan.source, plan.destination.address, IPPROTO_UDP, frame.length());
  sum.Add(frame.header(), frame.header_length());
  for (unsigned i = 0; i < frame.slice_count; ++i) {
    sum.Add(frame.slices[i].data(), frame.slices[i].length);
  }
  const uint16_t checksum = sum.Checksum();
  return checksum == 0 ? 0xffff : checksum;  // RFC 768: 0 would mean none
}

}  // namespace

void Udp::DropPending(UdpEndpoint& endpoint) {
  if (endpoint.pending == nullptr) return;
  core_->frames.Release(endpoint.pending);
  endpoint.pending = nullptr;
}

Result<size_t> Udp::Send(UdpEndpoint& endpoint, const IoVector& data, const Endpoint* destination,
                         const Ancillary* ancillary, int flags, Instant now) {
  using Error = Result<size_t>;
  if (const Status s = EnsurePort(endpoint); !s.ok()) return s;
  const size_t total = data.Total();
  if (total > 0xffff) return Error::Error(EMSGSIZE);
  if ((flags & MSG_OOB) != 0) return Error::Error(EOPNOTSUPP);
  const bool more = endpoint.cork || (flags & MSG_MORE) != 0;
  NoteCall(now);
  if (burst_ != nullptr) {
    const auto bytes = static_cast<uint32_t>(total);
    if (!more && Joins(endpoint, bytes, destination, ancillary) &&
        JoinBurst(endpoint, data, bytes, now)) {
      return total;
    }
    FlushBurst(now);
  }
  bool burst = false;
  if (endpoint.pending == nullptr) {
    if (destination == nullptr && !endpoint.connected) return Error::Error(EDESTADDRREQ);
    if (destination != nullptr && destination->port == 0) return Error::Error(EINVAL);
    const Endpoint& to = destination != nullptr ? *destination : endpoint.remote;
    if (const Status s = Begin(endpoint, to, ancillary); !s.ok()) return s;
    burst = !more && MayBurst(endpoint, static_cast<uint32_t>(total), ancillary);
    if (burst) endpoint.pending_segment = static_cast<uint16_t>(total);
  }
  const Result<size_t> appended = Append(endpoint, data, static_cast<uint32_t>(total), now);
  if (!appended.ok()) {
    DropPending(endpoint);
    return appended;
  }
  if (more) return appended;
  if (burst) {
    StartBurst(endpoint, now);
    return appended;
  }
  if (const Status s = Flush(endpoint, now); !s.ok()) return s;
  return appended;
}

Status Udp::Begin(UdpEndpoint& endpoint, const Endpoint& destination, const Ancillary* ancillary) {
  SendPlan& plan = endpoint.pending_plan;
  plan = SendPlan{};
  if (const Status s = datagrams_->Plan(endpoint, destination, ancillary, &plan); !s.ok()) return s;
  if (const Status s = datagrams_->CheckSendable(endpoint, plan.route.interface); !s.ok()) return s;
  Frame* frame = core_->frames.Allocate();
  if (frame == nullptr) return Status(ENOBUFS);
  frame->Append(wire::kUdpHeaderBytes);
  endpoint.pending = frame;
  endpoint.pending_segment = endpoint.segment_size;
  if (ancillary != nullptr && (ancillary->present & Ancillary::kGroSegment) != 0) {
    endpoint.pending_segment = ancillary->segment_size;
  }
  return Status::Ok();
}

// Linux: __ip_append_data, udp_send_skb.
Status Udp::CheckSize(const UdpEndpoint& endpoint, uint32_t bytes) const {
  const SendPlan& plan = endpoint.pending_plan;
  const uint32_t headers = plan.network_header + wire::kUdpHeaderBytes;
  const uint16_t segment = endpoint.pending_segment;
  if (segment == 0 || bytes <= segment) {
    return headers + bytes > plan.maximum ? Status(EMSGSIZE) : Status::Ok();
  }
  if (headers + segment > plan.mtu || bytes > segment * kMaxSegments) return Status(EINVAL);
  if (endpoint.options.no_checksum) return Status(EINVAL);
  return headers + bytes > kMaxIpPacket + plan.network_header - 20 ? Status(EMSGSIZE)
                                                                   : Status::Ok();
}

Result<size_t> Udp::Append(UdpEndpoint& endpoint, const IoVector& data, uint32_t bytes,
                           Instant now) {
  Frame* frame = endpoint.pending;
  const uint32_t sum = frame->length() - wire::kUdpHeaderBytes + bytes;
  if (const Status s = CheckSize(endpoint, sum); !s.ok()) {
    if (s.error() == EMSGSIZE) datagrams_->ReportTooBig(endpoint, endpoint.pending_plan, now);
    return s;
  }
  IoCursor cursor(data);
  const bool may_inline = endpoint.pending_segment == 0;  // segments are cut from slices
  if (const Status s = datagrams_->AppendPayload(frame, cursor, bytes, may_inline); !s.ok()) {
    return s;
  }
  return size_t{bytes};
}

Status Udp::Flush(UdpEndpoint& endpoint, Instant now) {
  Frame* frame = endpoint.pending;
  endpoint.pending = nullptr;
  const uint16_t segment = endpoint.pending_segment;
  const uint32_t payload = frame->length() - wire::kUdpHeaderBytes;
  const SendPlan& plan = endpoint.pending_plan;
  if (segment == 0 || payload <= segment) return SendFrame(endpoint, frame, plan, 0, now);
  const DeviceCapabilities* device = ip_->device(plan.route.interface);
  if (device != nullptr && device->udp_segmentation) {
    return SendFrame(endpoint, frame, plan, segment, now);
  }
  return SendSegments(endpoint, frame, plan, segment, now);
}

// Cuts the payload into datagrams over the same buffers.
Status Udp::SendSegments(UdpEndpoint& endpoint, Frame* frame, const SendPlan& plan,
                         uint16_t segment, Instant now) {
  Status status;
  unsigned slice = 0;
  uint32_t offset = 0;  // in that slice
  uint32_t left = frame->payload_length;
  while (left > 0 && status.ok()) {
    Frame* piece = core_->frames.Allocate();
    if (piece == nullptr) {
      status = Status(ENOBUFS);
      break;
    }
    piece->Append(wire::kUdpHeaderBytes);
    for (uint32_t want = std::min<uint32_t>(segment, left); want > 0;) {
      const Slice& from = frame->slices[slice];
      const uint32_t n = std::min(want, from.length - offset);
      if (n > 0 && !piece->AddSlice(from.buffer, from.offset + offset, n)) break;
      want -= n;
      left -= n;
      offset += n;
      if (offset == from.length) {
        ++slice;
        offset = 0;
      }
    }
    status = SendFrame(endpoint, piece, plan, 0, now);
  }
  core_->frames.Release(frame);
  return status;
}

// Writes the header. A frame that Ip will cut into fragments needs its sum now; otherwise the sum
// is left to the device, or to Ip where the device cannot.
void Udp::Finish(const UdpEndpoint& endpoint, Frame* frame, const SendPlan& plan, bool fragmented) {
  wire::UdpHeader header;
  header.source_port = endpoint.local.port;
  header.destination_port = plan.destination.port;
  header.length = static_cast<uint16_t>(frame->length());
  const bool v4 = plan.destination.address.is_v4();
  uint8_t* bytes = frame->header();
  wire::WriteUdpHeader(bytes, header);
  if (v4 ? endpoint.options.no_checksum : endpoint.send_zero_checksum_v6) return;
  if (fragmented) {
    Store16(bytes + wire::kUdpChecksumOffset, SumFrame(*frame, plan));
    return;
  }
  ChecksumAccumulator pseudo;
  pseudo.AddPseudoHeader(plan.source, plan.destination.address, IPPROTO_UDP, frame->length());
  Store16(bytes + wire::kUdpChecksumOffset, pseudo.Sum());
  frame->offload.checksum_needed = true;
  frame->offload.checksum_start = 0;
  frame->offload.checksum_offset = wire::kUdpChecksumOffset;
}

Status Udp::SendFrame(UdpEndpoint& endpoint, Frame* frame, const SendPlan& plan, uint16_t segment,
                      Instant now) {
  const bool fragmented = segment == 0 && plan.network_header + frame->length() > plan.mtu;
  Finish(endpoint, frame, plan, fragmented);
  if (segment != 0) {
    frame->offload.segmentation = SegmentationType::kUdpSegment;
    frame->offload.segment_size = segment;
    frame->offload.header_length = wire::kUdpHeaderBytes;
  }
  frame->ChargeTo(&endpoint);
  core_->counters.Add(Counter::kUdpOutDatagrams);
  const Status sent =
      ip_->Send(frame, plan.route, plan.source, plan.destination.address, plan.options, now);
  datagrams_->Announce(endpoint, 0);
  // Linux: a full queue below is only reported to sockets with IP_RECVERR (udp_send_skb).
  if (sent.error() == ENOBUFS) {
    const bool told = plan.destination.address.is_v4() ? endpoint.options.receive_error
                                                       : endpoint.options.receive_error_v6;
    return told ? sent : Status::Ok();
  }
  return sent;
}

}  // namespace userstack
