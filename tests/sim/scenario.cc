#include "tests/sim/scenario.h"

#include <algorithm>
#include <sstream>

namespace userstack::testing {
namespace {

class Draw {
 public:
  explicit Draw(uint64_t seed) : random_(seed * 0x9e3779b97f4a7c15ull + 1) {}
  uint64_t Below(uint64_t n) { return random_.Below(n); }
  uint64_t Between(uint64_t low, uint64_t high) { return low + random_.Below(high - low + 1); }
  bool OneIn(uint64_t n) { return random_.Below(n) == 0; }
  template <typename T, size_t N>
  T Pick(const T (&values)[N]) {
    return values[random_.Below(N)];
  }
  // Small values are as likely as large ones: uniform in the logarithm.
  uint64_t Scale(uint64_t low, uint64_t high) {
    unsigned low_bits = 0, high_bits = 0;
    while ((low >> low_bits) > 1) ++low_bits;
    while ((high >> high_bits) > 1) ++high_bits;
    const uint64_t bits = Between(low_bits, high_bits);
    return std::clamp((uint64_t{1} << bits) + Below(uint64_t{1} << bits), low, high);
  }

 private:
  Random random_;
};

Duration Micro(uint64_t n) { return Duration::Microseconds(static_cast<int64_t>(n)); }

Impairment DrawImpairment(Kind kind, Draw& draw) {
  Impairment i;
  i.delay = Micro(draw.OneIn(4) ? 0 : draw.Scale(10, 150'000));
  if (kind == Kind::kClean) return i;
  const bool heavy = kind == Kind::kLossy;
  if (!draw.OneIn(3)) i.loss = static_cast<uint32_t>(draw.Scale(100, heavy ? 150'000 : 40'000));
  if (draw.OneIn(2)) i.duplicate = static_cast<uint32_t>(draw.Scale(100, heavy ? 200'000 : 30'000));
  if (draw.OneIn(2)) i.reorder = static_cast<uint32_t>(draw.Scale(1000, heavy ? 400'000 : 100'000));
  if (draw.OneIn(3)) i.corrupt = static_cast<uint32_t>(draw.Scale(100, heavy ? 50'000 : 10'000));
  i.reorder_delay = Micro(draw.Scale(50, 50'000));
  if (draw.OneIn(3)) i.jitter = Micro(draw.Scale(10, 30'000));
  i.jitter_reorders = draw.OneIn(4);
  if (draw.OneIn(6)) {
    i.burst_begin = static_cast<uint32_t>(draw.Scale(100, 10'000));
    // Bursts end soon: they are counted in frames, and a sender backs off while they last.
    i.burst_end = static_cast<uint32_t>(draw.Between(500'000, 900'000));
    i.burst_loss = static_cast<uint32_t>(draw.Between(300'000, 1'000'000));
  }
  if (draw.OneIn(4)) {
    i.bits_per_second = draw.Scale(2'000'000, 1'000'000'000);
    i.queue_bytes = draw.Scale(20'000, 1'000'000);
    i.backpressure = draw.OneIn(2);
  }
  if (draw.OneIn(10)) {
    const Instant from{static_cast<int64_t>(draw.Between(5'000, 9'000)) * 1'000'000};
    i.outages.push_back({from, from + Micro(draw.Scale(10'000, 20'000'000))});
  }
  return i;
}

uint32_t DrawMtu(Kind kind, Draw& draw) {
  static constexpr uint32_t kUsual[] = {1500, 1500, 1500, 1280, 1400, 1492, 9000, 65535};
  static constexpr uint32_t kTinyMtus[] = {1280, 1280, 1281, 1300, 1500};
  return kind == Kind::kTiny ? draw.Pick(kTinyMtus) : draw.Pick(kUsual);
}

SidePlan DrawSide(Kind kind, Draw& draw, uint64_t bytes_max) {
  SidePlan side;
  side.stream = draw.Below(~0ull);
  side.bytes = draw.OneIn(8) ? 0 : draw.Scale(1, bytes_max);
  const bool tiny = kind == Kind::kTiny;
  side.write_max = static_cast<uint32_t>(draw.Scale(tiny ? 1 : 64, tiny ? 4096 : 100'000));
  side.read_max = static_cast<uint32_t>(draw.Scale(tiny ? 1 : 64, tiny ? 4096 : 100'000));
  // One byte a call over many bytes is only slow.
  side.write_max = std::max<uint32_t>(side.write_max, static_cast<uint32_t>(side.bytes / 2000));
  side.read_max = std::max<uint32_t>(side.read_max, 16);
  if (draw.OneIn(4)) side.write_pause = static_cast<uint32_t>(draw.Scale(1000, 100'000));
  if (draw.OneIn(4)) side.read_pause = static_cast<uint32_t>(draw.Scale(1000, 200'000));
  side.pause_max = Micro(draw.Scale(100, 500'000));
  const bool slow = kind == Kind::kTight;
  if (draw.OneIn(slow ? 2 : 8))
    side.read_delay = Micro(draw.Scale(1000, slow ? 60'000'000 : 8'000'000));
  side.edge = draw.OneIn(2);
  side.no_delay = draw.OneIn(3);
  side.cork = draw.OneIn(8);
  if (draw.OneIn(6)) side.more = static_cast<uint32_t>(draw.Scale(10'000, 500'000));
  if (draw.OneIn(6)) side.peek = static_cast<uint32_t>(draw.Scale(10'000, 500'000));
  if (draw.OneIn(10)) side.urgent = static_cast<uint32_t>(draw.Scale(1000, 100'000));
  if (draw.OneIn(tiny ? 2 : 5)) side.send_buffer = static_cast<int>(draw.Scale(2048, 500'000));
  if (draw.OneIn(tiny ? 2 : 5)) side.receive_buffer = static_cast<int>(draw.Scale(1024, 500'000));
  return side;
}

StreamPlan DrawStream(Kind kind, Draw& draw, uint64_t bytes_max) {
  StreamPlan plan;
  plan.client = DrawSide(kind, draw, bytes_max);
  plan.server = DrawSide(kind, draw, bytes_max);
  plan.start = Micro(draw.OneIn(2) ? draw.Below(1000) : draw.Scale(1000, 3'000'000));
  SidePlan& first = draw.OneIn(2) ? plan.client : plan.server;
  SidePlan& second = &first == &plan.client ? plan.server : plan.client;
  switch (draw.Below(8)) {
    case 0:
      first.end = EndStyle::kCloseAfterEnd;  // the second must shut down
      break;
    case 1:
      first.end = EndStyle::kCloseAtOnce;
      second.bytes = 0;
      second.end = draw.OneIn(2) ? EndStyle::kShutdown : EndStyle::kCloseAfterEnd;
      break;
    case 2:
      first.wait_for_end = true;  // half-close: answers after the end
      break;
    case 3: {
      const auto turn = static_cast<uint32_t>(draw.Scale(1, 20'000));
      const uint64_t turns = draw.Between(1, 40);
      plan.client.turn_bytes = plan.server.turn_bytes = turn;
      plan.client.bytes = plan.server.bytes = std::min(turn * turns, bytes_max / turn * turn);
      plan.client.cork = plan.server.cork = false;  // corked turns wait 200 ms each
      plan.client.more = plan.server.more = 0;
      break;
    }
    default:
      break;
  }
  if (kind == Kind::kResets && draw.OneIn(2)) {
    first.end = EndStyle::kAbort;
    first.wait_for_end = false;
    plan.may_fail = true;
  }
  return plan;
}

void DrawDevice(Kind kind, Draw& draw, bool tso, HostOptions* options) {
  DeviceCapabilities& device = options->device;
  device.mtu = DrawMtu(kind, draw);
  const bool capable = kind == Kind::kLarge || draw.OneIn(2);
  device.transmit_checksum = capable;
  device.payload_unit = device.mtu % 3 == 0 ? 64 : 0;
  if (capable && tso) {
    device.tcp_segmentation_max =
        draw.OneIn(3) ? static_cast<uint32_t>(draw.Between(10'000, 65'535)) : 65'535;
    device.tcp_segmentation_max = std::max(device.tcp_segmentation_max, device.mtu);
    device.udp_segmentation = draw.OneIn(2);
    device.udp_fragmentation = draw.OneIn(2);
  }
}

HostOptions DrawHost(Kind kind, Draw& draw, size_t index) {
  HostOptions options;
  const auto number = static_cast<uint32_t>(index + 1);
  options.name = std::string(1, static_cast<char>('A' + index));
  options.device.mac = {{2, 0, 0, 0, 0, static_cast<uint8_t>(number)}};
  options.stack.congestion_control =
      draw.OneIn(2) ? CongestionControl::kCubic : CongestionControl::kReno;
  const uint8_t v6[16] = {0xfd, 0, 0, 0, 0, 0, 0, 0,
                          0,    0, 0, 0, 0, 0, 0, static_cast<uint8_t>(number)};
  options.addresses = {{IpAddress::V4(0x0a000000 + number), 24}, {IpAddress::V6FromBytes(v6), 64}};
  if (draw.OneIn(3)) options.coalesce = Micro(draw.Scale(10, 2000));
  options.merge_input = options.coalesce.nanoseconds != 0 && draw.OneIn(2);
  options.shuffle_delivery = draw.OneIn(2);
  DrawDevice(kind, draw, draw.OneIn(2) || kind == Kind::kLarge, &options);
  if (kind == Kind::kTight) options.arena_bytes = draw.Scale(1u << 20, 8u << 20);
  return options;
}

// Everybody's kernel is the next one, so that frames for it are longer than IP can say.
void MakeHostOf(uint64_t seed, size_t index, DeviceCapabilities* device) {
  if (device->tcp_segmentation_max == 0) return;
  device->host = {{2, 0, 0, 0, 0, static_cast<uint8_t>((index ^ 1) + 1)}};
  device->host_segmentation_max = static_cast<uint32_t>(66'000 + seed % 70 * 1000);
}

void DrawTraffic(Kind kind, Draw& draw, Scenario* scenario) {
  const uint64_t streams = kind == Kind::kDatagram  ? draw.Below(2)
                           : kind == Kind::kTight   ? draw.Between(2, 16)
                           : kind == Kind::kLanding ? draw.Scale(1, 2)
                                                    : draw.Scale(1, 12);
  const uint64_t budget = kind == Kind::kTiny                            ? 100'000
                          : kind == Kind::kLanding                       ? 5'000'000
                          : kind == Kind::kLarge || kind == Kind::kTight ? 3'000'000
                                                                         : 600'000;
  for (uint64_t i = 0; i < streams; ++i) {
    Scenario::StreamEntry entry;
    entry.client = draw.Below(scenario->hosts.size());
    // Now and then a program talks to its own host, by the internal loopback.
    do {
      entry.server = draw.Below(scenario->hosts.size());
    } while (entry.server == entry.client && !draw.OneIn(8));
    entry.family = draw.OneIn(2) ? Family::kIpv4 : Family::kIpv6;
    entry.plan = DrawStream(kind, draw, std::max<uint64_t>(budget / streams, 1000));
    entry.plan.crossed =
        entry.client != entry.server && (kind == Kind::kCrossed ? !draw.OneIn(4) : draw.OneIn(20));
    scenario->streams.push_back(entry);
  }
  const uint64_t datagrams = kind == Kind::kDatagram ? draw.Between(1, 5)
                             : draw.OneIn(3)         ? draw.Between(1, 3)
                                                     : 0;
  for (uint64_t i = 0; i < datagrams; ++i) {
    Scenario::DatagramEntry entry;
    entry.client = draw.Below(scenario->hosts.size());
    entry.server = draw.Below(scenario->hosts.size());
    entry.family = draw.OneIn(2) ? Family::kIpv4 : Family::kIpv6;
    entry.plan.stream = draw.Below(~0ull >> 8);
    entry.plan.count = static_cast<uint32_t>(draw.Scale(1, 60));
    entry.plan.size_max = static_cast<uint32_t>(draw.OneIn(2) ? draw.Scale(32, 65'507) : 1200);
    entry.plan.interval = Micro(draw.Scale(10, 200'000));
    entry.plan.connected = draw.OneIn(2);
    scenario->datagrams.push_back(entry);
  }
}

// Routes that change while connections are open.
void DrawPathChanges(Draw& draw, Scenario::HostPlan* host) {
  static constexpr uint32_t kWidths[] = {0, 1280, 1290, 1350, 1420, 1480, 1492};
  Duration after;
  for (uint64_t n = draw.Between(1, 5); n > 0; --n) {
    after = after + Micro(draw.Scale(1000, 20'000'000));
    host->path_changes.push_back({after, draw.Pick(kWidths)});
  }
}

void DrawHoards(Draw& draw, Scenario* scenario) {
  for (size_t i = 0; i < scenario->hosts.size(); ++i) {
    if (draw.OneIn(4)) continue;
    const Duration from = Micro(draw.Scale(1000, 5'000'000));
    scenario->hoards.push_back({i, from, from + Micro(draw.Scale(100'000, 300'000'000))});
  }
}

// How the shim's programs come to call. Drawn apart from the rest, whose seeds stay what they were.
void DrawHabits(Kind kind, Draw& draw, SidePlan* side) {
  const bool landing = kind == Kind::kLanding;
  if (landing || draw.OneIn(4)) {
    side->waits = true;
    side->read_max = static_cast<uint32_t>(draw.Between(landing ? 66'000 : 1000, 200'000));
    if (landing && !draw.OneIn(4)) side->exact_sizes = true;
  }
  if (draw.OneIn(4)) side->reserve = static_cast<uint32_t>(draw.Scale(10'000, 1'000'000));
  if (draw.OneIn(4)) side->hold = kMillion;
}

// Somebody sends much more than the streak that a guess takes (Landing::kLongStreak), most often to
// one who has little to say.
void DrawLongRun(Draw& draw, StreamPlan* plan) {
  if (plan->client.turn_bytes != 0) {
    plan->client.turn_bytes = plan->server.turn_bytes = 400'000;
    plan->client.bytes = plan->server.bytes = 1'200'000;
  } else {
    SidePlan& sender = plan->client.end == EndStyle::kCloseAtOnce   ? plan->client
                       : plan->server.end == EndStyle::kCloseAtOnce ? plan->server
                       : draw.OneIn(2)                              ? plan->client
                                                                    : plan->server;
    SidePlan& reader = &sender == &plan->client ? plan->server : plan->client;
    sender.bytes = draw.Between(600'000, 4'000'000);
    sender.write_max =
        std::max<uint32_t>(sender.write_max, static_cast<uint32_t>(sender.bytes / 2000));
    if (!draw.OneIn(3) && sender.end != EndStyle::kCloseAtOnce) {
      sender.end = EndStyle::kShutdown;
      sender.wait_for_end = false;
      reader.end = EndStyle::kCloseAfterEnd;
      reader.bytes = draw.OneIn(2) ? 0 : draw.Scale(1, 1000);
    }
  }
  for (SidePlan* side : {&plan->client, &plan->server}) {
    side->receive_buffer = 0;
    if (!draw.OneIn(4)) side->urgent = 0;
    if (!draw.OneIn(4)) side->read_pause = 0;
  }
}

// Datagrams between the frames of the first stream: what a guess mistakes for text.
void DrawBetween(Draw& draw, Scenario* scenario) {
  const Scenario::StreamEntry& stream = scenario->streams[0];
  Scenario::DatagramEntry entry;
  entry.client = stream.client;
  entry.server = stream.server;
  entry.family = draw.OneIn(2) ? Family::kIpv4 : Family::kIpv6;
  entry.plan.stream = draw.Below(~0ull >> 8);
  entry.plan.count = static_cast<uint32_t>(draw.Scale(50, 500));
  entry.plan.size_max = static_cast<uint32_t>(draw.Scale(32, 10'000));
  entry.plan.interval = Micro(draw.Scale(20, 5000));
  scenario->datagrams.push_back(entry);
}

void DrawDrivers(Kind kind, Draw& draw, Scenario* scenario) {
  const bool landing = kind == Kind::kLanding;
  for (auto& entry : scenario->streams) {
    DrawHabits(kind, draw, &entry.plan.client);
    DrawHabits(kind, draw, &entry.plan.server);
    if (landing) DrawLongRun(draw, &entry.plan);
  }
  if (landing && draw.OneIn(2)) DrawBetween(draw, scenario);
  for (auto& host : scenario->hosts) {
    host.options.keeps_replies = draw.OneIn(2);
    // A copy is one frame more than a quiet wire has.
    if (kind == Kind::kClean || (!landing && !draw.OneIn(8))) continue;
    if (draw.OneIn(2)) host.options.forgeries = static_cast<uint32_t>(draw.Scale(1000, 100'000));
    if (draw.OneIn(2)) {
      host.options.device_queues = static_cast<unsigned>(draw.Between(1, DeviceQueues::kMost));
    }
  }
}

}  // namespace

const char* KindName(Kind kind) {
  switch (kind) {
    case Kind::kMixed:
      return "mixed";
    case Kind::kClean:
      return "clean";
    case Kind::kLossy:
      return "lossy";
    case Kind::kTiny:
      return "tiny";
    case Kind::kLarge:
      return "large";
    case Kind::kResets:
      return "resets";
    case Kind::kPathMtu:
      return "pathmtu";
    case Kind::kDatagram:
      return "datagram";
    case Kind::kTight:
      return "tight";
    case Kind::kCrossed:
      return "crossed";
    case Kind::kLanding:
      return "landing";
  }
  return "";
}

Scenario MakeScenario(Kind kind, uint64_t seed) {
  Draw draw(seed * 16 + static_cast<uint64_t>(kind));
  Scenario s;
  s.seed = seed;
  s.network.seed = seed;
  s.network.check_every = draw.OneIn(8) ? 1 : 50;
  s.network.pass_large = kind == Kind::kLarge ? draw.OneIn(2) : draw.OneIn(4);
  s.network.flood = draw.OneIn(4);
  const size_t hosts = draw.OneIn(4) ? 3 : 2;
  for (size_t i = 0; i < hosts; ++i) {
    Scenario::HostPlan host;
    host.options = DrawHost(kind, draw, i);
    if (kind == Kind::kLarge && !s.network.pass_large) MakeHostOf(seed, i, &host.options.device);
    host.up = DrawImpairment(kind, draw);
    if (draw.OneIn(3)) host.down = DrawImpairment(kind, draw);
    if (kind == Kind::kPathMtu) {
      static constexpr uint32_t kNarrow[] = {1280, 1300, 1400, 1480};
      host.up.path_mtu = draw.Pick(kNarrow);
      host.up.path_mtu_mode = draw.OneIn(4) ? PathMtuMode::kBlackHole : PathMtuMode::kAnswer;
    }
    if (host.up.path_mtu_mode == PathMtuMode::kAnswer &&
        (kind == Kind::kPathMtu ? draw.OneIn(2) : kind == Kind::kMixed && draw.OneIn(6))) {
      DrawPathChanges(draw, &host);
    }
    s.hosts.push_back(host);
  }
  // Linux probes for path MTUs only on request (tcp_mtu_probing 0), so a black hole may end a
  // connection; after some fifteen minutes of back-off it must.
  const bool black_hole = std::any_of(s.hosts.begin(), s.hosts.end(), [](const auto& host) {
    return host.up.path_mtu != 0 && host.up.path_mtu_mode == PathMtuMode::kBlackHole;
  });
  // A wire has one MTU; who disagrees with it does so only where the path MTU is the subject.
  if (s.network.pass_large) {
    const uint32_t mtu = s.hosts[0].options.device.mtu;
    for (auto& host : s.hosts) host.options.device.mtu = mtu;
  }
  s.backlog = draw.OneIn(4) ? static_cast<int>(draw.Between(1, 4)) : 64;
  DrawTraffic(kind, draw, &s);
  if (kind == Kind::kTight) DrawHoards(draw, &s);
  Draw habits(~(seed * 16 + static_cast<uint64_t>(kind)));
  DrawDrivers(kind, habits, &s);
  // A buffer made smaller than the window that was promised drops data, on Linux too.
  s.quiet = kind == Kind::kClean && s.backlog == 64 &&
            std::none_of(s.streams.begin(), s.streams.end(), [](const auto& entry) {
              return entry.plan.client.receive_buffer != 0 || entry.plan.server.receive_buffer != 0;
            });
  // A SYN cookie whose ACK finds the accept queue full leaves no trace; only a client that sends
  // something brings the connection back (on Linux too).
  if (s.backlog < 64) {
    for (auto& entry : s.streams) {
      SidePlan& client = entry.plan.client;
      client.wait_for_end = false;
      if (client.bytes == 0) client.bytes = 1;
      if (entry.plan.server.end == EndStyle::kCloseAtOnce) {
        entry.plan.server.end = EndStyle::kShutdown;
      }
    }
  }
  if (kind == Kind::kTight || black_hole) {
    for (auto& entry : s.streams) entry.plan.may_fail = true;
    s.stall = Duration::Seconds(3000);
    s.patience = Duration::Seconds(5000);
  }
  return s;
}

std::string Scenario::Describe() const {
  std::ostringstream out;
  out << "seed " << seed << (network.pass_large ? ", large frames whole" : "")
      << (network.flood ? ", flooding" : "") << ", backlog " << backlog << "\n";
  for (const HostPlan& host : hosts) {
    const DeviceCapabilities& device = host.options.device;
    out << "host " << host.options.name << ": mtu " << device.mtu
        << (device.transmit_checksum ? ", checksum" : "");
    if (device.tcp_segmentation_max != 0) out << ", tso " << device.tcp_segmentation_max;
    if (host.options.coalesce.nanoseconds != 0) {
      out << ", batches of " << host.options.coalesce.microseconds() << "us"
          << (host.options.merge_input ? " merged" : "");
    }
    if (host.options.forgeries != 0) out << ", forgeries " << host.options.forgeries;
    if (host.options.keeps_replies) out << ", keeps replies";
    if (host.options.device_queues != 0) out << ", device queues " << host.options.device_queues;
    out << ", arena " << (host.options.arena_bytes >> 10) << " KiB\n    up " << host.up.Describe()
        << "\n    down " << host.down.Describe() << "\n";
    for (const auto& change : host.path_changes) {
      out << "    path of " << change.mtu << " after " << change.after.milliseconds() << " ms\n";
    }
  }
  for (const StreamEntry& entry : streams) {
    out << "stream " << hosts[entry.client].options.name << " to "
        << hosts[entry.server].options.name << (entry.family == Family::kIpv4 ? " v4 " : " v6 ")
        << entry.plan.Describe() << "\n";
  }
  for (const DatagramEntry& entry : datagrams) {
    out << "datagrams " << hosts[entry.client].options.name << " to "
        << hosts[entry.server].options.name << (entry.family == Family::kIpv4 ? " v4 " : " v6 ")
        << entry.plan.count << " up to " << entry.plan.size_max << " bytes\n";
  }
  for (const Hoard& hoard : hoards) {
    out << "hoarder on " << hosts[hoard.host].options.name << " from " << hoard.from.milliseconds()
        << " to " << hoard.until.milliseconds() << " ms\n";
  }
  return out.str();
}

}  // namespace userstack::testing
