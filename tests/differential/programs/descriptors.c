// Numbers: lowest free, dup family, fcntl, close-on-exec, close_range, fstat, exhaustion.
#include <linux/close_range.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "observe.h"

enum { kPort = 5130 };

static void Lowest(void) {
  int a = Socket(AF_INET, SOCK_STREAM);
  int b = Socket(AF_INET, SOCK_DGRAM);
  int c = Socket(AF_INET6, SOCK_STREAM);
  Note("three sockets: %d %d %d", a, b, c);
  close(b);
  See("the free one is reused by open", open("/dev/null", O_RDONLY));
  close(b);
  See("and by socket", socket(AF_INET, SOCK_STREAM, 0));
  See("pipe takes the next", ({
        int pipes[2];
        Must("pipe", pipe(pipes));
        Note("pipe: %d %d", pipes[0], pipes[1]);
        close(pipes[0]);
        close(pipes[1]);
        0;
      }));
  See("epoll", epoll_create1(0));
  See("accept takes the lowest", ({
        int listener = Listener(SELF4, kPort, 4);
        Note("listener: %d", listener);
        close(a);
        int fd = Accepted(listener, "x", kPort);
        close(listener);
        fd;
      }));
  for (int fd = 3; fd < 20; ++fd) close(fd);
}

