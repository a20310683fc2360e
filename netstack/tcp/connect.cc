// Bind and Connect.
#include <sys/socket.h>

#include "netstack/tcp/calls.h"
#include "netstack/tcp/constants.h"
#include "netstack/tcp/isn.h"
#include "netstack/tcp/lifecycle.h"
#include "netstack/tcp/listener.h"
#include "netstack/tcp/output.h"
#include "netstack/tcp/ports.h"
#include "netstack/tcp/readiness.h"
#include "netstack/tcp/receive_queue.h"
#include "netstack/tcp/timers.h"
#include "netstack/tcp/window.h"

namespace userstack::tcp {
namespace {

// A socket may connect again after a failure: everything that one connection leaves behind goes
// back to its start. The lists are empty already (Finish).
void ForgetConnection(Context& context, Connection& c) {
  ClearReceiveQueues(context, c);
  c.send = {};
  c.receive = {};
  c.error = c.soft_error = 0;
  c.retransmit_hint = nullptr;
  c.duplicate_acks = 0;
  c.recovery = Recovery::kOpen;
  c.window_limited = false;
  c.window_limited_in_flight = 0;
  c.delivered = c.bytes_acked = c.bytes_received = c.bytes_retransmitted = 0;
  c.application_limited_until = 0;
  c.segments_in = c.segments_out = c.data_segments_in = c.data_segments_out = 0;
  c.total_retransmits = 0;
  c.smoothed_rtt = c.rtt_deviation = {};
  c.rto = kInitialRto;
  c.minimum_rtt = Duration::Infinite();
  c.backoff = c.retransmissions = c.probes = 0;
  c.retransmit_started = c.last_sent_data = c.last_received_data = {};
  c.urgent = Urgent::kNone;
  c.duplicate_sack = c.ack_pending = c.ack_now = c.ping_pong = false;
  c.quick_acks = c.ack_pushed = 0;
  c.ack_timeout = {};
  c.last_challenge_ack = {};
  c.tuning_rtt_started = {};
  c.receive_rtt = {};
  c.recent_timestamp = 0;
  c.recent_timestamp_at = {};
  c.peer_mss = kDefaultMss;
  c.route = {};
}

// What the state of an earlier call means for this one (Linux: inet_stream_connect). A failure that
// is reported leaves the socket as if it were new (tcp_disconnect).
Result<bool> EarlierOutcome(Context& context, Connection& c, Instant now) {
  if (c.disconnecting) return Status(EINVAL);
  if (c.connecting) {
    if (c.state == State::kSynSent || c.state == State::kSynReceived) {
      return Status(EALREADY);
    }
    c.connecting = false;
    if (c.state == State::kClosed) {
      const int error = c.error != 0 ? c.error : ECONNABORTED;
      c.error = 0;
      const Status disconnected = Disconnect(context, c, now);
      return disconnected.ok() ? Status(error) : disconnected;
    }
    c.connected = true;
    return true;  // the outcome of the first call: success
  }
  if (c.connected || c.state != State::kClosed) return Status(EISCONN);
  return false;
}

Result<Route> ChooseRoute(Context& context, const Connection& c, const Endpoint& remote) {
  if (c.options.v6_only && remote.address.is_v4()) return Status(ENETUNREACH);
  const bool any = c.tuple.local.is_unspecified();
  const IpAddress source =
      c.address_bound && !any ? c.tuple.local : IpAddress::Any(remote.address.family());
  // Linux: tcp_v6_connect finds no way from a mapped source, ip_route_connect none from
  // LOOPBACK4_IPV6.
  if (source.family() != remote.address.family()) {
    return Status(source.is_v4() ? EAFNOSUPPORT : ENETUNREACH);
  }
  const uint16_t interface = remote.interface != 0 ? remote.interface : c.options.bound_interface;
  Result<Route> route = context.ip->FindRoute(source, remote.address, interface);
  if (route.ok() && ((*route).broadcast || (*route).multicast)) return Status(ENETUNREACH);
  return route;
}

Status ClaimPort(Context& context, Connection& c, Instant now) {
  if (c.port == nullptr) return ChooseConnectPort(context, c, now);
  c.tuple.local_port = c.port->number;
  return ClaimTuple(context, c, c.tuple, now) ? Status::Ok() : Status(EADDRNOTAVAIL);
}

void PrepareSyn(Context& context, Connection& c, Instant now) {
  c.timestamp_offset = TimestampOffset(context, c.tuple);
  // A reused TIME-WAIT tuple has chosen a number beyond the old ones already.
  if (c.send.initial.value == 0) c.send.initial = InitialSequence(context, c.tuple, now);
  c.send.unacknowledged = c.send.initial;
  c.send.next = c.send.end = c.send.initial + 1;
  c.timestamps = c.sack = c.window_scaling = true;
  c.advertised_mss = MssForMtu(c.tuple.remote, c.route.mtu);
  if (c.tcp_options.maximum_segment != 0) {
    c.advertised_mss = std::min(c.advertised_mss, c.tcp_options.maximum_segment);
  }
  const InitialWindow window =
      ChooseInitialWindow(c.options, c.tcp_options.window_clamp, c.advertised_mss, true);
  c.receive.window = window.window;
  c.receive.window_clamp = window.clamp;
  c.receive.threshold = window.window;
  c.receive.window_scale = window.scale;
}

void UnbindTuple(Connection& c) {
  if (!c.address_bound) c.tuple.local = IpAddress::Any(c.family);
  c.tuple.remote = IpAddress::Any(c.family);
  c.tuple.remote_port = 0;
}

}  // namespace

Status Bind(Context& context, Connection& c, const Endpoint& local) {
  if (c.state != State::kClosed || c.port != nullptr) return Status(EINVAL);
  if (c.family == Family::kIpv4 && local.address.is_v6()) return Status(EAFNOSUPPORT);
  if (c.options.v6_only && local.address.is_v4()) return Status(EINVAL);
  const bool any = local.address.is_unspecified();
  // Linux (inet_addr_valid_or_nonlocal, __inet6_bind): IPv4 streams may have a group's or a
  // broadcast address, useless as it is.
  if (local.address.is_v6() && local.address.is_multicast()) return Status(EINVAL);
  const bool to_many = local.address.is_v4() &&
                       (local.address.is_multicast() || context.ip->IsBroadcast(local.address));
  if (!any && !to_many && !c.options.free_bind && !c.options.transparent &&
      !context.ip->IsLocal(local.address)) {
    return Status(EADDRNOTAVAIL);
  }
  const IpAddress before = c.tuple.local;
  c.tuple.local = local.address;
  c.interface = local.interface;
  if (local.port != 0 || !c.options.bind_address_no_port) {
    const Status status = BindPort(context, c, local.port);
    if (!status.ok()) {
      c.tuple.local = before;
      return status;
    }
  }
  c.address_bound = !any;
  return Status::Ok();
}

Status Connect(Context& context, Connection& c, const Endpoint& remote, Instant now) {
  const Result<bool> earlier = EarlierOutcome(context, c, now);
  if (!earlier.ok()) return earlier.status();
  if (*earlier) return Status::Ok();
  const Result<Route> route = ChooseRoute(context, c, remote);
  if (!route.ok()) return route.status();
  ForgetConnection(context, c);
  c.route = *route;
  c.interface = remote.address.is_link_local() ? (*route).interface : uint16_t { 0 };
  c.tuple.remote = (*route).destination;
  c.tuple.remote_port = remote.port;
  if (!c.address_bound) c.tuple.local = (*route).source;
  const Status claimed = ClaimPort(context, c, now);
  if (!claimed.ok()) {
    UnbindTuple(c);
    return claimed;
  }
  PrepareSyn(context, c, now);
  c.state = State::kSynSent;
  c.connecting = true;
  c.first_sent_at = now;
  InsertIntoTable(context, c);
  context.core->counters.Add(Counter::kTcpActiveOpens);
  SendSyn(context, c, now);
  ArmRetransmit(context, c, now);
  PublishReadiness(context, c);
  return Status(EINPROGRESS);
}

Status Disconnect(Context& context, Connection& c, Instant now) {
  const State old = c.state;
  if (old == State::kListen) {
    StopListening(context, c, now);
  } else if (old == State::kSynSent) {
    Finish(context, c, ECONNRESET, now);
  } else if (old != State::kClosed) {
    Abort(context, c, ECONNRESET, now);
  }
  const int error = c.error;
  ForgetConnection(context, c);
  c.error = error;
  // Linux: connect alone leaves an earlier shutdown standing.
  c.receive_shut = c.send_shut = false;
  c.connecting = c.connected = c.disconnecting = false;
  if (!c.port_bound) ReleasePort(context, c);
  UnbindTuple(c);
  if (c.port == nullptr) c.tuple.local_port = 0;
  PublishStateChange(context, c);
  return Status::Ok();
}

}  // namespace userstack::tcp
