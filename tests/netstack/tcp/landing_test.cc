// Landing: text of a long run goes into the memory of the call that waits for it, and nothing else
// does; what the program reads is the same as without.
#include "netstack/base/random.h"
#include "tests/netstack/tcp/host.h"

namespace userstack::testing {
namespace {

using namespace wire;  // NOLINT: TcpFlag names

constexpr size_t kSegment = 1000;

class LandingTest : public TcpScript {
 protected:
  void SetUp() override { Accept(); }
  void Accept() {
    socket_ = AcceptOne();
    memory_.assign(128 << 10, '-');
  }
  Landing& landing() { return host().core().landing; }

  std::string Text(size_t length = kSegment) {
    std::string text(length, ' ');
    for (char& c : text) c = static_cast<char>(PatternByte(at_++));
    return text;
  }
  // Long enough for the next to be foretold.
  void Run() {
    for (uint64_t sent = 0; sent < Landing::kLongStreak; sent += kSegment) {
      PeerSends(Text());
      (void)Read(socket_);
      Acknowledge();
    }
  }
  void Acknowledge() {
    while (HasOut()) acknowledged_ = Out().acknowledgment;
  }
  // A call has found nothing and waits.
  void Wait(uint32_t least = Landing::kLongestText) {
    tcp().OpenLanding(*socket_->connection, Memory(), memory_.size(), least);
  }
  uint8_t* Memory() { return reinterpret_cast<uint8_t*>(memory_.data()); }
  // The call goes on with what has come: the count, or -errno.
  int64_t GoOn() {
    landing().Close();
    const iovec io{memory_.data(), memory_.size()};
    int flags = 0;
    const Result<size_t> got =
        tcp().Receive(*socket_->connection, IoVector(&io, 1), 0, &flags, now());
    tcp().CheckInvariants();
    Acknowledge();
    return got.ok() ? static_cast<int64_t>(*got) : -got.error();
  }
  bool LevelIn() { return (host().Level(socket_) & kEventIn) != 0; }

