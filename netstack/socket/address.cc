#include "netstack/socket/address.h"

#include <netinet/in.h>

#include <cstring>

namespace userstack {
namespace {

// Linux: SIN6_LEN_RFC2133, a sockaddr_in6 without its scope.
constexpr socklen_t kShortSockaddrIn6 = 24;

bool NeedsScope(const IpAddress& address) {
  if (address.is_v4()) return false;
  if (address.is_link_local()) return true;
  const uint8_t scope = address.v6_bytes()[1] & 0x0f;
  return address.is_multicast() && (scope == 1 || scope == 2);
}

}  // namespace

socklen_t EncodeSockaddr(const Endpoint& endpoint, Family domain, sockaddr_storage* out) {
  if (domain == Family::kIpv4) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = ByteSwap(endpoint.port);
    std::memcpy(&in.sin_addr, endpoint.address.v4_bytes(), 4);
    std::memcpy(out, &in, sizeof in);
    return sizeof in;
  }
  sockaddr_in6 in{};
  in.sin6_family = AF_INET6;
  in.sin6_port = ByteSwap(endpoint.port);
  std::memcpy(&in.sin6_addr, endpoint.address.v6_bytes(), 16);
  if (NeedsScope(endpoint.address)) in.sin6_scope_id = endpoint.interface;
  std::memcpy(out, &in, sizeof in);
  return sizeof in;
}

Result<int> SockaddrFamily(const sockaddr* address, socklen_t length) {
  if (address == nullptr || length < sizeof(sa_family_t)) return Result<int>::Error(EINVAL);
  sa_family_t family = AF_UNSPEC;
  std::memcpy(&family, address, sizeof family);
  return int{family};
}

Result<Endpoint> DecodeSockaddr(const sockaddr* address, socklen_t length) {
  const Result<int> family = SockaddrFamily(address, length);
  if (!family.ok()) return family.status();
  if (*family == AF_INET) {
    if (length < sizeof(sockaddr_in)) return Result<Endpoint>::Error(EINVAL);
    sockaddr_in in;
    std::memcpy(&in, address, sizeof in);
    return Endpoint{IpAddress::V4FromBytes(reinterpret_cast<const uint8_t*>(&in.sin_addr)),
                    ByteSwap(in.sin_port), 0};
  }
  if (*family != AF_INET6) return Result<Endpoint>::Error(EAFNOSUPPORT);
  if (length < kShortSockaddrIn6) return Result<Endpoint>::Error(EINVAL);
  sockaddr_in6 in{};
  std::memcpy(&in, address, length < sizeof in ? length : sizeof in);
  Endpoint endpoint{IpAddress::V6FromBytes(in.sin6_addr.s6_addr), ByteSwap(in.sin6_port), 0};
  if (length >= sizeof in && NeedsScope(endpoint.address)) {
    endpoint.interface = static_cast<uint16_t>(in.sin6_scope_id);
  }
  return endpoint;
}

}  // namespace userstack
