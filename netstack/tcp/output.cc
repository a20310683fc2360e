#include "netstack/tcp/output.h"

#include <algorithm>

#include "netstack/tcp/acknowledge.h"
#include "netstack/tcp/constants.h"
#include "netstack/tcp/rtt.h"
#include "netstack/tcp/scoreboard.h"
#include "netstack/tcp/send_queue.h"
#include "netstack/tcp/timers.h"
#include "netstack/tcp/transmit.h"
#include "netstack/tcp/window.h"

namespace userstack::tcp {
namespace {

uint32_t IpHeaderBytes(const IpAddress& remote) {
  return remote.is_v4() ? kIpv4HeaderBytes : kIpv6HeaderBytes;
}

unsigned SackBlocksToSend(const Connection& c) {
  if (!c.sack) return 0;
  unsigned count = c.duplicate_sack ? 1 : 0;
  const unsigned most = c.timestamps ? 3 : wire::kTcpMaxSackBlocks;
  for (ReorderBlock* b = c.reorder_recent.front(); b != nullptr && count < most;
       b = c.reorder_recent.Next(b)) {
    ++count;
  }
  return count;
}

// Payload of a full segment now: a SACK option takes its share, and no segment is larger than half
// the largest window that the peer ever offered (RFC 9293 3.8.6.2.1; Linux: tcp_bound_to_half_wnd).
uint32_t SegmentSize(const Connection& c) {
  const unsigned blocks = SackBlocksToSend(c);
  uint32_t size = c.mss;
  if (blocks > 0) size -= std::min(size - 1, 4 + 8 * blocks);
  const uint32_t largest = c.send.maximum_window;
  const uint32_t bound = largest > kDefaultMss ? largest / 2 : largest;
  if (bound != 0 && size > bound) size = std::min(size, std::max(bound, kMinimumMss));
  return size;
}

// With so many of them in flight a frame may be larger than an IP packet can say: whoever writes
// 128 KB at a time then hands over one frame each. Fewer would wait for one another.
constexpr uint32_t kHostFramesInFlight = 8;
// After so many retransmissions none is: what lies between may take them for malformed.
constexpr uint32_t kHostFrameLosses = 16;

bool MaySendHostFrames(const Connection& c, uint32_t largest) {
  const uint64_t window = std::min<uint64_t>(c.send.window, c.congestion.window);
  return largest != 0 && window >= uint64_t{kHostFramesInFlight} * largest &&
         c.total_retransmits < kHostFrameLosses;
}

// The largest payload of one frame: many segments when the device cuts them. Nothing goes again in
// one that is larger than an IP packet.
uint32_t FramePayload(const Context& context, const Connection& c, uint32_t segment_size,
                      bool again) {
  const DeviceCapabilities* device = context.ip->device(c.route.interface);
  // The urgent pointer must not be copied into every cut segment.
  if (device == nullptr || c.send.urgent_pending) return segment_size;
  uint32_t packet = std::min(device->tcp_segmentation_max, kMaxIpPacket);
  if (!again && MaySendHostFrames(c, device->host_segmentation_max)) {
    packet = std::max(packet, context.ip->LargestForHost(c.route));
  }
  const uint32_t headers = IpHeaderBytes(c.tuple.remote) + wire::kTcpMaxHeaderBytes;
  if (packet < headers + 2 * segment_size) return segment_size;
  return (packet - headers) / segment_size * segment_size;
}

// Payload of each segment that the device cuts from a longer frame. Whole units of the device cost
// less than a ninth of a segment more in headers, and save it a page each.
uint32_t CutSize(const Context& context, const Connection& c, uint32_t segment_size) {
  const DeviceCapabilities* device = context.ip->device(c.route.interface);
  if (device == nullptr || device->payload_unit == 0) return segment_size;
  const uint32_t rest = segment_size % device->payload_unit;
  return rest > segment_size / 9 ? segment_size : segment_size - rest;
}

bool IsShort(const Context& context, const Connection& c, uint32_t payload, uint32_t segment_size) {
  if (payload >= segment_size) return false;
  return payload < segment_size - segment_size / 9 || payload < CutSize(context, c, segment_size);
}

void AddConnectionOptions(const Connection& c, Instant now, wire::TcpOptions* options) {
  if (c.timestamps) {
    options->has_timestamps = true;
    options->timestamp_value = TimestampClock(now, c.timestamp_offset);
    options->timestamp_echo_reply = c.recent_timestamp;
  }
  const unsigned count = SackBlocksToSend(c);
  if (count == 0) return;
  unsigned i = 0;
  if (c.duplicate_sack) {
    options->sack_blocks[i++] = {c.duplicate_sack_begin, c.duplicate_sack_end};
  }
  for (ReorderBlock* b = c.reorder_recent.front(); b != nullptr && i < count;
       b = c.reorder_recent.Next(b)) {
    options->sack_blocks[i++] = {b->begin, b->end};
  }
  options->sack_count = static_cast<uint8_t>(i);
}

void SetUrgentPointer(const Connection& c, SeqNum sequence, Outgoing* out) {
  if (!c.send.urgent_pending || !sequence.Before(c.send.urgent)) return;
  const uint32_t distance = c.send.urgent - sequence;
  // Linux: tcp_transmit_skb; further away than 16 bits the end comes nearer with every segment.
  out->urgent_pointer = static_cast<uint16_t>(std::min<uint32_t>(distance, 0xffff));
  out->flags |= wire::kTcpUrgent;
}

// The common part of all segments of a synchronized connection.
Outgoing BaseSegment(Connection& c, SeqNum sequence, Instant now) {
  Outgoing out;
  out.sequence = sequence;
  out.acknowledgment = c.receive.next;
  out.flags = wire::kTcpAck;
  out.window = AdvertiseWindow(c);
  AddConnectionOptions(c, now, &out.options);
  return out;
}

Status Send(Context& context, Connection& c, Frame* frame, uint16_t segment_size, Instant now) {
  ++c.segments_out;
  frame->queue = c.device_queue;
  frame->flow = &c;
  return SendSegment(context, frame, c.tuple, c.route, SendOptionsFor(c.options, c.tuple, c.route),
                     segment_size, now);
}

// One record on the wire, for the first time or again. False: not sent (no frame, or refused).
// The caller has refreshed the route, and cut the record to it.
bool Transmit(Context& context, Connection& c, SentSegment* s, Instant now) {
  const uint32_t payload = s->length() - (s->fin ? 1 : 0);
  const uint32_t segment_size = SegmentSize(c);
  Outgoing out = BaseSegment(c, s->begin, now);
  if (s->fin) out.flags |= wire::kTcpFin;
  if (s->begin.Before(c.send.push) && c.send.push.AtOrBefore(s->begin + payload)) {
    out.flags |= wire::kTcpPush;
  }
  SetUrgentPointer(c, s->begin, &out);
  Frame* frame = MakeSegment(context, c.tuple, out);
  if (frame == nullptr) return false;
  AddPayload(c, frame, s->chunk, s->begin, payload);
  const bool cut = payload > segment_size;
  const uint32_t cut_size = cut ? CutSize(context, c, segment_size) : segment_size;
  if (!Send(context, c, frame, static_cast<uint16_t>(cut ? cut_size : 0), now).ok()) {
    return false;
  }
  const uint32_t segments = cut ? (payload + cut_size - 1) / cut_size : 1;
  c.data_segments_out += segments;
  // Linux: tcp_minshall_update
  if (IsShort(context, c, payload, segment_size)) c.send.small_end = s->end;
  NoteAckSent(context, c, segments);
  c.duplicate_sack = false;  // RFC 2883: each duplicate is reported once
  NoteDataSent(c, now);
  return true;
}

uint32_t WindowRoom(const Connection& c) {
  const SeqNum end = c.send.unacknowledged + c.send.window;
  return end.After(c.send.next) ? end - c.send.next : 0;
}

// Nagle's test with Minshall's refinement (Linux: tcp_nagle_check).
bool HoldsShortSegment(const Connection& c, PushMode mode) {
  if (mode == PushMode::kForce || c.send.urgent_pending) return false;
  if (mode == PushMode::kMore || c.tcp_options.cork) return true;
  if (c.tcp_options.no_delay || c.send.next == c.send.unacknowledged) return false;
  return c.send.small_end.After(c.send.unacknowledged) && c.send.small_end.AtOrBefore(c.send.next);
}

enum class Hold : uint8_t { kNothing, kNoData, kCongestionWindow, kPeerWindow, kShort };

struct Plan {
  uint32_t length = 0;
  bool fin = false;
};

// Linux: tcp_tso_should_defer. Waiting for a third of the window to open lets one frame carry what
// would else go as many.
bool WorthWaiting(const Connection& c, uint64_t allowed, uint32_t most, Instant now) {
  if (allowed >= most || c.sent.empty() || c.recovery >= Recovery::kFast) return false;
  if (now - c.last_sent_data > Duration::Milliseconds(1)) return false;
  return allowed < std::min<uint64_t>(c.send.window, c.congestion.window) / 3;
}

// What the next segment of new data is, or what holds it.
Hold PlanNext(const Context& context, const Connection& c, PushMode mode, Instant now, Plan* plan) {
  if (c.send.fin_sent) return Hold::kNoData;
  const uint32_t unsent = c.send.end - c.send.next;
  const uint32_t room = WindowRoom(c);
  if (unsent == 0) {
    if (!c.send.fin_queued) return Hold::kNoData;
    plan->fin = true;
    return room == 0 ? Hold::kPeerWindow : Hold::kNothing;
  }
  uint32_t size = SegmentSize(c);
  if (unsent > size) size = CutSize(context, c, size);
  const uint32_t least = std::min(unsent, size);
  const uint64_t in_flight = InFlight(c);
  const uint64_t window = c.congestion.window;
  const bool last = c.send.fin_queued && unsent <= size;  // Linux: not strict for the final FIN
  if (in_flight > 0 && in_flight + least > window && !last) return Hold::kCongestionWindow;
  if (room < least) return Hold::kPeerWindow;
  const uint64_t allowed = std::max<uint64_t>(window > in_flight ? window - in_flight : 0, size);
  const uint32_t most = FramePayload(context, c, size, false);
  const auto open = static_cast<uint32_t>(std::min<uint64_t>(room, allowed));
  if (open < unsent && WorthWaiting(c, open, most, now)) return Hold::kCongestionWindow;
  uint32_t length = std::min({unsent, open, most});
  length = PayloadThatFits(c, c.next_chunk, c.send.next, length);
  if (length < unsent) {
    if (length > size) length -= length % size;
  } else if (length % size != 0 && !c.send.fin_queued && HoldsShortSegment(c, mode)) {
    length -= length % size;
    if (length == 0) return Hold::kShort;
  }
  plan->length = length;
  plan->fin = c.send.fin_queued && length == unsent && room > length;
  return Hold::kNothing;
}

void StampForRate(Connection& c, SentSegment* s, Instant now) {
  if (s == c.sent.front()) {
    c.first_sent_at = now;
    c.delivered_at = now;
  }
  s->sent_at = now;
  s->delivered = c.delivered;
  s->delivered_at = c.delivered_at;
  s->first_sent_at = c.first_sent_at;
  s->application_limited = c.application_limited_until != 0;
}

void RestartAfterIdle(Connection& c, Instant now) {
  if (c.last_sent_data.nanoseconds == 0 || c.send.next != c.send.unacknowledged) return;
  const Duration idle = now - c.last_sent_data;
  if (idle <= c.rto) return;
  CongestionOnRestart(c.congestion, idle, c.rto, c.mss, now);
}

bool SendNew(Context& context, Connection& c, const Plan& plan, Instant now) {
  RestartAfterIdle(c, now);
  SentSegment* s = AddSent(context, c, plan.length, plan.fin, c.next_chunk);
  if (s == nullptr) return false;
  StampForRate(c, s, now);
  if (!Transmit(context, c, s, now)) {
    RemoveLastSent(context, c, s);
    return false;
  }
  c.send.next = s->end;
  if (plan.fin) c.send.fin_sent = true;
  c.next_chunk = ChunkAt(c, c.next_chunk, c.send.next);
  if (c.recovery == Recovery::kFast) c.congestion.recovery_sent += s->length();
  if (c.retransmit_kind != RetransmitTimer::kRetransmit) ArmRetransmit(context, c, now);
  return true;
}

// Cuts the record to what one retransmission may carry.
bool FitRetransmission(Context& context, Connection& c, SentSegment* s, uint64_t room) {
  const uint32_t payload = s->length() - (s->fin ? 1 : 0);
  uint32_t size = SegmentSize(c);
  if (payload > size) size = CutSize(context, c, size);
  uint32_t most = FramePayload(context, c, size, true);
  most = static_cast<uint32_t>(std::min<uint64_t>(most, std::max<uint64_t>(room, size)));
  const uint32_t fits = PayloadThatFits(c, s->chunk, s->begin, std::min(payload, most));
  if (fits == payload) return true;
  const uint32_t keep = fits > size ? fits - fits % size : fits;
  return SplitSent(context, c, s, s->begin + keep) != nullptr;
}

bool Retransmit(Context& context, Connection& c, SentSegment* s, Instant now) {
  if (!Transmit(context, c, s, now)) return false;
  NoteRetransmitted(c, s, now);
  context.core->counters.Add(Counter::kTcpRetransmittedSegments);
  ++c.total_retransmits;
  c.bytes_retransmitted += s->length();
  if (c.retransmit_started.nanoseconds == 0) c.retransmit_started = now;
  if (c.recovery == Recovery::kFast) c.congestion.recovery_sent += s->length();
  if (s == c.sent.front() || c.retransmit_kind != RetransmitTimer::kRetransmit) {
    ArmRetransmit(context, c, now);
  }
  return true;
}

// Sends lost data again while the congestion window allows. False: stop output for now.
bool RetransmitLost(Context& context, Connection& c, Instant now) {
  while (SentSegment* s = NextToRetransmit(c)) {
    const uint64_t in_flight = InFlight(c);
    const uint64_t window = c.congestion.window;
    const uint64_t least = std::min(s->length(), c.mss);
    if (in_flight > 0 && in_flight + least > window) return false;
    if (context.ip->IsCongested(c.route.interface)) return false;
    if (!FitRetransmission(context, c, s, window > in_flight ? window - in_flight : 0))
      return false;
    if (!Retransmit(context, c, s, now)) return false;
  }
  return true;
}

void NoteLimits(Connection& c, Hold hold) {
  const bool limited = hold == Hold::kCongestionWindow;
  // Linux: tcp_cwnd_validate. The flag stands for a whole round.
  if (limited || c.send.unacknowledged.AtOrAfter(c.window_limited_until)) {
    c.window_limited = limited;
    c.window_limited_until = c.send.next;
    c.window_limited_in_flight = InFlight(c);
  } else {
    c.window_limited_in_flight = std::max(c.window_limited_in_flight, InFlight(c));
  }
  if (hold == Hold::kNoData && c.lost_bytes <= c.retransmitted_bytes) {
    const uint64_t in_flight = InFlight(c);
    if (in_flight < c.congestion.window) {
      c.application_limited_until = std::max<uint64_t>(c.delivered + in_flight, 1);
    }
  }
}

bool MaySendData(State state) {
  switch (state) {
    case State::kEstablished:
    case State::kCloseWait:
    case State::kFinWait1:
    case State::kClosing:
    case State::kLastAck:
      return true;
    case State::kSynSent:
    case State::kSynReceived:
    case State::kFinWait2:
    case State::kTimeWait:
    case State::kClosed:
    case State::kListen:
      return false;
  }
  return false;
}

void Block(Context& context, Connection& c) {
  if (c.blocked_node.linked()) return;
  context.blocked[c.route.interface].PushBack(&c);
}

}  // namespace

bool HasUnsent(const Connection& c) {
  return c.send.next.Before(c.send.end) || (c.send.fin_queued && !c.send.fin_sent);
}

void Output(Context& context, Connection& c, Instant now, PushMode mode) {
  if (!MaySendData(c.state)) return;
  Hold hold = Hold::kNothing;
  // First the route: a smaller path MTU changes the size of everything below.
  bool go_on = RefreshRoute(context, c).ok() && RetransmitLost(context, c, now);
  while (go_on) {
    Plan plan;
    hold = PlanNext(context, c, mode, now, &plan);
    if (hold != Hold::kNothing) break;
    if (context.ip->IsCongested(c.route.interface)) {
      Block(context, c);
      break;
    }
    go_on = SendNew(context, c, plan, now);
  }
  if (!go_on && context.ip->IsCongested(c.route.interface)) Block(context, c);
  NoteLimits(c, go_on ? hold : Hold::kCongestionWindow);
  // Nothing in flight will bring an ACK, and something waits: the window probe timer looks again,
  // for a closed window as for a cork (200 ms, tcp(7)).
  if (c.sent.empty() && HasUnsent(c)) ArmWindowProbe(context, c, now);
}

void ContinueBlocked(Context& context, uint16_t interface, Instant now) {
  auto& blocked = context.blocked[interface];
  // One turn for everybody who waits now; who is held back again goes to the end.
  Connection* last = blocked.back();
  while (Connection* c = blocked.front()) {
    if (context.ip->IsCongested(interface)) return;
    c->blocked_node.Unlink();
    Output(context, *c, now);
    if (c == last) return;
  }
}

void SendAck(Context& context, Connection& c, Instant now) {
  if (!RefreshRoute(context, c).ok()) return;
  // Linux: tcp_acceptable_seq. Never beyond the peer's window.
  const SeqNum window_end = c.send.unacknowledged + c.send.window;
  const SeqNum sequence = window_end.Before(c.send.next) ? window_end : c.send.next;
  Outgoing out = BaseSegment(c, Max(sequence, c.send.unacknowledged), now);
  SetUrgentPointer(c, out.sequence, &out);
  Frame* frame = MakeSegment(context, c.tuple, out);
  if (frame == nullptr) {
    DelayAck(context, c, kMaximumAckDelay, now);  // Linux: tries again when memory is short
    return;
  }
  (void)Send(context, c, frame, 0, now);
  NoteAckSent(context, c, 1);
  c.duplicate_sack = false;
}

void SendChallengeAck(Context& context, Connection& c, Instant now) {
  // Linux: tcp_oow_rate_limited per connection, and a budget per second in all (RFC 5961 7).
  if (c.last_challenge_ack.nanoseconds != 0 && now - c.last_challenge_ack < kInvalidAckInterval) {
    return;
  }
  if (now - context.challenge_second >= Duration::Seconds(1)) {
    context.challenge_second = now;
    // A peer must not learn the budget by counting (CVE-2016-5696).
    context.challenge_budget =
        kChallengeAcksPerSecond / 2 +
        static_cast<uint32_t>(context.core->random.Below(kChallengeAcksPerSecond));
  }
  if (context.challenge_budget == 0) return;
  --context.challenge_budget;
  c.last_challenge_ack = now;
  context.core->counters.Add(Counter::kTcpChallengeAcks);
  SendAck(context, c, now);
}

void SendSyn(Context& context, Connection& c, Instant now) {
  if (!RefreshRoute(context, c).ok()) return;
  const bool answer = c.state == State::kSynReceived;
  Outgoing out;
  out.sequence = c.send.initial;
  out.flags = wire::kTcpSyn;
  out.window = static_cast<uint16_t>(std::min<uint32_t>(c.receive.window, 65535));
  out.options.has_maximum_segment_size = true;
  out.options.maximum_segment_size = c.advertised_mss;
  out.options.sack_permitted = c.sack;
  out.options.has_window_scale = c.window_scaling;
  out.options.window_scale = c.receive.window_scale;
  out.options.has_timestamps = c.timestamps;
  out.options.timestamp_value = TimestampClock(now, c.timestamp_offset);
  if (answer) {
    out.flags |= wire::kTcpAck;
    out.acknowledgment = c.receive.next;
    out.options.timestamp_echo_reply = c.recent_timestamp;
  }
  Frame* frame = MakeSegment(context, c.tuple, out);
  if (frame != nullptr) (void)Send(context, c, frame, 0, now);
}

void SendReset(Context& context, Connection& c, Instant now) {
  if (!RefreshRoute(context, c).ok()) return;
  Outgoing out;
  out.sequence = c.send.next;
  out.acknowledgment = c.receive.next;
  out.flags = wire::kTcpReset | wire::kTcpAck;
  if (c.timestamps) AddConnectionOptions(c, now, &out.options);
  out.options.sack_count = 0;
  context.core->counters.Add(Counter::kTcpOutResets);
  Frame* frame = MakeSegment(context, c.tuple, out);
  if (frame != nullptr) (void)Send(context, c, frame, 0, now);
}

void SendProbe(Context& context, Connection& c, Instant now) {
  if (!RefreshRoute(context, c).ok()) return;
  Outgoing out = BaseSegment(c, c.send.unacknowledged - 1, now);
  SetUrgentPointer(c, out.sequence, &out);
  Frame* frame = MakeSegment(context, c.tuple, out);
  if (frame != nullptr) (void)Send(context, c, frame, 0, now);
}

bool SendIntoWindow(Context& context, Connection& c, Instant now) {
  if (!HasUnsent(c) || c.send.fin_sent || !MaySendData(c.state)) return false;
  if (!RefreshRoute(context, c).ok()) return false;
  const uint32_t room = WindowRoom(c);
  if (room == 0) return false;
  const uint32_t unsent = c.send.end - c.send.next;
  Plan plan;
  plan.length = std::min({unsent, room, SegmentSize(c)});
  plan.length = PayloadThatFits(c, c.next_chunk, c.send.next, plan.length);
  plan.fin = c.send.fin_queued && plan.length == unsent && room > plan.length;
  c.send.push = c.send.end;
  return SendNew(context, c, plan, now);
}

bool RetransmitHead(Context& context, Connection& c, Instant now) {
  SentSegment* head = c.sent.front();
  if (!RefreshRoute(context, c).ok()) return false;
  if (head == nullptr || !FitRetransmission(context, c, head, 0)) return false;
  return Retransmit(context, c, head, now);
}

Status RefreshRoute(Context& context, Connection& c) {
  if (c.route.generation == context.ip->route_generation()) return Status::Ok();
  const uint16_t interface = c.interface != 0 ? c.interface : c.options.bound_interface;
  const Result<Route> route = context.ip->FindRoute(c.tuple.local, c.tuple.remote, interface);
  if (!route.ok()) {
    c.soft_error = route.error();
    return route.status();
  }
  c.route = *route;
  const uint32_t old = c.mss;
  UpdateMss(c);
  if (c.mss != old) CongestionOnMssChange(c.congestion, old, c.mss);
  return Status::Ok();
}

uint16_t MssForMtu(const IpAddress& remote, uint32_t mtu) {
  const uint32_t headers = IpHeaderBytes(remote) + wire::kTcpHeaderBytes;
  if (mtu < headers + kMinimumMss) return kMinimumMss;
  return static_cast<uint16_t>(std::min<uint32_t>(mtu - headers, 65535 - headers));
}

void UpdateMss(Connection& c) {
  uint32_t mss = std::min<uint32_t>(MssForMtu(c.tuple.remote, c.route.mtu), c.peer_mss);
  if (c.tcp_options.maximum_segment != 0) {
    mss = std::min<uint32_t>(mss, c.tcp_options.maximum_segment);
  }
  mss = std::max(mss, kMinimumMss);
  if (c.timestamps) mss -= wire::kTcpTimestampBytes;
  c.mss = mss;
}

}  // namespace userstack::tcp