  TcpHost::Socket* socket_ = nullptr;
  std::string memory_;
  size_t at_ = 0;
  uint32_t acknowledged_ = 0;
};

TEST_F(LandingTest, TheNextTextOfALongRunLandsWhereTheProgramWantsIt) {
  Run();
  Wait();
  const std::string first = Text(), second = Text();
  PeerSends(first);
  PeerSends(second);
  EXPECT_EQ(landing().taken, 2 * kSegment);
  EXPECT_TRUE(LevelIn());
  EXPECT_EQ(memory_.substr(0, 2 * kSegment), first + second);
  EXPECT_EQ(socket_->connection->received_memory, 0u);
  EXPECT_EQ(GoOn(), 2 * static_cast<int64_t>(kSegment));
  EXPECT_EQ(memory_.substr(0, 2 * kSegment), first + second);
  EXPECT_EQ(GoOn(), -EAGAIN);
  EXPECT_FALSE(LevelIn());
  EXPECT_EQ(landing().buffer.references, 0u);
}

TEST_F(LandingTest, AQueueOfItsOwnIsForWhoSharesTheWire) {
  Run();
  tcp::Connection& c = *socket_->connection;
  landing().streak = 16 * Landing::kLongStreak;
  EXPECT_EQ(tcp().GiveDeviceQueue(c, 8), 0u);  // it has the wire
  const int other = 0;
  landing().NoteText(&other, 1);
  EXPECT_EQ(tcp().GiveDeviceQueue(c, 0), 0u);
  EXPECT_EQ(tcp().GiveDeviceQueue(c, 8), 1u);
  EXPECT_EQ(tcp().GiveDeviceQueue(c, 8), 0u);  // one each
  EXPECT_EQ(tcp().DeviceQueue(c), 1u);
  EXPECT_EQ(tcp().DeviceQueueOwner(1), &socket_->pollable);
  EXPECT_EQ(tcp().DeviceQueueOwner(2), nullptr);
  tcp().CheckInvariants();
  Wait();
  EXPECT_TRUE(landing().IsOpen());  // whose text comes by its queue is no guess
  landing().Close();
  tcp().ReturnDeviceQueue(1);
  EXPECT_EQ(tcp().DeviceQueue(c), 0u);
  tcp().ReturnDeviceQueue(1);  // nobody's
  Wait();
  EXPECT_FALSE(landing().IsOpen());
}

TEST_F(LandingTest, AQueueIsNobodysWhenItsConnectionEndsOrItsOwnerDied) {
  Run();
  tcp::Connection& c = *socket_->connection;
  const int other = 0;
  landing().NoteText(&other, 1);
  ASSERT_EQ(tcp().GiveDeviceQueue(c, 8), 1u);
  DeviceQueues& queues = host().core().queues;
  queues.owner[0] = nullptr;  // a death in the middle of a change
  queues.owner[4] = &c;
  const tcp::Connection* examined = nullptr;
  tcp().Mend(&examined, now());
  EXPECT_EQ(queues.owner[0], &c);
  EXPECT_EQ(queues.owner[4], nullptr);
  tcp().CheckInvariants();
  In(Peer(kTcpReset));
  EXPECT_EQ(queues.owner[0], nullptr);
  EXPECT_EQ(tcp().DeviceQueue(c), 0u);
  tcp().CheckInvariants();
}

TEST_F(LandingTest, AShortRunIsNoReasonToGuess) {
  PeerSends(Text());
  (void)Read(socket_);
  Wait();
  EXPECT_FALSE(landing().IsOpen());
}

TEST_F(LandingTest, ARunThatAnotherConnectionInterruptedIsNoReasonToGuess) {
  Run();
  const int other = 0;
  landing().NoteText(&other, 1);
  Wait();
  EXPECT_FALSE(landing().IsOpen());
}

TEST_F(LandingTest, MemoryWithoutRoomForTheLongestFrameIsNotUsed) {
  Run();
  tcp().OpenLanding(*socket_->connection, Memory(), Landing::kLongestText - 1,
                    Landing::kLongestText);
  EXPECT_FALSE(landing().IsOpen());
}

TEST_F(LandingTest, TextWithoutRoomForAllOfItLandsInPartAndTheRestIsReadNext) {
  Run();
  memory_.assign(Landing::kLeastPart + 10, '-');
  Wait(Landing::kLeastPart);
  const std::string text = Text(30'000);
  PeerSends(text);
  EXPECT_EQ(landing().taken, memory_.size());
  EXPECT_TRUE(LevelIn());
  EXPECT_GT(socket_->connection->received_memory, 0u);
  EXPECT_EQ(landing().buffer.references, 0u);
  EXPECT_EQ(GoOn(), static_cast<int64_t>(memory_.size()));
  EXPECT_EQ(memory_, text.substr(0, memory_.size()));
  EXPECT_TRUE(LevelIn());
  Wait(Landing::kLeastPart);
  EXPECT_FALSE(landing().IsOpen());  // text waits
  const size_t left = text.size() - memory_.size();
  EXPECT_EQ(GoOn(), static_cast<int64_t>(left));
  EXPECT_EQ(memory_.substr(0, left), text.substr(memory_.size()));
  EXPECT_FALSE(LevelIn());
  EXPECT_EQ(acknowledged_, peer_next_);
}

TEST_F(LandingTest, MemoryWithoutRoomForAnUsefulPartIsNotUsed) {
  Run();
  tcp().OpenLanding(*socket_->connection, Memory(), Landing::kLeastPart - 1, Landing::kLeastPart);
  EXPECT_FALSE(landing().IsOpen());
}

TEST_F(LandingTest, TextThatLandedInPartBehindALostSegmentIsBroughtHome) {
  Run();
  memory_.assign(Landing::kLeastPart + 2 * kSegment, '-');
  Wait(Landing::kLeastPart);
  const std::string first = Text(), second = Text(30'000);
  corrupt_next_ = true;
  PeerSends(first);
  PeerSends(second);
  EXPECT_EQ(landing().taken, 0u);
  EXPECT_EQ(landing().buffer.references, 0u);
  EXPECT_EQ(GoOn(), -EAGAIN);
  memory_.assign(128 << 10, '?');
  peer_next_ -= first.size() + second.size();
  PeerSends(first);
  EXPECT_EQ(GoOn(), static_cast<int64_t>(first.size() + second.size()));
  EXPECT_EQ(memory_.substr(0, first.size() + second.size()), first + second);
}

TEST_F(LandingTest, TextBehindUnreadTextDoesNotLand) {
  Run();
  PeerSends(Text());
  Wait();
  EXPECT_FALSE(landing().IsOpen());
}

TEST_F(LandingTest, TheEndOfTheStreamMayComeWithTheTextThatLands) {
  Run();
  Wait();
  const std::string last = Text();
  In(Peer(kTcpAck | kTcpFin, last));
  EXPECT_EQ(landing().taken, kSegment);
  EXPECT_EQ(GoOn(), static_cast<int64_t>(kSegment));
  EXPECT_EQ(memory_.substr(0, kSegment), last);
  EXPECT_EQ(GoOn(), 0);
}

TEST_F(LandingTest, TextBehindAHoleDoesNotLand) {
  Run();
  Seg ahead = Peer(kTcpAck, "ahead");
  ahead.sequence += 100;
  In(ahead);
  Wait();
  EXPECT_FALSE(landing().IsOpen());
}

TEST_F(LandingTest, TextBeforeAnUrgentMarkDoesNotLand) {
  Run();
  Seg segment = Peer(kTcpAck | kTcpUrgent, "x");
  segment.urgent = 100;
  In(segment);
  peer_next_ += 1;
  (void)Read(socket_);
  Wait();
  EXPECT_FALSE(landing().IsOpen());
}

TEST_F(LandingTest, TextBeforeAKnownEndDoesNotLand) {
  Run();
  Seg end = Peer(kTcpAck | kTcpFin);
  end.sequence += 100;
  In(end);
  Wait();
  EXPECT_FALSE(landing().IsOpen());
}

TEST_F(LandingTest, TextOfWhichOneByteIsNotEnoughDoesNotLand) {
  Run();
  tcp().options(*socket_->connection).receive_low_water = 2;
  Wait();
  EXPECT_FALSE(landing().IsOpen());
}

TEST_F(LandingTest, AFragmentIsNotForetold) {
  Run();
  Wait();
  ASSERT_TRUE(landing().IsOpen());
  uint8_t bytes[Landing::kMaxHeaders + 1];
  std::copy_n(landing().header, Landing::kMaxHeaders, bytes);
  Store32(bytes + landing().sequence_at, landing().sequence);
  const uint32_t length = landing().header_length + 1;
  constexpr uint32_t kFlags = 14 + 6;
  bytes[kFlags] = 0x40;  // DF
  EXPECT_TRUE(landing().Foretells(bytes, length));
  bytes[kFlags] = 0x20;  // MF
  EXPECT_FALSE(landing().Foretells(bytes, length));
  bytes[kFlags] = 0x01;  // an offset
  EXPECT_FALSE(landing().Foretells(bytes, length));
}

struct Change {
  const char* what;
  void (*apply)(Seg& s);
};

class OtherSegment : public LandingTest, public ::testing::WithParamInterface<Change> {};

TEST_P(OtherSegment, DoesNotLand) {
  Run();
  Seg segment = Peer(kTcpAck, Text());
  GetParam().apply(segment);
  Wait();
  ASSERT_TRUE(landing().IsOpen());
  In(segment);
  EXPECT_FALSE(landing().IsOpen());
  EXPECT_EQ(landing().taken, 0u);
  EXPECT_EQ(landing().buffer.references, 0u);
  tcp().CheckInvariants();
}

INSTANTIATE_TEST_SUITE_P(Landing, OtherSegment,
                         ::testing::Values(Change{"Ahead", [](Seg& s) { s.sequence += 1; }},
                                           Change{"Behind", [](Seg& s) { s.sequence -= 500; }},
                                           Change{"Urgent", [](Seg& s) { s.flags |= kTcpUrgent; }},
                                           Change{"Syn", [](Seg& s) { s.flags |= kTcpSyn; }},
                                           Change{"Reset", [](Seg& s) { s.flags |= kTcpReset; }},
                                           Change{"WithoutAck", [](Seg& s) { s.flags = 0; }},
                                           Change{"AnotherPort",
                                                  [](Seg& s) { s.source_port = 4999; }},
                                           Change{"WithoutText", [](Seg& s) { s.payload.clear(); }},
                                           Change{"Short",
                                                  [](Seg& s) {
                                                    s.payload.clear();
                                                    s.options.has_timestamps = false;
                                                  }}),
                         [](const auto& info) { return info.param.what; });

TEST_F(LandingTest, TextBehindALostSegmentIsBroughtHome) {
  Run();
  Wait();
  const std::string first = Text(), second = Text();
  corrupt_next_ = true;
  PeerSends(first);
  PeerSends(second);
  EXPECT_EQ(landing().taken, 0u);
  EXPECT_EQ(landing().buffer.references, 0u);
  EXPECT_EQ(GoOn(), -EAGAIN);
  memory_.assign(memory_.size(), '?');
  peer_next_ -= 2 * kSegment;
  PeerSends(first);
  EXPECT_EQ(GoOn(), 2 * static_cast<int64_t>(kSegment));
  EXPECT_EQ(memory_.substr(0, 2 * kSegment), first + second);
}

TEST_F(LandingTest, WithoutBuffersTextThatCannotStayIsLostAndComesAgain) {
  Run();
  Wait();
  const std::string first = Text(), second = Text();
  corrupt_next_ = true;
  PeerSends(first);
  std::vector<Buffer*> held;
  while (Buffer* buffer = host().core().buffers.Allocate(BufferClass::kLarge)) {
    held.push_back(buffer);
  }
  PeerSends(second);
  for (Buffer* buffer : held) host().core().buffers.Release(buffer);
  EXPECT_EQ(landing().buffer.references, 0u);
  EXPECT_EQ(GoOn(), -EAGAIN);
  peer_next_ -= 2 * kSegment;
  PeerSends(first);
  PeerSends(second);
  EXPECT_EQ(GoOn(), 2 * static_cast<int64_t>(kSegment));
  EXPECT_EQ(memory_.substr(0, 2 * kSegment), first + second);
}

TEST_F(LandingTest, AResetBehindTextThatHasLandedIsForTheNextCall) {
  Run();
  Wait();
  PeerSends(Text());
  In(Peer(kTcpReset));
  EXPECT_EQ(GoOn(), static_cast<int64_t>(kSegment));
  EXPECT_EQ(GoOn(), -ECONNRESET);
}

// Linux (tcp_recvmsg_locked): a read that has got something ends at the mark.
TEST_F(LandingTest, AReadOfTextThatHasLandedEndsAtTheUrgentMark) {
  Run();
  Wait();
  PeerSends(Text());
  Seg segment = Peer(kTcpAck | kTcpUrgent | kTcpPush, "!behind");
  segment.urgent = 1;
  In(segment);
  peer_next_ += 7;
  EXPECT_EQ(GoOn(), static_cast<int64_t>(kSegment));
  EXPECT_EQ(GoOn(), 6);
  EXPECT_EQ(memory_.substr(0, 6), "behind");
}

// One conversation with bursts of every length. (Windows may differ, and with them what is
// acknowledged at once: text that has landed fills no buffer.)
class Conversation : public LandingTest {
 public:
  explicit Conversation(bool land, uint32_t least = Landing::kLongestText) {
    Accept();
    Run();
    Random random(7);
    for (int i = 0; i < 300; ++i) {
      if (least < Landing::kLongestText) memory_.resize(12000 + random.Next() % 30000);
      if (land) Wait(least);
      for (uint64_t n = random.Next() % 6; n > 0; --n) PeerSends(Text(1 + random.Next() % 9000));
      landed_ += landing().taken;
      const int64_t got = GoOn();
      results_.push_back(got);
      if (got > 0) read_.append(memory_, 0, static_cast<size_t>(got));
      if (random.Next() % 8 == 0) Advance(Duration::Milliseconds(50));
    }
    Advance(Duration::Milliseconds(500));
    Acknowledge();
  }
  void TestBody() override {}
  const std::vector<int64_t>& results() const { return results_; }
  bool AllAcknowledged() const { return acknowledged_ == peer_next_; }
  const std::string& read() const { return read_; }
  uint64_t landed() const { return landed_; }

 private:
  std::string read_;
  std::vector<int64_t> results_;
  uint64_t landed_ = 0;
};

TEST(Landing, WhatIsReadIsTheSameWithoutIt) {
  const Conversation with(true), without(false);
  EXPECT_GT(with.landed(), with.read().size() / 2);
  EXPECT_EQ(without.landed(), 0u);
  EXPECT_EQ(with.read(), without.read());
  EXPECT_EQ(with.results(), without.results());
  EXPECT_TRUE(with.AllAcknowledged());
}

TEST(Landing, WhatIsReadIsTheSameWhereTextLandsInPart) {
  const Conversation with(true, Landing::kLeastPart), without(false, Landing::kLeastPart);
  EXPECT_GT(with.landed(), with.read().size() / 8);
  EXPECT_EQ(with.read(), without.read());
  EXPECT_EQ(with.results(), without.results());
  EXPECT_TRUE(with.AllAcknowledged());
}

}  // namespace
}  // namespace userstack::testing
