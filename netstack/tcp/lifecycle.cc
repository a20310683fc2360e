#include "netstack/tcp/lifecycle.h"

#include <algorithm>

#include "netstack/tcp/constants.h"
#include "netstack/tcp/listener.h"
#include "netstack/tcp/output.h"
#include "netstack/tcp/ports.h"
#include "netstack/tcp/readiness.h"
#include "netstack/tcp/receive_queue.h"
#include "netstack/tcp/scoreboard.h"
#include "netstack/tcp/send_queue.h"
#include "netstack/tcp/time_wait.h"
#include "netstack/tcp/timers.h"
#include "netstack/tcp/window.h"

namespace userstack::tcp {

Connection* NewConnection(Context& context, Family family) {
  Connection* c = context.connections.New();
  if (c == nullptr) return nullptr;
  c->family = family;
  c->tuple.local = IpAddress::Any(family);
  c->tuple.remote = IpAddress::Any(family);
  c->options.send_buffer = kSendBufferDefault;
  c->options.receive_buffer = kReceiveBufferDefault;
  StartCongestion(c->congestion, context.congestion_control, c->mss, false);
  context.all.PushBack(c);
  return c;
}

uint64_t HashOf(const Context& context, const Tuple& tuple) {
  return HashOfPair(context.core->hash_key, tuple.local, tuple.local_port, tuple.remote,
                    tuple.remote_port);
}

void InsertIntoTable(Context& context, Connection& c) {
  context.table.Insert(&c, HashOf(context, c.tuple));
}

Connection* FindConnection(const Context& context, const Tuple& tuple, uint64_t hash) {
  return context.table.Find(hash, [&](const Connection& c) { return c.tuple == tuple; });
}

void Establish(Context& context, Connection& c, Instant now) {
  c.state = State::kEstablished;
  c.retransmissions = 0;
  c.backoff = 0;
  c.retransmit_started = {};
  DisarmRetransmit(context, c);
  UpdateMss(c);
  StartCongestion(c.congestion, c.congestion.kind, c.mss, false);
  c.delivered_at = c.first_sent_at = now;
  c.last_received = now;
  c.round_end = c.window_limited_until = c.lost_until = c.highest_sacked = c.send.next;
  c.recovery_point = c.send.next;
  c.send.small_end = c.send.push = c.send.unacknowledged;
  c.receive_mss = static_cast<uint16_t>(std::max<uint32_t>(
      std::min<uint32_t>({c.advertised_mss, c.mss, c.receive.window / 2, kDefaultMss}),
      kMinimumReceiveMss));
  c.receive.threshold = std::max(c.receive.threshold, c.receive.window);
  c.tuning_space = std::min<uint32_t>(
      c.receive.window, static_cast<uint32_t>(kInitialWindowSegments) * c.advertised_mss);
  c.tuning_started = now;
  c.tuning_copied = c.receive.copied;
  TuneSendBuffer(c);
  ArmKeepAlive(context, c, now);
}

void ReturnDeviceQueue(Context& context, Connection& c) {
  context.core->queues.Return(c.device_queue);
  c.device_queue = 0;
}

void Finish(Context& context, Connection& c, int error, Instant now) {
  if (c.state == State::kClosed) return;
  if (c.state == State::kSynSent || c.state == State::kSynReceived) {
    context.core->counters.Add(Counter::kTcpAttemptFails);
  } else if (error != 0) {
    context.core->counters.Add(Counter::kTcpEstablishedResets);
  }
  c.state = State::kClosed;
  context.table.Erase(&c);
  ReturnDeviceQueue(context, c);
  c.blocked_node.Unlink();
  if (!c.in_accept_queue) c.waiting_node.Unlink();
  DisarmAll(context, c);
  ClearScoreboard(context, c);
  ClearSendQueue(context, c);
  c.send.next = c.send.unacknowledged = c.send.end;
  c.send.fin_queued = false;
  ClearReordered(context, c);
  c.receive_shut = c.send_shut = true;
  c.error = error;
  // Linux: tcp_done. A port that was bound by hand stays until the socket is closed.
  if (!c.port_bound) ReleasePort(context, c);
  PublishStateChange(context, c);
  (void)now;
}

void Abort(Context& context, Connection& c, int error, Instant now) {
  SendReset(context, c, now);
  Finish(context, c, error, now);
}

void EnterTimeWait(Context& context, Connection& c, Instant now) {
  StartTimeWait(context, c, false, kTimeWait, now);
  Finish(context, c, 0, now);
}

void EnterFinWait2AsOrphan(Context& context, Connection& c, Instant now) {
  if (c.tcp_options.linger2_disabled) {
    Abort(context, c, 0, now);
    return;
  }
  const uint32_t seconds =
      c.tcp_options.linger2_seconds != 0 ? c.tcp_options.linger2_seconds : kFinWait2Seconds;
  StartTimeWait(context, c, true, Duration::Seconds(seconds), now);
  Finish(context, c, 0, now);
}

void ReleaseIfDone(Context& context, Connection& c) {
  if (c.state != State::kClosed || c.pollable != nullptr || c.in_accept_queue) return;
  ClearReceiveQueues(context, c);
  ClearSendQueue(context, c);
  ReleasePort(context, c);
  DisarmAll(context, c);
  c.blocked_node.Unlink();
  c.waiting_node.Unlink();
  c.all_node.Unlink();
  if (context.ack_later == &c) context.ack_later = nullptr;
  if (context.held_reply == &c) context.held_reply = nullptr;
  if (c.orphan) --context.orphans;
  context.connections.Delete(&c);
}

}  // namespace userstack::tcp
