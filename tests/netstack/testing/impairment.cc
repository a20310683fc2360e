#include "tests/netstack/testing/impairment.h"

#include <algorithm>
#include <sstream>

namespace userstack::testing {
namespace {

constexpr uint64_t kEthernetOverhead = 24;  // preamble, frame check sequence, gap

}  // namespace

bool Impairment::is_clean() const {
  return loss == 0 && duplicate == 0 && reorder == 0 && corrupt == 0 && burst_begin == 0 &&
         delay.nanoseconds == 0 && jitter.nanoseconds == 0 && bits_per_second == 0 &&
         path_mtu == 0 && outages.empty() && drop == nullptr;
}

std::string Impairment::Describe() const {
  std::ostringstream out;
  out << "delay " << delay.microseconds() << "us";
  if (jitter.nanoseconds != 0) {
    out << " jitter " << jitter.microseconds() << "us" << (jitter_reorders ? " (reorders)" : "");
  }
  const auto rate = [&out](const char* name, uint32_t ppm) {
    if (ppm != 0) out << " " << name << " " << ppm / 10000.0 << "%";
  };
  rate("loss", loss);
  rate("duplicate", duplicate);
  rate("reorder", reorder);
  rate("corrupt", corrupt);
  rate("burst", burst_begin);
  if (bits_per_second != 0) {
    out << " rate " << bits_per_second / 1000 << "kbit/s queue " << queue_bytes
        << (backpressure ? " (backpressure)" : "");
  }
  if (path_mtu != 0) out << " path_mtu " << path_mtu << " mode " << int(path_mtu_mode);
  if (!outages.empty()) out << " outages " << outages.size();
  return out.str();
}

uint64_t Link::QueuedBytes(Instant now) const {
  if (impairment_.bits_per_second == 0 || busy_until_ <= now) return 0;
  const auto ns = static_cast<uint64_t>((busy_until_ - now).nanoseconds);
  return static_cast<uint64_t>(static_cast<unsigned __int128>(ns) * impairment_.bits_per_second /
                               8'000'000'000u);
}

bool Link::WouldRefuse(Instant now) const {
  return impairment_.backpressure && impairment_.queue_bytes != 0 &&
         QueuedBytes(now) > impairment_.queue_bytes;
}

Instant Link::RoomAt(Instant now) const {
  const uint64_t excess =
      QueuedBytes(now) - std::min(QueuedBytes(now), impairment_.queue_bytes / 2);
  const auto ns = static_cast<int64_t>(static_cast<unsigned __int128>(excess) * 8'000'000'000u /
                                       std::max<uint64_t>(impairment_.bits_per_second, 1));
  return now + Duration::Nanoseconds(ns + 1);
}

bool Link::Loses(const WireFrame& frame, Instant now) {
  bad_ = bad_ ? !Chance(impairment_.burst_end) : Chance(impairment_.burst_begin);
  if (bad_ && Chance(impairment_.burst_loss)) return true;
  for (const Outage& outage : impairment_.outages) {
    if (now >= outage.from && now < outage.to) return true;
  }
  if (impairment_.drop != nullptr && impairment_.drop(index_, frame)) return true;
  return Chance(impairment_.loss);
}

void Link::Corrupt(WireFrame* frame) {
  if (impairment_.spare_arp && frame->bytes[12] == 8 && frame->bytes[13] == 6) return;
  // Damage to two fragments of one datagram may cancel out in its checksum.
  FrameLayout layout;
  if (ParseLayout(frame->bytes, &layout) && layout.is_fragment) return;
  FinishChecksum(frame);
  frame->offload.checksum_verified = false;
  // Up to 15 bits in a row: the one's complement sum always differs.
  const uint64_t bits = frame->bytes.size() * 8;
  const uint64_t first = random_.Below(bits);
  const uint64_t flips = 1 + random_.Below(4);
  for (uint64_t i = 0; i < flips; ++i) {
    const uint64_t bit = std::min(first + i * 3, bits - 1);
    frame->bytes[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
  }
}

void Link::Emit(WireFrame frame, Instant sent, std::vector<Departure>* out) {
  Instant at = sent + impairment_.delay;
  if (impairment_.jitter.nanoseconds != 0) {
    at = at + Duration::Nanoseconds(static_cast<int64_t>(
                  random_.Below(static_cast<uint64_t>(impairment_.jitter.nanoseconds) + 1)));
    if (!impairment_.jitter_reorders) at = std::max(at, last_arrival_);
  }
  if (Chance(impairment_.reorder)) {
    at = at + Duration::Nanoseconds(static_cast<int64_t>(
                  random_.Below(static_cast<uint64_t>(impairment_.reorder_delay.nanoseconds) + 1)));
  } else {
    last_arrival_ = std::max(last_arrival_, at);
  }
  if (Chance(impairment_.corrupt)) Corrupt(&frame);
  out->push_back({at, std::move(frame)});
}

LinkFate Link::Send(const WireFrame& frame, Instant now, std::vector<Departure>* out) {
  const bool lost = Loses(frame, now);
  ++index_;
  if (lost) return LinkFate::kLost;
  Instant sent = now;
  if (impairment_.bits_per_second != 0) {
    if (impairment_.queue_bytes != 0 && QueuedBytes(now) > impairment_.queue_bytes) {
      return impairment_.backpressure ? LinkFate::kRefused : LinkFate::kQueueFull;
    }
    const uint64_t bits = (frame.bytes.size() + kEthernetOverhead) * 8;
    const auto ns = static_cast<int64_t>(static_cast<unsigned __int128>(bits) * 1'000'000'000u /
                                         impairment_.bits_per_second);
    sent = std::max(now, busy_until_) + Duration::Nanoseconds(ns);
    busy_until_ = sent;
  }
  if (Chance(impairment_.duplicate)) Emit(frame, sent, out);
  Emit(frame, sent, out);
  return LinkFate::kSent;
}

}  // namespace userstack::testing
