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

}  // namespace
}  // namespace userstack::testing
