// UDP sockets: names, delivery, sizes, checksums. The kernel is the oracle.
#include <gtest/gtest.h>
#include <netinet/udp.h>

#include <map>
#include <set>

#include "tests/netstack/socket/fixture.h"

namespace userstack {
namespace {

constexpr EventMask kReadable = kEventIn | kEventReadNormal;
constexpr EventMask kWritable = kEventOut | kEventWriteNormal | kEventWriteBand;

class UdpTest : public StackTest {
 protected:
  // A server on b, port 7, on every address.
  Sock Server(int domain = AF_INET) {
    Sock s = Open(b(), domain, SOCK_DGRAM);
    EXPECT_EQ(Bind(s, At(domain == AF_INET ? "0.0.0.0" : "::", 7)), 0);
    return s;
  }
  uint64_t Count(Node& node, Counter counter) { return node.stack->core().counters.Get(counter); }
  std::vector<std::vector<uint8_t>> UdpFrames(Node& node) {
    std::vector<std::vector<uint8_t>> result;
    for (auto& frame : TakeFrames(node)) {
      testing::FrameLayout layout;
      if (testing::ParseLayout(frame, &layout) && layout.protocol == IPPROTO_UDP) {
        result.push_back(frame);
      }
    }
    return result;
  }
};

TEST_F(UdpTest, ANewSocketIsWritableAndHasNoName) {
  Sock s = Udp4(a());
  EXPECT_EQ(Events(s), kWritable);
  EXPECT_EQ(LocalName(s), "0.0.0.0:0");
  EXPECT_EQ(PeerName(s), "ENOTCONN");
  EXPECT_EQ(Receive(s).result, -EAGAIN);
  Sock s6 = Udp6(a());
  EXPECT_EQ(LocalName(s6), "[::]:0");
}

TEST_F(UdpTest, SendWithoutDestinationNeedsAConnection) {
  Sock s = Udp4(a());
  EXPECT_EQ(Send(s, "x"), -EDESTADDRREQ);
  EXPECT_NE(LocalName(s), "0.0.0.0:0") << "Linux binds before it looks at the destination";
  EXPECT_EQ(SendTo(s, "x", At("10.0.0.2", 0)), -EINVAL);
  EXPECT_EQ(SendTo(s, "x", At("fd00::2", 7)), -EAFNOSUPPORT);
  EXPECT_EQ(SendTo(s, "x", At("10.0.0.2", 7), MSG_OOB), -EOPNOTSUPP);
}

TEST_F(UdpTest, ConnectChoosesSourceAndPortAndDisconnectForgetsThem) {
  Sock s = Udp4(a());
  ASSERT_EQ(Connect(s, At("10.0.0.2", 7)), 0);
  const std::string name = LocalName(s);
  EXPECT_EQ(name.substr(0, 9), "10.0.0.1:");
  const int port = std::stoi(name.substr(9));
  EXPECT_TRUE(port >= 32768 && port <= 60999) << port;
  EXPECT_EQ(PeerName(s), "10.0.0.2:7");
  ASSERT_EQ(Connect(s, At("10.0.0.2", 8)), 0);
  EXPECT_EQ(PeerName(s), "10.0.0.2:8");
  EXPECT_EQ(LocalName(s), name);
  ASSERT_EQ(Connect(s, At("", 0)), 0);
  EXPECT_EQ(LocalName(s), "0.0.0.0:0");
  EXPECT_EQ(PeerName(s), "ENOTCONN");
  EXPECT_EQ(Send(s, "x"), -EDESTADDRREQ);
}

TEST_F(UdpTest, DisconnectKeepsWhatBindChose) {
  Sock s = Udp4(a());
  ASSERT_EQ(Bind(s, At("0.0.0.0", 5000)), 0);
  ASSERT_EQ(Connect(s, At("10.0.0.2", 7)), 0);
  EXPECT_EQ(LocalName(s), "10.0.0.1:5000");
  ASSERT_EQ(Connect(s, At("", 0)), 0);
  EXPECT_EQ(LocalName(s), "0.0.0.0:5000");
}

TEST_F(UdpTest, AConnectedSocketHearsItsPeerOnly) {
  Sock server = Server();
  Sock peer = Udp4(a());
  Sock stranger = Udp4(a());
  ASSERT_EQ(Bind(peer, At("10.0.0.1", 1000)), 0);
  ASSERT_EQ(Connect(server, At("10.0.0.1", 1000)), 0);
  EXPECT_EQ(SendTo(stranger, "no", At("10.0.0.2", 7)), 2);
  EXPECT_EQ(SendTo(peer, "yes", At("10.0.0.2", 7)), 3);
  EXPECT_EQ(Receive(server).text, "yes");
  EXPECT_EQ(Receive(server).result, -EAGAIN);
  EXPECT_EQ(Count(b(), Counter::kUdpNoPorts), 1u);
}

TEST_F(UdpTest, TheMostParticularSocketGetsTheDatagram) {
  Sock wildcard = Udp4(b()), address = Udp4(b()), connected = Udp4(b()), dual = Udp6(b());
  for (const Sock& s : {wildcard, address, connected, dual}) Set(s, SOL_SOCKET, SO_REUSEADDR, 1);
  ASSERT_EQ(Bind(wildcard, At("0.0.0.0", 7)), 0);
  ASSERT_EQ(Bind(dual, At("::", 7)), 0);
  ASSERT_EQ(Bind(address, At("10.0.0.2", 7)), 0);
  ASSERT_EQ(Bind(connected, At("10.0.0.2", 7)), 0);
  ASSERT_EQ(Connect(connected, At("10.0.0.1", 1000)), 0);
  Sock client = Udp4(a());
  ASSERT_EQ(Bind(client, At("10.0.0.1", 1000)), 0);
  SendTo(client, "1", At("10.0.0.2", 7));
  EXPECT_EQ(Receive(connected).text, "1");
  Close(&connected);
  SendTo(client, "2", At("10.0.0.2", 7));
  EXPECT_EQ(Receive(address).text, "2");
  Close(&address);
  SendTo(client, "3", At("10.0.0.2", 7));
  EXPECT_EQ(Receive(wildcard).text, "3");
  Close(&wildcard);
  SendTo(client, "4", At("10.0.0.2", 7));
  const Datagram got = Receive(dual);
  EXPECT_EQ(got.text, "4");
  EXPECT_EQ(got.from, "[::ffff:10.0.0.1]:1000");
}

TEST_F(UdpTest, BindRefusesAsLinuxDoes) {
  Sock s = Udp4(a());
  EXPECT_EQ(Bind(s, At("10.0.0.99", 7)), -EADDRNOTAVAIL);
  EXPECT_EQ(Bind(s, At("fd00::1", 7)), -EAFNOSUPPORT);
  Name short_name = At("10.0.0.1", 7);
  short_name.length = 8;
  EXPECT_EQ(Bind(s, short_name), -EINVAL);
  EXPECT_EQ(Bind(s, At("10.0.0.1", 7)), 0);
  EXPECT_EQ(Bind(s, At("10.0.0.1", 8)), -EINVAL);
  Sock other = Udp4(a());
  EXPECT_EQ(Bind(other, At("10.0.0.1", 7)), -EADDRINUSE);
  EXPECT_EQ(Bind(other, At("0.0.0.0", 7)), -EADDRINUSE);
  EXPECT_EQ(Bind(other, At("127.0.0.1", 7)), 0) << "another address is another name";
  Sock free = Udp4(a());
  EXPECT_EQ(Set(free, IPPROTO_IP, IP_FREEBIND, 1), 0);
  EXPECT_EQ(Bind(free, At("10.0.0.99", 7)), 0);
  Sock unspecified = Udp4(a());
  EXPECT_EQ(Bind(unspecified, At("", 0)), 0) << "AF_UNSPEC counts as the wildcard";
  EXPECT_NE(LocalName(unspecified), "0.0.0.0:0");
  Sock six = Udp6(a());
  EXPECT_EQ(Bind(six, At("10.0.0.1", 9)), -EINVAL) << "shorter than a sockaddr_in6";
  EXPECT_EQ(Bind(six, At("fe80::1", 9)), -EINVAL) << "link-local without a scope";
  EXPECT_EQ(Bind(six, At("fe80::1%3", 9)), -ENODEV);
  EXPECT_EQ(Bind(six, At("fd00::99", 9)), -EADDRNOTAVAIL);
  EXPECT_EQ(Bind(six, At("::ffff:10.0.0.1", 9)), 0);
}

TEST_F(UdpTest, PortConflictsFollowAddressesFamiliesAndReuse) {
  struct Case {
    const char* first;
    const char* second;
    bool v6_only;
    long expected;
  };
  const Case cases[] = {
      {"0.0.0.0", "0.0.0.0", false, -EADDRINUSE},
      {"10.0.0.1", "127.0.0.1", false, 0},
      {"10.0.0.1", "0.0.0.0", false, -EADDRINUSE},
      {"::", "0.0.0.0", false, -EADDRINUSE},
      {"::", "10.0.0.1", false, -EADDRINUSE},
      {"::", "0.0.0.0", true, 0},
      {"::", "fd00::1", false, -EADDRINUSE},
      {"fd00::1", "10.0.0.1", false, 0},
      {"fd00::1", "0.0.0.0", false, 0},
      {"::ffff:10.0.0.1", "10.0.0.1", false, -EADDRINUSE},
      {"::ffff:0.0.0.0", "fd00::1", false, 0},
  };
  for (const Case& c : cases) {
    for (const bool swapped : {false, true}) {
      SCOPED_TRACE(std::string(c.first) + " " + c.second + (swapped ? " swapped" : ""));
      const std::string names[] = {swapped ? c.second : c.first, swapped ? c.first : c.second};
      Sock s[2];
      for (int i = 0; i < 2; ++i) {
        const bool v6 = names[i].find(':') != std::string::npos;
        s[i] = Open(a(), v6 ? AF_INET6 : AF_INET, SOCK_DGRAM);
        if (v6 && c.v6_only) {
          ASSERT_EQ(Set(s[i], IPPROTO_IPV6, IPV6_V6ONLY, 1), 0);
        }
        EXPECT_EQ(Bind(s[i], At(names[i], 77)), i == 0 ? 0 : c.expected);
      }
      Close(&s[0]);
      Close(&s[1]);
    }
  }
  for (const int option : {SO_REUSEADDR, SO_REUSEPORT}) {
    for (int willing = 0; willing < 4; ++willing) {
      Sock first = Udp4(a()), second = Udp4(a());
      Set(first, SOL_SOCKET, option, willing & 1);
      Set(second, SOL_SOCKET, option, willing >> 1);
      ASSERT_EQ(Bind(first, At("0.0.0.0", 77)), 0);
      EXPECT_EQ(Bind(second, At("0.0.0.0", 77)), willing == 3 ? 0 : -EADDRINUSE);
      Close(&first);
      Close(&second);
    }
  }
}

TEST_F(UdpTest, AutomaticPortsAreDistinctAndRunOutWithEagain) {
  std::set<std::string> names;
  std::vector<Sock> sockets;
  for (int i = 0; i < 300; ++i) {
    sockets.push_back(Udp4(a()));
    ASSERT_EQ(Bind(sockets.back(), At("10.0.0.1", 0)), 0);
    names.insert(LocalName(sockets.back()));
  }
  EXPECT_EQ(names.size(), 300u);
}

TEST_F(UdpTest, ReusePortSpreadsFlowsAndKeepsEachWhereItIs) {
  std::vector<Sock> workers(4);
  for (Sock& s : workers) {
    s = Udp4(b());
    Set(s, SOL_SOCKET, SO_REUSEPORT, 1);
    ASSERT_EQ(Bind(s, At("0.0.0.0", 7)), 0);
  }
  std::map<std::string, int> home;
  std::vector<int> share(4);
  std::vector<Sock> clients(40);
  for (Sock& c : clients) c = Udp4(a());
  for (int round = 0; round < 3; ++round) {
    for (Sock& c : clients) {
      SendTo(c, "x", At("10.0.0.2", 7));
      for (int w = 0; w < 4; ++w) {
        const Datagram got = Receive(workers[static_cast<size_t>(w)]);
        if (got.result < 0) continue;
        ++share[static_cast<size_t>(w)];
        const auto [it, fresh] = home.emplace(got.from, w);
        EXPECT_EQ(it->second, w);
      }
    }
  }
  EXPECT_EQ(home.size(), 40u);
  for (const int count : share) EXPECT_GT(count, 3);
}

TEST_F(UdpTest, AmongReusedAddressesTheLastBoundSocketHears) {
  Sock first = Udp4(b()), second = Udp4(b());
  for (const Sock& s : {first, second}) {
    Set(s, SOL_SOCKET, SO_REUSEADDR, 1);
    ASSERT_EQ(Bind(s, At("0.0.0.0", 7)), 0);
  }
  Sock client = Udp4(a());
  SendTo(client, "x", At("10.0.0.2", 7));
  EXPECT_EQ(Receive(first).result, -EAGAIN);
  EXPECT_EQ(Receive(second).text, "x");
}

TEST_F(UdpTest, DualStackSocketsSpeakBothFamilies) {
  Sock server = Server(AF_INET6);
  Sock four = Udp4(a()), six = Udp6(a());
  SendTo(four, "4", At("10.0.0.2", 7));
  SendTo(six, "6", At("fd00::2", 7));
  SendTo(six, "m", At("::ffff:10.0.0.2", 7));
  EXPECT_EQ(Receive(server).from.substr(0, 18), "[::ffff:10.0.0.1]:");
  EXPECT_EQ(Receive(server).from.substr(0, 10), "[fd00::1]:");
  EXPECT_EQ(Receive(server).from.substr(0, 18), "[::ffff:10.0.0.1]:");
  Sock only = Udp6(a());
  Set(only, IPPROTO_IPV6, IPV6_V6ONLY, 1);
  EXPECT_EQ(SendTo(only, "x", At("::ffff:10.0.0.2", 7)), -ENETUNREACH);
  EXPECT_EQ(SendTo(only, "x", At("10.0.0.2", 7)), -ENETUNREACH);
  EXPECT_EQ(Connect(only, At("10.0.0.2", 7)), -EAFNOSUPPORT);
  Sock mapped = Udp6(a());
  ASSERT_EQ(Connect(mapped, At("10.0.0.2", 7)), 0) << "an IPv4 name is welcome on an IPv6 socket";
  EXPECT_EQ(LocalName(mapped).substr(0, 18), "[::ffff:10.0.0.1]:");
  EXPECT_EQ(PeerName(mapped), "[::ffff:10.0.0.2]:7");
}

TEST_F(UdpTest, PeekAndTruncateLeaveTheDatagramWhole) {
  Sock server = Server();
  Sock client = Udp4(a());
  SendTo(client, "0123456789", At("10.0.0.2", 7));
  Datagram got = Receive(server, MSG_DONTWAIT | MSG_PEEK, 4);
  EXPECT_EQ(got.text, "0123");
  EXPECT_EQ(got.flags, MSG_TRUNC);
  EXPECT_EQ(got.result, 4);
  got = Receive(server, MSG_DONTWAIT | MSG_PEEK | MSG_TRUNC, 4);
  EXPECT_EQ(got.result, 10);
  EXPECT_EQ(Receive(server).text, "0123456789");
  EXPECT_EQ(Receive(server).result, -EAGAIN);
  SendTo(client, "0123456789", At("10.0.0.2", 7));
  EXPECT_EQ(Receive(server, MSG_DONTWAIT, 3).text, "012");
  EXPECT_EQ(Receive(server).result, -EAGAIN) << "the rest is gone";
}

TEST_F(UdpTest, ADatagramMayBeEmpty) {
  Sock server = Server();
  Sock client = Udp4(a());
  EXPECT_EQ(SendTo(client, "", At("10.0.0.2", 7)), 0);
  EXPECT_EQ(Events(server) & kReadable, kReadable);
  const Datagram got = Receive(server);
  EXPECT_EQ(got.result, 0);
  EXPECT_NE(got.from, "");
  EXPECT_EQ(Events(server) & kReadable, 0u);
}

TEST_F(UdpTest, DatagramsOfEverySizeArriveWhole) {
  Sock server = Server();
  Sock server6 = Udp6(b());
  ASSERT_EQ(Bind(server6, At("fd00::2", 8)), 0);
  Sock client = Udp4(a());
  Sock client6 = Udp6(a());
  for (const size_t size : {0, 1, 100, 119, 120, 121, 1400, 1472, 1473, 2048, 2049, 5000, 8192,
                            8193, 20000, 32768, 65000, 65507}) {
    std::string text(size, 0);
    for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 7 + size);
    EXPECT_EQ(SendTo(client, text, At("10.0.0.2", 7)), static_cast<long>(size));
    EXPECT_EQ(Receive(server).text, text) << size;
    EXPECT_EQ(SendTo(client6, text, At("fd00::2", 8)), static_cast<long>(size));
    EXPECT_EQ(Receive(server6).text, text) << size;
  }
  EXPECT_EQ(SendTo(client, std::string(65508, 'x'), At("10.0.0.2", 7)), -EMSGSIZE);
  EXPECT_EQ(SendTo(client, std::string(70000, 'x'), At("10.0.0.2", 7)), -EMSGSIZE);
  EXPECT_EQ(SendTo(client6, std::string(65527, 'x'), At("fd00::2", 8)), 65527);
  EXPECT_EQ(SendTo(client6, std::string(65528, 'x'), At("fd00::2", 8)), -EMSGSIZE);
}

TEST_F(UdpTest, DontFragmentRefusesWhatIsTooLong) {
  Sock client = Udp4(a());
  ASSERT_EQ(Set(client, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO), 0);
  ASSERT_EQ(Connect(client, At("10.0.0.2", 7)), 0);
  EXPECT_EQ(Get(client, IPPROTO_IP, IP_MTU), 1500);
  EXPECT_EQ(Send(client, std::string(1472, 'x')), 1472);
  Receive(client);  // its refusal
  EXPECT_EQ(Send(client, std::string(1473, 'x')), -EMSGSIZE);
  EXPECT_EQ(Receive(client, MSG_ERRQUEUE).result, -EAGAIN) << "without IP_RECVERR nothing is kept";
  ASSERT_EQ(Set(client, IPPROTO_IP, IP_RECVERR, 1), 0);
  EXPECT_EQ(Send(client, std::string(1473, 'x')), -EMSGSIZE);
  EXPECT_NE(Events(client) & kEventError, 0u);
  const Datagram error = Receive(client, MSG_ERRQUEUE);
  EXPECT_EQ(error.ancillary.error, EMSGSIZE);
  EXPECT_EQ(error.ancillary.error_origin, 1);  // SO_EE_ORIGIN_LOCAL
  EXPECT_EQ(error.ancillary.error_info, 1500u);
  EXPECT_EQ(error.flags & MSG_ERRQUEUE, MSG_ERRQUEUE);
  EXPECT_EQ(Events(client) & kEventError, 0u);
}

TEST_F(UdpTest, DontFragmentBitFollowsDiscovery) {
  Sock client = Udp4(a());
  Server();
  const auto flags = [&](int discover, size_t size) {
    Set(client, IPPROTO_IP, IP_MTU_DISCOVER, discover);
    TakeFrames(a());
    SendTo(client, std::string(size, 'x'), At("10.0.0.2", 7));
    const auto frames = TakeFrames(a());
    return frames.empty() ? -1 : frames[0][20] >> 5;
  };
  flags(IP_PMTUDISC_WANT, 100);  // resolves the neighbour
  EXPECT_EQ(flags(IP_PMTUDISC_WANT, 100), 2);
  EXPECT_EQ(flags(IP_PMTUDISC_WANT, 3000), 1) << "more fragments, no DF";
  EXPECT_EQ(flags(IP_PMTUDISC_DONT, 100), 0);
  EXPECT_EQ(flags(IP_PMTUDISC_DO, 100), 2);
  EXPECT_EQ(flags(IP_PMTUDISC_PROBE, 100), 2);
  EXPECT_EQ(flags(IP_PMTUDISC_OMIT, 100), 0);
}

TEST_F(UdpTest, ShutdownSilencesEitherHalf) {
  Sock client = Udp4(a());
  EXPECT_EQ(Shutdown(client, SHUT_RD), -ENOTCONN) << "but it is done";
  EXPECT_EQ(Events(client) & (kReadable | kEventReadHangUp), kReadable | kEventReadHangUp);
  EXPECT_EQ(Receive(client, MSG_DONTWAIT).result, -EAGAIN);
  EXPECT_EQ(Receive(client, 0).result, 0) << "a blocking call returns the end";
  Sock other = Udp4(a());
  ASSERT_EQ(Connect(other, At("10.0.0.2", 7)), 0);
  EXPECT_EQ(Shutdown(other, 3), -EINVAL);
  EXPECT_EQ(Shutdown(other, SHUT_WR), 0);
  EXPECT_EQ(Send(other, "x"), -EPIPE);
  EXPECT_EQ(Events(other) & kEventHangUp, 0u);
  EXPECT_EQ(Shutdown(other, SHUT_RD), 0);
  EXPECT_NE(Events(other) & kEventHangUp, 0u);
}

TEST_F(UdpTest, WrongChecksumsAreDroppedAndMissingOnesFollowTheFamily) {
  Sock server = Server();
  Sock client = Udp4(a());
  SendTo(client, "good", At("10.0.0.2", 7));
  auto frames = UdpFrames(a());
  ASSERT_EQ(frames.size(), 1u);
  Receive(server);
  const auto inject = [&](std::vector<uint8_t> bytes) {
    Packet* packet = testing::Deliver(b().stack->core(), {bytes, {}}, kWireInterface, now(), {});
    b().stack->Input(&packet, 1, now());
    Pump();
    return Receive(server).result;
  };
  EXPECT_EQ(inject(frames[0]), 4);
  auto bad = frames[0];
  bad.back() ^= 1;
  EXPECT_EQ(inject(bad), -EAGAIN);
  EXPECT_EQ(Count(b(), Counter::kUdpChecksumErrors), 1u);
  auto unsummed = frames[0];
  unsummed[14 + 20 + 6] = unsummed[14 + 20 + 7] = 0;
  EXPECT_EQ(inject(unsummed), 4) << "IPv4 allows it";

  Set(client, SOL_SOCKET, SO_NO_CHECK, 1);
  TakeFrames(a());
  SendTo(client, "none", At("10.0.0.2", 7));
  frames = UdpFrames(a());
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(Load16(&frames[0][14 + 20 + 6]), 0);

  Sock server6 = Udp6(b());
  ASSERT_EQ(Bind(server6, At("fd00::2", 7)), -EADDRINUSE + EADDRINUSE);
  Sock client6 = Udp6(a());
  SendTo(client6, "good", At("fd00::2", 7));
  EXPECT_EQ(Receive(server6).result, 4);
  auto frames6 = UdpFrames(a());
  ASSERT_EQ(frames6.size(), 1u);
  frames6[0][14 + 40 + 6] = frames6[0][14 + 40 + 7] = 0;
  inject(frames6[0]);
  EXPECT_EQ(Receive(server6).result, -EAGAIN) << "RFC 8200 8.1";
  Set(server6, IPPROTO_UDP, UDP_NO_CHECK6_RX, 1);
  inject(frames6[0]);
  EXPECT_EQ(Receive(server6).result, 4) << "RFC 6935";
}

TEST_F(UdpTest, MalformedDatagramsAreCountedAndDropped) {
  Sock server = Server();
  Sock client = Udp4(a());
  SendTo(client, "0123456789", At("10.0.0.2", 7));
  const auto frames = UdpFrames(a());
  ASSERT_EQ(frames.size(), 1u);
  Receive(server);
  for (const uint16_t length : {0, 7, 19, 65535}) {
    auto bytes = frames[0];
    Store16(&bytes[14 + 20 + 4], length);
    testing::FixChecksums(&bytes);
    Packet* packet = testing::Deliver(b().stack->core(), {bytes, {}}, kWireInterface, now(), {});
    b().stack->Input(&packet, 1, now());
    Pump();
    EXPECT_EQ(Receive(server).result, -EAGAIN) << length;
  }
  EXPECT_EQ(Count(b(), Counter::kUdpInErrors), 4u);
  auto shorter = frames[0];  // a length that says less than there is: the rest is padding
  Store16(&shorter[14 + 20 + 4], 8 + 5);
  Store16(&shorter[14 + 20 + 6], 0);
  Packet* packet = testing::Deliver(b().stack->core(), {shorter, {}}, kWireInterface, now(), {});
  b().stack->Input(&packet, 1, now());
  EXPECT_EQ(Receive(server).text, "01234");
}

TEST_F(UdpTest, ADeviceBindingLimitsBothWays) {
  Sock server = Server();
  EXPECT_EQ(SetBytes(server, SOL_SOCKET, SO_BINDTODEVICE, "nope", 5), -ENODEV);
  ASSERT_EQ(SetBytes(server, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3), 0);
  Sock client = Udp4(a());
  SendTo(client, "x", At("10.0.0.2", 7));
  EXPECT_EQ(Receive(server).result, -EAGAIN);
  ASSERT_EQ(SetBytes(server, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 5), 0);
  SendTo(client, "y", At("10.0.0.2", 7));
  EXPECT_EQ(Receive(server).text, "y");
  ASSERT_EQ(SetBytes(server, SOL_SOCKET, SO_BINDTODEVICE, "", 0), 0);
  char name[16] = {};
  socklen_t length = sizeof name;
  ASSERT_EQ(SetBytes(server, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 5), 0);
  ASSERT_TRUE(
      b().stack->GetOption(*server.raw, SOL_SOCKET, SO_BINDTODEVICE, name, &length, now()).ok());
  EXPECT_STREQ(name, "eth0");
  EXPECT_EQ(length, 5u);
}

TEST_F(UdpTest, LinkLocalAddressesNeedAndGiveAScope) {
  Sock server = Server(AF_INET6);
  Sock client = Udp6(a());
  EXPECT_EQ(Connect(client, At("fe80::ff:fe00:2", 7)), -EINVAL);
  ASSERT_EQ(Connect(client, At("fe80::ff:fe00:2%2", 7)), 0);
  EXPECT_EQ(PeerName(client), "[fe80::ff:fe00:2%2]:7");
  EXPECT_EQ(Send(client, "x"), 1);
  const Datagram got = Receive(server);
  EXPECT_EQ(got.text, "x");
  EXPECT_NE(got.from.find("%2"), std::string::npos) << got.from;
}

}  // namespace
}  // namespace userstack
