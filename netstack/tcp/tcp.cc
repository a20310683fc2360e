// The surface: forwards to the modules, and turns deadlines back into their owners.
#include "netstack/tcp/tcp.h"

#include <algorithm>
#include <bit>

#include "netstack/tcp/acknowledge.h"
#include "netstack/tcp/calls.h"
#include "netstack/tcp/constants.h"
#include "netstack/tcp/icmp_errors.h"
#include "netstack/tcp/input.h"
#include "netstack/tcp/invariants.h"
#include "netstack/tcp/landing.h"
#include "netstack/tcp/lifecycle.h"
#include "netstack/tcp/listener.h"
#include "netstack/tcp/mend.h"
#include "netstack/tcp/output.h"
#include "netstack/tcp/readiness.h"
#include "netstack/tcp/receive_queue.h"
#include "netstack/tcp/send_queue.h"
#include "netstack/tcp/socket_options.h"
#include "netstack/tcp/time_wait.h"
#include "netstack/tcp/timers.h"

namespace userstack::tcp {
namespace {

// The object in which `timer` is the member `member`.
template <typename T>
T* OwnerOf(Timer* timer, Timer T::*member) {
  constexpr uintptr_t kBase = 0x1000;
  const auto offset = reinterpret_cast<uintptr_t>(&(reinterpret_cast<T*>(kBase)->*member)) - kBase;
  return reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(timer) - offset);
}

// How many objects of about `share` bytes an arena of `size` bytes may hold, as a power of two
// between `least` and `most`.
uint32_t Bounded(size_t size, size_t share, uint32_t least, uint32_t most) {
  const size_t count = std::clamp<size_t>(size / share, least, most);
  return static_cast<uint32_t>(std::bit_floor(count));
}

SipKey NewKey(Random& random) { return {random.Next(), random.Next()}; }

}  // namespace

bool Tcp::Initialize(Core* core, Ip* ip, Instant now) {
  Context& x = context_;
  x.core = core;
  x.ip = ip;
  Arena* arena = core->arena;
  const size_t size = arena->size();
  const uint32_t connections = Bounded(size, 4096, 1024, 1u << 20);
  x.connections.Initialize(arena, connections);
  x.listeners.Initialize(arena, 65536);
  x.syn_records.Initialize(arena, Bounded(size, 16384, 1024, 1u << 18));
  x.time_waits.Initialize(arena, Bounded(size, 16384, 1024, 1u << 18));
  x.port_buckets.Initialize(arena, 65536);
  x.chunks.Initialize(arena, Bounded(size, 1024, 4096, 1u << 22));
  x.sent_segments.Initialize(arena, Bounded(size, 1024, 4096, 1u << 22));
  x.reorder_blocks.Initialize(arena, Bounded(size, 4096, 1024, 1u << 20));
  x.isn_key = NewKey(core->random);
  x.timestamp_key = NewKey(core->random);
  x.port_key = NewKey(core->random);
  for (SipKey& key : x.cookie_keys) key = NewKey(core->random);
  x.challenge_second = now;
  x.challenge_budget = kChallengeAcksPerSecond;
  const uint32_t offsets = Bounded(size, 16384, 256, 1u << 16);
  x.port_offsets =
      static_cast<uint16_t*>(arena->Allocate(offsets * sizeof(uint16_t), alignof(uint16_t)));
  if (x.port_offsets == nullptr) return false;
  x.port_offset_mask = offsets - 1;
  // As many slots as connections, so that a chain has one link mostly: each is a cache miss when
  // there are very many.
  const uint32_t buckets = connections;
  return x.table.Initialize(arena, buckets) && x.syn_table.Initialize(arena, buckets / 4) &&
         x.time_wait_table.Initialize(arena, buckets / 4) &&
         x.port_table.Initialize(arena, Bounded(size, 8192, 4096, 1u << 15));
}

Result<Connection*> Tcp::Create(Family family, Pollable* pollable) {
  if (context_.core->buffers.under_pressure()) return Status(ENOBUFS);
  Connection* c = NewConnection(context_, family);
  if (c == nullptr) return Status(ENOBUFS);
  c->pollable = pollable;
  PublishReadiness(context_, *c);
  return c;
}

SocketOptions& Tcp::options(Connection& c) { return c.options; }

void Tcp::OptionsChanged(Connection& c, Instant now) {
  if (c.options.keep_alive != c.keep_alive_timer.armed()) ArmKeepAlive(context_, c, now);
  PublishReadiness(context_, c);
}

Status Tcp::Bind(Connection& c, const Endpoint& local) { return tcp::Bind(context_, c, local); }

Status Tcp::Connect(Connection& c, const Endpoint& remote, Instant now) {
  return tcp::Connect(context_, c, remote, now);
}

Status Tcp::Disconnect(Connection& c, Instant now) { return tcp::Disconnect(context_, c, now); }

