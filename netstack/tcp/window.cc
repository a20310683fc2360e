#include "netstack/tcp/window.h"

#include <algorithm>

#include "netstack/tcp/constants.h"
#include "netstack/tcp/rtt.h"

namespace userstack::tcp {
namespace {

constexpr uint32_t kUnscaledMaximum = 65535;

uint32_t AlignUp(uint32_t value, uint8_t scale) {
  const uint32_t unit = uint32_t{1} << scale;
  return (value + unit - 1) & ~(unit - 1);
}

uint32_t FullSpace(const Connection& c) { return WindowFromMemory(c.options.receive_buffer); }

uint32_t FreeSpace(const Connection& c) {
  const uint32_t buffer = c.options.receive_buffer;
  return c.received_memory >= buffer ? 0 : WindowFromMemory(buffer - c.received_memory);
}

}  // namespace

InitialWindow ChooseInitialWindow(const SocketOptions& options, uint32_t window_clamp, uint32_t mss,
                                  bool scaling) {
  InitialWindow w;
  w.clamp = window_clamp != 0 ? window_clamp : kMaximumWindow;
  if (options.receive_buffer_locked) {
    w.clamp = std::min(w.clamp, WindowFromMemory(options.receive_buffer));
  }
  uint32_t space = std::min(WindowFromMemory(options.receive_buffer), w.clamp);
  if (space > mss) space -= space % mss;
  // Linux: at most 65535 in the first window, whatever the scale, rounded to whole segments.
  w.window = std::min(space, kUnscaledMaximum);
  if (w.window > mss) w.window -= w.window % mss;
  if (scaling) {
    // The scale must express the largest buffer that tuning may reach.
    uint32_t largest = std::min(std::max(space, kReceiveBufferMaximum), w.clamp);
    while (largest > kUnscaledMaximum && w.scale < 14) {
      largest >>= 1;
      ++w.scale;
    }
  }
  w.clamp = std::min(w.clamp, kUnscaledMaximum << w.scale);
  return w;
}

uint32_t RemainingReceiveWindow(const Connection& c) {
  const uint32_t used = c.receive.next - c.receive.acknowledged;
  return used >= c.receive.window ? 0 : c.receive.window - used;
}

uint32_t SelectReceiveWindow(const Connection& c) {
  uint32_t free = FreeSpace(c);
  const uint32_t full = FullSpace(c);
  const uint32_t allowed = std::min(c.receive.window_clamp, full);
  const uint32_t mss = std::min<uint32_t>(c.receive_mss, full);
  if (free < full / 2) {
    if (c.window_scaling) free &= ~((uint32_t{1} << c.receive.window_scale) - 1);
    // RFC 9293 3.8.6.2.2: silly window avoidance at the receiver.
    if (free < (allowed >> 4) || free < mss) return 0;
  }
  free = std::min({free, c.receive.threshold, c.receive.window_clamp});
  if (c.window_scaling) return AlignUp(free, c.receive.window_scale);
  // Without scaling every byte counts: keep the old window while it is good, in whole segments.
  const uint32_t window = c.receive.window;
  if (mss == 0) return free;
  if (window + mss <= free || window > free) return free - free % mss;
  if (mss == full && free > window + full / 2) return free;
  return window;
}

uint16_t AdvertiseWindow(Connection& c) {
  const uint32_t remaining = RemainingReceiveWindow(c);
  uint32_t window = SelectReceiveWindow(c);
  // RFC 9293 3.8.6: never shrink what was promised.
  if (window < remaining) window = AlignUp(remaining, c.receive.window_scale);
  const uint32_t largest = kUnscaledMaximum << c.receive.window_scale;
  window = std::min(window, largest);
  c.receive.acknowledged = c.receive.next;
  c.receive.window = window;
  return static_cast<uint16_t>(window >> c.receive.window_scale);
}

namespace {

// Linux: tcp_measure_rcv_mss. A merged packet tells its unit.
void MeasureReceivedMss(Connection& c, const Segment& segment) {
  const uint32_t unit =
      segment.unit != 0 ? std::min<uint32_t>(segment.unit, segment.length) : segment.length;
  const uint32_t ceiling = c.advertised_mss == 0 ? kDefaultMss : c.advertised_mss;
  if (unit >= c.receive_mss) {
    c.receive_mss = static_cast<uint16_t>(std::min(unit, ceiling));
    // Exactly one segment, pushed: likely the end of a write.
    if (segment.length == unit && segment.Has(wire::kTcpPush)) {
      c.ack_pushed = std::max<uint8_t>(c.ack_pushed, 1);
    }
    return;
  }
  if (unit >= kDefaultMss || (unit >= kMinimumReceiveMss && !segment.Has(wire::kTcpPush))) {
    // Twice the same: the peer's segments have shrunk.
    const bool same = unit == c.last_segment_size;
    c.last_segment_size = static_cast<uint16_t>(unit);
    if (same) {
      c.receive_mss = static_cast<uint16_t>(unit);
      return;
    }
  }
  if (c.ack_pushed < 2) ++c.ack_pushed;
}

}  // namespace

void NoteReceivedPayload(Connection& c, const Segment& segment, uint32_t memory) {
  MeasureReceivedMss(c, segment);
  if (segment.length < 128) return;  // Linux: tiny segments do not open the window
  const uint32_t room_limit = std::min(c.receive.window_clamp, FreeSpace(c));
  if (room_limit <= c.receive.threshold) return;
  // Linux: tcp_grow_window. Only packets that use their memory well open the window in full.
  uint32_t grow =
      WindowFromMemory(memory) <= segment.length ? 2u * c.advertised_mss : uint32_t{c.receive_mss};
  grow = std::max(grow, 2 * segment.length);
  c.receive.threshold += std::min(grow, room_limit - c.receive.threshold);
}

void MeasureReceiverRtt(Connection& c, const Segment& segment, Instant now) {
  Duration sample{0};
  if (c.timestamps && segment.options.has_timestamps && segment.options.timestamp_echo_reply != 0) {
    if (segment.length < c.receive_mss) return;
    const uint32_t delta =
        TimestampClock(now, c.timestamp_offset) - segment.options.timestamp_echo_reply;
    if (delta > (1u << 30)) return;
    sample = Duration::Milliseconds(std::max<uint32_t>(delta, 1));
  } else {
    // Linux: tcp_rcv_rtt_measure. The time to receive one window.
    if (c.tuning_rtt_started.nanoseconds != 0) {
      if (c.receive.next.Before(c.tuning_rtt_sequence)) return;
      sample = std::max(now - c.tuning_rtt_started, Duration::Milliseconds(1));
    }
    c.tuning_rtt_sequence = c.receive.next + c.receive.window;
    c.tuning_rtt_started = now;
    if (sample.nanoseconds == 0) return;
  }
  if (c.receive_rtt.nanoseconds == 0 || sample < c.receive_rtt) {
    c.receive_rtt = sample;
  } else {
    c.receive_rtt = {c.receive_rtt.nanoseconds +
                     (sample.nanoseconds - c.receive_rtt.nanoseconds) / 8};
  }
}

void TuneReceiveBuffer(Connection& c, Instant now) {
  const Duration elapsed = now - c.tuning_started;
  if (c.receive_rtt.nanoseconds == 0 || elapsed < c.receive_rtt) return;
  const uint32_t copied = c.receive.copied - c.tuning_copied;
  if (copied > c.tuning_space) {
    if (!c.options.receive_buffer_locked) {
      // Linux: tcp_rcv_space_adjust. Twice what was read in a round trip, and room for the
      // sender's growth in the next one.
      uint64_t window = uint64_t{copied} * 2 + 16u * c.advertised_mss;
      const uint64_t previous = std::max<uint64_t>(c.tuning_space, 1);
      window += window * (copied - c.tuning_space) / previous * 2;
      const uint64_t memory = std::min<uint64_t>(window * 2, kReceiveBufferMaximum);
      if (memory > c.options.receive_buffer) {
        c.options.receive_buffer = static_cast<uint32_t>(memory);
      }
    }
    c.tuning_space = copied;
  }
  c.tuning_started = now;
  c.tuning_copied = c.receive.copied;
}

void TuneSendBuffer(Connection& c) {
  if (c.options.send_buffer_locked) return;
  // Linux: tcp_sndbuf_expand. Twice the congestion window, and no less than ten segments.
  constexpr uint32_t kSegmentOverhead = 576;
  const uint64_t per_segment = c.mss + kSegmentOverhead;
  const uint64_t segments =
      std::max({c.congestion.window / c.mss, kInitialWindowSegments, uint64_t{c.reordering} + 1});
  const uint64_t wanted = std::min<uint64_t>(2 * segments * per_segment, kSendBufferMaximum);
  if (wanted > c.options.send_buffer) c.options.send_buffer = static_cast<uint32_t>(wanted);
}

}  // namespace userstack::tcp
