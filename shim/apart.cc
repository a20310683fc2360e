// Apart: what a thread does for its call while others are in the stack: it writes large frames to
// the device, and copies the program's bytes into buffers of the stack. Either takes 3 to 20 us for
// 64 KB, the rest of such a call takes one; with the lock held, several threads that send would be
// as fast as one core, and sleep for it, so that the two ends of a stream come to work on different
// cores. Only while others had to sleep for the lock lately: alone a thread gains nothing.
//
// Frames of one flow leave in order: while a thread has some on its list (Sleeper::carried), what
// others find to send on that flow goes to the same list, and the thread looks there again before
// it is done. Frames are the arena's and hold their buffers, so acknowledgements that come
// meanwhile free nothing that is being written.
//
// Owner: the lock, for the lists; a frame on one, but for its node, is its thread's to read without
// it, and so is the memory of chunks that are being filled to write. A thread that is killed leaves
// both to DropApart: frames are lost as on a wire, chunks are in no queue yet.
#include <bit>
#include <cstring>

#include "netstack/base/check.h"
#include "shim/internal.h"

namespace userstack::shim {
namespace {

constexpr Duration kContended = Duration::Milliseconds(100);
// A frame with less is not worth the lock once more.
constexpr uint32_t kLeast = 16384;
// So often a thread looks for more that others have left it; the rest leaves with the lock held.
constexpr unsigned kRounds = 8;

CarriedFlow* FindFlow(const void* flow) {
  Shared& shared = *g_shared;
  for (uint32_t left = shared.carried_flows; left != 0; left &= left - 1) {
    CarriedFlow& carried = shared.carried[std::countr_zero(left)];
    if (carried.flow == flow) return &carried;
  }
  return nullptr;
}

bool TakeFlow(const void* flow) {
  Shared& shared = *g_shared;
  const auto i = static_cast<unsigned>(std::countr_one(shared.carried_flows));
  if (i >= Shared::kMostCarriedFlows) return false;
  shared.carried[i] = {flow, t_state.sleeper};
  shared.carried_flows |= 1u << i;
  return true;
}

void DropFlows(const Sleeper* by) {
  Shared& shared = *g_shared;
  for (uint32_t left = shared.carried_flows; left != 0; left &= left - 1) {
    const auto i = static_cast<unsigned>(std::countr_zero(left));
    if (shared.carried[i].by == by) shared.carried_flows &= ~(1u << i);
  }
}

Sleeper* CarrierOf(const CarriedFlow& carried) { return const_cast<Sleeper*>(carried.by); }

bool MayCarry(const Frame& frame) {
  return frame.payload_length >= kLeast && t_state.sleeper != nullptr &&
         g_local.device->transmits_apart();
}

// With the lock: the device takes no more now. All that this thread has goes back to the stack, in
// front of what waits there.
void ReturnCarried() {
  while (Frame* frame = t_state.sleeper->carried.back()) {
    frame->node.Unlink();
    g_shared->stack->ReturnFrame(frame);
  }
  __atomic_store_n(&g_shared->device_busy, true, __ATOMIC_RELAXED);
}

// With the lock: sends what is left at once.
void SendCarried() {
  Core& core = g_shared->stack->core();
  while (Frame* frame = t_state.sleeper->carried.front()) {
    if (g_local.device->Transmit(core, *frame) == backend::Device::Sent::kBusy) {
      return ReturnCarried();
    }
    frame->node.Unlink();
    core.frames.Release(frame);
  }
}

// Without the lock. Returns how many are done with; *refused of them the device did not want.
unsigned WriteFrames(const CarriedFrames& frames, unsigned* refused) {
  for (unsigned i = 0; i < frames.count; ++i) {
    switch (g_local.device->TransmitApart(*frames.frames[i])) {
      case backend::Device::Sent::kDone:
        break;
      case backend::Device::Sent::kBusy:
        return i;
      case backend::Device::Sent::kDropped:
        ++*refused;
        break;
    }
  }
  return frames.count;
}

}  // namespace

bool IsContended(Instant now) {
  const Shared& shared = *g_shared;
  return shared.contended_at != 0 &&
         now.nanoseconds - shared.contended_at < kContended.nanoseconds && !shared.device_busy &&
         !t_state.is_pump;
}

bool Carry(Frame* frame, bool contended) {
  if (frame->flow == nullptr) return false;
  Sleeper* by = t_state.sleeper;
  if (const CarriedFlow* carried = FindFlow(frame->flow); carried != nullptr) {
    by = CarrierOf(*carried);
  } else if (!contended || !MayCarry(*frame) || !TakeFlow(frame->flow)) {
    return false;
  }
  by->carried.PushBack(frame);
  return true;
}

CarriedFrames FirstCarried() {
  CarriedFrames first;
  if (t_state.sleeper == nullptr) return first;
  auto& mine = t_state.sleeper->carried;
  for (Frame* frame = mine.front(); frame != nullptr && first.count < CarriedFrames::kMost;
       frame = mine.Next(frame)) {
    first.frames[first.count++] = frame;
  }
  return first;
}

void WriteCarried(CarriedFrames frames) {
  for (unsigned round = 1; frames.count != 0; ++round) {
    unsigned refused = 0;
    const unsigned done = WriteFrames(frames, &refused);
    if (!LockShared()) return;
    Core& core = g_shared->stack->core();
    if (refused != 0) core.counters.Add(Counter::kDeviceOutRefused, refused);
    for (unsigned i = 0; i < done; ++i) {
      frames.frames[i]->node.Unlink();
      core.frames.Release(frames.frames[i]);
    }
    if (done < frames.count) {
      ReturnCarried();
    } else if (round == kRounds) {
      SendCarried();
    }
    frames = FirstCarried();
    if (frames.count == 0) DropFlows(t_state.sleeper);
    if (g_shared->device_busy) KeepDeadline();
    UnlockShared();
  }
}

void Session::FillApart(const IoVector& from) {
  struct Piece {
    uint8_t* to;
    size_t length;
  };
  constexpr unsigned kMost = 8;
  Piece pieces[kMost];
  unsigned count = 0;
  Drain(now_);
  const tcp::SendChunks& filling = t_state.sleeper->filling;
  for (const tcp::SendChunk* chunk = filling.front(); chunk != nullptr;
       chunk = filling.Next(chunk)) {
    Check(count < kMost, "apart: too many chunks");
    pieces[count++] = {chunk->buffer->bytes, chunk->length};
  }
  LetGo();
  IoCursor cursor(from);
  for (unsigned i = 0; i < count; ++i) cursor.CopyIn(pieces[i].to, pieces[i].length);
  failed_ = !TakeAgain();
  now_ = MonotonicNow();
}

bool Session::CopiesApart() const { return !failed_ && IsContended(now_); }

void DropApart(Sleeper* sleeper) {
  Stack& stack = *g_shared->stack;
  while (Frame* frame = sleeper->carried.PopFront()) stack.core().frames.Release(frame);
  DropFlows(sleeper);
  stack.DropApart(&sleeper->filling);
}

}  // namespace userstack::shim
