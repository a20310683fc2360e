// Scale: long transfers over impaired links, very many connections, memory that runs out. Sizes
// suit a test run of a minute; USERSTACK_SIM_BULK_MIB, _CYCLES and _CONNECTIONS raise them.
#include <cstdlib>
#include <map>

#include "netstack/base/check.h"
#include "tests/netstack/testing/content.h"
#include "tests/sim/two_hosts.h"

namespace userstack::testing {
namespace {

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

class Scale : public TwoHosts {
 protected:
  struct Bulk {
    double seconds = 0;
    double megabits_per_second = 0;
  };
  // One stream from A to B. Content is compared byte for byte on arrival.
  Bulk RunBulk(const TwoHostsOptions& options, uint64_t bytes, Family family) {
    Build(options);
    auto& server = net().AddApplication<StreamServer>(&net(), &b(), family, 80, 16);
    StreamPlan plan;
    plan.client.stream = 11;
    plan.client.bytes = bytes;
    plan.client.write_max = plan.server.read_max = 256 * 1024;
    plan.client.exact_sizes = plan.server.exact_sizes = true;
    const StreamPair pair = StartStream(net(), a(), server, family, plan, "bulk");
    net().Flush();
    const Instant begin = net().now();
    EXPECT_TRUE(net().RunUntil([&] { return pair.finished(); }, Duration::Seconds(100'000)));
    EXPECT_TRUE(pair.client->succeeded() && pair.server->succeeded())
        << pair.client->Describe() << "; " << pair.server->Describe();
    EXPECT_EQ(pair.server->received(), bytes);
    Bulk bulk;
    bulk.seconds = static_cast<double>((net().now() - begin).nanoseconds) / 1e9;
    bulk.megabits_per_second = static_cast<double>(bytes) * 8 / 1e6 / bulk.seconds;
    std::printf(
        "%llu MiB in %.2f virtual seconds: %.1f Mbit/s, %llu retransmissions, %llu timeouts\n",
        static_cast<unsigned long long>(bytes >> 20), bulk.seconds, bulk.megabits_per_second,
        static_cast<unsigned long long>(Count(a(), Counter::kTcpRetransmittedSegments)),
        static_cast<unsigned long long>(Count(a(), Counter::kTcpTimeouts)));
    server.Close();
    ExpectClean();
    return bulk;
  }
};

TwoHostsOptions Impaired() {
  TwoHostsOptions options;
  options.check_every = 5000;
  options.verify_frames = false;
  options.trace_frames = 300;
  for (Impairment* link : {&options.up_a, &options.up_b}) {
    link->loss = 10'000;
    link->duplicate = 10'000;
    link->reorder = 50'000;
    link->reorder_delay = Duration::Microseconds(300);
    link->delay = Duration::Microseconds(200);
    link->bits_per_second = 1'000'000'000;
    link->queue_bytes = 1'000'000;
  }
  return options;
}

TEST_F(Scale, BulkSurvivesLossDuplicationAndReordering) {
  const uint64_t mib = FromEnvironment("USERSTACK_SIM_BULK_MIB", 1024);
  const Bulk bulk = RunBulk(Impaired(), mib << 20, Family::kIpv4);
  // RFC 9438's response function at 1 % loss and a round trip of half a millisecond gives about
  // 230 Mbit/s while no timeout interrupts it; a quarter is what no sound sender falls below.
  EXPECT_GE(bulk.megabits_per_second, 60);
}

TEST_F(Scale, BulkOverIpv6WithLargeSegments) {
  // One seed says little: a lost retransmission costs a timeout of 200 ms (there is no RACK), and a
  // transfer sees between five and twenty of them.
  constexpr uint64_t kSeeds = 6;
  double sum = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    TwoHostsOptions options = Impaired();
    options.device_a.transmit_checksum = options.device_b.transmit_checksum = true;
    options.device_a.tcp_segmentation_max = options.device_b.tcp_segmentation_max = 65535;
    options.seed = seed;
    sum += RunBulk(options, 16 << 20, Family::kIpv6).megabits_per_second;
  }
  std::printf("mean of %d seeds: %.1f Mbit/s\n", static_cast<int>(kSeeds), sum / kSeeds);
  EXPECT_GE(sum / kSeeds, 30);
}

TEST_F(Scale, ACleanLinkIsFilled) {
  TwoHostsOptions options;
  options.check_every = 2000;
  options.verify_frames = false;
  options.trace_frames = 300;
  options.up_a.bits_per_second = options.up_b.bits_per_second = 1'000'000'000;
  options.up_a.queue_bytes = 500'000;
  options.up_a.delay = options.up_b.delay = Duration::Milliseconds(1);
  const Bulk bulk = RunBulk(options, 128 << 20, Family::kIpv4);
  EXPECT_GE(bulk.megabits_per_second, 700);
}

TEST_F(Scale, ALongCleanPathIsFilled) {
  TwoHostsOptions options;
  options.check_every = 2000;
  options.verify_frames = false;
  options.trace_frames = 300;
  options.up_a.bits_per_second = options.up_b.bits_per_second = 100'000'000;
  options.up_a.queue_bytes = 1'250'000;
  options.up_a.delay = options.up_b.delay = Duration::Milliseconds(50);
  const Bulk bulk = RunBulk(options, 128 << 20, Family::kIpv4);
  EXPECT_GE(bulk.megabits_per_second, 60);
}

// Opens, asks, reads the answer, closes; again and again.
class Cycler : public Application {
 public:
  Cycler(Network* network, Host* host, Endpoint server, uint64_t rounds)
      : network_(network), host_(host), server_(server), left_(rounds) {}
  void Begin() {
    socket_ = host_->Open(server_.address.is_v4() ? AF_INET : AF_INET6, SOCK_STREAM, this);
    Check(socket_ != nullptr, "cycler: no socket");
    const int error = host_->Connect(*socket_, server_).error();
    Check(error == EINPROGRESS, "cycler: connect");
    host_->SetInterest(*socket_, kEventOut);
    asked_ = false;
  }
  void OnEvents(SimSocket& socket, EventMask events) override {
    char bytes[64];
    if (!asked_) {
      Check((events & kEventError) == 0, "cycler: connect failed");
      Check(host_->Send(socket, "ping", 4, MSG_NOSIGNAL).ok(), "cycler: send");
      asked_ = true;
      host_->SetInterest(socket, kEventIn);
      return;
    }
    const auto got = host_->Receive(socket, bytes, sizeof bytes);
    if (!got.ok() && got.error() == EAGAIN) return;
    Check(got.ok() && *got == 4, "cycler: wrong answer");
    host_->Close(socket_);
    if (--left_ > 0) Begin();
  }
  bool finished() const override { return left_ == 0; }

 private:
  Network* network_;
  Host* host_;
  Endpoint server_;
  uint64_t left_;
  SimSocket* socket_ = nullptr;
  bool asked_ = false;
};

// Echoes, and closes at the peer's end of stream.
class Echo : public Application {
 public:
  Echo(Network* network, Host* host, Family family, uint16_t port, int backlog) : host_(host) {
    host->EnterCall(network->now());
    listener_ = host->Open(family == Family::kIpv4 ? AF_INET : AF_INET6, SOCK_STREAM, this);
    Check(host->Bind(*listener_, {IpAddress::Any(family), port, 0}).ok(), "echo: bind");
    Check(host->Listen(*listener_, backlog).ok(), "echo: listen");
    host->SetInterest(*listener_, kEventIn);
  }
  void OnEvents(SimSocket& socket, EventMask) override {
    if (&socket == listener_) {
      int error = 0;
      SimSocket* accepted = host_->Accept(socket, this, &error);
      if (accepted == nullptr) return;
      host_->SetInterest(*accepted, kEventIn);
      ++accepted_;
      ++open_;
      return;
    }
    char bytes[256];
    const auto got = host_->Receive(socket, bytes, sizeof bytes);
    if (!got.ok() && got.error() == EAGAIN) return;
    if (got.ok() && *got > 0) {
      Check(host_->Send(socket, bytes, *got, MSG_NOSIGNAL).ok(), "echo: send");
      return;
    }
    host_->Close(&socket);
    --open_;
  }
  bool finished() const override { return true; }
  uint64_t accepted() const { return accepted_; }
  uint64_t open() const { return open_; }
  void CloseListener() { host_->Close(listener_); }

 private:
  Host* host_;
  SimSocket* listener_ = nullptr;
  uint64_t accepted_ = 0, open_ = 0;
};

TEST_F(Scale, ConnectAndCloseCyclesDoNotGrow) {
  const uint64_t cycles = FromEnvironment("USERSTACK_SIM_CYCLES", 100'000);
  constexpr uint64_t kParallel = 20;
  TwoHostsOptions options;
  options.check_every = 20'000;
  options.verify_frames = false;
  options.trace_frames = 300;
  // Ports last as long as TIME_WAIT lets them: 28,000 ports, 60 seconds, so a cycle takes a while.
  options.up_a.delay = options.up_b.delay = Duration::Milliseconds(25);
  Build(options);
  auto& echo = net().AddApplication<Echo>(&net(), &b(), Family::kIpv4, uint16_t{80}, 128);
  std::vector<Cycler*> cyclers;
  for (uint64_t i = 0; i < kParallel; ++i) {
    cyclers.push_back(&net().AddApplication<Cycler>(
        &net(), &a(), Endpoint{b().address(Family::kIpv4), 80, 0}, cycles / kParallel));
    net().At(net().now(), [cycler = cyclers.back()] { cycler->Begin(); });
  }
  size_t used_a = 0, used_b = 0;
  const bool done = net().RunUntil(
      [&] {
        if (used_a == 0 && echo.accepted() > cycles / 2) {  // pools have found their size
          used_a = a().core().arena->used();
          used_b = b().core().arena->used();
        }
        return net().AllFinished();
      },
      Duration::Seconds(100'000));
  EXPECT_TRUE(done);
  EXPECT_EQ(echo.accepted(), cycles);
  EXPECT_LE(a().core().arena->used(), used_a + (256 << 10));
  EXPECT_LE(b().core().arena->used(), used_b + (256 << 10));
  net().RunFor(Duration::Seconds(1));
  echo.CloseListener();
  ExpectClean();
}

// Keeps its connection open; each connection talks now and then.
class Talker : public Application {
 public:
  Talker(Host* host, Endpoint server) : host_(host), server_(server) {}
  void Begin() {
    socket_ = host_->Open(AF_INET, SOCK_STREAM, this);
    Check(socket_ != nullptr, "talker: no socket");
    Check(host_->Connect(*socket_, server_).error() == EINPROGRESS, "talker: connect");
    host_->SetInterest(*socket_, kEventOut);
  }
  void Talk() {
    Check(host_->Send(*socket_, "word", 4, MSG_NOSIGNAL).ok(), "talker: send");
    ++asked_;
  }
  void OnEvents(SimSocket& socket, EventMask events) override {
    if (!connected_) {
      Check((events & kEventError) == 0, "talker: connect failed");
      connected_ = true;
      host_->SetInterest(socket, kEventIn);
      return;
    }
    char bytes[64];
    const auto got = host_->Receive(socket, bytes, sizeof bytes);
    if (!got.ok() && got.error() == EAGAIN) return;
    Check(got.ok() && *got > 0, "talker: connection lost");
    answered_ += *got;
  }
  bool finished() const override { return connected_ && answered_ == asked_ * 4; }
  void Close() { host_->Close(socket_); }

 private:
  Host* host_;
  Endpoint server_;
  SimSocket* socket_ = nullptr;
  bool connected_ = false;
  uint64_t asked_ = 0, answered_ = 0;
};

TEST_F(Scale, ManyConnectionsLiveAtOnce) {
  const uint64_t count = FromEnvironment("USERSTACK_SIM_CONNECTIONS", 10'000);
  TwoHostsOptions options;
  options.check_every = 100'000;
  options.verify_frames = false;
  options.trace_frames = 300;
  options.arena_bytes = size_t{1} << 30;
  options.up_a.delay = options.up_b.delay = Duration::Milliseconds(1);
  options.up_a.loss = options.up_b.loss = 5'000;
  Build(options);
  auto& echo = net().AddApplication<Echo>(&net(), &b(), Family::kIpv4, uint16_t{80}, 4096);
  std::vector<Talker*> talkers;
  for (uint64_t i = 0; i < count; ++i) {
    talkers.push_back(
        &net().AddApplication<Talker>(&a(), Endpoint{b().address(Family::kIpv4), 80, 0}));
    net().At(net().now() + Duration::Microseconds(static_cast<int64_t>(i) * 50),
             [talker = talkers.back()] { talker->Begin(); });
  }
  size_t finished = 0;
  const auto all = [&] {
    while (finished < talkers.size() && talkers[finished]->finished()) ++finished;
    return finished == talkers.size();
  };
  EXPECT_TRUE(net().RunUntil(all, Duration::Seconds(100)));
  EXPECT_TRUE(net().RunUntil([&] { return echo.open() == count; }, Duration::Seconds(100)));
  for (int round = 0; round < 3; ++round) {
    for (uint64_t i = 0; i < count; ++i) {
      net().At(net().now() + Duration::Microseconds(static_cast<int64_t>(i) * 20),
               [talker = talkers[i]] { talker->Talk(); });
    }
    net().RunFor(Duration::Microseconds(static_cast<int64_t>(count) * 20));
    finished = 0;
    EXPECT_TRUE(net().RunUntil(all, Duration::Seconds(100))) << "round " << round;
  }
  EXPECT_EQ(echo.open(), count);
  for (Talker* talker : talkers) talker->Close();
  net().Flush();
  EXPECT_TRUE(net().RunUntil([&] { return echo.open() == 0; }, Duration::Seconds(100)));
  echo.CloseListener();
  ExpectClean();
}

TEST_F(Scale, AnExhaustedArenaRefusesNewSocketsAndKeepsOldOnes) {
  TwoHostsOptions options;
  options.arena_bytes = size_t{8} << 20;
  options.trace_frames = 300;
  options.check_every = 200;
  Build(options);
  const Connected c = Connect(Family::kIpv4);
  std::vector<SimSocket*> sockets;
  int error = 0;
  while (sockets.size() < 200'000) {
    SimSocket* socket = Open(a(), Family::kIpv4);
    if (socket == nullptr) {
      error = errno;
      break;
    }
    sockets.push_back(socket);
  }
  EXPECT_TRUE(error == ENOBUFS || error == ENOMEM) << error;
  EXPECT_GT(sockets.size(), 10u);
  uint64_t sent = 0, received = 0;
  const Instant until = net().now() + Duration::Seconds(600);
  while (received < 500'000 && net().now() < until) {
    const long put = SendContent(c.client, 3, sent, std::min<uint64_t>(500'000 - sent, 20'000));
    if (put > 0) sent += static_cast<uint64_t>(put);
    ASSERT_TRUE(put > 0 || put == -EAGAIN || sent == 500'000) << put;
    const long got = ReceiveContent(c.server, 3, received);
    if (got > 0) received += static_cast<uint64_t>(got);
    if (put <= 0 && got <= 0 && !net().Step()) break;
  }
  EXPECT_EQ(received, 500'000u) << "the old connection lives on";
  for (SimSocket* socket : sockets) Close(socket);
  SimSocket* again = Open(a(), Family::kIpv4);
  EXPECT_NE(again, nullptr) << "what was given back can be had again";
  Close(again);
  Close(c.client);
  Close(c.server);
  Close(c.listener);
  ExpectClean();
}

TEST_F(Scale, AWriteThatFindsNoMemoryWaitsForIt) {
  TwoHostsOptions options;
  options.arena_bytes = size_t{1200} << 10;
  Build(options);
  std::vector<Connected> all;
  for (uint16_t port = 80; port < 84; ++port) all.push_back(Connect(Family::kIpv4, port));
  for (const Connected& c : all) {
    ASSERT_TRUE(a().SetOption(*c.client, SOL_SOCKET, SO_SNDBUF, 1 << 20).ok());
  }
  a().SetInterest(*all.back().client, kEventOut, kWatchEdge);
  // Within one call, so that nothing is acknowledged meanwhile. The last finds nothing left.
  a().EnterCall(net().now());
  std::vector<uint64_t> sent(all.size());
  std::string text(4000, '\0');
  for (size_t i = 0; i < all.size(); ++i) {
    for (;;) {
      FillContent(i, sent[i], reinterpret_cast<uint8_t*>(text.data()), text.size());
      const auto put = a().Send(*all[i].client, text.data(), text.size(), MSG_NOSIGNAL);
      // Linux: sk_stream_wait_memory.
      if (!put.ok()) {
        EXPECT_EQ(put.error(), EAGAIN);
        break;
      }
      sent[i] += *put;
    }
  }
  EXPECT_LT(sent.back(), 100'000u) << "the memory, not the send buffer";
  EXPECT_EQ(all.back().client->socket->pollable.level & kEventOut, 0u) << "poll must not say yes";
  manual_.seen = 0;
  net().Flush();
  std::vector<uint64_t> received(all.size());
  const auto read_all = [&] {
    for (size_t i = 0; i < all.size(); ++i) {
      const long got = ReceiveContent(all[i].server, i, received[i]);
      if (got > 0) received[i] += static_cast<uint64_t>(got);
    }
    return received == sent;
  };
  EXPECT_TRUE(net().RunUntil(read_all, Duration::Seconds(100)));
  EXPECT_NE(manual_.seen & kEventOut, 0u) << "what was acknowledged made room";
  EXPECT_EQ(SendContent(all.back().client, 3, sent.back(), 100), 100);
  for (const Connected& c : all) {
    Close(c.client);
    net().RunFor(Duration::Seconds(1));
    std::string rest;
    (void)Receive(c.server, &rest);
    Close(c.server);
    Close(c.listener);
  }
  ExpectClean();
}

TEST_F(Scale, MemoryHeldBySlowReadersStarvesNobodyForEver) {
  TwoHostsOptions options;
  options.arena_bytes = size_t{16} << 20;
  options.trace_frames = 2000;
  options.check_every = 200;
  Build(options);
  // Many connections whose data nobody reads fill B's buffers; one more must still get through
  // once they are closed, and the stack must stay whole meanwhile.
  SimSocket* listener = Listen(b(), Family::kIpv4, 80, 128);
  std::vector<SimSocket*> clients, servers;
  for (int i = 0; i < 60; ++i) {
    SimSocket* client = Open(a(), Family::kIpv4);
    if (client == nullptr) break;
    (void)a().Connect(*client, {b().address(Family::kIpv4), 80, 0});
    net().Flush();
    net().RunFor(Duration::Milliseconds(5));
    clients.push_back(client);
    if (SimSocket* server = TryAccept(listener)) servers.push_back(server);
  }
  for (int round = 0; round < 100; ++round) {
    for (SimSocket* client : clients) (void)SendContent(client, 5, 0, 20'000);
    net().RunFor(Duration::Milliseconds(10));
  }
  net().RunFor(Duration::Seconds(30));
  for (SimSocket* client : clients) Close(client);
  for (SimSocket* server : servers) Close(server);
  net().RunFor(Duration::Seconds(1));
  SimSocket* client = Open(a(), Family::kIpv4);
  ASSERT_NE(client, nullptr);
  EXPECT_EQ(a().Connect(*client, {b().address(Family::kIpv4), 80, 0}).error(), EINPROGRESS);
  net().Flush();
  SimSocket* server = nullptr;
  EXPECT_TRUE(net().RunUntil(
      [&] {
        while (SimSocket* next = TryAccept(listener)) {
          if (b().PeerName(*next) == a().LocalName(*client)) {
            server = next;
            return true;
          }
          Close(next);
        }
        return false;
      },
      Duration::Seconds(100)));
  ASSERT_NE(server, nullptr);
  EXPECT_EQ(SendContent(client, 6, 0, 1000), 1000);
  net().RunFor(Duration::Seconds(3));
  EXPECT_EQ(ReceiveContent(server, 6, 0), 1000);
  Close(client);
  Close(server);
  Close(listener);
  ExpectClean(Duration::Seconds(1200));
}

}  // namespace
}  // namespace userstack::testing
