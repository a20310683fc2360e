#include "tests/netstack/testing/host.h"

#include <netinet/in.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>

#include "netstack/base/check.h"
#include "netstack/tcp/state.h"
#include "tests/netstack/testing/forge.h"

namespace userstack::testing {
namespace {

constexpr size_t kBatch = 64;
constexpr Duration kLongestHold = Duration::Microseconds(50);  // Stack::HoldReply

// Addresses and ports as the host that receives the frame sees them, or the one that sends it;
// empty: none that a device looks at.
std::string FlowOf(const WireFrame& frame, bool received) {
  FrameLayout layout;
  if (!ParseLayout(frame.bytes, &layout) || layout.is_fragment || layout.transport == 0) return {};
  if (layout.protocol != IPPROTO_TCP) return {};
  const auto bytes = [&](uint32_t at, uint32_t count) {
    return std::string(reinterpret_cast<const char*>(&frame.bytes[at]), count);
  };
  const uint32_t size = layout.is_v6 ? 16 : 4;
  const uint32_t source = layout.network + (layout.is_v6 ? 8 : 12);
  const std::string from = bytes(source, size) + bytes(layout.transport, 2);
  const std::string to = bytes(source + size, size) + bytes(layout.transport + 2, 2);
  return received ? to + from : from + to;
}

}  // namespace

void DriverCounts::Add(const DriverCounts& other) {
  landed_bytes += other.landed_bytes;
  wrong_guesses += other.wrong_guesses;
  landed_in_part += other.landed_in_part;
  reserved_bytes += other.reserved_bytes;
  held_replies += other.held_replies;
  kept_replies += other.kept_replies;
  queue_frames += other.queue_frames;
}

ArenaMemory::ArenaMemory(size_t bytes) : size_(bytes) {
  data_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
               -1, 0);
  Check(data_ != MAP_FAILED, "test: no memory for an arena");
}

ArenaMemory::~ArenaMemory() { munmap(data_, size_); }

Host::Host(const HostOptions& options, uint64_t seed, Instant now)
    : options_(options), memory_(options.arena_bytes), random_(seed), now_(now) {
  StackConfig config = options_.stack;
  if (config.seed == 0) config.seed = random_.Next();
  Arena* arena = Arena::Format(memory_.data(), memory_.size());
  stack_ = Stack::Create(arena, config, now);
  Check(stack_ != nullptr, "test: arena too small for a stack");
  Ip& ip = stack_->ip();
  Check(ip.AddInterface(kWireInterface, "eth0", options_.device).ok(), "test: AddInterface");
  for (const Prefix& address : options_.addresses) {
    Check(ip.AddAddress(kWireInterface, address, now).ok(), "test: AddAddress");
  }
  for (const IpAddress& gateway : options_.gateways) {
    const Prefix everything{IpAddress::Any(gateway.family()), 0};
    Check(ip.AddRoute(everything, gateway, kWireInterface, 1).ok(), "test: AddRoute");
  }
}

const IpAddress& Host::address(Family family) const {
  for (const Prefix& prefix : options_.addresses) {
    if (prefix.address.family() == family && !prefix.address.is_link_local()) return prefix.address;
  }
  Check(false, "test: host has no address of this family");
  std::abort();
}

Usage Host::usage() {
  const auto& owners = core().queues.owner;
  const auto nobodys = std::count(std::begin(owners), std::end(owners), nullptr);
  return {core().buffers.bytes_in_use(), core().packets.live(), core().frames.live(),
          stack_->sockets().live(), DeviceQueues::kMost - static_cast<uint32_t>(nobodys)};
}

SimSocket* Host::Open(int domain, int type, Application* application, int* error) {
  const Result<Socket*> created = stack_->CreateSocket(domain, type, 0);
  if (error != nullptr) *error = created.error();
  if (!created.ok()) return nullptr;
  return Track(*created, application);
}

SimSocket* Host::Accept(SimSocket& listener, Application* application, int* error) {
  const Result<Socket*> accepted = stack_->Accept(*listener.socket, now_);
  *error = accepted.error();
  return accepted.ok() ? Track(*accepted, application) : nullptr;
}

