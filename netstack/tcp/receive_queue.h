// The receive side's queues: in-order packets that the user has not read, by reference, and runs of
// out-of-order packets. Small payloads are appended to the last packet's free room, so that the
// memory kept per byte stays bounded whatever the sizes that a peer chooses.
//
// Invariants: 1. `received` covers [receive.copied, receive.next) minus a FIN, in order without
// overlap. 2. Reorder blocks are disjoint, not adjacent, in order, all after RCV.NXT, each covered
// by its packets. 3. received_memory is the sum of Packet::memory over both.
#pragma once

#include "netstack/base/io.h"
#include "netstack/tcp/context.h"
#include "netstack/tcp/segment.h"

namespace userstack::tcp {

// Takes a payload that begins at RCV.NXT and advances RCV.NXT over it. `segment.packet` is
// consumed.
void QueueInOrder(Context& context, Connection& c, Segment& segment);
// Takes a payload that begins after RCV.NXT. `segment.packet` is consumed. False when it brought
// nothing new, with the duplicate range left in the connection for a D-SACK.
bool QueueOutOfOrder(Context& context, Connection& c, Segment& segment);
// Moves what has become contiguous to the in-order queue and advances RCV.NXT; true when something
// moved.
bool JoinReordered(Context& context, Connection& c);
// Frees memory by dropping out-of-order data, highest first (Linux: tcp_prune_ofo_queue), until
// `wanted` bytes more fit the limit or nothing is left. True when it fits.
bool PruneReordered(Context& context, Connection& c, uint32_t wanted, uint64_t limit);
void ClearReordered(Context& context, Connection& c);
void ClearReceiveQueues(Context& context, Connection& c);

// Copies from [receive.copied + offset, ...) to the user, at most `limit` bytes, leaving the queue
// as it is.
uint32_t CopyReceived(const Connection& c, uint32_t offset, IoCursor& to, uint32_t limit);
// Gives up the first `n` bytes (receive.copied advances).
void ConsumeReceived(Context& context, Connection& c, uint32_t n);
// Copies to the user and gives up at once: the common read.
uint32_t ReadReceived(Context& context, Connection& c, IoCursor& to, uint32_t limit);
// Bytes in order and not yet read.
uint32_t ReceivedBytes(const Connection& c);

}  // namespace userstack::tcp
