// IpAddress, Prefix, Endpoint, MacAddress.
// An IPv4 address is held in its IPv4-mapped form (::ffff:a.b.c.d, RFC 4291 2.5.5.2), so that one
// comparison and one hash serve both families. "::" and "0.0.0.0" therefore differ: both are
// unspecified, the second is IPv4.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#include "netstack/base/byte_order.h"
#include "netstack/base/random.h"

namespace userstack {

enum class Family : uint8_t { kIpv4, kIpv6 };

class IpAddress {
 public:
  constexpr IpAddress() = default;  // "::"
  static IpAddress V4(uint32_t host_order) {
    IpAddress a;
    a.bytes_[10] = a.bytes_[11] = 0xff;
    Store32(&a.bytes_[12], host_order);
    return a;
  }
  static IpAddress V4FromBytes(const uint8_t* four) { return V4(Load32(four)); }
  static IpAddress V6FromBytes(const uint8_t* sixteen) {
    IpAddress a;
    std::memcpy(a.bytes_.data(), sixteen, 16);
    return a;
  }
  static IpAddress Any(Family family) { return family == Family::kIpv4 ? V4(0) : IpAddress(); }
  static IpAddress Loopback(Family family) {
    if (family == Family::kIpv4) return V4(0x7f000001);
    IpAddress a;
    a.bytes_[15] = 1;
    return a;
  }
  static IpAddress V4Broadcast() { return V4(0xffffffff); }

  bool is_v4() const { return high() == 0 && Load32(&bytes_[8]) == 0xffff; }
  bool is_v6() const { return !is_v4(); }
  Family family() const { return is_v4() ? Family::kIpv4 : Family::kIpv6; }
  uint32_t v4() const { return Load32(&bytes_[12]); }        // host order; only when is_v4()
  const uint8_t* v4_bytes() const { return &bytes_[12]; }    // 4 bytes; only when is_v4()
  const uint8_t* v6_bytes() const { return bytes_.data(); }  // 16 bytes
  uint64_t high() const { return Load64(&bytes_[0]); }
  uint64_t low() const { return Load64(&bytes_[8]); }

  // The bytes as two words of this machine, for hashing.
  std::array<uint64_t, 2> words() const {
    std::array<uint64_t, 2> w;
    std::memcpy(w.data(), bytes_.data(), 16);
    return w;
  }

  bool is_unspecified() const { return is_v4() ? v4() == 0 : (high() | low()) == 0; }
  bool is_loopback() const { return is_v4() ? (v4() >> 24) == 127 : high() == 0 && low() == 1; }
  bool is_multicast() const { return is_v4() ? (v4() >> 28) == 0xe : bytes_[0] == 0xff; }
  bool is_limited_broadcast() const { return is_v4() && v4() == 0xffffffff; }
  bool is_link_local() const {
    return is_v4() ? (v4() >> 16) == 0xa9fe : bytes_[0] == 0xfe && (bytes_[1] & 0xc0) == 0x80;
  }
  bool operator==(const IpAddress& o) const {
    return std::memcmp(bytes_.data(), o.bytes_.data(), 16) == 0;
  }

 private:
  std::array<uint8_t, 16> bytes_{};
};
static_assert(sizeof(IpAddress) == 16);

// `length` counts bits within the family: 0..32 for IPv4, 0..128 for IPv6.
struct Prefix {
  IpAddress address;
  uint8_t length = 0;

  // False when the families differ.
  bool Contains(const IpAddress& other) const {
    if (address.is_v4() != other.is_v4()) return false;
    const unsigned bits = length + (address.is_v4() ? 96u : 0u);
    const uint64_t high_mask = bits >= 64 ? ~0ull : (bits == 0 ? 0 : ~0ull << (64 - bits));
    const uint64_t low_mask = bits <= 64 ? 0 : ~0ull << (128 - bits);
    return ((address.high() ^ other.high()) & high_mask) == 0 &&
           ((address.low() ^ other.low()) & low_mask) == 0;
  }
  bool operator==(const Prefix&) const = default;
};

// One end of a conversation. `interface` is the scope id (an interface index) for link-local
// addresses, else 0.
struct Endpoint {
  IpAddress address;
  uint16_t port = 0;  // host order
  uint16_t interface = 0;
  bool operator==(const Endpoint&) const = default;
};

// The hash of both ends of a conversation, for tables. IPv4 takes half the work.
inline uint64_t HashOfPair(const SipKey& key, const IpAddress& local, uint16_t local_port,
                           const IpAddress& remote, uint16_t remote_port) {
  const uint32_t ports = uint32_t{remote_port} << 16 | local_port;
  const auto [local_high, local_low] = local.words();
  const auto [remote_high, remote_low] = remote.words();
  if (local.is_v4() && remote.is_v4()) {
    // The last four bytes of each.
    return TableHash<1>(key, {(local_low >> 32) | (remote_low & 0xffffffff00000000ull)}, ports);
  }
  return TableHash<4>(key, {local_high, local_low, remote_high, remote_low}, ports);
}

struct MacAddress {
  std::array<uint8_t, 6> bytes{};
  bool is_multicast() const { return bytes[0] & 1; }
  bool is_broadcast() const { return *this == Broadcast(); }
  static constexpr MacAddress Broadcast() { return {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}; }
  bool operator==(const MacAddress&) const = default;
};

}  // namespace userstack
