// Segments against an open connection. Input: steps. A step is a segment whose numbers are relative
// to what the connection really expects (so that small mutations explore the window's edges), a
// call of the program, or time that passes. The first bytes choose the opening: active or passive,
// family, options.
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "netstack/base/byte_order.h"
#include "netstack/base/check.h"
#include "tests/fuzz/fuzz_host.h"

namespace userstack::testing {
namespace {

constexpr uint8_t kFin = 1, kSyn = 2, kRst = 4, kAck = 16;
constexpr uint16_t kPeerPort = 4000;

class Peer : public Application {
 public:
  explicit Peer(Input* input) : input_(input) {
    const uint8_t opening = input->U8();
    v6_ = (opening & 1) != 0;
    active_ = (opening & 2) != 0;
    sequence_ = (opening & 4) != 0 ? 0xfffffff0u : 5000u;
    options_ = OpeningOptions(opening);
    buffer_.resize(20000);
  }

  void Open() {
    Host& host = fuzzed_.host();
    const Family family = v6_ ? Family::kIpv6 : Family::kIpv4;
    SimSocket* socket = host.Open(v6_ ? AF_INET6 : AF_INET, SOCK_STREAM, this);
    Check(socket != nullptr, "fuzz: socket");
    host.SetInterest(*socket, kEventIn | kEventOut | kEventPriority, kWatchEdge);
    if (active_) {
      socket_ = socket;
      const IpAddress to = v6_ ? PeerV6() : IpAddress::V4(kPeerV4);
      (void)host.Connect(*socket, {to, kPeerPort, 0});
      fuzzed_.Turn();
      Observe();
      Send(kSyn | kAck, sequence_, acknowledgment_, 60000, options_, {}, 0);
      ++sequence_;
      Observe();
      Send(kAck, sequence_, acknowledgment_, 60000, {}, {}, 0);
    } else {
      listener_ = socket;
      Check(host.Bind(*socket, {IpAddress::Any(family), kHostPort, 0}).ok(), "fuzz: bind");
      Check(host.Listen(*socket, 4).ok(), "fuzz: listen");
      stack_port_ = kHostPort;
      Send(kSyn, sequence_, 0, 60000, options_, {}, 0);
      ++sequence_;
      Observe();
      Send(kAck, sequence_, acknowledgment_, 60000, {}, {}, 0);
    }
    Observe();
  }

  void Step() {
    const uint8_t kind = input_->U8();
    if (kind < 160) {
      Segment(kind);
    } else if (kind < 230) {
      Call(kind);
    } else {
      static constexpr int64_t kTimes[] = {0, 1, 5, 40, 200, 1000, 3000, 70000};
      fuzzed_.Pass(Duration::Milliseconds(kTimes[input_->U8() % 8]));
    }
    Observe();
    fuzzed_.host().stack().CheckInvariants();
  }

  void Finish() {
    if (socket_ != nullptr) fuzzed_.host().Close(socket_);
    if (listener_ != nullptr) fuzzed_.host().Close(listener_);
    fuzzed_.Turn();
    // An orphan without an answer gives up; nothing is left then.
    fuzzed_.Pass(Duration::Seconds(2400));
    Check(!fuzzed_.host().stack().HasUnfinishedWork(true), "fuzz: unfinished work is left");
    const Usage left = fuzzed_.host().usage();
    Check(left.packets == 0 && left.frames == 0 && left.buffer_bytes == 0, "fuzz: memory is left");
  }

  void OnEvents(SimSocket& socket, EventMask events) override {
    (void)events;
    if (&socket == listener_ && socket_ == nullptr) {
      int error = 0;
      socket_ = fuzzed_.host().Accept(socket, this, &error);
      if (socket_ != nullptr) {
        fuzzed_.host().SetInterest(*socket_, kEventIn | kEventOut | kEventPriority, kWatchEdge);
      }
    }
  }
  bool finished() const override { return true; }

 private:
  static Bytes OpeningOptions(uint8_t opening) {
    Bytes out = {2, 4, 5, 180};
    if ((opening & 8) != 0) out.insert(out.end(), {1, 3, 3, 2});
    if ((opening & 16) != 0) out.insert(out.end(), {1, 1, 4, 2});
    if ((opening & 32) != 0) out.insert(out.end(), {1, 1, 8, 10, 0, 0, 1, 0, 0, 0, 0, 0});
    return out;
  }

