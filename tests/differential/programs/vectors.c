// readv, writev, sendmsg, recvmsg, sendmmsg, recvmmsg, preadv/pwritev on sockets; their limits.
#include <limits.h>

#include "observe.h"

enum { kPort = 5110 };

static void Streams(void) {
  int fd = Connected("a", kPort);
  struct iovec out[] = {{"one ", 4}, {"", 0}, {"two ", 4}, {"three", 5}};
  See("writev", writev(fd, out, 4));
  SeePeer("recv a 13");
  PeerMust("text a 0123456789");
  Await(fd, POLLIN);
  char first[4] = "", second[4] = "", third[16] = "";
  struct iovec in[] = {{first, 3}, {second, 0}, {second, 3}, {third, 16}};
  See("readv", readv(fd, in, 4));
  Note("parts: %.3s %.3s %.4s", first, second, third);
  struct msghdr message = {.msg_iov = out, .msg_iovlen = 4};
  See("sendmsg", sendmsg(fd, &message, 0));
  SeePeer("recv a 13");
  PeerMust("text a abcdef");
  Await(fd, POLLIN);
  struct sockaddr_storage name;
  char control[64];
  message = (struct msghdr){.msg_name = &name,
                            .msg_namelen = sizeof name,
                            .msg_iov = in,
                            .msg_iovlen = 3,
                            .msg_control = control,
                            .msg_controllen = sizeof control,
                            .msg_flags = 0x55};
  SeeData("recvmsg", first, recvmsg(fd, &message, 0) == 6 ? 3 : -1);
  Note("name length %u control length %zu flags %#x", message.msg_namelen, message.msg_controllen,
       (unsigned)message.msg_flags);

  struct mmsghdr many[3];
  memset(many, 0, sizeof many);
  for (int i = 0; i < 3; ++i) {
    many[i].msg_hdr.msg_iov = &out[i == 1 ? 3 : 0];
    many[i].msg_hdr.msg_iovlen = 1;
  }
  See("sendmmsg", sendmmsg(fd, many, 3, 0));
  Note("lengths: %u %u %u", many[0].msg_len, many[1].msg_len, many[2].msg_len);
  SeePeer("recv a 13");
  See("sendmmsg of none", sendmmsg(fd, many, 0, 0));

  volatile int minus_one = -1;
  See("writev of -1 parts", writev(fd, out, minus_one));
  See("writev of 0 parts", writev(fd, out, 0));
  static struct iovec lots[IOV_MAX + 1];
  for (int i = 0; i <= IOV_MAX; ++i) lots[i] = (struct iovec){"q", 1};
  See("writev of IOV_MAX + 1 parts", writev(fd, lots, IOV_MAX + 1));
  See("writev of IOV_MAX parts", writev(fd, lots, IOV_MAX));
  SeePeer("recv a %d", IOV_MAX);
  message = (struct msghdr){.msg_iov = lots, .msg_iovlen = IOV_MAX + 1};
  See("sendmsg of IOV_MAX + 1 parts", sendmsg(fd, &message, 0));
  message = (struct msghdr){.msg_iov = NULL, .msg_iovlen = 0};
  See("sendmsg of nothing", sendmsg(fd, &message, 0));
  struct iovec negative = {"x", (size_t)-1};
  See("writev with a negative length", writev(fd, &negative, 1));
  See("preadv", preadv(fd, in, 1, 0));
  See("pread", pread(fd, first, 1, 0));
  See("pwrite", pwrite(fd, "x", 1, 0));
  See("lseek", lseek(fd, 0, SEEK_CUR));
  See("preadv2 with offset -1", ({
        PeerMust("text a zz");
        Await(fd, POLLIN);
        preadv2(fd, in, 1, -1, 0);
      }));
  See("pwritev2 with offset -1", pwritev2(fd, out, 1, -1, 0));
  SeePeer("recv a 4");
  close(fd);
}

static void Datagrams(void) {
  PeerMust("udp u %s %d", PEER4, kPort + 1);
  int fd = Socket(AF_INET, SOCK_DGRAM);
  Must("bind", Bind(fd, SELF4, kPort + 2));
  struct sockaddr_storage to;
  socklen_t length = Address(&to, PEER4, kPort + 1);
  struct iovec out[] = {{"alpha", 5}, {"-beta", 5}, {"-gamma", 6}};
  struct mmsghdr many[4];
  memset(many, 0, sizeof many);
  for (int i = 0; i < 3; ++i) {
    many[i].msg_hdr.msg_name = &to;
    many[i].msg_hdr.msg_namelen = length;
    many[i].msg_hdr.msg_iov = out;
    many[i].msg_hdr.msg_iovlen = (size_t)i + 1;
  }
  See("sendmmsg", sendmmsg(fd, many, 3, 0));
  Note("lengths: %u %u %u", many[0].msg_len, many[1].msg_len, many[2].msg_len);
  for (int i = 0; i < 3; ++i) SeePeer("recvfrom u");
  many[1].msg_hdr.msg_name = NULL;
  many[1].msg_hdr.msg_namelen = 0;
  See("sendmmsg, the second fails", sendmmsg(fd, many, 3, 0));
  SeePeer("recvfrom u");

  for (int i = 0; i < 3; ++i) PeerMust("sendto u %s %d datagram-%d", SELF4, kPort + 2, i);
  usleep(100000);
  char data[4][16];
  struct iovec in[4];
  struct sockaddr_storage from[4];
  memset(many, 0, sizeof many);
  for (int i = 0; i < 4; ++i) {
    in[i] = (struct iovec){data[i], i == 1 ? 4 : 16};
    many[i].msg_hdr.msg_name = &from[i];
    many[i].msg_hdr.msg_namelen = sizeof from[i];
    many[i].msg_hdr.msg_iov = &in[i];
    many[i].msg_hdr.msg_iovlen = 1;
  }
  See("recvmmsg", recvmmsg(fd, many, 4, MSG_DONTWAIT, NULL));
  for (int i = 0; i < 3; ++i) {
    SeeData("datagram", data[i], many[i].msg_len);
    Note("flags %#x name length %u", (unsigned)many[i].msg_hdr.msg_flags,
         many[i].msg_hdr.msg_namelen);
  }
  See("recvmmsg of nothing", recvmmsg(fd, many, 4, MSG_DONTWAIT, NULL));
  struct timespec limit = {0, 50000000};
  PeerMust("sendto u %s %d single", SELF4, kPort + 2);
  See("recvmmsg WAITFORONE", recvmmsg(fd, many, 4, MSG_WAITFORONE, &limit));
  limit = (struct timespec){0, 2000000000};
  See("recvmmsg with a bad time-out", recvmmsg(fd, many, 4, 0, &limit));
  close(fd);
}

int main(void) {
  Streams();
  Datagrams();
  return 0;
}
