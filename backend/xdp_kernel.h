// AF_XDP and BPF as the kernel has them, by raw calls: what Debian 12's headers lack, and wrappers.
// Nothing of libbpf or libxdp is needed: the program is sixty instructions (xdp_program.cc), the
// rings are four cursors each (xdp_ring.h), and libuserstack.so must need nothing but libc.
#pragma once

#include <linux/bpf.h>
#include <linux/if_xdp.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "backend/system_call.h"

namespace userstack::backend {

inline constexpr int kFamilyXdp = 44;               // AF_XDP
inline constexpr int kLevelXdp = 283;               // SOL_XDP
inline constexpr uint16_t kBindMultiBuffer = 0x10;  // XDP_USE_SG, Linux 6.6
inline constexpr uint32_t kMoreFollows = 1;         // XDP_PKT_CONTD, in xdp_desc::options
// Transmit metadata, in front of a frame (Linux 6.11: the flag of the umem's registration).
inline constexpr uint32_t kUmemTransmitMetadata = 1u << 2;  // XDP_UMEM_TX_METADATA_LEN
inline constexpr uint32_t kHasMetadata = 1u << 1;           // XDP_TX_METADATA, in options
inline constexpr uint64_t kMetadataChecksum = 1u << 1;      // XDP_TXMD_FLAGS_CHECKSUM
struct XdpTransmitMetadata {                                // struct xsk_tx_metadata
  uint64_t flags;
  uint16_t checksum_start;   // from the frame's beginning
  uint16_t checksum_offset;  // from there
  uint32_t reserved;
  uint64_t launch_time;
};
struct XdpMemory {  // struct xdp_umem_reg; before Linux 6.8 the last member was padding
  uint64_t address;
  uint64_t length;
  uint32_t chunk_size;
  uint32_t headroom;
  uint32_t flags;
  uint32_t metadata_bytes;
};
inline constexpr int kMaxTransmitBudget = 9;  // XDP_MAX_TX_SKB_BUDGET, Linux 6.17
inline constexpr int kPreferBusyPoll = 69;    // SO_PREFER_BUSY_POLL, Linux 5.11
inline constexpr int kBusyPollBudget = 70;    // SO_BUSY_POLL_BUDGET, Linux 5.11

inline long Bpf(bpf_cmd command, bpf_attr& attributes) {
  return SystemCall(SYS_bpf, command, reinterpret_cast<long>(&attributes), sizeof attributes);
}

inline long SetOption(int fd, int level, int name, const void* value, size_t size) {
  return SystemCall(SYS_setsockopt, fd, level, name, reinterpret_cast<long>(value),
                    static_cast<long>(size));
}

// Null and *error (a positive errno) when it fails.
inline void* MapShared(int fd, size_t size, uint64_t offset, long* error) {
  const long result = SystemCall(SYS_mmap, 0, static_cast<long>(size), PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_POPULATE, fd, static_cast<long>(offset));
  if (result < 0 && result > -4096) {
    *error = -result;
    return nullptr;
  }
  return reinterpret_cast<void*>(result);
}

}  // namespace userstack::backend
