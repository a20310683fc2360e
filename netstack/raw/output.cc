// Raw output: payloads under a header of ours, whole packets (IP_HDRINCL), echo requests.
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "netstack/base/checksum.h"
#include "netstack/raw/raw.h"
#include "netstack/wire/icmp.h"

namespace userstack {
namespace {

// How much of the payload lies in the frame itself, so that headers in it can be written to.
constexpr uint32_t kInlineBytes = 64;

uint16_t SumFrame(const Frame& frame) {
  ChecksumAccumulator sum;
  sum.Add(frame.header(), frame.header_length());
  for (unsigned i = 0; i < frame.slice_count; ++i) {
    sum.Add(frame.slices[i].data(), frame.slices[i].length);
  }
  return sum.Checksum();
}

}  // namespace

// IP_HDRINCL: the program's header says what ours will say. Linux fills in length, checksum and
// (when 0) identification and source; options and hand-made fragments are refused here, because Ip
// writes the header.
Status Raw::PlanHeader(RawEndpoint& endpoint, IoCursor* data, uint32_t* bytes,
                       SendPlan* plan) const {
  (void)endpoint;
  uint8_t header[20];
  if (*bytes < sizeof header || data->CopyIn(header, sizeof header) < sizeof header) {
    return Status(EINVAL);
  }
  const uint32_t header_length = (header[0] & 0x0fu) * 4;
  if (header[0] >> 4 != 4 || header_length < sizeof header || header_length > *bytes) {
    return Status(EINVAL);
  }
  const uint16_t fragment = Load16(header + 6);
  if (header_length > sizeof header || (fragment & 0x3fff) != 0) return Status(EOPNOTSUPP);
  if (*bytes > plan->route.mtu) return Status(EMSGSIZE);
  *bytes -= header_length;
  plan->options.traffic_class = header[1];
  plan->options.dont_fragment = (fragment & 0x4000) != 0;
  plan->options.discover_path_mtu = false;
  plan->options.hop_limit = header[8];
  plan->options.protocol = header[9];
  const IpAddress source = IpAddress::V4FromBytes(header + 12);
  if (!source.is_unspecified()) plan->source = source;
  plan->destination.address = IpAddress::V4FromBytes(header + 16);
  return Status::Ok();
}

Status Raw::Fill(RawEndpoint& endpoint, Frame* frame, IoCursor* data, uint32_t bytes,
                 const SendPlan& plan) {
  const uint32_t in_frame = std::min(bytes, kInlineBytes);
  uint8_t* front = frame->Append(static_cast<uint16_t>(in_frame));
  data->CopyIn(front, in_frame);
  if (const Status s = datagrams_->AppendPayload(frame, *data, bytes - in_frame, false); !s.ok()) {
    return s;
  }
  const bool v4 = plan.destination.address.is_v4();
  if (endpoint.ping) {
    // Linux: ping_common_sendmsg.
    const uint8_t request = v4 ? uint8_t{wire::kIcmpEcho} : uint8_t{wire::kIcmpV6Echo};
    if (bytes < wire::kIcmpHeaderBytes || front[0] != request || front[1] != 0) {
      return Status(EINVAL);
    }
    Store16(front + 4, endpoint.local.port);
  }
  const int offset = endpoint.ping ? 2 : endpoint.checksum_offset;
  if (offset < 0) return Status::Ok();
  if (static_cast<uint32_t>(offset) + 2 > in_frame) return Status(EINVAL);
  Store16(front + offset, 0);
  ChecksumAccumulator sum;
  if (!v4) {
    sum.AddPseudoHeader(plan.source, plan.destination.address, plan.options.protocol,
                        frame->length());
  }
  const uint16_t payload = static_cast<uint16_t>(~SumFrame(*frame));
  uint8_t word[2];
  Store16(word, payload);
  sum.Add(word, 2);
  Store16(front + offset, sum.Checksum());
  return Status::Ok();
}

Result<size_t> Raw::Send(RawEndpoint& endpoint, const IoVector& data, const Endpoint* destination,
                         const Ancillary* ancillary, int flags, Instant now) {
  using Error = Result<size_t>;
  if (const Status s = EnsureIdentifier(endpoint); !s.ok()) return s;
  const size_t total = data.Total();
  if (total > 0xffff) return Error::Error(EMSGSIZE);
  if ((flags & MSG_OOB) != 0) return Error::Error(EOPNOTSUPP);
  if (destination == nullptr && !endpoint.connected) return Error::Error(EDESTADDRREQ);
  Endpoint to = destination != nullptr ? *destination : endpoint.remote;
  to.port = 0;
  SendPlan plan;
  if (const Status s = datagrams_->Plan(endpoint, to, ancillary, &plan); !s.ok()) return s;
  if (const Status s = datagrams_->CheckSendable(endpoint, plan.route.interface); !s.ok()) return s;
  IoCursor cursor(data);
  auto bytes = static_cast<uint32_t>(total);
  if (endpoint.header_included && to.address.is_v4()) {
    if (const Status s = PlanHeader(endpoint, &cursor, &bytes, &plan); !s.ok()) return s;
  } else if (plan.network_header + bytes > plan.maximum) {
    datagrams_->ReportTooBig(endpoint, plan, now);
    return Error::Error(EMSGSIZE);
  }
  Frame* frame = core_->frames.Allocate();
  if (frame == nullptr) return Error::Error(ENOBUFS);
  if (const Status s = Fill(endpoint, frame, &cursor, bytes, plan); !s.ok()) {
    core_->frames.Release(frame);
    return s;
  }
  frame->ChargeTo(&endpoint);
  const Status sent =
      ip_->Send(frame, plan.route, plan.source, plan.destination.address, plan.options, now);
  datagrams_->Announce(endpoint, 0);
  if (!sent.ok() && (sent.error() != ENOBUFS || endpoint.options.receive_error)) return sent;
  return total;
}

}  // namespace userstack