SimSocket* Host::Track(Socket* raw, Application* application) {
  if (free_sockets_.empty()) {
    sockets_.push_back(std::make_unique<SimSocket>());
    free_sockets_.push_back(sockets_.back().get());
  }
  SimSocket* socket = free_sockets_.back();
  free_sockets_.pop_back();
  socket->host = this;
  socket->socket = raw;
  socket->application = application;
  socket->closed = false;
  socket->watch.target = &raw->pollable;
  socket->watch.set = &set_;
  socket->watch.data = reinterpret_cast<uintptr_t>(socket);
  socket->watch.interest = 0;
  socket->watch.flags = 0;
  Attach(socket->watch, core().wakes);
  return socket;
}

void Host::Close(SimSocket* socket) {
  Check(!socket->closed, "test: socket closed twice");
  socket->closed = true;
  Withdraw(*socket);
  stack_->DestroySocket(socket->socket, now_);
  Check(!socket->watch.set_node.linked(), "DestroySocket left a watch attached");
  socket->socket = nullptr;
  free_sockets_.push_back(socket);
}

void Host::SetInterest(SimSocket& socket, EventMask interest, uint8_t flags) {
  socket.watch.interest = interest;
  socket.watch.flags = flags;
  Rearm(socket.watch, core().wakes);
}

Status Host::Bind(SimSocket& socket, const Endpoint& local) {
  sockaddr_storage address;
  const socklen_t length = EncodeSockaddr(local, socket.socket->family, &address);
  return stack_->Bind(*socket.socket, reinterpret_cast<sockaddr*>(&address), length);
}

Status Host::Connect(SimSocket& socket, const Endpoint& remote) {
  sockaddr_storage address;
  const socklen_t length = EncodeSockaddr(remote, socket.socket->family, &address);
  return stack_->Connect(*socket.socket, reinterpret_cast<sockaddr*>(&address), length, now_);
}

Status Host::Listen(SimSocket& socket, int backlog) {
  return stack_->Listen(*socket.socket, backlog, now_);
}

Result<size_t> Host::Send(SimSocket& socket, const void* data, size_t length, int flags) {
  const iovec entry{const_cast<void*>(data), length};
  return stack_->Send(*socket.socket, IoVector(&entry, 1), flags, nullptr, 0, nullptr, now_);
}

Result<size_t> Host::SendTo(SimSocket& socket, const void* data, size_t length,
                            const Endpoint& to) {
  const iovec entry{const_cast<void*>(data), length};
  sockaddr_storage address;
  const socklen_t size = EncodeSockaddr(to, socket.socket->family, &address);
  return stack_->Send(*socket.socket, IoVector(&entry, 1), 0, reinterpret_cast<sockaddr*>(&address),
                      size, nullptr, now_);
}

Result<size_t> Host::Receive(SimSocket& socket, void* data, size_t length, int flags,
                             ReceivedMessage* message) {
  const iovec entry{data, length};
  ReceivedMessage local;
  if (message == nullptr) message = &local;
  const Status status = stack_->Receive(*socket.socket, IoVector(&entry, 1), flags, message, now_);
  if (!status.ok()) return status;
  Check(message->copied <= length, "Receive copied more than it was given room for");
  return message->copied;
}

void Host::WaitForText(SimSocket& socket, uint8_t* memory, size_t size) {
  Check(socket.wanted_at == nullptr, "test: two calls wait on one socket");
  socket.wanted_at = memory;
  socket.wanted = size;
  waiting_.push_back(&socket);
}

void Host::Withdraw(SimSocket& socket) {
  socket.wanted_at = nullptr;
  waiting_.erase(std::remove(waiting_.begin(), waiting_.end(), &socket), waiting_.end());
}

Result<SendSpace> Host::ReserveSend(SimSocket& socket, size_t wanted) {
  const Result<SendSpace> space = stack_->ReserveSend(*socket.socket, wanted, now_);
  if (space.ok()) {
    Check((*space).length > 0 && (*space).length <= wanted, "ReserveSend: a length out of range");
  }
  return space;
}

void Host::CommitSend(SimSocket& socket, size_t filled) {
  counts_.reserved_bytes += filled;
  stack_->CommitSend(*socket.socket, filled);
}

void Host::SendCommitted(SimSocket& socket, bool more) {
  stack_->SendCommitted(*socket.socket, more, now_);
}

void Host::HoldReply(SimSocket& socket) {
  ++counts_.held_replies;
  stack_->HoldReply(*socket.socket, now_);
}

Status Host::Shutdown(SimSocket& socket, int how) {
  return stack_->Shutdown(*socket.socket, how, now_);
}

