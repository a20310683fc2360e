// Bursts: datagrams of one size to one destination, sent one after the other, share a frame that
// the device cuts again (USO), so that it is asked once for up to 64 of them. A burst is the
// endpoint's `pending` frame and goes out whole whenever the stack is asked for frames; how long
// that may be put off is BurstMayWait.
#include "netstack/udp/udp.h"
#include "netstack/wire/udp.h"

namespace userstack {
namespace {

constexpr uint16_t kMostDatagrams = 64;    // what every kernel with USO takes (UDP_MAX_SEGMENTS)
constexpr uint32_t kMostBytes = 60 << 10;  // headers included, within one IP packet
// Calls this near to each other are a stream of them; so many make it worth waiting for the next.
constexpr Duration kNear = Duration::Microseconds(20);
constexpr uint32_t kNearCalls = 16;
// What the wire takes for a datagram at the most, waking the receiver included: the time in which a
// burst left says nothing about the program.
constexpr Duration kToLeave = Duration::Microseconds(3);
// No datagram waits longer for others to join it, as far as the stack is asked.
constexpr Duration kLongestWait = Duration::Microseconds(50);

}  // namespace

void Udp::NoteCall(Instant now) {
  const Duration near = kNear + kToLeave * just_left_;
  just_left_ = 0;
  near_calls_ = now - last_call_ <= near ? near_calls_ + 1 : 0;
  last_call_ = now;
}

// Only what an error on the way cannot concern the caller of: with IP_RECVERR it learns of a full
// queue, and a neighbour, a group or ourselves may treat each datagram differently.
bool Udp::MayBurst(const UdpEndpoint& endpoint, uint32_t bytes, const Ancillary* ancillary) const {
  const SendPlan& plan = endpoint.pending_plan;
  const SocketOptions& o = endpoint.options;
  if (ancillary != nullptr || bytes == 0 || endpoint.segment_size != 0) return false;
  if (plan.route.loopback || plan.route.multicast || plan.route.broadcast) return false;
  if (plan.network_header + wire::kUdpHeaderBytes + bytes > plan.mtu) return false;
  const bool v4 = plan.destination.address.is_v4();
  if (v4 ? o.no_checksum || o.receive_error
         : endpoint.send_zero_checksum_v6 || o.receive_error_v6) {
    return false;
  }
  const DeviceCapabilities* device = ip_->device(plan.route.interface);
  return device != nullptr && device->udp_segmentation;
}

void Udp::StartBurst(UdpEndpoint& endpoint, Instant now) {
  burst_ = &endpoint;
  burst_count_ = 1;
  burst_started_ = now;
  burst_generation_ = ip_->route_generation();
}

bool Udp::Joins(const UdpEndpoint& endpoint, uint32_t bytes, const Endpoint* destination,
                const Ancillary* ancillary) const {
  if (burst_ != &endpoint || ancillary != nullptr) return false;
  if (bytes == 0 || bytes > endpoint.pending_segment) return false;
  const SendPlan& plan = endpoint.pending_plan;
  if (destination == nullptr && !endpoint.connected) return false;
  if ((destination != nullptr ? *destination : endpoint.remote) != plan.destination) return false;
  if (burst_generation_ != ip_->route_generation()) return false;
  if (endpoint.pending_error != 0 || endpoint.shut_send) return false;
  const uint64_t charged = endpoint.bytes + endpoint.pending->length() + kFrameOverhead;
  return charged < endpoint.send_limit() && endpoint.pending->length() + bytes <= kMostBytes &&
         !ip_->IsCongested(plan.route.interface);
}

// False: there was no room, and nothing has changed.
bool Udp::JoinBurst(UdpEndpoint& endpoint, const IoVector& data, uint32_t bytes, Instant now) {
  Frame* frame = endpoint.pending;
  const uint8_t slices = frame->slice_count;
  const uint32_t tail = frame->slices[slices - 1].length;
  const uint32_t payload = frame->payload_length;
  IoCursor cursor(data);
  if (!datagrams_->AppendPayload(frame, cursor, bytes, false).ok()) {
    while (frame->slice_count > slices) {
      core_->buffers.Release(frame->slices[--frame->slice_count].buffer);
    }
    frame->slices[slices - 1].length = tail;
    frame->payload_length = payload;
    return false;
  }
  ++burst_count_;
  // Only the last one may be shorter.
  if (bytes < endpoint.pending_segment || burst_count_ == kMostDatagrams) FlushBurst(now);
  return true;
}

bool Udp::FlushBurst(Instant now) {
  if (burst_ == nullptr) return false;
  UdpEndpoint& endpoint = *burst_;
  burst_ = nullptr;
  just_left_ = burst_count_;
  core_->counters.Add(Counter::kUdpOutDatagrams, burst_count_ - 1u);
  (void)Flush(endpoint, now);
  return true;
}

bool Udp::BurstMayWait(Instant now) const {
  return burst_ != nullptr && near_calls_ >= kNearCalls && now - burst_started_ < kLongestWait;
}

Instant Udp::BurstDeadline() const {
  return burst_ == nullptr ? Instant::Never() : burst_started_ + kLongestWait;
}

}  // namespace userstack
