// XdpDevice: opening. Everything that needs privilege happens here, once.
#include <linux/ethtool.h>
#include <linux/if_arp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "backend/default_route.h"
#include "backend/interface_request.h"
#include "backend/tap.h"
#include "backend/xdp.h"
#include "backend/xdp_kernel.h"
#include "backend/xdp_passed.h"

namespace userstack::backend {
namespace {

constexpr uint32_t kKernelHeadroom = 256;  // XDP_PACKET_HEADROOM
constexpr uint32_t kEthernet = 14;
constexpr uint32_t kMinimumMtu = 576;
constexpr uint32_t kMaximumMtu = 65535;
// In front of a frame to be sent, when the kernel is asked to finish its checksum. A cache line, so
// that payload is aligned; the kernel takes the whole of it for metadata.
constexpr uint32_t kMetadataBytes = 64;
static_assert(kMetadataBytes >= sizeof(XdpTransmitMetadata));
constexpr int kSendBuffer = 64 << 20;  // frames on their way are bounded by the ring, not by this
constexpr int kBusyPollMicroseconds = 20;
constexpr int kBusyPollFrames = 64;
// Received frames of a veth may be segments of 64 KiB; those of other drivers fit the MTU.
constexpr char kVeth[] = "veth";

std::string Number(long value) { return std::to_string(value); }

const char* NameOf(XdpMode mode) { return mode == XdpMode::kNative ? "native" : "generic"; }

// What an errno means wherever it comes from; empty: nothing in particular.
std::string ExplainError(long error, const char* step) {
  switch (error) {
    case -EPERM:
    case -EACCES:
      return std::string("no permission (") + step +
             "); it takes root, or CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF, or a device that "
             "userstack-open hands over";
    case -EAFNOSUPPORT:
      return "this kernel has no AF_XDP (CONFIG_XDP_SOCKETS)";
    case -ENOSYS:
      return "this kernel has no bpf() (CONFIG_BPF_SYSCALL)";
    case -ENOBUFS:
    case -ENOMEM:
      return std::string("not enough memory that may be locked (") + step +
             "); it takes a larger ulimit -l, or CAP_IPC_LOCK";
    case -EMFILE:
    case -ENFILE:
      return "no file descriptor is free";
    case -EBUSY:
    case -EEXIST:
      return std::string("the device is busy: ") + step +
             " belongs to another program or stack; end it, or choose another interface";
  }
  return "";
}

std::string Explain(long error, const char* step) {
  const std::string known = ExplainError(error, step);
  return known.empty() ? std::string(step) + ": error " + Number(-error) : known;
}

}  // namespace

// The steps of Open, and what they know of the interface.
class XdpOpener {
 public:
  XdpOpener(const std::string& text, const DeviceOptions& options)
      : text_(text), options_(options) {}
  // What can be known without privilege: the line that refuses, or empty.
  std::string Examine();
  OpenedDevice Run();

 private:
  std::string ReadInterface();
  std::string ReadQueues();
  std::string BringUp();
  std::string Choose();
  long TryMode(XdpMode mode);
  long Bind(XdpMode mode);
  long MakeSocket(unsigned index);
  long BindSocket(unsigned index, uint16_t flags);
  long Watch();
  void Prepare();
  long RegisterMemory(int socket);
  void NoteCopies();
  void Describe(XdpMode mode);

