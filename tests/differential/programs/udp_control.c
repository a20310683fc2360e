// UDP control data: IP_PKTINFO, IP_TTL, IP_TOS both ways, IPv6's, IP_RECVERR, broadcast, multicast.
// errqueue.h wants time.h before it.
// clang-format off
#include "observe.h"
#include <linux/errqueue.h>
// clang-format on

enum { kPort = 5220 };

// Receives one datagram and prints its control messages in the order in which they come.
static void SeeMessage(const char* what, int fd, int flags) {
  char data[256], control[512];
  struct sockaddr_storage from;
  struct iovec part = {data, sizeof data};
  struct msghdr message = {.msg_name = &from,
                           .msg_namelen = sizeof from,
                           .msg_iov = &part,
                           .msg_iovlen = 1,
                           .msg_control = control,
                           .msg_controllen = sizeof control};
  long got = recvmsg(fd, &message, flags);
  SeeData(what, data, got);
  if (got < 0) return;
  Note("  flags %#x", (unsigned)message.msg_flags);
  for (struct cmsghdr* item = CMSG_FIRSTHDR(&message); item != NULL;
       item = CMSG_NXTHDR(&message, item)) {
    char local[INET6_ADDRSTRLEN] = "", destination[INET6_ADDRSTRLEN] = "";
    if (item->cmsg_level == IPPROTO_IP && item->cmsg_type == IP_PKTINFO) {
      struct in_pktinfo* info = (struct in_pktinfo*)CMSG_DATA(item);
      inet_ntop(AF_INET, &info->ipi_spec_dst, local, sizeof local);
      inet_ntop(AF_INET, &info->ipi_addr, destination, sizeof destination);
      Note("  IP_PKTINFO interface %d local %s destination %s", info->ipi_ifindex, local,
           destination);
    } else if (item->cmsg_level == IPPROTO_IPV6 && item->cmsg_type == IPV6_PKTINFO) {
      struct in6_pktinfo* info = (struct in6_pktinfo*)CMSG_DATA(item);
      inet_ntop(AF_INET6, &info->ipi6_addr, destination, sizeof destination);
      Note("  IPV6_PKTINFO interface %u destination %s", info->ipi6_ifindex, destination);
    } else if ((item->cmsg_level == IPPROTO_IP && item->cmsg_type == IP_RECVERR) ||
               (item->cmsg_level == IPPROTO_IPV6 && item->cmsg_type == IPV6_RECVERR)) {
      struct sock_extended_err* error = (struct sock_extended_err*)CMSG_DATA(item);
      SeeAddress("  offender", SO_EE_OFFENDER(error), 0, 0, true);
      Note("  error %s origin %d type %d code %d info %u", ErrnoName((int)error->ee_errno),
           error->ee_origin, error->ee_type, error->ee_code, error->ee_info);
    } else if (item->cmsg_level == SOL_SOCKET) {
      Note("  SOL_SOCKET type %d length %zu", item->cmsg_type, item->cmsg_len);
    } else if (item->cmsg_len == CMSG_LEN(1)) {
      Note("  level %d type %d byte %d", item->cmsg_level, item->cmsg_type, *CMSG_DATA(item));
    } else {
      int value;
      memcpy(&value, CMSG_DATA(item), sizeof value);
      Note("  level %d type %d value %d length %zu", item->cmsg_level, item->cmsg_type, value,
           item->cmsg_len);
    }
  }
}

static long SendWith(int fd, const char* address, int port, int level, int type, const void* value,
                     size_t size) {
  char control[CMSG_SPACE(64)];
  memset(control, 0, sizeof control);
  struct sockaddr_storage to;
  struct iovec part = {"with control", 12};
  struct msghdr message = {.msg_name = &to,
                           .msg_namelen = Address(&to, address, port),
                           .msg_iov = &part,
                           .msg_iovlen = 1,
                           .msg_control = control,
                           .msg_controllen = CMSG_SPACE(size)};
  struct cmsghdr* item = CMSG_FIRSTHDR(&message);
  item->cmsg_level = level;
  item->cmsg_type = type;
  item->cmsg_len = CMSG_LEN(size);
  memcpy(CMSG_DATA(item), value, size);
  return sendmsg(fd, &message, 0);
}

