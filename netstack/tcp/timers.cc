#include "netstack/tcp/timers.h"

#include <algorithm>

#include "netstack/tcp/constants.h"
#include "netstack/tcp/lifecycle.h"
#include "netstack/tcp/output.h"
#include "netstack/tcp/recovery.h"
#include "netstack/tcp/rtt.h"

namespace userstack::tcp {
namespace {

void ArmAs(Context& context, Connection& c, RetransmitTimer kind, Instant at) {
  c.retransmit_kind = kind;
  context.core->timers.Arm(&c.retransmit_timer, at);
}

// Linux: tcp_write_err. What made it fail, if ICMP told, else ETIMEDOUT.
void GiveUp(Context& context, Connection& c, Instant now) {
  context.core->counters.Add(Counter::kTcpAbortOnTimeout);
  Finish(context, c, c.soft_error != 0 ? c.soft_error : ETIMEDOUT, now);
}

// Linux: retransmits_timed_out with TCP_USER_TIMEOUT.
bool TimedOut(const Connection& c, Instant since, uint32_t retries, Instant now) {
  if (since.nanoseconds == 0) return false;
  const Duration limit = c.tcp_options.user_timeout_ms != 0
                             ? Duration::Milliseconds(c.tcp_options.user_timeout_ms)
                             : TimeoutOfRetries(retries);
  return now - since >= limit;
}

bool IsOpening(State state) { return state == State::kSynSent || state == State::kSynReceived; }

// Linux: tcp_rtx_probe0_timed_out and tcp_write_timeout, whether to go on.
bool MayRetransmit(const Connection& c, Instant now) {
  if (c.state == State::kSynSent) {
    if (c.tcp_options.user_timeout_ms != 0 && TimedOut(c, c.retransmit_started, 0, now)) {
      return false;
    }
    return c.retransmissions < SynRetries(c);
  }
  if (c.state == State::kSynReceived) return c.retransmissions < kSynAckRetries;
  return !TimedOut(c, c.retransmit_started, c.orphan ? kOrphanRetries : kDataRetries, now);
}

void OnRetransmitTimeout(Context& context, Connection& c, Instant now) {
  if (!IsOpening(c.state) && c.sent.empty()) {
    c.retransmit_kind = RetransmitTimer::kNone;
    return;
  }
  if (c.retransmit_started.nanoseconds == 0) c.retransmit_started = now;
  if (!MayRetransmit(c, now)) {
    GiveUp(context, c, now);
    return;
  }
  context.core->counters.Add(Counter::kTcpTimeouts);
  if (IsOpening(c.state)) {
    SendSyn(context, c, now);
    ++c.total_retransmits;
    context.core->counters.Add(Counter::kTcpRetransmittedSegments);
  } else {
    EnterLoss(context, c, now);
    (void)RetransmitHead(context, c, now);
  }
  if (c.retransmissions < 255) ++c.retransmissions;
  if (c.backoff < 16) ++c.backoff;  // RFC 6298 5.5
  ArmRetransmit(context, c, now);
}

void OnWindowProbe(Context& context, Connection& c, Instant now) {
  c.retransmit_kind = RetransmitTimer::kNone;
  if (!c.sent.empty() || !HasUnsent(c)) {
    c.probes = 0;
    return;
  }
  if (c.retransmit_started.nanoseconds == 0) c.retransmit_started = now;
  // Linux: tcp_probe_timer. A peer that answers may keep its window closed for ever; one that is
  // silent may not.
  const uint32_t limit = c.orphan ? kOrphanRetries : kDataRetries;
  const bool expired =
      c.tcp_options.user_timeout_ms != 0 && TimedOut(c, c.retransmit_started, 0, now);
  if (c.probes > limit || expired) {
    GiveUp(context, c, now);
    return;
  }
  if (SendIntoWindow(context, c, now)) return;
  if (c.send.window == 0 || c.probes > 0) {
    context.core->counters.Add(Counter::kTcpZeroWindowProbes);
  }
  SendProbe(context, c, now);
  if (c.probes < 255) ++c.probes;
  if (c.backoff < 16) ++c.backoff;
  ArmWindowProbe(context, c, now);
}

}  // namespace

Duration TimeoutOfRetries(uint32_t retries) {
  Duration total{0};
  Duration step = kMinimumRto;
  for (uint32_t i = 0; i <= retries; ++i) {
    total = total + step;
    step = std::min(step * 2, kMaximumRto);
  }
  return total;
}

uint32_t KeepAliveIdleSeconds(const Connection& c) {
  return c.tcp_options.keep_alive_idle != 0 ? c.tcp_options.keep_alive_idle : kKeepAliveIdleSeconds;
}
uint32_t KeepAliveIntervalSeconds(const Connection& c) {
  return c.tcp_options.keep_alive_interval != 0 ? c.tcp_options.keep_alive_interval
                                                : kKeepAliveIntervalSeconds;
}
uint32_t KeepAliveCount(const Connection& c) {
  return c.tcp_options.keep_alive_count != 0 ? c.tcp_options.keep_alive_count : kKeepAliveCount;
}
uint32_t SynRetries(const Connection& c) {
  return c.tcp_options.syn_count != 0 ? c.tcp_options.syn_count : kSynRetries;
}

void ArmRetransmit(Context& context, Connection& c, Instant now) {
  ArmAs(context, c, RetransmitTimer::kRetransmit, now + BackedOffRto(c));
}

void ArmWindowProbe(Context& context, Connection& c, Instant now) {
  if (c.retransmit_kind != RetransmitTimer::kNone) return;
  ArmAs(context, c, RetransmitTimer::kWindowProbe, now + std::max(BackedOffRto(c), kMinimumRto));
}

void DisarmRetransmit(Context& context, Connection& c) {
  c.retransmit_kind = RetransmitTimer::kNone;
  context.core->timers.Disarm(&c.retransmit_timer);
}

void DisarmAll(Context& context, Connection& c) {
  DisarmRetransmit(context, c);
  context.core->timers.Disarm(&c.delayed_ack_timer);
  context.core->timers.Disarm(&c.keep_alive_timer);
}

void ArmKeepAlive(Context& context, Connection& c, Instant now) {
  const bool open =
      c.state != State::kClosed && c.state != State::kListen && c.state != State::kSynSent;
  if (!open || !c.options.keep_alive) {
    context.core->timers.Disarm(&c.keep_alive_timer);
    return;
  }
  context.core->timers.Arm(&c.keep_alive_timer, now + Duration::Seconds(KeepAliveIdleSeconds(c)));
}

void OnRetransmitTimer(Context& context, Connection& c, Instant now) {
  switch (c.retransmit_kind) {
    case RetransmitTimer::kNone:
      return;
    case RetransmitTimer::kRetransmit:
      OnRetransmitTimeout(context, c, now);
      return;
    case RetransmitTimer::kWindowProbe:
      OnWindowProbe(context, c, now);
      return;
  }
}

void OnKeepAliveTimer(Context& context, Connection& c, Instant now) {
  if (!c.options.keep_alive || c.state == State::kClosed || c.state == State::kSynSent) return;
  const Duration idle_limit = Duration::Seconds(KeepAliveIdleSeconds(c));
  const Duration interval = Duration::Seconds(KeepAliveIntervalSeconds(c));
  // Linux: tcp_keepalive_timer. Data under way is probe enough.
  if (!c.sent.empty() || HasUnsent(c)) {
    context.core->timers.Arm(&c.keep_alive_timer, now + idle_limit);
    return;
  }
  const Duration idle = now - c.last_received;
  if (idle < idle_limit) {
    context.core->timers.Arm(&c.keep_alive_timer, c.last_received + idle_limit);
    return;
  }
  const uint32_t user_timeout = c.tcp_options.user_timeout_ms;
  const bool silent = user_timeout != 0
                          ? idle >= Duration::Milliseconds(user_timeout) && c.probes > 0
                          : c.probes >= KeepAliveCount(c);
  if (silent) {
    Abort(context, c, c.soft_error != 0 ? c.soft_error : ETIMEDOUT, now);
    return;
  }
  context.core->counters.Add(Counter::kTcpKeepAliveProbes);
  SendProbe(context, c, now);
  if (c.probes < 255) ++c.probes;
  context.core->timers.Arm(&c.keep_alive_timer, now + interval);
}

}  // namespace userstack::tcp
