// Opening: options, refusal, retransmission, simultaneous open.
#include "tests/netstack/tcp/host.h"

namespace userstack::testing {
namespace {

using namespace wire;  // NOLINT: TcpFlag names

class Handshake : public TcpScript {
 protected:
  TcpHost::Socket* BeginConnect() {
    TcpHost::Socket* s = host().Open();
    EXPECT_EQ(tcp().Connect(*s->connection, PeerEndpoint(), now()).error(), EINPROGRESS);
    return s;
  }
  Endpoint PeerEndpoint() { return {Address("10.0.0.1"), kPeerPort, 0}; }
  Status ConnectAgain(TcpHost::Socket* s) {
    return tcp().Connect(*s->connection, PeerEndpoint(), now());
  }
  Seg Syn(uint32_t sequence = kPeerInitial) {
    Seg syn;
    syn.sequence = sequence;
    syn.flags = kTcpSyn;
    syn.options = PeerOptions();
    syn.options.timestamp_value = peer_timestamp_;
    return syn;
  }
};

TEST_F(Handshake, ASynOffersWhatLinuxOffers) {
  BeginConnect();
  const Seg syn = Out();
  EXPECT_EQ(syn.flags, kTcpSyn);
  EXPECT_EQ(syn.window, 64240);
  EXPECT_EQ(syn.options.maximum_segment_size, 1460);
  EXPECT_TRUE(syn.options.sack_permitted);
  EXPECT_TRUE(syn.options.has_timestamps);
  EXPECT_EQ(syn.options.timestamp_echo_reply, 0u);
  EXPECT_EQ(syn.options.window_scale, 7);
}

TEST_F(Handshake, CarriesDataAndAcknowledges) {
  TcpHost::Socket* s = AcceptOne();
  PeerSends("hello");
  EXPECT_EQ(Read(s), "hello");
  Advance(Duration::Milliseconds(1));
  EXPECT_EQ(Out().acknowledgment, kPeerInitial + 6);
  EXPECT_EQ(Write(s, "world"), 5);
  const Seg data = Out();
  EXPECT_EQ(data.payload, "world");
  EXPECT_TRUE(data.Has(kTcpPush | kTcpAck));
}

TEST_F(Handshake, ConnectTellsProgressThenSuccessThenIsConnected) {
  TcpHost::Socket* s = BeginConnect();
  EXPECT_EQ(ConnectAgain(s).error(), EALREADY);
  EXPECT_EQ(host().Level(s), 0u);
  const Seg syn = Out();
  our_port_ = syn.source_port;
  Seg answer = Syn();
  answer.flags |= kTcpAck;
  answer.acknowledgment = syn.sequence + 1;
  In(answer);
  const Seg ack = Out();
  EXPECT_EQ(ack.flags, kTcpAck);
  EXPECT_EQ(ack.acknowledgment, kPeerInitial + 1);
  EXPECT_EQ(host().Level(s), kEventOut | kEventWriteNormal);
  EXPECT_TRUE(ConnectAgain(s).ok());
  EXPECT_EQ(ConnectAgain(s).error(), EISCONN);
}

TEST_F(Handshake, AFreshSocketIsWritableAndHungUpAsOnLinux) {
  TcpHost::Socket* s = host().Open();
  EXPECT_EQ(host().Level(s), kEventOut | kEventWriteNormal | kEventHangUp);
  EXPECT_EQ(Write(s, "x"), -EPIPE);
  EXPECT_EQ(ReadResult(s), -ENOTCONN);
}

TEST_F(Handshake, AResetRefusesTheConnection) {
  TcpHost::Socket* s = BeginConnect();
  const Seg syn = Out();
  our_port_ = syn.source_port;
  Seg reset;
  reset.flags = kTcpReset | kTcpAck;
  reset.acknowledgment = syn.sequence;  // not acceptable
  In(reset);
  EXPECT_EQ(host().Level(s), 0u);
  reset.acknowledgment = syn.sequence + 1;
  In(reset);
  EXPECT_NE(host().Level(s) & kEventError, 0u);
  EXPECT_NE(host().Level(s) & kEventHangUp, 0u);
  EXPECT_EQ(ConnectAgain(s).error(), ECONNREFUSED);
  // The socket may try again.
  EXPECT_EQ(ConnectAgain(s).error(), EINPROGRESS);
  EXPECT_EQ(Out().flags, kTcpSyn);
}

TEST_F(Handshake, AnAckOfSomethingElseInSynSentIsReset) {
  BeginConnect();
  const Seg syn = Out();
  our_port_ = syn.source_port;
  Seg answer = Syn();
  answer.flags |= kTcpAck;
  answer.acknowledgment = syn.sequence + 5;
  In(answer);
  const Seg reset = Out();
  EXPECT_EQ(reset.flags, kTcpReset);
  EXPECT_EQ(reset.sequence, syn.sequence + 5);
}

TEST_F(Handshake, ASynIsRetransmittedSixTimesThenTimesOut) {
  TcpHost::Socket* s = BeginConnect();
  const Seg first = Out();
  const int seconds[] = {1, 2, 4, 8, 16, 32};
  for (int wait : seconds) {
    Advance(Duration::Seconds(wait) - Duration::Milliseconds(20));
    EXPECT_FALSE(HasOut()) << wait;
    Advance(Duration::Milliseconds(21));
    const Seg again = Out();
    EXPECT_EQ(again.sequence, first.sequence);
    EXPECT_EQ(again.flags, kTcpSyn);
  }
  Advance(Duration::Seconds(65));
  EXPECT_FALSE(HasOut());
  EXPECT_EQ(tcp().TakeError(*s->connection), ETIMEDOUT);
}

TEST_F(Handshake, BothSidesMayOpenAtOnce) {
  TcpHost::Socket* s = BeginConnect();
  const Seg syn = Out();
  our_port_ = syn.source_port;
  In(Syn());
  const Seg answer = Out();
  EXPECT_EQ(answer.flags, kTcpSyn | kTcpAck);
  EXPECT_EQ(answer.sequence, syn.sequence);
  EXPECT_EQ(answer.acknowledgment, kPeerInitial + 1);
  Seg crossed = Syn();
  crossed.flags |= kTcpAck;
  crossed.acknowledgment = syn.sequence + 1;
  crossed.options.timestamp_value = ++peer_timestamp_;
  In(crossed);
  EXPECT_EQ(host().Level(s), kEventOut | kEventWriteNormal);
  EXPECT_TRUE(ConnectAgain(s).ok());
}

TEST_F(Handshake, ACrossedSynAcksWindowIsNotScaled) {
  // RFC 7323 2.2. Taken for 128 times as much, data goes out beyond the window, and when the next
  // ACK tells the truth the two ends drop each other's segments for ever.
  TcpHost::Socket* s = BeginConnect();
  const Seg syn = Out();
  our_port_ = syn.source_port;
  Seg crossed = Syn();
  crossed.window = 1000;
  In(crossed);
  SkipOut();
  crossed.flags |= kTcpAck;
  crossed.acknowledgment = syn.sequence + 1;
  crossed.options.timestamp_value = ++peer_timestamp_;
  In(crossed);
  SkipOut();
  EXPECT_GT(Write(s, std::string(20'000, 'w')), 1000);
  uint32_t sent = 0;
  while (HasOut()) sent += static_cast<uint32_t>(Out().payload.size());
  EXPECT_GT(sent, 0u);
  EXPECT_LE(sent, 1000u);
}

TEST_F(Handshake, ASocketMayConnectToItself) {
  TcpHost::Socket* s = host().Open();
  ASSERT_TRUE(tcp().Bind(*s->connection, {Address("10.0.0.2"), 4000, 0}).ok());
  EXPECT_EQ(tcp().Connect(*s->connection, {Address("10.0.0.2"), 4000, 0}, now()).error(),
            EINPROGRESS);
  Advance(Duration::Milliseconds(10));
  EXPECT_EQ(Write(s, "echo"), 4);
  Advance(Duration::Milliseconds(10));
  EXPECT_EQ(Read(s), "echo");
}

TEST_F(Handshake, AStrangerIsReset) {
  our_port_ = 9999;
  In(Syn());
  const Seg reset = Out();
  EXPECT_EQ(reset.flags, kTcpReset | kTcpAck);
  EXPECT_EQ(reset.acknowledgment, kPeerInitial + 1);
  Seg stray;
  stray.sequence = 5;
  stray.acknowledgment = 4711;
  stray.flags = kTcpAck;
  In(stray);
  const Seg second = Out();
  EXPECT_EQ(second.flags, kTcpReset);
  EXPECT_EQ(second.sequence, 4711u);
  stray.flags = kTcpReset;
  In(stray);
  EXPECT_FALSE(HasOut());
}

TEST_F(Handshake, UsesOnlyOptionsThatBothOffered) {
  TcpHost::Socket* s = AcceptOne(MssOnly(1000), 500);
  EXPECT_EQ(Write(s, std::string(400, 'x')), 400);
  const Seg data = Out();
  EXPECT_FALSE(data.options.has_timestamps);
  EXPECT_EQ(data.payload.size(), 400u);
  EXPECT_EQ(data.window, 64240);
}

TEST_F(Handshake, WithoutAnMssOptionSegmentsHave536Bytes) {
  TcpHost::Socket* s = AcceptOne(wire::TcpOptions{});
  Write(s, std::string(2000, 'x'));
  EXPECT_EQ(Out().payload.size(), 536u);
}

TEST_F(Handshake, AWindowScaleAbove14IsTakenAs14) {
  wire::TcpOptions options = PeerOptions();
  options.window_scale = 200;
  TcpHost::Socket* s = AcceptOne(options, 1);
  EXPECT_EQ(Write(s, "x"), 1);
  EXPECT_TRUE(HasOut());
}

TEST_F(Handshake, DataOnTheAckThatEndsTheHandshakeIsTaken) {
  host().Listen(80, 4, now());
  In(Syn());
  const Seg answer = Out();
  Seg ack;
  ack.sequence = kPeerInitial + 1;
  ack.acknowledgment = answer.sequence + 1;
  ack.flags = kTcpAck | kTcpPush;
  ack.options.has_timestamps = true;
  ack.options.timestamp_value = peer_timestamp_;
  ack.options.timestamp_echo_reply = answer.options.timestamp_value;
  ack.payload = "GET /";
  In(ack);
  Advance(Duration::Milliseconds(1));
  EXPECT_EQ(Out().acknowledgment, kPeerInitial + 6);
}

TEST_F(Handshake, InitialSequenceNumbersDifferByTupleAndRiseWithTime) {
  BeginConnect();
  const Seg first = Out();
  BeginConnect();
  const Seg second = Out();
  EXPECT_NE(first.source_port, second.source_port);
  EXPECT_GT(std::abs(static_cast<int32_t>(first.sequence - second.sequence)), 1000);
}

TEST_F(Handshake, ListenAndConnectExcludeEachOther) {
  TcpHost::Socket* s = AcceptOne();
  EXPECT_EQ(tcp().Listen(*s->connection, 1, now()).error(), EINVAL);
  EXPECT_EQ(ConnectAgain(s).error(), EISCONN);
  EXPECT_EQ(ConnectAgain(listener_).error(), EISCONN);
  EXPECT_TRUE(tcp().Listen(*listener_->connection, 3, now()).ok());
}

TEST_F(Handshake, ClosingDuringConnectIsSilent) {
  TcpHost::Socket* s = BeginConnect();
  SkipOut();
  host().Close(s, now());
  EXPECT_FALSE(HasOut());
  EXPECT_EQ(tcp().UnfinishedCount(true), 0u);
}

}  // namespace
}  // namespace userstack::testing
