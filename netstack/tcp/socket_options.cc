// Options of level IPPROTO_TCP (tcp(7)), with Linux's limits and errors.
#include "netstack/tcp/socket_options.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <cstring>

#include "netstack/tcp/acknowledge.h"
#include "netstack/tcp/constants.h"
#include "netstack/tcp/info.h"
#include "netstack/tcp/lifecycle.h"
#include "netstack/tcp/output.h"
#include "netstack/tcp/readiness.h"
#include "netstack/tcp/timers.h"

namespace userstack::tcp {
namespace {

constexpr int kMaximumKeepAlive = 32767;     // Linux: MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL
constexpr int kMaximumKeepAliveCount = 127;  // MAX_TCP_KEEPCNT
constexpr int kMaximumWindowOption = 32767;  // MAX_TCP_WINDOW
constexpr int kMaximumSynCount = 127;        // MAX_TCP_SYNCNT
constexpr int kMaximumLinger2 = 120;         // TCP_FIN_TIMEOUT_MAX / HZ
constexpr int kMaximumDeferSeconds = 1'000'000;
// Options newer than the C library's header.
constexpr int kTcpInq = 36;
constexpr int kTcpTransmitDelay = 37;

bool IsSynchronized(State state) {
  return state != State::kClosed && state != State::kListen && state != State::kSynSent;
}

// Linux: secs_to_retrans and retrans_to_secs, with TCP_TIMEOUT_INIT and TCP_RTO_MAX.
uint16_t RetransmitsOf(int seconds) {
  if (seconds <= 0) return 0;
  uint16_t count = 1;
  int period = 1;
  int step = 1;
  while (seconds > period && count < 255) {
    ++count;
    step = std::min(step * 2, static_cast<int>(kMaximumRto.seconds()));
    period += step;
  }
  return count;
}
int SecondsOf(uint16_t retransmits) {
  int period = 0;
  int step = 1;
  for (uint16_t i = 0; i < retransmits; ++i) {
    period += step;
    step = std::min(step * 2, static_cast<int>(kMaximumRto.seconds()));
  }
  return period;
}

Status SetKeepAlive(Context& context, Connection& c, int name, int value, Instant now) {
  if (value < 1) return Status(EINVAL);
  if (name == TCP_KEEPCNT) {
    if (value > kMaximumKeepAliveCount) return Status(EINVAL);
    c.tcp_options.keep_alive_count = static_cast<uint8_t>(value);
    return Status::Ok();
  }
  if (value > kMaximumKeepAlive) return Status(EINVAL);
  if (name == TCP_KEEPINTVL) {
    c.tcp_options.keep_alive_interval = static_cast<uint16_t>(value);
    return Status::Ok();
  }
  c.tcp_options.keep_alive_idle = static_cast<uint16_t>(value);
  if (c.options.keep_alive && IsSynchronized(c.state)) {
    // Linux: what has passed already counts.
    const Duration idle = now - std::max(c.last_received, c.last_sent_data);
    const Duration limit = Duration::Seconds(value);
    const Duration left = limit > idle ? limit - idle : Duration{0};
    context.core->timers.Arm(&c.keep_alive_timer, now + left);
  }
  return Status::Ok();
}

void SetNoDelay(Context& context, Connection& c, bool on, Instant now) {
  c.tcp_options.no_delay = on;
  // Linux: a cork keeps its hold.
  if (on) Output(context, c, now, c.tcp_options.cork ? PushMode::kNagle : PushMode::kForce);
}

void SetCork(Context& context, Connection& c, bool on, Instant now) {
  const bool was = c.tcp_options.cork;
  c.tcp_options.cork = on;
  if (was && !on) {
    c.send.push = c.send.end;
    Output(context, c, now, c.tcp_options.no_delay ? PushMode::kForce : PushMode::kNagle);
  }
}

void SetQuickAck(Context& context, Connection& c, int value, Instant now) {
  if (value == 0) {
    c.ping_pong = true;
    return;
  }
  c.ping_pong = false;
  if ((c.state == State::kEstablished || c.state == State::kCloseWait) && c.ack_pending) {
    SendAck(context, c, now);
    if ((value & 1) == 0) c.ping_pong = true;
  }
}

void SetLinger2(Connection& c, int value) {
  c.tcp_options.linger2_disabled = value < 0;
  const int seconds = value < 0 ? 0 : std::min(value, kMaximumLinger2);
  c.tcp_options.linger2_seconds = static_cast<uint16_t>(seconds);
}

Status SetWindowClamp(Connection& c, int value) {
  if (value == 0) {
    if (c.state != State::kClosed) return Status(EINVAL);
    c.tcp_options.window_clamp = 0;
    return Status::Ok();
  }
  // Linux: never below half of the smallest receive buffer (SOCK_MIN_RCVBUF).
  constexpr uint32_t kLeast = 2304 / 2;
  const uint32_t clamp = value < 0 ? kLeast : std::max(static_cast<uint32_t>(value), kLeast);
  c.tcp_options.window_clamp = clamp;
  if (IsSynchronized(c.state)) {
    c.receive.window_clamp = std::min<uint32_t>(clamp, 65535u << c.receive.window_scale);
    c.receive.threshold = std::min(c.receive.threshold, c.receive.window_clamp);
  }
  return Status::Ok();
}

Status SetCongestion(Connection& c, const void* value, uint32_t length) {
  CongestionControl kind;
  if (length == 0) return Status(EINVAL);
  if (!ParseCongestionName(static_cast<const char*>(value), length, &kind)) return Status(ENOENT);
  if (kind != c.congestion.kind) StartCongestion(c.congestion, kind, c.mss, true);
  return Status::Ok();
}

// Linux: thin dupack is accepted without effect; linear time-outs matter to thin streams only.
Status SetThin(TcpOptionState& o, uint8_t bit, int value) {
  if (value < 0 || value > 1) return Status(EINVAL);
  o.thin_flags = static_cast<uint8_t>((o.thin_flags & ~bit) | (value != 0 ? bit : 0));
  return Status::Ok();
}

Status SetInteger(Context& context, Connection& c, int name, int value, Instant now) {
  TcpOptionState& o = c.tcp_options;
  switch (name) {
    case TCP_NODELAY:
      SetNoDelay(context, c, value != 0, now);
      return Status::Ok();
    case TCP_CORK:
      SetCork(context, c, value != 0, now);
      return Status::Ok();
    case TCP_MAXSEG:
      if (value != 0 && (value < 88 || value > kMaximumWindowOption)) return Status(EINVAL);
      o.maximum_segment = static_cast<uint16_t>(value);
      return Status::Ok();
    case TCP_KEEPIDLE:
    case TCP_KEEPINTVL:
    case TCP_KEEPCNT:
      return SetKeepAlive(context, c, name, value, now);
    case TCP_SYNCNT:
      if (value < 1 || value > kMaximumSynCount) return Status(EINVAL);
      o.syn_count = static_cast<uint8_t>(value);
      return Status::Ok();
    case TCP_LINGER2:
      SetLinger2(c, value);
      return Status::Ok();
    case TCP_DEFER_ACCEPT:
      o.defer_accept = RetransmitsOf(std::min(value, kMaximumDeferSeconds));
      return Status::Ok();
    case TCP_WINDOW_CLAMP:
      return SetWindowClamp(c, value);
    case TCP_QUICKACK:
      SetQuickAck(context, c, value, now);
      return Status::Ok();
    case TCP_USER_TIMEOUT:
      if (value < 0) return Status(EINVAL);
      o.user_timeout_ms = static_cast<uint32_t>(value);
      return Status::Ok();
    case TCP_NOTSENT_LOWAT:
      o.not_sent_low_water = static_cast<uint32_t>(value);
      PublishReadiness(context, c);
      return Status::Ok();
    case TCP_THIN_LINEAR_TIMEOUTS:
    case TCP_THIN_DUPACK:
      return SetThin(o, name == TCP_THIN_DUPACK ? 2 : 1, value);
    case TCP_FASTOPEN:
      // Accepted as Linux does; without a server key no SYN carries data.
      if (value < 0 || (c.state != State::kListen && c.state != State::kClosed)) {
        return Status(EINVAL);
      }
      return Status::Ok();
    case TCP_FASTOPEN_CONNECT:
    case TCP_FASTOPEN_NO_COOKIE:
      if (value < 0 || value > 1) return Status(EINVAL);
      return c.state == State::kClosed ? Status::Ok() : Status(EINVAL);
    case TCP_TIMESTAMP:
      return Status(EPERM);  // only in repair mode
    case kTcpInq:
      return value < 0 || value > 1 ? Status(EINVAL) : Status::Ok();
    case kTcpTransmitDelay:
      return value < 0 ? Status(EINVAL) : Status::Ok();
    case TCP_REPAIR:
    case TCP_REPAIR_QUEUE:
    case TCP_QUEUE_SEQ:
    case TCP_REPAIR_OPTIONS:
    case TCP_REPAIR_WINDOW:
      return Status(EPERM);
  }
  return Status(ENOPROTOOPT);
}

int QuickAckValue(const Connection& c) { return c.ping_pong ? 0 : 1; }

Result<int> GetInteger(const Connection& c, int name) {
  const TcpOptionState& o = c.tcp_options;
  switch (name) {
    case TCP_NODELAY:
      return o.no_delay ? 1 : 0;
    case TCP_CORK:
      return o.cork ? 1 : 0;
    case TCP_MAXSEG:
      if ((c.state == State::kClosed || c.state == State::kListen) && o.maximum_segment != 0) {
        return int{o.maximum_segment};
      }
      return static_cast<int>(c.mss);
    case TCP_KEEPIDLE:
      return static_cast<int>(KeepAliveIdleSeconds(c));
    case TCP_KEEPINTVL:
      return static_cast<int>(KeepAliveIntervalSeconds(c));
    case TCP_KEEPCNT:
      return static_cast<int>(KeepAliveCount(c));
    case TCP_SYNCNT:
      return static_cast<int>(SynRetries(c));
    case TCP_LINGER2:
      if (o.linger2_disabled) return -1;
      return o.linger2_seconds != 0 ? int{o.linger2_seconds} : static_cast<int>(kFinWait2Seconds);
    case TCP_DEFER_ACCEPT:
      return SecondsOf(o.defer_accept);
    case TCP_WINDOW_CLAMP:
      return static_cast<int>(IsSynchronized(c.state) ? c.receive.window_clamp : o.window_clamp);
    case TCP_QUICKACK:
      return QuickAckValue(c);
    case TCP_USER_TIMEOUT:
      return static_cast<int>(o.user_timeout_ms);
    case TCP_NOTSENT_LOWAT:
      return static_cast<int>(o.not_sent_low_water);
    case TCP_THIN_LINEAR_TIMEOUTS:
      return o.thin_flags & 1;
    case TCP_THIN_DUPACK:
      return 0;
    case TCP_FASTOPEN:
    case TCP_FASTOPEN_CONNECT:
    case TCP_FASTOPEN_NO_COOKIE:
    case TCP_REPAIR:
    case kTcpInq:
    case kTcpTransmitDelay:
      return 0;
  }
  return Status(ENOPROTOOPT);
}

Status CopyOut(const void* from, uint32_t size, void* value, uint32_t* length) {
  *length = std::min(*length, size);
  std::memcpy(value, from, *length);
  return Status::Ok();
}

}  // namespace

Status SetTcpOption(Context& context, Connection& c, int name, const void* value, uint32_t length,
                    Instant now) {
  switch (name) {
    case TCP_CONGESTION:
      return SetCongestion(c, value, length);
    case TCP_ULP:
      return length == 0 ? Status(EINVAL) : Status(ENOENT);  // no module has it
    case TCP_INFO:
    case TCP_CC_INFO:
      return Status(ENOPROTOOPT);
  }
  if (length < sizeof(int)) return Status(EINVAL);
  int integer = 0;
  std::memcpy(&integer, value, sizeof integer);
  return SetInteger(context, c, name, integer, now);
}

Status GetTcpOption(const Connection& c, int name, void* value, uint32_t* length, Instant now) {
  switch (name) {
    case TCP_INFO: {
      LinuxTcpInfo info;
      FillInfo(c, now, &info);
      return CopyOut(&info, sizeof info, value, length);
    }
    case TCP_CONGESTION: {
      char text[16] = {};  // Linux: TCP_CA_NAME_MAX
      const char* named = CongestionName(c.congestion.kind);
      std::memcpy(text, named, std::strlen(named));
      return CopyOut(text, sizeof text, value, length);
    }
    case TCP_ULP:
      *length = 0;
      return Status::Ok();
    case TCP_CC_INFO:
      *length = 0;  // neither cubic nor reno has any
      return Status::Ok();
  }
  const Result<int> integer = GetInteger(c, name);
  if (!integer.ok()) return integer.status();
  return CopyOut(&*integer, sizeof(int), value, length);
}

}  // namespace userstack::tcp
