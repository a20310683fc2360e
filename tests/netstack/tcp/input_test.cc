// What arrives: windows, PAWS, resets, challenge ACKs, reordering, acknowledgment policy.
#include "tests/netstack/tcp/host.h"

namespace userstack::testing {
namespace {

using namespace wire;  // NOLINT: TcpFlag names

class Input : public TcpScript {
 protected:
  // A payload at `offset` from what the peer would send next.
  void InAt(uint32_t offset, std::string payload, uint8_t flags = kTcpAck) {
    Seg s = Peer(flags, std::move(payload));
    s.sequence = peer_next_ + offset;
    In(s);
  }
};

TEST_F(Input, DropsAckForUnsentData) {
  TcpHost::Socket* s = AcceptOne();
  peer_ack_ += 100;
  In(Peer(kTcpAck, "ignored"));
  const Seg ack = Out();
  EXPECT_EQ(ack.acknowledgment, peer_next_);
  EXPECT_EQ(ReadResult(s), -EAGAIN);
  EXPECT_EQ(host().Count(Counter::kTcpChallengeAcks), 1u);
}

TEST_F(Input, ASegmentWithoutAckIsDropped) {
  TcpHost::Socket* s = AcceptOne();
  In(Peer(0, "no flags at all"));
  EXPECT_EQ(ReadResult(s), -EAGAIN);
}

TEST_F(Input, AnInexactResetIsChallenged) {
  TcpHost::Socket* s = AcceptOne();
  InAt(1, "", kTcpReset);
  const Seg challenge = Out();
  EXPECT_EQ(challenge.flags, kTcpAck);
  EXPECT_EQ(challenge.acknowledgment, peer_next_);
  EXPECT_EQ(ReadResult(s), -EAGAIN);
  InAt(0, "", kTcpReset);
  EXPECT_EQ(ReadResult(s), -ECONNRESET);
  EXPECT_FALSE(HasOut());
}

TEST_F(Input, AResetOutsideTheWindowIsIgnored) {
  TcpHost::Socket* s = AcceptOne();
  InAt(0x7000'0000, "", kTcpReset);
  EXPECT_FALSE(HasOut());
  EXPECT_EQ(ReadResult(s), -EAGAIN);
}

TEST_F(Input, ASynInAnOpenConnectionIsChallenged) {
  TcpHost::Socket* s = AcceptOne();
  InAt(0, "", kTcpSyn);
  EXPECT_EQ(Out().flags, kTcpAck);
  EXPECT_EQ(ReadResult(s), -EAGAIN);
}

TEST_F(Input, ChallengeAcksAreLimited) {
  AcceptOne();
  for (int i = 0; i < 100; ++i) InAt(1, "", kTcpReset);
  Out();
  EXPECT_FALSE(HasOut());
  Advance(Duration::Milliseconds(501));
  InAt(1, "", kTcpReset);
  EXPECT_TRUE(HasOut());
}

TEST_F(Input, PawsDropsAnOldTimestamp) {
  TcpHost::Socket* s = AcceptOne();
  PeerSends("fresh");
  SkipOut();
  Seg old = Peer(kTcpAck, "old wrap");
  old.options.timestamp_value = peer_timestamp_ - 5000;
  In(old);
  EXPECT_EQ(Out().acknowledgment, peer_next_);
  EXPECT_EQ(Read(s), "fresh");
  EXPECT_EQ(host().Count(Counter::kTcpPawsDropped), 1u);
}

TEST_F(Input, PawsForgetsAfter24Days) {
  TcpHost::Socket* s = AcceptOne();
  PeerSends("a");
  Advance(Duration::Seconds(25 * 24 * 3600));
  SkipOut();
  Seg old = Peer(kTcpAck, "b");
  old.options.timestamp_value = peer_timestamp_ - 5000;
  In(old);
  EXPECT_EQ(Read(s), "ab");
}

TEST_F(Input, TakesOutOfOrderDataAndTellsBySack) {
  TcpHost::Socket* s = AcceptOne();
  InAt(10, "KLMNO");
  Seg ack = Out();
  EXPECT_EQ(ack.acknowledgment, peer_next_);
  ASSERT_EQ(ack.options.sack_count, 1);
  EXPECT_EQ(ack.options.sack_blocks[0].begin.value, peer_next_ + 10);
  EXPECT_EQ(ack.options.sack_blocks[0].end.value, peer_next_ + 15);
  InAt(20, "UVWXY");
  ack = Out();
  ASSERT_EQ(ack.options.sack_count, 2);
  EXPECT_EQ(ack.options.sack_blocks[0].begin.value, peer_next_ + 20);  // most recent first
  EXPECT_EQ(ack.options.sack_blocks[1].begin.value, peer_next_ + 10);
  InAt(15, "PQRST");
  ack = Out();
  ASSERT_EQ(ack.options.sack_count, 1);  // joined
  EXPECT_EQ(ack.options.sack_blocks[0].end.value, peer_next_ + 25);
  EXPECT_EQ(ReadResult(s), -EAGAIN);
  InAt(0, "ABCDEFGHIJ");
  ack = Out();
  EXPECT_EQ(ack.acknowledgment, peer_next_ + 25);
  EXPECT_EQ(ack.options.sack_count, 0);
  EXPECT_EQ(Read(s), "ABCDEFGHIJKLMNOPQRSTUVWXY");
}

TEST_F(Input, OverlapsAreTrimmedWhateverTheirShape) {
  TcpHost::Socket* s = AcceptOne();
  const std::string text = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  Random random(5);
  for (int i = 0; i < 200; ++i) {
    const auto begin = static_cast<uint32_t>(1 + random.Below(text.size() - 1));
    const auto length = static_cast<uint32_t>(1 + random.Below(text.size() - begin));
    InAt(begin, text.substr(begin, length));
  }
  InAt(0, text.substr(0, 1));
  Seg last;
  while (HasOut()) last = Out();
  const uint32_t got = last.acknowledgment - peer_next_;
  EXPECT_EQ(Read(s), text.substr(0, got));
  EXPECT_GT(got, 30u);
}

TEST_F(Input, ADuplicateIsAnsweredWithDsack) {
  AcceptOne();
  PeerSends("twice");
  SkipOut();
  peer_next_ -= 5;
  InAt(0, "twice");
  const Seg ack = Out();
  ASSERT_GE(ack.options.sack_count, 1);
  EXPECT_EQ(ack.options.sack_blocks[0].begin.value, peer_next_);
  EXPECT_EQ(ack.options.sack_blocks[0].end.value, peer_next_ + 5);
  EXPECT_EQ(ack.acknowledgment, peer_next_ + 5);
}

TEST_F(Input, DataBeyondTheWindowIsCutOff) {
  TcpHost::Socket* s = AcceptOne(MssOnly(1460), 65535);
  InAt(70'000, "far beyond");
  EXPECT_EQ(Out().acknowledgment, peer_next_);
  InAt(64'235, "0123456789");
  const Seg ack = Out();
  EXPECT_EQ(ack.acknowledgment, peer_next_);
  EXPECT_EQ(ReadResult(s), -EAGAIN);
}

TEST_F(Input, AWrongChecksumIsDropped) {
  TcpHost::Socket* s = AcceptOne();
  const uint64_t before = host().Count(Counter::kTcpChecksumErrors);
  corrupt_next_ = true;
  In(Peer(kTcpAck, "data"));
  EXPECT_EQ(host().Count(Counter::kTcpChecksumErrors), before + 1);
  EXPECT_EQ(ReadResult(s), -EAGAIN);
}

TEST_F(Input, AcknowledgesAtOnceInTheBeginningAndLaterEverySecondSegment) {
  TcpHost::Socket* s = AcceptOne();
  const std::string full(1448, 'x');
  // Quick ACKs at the start (Linux: 16 segments).
  PeerSends(full);
  EXPECT_TRUE(HasOut());
  SkipOut();
  for (int i = 0; i < 40; ++i) {
    PeerSends(full);
    Read(s);
    SkipOut();
  }
  // Now delayed: two full segments bring one ACK.
  int acks = 0;
  for (int i = 0; i < 10; ++i) {
    Seg full_segment = Peer(kTcpAck, full);
    In(full_segment);
    peer_next_ += 1448;
    while (HasOut()) {
      Out();
      ++acks;
    }
  }
  EXPECT_EQ(acks, 5);
}

TEST_F(Input, ADelayedAckGoesAfter40Milliseconds) {
  TcpHost::Socket* s = AcceptOne();
  const std::string full(1448, 'x');
  for (int i = 0; i < 41; ++i) {
    In(Peer(kTcpAck, full));
    peer_next_ += 1448;
    Read(s);
  }
  SkipOut();
  In(Peer(kTcpAck, full));
  peer_next_ += 1448;
  if (HasOut()) {  // it was the second of a pair: one more is the first of the next
    SkipOut();
    In(Peer(kTcpAck, full));
    peer_next_ += 1448;
  }
  EXPECT_FALSE(HasOut());
  Advance(Duration::Milliseconds(45));
  EXPECT_EQ(Out().acknowledgment, peer_next_);
}

TEST_F(Input, AnAckRidesOnTheReply) {
  TcpHost::Socket* s = AcceptOne();
  // Request and reply make the connection interactive.
  for (int i = 0; i < 3; ++i) {
    PeerSends("request");
    Read(s);
    Write(s, "reply");
    SkipOut();
    peer_ack_ += 5;
  }
  In(Peer(kTcpAck));
  PeerSends("request");
  EXPECT_FALSE(HasOut());
  Read(s);
  Write(s, "reply");
  const Seg reply = Out();
  EXPECT_EQ(reply.acknowledgment, peer_next_);
  EXPECT_FALSE(HasOut());
}

TEST_F(Input, TheAckOfAFirstSmallSegmentRidesOnTheReply) {
  TcpHost::Socket* s = AcceptOne();
  PeerSends("request");
  Read(s);
  EXPECT_FALSE(HasOut());
  Write(s, "reply");
  EXPECT_EQ(Out().acknowledgment, peer_next_);
  EXPECT_FALSE(HasOut());
  Advance(Duration::Milliseconds(1));
  EXPECT_FALSE(HasOut());
}

TEST_F(Input, TheAckOfAFirstSmallSegmentThatGetsNoReplyIsHalfAMillisecondLate) {
  TcpHost::Socket* s = AcceptOne();
  PeerSends("half a request, which Nagle's test holds the rest of");
  Advance(Duration::Microseconds(400));
  EXPECT_FALSE(HasOut());
  Advance(Duration::Microseconds(600));
  EXPECT_EQ(Out().acknowledgment, peer_next_);
  // A full segment is answered at once: its sender may be in slow start.
  PeerSends(std::string(1448, 'x'));
  EXPECT_TRUE(HasOut());
  SkipOut();
  Read(s);
}

TEST_F(Input, SmallSegmentsDoNotHoardMemory) {
  TcpHost::Socket* s = AcceptOne();
  const uint64_t before = host().core().buffers.bytes_in_use();
  std::string expected;
  for (int i = 0; i < 3000; ++i) {
    const char ch = static_cast<char>('a' + i % 26);
    PeerSends(std::string(1, ch));
    expected.push_back(ch);
  }
  EXPECT_LT(host().core().buffers.bytes_in_use() - before, 16'384u);
  EXPECT_EQ(Read(s), expected);
  EXPECT_LE(host().core().buffers.bytes_in_use(), before);
}

TEST_F(Input, ATimestampEchoFollowsRfc7323) {
  AcceptOne();
  const uint32_t first = peer_timestamp_;
  InAt(10, "hole before");  // does not move TS.Recent
  EXPECT_EQ(Out().options.timestamp_echo_reply, first);
  InAt(0, "0123456789");
  EXPECT_EQ(Out().options.timestamp_echo_reply, peer_timestamp_);
}

}  // namespace
}  // namespace userstack::testing
