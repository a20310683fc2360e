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

MacAddress MacOf(const IpAddress& address) {
  return {{0x02, 0, 0, 0, 0, static_cast<uint8_t>(address.low() & 0xff)}};
}

Prefix PrefixOf(const IpAddress& a) { return {a, static_cast<uint8_t>(a.is_v4() ? 24 : 64)}; }

}  // namespace

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

// --- TcpPair ---

TcpPair::TcpPair(const DeviceCapabilities& device, uint64_t seed, const char* a, const char* b) {
  hosts_[0] = std::make_unique<TcpHost>(a, device, seed * 2);
  hosts_[1] = std::make_unique<TcpHost>(b, device, seed * 2 + 1);
  Flush();
  RunFor(Duration::Seconds(5));  // duplicate address detection
}

void TcpPair::Flush() {
  for (int i = 0; i < 2; ++i) {
    hosts_[i]->Advance(now_);
    for (WireFrame& whole : hosts_[i]->Output()) {
      std::vector<WireFrame> frames;
      if (cut && whole.offload.segmentation != SegmentationType::kNone) {
        frames = Segment(whole);
      } else {
        frames.push_back(std::move(whole));
      }
      for (WireFrame& frame : frames) {
        Seg seg;
        const bool tcp = ParseSeg(frame, &seg);
        const bool lost = drop && drop(i, frame);
        if (tcp) {
          std::ostringstream line;
          line << (now_ - kStart).microseconds() << (i == 0 ? " a>b " : " b>a ") << seg
               << (lost ? " LOST" : "");
          trace.push_back(line.str());
        }
        if (lost) continue;
        if (frame.offload.checksum_needed) frame.offload.checksum_verified = true;
        flights_.push_back({now_ + delay_, order_++, 1 - i, std::move(frame)});
      }
    }
  }
}

bool TcpPair::Step(Instant until) {
  Flush();
  Instant next = std::min(hosts_[0]->NextDeadline(), hosts_[1]->NextDeadline());
  auto first = std::min_element(flights_.begin(), flights_.end(), [](const auto& x, const auto& y) {
    return x.at != y.at ? x.at < y.at : x.order < y.order;
  });
  if (first != flights_.end()) next = std::min(next, first->at);
  if (next > until) return false;
  now_ = std::max(now_, next);
  if (first != flights_.end() && first->at <= now_) {
    Flight flight = std::move(*first);
    flights_.erase(first);
    hosts_[flight.to]->Input(flight.frame, now_);
  }
  Flush();
  return true;
}

void TcpPair::RunFor(Duration d) {
  const Instant until = now_ + d;
  while (Step(until)) {
  }
  now_ = until;
  Flush();
}

bool TcpPair::RunUntil(const std::function<bool()>& done, Duration limit) {
  const Instant until = now_ + limit;
  while (!done()) {
    if (!Step(until)) return done();
  }
  return true;
}

TcpPair::Ends TcpPair::Connect() {
  Ends ends;
  ends.listener = b().Listen(80, 16, now_);
  ends.client = a().Open(a().address().family());
  const Status begun = a().tcp().Connect(*ends.client->connection, {b().address(), 80, 0}, now_);
  EXPECT_EQ(begun.error(), EINPROGRESS);
  RunUntil(
      [&] {
        if (ends.server == nullptr) ends.server = b().Accept(ends.listener, now_);
        return ends.server != nullptr;
      },
      Duration::Seconds(10));
  EXPECT_NE(ends.server, nullptr);
  return ends;
}

