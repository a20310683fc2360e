// Threads: many on one socket, a reset under a blocked call, getaddrinfo of numbers.
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>

#include "observe.h"

enum { kPort = 5380 };

static atomic_int total;
static int shared;

static void* ReadSome(void* unused) {
  (void)unused;
  char buffer[100];
  ssize_t got;
  while ((got = read(shared, buffer, sizeof buffer)) > 0) atomic_fetch_add(&total, (int)got);
  return NULL;
}

static void* WriteSome(void* unused) {
  (void)unused;
  for (int i = 0; i < 500; ++i) {
    if (write(shared, "0123456789", 10) != 10) break;
  }
  return NULL;
}

static void ManyReaders(void) {
  shared = Connected("a", kPort);
  pthread_t threads[8];
  for (int i = 0; i < 8; ++i) pthread_create(&threads[i], NULL, ReadSome, NULL);
  PeerMust("send a 500000 1");
  PeerMust("shut a wr");
  for (int i = 0; i < 8; ++i) pthread_join(threads[i], NULL);
  Note("eight readers: %d", (int)total);
  for (int i = 0; i < 8; ++i) pthread_create(&threads[i], NULL, WriteSome, NULL);
  for (int i = 0; i < 8; ++i) pthread_join(threads[i], NULL);
  shutdown(shared, SHUT_WR);
  const char* answer = Peer("drain a");
  Note("eight writers: %d", atoi(answer));
  close(shared);
}

static void* Accepter(void* unused) {
  (void)unused;
  for (;;) {
    int fd = accept(shared, NULL, NULL);
    if (fd < 0) return NULL;
    atomic_fetch_add(&total, 1);
    if (write(fd, "x", 1) != 1) atomic_fetch_add(&total, 1000);
    close(fd);
  }
}

static void Accepters(void) {
  total = 0;
  shared = Listener(SELF4, kPort + 1, 64);
  pthread_t threads[4];
  for (int i = 0; i < 4; ++i) pthread_create(&threads[i], NULL, Accepter, NULL);
  PeerMust("connect_many b 40 %s %d", SELF4, kPort + 1);
  int good = 0;
  for (int i = 0; i < 40; ++i) good += strcmp(Peer("recv b%d 1", i), "1 'x'") == 0;
  Note("served: %d", good);
  shutdown(shared, SHUT_RDWR);
  for (int i = 0; i < 4; ++i) pthread_join(threads[i], NULL);
  Note("accepted: %d", (int)total);
  close(shared);
}

static void* BlockedRead(void* unused) {
  (void)unused;
  char byte;
  intptr_t result = read(shared, &byte, 1);
  return (void*)(result < 0 ? -errno : result);
}

static void Reset(void) {
  shared = Connected("d", kPort + 3);
  pthread_t thread;
  void* result = NULL;
  pthread_create(&thread, NULL, BlockedRead, NULL);
  usleep(80000);
  PeerMust("reset d");
  pthread_join(thread, &result);
  Note("a blocked read is reset: %s", ErrnoName(-(int)(intptr_t)result));
  close(shared);
}

static void Resolve(void) {
  struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
  struct addrinfo* list = NULL;
  Note("getaddrinfo: %d", getaddrinfo(PEER4, "80", &hints, &list));
  SeeAddress("resolved", list->ai_addr, 0, list->ai_addrlen, true);
  freeaddrinfo(list);
  Note("getaddrinfo: %d", getaddrinfo(PEER6, "80", &hints, &list));
  SeeAddress("resolved", list->ai_addr, 0, list->ai_addrlen, true);
  freeaddrinfo(list);
  // With ADDRCONFIG and sorting, getaddrinfo makes sockets of its own.
  hints = (struct addrinfo){.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
  Note("getaddrinfo passive: %d", getaddrinfo(NULL, "80", &hints, &list));
  int count = 0;
  for (struct addrinfo* item = list; item != NULL; item = item->ai_next) ++count;
  Note("passive addresses: %d", count);
  freeaddrinfo(list);
}

int main(void) {
  ManyReaders();
  Accepters();
  Reset();
  Resolve();
  return 0;
}
