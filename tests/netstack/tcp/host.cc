#include "tests/netstack/tcp/host.h"

#include <arpa/inet.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <ostream>

#include "netstack/base/checksum.h"
#include "netstack/wire/ethernet.h"
#include "netstack/wire/ipv4.h"

namespace userstack::testing {
namespace {

Prefix PrefixOf(const IpAddress& a) { return {a, static_cast<uint8_t>(a.is_v4() ? 24 : 64)}; }

}  // namespace

MacAddress MacOf(const IpAddress& address) {
  return {{0x02, 0, 0, 0, 0, static_cast<uint8_t>(address.low() & 0xff)}};
}

IpAddress Address(const char* text) {
  uint8_t bytes[16];
  if (inet_pton(AF_INET, text, bytes) == 1) return IpAddress::V4FromBytes(bytes);
  EXPECT_EQ(inet_pton(AF_INET6, text, bytes), 1) << text;
  return IpAddress::V6FromBytes(bytes);
}

uint8_t PatternByte(size_t n) { return static_cast<uint8_t>(n * 2654435761u >> 13); }

DeviceCapabilities PlainDevice() {
  DeviceCapabilities device;
  device.mtu = 1500;
  return device;
}

DeviceCapabilities OffloadDevice() {
  DeviceCapabilities device = PlainDevice();
  device.transmit_checksum = true;
  device.tcp_segmentation_max = 65535;
  return device;
}

TcpHost::TcpHost(const char* address, const DeviceCapabilities& device, uint64_t seed,
                 size_t arena_bytes)
    : address_(Address(address)), size_(arena_bytes) {
  memory_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  Arena* arena = Arena::Format(memory_, size_);
  core_ = new (arena->Allocate(sizeof(Core), 64)) Core;
  core_->arena = arena;
  core_->buffers.Initialize(arena, arena_bytes / 4, arena_bytes / 3);
  core_->packets.Initialize(arena, &core_->buffers, static_cast<uint32_t>(arena_bytes / 8192));
  core_->frames.Initialize(arena, &core_->buffers, static_cast<uint32_t>(arena_bytes / 8192));
  core_->timers.Initialize(kStart);
  core_->random = Random(seed);
  core_->hash_key = {core_->random.Next(), core_->random.Next()};
  ip_ = new (arena->Allocate(sizeof(Ip), 64)) Ip;
  EXPECT_TRUE(ip_->Initialize(core_, kStart));
  tcp_ = new (arena->Allocate(sizeof(tcp::Tcp), 64)) tcp::Tcp;
  EXPECT_TRUE(tcp_->Initialize(core_, ip_, kStart));
  DeviceCapabilities wire = device;
  wire.mac = MacOf(address_);
  EXPECT_TRUE(ip_->AddInterface(kWireInterface, "eth0", wire).ok());
  EXPECT_TRUE(ip_->AddAddress(kWireInterface, PrefixOf(address_), kStart).ok());
}

TcpHost::~TcpHost() { munmap(memory_, size_); }

void TcpHost::Dispatch(Packet* packet, Instant now) {
  switch (ip_->Input(packet, now)) {
    case IpVerdict::kConsumed:
      return;
    case IpVerdict::kDeliver:
      if (packet->ip.protocol == 6) {
        tcp_->Input(packet, now);
      } else {
        core_->packets.Release(packet);
      }
      return;
    case IpVerdict::kIcmpError: {
      const IcmpError& e = ip_->icmp_error();
      if (e.protocol == 6) {
        tcp_->OnIcmpError(e.local, e.remote, e.embedded, e.embedded_length, e.error, e.hard, e.mtu,
                          now);
      }
      core_->packets.Release(packet);
      return;
    }
  }
}

void TcpHost::Input(const WireFrame& frame, Instant now) {
  Packet* packet = Deliver(*core_, frame, kWireInterface, now, {});
  if (packet != nullptr) Dispatch(packet, now);
  Advance(now);
}

void TcpHost::Advance(Instant now) {
  while (Timer* timer = core_->timers.PopExpired(now)) {
    switch (timer->kind) {
      case TimerKind::kTcpRetransmit:
      case TimerKind::kTcpDelayedAck:
      case TimerKind::kTcpKeepAlive:
      case TimerKind::kTcpTimeWait:
      case TimerKind::kTcpPacing:
      case TimerKind::kTcpReorder:
      case TimerKind::kTcpSynQueue:
        tcp_->OnTimer(timer, now);
        break;
      case TimerKind::kNeighbor:
      case TimerKind::kDuplicateAddress:
      case TimerKind::kRouterSolicit:
      case TimerKind::kRouterLifetime:
      case TimerKind::kReassembly:
      case TimerKind::kMulticastReport:
      case TimerKind::kPathMtu:
        ip_->OnTimer(timer, now);
        break;
    }
  }
  while (Packet* looped = ip_->NextLooped()) Dispatch(looped, now);
  const uint32_t drained = ip_->TakeDrained();
  for (uint16_t i = 1; i <= kMaxInterfaces; ++i) {
    if ((drained >> i & 1) != 0) tcp_->OnQueueDrained(i, now);
  }
  tcp_->CheckInvariants();
}

std::vector<WireFrame> TcpHost::Output() {
  std::vector<WireFrame> frames;
  while (Frame* frame = ip_->NextFrame(kWireInterface)) {
    frames.push_back(Serialize(*frame));
    core_->frames.Release(frame);
  }
  return frames;
}

Instant TcpHost::NextDeadline() const { return core_->timers.NextDeadline(); }

TcpHost::Socket* TcpHost::Open(Family family) {
  sockets_.push_back(std::make_unique<Socket>());
  Socket* s = sockets_.back().get();
  const Result<tcp::Connection*> c = tcp_->Create(family, &s->pollable);
  if (!c.ok()) return nullptr;
  s->connection = *c;
  return s;
}

TcpHost::Socket* TcpHost::Listen(uint16_t port, int backlog, Instant now) {
  Socket* s = Open(address_.family());
  EXPECT_TRUE(tcp_->Bind(*s->connection, {IpAddress::Any(address_.family()), port, 0}).ok());
  EXPECT_TRUE(tcp_->Listen(*s->connection, backlog, now).ok());
  return s;
}

TcpHost::Socket* TcpHost::Accept(Socket* listener, Instant now) {
  auto fresh = std::make_unique<Socket>();
  const Result<tcp::Connection*> c = tcp_->Accept(*listener->connection, &fresh->pollable, now);
  if (!c.ok()) return nullptr;
  fresh->connection = *c;
  sockets_.push_back(std::move(fresh));
  return sockets_.back().get();
}

int64_t TcpHost::Send(Socket* s, std::string_view data, Instant now, int flags) {
  const iovec io{const_cast<char*>(data.data()), data.size()};
  const Result<size_t> r = tcp_->Send(*s->connection, IoVector(&io, 1), flags, now);
  return r.ok() ? static_cast<int64_t>(*r) : -r.error();
}

int64_t TcpHost::Receive(Socket* s, std::string* data, size_t most, Instant now, int flags) {
  std::string bytes(most, '\0');
  const iovec io{bytes.data(), most};
  int message_flags = 0;
  const Result<size_t> r =
      tcp_->Receive(*s->connection, IoVector(&io, 1), flags, &message_flags, now);
  if (!r.ok()) return -r.error();
  bytes.resize(*r);
  *data = std::move(bytes);
  return static_cast<int64_t>(*r);
}

LinuxInfo TcpHost::Info(Socket* s, Instant now) {
  LinuxInfo info;
  uint32_t length = sizeof info;
  EXPECT_TRUE(tcp_->GetOption(*s->connection, TCP_INFO, &info, &length, now).ok());
  EXPECT_EQ(length, sizeof info);
  return info;
}

void TcpHost::Close(Socket* s, Instant now) {
  tcp_->Close(s->connection, now);
  s->connection = nullptr;
}

// --- segments ---

bool ParseSeg(const WireFrame& frame, Seg* seg) {
  FrameLayout layout;
  if (!ParseLayout(frame.bytes, &layout) || layout.protocol != 6 || layout.transport == 0) {
    return false;
  }
  const uint8_t* p = frame.bytes.data() + layout.transport;
  const uint32_t length = layout.end - layout.transport;
  wire::TcpHeader h;
  if (!wire::ParseTcpHeader(p, length, &h)) return false;
  seg->sequence = h.sequence.value;
  seg->acknowledgment = h.acknowledgment.value;
  seg->flags = h.flags;
  seg->window = h.window;
  seg->urgent = h.urgent_pointer;
  seg->source_port = h.source_port;
  seg->destination_port = h.destination_port;
  seg->segment_size = frame.offload.segmentation == SegmentationType::kNone
                          ? uint16_t{0}
                          : frame.offload.segment_size;
  (void)wire::ParseTcpOptions(p + 20, h.header_length - 20u, &seg->options);
  seg->payload.assign(reinterpret_cast<const char*>(p) + h.header_length, length - h.header_length);
  return true;
}

std::ostream& operator<<(std::ostream& out, const Seg& s) {
  const char* names = "FSRP.UEC";
  out << "Flags [";
  for (int i = 0; i < 8; ++i) {
    if ((s.flags >> i & 1) != 0) out << names[i];
  }
  out << "], seq " << s.sequence << ":" << s.sequence + s.payload.size() << ", ack "
      << s.acknowledgment << ", win " << s.window;
  for (unsigned i = 0; i < s.options.sack_count; ++i) {
    out << " sack " << s.options.sack_blocks[i].begin.value << ":"
        << s.options.sack_blocks[i].end.value;
  }
  return out << ", length " << s.payload.size();
}

}  // namespace userstack::testing
