// The TCB and the records around it: Connection, what a listener keeps of a handshake (SynRecord),
// what is left of a connection afterwards (TimeWait), the send buffer's pieces (SendChunk), what
// was sent and is not acknowledged (SentSegment) and what came out of order (ReorderBlock).
// RFC 9293 3.3.1 names the variables; the RFC's symbol stands in the comment.
//
// Owner: Tcp's pools. All access under the stack's lock.
// Invariants: checked by CheckInvariants in invariants.cc, which lists them.
#pragma once

#include <cstdint>

#include "netstack/arena/hash_table.h"
#include "netstack/arena/list.h"
#include "netstack/base/ip_address.h"
#include "netstack/base/sequence.h"
#include "netstack/base/socket_options.h"
#include "netstack/base/time.h"
#include "netstack/ip/ip.h"
#include "netstack/packet/buffer.h"
#include "netstack/packet/packet.h"
#include "netstack/ready/ready.h"
#include "netstack/tcp/congestion.h"
#include "netstack/tcp/sequence_tree.h"
#include "netstack/timer/timer.h"

namespace userstack::tcp {

struct Connection;
struct Listener;

// RFC 9293 3.3.2, with Linux's numbers (TCP_INFO shows them).
enum class State : uint8_t {
  kEstablished = 1,
  kSynSent = 2,
  kSynReceived = 3,
  kFinWait1 = 4,
  kFinWait2 = 5,
  kTimeWait = 6,
  kClosed = 7,
  kCloseWait = 8,
  kLastAck = 9,
  kListen = 10,
  kClosing = 11,
};

// Loss recovery, with Linux's numbers (tcpi_ca_state).
enum class Recovery : uint8_t {
  kOpen = 0,
  kDisorder = 1,  // duplicate or selective acknowledgments came
  kReduced = 2,   // window reduced without loss (ECN)
  kFast = 3,      // fast recovery (RFC 6675, RFC 6582)
  kLoss = 4,      // after a retransmission timeout
};

struct Tuple {
  IpAddress local;
  IpAddress remote;
  uint16_t local_port = 0;
  uint16_t remote_port = 0;
  bool operator==(const Tuple&) const = default;
};
static_assert(sizeof(Tuple) == 36);

// One buffer of the send queue: bytes [begin, begin + length) lie at buffer->bytes + offset.
struct SendChunk {
  ListNode node;
  Buffer* buffer = nullptr;  // one reference
  SeqNum begin;
  uint32_t offset = 0;
  uint32_t length = 0;
};

using SendChunks = List<SendChunk, &SendChunk::node>;

// What was sent and is not yet cumulatively acknowledged, one record per transmission unit (many
// MSS with TSO). The records of a connection tile [SND.UNA, SND.NXT). FIN counts as one byte at the
// end of its record.
struct SentSegment {
  ListNode node;  // in sequence order
  SequenceTreeNode<SentSegment> tree_node;
  SeqNum begin;
  SeqNum end;
  SendChunk* chunk = nullptr;  // holds `begin`; nullptr for a lone FIN
  bool sacked = false;
  bool lost = false;
  bool retransmitted = false;  // a retransmission is in flight
  bool ever_retransmitted = false;
  bool fin = false;
  bool application_limited = false;
  uint8_t transmissions = 1;
  Instant sent_at;
  // The connection's delivery state when it was sent, for delivery rate samples.
  uint64_t delivered = 0;
  Instant delivered_at;
  Instant first_sent_at;
  uint32_t length() const { return end - begin; }
};

// A run of contiguous out-of-order bytes [begin, end), as packets in sequence order.
struct ReorderBlock {
  ListNode node;    // in sequence order
  ListNode recent;  // most recently extended first: the order of SACK blocks (RFC 2018 4)
  SequenceTreeNode<ReorderBlock> tree_node;
  SeqNum begin;
  SeqNum end;
  List<Packet, &Packet::node> packets;
};

struct SendVariables {
  SeqNum unacknowledged;   // SND.UNA
  SeqNum next;             // SND.NXT
  SeqNum end;              // one past the last byte that the user gave
  SeqNum urgent;           // SND.UP: one past the urgent byte (RFC 6093 3.1, as Linux sends it)
  SeqNum window_sequence;  // SND.WL1
  SeqNum initial;          // ISS
  SeqNum small_end;        // end of the last segment shorter than the MSS (Minshall's Nagle)
  SeqNum push;             // a segment that reaches here carries PSH
  uint32_t window = 0;     // SND.WND, scaled
  uint32_t maximum_window = 0;
  uint8_t window_scale = 0;  // Snd.Wind.Shift
  bool urgent_pending = false;
  bool fin_queued = false;  // Close or Shutdown was called: FIN follows the last byte
  bool fin_sent = false;
};

struct ReceiveVariables {
  SeqNum next;                // RCV.NXT
  SeqNum copied;              // the next byte the user reads
  SeqNum initial;             // IRS
  SeqNum acknowledged;        // RCV.NXT in the last segment we sent
  SeqNum urgent;              // sequence number of the urgent byte
  uint32_t window = 0;        // RCV.WND as last advertised, counted from `acknowledged`
  uint32_t window_clamp = 0;  // TCP_WINDOW_CLAMP and what the scale can express
  uint32_t threshold = 0;     // the advertised window grows towards this (Linux: rcv_ssthresh)
  uint8_t window_scale = 0;   // Rcv.Wind.Shift
  uint8_t urgent_byte = 0;
  bool fin_received = false;
  bool fin_known = false;  // a FIN was seen, at fin_sequence, perhaps out of order
  SeqNum fin_sequence;
};

enum class Urgent : uint8_t {
  kNone,
  kExpected,  // announced, the byte is not here yet
  kHere,      // the byte waits for MSG_OOB
  kRead,      // taken; the mark stays until the stream passes it
};

enum class RetransmitTimer : uint8_t { kNone, kRetransmit, kWindowProbe };

// User-settable options of level IPPROTO_TCP. Zero durations mean the default.
struct TcpOptionState {
  bool no_delay = false;
  bool cork = false;
  bool linger2_disabled = false;  // TCP_LINGER2 < 0
  uint8_t syn_count = 0;          // TCP_SYNCNT
  uint8_t keep_alive_count = 0;
  uint8_t thin_flags = 0;        // TCP_THIN_*: accepted, remembered, without effect (as Linux's)
  uint16_t maximum_segment = 0;  // TCP_MAXSEG
  uint16_t keep_alive_idle = 0;  // seconds
  uint16_t keep_alive_interval = 0;
  uint16_t defer_accept = 0;  // retransmissions, as Linux keeps it
  uint16_t linger2_seconds = 0;
  uint32_t user_timeout_ms = 0;
  uint32_t window_clamp = 0;
  uint32_t not_sent_low_water = 0;  // 0: unlimited
};

struct Connection {
  // --- identity ---
  // The first two are what a look-up reads: together, so that it misses the cache once.
  HashNode<Connection> hash_node;  // in the table of connections by tuple (not CLOSED, not LISTEN)
  Tuple tuple;
  State state = State::kClosed;
  Family family = Family::kIpv4;  // of the socket
  uint16_t interface = 0;         // scope of link-local addresses
  ListNode all_node;              // on Context::all
  ListNode port_node;             // on its PortBucket
  ListNode blocked_node;          // held back by a full interface queue
  ListNode waiting_node;  // on its listener's accept queue; once accepted, on Context::starved
  struct PortBucket* port = nullptr;
  Listener* listener = nullptr;  // in LISTEN: its queues. Of a child not yet accepted: its listener
  Pollable* pollable = nullptr;  // nullptr: no socket (never accepted, or closed)
  bool orphan = false;           // Close was called
  bool port_bound = false;       // by Bind (Linux: SOCK_BINDPORT_LOCK)
  bool address_bound = false;    // by Bind (SOCK_BINDADDR_LOCK)
  bool receive_shut = false;     // shutdown(SHUT_RD), or the peer's FIN
  bool send_shut = false;        // shutdown(SHUT_WR)
  bool in_accept_queue = false;
  bool connecting = false;  // Connect was called and its outcome not yet told
  bool connected = false;   // its success was told, or it was accepted (SS_CONNECTED)
  // Shut down between a failure and its telling: of no use until Disconnect (SS_DISCONNECTING).
  bool disconnecting = false;
  uint8_t device_queue = 0;  // by which it sends, and receives (device_queues.h)
  int16_t soft_error = 0;    // an errno: what to report if it times out (RFC 5461)
  int error = 0;             // SO_ERROR, read and cleared