Endpoint Host::LocalName(SimSocket& socket) {
  sockaddr_storage address = {};
  socklen_t length = sizeof address;
  const Status status =
      stack_->LocalName(*socket.socket, reinterpret_cast<sockaddr*>(&address), &length);
  Check(status.ok(), "test: getsockname");
  const auto endpoint = DecodeSockaddr(reinterpret_cast<sockaddr*>(&address), length);
  Check(endpoint.ok(), "test: getsockname's address");
  return *endpoint;
}

Endpoint Host::PeerName(SimSocket& socket) {
  sockaddr_storage address = {};
  socklen_t length = sizeof address;
  if (!stack_->PeerName(*socket.socket, reinterpret_cast<sockaddr*>(&address), &length).ok()) {
    return {};
  }
  const auto endpoint = DecodeSockaddr(reinterpret_cast<sockaddr*>(&address), length);
  Check(endpoint.ok(), "test: getpeername's address");
  return *endpoint;
}

Status Host::SetOption(SimSocket& socket, int level, int name, int value) {
  return stack_->SetOption(*socket.socket, level, name, &value, sizeof value, now_);
}

int Host::GetOption(SimSocket& socket, int level, int name) {
  int value = 0;
  socklen_t length = sizeof value;
  const Status status = stack_->GetOption(*socket.socket, level, name, &value, &length, now_);
  return status.ok() ? value : -status.error();
}

void Host::Enqueue(WireFrame frame) {
  // Linux (tun_select_queue): by the queue that the flow's own frames left by.
  const auto flow = flows_.empty() ? flows_.end() : flows_.find(FlowOf(frame, true));
  std::deque<WireFrame>& inbox = inboxes_[flow == flows_.end() ? 0 : flow->second];
  if (options_.merge_input && !inbox.empty() && Merge(&inbox.back(), frame)) return;
  inbox.push_back(std::move(frame));
}

void Host::NoteLeaves(const WireFrame& frame, unsigned queue) {
  Check(queue <= options_.device_queues, "law: a frame leaves by a queue that there is");
  if (options_.device_queues == 0) return;
  const std::string flow = FlowOf(frame, false);
  if (!flow.empty()) flows_[flow] = queue;
}

bool Host::has_input() const {
  return std::any_of(inboxes_.begin(), inboxes_.end(),
                     [](const auto& inbox) { return !inbox.empty(); });
}

Packet* Host::TakeFrame(const WireFrame& frame) {
  DeliveryShape shape;
  if (options_.shuffle_delivery) {
    shape.offset = static_cast<uint32_t>(random_.Below(64));
    if (random_.Below(4) == 0) shape.first_slice = static_cast<uint32_t>(random_.Below(2000));
  }
  const bool guessed = core().landing.IsOpen();
  Packet* packet = Deliver(core(), frame, kWireInterface, now_, shape);
  if (guessed && core().landing.header_length == 0) ++counts_.wrong_guesses;
  const bool lands = guessed && packet != nullptr && packet->slice_count > 1 &&
                     packet->slices[1].buffer == &core().landing.buffer;
  if (lands && packet->slice_count > 2) ++counts_.landed_in_part;
  return packet;
}

// What a device gives at once; `caller` is the socket whose call asks it, or nullptr.
size_t Host::TakeBatch(SimSocket* caller, unsigned queue, size_t limit) {
  std::deque<WireFrame>& inbox = inboxes_[queue];
  Packet* batch[kBatch];
  size_t count = 0;
  if (caller != nullptr) {
    // Frames here are smaller than a TAP's, and so are the parts of them.
    const bool in_part = random_.Below(2) == 0;
    const size_t some = core().landing.taken + 1 + random_.Below(6000);
    const size_t size = in_part ? std::min(caller->wanted, some) : caller->wanted;
    stack_->OpenLanding(*caller->socket, caller->wanted_at, size, in_part);
    if (in_part) core().landing.least = 1;
  }
  for (size_t reads = 0; !inbox.empty() && reads < limit; ++reads) {
    if (core().landing.IsFull()) break;
    const WireFrame& first = inbox.front();
    const bool forged = options_.forgeries != 0 && random_.Below(1'000'000) < options_.forgeries;
    Packet* packet = nullptr;
    if (forged && limit - reads > 1) {
      ++reads;
      packet = TakeFrame(Forge(first, random_));
      if (packet != nullptr) batch[count++] = packet;
    }
    if (core().landing.IsFull()) break;
    packet = TakeFrame(first);
    inbox.pop_front();
    if (queue != 0) ++counts_.queue_frames;
    if (packet != nullptr) batch[count++] = packet;
  }
  core().landing.Close();
  stack_->Input(batch, count, now_);
  Check(core().landing.buffer.references == 0, "law: no packet keeps memory of a call");
  return count;
}

