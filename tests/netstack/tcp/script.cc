// One host and a peer made by hand.
#include <algorithm>
#include <cstring>
#include <utility>

#include "tests/netstack/tcp/host.h"

namespace userstack::testing {

namespace {

WireFrame Build(const Seg& s, const IpAddress& from, const IpAddress& to) {
  uint8_t options[40];
  const uint32_t option_bytes = wire::WriteTcpOptions(s.options, options, sizeof options);
  std::vector<uint8_t> bytes(14 + 20 + 20 + option_bytes + s.payload.size());
  const MacAddress to_mac = MacOf(to);
  const MacAddress from_mac = MacOf(from);
  std::copy(to_mac.bytes.begin(), to_mac.bytes.end(), bytes.begin());
  std::copy(from_mac.bytes.begin(), from_mac.bytes.end(), bytes.begin() + 6);
  Store16(&bytes[12], 0x0800);
  uint8_t* ip = &bytes[14];
  ip[0] = 0x45;
  Store16(ip + 2, static_cast<uint16_t>(bytes.size() - 14));
  ip[8] = 64;
  ip[9] = 6;
  std::memcpy(ip + 12, from.v4_bytes(), 4);
  std::memcpy(ip + 16, to.v4_bytes(), 4);
  wire::TcpHeader h;
  h.source_port = s.source_port;
  h.destination_port = s.destination_port;
  h.sequence = {s.sequence};
  h.acknowledgment = {s.acknowledgment};
  h.header_length = static_cast<uint8_t>(20 + option_bytes);
  h.flags = s.flags;
  h.window = s.window;
  h.urgent_pointer = s.urgent;
  wire::WriteTcpHeader(ip + 20, h);
  std::memcpy(ip + 40, options, option_bytes);
  std::copy(s.payload.begin(), s.payload.end(), bytes.begin() + 54 + option_bytes);
  FixChecksums(&bytes);
  return {std::move(bytes), {}};
}

// Answers an ARP request for `ours`; false when the frame is none.
bool AnswerArp(const WireFrame& request, const IpAddress& ours, WireFrame* answer) {
  const std::vector<uint8_t>& b = request.bytes;
  if (b.size() < 42 || Load16(&b[12]) != 0x0806 || Load16(&b[20]) != 1) return false;
  if (std::memcmp(&b[38], ours.v4_bytes(), 4) != 0) return false;
  const MacAddress mac = MacOf(ours);
  answer->bytes = b;
  uint8_t* a = answer->bytes.data();
  std::memcpy(a, &b[6], 6);
  std::copy(mac.bytes.begin(), mac.bytes.end(), a + 6);
  Store16(a + 20, 2);
  std::memcpy(a + 32, &b[22], 10);
  std::copy(mac.bytes.begin(), mac.bytes.end(), a + 22);
  std::memcpy(a + 28, ours.v4_bytes(), 4);
  return true;
}

}  // namespace

TcpScript::TcpScript() { UseDevice(PlainDevice()); }
TcpScript::~TcpScript() = default;

void TcpScript::UseDevice(const DeviceCapabilities& device) {
  host_ = std::make_unique<TcpHost>("10.0.0.2", device, 7);
  now_ = kStart;
  Advance(Duration::Seconds(5));
  sent_.clear();
}

void TcpScript::Collect() {
  const IpAddress peer = Address("10.0.0.1");
  for (bool again = true; again;) {
    again = false;
    host_->Advance(now_);
    for (const WireFrame& frame : host_->Output()) {
      WireFrame answer;
      if (AnswerArp(frame, peer, &answer)) {
        host_->Input(answer, now_);
        again = true;
        continue;
      }
      Seg seg;
      if (!ParseSeg(frame, &seg)) continue;
      if (frame.offload.checksum_needed) {
        EXPECT_NE(frame.offload.checksum_start, 0);
      } else {
        EXPECT_TRUE(ChecksumsAreRight(frame.bytes));
      }
      if (seg.options.has_timestamps) last_timestamp_ = seg.options.timestamp_value;
      sent_.push_back(std::move(seg));
    }
  }
}

void TcpScript::In(const Seg& segment) {
  Seg s = segment;
  if (s.source_port == 0) s.source_port = kPeerPort;
  if (s.destination_port == 0) s.destination_port = our_port_;
  WireFrame frame = Build(s, Address("10.0.0.1"), Address("10.0.0.2"));
  if (std::exchange(corrupt_next_, false)) frame.bytes.back() ^= 0x10;
  host_->Input(frame, now_);
  Collect();
}

bool TcpScript::HasOut() {
  Collect();
  return !sent_.empty();
}

Seg TcpScript::Out() {
  Collect();
  if (sent_.empty()) {
    ADD_FAILURE() << "nothing was sent";
    return {};
  }
  Seg s = sent_.front();
  sent_.pop_front();
  return s;
}

void TcpScript::SkipOut() {
  Collect();
  sent_.clear();
}

void TcpScript::Advance(Duration d) {
  const Instant until = now_ + d;
  Collect();
  while (host_->NextDeadline() <= until) {
    now_ = std::max(now_, host_->NextDeadline());
    Collect();
  }
  now_ = until;
  Collect();
}

wire::TcpOptions TcpScript::PeerOptions() {
  wire::TcpOptions o = MssOnly();
  o.sack_permitted = true;
  o.has_timestamps = true;
  o.has_window_scale = true;
  o.window_scale = 7;
  return o;
}

wire::TcpOptions TcpScript::MssOnly(uint16_t mss) {
  wire::TcpOptions o;
  o.has_maximum_segment_size = true;
  o.maximum_segment_size = mss;
  return o;
}

Seg TcpScript::Peer(uint8_t flags, std::string payload) {
  Seg s;
  s.sequence = peer_next_;
  s.acknowledgment = peer_ack_;
  s.flags = flags;
  s.window = peer_window_;
  s.payload = std::move(payload);
  if (timestamps_) {
    s.options.has_timestamps = true;
    s.options.timestamp_value = ++peer_timestamp_;
    s.options.timestamp_echo_reply = last_timestamp_;
  }
  return s;
}

void TcpScript::PeerSends(std::string payload) {
  const auto length = static_cast<uint32_t>(payload.size());
  In(Peer(wire::kTcpAck | wire::kTcpPush, std::move(payload)));
  peer_next_ += length;
}

TcpHost::Socket* TcpScript::AcceptOne(const wire::TcpOptions& options, uint16_t window) {
  our_port_ = 80;
  listener_ = host_->Listen(80, 16, now_);
  timestamps_ = options.has_timestamps;
  peer_window_ = window;
  Seg syn;
  syn.sequence = kPeerInitial;
  syn.flags = wire::kTcpSyn;
  syn.window = window;
  syn.options = options;
  syn.options.timestamp_value = peer_timestamp_;
  In(syn);
  const Seg answer = Out();
  EXPECT_TRUE(answer.Has(wire::kTcpSyn | wire::kTcpAck)) << answer;
  our_initial_ = answer.sequence;
  peer_next_ = kPeerInitial + 1;
  peer_ack_ = our_initial_ + 1;
  In(Peer(wire::kTcpAck));
  TcpHost::Socket* s = host_->Accept(listener_, now_);
  EXPECT_NE(s, nullptr);
  SkipOut();
  return s;
}

TcpHost::Socket* TcpScript::ConnectOne(const wire::TcpOptions& options, uint16_t window) {
  TcpHost::Socket* s = host_->Open();
  EXPECT_EQ(tcp().Connect(*s->connection, {Address("10.0.0.1"), kPeerPort, 0}, now_).error(),
            EINPROGRESS);
  const Seg syn = Out();
  EXPECT_EQ(syn.flags, wire::kTcpSyn) << syn;
  our_port_ = syn.source_port;
  our_initial_ = syn.sequence;
  timestamps_ = options.has_timestamps;
  peer_window_ = window;
  peer_ack_ = our_initial_ + 1;
  Seg answer = Peer(wire::kTcpSyn | wire::kTcpAck);
  answer.options = options;
  answer.options.timestamp_value = peer_timestamp_;
  answer.options.timestamp_echo_reply = last_timestamp_;
  peer_next_ = kPeerInitial + 1;
  In(answer);
  SkipOut();
  return s;
}

int64_t TcpScript::Write(TcpHost::Socket* s, std::string_view data, int flags) {
  const int64_t n = host_->Send(s, data, now_, flags);
  Collect();
  return n;
}

std::string TcpScript::Read(TcpHost::Socket* s, size_t most, int flags) {
  std::string data;
  (void)host_->Receive(s, &data, most, now_, flags);
  Collect();
  return data;
}

int64_t TcpScript::ReadResult(TcpHost::Socket* s, int flags) {
  std::string data;
  return host_->Receive(s, &data, 65536, now_, flags);
}

void TcpScript::SetOption(TcpHost::Socket* s, int name, int value) {
  EXPECT_TRUE(tcp().SetOption(*s->connection, name, &value, sizeof value, now_).ok());
  Collect();
}

}  // namespace userstack::testing
