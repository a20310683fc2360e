// XdpDevice: moving frames.
#include "backend/xdp.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "backend/checksum_state.h"
#include "backend/xdp_kernel.h"
#include "backend/xdp_passed.h"

namespace userstack::backend {
namespace {

// Receive copies a frame into small buffers, and into a large one from this length on.
constexpr uint32_t kSmallLimit = 8 * kSmallBufferBytes;
constexpr uint32_t kLongestFrame = 65535 + 14;
// So often, besides after a sleep, a look is at what the kernel got, too.
constexpr uint32_t kLooksPerLookAside = 256;
constexpr size_t kMostPassed = 16;    // at one look
constexpr uint32_t kMostPieces = 35;  // of the longest frame, in the smallest frames of a umem
constexpr int kKickLimit = 256;
// So many chunks are handed over before more is written: what comes back by then is written again
// while it is in the cache.
constexpr uint32_t kEnoughQueued = 128;
constexpr uint32_t kRecycleBatch = 64;
constexpr uint32_t kLooksBeforeRest = 16;
// So many frames ahead are asked for: another core wrote them, and each line takes its time.
constexpr uint32_t kFramesAhead = 4;
constexpr uint32_t kLineBytes = 64;

// The metadata ends where the frame begins.
void RequestChecksum(uint8_t* at, const Offload& offload) {
  const XdpTransmitMetadata request = {kMetadataChecksum, offload.checksum_start,
                                       offload.checksum_offset, 0, 0};
  std::memcpy(at, &request, sizeof request);
}

}  // namespace

// An interface goes down before it is deleted, and only that is said: ask again.
const char* XdpDevice::Problem() {
  if (shared_->down && !gone_) LearnWhetherGone();
  return gone_ ? "USERSTACK_DEV: the interface was deleted" : nullptr;
}

int XdpDevice::wait_descriptor() const {
  return queue_count_ == 1 ? sockets_[0].get() : epoll_.get();
}

size_t XdpDevice::Descriptors(int* out, size_t limit) const {
  int all[5 + kMaxXdpQueues] = {umem_.get(), link_.get(), addresses_.get()};
  size_t count = 3;
  for (unsigned i = 0; i < queue_count_; ++i) all[count++] = sockets_[i].get();
  if (queue_count_ > 1) all[count++] = epoll_.get();
  all[count++] = passed_.get();
  count = std::min(count, limit);
  std::copy_n(all, count, out);
  return count;
}

bool XdpDevice::SetAddresses(const IpAddress* addresses, size_t count) {
  return ReplaceAddresses(addresses_.get(), addresses, count) == 0;
}

// --- receiving ---

// Copies a frame of `length` bytes, which lies in `pieces` entries from `cursor` on, into a packet.
// Null: there is no packet or buffer for it.
Packet* XdpDevice::TakePacket(Core& core, const XdpQueue& queue, uint32_t cursor, uint32_t pieces,
                              uint32_t length) const {
  Packet* packet = core.packets.Allocate();
  if (packet == nullptr) return nullptr;
  uint32_t room = 0;
  uint8_t* to = nullptr;
  uint32_t left = length;
  for (uint32_t i = 0; i < pieces; ++i) {
    const xdp_desc& entry = queue.receive.at(cursor + i);
    const uint8_t* from = frames_ + entry.addr;
    for (uint32_t in_piece = entry.len; in_piece > 0;) {
      if (room == 0) {
        const bool large = left > kSmallLimit;
        Buffer* buffer = core.buffers.Allocate(large ? BufferClass::kLarge : BufferClass::kSmall);
        if (buffer == nullptr || packet->slice_count == kMaxSlices) {
          if (buffer != nullptr) core.buffers.Release(buffer);
          core.packets.Release(packet);
          return nullptr;
        }
        room = std::min(left, buffer->capacity);
        packet->slices[packet->slice_count++] = {buffer, 0, room};
        to = buffer->bytes;
      }
      const uint32_t n = std::min(in_piece, room);
      std::memcpy(to, from, n);
      to += n;
      from += n;
      room -= n;
      left -= n;
      in_piece -= n;
    }
  }
  packet->length = length;
  return packet;
}

// Gives the frames that have been used to the kernel again.
void XdpDevice::Recycle(const XdpQueue& queue) const {
  XdpIntent& intent = queue.shared->receive;
  const uint32_t consumed = *queue.receive.consumer;
  const uint32_t pieces = queue.shared->taken - consumed;
  if (pieces == 0) return;
  const uint32_t produced = *queue.fill.producer;
  const uint64_t frame_mask = ~uint64_t{shared_->frame_bytes - 1};
  for (uint32_t i = 0; i < pieces; ++i) {
    queue.fill.at(produced + i) = queue.receive.at(consumed + i).addr & frame_mask;
  }
  intent.produced = produced;
  intent.consumed = consumed;
  intent.count = pieces;
  __atomic_store_n(&intent.active, 1, __ATOMIC_RELEASE);
  queue.fill.StoreProducer(produced + pieces);
  queue.receive.StoreConsumer(consumed + pieces);
  __atomic_store_n(&intent.active, 0, __ATOMIC_RELEASE);
}

void XdpDevice::BeforeSleep() {
  look_aside_ = true;
  for (unsigned i = 0; i < queue_count_; ++i) {
    queues_[i].FinishIntents();
    Recycle(queues_[i]);
  }
}

// The headers of a frame and the first bytes behind them, unless there is nothing at `cursor` yet.
void XdpDevice::Prefetch(const XdpQueue& queue, uint32_t cursor, uint32_t end) const {
  if (static_cast<int32_t>(end - cursor) <= 0) return;
  // As a number: the entry has not been examined yet.
  const uintptr_t frame = reinterpret_cast<uintptr_t>(frames_) + queue.receive.at(cursor).addr;
  const auto* at = reinterpret_cast<const uint8_t*>(frame);
  __builtin_prefetch(at);
  __builtin_prefetch(at + kLineBytes);
}

size_t XdpDevice::TakeFrom(XdpQueue& queue, Core& core, Packet** packets, size_t limit) {
  const uint32_t begin = queue.shared->taken;
  const uint32_t available = queue.receive.LoadProducer() - begin;
  const uint64_t umem_bytes = uint64_t{kXdpRingEntries} * 2 * queue_count_ * shared_->frame_bytes;
  uint32_t done = 0;
  size_t taken = 0;
  for (uint32_t i = 0; i < kFramesAhead; ++i) Prefetch(queue, begin + i, begin + available);
  while (taken < limit && done < available) {
    Prefetch(queue, begin + done + kFramesAhead, begin + available);
    uint32_t pieces = 0;
    uint64_t length = 0;
    bool complete = false;
    bool sound = true;
    while (!complete && done + pieces < available) {
      const xdp_desc& entry = queue.receive.at(begin + done + pieces++);
      sound = sound && entry.addr < umem_bytes && entry.len <= umem_bytes - entry.addr;
      length += entry.len;
      complete = (entry.options & kMoreFollows) == 0;
    }
    if (!complete) break;
    Packet* packet = nullptr;
    if (!sound || length < 14 || length > kLongestFrame) {
      core.counters.Add(Counter::kDeviceInBadFrame);
    } else {
      packet = TakePacket(core, queue, begin + done, pieces, static_cast<uint32_t>(length));
      if (packet == nullptr) core.counters.Add(Counter::kDeviceInNoBuffer);
    }
    done += pieces;
    if (packet != nullptr) packets[taken++] = packet;
  }
  queue.shared->taken = begin + done;
  // In batches, because the lines of the rings go from core to core; but before anybody sleeps: a
  // socket is readable until its ring is given back.
  const uint32_t held = begin + done - *queue.receive.consumer;
  if (held >= kRecycleBatch || quiet_looks_ >= kLooksBeforeRest) Recycle(queue);
  return taken;
}

size_t XdpDevice::Receive(Core& core, Packet** packets, size_t limit, uint16_t interface,
                          Instant now) {
  size_t taken = 0;
  for (unsigned i = 0; i < queue_count_ && taken < limit; ++i) {
    XdpQueue& queue = queues_[(next_queue_ + i) % queue_count_];
    queue.FinishIntents();
    taken += TakeFrom(queue, core, packets + taken, limit - taken);
    // Only zero-copy drivers set this: they wait for frames.
    if (queue.fill.NeedsWakeup()) {
      SystemCall(SYS_recvfrom, queue.descriptor, 0, 0, MSG_DONTWAIT, 0, 0);
    }
  }
  next_queue_ = (next_queue_ + 1) % queue_count_;
  quiet_looks_ = taken == 0 ? quiet_looks_ + 1 : 0;
  if (taken < limit && (look_aside_ || ++looks_ % kLooksPerLookAside == 0)) {
    taken += ReceivePassed(core, packets + taken, limit - taken);
  }
  for (size_t i = 0; i < taken; ++i) {
    packets[i]->arrival = now;
    packets[i]->ip.interface = interface;
    if (shared_->partial_checksums) FindPartialChecksum(*packets[i], capabilities_.mtu);
  }
  return taken;
}

void XdpDevice::LearnWhetherGone() {
  const long result = SystemCall(SYS_sendto, queues_[0].descriptor, 0, 0, MSG_DONTWAIT, 0, 0);
  shared_->down = result == -ENETDOWN;
  gone_ = gone_ || result == -ENXIO;
}

// What the kernel got as well. Once the interface is down or deleted the socket says so, once.
size_t XdpDevice::ReceivePassed(Core& core, Packet** packets, size_t limit) {
  look_aside_ = false;
  size_t taken = 0;
  for (size_t i = 0; i < std::min(limit, kMostPassed); ++i) {
    bool lost = false;
    Packet* packet = ReceiveCopy(passed_.get(), core, capabilities_.mtu, &lost);
    if (lost) LearnWhetherGone();
    if (packet == nullptr) break;
    packets[taken++] = packet;
  }
  return taken;
}

// --- sending ---

// The same flow always has the same queue, so that its frames stay in order. Sums of what both
// ends have in common spread well enough: ports differ.
XdpQueue& XdpDevice::QueueFor(const Frame& frame) {
  if (queue_count_ == 1) return queues_[0];
  const uint8_t* header = frame.header();
  const uint32_t length = std::min<uint32_t>(frame.header_length(), 14 + 40 + 4);
  const bool v4 = Load16(header + 12) == 0x0800;
  uint32_t hash = 0;
  for (uint32_t i = v4 ? 26 : 22; i + 4 <= std::min<uint32_t>(length, v4 ? 38 : 58); i += 4) {
    hash = (hash ^ Load32(header + i)) * 0x9e3779b1;
  }
  return queues_[(hash >> 16) % queue_count_];
}

uint32_t XdpDevice::FreeFrames(const XdpQueue& queue, uint32_t* from_completion) const {
  *from_completion = queue.completion.LoadProducer() - *queue.completion.consumer;
  return *from_completion + (kXdpRingEntries - queue.shared->unused);
}

// How many chunks a frame of `length` bytes takes. Where the kernel copies them into a packet
// buffer, headers alone in the first make it one whose payload is pages only: cheaper to allocate
// and to free, and a TCP that receives it can merge it with what it has.
uint32_t XdpDevice::PiecesOf(const FrameCutter& cutter, uint32_t length) const {
  const uint32_t room = shared_->frame_bytes - shared_->metadata_bytes;
  if (length <= room) return 1;
  if (!shared_->headers_apart) return (length + room - 1) / room;
  return 1 + (length - cutter.header_bytes() + room - 1) / room;
}

// Writes what `cutter` makes into `pieces` free frames, and hands them over.
void XdpDevice::Write(const XdpQueue& queue, const Offload& offload, FrameCutter& cutter,
                      uint32_t pieces) const {
  XdpIntent& intent = queue.shared->transmit;
  const uint32_t produced = *queue.transmit.producer;
  const uint32_t consumed = *queue.completion.consumer;
  const uint32_t completed = queue.completion.LoadProducer() - consumed;
  uint32_t unused = queue.shared->unused;
  uint32_t used = 0;
  const uint32_t frame_bytes = shared_->frame_bytes;
  const auto next_frame = [&]() -> uint64_t {
    if (used < completed) {
      return queue.completion.at(consumed + used++) & ~uint64_t{frame_bytes - 1};
    }
    return uint64_t{queue.first_transmit + unused++} * frame_bytes;
  };
  const uint32_t metadata = shared_->metadata_bytes;
  const uint32_t room = frame_bytes - metadata;
  const bool offloaded = shared_->checksum_offload && offload.checksum_needed;
  uint32_t at = produced;
  for (uint32_t i = 0; i < cutter.count(); ++i) {
    const uint32_t length = i + 1 == cutter.count() ? cutter.last_length() : cutter.full_length();
    const uint32_t first =
        length > room && shared_->headers_apart ? cutter.header_bytes() : std::min(length, room);
    uint8_t* to[kMostPieces];
    unsigned count = 0;
    for (uint32_t done = 0; done < length;) {
      const uint32_t n = done == 0 ? first : std::min(room, length - done);
      const uint64_t frame = next_frame() + metadata;
      to[count++] = frames_ + frame;
      uint32_t options = done + n < length ? kMoreFollows : 0;
      if (done == 0 && offloaded) {
        RequestChecksum(frames_ + frame - metadata, offload);
        options |= kHasMetadata;
      }
      queue.transmit.at(at++) = {frame, n, options};
      done += n;
    }
    cutter.WriteNext(to, first, room);
  }
  intent.produced = produced;
  intent.consumed = consumed;
  intent.count = used;
  intent.unused = unused;
  __atomic_store_n(&intent.active, 1, __ATOMIC_RELEASE);
  queue.transmit.StoreProducer(produced + pieces);
  queue.completion.StoreConsumer(consumed + used);
  queue.shared->unused = unused;
  __atomic_store_n(&intent.active, 0, __ATOMIC_RELEASE);
}

Device::Sent XdpDevice::Transmit(Core& core, const Frame& frame) {
  FrameCutter cutter(frame, shared_->checksum_offload ? FrameCutter::Checksums::kLeave
                                                      : FrameCutter::Checksums::kFinish);
  const uint32_t full = PiecesOf(cutter, cutter.full_length());
  const uint32_t pieces = (cutter.count() - 1) * full + PiecesOf(cutter, cutter.last_length());
  const bool fits = cutter.full_length() <= capabilities_.mtu + 14 && pieces <= kXdpRingEntries;
  if (gone_ || !cutter.valid() || !fits) {
    core.counters.Add(Counter::kDeviceOutRefused);
    return Sent::kDropped;
  }
  XdpQueue& queue = QueueFor(frame);
  queue.FinishIntents();
  for (int attempt = 0;; ++attempt) {
    const uint32_t queued = *queue.transmit.producer - queue.transmit.LoadConsumer();
    uint32_t completed = 0;
    if (queued + pieces <= kXdpRingEntries && FreeFrames(queue, &completed) >= pieces) break;
    if (attempt == 1) {
      WatchForRoom(true);
      return Sent::kBusy;
    }
    KickQueue(queue);
  }
  WatchForRoom(false);
  if (*queue.transmit.producer - queue.transmit.LoadConsumer() >= kEnoughQueued) KickQueue(queue);
  Write(queue, frame.offload, cutter, pieces);
  return Sent::kDone;
}

// With several queues, writability has to be asked for.
void XdpDevice::WatchForRoom(bool wanted) {
  if (queue_count_ == 1 || wanted == watching_for_room_) return;
  watching_for_room_ = wanted;
  for (unsigned i = 0; i < queue_count_; ++i) {
    epoll_event event{};
    event.events = wanted ? EPOLLIN | EPOLLOUT : EPOLLIN;
    SystemCall(SYS_epoll_ctl, epoll_.get(), EPOLL_CTL_MOD, sockets_[i].get(),
               reinterpret_cast<long>(&event));
  }
}

// True: the kernel has taken everything, or will without being asked again.
bool XdpDevice::KickQueue(const XdpQueue& queue) {
  for (int i = 0; i < kKickLimit; ++i) {
    const uint32_t before = queue.transmit.LoadConsumer();
    if (*queue.transmit.producer == before || !queue.transmit.NeedsWakeup()) return true;
    const long result = SystemCall(SYS_sendto, queue.descriptor, 0, 0, MSG_DONTWAIT, 0, 0);
    if (result == -ENXIO) gone_ = true;
    // Down: frames wait as behind a cable that is not plugged in, until a later kick.
    if (result == -ENXIO || result == -ENETDOWN) return true;
    // Without zero-copy one call takes a batch, and says EAGAIN when there is more.
    if (result == -EINTR || result >= 0) continue;
    if (queue.transmit.LoadConsumer() == before) return false;
  }
  return false;
}

bool XdpDevice::Kick() {
  bool all = true;
  for (unsigned i = 0; i < queue_count_; ++i) all = KickQueue(queues_[i]) && all;
  return all;
}

}  // namespace userstack::backend
