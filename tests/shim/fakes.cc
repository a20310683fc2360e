// See fakes.h. Names of devices: "tap:NAME" is the socket "\0fake-NAME-device", its wire
// "\0fake-NAME-wire". A device can be opened once at a time, as a TAP.
#include "tests/shim/fakes.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>

#include "backend/device.h"
#include "shim/real.h"

namespace userstack::shim {
namespace {

socklen_t Address(const std::string& name, const char* end, sockaddr_un* address) {
  *address = {};
  address->sun_family = AF_UNIX;
  const std::string text = "fake-" + name + "-" + end;
  memcpy(address->sun_path + 1, text.data(), text.size());
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
}

constexpr size_t kStackBytes = (sizeof(Stack) + 63) & ~size_t{63};

class FakeDevice : public backend::Device {
 public:
  FakeDevice(std::string name, int fd) : name_(std::move(name)), fd_(fd) {}

  const DeviceCapabilities& capabilities() const override { return capabilities_; }
  size_t Receive(Core& core, Packet** packets, size_t limit, uint16_t interface,
                 Instant now) override {
    size_t count = 0;
    while (count < limit) {
      uint32_t channel = 0;
      if (recv(fd_, &channel, sizeof(channel), MSG_DONTWAIT) != sizeof(channel)) break;
      Packet* packet = core.packets.Allocate();
      if (packet == nullptr) break;
      Buffer* buffer = core.buffers.Allocate(BufferClass::kSmall);
      memcpy(buffer->bytes, &channel, sizeof(channel));
      packet->slices[packet->slice_count++] = {buffer, 0, sizeof(channel)};
      packet->length = sizeof(channel);
      packet->arrival = now;
      packet->ip.interface = interface;
      packets[count++] = packet;
    }
    return count;
  }
  Sent Transmit(Core&, const Frame& frame) override {
    std::vector<uint8_t> bytes(kPrefix + frame.length());
    return Send(bytes.data(), Encode(frame, bytes.data(), bytes.size()));
  }
  bool transmits_apart() const override { return true; }
  Sent TransmitApart(const Frame& frame) override {
    CountIfLockIsFree();
    FakeState& fake = Fake();
    __atomic_fetch_add(&fake.apart_begun, 1, __ATOMIC_RELAXED);
    while (__atomic_load_n(&fake.apart_waits, __ATOMIC_RELAXED)) ::poll(nullptr, 0, 1);
    std::vector<uint8_t> bytes(kPrefix + frame.length());
    return Send(bytes.data(), Encode(frame, bytes.data(), bytes.size()));
  }
  size_t Encode(const Frame& frame, uint8_t* out, size_t limit) override {
    const size_t size = kPrefix + frame.length();
    if (size > limit) return 0;
    memset(out, '#', kPrefix);
    out += kPrefix;
    memcpy(out, frame.header(), frame.header_length());
    out += frame.header_length();
    for (unsigned i = 0; i < frame.slice_count; ++i) {
      memcpy(out, frame.slices[i].data(), frame.slices[i].length);
      out += frame.slices[i].length;
    }
    return size;
  }
  Sent TransmitEncoded(unsigned, const uint8_t* bytes, size_t size) override {
    CountIfLockIsFree();
    return Send(bytes, size);
  }
  int wait_descriptor() const override { return fd_; }
  size_t Descriptors(int* out, size_t) const override {
    out[0] = fd_;
    return 1;
  }

 private:
  // Of the device's own, in front of a frame, and not on the wire.
  static constexpr size_t kPrefix = 12;

  static void CountIfLockIsFree() {
    pthread_mutex_t* lock = &CurrentShared().lock;
    if (pthread_mutex_trylock(lock) != 0) return;
    ++Fake().sent_without_lock;
    pthread_mutex_unlock(lock);
  }