  SocketOptions options;
  TcpOptionState tcp_options;
  Route route;

  // --- sequence variables ---
  SendVariables send;
  ReceiveVariables receive;

  // --- negotiated ---
  uint32_t mss = 536;       // payload bytes of a full segment we send, options deducted
  uint16_t peer_mss = 536;  // as the peer announced it
  uint16_t advertised_mss = 0;
  uint16_t receive_mss = 536;      // estimate of what the peer sends (delayed ACK, buffers)
  uint16_t last_segment_size = 0;  // of the last received segment shorter than receive_mss
  bool timestamps = false;         // RFC 7323 on
  bool sack = false;               // RFC 2018 on
  bool window_scaling = false;
  uint32_t timestamp_offset = 0;  // added to our clock for TSval
  uint32_t recent_timestamp = 0;  // TS.Recent
  Instant recent_timestamp_at;    // when it was taken (PAWS's 24 days)

  // --- send queue ---
  List<SendChunk, &SendChunk::node> chunks;
  SendChunk* next_chunk = nullptr;  // holds SND.NXT; nullptr at the end of the queue

  // --- scoreboard ---
  List<SentSegment, &SentSegment::node> sent;
  SequenceTree<SentSegment, &SentSegment::tree_node, &SentSegment::begin> sent_tree;
  SentSegment* retransmit_hint = nullptr;  // records before it need no retransmission now
  SeqNum lost_until;                       // records before it were examined for loss
  SeqNum highest_sacked;                   // end of the highest SACKed range
  SeqNum recovery_point;                   // SND.NXT when recovery began
  uint32_t queued_memory = 0;              // of chunks and records, against options.send_buffer
  uint64_t sacked_bytes = 0;
  uint64_t lost_bytes = 0;
  uint64_t retransmitted_bytes = 0;  // retransmissions in flight
  uint32_t duplicate_acks = 0;       // without SACK: how many in a row
  uint32_t reordering = 3;           // DupThresh
  Recovery recovery = Recovery::kOpen;
  bool window_limited = false;  // output was limited by cwnd in this round
  Congestion congestion;
  SeqNum window_limited_until;  // the round that window_limited speaks of ends here
  SeqNum round_end;             // an ACK beyond this starts a new round trip
  uint64_t window_limited_in_flight = 0;

