#include "tests/netstack/testing/network.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <sstream>

#include "netstack/base/byte_order.h"
#include "netstack/base/check.h"

namespace userstack::testing {
namespace {

constexpr size_t kTraceHead = 160;  // bytes of a frame that are kept: all headers
constexpr uint64_t kMaxIdleTurns = 1000;

const char* FateName(LinkFate fate) {
  switch (fate) {
    case LinkFate::kSent:
      return "";
    case LinkFate::kLost:
      return "  *lost*";
    case LinkFate::kQueueFull:
      return "  *queue full*";
    case LinkFate::kRefused:
      return "  *refused*";
    case LinkFate::kTooBig:
      return "  *too big*";
  }
  return "";
}

}  // namespace

Network::Network(const NetworkOptions& options)
    : options_(options), random_(options.seed), note_([this] { PrintState(); }) {}

void Network::PrintState() {
  std::fprintf(stderr, "--- seed %llu, virtual time %s\n%s%s",
               static_cast<unsigned long long>(options_.seed), FormatTime(now_).c_str(),
               Trace().c_str(), DescribeApplications().c_str());
}

Host& Network::AddHost(const HostOptions& options, const Impairment& up, const Impairment& down) {
  ports_.push_back(std::make_unique<Port>(up, down, random_.Next()));
  Port& port = *ports_.back();
  port.host = std::make_unique<Host>(options, random_.Next(), now_);
  port.dirty = true;
  return *port.host;
}

bool Network::AllFinished() const {
  return std::all_of(applications_.begin(), applications_.end(),
                     [](const auto& application) { return application->finished(); });
}

void Network::Schedule(Instant at, Event event) {
  uint32_t slot;
  if (free_slots_.empty()) {
    slot = static_cast<uint32_t>(slots_.size());
    slots_.push_back(std::move(event));
  } else {
    slot = free_slots_.back();
    free_slots_.pop_back();
    slots_[slot] = std::move(event);
  }
  heap_.push_back({std::max(at, now_), sequence_++, slot});
  std::push_heap(heap_.begin(), heap_.end());
}

void Network::StartTimer(Host& host, Application* application, uint64_t tag, Instant at) {
  for (size_t i = 0; i < ports_.size(); ++i) {
    if (ports_[i]->host.get() != &host) continue;
    Event event;
    event.kind = EventKind::kTimer;
    event.port = i;
    event.application = application;
    event.tag = tag;
    Schedule(at, std::move(event));
    return;
  }
}

void Network::At(Instant at, std::function<void()> action) {
  Event event;
  event.kind = EventKind::kAction;
  event.action = std::move(action);
  Schedule(at, std::move(event));
}

void Network::Inject(Host& to, std::vector<uint8_t> bytes) {
  for (size_t i = 0; i < ports_.size(); ++i) {
    if (ports_[i]->host.get() == &to) Down(i, {std::move(bytes), {}});
  }
}

Instant Network::NextTime() {
  Instant next = heap_.empty() ? Instant::Never() : heap_.front().at;
  for (auto& port : ports_) {
    if (port->dirty) return now_;
    next = std::min(next, std::min(port->run_at, port->host->stack().NextDeadline()));
  }
  return std::max(next, now_);
}

void Network::Dispatch(Event& event) {
  switch (event.kind) {
    case EventKind::kSegment:
      Forward(event.port, std::move(event.frame));
      return;
    case EventKind::kArrive:
      Arrive(event.port, std::move(event.frame));
      return;
    case EventKind::kTimer:
      ports_[event.port]->host->EnterCall(now_);
      event.application->OnTimer(event.tag);
      ports_[event.port]->dirty = true;
      return;
    case EventKind::kAction:
      for (auto& port : ports_) {
        port->host->EnterCall(now_);
        port->dirty = true;
      }
      event.action();
      return;
    case EventKind::kUnblock:
      ports_[event.port]->dirty = true;
      return;
  }
}

void Network::RunPort(size_t index) {
  Port& port = *ports_[index];
  const bool for_deadline = !port.dirty && port.run_at > now_;
  if (for_deadline) {
    ++timer_turns_;
    port.idle_turns = port.last_turn == now_ ? port.idle_turns + 1 : 0;
    Check(port.idle_turns < kMaxIdleTurns, "NextDeadline stays in the past: the driver would spin");
  }
  port.last_turn = now_;
  port.dirty = false;
  if (port.run_at <= now_) port.run_at = Instant::Never();
  port.host->Run(now_);
  DrainOutput(index);
  // What left made room: whoever waited for it has its turn too.
  if (port.host->HasReadyApplications()) port.dirty = true;
}

void Network::DrainOutput(size_t index) {
  Port& port = *ports_[index];
  if (port.blocked_until > now_) return;
  while (true) {
    Frame* frame = port.host->NextFrame();
    if (frame == nullptr) return;
    if (port.up.WouldRefuse(now_)) {
      port.host->stack().ReturnFrame(frame);
      port.blocked_until = port.up.RoomAt(now_);
      Event event;
      event.kind = EventKind::kUnblock;
      event.port = index;
      Schedule(port.blocked_until, std::move(event));
      return;
    }
    WireFrame wire = Serialize(*frame);
    port.host->NoteLeaves(wire, frame->queue);
    port.host->core().frames.Release(frame);
    Transmit(index, std::move(wire));
  }
}

void Network::VerifyFrame(size_t index, const WireFrame& frame) {
  const DeviceCapabilities& device = ports_[index]->host->options().device;
  const auto require = [&](bool holds, const char* what) {
    if (holds) return;
    Note(ports_[index]->host->name() + " sends " + live_printer_.Describe(frame));
    std::string hex;
    for (size_t i = 0; i < std::min<size_t>(frame.bytes.size(), 100); ++i) {
      hex += "0123456789abcdef"[frame.bytes[i] >> 4];
      hex += "0123456789abcdef"[frame.bytes[i] & 15];
    }
    Note(hex);
    Check(false, what);
  };
  require(frame.bytes.size() >= 14, "host sent a frame without a link header");
  require(std::memcmp(&frame.bytes[6], device.mac.bytes.data(), 6) == 0,
          "host sent from a foreign link address");
  const uint16_t type = Load16(&frame.bytes[12]);
  require(type == 0x0800 || type == 0x86dd || type == 0x0806, "host sent an unknown ethertype");
  FrameLayout layout;
  if (type != 0x0806) {
    require(ParseLayout(frame.bytes, &layout), "host sent a malformed IP packet");
  }
  require(frame.bytes.size() <= device.mtu + 14, "host sent a frame beyond its MTU");
  require(ChecksumsAreRight(frame.bytes), "host sent a wrong checksum");
}

void Network::Transmit(size_t index, WireFrame frame) {
  const DeviceCapabilities& device = ports_[index]->host->options().device;
  Check(device.transmit_checksum || !frame.offload.checksum_needed,
        "host asked for a checksum that its device cannot do");
  const SegmentationType segmentation = frame.offload.segmentation;
  if (segmentation == SegmentationType::kTcpV4 || segmentation == SegmentationType::kTcpV6) {
    const bool to_host = segmentation == SegmentationType::kTcpV4 &&
                         std::memcmp(frame.bytes.data(), device.host.bytes.data(), 6) == 0;
    const uint32_t most = to_host ? device.host_segmentation_max : 0;
    Check(frame.bytes.size() <= 14 + std::max(most, device.tcp_segmentation_max),
          "host sent a large segment that its device cannot cut");
  } else if (segmentation != SegmentationType::kNone) {
    Check(segmentation == SegmentationType::kUdpSegment ? device.udp_segmentation
                                                        : device.udp_fragmentation,
          "host asked for UDP work that its device cannot do");
  }
  const bool whole = segmentation == SegmentationType::kNone &&
                     (!options_.pass_large || !frame.offload.checksum_needed);
  if (options_.pass_large || whole) {
    if (options_.verify_frames && segmentation == SegmentationType::kNone) {
      WireFrame finished = frame;
      FinishChecksum(&finished);
      VerifyFrame(index, finished);
    } else if (options_.verify_frames) {
      for (const WireFrame& segment : Segment(frame)) VerifyFrame(index, segment);
    }
    if (!options_.pass_large) FinishChecksum(&frame), frame.offload = {};
    Up(index, frame);
    return;
  }
  for (const WireFrame& segment : Segment(frame)) {
    if (options_.verify_frames) VerifyFrame(index, segment);
    Up(index, segment);
  }
}

void Network::Up(size_t index, const WireFrame& frame) {
  ++frames_;
  ++events_;
  Digest(&now_, sizeof now_);
  Digest(frame.bytes.data(), frame.bytes.size());
  std::vector<WireFrame> passed;
  if (!PassesPathMtu(index, frame, &passed)) {
    Record(index, frame, LinkFate::kTooBig, 0);
    return;
  }
  for (const WireFrame& piece : passed) {
    std::vector<Departure> departures;
    const LinkFate fate = ports_[index]->up.Send(piece, now_, &departures);
    Record(index, piece, fate, departures.size());
    for (Departure& departure : departures) {
      if (departure.at <= now_) {
        Forward(index, std::move(departure.frame));
        continue;
      }
      Event event;
      event.kind = EventKind::kSegment;
      event.port = index;
      event.frame = std::move(departure.frame);
      Schedule(departure.at, std::move(event));
    }
  }
}

bool Network::PassesPathMtu(size_t from, const WireFrame& frame, std::vector<WireFrame>* out) {
  const Impairment& impairment = ports_[from]->up.impairment();
  FrameLayout layout;
  if (impairment.path_mtu == 0 || !ParseLayout(frame.bytes, &layout)) {
    out->push_back(frame);
    return true;
  }
  std::vector<WireFrame> pieces;
  if (frame.offload.segmentation != SegmentationType::kNone) {
    pieces = Segment(frame);
  } else {
    pieces.push_back(frame);
  }
  bool any = false;
  for (WireFrame& piece : pieces) {
    if (piece.bytes.size() - 14 <= impairment.path_mtu) {
      out->push_back(std::move(piece));
      any = true;
      continue;
    }
    FinishChecksum(&piece);
    piece.offload = {};
    const bool dont_fragment = layout.is_v6 || (piece.bytes[layout.network + 6] & 0x40) != 0;
    switch (impairment.path_mtu_mode) {
      case PathMtuMode::kBlackHole:
        break;
      case PathMtuMode::kAnswer:
      case PathMtuMode::kFragment:
        if (dont_fragment && impairment.path_mtu_mode == PathMtuMode::kAnswer) {
          AnswerTooBig(from, piece, impairment.path_mtu);
        } else if (!dont_fragment) {
          for (WireFrame& fragment : Fragment(piece, impairment.path_mtu, fragment_id_++)) {
            out->push_back(std::move(fragment));
          }
          any = true;
        }
        break;
    }
  }
  return any;
}

// What a router says (RFC 1191, RFC 8201 with RFC 4443 3.2), from an address of its own.
void Network::AnswerTooBig(size_t from, const WireFrame& frame, uint32_t mtu) {
  FrameLayout layout;
  if (!ParseLayout(frame.bytes, &layout)) return;
  const uint8_t* ip = &frame.bytes[layout.network];
  std::vector<uint8_t> b(14);
  std::memcpy(&b[0], &frame.bytes[6], 6);
  b[6] = 2, b[11] = 0xfe;
  const size_t quoted = std::min<size_t>(layout.end - layout.network, layout.is_v6 ? 1232 : 548);
  uint8_t icmp[8] = {};
  if (layout.is_v6) {
    Store16(&b[12], 0x86dd);
    uint8_t header[40] = {0x60};
    Store16(header + 4, static_cast<uint16_t>(8 + quoted));
    header[6] = 58, header[7] = 64;
    header[8] = 0x20, header[9] = 0x01, header[10] = 0x0d, header[11] = 0xb8, header[23] = 0xfe;
    std::memcpy(header + 24, ip + 8, 16);
    b.insert(b.end(), header, header + 40);
    icmp[0] = 2;
    Store32(icmp + 4, mtu);
  } else {
    Store16(&b[12], 0x0800);
    uint8_t header[20] = {0x45};
    Store16(header + 2, static_cast<uint16_t>(28 + quoted));
    header[8] = 64, header[9] = 1;
    header[12] = 192, header[14] = 2, header[15] = 254;
    std::memcpy(header + 16, ip + 12, 4);
    b.insert(b.end(), header, header + 20);
    icmp[0] = 3, icmp[1] = 4;
    Store16(icmp + 6, static_cast<uint16_t>(mtu));
  }
  b.insert(b.end(), icmp, icmp + 8);
  b.insert(b.end(), ip, ip + quoted);
  FixChecksums(&b);
  Note("router answers: " + live_printer_.Describe(b));
  Down(from, {std::move(b), {}});
}

void Network::Forward(size_t from, WireFrame frame) {
  for (size_t i = 0; i < ports_.size(); ++i) {
    if (i == from) continue;
    const bool mine =
        std::memcmp(frame.bytes.data(), ports_[i]->host->options().device.mac.bytes.data(), 6) == 0;
    if (mine || (frame.bytes[0] & 1) != 0 || options_.flood) Down(i, frame);
  }
}

void Network::Down(size_t to, const WireFrame& frame) {
  std::vector<Departure> departures;
  const LinkFate fate = ports_[to]->down.Send(frame, now_, &departures);
  if (fate != LinkFate::kSent) Record(to, frame, fate, 0);
  for (Departure& departure : departures) {
    if (departure.at <= now_) {
      Arrive(to, std::move(departure.frame));
      continue;
    }
    Event event;
    event.kind = EventKind::kArrive;
    event.port = to;
    event.frame = std::move(departure.frame);
    Schedule(departure.at, std::move(event));
  }
}

void Network::Arrive(size_t to, WireFrame frame) {
  Port& port = *ports_[to];
  port.host->Enqueue(std::move(frame));
  const Duration coalesce = port.host->options().coalesce;
  if (coalesce.nanoseconds == 0) {
    port.dirty = true;
  } else if (port.run_at.is_never()) {
    port.run_at = now_ + coalesce;
  }
}

void Network::Flush() {
  for (auto& port : ports_) port->dirty = true;
  while (Step() && NextTime() <= now_) {
  }
}

bool Network::Step() {
  const Instant next = NextTime();
  if (next.is_never()) return false;
  now_ = next;
  while (!heap_.empty() && heap_.front().at <= now_) {
    std::pop_heap(heap_.begin(), heap_.end());
    const uint32_t slot = heap_.back().slot;
    heap_.pop_back();
    Event event = std::move(slots_[slot]);
    slots_[slot] = {};
    free_slots_.push_back(slot);
    Dispatch(event);
    ++events_;
    ++since_check_;
  }
  for (size_t i = 0; i < ports_.size(); ++i) {
    Port& port = *ports_[i];
    if (port.dirty || port.run_at <= now_ || port.host->stack().NextDeadline() <= now_) RunPort(i);
  }
  ++since_check_;
  if (options_.check_every != 0 && since_check_ >= options_.check_every) CheckInvariants();
  return true;
}

void Network::CheckInvariants() {
  since_check_ = 0;
  for (auto& port : ports_) port->host->stack().CheckInvariants();
}

void Network::RunUntilTime(Instant until) {
  while (NextTime() <= until && Step()) {
  }
  now_ = std::max(now_, until);
  for (auto& port : ports_) port->host->EnterCall(now_);
  CheckInvariants();
}

bool Network::RunUntil(const std::function<bool()>& done, Duration limit) {
  const Instant until = now_ + limit;
  while (!done()) {
    if (NextTime() > until || !Step()) {
      CheckInvariants();
      return false;
    }
  }
  CheckInvariants();
  return true;
}

void Network::Digest(const void* bytes, size_t length) {
  const auto* p = static_cast<const uint8_t*>(bytes);
  digest_ = (digest_ ^ length) * 0x100000001b3ull;
  for (; length >= 8; p += 8, length -= 8) {
    uint64_t word;
    std::memcpy(&word, p, 8);
    digest_ = (digest_ ^ word) * 0x9e3779b97f4a7c15ull;
    digest_ ^= digest_ >> 29;
  }
  for (; length > 0; ++p, --length) digest_ = (digest_ ^ *p) * 0x100000001b3ull;
}

void Network::Record(size_t port, const WireFrame& frame, LinkFate fate, size_t copies) {
  if (options_.trace_frames == 0 && !live_) return;
  TraceEntry entry;
  entry.at = now_;
  entry.head.assign(
      frame.bytes.begin(),
      frame.bytes.begin() + static_cast<ptrdiff_t>(std::min(frame.bytes.size(), kTraceHead)));
  entry.length = static_cast<uint32_t>(frame.bytes.size());
  entry.offload = frame.offload;
  entry.port = port;
  entry.fate = fate;
  entry.copies = copies;
  if (live_) {
    std::fprintf(stderr, "%s %s%s\n", FormatTime(now_).c_str(),
                 live_printer_.Describe(frame).c_str(), FateName(fate));
  }
  trace_.push_back(std::move(entry));
  if (trace_.size() > options_.trace_frames) trace_.pop_front();
}

void Network::Note(const std::string& text) {
  if (live_) std::fprintf(stderr, "%s -- %s\n", FormatTime(now_).c_str(), text.c_str());
  if (options_.trace_frames == 0) return;
  TraceEntry entry;
  entry.at = now_;
  entry.note = text;
  trace_.push_back(std::move(entry));
  if (trace_.size() > options_.trace_frames) trace_.pop_front();
}

std::string Network::Trace() {
  std::ostringstream out;
  Printer printer;
  for (const TraceEntry& entry : trace_) {
    out << FormatTime(entry.at) << " ";
    if (!entry.note.empty()) {
      out << "-- " << entry.note << "\n";
      continue;
    }
    WireFrame frame{entry.head, entry.offload};
    frame.bytes.resize(entry.length);
    out << ports_[entry.port]->host->name() << " " << printer.Describe(frame)
        << FateName(entry.fate);
    if (entry.copies > 1) out << "  *duplicated*";
    out << "\n";
  }
  return out.str();
}

std::string Network::DescribeApplications() const {
  std::ostringstream out;
  for (const auto& application : applications_) {
    if (!application->finished()) out << "unfinished: " << application->Describe() << "\n";
  }
  return out.str();
}

}  // namespace userstack::testing