Status Tcp::Listen(Connection& c, int backlog, Instant now) {
  if (c.connecting || c.connected || c.disconnecting) return Status(EINVAL);
  if (c.state != State::kClosed && c.state != State::kListen) return Status(EINVAL);
  return StartListening(context_, c, backlog, now);
}

Result<Connection*> Tcp::Accept(Connection& listener, Pollable* pollable, Instant now) {
  if (listener.state != State::kListen) return Status(EINVAL);
  Connection* c = TakeAccepted(context_, listener);
  if (c == nullptr) return Status(EAGAIN);
  c->pollable = pollable;
  c->connected = true;
  PublishReadiness(context_, *c);
  (void)now;
  return c;
}

Result<size_t> Tcp::Send(Connection& c, const IoVector& data, int flags, Instant now) {
  return SendData(context_, c, data, flags, now);
}

void Tcp::HoldReply(Connection& c, Instant now) { userstack::tcp::HoldReply(context_, c, now); }

bool Tcp::FlushHeldReply(Instant now) { return userstack::tcp::FlushHeldReply(context_, now); }

Result<SendSpace> Tcp::ReserveSend(Connection& c, size_t wanted, Instant now) {
  return userstack::tcp::ReserveSend(context_, c, wanted, now);
}

uint32_t Tcp::ReserveApart(const Connection& c, size_t wanted, SendChunks* to) {
  return userstack::tcp::ReserveApart(context_, c, wanted, to);
}

size_t Tcp::CommitApart(Connection& c, SendChunks* from, bool more, Instant now) {
  return userstack::tcp::CommitApart(context_, c, from, more, now);
}

void Tcp::DropApart(SendChunks* chunks) { DropChunks(context_, chunks); }

void Tcp::CommitSend(Connection& c, size_t filled) {
  userstack::tcp::CommitSend(context_, c, filled);
}

void Tcp::SendCommitted(Connection& c, bool more, Instant now) {
  userstack::tcp::SendCommitted(context_, c, more, now);
}

Result<size_t> Tcp::Receive(Connection& c, const IoVector& data, int flags, int* message_flags,
                            Instant now) {
  return ReceiveData(context_, c, data, flags, message_flags, now);
}

void Tcp::OpenLanding(const Connection& c, uint8_t* memory, size_t size, uint32_t least) {
  tcp::OpenLanding(context_, c, memory, size, least);
}

unsigned Tcp::DeviceQueue(const Connection& c) const { return c.device_queue; }

unsigned Tcp::GiveDeviceQueue(Connection& c, unsigned limit) {
  if (c.state != State::kEstablished || c.device_queue != 0) return 0;
  if (context_.core->landing.HasWire(&c)) return 0;
  c.device_queue = static_cast<uint8_t>(context_.core->queues.Give(&c, limit));
  return c.device_queue;
}

const Pollable* Tcp::DeviceQueueOwner(unsigned queue) const {
  const Connection* const owner = context_.core->queues.owner[queue - 1];
  return owner != nullptr ? owner->pollable : nullptr;
}

void Tcp::ReturnDeviceQueue(unsigned queue) {
  Connection* const c = context_.core->queues.owner[queue - 1];
  if (c != nullptr) tcp::ReturnDeviceQueue(context_, *c);
}

Status Tcp::Shutdown(Connection& c, int how, Instant now) {
  return tcp::Shutdown(context_, c, how, now);
}

void Tcp::Close(Connection* c, Instant now) { tcp::Close(context_, *c, now); }

Endpoint Tcp::local(const Connection& c) const {
  return {c.tuple.local, c.tuple.local_port, c.interface};
}
Endpoint Tcp::remote(const Connection& c) const {
  return {c.tuple.remote, c.tuple.remote_port, c.interface};
}

bool Tcp::IsConnected(const Connection& c) const {
  return c.state != State::kClosed && c.state != State::kListen && c.state != State::kSynSent;
}
bool Tcp::IsListening(const Connection& c) const { return c.state == State::kListen; }
bool Tcp::HasListener(const Endpoint& local) const {
  Segment segment;
  segment.tuple.local = local.address;
  segment.tuple.local_port = local.port;
  segment.interface = kLoopbackInterface;
  return FindListener(context_, segment) != nullptr;
}

bool Tcp::IsConnecting(const Connection& c) const {
  return c.state == State::kSynSent || c.state == State::kSynReceived;
}

bool Tcp::HasUnsentOrUnacknowledged(const Connection& c) const {
  switch (c.state) {
    case State::kFinWait1:
    case State::kClosing:
    case State::kLastAck:
      return true;
    case State::kEstablished:
    case State::kCloseWait:
      return c.send.unacknowledged != c.send.end;
    case State::kFinWait2:
    case State::kTimeWait:
    case State::kClosed:
    case State::kListen:
    case State::kSynSent:
    case State::kSynReceived:
      return false;
  }
  return false;
}

