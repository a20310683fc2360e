#include "netstack/tcp/icmp_errors.h"

#include "netstack/base/byte_order.h"
#include "netstack/tcp/lifecycle.h"
#include "netstack/tcp/listener.h"
#include "netstack/tcp/output.h"
#include "netstack/tcp/readiness.h"
#include "netstack/tcp/scoreboard.h"

namespace userstack::tcp {
namespace {

bool IsInFlight(const Connection& c, SeqNum sequence) {
  return sequence.AtOrAfter(c.send.unacknowledged) && sequence.Before(c.send.next);
}

void OnPathMtu(Context& context, Connection& c, uint32_t mtu, Instant now) {
  if (c.state == State::kSynSent || c.state == State::kSynReceived) return;
  if (mtu >= c.route.mtu || c.options.mtu_discover == 0) return;
  const uint32_t old = c.mss;
  context.ip->UpdatePathMtu(c.tuple.remote, mtu, now);
  if (!RefreshRoute(context, c).ok() || c.mss >= old) return;
  // Linux: tcp_simple_retransmit. No sign of congestion: the windows stay.
  MarkLongerLost(c, c.mss);
  if (c.lost_bytes > 0 && c.recovery < Recovery::kFast) {
    c.recovery = Recovery::kLoss;
    c.recovery_point = c.send.next;
  }
  Output(context, c, now);
}

}  // namespace

void IcmpErrorArrives(Context& context, const IpAddress& local, const IpAddress& remote,
                      const uint8_t* embedded, uint32_t length, int error, bool hard, uint32_t mtu,
                      Instant now) {
  if (length < 8) return;
  const Tuple tuple{local, remote, Load16(embedded), Load16(embedded + 2)};
  const SeqNum sequence{Load32(embedded + 4)};
  const uint64_t hash = HashOf(context, tuple);
  Connection* c = FindConnection(context, tuple, hash);
  if (c == nullptr) {
    SynRecord* record = FindSynRecord(context, tuple, hash);
    if (record != nullptr && hard && record->send_initial == sequence) {
      RemoveSynRecord(context, *record);
    }
    return;
  }
  if (!IsInFlight(*c, sequence)) return;
  if (error == EMSGSIZE) {
    OnPathMtu(context, *c, mtu, now);
    return;
  }
  if (c->state == State::kSynSent || c->state == State::kSynReceived) {
    // Linux: tcp_v4_err. Whatever the router says, there is nothing to lose yet.
    Finish(context, *c, error, now);
    ReleaseIfDone(context, *c);
    return;
  }
  // RFC 5461: an open connection goes on; the error is told if it times out.
  c->soft_error = error;
  const bool v4 = tuple.remote.is_v4();
  if (v4 ? c->options.receive_error : c->options.receive_error_v6) {
    c->error = error;
    PublishReadiness(context, *c, kEventError);
  }
}

}  // namespace userstack::tcp
