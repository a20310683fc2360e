#include "netstack/tcp/receive_queue.h"

#include <algorithm>

#include "netstack/tcp/landing.h"
#include "netstack/tcp/packets.h"

namespace userstack::tcp {
namespace {

void Drop(Context& context, Connection& c, Packet* packet) {
  c.received_memory -= packet->memory;
  packet->node.Unlink();
  context.core->packets.Release(packet);
}

// Copies `packet`'s payload behind `tail` when that saves memory: a payload that fills less than
// half of what its packet keeps alive.
bool CopyBreak(Context& context, Packet* tail, Packet* packet) {
  if (tail == nullptr || packet->length * 2 > MemoryOf(*packet)) return false;
  if (!AppendCopy(tail, *packet, packet->length)) return false;
  context.core->packets.Release(packet);
  return true;
}

void Append(Context& context, Connection& c, List<Packet, &Packet::node>& queue, Packet* packet,
            SeqNum sequence) {
  if (CopyBreak(context, queue.back(), packet)) return;
  packet->sequence = sequence.value;
  packet->memory = MemoryOf(*packet);
  c.received_memory += packet->memory;
  queue.PushBack(packet);
}

void RemoveBlock(Context& context, Connection& c, ReorderBlock* block) {
  c.reorder_tree.Erase(block);
  block->node.Unlink();
  block->recent.Unlink();
  context.reorder_blocks.Delete(block);
}

// Drops the first `n` bytes of a block's packets (they are held already by what comes before).
void DropBlockFront(Context& context, Connection& c, ReorderBlock* block, uint32_t n) {
  while (n > 0) {
    Packet* packet = block->packets.front();
    if (packet->length <= n) {
      n -= packet->length;
      Drop(context, c, packet);
      continue;
    }
    DropFront(*context.core, packet, n);
    packet->sequence += n;
    n = 0;
  }
}

void Touch(Connection& c, ReorderBlock* block) {
  block->recent.Unlink();
  c.reorder_recent.PushFront(block);
}

void NoteDuplicate(Connection& c, SeqNum begin, SeqNum end) {
  c.duplicate_sack = true;
  c.duplicate_sack_begin = begin;
  c.duplicate_sack_end = end;
}

// Swallows the blocks after `block` that it now reaches.
void AbsorbFollowing(Context& context, Connection& c, ReorderBlock* block) {
  while (ReorderBlock* next = c.reorder.Next(block)) {
    if (next->begin.After(block->end)) return;
    if (next->end.AtOrBefore(block->end)) {
      DropBlockFront(context, c, next, next->end - next->begin);
    } else {
      DropBlockFront(context, c, next, block->end - next->begin);
      block->end = next->end;
      block->packets.Append(next->packets);
    }
    RemoveBlock(context, c, next);
  }
}

}  // namespace

void QueueInOrder(Context& context, Connection& c, Segment& segment) {
  Packet* packet = segment.packet;
  segment.packet = nullptr;
  const uint32_t landed = TakeLanded(context, c, packet);
  if (landed == segment.length) {
    context.core->packets.Release(packet);
  } else {
    if (!BringHome(*context.core, packet)) {
      context.core->counters.Add(Counter::kTcpReceivePruned);
      context.core->packets.Release(packet);
      return;
    }
    Append(context, c, c.received, packet, segment.sequence + landed);
  }
  c.receive.next = segment.sequence + segment.length;
}

bool QueueOutOfOrder(Context& context, Connection& c, Segment& segment) {
  if (!BringHome(*context.core, segment.packet)) {
    context.core->counters.Add(Counter::kTcpOutOfOrderDropped);
    context.core->packets.Release(segment.packet);
    segment.packet = nullptr;
    return false;
  }
  ReorderBlock* block = c.reorder.back();  // the usual place is the end
  if (block != nullptr && block->begin.After(segment.sequence)) {
    block = c.reorder_tree.AtOrBefore(segment.sequence);
  }
  if (block != nullptr && segment.sequence.AtOrBefore(block->end)) {
    const uint32_t overlap = block->end - segment.sequence;
    if (overlap >= segment.length) {
      NoteDuplicate(c, segment.sequence, segment.sequence + segment.length);
      Touch(c, block);
      context.core->packets.Release(segment.packet);
      segment.packet = nullptr;
      return false;
    }
    if (overlap > 0) NoteDuplicate(c, segment.sequence, block->end);
    TrimFront(context, segment, overlap);
  } else {
    ReorderBlock* fresh = context.reorder_blocks.New();
    if (fresh == nullptr) {
      context.core->counters.Add(Counter::kTcpOutOfOrderDropped);
      context.core->packets.Release(segment.packet);
      segment.packet = nullptr;
      return false;
    }
    fresh->begin = fresh->end = segment.sequence;
    if (block == nullptr) {
      c.reorder.PushFront(fresh);
    } else {
      c.reorder.InsertAfter(block, fresh);
    }
    c.reorder_tree.Insert(fresh, context.core->random.Next());
    block = fresh;
  }
  Packet* packet = segment.packet;
  segment.packet = nullptr;
  Append(context, c, block->packets, packet, segment.sequence);
  block->end = segment.sequence + segment.length;
  Touch(c, block);
  AbsorbFollowing(context, c, block);
  context.core->counters.Add(Counter::kTcpOutOfOrderQueued);
  return true;
}

bool JoinReordered(Context& context, Connection& c) {
  bool moved = false;
  while (ReorderBlock* block = c.reorder.front()) {
    if (block->begin.After(c.receive.next)) return moved;
    if (block->end.After(c.receive.next)) {
      DropBlockFront(context, c, block, c.receive.next - block->begin);
      c.receive.next = block->end;
      c.received.Append(block->packets);
      moved = true;
    } else {
      DropBlockFront(context, c, block, block->end - block->begin);
    }
    RemoveBlock(context, c, block);
  }
  return moved;
}

bool PruneReordered(Context& context, Connection& c, uint32_t wanted, uint64_t limit) {
  while (uint64_t{c.received_memory} + wanted > limit) {
    ReorderBlock* block = c.reorder.back();
    if (block == nullptr) return false;
    Packet* packet = block->packets.back();
    block->end = block->end - packet->length;
    Drop(context, c, packet);
    context.core->counters.Add(Counter::kTcpReceivePruned);
    if (block->packets.empty()) RemoveBlock(context, c, block);
  }
  return true;
}

void ClearReordered(Context& context, Connection& c) {
  while (ReorderBlock* block = c.reorder.front()) {
    DropBlockFront(context, c, block, block->end - block->begin);
    RemoveBlock(context, c, block);
  }
}

void ClearReceiveQueues(Context& context, Connection& c) {
  while (Packet* packet = c.received.front()) Drop(context, c, packet);
  ClearReordered(context, c);
}

uint32_t ReceivedBytes(const Connection& c) {
  const Packet* last = c.received.back();
  if (last == nullptr) return 0;
  return SeqNum{last->sequence} + last->length - c.receive.copied;
}

namespace {

// Copies `n` bytes from `offset` within `packet`.
uint32_t CopyFromPacket(const Packet& packet, uint32_t offset, IoCursor& to, uint32_t n) {
  uint32_t done = 0;
  for (unsigned i = 0; i < packet.slice_count && done < n; ++i) {
    const Slice& slice = packet.slices[i];
    if (offset >= slice.length) {
      offset -= slice.length;
      continue;
    }
    const uint32_t piece = std::min(slice.length - offset, n - done);
    const auto copied = static_cast<uint32_t>(to.CopyOut(slice.data() + offset, piece));
    done += copied;
    offset = 0;
    if (copied < piece) break;
  }
  return done;
}

}  // namespace

uint32_t CopyReceived(const Connection& c, uint32_t offset, IoCursor& to, uint32_t limit) {
  uint32_t done = 0;
  const SeqNum from = c.receive.copied + offset;
  for (Packet* p = c.received.front(); p != nullptr && done < limit; p = c.received.Next(p)) {
    const SeqNum begin{p->sequence};
    if ((begin + p->length).AtOrBefore(from)) continue;
    const uint32_t skip = begin.Before(from) ? from - begin : 0;
    const uint32_t n = std::min(p->length - skip, limit - done);
    const uint32_t copied = CopyFromPacket(*p, skip, to, n);
    done += copied;
    if (copied < n) break;
  }
  return done;
}

void ConsumeReceived(Context& context, Connection& c, uint32_t n) {
  c.receive.copied = c.receive.copied + n;
  while (Packet* packet = c.received.front()) {
    if ((SeqNum{packet->sequence} + packet->length).After(c.receive.copied)) return;
    Drop(context, c, packet);
  }
}

uint32_t ReadReceived(Context& context, Connection& c, IoCursor& to, uint32_t limit) {
  uint32_t done = 0;
  while (done < limit) {
    Packet* packet = c.received.front();
    if (packet == nullptr) break;
    const uint32_t skip = c.receive.copied - SeqNum{packet->sequence};
    const uint32_t n = std::min(packet->length - skip, limit - done);
    const uint32_t copied = CopyFromPacket(*packet, skip, to, n);
    done += copied;
    c.receive.copied = c.receive.copied + copied;
    if (copied < packet->length - skip) break;
    Drop(context, c, packet);
  }
  return done;
}

}  // namespace userstack::tcp