  // --- delivery accounting ---
  uint64_t delivered = 0;
  Instant delivered_at;
  Instant first_sent_at;
  uint64_t application_limited_until = 0;  // in `delivered` units; 0: not limited
  uint64_t bytes_acked = 0;
  uint64_t bytes_received = 0;
  uint64_t bytes_retransmitted = 0;
  uint32_t segments_in = 0, segments_out = 0;
  uint32_t data_segments_in = 0, data_segments_out = 0;
  uint32_t total_retransmits = 0;

  // --- round trip time (RFC 6298) ---
  uint8_t backoff = 0;
  uint8_t retransmissions = 0;  // timeouts in a row
  uint8_t probes = 0;           // unanswered window or keepalive probes
  RetransmitTimer retransmit_kind = RetransmitTimer::kNone;
  Duration smoothed_rtt;   // SRTT; 0: no sample yet
  Duration rtt_deviation;  // RTTVAR
  Duration rto = Duration::Seconds(1);
  Duration minimum_rtt = Duration::Infinite();
  Instant retransmit_started;  // first loss of this stretch, for TCP_USER_TIMEOUT
  Instant last_sent_data;
  Instant last_received_data;
  Instant last_received_ack;
  Instant last_received;       // anything: keepalive
  Instant neighbor_confirmed;  // when Ip was last told that the next hop works

  Timer retransmit_timer{TimerKind::kTcpRetransmit};
  Timer delayed_ack_timer{TimerKind::kTcpDelayedAck};
  Timer keep_alive_timer{TimerKind::kTcpKeepAlive};