static void Four(void) {
  PeerMust("udp a %s %d", PEER4, kPort);
  int fd = Socket(AF_INET, SOCK_DGRAM);
  Must("bind", Bind(fd, "0.0.0.0", kPort));
  See("IP_PKTINFO", SetInt(fd, IPPROTO_IP, IP_PKTINFO, 1));
  See("IP_RECVTTL", SetInt(fd, IPPROTO_IP, IP_RECVTTL, 1));
  See("IP_RECVTOS", SetInt(fd, IPPROTO_IP, IP_RECVTOS, 1));
  PeerMust("opt a 0 1 184");  // IP_TOS
  PeerMust("opt a 0 2 17");   // IP_TTL
  PeerMust("sendto a %s %d unicast", SELF4, kPort);
  SeeMessage("unicast", fd, 0);
  PeerMust("sendto a 10.77.0.255 %d broadcast", kPort);
  SeeMessage("subnet broadcast", fd, 0);
  See("SO_TIMESTAMP", SetInt(fd, SOL_SOCKET, SO_TIMESTAMP, 1));
  PeerMust("sendto a %s %d stamped", SELF4, kPort);
  SeeMessage("stamped", fd, 0);
  SetInt(fd, SOL_SOCKET, SO_TIMESTAMP, 0);
  See("IP_RECVORIGDSTADDR", SetInt(fd, IPPROTO_IP, 20, 1));
  SetInt(fd, IPPROTO_IP, 20, 0);

  // A control buffer that is too small.
  PeerMust("sendto a %s %d cut", SELF4, kPort);
  char data[16], control[20];
  struct iovec part = {data, sizeof data};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  See("small control buffer", recvmsg(fd, &message, 0));
  Note("flags %#x control length %zu", (unsigned)message.msg_flags, message.msg_controllen);
  PeerMust("sendto a %s %d none", SELF4, kPort);
  message.msg_control = NULL;
  message.msg_controllen = 0;
  See("no control buffer", recvmsg(fd, &message, 0));
  Note("flags %#x control length %zu", (unsigned)message.msg_flags, message.msg_controllen);

  Note("peer: %s", ({
         See("IP_TOS", SetInt(fd, IPPROTO_IP, IP_TOS, 0x48));
         See("IP_TTL", SetInt(fd, IPPROTO_IP, IP_TTL, 99));
         PeerMust("opt a 0 13 1");
         PeerMust("opt a 0 12 1");
         struct sockaddr_storage to;
         socklen_t length = Address(&to, PEER4, kPort);
         sendto(fd, "marked", 6, 0, (struct sockaddr*)&to, length);
         Peer("recv_tos_ttl_now a");
       }));
  int value = 3;
  See("send with IP_TTL", SendWith(fd, PEER4, kPort, IPPROTO_IP, IP_TTL, &value, sizeof value));
  SeePeer("recv_tos_ttl_now a");
  value = 0x20;
  See("send with IP_TOS", SendWith(fd, PEER4, kPort, IPPROTO_IP, IP_TOS, &value, sizeof value));
  SeePeer("recv_tos_ttl_now a");
  struct in_pktinfo info = {.ipi_ifindex = 0};
  inet_pton(AF_INET, SELF4, &info.ipi_spec_dst);
  See("send with IP_PKTINFO",
      SendWith(fd, PEER4, kPort, IPPROTO_IP, IP_PKTINFO, &info, sizeof info));
  SeePeer("recvfrom a");
  inet_pton(AF_INET, "10.99.99.99", &info.ipi_spec_dst);
  See("with a foreign source",
      SendWith(fd, PEER4, kPort, IPPROTO_IP, IP_PKTINFO, &info, sizeof info));
  value = 300;
  See("with a bad TTL", SendWith(fd, PEER4, kPort, IPPROTO_IP, IP_TTL, &value, sizeof value));
  See("with an unknown type", SendWith(fd, PEER4, kPort, IPPROTO_IP, 222, &value, sizeof value));
  static const int kTtls[] = {1, 255, 256, 0, -1, -2};
  for (size_t i = 0; i < 6; ++i) {
    int result = SetInt(fd, IPPROTO_IP, IP_TTL, kTtls[i]);
    int error = errno;
    value = -9;
    socklen_t length = sizeof value;
    getsockopt(fd, IPPROTO_IP, IP_TTL, &value, &length);
    Note("IP_TTL %d: %s, get %d", kTtls[i], result < 0 ? ErrnoName(error) : "0", value);
  }
  close(fd);
}

