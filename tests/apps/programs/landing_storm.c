// landing_storm PEER PORT KILLS STREAMS SEED: each of STREAMS bulk streams from PEER has a reader,
// a child; one after the other is killed at a random instant, and the parent or the next child
// reads on from the same socket, into the same memory. Prints "kills N", then how many of the dead
// took bytes with them, then how many connections were reset; or says what was wrong.
//
// What Linux guarantees then (tcp_recvmsg_locked looks for signals only before it sleeps, and moves
// copied_seq by what it has copied): a read takes a piece of the stream from its front, SIGKILL or
// not. So a death loses what the read in progress took, at most as much as it asked for, and no
// other byte; nobody reads a byte twice; and what follows is the stream, without a further gap.
//
// landing_storm send ADDRESS PORT: sends to each that connects as much as it takes. The stream's
// words say where in it they stand.
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kMost = 4, kLargest = 400000, kSmallest = 20000, kBlock = 1 << 20, kPatience = 10000 };
enum { kLost = 3, kStuck = 4, kWrong = 5, kReset = 6 };

// Shared by all who read the stream; written by whoever does.
struct Stream {
  volatile uint64_t at;     // so far it was read, and is right
  volatile uint64_t limit;  // bytes behind `at` that a read may have taken; 0: none
  volatile uint64_t gaps;   // deaths that took some
  volatile uint64_t reads;
};

static struct Stream* streams;
static int fds[kMost];
static char memory[kLargest];

// Odd, so that a word tells its number.
static const uint64_t kFactor = 0x9E3779B97F4A7C15;

static uint64_t Inverse(uint64_t odd) {
  uint64_t inverse = odd;
  for (int i = 0; i < 6; ++i) inverse *= 2 - odd * inverse;
  return inverse;
}

static void Die(int status, const char* what, uint64_t a, uint64_t b) {
  printf("%s (%llu, %llu): %s\n", what, (unsigned long long)a, (unsigned long long)b,
         strerror(errno));
  fflush(stdout);
  _exit(status);
}

static uint64_t WordAt(const char* bytes) {
  uint64_t word;
  memcpy(&word, bytes, sizeof word);
  return word;
}

// Where in the stream `bytes` (at least 24) stand; ~0: nowhere.
static uint64_t PlaceOf(const char* bytes) {
  uint64_t inverse = Inverse(kFactor);
  for (uint64_t skip = 0; skip < 8; ++skip) {
    uint64_t number = WordAt(bytes + skip) * inverse;
    if (number < 1ull << 50 && number * 8 >= skip &&
        WordAt(bytes + skip + 8) == (number + 1) * kFactor) {
      return number * 8 - skip;
    }
  }
  return ~0ull;
}

static int IsStream(const char* bytes, size_t n, uint64_t at) {
  uint64_t wrong = 0;
  size_t i = 0;
  for (; i < n && (at + i) % 8 != 0; ++i) {
    uint64_t word = (at + i) / 8 * kFactor;
    wrong |= (uint64_t)(((const char*)&word)[(at + i) % 8] ^ bytes[i]);
  }
  uint64_t word = (at + i) / 8 * kFactor;
  for (; i + 8 <= n; i += 8, word += kFactor) wrong |= WordAt(bytes + i) ^ word;
  if (i < n) wrong |= (uint64_t)memcmp(bytes + i, &word, n - i);
  return wrong == 0;
}

// One read of up to `size` bytes, in one of the ways there are.
static ssize_t ReadSome(int fd, size_t size, unsigned how) {
  struct iovec parts[2] = {{memory, size / 2}, {memory + size / 2, size - size / 2}};
  struct pollfd entry = {fd, POLLIN, 0};
  switch (how % 8) {
    case 0:
      return readv(fd, parts, 2);
    case 1:
      return recv(fd, memory, size, MSG_WAITALL);
    case 2:
    case 3:
      if (poll(&entry, 1, kPatience) != 1) Die(kStuck, "nothing comes", size, 0);
      return recv(fd, memory, size, MSG_DONTWAIT);
    default:
      return recv(fd, memory, size, 0);
  }
}

// False: the connection was reset, as one may be whose input a death with the lock left half done.
static int ReadOnce(int index, unsigned* seed) {
  struct Stream* stream = &streams[index];
  size_t size = kSmallest + (size_t)rand_r(seed) % (kLargest - kSmallest);
  uint64_t before = stream->limit;
  stream->limit = before + size;
  ssize_t n = ReadSome(fds[index], size, (unsigned)rand_r(seed));
  if (n < 0 && errno == ECONNRESET) return 0;
  if (n <= 0) Die(n < 0 && errno == ENETDOWN ? kLost : kWrong, "read", stream->at, (uint64_t)n);
  if (before != 0 && n < 32) return 1;  // too little to say where it stands
  uint64_t place = before == 0 ? stream->at : PlaceOf(memory);
  if (place == ~0ull) Die(kWrong, "no part of the stream", stream->at, before);
  if (place < stream->at) Die(kWrong, "bytes that were read come again", stream->at, place);
  if (place > stream->at + before)
    Die(kWrong, "more is missing than the dead read", before, place - stream->at);
  if (!IsStream(memory, (size_t)n, place)) Die(kWrong, "wrong bytes", place, (uint64_t)n);
  if (place != stream->at) ++stream->gaps;
  ++stream->reads;
  stream->at = place + (uint64_t)n;
  stream->limit = 0;
  return 1;
}