  Sent Send(const uint8_t* bytes, size_t size) {
    if (Fake().device_full) return Sent::kBusy;
    sockaddr_un address;
    const socklen_t length = Address(name_, "wire", &address);
    const ssize_t n = sendto(fd_, bytes + kPrefix, size - kPrefix, MSG_DONTWAIT,
                             reinterpret_cast<sockaddr*>(&address), length);
    if (n >= 0) return Sent::kDone;
    return errno == EAGAIN ? Sent::kBusy : Sent::kDropped;
  }

  std::string name_;
  int fd_;
  DeviceCapabilities capabilities_;
};

}  // namespace

FakeState& Fake() {
  return *reinterpret_cast<FakeState*>(reinterpret_cast<char*>(CurrentShared().stack) +
                                       kStackBytes);
}

void QueueFrame(const std::string& bytes, const void* flow) {
  Core& core = CurrentShared().stack->core();
  Frame* frame = core.frames.Allocate();
  const size_t header = std::min<size_t>(bytes.size(), 66);
  memcpy(frame->Append(static_cast<uint16_t>(header)), bytes.data(), header);
  if (const size_t rest = bytes.size() - header; rest > 0) {
    const bool large = rest > kSmallBufferBytes;
    Buffer* buffer = core.buffers.Allocate(large ? BufferClass::kLarge : BufferClass::kSmall);
    memcpy(buffer->bytes, bytes.data() + header, rest);
    if (!frame->AddSlice(buffer, 0, static_cast<uint32_t>(rest))) abort();
    core.buffers.Release(buffer);
  }
  frame->flow = flow;
  Fake().output.PushBack(frame);
}

void Signal(unsigned channel) {
  FakeState& fake = Fake();
  __atomic_fetch_add(&fake.channels[channel].arrived, 1, __ATOMIC_RELAXED);
  userstack::Publish(fake.channels[channel].pollable, kEventIn, kEventIn,
                     CurrentShared().stack->core().wakes);
}

Wire::Wire(const std::string& name) : fd_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
  sockaddr_un address;
  socklen_t length = Address(name, "wire", &address);
  if (bind(fd_, reinterpret_cast<sockaddr*>(&address), length) != 0) abort();
  length = Address(name, "device", &address);
  // The device may come later.
  for (int i = 0; connect(fd_, reinterpret_cast<sockaddr*>(&address), length) != 0; ++i) {
    if (i == 5000) abort();
    poll(nullptr, 0, 1);
  }
}

Wire::~Wire() { close(fd_); }

void Wire::Send(uint32_t channel) const {
  if (send(fd_, &channel, sizeof(channel), 0) != sizeof(channel)) abort();
}

std::string Wire::Receive(int milliseconds) const {
  pollfd entry{fd_, POLLIN, 0};
  if (poll(&entry, 1, milliseconds) != 1) return "";
  std::string bytes(1 << 16, ' ');
  const ssize_t n = recv(fd_, bytes.data(), bytes.size(), 0);
  bytes.resize(n < 0 ? 0 : static_cast<size_t>(n));
  return bytes;
}

}  // namespace userstack::shim

namespace userstack::backend {

OpenedDevice OpenDevice(const std::string& spec, const DeviceOptions& options) {
  const std::string name = spec.substr(spec.find(':') + 1);
  if (name == "missing") return {.error = "USERSTACK_DEV=" + spec + ": no such device"};
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  sockaddr_un address;
  const socklen_t length = shim::Address(name, "device", &address);
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), length) != 0) {
    close(fd);
    return {.error = "USERSTACK_DEV=" + spec + ": the device is busy"};
  }
  const int high = fcntl(fd, F_DUPFD_CLOEXEC, options.descriptor_floor);
  close(fd);
  return {.device = std::make_unique<shim::FakeDevice>(name, high)};
}

OpenedDevice OpenHandedOver(const std::string& spec, const DeviceOptions& options,
                            const int* descriptors, size_t count) {
  return AdoptDevice(spec, options, descriptors, count);
}

OpenedDevice AdoptDevice(const std::string& spec, const DeviceOptions&, const int* descriptors,
                         size_t) {
  return {.device =
              std::make_unique<shim::FakeDevice>(spec.substr(spec.find(':') + 1), descriptors[0])};
}

}  // namespace userstack::backend

