#include "netstack/tcp/handshake.h"

#include <algorithm>

#include "netstack/tcp/ack_input.h"
#include "netstack/tcp/constants.h"
#include "netstack/tcp/input.h"
#include "netstack/tcp/isn.h"
#include "netstack/tcp/lifecycle.h"
#include "netstack/tcp/listener.h"
#include "netstack/tcp/output.h"
#include "netstack/tcp/ports.h"
#include "netstack/tcp/readiness.h"
#include "netstack/tcp/rtt.h"
#include "netstack/tcp/transmit.h"
#include "netstack/tcp/window.h"

namespace userstack::tcp {
namespace {

// Options that a cookie's timestamp carries in its low bits (Linux: cookie_init_timestamp).
constexpr uint32_t kCookieTimestampBits = 6;
constexpr uint32_t kCookieScaleMask = 0xf;
constexpr uint32_t kCookieNoScale = 0xf;
constexpr uint32_t kCookieSack = 0x10;
// How long after a cookie was sent an ACK without a valid one is dropped rather than reset.
constexpr Duration kCookieGrace = Duration::Seconds(3);

bool AcceptQueueFull(const Listener& l) { return l.accept_count > l.backlog; }
bool SynQueueFull(const Listener& l) { return l.syn_count >= std::max(l.backlog, 1u); }

uint16_t ScopeOf(const Connection& listener, const Segment& segment) {
  if (segment.tuple.remote.is_link_local()) return segment.interface;
  return listener.options.bound_interface;
}

// Fills in what the SYN says and what we answer.
void Negotiate(const Connection& listener, const Segment& segment, const Route& route,
               Handshake* r) {
  const wire::TcpOptions& offered = segment.options;
  r->tuple = segment.tuple;
  r->interface = ScopeOf(listener, segment);
  r->receive_initial = segment.sequence;
  r->window = segment.window;
  r->peer_mss = offered.has_maximum_segment_size && offered.maximum_segment_size != 0
                    ? offered.maximum_segment_size
                    : static_cast<uint16_t>(kDefaultMss);
  r->timestamps = offered.has_timestamps;
  r->recent_timestamp = offered.timestamp_value;
  r->sack = offered.sack_permitted;
  r->window_scaling = offered.has_window_scale;
  r->peer_window_scale = std::min(offered.window_scale, wire::kTcpMaxWindowScale);
  const uint16_t mss = MssForMtu(r->tuple.remote, route.mtu);
  r->receive_window_scale = ChooseInitialWindow(listener.options, listener.tcp_options.window_clamp,
                                                mss, r->window_scaling)
                                .scale;
}

void SendSynAck(Context& context, const Connection& listener, const Handshake& r,
                uint32_t timestamp, Instant now) {
  const Result<Route> route = context.ip->FindRoute(r.tuple.local, r.tuple.remote, r.interface);
  if (!route.ok()) return;
  uint16_t mss = MssForMtu(r.tuple.remote, (*route).mtu);
  const uint16_t maximum = listener.tcp_options.maximum_segment;
  if (maximum != 0) mss = std::min(mss, maximum);
  const InitialWindow window = ChooseInitialWindow(
      listener.options, listener.tcp_options.window_clamp, mss, r.window_scaling);
  Outgoing out;
  out.sequence = r.send_initial;
  out.acknowledgment = r.receive_initial + 1;
  out.flags = wire::kTcpSyn | wire::kTcpAck;
  out.window = static_cast<uint16_t>(std::min<uint32_t>(window.window, 65535));
  out.options.has_maximum_segment_size = true;
  out.options.maximum_segment_size = mss;
  out.options.sack_permitted = r.sack;
  out.options.has_window_scale = r.window_scaling;
  out.options.window_scale = r.receive_window_scale;
  out.options.has_timestamps = r.timestamps;
  out.options.timestamp_value = timestamp;
  out.options.timestamp_echo_reply = r.recent_timestamp;
  Frame* frame = MakeSegment(context, r.tuple, out);
  if (frame == nullptr) return;
  (void)SendSegment(context, frame, r.tuple, *route,
                    SendOptionsFor(listener.options, r.tuple, *route), 0, now);
}

void SendRecordSynAck(Context& context, SynRecord& r, Instant now) {
  const uint32_t offset = TimestampOffset(context, r.tuple);
  SendSynAck(context, *r.listener->connection, r, TimestampClock(now, offset), now);
  r.sent_at = now;
}

Duration SynAckTimeout(const Handshake& r) {
  return std::min(kInitialRto * (int64_t{1} << std::min<int>(r.timeouts, 16)), kMaximumRto);
}

void SendCookie(Context& context, Connection& listener, Handshake& r, Instant now) {
  r.send_initial = MakeCookie(context, r.tuple, r.receive_initial, r.peer_mss, now);
  listener.listener->last_cookie = now;
  context.core->counters.Add(Counter::kTcpSynCookiesSent);
  uint32_t timestamp = TimestampClock(now, TimestampOffset(context, r.tuple));
  if (r.timestamps) {
    const uint32_t mask = (1u << kCookieTimestampBits) - 1;
    const uint32_t options =
        (r.window_scaling ? r.peer_window_scale : kCookieNoScale) | (r.sack ? kCookieSack : 0);
    const uint32_t packed = (timestamp & ~mask) | options;
    // Never ahead of the clock.
    timestamp = static_cast<int32_t>(packed - timestamp) > 0 ? packed - mask - 1 : packed;
  } else {
    // Without timestamps there is no place for them.
    r.window_scaling = r.sack = false;
  }
  SendSynAck(context, listener, r, timestamp, now);
}

// Makes the child of a completed handshake; nullptr when there is no memory or no route.
Connection* MakeChild(Context& context, Connection& listener, const Handshake& r, Instant now) {
  Connection* c = NewConnection(context, listener.family);
  if (c == nullptr) return nullptr;
  c->tuple = r.tuple;
  c->interface = r.interface;
  c->options = listener.options;
  c->tcp_options = listener.tcp_options;
  c->congestion.kind = listener.congestion.kind;
  c->peer_mss = r.peer_mss;
  c->timestamps = r.timestamps;
  c->timestamp_offset = TimestampOffset(context, r.tuple);
  c->recent_timestamp = r.recent_timestamp;
  c->recent_timestamp_at = r.recent_timestamp_at;
  c->sack = r.sack;
  c->window_scaling = r.window_scaling;
  if (!RefreshRoute(context, *c).ok()) {
    ReleaseIfDone(context, *c);
    return nullptr;
  }
  c->advertised_mss = MssForMtu(r.tuple.remote, c->route.mtu);
  if (c->tcp_options.maximum_segment != 0) {
    c->advertised_mss = std::min(c->advertised_mss, c->tcp_options.maximum_segment);
  }
  const InitialWindow window = ChooseInitialWindow(c->options, c->tcp_options.window_clamp,
                                                   c->advertised_mss, r.window_scaling);
  c->send.initial = r.send_initial;
  c->send.unacknowledged = c->send.next = c->send.end = r.send_initial + 1;
  c->send.window_scale = r.window_scaling ? r.peer_window_scale : uint8_t{0};
  c->send.window = c->send.maximum_window = r.window;
  c->send.window_sequence = r.receive_initial;
  c->receive.initial = r.receive_initial;
  c->receive.next = c->receive.copied = c->receive.acknowledged = r.receive_initial + 1;
  c->receive.window = window.window;
  c->receive.window_clamp = window.clamp;
  c->receive.threshold = window.window;
  c->receive.window_scale = r.window_scaling ? r.receive_window_scale : uint8_t{0};
  SharePort(context, *c, listener.port);
  Establish(context, *c, now);
  if (r.timeouts == 0 && r.sent_at.nanoseconds != 0) TakeRttSample(*c, now - r.sent_at);
  InsertIntoTable(context, *c);
  return c;
}

// The handshake is done: the child joins the accept queue, and the segment is the child's.
void Complete(Context& context, Connection& listener, const Handshake& r, Segment& segment,
              Instant now) {
  Connection* c = MakeChild(context, listener, r, now);
  if (c == nullptr) {
    context.core->counters.Add(Counter::kTcpListenDrops);
    return;
  }
  Listener* l = listener.listener;
  c->listener = l;
  c->in_accept_queue = true;
  l->accept_queue.PushBack(c);
  ++l->accept_count;
  context.core->counters.Add(Counter::kTcpPassiveOpens);
  TakeFirstWindow(*c, segment, true);
  PublishReadiness(context, listener, kDataEdges);
  SegmentArrives(context, *c, segment, now);
}

}  // namespace

void BeginHandshake(Context& context, Connection& listener, const Segment& segment,
                    const SeqNum* lowest_initial, Instant now) {
  Listener& l = *listener.listener;
  if (AcceptQueueFull(l)) {  // Linux: tcp_conn_request
    context.core->counters.Add(Counter::kTcpListenOverflows);
    context.core->counters.Add(Counter::kTcpListenDrops);
    return;
  }
  const Result<Route> route =
      context.ip->FindRoute(segment.tuple.local, segment.tuple.remote, ScopeOf(listener, segment));
  if (!route.ok() || (*route).broadcast || (*route).multicast) return;
  SynRecord* r = SynQueueFull(l) ? nullptr : context.syn_records.New();
  if (r == nullptr) {
    Handshake transient;
    Negotiate(listener, segment, *route, &transient);
    SendCookie(context, listener, transient, now);
    return;
  }
  r->listener = &l;
  Negotiate(listener, segment, *route, r);
  r->recent_timestamp_at = now;
  r->send_initial =
      lowest_initial != nullptr ? *lowest_initial : InitialSequence(context, r->tuple, now);
  l.syn_queue.PushBack(r);
  ++l.syn_count;
  context.syn_table.Insert(r, HashOf(context, r->tuple));
  SendRecordSynAck(context, *r, now);
  context.core->timers.Arm(&r->timer, now + SynAckTimeout(*r));
}

void OnSynTimer(Context& context, SynRecord& r, Instant now) {
  const uint32_t retries = r.listener->connection->tcp_options.syn_count != 0
                               ? r.listener->connection->tcp_options.syn_count
                               : kSynAckRetries;
  const uint32_t defer = r.listener->connection->tcp_options.defer_accept;
  // Linux: reqsk_timer_handler. A deferred handshake lives for its own number of timeouts too.
  if (r.timeouts >= std::max(retries, r.acknowledged ? defer : 0u)) {
    RemoveSynRecord(context, r);
    return;
  }
  ++r.timeouts;
  // What the peer has acknowledged already is not sent again until its data is overdue.
  if (!r.acknowledged || defer == 0 || r.timeouts >= defer) {
    SendRecordSynAck(context, r, now);
    context.core->counters.Add(Counter::kTcpRetransmittedSegments);
  }
  context.core->timers.Arm(&r.timer, now + SynAckTimeout(r));
}

// Linux: tcp_synq_no_recent_overflow. Without a recent cookie no ACK can carry one.
bool ExpectsCookies(const Listener& l, Instant now) {
  constexpr Duration kCookieValidity = Duration::Seconds(120);
  return l.last_cookie.nanoseconds != 0 && now - l.last_cookie <= kCookieValidity;
}

void SynRecordSegment(Context& context, SynRecord& r, Segment& segment, Instant now) {
  // Linux: tcp_check_req. First: sequence number and PAWS.
  const SeqNum next = r.receive_initial + 1;
  const wire::TcpOptions& options = segment.options;
  const bool syn_only =
      segment.Has(wire::kTcpSyn) && !segment.Has(wire::kTcpAck) && !segment.Has(wire::kTcpReset);
  if (syn_only && segment.sequence == r.receive_initial) {
    // A retransmitted SYN: the SYN-ACK was lost.
    if (options.has_timestamps) r.recent_timestamp = options.timestamp_value;
    SendRecordSynAck(context, r, now);
    return;
  }
  const bool paws_rejects = r.timestamps && options.has_timestamps &&
                            static_cast<int32_t>(options.timestamp_value - r.recent_timestamp) < 0;
  const bool in_window =
      segment.sequence.InRange(next, 65535) ||
      (segment.sequence_length() > 0 && (segment.end() - 1).InRange(next, 65535));
  if (paws_rejects || !in_window) {
    if (!segment.Has(wire::kTcpReset)) SendRecordSynAck(context, r, now);
    return;
  }
  // Second: RST (RFC 5961 3.2 asks for the exact number). Fourth: SYN.
  if (segment.Has(wire::kTcpReset)) {
    if (segment.sequence == next) RemoveSynRecord(context, r);
    return;
  }
  if (segment.Has(wire::kTcpSyn)) {
    SendRecordSynAck(context, r, now);
    return;
  }
  // Fifth: ACK.
  if (!segment.Has(wire::kTcpAck)) return;
  Connection& listener = *r.listener->connection;
  if (segment.acknowledgment != r.send_initial + 1) {
    // An earlier copy of the SYN may have been answered by a cookie, when the queue was full, and
    // the ACK of that may have been lost: the peer is established, with the cookie's number. (Linux
    // resets.)
    uint16_t mss = 0;
    if (!ExpectsCookies(*r.listener, now) ||
        !CheckCookie(context, r.tuple, r.receive_initial, segment.acknowledgment - 1, now, &mss)) {
      SendResetTo(context, segment, now);
    } else if (!AcceptQueueFull(*r.listener)) {
      const SeqNum peer_initial = r.receive_initial;
      RemoveSynRecord(context, r);
      AcceptCookie(context, listener, segment, peer_initial, now);
    }
    return;
  }
  const uint32_t defer = listener.tcp_options.defer_accept;
  if (defer > r.timeouts && segment.sequence_length() == 0) {
    r.acknowledged = true;  // TCP_DEFER_ACCEPT: wait for data
    return;
  }
  if (AcceptQueueFull(*r.listener)) {
    // Linux (tcp_abort_on_overflow = 0): the ACK is forgotten; the peer's data or our SYN-ACK will
    // bring another.
    r.acknowledged = true;
    context.core->counters.Add(Counter::kTcpListenOverflows);
    return;
  }
  if (options.has_timestamps && r.timestamps) {
    r.recent_timestamp = options.timestamp_value;
    r.recent_timestamp_at = now;
  }
  const Handshake copy = r;
  RemoveSynRecord(context, r);
  Complete(context, listener, copy, segment, now);
}

bool AcceptCookie(Context& context, Connection& listener, Segment& segment, SeqNum peer_initial,
                  Instant now) {
  Listener& l = *listener.listener;
  if (!ExpectsCookies(l, now)) return false;
  uint16_t mss = 0;
  if (!CheckCookie(context, segment.tuple, peer_initial, segment.acknowledgment - 1, now, &mss)) {
    context.core->counters.Add(Counter::kTcpSynCookiesFailed);
    // Linux: resets. But while handshakes are stateless, what follows an ACK that found the accept
    // queue full looks like this, and the peer will send its first segment again: keep silent for
    // a while instead.
    return now - l.last_cookie < kCookieGrace;
  }
  context.core->counters.Add(Counter::kTcpSynCookiesReceived);
  if (AcceptQueueFull(l)) {
    context.core->counters.Add(Counter::kTcpListenOverflows);
    return true;
  }
  const Result<Route> route =
      context.ip->FindRoute(segment.tuple.local, segment.tuple.remote, ScopeOf(listener, segment));
  if (!route.ok()) return true;
  Handshake r;
  Negotiate(listener, segment, *route, &r);
  r.receive_initial = peer_initial;
  r.send_initial = segment.acknowledgment - 1;
  r.peer_mss = mss;
  r.window_scaling = r.sack = false;
  r.recent_timestamp_at = now;
  if (segment.options.has_timestamps) {
    const uint32_t echoed = segment.options.timestamp_echo_reply;
    const uint32_t options = echoed & ((1u << kCookieTimestampBits) - 1);
    r.sack = (options & kCookieSack) != 0;
    r.window_scaling = (options & kCookieScaleMask) != kCookieNoScale;
    r.peer_window_scale = static_cast<uint8_t>(options & kCookieScaleMask);
    r.receive_window_scale =
        ChooseInitialWindow(listener.options, listener.tcp_options.window_clamp,
                            MssForMtu(r.tuple.remote, (*route).mtu), r.window_scaling)
            .scale;
  }
  Complete(context, listener, r, segment, now);
  return true;
}

}  // namespace userstack::tcp
