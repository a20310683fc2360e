// A bad link between two Ethernet devices: `impair DEVICE DEVICE LOSS DUPLICATE REORDER SEED`, the
// three in per mille. Frames go through packet sockets in both directions; each is lost, doubled,
// or held back until three others have passed or two milliseconds are over. Both devices must be
// without offloads (one frame, one packet). On SIGTERM it prints what it did.
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { kFrame = 2048, kBatch = 64, kHeldBack = 3 };

struct Direction {
  int in, out;
  char held[kFrame];
  ssize_t held_length;
  int passed;        // since a frame was held back
  int64_t deadline;  // when it goes in any case
  long frames, lost, doubled, reordered;
};

static volatile sig_atomic_t stop;
static uint64_t state;
static int loss, duplicate, reorder;

static void OnStop(int number) {
  (void)number;
  stop = 1;
}

static int Chance(int per_mille) {  // xorshift64*
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return (int)((state * 0x2545f4914f6cdd1dull >> 33) % 1000) < per_mille;
}

static int64_t Now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int Open(const char* device) {
  int fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
  struct sockaddr_ll name = {.sll_family = AF_PACKET,
                             .sll_protocol = htons(ETH_P_ALL),
                             .sll_ifindex = (int)if_nametoindex(device)};
  int size = 16 << 20, on = 1;
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
  setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on);
  struct packet_mreq promiscuous = {.mr_ifindex = name.sll_ifindex, .mr_type = PACKET_MR_PROMISC};
  if (fd < 0 || name.sll_ifindex == 0 || bind(fd, (struct sockaddr*)&name, sizeof name) != 0 ||
      setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof promiscuous) != 0) {
    perror(device);
    exit(1);
  }
  return fd;
}

static void Put(struct Direction* direction, const char* frame, ssize_t length) {
  while (send(direction->out, frame, (size_t)length, 0) < 0 &&
         (errno == ENOBUFS || errno == EAGAIN)) {
    usleep(50);
  }
}

static void Release(struct Direction* direction) {
  Put(direction, direction->held, direction->held_length);
  direction->held_length = 0;
}

static void Frame(struct Direction* direction, const char* frame, ssize_t length) {
  ++direction->frames;
  if (Chance(loss)) {
    ++direction->lost;
    return;
  }
  if (direction->held_length == 0 && Chance(reorder)) {
    memcpy(direction->held, frame, (size_t)length);
    direction->held_length = length;
    direction->passed = 0;
    direction->deadline = Now() + 2000000;
    ++direction->reordered;
    return;
  }
  Put(direction, frame, length);
  if (Chance(duplicate)) {
    ++direction->doubled;
    Put(direction, frame, length);
  }
  if (direction->held_length > 0 && ++direction->passed >= kHeldBack) Release(direction);
}

static void Pump(struct Direction* direction) {
  static char frames[kBatch][kFrame];
  struct iovec parts[kBatch];
  struct mmsghdr messages[kBatch];
  memset(messages, 0, sizeof messages);
  for (int i = 0; i < kBatch; ++i) {
    parts[i] = (struct iovec){frames[i], kFrame};
    messages[i].msg_hdr.msg_iov = &parts[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  int count = recvmmsg(direction->in, messages, kBatch, MSG_DONTWAIT, NULL);
  for (int i = 0; i < count; ++i) Frame(direction, frames[i], messages[i].msg_len);
}

int main(int argc, char** argv) {
  if (argc != 7) return 64;
  int a = Open(argv[1]), b = Open(argv[2]);
  loss = atoi(argv[3]);
  duplicate = atoi(argv[4]);
  reorder = atoi(argv[5]);
  state = strtoull(argv[6], NULL, 10) * 0x9e3779b97f4a7c15ull + 1;
  struct sigaction action = {.sa_handler = OnStop};
  sigaction(SIGTERM, &action, NULL);
  static struct Direction directions[2];
  directions[0].in = directions[1].out = a;
  directions[0].out = directions[1].in = b;
  while (!stop) {
    struct pollfd set[2] = {{a, POLLIN, 0}, {b, POLLIN, 0}};
    int held = directions[0].held_length > 0 || directions[1].held_length > 0;
    poll(set, 2, held ? 1 : 1000);
    for (int i = 0; i < 2; ++i) {
      if (set[i].revents & POLLIN) Pump(&directions[i]);
      if (directions[i].held_length > 0 && Now() >= directions[i].deadline) Release(&directions[i]);
    }
  }
  for (int i = 0; i < 2; ++i) {
    printf("frames %ld lost %ld doubled %ld reordered %ld\n", directions[i].frames,
           directions[i].lost, directions[i].doubled, directions[i].reordered);
  }
  return 0;
}
