// The receiving half of Datagrams: readiness, the receive queue and the error queue.
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "netstack/datagram/datagram.h"

namespace userstack {
namespace {

constexpr uint32_t kMaxQueuedErrors = 128;
constexpr EventMask kReadable = kEventIn | kEventReadNormal;
constexpr EventMask kWritable = kEventOut | kEventWriteNormal | kEventWriteBand;

uint32_t PoolLimit(const Arena& arena, size_t object_bytes, uint32_t fraction, uint32_t most) {
  return static_cast<uint32_t>(
      std::clamp<uint64_t>(arena.size() / fraction / object_bytes, 16, most));
}

}  // namespace

void Datagrams::Initialize(Core* core, Ip* ip) {
  core_ = core;
  ip_ = ip;
  const Arena& arena = *core->arena;
  error_pool_.Initialize(core->arena, PoolLimit(arena, sizeof(DatagramError), 256, 65536), 16);
  membership_pool_.Initialize(core->arena, PoolLimit(arena, sizeof(SocketMembership), 256, 65536),
                              16);
}

// Linux: datagram_poll.
EventMask Datagrams::Level(const DatagramSocket& socket) const {
  EventMask level = 0;
  if (socket.pending_error != 0 || !socket.errors.empty()) {
    level |= kEventError;
    if (socket.options.select_error_queue) level |= kEventPriority;
  }
  if (socket.shut_receive) level |= kEventReadHangUp | kReadable;
  if (socket.shut_receive && socket.shut_send) level |= kEventHangUp;
  if (!socket.receive.empty()) level |= kReadable;
  if (socket.bytes < socket.send_limit() / 2 && !socket.send_blocked) level |= kWritable;
  return level;
}

void Datagrams::Announce(DatagramSocket& socket, EventMask edges) {
  if (socket.closed()) return;
  Publish(*socket.pollable, Level(socket), edges, core_->wakes);
}

// Linux: sock_def_write_space wakes each time a buffer is freed while the socket is writable.
void Datagrams::OnDrained(DatagramSocket& socket) {
  if (socket.closed()) return;
  Announce(socket, Level(socket) & kWritable);
}

bool Datagrams::OnFrameLeft(DatagramSocket& socket) {
  OnDrained(socket);
  if (!socket.closed() || socket.bytes != 0) return false;
  socket.drained_node.Unlink();
  return true;
}

void Datagrams::OnQueueDrained(uint16_t interface) {
  for (DatagramSocket* socket = blocked_.front(); socket != nullptr;) {
    DatagramSocket* next = blocked_.Next(socket);
    if (socket->blocked_interface == interface) {
      socket->blocked_node.Unlink();
      socket->send_blocked = false;
      OnDrained(*socket);
    }
    socket = next;
  }
}

// A short datagram must not hold a 64 KiB buffer.
Packet* Datagrams::CopyBreak(Packet* packet) {
  if (packet->length > kSmallBufferBytes) return packet;
  if (packet->slice_count == 1 && packet->slices[0].buffer->size_class == BufferClass::kSmall) {
    return packet;
  }
  Buffer* buffer = core_->buffers.Allocate(BufferClass::kSmall);
  if (buffer == nullptr) return packet;
  PacketPool::Copy(*packet, 0, buffer->bytes, packet->length);
  for (unsigned i = 0; i < packet->slice_count; ++i) {
    core_->buffers.Release(packet->slices[i].buffer);
  }
  packet->slices[0] = {buffer, 0, packet->length};
  packet->slice_count = 1;
  packet->link_offset = packet->network_offset = 0;
  return packet;
}

bool Datagrams::Deliver(DatagramSocket& socket, Packet* packet) {
  // Linux: __udp_enqueue_schedule_skb lets the queue exceed the limit by one datagram.
  const bool full = socket.receive_charge > socket.receive_limit();
  // When buffers run out, nobody may keep many of them waiting.
  const bool greedy =
      core_->buffers.under_pressure() && socket.receive_charge > 8 * kPacketOverhead;
  if (full || greedy || socket.shut_receive) {
    ++socket.drops;
    core_->packets.Release(packet);
    return false;
  }
  packet = CopyBreak(packet);
  socket.receive.PushBack(packet);
  socket.receive_charge += ReceiveCharge(*packet);
  Announce(socket, kReadable);
  return true;
}

Result<Packet*> Datagrams::Next(DatagramSocket& socket, int flags) {
  if (socket.pending_error != 0) return Result<Packet*>::Error(TakeError(socket));
  if (Packet* packet = socket.receive.front(); packet != nullptr) return packet;
  // Linux: only a call that would block notices the shutdown (__skb_wait_for_more_packets).
  if (socket.shut_receive && (flags & MSG_DONTWAIT) == 0) return Result<Packet*>(nullptr);
  return Result<Packet*>::Error(EAGAIN);
}

uint32_t Datagrams::DatagramLength(const DatagramSocket& socket, const Packet& packet) {
  const bool merged =
      packet.offload.segmentation == SegmentationType::kUdpSegment && !socket.takes_merged;
  return merged ? std::min<uint32_t>(packet.length, packet.offload.segment_size) : packet.length;
}

// Drops bytes from the front, across slices.
void Datagrams::Consume(Packet* packet, uint32_t bytes) {
  while (bytes > 0) {
    const uint32_t n = std::min(bytes, packet->slices[0].length);
    packet->Pull(n);
    bytes -= n;
    if (packet->slices[0].length > 0 || packet->slice_count == 1) continue;
    core_->buffers.Release(packet->slices[0].buffer);
    --packet->slice_count;
    for (unsigned i = 0; i < packet->slice_count; ++i) packet->slices[i] = packet->slices[i + 1];
  }
}

void Datagrams::Take(DatagramSocket& socket, Packet* packet, const IoVector& data, int flags,
                     ReceivedMessage* message) {
  const uint32_t length = DatagramLength(socket, *packet);
  IoCursor cursor(data);
  size_t copied = 0;
  for (unsigned i = 0; i < packet->slice_count && copied < length; ++i) {
    const Slice& slice = packet->slices[i];
    const size_t want = std::min<size_t>(slice.length, length - copied);
    const size_t done = cursor.CopyOut(slice.data(), want);
    copied += done;
    if (done < want) break;
  }
  message->length = length;
  message->copied = copied;
  if (copied < length) message->flags |= MSG_TRUNC;
  FillAncillary(socket, *packet, &message->ancillary);
  if ((flags & MSG_PEEK) != 0) return;
  if (length < packet->length) {
    Consume(packet, length);
    socket.receive_charge -= length;
    return;
  }
  socket.receive_charge -= ReceiveCharge(*packet);
  packet->node.Unlink();
  core_->packets.Release(packet);
  Announce(socket, 0);
}

void Datagrams::FillAncillary(const DatagramSocket& socket, const Packet& packet,
                              Ancillary* out) const {
  const SocketOptions& o = socket.options;
  const IpInfo& ip = packet.ip;
  const bool v4 = ip.destination.is_v4();
  const bool want_v4_info = v4 && o.packet_info;
  if (want_v4_info || o.packet_info_v6) {
    const bool both_forms = socket.family == Family::kIpv6;
    if (want_v4_info)
      out->present |= both_forms ? Ancillary::kPacketInfoV4 : Ancillary::kPacketInfo;
    if (o.packet_info_v6 && both_forms) out->present |= Ancillary::kPacketInfo;
    out->packet_destination = ip.destination;
    out->packet_interface = ip.interface;
    out->packet_local = ip.destination;
    if (v4 && (ip.is_broadcast || ip.is_multicast)) {
      const auto route = ip_->FindRoute(IpAddress::V4(0), ip.source, ip.interface);
      out->packet_local = route.ok() ? route.value().source : IpAddress::V4(0);
    }
  }
  if (v4 ? o.receive_ttl : o.receive_hop_limit) {
    out->present |= Ancillary::kTtl;
    out->ttl = ip.ttl;
  }
  if (v4 ? o.receive_tos : o.receive_traffic_class) {
    out->present |= Ancillary::kTrafficClass;
    out->traffic_class = ip.traffic_class;
  }
  if (o.receive_original_destination) {
    out->present |= Ancillary::kOriginalDestination;
    out->packet_destination = ip.destination;
    out->destination_port = ip.destination_port;
  }
  if (o.timestamp || o.timestamp_ns) {
    out->present |= Ancillary::kTimestamp;
    out->timestamp = packet.arrival;
  }
  if (o.receive_drop_count && socket.drops != 0) {
    out->present |= Ancillary::kDropCount;
    out->drop_count = socket.drops;
  }
  if (socket.takes_merged && packet.offload.segmentation == SegmentationType::kUdpSegment) {
    out->present |= Ancillary::kGroSegment;
    out->segment_size = packet.offload.segment_size;
  }
}

int Datagrams::TakeError(DatagramSocket& socket) {
  const int error = socket.pending_error;
  if (error == 0) return 0;
  socket.pending_error = 0;
  Announce(socket, 0);
  return error;
}

// Linux: ip_recv_error; the name is where the datagram went, the bytes are what the error quoted.
Status Datagrams::TakeQueuedError(DatagramSocket& socket, const IoVector& data,
                                  ReceivedMessage* message) {
  DatagramError* entry = socket.errors.PopFront();
  if (entry == nullptr) return Status(EAGAIN);
  --socket.error_count;
  // Linux: sock_dequeue_err_skb clears sk_err with the last ICMP error, and raises the next one.
  socket.pending_error = 0;
  if (DatagramError* next = socket.errors.front()) socket.pending_error = next->error;
  IoCursor cursor(data);
  if (entry->payload != nullptr) {
    message->copied = cursor.CopyOut(entry->payload->bytes, entry->payload_length);
    core_->buffers.Release(entry->payload);
  }
  message->length = entry->payload_length;
  message->source = entry->destination;
  message->flags |= MSG_ERRQUEUE;
  if (message->copied < message->length) message->flags |= MSG_TRUNC;
  Ancillary& out = message->ancillary;
  out.present |= Ancillary::kError;
  out.error = entry->error;
  out.error_origin = entry->origin;
  out.error_type = entry->type;
  out.error_code = entry->code;
  out.error_info = entry->info;
  out.error_offender = entry->offender;
  if (socket.options.timestamp || socket.options.timestamp_ns) {
    out.present |= Ancillary::kTimestamp;
    out.timestamp = entry->arrival;
  }
  error_pool_.Delete(entry);
  Announce(socket, socket.errors.empty() ? 0 : kEventError);
  return Status::Ok();
}

void Datagrams::ReportFault(DatagramSocket& socket, const Endpoint& destination,
                            const DatagramFault& fault, Instant now) {
  const bool wants_queue =
      destination.address.is_v4() ? socket.options.receive_error : socket.options.receive_error_v6;
  // Linux: __udp4_lib_err, without IP_RECVERR only what is fatal to a connected socket counts.
  if (!wants_queue && (!fault.hard || !socket.connected)) return;
  if (wants_queue) QueueError(socket, destination, fault, now);
  socket.pending_error = fault.error;
  Announce(socket, kEventError);
}

void Datagrams::QueueError(DatagramSocket& socket, const Endpoint& destination,
                           const DatagramFault& fault, Instant now) {
  if (socket.error_count >= kMaxQueuedErrors) return;
  DatagramError* entry = error_pool_.New();
  if (entry == nullptr) return;
  entry->error = fault.error;
  entry->origin = fault.origin;
  entry->type = fault.type;
  entry->code = fault.code;
  entry->info = fault.info;
  entry->offender = {fault.offender, 0, fault.interface};
  entry->destination = destination;
  entry->arrival = now;
  const uint32_t quoted = std::min(fault.payload_length, kSmallBufferBytes);
  if (quoted > 0) entry->payload = core_->buffers.Allocate(BufferClass::kSmall);
  if (entry->payload != nullptr) {
    std::memcpy(entry->payload->bytes, fault.payload, quoted);
    entry->payload_length = quoted;
  }
  socket.errors.PushBack(entry);
  ++socket.error_count;
}

void Datagrams::DropErrors(DatagramSocket& socket) {
  while (DatagramError* entry = socket.errors.PopFront()) {
    if (entry->payload != nullptr) core_->buffers.Release(entry->payload);
    error_pool_.Delete(entry);
  }
  socket.error_count = 0;
  Announce(socket, 0);
}

// Linux: inet_shutdown shuts an unconnected socket down too, and says ENOTCONN.
Status Datagrams::Shutdown(DatagramSocket& socket, int how) {
  if (how < SHUT_RD || how > SHUT_RDWR) return Status(EINVAL);
  if (how != SHUT_WR) socket.shut_receive = true;
  if (how != SHUT_RD) socket.shut_send = true;
  Announce(socket, Level(socket));
  return socket.connected ? Status::Ok() : Status(ENOTCONN);
}

void Datagrams::Discard(DatagramSocket& socket, Instant now) {
  socket.pollable = nullptr;
  while (Packet* packet = socket.receive.PopFront()) core_->packets.Release(packet);
  socket.receive_charge = 0;
  DropErrors(socket);
  LeaveAll(socket, now);
  socket.blocked_node.Unlink();
  socket.send_blocked = false;
}

}  // namespace userstack