namespace userstack {
namespace {

constexpr size_t kStackBytes = (sizeof(Stack) + 63) & ~size_t{63};

shim::FakeState& State(const Stack* stack) {
  return *reinterpret_cast<shim::FakeState*>(reinterpret_cast<uintptr_t>(stack) + kStackBytes);
}

}  // namespace

Stack* Stack::Create(Arena* arena, const StackConfig&, Instant now) {
  void* memory = arena->Allocate(kStackBytes + sizeof(shim::FakeState), 64);
  if (memory == nullptr) return nullptr;
  auto* stack = static_cast<Stack*>(memory);
  new (&State(stack)) shim::FakeState;
  Core& core = *new (&stack->core()) Core;
  core.arena = arena;
  core.buffers.Initialize(arena, 8 << 20, 8 << 20);
  core.packets.Initialize(arena, &core.buffers, 4096);
  core.frames.Initialize(arena, &core.buffers, 4096);
  core.timers.Initialize(now);
  State(stack).sockets.Initialize(arena, 65536);
  return stack;
}

void Stack::Input(Packet* const* packets, size_t count, Instant) {
  for (size_t i = 0; i < count; ++i) {
    uint32_t channel = 0;
    memcpy(&channel, packets[i]->data(), sizeof(channel));
    if (channel < shim::kChannels) shim::Signal(channel);
    if (channel == shim::kFinishChannel) State(this).unfinished = false;
    core().packets.Release(packets[i]);
  }
}

void Stack::Advance(Instant now) {
  shim::FakeState& state = State(this);
  if (now < state.timer) return;
  state.timer = Instant::Never();
  __atomic_fetch_add(&state.timer_fired, 1, __ATOMIC_RELAXED);
  shim::Signal(0);
}

Instant Stack::NextDeadline() const {
  const shim::FakeState& state = State(this);
  return state.output.empty() ? state.timer : std::min(state.timer, state.hold_until);
}

bool Stack::OutputMayWait(Instant now) const {
  const shim::FakeState& state = State(this);
  return !state.output.empty() && now < state.hold_until;
}

bool Stack::HoldsReply() const { return false; }
Frame* Stack::NextFrame(uint16_t, bool) { return State(this).output.PopFront(); }
void Stack::ReturnFrame(Frame* frame) { State(this).output.PushFront(frame); }

Result<Socket*> Stack::CreateSocket(int, int, int) { return State(this).sockets.New(); }

void Stack::DestroySocket(Socket* socket, Instant) {
  State(this).sockets.Delete(socket);
  ++State(this).destroyed;
}

bool Stack::HasUnfinishedWork(bool count_time_wait) const {
  const shim::FakeState& state = State(this);
  return state.unfinished || (count_time_wait && state.unfinished_time_wait);
}

void Stack::Mend(const tcp::Connection**, Instant) {}
void Stack::Condemn(tcp::Connection*) {}
void Stack::OpenLanding(const Socket&, void*, size_t, bool) {}
unsigned Stack::DeviceQueue(const Socket&) const { return 0; }
const Pollable* Stack::DeviceQueueOwner(unsigned) const { return nullptr; }
unsigned Stack::GiveDeviceQueue(Socket&, unsigned) { return 0; }
void Stack::ReturnDeviceQueue(unsigned) {}
void Stack::DropApart(tcp::SendChunks*) {}

void Stack::CheckInvariants(const tcp::Connection**) const {
  while (State(this).hangs) {
  }
  Check(!State(this).torn, "fake: torn");
}

Status Ip::AddInterface(uint16_t, const char*, const DeviceCapabilities&) { return Status::Ok(); }
size_t Ip::WantedAddresses(uint16_t, IpAddress*, size_t) const { return 0; }
Status Ip::AddAddress(uint16_t, const Prefix&, Instant) { return Status::Ok(); }
Status Ip::AddRoute(const Prefix&, const IpAddress&, uint16_t, uint32_t) { return Status::Ok(); }

}  // namespace userstack
