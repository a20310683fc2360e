// TapDevice: opening, negotiating, moving frames.
#include "backend/tap.h"

#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "backend/interface_request.h"
#include "backend/link_watch.h"
#include "backend/virtio.h"
#include "backend/xdp_spec.h"

namespace userstack::backend {
namespace {

// Newer than Debian 12's headers (Linux 6.2).
constexpr unsigned kOffloadUso4 = 0x20;
constexpr unsigned kOffloadUso6 = 0x40;
constexpr unsigned kOffloadTcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;

// A write of 128 KB with its headers, and a segment of the next. Linux takes a TCP packet of many
// segments whose IPv4 header says 0 bytes since 6.3 (iph_totlen; 6.1 drops it), netfilter and
// bridges included, and cuts it by itself for a device that it is sent on to (gso_features_check).
// A TAP makes more than 17 pages of what is written to it since 6.6 (tun_alloc_skb; 6.5: EMSGSIZE),
// though not always when memory is in pieces: then it is refused, as one that is lost.
constexpr uint32_t kHostSegmentationMax = (128 << 10) + 4096;
constexpr unsigned kHostSegmentationSince[] = {6, 6};

constexpr uint32_t kMinimumMtu = 576;
constexpr uint32_t kMaximumMtu = 65535;

// Receive scatters a frame over small buffers and then a large one, so that a frame of up to
// kSmallBuffers * 2 KiB pins no large buffer. What little spills into the large buffer is copied
// out of it (copy-break): at most kCopyBreak bytes, so that a queue of frames a bit too long does
// not pin ten times its size.
constexpr unsigned kSmallBuffers = 4;
constexpr uint32_t kSmallBytes = kSmallBuffers * kSmallBufferBytes;
constexpr uint32_t kCopyBreak = 8192;
// One call takes no more than this and one frame: what it filled should still be in the cache when
// it is used.
constexpr uint64_t kBytesPerCall = 256 << 10;

std::string Quote(const std::string& name) { return "USERSTACK_DEV=tap:" + name + ": "; }

bool KernelTakesHostFrames() {
  utsname kernel{};
  if (SystemCall(SYS_uname, reinterpret_cast<long>(&kernel)) != 0) return false;
  char* rest = nullptr;
  const unsigned long major = std::strtoul(kernel.release, &rest, 10);
  const unsigned long minor = *rest == '.' ? std::strtoul(rest + 1, nullptr, 10) : 0;
  return major > kHostSegmentationSince[0] ||
         (major == kHostSegmentationSince[0] && minor >= kHostSegmentationSince[1]);
}

enum class Kind { kAbsent, kTap, kTun, kOther };

Kind KindOf(int socket, const std::string& name) {
  ifreq request = RequestFor(name);
  if (KernelIoctl(socket, SIOCGIFINDEX, &request) < 0) return Kind::kAbsent;
  ethtool_drvinfo info{};
  info.cmd = ETHTOOL_GDRVINFO;
  if (!AskDriver(socket, name, &info)) return Kind::kOther;
  if (std::strncmp(info.driver, "tun", sizeof info.driver) != 0) return Kind::kOther;
  return std::strncmp(info.bus_info, "tap", sizeof info.bus_info) == 0 ? Kind::kTap : Kind::kTun;
}

std::string CloneDeviceError(long error) {
  if (error == -ENOENT || error == -ENODEV || error == -ENXIO) {
    return "/dev/net/tun is missing; load the module tun, or give the container that device";
  }
  if (error == -EACCES || error == -EPERM) {
    return "no permission to open /dev/net/tun; it must be readable and writable for this user";
  }
  if (error == -EMFILE || error == -ENFILE) {
    return "cannot open /dev/net/tun: no file descriptor is free";
  }
  return "cannot open /dev/net/tun: error " + std::to_string(-error);
}

std::string AttachError(long error, Kind kind, const std::string& name) {
  if (error == -EBUSY) {
    return "the device is busy: another process has it open (a device made with \"multi_queue\" "
           "can be shared)";
  }
  if (error == -EPERM && kind == Kind::kAbsent) {
    return "there is no such interface and no permission to create it; as root: ip tuntap add "
           "dev " +
           name + " mode tap user USER";
  }
  if (error == -EPERM) {
    return "no permission to use this interface; as root: ip tuntap del dev " + name +
           " mode tap, then ip tuntap add dev " + name + " mode tap user USER";
  }
  return "cannot attach to the interface: error " + std::to_string(-error);
}

// Asks for everything and takes back what this kernel does not know, newest first.
unsigned NegotiateOffload(int fd) {
  constexpr unsigned kSets[] = {kOffloadTcp | TUN_F_UFO | kOffloadUso4 | kOffloadUso6,
                                kOffloadTcp | kOffloadUso4 | kOffloadUso6, kOffloadTcp | TUN_F_UFO,
                                kOffloadTcp, TUN_F_CSUM};
  for (const unsigned set : kSets) {
    // The set is the ioctl's argument itself, not behind a pointer.
    if (KernelIoctl(fd, TUNSETOFFLOAD, reinterpret_cast<const void*>(uintptr_t{set})) == 0) {
      return set;
    }
  }
  return 0;
}

}  // namespace

MacAddress DeriveMac(const std::string& name, const std::string& identity,
                     const MacAddress& kernel) {
  uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
  for (const char c : name + '|' + identity) {
    hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  }
  MacAddress mac;
  for (size_t i = 0; i < mac.bytes.size(); ++i) mac.bytes[i] = static_cast<uint8_t>(hash >> 8 * i);
  mac.bytes[0] = static_cast<uint8_t>((mac.bytes[0] & 0xfc) | 0x02);  // unicast, local
  if (mac == kernel) mac.bytes[5] ^= 0xff;
  return mac;
}

OpenedDevice TapDevice::Open(const std::string& name, const DeviceOptions& options) {
  const std::string bad_name = CheckInterfaceName("tap", name);
  if (!bad_name.empty()) return {.error = Quote(name) + bad_name};
  const long opened = KernelOpen("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (opened < 0) return {.error = Quote(name) + CloneDeviceError(opened)};
  OwnedDescriptor fd(static_cast<int>(opened));
  const OwnedDescriptor socket(
      static_cast<int>(SystemCall(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)));
  const Kind kind = KindOf(socket.get(), name);
  if (kind == Kind::kTun) {
    return {.error = Quote(name) + "this interface is a TUN device; a TAP device is needed"};
  }
  if (kind == Kind::kOther) {
    return {.error = Quote(name) +
                     "this interface exists and is not a TAP device; expected a TAP, or a name "
                     "that is free"};
  }

  ifreq request = RequestFor(name);
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  long result = KernelIoctl(fd.get(), TUNSETIFF, &request);
  if (result == -EINVAL && kind == Kind::kTap) {
    // Made with several queues: we are one of them.
    request = RequestFor(name);
    request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE;
    result = KernelIoctl(fd.get(), TUNSETIFF, &request);
  }
  if (result < 0) return {.error = Quote(name) + AttachError(result, kind, name)};

  fd.MoveAbove(options.descriptor_floor);
  std::unique_ptr<TapDevice> tap(new TapDevice(name, std::move(fd)));
  if ((request.ifr_flags & IFF_MULTI_QUEUE) != 0) {
    tap->queues_ = TapQueues::Make(options.descriptor_floor);
  }
  OpenedDevice answer;
  answer.error = tap->Configure(options, &answer.warning);
  if (answer.error.empty()) answer.device = std::move(tap);
  return answer;
}

OpenedDevice TapDevice::Adopt(const std::string& name, const DeviceOptions& options,
                              const int* descriptors, size_t count) {
  ifreq request{};
  if (KernelIoctl(descriptors[0], TUNGETIFF, &request) < 0 ||
      std::string(request.ifr_name, strnlen(request.ifr_name, IFNAMSIZ)) != name) {
    return {.error = Quote(name) + "the inherited descriptor is not this device's"};
  }
  std::unique_ptr<TapDevice> tap(new TapDevice(name, OwnedDescriptor(descriptors[0])));
  if (count > 1) tap->queues_ = TapQueues::Adopt(descriptors + 1);
  OpenedDevice answer;
  answer.error = tap->Configure(options, &answer.warning);
  if (answer.error.empty()) {
    answer.device = std::move(tap);
  } else {
    tap->fd_.Release();  // not ours after a failure
    tap->queues_.Release();
  }
  return answer;
}

size_t TapDevice::DescriptorCount(const int* descriptors, size_t count) {
  return count > DeviceQueues::kMost && TapQueues::AreQueues(descriptors + 1)
             ? DeviceQueues::kMost + 1
             : 1;
}

std::string TapDevice::Configure(const DeviceOptions& options, std::string* warning) {
  const int header_bytes = kVirtioHeaderBytes;
  if (KernelIoctl(fd_.get(), TUNSETVNETHDRSZ, &header_bytes) < 0) {
    return Quote(name_) + "this kernel's TAP has no virtio-net headers of 12 bytes";
  }
  const unsigned offload = NegotiateOffload(fd_.get());
  capabilities_.transmit_checksum = (offload & TUN_F_CSUM) != 0;
  capabilities_.tcp_segmentation_max = (offload & TUN_F_TSO4) != 0 ? 65535 : 0;
  if (capabilities_.tcp_segmentation_max != 0 && KernelTakesHostFrames()) {
    capabilities_.host_segmentation_max = kHostSegmentationMax;
  }
  capabilities_.udp_fragmentation = (offload & TUN_F_UFO) != 0;
  capabilities_.udp_segmentation = (offload & kOffloadUso4) != 0;
  return ReadInterface(options, warning);
}

std::string TapDevice::ReadInterface(const DeviceOptions& options, std::string* warning) {
  const OwnedDescriptor socket(
      static_cast<int>(SystemCall(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)));
  MacAddress kernel;
  ifreq request = RequestFor(name_);
  if (KernelIoctl(fd_.get(), SIOCGIFHWADDR, &request) == 0) {
    std::memcpy(kernel.bytes.data(), request.ifr_hwaddr.sa_data, kernel.bytes.size());
    capabilities_.host = kernel;
  }
  capabilities_.mac = options.mac.value_or(DeriveMac(name_, options.identity, kernel));
  if (capabilities_.mac == kernel) {
    return "USERSTACK_MAC: the kernel's side of tap:" + name_ + " has this address already";
  }

  request = RequestFor(name_);
  const bool has_mtu = KernelIoctl(socket.get(), SIOCGIFMTU, &request) == 0;
  capabilities_.mtu = has_mtu ? static_cast<uint32_t>(request.ifr_mtu) : 1500;
  if (options.mtu != 0) capabilities_.mtu = options.mtu;
  if (capabilities_.mtu < kMinimumMtu || capabilities_.mtu > kMaximumMtu) {
    return "USERSTACK_MTU=" + std::to_string(capabilities_.mtu) +
           ": expected 576 to 65535 (unset: the MTU of the device)";
  }

  request = RequestFor(name_);
  if (KernelIoctl(socket.get(), SIOCGIFFLAGS, &request) < 0) return "";
  if ((request.ifr_flags & IFF_UP) == 0) {
    request.ifr_flags |= IFF_UP;
    if (KernelIoctl(socket.get(), SIOCSIFFLAGS, &request) < 0) {
      *warning = Quote(name_) + "the interface is down and cannot be brought up by this user; as " +
                 "root: ip link set " + name_ + " up";
      return "";
    }
  }
  AwaitLink(socket.get(), name_);
  return "";
}

size_t TapDevice::Descriptors(int* out, size_t limit) const {
  if (limit == 0) return 0;
  out[0] = fd_.get();
  if (limit <= queues_.count()) return 1;
  for (unsigned i = 1; i <= queues_.count(); ++i) out[i] = queues_.descriptor(i);
  return queues_.count() + 1;
}

const char* TapDevice::Problem() { return gone_ ? "the TAP interface was deleted" : nullptr; }

namespace {

// The buffers that one read scatters into. Given back at the end of Receive; the pool's free lists
// are stacks, so taking them again costs a few loads and finds them warm.
class Scatter {
 public:
  explicit Scatter(Core& core) : core_(core) {}
  ~Scatter() {
    for (Buffer* buffer : small_) {
      if (buffer != nullptr) core_.buffers.Release(buffer);
    }
    if (large_ != nullptr) core_.buffers.Release(large_);
  }

  // False when there is not even one small buffer.
  bool Refill() {
    for (Buffer*& buffer : small_) {
      if (buffer == nullptr) buffer = core_.buffers.Allocate(BufferClass::kSmall);
      if (buffer == nullptr) return &buffer != &small_[0];
    }
    if (large_ == nullptr) large_ = core_.buffers.Allocate(BufferClass::kLarge);
    return true;
  }

  // Entries for readv, the header first. Their total is the longest frame that can be taken. With
  // `landing` the text of the frame that it foretells goes to the program, and what has no room
  // there to the large buffer.
  size_t EntriesWith(const Landing& landing, VirtioHeader& header, iovec* out) const {
    out[0] = {header.data(), header.size()};
    out[1] = {small_[0]->bytes, landing.header_length};
    out[2] = {landing.next(), landing.room()};
    out[3] = {large_->bytes, Landing::kLongestText - landing.room()};
    return 4;
  }
  size_t Entries(VirtioHeader& header, iovec* out, size_t* capacity) const {
    size_t count = 0;
    out[count++] = {header.data(), header.size()};
    *capacity = 0;
    for (Buffer* buffer : small_) {
      if (buffer == nullptr) break;
      out[count++] = {buffer->bytes, buffer->capacity};
      *capacity += buffer->capacity;
    }
    if (large_ != nullptr && small_[kSmallBuffers - 1] != nullptr) {
      out[count++] = {large_->bytes, large_->capacity};
      *capacity += large_->capacity;
    }
    return count;
  }

  bool MayLand(const Landing& landing) const {
    return landing.IsOpen() && large_ != nullptr && small_[kSmallBuffers - 1] != nullptr;
  }
  const uint8_t* first() const { return small_[0]->bytes; }

  // Another frame than `landing` foretold: its bytes go where they would have been read to.
  void TakeBack(const Landing& landing, uint32_t length) {
    static_assert(Landing::kLeastPart >= kSmallBytes);
    const uint8_t* from = landing.next();
    uint32_t at = landing.header_length;
    const uint32_t split = at + landing.room();
    if (length > split) {
      std::memmove(large_->bytes + (split - kSmallBytes), large_->bytes, length - split);
      length = split;
    }
    for (unsigned i = 0; i <= kSmallBuffers && at < length; ++i) {
      Buffer* to = i < kSmallBuffers ? small_[i] : large_;
      const uint32_t begin = i * kSmallBufferBytes;  // of `to` within the frame
      const uint32_t n = std::min(length - at, begin + to->capacity - at);
      std::memcpy(to->bytes + (at - begin), from, n);
      from += n;
      at += n;
    }
  }
  void MoveInto(Packet& packet, uint32_t length, Landing& landing) {
    packet.length = length;
    packet.slices[0] = {small_[0], 0, landing.header_length};
    small_[0] = nullptr;
    const uint32_t text = length - landing.header_length;
    const uint32_t lands = std::min(text, landing.room());
    packet.slices[1] = landing.Fill(lands);
    packet.slice_count = 2;
    AppendLarge(packet, text - lands);
  }

  // Moves the buffers that hold the `length` bytes just read into `packet`.
  void MoveInto(Packet& packet, uint32_t length) {
    packet.length = length;
    for (unsigned i = 0; i < kSmallBuffers && length > 0; ++i) {
      const uint32_t n = std::min(length, kSmallBufferBytes);
      packet.slices[packet.slice_count++] = {small_[i], 0, n};
      small_[i] = nullptr;
      length -= n;
    }
    AppendLarge(packet, length);
  }

 private:
  // The first `length` bytes of the large buffer.
  void AppendLarge(Packet& packet, uint32_t length) {
    if (length == 0) return;
    if (length <= kCopyBreak && CopyOut(packet, length)) return;
    packet.slices[packet.slice_count++] = {large_, 0, length};
    large_ = nullptr;
  }
  bool CopyOut(Packet& packet, uint32_t length) {
    const unsigned needed = (length + kSmallBufferBytes - 1) / kSmallBufferBytes;
    Buffer* copies[kCopyBreak / kSmallBufferBytes];
    for (unsigned i = 0; i < needed; ++i) {
      copies[i] = core_.buffers.Allocate(BufferClass::kSmall);
      if (copies[i] != nullptr) continue;
      while (i-- > 0) core_.buffers.Release(copies[i]);
      return false;
    }
    for (unsigned i = 0; i < needed; ++i) {
      const uint32_t n = std::min(length, kSmallBufferBytes);
      std::memcpy(copies[i]->bytes, large_->bytes + size_t{i} * kSmallBufferBytes, n);
      packet.slices[packet.slice_count++] = {copies[i], 0, n};
      length -= n;
    }
    return true;
  }

  Core& core_;
  Buffer* small_[kSmallBuffers] = {};
  Buffer* large_ = nullptr;
};

enum class Took : uint8_t { kFrame, kNothing, kInterrupted, kLost };

// One readv: a frame becomes a packet.
class OneRead {
 public:
  OneRead(int fd, Core& core, Scatter& scatter) : fd_(fd), core_(core), scatter_(scatter) {}
  // `packet` may be null: without a buffer the frame is still taken, and lost: it must not block
  // those behind it.
  Took Run(Packet* packet);
  long error() const { return got_; }

 private:
  bool IsCutShort(const Packet* packet, uint32_t length) const {
    // A frame that fills all there is was cut short, unless the large buffer was among it.
    return packet == nullptr || (length == capacity_ && capacity_ <= kSmallBytes);
  }
  Took Accept(Packet& packet, uint32_t length);

  const int fd_;
  Core& core_;
  Scatter& scatter_;
  VirtioHeader header_;
  bool lands_ = false;
  size_t capacity_ = 0;
  long got_ = 0;
};

Took OneRead::Run(Packet* packet) {
  Landing& landing = core_.landing;
  iovec entries[kSmallBuffers + 2] = {{header_.data(), header_.size()}};
  size_t count = 1;
  lands_ = packet != nullptr && scatter_.MayLand(landing);
  if (lands_) {
    capacity_ = landing.header_length + Landing::kLongestText;
    count = scatter_.EntriesWith(landing, header_, entries);
  } else if (packet != nullptr) {
    count = scatter_.Entries(header_, entries, &capacity_);
  }
  got_ = KernelReadv(fd_, entries, count);
  if (got_ == -EFAULT && lands_) {
    // The program's own call will find out; the frame is lost and comes again.
    landing.Close();
    return Took::kLost;
  }
  if (got_ < static_cast<long>(kVirtioHeaderBytes)) {
    return got_ == -EINTR ? Took::kInterrupted : Took::kNothing;
  }
  const auto length = static_cast<uint32_t>(got_ - static_cast<long>(kVirtioHeaderBytes));
  if (IsCutShort(packet, length)) {
    core_.counters.Add(Counter::kDeviceInNoBuffer);
    return Took::kLost;
  }
  return Accept(*packet, length);
}

Took OneRead::Accept(Packet& packet, uint32_t length) {
  Landing& landing = core_.landing;
  uint32_t contiguous = std::min(length, kSmallBufferBytes);
  if (lands_ && landing.Foretells(scatter_.first(), length)) {
    contiguous = landing.header_length;
  } else if (lands_) {
    scatter_.TakeBack(landing, length);
    landing.Close();  // what follows is not foretold either
    lands_ = false;
  }
  const std::optional<Offload> offload =
      DecodeVirtioHeader(header_, scatter_.first(), contiguous, length);
  if (!offload) {
    core_.counters.Add(Counter::kDeviceInBadFrame);
    return Took::kLost;
  }
  if (lands_) {
    scatter_.MoveInto(packet, length, landing);
  } else {
    scatter_.MoveInto(packet, length);
  }
  packet.offload = *offload;
  return Took::kFrame;
}

}  // namespace

size_t TapDevice::ReceiveOn(int fd, Core& core, Packet** packets, size_t limit, uint16_t interface,
                            Instant now, long* error) {
  Scatter scatter(core);
  const bool lands = core.landing.IsOpen();
  size_t taken = 0;
  uint64_t bytes = 0;
  for (size_t reads = 0; reads < limit && bytes < kBytesPerCall; ++reads) {
    // The memory is full, or another frame came than what was foretold: see landing.h.
    if (core.landing.IsFull() || (lands && !core.landing.IsOpen())) break;
    Packet* packet = scatter.Refill() ? core.packets.Allocate() : nullptr;
    OneRead read(fd, core, scatter);
    const Took took = read.Run(packet);
    if (took != Took::kFrame) {
      if (packet != nullptr) core.packets.Release(packet);
      if (took != Took::kNothing) continue;
      *error = read.error();
      break;
    }
    bytes += packet->length;
    packet->arrival = now;
    packet->ip.interface = interface;
    packets[taken++] = packet;
  }
  return taken;
}

size_t TapDevice::Receive(Core& core, Packet** packets, size_t limit, uint16_t interface,
                          Instant now) {
  if (gone_) return 0;
  long error = 0;
  const size_t taken = ReceiveOn(fd_.get(), core, packets, limit, interface, now, &error);
  gone_ = error == -EBADFD || error == -EIO;
  return taken;
}

size_t TapDevice::ReceiveFrom(unsigned queue, Core& core, Packet** packets, size_t limit,
                              uint16_t interface, Instant now) {
  long error = 0;
  const size_t taken =
      ReceiveOn(queues_.descriptor(queue), core, packets, limit, interface, now, &error);
  gone_ = gone_ || error == -EBADFD || error == -EIO;
  return taken;
}

long TapDevice::Write(const Frame& frame) const {
  VirtioHeader header = EncodeVirtioHeader(frame.offload);
  iovec entries[kMaxSlices + 2];
  entries[0] = {header.data(), header.size()};
  entries[1] = {const_cast<uint8_t*>(frame.header()), frame.header_length()};
  size_t count = 2;
  for (unsigned i = 0; i < frame.slice_count; ++i) {
    entries[count++] = {frame.slices[i].data(), frame.slices[i].length};
  }
  const bool own = frame.queue != 0 && frame.queue <= queues_.count();
  int fd = own ? queues_.descriptor(frame.queue) : fd_.get();
  long sent;
  do {
    sent = KernelWritev(fd, entries, count);
    // It was never opened, or the interface is gone.
    if (sent == -EBADFD && fd != fd_.get()) sent = KernelWritev(fd = fd_.get(), entries, count);
  } while (sent == -EINTR);
  return sent;
}

Device::Sent TapDevice::Transmit(Core& core, const Frame& frame) {
  const long sent = Write(frame);
  if (sent >= 0) return Sent::kDone;
  if (sent == -EAGAIN) return Sent::kBusy;
  // EIO: the interface is down, as a cable that is not plugged in. ENOBUFS, ENOMEM: the kernel is
  // out of memory, and writable all the same, so waiting for it would spin.
  gone_ = gone_ || sent == -EBADFD;
  core.counters.Add(Counter::kDeviceOutRefused);
  return Sent::kDropped;
}

Device::Sent TapDevice::TransmitApart(const Frame& frame) {
  const long sent = Write(frame);
  if (sent >= 0) return Sent::kDone;
  return sent == -EAGAIN ? Sent::kBusy : Sent::kDropped;
}

size_t TapDevice::Encode(const Frame& frame, uint8_t* out, size_t limit) {
  const VirtioHeader header = EncodeVirtioHeader(frame.offload);
  const size_t size = header.size() + frame.length();
  if (size > limit) return 0;
  memcpy(out, header.data(), header.size());
  out += header.size();
  memcpy(out, frame.header(), frame.header_length());
  out += frame.header_length();
  for (unsigned i = 0; i < frame.slice_count; ++i) {
    memcpy(out, frame.slices[i].data(), frame.slices[i].length);
    out += frame.slices[i].length;
  }
  return size;
}

Device::Sent TapDevice::TransmitEncoded(unsigned queue, const uint8_t* bytes, size_t size) {
  const bool own = queue != 0 && queue <= queues_.count();
  int fd = own ? queues_.descriptor(queue) : fd_.get();
  const iovec entry{const_cast<uint8_t*>(bytes), size};
  long sent;
  do {
    sent = KernelWritev(fd, &entry, 1);
    if (sent == -EBADFD && fd != fd_.get()) sent = KernelWritev(fd = fd_.get(), &entry, 1);
  } while (sent == -EINTR);
  if (sent >= 0) return Sent::kDone;
  return sent == -EAGAIN ? Sent::kBusy : Sent::kDropped;
}

}  // namespace userstack::backend
