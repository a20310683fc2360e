// Options of level IPPROTO_TCP and what they do: Nagle, cork, keepalive, quick ACKs, TCP_INFO.
#include <sys/socket.h>

#include "tests/netstack/tcp/host.h"

namespace userstack::testing {
namespace {

using namespace wire;  // NOLINT: TcpFlag names

class Options : public TcpScript {
 protected:
  int Get(TcpHost::Socket* s, int name) {
    int value = -12345;
    uint32_t length = sizeof value;
    const Status status = tcp().GetOption(*s->connection, name, &value, &length, now());
    return status.ok() ? value : -status.error();
  }
  int Set(TcpHost::Socket* s, int name, int value) {
    return tcp().SetOption(*s->connection, name, &value, sizeof value, now()).error();
  }
};

TEST_F(Options, NagleHoldsASecondSmallSegment) {
  TcpHost::Socket* s = AcceptOne();
  Write(s, "a");
  EXPECT_EQ(Out().payload, "a");
  Write(s, "b");
  Write(s, "c");
  EXPECT_FALSE(HasOut());
  ++peer_ack_;
  In(Peer(kTcpAck));
  EXPECT_EQ(Out().payload, "bc");
}

TEST_F(Options, MinshallLetsASmallSegmentFollowFullOnes) {
  TcpHost::Socket* s = AcceptOne();
  Write(s, std::string(2 * 1448 + 10, 'x'));
  EXPECT_EQ(Out().payload.size(), 1448u);
  EXPECT_EQ(Out().payload.size(), 1448u);
  EXPECT_EQ(Out().payload.size(), 10u);  // nothing small is in flight
}

TEST_F(Options, NoDelaySendsAtOnceAndFlushes) {
  TcpHost::Socket* s = AcceptOne();
  Write(s, "a");
  Write(s, "b");
  SkipOut();
  EXPECT_EQ(Set(s, TCP_NODELAY, 1), 0);
  EXPECT_EQ(Out().payload, "b");
  Write(s, "c");
  EXPECT_EQ(Out().payload, "c");
}

TEST_F(Options, CorkHoldsShortSegmentsForTwoHundredMilliseconds) {
  TcpHost::Socket* s = AcceptOne();
  EXPECT_EQ(Set(s, TCP_CORK, 1), 0);
  Write(s, "corked");
  EXPECT_FALSE(HasOut());
  Advance(Duration::Milliseconds(250));
  EXPECT_EQ(Out().payload, "corked");
  peer_ack_ += 6;
  In(Peer(kTcpAck));
  Write(s, "again");
  EXPECT_FALSE(HasOut());
  EXPECT_EQ(Set(s, TCP_CORK, 0), 0);
  EXPECT_EQ(Out().payload, "again");
}

TEST_F(Options, MsgMoreJoinsTwoWrites) {
  TcpHost::Socket* s = AcceptOne();
  Write(s, "head", MSG_MORE);
  EXPECT_FALSE(HasOut());
  Write(s, "body");
  EXPECT_EQ(Out().payload, "headbody");
}

TEST_F(Options, KeepAliveProbesThenGivesUp) {
  TcpHost::Socket* s = AcceptOne();
  tcp().options(*s->connection).keep_alive = true;
  tcp().OptionsChanged(*s->connection, now());
  EXPECT_EQ(Set(s, TCP_KEEPIDLE, 10), 0);
  EXPECT_EQ(Set(s, TCP_KEEPINTVL, 3), 0);
  EXPECT_EQ(Set(s, TCP_KEEPCNT, 2), 0);
  Advance(Duration::Seconds(9));
  EXPECT_FALSE(HasOut());
  Advance(Duration::Seconds(2));
  const Seg probe = Out();
  EXPECT_EQ(probe.sequence, peer_ack_ - 1);
  In(Peer(kTcpAck));  // alive
  Advance(Duration::Seconds(9));
  EXPECT_FALSE(HasOut());
  Advance(Duration::Seconds(2));
  Out();
  Advance(Duration::Seconds(3));
  Out();
  Advance(Duration::Seconds(3));
  EXPECT_TRUE(Out().Has(kTcpReset));
  EXPECT_EQ(tcp().TakeError(*s->connection), ETIMEDOUT);
}

TEST_F(Options, DefaultsAreLinuxs) {
  TcpHost::Socket* s = host().Open();
  EXPECT_EQ(Get(s, TCP_NODELAY), 0);
  EXPECT_EQ(Get(s, TCP_CORK), 0);
  EXPECT_EQ(Get(s, TCP_MAXSEG), 536);
  EXPECT_EQ(Get(s, TCP_KEEPIDLE), 7200);
  EXPECT_EQ(Get(s, TCP_KEEPINTVL), 75);
  EXPECT_EQ(Get(s, TCP_KEEPCNT), 9);
  EXPECT_EQ(Get(s, TCP_SYNCNT), 6);
  EXPECT_EQ(Get(s, TCP_LINGER2), 60);
  EXPECT_EQ(Get(s, TCP_DEFER_ACCEPT), 0);
  EXPECT_EQ(Get(s, TCP_WINDOW_CLAMP), 0);
  EXPECT_EQ(Get(s, TCP_QUICKACK), 1);
  EXPECT_EQ(Get(s, TCP_USER_TIMEOUT), 0);
  EXPECT_EQ(Get(s, 9999), -ENOPROTOOPT);
}

TEST_F(Options, LimitsAreLinuxs) {
  TcpHost::Socket* s = host().Open();
  EXPECT_EQ(Set(s, TCP_KEEPIDLE, 0), EINVAL);
  EXPECT_EQ(Set(s, TCP_KEEPIDLE, 32768), EINVAL);
  EXPECT_EQ(Set(s, TCP_KEEPCNT, 128), EINVAL);
  EXPECT_EQ(Set(s, TCP_SYNCNT, 0), EINVAL);
  EXPECT_EQ(Set(s, TCP_MAXSEG, 87), EINVAL);
  EXPECT_EQ(Set(s, TCP_USER_TIMEOUT, -1), EINVAL);
  EXPECT_EQ(Set(s, 9999, 1), ENOPROTOOPT);
  EXPECT_EQ(tcp().SetOption(*s->connection, TCP_NODELAY, "", 1, now()).error(), EINVAL);
  EXPECT_EQ(Set(s, TCP_LINGER2, -1), 0);
  EXPECT_EQ(Get(s, TCP_LINGER2), -1);
  EXPECT_EQ(Set(s, TCP_LINGER2, 1000), 0);
  EXPECT_EQ(Get(s, TCP_LINGER2), 120);
  // Seconds become retransmissions and come back rounded up.
  EXPECT_EQ(Set(s, TCP_DEFER_ACCEPT, 5), 0);
  EXPECT_EQ(Get(s, TCP_DEFER_ACCEPT), 7);
}

TEST_F(Options, CongestionControlIsNamed) {
  TcpHost::Socket* s = host().Open();
  char name[16];
  uint32_t length = sizeof name;
  EXPECT_TRUE(tcp().GetOption(*s->connection, TCP_CONGESTION, name, &length, now()).ok());
  EXPECT_STREQ(name, "cubic");
  EXPECT_EQ(length, 16u);
  EXPECT_TRUE(tcp().SetOption(*s->connection, TCP_CONGESTION, "reno", 4, now()).ok());
  length = sizeof name;
  EXPECT_TRUE(tcp().GetOption(*s->connection, TCP_CONGESTION, name, &length, now()).ok());
  EXPECT_STREQ(name, "reno");
  EXPECT_EQ(tcp().SetOption(*s->connection, TCP_CONGESTION, "nosuch", 6, now()).error(), ENOENT);
  EXPECT_EQ(tcp().SetOption(*s->connection, TCP_ULP, "tls", 3, now()).error(), ENOENT);
}

TEST_F(Options, MaxSegLimitsBothDirections) {
  TcpHost::Socket* s = host().Open();
  EXPECT_EQ(Set(s, TCP_MAXSEG, 1000), 0);
  EXPECT_EQ(Get(s, TCP_MAXSEG), 1000);
  (void)tcp().Connect(*s->connection, {Address("10.0.0.1"), kPeerPort, 0}, now());
  EXPECT_EQ(Out().options.maximum_segment_size, 1000);
}

TEST_F(Options, InfoTellsWhatIsGoingOn) {
  TcpHost::Socket* s = AcceptOne();
  Write(s, std::string(3000, 'x'));
  const LinuxInfo info = host().Info(s, now());
  EXPECT_EQ(info.tcpi_state, 1);
  EXPECT_EQ(info.tcpi_options & 7, 7);
  EXPECT_EQ(info.tcpi_snd_wscale, 7);
  EXPECT_EQ(info.tcpi_snd_mss, 1448u);
  EXPECT_EQ(info.tcpi_unacked, 3u);
  EXPECT_EQ(info.tcpi_snd_cwnd, 10u);
  EXPECT_EQ(info.tcpi_snd_ssthresh, 0x7fffffffu);
  EXPECT_EQ(info.tcpi_pmtu, 1500u);
  EXPECT_EQ(info.tcpi_advmss, 1448u);
}

}  // namespace
}  // namespace userstack::testing
