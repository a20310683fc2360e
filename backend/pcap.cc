// The classic pcap file format, nanosecond variant.
#include "backend/pcap.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/file.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "netstack/base/byte_order.h"
#include "netstack/base/checksum.h"

namespace userstack::backend {
namespace {

struct FileHeader {
  uint32_t magic = 0xa1b23c4d;  // timestamps in nanoseconds
  uint16_t version_major = 2;
  uint16_t version_minor = 4;
  int32_t zone = 0;
  uint32_t accuracy = 0;
  uint32_t snap_length = 262144;
  uint32_t link_type = 1;  // Ethernet
};
static_assert(sizeof(FileHeader) == 24);

struct RecordHeader {
  uint32_t seconds = 0;
  uint32_t nanoseconds = 0;
  uint32_t captured = 0;
  uint32_t length = 0;
};
static_assert(sizeof(RecordHeader) == 16);

// Writes the file's header when the file is new, checks it when it is not. 0, -errno, or -EINVAL
// for a file that is something else. Under an advisory lock: two stacks may open it at once.
long Begin(int fd) {
  long result = SystemCall(SYS_flock, fd, LOCK_EX);
  if (result < 0) return result;
  FileHeader wanted;
  FileHeader found;
  const long got = SystemCall(SYS_pread64, fd, reinterpret_cast<long>(&found), sizeof found, 0);
  if (got == 0) {
    const iovec entry = {&wanted, sizeof wanted};
    result = KernelWritev(fd, &entry, 1);
    if (result >= 0) result = result == sizeof wanted ? 0 : -ENOSPC;
  } else if (got < 0) {
    result = got;
  } else {
    const bool same = got == sizeof found && found.magic == wanted.magic &&
                      found.version_major == wanted.version_major &&
                      found.link_type == wanted.link_type;
    result = same ? 0 : -EINVAL;
  }
  SystemCall(SYS_flock, fd, LOCK_UN);
  return result;
}

std::string OpenError(long error) {
  if (error == -EINVAL) return "the file exists and is not a capture in pcap's nanosecond format";
  if (error == -ENOENT) return "no such directory";
  if (error == -EACCES || error == -EPERM || error == -EROFS) return "no permission to write it";
  if (error == -EISDIR) return "this is a directory";
  return "cannot write it: error " + std::to_string(-error);
}

}  // namespace

OpenedDevice CaptureDevice::Open(OpenedDevice inner, const DeviceOptions& options) {
  long opened = KernelOpen(options.capture.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
  OwnedDescriptor file(static_cast<int>(opened));
  if (opened >= 0) opened = Begin(file.get());
  if (opened < 0) {
    return {.error = "USERSTACK_CAPTURE=" + options.capture + ": " + OpenError(opened) +
                     "; expected a file that can be created or appended to"};
  }
  file.MoveAbove(options.descriptor_floor);
  inner.device.reset(new CaptureDevice(std::move(inner.device), std::move(file)));
  return inner;
}

OpenedDevice CaptureDevice::Adopt(OpenedDevice inner, int descriptor) {
  inner.device.reset(new CaptureDevice(std::move(inner.device), OwnedDescriptor(descriptor)));
  return inner;
}

void CaptureDevice::Record(iovec* entries, size_t count, uint32_t length) {
  if (failed_) return;
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  RecordHeader header{static_cast<uint32_t>(now.tv_sec), static_cast<uint32_t>(now.tv_nsec), length,
                      length};
  entries[0] = {&header, sizeof header};
  long written;
  do {
    written = KernelWritev(file_.get(), entries, count);
  } while (written == -EINTR);
  failed_ = written != static_cast<long>(sizeof header + length);
  entries[0] = {};
}

void CaptureDevice::RecordPackets(Packet* const* packets, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    iovec entries[kMaxSlices + 1];
    const Packet& packet = *packets[i];
    for (unsigned s = 0; s < packet.slice_count; ++s) {
      entries[s + 1] = {packet.slices[s].data(), packet.slices[s].length};
    }
    Record(entries, packet.slice_count + size_t{1}, packet.length);
  }
}

size_t CaptureDevice::Receive(Core& core, Packet** packets, size_t limit, uint16_t interface,
                              Instant now) {
  const size_t count = inner_->Receive(core, packets, limit, interface, now);
  RecordPackets(packets, count);
  return count;
}

size_t CaptureDevice::ReceiveFrom(unsigned queue, Core& core, Packet** packets, size_t limit,
                                  uint16_t interface, Instant now) {
  const size_t count = inner_->ReceiveFrom(queue, core, packets, limit, interface, now);
  RecordPackets(packets, count);
  return count;
}

namespace {

constexpr size_t kEthernetBytes = 14;
constexpr size_t kUdpBytes = 8;

// Makes the headers of a frame of many datagrams those of its `index`th, of `payload` bytes.
void WriteDatagramHeaders(uint8_t* frame, size_t length, uint16_t index, uint32_t payload) {
  uint8_t* ip = frame + kEthernetBytes;
  uint8_t* udp = frame + length - kUdpBytes;
  const bool v4 = ip[0] >> 4 == 4;
  const auto udp_length = static_cast<uint16_t>(payload + kUdpBytes);
  const auto network = static_cast<size_t>(udp - ip);
  Store16(udp + 4, udp_length);
  ChecksumAccumulator pseudo;
  if (v4) {
    Store16(ip + 2, static_cast<uint16_t>(network + udp_length));
    Store16(ip + 4, static_cast<uint16_t>(Load16(ip + 4) + index));
    Store16(ip + 10, 0);
    ChecksumAccumulator sum;
    sum.Add(ip, network);
    Store16(ip + 10, sum.Checksum());
    pseudo.AddPseudoHeader(IpAddress::V4FromBytes(ip + 12), IpAddress::V4FromBytes(ip + 16),
                           IPPROTO_UDP, udp_length);
  } else {
    Store16(ip + 4, static_cast<uint16_t>(network - 40 + udp_length));
    pseudo.AddPseudoHeader(IpAddress::V6FromBytes(ip + 8), IpAddress::V6FromBytes(ip + 24),
                           IPPROTO_UDP, udp_length);
  }
  Store16(udp + 6, pseudo.Sum());  // as on every captured frame whose sum the device finishes
}

}  // namespace

// A frame that the device cuts into datagrams is captured as these: a merged one would look like
// one datagram that nobody sent. (Merged TCP segments read as what they are: a piece of a stream.)
void CaptureDevice::RecordDatagrams(const Frame& frame) {
  const size_t headers = frame.header_length();
  const uint32_t size = frame.offload.segment_size;
  uint8_t copy[kFrameStorage];
  unsigned slice = 0;
  uint32_t offset = 0;
  uint16_t index = 0;
  for (uint32_t left = frame.payload_length; left > 0; ++index) {
    const uint32_t payload = std::min(size, left);
    std::memcpy(copy, frame.header(), headers);
    WriteDatagramHeaders(copy, headers, index, payload);
    iovec entries[kMaxSlices + 2];
    entries[1] = {copy, headers};
    size_t count = 2;
    for (uint32_t want = payload; want > 0;) {
      const Slice& from = frame.slices[slice];
      const uint32_t n = std::min(want, from.length - offset);
      if (n > 0) entries[count++] = {from.data() + offset, n};
      want -= n;
      offset += n;
      if (offset < from.length) continue;
      ++slice;
      offset = 0;
    }
    left -= payload;
    Record(entries, count, static_cast<uint32_t>(headers) + payload);
  }
}

Device::Sent CaptureDevice::Transmit(Core& core, const Frame& frame) {
  const Sent sent = inner_->Transmit(core, frame);
  if (sent != Sent::kDone) return sent;
  const Offload& offload = frame.offload;
  if (offload.segmentation == SegmentationType::kUdpSegment && offload.segment_size != 0 &&
      offload.header_length == frame.header_length()) {
    RecordDatagrams(frame);
    return sent;
  }
  iovec entries[kMaxSlices + 2];
  entries[1] = {const_cast<uint8_t*>(frame.header()), frame.header_length()};
  for (unsigned s = 0; s < frame.slice_count; ++s) {
    entries[s + 2] = {frame.slices[s].data(), frame.slices[s].length};
  }
  Record(entries, frame.slice_count + size_t{2}, frame.length());
  return sent;
}

size_t CaptureDevice::Descriptors(int* out, size_t limit) const {
  const size_t count = inner_->Descriptors(out, limit);
  if (count >= limit) return count;
  out[count] = file_.get();
  return count + 1;
}

const char* CaptureDevice::Problem() {
  const char* inner = inner_->Problem();
  if (inner != nullptr) return inner;
  return failed_ ? "USERSTACK_CAPTURE: writing failed; the capture has stopped" : nullptr;
}

}  // namespace userstack::backend