int Tcp::TakeError(Connection& c) {
  const int error = std::exchange(c.error, 0);
  if (error != 0) PublishReadiness(context_, c);
  return error;
}

Status Tcp::SetOption(Connection& c, int name, const void* value, uint32_t length, Instant now) {
  return SetTcpOption(context_, c, name, value, length, now);
}
Status Tcp::GetOption(Connection& c, int name, void* value, uint32_t* length, Instant now) {
  return GetTcpOption(c, name, value, length, now);
}

uint32_t Tcp::BytesReadable(const Connection& c) const {
  // Linux: tcp_inq. Up to the urgent byte, unless it is inline.
  const uint32_t available = ReceivedBytes(c);
  if (c.urgent == Urgent::kNone || c.options.out_of_band_inline) return available;
  if (!c.receive.urgent.InRange(c.receive.copied, available)) return available;
  return c.receive.urgent - c.receive.copied;
}

uint32_t Tcp::BytesUnsent(const Connection& c) const {
  return c.send.end.After(c.send.next) ? c.send.end - c.send.next : 0;
}
uint32_t Tcp::BytesInSendQueue(const Connection& c) const {
  return c.send.end.After(c.send.unacknowledged) ? c.send.end - c.send.unacknowledged : 0;
}

bool Tcp::AtUrgentMark(const Connection& c) const {
  return c.urgent != Urgent::kNone && c.receive.urgent == c.receive.copied;
}

void Tcp::Input(Packet* packet, Instant now) {
  Segment segment;
  // RFC 1122 4.2.3.10: nothing that was sent to many is ours.
  const bool to_many = packet->ip.is_broadcast || packet->ip.is_multicast || packet->link_broadcast;
  if (to_many || !ParseSegment(context_, packet, &segment)) {
    context_.core->packets.Release(packet);
    return;
  }
  Demultiplex(context_, segment, now);
  if (segment.packet != nullptr) context_.core->packets.Release(segment.packet);
}

void Tcp::SetMoreInput(bool more, Instant now) {
  context_.more_input = more;
  if (!more) SendAckPutOff(context_, now);
}

void Tcp::OnTimer(Timer* timer, Instant now) {
  Connection* c = nullptr;
  switch (timer->kind) {
    case TimerKind::kTcpRetransmit:
      c = OwnerOf(timer, &Connection::retransmit_timer);
      OnRetransmitTimer(context_, *c, now);
      break;
    case TimerKind::kTcpDelayedAck:
      c = OwnerOf(timer, &Connection::delayed_ack_timer);
      OnDelayedAckTimer(context_, *c, now);
      break;
    case TimerKind::kTcpKeepAlive:
      c = OwnerOf(timer, &Connection::keep_alive_timer);
      OnKeepAliveTimer(context_, *c, now);
      break;
    case TimerKind::kTcpTimeWait:
      OnTimeWaitTimer(context_, *OwnerOf(timer, &TimeWait::timer));
      return;
    case TimerKind::kTcpSynQueue:
      OnSynTimer(context_, *OwnerOf(timer, &SynRecord::timer), now);
      return;
    case TimerKind::kTcpPacing:
    case TimerKind::kTcpReorder:
    case TimerKind::kNeighbor:
    case TimerKind::kDuplicateAddress:
    case TimerKind::kRouterSolicit:
    case TimerKind::kRouterLifetime:
    case TimerKind::kReassembly:
    case TimerKind::kMulticastReport:
    case TimerKind::kPathMtu:
      Check(false, "tcp: a timer that is not ours");
      return;
  }
  PublishReadiness(context_, *c);
  ReleaseIfDone(context_, *c);
}

void Tcp::OnQueueDrained(uint16_t interface, Instant now) {
  if (interface > kMaxInterfaces) return;
  ContinueBlocked(context_, interface, now);
}

void Tcp::OnIcmpError(const IpAddress& local, const IpAddress& remote, const uint8_t* embedded,
                      uint32_t length, int error, bool hard, uint32_t mtu, Instant now) {
  IcmpErrorArrives(context_, local, remote, embedded, length, error, hard, mtu, now);
}

uint32_t Tcp::UnfinishedCount(bool count_time_wait) const {
  return context_.orphans + (count_time_wait ? context_.time_waits.live() : 0);
}

void Tcp::SetDefaultCongestionControl(CongestionControl kind) {
  context_.congestion_control = kind;
}

void Tcp::OnMemory() { FeedStarved(context_); }

void Tcp::SetHeaderPrediction(bool on) { context_.header_prediction = on; }

void Tcp::Mend(const Connection** examined, Instant now) { MendTables(context_, examined, now); }
void Tcp::Condemn(Connection* c) { CondemnConnection(context_, *c); }
void Tcp::CheckInvariants(const Connection** examined) const { CheckTables(context_, examined); }

}  // namespace userstack::tcp
