// Stack: creation, the protocol switch, loopback, both transports between two stacks, arenas that
// run out.
#include <gtest/gtest.h>
#include <sys/ioctl.h>

#include "tests/netstack/socket/fixture.h"

namespace userstack {
namespace {

constexpr EventMask kReadable = kEventIn | kEventReadNormal;

TEST_F(StackTest, UdpGoesOverTheWireAndBack) {
  for (const bool v6 : {false, true}) {
    Sock client = Open(a(), v6 ? AF_INET6 : AF_INET, SOCK_DGRAM);
    Sock server = Open(b(), v6 ? AF_INET6 : AF_INET, SOCK_DGRAM);
    ASSERT_EQ(Bind(server, At(v6 ? "fd00::2" : "10.0.0.2", 7)), 0);
    ASSERT_EQ(SendTo(client, "hello", At(v6 ? "fd00::2" : "10.0.0.2", 7)), 5);
    const Datagram got = Receive(server);
    EXPECT_EQ(got.text, "hello");
    const std::string port = LocalName(client).substr(LocalName(client).rfind(':'));
    EXPECT_EQ(got.from, (v6 ? "[fd00::1]" : "10.0.0.1") + port);
    Close(&client);
    Close(&server);
  }
}

TEST_F(StackTest, UdpLoopsBackInsideAStackToEveryOwnAddress) {
  struct Case {
    int domain;
    const char* address;
  };
  for (const Case& c :
       {Case{AF_INET, "127.0.0.1"}, Case{AF_INET, "127.1.2.3"}, Case{AF_INET, "10.0.0.1"},
        Case{AF_INET6, "::1"}, Case{AF_INET6, "fd00::1"}, Case{AF_INET6, "::ffff:10.0.0.1"}}) {
    SCOPED_TRACE(c.address);
    Sock server = Open(a(), c.domain, SOCK_DGRAM);
    Sock client = Open(a(), c.domain, SOCK_DGRAM);
    ASSERT_EQ(Bind(server, At(c.address, 9)), 0);
    ASSERT_EQ(Connect(client, At(c.address, 9)), 0);
    ASSERT_EQ(Send(client, "self"), 4);
    const Datagram got = Receive(server);
    EXPECT_EQ(got.text, "self");
    EXPECT_EQ(got.from, LocalName(client));
    EXPECT_TRUE(TakeFrames(a()).empty());
    Close(&client);
    Close(&server);
  }
}

TEST_F(StackTest, KnowsWhichAddressesItsOwnSocketsServe) {
  struct Case {
    int domain;
    const char* bound;
    const char* asked;
    bool served;
  };
  for (const int type : {SOCK_STREAM, SOCK_DGRAM}) {
    const SocketKind kind = type == SOCK_STREAM ? SocketKind::kTcp : SocketKind::kUdp;
    for (const Case& c :
         {Case{AF_INET, "0.0.0.0", "127.0.0.1", true}, Case{AF_INET, "0.0.0.0", "127.9.9.9", true},
          Case{AF_INET, "0.0.0.0", "10.0.0.1", true}, Case{AF_INET, "0.0.0.0", "10.0.0.2", false},
          Case{AF_INET, "0.0.0.0", "::1", false}, Case{AF_INET, "10.0.0.1", "127.0.0.1", false},
          Case{AF_INET, "127.0.0.1", "127.0.0.1", true}, Case{AF_INET6, "::", "::1", true},
          Case{AF_INET6, "::", "127.0.0.1", true}, Case{AF_INET6, "fd00::1", "::1", false}}) {
      SCOPED_TRACE(std::string(c.bound) + " asked for " + c.asked);
      Sock server = Open(a(), c.domain, type);
      ASSERT_EQ(Bind(server, At(c.bound, 80)), 0);
      const Endpoint asked{Parse(c.asked), 80, 0};
      if (type == SOCK_STREAM) {
        EXPECT_FALSE(a().stack->IsServed(kind, asked)) << "bound only";
        ASSERT_EQ(Listen(server), 0);
      }
      EXPECT_EQ(a().stack->IsServed(kind, asked), c.served);
      EXPECT_FALSE(a().stack->IsServed(kind, {asked.address, 81, 0}));
      Close(&server);
      EXPECT_FALSE(a().stack->IsServed(kind, asked));
    }
  }
}

TEST_F(StackTest, TcpConnectsSendsAndClosesOverTheWire) {
  for (const bool v6 : {false, true}) {
    const char* address = v6 ? "fd00::2" : "10.0.0.2";
    Sock listener = Open(b(), v6 ? AF_INET6 : AF_INET, SOCK_STREAM);
    ASSERT_EQ(Bind(listener, At(address, 80)), 0);
    ASSERT_EQ(Listen(listener), 0);
    Sock client = Open(a(), v6 ? AF_INET6 : AF_INET, SOCK_STREAM);
    ASSERT_EQ(Connect(client, At(address, 80)), -EINPROGRESS);
    EXPECT_NE(Events(client) & kEventOut, 0u);
    EXPECT_EQ(Get(client, SOL_SOCKET, SO_ERROR), 0);
    EXPECT_NE(Events(listener) & kEventIn, 0u);
    Sock server;
    ASSERT_EQ(Accept(listener, &server), 0);
    EXPECT_EQ(PeerName(server), LocalName(client));
    EXPECT_EQ(Send(client, "request"), 7);
    EXPECT_EQ(Receive(server).text, "request");
    EXPECT_EQ(Send(server, std::string(5000, 'x')), 5000);
    Run(Duration::Milliseconds(300));
    EXPECT_EQ(Receive(client).text, std::string(5000, 'x'));
    Close(&client);
    EXPECT_EQ(Receive(server).result, 0);
    Close(&server);
    Close(&listener);
    Run(Duration::Seconds(130));
    EXPECT_FALSE(a().stack->HasUnfinishedWork(true));
    EXPECT_FALSE(b().stack->HasUnfinishedWork(true));
  }
}

class Mending : public StackTest {
 protected:
  struct Pair {
    Sock client, server;
  };
  // What of `sent` has not been received yet comes, too.
  void ExpectAllAndClose(Pair* pair, const std::string& sent, std::string received) {
    for (int i = 0; i < 2000 && received.size() < sent.size(); ++i) {
      Run(Duration::Milliseconds(1));
      received += Receive(pair->server).text;
    }
    EXPECT_TRUE(received == sent);
    Close(&pair->client);
    Close(&pair->server);
  }
  Pair Connected(uint16_t port) {
    Sock listener = Tcp4(b());
    EXPECT_EQ(Bind(listener, At("10.0.0.2", port)), 0);
    EXPECT_EQ(Listen(listener), 0);
    Pair pair{Tcp4(a()), {}};
    EXPECT_EQ(Connect(pair.client, At("10.0.0.2", port)), -EINPROGRESS);
    EXPECT_EQ(Accept(listener, &pair.server), 0);
    Close(&listener);
    return pair;
  }
  void Mend(Node& node) {
    const tcp::Connection* examined = nullptr;
    node.stack->Mend(&examined, now());
    EXPECT_EQ(examined, nullptr);
    node.stack->CheckInvariants();
  }
  // Sends `sent` and mends now and then; what came.
  std::string Transfer(const Pair& pair, const std::string& sent) {
    std::string received;
    size_t offset = 0;
    for (int round = 0; round < 20000 && received.size() < sent.size(); ++round) {
      const long n = Send(pair.client, sent.substr(offset, 9000), MSG_DONTWAIT);
      if (n > 0) offset += static_cast<size_t>(n);
      Mend(a());
      Mend(b());
      Run(Duration::Milliseconds(1));
      received += Receive(pair.server).text;
    }
    return received;
  }
};

TEST_F(Mending, LeavesWhatIsWholeAsItIs) {
  Sock datagrams = Udp4(a());
  ASSERT_EQ(Bind(datagrams, At("10.0.0.1", 7)), 0);
  Pair pair = Connected(80);
  std::string sent;
  for (int i = 0; i < 300000; ++i) sent += static_cast<char>(i * 7 + i / 251);
  int frames = 0;
  lose_ = [&](const testing::WireFrame&) { return ++frames % 37 == 0; };
  EXPECT_TRUE(Transfer(pair, sent) == sent);
  lose_ = nullptr;
  Close(&pair.client);
  Run(Duration::Seconds(5));
  Mend(a());
  EXPECT_EQ(Receive(pair.server).result, 0);
  Close(&pair.server);
  Mend(b());
  Sock other = Udp4(b());
  ASSERT_EQ(SendTo(other, "found", At("10.0.0.1", 7)), 5);
  EXPECT_EQ(Receive(datagrams).text, "found");
  Close(&other);
  Close(&datagrams);
  Run(Duration::Seconds(130));
  EXPECT_FALSE(a().stack->HasUnfinishedWork(true));
  EXPECT_FALSE(b().stack->HasUnfinishedWork(true));
}

TEST_F(Mending, MakesAnewWhatTheListsCanTell) {
  Pair pair = Connected(80);
  wire_runs_ = false;
  ASSERT_EQ(Send(pair.client, std::string(20000, 'a')), 20000);
  tcp::Connection& c = *pair.client.raw->tcp;
  c.sent_tree = {};
  c.sacked_bytes = 1;
  c.received_memory = 99;
  c.next_chunk = nullptr;
  c.send.end = c.send.end - 1;  // the write's last step
  if (c.sent.back() != nullptr) c.send.next = c.sent.back()->begin;
  a().stack->core().timers.Disarm(&c.retransmit_timer);
  Mend(a());
  wire_runs_ = true;
  Run(Duration::Seconds(3));
  EXPECT_EQ(Receive(pair.server).text, std::string(20000, 'a'));
  Close(&pair.client);
  Close(&pair.server);
}

TEST_F(Mending, ForgetsASocketWhoseEndpointWasClosedAlready) {
  Sock udp = Udp4(a());
  ASSERT_EQ(Bind(udp, At("0.0.0.0", 5000)), 0);
  udp.raw->udp->pollable = nullptr;  // what Udp::Close does first, and then its process dies
  Mend(a());
  a().stack->CheckInvariants();
  Sock again = Udp4(a());
  EXPECT_EQ(Bind(again, At("0.0.0.0", 5000)), 0) << "its port is free";
  Close(&again);
}

TEST_F(Mending, ForgetsAReservationThatADeathCutShort) {
  Pair pair = Connected(80);
  ASSERT_EQ(Send(pair.client, "begin "), 6);
  for (const size_t wanted : {size_t{100}, size_t{60000}}) {  // in the last chunk, and in one more
    const Result<SendSpace> space = a().stack->ReserveSend(*pair.client.raw, wanted, now());
    ASSERT_TRUE(space.ok());
    std::memset((*space).bytes, 'x', (*space).length);
    Mend(a());
  }
  ASSERT_EQ(Send(pair.client, "end"), 3);
  Run(Duration::Seconds(1));
  EXPECT_EQ(Receive(pair.server).text, "begin end");
  Close(&pair.client);
  Close(&pair.server);
}

TEST_F(Mending, GivesUpOneConnectionAndKeepsTheOthers) {
  Pair torn = Connected(80);
  Pair whole = Connected(81);
  wire_runs_ = false;
  ASSERT_EQ(Send(torn.client, std::string(20000, 'a')), 20000);
  torn.client.raw->tcp->chunks.front()->length = 1u << 31;
  a().stack->Condemn(torn.client.raw->tcp);
  Mend(a());
  wire_runs_ = true;
  EXPECT_EQ(Get(torn.client, SOL_SOCKET, SO_ERROR), ECONNRESET);
  EXPECT_EQ(Transfer(whole, std::string(30000, 'b')), std::string(30000, 'b'));
  Sock* const all[] = {&torn.client, &torn.server, &whole.client, &whole.server};
  for (Sock* s : all) Close(s);
  Run(Duration::Seconds(200));
  EXPECT_FALSE(a().stack->HasUnfinishedWork(true));
}

class Reserving : public Mending {
 protected:
  // Reserves `wanted`, fills in as much of `text` as there is room for; how much that was, or
  // -errno.
  long Put(Sock& sock, const std::string& text, size_t wanted, bool more) {
    const Result<SendSpace> space = a().stack->ReserveSend(*sock.raw, wanted, now());
    if (!space.ok()) return -space.error();
    const size_t n = std::min<size_t>(text.size(), (*space).length);
    std::memcpy((*space).bytes, text.data(), n);
    a().stack->CommitSend(*sock.raw, n);
    a().stack->SendCommitted(*sock.raw, more, now());
    a().stack->CheckInvariants();
    Run(Duration::Milliseconds(1));
    return static_cast<long>(n);
  }
};

TEST_F(Reserving, WhatIsPutIntoTheReservationArrivesInTheOrderOfTheCalls) {
  Pair pair = Connected(80);
  std::string sent, received;
  for (int i = 0; i < 200; ++i) {
    const std::string part(static_cast<size_t>(1 + i * 997 % 70000),
                           static_cast<char>('a' + i % 26));
    const long n = i % 3 == 0 ? Send(pair.client, part, MSG_DONTWAIT)
                              : Put(pair.client, part, part.size() + i % 2 * 5000, i % 5 == 0);
    ASSERT_TRUE(n > 0 || n == -EAGAIN) << n;
    if (n > 0) sent += part.substr(0, static_cast<size_t>(n));
    received += Receive(pair.server).text;
  }
  ExpectAllAndClose(&pair, sent, received);
}

TEST_F(Reserving, AReservationOfWhichNothingCameLeavesNothing) {
  Pair pair = Connected(80);
  EXPECT_EQ(Put(pair.client, "", 60000, true), 0);
  EXPECT_EQ(Put(pair.client, "held", 4, true), 4);
  Run(Duration::Milliseconds(20));
  EXPECT_EQ(Receive(pair.server).result, -EAGAIN);
  EXPECT_EQ(Put(pair.client, "", 100, false), 0);  // a file that ended early: what is held goes
  Run(Duration::Milliseconds(20));
  EXPECT_EQ(Receive(pair.server).text, "held");
  Close(&pair.client);
  Close(&pair.server);
}

TEST_F(Reserving, SeveralReservationsLeaveInOneFrame) {
  Pair pair = Connected(80);
  TakeFrames(a());
  for (const char* part : {"one ", "two ", "three"}) {
    const Result<SendSpace> space = a().stack->ReserveSend(*pair.client.raw, 100, now());
    ASSERT_TRUE(space.ok());
    std::memcpy((*space).bytes, part, std::strlen(part));
    a().stack->CommitSend(*pair.client.raw, std::strlen(part));
    a().stack->CheckInvariants();
  }
  a().stack->SendCommitted(*pair.client.raw, false, now());
  Pump();
  EXPECT_EQ(TakeFrames(a()).size(), 1u);
  EXPECT_EQ(Receive(pair.server).text, "one two three");
  Close(&pair.client);
  Close(&pair.server);
}

TEST_F(Reserving, WhatADeathLeftUnsentIsSentAfterwards) {
  Pair pair = Connected(80);
  const Result<SendSpace> space = a().stack->ReserveSend(*pair.client.raw, 4, now());
  ASSERT_TRUE(space.ok());
  std::memcpy((*space).bytes, "left", 4);
  a().stack->CommitSend(*pair.client.raw, 4);
  Mend(a());  // SendCommitted never came
  Run(Duration::Seconds(10));
  EXPECT_EQ(Receive(pair.server).text, "left");
  Close(&pair.client);
  Close(&pair.server);
}

TEST_F(Reserving, SaysWhatSendWouldSay) {
  Sock fresh = Tcp4(a());
  EXPECT_EQ(Put(fresh, "x", 1, false), -EPIPE);
  Close(&fresh);
  Pair pair = Connected(80);
  wire_runs_ = false;
  const std::string much(60000, 'x');
  long n = 0;
  for (int i = 0; i < 1000 && n >= 0; ++i) n = Put(pair.client, much, much.size(), true);
  EXPECT_EQ(n, -EAGAIN);
  wire_runs_ = true;
  Run(Duration::Seconds(1));
  Close(&pair.server);  // with unread data: a reset
  Run(Duration::Seconds(1));
  EXPECT_EQ(Put(pair.client, "x", 1, false), -ECONNRESET);
  EXPECT_EQ(Put(pair.client, "x", 1, false), -EPIPE);
  Close(&pair.client);
}

// Memory that is filled while others use the stack.
class CopyingApart : public Mending {
 protected:
  Pair WithRoom() {
    Pair pair = Connected(80);
    EXPECT_EQ(Set(pair.client, SOL_SOCKET, SO_SNDBUF, 400000), 0);
    return pair;
  }
  // How many bytes were reserved, and filled from `text`.
  uint32_t Reserve(Sock& sock, const std::string& text, tcp::SendChunks* chunks) {
    const uint32_t reserved = a().stack->ReserveApart(*sock.raw, text.size(), chunks);
    size_t done = 0;
    for (tcp::SendChunk* k = chunks->front(); k != nullptr; k = chunks->Next(k)) {
      std::memcpy(k->buffer->bytes, text.data() + done, k->length);
      done += k->length;
    }
    EXPECT_EQ(done, reserved);
    return reserved;
  }
  size_t Commit(Sock& sock, tcp::SendChunks* chunks, bool more = false) {
    const size_t committed = a().stack->CommitApart(*sock.raw, chunks, more, now());
    a().stack->CheckInvariants();
    return committed;
  }
};

TEST_F(CopyingApart, WhatIsFilledMeanwhileArrivesInTheOrderOfTheCommits) {
  Pair pair = WithRoom();
  std::string sent, received;
  for (int i = 0; i < 60; ++i) {
    const std::string part(static_cast<size_t>(65536 + i * 9973 % 300000),
                           static_cast<char>('a' + i % 26));
    tcp::SendChunks chunks;
    const uint32_t reserved = Reserve(pair.client, part, &chunks);
    EXPECT_EQ(reserved % kLargeBufferBytes, 0u);
    const std::string between(static_cast<size_t>(1 + i * 31), 'z');  // by another thread
    if (const long n = Send(pair.client, between, MSG_DONTWAIT); n > 0) {
      sent += between.substr(0, static_cast<size_t>(n));
    }
    Run(Duration::Milliseconds(1));
    EXPECT_EQ(Commit(pair.client, &chunks, i % 3 == 0), reserved);
    sent += part.substr(0, reserved);
    received += Receive(pair.server).text;
  }
  EXPECT_GT(sent.size(), 1u << 20);
  ASSERT_EQ(Send(pair.client, "end"), 3);
  sent += "end";
  ExpectAllAndClose(&pair, sent, received);
}

TEST_F(CopyingApart, AStreamThatEndedMeanwhileTakesNothingAndKeepsItsErrorForTheNextCall) {
  Pair pair = WithRoom();
  ASSERT_EQ(Send(pair.client, "unread"), 6);
  Run(Duration::Milliseconds(10));
  const uint64_t before = a().stack->core().buffers.bytes_in_use();
  tcp::SendChunks chunks;
  EXPECT_EQ(Reserve(pair.client, std::string(200000, 'x'), &chunks), 3 * kLargeBufferBytes);
  Close(&pair.server);  // with unread data: a reset
  Run(Duration::Milliseconds(10));
  EXPECT_EQ(Commit(pair.client, &chunks), 0u);
  EXPECT_TRUE(chunks.empty());
  EXPECT_EQ(a().stack->core().buffers.bytes_in_use(), before);
  EXPECT_EQ(Reserve(pair.client, std::string(200000, 'x'), &chunks), 0u);
  EXPECT_EQ(Send(pair.client, "x"), -ECONNRESET);
  Close(&pair.client);
}

TEST_F(CopyingApart, NoMoreIsReservedThanASendWouldTake) {
  Pair pair = WithRoom();
  tcp::SendChunks chunks;
  EXPECT_EQ(Reserve(pair.client, std::string(kLargeBufferBytes - 1, 'x'), &chunks), 0u);
  wire_runs_ = false;
  const std::string much(1 << 20, 'x');
  for (uint32_t n = 1; n != 0;) {
    n = Reserve(pair.client, much, &chunks);
    EXPECT_EQ(Commit(pair.client, &chunks), n);
  }
  const long rest = Send(pair.client, much, MSG_DONTWAIT);
  EXPECT_LT(rest, static_cast<long>(kLargeBufferBytes));
  wire_runs_ = true;
  Close(&pair.client);
  Close(&pair.server);
}

TEST_F(CopyingApart, WhatADeadProcessWasFillingGoesBack) {
  Pair pair = WithRoom();
  const uint64_t before = a().stack->core().buffers.bytes_in_use();
  tcp::SendChunks chunks;
  EXPECT_NE(Reserve(pair.client, std::string(200000, 'x'), &chunks), 0u);
  Mend(a());
  a().stack->DropApart(&chunks);
  EXPECT_EQ(a().stack->core().buffers.bytes_in_use(), before);
  Close(&pair.client);
  Close(&pair.server);
}

TEST_F(StackTest, TcpTalksToItselfOverLoopback) {
  Sock listener = Tcp4(a());
  ASSERT_EQ(Bind(listener, At("127.0.0.1", 80)), 0);
  ASSERT_EQ(Listen(listener), 0);
  Sock client = Tcp4(a());
  const long connected = Connect(client, At("127.0.0.1", 80));
  EXPECT_TRUE(connected == 0 || connected == -EINPROGRESS);
  Sock server;
  ASSERT_EQ(Accept(listener, &server), 0);
  std::string received;
  const std::string sent(300000, 'q');
  size_t offset = 0;
  for (int round = 0; round < 1000 && received.size() < sent.size(); ++round) {
    const long n = Send(client, sent.substr(offset, 65536));
    if (n > 0) offset += static_cast<size_t>(n);
    Run(Duration::Milliseconds(1));
    const Datagram got = Receive(server);
    received += got.text;
  }
  EXPECT_EQ(received.size(), sent.size());
  EXPECT_TRUE(TakeFrames(a()).empty());
  Close(&client);
  Close(&server);
  Close(&listener);
}

TEST_F(StackTest, ConnectionToAClosedPortIsRefused) {
  Sock client = Tcp4(a());
  ASSERT_EQ(Connect(client, At("10.0.0.2", 81)), -EINPROGRESS);
  EXPECT_NE(Events(client) & kEventError, 0u);
  EXPECT_EQ(Get(client, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
  Close(&client);
}

TEST_F(StackTest, AnUnknownProtocolIsAnsweredAsUnreachable) {
  // A packet of protocol 200 to b, as if from a.
  std::vector<uint8_t> bytes(14 + 20 + 8);
  bytes[5] = 2;
  bytes[0] = 2;
  bytes[6] = 2;
  bytes[11] = 1;
  bytes[12] = 8;
  bytes[14] = 0x45;
  Store16(&bytes[16], 28);
  bytes[22] = 64;
  bytes[23] = 200;
  Store32(&bytes[26], 0x0a000001);
  Store32(&bytes[30], 0x0a000002);
  testing::FixChecksums(&bytes);
  Packet* packet = testing::Deliver(b().stack->core(), {bytes, {}}, kWireInterface, now(), {});
  b().stack->Input(&packet, 1, now());
  Pump();
  Run(Duration::Milliseconds(10));
  bool answered = false;
  for (const auto& frame : TakeFrames(b())) {
    answered |= frame.size() > 35 && frame[12] == 8 && frame[13] == 0 && frame[23] == 1 &&
                frame[34] == 3 && frame[35] == 2;
  }
  EXPECT_TRUE(answered);
  EXPECT_EQ(b().stack->core().counters.Get(Counter::kIpInUnknownProtocols), 1u);
}

TEST_F(StackTest, SocketsOfUnknownKindsAreRefusedAsLinuxDoes) {
  EXPECT_EQ(OpenError(a(), AF_UNIX, SOCK_STREAM, 0), EAFNOSUPPORT);
  EXPECT_EQ(OpenError(a(), AF_INET, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT);
  EXPECT_EQ(OpenError(a(), AF_INET, SOCK_DGRAM, IPPROTO_TCP), EPROTONOSUPPORT);
  EXPECT_EQ(OpenError(a(), AF_INET, SOCK_SEQPACKET, 0), ESOCKTNOSUPPORT);
  EXPECT_EQ(OpenError(a(), AF_INET, SOCK_STREAM, -1), EINVAL);
  EXPECT_EQ(OpenError(a(), AF_INET, SOCK_STREAM, 256), EINVAL);
  EXPECT_EQ(OpenError(a(), AF_INET6, SOCK_STREAM, IPPROTO_TCP), 0);
}

TEST_F(StackTest, IoctlsTellWhatWaits) {
  Sock server = Udp4(b());
  ASSERT_EQ(Bind(server, At("10.0.0.2", 7)), 0);
  Sock client = Udp4(a());
  EXPECT_EQ(b().stack->Ioctl(*server.raw, FIONREAD, now()).value(), 0);
  SendTo(client, "12345", At("10.0.0.2", 7));
  SendTo(client, "12345678", At("10.0.0.2", 7));
  EXPECT_EQ(b().stack->Ioctl(*server.raw, FIONREAD, now()).value(), 5);
  Receive(server);
  EXPECT_EQ(b().stack->Ioctl(*server.raw, FIONREAD, now()).value(), 8);
  EXPECT_EQ(b().stack->Ioctl(*server.raw, 0x12345678, now()).error(), ENOTTY);
}

TEST_F(StackTest, AFullArenaRefusesNewSocketsAndOldOnesLiveOn) {
  Options small;
  small.arena_bytes = size_t{4} << 20;
  Build(small);
  Sock server = Udp4(b());
  ASSERT_EQ(Bind(server, At("10.0.0.2", 7)), 0);
  Sock client = Udp4(a());
  ASSERT_EQ(Connect(client, At("10.0.0.2", 7)), 0);
  std::vector<Sock> hoard;
  int error = 0;
  for (int i = 0; i < 200000 && error == 0; ++i) {
    const Result<Socket*> made =
        a().stack->CreateSocket(AF_INET, i % 2 == 0 ? SOCK_STREAM : SOCK_DGRAM, 0);
    error = made.error();
    if (made.ok()) hoard.push_back({&a(), *made});
  }
  EXPECT_TRUE(error == ENOBUFS || error == ENOMEM) << error;
  EXPECT_GT(hoard.size(), 50u);
  EXPECT_EQ(Send(client, "still here"), 10);
  EXPECT_EQ(Receive(server).text, "still here");
  for (Sock& s : hoard) a().stack->DestroySocket(s.raw, now());
  Sock again = Tcp4(a());
  EXPECT_NE(again.raw, nullptr);
}

TEST_F(StackTest, AnArenaThatIsTooSmallMakesNoStack) {
  for (const size_t bytes : {size_t{4096}, size_t{1} << 16, size_t{1} << 20, size_t{2} << 20}) {
    TestMemory memory(bytes);
    Arena* arena = Arena::Format(memory.data(), memory.size());
    Stack* stack = Stack::Create(arena, {}, now());
    if (stack != nullptr) stack->CheckInvariants();
    EXPECT_TRUE(bytes >= size_t{1} << 20 || stack == nullptr);
  }
}

TEST_F(StackTest, ADeafReceiverDoesNotStopTheSender) {
  Sock server = Udp4(b());
  ASSERT_EQ(Bind(server, At("10.0.0.2", 7)), 0);
  Sock client = Udp4(a());
  ASSERT_EQ(Connect(client, At("10.0.0.2", 7)), 0);
  for (int i = 0; i < 2000; ++i) ASSERT_EQ(Send(client, std::string(1000, 'x')), 1000);
  EXPECT_GT(b().stack->core().counters.Get(Counter::kUdpReceiveBufferErrors), 0u);
  EXPECT_EQ(Events(server) & kReadable, kReadable);
  int received = 0;
  while (Receive(server).result == 1000) ++received;
  EXPECT_GT(received, 100);
  EXPECT_EQ(b().stack->core().packets.live(), 0u);
}

}  // namespace
}  // namespace userstack
