// Tcp: RFC 9293 with the RFCs that netstack/README names. This is the surface; state.h holds the
// TCB.
//
// One Connection is a TCB in any state, CLOSED and LISTEN included. It is created for a socket, or
// by a listener for an incoming SYN. It lives on after Close until the protocol is done with it.
// All calls under the stack's lock; nothing blocks: what would block returns EAGAIN or EINPROGRESS.
#pragma once

#include <netinet/tcp.h>

#include <cstddef>
#include <cstdint>

#include "netstack/base/io.h"
#include "netstack/base/socket_options.h"
#include "netstack/base/status.h"
#include "netstack/ip/ip.h"
#include "netstack/packet/core.h"
#include "netstack/tcp/context.h"

namespace userstack::tcp {

// Flags of Send and Receive: Linux's MSG_* values (MSG_OOB, MSG_PEEK, MSG_MORE, MSG_TRUNC, MSG_EOR
// are honoured here; MSG_DONTWAIT, MSG_WAITALL and MSG_NOSIGNAL are the shim's business).
class Tcp {
 public:
  [[nodiscard]] bool Initialize(Core* core, Ip* ip, Instant now);

  // ENOBUFS when pools are exhausted. `pollable` receives readiness from now on (never null; it
  // outlives Detach).
  Result<Connection*> Create(Family family, Pollable* pollable);
  SocketOptions& options(
      Connection& connection);  // the transport reads it on use; call OptionsChanged after a change
  void OptionsChanged(Connection& connection, Instant now);

  Status Bind(Connection& connection, const Endpoint& local);  // EADDRINUSE EADDRNOTAVAIL EINVAL
  Status Connect(Connection& connection, const Endpoint& remote,
                 Instant now);  // EINPROGRESS when begun; EALREADY EISCONN ...
  // connect(2) with AF_UNSPEC: resets what is open; the socket may be used again.
  Status Disconnect(Connection& connection, Instant now);
  Status Listen(Connection& connection, int backlog, Instant now);
  // EAGAIN when none is ready. The new connection publishes to `pollable`.
  Result<Connection*> Accept(Connection& listener, Pollable* pollable, Instant now);
  Result<size_t> Send(Connection& connection, const IoVector& data, int flags,
                      Instant now);  // EAGAIN EPIPE ENOTCONN ...
  // See Stack::ReserveSend.
  Result<SendSpace> ReserveSend(Connection& connection, size_t wanted, Instant now);
  void CommitSend(Connection& connection, size_t filled);
  void SendCommitted(Connection& connection, bool more, Instant now);
  uint32_t ReserveApart(const Connection& connection, size_t wanted, SendChunks* to);
  size_t CommitApart(Connection& connection, SendChunks* from, bool more, Instant now);
  void DropApart(SendChunks* chunks);
  // See Stack::HoldReply. HeldUntil: never when none is.
  void HoldReply(Connection& connection, Instant now);
  bool FlushHeldReply(Instant now);
  Instant HeldUntil() const {
    return context_.held_reply != nullptr ? context_.held_until : Instant::Never();
  }
  // 0: end of stream. *message_flags gets MSG_* (MSG_OOB on urgent reads).
  Result<size_t> Receive(Connection& connection, const IoVector& data, int flags,
                         int* message_flags, Instant now);
  // The call that waits for text has this memory: what comes next may be put there at once.
  void OpenLanding(const Connection& connection, uint8_t* memory, size_t size, uint32_t least);
  // See Stack::DeviceQueue.
  unsigned DeviceQueue(const Connection& connection) const;
  unsigned GiveDeviceQueue(Connection& connection, unsigned limit);
  void ReturnDeviceQueue(unsigned queue);
  const Pollable* DeviceQueueOwner(unsigned queue) const;
  Status Shutdown(Connection& connection, int how, Instant now);
  // The socket is gone: lingers, closes or resets as Linux does. The connection is no longer the
  // caller's.
  void Close(Connection* connection, Instant now);

  Endpoint local(const Connection& connection) const;
  Endpoint remote(const Connection& connection) const;
  bool IsConnected(const Connection& connection) const;
  bool IsListening(const Connection& connection) const;
  // Would a SYN for `local`, looped back, find a listener?
  bool HasListener(const Endpoint& local) const;
  bool IsConnecting(const Connection& connection) const;  // SYN-SENT or SYN-RECEIVED
  bool HasUnsentOrUnacknowledged(
      const Connection& connection) const;  // for SO_LINGER's wait, and for exit
  int TakeError(Connection& connection);    // SO_ERROR: reads and clears
  // IPPROTO_TCP options, Linux's values and layouts. ENOPROTOOPT EINVAL.
  Status SetOption(Connection& connection, int name, const void* value, uint32_t length,
                   Instant now);
  Status GetOption(Connection& connection, int name, void* value, uint32_t* length, Instant now);
  uint32_t BytesReadable(const Connection& connection) const;     // SIOCINQ
  uint32_t BytesUnsent(const Connection& connection) const;       // SIOCOUTQNSD
  uint32_t BytesInSendQueue(const Connection& connection) const;  // SIOCOUTQ
  bool AtUrgentMark(const Connection& connection) const;          // SIOCATMARK

  // --- driven by the stack ---
  void Input(Packet* packet, Instant now);  // takes ownership; packet->ip filled in
  // `more`: further packets of the same turn follow, so ACKs may wait for them. Ends with false.
  void SetMoreInput(bool more, Instant now);
  void OnTimer(Timer* timer, Instant now);  // kinds kTcp*
  void OnQueueDrained(uint16_t interface,
                      Instant now);  // room on the interface again: continue held-back output
  // Memory may have come back: tells whoever waits for it.
  void OnMemory();
  // An ICMP error about a segment of ours: `embedded` is the quoted transport header (8 bytes at
  // least). `error` is the errno (ECONNREFUSED, EHOSTUNREACH, ...; EMSGSIZE with `mtu` for path
  // MTU), `hard` per RFC 5461.
  void OnIcmpError(const IpAddress& local, const IpAddress& remote, const uint8_t* embedded,
                   uint32_t length, int error, bool hard, uint32_t mtu, Instant now);
  // Connections that still have work to finish on their own after their sockets closed (FIN, unsent
  // data; with `count_time_wait` TIME_WAIT too).
  uint32_t UnfinishedCount(bool count_time_wait) const;

  // What new sockets use (cubic by default); TCP_CONGESTION changes one socket's.
  void SetDefaultCongestionControl(CongestionControl kind);
  // Test and debug: without it the same segments must leave the same state behind.
  void SetHeaderPrediction(bool on);
  // See Stack::Mend and Stack::Condemn.
  void Mend(const Connection** examined, Instant now);
  void Condemn(Connection* connection);
  // Test and debug: every connection's invariants. Fails a Check when one is broken.
  void CheckInvariants(const Connection** examined = nullptr) const;

 private:
  Context context_;
};

}  // namespace userstack::tcp
