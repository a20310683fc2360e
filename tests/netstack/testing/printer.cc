#include "tests/netstack/testing/printer.h"

#include <arpa/inet.h>

#include <cstdio>

#include "netstack/base/byte_order.h"

namespace userstack::testing {
namespace {

template <typename... Args>
std::string Format(const char* format, Args... args) {
  char buffer[512];
  std::snprintf(buffer, sizeof buffer, format, args...);
  return buffer;
}

std::string Mac(const uint8_t* p) {
  return Format("%02x:%02x:%02x:%02x:%02x:%02x", p[0], p[1], p[2], p[3], p[4], p[5]);
}

std::string Address(const uint8_t* p, bool v6) {
  char text[INET6_ADDRSTRLEN] = {};
  inet_ntop(v6 ? AF_INET6 : AF_INET, p, text, sizeof text);
  return text;
}

std::string TcpFlags(uint8_t flags) {
  static constexpr char kNames[] = "FSRP.UEW";
  std::string out;
  for (int i = 0; i < 8; ++i) {
    if (flags >> i & 1) out += kNames[i];
  }
  return out.empty() ? "none" : out;
}

std::string OneTcpOption(const uint8_t* p, uint32_t length) {
  switch (p[0]) {
    case 2:
      if (length == 4) return Format("mss %u", Load16(p + 2));
      break;
    case 3:
      if (length == 3) return Format("wscale %u", p[2]);
      break;
    case 4:
      if (length == 2) return "sackOK";
      break;
    case 8:
      if (length == 10) return Format("TS val %u ecr %u", Load32(p + 2), Load32(p + 6));
      break;
    default:
      break;
  }
  return Format("opt-%u:%u", p[0], length);
}

std::string TcpOptions(const uint8_t* p, uint32_t length, uint32_t peer_first) {
  std::string out;
  for (uint32_t at = 0; at < length;) {
    if (p[at] == 0) break;
    if (p[at] == 1) {
      ++at;
      continue;
    }
    if (at + 2 > length || p[at + 1] < 2 || at + p[at + 1] > length) return out + " bad-opt";
    const uint32_t n = p[at + 1];
    out += out.empty() ? " options [" : ",";
    if (p[at] == 5) {
      out += "sack";
      for (uint32_t i = 2; i + 8 <= n; i += 8) {
        out +=
            Format(" %u:%u", Load32(p + at + i) - peer_first, Load32(p + at + i + 4) - peer_first);
      }
    } else {
      out += OneTcpOption(p + at, n);
    }
    at += n;
  }
  return out.empty() ? out : out + "]";
}

std::string DescribeArp(const std::vector<uint8_t>& b) {
  if (b.size() < 42) return "ARP truncated";
  const uint8_t* p = &b[14];
  const std::string sender = Address(p + 14, false), target = Address(p + 24, false);
  if (Load16(p + 6) == 1) {
    return "ARP, Request who-has " + target + " tell " + sender + " (" + Mac(p + 8) + ")";
  }
  return "ARP, Reply " + sender + " is-at " + Mac(p + 8) + " to " + target;
}

std::string IcmpV6Name(uint8_t type) {
  switch (type) {
    case 1:
      return "unreachable";
    case 2:
      return "packet too big";
    case 3:
      return "time exceeded";
    case 4:
      return "parameter problem";
    case 128:
      return "echo request";
    case 129:
      return "echo reply";
    case 130:
      return "listener query";
    case 133:
      return "router solicitation";
    case 134:
      return "router advertisement";
    case 135:
      return "neighbor solicitation";
    case 136:
      return "neighbor advertisement";
    case 143:
      return "listener report v2";
    default:
      return Format("type %u", type);
  }
}

std::string DescribeIcmp(const uint8_t* p, uint32_t length, bool v6) {
  if (length < 8) return "ICMP truncated";
  if (!v6) {
    return Format("ICMP type %u code %u, rest %08x, length %u", p[0], p[1], Load32(p + 4), length);
  }
  std::string out = "ICMP6, " + IcmpV6Name(p[0]) + Format(" code %u", p[1]);
  if ((p[0] == 135 || p[0] == 136) && length >= 24) out += ", target " + Address(p + 8, true);
  if (p[0] == 2) out += Format(", mtu %u", Load32(p + 4));
  return out + Format(", length %u", length);
}

}  // namespace

std::string FormatTime(Instant t) {
  return Format("%lld.%06lld", static_cast<long long>(t.nanoseconds / 1'000'000'000),
                static_cast<long long>(t.nanoseconds / 1'000 % 1'000'000));
}

std::string FormatAddress(const IpAddress& address) {
  return address.is_v4() ? Address(address.v4_bytes(), false) : Address(address.v6_bytes(), true);
}

std::string Printer::DescribeTcp(const std::vector<uint8_t>& b, const FrameLayout& layout,
                                 const std::string& source, const std::string& destination) {
  const uint8_t* p = &b[layout.transport];
  const uint32_t length = layout.end - layout.transport;
  if (length < 20) return source + " > " + destination + ": TCP truncated";
  const std::string from = source + "." + std::to_string(Load16(p));
  const std::string to = destination + "." + std::to_string(Load16(p + 2));
  const uint8_t flags = p[13];
  const uint32_t header = (p[12] >> 4) * 4u;
  if (header < 20 || header > length) return from + " > " + to + ": TCP bad data offset";
  const std::string key = from + ">" + to, reverse = to + ">" + from;
  if ((flags & 2) != 0) first_sequence_[key] = Load32(p + 4);
  first_sequence_.try_emplace(key, Load32(p + 4));
  const uint32_t base = first_sequence_[key];
  const auto peer = first_sequence_.find(reverse);
  const uint32_t peer_base = peer == first_sequence_.end() ? 0 : peer->second;
  const uint32_t sequence = Load32(p + 4) - base;
  const uint32_t payload = length - header;
  std::string out = from + " > " + to + ": Flags [" + TcpFlags(flags) + "]";
  out += payload > 0 ? Format(", seq %u:%u", sequence, sequence + payload)
                     : Format(", seq %u", sequence);
  if ((flags & 16) != 0) out += Format(", ack %u", Load32(p + 8) - peer_base);
  out += Format(", win %u", Load16(p + 14));
  if ((flags & 32) != 0) out += Format(", urg %u", Load16(p + 18));
  out += TcpOptions(p + 20, header - 20, peer_base);
  return out + Format(", length %u", payload);
}

std::string Printer::DescribeIp(const std::vector<uint8_t>& b, const FrameLayout& layout) {
  const uint8_t* ip = &b[layout.network];
  const std::string source = Address(layout.is_v6 ? ip + 8 : ip + 12, layout.is_v6);
  const std::string destination = Address(layout.is_v6 ? ip + 24 : ip + 16, layout.is_v6);
  std::string out = layout.is_v6 ? "IP6 " : "IP ";
  if (layout.is_fragment) out += "(fragment) ";
  const std::string pair = source + " > " + destination;
  if (layout.transport == 0) return out + pair + Format(": later fragment of %u", layout.protocol);
  const uint8_t* p = b.data() + layout.transport;
  const uint32_t length = layout.end - layout.transport;
  if (layout.protocol == 6) return out + DescribeTcp(b, layout, source, destination);
  if (layout.protocol == 1) return out + pair + ": " + DescribeIcmp(p, length, false);
  if (layout.protocol == 58) return out + pair + ": " + DescribeIcmp(p, length, true);
  if (layout.protocol == 17 && length >= 8) {
    return out + source + Format(".%u > ", Load16(p)) + destination +
           Format(".%u: UDP, length %u", Load16(p + 2), Load16(p + 4) - 8);
  }
  return out + pair + Format(": proto %u, length %u", layout.protocol, length);
}

std::string Printer::Describe(const std::vector<uint8_t>& bytes) {
  FrameLayout layout;
  if (ParseLayout(bytes, &layout)) return DescribeIp(bytes, layout);
  if (layout.ether_type == 0x0806) return DescribeArp(bytes);
  return Format("ethertype 0x%04x, length %zu", layout.ether_type, bytes.size());
}

std::string Printer::Describe(const WireFrame& frame) {
  std::string out = Describe(frame.bytes);
  if (frame.offload.segmentation != SegmentationType::kNone) {
    out += Format(" (gso %u)", frame.offload.segment_size);
  }
  return out;
}

}  // namespace userstack::testing