static void Broadcast(void) {
  PeerMust("udp b 0.0.0.0 %d", kPort + 1);
  int fd = Socket(AF_INET, SOCK_DGRAM);
  Must("bind", Bind(fd, "0.0.0.0", kPort + 1));
  struct sockaddr_storage to;
  socklen_t length = Address(&to, "10.77.0.255", kPort + 1);
  See("broadcast not allowed", sendto(fd, "x", 1, 0, (struct sockaddr*)&to, length));
  SeeOk("connect to broadcast", connect(fd, (struct sockaddr*)&to, length));
  SetInt(fd, SOL_SOCKET, SO_BROADCAST, 1);
  See("broadcast", sendto(fd, "to all", 6, 0, (struct sockaddr*)&to, length));
  SeePeer("recvfrom b");
  SeeMessage("our own copy", fd, MSG_DONTWAIT);
  length = Address(&to, "255.255.255.255", kPort + 1);
  See("limited broadcast", sendto(fd, "everyone", 8, 0, (struct sockaddr*)&to, length));
  SeePeer("recvfrom b");
  close(fd);
  int tcp = Socket(AF_INET, SOCK_STREAM);
  SeeOk("TCP to broadcast", Connect(tcp, "10.77.0.255", 9));
  close(tcp);
}

static void Multicast(void) {
  PeerMust("udp m 0.0.0.0 %d", kPort + 2);
  PeerMust("multicast_out m");
  int fd = Socket(AF_INET, SOCK_DGRAM);
  SetInt(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  Must("bind", Bind(fd, "0.0.0.0", kPort + 2));
  struct ip_mreqn group = {.imr_ifindex = 0};
  inet_pton(AF_INET, "239.7.7.7", &group.imr_multiaddr);
  inet_pton(AF_INET, SELF4, &group.imr_address);
  PeerMust("sendto m 239.7.7.7 %d early", kPort + 2);
  usleep(50000);
  SeeMessage("before joining", fd, MSG_DONTWAIT);
  See("join", setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof(struct ip_mreq)));
  See("join again", setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof(struct ip_mreq)));
  SetInt(fd, IPPROTO_IP, IP_PKTINFO, 1);
  usleep(50000);
  PeerMust("sendto m 239.7.7.7 %d member", kPort + 2);
  SeeMessage("member", fd, 0);
  SetInt(fd, IPPROTO_IP, IP_PKTINFO, 0);
  PeerMust("join m 239.7.7.7");
  struct sockaddr_storage to;
  socklen_t length = Address(&to, "239.7.7.7", kPort + 2);
  See("IP_MULTICAST_TTL", SetInt(fd, IPPROTO_IP, IP_MULTICAST_TTL, 4));
  PeerMust("opt m 0 12 1");
  See("send with loop", sendto(fd, "looped", 6, 0, (struct sockaddr*)&to, length));
  SeeMessage("our own", fd, 0);
  SeePeer("recv_tos_ttl_now m");
  See("IP_MULTICAST_LOOP off", SetInt(fd, IPPROTO_IP, IP_MULTICAST_LOOP, 0));
  See("send without loop", sendto(fd, "once", 4, 0, (struct sockaddr*)&to, length));
  usleep(30000);
  SeeMessage("not our own", fd, MSG_DONTWAIT);
  SeePeer("recvfrom m");
  See("leave", setsockopt(fd, IPPROTO_IP, IP_DROP_MEMBERSHIP, &group, sizeof(struct ip_mreq)));
  See("leave again",
      setsockopt(fd, IPPROTO_IP, IP_DROP_MEMBERSHIP, &group, sizeof(struct ip_mreq)));
  inet_pton(AF_INET, "10.1.2.3", &group.imr_multiaddr);
  See("join what is no group", setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group));
  int loop = -1;
  length = sizeof loop;
  getsockopt(fd, IPPROTO_IP, IP_MULTICAST_LOOP, &loop, &length);
  Note("IP_MULTICAST_LOOP %d", loop);
  close(fd);
}