static void Duplicates(void) {
  int fd = Connected("a", kPort + 1);
  char buffer[16];
  int second = dup(fd);
  See("dup", second);
  See("dup2", dup2(fd, 20));
  See("dup2 onto itself", dup2(fd, fd));
  See("dup3", dup3(fd, 21, O_CLOEXEC));
  See("dup3 onto itself", dup3(fd, fd, 0));
  See("dup3 with bad flags", dup3(fd, 22, O_APPEND));
  See("F_DUPFD 30", fcntl(fd, F_DUPFD, 30));
  See("F_DUPFD_CLOEXEC 30", fcntl(fd, F_DUPFD_CLOEXEC, 30));
  Note("close-on-exec: %d %d %d %d %d", fcntl(fd, F_GETFD), fcntl(20, F_GETFD), fcntl(21, F_GETFD),
       fcntl(30, F_GETFD), fcntl(31, F_GETFD));
  See("F_DUPFD -1", fcntl(fd, F_DUPFD, -1));
  See("dup2 to -1", dup2(fd, -1));
  See("dup2 of a bad number", dup2(4444, 25));
  // Status flags are shared, descriptor flags are not.
  SetNonblocking(21);
  SeeBool("O_NONBLOCK shared", (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
  See("read non-blocking through another", read(30, buffer, 1));
  int off = 0;
  See("FIONBIO off", ioctl(30, FIONBIO, &off));
  SeeBool("O_NONBLOCK shared", (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
  See("access mode", fcntl(fd, F_GETFL) & O_ACCMODE);
  See("FIOCLEX", ioctl(fd, FIOCLEX));
  See("F_GETFD", fcntl(fd, F_GETFD));
  See("FIONCLEX", ioctl(fd, FIONCLEX));
  See("F_GETFD", fcntl(fd, F_GETFD));
  // The connection lives until the last one is closed.
  close(fd);
  close(second);
  close(20);
  close(30);
  close(31);
  See("write through the last", write(21, "still", 5));
  SeePeer("recv a 5");
  close(21);
  SeePeer("drain a");
  // dup2 over a socket closes it.
  fd = Connected("b", kPort + 2);
  int null = open("/dev/null", O_RDWR);
  See("dup2 of a file over a connection", dup2(null, fd) == fd ? 0 : -1);
  SeePeer("drain b");
  See("write goes to the file", write(fd, "x", 1));
  close(fd);
  close(null);
  fd = Connected("c", kPort + 3);
  int pipes[2];
  Must("pipe", pipe(pipes));
  See("dup2 of a connection over a pipe", dup2(fd, pipes[0]) == pipes[0] ? 0 : -1);
  PeerMust("text c hi");
  SeeData("read it", buffer, read(pipes[0], buffer, sizeof buffer));
  close(pipes[0]);
  close(pipes[1]);
  close(fd);
  SeePeer("drain c");
}

static void Ranges(void) {
  int fd = Connected("d", kPort + 4);
  int udp = Socket(AF_INET, SOCK_DGRAM);
  Must("dup2", dup2(udp, 40));
  See("close_range CLOEXEC", close_range(40, 45, CLOSE_RANGE_CLOEXEC));
  See("F_GETFD", fcntl(40, F_GETFD));
  See("close_range", close_range((unsigned)fd, 50, 0));
  See("closed", fcntl(fd, F_GETFD));
  See("closed", fcntl(udp, F_GETFD));
  See("closed", fcntl(40, F_GETFD));
  SeePeer("drain d");
  See("close_range backwards", close_range(9, 5, 0));
  See("a new socket works after it", ({
        int again = Connected("e", kPort + 5);
        long put = write(again, "x", 1);
        close(again);
        put;
      }));
  SeePeer("drain e");
  fd = Connected("f", kPort + 6);
  closefrom(101);
  See("closefrom above leaves it", write(fd, "y", 1));
  close(fd);
  SeePeer("drain f");
}

static void Kinds(void) {
  int fd = Socket(AF_INET, SOCK_STREAM);
  struct stat status;
  See("fstat", fstat(fd, &status));
  SeeBool("it is a socket", S_ISSOCK(status.st_mode));
  See("isatty", isatty(fd));
  See("lseek", lseek(fd, 0, SEEK_SET));
  See("ftruncate", ftruncate(fd, 0));
  See("fsync", fsync(fd));
  char path[64], link[64] = "";
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  Must("readlink", readlink(path, link, sizeof link - 1));
  SeeBool("/proc says socket", strncmp(link, "socket:[", 8) == 0);
  int number = 0;
  See("an ioctl of terminals", ioctl(fd, 0x5401 /* TCGETS */, path));
  See("FIONREAD fresh", ioctl(fd, FIONREAD, &number));
  close(fd);
  See("close a closed one", close(fd));
  See("read a closed one", read(fd, path, 1));
  See("write a closed one", write(fd, path, 1));
  See("fcntl a closed one", fcntl(fd, F_GETFL));
  See("dup a closed one", dup(fd));
  See("close -1", close(-1));
  fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  See("SOCK_CLOEXEC", fcntl(fd, F_GETFD));
  SeeBool("SOCK_NONBLOCK", (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
  close(fd);
}

// Connections that come and go: each gets a number as if there had been none before it.
static void ComeAndGo(void) {
  int listener = Listener(SELF4, kPort + 8, 8);
  int held = -1;
  for (int i = 0; i < 12; ++i) {
    char peer[2] = {(char)('k' + i), 0};
    PeerMust("connect %s %s %d", peer, SELF4, kPort + 8);
    Await(listener, POLLIN);
    int fd = accept4(listener, NULL, NULL,
                     (i & 1 ? SOCK_NONBLOCK : 0) | (i & 2 ? SOCK_CLOEXEC : 0));
    See("its number", fd);
    See("its descriptor flags", fcntl(fd, F_GETFD));
    See("its flags", fcntl(fd, F_GETFL) & (O_NONBLOCK | O_APPEND | O_ACCMODE));
    struct stat status, other;
    Must("fstat", fstat(fd, &status));
    SeeBool("a socket", S_ISSOCK(status.st_mode));
    if (held >= 0) {
      Must("fstat", fstat(held, &other));
      SeeBool("another than the one that stays", status.st_ino != other.st_ino);
    }
    See("to it", write(fd, "hello", 5));
    SeePeer("recv %s 5", peer);
    if (i == 3) See("as it was", fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) ^ O_NONBLOCK));
    if (i == 5) See("appending", fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_APPEND));
    if (i == 7) held = dup(fd);
    usleep(2000);  // so that a placeholder is kept of every one that may be
    close(fd);
    if (i != 7) SeePeer("drain %s", peer);
  }
  See("to the one that was duplicated", write(held, "again", 5));
  close(held);
  SeePeer("drain r");
  close(listener);
}

static void Exhausted(void) {
  struct rlimit limit = {10, 200};
  getrlimit(RLIMIT_NOFILE, &limit);
  rlim_t before = limit.rlim_cur;
  limit.rlim_cur = 12;
  See("setrlimit", setrlimit(RLIMIT_NOFILE, &limit));
  int last = -1;
  for (int i = 0; i < 30; ++i) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0) break;
    last = fd;
  }
  See("the last number", last);
  See("one more socket", socket(AF_INET, SOCK_STREAM, 0));
  See("one more dup", dup(last));
  close(last);
  int listener = Listener(SELF4, kPort + 7, 4);
  PeerMust("connect g %s %d", SELF4, kPort + 7);
  Await(listener, POLLIN);
  See("accept without a number left", accept(listener, NULL, NULL));
  close(3);
  SeeOk("accept with one", accept(listener, NULL, NULL));
  limit.rlim_cur = before;
  setrlimit(RLIMIT_NOFILE, &limit);
}

int main(void) {
  Lowest();
  Duplicates();
  Ranges();
  Kinds();
  ComeAndGo();
  Exhausted();
  return 0;
}