  // Learns what the connection has sent.
  void Observe() {
    for (const WireFrame& frame : fuzzed_.sent()) {
      FrameLayout layout;
      if (!ParseLayout(frame.bytes, &layout) || layout.protocol != 6 || layout.transport == 0) {
        continue;
      }
      const uint8_t* tcp = &frame.bytes[layout.transport];
      if (Load16(tcp + 2) != kPeerPort) continue;
      Check(ChecksumsAreRight(frame.bytes), "fuzz: wrong checksum sent");
      stack_port_ = Load16(tcp);
      const uint32_t header = (tcp[12] >> 4) * 4u;
      uint32_t end = Load32(tcp + 4) + (layout.end - layout.transport - header);
      if ((tcp[13] & (kSyn | kFin)) != 0) ++end;
      if ((tcp[13] & kRst) == 0) acknowledgment_ = end;
    }
    fuzzed_.sent().clear();
  }

  void Send(uint8_t flags, uint32_t sequence, uint32_t acknowledgment, uint16_t window,
            const Bytes& options, const Bytes& payload, uint16_t urgent) {
    const Bytes segment = TcpSegment(kPeerPort, stack_port_, sequence, acknowledgment, flags,
                                     window, options, payload, urgent);
    fuzzed_.Input(v6_ ? ToHostV6(6, segment) : ToHostV4(6, segment));
  }

  Bytes StepOptions(uint8_t choice) {
    const uint32_t base = acknowledgment_;
    Bytes out;
    switch (choice % 8) {
      case 1:
        return input_->Take(1 + choice % 40);  // anything
      case 2:
      case 3: {  // SACK blocks near what was sent, perhaps D-SACK
        const uint8_t blocks = 1 + choice / 8 % 4;
        out = {1, 1, 5, static_cast<uint8_t>(2 + blocks * 8)};
        for (int i = 0; i < blocks; ++i) {
          const uint32_t left = base - input_->U16();
          out.resize(out.size() + 8);
          Store32(&out[out.size() - 8], left);
          Store32(&out[out.size() - 4], left + input_->U16());
        }
        return out;
      }
      case 4:
      case 5:
      case 6:
        out = {1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0};
        timestamp_ += choice / 8;
        Store32(&out[4], timestamp_);
        Store32(&out[8], input_->U16());
        return out;
      default:
        return out;
    }
  }

  void Segment(uint8_t kind) {
    const uint8_t flags = input_->U8();
    const auto sequence_offset = static_cast<int8_t>(input_->U8());
    const auto ack_offset = static_cast<int8_t>(input_->U8());
    const uint16_t window = static_cast<uint16_t>(input_->U8() << (kind & 7));
    const Bytes options = StepOptions(input_->U8());
    const uint8_t size = input_->U8();
    const auto length = static_cast<size_t>(kind >= 128 ? size * 11 : size % 16);
    // Offsets in bytes near the edge, or in larger steps beyond it.
    const uint32_t scale = (kind & 8) != 0 ? 700 : 1;
    const uint32_t sequence = sequence_ + static_cast<uint32_t>(sequence_offset) * scale;
    const uint32_t ack = acknowledgment_ + static_cast<uint32_t>(ack_offset) * scale;
    const uint16_t urgent = (flags & 32) != 0 ? input_->U8() : 0;
    Send(flags, sequence, ack, window, options, Bytes(length, kind), urgent);
    if (sequence_offset == 0 && (kind & 16) == 0) {
      sequence_ += static_cast<uint32_t>(length) + ((flags & kFin) != 0 ? 1 : 0);
    }
  }