static void Six(void) {
  PeerMust("udp x %s %d", PEER6, kPort + 3);
  int fd = Socket(AF_INET6, SOCK_DGRAM);
  Must("bind", Bind(fd, "::", kPort + 3));
  See("IPV6_RECVPKTINFO", SetInt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1));
  See("IPV6_RECVHOPLIMIT", SetInt(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1));
  See("IPV6_RECVTCLASS", SetInt(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1));
  PeerMust("sendto x %s %d six", SELF6, kPort + 3);
  SeeMessage("unicast", fd, 0);
  int value = 5;
  See("send with IPV6_HOPLIMIT",
      SendWith(fd, PEER6, kPort + 3, IPPROTO_IPV6, IPV6_HOPLIMIT, &value, sizeof value));
  SeePeer("recvfrom x");
  See("send with IPV6_TCLASS",
      SendWith(fd, PEER6, kPort + 3, IPPROTO_IPV6, IPV6_TCLASS, &value, sizeof value));
  SeePeer("recvfrom x");
  struct in6_pktinfo info = {.ipi6_ifindex = 0};
  inet_pton(AF_INET6, SELF6, &info.ipi6_addr);
  See("send with IPV6_PKTINFO",
      SendWith(fd, PEER6, kPort + 3, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info));
  SeePeer("recvfrom x");
  PeerMust("udp y :: %d", kPort + 4);
  PeerMust("multicast_out y");
  int member = Socket(AF_INET6, SOCK_DGRAM);
  Must("bind", Bind(member, "::", kPort + 4));
  struct ipv6_mreq group = {.ipv6mr_interface = if_nametoindex("eth0")};
  inet_pton(AF_INET6, "ff15::77", &group.ipv6mr_multiaddr);
  See("join", setsockopt(member, IPPROTO_IPV6, IPV6_JOIN_GROUP, &group, sizeof group));
  See("join again", setsockopt(member, IPPROTO_IPV6, IPV6_JOIN_GROUP, &group, sizeof group));
  usleep(50000);
  PeerMust("sendto y ff15::77 %d group", kPort + 4);
  SeeMessage("member", member, 0);
  See("leave", setsockopt(member, IPPROTO_IPV6, IPV6_LEAVE_GROUP, &group, sizeof group));
  See("leave again", setsockopt(member, IPPROTO_IPV6, IPV6_LEAVE_GROUP, &group, sizeof group));
  close(member);
  close(fd);
}

static void ErrorQueue(void) {
  int fd = Socket(AF_INET, SOCK_DGRAM);
  char buffer[8];
  See("IP_RECVERR", SetInt(fd, IPPROTO_IP, IP_RECVERR, 1));
  Must("connect", Connect(fd, PEER4, kPort + 5));
  See("error queue empty", recv(fd, buffer, 8, MSG_ERRQUEUE));
  See("send", send(fd, "lost", 4, 0));
  Await(fd, POLLERR);
  PollOne("poll", fd, POLLIN | POLLOUT, 0);
  SeeMessage("from the error queue", fd, MSG_ERRQUEUE);
  PollOne("poll after", fd, POLLIN | POLLOUT, 0);
  SeeSocketError("after", fd);
  close(fd);
  fd = Socket(AF_INET, SOCK_DGRAM);
  SetInt(fd, IPPROTO_IP, IP_RECVERR, 1);
  struct sockaddr_storage to;
  socklen_t length = Address(&to, PEER4, kPort + 5);
  See("unconnected send", sendto(fd, "lost", 4, 0, (struct sockaddr*)&to, length));
  Await(fd, POLLERR);
  See("recv reports it", recv(fd, buffer, 8, MSG_DONTWAIT));
  SeeMessage("and the queue has it", fd, MSG_ERRQUEUE);
  close(fd);
}

int main(void) {
  Four();
  Broadcast();
  Multicast();
  Six();
  ErrorQueue();
  return 0;
}
