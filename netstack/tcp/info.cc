#include "netstack/tcp/info.h"

#include <netinet/tcp.h>

#include <algorithm>
#include <cstring>

#include "netstack/tcp/constants.h"
#include "netstack/tcp/rtt.h"
#include "netstack/tcp/timers.h"
#include "netstack/tcp/window.h"

namespace userstack::tcp {
namespace {

uint32_t Segments(uint64_t bytes, uint32_t mss) {
  return static_cast<uint32_t>(std::min<uint64_t>((bytes + mss - 1) / mss, 0xffffffff));
}
uint32_t Microseconds(Duration d) { return static_cast<uint32_t>(d.microseconds()); }
uint32_t MillisecondsSince(Instant then, Instant now) {
  return then.nanoseconds == 0 ? 0 : static_cast<uint32_t>((now - then).milliseconds());
}

}  // namespace

void FillInfo(const Connection& c, Instant now, LinuxTcpInfo* info) {
  std::memset(info, 0, sizeof *info);
  info->tcpi_state = static_cast<uint8_t>(c.state);
  if (c.state == State::kListen) {
    // Linux: tcp_get_info shows the queue where a connection shows its windows.
    info->tcpi_unacked = c.listener->accept_count;
    info->tcpi_sacked = c.listener->backlog;
    return;
  }
  info->tcpi_ca_state = static_cast<uint8_t>(c.recovery);
  info->tcpi_retransmits = c.retransmissions;
  info->tcpi_probes = c.probes;
  info->tcpi_backoff = c.backoff;
  if (c.timestamps) info->tcpi_options |= TCPI_OPT_TIMESTAMPS;
  if (c.sack) info->tcpi_options |= TCPI_OPT_SACK;
  if (c.window_scaling) {
    info->tcpi_options |= TCPI_OPT_WSCALE;
    info->tcpi_snd_wscale = c.send.window_scale & 0xf;
    info->tcpi_rcv_wscale = c.receive.window_scale & 0xf;
  }
  info->tcpi_rto = Microseconds(BackedOffRto(c));
  info->tcpi_ato = Microseconds(c.ack_timeout);
  info->tcpi_snd_mss = c.mss;
  info->tcpi_rcv_mss = c.receive_mss;
  info->tcpi_unacked = Segments(c.send.next - c.send.unacknowledged, c.mss);
  info->tcpi_sacked = Segments(c.sacked_bytes, c.mss);
  info->tcpi_lost = Segments(c.lost_bytes, c.mss);
  info->tcpi_retrans = Segments(c.retransmitted_bytes, c.mss);
  info->tcpi_last_data_sent = MillisecondsSince(c.last_sent_data, now);
  info->tcpi_last_data_recv = MillisecondsSince(c.last_received_data, now);
  info->tcpi_last_ack_recv = MillisecondsSince(c.last_received_ack, now);
  info->tcpi_pmtu = c.route.mtu;
  info->tcpi_rcv_ssthresh = c.receive.threshold;
  info->tcpi_rtt = Microseconds(c.smoothed_rtt);
  info->tcpi_rttvar = Microseconds(c.rtt_deviation);
  info->tcpi_snd_ssthresh = c.congestion.threshold == kInfiniteThreshold
                                ? 0x7fffffff
                                : Segments(c.congestion.threshold, c.mss);
  info->tcpi_snd_cwnd = Segments(c.congestion.window, c.mss);
  // Linux takes the timestamps' room off once they are agreed on.
  const uint32_t timestamps =
      c.timestamps && c.state != State::kSynSent ? wire::kTcpTimestampBytes : 0;
  info->tcpi_advmss = c.advertised_mss - std::min<uint32_t>(c.advertised_mss, timestamps);
  info->tcpi_reordering = c.reordering;
  info->tcpi_rcv_rtt = Microseconds(c.receive_rtt);
  info->tcpi_rcv_space = c.tuning_space;
  info->tcpi_total_retrans = c.total_retransmits;
  info->tcpi_pacing_rate = ~0ull;
  info->tcpi_max_pacing_rate = c.options.max_pacing_rate;
  info->tcpi_bytes_acked = c.bytes_acked;
  info->tcpi_bytes_received = c.bytes_received;
  info->tcpi_segs_out = c.segments_out;
  info->tcpi_segs_in = c.segments_in;
  info->tcpi_notsent_bytes = c.send.end - c.send.next;
  info->tcpi_min_rtt = c.minimum_rtt == Duration::Infinite() ? ~0u : Microseconds(c.minimum_rtt);
  info->tcpi_data_segs_in = c.data_segments_in;
  info->tcpi_data_segs_out = c.data_segments_out;
  info->tcpi_bytes_retrans = c.bytes_retransmitted;
  info->tcpi_delivered = Segments(c.delivered, c.mss);
  info->tcpi_bytes_sent =
      c.bytes_acked + (c.send.next - c.send.unacknowledged) + c.bytes_retransmitted;
  info->tcpi_snd_wnd = c.send.window;
}

}  // namespace userstack::tcp
