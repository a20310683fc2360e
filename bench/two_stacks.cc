#include "bench/two_stacks.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <valgrind/callgrind.h>

#include <cstdio>
#include <cstdlib>

#include "netstack/base/check.h"

namespace userstack {

[[noreturn]] void CheckFailed(const char* what, const char* file, unsigned line) {
  std::fprintf(stderr, "%s:%u: check failed: %s\n", file, line, what);
  std::abort();
}

namespace bench {
namespace {

constexpr uint32_t kNetwork = 0x0a610000u;  // 10.97.0.0/24; end i is .i+1

IpAddress AddressOf(int index) {
  return IpAddress::V4(kNetwork + static_cast<uint32_t>(index) + 1);
}

sockaddr_in NameOf(int index, uint16_t port) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(port);
  name.sin_addr.s_addr = htonl(kNetwork + static_cast<uint32_t>(index) + 1);
  return name;
}

DeviceCapabilities CapabilitiesOf(int index, bool offload) {
  DeviceCapabilities capabilities;
  capabilities.mac = MacAddress{{2, 0, 0, 0, 0, static_cast<uint8_t>(index + 1)}};
  capabilities.transmit_checksum = offload;
  capabilities.tcp_segmentation_max = offload ? 65535 : 0;
  return capabilities;
}

uint8_t* Reserve(size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  Check(memory != MAP_FAILED, "bench: no memory");
  return static_cast<uint8_t*>(memory);
}

}  // namespace

Counted::Counted() { CALLGRIND_TOGGLE_COLLECT; }
Counted::Counted(End& end) : counted_(end.counted_), end_(&end) {
  if (!counted_) return;
  began_ = std::chrono::steady_clock::now();
  CALLGRIND_TOGGLE_COLLECT;
}
Counted::~Counted() {
  if (!counted_) return;
  CALLGRIND_TOGGLE_COLLECT;
  if (end_ == nullptr) return;
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - began_;
  end_->seconds_ += spent.count();
}
void StartCounting() { CALLGRIND_START_INSTRUMENTATION; }
void End::Unmap::operator()(uint8_t* memory) const { munmap(memory, bytes); }

End::End(int index, backend::Device& device, size_t arena_bytes)
    : device_(device), memory_(Reserve(arena_bytes), Unmap{arena_bytes}) {
  arena_ = Arena::Format(memory_.get(), arena_bytes);
  StackConfig config;
  config.seed = static_cast<uint64_t>(index) + 1;
  stack_ = Stack::Create(arena_, config, Instant{});
  Check(stack_ != nullptr, "bench: arena too small");
  Check(stack_->ip().AddInterface(kWireInterface, "eth0", device.capabilities()).ok(), "bench");
  Check(stack_->ip().AddAddress(kWireInterface, {AddressOf(index), 24}, Instant{}).ok(), "bench");
}

bool End::Turn(Instant now) {
  Packet* packets[64];
  const size_t got = device_.Receive(stack_->core(), packets, 64, kWireInterface, now);
  {
    Counted counted(*this);
    if (got > 0) stack_->Input(packets, got, now);
    stack_->Advance(now);
  }
  bool sent = false;
  for (;;) {
    Frame* frame;
    {
      Counted counted(*this);
      frame = stack_->NextFrame(kWireInterface);
    }
    if (frame == nullptr) break;
    const bool busy = device_.Transmit(stack_->core(), *frame) == backend::Device::Sent::kBusy;
    Counted counted(*this);
    if (busy) {
      stack_->ReturnFrame(frame);
      break;
    }
    stack_->core().frames.Release(frame);
    sent = true;
  }
  while (stack_->core().wakes.Pop() != nullptr) {
  }
  return got > 0 || sent;
}

TwoStacks::TwoStacks(const TwoStacksOptions& options)
    : wire_(CapabilitiesOf(0, options.offload), CapabilitiesOf(1, options.offload),
            options.queue_frames),
      first_(0, wire_.end(0), options.arena_bytes),
      second_(1, wire_.end(1), options.arena_bytes) {}

void TwoStacks::Turn(int index) {
  now_ = now_ + Duration::Microseconds(5);
  end(index).Turn(now_);
}

void TwoStacks::Run() {
  for (bool moved = true; moved;) {
    now_ = now_ + Duration::Microseconds(100);
    moved = first_.Turn(now_);
    moved = second_.Turn(now_) || moved;
  }
}

Socket* TwoStacks::Open(int index, int type) {
  Counted counted(end(index));
  const Result<Socket*> socket = end(index)->CreateSocket(AF_INET, type, 0);
  Check(socket.ok(), "bench: socket");
  return *socket;
}

Socket* TwoStacks::Bind(int index, int type, uint16_t port) {
  Socket* socket = Open(index, type);
  const sockaddr_in name = NameOf(index, port);
  const Status bound =
      end(index)->Bind(*socket, reinterpret_cast<const sockaddr*>(&name), sizeof name);
  Check(bound.ok(), "bench: bind");
  return socket;
}

Socket* TwoStacks::Listen(int index, uint16_t port, int backlog) {
  Socket* socket = Bind(index, SOCK_STREAM, port);
  Check(end(index)->Listen(*socket, backlog, now_).ok(), "bench: listen");
  return socket;
}

Socket* TwoStacks::Connect(int index, uint16_t port, int type) {
  Socket* socket = Open(index, type);
  const sockaddr_in name = NameOf(1 - index, port);
  Counted counted(end(index));
  const Status status =
      end(index)->Connect(*socket, reinterpret_cast<const sockaddr*>(&name), sizeof name, now_);
  Check(status.ok() || status.error() == EINPROGRESS, "bench: connect");
  return socket;
}

void TwoStacks::SetOption(int index, Socket& socket, int level, int name, int value) {
  Counted counted(end(index));
  Check(end(index)->SetOption(socket, level, name, &value, sizeof value, now_).ok(),
        "bench: setsockopt");
}

void TwoStacks::Close(int index, Socket* socket) {
  Counted counted(end(index));
  end(index)->DestroySocket(socket, now_);
}

Socket* TwoStacks::Accept(int index, Socket& listener) {
  Counted counted(end(index));
  const Result<Socket*> accepted = end(index)->Accept(listener, now_);
  return accepted.ok() ? *accepted : nullptr;
}

size_t TwoStacks::Send(int index, Socket& socket, const void* bytes, size_t length) {
  const iovec entry{const_cast<void*>(bytes), length};
  Counted counted(end(index));
  const Result<size_t> sent =
      end(index)->Send(socket, IoVector(&entry, 1), 0, nullptr, 0, nullptr, now_);
  return sent.ok() ? *sent : 0;
}

size_t TwoStacks::Receive(int index, Socket& socket, void* bytes, size_t length) {
  const iovec entry{bytes, length};
  ReceivedMessage message;
  Counted counted(end(index));
  const Status status = end(index)->Receive(socket, IoVector(&entry, 1), 0, &message, now_);
  return status.ok() ? message.copied : 0;
}

StreamPair MakeStreamPair(TwoStacks& stacks, uint16_t port) {
  Socket* listener = stacks.Listen(0, port, 1);
  StreamPair pair;
  pair.sockets[1] = stacks.Connect(1, port);
  stacks.Run();
  pair.sockets[0] = stacks.Accept(0, *listener);
  Check(pair.sockets[0] != nullptr, "bench: accept");
  for (int i = 0; i < 2; ++i) {
    stacks.SetOption(i, *pair.sockets[i], IPPROTO_TCP, TCP_NODELAY, 1);
  }
  return pair;
}

}  // namespace bench
}  // namespace userstack
