// Windows: zero windows and probes, silly windows, updates after reading, buffers that grow.
#include "tests/netstack/tcp/host.h"

namespace userstack::testing {
namespace {

using namespace wire;  // NOLINT: TcpFlag names

class Windows : public TcpScript {};

TEST_F(Windows, AClosedWindowIsProbedWithBackOff) {
  TcpHost::Socket* s = AcceptOne(MssOnly(), 0);
  EXPECT_EQ(Write(s, "waiting"), 7);
  EXPECT_FALSE(HasOut());
  int64_t wait = 200;
  for (int i = 0; i < 5; ++i) {
    Advance(Duration::Milliseconds(wait - 30));
    EXPECT_FALSE(HasOut()) << i;
    Advance(Duration::Milliseconds(40));
    const Seg probe = Out();
    EXPECT_EQ(probe.sequence, peer_ack_ - 1);  // below the window: forces an ACK
    EXPECT_TRUE(probe.payload.empty());
    In(Peer(kTcpAck));
    wait = i == 0 ? 390 : wait * 2 + 10;
  }
  peer_window_ = 1000;
  In(Peer(kTcpAck));
  EXPECT_EQ(Out().payload, "waiting");
}

TEST_F(Windows, ProbesThatAreAnsweredGoOnForEver) {
  TcpHost::Socket* s = AcceptOne(MssOnly(), 0);
  Write(s, "waiting");
  for (int i = 0; i < 60; ++i) {
    Advance(Duration::Seconds(125));
    if (HasOut()) In(Peer(kTcpAck));
    SkipOut();
  }
  EXPECT_EQ(host().Level(s) & kEventError, 0u);
}

TEST_F(Windows, ProbesThatAreNotAnsweredEndTheConnection) {
  TcpHost::Socket* s = AcceptOne(MssOnly(), 0);
  Write(s, "waiting");
  Advance(Duration::Seconds(2000));
  EXPECT_EQ(tcp().TakeError(*s->connection), ETIMEDOUT);
}

TEST_F(Windows, NoSegmentIsLargerThanHalfTheLargestWindow) {
  TcpHost::Socket* s = AcceptOne(MssOnly(), 1000);
  Write(s, std::string(1000, 'x'));
  EXPECT_EQ(Out().payload.size(), 500u);
}

TEST_F(Windows, TheWindowNeverShrinks) {
  TcpHost::Socket* s = AcceptOne();
  uint32_t edge = 0;
  for (int i = 0; i < 60; ++i) {
    PeerSends(std::string(1448, 'x'));
    while (HasOut()) {
      const Seg ack = Out();
      const uint32_t now_edge = ack.acknowledgment + (uint32_t{ack.window} << 7);
      if (edge != 0) {
        EXPECT_GE(static_cast<int32_t>(now_edge - edge), 0);
      }
      edge = now_edge;
    }
  }
  Read(s);
}

TEST_F(Windows, AFullBufferClosesTheWindowAndReadingOpensIt) {
  TcpHost::Socket* s = AcceptOne();
  tcp().options(*s->connection).receive_buffer = 32768;
  tcp().options(*s->connection).receive_buffer_locked = true;
  uint32_t window = 64240;
  for (int i = 0; i < 100 && window > 0; ++i) {
    PeerSends(std::string(std::min<uint32_t>(window, 1448), 'x'));
    Advance(Duration::Milliseconds(50));
    while (HasOut()) window = uint32_t{Out().window} << 7;
  }
  EXPECT_EQ(window, 0u);
  EXPECT_FALSE(HasOut());
  const std::string got = Read(s);
  EXPECT_GT(got.size(), 16000u);
  const Seg update = Out();
  EXPECT_GE(uint32_t{update.window} << 7, 8192u);
}

TEST_F(Windows, APromiseOutlivesASmallerBuffer) {
  TcpHost::Socket* s = AcceptOne();
  tcp().options(*s->connection).receive_buffer = 24322;
  tcp().options(*s->connection).receive_buffer_locked = true;
  // What costs most: a little more than small buffers hold, and nothing that is copied behind it.
  std::string expected;
  for (int i = 0; expected.size() < 64'000; ++i) {
    const size_t most = 64'000 - expected.size();
    const std::string text(std::min<size_t>(most, i % 2 == 0 ? 17'000 : 1300),
                           static_cast<char>('a' + i));
    expected += text;
    PeerSends(text);
    Advance(Duration::Milliseconds(500));
    EXPECT_EQ(Out().acknowledgment, peer_next_);
    SkipOut();
  }
  EXPECT_EQ(host().Count(Counter::kTcpReceivePruned), 0u);
  EXPECT_EQ(Read(s), expected);
}

TEST_F(Windows, AProbeOfOurClosedWindowIsAnswered) {
  AcceptOne();
  Seg probe = Peer(kTcpAck);
  probe.sequence = peer_next_ - 1;
  In(probe);
  EXPECT_EQ(Out().acknowledgment, peer_next_);
}

TEST_F(Windows, AWriterIsToldWhenAThirdOfTheBufferIsFree) {
  TcpHost::Socket* s = AcceptOne(MssOnly(), 60000);
  tcp().options(*s->connection).send_buffer = 20000;
  tcp().options(*s->connection).send_buffer_locked = true;
  int64_t written = 0;
  for (;;) {
    const int64_t n = Write(s, std::string(1000, 'x'));
    if (n < 0) {
      EXPECT_EQ(n, -EAGAIN);
      break;
    }
    written += n;
  }
  EXPECT_EQ(host().Level(s) & kEventOut, 0u);
  SkipOut();
  bool writable = false;
  for (int64_t acked = 0; acked < written && !writable;) {
    const auto step = std::min<int64_t>(1460, written - acked);
    acked += step;
    peer_ack_ += static_cast<uint32_t>(step);
    In(Peer(kTcpAck));
    writable = (host().Level(s) & kEventOut) != 0;
    EXPECT_EQ(writable, acked * 3 > written + 3000 || writable) << acked;
  }
  EXPECT_TRUE(writable);
}

TEST_F(Windows, NotSentLowWaterHoldsTheWriterBack) {
  TcpHost::Socket* s = AcceptOne(MssOnly(), 1000);
  SetOption(s, TCP_NOTSENT_LOWAT, 4000);
  int64_t total = 0;
  for (int64_t n; (n = Write(s, std::string(1000, 'x'))) > 0;) total += n;
  EXPECT_LE(total, 6500);
  EXPECT_EQ(host().Level(s) & kEventOut, 0u);
}

TEST_F(Windows, TheScaleCoversTheLargestBuffer) {
  TcpHost::Socket* s = host().Open();
  tcp().options(*s->connection).receive_buffer = 1 << 20;
  tcp().options(*s->connection).receive_buffer_locked = true;
  (void)tcp().Connect(*s->connection, {Address("10.0.0.1"), kPeerPort, 0}, now());
  const Seg syn = Out();
  EXPECT_EQ(syn.options.window_scale, 4);  // 512 KiB of window
  EXPECT_LE(syn.window, 65535);
}

class WholeUnits : public TcpScript {
 protected:
  TcpHost::Socket* Accept(uint32_t mtu, uint16_t mss) {
    DeviceCapabilities device = OffloadDevice();
    device.mtu = mtu;
    device.payload_unit = 4096;
    UseDevice(device);
    return AcceptOne(MssOnly(mss));
  }
};

TEST_F(WholeUnits, SegmentsThatAreCutHoldThemWhereThatCostsLittle) {
  TcpHost::Socket* s = Accept(9000, 8960);
  Write(s, std::string(3 * 8192 + 100, 'x'));
  const Seg large = Out();
  EXPECT_EQ(large.segment_size, 8192);
  EXPECT_EQ(large.payload.size(), 3 * 8192 + 100u);
  EXPECT_FALSE(HasOut());
  // Lost: again in the same units.
  Advance(Duration::Seconds(1));
  const Seg again = Out();
  EXPECT_EQ(again.sequence, large.sequence);
  EXPECT_EQ(again.payload.size() % 8192, 0u);
}

TEST_F(WholeUnits, WhatFitsIntoOneSegmentIsNotCut) {
  TcpHost::Socket* s = Accept(9000, 8960);
  Write(s, std::string(8960, 'x'));
  const Seg one = Out();
  EXPECT_EQ(one.payload.size(), 8960u);
  EXPECT_EQ(one.segment_size, 0);
}

TEST_F(WholeUnits, ASegmentThatWouldLoseMoreThanANinthIsFull) {
  TcpHost::Socket* s = Accept(6000, 5960);
  Write(s, std::string(12000, 'x'));
  EXPECT_EQ(Out().segment_size, 5960);
  s = Accept(1500, 1460);
  Write(s, std::string(5000, 'x'));
  EXPECT_EQ(Out().segment_size, 1460);
}

// A whole unit is no short segment: what follows it is not held until it is acknowledged.
TEST_F(WholeUnits, NagleCountsThemAsFull) {
  TcpHost::Socket* s = Accept(9000, 8960);
  PeerSends("x");
  peer_window_ = 8192;
  PeerSends("y");  // later than the last update, so that it may shrink the window
  SkipOut();
  Write(s, std::string(9000, 'x'));
  EXPECT_EQ(Out().payload.size(), 8192u);
  peer_window_ = 65535;
  In(Peer(kTcpAck));
  EXPECT_EQ(Out().payload.size(), 808u);
}

}  // namespace
}  // namespace userstack::testing
