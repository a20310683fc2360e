#include "tests/netstack/socket/fixture.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

namespace userstack {

IpAddress Parse(const std::string& address) {
  uint8_t bytes[16];
  if (inet_pton(AF_INET, address.c_str(), bytes) == 1) return IpAddress::V4FromBytes(bytes);
  if (inet_pton(AF_INET6, address.c_str(), bytes) == 1) return IpAddress::V6FromBytes(bytes);
  ADD_FAILURE() << "no address: " << address;
  return {};
}

Name At(const std::string& address, uint16_t port) {
  Name name;
  if (address.empty()) {
    name.length = sizeof(sockaddr_in);
    return name;
  }
  const size_t percent = address.find('%');
  const std::string plain = address.substr(0, percent);
  if (plain.find(':') == std::string::npos) {
    auto* in = reinterpret_cast<sockaddr_in*>(&name.storage);
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    EXPECT_EQ(inet_pton(AF_INET, plain.c_str(), &in->sin_addr), 1);
    name.length = sizeof *in;
    return name;
  }
  auto* in = reinterpret_cast<sockaddr_in6*>(&name.storage);
  in->sin6_family = AF_INET6;
  in->sin6_port = htons(port);
  EXPECT_EQ(inet_pton(AF_INET6, plain.c_str(), &in->sin6_addr), 1);
  if (percent != std::string::npos) {
    in->sin6_scope_id = static_cast<uint32_t>(std::stoi(address.substr(percent + 1)));
  }
  name.length = sizeof *in;
  return name;
}

std::string ToText(const sockaddr_storage& storage) {
  char text[INET6_ADDRSTRLEN] = {};
  if (storage.ss_family == AF_INET) {
    const auto* in = reinterpret_cast<const sockaddr_in*>(&storage);
    inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
    return std::string(text) + ":" + std::to_string(ntohs(in->sin_port));
  }
  const auto* in = reinterpret_cast<const sockaddr_in6*>(&storage);
  inet_ntop(AF_INET6, &in->sin6_addr, text, sizeof text);
  const std::string scope = in->sin6_scope_id != 0 ? "%" + std::to_string(in->sin6_scope_id) : "";
  return "[" + std::string(text) + scope + "]:" + std::to_string(ntohs(in->sin6_port));
}

void StackTest::Build(const Options& options) {
  for (int i = 0; i < 2; ++i) {
    auto node = std::make_unique<Node>(options.arena_bytes);
    Arena* arena = Arena::Format(node->memory.data(), node->memory.size());
    node->stack = Stack::Create(arena, {.seed = static_cast<uint64_t>(i) + 1}, now_);
    ASSERT_NE(node->stack, nullptr);
    DeviceCapabilities device = options.device;
    device.mac = {{2, 0, 0, 0, 0, static_cast<uint8_t>(i + 1)}};
    Ip& ip = node->stack->ip();
    ASSERT_TRUE(ip.AddInterface(kWireInterface, "eth0", device).ok());
    const std::string last = std::to_string(i + 1);
    ASSERT_TRUE(ip.AddAddress(kWireInterface, {Parse("10.0.0." + last), 24}, now_).ok());
    ASSERT_TRUE(ip.AddAddress(kWireInterface, {Parse("fd00::" + last), 64}, now_).ok());
    (i == 0 ? a_ : b_) = std::move(node);
  }
  Run(Duration::Seconds(3));  // addresses settle
  TakeFrames(a());
  TakeFrames(b());
}

StackTest::~StackTest() { Check(); }

void StackTest::Check() {
  a_->stack->CheckInvariants();
  b_->stack->CheckInvariants();
}

bool StackTest::Carry(Node& from, Node& to, std::vector<std::vector<uint8_t>>* seen) {
  bool any = false;
  while (Frame* frame = from.stack->NextFrame(kWireInterface)) {
    any = true;
    const testing::WireFrame whole = testing::Serialize(*frame);
    from.stack->core().frames.Release(frame);
    for (const testing::WireFrame& piece : testing::Segment(whole)) {
      EXPECT_TRUE(testing::ChecksumsAreRight(piece.bytes));
      seen->push_back(piece.bytes);
      if (lose_ && lose_(piece)) continue;
      Packet* packet = testing::Deliver(to.stack->core(), piece, kWireInterface, now_, {});
      if (packet != nullptr) to.stack->Input(&packet, 1, now_);
    }
  }
  return any;
}

void StackTest::Pump() {
  for (int round = 0;; ++round) {
    ASSERT_LT(round, 1000) << "the stacks do not come to rest";
    a_->stack->Advance(now_);
    b_->stack->Advance(now_);
    if (!wire_runs_) break;
    const bool any = Carry(*a_, *b_, &seen_a_);
    if (!Carry(*b_, *a_, &seen_b_) && !any) break;
  }
  for (Node* node : {a_.get(), b_.get()}) {
    while (node->stack->core().wakes.Pop() != nullptr) {
    }
  }
  Check();
}

void StackTest::Run(Duration duration) {
  const Instant until = now_ + duration;
  for (int turns = 0;; ++turns) {
    ASSERT_LT(turns, 100000);
    Pump();
    const Instant next = std::min(a_->stack->NextDeadline(), b_->stack->NextDeadline());
    if (next > until) break;
    now_ = std::max(now_ + Duration::Nanoseconds(1), next);
  }
  now_ = until;
  Pump();
}

std::vector<std::vector<uint8_t>> StackTest::TakeFrames(Node& node) {
  return std::exchange(&node == a_.get() ? seen_a_ : seen_b_, {});
}

Sock StackTest::Open(Node& node, int domain, int type, int protocol) {
  const Result<Socket*> made = node.stack->CreateSocket(domain, type, protocol);
  EXPECT_EQ(made.error(), 0);
  return {&node, made.ok() ? *made : nullptr};
}
int StackTest::OpenError(Node& node, int domain, int type, int protocol) {
  const Result<Socket*> made = node.stack->CreateSocket(domain, type, protocol);
  if (made.ok()) node.stack->DestroySocket(*made, now_);
  return made.error();
}
void StackTest::Close(Sock* socket) {
  socket->node->stack->DestroySocket(socket->raw, now_);
  socket->raw = nullptr;
  Pump();
}

long StackTest::Bind(const Sock& s, const Name& name) {
  return -s.node->stack->Bind(*s.raw, name.get(), name.length).error();
}
long StackTest::Connect(const Sock& s, const Name& name) {
  const Status status = s.node->stack->Connect(*s.raw, name.get(), name.length, now_);
  Pump();
  return -status.error();
}
long StackTest::Listen(const Sock& s, int backlog) {
  return -s.node->stack->Listen(*s.raw, backlog, now_).error();
}
long StackTest::Accept(const Sock& s, Sock* out) {
  const Result<Socket*> accepted = s.node->stack->Accept(*s.raw, now_);
  if (!accepted.ok()) return -accepted.error();
  *out = {s.node, *accepted};
  Pump();
  return 0;
}

long StackTest::Send(const Sock& s, const std::string& text, int flags,
                     const Ancillary* ancillary) {
  return SendTo(s, text, Name{}, flags, ancillary);
}
long StackTest::SendTo(const Sock& s, const std::string& text, const Name& to, int flags,
                       const Ancillary* ancillary) {
  const iovec entry{const_cast<char*>(text.data()), text.size()};
  const sockaddr* name = to.length != 0 ? to.get() : nullptr;
  const Result<size_t> sent =
      s.node->stack->Send(*s.raw, IoVector(&entry, 1), flags, name, to.length, ancillary, now_);
  Pump();
  return sent.ok() ? static_cast<long>(*sent) : -sent.error();
}

Datagram StackTest::Receive(const Sock& s, int flags, size_t limit) {
  Datagram out;
  std::string bytes(limit, '\0');
  const iovec entry{bytes.data(), bytes.size()};
  ReceivedMessage message;
  const Status status = s.node->stack->Receive(*s.raw, IoVector(&entry, 1), flags, &message, now_);
  Check();
  if (!status.ok()) {
    out.result = -status.error();
    return out;
  }
  out.result = static_cast<long>((flags & MSG_TRUNC) != 0 ? message.length : message.copied);
  out.text = bytes.substr(0, message.copied);
  out.flags = message.flags;
  out.ancillary = message.ancillary;
  if (message.has_source) {
    sockaddr_storage storage;
    EncodeSockaddr(message.source, s.raw->family, &storage);
    out.from = ToText(storage);
  }
  return out;
}

long StackTest::Shutdown(const Sock& s, int how) {
  const Status status = s.node->stack->Shutdown(*s.raw, how, now_);
  Pump();
  return -status.error();
}

std::string StackTest::LocalName(const Sock& s) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  const Status status =
      s.node->stack->LocalName(*s.raw, reinterpret_cast<sockaddr*>(&storage), &length);
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(length, s.raw->family == Family::kIpv4 ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
  return ToText(storage);
}
std::string StackTest::PeerName(const Sock& s) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  const Status status =
      s.node->stack->PeerName(*s.raw, reinterpret_cast<sockaddr*>(&storage), &length);
  if (!status.ok()) return status.error() == ENOTCONN ? "ENOTCONN" : "another error";
  return ToText(storage);
}

long StackTest::SetBytes(const Sock& s, int level, int name, const void* value, size_t length) {
  const Status status =
      s.node->stack->SetOption(*s.raw, level, name, value, static_cast<socklen_t>(length), now_);
  Pump();
  return -status.error();
}
long StackTest::Set(const Sock& s, int level, int name, int value) {
  return SetBytes(s, level, name, &value, sizeof value);
}
int StackTest::Get(const Sock& s, int level, int name) {
  int value = 0;
  socklen_t length = sizeof value;
  const Status status = s.node->stack->GetOption(*s.raw, level, name, &value, &length, now_);
  return status.ok() ? value : -status.error();
}

}  // namespace userstack
