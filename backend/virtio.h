// The virtio-net header (virtio 1.2, 5.1.6) as TAP devices put it in front of each frame: the
// 12-byte form with num_buffers, fields in native order (little endian). Pure; no state.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "netstack/packet/frame.h"
#include "netstack/packet/offload.h"

namespace userstack::backend {

inline constexpr size_t kVirtioHeaderBytes = 12;
using VirtioHeader = std::array<uint8_t, kVirtioHeaderBytes>;

// What is asked of the device for `offload` on a frame whose checksum_start counts from the
// Ethernet header.
VirtioHeader EncodeVirtioHeader(const Offload& offload);

// What a received header says of a frame of `length` bytes, of which `contiguous` may be read at
// `frame`. Nothing in the header is believed: nullopt when an offset lies outside of the frame, the
// type is unknown, or the segmentation does not fit the packet that the frame holds. On success
// every offset lies inside the frame, and header_length, computed from the packet and not from the
// header's hint, lies inside the contiguous part.
std::optional<Offload> DecodeVirtioHeader(const VirtioHeader& header, const uint8_t* frame,
                                          size_t contiguous, size_t length);

}  // namespace userstack::backend
