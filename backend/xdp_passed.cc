// The packet socket: its filter, and reading it.
#include "backend/xdp_passed.h"

#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/socket.h>

#include <cerrno>
#include <iterator>

#include "backend/xdp_kernel.h"

namespace userstack::backend {
namespace {

constexpr int kLevelPacket = 263;    // SOL_PACKET
constexpr int kIgnoreOutgoing = 23;  // PACKET_IGNORE_OUTGOING, Linux 4.20
constexpr uint32_t kEthernet = 14;
constexpr uint16_t kAllProtocols = 0x0300;  // ETH_P_ALL in network order

// Offsets in a frame.
constexpr uint32_t kEtherType = 12;
constexpr uint32_t kIpv4Destination = 30;
constexpr uint32_t kIpv6Destination = 38;
constexpr uint32_t kVlanTagPresent = static_cast<uint32_t>(SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT);

// Jumps are relative: the last two instructions keep or drop.
constexpr sock_filter kFilter[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kVlanTagPresent),  // a tag that was taken off the frame
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 19),
    BPF_STMT(BPF_LD | BPF_H | BPF_ABS, kEtherType),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IPV6, 8, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_ARP, 3, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, 0, 15),
    // IPv4: 224.0.0.1, or like ARP a broadcast of the link.
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kIpv4Destination),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0xe0000001, 12, 0),
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0xffffffff, 0, 11),
    BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 4),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0xffff, 8, 9),
    // IPv6: ff02::1.
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kIpv6Destination),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0xff020000, 0, 7),
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kIpv6Destination + 4),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 5),
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kIpv6Destination + 8),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3),
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kIpv6Destination + 12),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, 0x40000),
    BPF_STMT(BPF_RET | BPF_K, 0),
};

}  // namespace

long OpenPassed(unsigned interface, OwnedDescriptor* out) {
  // Of no protocol until it is bound: nothing arrives before the filter is there.
  const long fd = SystemCall(SYS_socket, AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return fd;
  OwnedDescriptor socket(static_cast<int>(fd));
  const sock_fprog program{static_cast<unsigned short>(std::size(kFilter)),
                           const_cast<sock_filter*>(kFilter)};
  long result =
      SetOption(socket.get(), SOL_SOCKET, /*SO_ATTACH_FILTER*/ 26, &program, sizeof program);
  if (result < 0) return result;
  const int on = 1;
  SetOption(socket.get(), kLevelPacket, kIgnoreOutgoing, &on, sizeof on);
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = kAllProtocols;
  address.sll_ifindex = static_cast<int>(interface);
  result = SystemCall(SYS_bind, socket.get(), reinterpret_cast<long>(&address), sizeof address);
  if (result < 0) return result;
  *out = std::move(socket);
  return 0;
}

Packet* ReceiveCopy(int descriptor, Core& core, uint32_t mtu, bool* lost) {
  *lost = false;
  Packet* packet = core.packets.Allocate();
  const bool small = mtu + kEthernet <= kSmallBufferBytes;
  Buffer* buffer = packet == nullptr
                       ? nullptr
                       : core.buffers.Allocate(small ? BufferClass::kSmall : BufferClass::kLarge);
  if (buffer == nullptr) {
    if (packet != nullptr) core.packets.Release(packet);
    // Taken all the same, so that it does not wake anybody again.
    if (SystemCall(SYS_recvfrom, descriptor, 0, 0, MSG_DONTWAIT | MSG_TRUNC, 0, 0) >= 0) {
      core.counters.Add(Counter::kDeviceInNoBuffer);
    }
    return nullptr;
  }
  const long got = SystemCall(SYS_recvfrom, descriptor, reinterpret_cast<long>(buffer->bytes),
                              buffer->capacity, MSG_DONTWAIT | MSG_TRUNC, 0, 0);
  packet->slices[packet->slice_count++] = {buffer, 0, 0};
  if (got < kEthernet || got > static_cast<long>(buffer->capacity)) {
    *lost = got == -ENETDOWN;
    if (got >= 0) core.counters.Add(Counter::kDeviceInBadFrame);
    core.packets.Release(packet);
    return nullptr;
  }
  packet->slices[0].length = static_cast<uint32_t>(got);
  packet->length = static_cast<uint32_t>(got);
  return packet;
}

}  // namespace userstack::backend
