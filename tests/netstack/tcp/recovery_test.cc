// Loss detection and recovery: fast retransmit with and without SACK, limited transmit, timeouts.
#include "tests/netstack/tcp/host.h"

namespace userstack::testing {
namespace {

using namespace wire;  // NOLINT: TcpFlag names

class Recovering : public TcpScript {
 protected:
  static constexpr uint32_t kMss = 1448;  // 1460 less timestamps

  // Sends `segments` full segments and takes them off the wire.
  TcpHost::Socket* StartWith(unsigned segments, const wire::TcpOptions& options = PeerOptions()) {
    TcpHost::Socket* s = AcceptOne(options);
    SetOption(s, TCP_NODELAY, 1);
    mss_ = options.has_timestamps ? kMss : 1460;
    first_ = peer_ack_;
    EXPECT_EQ(Write(s, std::string(segments * mss_, 'x')), segments * mss_);
    for (unsigned i = 0; i < segments; ++i) EXPECT_EQ(Out().payload.size(), mss_);
    EXPECT_FALSE(HasOut());
    return s;
  }
  uint32_t At(unsigned segment) const { return first_ + segment * mss_; }
  // An ACK up to segment `ack`, with SACK blocks [begin, end) in segments.
  void Ack(unsigned ack, std::vector<std::pair<unsigned, unsigned>> sacks = {}) {
    peer_ack_ = At(ack);
    Seg s = Peer(kTcpAck);
    for (const auto& [begin, end] : sacks) {
      s.options.sack_blocks[s.options.sack_count++] = {{At(begin)}, {At(end)}};
    }
    In(s);
  }
  // The segments sent since, by number; new data beyond is counted too.
  std::vector<unsigned> Sent() {
    std::vector<unsigned> numbers;
    while (HasOut()) {
      const Seg s = Out();
      for (size_t done = 0; done < s.payload.size(); done += mss_) {
        numbers.push_back(static_cast<unsigned>((s.sequence - first_ + done) / mss_));
      }
    }
    return numbers;
  }
  LinuxInfo Info(TcpHost::Socket* s) { return host().Info(s, now()); }

