#include "netstack/tcp/transmit.h"

#include "netstack/base/checksum.h"
#include "netstack/tcp/constants.h"

namespace userstack::tcp {

Frame* MakeSegment(Context& context, const Tuple& tuple, const Outgoing& out) {
  Frame* frame = context.core->frames.Allocate();
  if (frame == nullptr) return nullptr;
  uint8_t options[wire::kTcpMaxOptionBytes];
  const uint32_t option_bytes = wire::WriteTcpOptions(out.options, options, sizeof options);
  wire::TcpHeader header;
  header.source_port = tuple.local_port;
  header.destination_port = tuple.remote_port;
  header.sequence = out.sequence;
  header.acknowledgment = out.acknowledgment;
  header.header_length = static_cast<uint8_t>(wire::kTcpHeaderBytes + option_bytes);
  header.flags = out.flags;
  header.window = out.window;
  header.urgent_pointer = out.urgent_pointer;
  uint8_t* to = frame->Append(header.header_length);
  wire::WriteTcpHeader(to, header);
  std::memcpy(to + wire::kTcpHeaderBytes, options, option_bytes);
  return frame;
}

Status SendSegment(Context& context, Frame* frame, const Tuple& tuple, const Route& route,
                   const SendOptions& send_options, uint16_t segment_size, Instant now) {
  const uint8_t header_length = static_cast<uint8_t>((frame->header()[12] >> 4) * 4);
  ChecksumAccumulator pseudo;
  pseudo.AddPseudoHeader(tuple.local, tuple.remote, kProtocol, frame->length());
  Store16(frame->header() + wire::kTcpChecksumOffset, pseudo.Sum());
  frame->offload.checksum_needed = true;
  frame->offload.checksum_start = 0;
  frame->offload.checksum_offset = wire::kTcpChecksumOffset;
  if (segment_size != 0) {
    frame->offload.segmentation =
        tuple.remote.is_v4() ? SegmentationType::kTcpV4 : SegmentationType::kTcpV6;
    frame->offload.segment_size = segment_size;
    frame->offload.header_length = header_length;
  }
  context.core->counters.Add(Counter::kTcpOutSegments);
  return context.ip->Send(frame, route, tuple.local, tuple.remote, send_options, now);
}

SendOptions SendOptionsFor(const SocketOptions& options, const Tuple& tuple, const Route& route) {
  SendOptions send;
  send.protocol = kProtocol;
  const bool v4 = tuple.remote.is_v4();
  const int16_t hops = v4 ? options.ttl : options.unicast_hops;
  if (hops >= 0) send.hop_limit = static_cast<uint8_t>(hops);
  send.traffic_class = v4 ? options.tos : options.traffic_class;
  // IP_PMTUDISC_DONT (0) is the only setting under which a router may cut our segments.
  send.dont_fragment = v4 && options.mtu_discover != 0 && !route.mtu_locked;
  return send;
}

void SendBare(Context& context, const Tuple& tuple, const Outgoing& out, uint16_t interface,
              uint8_t traffic_class, Instant now) {
  const Result<Route> route = context.ip->FindRoute(tuple.local, tuple.remote, interface);
  if (!route.ok()) return;
  Frame* frame = MakeSegment(context, tuple, out);
  if (frame == nullptr) return;
  SendOptions send;
  send.protocol = kProtocol;
  send.traffic_class = traffic_class;
  send.dont_fragment = tuple.remote.is_v4();
  (void)SendSegment(context, frame, tuple, *route, send, 0, now);
}

void SendResetTo(Context& context, const Segment& segment, Instant now) {
  if (segment.Has(wire::kTcpReset)) return;
  Outgoing out;
  if (segment.Has(wire::kTcpAck)) {
    out.sequence = segment.acknowledgment;
    out.flags = wire::kTcpReset;
  } else {
    out.acknowledgment = segment.end();
    out.flags = wire::kTcpReset | wire::kTcpAck;
  }
  context.core->counters.Add(Counter::kTcpOutResets);
  const bool scoped = segment.tuple.remote.is_link_local();
  SendBare(context, segment.tuple, out, scoped ? segment.interface : uint16_t{0}, 0, now);
}

}  // namespace userstack::tcp
