// Closing: half-close, simultaneous close, linger, reset, TIME-WAIT, FIN-WAIT-2 without a socket.
#include <sys/socket.h>

#include "tests/netstack/tcp/host.h"

namespace userstack::testing {
namespace {

using namespace wire;  // NOLINT: TcpFlag names

class Closing : public TcpScript {
 protected:
  Status Shutdown(TcpHost::Socket* s, int how) {
    return tcp().Shutdown(*s->connection, how, now());
  }
  void PeerFin() {
    In(Peer(kTcpFin | kTcpAck));
    ++peer_next_;
  }
  // The peer acknowledges everything up to and including our FIN.
  void PeerAcks(const Seg& fin) {
    peer_ack_ = fin.sequence + static_cast<uint32_t>(fin.payload.size()) + 1;
    In(Peer(kTcpAck));
  }
  // Both directions closed, us first; the tuple is in TIME-WAIT afterwards.
  void ReachTimeWait() {
    TcpHost::Socket* s = AcceptOne();
    host().Close(s, now());
    PeerAcks(Out());
    PeerFin();
    EXPECT_EQ(Out().flags, kTcpAck);
    EXPECT_EQ(tcp().UnfinishedCount(true), 1u);
    EXPECT_EQ(tcp().UnfinishedCount(false), 0u);
  }
};

TEST_F(Closing, HalfCloseLetsThePeerGoOn) {
  TcpHost::Socket* s = AcceptOne();
  EXPECT_TRUE(Shutdown(s, SHUT_WR).ok());
  const Seg fin = Out();
  EXPECT_TRUE(fin.Has(kTcpFin));
  PeerAcks(fin);
  EXPECT_EQ(Write(s, "x"), -EPIPE);
  PeerSends("more");
  EXPECT_EQ(Read(s), "more");
  SkipOut();
  PeerFin();
  EXPECT_EQ(Out().acknowledgment, peer_next_);
  EXPECT_EQ(ReadResult(s), 0);
  EXPECT_EQ(ReadResult(s), 0);
}

TEST_F(Closing, WhoLingersIsToldWhenTheFinIsAcknowledged) {
  TcpHost::Socket* s = AcceptOne();
  EXPECT_EQ(Write(s, "last words"), 10);
  EXPECT_TRUE(Shutdown(s, SHUT_WR).ok());
  WatchSet set;
  Watch watch;
  watch.target = &s->pollable;
  watch.set = &set;
  watch.interest = kEventOut;
  watch.flags = kWatchEdge;
  Attach(watch, host().core().wakes);
  watch.ready_node.Unlink();  // a look that found nothing to do
  peer_ack_ += 10;
  In(Peer(kTcpAck));  // the data only
  EXPECT_TRUE(tcp().HasUnsentOrUnacknowledged(*s->connection));
  EXPECT_FALSE(watch.ready_node.linked());
  ++peer_ack_;
  In(Peer(kTcpAck));
  EXPECT_FALSE(tcp().HasUnsentOrUnacknowledged(*s->connection));
  EXPECT_TRUE(watch.ready_node.linked());
  Detach(watch, host().core().wakes);
}

TEST_F(Closing, PollShowsThePeersFin) {
  TcpHost::Socket* s = AcceptOne();
  EXPECT_EQ(host().Level(s), kEventOut | kEventWriteNormal);
  PeerFin();
  EXPECT_EQ(host().Level(s),
            kEventOut | kEventWriteNormal | kEventIn | kEventReadNormal | kEventReadHangUp);
  EXPECT_TRUE(Shutdown(s, SHUT_WR).ok());
  EXPECT_NE(host().Level(s) & kEventHangUp, 0u);
}

TEST_F(Closing, FinFollowsTheLastByteInOneSegment) {
  TcpHost::Socket* s = AcceptOne();
  SetOption(s, TCP_CORK, 1);
  Write(s, "tail");
  EXPECT_FALSE(HasOut());
  EXPECT_TRUE(Shutdown(s, SHUT_WR).ok());
  const Seg last = Out();
  EXPECT_EQ(last.payload, "tail");
  EXPECT_TRUE(last.Has(kTcpFin | kTcpPush));
}

TEST_F(Closing, BothMayCloseAtOnce) {
  TcpHost::Socket* s = AcceptOne();
  host().Close(s, now());
  const Seg fin = Out();
  PeerFin();  // does not acknowledge ours
  EXPECT_EQ(Out().acknowledgment, peer_next_);
  EXPECT_EQ(tcp().UnfinishedCount(false), 1u);  // CLOSING
  PeerAcks(fin);
  EXPECT_EQ(tcp().UnfinishedCount(false), 0u);
  EXPECT_EQ(tcp().UnfinishedCount(true), 1u);  // TIME-WAIT
}

TEST_F(Closing, PassiveCloseEndsWithoutTimeWait) {
  TcpHost::Socket* s = AcceptOne();
  PeerFin();
  SkipOut();
  host().Close(s, now());
  const Seg fin = Out();
  EXPECT_TRUE(fin.Has(kTcpFin));
  PeerAcks(fin);
  EXPECT_EQ(tcp().UnfinishedCount(true), 0u);
}

TEST_F(Closing, CloseWithUnreadDataResets) {
  TcpHost::Socket* s = AcceptOne();
  PeerSends("nobody reads this");
  SkipOut();
  host().Close(s, now());
  EXPECT_TRUE(Out().Has(kTcpReset));
  EXPECT_EQ(tcp().UnfinishedCount(true), 0u);
}

TEST_F(Closing, LingerZeroResets) {
  TcpHost::Socket* s = AcceptOne();
  tcp().options(*s->connection).linger = true;
  tcp().options(*s->connection).linger_seconds = 0;
  host().Close(s, now());
  const Seg reset = Out();
  EXPECT_TRUE(reset.Has(kTcpReset));
  EXPECT_EQ(reset.sequence, our_initial_ + 1);
  EXPECT_EQ(tcp().UnfinishedCount(true), 0u);
}

TEST_F(Closing, UnsentDataIsDeliveredAfterClose) {
  TcpHost::Socket* s = AcceptOne(MssOnly(1000), 2000);
  EXPECT_EQ(Write(s, std::string(5000, 'x')), 5000);
  EXPECT_TRUE(tcp().HasUnsentOrUnacknowledged(*s->connection));
  host().Close(s, now());
  size_t got = 0;
  bool fin = false;
  while (!fin && HasOut()) {
    const Seg data = Out();
    got += data.payload.size();
    fin = data.Has(kTcpFin);
    peer_ack_ += static_cast<uint32_t>(data.payload.size()) + (fin ? 1 : 0);
    In(Peer(kTcpAck));
  }
  EXPECT_TRUE(fin);
  EXPECT_EQ(got, 5000u);
}

TEST_F(Closing, DataForAClosedSocketIsReset) {
  TcpHost::Socket* s = AcceptOne();
  host().Close(s, now());
  SkipOut();
  In(Peer(kTcpAck, "late"));
  EXPECT_TRUE(Out().Has(kTcpReset));
  EXPECT_EQ(tcp().UnfinishedCount(true), 0u);
  EXPECT_EQ(host().Count(Counter::kTcpAbortOnData), 1u);
}

TEST_F(Closing, AnOrphanInFinWait2GoesAfterSixtySeconds) {
  TcpHost::Socket* s = AcceptOne();
  host().Close(s, now());
  PeerAcks(Out());
  EXPECT_EQ(tcp().UnfinishedCount(true), 1u);
  Advance(Duration::Seconds(59));
  EXPECT_EQ(tcp().UnfinishedCount(true), 1u);
  Advance(Duration::Seconds(2));
  EXPECT_EQ(tcp().UnfinishedCount(true), 0u);
}

TEST_F(Closing, Linger2ShortensFinWait2AndNegativeSkipsIt) {
  TcpHost::Socket* s = AcceptOne();
  SetOption(s, TCP_LINGER2, 3);
  host().Close(s, now());
  PeerAcks(Out());
  Advance(Duration::Seconds(4));
  EXPECT_EQ(tcp().UnfinishedCount(true), 0u);
}

TEST_F(Closing, AnOrphanInFinWait2AnswersTheFinAndResetsData) {
  TcpHost::Socket* s = AcceptOne();
  host().Close(s, now());
  PeerAcks(Out());
  EXPECT_FALSE(HasOut());
  PeerFin();
  const Seg ack = Out();
  EXPECT_EQ(ack.flags, kTcpAck);
  EXPECT_EQ(ack.acknowledgment, peer_next_);
  Advance(Duration::Seconds(61));
  EXPECT_EQ(tcp().UnfinishedCount(true), 0u);
}

TEST_F(Closing, TimeWaitAnswersARetransmittedFin) {
  ReachTimeWait();
  --peer_next_;
  PeerFin();
  const Seg ack = Out();
  EXPECT_EQ(ack.acknowledgment, peer_next_);
  Advance(Duration::Seconds(59));
  EXPECT_EQ(tcp().UnfinishedCount(true), 1u);  // the minute began anew
}

TEST_F(Closing, ANewSynTakesOverATimeWait) {
  ReachTimeWait();
  Advance(Duration::Seconds(2));
  Seg syn;
  syn.sequence = peer_next_ + 5000;
  syn.flags = kTcpSyn;
  syn.options = PeerOptions();
  syn.options.timestamp_value = peer_timestamp_ + 3000;
  In(syn);
  const Seg answer = Out();
  EXPECT_TRUE(answer.Has(kTcpSyn | kTcpAck));
  EXPECT_GT(static_cast<int32_t>(answer.sequence - our_initial_), 60000);
  EXPECT_EQ(tcp().UnfinishedCount(true), 0u);
}

TEST_F(Closing, AnOldSynDoesNotTakeOverATimeWait) {
  ReachTimeWait();
  Seg syn;
  syn.sequence = peer_next_ - 5000;
  syn.flags = kTcpSyn;
  syn.options = PeerOptions();
  syn.options.timestamp_value = peer_timestamp_ - 3000;
  In(syn);
  EXPECT_EQ(Out().flags, kTcpAck);
  EXPECT_EQ(tcp().UnfinishedCount(true), 1u);
}

TEST_F(Closing, ConnectTakesOverATimeWaitAfterASecond) {
  TcpHost::Socket* s = ConnectOne();
  tcp().options(*s->connection).reuse_address = true;
  host().Close(s, now());
  PeerAcks(Out());
  PeerFin();
  SkipOut();
  EXPECT_EQ(tcp().UnfinishedCount(true), 1u);
  TcpHost::Socket* again = host().Open();
  tcp().options(*again->connection).reuse_address = true;
  EXPECT_TRUE(tcp().Bind(*again->connection, {Address("0.0.0.0"), our_port_, 0}).ok());
  const Endpoint peer{Address("10.0.0.1"), kPeerPort, 0};
  EXPECT_EQ(tcp().Connect(*again->connection, peer, now()).error(), EADDRNOTAVAIL);
  Advance(Duration::Seconds(2));
  EXPECT_EQ(tcp().Connect(*again->connection, peer, now()).error(), EINPROGRESS);
  const Seg syn = Out();
  EXPECT_GT(static_cast<int32_t>(syn.sequence - our_initial_), 65535);
  EXPECT_EQ(tcp().UnfinishedCount(true), 0u);
}

TEST_F(Closing, AFinIsRetransmittedUntilItIsAcknowledged) {
  TcpHost::Socket* s = AcceptOne();
  host().Close(s, now());
  const Seg fin = Out();
  Advance(Duration::Seconds(1));
  ASSERT_TRUE(HasOut());
  const Seg again = Out();
  EXPECT_TRUE(again.Has(kTcpFin));
  EXPECT_EQ(again.sequence, fin.sequence);
  Advance(Duration::Seconds(300));
  EXPECT_EQ(tcp().UnfinishedCount(true), 0u);  // Linux: eight retries for an orphan
}

TEST_F(Closing, AFinThatComesEarlyWaitsForTheDataBefore) {
  TcpHost::Socket* s = AcceptOne();
  const uint32_t first = peer_next_;
  peer_next_ = first + 5;
  In(Peer(kTcpFin | kTcpAck, "world"));
  EXPECT_EQ(ReadResult(s), -EAGAIN);
  EXPECT_EQ(Out().acknowledgment, first);
  peer_next_ = first;
  In(Peer(kTcpAck, "hello"));
  EXPECT_EQ(Out().acknowledgment, first + 11);
  EXPECT_EQ(Read(s), "helloworld");
  EXPECT_EQ(ReadResult(s), 0);
}

TEST_F(Closing, AFinAloneThatComesEarlyIsRemembered) {
  TcpHost::Socket* s = AcceptOne();
  const uint32_t first = peer_next_;
  peer_next_ = first + 5;
  In(Peer(kTcpFin | kTcpAck));
  peer_next_ = first;
  In(Peer(kTcpAck, "hello"));
  EXPECT_EQ(Read(s), "hello");
  EXPECT_EQ(ReadResult(s), 0);
}

TEST_F(Closing, AResetTellsTheReaderAfterTheData) {
  TcpHost::Socket* s = AcceptOne();
  PeerSends("last words");
  SkipOut();
  In(Peer(kTcpReset));
  EXPECT_NE(host().Level(s) & (kEventError | kEventHangUp), 0u);
  EXPECT_EQ(Read(s), "last words");
  EXPECT_EQ(ReadResult(s), -ECONNRESET);
  EXPECT_EQ(ReadResult(s), 0);
  EXPECT_EQ(Write(s, "x"), -EPIPE);
}

TEST_F(Closing, AResetInCloseWaitIsEpipe) {
  TcpHost::Socket* s = AcceptOne();
  PeerFin();
  In(Peer(kTcpReset));
  EXPECT_EQ(tcp().TakeError(*s->connection), EPIPE);
}

TEST_F(Closing, ShutdownOfAnUnconnectedSocketIsEnotconn) {
  TcpHost::Socket* s = host().Open();
  EXPECT_EQ(Shutdown(s, SHUT_RDWR).error(), ENOTCONN);
  EXPECT_EQ(Shutdown(s, 7).error(), EINVAL);
}

TEST_F(Closing, ShutdownOfReadingReadsWhatIsThereThenEnds) {
  TcpHost::Socket* s = AcceptOne();
  PeerSends("abc");
  EXPECT_TRUE(Shutdown(s, SHUT_RD).ok());
  EXPECT_EQ(Read(s), "abc");
  EXPECT_EQ(ReadResult(s), 0);
  EXPECT_NE(host().Level(s) & kEventReadHangUp, 0u);
}

TEST_F(Closing, DisconnectMakesTheSocketUsableAgain) {
  TcpHost::Socket* s = ConnectOne();
  EXPECT_TRUE(tcp().Disconnect(*s->connection, now()).ok());
  EXPECT_TRUE(Out().Has(kTcpReset));
  (void)tcp().TakeError(*s->connection);
  EXPECT_EQ(tcp().Connect(*s->connection, {Address("10.0.0.1"), kPeerPort, 0}, now()).error(),
            EINPROGRESS);
  EXPECT_EQ(Out().flags, kTcpSyn);
}

}  // namespace
}  // namespace userstack::testing