  // --- receive queue ---
  List<Packet, &Packet::node> received;  // [receive.copied, receive.next), in order
  List<ReorderBlock, &ReorderBlock::node> reorder;
  List<ReorderBlock, &ReorderBlock::recent> reorder_recent;
  SequenceTree<ReorderBlock, &ReorderBlock::tree_node, &ReorderBlock::begin> reorder_tree;
  uint32_t received_memory = 0;  // both queues, against options.receive_buffer
  Urgent urgent = Urgent::kNone;
  bool duplicate_sack = false;  // the next ACK carries a D-SACK block (RFC 2883)
  uint8_t ack_pushed = 0;       // short segments since the last ACK, at most 2
  uint8_t quick_acks = 0;       // how many more to send at once
  SeqNum duplicate_sack_begin, duplicate_sack_end;

  // --- acknowledgment policy (Linux: icsk_ack) ---
  bool ack_pending = false;
  bool ack_now = false;
  bool ping_pong = false;      // interactive: delay acknowledgments
  SeqNum tuning_rtt_sequence;  // of the receiver's RTT, below
  Duration ack_timeout;
  Instant last_challenge_ack;

  // --- receive buffer tuning ---
  Instant tuning_started;
  SeqNum tuning_copied;       // receive.copied at the start of this round
  uint32_t tuning_space = 0;  // bytes copied in the best round so far
  Instant tuning_rtt_started;
  Duration receive_rtt;  // as seen by a receiver
};
static_assert(sizeof(Connection) <= 1228, "keep the TCB lean: a million must fit");

// What a SYN and its answer agreed on.
struct Handshake {
  Tuple tuple;
  uint16_t interface = 0;
  uint16_t peer_mss = 536;
  SeqNum receive_initial;  // IRS
  SeqNum send_initial;     // ISS
  uint32_t window = 0;     // of the SYN, never scaled
  uint32_t recent_timestamp = 0;
  Instant recent_timestamp_at;
  Instant sent_at;  // of the last SYN-ACK; 0: unknown
  uint8_t peer_window_scale = 0;
  uint8_t receive_window_scale = 0;
  uint8_t timeouts = 0;
  bool window_scaling = false;
  bool timestamps = false;
  bool sack = false;
};

// A handshake that a listener has begun (Linux: request_sock). Becomes a Connection at the ACK.
struct SynRecord : Handshake {
  HashNode<SynRecord> hash_node;
  ListNode node;  // on its listener's SYN queue
  Listener* listener = nullptr;
  bool acknowledged = false;  // the ACK came, but the accept queue was full or data is awaited
  Timer timer{TimerKind::kTcpSynQueue};
};

// The queues of a listening connection.
struct Listener {
  Connection* connection = nullptr;
  List<SynRecord, &SynRecord::node> syn_queue;
  List<Connection, &Connection::waiting_node> accept_queue;
  uint32_t syn_count = 0;
  uint32_t accept_count = 0;
  uint32_t backlog = 0;
  ListNode node;        // on its PortBucket's listeners
  Instant last_cookie;  // when a SYN cookie was last sent: only then are cookies looked for
};

// TIME_WAIT, or FIN_WAIT_2 without a socket (Linux: inet_timewait_sock).
struct TimeWait {
  HashNode<TimeWait> hash_node;
  ListNode port_node;
  ListNode age_node;  // on Context::time_wait_list, oldest first
  Tuple tuple;
  struct PortBucket* port = nullptr;
  SeqNum send_next;
  SeqNum receive_next;
  uint32_t receive_window = 0;
  uint32_t timestamp_offset = 0;
  uint32_t recent_timestamp = 0;
  Instant recent_timestamp_at;
  Instant last_ack;  // rate limit of acknowledgments to what is out of window
  uint16_t interface = 0;
  uint8_t traffic_class = 0;
  bool timestamps = false;
  bool fin_wait_2 = false;
  bool reuse_address = false;
  bool reuse_port = false;
  bool v6_only = false;
  Timer timer{TimerKind::kTcpTimeWait};
};

// A local port in use: who is bound to it. (Linux: inet_bind_bucket.)
struct PortBucket {
  HashNode<PortBucket> hash_node;
  uint16_t number = 0;
  uint32_t explicitly_bound = 0;  // owners that called Bind with this port (or got it from Bind)
  List<Connection, &Connection::port_node> owners;
  List<TimeWait, &TimeWait::port_node> time_waits;
  List<Listener, &Listener::node> listeners;
};

}  // namespace userstack::tcp
