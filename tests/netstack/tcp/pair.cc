// Two hosts on a wire.
#include <algorithm>
#include <sstream>

#include "tests/netstack/tcp/host.h"

namespace userstack::testing {

TcpPair::TcpPair(const DeviceCapabilities& device, uint64_t seed, const char* a, const char* b) {
  hosts_[0] = std::make_unique<TcpHost>(a, device, seed * 2);
  hosts_[1] = std::make_unique<TcpHost>(b, device, seed * 2 + 1);
  Flush();
  RunFor(Duration::Seconds(5));  // duplicate address detection
}

void TcpPair::Flush() {
  for (int i = 0; i < 2; ++i) {
    hosts_[i]->Advance(now_);
    for (WireFrame& whole : hosts_[i]->Output()) {
      std::vector<WireFrame> frames;
      if (cut && whole.offload.segmentation != SegmentationType::kNone) {
        frames = Segment(whole);
      } else {
        frames.push_back(std::move(whole));
      }
      for (WireFrame& frame : frames) {
        Seg seg;
        const bool tcp = ParseSeg(frame, &seg);
        const bool lost = drop && drop(i, frame);
        if (tcp) {
          std::ostringstream line;
          line << (now_ - kStart).microseconds() << (i == 0 ? " a>b " : " b>a ") << seg
               << (lost ? " LOST" : "");
          trace.push_back(line.str());
        }
        if (lost) continue;
        if (frame.offload.checksum_needed) frame.offload.checksum_verified = true;
        flights_.push_back({now_ + delay_, order_++, 1 - i, std::move(frame)});
      }
    }
  }
}

bool TcpPair::Step(Instant until) {
  Flush();
  Instant next = std::min(hosts_[0]->NextDeadline(), hosts_[1]->NextDeadline());
  auto first = std::min_element(flights_.begin(), flights_.end(), [](const auto& x, const auto& y) {
    return x.at != y.at ? x.at < y.at : x.order < y.order;
  });
  if (first != flights_.end()) next = std::min(next, first->at);
  if (next > until) return false;
  now_ = std::max(now_, next);
  if (first != flights_.end() && first->at <= now_) {
    Flight flight = std::move(*first);
    flights_.erase(first);
    hosts_[flight.to]->Input(flight.frame, now_);
  }
  Flush();
  return true;
}

void TcpPair::RunFor(Duration d) {
  const Instant until = now_ + d;
  while (Step(until)) {
  }
  now_ = until;
  Flush();
}

bool TcpPair::RunUntil(const std::function<bool()>& done, Duration limit) {
  const Instant until = now_ + limit;
  while (!done()) {
    if (!Step(until)) return done();
  }
  return true;
}

TcpPair::Ends TcpPair::Connect() {
  Ends ends;
  ends.listener = b().Listen(80, 16, now_);
  ends.client = a().Open(a().address().family());
  const Status begun = a().tcp().Connect(*ends.client->connection, {b().address(), 80, 0}, now_);
  EXPECT_EQ(begun.error(), EINPROGRESS);
  RunUntil(
      [&] {
        if (ends.server == nullptr) ends.server = b().Accept(ends.listener, now_);
        return ends.server != nullptr;
      },
      Duration::Seconds(10));
  EXPECT_NE(ends.server, nullptr);
  return ends;
}

bool TcpPair::Transfer(TcpHost& from, TcpHost::Socket* sender, TcpHost& to,
                       TcpHost::Socket* receiver, size_t total, Duration limit) {
  size_t sent = 0;
  size_t received = 0;
  bool right = true;
  const auto work = [&] {
    while (sent < total && (from.Level(sender) & kEventOut) != 0) {
      std::string piece(std::min<size_t>(total - sent, 100'000), '\0');
      for (size_t i = 0; i < piece.size(); ++i) {
        piece[i] = static_cast<char>(PatternByte(sent + i));
      }
      const int64_t n = from.Send(sender, piece, now_);
      if (n <= 0) break;
      sent += static_cast<size_t>(n);
    }
    std::string piece;
    while ((to.Level(receiver) & kEventIn) != 0 && to.Receive(receiver, &piece, 70'000, now_) > 0) {
      for (char ch : piece) right = right && static_cast<uint8_t>(ch) == PatternByte(received++);
    }
    return received >= total;
  };
  return RunUntil(work, limit) && right && received == total;
}

}  // namespace userstack::testing
