// Sockets: the calls of the sockets API over the transports, without blocking. It decides what
// Linux's af_inet layer decides (which address families a call takes, what a kind of socket
// refuses) and hands the rest to the transport of the socket's kind.
//
// Owner: the stack. All calls under the stack's lock. Invariant: a Socket has exactly one transport
// object, of its kind.
#pragma once

#include <sys/socket.h>

#include "netstack/base/io.h"
#include "netstack/base/status.h"
#include "netstack/socket/address.h"
#include "netstack/socket/socket.h"

namespace userstack {

class Sockets {
 public:
  void Initialize(Core* core, Ip* ip, tcp::Tcp* tcp, Udp* udp, Raw* raw, Datagrams* datagrams);

  Result<Socket*> Create(int domain, int type, int protocol);
  void Destroy(Socket* socket, Instant now);
  Status Bind(Socket& socket, const sockaddr* address, socklen_t length);
  Status Connect(Socket& socket, const sockaddr* address, socklen_t length, Instant now);
  Status Listen(Socket& socket, int backlog, Instant now);
  Result<Socket*> Accept(Socket& socket, Instant now);
  Result<size_t> Send(Socket& socket, const IoVector& data, int flags, const sockaddr* destination,
                      socklen_t destination_length, const Ancillary* ancillary, Instant now);
  Status Receive(Socket& socket, const IoVector& data, int flags, ReceivedMessage* message,
                 Instant now);
  Status Shutdown(Socket& socket, int how, Instant now);
  Status LocalName(const Socket& socket, sockaddr* address, socklen_t* length) const;
  Status PeerName(const Socket& socket, sockaddr* address, socklen_t* length) const;
  Status SetOption(Socket& socket, int level, int name, const void* value, socklen_t length,
                   Instant now);
  Status GetOption(Socket& socket, int level, int name, void* value, socklen_t* length,
                   Instant now);
  Result<int> Ioctl(Socket& socket, unsigned long request, Instant now);
  bool IsConnecting(const Socket& socket) const;
  bool HasUnacknowledged(const Socket& socket) const;
  bool IsServed(SocketKind kind, const Endpoint& local) const;

  uint32_t live() const { return pool_.live(); }
  Socket* first() const { return all_.front(); }
  Socket* Next(const Socket* socket) const { return all_.Next(socket); }
  // After a death in the middle of a change.
  void Mend();
  void CheckInvariants() const;

 private:
  Socket* New(SocketKind kind, Family family, int protocol);
  void Delete(Socket* socket);
  Result<Endpoint> DecodeForBind(const Socket& socket, const sockaddr* address,
                                 socklen_t length) const;
  Result<Endpoint> DecodeForConnect(const Socket& socket, const sockaddr* address,
                                    socklen_t length) const;
  Status ConnectTcp(Socket& socket, const sockaddr* address, socklen_t length, Instant now);
  Status DisconnectTcp(Socket& socket, Instant now);
  // The name that a datagram is sent to: nothing (the peer), or *to.
  Result<const Endpoint*> DecodeDestination(const Socket& socket, const sockaddr* destination,
                                            socklen_t length, Endpoint* to) const;
  Status MakeTransport(Socket* socket);
  SocketOptions& Options(Socket& socket);
  const SocketOptions& Options(const Socket& socket) const;
  void OptionsChanged(Socket& socket, Instant now);
  Endpoint Local(const Socket& socket) const;
  // The datagram transport's object, or nullptr for a stream.
  DatagramSocket* Datagram(const Socket& socket) const;
  int TakeError(Socket& socket);
  // options.cc
  uint32_t PathMtu(const Socket& socket) const;
  // options_socket.cc
  Status SetSocketOption(Socket& socket, int name, const void* value, socklen_t length);
  Status GetSocketOption(Socket& socket, int name, void* value, socklen_t* length);
  Status BindToDevice(Socket& socket, const void* value, socklen_t length);
  Status SetBuffer(Socket& socket, int name, int v);
  Status GetMemoryInfo(const Socket& socket, void* value, socklen_t* length) const;
  Status GetWide(const Socket& socket, int name, void* value, socklen_t* length, bool* known) const;
  // options_ip.cc
  Status SetIpOption(Socket& socket, int name, const void* value, socklen_t length, Instant now);
  Status GetIpOption(Socket& socket, int name, void* value, socklen_t* length);
  Status SetIpInteger(Socket& socket, int name, int v, socklen_t length);
  // options_ipv6.cc
  Status SetIpv6Option(Socket& socket, int name, const void* value, socklen_t length, Instant now);
  Status GetIpv6Option(Socket& socket, int name, void* value, socklen_t* length);
  Status SetIpv6Integer(Socket& socket, int name, int v);
  // options_group.cc
  Status SetMulticastInterface(Socket& socket, const void* value, socklen_t length);
  Status ChangeGroupV4(Socket& socket, int name, const void* value, socklen_t length, Instant now);
  Status ChangeSourceV4(Socket& socket, int name, const void* value, socklen_t length, Instant now);
  Status ChangeGroupV6(Socket& socket, int name, const void* value, socklen_t length, Instant now);
  // MCAST_*, the same names on both levels.
  Status ChangeGroup(Socket& socket, Family family, int name, const void* value, socklen_t length,
                     Instant now);
  Result<uint16_t> InterfaceOf(const IpAddress& address) const;

  Core* core_ = nullptr;
  Ip* ip_ = nullptr;
  tcp::Tcp* tcp_ = nullptr;
  Udp* udp_ = nullptr;
  Raw* raw_ = nullptr;
  Datagrams* datagrams_ = nullptr;
  Pool<Socket> pool_;
  List<Socket, &Socket::node> all_;
  uint64_t next_id_ = 1;
};

}  // namespace userstack
