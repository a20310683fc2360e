// IGMP, MLD, neighbour discovery and router discovery, as messages whose bodies are mutated while
// the headers that surround them stay right (hop limit 255 or 1, router alert, checksums).
// Input: records of {kind, length, body}.
#include <netinet/in.h>

#include "netstack/base/byte_order.h"
#include "tests/fuzz/fuzz_host.h"

namespace userstack::testing {
namespace {

constexpr uint32_t kGroup = 0xe8010203;  // 232.1.2.3

IpAddress GroupV6() {
  const uint8_t bytes[16] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34};
  return IpAddress::V6FromBytes(bytes);
}

IpAddress LinkLocalPeer() {
  const uint8_t bytes[16] = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};
  return IpAddress::V6FromBytes(bytes);
}

Bytes Igmp(const Bytes& body, uint32_t destination) {
  Bytes packet = Ipv4Packet(kPeerV4, destination, 2, body, 0);
  const uint8_t alert[4] = {148, 4, 0, 0};
  packet.insert(packet.begin() + 20, alert, alert + 4);
  packet[0] = 0x46;
  packet[8] = 1;
  Store16(&packet[2], static_cast<uint16_t>(packet.size()));
  const uint8_t mac[6] = {1,
                          0,
                          0x5e,
                          static_cast<uint8_t>(destination >> 16 & 0x7f),
                          static_cast<uint8_t>(destination >> 8),
                          static_cast<uint8_t>(destination)};
  return EthernetFrame(mac, kPeerMac, 0x0800, packet);
}

Bytes Mld(const Bytes& body, const IpAddress& destination) {
  const Bytes hop = {58, 0, 5, 2, 0, 0, 1, 0};
  const uint8_t mac[6] = {0x33,
                          0x33,
                          destination.v6_bytes()[12],
                          destination.v6_bytes()[13],
                          destination.v6_bytes()[14],
                          destination.v6_bytes()[15]};
  return EthernetFrame(mac, kPeerMac, 0x86dd,
                       Ipv6Packet(LinkLocalPeer(), destination, 0, Concat({hop, body}), 1));
}

Bytes Discovery(const Bytes& body, bool to_host) {
  const IpAddress source = LinkLocalPeer();
  return EthernetFrame(kHostMac, kPeerMac, 0x86dd,
                       Ipv6Packet(source, to_host ? HostV6() : GroupV6(), 58, body, 255));
}

Bytes Record(uint8_t kind, const Bytes& body) {
  return Concat({{kind, static_cast<uint8_t>(body.size())}, body});
}

}  // namespace

void FuzzOne(const uint8_t* data, size_t size) {
  FuzzHost fuzzed;
  fuzzed.OpenEverything();
  Ip& ip = fuzzed.host().stack().ip();
  (void)ip.JoinGroup(kWireInterface, IpAddress::V4(kGroup), fuzzed.now());
  (void)ip.JoinGroup(kWireInterface, GroupV6(), fuzzed.now());
  fuzzed.Turn();
  Input input(data, size);
  for (int records = 0; !input.empty() && records < 64; ++records) {
    const uint8_t kind = input.U8();
    const Bytes body = input.Take(input.U8());
    Bytes frame;
    switch (kind % 6) {
      case 0:
        frame = Igmp(body, 0xe0000001);
        break;
      case 1:
        frame = Igmp(body, kGroup);
        break;
      case 2:
        frame = Mld(body, GroupV6());
        break;
      case 3: {
        const uint8_t all[16] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
        frame = Mld(body, IpAddress::V6FromBytes(all));
        break;
      }
      case 4:
        frame = Discovery(body, true);
        break;
      case 5:
        frame = Discovery(body, false);
        break;
    }
    FixChecksums(&frame);
    fuzzed.Input(std::move(frame));
    if ((kind & 64) != 0) fuzzed.Pass(Duration::Milliseconds(700));
    if ((kind & 128) != 0) {
      (void)ip.LeaveGroup(kWireInterface, IpAddress::V4(kGroup), fuzzed.now());
      fuzzed.Turn();
    }
  }
  fuzzed.Pass(Duration::Seconds(30));
}

std::vector<Bytes> FuzzSeeds() {
  std::vector<Bytes> seeds;
  const Bytes query2 = {0x11, 100, 0, 0, 0, 0, 0, 0};
  const Bytes query3 = {0x11, 100, 0, 0, 232, 1, 2, 3, 2, 125, 0, 1, 10, 0, 0, 9};
  const Bytes report = {0x16, 0, 0, 0, 232, 1, 2, 3};
  Bytes mld1(24, 0), mld2(28, 0);
  mld1[0] = mld2[0] = 130;
  mld1[4] = mld2[4] = 3;
  CopyAddress(GroupV6(), &mld2[8]);
  mld2[24] = 2, mld2[25] = 125;
  Bytes solicitation(24, 0);
  solicitation[0] = 135;
  CopyAddress(HostV6(), &solicitation[8]);
  const Bytes source_link = {1, 1, 2, 0, 0, 0, 0, 2}, target_link = {2, 1, 2, 0, 0, 0, 0, 2};
  Bytes advertisement = solicitation;
  advertisement[0] = 136;
  advertisement[4] = 0x60;
  CopyAddress(LinkLocalPeer(), &advertisement[8]);
  Bytes router(16, 0);
  router[0] = 134;
  router[4] = 64;
  router[6] = 7, router[7] = 8;
  Bytes prefix(32, 0);
  prefix[0] = 3, prefix[1] = 4, prefix[2] = 64, prefix[3] = 0xc0;
  prefix[6] = 14, prefix[10] = 7, prefix[16] = 0xfd, prefix[17] = 9;
  const Bytes mtu = {5, 1, 0, 0, 0, 0, 5, 0};
  Bytes redirect(40, 0);
  redirect[0] = 137;
  CopyAddress(PeerV6(), &redirect[24]);
  seeds.push_back(Record(0, query2));
  seeds.push_back(Record(1, query3));
  seeds.push_back(Record(1, report));
  seeds.push_back(Concat({Record(64, query2), Record(129, query3), Record(64, query2)}));
  seeds.push_back(Record(3, mld1));
  seeds.push_back(Record(2, mld2));
  seeds.push_back(Concat({Record(3 | 64, mld1), Record(2, mld2)}));
  seeds.push_back(Record(4, Concat({solicitation, source_link})));
  seeds.push_back(Record(5, solicitation));
  seeds.push_back(Record(4, Concat({advertisement, target_link})));
  seeds.push_back(Record(5, Concat({router, source_link, prefix, mtu})));
  seeds.push_back(Record(5 | 64, Concat({router, prefix})));
  seeds.push_back(Record(4, Concat({redirect, target_link})));
  return seeds;
}

}  // namespace userstack::testing
