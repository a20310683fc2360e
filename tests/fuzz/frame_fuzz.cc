// Whole frames into a stack with sockets open: every parser of the wire, from Ethernet to options.
// Input: records of {mode, length (2 bytes), frame}. The mode says what is put right before the
// frame is delivered, so that mutations get past addresses and checksums.
#include <algorithm>

#include "netstack/base/byte_order.h"
#include "tests/fuzz/fuzz_host.h"

namespace userstack::testing {
namespace {

enum Mode : uint8_t {
  kFixChecksums = 1,
  kFixLink = 2,       // destination: the host
  kFixAddresses = 4,  // IP source: the peer, destination: the host
  kFixLengths = 8,    // IP length: what is there
  kPassTime = 16,     // some time goes by afterwards
  kVerified = 32,     // the device vouches for the checksum
  kLarge = 64,        // comes as a large segment of the device
};

void FixAddresses(Bytes* b) {
  if (b->size() >= 34 && Load16(&(*b)[12]) == 0x0800) {
    Store32(&(*b)[26], kPeerV4);
    Store32(&(*b)[30], kHostV4);
  } else if (b->size() >= 54 && Load16(&(*b)[12]) == 0x86dd) {
    CopyAddress(PeerV6(), &(*b)[22]);
    CopyAddress(HostV6(), &(*b)[38]);
  }
}

void FixLengths(Bytes* b) {
  if (b->size() >= 34 && Load16(&(*b)[12]) == 0x0800) {
    Store16(&(*b)[16], static_cast<uint16_t>(b->size() - 14));
  } else if (b->size() >= 54 && Load16(&(*b)[12]) == 0x86dd) {
    Store16(&(*b)[18], static_cast<uint16_t>(b->size() - 54));
  }
}

Bytes Record(uint8_t mode, const Bytes& frame) {
  Bytes out = {mode, static_cast<uint8_t>(frame.size() >> 8), static_cast<uint8_t>(frame.size())};
  out.insert(out.end(), frame.begin(), frame.end());
  return out;
}

Bytes Icmp(uint8_t type, uint8_t code, uint32_t rest, const Bytes& quoted) {
  Bytes out = {type, code, 0, 0};
  out.resize(8);
  Store32(&out[4], rest);
  out.insert(out.end(), quoted.begin(), quoted.end());
  return out;
}

}  // namespace

void FuzzOne(const uint8_t* data, size_t size) {
  FuzzHost fuzzed;
  fuzzed.OpenEverything();
  Input input(data, size);
  for (int records = 0; !input.empty() && records < 64; ++records) {
    const uint8_t mode = input.U8();
    const uint16_t length = input.U16();
    Bytes frame = input.Take(length);
    if ((mode & kFixLink) != 0 && frame.size() >= 6) {
      std::copy(kHostMac, kHostMac + 6, frame.begin());
    }
    if ((mode & kFixAddresses) != 0) FixAddresses(&frame);
    if ((mode & kFixLengths) != 0) FixLengths(&frame);
    if ((mode & kFixChecksums) != 0) FixChecksums(&frame);
    Offload offload;
    offload.checksum_verified = (mode & kVerified) != 0;
    if ((mode & kLarge) != 0) {
      const bool v6 = frame.size() > 13 && frame[12] == 0x86;
      offload.segmentation = v6 ? SegmentationType::kTcpV6 : SegmentationType::kTcpV4;
      offload.segment_size = static_cast<uint16_t>(1 + length % 97);
      offload.header_length = v6 ? 74 : 54;
    }
    fuzzed.Input(std::move(frame), offload);
    if ((mode & kPassTime) != 0) fuzzed.Pass(Duration::Milliseconds(150));
  }
  fuzzed.Pass(Duration::Seconds(2));
}

std::vector<Bytes> FuzzSeeds() {
  constexpr uint8_t kFix = kFixChecksums | kFixLink | kFixLengths;
  const Bytes syn_options = {2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7};
  const Bytes data(100, 'x');
  const Bytes syn4 = ToHostV4(6, TcpSegment(4000, kHostPort, 1000, 0, 2, 60000, syn_options, {}));
  const Bytes syn6 =
      ToHostV6(6, TcpSegment(4000, kHostPort + 1, 1000, 0, 2, 60000, syn_options, {}));
  const Bytes udp4 = ToHostV4(17, UdpDatagram(5000, kUdpPort, data));
  const Bytes udp6 = ToHostV6(17, UdpDatagram(5000, kUdpPort + 1, data));
  const Bytes quoted4 = Ipv4Packet(kHostV4, kPeerV4, 17, UdpDatagram(kUdpPort, 5000, data));
  const Bytes quoted6 = Ipv6Packet(HostV6(), PeerV6(), 17, UdpDatagram(kUdpPort + 1, 5000, data));
  std::vector<Bytes> seeds;
  seeds.push_back(Record(kFix, syn4));
  seeds.push_back(Record(kFix, syn6));
  seeds.push_back(Concat(
      {Record(kFix, syn4),
       Record(kFix, ToHostV4(6, TcpSegment(4000, kHostPort, 1001, 1, 16, 60000, {}, data)))}));
  seeds.push_back(Record(kFix, ToHostV4(6, TcpSegment(4000, 99, 1, 2, 16, 100, {}, data))));
  seeds.push_back(Record(kFix, udp4));
  seeds.push_back(Record(kFix, udp6));
  seeds.push_back(Record(kFix, ToHostV4(17, UdpDatagram(5000, 9999, data))));
  seeds.push_back(Record(kFix, ToHostV6(17, UdpDatagram(5000, 9999, data))));
  seeds.push_back(Record(kFix, ToHostV4(1, Icmp(8, 0, 0x00010001, data))));
  seeds.push_back(Record(kFix, ToHostV6(58, Icmp(128, 0, 0x00010001, data))));
  for (const uint8_t code : {0, 1, 3, 4, 13}) {
    seeds.push_back(Record(kFix, ToHostV4(1, Icmp(3, code, 600, quoted4))));
  }
  seeds.push_back(Record(kFix, ToHostV4(1, Icmp(11, 0, 0, quoted4))));
  seeds.push_back(Record(kFix, ToHostV6(58, Icmp(1, 4, 0, quoted6))));
  seeds.push_back(Record(kFix, ToHostV6(58, Icmp(2, 0, 1280, quoted6))));
  seeds.push_back(Record(kFix, ToHostV6(58, Icmp(4, 1, 6, quoted6))));
  seeds.push_back(Record(kFixLink, ArpFrame(1, kPeerV4, kHostV4)));
  seeds.push_back(Record(kFixLink, ArpFrame(2, kPeerV4, kHostV4)));
  seeds.push_back(Record(kFixLink, ArpFrame(1, kHostV4, kHostV4)));
  // Extension headers: hop-by-hop with router alert, destination options, routing, no next header.
  const Bytes hop = {60, 0, 5, 2, 0, 0, 1, 0};
  const Bytes destination = {43, 0, 1, 4, 0, 0, 0, 0};
  const Bytes routing = {17, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  seeds.push_back(Record(
      kFix, ToHostV6(0, Concat({hop, destination, routing, UdpDatagram(1, kUdpPort + 1, data)}))));
  seeds.push_back(Record(kFix, ToHostV6(59, data)));
  // IPv4 options: record route, timestamp, router alert, end.
  Bytes options = ToHostV4(17, UdpDatagram(5000, kUdpPort, data));
  const Bytes list = {7, 7, 4, 0, 0, 0, 0, 68, 8, 5, 0, 0, 0, 0, 0, 148, 4, 0, 0, 0};
  options.insert(options.begin() + 34, list.begin(), list.end());
  options[14] = 0x4a;
  seeds.push_back(Record(kFix, options));
  Bytes fragment = udp4;
  fragment[20] = 0x20;
  seeds.push_back(Record(kFix, fragment));
  seeds.push_back(Record(kFix | kLarge, ToHostV4(6, TcpSegment(4000, kHostPort, 1, 1, 24, 100, {},
                                                               Bytes(1000, 'y')))));
  return seeds;
}

}  // namespace userstack::testing