static pid_t StartReader(int index, unsigned seed) {
  pid_t child = fork();
  if (child < 0) Die(kWrong, "fork", 0, 0);
  if (child != 0) return child;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  while (ReadOnce(index, &seed)) {
  }
  _exit(kReset);
}

// Says what it had found if it ended by itself. False: its connection was reset.
static int Kill(pid_t reader) {
  int status = 0;
  kill(reader, SIGKILL);
  waitpid(reader, &status, 0);
  if (!WIFEXITED(status) && WTERMSIG(status) == SIGKILL) return 1;
  if (WIFEXITED(status) && WEXITSTATUS(status) == kReset) return 0;
  printf("a reader ended by itself: status 0x%x\n", status);
  fflush(stdout);
  _exit(WIFEXITED(status) ? WEXITSTATUS(status) : kWrong);
}

static void Connect(const struct sockaddr_in* peer, int index) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0 || connect(fd, (const struct sockaddr*)peer, sizeof *peer) != 0) {
    Die(errno == ENETDOWN ? kLost : kWrong, "connect", 0, 0);
  }
  fds[index] = fd;
  streams[index].at = streams[index].limit = 0;
}

static void Replace(const struct sockaddr_in* peer, int index) {
  close(fds[index]);
  Connect(peer, index);
}

// The parent reads a little: it must not have to wait for ever. False: reset.
static int ReadOn(int index, unsigned* seed) {
  for (int i = rand_r(seed) % 8; i >= 0; --i) {
    struct pollfd entry = {fds[index], POLLIN, 0};
    if (poll(&entry, 1, kPatience) != 1) Die(kStuck, "nothing more comes", streams[index].at, 0);
    if (!ReadOnce(index, seed)) return 0;
  }
  return 1;
}

static void* SendAll(void* argument) {
  int fd = (int)(long)argument;
  uint64_t* block = malloc(kBlock);
  for (uint64_t number = 0;;) {
    for (size_t i = 0; i < kBlock / sizeof *block; ++i) block[i] = number++ * kFactor;
    for (size_t done = 0; done < kBlock;) {
      ssize_t n = send(fd, (char*)block + done, kBlock - done, MSG_NOSIGNAL);
      if (n <= 0) {
        free(block);
        close(fd);
        return NULL;
      }
      done += (size_t)n;
    }
  }
}

static int Send(const char* address, const char* port) {
  int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  inet_pton(AF_INET, address, &name.sin_addr);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, (struct sockaddr*)&name, sizeof name) != 0 || listen(listener, 64) != 0) {
    perror("send");
    return 1;
  }
  for (;;) {
    int fd = accept(listener, NULL, NULL);
    pthread_t thread;
    if (fd >= 0 && pthread_create(&thread, NULL, SendAll, (void*)(long)fd) == 0) {
      pthread_detach(thread);
    }
  }
}

int main(int count, char** arguments) {
  if (count == 4 && strcmp(arguments[1], "send") == 0) return Send(arguments[2], arguments[3]);
  if (count != 6) return 2;
  struct sockaddr_in peer = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)atoi(arguments[2]))};
  inet_pton(AF_INET, arguments[1], &peer.sin_addr);
  int kills = atoi(arguments[3]), number = atoi(arguments[4]);
  unsigned seed = (unsigned)atoi(arguments[5]);
  streams = mmap(NULL, sizeof *streams * kMost, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                 -1, 0);
  pid_t readers[kMost];
  for (int i = 0; i < number; ++i) Connect(&peer, i);
  for (int i = 0; i < number; ++i) readers[i] = StartReader(i, seed + (unsigned)i);
  int resets = 0;
  for (int i = 0; i < kills; ++i) {
    usleep((unsigned)rand_r(&seed) % 4000);
    int victim = rand_r(&seed) % number;
    int lives = Kill(readers[victim]);
    if (!lives) ++resets;
    if (rand_r(&seed) % 32 == 0 || !lives) Replace(&peer, victim);
    if (rand_r(&seed) % 2 == 0 && !ReadOn(victim, &seed)) {
      ++resets;
      Replace(&peer, victim);
    }
    readers[victim] = StartReader(victim, (unsigned)rand_r(&seed));
  }
  uint64_t gaps = 0, reads = 0;
  for (int i = 0; i < number; ++i) {
    if (!Kill(readers[i]) || !ReadOn(i, &seed)) ++resets;
    gaps += streams[i].gaps;
    reads += streams[i].reads;
  }
  printf("kills %d\n%llu took bytes with them; %llu reads\nresets %d\n", kills,
         (unsigned long long)gaps, (unsigned long long)reads, resets);
  return 0;
}
