#include "netstack/stack/stack.h"

#include <linux/sockios.h>
#include <netinet/in.h>

#include <algorithm>
#include <bit>
#include <new>

#include "netstack/base/check.h"
#include "netstack/ip/merge.h"

namespace userstack {
namespace {

// Below this the tables alone would not fit.
constexpr size_t kSmallestArena = size_t{1} << 20;
// Bounds on one Advance, so that two sockets that answer each other over loopback, or a timer that
// re-arms for now, cannot hold the lock forever. What is left is due at once (NextDeadline).
constexpr int kRoundsPerAdvance = 64;
constexpr int kPacketsPerRound = 256;
constexpr int kTimersPerRound = 4096;

uint32_t Share(size_t arena, unsigned sixteenths, size_t object) {
  return static_cast<uint32_t>(arena / 16 * sixteenths / object);
}

}  // namespace

Stack* Stack::Create(Arena* arena, const StackConfig& config, Instant now) {
  if (arena->size() < kSmallestArena) return nullptr;
  void* memory = arena->Allocate(sizeof(Stack), alignof(Stack));
  if (memory == nullptr) return nullptr;
  auto* stack = new (memory) Stack;
  return stack->Initialize(arena, config, now) ? stack : nullptr;
}

// Limits are shares of the arena; memory is taken from it only as pools grow. Tables, connections
// and sockets live in what is left.
bool Stack::Initialize(Arena* arena, const StackConfig& config, Instant now) {
  const size_t size = arena->size();
  now_ = now;
  core_.arena = arena;
  core_.random = Random(config.seed);
  core_.hash_key = {core_.random.Next(), core_.random.Next()};
  core_.buffers.Initialize(arena, size / 16 * 5, size / 16 * 6);
  core_.packets.Initialize(arena, &core_.buffers, Share(size, 1, sizeof(Packet)));
  core_.frames.Initialize(arena, &core_.buffers, Share(size, 1, sizeof(Frame)));
  core_.timers.Initialize(now);
  if (!ip_.Initialize(&core_, now) || !tcp_.Initialize(&core_, &ip_, now)) return false;
  datagrams_.Initialize(&core_, &ip_);
  if (!udp_.Initialize(&core_, &ip_, &datagrams_)) return false;
  raw_.Initialize(&core_, &ip_, &datagrams_);
  sockets_.Initialize(&core_, &ip_, &tcp_, &udp_, &raw_, &datagrams_);
  tcp_.SetDefaultCongestionControl(config.congestion_control);
  tcp_.SetHeaderPrediction(config.header_prediction);
  return true;
}

void Stack::Input(Packet* const* packets, size_t count, Instant now) {
  now_ = now;
  tcp_.SetMoreInput(count > 1, now);
  for (size_t i = 0; i < count;) {
    size_t merged = 1;
    if (i + 1 < count && MayContinue(*packets[i], *packets[i + 1])) {
      merged = MergeSegments(core_, packets + i, count - i);
    }
    InputOne(packets[i], now);
    i += merged;
  }
  tcp_.SetMoreInput(false, now);
}

void Stack::InputOne(Packet* packet, Instant now) {
  switch (ip_.Input(packet, now)) {
    case IpVerdict::kConsumed:
      return;
    case IpVerdict::kDeliver:
      Deliver(packet, now);
      return;
    case IpVerdict::kIcmpError:
      raw_.Input(*packet);  // raw ICMP sockets see the message itself
      OnIcmpError(ip_.icmp_error(), now);
      core_.packets.Release(packet);
      return;
  }
}

// The one protocol switch. Protocol numbers are a peer's byte, so what is not known is answered.
void Stack::Deliver(Packet* packet, Instant now) {
  const bool raw = raw_.Input(*packet);
  switch (packet->ip.protocol) {
    case IPPROTO_TCP:
      tcp_.Input(packet, now);
      return;
    case IPPROTO_UDP:
      if (udp_.Input(packet) == Udp::InputResult::kTaken) return;
      ip_.SendUnreachable(*packet, Unreachable::kPort, now);
      break;
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6:
    case IPPROTO_IGMP:
      break;
    default:
      if (raw) break;
      core_.counters.Add(Counter::kIpInUnknownProtocols);
      ip_.SendUnreachable(*packet, Unreachable::kProtocol, now);
      break;
  }
  core_.packets.Release(packet);
}

void Stack::OnIcmpError(const IcmpError& error, Instant now) {
  raw_.OnIcmpError(error, now);
  switch (error.protocol) {
    case IPPROTO_TCP:
      tcp_.OnIcmpError(error.local, error.remote, error.embedded, error.embedded_length,
                       error.error, error.hard, error.mtu, now);
      return;
    case IPPROTO_UDP:
      udp_.OnIcmpError(error, now);
      return;
  }
}

void Stack::OnTimer(Timer* timer, Instant now) {
  switch (timer->kind) {
    case TimerKind::kTcpRetransmit:
    case TimerKind::kTcpDelayedAck:
    case TimerKind::kTcpKeepAlive:
    case TimerKind::kTcpTimeWait:
    case TimerKind::kTcpPacing:
    case TimerKind::kTcpReorder:
    case TimerKind::kTcpSynQueue:
      tcp_.OnTimer(timer, now);
      return;
    case TimerKind::kNeighbor:
    case TimerKind::kDuplicateAddress:
    case TimerKind::kRouterSolicit:
    case TimerKind::kRouterLifetime:
    case TimerKind::kReassembly:
    case TimerKind::kMulticastReport:
    case TimerKind::kPathMtu:
      ip_.OnTimer(timer, now);
      return;
  }
}

bool Stack::RunTimers(Instant now) {
  for (int i = 0; i < kTimersPerRound; ++i) {
    Timer* timer = core_.timers.PopExpired(now);
    if (timer == nullptr) return i > 0;
    OnTimer(timer, now);
  }
  return true;
}

bool Stack::RunLoopback(Instant now) {
  for (int i = 0; i < kPacketsPerRound; ++i) {
    Packet* packet = ip_.NextLooped();
    if (packet == nullptr) return i > 0;
    packet->arrival = now;
    InputOne(packet, now);
  }
  return true;
}

bool Stack::RunDrained(Instant now) {
  bool any = false;
  while (FrameOwner* owner = core_.frames.PopDrained()) {
    any = true;
    switch (owner->kind) {
      case FrameOwnerKind::kTcp:
        break;  // TCP counts what is acknowledged, not what has left
      case FrameOwnerKind::kUdp:
        udp_.OnFrameLeft(static_cast<UdpEndpoint*>(owner));
        break;
      case FrameOwnerKind::kRaw:
        raw_.OnFrameLeft(static_cast<RawEndpoint*>(owner));
        break;
    }
  }
  const uint32_t drained = ip_.TakeDrained();
  for (uint32_t left = drained; left != 0; left &= left - 1) {
    const auto index = static_cast<uint16_t>(std::countr_zero(left));
    any = true;
    tcp_.OnQueueDrained(index, now);
    datagrams_.OnQueueDrained(index);
  }
  tcp_.OnMemory();
  return any;
}

void Stack::Advance(Instant now) {
  now_ = now;
  // A device that takes no frame would leave it, and its deadline, in the past.
  if (udp_.BurstDeadline() <= now) udp_.FlushBurst(now);
  if (tcp_.HeldUntil() <= now) tcp_.FlushHeldReply(now);
  for (int round = 0; round < kRoundsPerAdvance; ++round) {
    const bool fired = RunTimers(now);
    const bool looped = RunLoopback(now);
    const bool drained = RunDrained(now);
    if (!fired && !looped && !drained) return;
  }
}

Instant Stack::NextDeadline() const {
  if (ip_.HasLooped()) return now_;
  return std::min({core_.timers.NextDeadline(), udp_.BurstDeadline(), tcp_.HeldUntil()});
}

Frame* Stack::NextFrame(uint16_t interface, bool all) {
  Frame* frame = ip_.NextFrame(interface);
  if (frame != nullptr) return frame;
  // What has just left makes room: whoever waited for it may have more for this very turn.
  while (RunDrained(now_)) {
    frame = ip_.NextFrame(interface);
    if (frame != nullptr) return frame;
  }
  const bool burst = udp_.FlushBurst(now_);
  const bool reply = all && tcp_.FlushHeldReply(now_);
  return burst || reply ? ip_.NextFrame(interface) : nullptr;
}

bool Stack::OutputMayWait(Instant now) const {
  return udp_.BurstMayWait(now) && !ip_.HasQueuedOutput();
}

// A raw socket keeps copies of packets that share their bytes.
void Stack::OpenLanding(const Socket& socket, void* memory, size_t size, bool in_part) {
  if (socket.kind != SocketKind::kTcp || raw_.HasEndpoints()) return;
  tcp_.OpenLanding(*socket.tcp, static_cast<uint8_t*>(memory), size,
                   in_part ? Landing::kLeastPart : Landing::kLongestText);
}

unsigned Stack::DeviceQueue(const Socket& socket) const {
  return socket.kind == SocketKind::kTcp ? tcp_.DeviceQueue(*socket.tcp) : 0;
}
unsigned Stack::GiveDeviceQueue(Socket& socket, unsigned limit) {
  return socket.kind == SocketKind::kTcp ? tcp_.GiveDeviceQueue(*socket.tcp, limit) : 0;
}
void Stack::ReturnDeviceQueue(unsigned queue) { tcp_.ReturnDeviceQueue(queue); }
const Pollable* Stack::DeviceQueueOwner(unsigned queue) const {
  return tcp_.DeviceQueueOwner(queue);
}

void Stack::ReturnFrame(Frame* frame) { ip_.ReturnFrame(frame); }

Result<Socket*> Stack::CreateSocket(int domain, int type, int protocol) {
  return sockets_.Create(domain, type, protocol);
}
void Stack::DestroySocket(Socket* socket, Instant now) {
  udp_.FlushBurst(now);
  sockets_.Destroy(socket, now);
}
Status Stack::Bind(Socket& socket, const sockaddr* address, socklen_t length) {
  return sockets_.Bind(socket, address, length);
}
Status Stack::Connect(Socket& socket, const sockaddr* address, socklen_t length, Instant now) {
  udp_.FlushBurst(now);
  tcp_.FlushHeldReply(now);  // with AF_UNSPEC it resets
  return sockets_.Connect(socket, address, length, now);
}
Status Stack::Listen(Socket& socket, int backlog, Instant now) {
  return sockets_.Listen(socket, backlog, now);
}
Result<Socket*> Stack::Accept(Socket& socket, Instant now) { return sockets_.Accept(socket, now); }
Result<size_t> Stack::Send(Socket& socket, const IoVector& data, int flags,
                           const sockaddr* destination, socklen_t destination_length,
                           const Ancillary* ancillary, Instant now) {
  if (socket.kind != SocketKind::kUdp) udp_.FlushBurst(now);
  return sockets_.Send(socket, data, flags, destination, destination_length, ancillary, now);
}
void Stack::HoldReply(Socket& socket, Instant now) { tcp_.HoldReply(*socket.tcp, now); }
bool Stack::HoldsReply() const { return tcp_.HeldUntil() != Instant::Never(); }
Result<SendSpace> Stack::ReserveSend(Socket& socket, size_t wanted, Instant now) {
  udp_.FlushBurst(now);
  return tcp_.ReserveSend(*socket.tcp, wanted, now);
}
uint32_t Stack::ReserveApart(const Socket& socket, size_t wanted, tcp::SendChunks* to) {
  return tcp_.ReserveApart(*socket.tcp, wanted, to);
}
size_t Stack::CommitApart(Socket& socket, tcp::SendChunks* from, bool more, Instant now) {
  udp_.FlushBurst(now);
  return tcp_.CommitApart(*socket.tcp, from, more, now);
}
void Stack::DropApart(tcp::SendChunks* chunks) { tcp_.DropApart(chunks); }
void Stack::CommitSend(Socket& socket, size_t filled) { tcp_.CommitSend(*socket.tcp, filled); }
void Stack::SendCommitted(Socket& socket, bool more, Instant now) {
  tcp_.SendCommitted(*socket.tcp, more, now);
}
Status Stack::Receive(Socket& socket, const IoVector& data, int flags, ReceivedMessage* message,
                      Instant now) {
  return sockets_.Receive(socket, data, flags, message, now);
}
Status Stack::Shutdown(Socket& socket, int how, Instant now) {
  udp_.FlushBurst(now);
  return sockets_.Shutdown(socket, how, now);
}
Status Stack::LocalName(const Socket& socket, sockaddr* address, socklen_t* length) const {
  return sockets_.LocalName(socket, address, length);
}
Status Stack::PeerName(const Socket& socket, sockaddr* address, socklen_t* length) const {
  return sockets_.PeerName(socket, address, length);
}
Status Stack::SetOption(Socket& socket, int level, int name, const void* value, socklen_t length,
                        Instant now) {
  udp_.FlushBurst(now);
  return sockets_.SetOption(socket, level, name, value, length, now);
}
Status Stack::GetOption(Socket& socket, int level, int name, void* value, socklen_t* length,
                        Instant now) {
  if (level == IPPROTO_TCP) tcp_.FlushHeldReply(now);  // TCP_INFO tells what was sent
  return sockets_.GetOption(socket, level, name, value, length, now);
}
Result<int> Stack::Ioctl(Socket& socket, unsigned long request, Instant now) {
  if (request == SIOCOUTQNSD) tcp_.FlushHeldReply(now);
  return sockets_.Ioctl(socket, request, now);
}
bool Stack::HasUnacknowledged(const Socket& socket) const {
  return sockets_.HasUnacknowledged(socket);
}

bool Stack::IsServed(SocketKind kind, const Endpoint& local) const {
  return sockets_.IsServed(kind, local);
}

bool Stack::IsConnecting(const Socket& socket) const { return sockets_.IsConnecting(socket); }

bool Stack::HasUnfinishedWork(bool count_time_wait) const {
  return tcp_.UnfinishedCount(count_time_wait) > 0 || udp_.HasFrames() || raw_.HasFrames() ||
         ip_.HasLooped() || ip_.HasQueuedOutput();
}

void Stack::Mend(const tcp::Connection** examined, Instant now) {
  core_.timers.Mend();
  core_.landing = {};
  ip_.Mend(now);
  tcp_.Mend(examined, now);
  udp_.Mend();
  raw_.Mend();
  sockets_.Mend();
}

void Stack::Condemn(tcp::Connection* connection) { tcp_.Condemn(connection); }

void Stack::CheckInvariants(const tcp::Connection** examined) const {
  ip_.CheckInvariants();
  tcp_.CheckInvariants(examined);
  udp_.CheckInvariants();
  raw_.CheckInvariants();
  sockets_.CheckInvariants();
}

}  // namespace userstack
