// Urgent data, as Linux has it; path MTU and ICMP errors.
#include <sys/socket.h>

#include "tests/netstack/tcp/host.h"

namespace userstack::testing {
namespace {

using namespace wire;  // NOLINT: TcpFlag names

class UrgentData : public TcpScript {
 protected:
  void PeerUrgent(std::string payload) {
    Seg s = Peer(kTcpAck | kTcpUrgent | kTcpPush, payload);
    s.urgent = static_cast<uint16_t>(payload.size());
    In(s);
    peer_next_ += static_cast<uint32_t>(payload.size());
  }
};

TEST_F(UrgentData, TheLastByteIsUrgentAndOutOfTheStream) {
  TcpHost::Socket* s = AcceptOne();
  PeerUrgent("ab!");
  EXPECT_NE(host().Level(s) & kEventPriority, 0u);
  std::string byte;
  EXPECT_EQ(host().Receive(s, &byte, 1, now(), MSG_OOB | MSG_PEEK), 1);
  EXPECT_EQ(host().Receive(s, &byte, 1, now(), MSG_OOB), 1);
  EXPECT_EQ(byte, "!");
  EXPECT_EQ(host().Level(s) & kEventPriority, 0u);
  EXPECT_EQ(ReadResult(s, MSG_OOB), -EINVAL);  // taken
  PeerSends("cd");
  EXPECT_EQ(Read(s), "ab");  // a read stops at the mark
  EXPECT_TRUE(tcp().AtUrgentMark(*s->connection));
  EXPECT_EQ(Read(s), "cd");
  EXPECT_FALSE(tcp().AtUrgentMark(*s->connection));
}

TEST_F(UrgentData, InlineItStaysInTheStream) {
  TcpHost::Socket* s = AcceptOne();
  tcp().options(*s->connection).out_of_band_inline = true;
  PeerUrgent("ab!");
  PeerSends("cd");
  EXPECT_EQ(ReadResult(s, MSG_OOB), -EINVAL);
  EXPECT_EQ(Read(s), "ab");
  EXPECT_EQ(Read(s), "!cd");
}

TEST_F(UrgentData, WithoutUrgentDataMsgOobIsEinval) {
  TcpHost::Socket* s = AcceptOne();
  EXPECT_EQ(ReadResult(s, MSG_OOB), -EINVAL);
}

TEST_F(UrgentData, AnAnnouncedByteThatIsNotHereIsEagain) {
  TcpHost::Socket* s = AcceptOne();
  Seg seg = Peer(kTcpAck | kTcpUrgent);
  seg.urgent = 10;
  In(seg);
  EXPECT_EQ(ReadResult(s, MSG_OOB), -EAGAIN);
}

TEST_F(UrgentData, ReadableCountsStopAtTheMark) {
  TcpHost::Socket* s = AcceptOne();
  PeerUrgent("abcd!");
  PeerSends("xyz");
  EXPECT_EQ(tcp().BytesReadable(*s->connection), 4u);
}

TEST_F(UrgentData, SendingSetsThePointerPastTheByte) {
  TcpHost::Socket* s = AcceptOne();
  EXPECT_EQ(Write(s, "ab!", MSG_OOB), 3);
  const Seg seg = Out();
  EXPECT_TRUE(seg.Has(kTcpUrgent));
  EXPECT_EQ(seg.urgent, 3);
  EXPECT_EQ(seg.payload, "ab!");
  peer_ack_ += 3;
  In(Peer(kTcpAck));
  Write(s, "normal");
  EXPECT_FALSE(Out().Has(kTcpUrgent));
}

TEST_F(UrgentData, UrgentModeGoesWithoutCuttingByTheDevice) {
  UseDevice(OffloadDevice());
  TcpHost::Socket* s = AcceptOne();
  Write(s, std::string(5000, 'x'), MSG_OOB);
  EXPECT_EQ(Out().payload.size(), 1448u);
}

class PathMtu : public TcpScript {
 protected:
  void TooBig(const Seg& about, uint32_t mtu) {
    uint8_t quoted[8];
    Store16(quoted, about.source_port);
    Store16(quoted + 2, about.destination_port);
    Store32(quoted + 4, about.sequence);
    tcp().OnIcmpError(Address("10.0.0.2"), Address("10.0.0.1"), quoted, 8, EMSGSIZE, false, mtu,
                      now());
  }
};

TEST_F(PathMtu, ASmallerPathMtuCutsAndSendsAgain) {
  TcpHost::Socket* s = AcceptOne();
  Write(s, std::string(3 * 1448, 'x'));
  const Seg first = Out();
  SkipOut();
  TooBig(first, 1000);
  const Seg again = Out();
  EXPECT_EQ(again.sequence, first.sequence);
  EXPECT_EQ(again.payload.size(), 948u);  // 1000 - 20 - 20 - 12
  EXPECT_EQ(host().Info(s, now()).tcpi_snd_mss, 948u);
  EXPECT_GE(host().Info(s, now()).tcpi_snd_cwnd, 10u);  // no sign of congestion
}

TEST_F(PathMtu, AMessageThatQuotesNothingInFlightIsIgnored) {
  TcpHost::Socket* s = AcceptOne();
  Write(s, std::string(1448, 'x'));
  Seg first = Out();
  first.sequence += 5000;
  TooBig(first, 1000);
  EXPECT_FALSE(HasOut());
  EXPECT_EQ(host().Info(s, now()).tcpi_snd_mss, 1448u);
}

TEST_F(PathMtu, AnUnreachablePeerFailsConnectButNotAnOpenConnection) {
  TcpHost::Socket* s = host().Open();
  (void)tcp().Connect(*s->connection, {Address("10.0.0.1"), kPeerPort, 0}, now());
  const Seg syn = Out();
  uint8_t quoted[8];
  Store16(quoted, syn.source_port);
  Store16(quoted + 2, kPeerPort);
  Store32(quoted + 4, syn.sequence);
  tcp().OnIcmpError(Address("10.0.0.2"), Address("10.0.0.1"), quoted, 8, EHOSTUNREACH, false, 0,
                    now());
  EXPECT_EQ(tcp().TakeError(*s->connection), EHOSTUNREACH);

  TcpHost::Socket* open = AcceptOne();
  Write(open, "x");
  const Seg data = Out();
  Store16(quoted, data.source_port);
  Store16(quoted + 2, data.destination_port);
  Store32(quoted + 4, data.sequence);
  tcp().OnIcmpError(Address("10.0.0.2"), Address("10.0.0.1"), quoted, 8, EHOSTUNREACH, true, 0,
                    now());
  EXPECT_EQ(tcp().TakeError(*open->connection), 0);
}

}  // namespace
}  // namespace userstack::testing
