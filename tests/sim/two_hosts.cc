#include "tests/sim/two_hosts.h"

#include "netstack/base/byte_order.h"
#include "netstack/base/check.h"
#include "tests/netstack/testing/content.h"

namespace userstack::testing {

bool ReadSegment(const WireFrame& frame, SeenSegment* out) {
  FrameLayout layout;
  if (!ParseLayout(frame.bytes, &layout) || layout.protocol != 6 || layout.transport == 0) {
    return false;
  }
  const uint8_t* tcp = &frame.bytes[layout.transport];
  *out = {};
  out->source_port = Load16(tcp);
  out->destination_port = Load16(tcp + 2);
  out->sequence = Load32(tcp + 4);
  out->acknowledgment = Load32(tcp + 8);
  out->flags = tcp[13];
  out->window = Load16(tcp + 14);
  out->payload = layout.end - layout.transport - (tcp[12] >> 4) * 4u;
  return true;
}

void TwoHosts::Build(const TwoHostsOptions& options) {
  NetworkOptions network;
  network.seed = options.seed;
  network.pass_large = options.pass_large;
  network.check_every = options.check_every;
  network.trace_frames = options.trace_frames;
  network.verify_frames = options.verify_frames;
  net_ = std::make_unique<Network>(network);
  for (size_t i = 0; i < 2; ++i) {
    HostOptions host;
    const auto number = static_cast<uint8_t>(i + 1);
    host.name = i == 0 ? "A" : "B";
    host.arena_bytes = options.arena_bytes;
    host.stack = options.stack;
    host.coalesce = options.coalesce;
    host.device = i == 0 ? options.device_a : options.device_b;
    host.device.mac = {{2, 0, 0, 0, 0, number}};
    const uint8_t v6[16] = {0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, number};
    host.addresses = {{IpAddress::V4(0x0a000000u + number), 24}, {IpAddress::V6FromBytes(v6), 64}};
    net_->AddHost(host, i == 0 ? options.up_a : options.up_b,
                  i == 0 ? options.down_a : options.down_b);
  }
  net_->RunFor(Duration::Seconds(5));
  before_ = {a().usage(), b().usage()};
}

void TwoHosts::TearDown() {
  if (HasFailure() && net_ != nullptr) std::fputs(net_->Trace().c_str(), stderr);
}

SimSocket* TwoHosts::Open(Host& host, Family family, int type) {
  host.EnterCall(net_->now());
  int error = 0;
  SimSocket* socket =
      host.Open(family == Family::kIpv4 ? AF_INET : AF_INET6, type, &manual_, &error);
  if (socket == nullptr) {
    errno = error;
    return nullptr;
  }
  host.SetInterest(*socket, 0, kWatchEdge);
  return socket;
}

SimSocket* TwoHosts::Listen(Host& host, Family family, uint16_t port, int backlog) {
  SimSocket* socket = Open(host, family);
  EXPECT_EQ(host.Bind(*socket, {IpAddress::Any(family), port, 0}).error(), 0);
  EXPECT_EQ(host.Listen(*socket, backlog).error(), 0);
  net_->Flush();
  return socket;
}

SimSocket* TwoHosts::TryAccept(SimSocket* listener) {
  listener->host->EnterCall(net_->now());
  int error = 0;
  SimSocket* socket = listener->host->Accept(*listener, &manual_, &error);
  if (socket == nullptr) {
    EXPECT_EQ(error, EAGAIN);
    return nullptr;
  }
  listener->host->SetInterest(*socket, 0, kWatchEdge);
  net_->Flush();
  return socket;
}

TwoHosts::Connected TwoHosts::Connect(Family family, uint16_t port) {
  Connected out;
  out.listener = Listen(b(), family, port);
  out.client = Open(a(), family);
  EXPECT_EQ(a().Connect(*out.client, {b().address(family), port, 0}).error(), EINPROGRESS);
  net_->Flush();
  EXPECT_TRUE(net_->RunUntil([&] { return (out.server = TryAccept(out.listener)) != nullptr; },
                             Duration::Seconds(100)));
  EXPECT_FALSE(a().stack().IsConnecting(*out.client->socket));
  return out;
}

long TwoHosts::Send(SimSocket* socket, const std::string& text, int flags) {
  socket->host->EnterCall(net_->now());
  const auto put = socket->host->Send(*socket, text.data(), text.size(), flags | MSG_NOSIGNAL);
  net_->Flush();
  return put.ok() ? static_cast<long>(*put) : -put.error();
}

long TwoHosts::SendContent(SimSocket* socket, uint64_t stream, uint64_t offset, size_t length) {
  std::string text(length, '\0');
  FillContent(stream, offset, reinterpret_cast<uint8_t*>(text.data()), length);
  return Send(socket, text);
}

long TwoHosts::Receive(SimSocket* socket, std::string* out, size_t limit, int flags) {
  socket->host->EnterCall(net_->now());
  out->resize(limit);
  const auto got = socket->host->Receive(*socket, out->data(), limit, flags);
  out->resize(got.ok() ? *got : 0);
  net_->Flush();
  return got.ok() ? static_cast<long>(*got) : -got.error();
}

long TwoHosts::ReceiveContent(SimSocket* socket, uint64_t stream, uint64_t offset, size_t limit) {
  std::string text;
  const long got = Receive(socket, &text, limit);
  if (got > 0) {
    EXPECT_EQ(
        MatchContent(stream, offset, reinterpret_cast<const uint8_t*>(text.data()), text.size()),
        text.size());
  }
  return got;
}

int TwoHosts::Shutdown(SimSocket* socket, int how) {
  socket->host->EnterCall(net_->now());
  const int error = socket->host->Shutdown(*socket, how).error();
  net_->Flush();
  return error;
}

void TwoHosts::Close(SimSocket* socket) {
  socket->host->EnterCall(net_->now());
  socket->host->Close(socket);
  net_->Flush();
}

int TwoHosts::SoError(SimSocket* socket) {
  socket->host->EnterCall(net_->now());
  return socket->host->GetOption(*socket, SOL_SOCKET, SO_ERROR);
}

void TwoHosts::Observe(size_t host, DropRule drop) {
  net_->up(host).impairment().drop = [this, host, drop](uint64_t, const WireFrame& frame) {
    SeenSegment segment;
    if (!ReadSegment(frame, &segment)) return false;
    segment.at = net_->now();
    seen_[host].push_back(segment);
    return drop != nullptr && drop(segment);
  };
}

void TwoHosts::ExpectClean(Duration aftermath) {
  net_->RunFor(aftermath);
  for (size_t i = 0; i < 2; ++i) {
    Host& host = net_->host(i);
    EXPECT_FALSE(host.stack().HasUnfinishedWork(true)) << host.name();
    const Usage now = host.usage();
    EXPECT_LE(now.buffer_bytes, before_[i].buffer_bytes) << host.name();
    EXPECT_LE(now.packets, before_[i].packets) << host.name();
    EXPECT_LE(now.frames, before_[i].frames) << host.name();
  }
}

}  // namespace userstack::testing
