// Stack: one TCP/IP stack as a value in an arena. It holds every layer and the one protocol switch.
// Pure and deterministic: the same calls with the same times and seed give the same bytes.
//
// All calls by whoever holds the stack's lock (the shim's business). Nothing blocks. Errors are
// Linux errno values. A driver's turn: Input(packets), Advance(now), then NextFrame until nullptr,
// then drain core().wakes.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>

#include "netstack/ip/ip.h"
#include "netstack/packet/core.h"
#include "netstack/socket/address.h"
#include "netstack/socket/socket.h"
#include "netstack/socket/sockets.h"
#include "netstack/tcp/tcp.h"
#include "netstack/udp/udp.h"

namespace userstack {

struct StackConfig {
  uint64_t seed = 0;
  CongestionControl congestion_control = CongestionControl::kCubic;
  bool header_prediction = true;  // off: for tests that compare
};

class Stack {
 public:
  // Formats `arena` (fresh from Arena::Format) as a stack without interfaces other than loopback;
  // nullptr if too small.
  static Stack* Create(Arena* arena, const StackConfig& config, Instant now);

  Core& core() { return core_; }
  Ip& ip() { return ip_; }
  tcp::Tcp& tcp() { return tcp_; }
  Udp& udp() { return udp_; }
  const Sockets& sockets() const { return sockets_; }

  // --- wire ---
  // Takes ownership of the packets (from core().packets; packet->ip.interface says where they
  // arrived).
  void Input(Packet* const* packets, size_t count, Instant now);
  // Runs what is due by `now`, internal loopback, and output that was held back.
  void Advance(Instant now);
  Instant NextDeadline() const;
  // All that waits to go out is a burst of datagrams that others are likely to join: the driver may
  // put NextFrame off, until NextDeadline at the latest. False when in doubt.
  bool OutputMayWait(Instant now) const;
  // The next frame to put on `interface`, Ethernet header and all, or nullptr. The caller owns it:
  // it gives it back with core().frames.Release when the device has taken it, or with ReturnFrame
  // (in reverse order) when the device refused. `all`: what is held for more to follow as well.
  Frame* NextFrame(uint16_t interface, bool all = true);
  void ReturnFrame(Frame* frame);

  // A call of `socket` waits for text that the device is about to be asked for: the device may put
  // it into `memory`, the beginning of what the call was given, by core().landing. Closed again
  // before Input. What has landed is reported by the next Receive, which must be that call's,
  // before anybody else has the stack. `in_part`: also where the longest frame's text has not room
  // in full.
  void OpenLanding(const Socket& socket, void* memory, size_t size, bool in_part);

  // The device has further queues (core().queues). DeviceQueue: the one that the socket's
  // connection has, or 0. Give: gives it one of the first `limit`, when text of others comes
  // between its own and one is free; 0 otherwise. Return: it is nobody's again. Owner: what is
  // waited for on the socket whose queue it is; null: nobody's, or no socket's any more.
  unsigned DeviceQueue(const Socket& socket) const;
  unsigned GiveDeviceQueue(Socket& socket, unsigned limit);
  void ReturnDeviceQueue(unsigned queue);
  const Pollable* DeviceQueueOwner(unsigned queue) const;

