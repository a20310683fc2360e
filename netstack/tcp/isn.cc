#include "netstack/tcp/isn.h"

#include <array>

#include "netstack/tcp/constants.h"

namespace userstack::tcp {
namespace {

// RFC 4987: as Linux chose them from measured distributions, IPv4 and IPv6 joined.
constexpr std::array<uint16_t, 8> kCookieMss = {536, 1220, 1300, 1420, 1440, 1460, 4312, 8940};
constexpr int64_t kCookiePeriodSeconds = 60;
constexpr uint32_t kCookieMaximumAge = 2;  // periods
constexpr unsigned kCounterBits = 8;
constexpr uint32_t kLowMask = (1u << (32 - kCounterBits)) - 1;

struct CookieInput {
  Tuple tuple;
  uint32_t counter;
  uint32_t peer_initial;
};
static_assert(sizeof(CookieInput) == 44);

uint32_t Hash(const SipKey& key, const Tuple& tuple, uint32_t counter, uint32_t peer_initial) {
  const CookieInput input{tuple, counter, peer_initial};
  return static_cast<uint32_t>(SipHash(key, &input, sizeof input));
}

uint32_t Counter(Instant now) {
  return static_cast<uint32_t>(now.nanoseconds / (kCookiePeriodSeconds * 1'000'000'000));
}

}  // namespace

SeqNum InitialSequence(const Context& context, const Tuple& tuple, Instant now) {
  const auto clock = static_cast<uint32_t>(now.nanoseconds / 4'000);
  return {static_cast<uint32_t>(SipHash(context.isn_key, &tuple, sizeof tuple)) + clock};
}

uint32_t TimestampOffset(const Context& context, const Tuple& tuple) {
  const std::array<IpAddress, 2> pair = {tuple.local, tuple.remote};
  return static_cast<uint32_t>(SipHash(context.timestamp_key, pair.data(), sizeof pair));
}

SeqNum MakeCookie(const Context& context, const Tuple& tuple, SeqNum peer_initial, uint16_t mss,
                  Instant now) {
  uint32_t index = 0;
  while (index + 1 < kCookieMss.size() && kCookieMss[index + 1] <= mss) ++index;
  const uint32_t counter = Counter(now);
  // Linux: the peer's number is only added, which makes the cookie of a number one higher that of
  // the next MSS: a segment behind a lost first byte would open the connection without it. Here it
  // enters the hash too.
  return {Hash(context.cookie_keys[0], tuple, 0, 0) + peer_initial.value +
          (counter << (32 - kCounterBits)) +
          ((Hash(context.cookie_keys[1], tuple, counter, peer_initial.value) + index) & kLowMask)};
}

bool CheckCookie(const Context& context, const Tuple& tuple, SeqNum peer_initial, SeqNum cookie,
                 Instant now, uint16_t* mss) {
  const uint32_t value =
      cookie.value - Hash(context.cookie_keys[0], tuple, 0, 0) - peer_initial.value;
  const uint32_t counter = Counter(now);
  const uint32_t age = (counter - (value >> (32 - kCounterBits))) & ((1u << kCounterBits) - 1);
  if (age >= kCookieMaximumAge) return false;
  const uint32_t index =
      (value - Hash(context.cookie_keys[1], tuple, counter - age, peer_initial.value)) & kLowMask;
  if (index >= kCookieMss.size()) return false;
  *mss = kCookieMss[index];
  return true;
}

}  // namespace userstack::tcp