// Queues are given to who reads, and taken back, at any time; one is its connection's alone.
void Host::TurnQueues(SimSocket* caller) {
  if (options_.device_queues == 0) return;
  if (caller != nullptr && random_.Below(8) == 0) {
    stack_->GiveDeviceQueue(*caller->socket, options_.device_queues);
  }
  if (random_.Below(64) == 0) {
    stack_->ReturnDeviceQueue(1 + static_cast<unsigned>(random_.Below(options_.device_queues)));
  }
  unsigned number = 0;
  for (const tcp::Connection* owner : core().queues.owner) {
    ++number;
    if (owner == nullptr) continue;
    Check(owner->device_queue == number && owner->state != tcp::State::kClosed,
          "law: a queue's owner has it, and lives");
  }
}

// A call looks at its connection's queue. Others look at any, the first as a rule, because what has
// come by a queue whose reader stays away must be taken too.
unsigned Host::QueueToLookAt(const SimSocket* caller) {
  if (options_.device_queues == 0) return 0;
  if (caller != nullptr) return stack_->DeviceQueue(*caller->socket);
  if (random_.Below(2) == 0) return 0;
  return static_cast<unsigned>(random_.Below(options_.device_queues + 1));
}

// One thread's look: the one of a call that waits for text, or another's.
void Host::Look() {
  const size_t pick = waiting_.empty() ? 0 : random_.Below(waiting_.size() + 1);
  SimSocket* caller = pick < waiting_.size() ? waiting_[pick] : nullptr;
  TurnQueues(caller);
  const unsigned queue = QueueToLookAt(caller);
  uint64_t batches = waiting_.empty() ? ~uint64_t{0} : 1 + random_.Below(3);
  for (; !inboxes_[queue].empty() && batches > 0; --batches) {
    TakeBatch(caller, queue,
              waiting_.empty() || random_.Below(2) == 0 ? kBatch : 2 + random_.Below(8));
  }
  if (caller == nullptr) return;
  AdvanceTo(now_);
  const uint32_t landed = core().landing.taken;
  if (core().landing.owner == caller->socket->tcp) counts_.landed_bytes += landed;
  caller->application->OnLooked(*caller);
  Check(core().landing.taken == 0, "what has landed was not reported to its reader");
}

void Host::TakeInput() {
  while (has_input()) Look();
}

void Host::AdvanceTo(Instant now) {
  stack_->Advance(now);
  if (!stack_->HoldsReply()) return;
  Check(stack_->NextDeadline() <= now + kLongestHold, "law: a reply is held for 50 us at the most");
}

Frame* Host::NextFrame() {
  Frame* frame = stack_->NextFrame(kWireInterface, !keep_);
  if (frame == nullptr && stack_->HoldsReply()) ++counts_.kept_replies;
  return frame;
}

// One harvest: every ready watch once, as epoll_wait would return them. False when none was ready.
bool Host::RunApplications() {
  bool any = false;
  Watch* first = nullptr;
  for (uint32_t i = 0; i < std::max(set_.count, 1u) && HasReady(set_, core().wakes); ++i) {
    if (set_.ready.front() == first) break;
    EventMask events = 0;
    Watch* watch = Harvest(set_, &events, core().wakes);
    if (watch == nullptr) break;
    if (first == nullptr) first = watch;
    auto* socket = reinterpret_cast<SimSocket*>(watch->data);
    ++events_delivered_;
    any = true;
    socket->application->OnEvents(*socket, events);
  }
  return any;
}

void Host::Run(Instant now) {
  now_ = now;
  keep_ = options_.keeps_replies && random_.Below(4) != 0;
  TakeInput();
  AdvanceTo(now);
  // An application that is told of the same thing for ever without acting on it is a spin.
  for (int turns = 0; RunApplications(); ++turns) {
    Check(turns < 100'000, "applications spin: an event is reported again and again");
    AdvanceTo(now);
  }
}

}  // namespace userstack::testing
