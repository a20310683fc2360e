// Socket addresses as Linux lays them out, to and from Endpoint.
#pragma once

#include <sys/socket.h>

#include "netstack/base/ip_address.h"
#include "netstack/base/status.h"

namespace userstack {

// Encodes `endpoint` as the socket's domain has it (IPv4-mapped in an IPv6 socket); returns the
// full length.
socklen_t EncodeSockaddr(const Endpoint& endpoint, Family domain, sockaddr_storage* out);
// By the address's own family. EINVAL (short), EAFNOSUPPORT.
Result<Endpoint> DecodeSockaddr(const sockaddr* address, socklen_t length);
// The family that the bytes name, AF_UNSPEC included. EINVAL when there is not even that.
Result<int> SockaddrFamily(const sockaddr* address, socklen_t length);

}  // namespace userstack
