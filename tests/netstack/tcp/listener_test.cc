// Listeners: backlog, SYN queue, cookies, deferred accept, ports and their sharing.
#include "tests/netstack/tcp/host.h"

namespace userstack::testing {
namespace {

using namespace wire;  // NOLINT: TcpFlag names

class Listening : public TcpScript {
 protected:
  Seg SynFrom(uint16_t port, bool timestamps = true) {
    Seg syn;
    syn.source_port = port;
    syn.sequence = kPeerInitial;
    syn.flags = kTcpSyn;
    syn.options = timestamps ? PeerOptions() : MssOnly();
    syn.options.timestamp_value = peer_timestamp_;
    return syn;
  }
  Seg AckOf(const Seg& answer, std::string payload = "") {
    Seg ack;
    ack.source_port = answer.destination_port;
    ack.sequence = kPeerInitial + 1;
    ack.acknowledgment = answer.sequence + 1;
    ack.flags = kTcpAck;
    ack.payload = std::move(payload);
    if (answer.options.has_timestamps) {
      ack.options.has_timestamps = true;
      ack.options.timestamp_value = peer_timestamp_ + 1;
      ack.options.timestamp_echo_reply = answer.options.timestamp_value;
    }
    return ack;
  }
  // The SYN-ACK for a SYN from `port`, if one came.
  bool Begin(uint16_t port, Seg* answer, bool timestamps = true) {
    SkipOut();
    In(SynFrom(port, timestamps));
    if (!HasOut()) return false;
    *answer = Out();
    return answer->Has(kTcpSyn | kTcpAck);
  }
  bool Complete(uint16_t port) {
    Seg answer;
    if (!Begin(port, &answer)) return false;
    In(AckOf(answer));
    return true;
  }
};

TEST_F(Listening, TakesBacklogPlusOneConnections) {
  TcpHost::Socket* l = host().Listen(80, 2, now());
  for (uint16_t i = 0; i < 3; ++i) EXPECT_TRUE(Complete(static_cast<uint16_t>(1000 + i)));
  Seg answer;
  EXPECT_FALSE(Begin(1003, &answer));  // Linux: silently dropped
  EXPECT_EQ(host().Count(Counter::kTcpListenOverflows), 1u);
  EXPECT_NE(host().Accept(l, now()), nullptr);
  EXPECT_TRUE(Complete(1004));
  int accepted = 0;
  while (host().Accept(l, now()) != nullptr) ++accepted;
  EXPECT_EQ(accepted, 3);
}

TEST_F(Listening, PollShowsTheAcceptQueue) {
  TcpHost::Socket* l = host().Listen(80, 4, now());
  EXPECT_EQ(host().Level(l), 0u);
  EXPECT_TRUE(Complete(1000));
  EXPECT_EQ(host().Level(l), kEventIn | kEventReadNormal);
  host().Accept(l, now());
  EXPECT_EQ(host().Level(l), 0u);
}

TEST_F(Listening, AFullAcceptQueueForgetsTheLastAckAndTakesItLater) {
  TcpHost::Socket* l = host().Listen(80, 0, now());
  Seg first, second;
  ASSERT_TRUE(Begin(1000, &first));
  In(AckOf(first));
  SkipOut();
  // The queue holds one; a handshake begun before it was full cannot end.
  EXPECT_FALSE(Begin(1001, &second));
  EXPECT_NE(host().Accept(l, now()), nullptr);
  ASSERT_TRUE(Begin(1001, &second));
  In(AckOf(second));
  EXPECT_NE(host().Accept(l, now()), nullptr);
}

TEST_F(Listening, ASynAckIsRetransmittedFiveTimes) {
  host().Listen(80, 4, now());
  Seg answer;
  ASSERT_TRUE(Begin(1000, &answer));
  int again = 0;
  for (int i = 0; i < 70; ++i) {
    Advance(Duration::Seconds(1));
    while (HasOut()) {
      EXPECT_EQ(Out().sequence, answer.sequence);
      ++again;
    }
  }
  EXPECT_EQ(again, 5);
  In(AckOf(answer));
  EXPECT_TRUE(Out().Has(kTcpReset));  // forgotten
}

TEST_F(Listening, ARetransmittedSynIsAnsweredAgain) {
  host().Listen(80, 4, now());
  Seg first, second;
  ASSERT_TRUE(Begin(1000, &first));
  ASSERT_TRUE(Begin(1000, &second));
  EXPECT_EQ(first.sequence, second.sequence);
}

TEST_F(Listening, AResetEndsAHandshakeOnlyWhenExact) {
  host().Listen(80, 4, now());
  Seg answer;
  ASSERT_TRUE(Begin(1000, &answer));
  Seg reset;
  reset.source_port = 1000;
  reset.flags = kTcpReset;
  reset.sequence = kPeerInitial + 50;
  In(reset);
  In(AckOf(answer));
  EXPECT_FALSE(HasOut());  // still there
}

TEST_F(Listening, AWrongAckInAHandshakeIsReset) {
  host().Listen(80, 4, now());
  Seg answer;
  ASSERT_TRUE(Begin(1000, &answer));
  Seg wrong = AckOf(answer);
  wrong.acknowledgment += 7;
  In(wrong);
  const Seg reset = Out();
  EXPECT_EQ(reset.flags, kTcpReset);
  EXPECT_EQ(reset.sequence, answer.sequence + 8);
}

TEST_F(Listening, CookiesServeWhenTheSynQueueIsFull) {
  TcpHost::Socket* l = host().Listen(80, 4, now());
  Seg unused;
  for (uint16_t i = 0; i < 4; ++i) {
    ASSERT_TRUE(Begin(static_cast<uint16_t>(2000 + i), &unused));
  }
  Seg answer;
  ASSERT_TRUE(Begin(3000, &answer));
  EXPECT_EQ(host().Count(Counter::kTcpSynCookiesSent), 1u);
  EXPECT_EQ(answer.options.window_scale, 7);
  In(AckOf(answer, "request"));
  EXPECT_EQ(host().Count(Counter::kTcpSynCookiesReceived), 1u);
  TcpHost::Socket* s = host().Accept(l, now());
  ASSERT_NE(s, nullptr);
  EXPECT_EQ(Read(s), "request");
  // What the SYN offered is known again from our timestamp.
  const LinuxInfo info = host().Info(s, now());
  EXPECT_EQ(info.tcpi_options & 7, 7);
  EXPECT_EQ(info.tcpi_snd_wscale, 7);
  EXPECT_EQ(info.tcpi_snd_mss, 1448u);
}

// The ACK of the cookie is lost, a copy of the SYN comes late and finds room in the queue, and is
// answered with another number: the peer is established and says so.
TEST_F(Listening, ACookieIsGoodAfterALateCopyOfItsSynBeganAHandshake) {
  TcpHost::Socket* l = host().Listen(80, 1, now());
  Seg other, cookie, late;
  ASSERT_TRUE(Begin(2000, &other));
  ASSERT_TRUE(Begin(3000, &cookie));
  EXPECT_EQ(host().Count(Counter::kTcpSynCookiesSent), 1u);
  Seg reset;
  reset.source_port = 2000;
  reset.flags = kTcpReset;
  reset.sequence = kPeerInitial + 1;
  In(reset);
  ASSERT_TRUE(Begin(3000, &late));
  ASSERT_NE(late.sequence, cookie.sequence);
  In(AckOf(cookie, "request"));
  Advance(Duration::Milliseconds(1));
  EXPECT_FALSE(Out().Has(kTcpReset));
  TcpHost::Socket* s = host().Accept(l, now());
  ASSERT_NE(s, nullptr);
  EXPECT_EQ(Read(s), "request");
}

TEST_F(Listening, ACookieWithoutTimestampsKeepsOnlyTheMss) {
  TcpHost::Socket* l = host().Listen(80, 1, now());
  Seg answer;
  ASSERT_TRUE(Begin(2000, &answer, false));
  ASSERT_TRUE(Begin(3000, &answer, false));
  EXPECT_EQ(host().Count(Counter::kTcpSynCookiesSent), 1u);
  EXPECT_FALSE(answer.options.has_window_scale);
  In(AckOf(answer));
  TcpHost::Socket* s = host().Accept(l, now());
  ASSERT_NE(s, nullptr);
  EXPECT_EQ(host().Info(s, now()).tcpi_snd_mss, 1460u);
}

TEST_F(Listening, AForgedOrOldCookieIsReset) {
  host().Listen(80, 1, now());
  Seg answer;
  ASSERT_TRUE(Begin(2000, &answer));
  ASSERT_TRUE(Begin(3000, &answer));
  Seg forged = AckOf(answer);
  forged.acknowledgment += 12345;
  In(forged);
  EXPECT_FALSE(HasOut());  // it may be a segment behind an ACK that found the accept queue full
  Advance(Duration::Seconds(4));
  SkipOut();
  In(forged);
  EXPECT_TRUE(Out().Has(kTcpReset));
  EXPECT_EQ(host().Count(Counter::kTcpSynCookiesFailed), 2u);
  Advance(Duration::Seconds(185));
  SkipOut();
  In(AckOf(answer));
  EXPECT_TRUE(Out().Has(kTcpReset));
}

TEST_F(Listening, DeferAcceptWaitsForData) {
  TcpHost::Socket* l = host().Listen(80, 4, now());
  SetOption(l, TCP_DEFER_ACCEPT, 5);
  Seg answer;
  ASSERT_TRUE(Begin(1000, &answer));
  In(AckOf(answer));
  EXPECT_EQ(host().Accept(l, now()), nullptr);
  In(AckOf(answer, "data"));
  TcpHost::Socket* s = host().Accept(l, now());
  ASSERT_NE(s, nullptr);
  EXPECT_EQ(Read(s), "data");
}

TEST_F(Listening, ClosingAListenerResetsWhatWasNotAccepted) {
  TcpHost::Socket* l = host().Listen(80, 4, now());
  EXPECT_TRUE(Complete(1000));
  SkipOut();
  host().Close(l, now());
  EXPECT_TRUE(Out().Has(kTcpReset));
  EXPECT_EQ(tcp().UnfinishedCount(true), 0u);
  TcpHost::Socket* again = host().Listen(80, 4, now());
  EXPECT_NE(again, nullptr);
}

TEST_F(Listening, AConnectionResetBeforeAcceptIsStillAccepted) {
  TcpHost::Socket* l = host().Listen(80, 4, now());
  EXPECT_TRUE(Complete(1000));
  Seg reset;
  reset.source_port = 1000;
  reset.sequence = kPeerInitial + 1;
  reset.flags = kTcpReset;
  In(reset);
  TcpHost::Socket* s = host().Accept(l, now());
  ASSERT_NE(s, nullptr);
  EXPECT_EQ(ReadResult(s), -ECONNRESET);
}

TEST_F(Listening, ChildrenInheritTheListenersOptions) {
  TcpHost::Socket* l = host().Listen(80, 4, now());
  SetOption(l, TCP_NODELAY, 1);
  tcp().options(*l->connection).keep_alive = true;
  EXPECT_TRUE(Complete(1000));
  TcpHost::Socket* s = host().Accept(l, now());
  EXPECT_TRUE(tcp().options(*s->connection).keep_alive);
  int value = 0;
  uint32_t length = sizeof value;
  EXPECT_TRUE(tcp().GetOption(*s->connection, TCP_NODELAY, &value, &length, now()).ok());
  EXPECT_EQ(value, 1);
}

TEST_F(Listening, WhenConnectionsRunOutNewOnesGetEnobufsAndOldOnesLiveOn) {
  TcpHost::Socket* s = AcceptOne();
  std::vector<TcpHost::Socket*> many;
  while (TcpHost::Socket* one = host().Open()) many.push_back(one);
  EXPECT_GT(many.size(), 1000u);
  Pollable pollable;
  EXPECT_EQ(tcp().Create(Family::kIpv4, &pollable).error(), ENOBUFS);
  // A handshake that cannot become a connection is dropped, not answered with nonsense.
  Seg answer;
  ASSERT_TRUE(Begin(1000, &answer));
  In(AckOf(answer));
  EXPECT_EQ(host().Accept(listener_, now()), nullptr);
  SkipOut();
  PeerSends("still here");
  EXPECT_EQ(Read(s), "still here");
  EXPECT_EQ(Write(s, "yes"), 3);
  for (auto* one : many) host().Close(one, now());
  EXPECT_TRUE(Complete(1001));
  EXPECT_NE(host().Accept(listener_, now()), nullptr);
}

// --- ports ---

class Ports : public Listening {
 protected:
  struct Wish {
    const char* address = "0.0.0.0";
    uint16_t port = 80;
    bool reuse_address = false;
    bool reuse_port = false;
    bool v6_only = false;
  };
  TcpHost::Socket* OpenAs(const Wish& w) {
    TcpHost::Socket* s = host().Open(Address(w.address).family());
    SocketOptions& o = tcp().options(*s->connection);
    o.reuse_address = w.reuse_address;
    o.reuse_port = w.reuse_port;
    o.v6_only = w.v6_only;
    return s;
  }
  int Bind(TcpHost::Socket* s, const Wish& w) {
    return tcp().Bind(*s->connection, {Address(w.address), w.port, 0}).error();
  }
  int BindTwo(const Wish& a, const Wish& b) {
    EXPECT_EQ(Bind(OpenAs(a), a), 0);
    return Bind(OpenAs(b), b);
  }
};

TEST_F(Ports, OneSocketPerPort) { EXPECT_EQ(BindTwo({}, {}), EADDRINUSE); }
TEST_F(Ports, DifferentAddressesShareAPort) {
  EXPECT_EQ(BindTwo({.address = "10.0.0.2"}, {.address = "127.0.0.1"}), 0);
}
TEST_F(Ports, AWildcardConflictsWithAnAddress) {
  EXPECT_EQ(BindTwo({}, {.address = "10.0.0.2"}), EADDRINUSE);
}
TEST_F(Ports, ADualStackWildcardConflictsWithIpv4) {
  EXPECT_EQ(BindTwo({.address = "::"}, {}), EADDRINUSE);
}
TEST_F(Ports, AnIpv6OnlyWildcardDoesNot) {
  EXPECT_EQ(BindTwo({.address = "::", .v6_only = true}, {}), 0);
}
TEST_F(Ports, ReuseAddressSharesUntilOneListens) {
  const Wish w{.reuse_address = true};
  TcpHost::Socket* a = OpenAs(w);
  TcpHost::Socket* b = OpenAs(w);
  TcpHost::Socket* c = OpenAs(w);
  EXPECT_EQ(Bind(a, w), 0);
  EXPECT_EQ(Bind(b, w), 0);
  EXPECT_EQ(tcp().Listen(*a->connection, 1, now()).error(), 0);
  EXPECT_EQ(tcp().Listen(*b->connection, 1, now()).error(), EADDRINUSE);
  EXPECT_EQ(Bind(c, w), EADDRINUSE);
}
TEST_F(Ports, ReusePortNeedsBoth) {
  EXPECT_EQ(BindTwo({.reuse_port = true}, {}), EADDRINUSE);
  EXPECT_EQ(BindTwo({.port = 81, .reuse_port = true}, {.port = 81, .reuse_port = true}), 0);
}
TEST_F(Ports, AForeignAddressIsRefused) {
  const Wish w{.address = "10.9.9.9"};
  EXPECT_EQ(Bind(OpenAs(w), w), EADDRNOTAVAIL);
}
TEST_F(Ports, BindingTwiceIsEinval) {
  TcpHost::Socket* s = OpenAs({});
  EXPECT_EQ(Bind(s, {}), 0);
  EXPECT_EQ(Bind(s, {.port = 81}), EINVAL);
}
TEST_F(Ports, PortZeroTakesAFreeOddPortFirst) {
  const Wish any{.port = 0};
  for (int i = 0; i < 50; ++i) {
    TcpHost::Socket* s = OpenAs(any);
    EXPECT_EQ(Bind(s, any), 0);
    const uint16_t port = tcp().local(*s->connection).port;
    EXPECT_GE(port, 32768);
    EXPECT_LE(port, 60999);
    EXPECT_EQ(port % 2, 1);
  }
}
TEST_F(Ports, ConnectTakesAnEvenPortThatIsNotBound) {
  for (int i = 0; i < 20; ++i) {
    TcpHost::Socket* s = host().Open();
    EXPECT_EQ(tcp().Connect(*s->connection, {Address("10.0.0.1"), kPeerPort, 0}, now()).error(),
              EINPROGRESS);
    EXPECT_EQ(tcp().local(*s->connection).port % 2, 0);
  }
}
TEST_F(Ports, ABoundPortAndPeerMayBeUsedOnce) {
  const Wish w{.port = 7777, .reuse_address = true};
  TcpHost::Socket* a = OpenAs(w);
  TcpHost::Socket* b = OpenAs(w);
  EXPECT_EQ(Bind(a, w), 0);
  EXPECT_EQ(Bind(b, w), 0);
  const Endpoint peer{Address("10.0.0.1"), kPeerPort, 0};
  EXPECT_EQ(tcp().Connect(*a->connection, peer, now()).error(), EINPROGRESS);
  EXPECT_EQ(tcp().Connect(*b->connection, peer, now()).error(), EADDRNOTAVAIL);
  EXPECT_EQ(tcp().Connect(*b->connection, {Address("10.0.0.1"), 5001, 0}, now()).error(),
            EINPROGRESS);
}
TEST_F(Ports, TimeWaitBlocksARebindUnlessReused) {
  TcpHost::Socket* s = AcceptOne();
  host().Close(listener_, now());
  host().Close(s, now());
  const Seg fin = Out();
  peer_ack_ = fin.sequence + 1;
  In(Peer(kTcpFin | kTcpAck));
  EXPECT_EQ(tcp().UnfinishedCount(true), 1u);
  const Wish plain{};
  EXPECT_EQ(Bind(OpenAs(plain), plain), EADDRINUSE);
  const Wish reuse{.reuse_address = true};
  EXPECT_EQ(Bind(OpenAs(reuse), reuse), EADDRINUSE);  // Linux: the old one must have had it too
}

TEST_F(Ports, ReusePortListenersShareConnections) {
  TcpHost::Socket* l[4];
  const Wish w{.reuse_port = true};
  for (auto& each : l) {
    each = OpenAs(w);
    ASSERT_EQ(Bind(each, w), 0);
    ASSERT_TRUE(tcp().Listen(*each->connection, 200, now()).ok());
  }
  for (uint16_t i = 0; i < 200; ++i) EXPECT_TRUE(Complete(static_cast<uint16_t>(1000 + i)));
  int total = 0;
  for (auto* each : l) {
    int count = 0;
    while (host().Accept(each, now()) != nullptr) ++count;
    EXPECT_GT(count, 20);
    total += count;
  }
  EXPECT_EQ(total, 200);
}

TEST_F(Ports, TheMostSpecificListenerGetsTheConnection) {
  TcpHost::Socket* dual = OpenAs({.address = "::", .reuse_port = true});
  TcpHost::Socket* any = OpenAs({.reuse_port = true});
  TcpHost::Socket* exact = OpenAs({.address = "10.0.0.2", .reuse_port = true});
  EXPECT_EQ(Bind(dual, {.address = "::"}), 0);
  EXPECT_EQ(Bind(any, {}), 0);
  EXPECT_EQ(Bind(exact, {.address = "10.0.0.2"}), 0);
  for (auto* s : {dual, any, exact}) EXPECT_TRUE(tcp().Listen(*s->connection, 5, now()).ok());
  EXPECT_TRUE(Complete(1000));
  EXPECT_NE(host().Accept(exact, now()), nullptr);
  host().Close(exact, now());
  EXPECT_TRUE(Complete(1001));
  EXPECT_NE(host().Accept(any, now()), nullptr);
  host().Close(any, now());
  EXPECT_TRUE(Complete(1002));
  EXPECT_NE(host().Accept(dual, now()), nullptr);
}

}  // namespace
}  // namespace userstack::testing
