#include "netstack/tcp/send_queue.h"

#include <algorithm>
#include <cstring>

namespace userstack::tcp {
namespace {

// From this size on a write gets a large buffer; below it small ones, so that an idle connection
// keeps little memory in its half-filled tail.
constexpr uint32_t kLargeWrite = 16384;
// Payloads up to this many bytes travel in the frame itself: cheaper than a slice, and a peer's
// small requests keep no buffer alive.
constexpr uint32_t kCopyIntoFrame = 64;
// What a chunk costs beyond its bytes.
constexpr uint32_t kChunkOverhead = 256;

// A chunk that is in no queue yet, or nullptr.
SendChunk* LooseChunk(Context& context, uint32_t wanted) {
  SendChunk* chunk = context.chunks.New();
  if (chunk == nullptr) return nullptr;
  BufferPool& buffers = context.core->buffers;
  if (wanted >= kLargeWrite) chunk->buffer = buffers.AllocateSpare(BufferClass::kLarge);
  if (chunk->buffer == nullptr) chunk->buffer = buffers.AllocateSpare(BufferClass::kSmall);
  if (chunk->buffer == nullptr) chunk->buffer = buffers.AllocateSpare(BufferClass::kLarge);
  if (chunk->buffer != nullptr) return chunk;
  context.chunks.Delete(chunk);
  return nullptr;
}

SendChunk* NewChunk(Context& context, Connection& c, uint32_t wanted) {
  SendChunk* chunk = LooseChunk(context, wanted);
  if (chunk == nullptr) return nullptr;
  chunk->begin = c.send.end;
  c.chunks.PushBack(chunk);
  c.queued_memory += kChunkOverhead;
  return chunk;
}

void DropChunk(Context& context, Connection& c, SendChunk* chunk) {
  c.queued_memory -= kChunkOverhead + chunk->length;
  chunk->node.Unlink();  // first: a death in between may cost a buffer, not give it back twice
  context.core->buffers.Release(chunk->buffer);
  context.chunks.Delete(chunk);
}

}  // namespace

uint32_t AppendToSendQueue(Context& context, Connection& c, IoCursor& from, uint32_t limit) {
  uint32_t appended = 0;
  while (appended < limit) {
    SendChunk* tail = c.chunks.back();
    uint32_t room = tail == nullptr ? 0 : tail->buffer->capacity - tail->offset - tail->length;
    if (room == 0) {
      tail = NewChunk(context, c, limit - appended);
      if (tail == nullptr) break;
      room = tail->buffer->capacity;
    }
    const uint32_t n = std::min(room, limit - appended);
    const auto copied =
        static_cast<uint32_t>(from.CopyIn(tail->buffer->bytes + tail->offset + tail->length, n));
    if (c.next_chunk == nullptr) c.next_chunk = tail;
    tail->length += copied;
    c.send.end = c.send.end + copied;
    c.queued_memory += copied;
    appended += copied;
    if (copied < n) break;
  }
  return appended;
}

SendSpace OpenSendSpace(Context& context, Connection& c, uint32_t wanted) {
  SendChunk* tail = c.chunks.back();
  uint32_t room = tail == nullptr ? 0 : tail->buffer->capacity - tail->offset - tail->length;
  // One piece: much data does not begin in what is left of a small buffer.
  if (room == 0 || (room < wanted && wanted >= kLargeWrite)) {
    tail = NewChunk(context, c, wanted);
    if (tail == nullptr) return {};
    room = tail->buffer->capacity;
  }
  return {tail->buffer->bytes + tail->offset + tail->length, std::min(room, wanted)};
}

void CloseSendSpace(Context& context, Connection& c, uint32_t filled) {
  SendChunk* tail = c.chunks.back();
  if (filled == 0) {
    if (tail->length == 0) DropChunk(context, c, tail);
    return;
  }
  if (c.next_chunk == nullptr) c.next_chunk = tail;
  tail->length += filled;
  c.send.end = c.send.end + filled;
  c.queued_memory += filled;
}

uint32_t MakeFullChunks(Context& context, uint32_t wanted, SendChunks* to) {
  uint32_t made = 0;
  while (made + kLargeBufferBytes <= wanted) {
    SendChunk* chunk = LooseChunk(context, kLargeBufferBytes);
    if (chunk == nullptr) break;
    if (chunk->buffer->capacity < kLargeBufferBytes) {  // there are no more large ones
      context.core->buffers.Release(chunk->buffer);
      context.chunks.Delete(chunk);
      break;
    }
    chunk->length = kLargeBufferBytes;
    to->PushBack(chunk);
    made += chunk->length;
  }
  return made;
}

uint32_t AppendChunks(Connection& c, SendChunks* from) {
  uint32_t appended = 0;
  while (SendChunk* chunk = from->PopFront()) {
    chunk->begin = c.send.end;
    c.chunks.PushBack(chunk);
    if (c.next_chunk == nullptr) c.next_chunk = chunk;
    c.send.end = c.send.end + chunk->length;
    c.queued_memory += kChunkOverhead + chunk->length;
    appended += chunk->length;
  }
  return appended;
}

void DropChunks(Context& context, SendChunks* chunks) {
  while (SendChunk* chunk = chunks->PopFront()) {
    context.core->buffers.Release(chunk->buffer);
    context.chunks.Delete(chunk);
  }
}

bool HasSendMemory(Context& context) {
  SendChunk* chunk = LooseChunk(context, 1);
  if (chunk == nullptr) return false;
  context.core->buffers.Release(chunk->buffer);
  context.chunks.Delete(chunk);
  return true;
}

void DropAcknowledgedChunks(Context& context, Connection& c) {
  while (SendChunk* chunk = c.chunks.front()) {
    if ((chunk->begin + chunk->length).After(c.send.unacknowledged)) return;
    if (chunk == c.next_chunk) c.next_chunk = nullptr;
    DropChunk(context, c, chunk);
  }
}

void ClearSendQueue(Context& context, Connection& c) {
  c.next_chunk = nullptr;
  while (SendChunk* chunk = c.chunks.front()) DropChunk(context, c, chunk);
}

void AddPayload(const Connection& c, Frame* frame, SendChunk* chunk, SeqNum begin,
                uint32_t length) {
  const bool copy = length <= kCopyIntoFrame;
  for (uint32_t added = 0; added < length; chunk = c.chunks.Next(chunk)) {
    const uint32_t skip = (begin + added) - chunk->begin;
    const uint32_t n = std::min(chunk->length - skip, length - added);
    if (copy) {
      std::memcpy(frame->Append(static_cast<uint16_t>(n)),
                  chunk->buffer->bytes + chunk->offset + skip, n);
    } else {
      Check(frame->AddSlice(chunk->buffer, chunk->offset + skip, n), "tcp: too many slices");
    }
    added += n;
  }
}

uint32_t PayloadThatFits(const Connection& c, const SendChunk* chunk, SeqNum begin,
                         uint32_t length) {
  uint32_t fits = 0;
  for (unsigned i = 0; i < kMaxSlices && fits < length && chunk != nullptr; ++i) {
    fits += chunk->length - ((begin + fits) - chunk->begin);
    chunk = c.chunks.Next(chunk);
  }
  return std::min(fits, length);
}

SendChunk* ChunkAt(const Connection& c, SendChunk* chunk, SeqNum s) {
  while (chunk != nullptr && (chunk->begin + chunk->length).AtOrBefore(s)) {
    chunk = c.chunks.Next(chunk);
  }
  return chunk;
}

}  // namespace userstack::tcp