  std::string text_;
  const DeviceOptions& options_;
  XdpSpec spec_;
  OwnedDescriptor control_;  // for ioctls
  unsigned index_ = 0;
  MacAddress mac_;
  uint32_t mtu_ = 1500;
  bool veth_ = false;
  unsigned interface_queues_ = 1;
  uint32_t frame_bytes_ = 0;
  bool multi_buffer_ = false;
  bool transmit_checksum_ = false;  // the interface finishes checksums of the kernel's own packets
  bool zero_copy_ = false;
  const char* step_ = "";
  std::string why_;
  XdpProgram program_;
  std::unique_ptr<XdpDevice> device_;
  OpenedDevice answer_;
};

std::string XdpOpener::ReadInterface() {
  control_ = OwnedDescriptor(
      static_cast<int>(SystemCall(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)));
  ifreq request = RequestFor(spec_.interface);
  if (KernelIoctl(control_.get(), SIOCGIFINDEX, &request) < 0) {
    return "there is no such interface; expected one of this network namespace (ip link)";
  }
  index_ = static_cast<unsigned>(request.ifr_ifindex);
  if (!spec_.force && HasDefaultRoute(spec_.interface)) {
    return "this interface carries the machine's default route, and the machine may be lost by "
           "taking it; add \",force\" to do it all the same";
  }
  request = RequestFor(spec_.interface);
  if (KernelIoctl(control_.get(), SIOCGIFHWADDR, &request) == 0) {
    // A tunnel has no Ethernet frames, and behind the loopback nobody has another address.
    if (request.ifr_hwaddr.sa_family != ARPHRD_ETHER) {
      return "this interface is not Ethernet; expected one with \"link/ether\" (ip link)";
    }
    std::memcpy(mac_.bytes.data(), request.ifr_hwaddr.sa_data, mac_.bytes.size());
  }
  request = RequestFor(spec_.interface);
  if (KernelIoctl(control_.get(), SIOCGIFMTU, &request) == 0) {
    mtu_ = static_cast<uint32_t>(request.ifr_mtu);
  }
  ethtool_drvinfo driver{};
  driver.cmd = ETHTOOL_GDRVINFO;
  veth_ = AskDriver(control_.get(), spec_.interface, &driver) &&
          std::strncmp(driver.driver, kVeth, sizeof driver.driver) == 0;
  ethtool_value checksums{};
  checksums.cmd = ETHTOOL_GTXCSUM;
  transmit_checksum_ =
      AskDriver(control_.get(), spec_.interface, &checksums) && checksums.data != 0;
  return ReadQueues();
}

std::string XdpOpener::ReadQueues() {
  ethtool_channels channels{};
  channels.cmd = ETHTOOL_GCHANNELS;
  if (AskDriver(control_.get(), spec_.interface, &channels)) {
    interface_queues_ = std::max(1u, channels.rx_count + channels.combined_count);
  }
  if (spec_.queue >= static_cast<int>(interface_queues_)) {
    return "the interface has no queue " + Number(spec_.queue) + "; it has 0 to " +
           Number(interface_queues_ - 1);
  }
  if (spec_.queue < 0 && interface_queues_ > kMaxXdpQueues) {
    answer_.warning = "USERSTACK_DEV=xdp:" + text_ + ": of " + Number(interface_queues_) +
                      " queues the first " + Number(kMaxXdpQueues) +
                      " are used; what arrives at others is not seen: see ethtool -L and -X";
  }
  return "";
}

std::string XdpOpener::BringUp() {
  ifreq request = RequestFor(spec_.interface);
  if (KernelIoctl(control_.get(), SIOCGIFFLAGS, &request) < 0) return "";
  if ((request.ifr_flags & IFF_UP) != 0) return "";
  request.ifr_flags |= IFF_UP;
  const long result = KernelIoctl(control_.get(), SIOCSIFFLAGS, &request);
  return result < 0
             ? "the interface is down and cannot be brought up: " + Explain(result, "setting it up")
             : "";
}

// Fills in the umem's first page and the fill rings.
void XdpOpener::Prepare() {
  XdpDevice& device = *device_;
  XdpShared& shared = *device.shared_;
  shared.frame_bytes = frame_bytes_;
  shared.mtu = std::min(options_.mtu == 0 ? mtu_ : options_.mtu, kMaximumMtu);
  if (!multi_buffer_) {
    shared.mtu = std::min(shared.mtu, frame_bytes_ - kKernelHeadroom - kEthernet);
  }
  shared.multi_buffer = multi_buffer_;
  shared.partial_checksums = veth_;
  shared.mac = options_.mac.value_or(mac_);
  // The kernel derives its own addresses from the interface's.
  shared.identifier = DeriveMac(spec_.interface, options_.identity, mac_);
  std::memcpy(shared.interface, spec_.interface.data(), spec_.interface.size());
  shared.queue_count = device.queue_count_;
  for (unsigned i = 0; i < device.queue_count_; ++i) {
    shared.queues[i].id = spec_.queue < 0 ? i : static_cast<uint32_t>(spec_.queue);
  }
  shared.magic = XdpShared::kMagic;
}

// With room for metadata where the interface finishes checksums and the kernel knows metadata.
// Where it does not finish them the kernel would, in a pass of its own.
long XdpOpener::RegisterMemory(int socket) {
  XdpDevice& device = *device_;
  XdpMemory memory{};
  memory.address = reinterpret_cast<uint64_t>(device.frames_);
  memory.length = uint64_t{kFramesPerQueue} * device.queue_count_ * frame_bytes_;
  memory.chunk_size = frame_bytes_;
  if (transmit_checksum_) {
    memory.flags = kUmemTransmitMetadata;
    memory.metadata_bytes = kMetadataBytes;
    const long result = SetOption(socket, kLevelXdp, XDP_UMEM_REG, &memory, sizeof memory);
    if (result != -EINVAL) {
      device.shared_->metadata_bytes = kMetadataBytes;
      return result;
    }
    memory.flags = 0;  // before Linux 6.11
    memory.metadata_bytes = 0;
  }
  return SetOption(socket, kLevelXdp, XDP_UMEM_REG, &memory, sizeof memory);
}

long XdpOpener::MakeSocket(unsigned index) {
  XdpDevice& device = *device_;
  step_ = "an AF_XDP socket";
  const long fd = SystemCall(SYS_socket, kFamilyXdp, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (fd < 0) return fd;
  OwnedDescriptor socket(static_cast<int>(fd));
  if (index == 0) {
    step_ = "memory for frames";
    const long result = RegisterMemory(socket.get());
    if (result < 0) return result;
  }
  step_ = "rings";
  const uint32_t entries = kXdpRingEntries;
  for (const int ring : {XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING, XDP_RX_RING, XDP_TX_RING}) {
    const long result = SetOption(socket.get(), kLevelXdp, ring, &entries, sizeof entries);
    if (result < 0) return result;
  }
  constexpr int kForceSendBuffer = 32;  // SO_SNDBUFFORCE
  SetOption(socket.get(), SOL_SOCKET, kForceSendBuffer, &kSendBuffer, sizeof kSendBuffer);
  SetOption(socket.get(), kLevelXdp, kMaxTransmitBudget, &entries, sizeof entries);
  if (spec_.busy_poll) {
    constexpr int kBusyPoll = 46;  // SO_BUSY_POLL
    const int on = 1;
    SetOption(socket.get(), SOL_SOCKET, kPreferBusyPoll, &on, sizeof on);
    SetOption(socket.get(), SOL_SOCKET, kBusyPoll, &kBusyPollMicroseconds, sizeof(int));
    SetOption(socket.get(), SOL_SOCKET, kBusyPollBudget, &kBusyPollFrames, sizeof(int));
  }
  device.sockets_[index] = std::move(socket);
  return 0;
}

long XdpOpener::BindSocket(unsigned index, uint16_t flags) {
  XdpDevice& device = *device_;
  step_ = "the queue";
  sockaddr_xdp address{};
  address.sxdp_family = kFamilyXdp;
  address.sxdp_ifindex = index_;
  address.sxdp_queue_id = device.shared_->queues[index].id;
  address.sxdp_flags = flags;
  if (index > 0) {
    address.sxdp_flags = XDP_SHARED_UMEM;
    address.sxdp_shared_umem_fd = static_cast<uint32_t>(device.sockets_[0].get());
  }
  return SystemCall(SYS_bind, device.sockets_[index].get(), reinterpret_cast<long>(&address),
                    sizeof address);
}

// One descriptor that is readable when any of the sockets is.
long XdpOpener::Watch() {
  XdpDevice& device = *device_;
  if (device.queue_count_ == 1) return 0;
  const long epoll = SystemCall(SYS_epoll_create1, EPOLL_CLOEXEC);
  if (epoll < 0) return epoll;
  device.epoll_ = OwnedDescriptor(static_cast<int>(epoll));
  for (unsigned i = 0; i < device.queue_count_; ++i) {
    epoll_event event{};
    event.events = EPOLLIN;
    const long result = SystemCall(SYS_epoll_ctl, epoll, EPOLL_CTL_ADD, device.sockets_[i].get(),
                                   reinterpret_cast<long>(&event));
    if (result < 0) return result;
  }
  return 0;
}

// A device whose sockets are bound, from nothing. 0 or -errno, with the step that failed.
long XdpOpener::Bind(XdpMode mode) {
  device_.reset(new XdpDevice);
  device_->queue_count_ = spec_.queue < 0 ? std::min(interface_queues_, kMaxXdpQueues) : 1;
  step_ = "memory for frames";
  const long memory = SystemCall(SYS_memfd_create, reinterpret_cast<long>("userstack-frames"),
                                 /*MFD_CLOEXEC*/ 1);
  if (memory < 0) return memory;
  device_->umem_ = OwnedDescriptor(static_cast<int>(memory));
  const size_t bytes =
      kXdpSharedBytes + size_t{kFramesPerQueue} * device_->queue_count_ * frame_bytes_;
  long result = SystemCall(SYS_ftruncate, memory, static_cast<long>(bytes));
  if (result < 0) return result;
  result = -device_->MapUmem(device_->queue_count_, frame_bytes_);
  if (result < 0) return result;
  Prepare();
  uint16_t flags = XDP_USE_NEED_WAKEUP;
  if (multi_buffer_) flags |= kBindMultiBuffer;
  if (spec_.copies == XdpSpec::Copies::kZeroCopy) flags |= XDP_ZEROCOPY;
  // Without either flag the kernel takes zero-copy where the driver has it.
  if (spec_.copies == XdpSpec::Copies::kCopy || mode == XdpMode::kGeneric) flags |= XDP_COPY;
  for (unsigned i = 0; i < device_->queue_count_; ++i) {
    result = MakeSocket(i);
    if (result == 0) result = BindSocket(i, flags);
    if (result < 0) return result;
  }
  NoteCopies();
  step_ = "mapping the rings";
  return -device_->MapQueues();
}

long XdpOpener::TryMode(XdpMode mode) {
  // Frames of half a page are enough for the usual MTU; segments of a veth, and jumbo frames, take
  // several.
  step_ = "an XDP program on this interface";
  long result = program_.Attach(index_, mode);
  if (result < 0) return result;
  const bool segments = veth_ && mode == XdpMode::kGeneric;
  frame_bytes_ = mtu_ + kEthernet <= 2048 - kKernelHeadroom && !segments ? 2048 : 4096;
  multi_buffer_ = veth_ || mtu_ + kEthernet > frame_bytes_ - kKernelHeadroom;
  result = Bind(mode);
  if ((result == -EINVAL || result == -EOPNOTSUPP) && multi_buffer_) {
    multi_buffer_ = false;  // before Linux 6.6
    result = Bind(mode);
  }
  if (result == 0) result = Watch();
  for (unsigned i = 0; result == 0 && i < device_->queue_count_; ++i) {
    const XdpQueue& queue = device_->queues_[i];
    for (uint32_t n = 0; n < kXdpRingEntries; ++n) {
      queue.fill.at(n) = uint64_t{queue.first_receive + n} * frame_bytes_;
    }
    queue.fill.StoreProducer(kXdpRingEntries);
    step_ = "the program's queues";
    result = program_.AddQueue(queue.shared->id, queue.descriptor);
  }
  if (result < 0) program_.Detach();
  return result;
}

// Native mode where it works, generic mode otherwise; a veth the other way round. Empty, or what
// was wrong.
std::string XdpOpener::Choose() {
  long result = program_.Load(interface_queues_, &step_);
  if (result < 0) return Explain(result, step_);
  XdpMode mode = spec_.mode == XdpSpec::Mode::kGeneric ? XdpMode::kGeneric : XdpMode::kNative;
  if (mode == XdpMode::kGeneric) why_ = "as asked";
  if (veth_ && spec_.mode == XdpSpec::Mode::kAny && spec_.copies != XdpSpec::Copies::kZeroCopy) {
    // Measured: the other side's segments stay whole, and bulk arrives at twice the rate.
    mode = XdpMode::kGeneric;
    why_ = "in which a veth keeps segments whole";
  }
  result = TryMode(mode);
  const bool may_change =
      spec_.mode == XdpSpec::Mode::kAny && spec_.copies != XdpSpec::Copies::kZeroCopy;
  const bool hopeless = result == -EPERM || result == -EBUSY || result == -EEXIST ||
                        result == -EAFNOSUPPORT || result == -ENOBUFS || result == -ENOMEM;
  if (result < 0 && may_change && !hopeless) {
    why_ = std::string(NameOf(mode)) + " mode fails: " + Explain(result, step_);
    mode = mode == XdpMode::kNative ? XdpMode::kGeneric : XdpMode::kNative;
    result = TryMode(mode);
  }
  if (result == -EOPNOTSUPP && spec_.copies == XdpSpec::Copies::kZeroCopy) {
    return "the driver has no zero-copy; leave \",zerocopy\" out";
  }
  if (result < 0) return Explain(result, step_) + " (" + NameOf(mode) + " mode)";
  Describe(mode);
  return "";
}

// Where the kernel copies into packet buffers, those may be shaped, and carry a request for their
// checksum whatever the driver is. A zero-copy driver would have to know the request itself.
void XdpOpener::NoteCopies() {
  xdp_options chosen{};
  uint32_t size = sizeof chosen;
  SystemCall(SYS_getsockopt, device_->sockets_[0].get(), kLevelXdp, XDP_OPTIONS,
             reinterpret_cast<long>(&chosen), reinterpret_cast<long>(&size));
  zero_copy_ = (chosen.flags & XDP_OPTIONS_ZEROCOPY) != 0;
  XdpShared& shared = *device_->shared_;
  shared.headers_apart = multi_buffer_ && !zero_copy_;
  shared.checksum_offload = shared.metadata_bytes != 0 && !zero_copy_;
}

void XdpOpener::Describe(XdpMode mode) {
  std::string copies = zero_copy_ ? "zero-copy" : "copies";
  if (!zero_copy_) {
    copies += spec_.copies == XdpSpec::Copies::kCopy ? " (as asked)"
              : mode == XdpMode::kGeneric            ? " (as generic mode does)"
                                                     : " (the driver has no zero-copy)";
  }
  answer_.note = "USERSTACK_DEV=xdp:" + text_ + ": " + NameOf(mode) + " mode" +
                 (why_.empty() ? "" : " (" + why_ + ")") + ", " + copies + ", " +
                 Number(device_->queue_count_) + " of " + Number(interface_queues_) +
                 " queues, MTU " + Number(device_->shared_->mtu) +
                 (multi_buffer_ ? ", several buffers a frame" : "") +
                 (device_->shared_->checksum_offload ? ", checksums finished by the interface"
                                                     : ", checksums finished here");
}

std::string XdpOpener::Examine() {
  std::string problem = ParseXdpSpec(text_, &spec_);
  if (problem.empty()) problem = ReadInterface();
  if (!problem.empty()) return "USERSTACK_DEV=xdp:" + text_ + ": " + problem;
  // The interface drops what is longer than it carries.
  const uint32_t longest = std::min(mtu_, kMaximumMtu);
  if (options_.mtu == 0 || (options_.mtu >= kMinimumMtu && options_.mtu <= longest)) return "";
  return "USERSTACK_MTU=" + Number(options_.mtu) + ": expected 576 to " + Number(longest) +
         ", the MTU of " + spec_.interface;
}

OpenedDevice XdpOpener::Run() {
  const std::string refusal = Examine();
  if (!refusal.empty()) return {.error = refusal};
  std::string problem = Choose();
  if (problem.empty()) problem = BringUp();
  if (problem.empty()) {
    const long result = OpenPassed(index_, &device_->passed_);
    if (result < 0) problem = Explain(result, "a packet socket");
  }
  if (problem.empty() && device_->shared_->mtu < kMinimumMtu) {
    problem = "MTU " + Number(device_->shared_->mtu) + ": expected 576 to 65535";
  }
  if (!problem.empty()) return {.error = "USERSTACK_DEV=xdp:" + text_ + ": " + problem};
  XdpDevice& device = *device_;
  device.link_ = std::move(program_.link());
  device.addresses_ = std::move(program_.addresses());
  for (OwnedDescriptor* fd :
       {&device.umem_, &device.link_, &device.addresses_, &device.epoll_, &device.passed_}) {
    fd->MoveAbove(options_.descriptor_floor);
  }
  for (unsigned i = 0; i < device.queue_count_; ++i) {
    device.sockets_[i].MoveAbove(options_.descriptor_floor);
    device.queues_[i].descriptor = device.sockets_[i].get();
  }
  device.SetCapabilities();
  answer_.device = std::move(device_);
  return std::move(answer_);
}

std::string ExamineXdp(const std::string& text, const DeviceOptions& options) {
  return XdpOpener(text, options).Examine();
}

OpenedDevice XdpDevice::Open(const std::string& text, const DeviceOptions& options) {
  return XdpOpener(text, options).Run();
}

}  // namespace userstack::backend
