#include "shim/outbox.h"

#include <sys/mman.h>

#include <new>

#include "shim/internal.h"
#include "shim/real.h"

namespace userstack::shim {
namespace {

constexpr Duration kContended = Duration::Milliseconds(100);

// This thread's, made when it is first wanted. Null: out of memory.
Outbox* OwnOutbox() {
  if (t_state.outbox != nullptr) return t_state.outbox;
  const long memory = RawSyscall(SYS_mmap, 0, sizeof(Outbox), PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory < 0 && memory > -4096) return nullptr;
  t_state.outbox = new (reinterpret_cast<void*>(memory)) Outbox;
  return t_state.outbox;
}

}  // namespace

bool WritesAfterUnlock(Instant now) {
  const Shared& shared = *g_shared;
  return shared.contended_at != 0 &&
         now.nanoseconds - shared.contended_at < kContended.nanoseconds && !shared.device_busy &&
         !t_state.is_pump;
}

bool AddToOutbox(const Frame& frame) {
  Outbox* box = OwnOutbox();
  if (box == nullptr) return false;
  if (box->count == Outbox::kMost) FlushOutbox();
  const size_t size = g_local.device->Encode(frame, box->bytes[box->count], Outbox::kFrameBytes);
  if (size == 0) return false;
  box->queues[box->count] = frame.queue;
  box->lengths[box->count++] = static_cast<uint32_t>(size);
  return true;
}

void FlushOutbox() {
  Outbox* box = t_state.outbox;
  if (box == nullptr) return;
  for (unsigned i = 0; i < box->count; ++i) {
    if (!g_local.device->TransmitEncoded(box->queues[i], box->bytes[i], box->lengths[i]))
      ++t_state.refused;
  }
  box->count = 0;
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
