// Counters: everything that the core counts, by the names of Linux's SNMP and netstat tables where
// one exists, and the reasons for which a packet is dropped. A peer's misbehaviour ends here, as a
// value.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace userstack {

enum class Counter : uint16_t {
  kIpInReceives,
  kIpInDelivers,
  kIpInHeaderErrors,
  kIpInAddressErrors,
  kIpInUnknownProtocols,
  kIpInDiscards,
  kIpOutRequests,
  kIpOutDiscards,
  kIpOutNoRoutes,
  kIpReassemblyRequired,
  kIpReassemblyOk,
  kIpReassemblyFails,
  kIpReassemblyTimeout,
  kIpFragmentsCreated,
  kIpFragmentsOk,
  kIpFragmentsFails,
  kIcmpInMessages,
  kIcmpInErrors,
  kIcmpInChecksumErrors,
  kIcmpOutMessages,
  kIcmpOutErrors,
  kIcmpOutRateLimited,
  kArpIn,
  kArpOut,
  kArpConflict,
  kNeighborFailed,
  kNeighborQueueDrop,
  kNeighborTableOverflow,
  kUdpInDatagrams,
  kUdpNoPorts,
  kUdpInErrors,
  kUdpOutDatagrams,
  kUdpReceiveBufferErrors,
  kUdpChecksumErrors,
  kTcpActiveOpens,
  kTcpPassiveOpens,
  kTcpAttemptFails,
  kTcpEstablishedResets,
  kTcpInSegments,
  kTcpOutSegments,
  kTcpRetransmittedSegments,
  kTcpInErrors,
  kTcpOutResets,
  kTcpChecksumErrors,
  kTcpListenOverflows,
  kTcpListenDrops,
  kTcpSynCookiesSent,
  kTcpSynCookiesReceived,
  kTcpSynCookiesFailed,
  kTcpHeaderPredictions,
  kTcpPawsDropped,
  kTcpChallengeAcks,
  kTcpFastRetransmits,
  kTcpTimeouts,
  kTcpOutOfOrderQueued,
  kTcpOutOfOrderDropped,
  kTcpReceivePruned,
  kTcpTimeWait,
  kTcpAbortOnMemory,
  kTcpAbortOnTimeout,
  kTcpAbortOnClose,
  kTcpAbortOnData,
  kTcpDelayedAcks,
  kTcpKeepAliveProbes,
  kTcpZeroWindowProbes,
  kTcpSackReneging,
  kTcpSpuriousRetransmits,
  kDeviceInFrames,
  kDeviceInBytes,
  kDeviceOutFrames,
  kDeviceOutBytes,
  kDeviceInNoBuffer,
  kDeviceInBadFrame,
  kDeviceOutRefused,
  kCount,
};

const char* CounterName(Counter counter);

struct Counters {
  std::array<uint64_t, static_cast<size_t>(Counter::kCount)> values{};
  void Add(Counter c, uint64_t n = 1) { values[static_cast<size_t>(c)] += n; }
  void Subtract(Counter c, uint64_t n) { values[static_cast<size_t>(c)] -= n; }  // taken back
  uint64_t Get(Counter c) const { return values[static_cast<size_t>(c)]; }
};

}  // namespace userstack
