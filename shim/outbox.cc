#include "shim/outbox.h"

#include <sys/mman.h>

#include <cstring>
#include <new>

#include "shim/internal.h"
#include "shim/real.h"

namespace userstack::shim {
namespace {

// This thread's, made when it is first wanted. Null: out of memory.
Outbox* OwnOutbox() {
  if (t_state.outbox != nullptr) return t_state.outbox;
  const long memory = RawSyscall(SYS_mmap, 0, sizeof(Outbox), PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory < 0 && memory > -4096) return nullptr;
  t_state.outbox = new (reinterpret_cast<void*>(memory)) Outbox;
  return t_state.outbox;
}

// The frame that it was, of small buffers. Null: there are none.
Frame* FrameOf(Core& core, const Outbox::Entry& entry) {
  Frame* frame = core.frames.Allocate();
  if (frame == nullptr) return nullptr;
  const uint8_t* from = entry.bytes + entry.prefix;
  frame->begin = 0;
  frame->end = entry.header;
  memcpy(frame->storage, from, entry.header);
  frame->interface = kWireInterface;
  frame->offload = entry.offload;
  frame->queue = entry.queue;
  const uint32_t payload = uint32_t{entry.size} - entry.prefix - entry.header;
  if (payload == 0) return frame;
  static_assert(Outbox::kFrameBytes <= kSmallBufferBytes);
  Buffer* buffer = core.buffers.Allocate(BufferClass::kSmall);
  if (buffer == nullptr) {
    core.frames.Release(frame);
    return nullptr;
  }
  memcpy(buffer->bytes, from + entry.header, payload);
  const bool added = frame->AddSlice(buffer, 0, payload);
  core.buffers.Release(buffer);
  if (added) return frame;
  core.frames.Release(frame);
  return nullptr;
}

}  // namespace

bool AddToOutbox(const Frame& frame) {
  Outbox* box = OwnOutbox();
  if (box == nullptr) return false;
  if (box->first + box->count == Outbox::kMost && !FlushOutbox()) return false;
  Outbox::Entry& entry = box->entries[box->first + box->count];
  const size_t size = g_local.device->Encode(frame, entry.bytes, Outbox::kFrameBytes);
  if (size == 0) return false;
  entry.offload = frame.offload;
  entry.queue = frame.queue;
  entry.size = static_cast<uint16_t>(size);
  entry.prefix = static_cast<uint16_t>(size - frame.length());
  entry.header = frame.header_length();
  ++box->count;
  return true;
}

bool FlushOutbox() {
  Outbox* box = t_state.outbox;
  if (box == nullptr) return true;
  for (; box->count > 0; ++box->first, --box->count) {
    const Outbox::Entry& entry = box->entries[box->first];
    switch (g_local.device->TransmitEncoded(entry.queue, entry.bytes, entry.size)) {
      case backend::Device::Sent::kDone:
        break;
      case backend::Device::Sent::kBusy:
        return false;
      case backend::Device::Sent::kDropped:
        ++t_state.refused;
        break;
    }
  }
  box->first = 0;
  return true;
}

void ReturnOutbox() {
  Outbox* box = t_state.outbox;
  if (box == nullptr) return;
  Stack& stack = *g_shared->stack;
  for (; box->count > 0; --box->count) {
    Frame* frame = FrameOf(stack.core(), box->entries[box->first + box->count - 1]);
    if (frame == nullptr) {
      ++t_state.refused;
    } else {
      stack.ReturnFrame(frame);
    }
  }
  box->first = 0;
}

uint32_t TakeRefused() {
  const uint32_t refused = t_state.refused;
  t_state.refused = 0;
  return refused;
}

void ForgetOutbox() {
  if (t_state.outbox == nullptr) return;
  RawSyscall(SYS_munmap, Word(t_state.outbox), sizeof(Outbox));
  t_state.outbox = nullptr;
}

}  // namespace userstack::shim
