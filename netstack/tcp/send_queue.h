// The send queue: the user's bytes from SND.UNA on, in reference-counted buffers. A byte is copied
// once, into the queue; frames refer to it. A chunk is found from a sequence number through the
// SentSegment that covers it, or the cursor at SND.NXT, never by a walk from the front.
//
// Invariants: 1. Chunks are in sequence order without holes, the last ends at SND.END. 2.
// next_chunk holds SND.NXT, or is nullptr when all is sent. 3. queued_memory is the sum over chunks
// and records.
#pragma once

#include <cstdint>

#include "netstack/base/io.h"
#include "netstack/packet/frame.h"
#include "netstack/tcp/context.h"

namespace userstack::tcp {

// Copies up to `limit` bytes behind SND.END; returns how many, fewer when buffers are exhausted.
uint32_t AppendToSendQueue(Context& context, Connection& c, IoCursor& from, uint32_t limit);
// Room behind SND.END, in one piece, for up to `wanted` bytes that the caller fills itself; length
// 0 when buffers are exhausted. CloseSendSpace must follow before anything else touches the queue.
SendSpace OpenSendSpace(Context& context, Connection& c, uint32_t wanted);
// The first `filled` bytes of it are data now.
void CloseSendSpace(Context& context, Connection& c, uint32_t filled);
// Chunks of full large buffers for up to `wanted` bytes, in no queue yet; returns the bytes.
uint32_t MakeFullChunks(Context& context, uint32_t wanted, SendChunks* to);
// Moves chunks to the end of the queue, and gives up such as are in none.
uint32_t AppendChunks(Connection& c, SendChunks* from);
void DropChunks(Context& context, SendChunks* chunks);
// Whether a write could get a buffer now.
bool HasSendMemory(Context& context);
// Gives up the chunks that lie wholly before SND.UNA.
void DropAcknowledgedChunks(Context& context, Connection& c);
void ClearSendQueue(Context& context, Connection& c);
// Adds payload [begin, begin + length) to `frame`, `chunk` holding `begin`: by reference, or by
// copy when it is small. At most what PayloadThatFits says.
void AddPayload(const Connection& c, Frame* frame, SendChunk* chunk, SeqNum begin, uint32_t length);
// How many of `length` bytes fit one frame's slices.
uint32_t PayloadThatFits(const Connection& c, const SendChunk* chunk, SeqNum begin,
                         uint32_t length);
// The chunk that holds `s`, looking from `chunk` on; nullptr at the end of the queue.
SendChunk* ChunkAt(const Connection& c, SendChunk* chunk, SeqNum s);

}  // namespace userstack::tcp