bool TcpPair::Transfer(TcpHost& from, TcpHost::Socket* sender, TcpHost& to,
                       TcpHost::Socket* receiver, size_t total, Duration limit) {
  size_t sent = 0;
  size_t received = 0;
  bool right = true;
  const auto work = [&] {
    while (sent < total && (from.Level(sender) & kEventOut) != 0) {
      std::string piece(std::min<size_t>(total - sent, 100'000), '\0');
      for (size_t i = 0; i < piece.size(); ++i) {
        piece[i] = static_cast<char>(PatternByte(sent + i));
      }
      const int64_t n = from.Send(sender, piece, now_);
      if (n <= 0) break;
      sent += static_cast<size_t>(n);
    }
    std::string piece;
    while ((to.Level(receiver) & kEventIn) != 0 && to.Receive(receiver, &piece, 70'000, now_) > 0) {
      for (char ch : piece) right = right && static_cast<uint8_t>(ch) == PatternByte(received++);
    }
    return received >= total;
  };
  return RunUntil(work, limit) && right && received == total;
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

// --- TcpScript ---

namespace {

WireFrame Build(const Seg& s, const IpAddress& from, const IpAddress& to) {
  uint8_t options[40];
  const uint32_t option_bytes = wire::WriteTcpOptions(s.options, options, sizeof options);
  std::vector<uint8_t> bytes(14 + 20 + 20 + option_bytes + s.payload.size());
  const MacAddress to_mac = MacOf(to);
  const MacAddress from_mac = MacOf(from);
  std::copy(to_mac.bytes.begin(), to_mac.bytes.end(), bytes.begin());
  std::copy(from_mac.bytes.begin(), from_mac.bytes.end(), bytes.begin() + 6);
  Store16(&bytes[12], 0x0800);
  uint8_t* ip = &bytes[14];
  ip[0] = 0x45;
  Store16(ip + 2, static_cast<uint16_t>(bytes.size() - 14));
  ip[8] = 64;
  ip[9] = 6;
  std::memcpy(ip + 12, from.v4_bytes(), 4);
  std::memcpy(ip + 16, to.v4_bytes(), 4);
  wire::TcpHeader h;
  h.source_port = s.source_port;
  h.destination_port = s.destination_port;
  h.sequence = {s.sequence};
  h.acknowledgment = {s.acknowledgment};
  h.header_length = static_cast<uint8_t>(20 + option_bytes);
  h.flags = s.flags;
  h.window = s.window;
  h.urgent_pointer = s.urgent;
  wire::WriteTcpHeader(ip + 20, h);
  std::memcpy(ip + 40, options, option_bytes);
  std::copy(s.payload.begin(), s.payload.end(), bytes.begin() + 54 + option_bytes);
  FixChecksums(&bytes);
  return {std::move(bytes), {}};
}

// Answers an ARP request for `ours`; false when the frame is none.
bool AnswerArp(const WireFrame& request, const IpAddress& ours, WireFrame* answer) {
  const std::vector<uint8_t>& b = request.bytes;
  if (b.size() < 42 || Load16(&b[12]) != 0x0806 || Load16(&b[20]) != 1) return false;
  if (std::memcmp(&b[38], ours.v4_bytes(), 4) != 0) return false;
  const MacAddress mac = MacOf(ours);
  answer->bytes = b;
  uint8_t* a = answer->bytes.data();
  std::memcpy(a, &b[6], 6);
  std::copy(mac.bytes.begin(), mac.bytes.end(), a + 6);
  Store16(a + 20, 2);
  std::memcpy(a + 32, &b[22], 10);
  std::copy(mac.bytes.begin(), mac.bytes.end(), a + 22);
  std::memcpy(a + 28, ours.v4_bytes(), 4);
  return true;
}

}  // namespace

TcpScript::TcpScript() { UseDevice(PlainDevice()); }
TcpScript::~TcpScript() = default;

void TcpScript::UseDevice(const DeviceCapabilities& device) {
  host_ = std::make_unique<TcpHost>("10.0.0.2", device, 7);
  now_ = kStart;
  Advance(Duration::Seconds(5));
  sent_.clear();
}

void TcpScript::Collect() {
  const IpAddress peer = Address("10.0.0.1");
  for (bool again = true; again;) {
    again = false;
    host_->Advance(now_);
    for (const WireFrame& frame : host_->Output()) {
      WireFrame answer;
      if (AnswerArp(frame, peer, &answer)) {
        host_->Input(answer, now_);
        again = true;
        continue;
      }
      Seg seg;
      if (!ParseSeg(frame, &seg)) continue;
      if (frame.offload.checksum_needed) {
        EXPECT_NE(frame.offload.checksum_start, 0);
      } else {
        EXPECT_TRUE(ChecksumsAreRight(frame.bytes));
      }
      if (seg.options.has_timestamps) last_timestamp_ = seg.options.timestamp_value;
      sent_.push_back(std::move(seg));
    }
  }
}

void TcpScript::In(const Seg& segment) {
  Seg s = segment;
  if (s.source_port == 0) s.source_port = kPeerPort;
  if (s.destination_port == 0) s.destination_port = our_port_;
  WireFrame frame = Build(s, Address("10.0.0.1"), Address("10.0.0.2"));
  if (std::exchange(corrupt_next_, false)) frame.bytes.back() ^= 0x10;
  host_->Input(frame, now_);
  Collect();
}

bool TcpScript::HasOut() {
  Collect();
  return !sent_.empty();
}

Seg TcpScript::Out() {
  Collect();
  if (sent_.empty()) {
    ADD_FAILURE() << "nothing was sent";
    return {};
  }
  Seg s = sent_.front();
  sent_.pop_front();
  return s;
}

void TcpScript::SkipOut() {
  Collect();
  sent_.clear();
}

void TcpScript::Advance(Duration d) {
  const Instant until = now_ + d;
  Collect();
  while (host_->NextDeadline() <= until) {
    now_ = std::max(now_, host_->NextDeadline());
    Collect();
  }
  now_ = until;
  Collect();
}

wire::TcpOptions TcpScript::PeerOptions() {
  wire::TcpOptions o = MssOnly();
  o.sack_permitted = true;
  o.has_timestamps = true;
  o.has_window_scale = true;
  o.window_scale = 7;
  return o;
}

wire::TcpOptions TcpScript::MssOnly(uint16_t mss) {
  wire::TcpOptions o;
  o.has_maximum_segment_size = true;
  o.maximum_segment_size = mss;
  return o;
}

Seg TcpScript::Peer(uint8_t flags, std::string payload) {
  Seg s;
  s.sequence = peer_next_;
  s.acknowledgment = peer_ack_;
  s.flags = flags;
  s.window = peer_window_;
  s.payload = std::move(payload);
  if (timestamps_) {
    s.options.has_timestamps = true;
    s.options.timestamp_value = ++peer_timestamp_;
    s.options.timestamp_echo_reply = last_timestamp_;
  }
  return s;
}

void TcpScript::PeerSends(std::string payload) {
  const auto length = static_cast<uint32_t>(payload.size());
  In(Peer(wire::kTcpAck | wire::kTcpPush, std::move(payload)));
  peer_next_ += length;
}

TcpHost::Socket* TcpScript::AcceptOne(const wire::TcpOptions& options, uint16_t window) {
  our_port_ = 80;
  listener_ = host_->Listen(80, 16, now_);
  timestamps_ = options.has_timestamps;
  peer_window_ = window;
  Seg syn;
  syn.sequence = kPeerInitial;
  syn.flags = wire::kTcpSyn;
  syn.window = window;
  syn.options = options;
  syn.options.timestamp_value = peer_timestamp_;
  In(syn);
  const Seg answer = Out();
  EXPECT_TRUE(answer.Has(wire::kTcpSyn | wire::kTcpAck)) << answer;
  our_initial_ = answer.sequence;
  peer_next_ = kPeerInitial + 1;
  peer_ack_ = our_initial_ + 1;
  In(Peer(wire::kTcpAck));
  TcpHost::Socket* s = host_->Accept(listener_, now_);
  EXPECT_NE(s, nullptr);
  SkipOut();
  return s;
}

TcpHost::Socket* TcpScript::ConnectOne(const wire::TcpOptions& options, uint16_t window) {
  TcpHost::Socket* s = host_->Open();
  EXPECT_EQ(tcp().Connect(*s->connection, {Address("10.0.0.1"), kPeerPort, 0}, now_).error(),
            EINPROGRESS);
  const Seg syn = Out();
  EXPECT_EQ(syn.flags, wire::kTcpSyn) << syn;
  our_port_ = syn.source_port;
  our_initial_ = syn.sequence;
  timestamps_ = options.has_timestamps;
  peer_window_ = window;
  peer_ack_ = our_initial_ + 1;
  Seg answer = Peer(wire::kTcpSyn | wire::kTcpAck);
  answer.options = options;
  answer.options.timestamp_value = peer_timestamp_;
  answer.options.timestamp_echo_reply = last_timestamp_;
  peer_next_ = kPeerInitial + 1;
  In(answer);
  SkipOut();
  return s;
}

int64_t TcpScript::Write(TcpHost::Socket* s, std::string_view data, int flags) {
  const int64_t n = host_->Send(s, data, now_, flags);
  Collect();
  return n;
}

std::string TcpScript::Read(TcpHost::Socket* s, size_t most, int flags) {
  std::string data;
  (void)host_->Receive(s, &data, most, now_, flags);
  Collect();
  return data;
}

int64_t TcpScript::ReadResult(TcpHost::Socket* s, int flags) {
  std::string data;
  return host_->Receive(s, &data, 65536, now_, flags);
}

void TcpScript::SetOption(TcpHost::Socket* s, int name, int value) {
  EXPECT_TRUE(tcp().SetOption(*s->connection, name, &value, sizeof value, now_).ok());
  Collect();
}

}  // namespace userstack::testing