  uint32_t mss_ = kMss;
  uint32_t first_ = 0;
};

using Numbers = std::vector<unsigned>;

TEST_F(Recovering, ThreeSackedSegmentsAboveBringAFastRetransmit) {
  StartWith(10);
  Ack(0, {{1, 2}});
  EXPECT_EQ(Sent(), Numbers{});
  Ack(0, {{1, 3}});
  EXPECT_EQ(Sent(), Numbers{});
  Ack(0, {{1, 4}});
  EXPECT_EQ(Sent(), Numbers{0});
  EXPECT_EQ(host().Count(Counter::kTcpFastRetransmits), 1u);
  Ack(4);
  Ack(10);
  EXPECT_EQ(Sent(), Numbers{});
}

TEST_F(Recovering, LimitedTransmitSendsNewDataOnTheFirstDuplicates) {
  TcpHost::Socket* s = StartWith(10);
  EXPECT_EQ(Write(s, std::string(5 * kMss, 'y')), 5 * kMss);
  EXPECT_EQ(Sent(), Numbers{});  // the window is full
  Ack(0, {{1, 2}});
  EXPECT_EQ(Sent(), Numbers{10});
  Ack(0, {{1, 3}});
  EXPECT_EQ(Sent(), Numbers{11});
}

TEST_F(Recovering, SeveralHolesAreFilledInOneRoundTrip) {
  StartWith(10);
  // 0, 3 and 6 are lost.
  Ack(0, {{1, 3}});
  Ack(0, {{4, 6}, {1, 3}});
  EXPECT_EQ(Sent(), Numbers{0});
  Ack(0, {{7, 10}, {4, 6}, {1, 3}});
  EXPECT_EQ(Sent(), (Numbers{3, 6}));
  Ack(10);
  EXPECT_EQ(Sent(), Numbers{});
}

TEST_F(Recovering, WithoutSackThreeDuplicatesAndPartialAcks) {
  StartWith(10, MssOnly());
  for (int i = 0; i < 2; ++i) Ack(0);
  EXPECT_EQ(Sent(), Numbers{});
  Ack(0);
  EXPECT_EQ(Sent(), Numbers{0});
  for (int i = 0; i < 4; ++i) Ack(0);
  // A partial acknowledgment uncovers the second hole (RFC 6582).
  Ack(4);
  EXPECT_EQ(Sent(), Numbers{4});
  Ack(10);
  EXPECT_EQ(Sent(), Numbers{});
}

TEST_F(Recovering, TheWindowIsReducedOncePerRecovery) {
  TcpHost::Socket* s = StartWith(10);
  EXPECT_EQ(Info(s).tcpi_snd_cwnd, 10u);
  Ack(0, {{1, 4}});
  Sent();
  Ack(0, {{1, 10}});
  Ack(10);
  EXPECT_EQ(Info(s).tcpi_snd_ssthresh, 7u);  // CUBIC: 0.7
  EXPECT_EQ(Info(s).tcpi_snd_cwnd, 7u);
  EXPECT_EQ(Info(s).tcpi_ca_state, 0);
}

TEST_F(Recovering, ATimeoutSendsTheFirstSegmentAndBacksOff) {
  TcpHost::Socket* s = StartWith(10);
  Advance(Duration::Milliseconds(190));
  EXPECT_EQ(Sent(), Numbers{});
  Advance(Duration::Milliseconds(20));
  EXPECT_EQ(Sent(), Numbers{0});
  EXPECT_EQ(Info(s).tcpi_snd_cwnd, 1u);
  Advance(Duration::Milliseconds(380));
  EXPECT_EQ(Sent(), Numbers{});
  Advance(Duration::Milliseconds(40));
  EXPECT_EQ(Sent(), Numbers{0});
  // Slow start goes on from there.
  Ack(1);
  EXPECT_EQ(Sent(), (Numbers{1, 2}));
  Ack(3);
  EXPECT_EQ(Sent(), (Numbers{3, 4, 5, 6}));
}

TEST_F(Recovering, ATimeoutSkipsWhatIsSacked) {
  StartWith(10);
  Ack(0, {{1, 2}});
  Advance(Duration::Milliseconds(450));
  EXPECT_EQ(Sent(), Numbers{0});
  Ack(2);
  EXPECT_EQ(Sent(), (Numbers{2, 3}));
}

TEST_F(Recovering, AnUnansweredConnectionTimesOutAsLinuxDoes) {
  TcpHost::Socket* s = StartWith(1);
  Advance(Duration::Seconds(900));
  EXPECT_EQ(host().Level(s) & kEventError, 0u);
  Advance(Duration::Seconds(240));  // 924.6 s after the first retransmission, at the next timeout
  EXPECT_EQ(tcp().TakeError(*s->connection), ETIMEDOUT);
}

TEST_F(Recovering, UserTimeoutEndsItEarlier) {
  TcpHost::Socket* s = AcceptOne();
  SetOption(s, TCP_USER_TIMEOUT, 2000);
  Write(s, "x");
  Advance(Duration::Seconds(6));
  EXPECT_EQ(tcp().TakeError(*s->connection), ETIMEDOUT);
}

TEST_F(Recovering, KarnsRuleTakesNoSampleFromARetransmission) {
  TcpHost::Socket* s = StartWith(1, MssOnly());
  const uint32_t before = Info(s).tcpi_rtt;
  Advance(Duration::Milliseconds(210));
  EXPECT_EQ(Sent(), Numbers{0});
  Ack(1);
  EXPECT_EQ(Info(s).tcpi_rtt, before);
}

TEST_F(Recovering, SackBlocksAreBelievedOnlyWithinWhatIsOutstanding) {
  StartWith(10);
  Seg s = Peer(kTcpAck);
  s.options.sack_count = 4;
  s.options.sack_blocks[0] = {{At(20)}, {At(30)}};
  s.options.sack_blocks[1] = {{At(5)}, {At(2)}};
  s.options.sack_blocks[2] = {{first_ - 5000}, {first_ - 10}};
  s.options.sack_blocks[3] = {{At(9)}, {At(11)}};
  In(s);
  EXPECT_EQ(Sent(), Numbers{});
}

TEST_F(Recovering, ThePeersChoiceOfSackEdgesDoesNotMultiplyRecords) {
  UseDevice(OffloadDevice());
  TcpHost::Socket* s = AcceptOne();
  Write(s, std::string(10 * kMss, 'x'));
  SkipOut();
  first_ = peer_ack_;
  for (uint32_t i = 1; i < 10 * kMss - 2; i += 7) {
    Seg seg = Peer(kTcpAck);
    seg.options.sack_count = 1;
    seg.options.sack_blocks[0] = {{first_ + i}, {first_ + i + 3}};
    In(seg);
  }
  SkipOut();
  Ack(10);
  EXPECT_EQ(tcp().BytesInSendQueue(*s->connection), 0u);
}

TEST_F(Recovering, ADsackIsCountedAndStartsNothing) {
  TcpHost::Socket* s = StartWith(4);
  Ack(4);
  Write(s, std::string(kMss, 'x'));
  SkipOut();
  for (int i = 0; i < 5; ++i) Ack(4, {{2, 3}});
  EXPECT_EQ(Sent(), Numbers{});
  EXPECT_EQ(host().Count(Counter::kTcpSpuriousRetransmits), 5u);
}

TEST_F(Recovering, LargeSegmentsAreCutForRetransmissionWhereTheHoleIs) {
  UseDevice(OffloadDevice());
  TcpHost::Socket* s = AcceptOne();
  first_ = peer_ack_;
  Write(s, std::string(10 * kMss, 'x'));
  const Seg large = Out();
  EXPECT_EQ(large.payload.size(), 10 * kMss);
  EXPECT_EQ(large.segment_size, kMss);
  Ack(2, {{3, 10}});
  const Seg again = Out();
  EXPECT_EQ(again.sequence, At(2));
  EXPECT_EQ(again.payload.size(), kMss);
  EXPECT_FALSE(HasOut());
}

TEST_F(Recovering, RestartAfterIdleHalvesTheWindow) {
  TcpHost::Socket* s = StartWith(10);
  Ack(10);
  EXPECT_EQ(Info(s).tcpi_snd_cwnd, 20u);
  Advance(Duration::Seconds(30));
  Write(s, "x");
  EXPECT_EQ(Info(s).tcpi_snd_cwnd, 10u);
}

}  // namespace
}  // namespace userstack::testing