  void Call(uint8_t kind) {
    if (socket_ == nullptr) return;
    Host& host = fuzzed_.host();
    host.EnterCall(fuzzed_.now());
    const size_t length = std::min<size_t>(input_->U8() * 77u + 1, buffer_.size());
    switch (kind % 10) {
      case 0:
      case 1:
        (void)host.Receive(*socket_, buffer_.data(), length);
        break;
      case 2:
        (void)host.Receive(*socket_, buffer_.data(), length, MSG_PEEK);
        break;
      case 3:
        (void)host.Receive(*socket_, buffer_.data(), 1, MSG_OOB);
        break;
      case 4:
      case 5:
        (void)host.Send(*socket_, buffer_.data(), length, MSG_NOSIGNAL);
        break;
      case 6:
        (void)host.Send(*socket_, buffer_.data(), 1 + length % 3, MSG_NOSIGNAL | MSG_OOB);
        break;
      case 7:
        (void)host.Shutdown(*socket_, static_cast<int>(length % 3));
        break;
      case 8:
        Option(input_->U8(), static_cast<int>(length));
        break;
      case 9:
        if (length % 4 == 0) {
          host.Close(socket_);
          socket_ = nullptr;
        }
        break;
    }
    fuzzed_.Turn();
  }

  void Option(uint8_t which, int value) {
    Host& host = fuzzed_.host();
    static constexpr int kNames[] = {TCP_NODELAY,      TCP_CORK,     TCP_QUICKACK,    TCP_MAXSEG,
                                     TCP_WINDOW_CLAMP, TCP_KEEPIDLE, TCP_USER_TIMEOUT};
    if (which % 9 == 7) {
      (void)host.SetOption(*socket_, SOL_SOCKET, SO_RCVBUF, value);
    } else if (which % 9 == 8) {
      (void)host.SetOption(*socket_, SOL_SOCKET, SO_KEEPALIVE, value & 1);
    } else {
      (void)host.SetOption(*socket_, IPPROTO_TCP, kNames[which % 9], value);
    }
    tcp_info info;
    socklen_t size = sizeof info;
    (void)host.stack().GetOption(*socket_->socket, IPPROTO_TCP, TCP_INFO, &info, &size,
                                 fuzzed_.now());
  }

  Input* input_;
  FuzzHost fuzzed_;
  bool v6_ = false, active_ = false;
  Bytes options_;
  SimSocket* listener_ = nullptr;
  SimSocket* socket_ = nullptr;
  uint16_t stack_port_ = kHostPort;
  uint32_t sequence_ = 0;        // what the connection expects of us
  uint32_t acknowledgment_ = 0;  // what we expect of it
  uint32_t timestamp_ = 256;
  Bytes buffer_;
};

}  // namespace

void FuzzOne(const uint8_t* data, size_t size) {
  Input input(data, size);
  Peer peer(&input);
  peer.Open();
  for (int steps = 0; !input.empty() && steps < 200; ++steps) peer.Step();
  peer.Finish();
}

std::vector<Bytes> FuzzSeeds() {
  std::vector<Bytes> seeds;
  // segment: kind, flags, sequence offset, ack offset, window, options, size
  const Bytes data = {0, 24, 0, 0, 255, 0, 10}, big = {130, 24, 0, 0, 255, 0, 100};
  const Bytes ahead = {24, 24, 2, 0, 255, 0, 12}, far = {152, 24, 3, 0, 255, 0, 60};
  const Bytes fin = {0, 17, 0, 0, 255, 0, 0}, reset = {0, 4, 0, 0, 0, 0, 0};
  const Bytes zero_window = {0, 16, 0, 0, 0, 0, 0}, duplicate = {16, 16, 0, 0xf0, 255, 0, 0};
  const Bytes sack = {8, 16, 0, 0xfe, 255, 2, 2, 200, 1, 100}, urgent = {0, 56, 0, 0, 255, 0, 9, 5};
  const Bytes stamped = {0, 24, 0, 0, 255, 12, 10, 0, 7};
  const Bytes read = {160, 50}, write = {164, 200}, shut = {167, 1}, oob = {163, 1};
  const Bytes wait = {240, 4}, long_wait = {240, 6}, close = {169, 3}, option = {168, 9, 1};
  for (uint8_t opening = 0; opening < 64; opening += 3) {
    const Bytes first = {opening};
    seeds.push_back(Concat({first, data, read, write, wait, fin, shut, wait}));
    seeds.push_back(Concat({first, ahead, far, data, read, big, read, reset}));
    seeds.push_back(Concat({first, write, write, sack, duplicate, duplicate, sack, wait, shut}));
    seeds.push_back(Concat({first, write, zero_window, write, long_wait, data, urgent, oob, read}));
    seeds.push_back(Concat({first, stamped, stamped, option, write, shut, wait, fin, close, data}));
  }
  return seeds;
}

}  // namespace userstack::testing
