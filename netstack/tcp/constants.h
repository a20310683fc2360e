// The numbers of TCP, with Linux's values where Linux and the RFCs leave a choice.
#pragma once

#include <cstdint>

#include "netstack/base/time.h"

namespace userstack::tcp {

inline constexpr uint8_t kProtocol = 6;

// RFC 6298, Linux: TCP_TIMEOUT_INIT, TCP_RTO_MIN, TCP_RTO_MAX.
inline constexpr Duration kInitialRto = Duration::Seconds(1);
inline constexpr Duration kMinimumRto = Duration::Milliseconds(200);
inline constexpr Duration kMaximumRto = Duration::Seconds(120);
inline constexpr uint8_t kSynRetries = 6;     // net.ipv4.tcp_syn_retries
inline constexpr uint8_t kSynAckRetries = 5;  // net.ipv4.tcp_synack_retries
inline constexpr uint8_t kDataRetries = 15;   // net.ipv4.tcp_retries2
inline constexpr uint8_t kOrphanRetries = 8;  // net.ipv4.tcp_orphan_retries = 0 means 8

// Delayed acknowledgments (Linux: TCP_ATO_MIN, TCP_DELACK_MAX, TCP_MAX_QUICKACKS).
inline constexpr Duration kMinimumAckDelay = Duration::Milliseconds(40);
inline constexpr Duration kMaximumAckDelay = Duration::Milliseconds(200);
inline constexpr uint32_t kMaximumQuickAcks = 16;

// Keepalive defaults (tcp(7)).
inline constexpr uint32_t kKeepAliveIdleSeconds = 7200;
inline constexpr uint32_t kKeepAliveIntervalSeconds = 75;
inline constexpr uint32_t kKeepAliveCount = 9;

inline constexpr Duration kTimeWait = Duration::Seconds(60);
inline constexpr uint32_t kFinWait2Seconds = 60;  // net.ipv4.tcp_fin_timeout

// RFC 7323 5.5: TS.Recent is outdated after 24 days.
inline constexpr Duration kPawsValidity = Duration::Seconds(24 * 24 * 3600);

// RFC 5961 7 (Linux: tcp_challenge_ack_limit, tcp_invalid_ratelimit).
inline constexpr uint32_t kChallengeAcksPerSecond = 1000;
inline constexpr Duration kInvalidAckInterval = Duration::Milliseconds(500);

// Buffers (Linux: tcp_wmem, tcp_rmem), bytes of memory.
inline constexpr uint32_t kSendBufferDefault = 16384;
inline constexpr uint32_t kSendBufferMaximum = 4u << 20;
inline constexpr uint32_t kReceiveBufferDefault = 131072;
inline constexpr uint32_t kReceiveBufferMaximum = 6u << 20;

// MSS.
inline constexpr uint32_t kDefaultMss = 536;        // RFC 9293 3.7.1
inline constexpr uint32_t kMinimumMss = 48;         // Linux: net.ipv4.tcp_min_snd_mss, with options
inline constexpr uint32_t kMinimumReceiveMss = 88;  // Linux: TCP_MIN_MSS
inline constexpr uint32_t kIpv4HeaderBytes = 20;
inline constexpr uint32_t kIpv6HeaderBytes = 40;

inline constexpr uint32_t kMaximumBacklog = 4096;  // net.core.somaxconn

// The largest window that scale 14 can express (RFC 7323 2.3).
inline constexpr uint32_t kMaximumWindow = 65535u << 14;

// RFC 6056; net.ipv4.ip_local_port_range.
inline constexpr uint16_t kFirstEphemeralPort = 32768;
inline constexpr uint16_t kLastEphemeralPort = 60999;

}  // namespace userstack::tcp