  // --- sockets ---
  // AF_INET or AF_INET6; SOCK_STREAM, SOCK_DGRAM or SOCK_RAW (no SOCK_NONBLOCK bits). EAFNOSUPPORT
  // EPROTONOSUPPORT ESOCKTNOSUPPORT ENOBUFS EACCES.
  Result<Socket*> CreateSocket(int domain, int type, int protocol);
  void DestroySocket(Socket* socket,
                     Instant now);  // the last descriptor is gone; detaches all watches
  // Addresses as Linux has them (sockaddr_in, sockaddr_in6, AF_UNSPEC where connect takes it).
  // EINVAL EAFNOSUPPORT ...
  Status Bind(Socket& socket, const sockaddr* address, socklen_t length);
  Status Connect(Socket& socket, const sockaddr* address, socklen_t length, Instant now);
  Status Listen(Socket& socket, int backlog, Instant now);
  Result<Socket*> Accept(Socket& socket, Instant now);
  // `destination` may be null. `ancillary` may be null.
  Result<size_t> Send(Socket& socket, const IoVector& data, int flags, const sockaddr* destination,
                      socklen_t destination_length, const Ancillary* ancillary, Instant now);
  // A short reply was sent with MSG_MORE because the caller expects to close this stream at once:
  // it waits for the FIN, to share a segment with it, until NextDeadline or until a driver asks for
  // all frames.
  void HoldReply(Socket& socket, Instant now);
  bool HoldsReply() const;
  // A send whose bytes the caller puts into the stack's own memory, so that a file is read there
  // at once: room for `wanted` bytes at the most, and CommitSend with what became of it (0:
  // nothing) before any other call. For streams only; errors as Send's. A death in between leaves
  // nothing.
  Result<SendSpace> ReserveSend(Socket& socket, size_t wanted, Instant now);
  void CommitSend(Socket& socket, size_t filled);
  // What was committed may leave, in one frame where it fits one: after the last of several
  // ReserveSend and CommitSend. `more`: others follow, as with MSG_MORE; without it nothing is held
  // any longer.
  void SendCommitted(Socket& socket, bool more, Instant now);
  // The same for a caller that lets others use the stack while it fills the memory: full chunks for
  // up to `wanted` bytes, in the caller's keeping until CommitApart or DropApart. For streams only.
  // 0: none, and Send says why. CommitApart returns how many bytes are sent now: all, or 0 when the
  // stream has come to take none meanwhile.
  uint32_t ReserveApart(const Socket& socket, size_t wanted, tcp::SendChunks* to);
  size_t CommitApart(Socket& socket, tcp::SendChunks* from, bool more, Instant now);
  void DropApart(tcp::SendChunks* chunks);
  Status Receive(Socket& socket, const IoVector& data, int flags, ReceivedMessage* message,
                 Instant now);
  Status Shutdown(Socket& socket, int how, Instant now);
  // Write at most *length bytes of address and set *length to the whole size, as getsockname(2).
  // ENOTCONN.
  Status LocalName(const Socket& socket, sockaddr* address, socklen_t* length) const;
  Status PeerName(const Socket& socket, sockaddr* address, socklen_t* length) const;
  Status SetOption(Socket& socket, int level, int name, const void* value, socklen_t length,
                   Instant now);
  Status GetOption(Socket& socket, int level, int name, void* value, socklen_t* length,
                   Instant now);
  // FIONREAD/SIOCINQ, SIOCOUTQ, SIOCOUTQNSD, SIOCATMARK. ENOTTY otherwise.
  Result<int> Ioctl(Socket& socket, unsigned long request, Instant now);
  // Data or a FIN is on its way, unacknowledged. When that ends after shutdown, the socket's
  // readiness is published anew, kEventOut among the edges.
  bool HasUnacknowledged(const Socket& socket) const;
  // `local` is an address of this stack, and a socket of this kind listens (TCP) or is bound (UDP)
  // there: exactly, or at the wildcard.
  bool IsServed(SocketKind kind, const Endpoint& local) const;
  bool IsConnecting(const Socket& socket) const;  // a non-blocking connect is in progress
  // Work left to do without any socket: see Tcp::UnfinishedCount; frames still queued count too.
  bool HasUnfinishedWork(bool count_time_wait) const;

  // After a death in the middle of a change, when the lists are whole again: makes everything anew
  // that the lists can tell (tables, trees, counts, the timer wheel). It may crash on what is
  // worse: to be run where that does no harm. *examined is the connection that is looked at
  // meanwhile.
  void Mend(const tcp::Connection** examined, Instant now);
  // Gives up one connection, whatever it looks like; its user gets ECONNRESET.
  void Condemn(tcp::Connection* connection);

  // Test and debug: every layer's invariants. Fails a Check when one is broken.
  void CheckInvariants(const tcp::Connection** examined = nullptr) const;

 private:
  bool Initialize(Arena* arena, const StackConfig& config, Instant now);
  void InputOne(Packet* packet, Instant now);
  void Deliver(Packet* packet, Instant now);
  void OnIcmpError(const IcmpError& error, Instant now);
  void OnTimer(Timer* timer, Instant now);
  bool RunTimers(Instant now);
  bool RunLoopback(Instant now);
  // Tells transports what has left and where there is room again. True when there was something.
  bool RunDrained(Instant now);

  Core core_;
  Ip ip_;
  tcp::Tcp tcp_;
  Datagrams datagrams_;
  Udp udp_;
  Raw raw_;
  Sockets sockets_;
  Instant now_;  // of the last call that said
};

}  // namespace userstack
