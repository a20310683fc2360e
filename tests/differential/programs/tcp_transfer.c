// Bulk data each way, odd sizes, non-blocking to EAGAIN and back, both ways at once.
#include <pthread.h>

#include "observe.h"

enum { kPort = 5040, kSize = 8 << 20 };

static void* Writer(void* argument) {
  int fd = *(int*)argument;
  char* data = malloc(kSize);
  Fill(data, kSize, 0, 9);
  size_t done = 0, step = 1;
  while (done < kSize) {
    size_t size = step < kSize - done ? step : kSize - done;
    if (WriteAll(fd, data + done, size) < 0) break;
    done += size;
    step = step * 3 % 70001 + 1;
  }
  free(data);
  return NULL;
}

static void BothWays(void) {
  int fd = Connected("a", kPort);
  PeerMust("echo a");
  pthread_t writer;
  pthread_create(&writer, NULL, Writer, &fd);
  char* back = malloc(kSize);
  char* sent = malloc(kSize);
  Fill(sent, kSize, 0, 9);
  size_t done = 0, step = 7;
  while (done < kSize) {
    ssize_t got = read(fd, back + done, step < kSize - done ? step : kSize - done);
    if (got <= 0) break;
    done += (size_t)got;
    step = step * 5 % 90001 + 1;
  }
  pthread_join(writer, NULL);
  Note("echoed: %zu %s", done, memcmp(back, sent, kSize) == 0 ? "equal" : "different");
  shutdown(fd, SHUT_WR);
  See("end", read(fd, back, 1));
  close(fd);
  free(back);
  free(sent);
}

static void Out(void) {
  int fd = Connected("b", kPort + 1);
  char* data = malloc(kSize);
  Fill(data, kSize, 0, 3);
  See("one write of 8 MB", ({
        PeerMust("after 1 pause 1");
        pid_t child = fork();
        if (child == 0) _exit(WriteAll(fd, data, kSize) == kSize ? 0 : 1);
        close(fd);
        Note("peer: %s", Peer("drain b"));
        int status;
        waitpid(child, &status, 0);
        WEXITSTATUS(status);
      }));
  free(data);
}

static void FillUp(void) {
  int fd = Connected("c", kPort + 2);
  SetInt(fd, SOL_SOCKET, SO_SNDBUF, 200000);
  SetNonblocking(fd);
  char* data = malloc(kSize * 2);
  Fill(data, kSize * 2, 0, 4);
  size_t done = 0, before;
  int error = 0;
  do {  // until nothing moves any more
    before = done;
    while (done < kSize * 2) {
      ssize_t put = write(fd, data + done, kSize * 2 - done);
      error = errno;
      if (put < 0) break;
      done += (size_t)put;
    }
    usleep(300000);
  } while (done > before && done < kSize * 2);
  SeeBool("the buffers fill up", done > 0 && done < kSize * 2 && error == EAGAIN);
  PollOne("poll when full", fd, POLLOUT, 0);
  char buffer[4];
  See("read meanwhile", read(fd, buffer, 4));
  PeerMust("after 10 recv c %zu", done);
  PollOne("poll when the peer reads", fd, POLLOUT, 5000);
  PeerMust("wait");
  See("write again", write(fd, "more", 4));
  SeePeer("recv c 4");
  close(fd);
  free(data);
}

static void In(void) {
  int fd = Connected("d", kPort + 3);
  char* data = malloc(kSize);
  PeerMust("after 0 send d %d 6", kSize);
  usleep(300000);  // the window closes and must open again
  SeeData("8 MB in", data, ReadAll(fd, data, kSize));
  PeerMust("wait");
  close(fd);
  free(data);
}

int main(void) {
  BothWays();
  Out();
  FillUp();
  In();
  return 0;
}
