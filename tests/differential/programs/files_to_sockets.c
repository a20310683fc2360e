// sendfile and splice between files, pipes and sockets.
// flags: -D_FILE_OFFSET_BITS=64
#include <sys/mman.h>
#include <sys/sendfile.h>

#include "observe.h"

enum { kPort = 5120, kSize = 1 << 20 };

static int File(void) {
  int file = memfd_create("data", 0);
  char* data = malloc(kSize);
  Fill(data, kSize, 0, 2);
  Must("write", WriteAll(file, data, kSize));
  free(data);
  lseek(file, 0, SEEK_SET);
  return file;
}

static void Sendfile(void) {
  int file = File();
  int fd = Connected("a", kPort);
  off_t offset = 1000;
  See("sendfile at an offset", sendfile(fd, file, &offset, 5000));
  See("offset", offset);
  See("file position", lseek(file, 0, SEEK_CUR));
  SeePeer("recv a 5000");
  See("sendfile from the position", sendfile(fd, file, NULL, 3000));
  See("file position", lseek(file, 0, SEEK_CUR));
  SeePeer("recv a 3000");
  PeerMust("after 0 recv a %d", kSize - 3000);
  long total = 0, put;
  while ((put = sendfile(fd, file, NULL, 10 << 20)) > 0) total += put;
  See("the rest in as many calls as it takes", total);
  See("at the end", put);
  PeerMust("wait");
  offset = kSize + 5;
  See("beyond the end", sendfile(fd, file, &offset, 10));
  See("sendfile of nothing", sendfile(fd, file, NULL, 0));
  See("sendfile from a socket", sendfile(fd, fd, NULL, 10));
  See("sendfile socket to file", sendfile(file, fd, NULL, 10));
  int pipes[2];
  Must("pipe", pipe(pipes));
  Must("write", write(pipes[1], "x", 1));
  See("sendfile from a pipe", sendfile(fd, pipes[0], NULL, 10));
  offset = 0;
  See("sendfile from a pipe at an offset", sendfile(fd, pipes[0], &offset, 1));
  See("sendfile from a socket at an offset", sendfile(fd, fd, &offset, 1));
  See("sendfile from a bad number at an offset", sendfile(fd, 4444, &offset, 1));
  See("offset", offset);
  offset = -5;
  See("sendfile at a negative offset", sendfile(fd, file, &offset, 10));
  See("sendfile to a bad number", sendfile(4444, file, NULL, 10));
  int fresh = Socket(AF_INET, SOCK_STREAM);
  signal(SIGPIPE, SIG_IGN);
  offset = 0;
  See("sendfile to an unconnected socket", sendfile(fresh, file, &offset, 10));
  See("offset", offset);
  shutdown(fd, SHUT_WR);
  See("sendfile after shutdown", sendfile(fd, file, &offset, 10));
  close(fresh);
  close(fd);

  fd = Connected("b", kPort + 1);
  SetNonblocking(fd);
  offset = 0;
  total = 0;
  int rounds = 0;
  while (offset < kSize && rounds < 10000) {
    put = sendfile(fd, file, &offset, (size_t)(kSize - offset));
    if (put > 0) {
      total += put;
    } else if (errno == EAGAIN) {
      if (rounds == 0) PeerMust("after 0 drain b");
      ++rounds;
      struct pollfd entry = {fd, POLLOUT, 0};
      poll(&entry, 1, 1000);
    } else {
      break;
    }
    if (total == kSize && rounds == 0) PeerMust("after 0 drain b");
  }
  See("non-blocking sendfile", total);
  close(fd);
  PeerMust("wait");
  close(file);
}

// A file on a disk, of which everything from `kept` on has to be read from there.
static void FromDisk(const char* name, int port, off_t kept) {
  char path[] = "/var/tmp/userstack-XXXXXX";
  int file = mkstemp(path);
  Must("mkstemp", file);
  unlink(path);
  char* data = malloc(kSize);
  Fill(data, kSize, 0, 2);
  // Page by page: what one write makes may be one piece of the page cache, which goes as a whole.
  for (int at = 0; at < kSize; at += 4096) Must("write", WriteAll(file, data + at, 4096));
  free(data);
  Must("fsync", fsync(file));
  posix_fadvise(file, kept, 0, POSIX_FADV_DONTNEED);
  int fd = Connected(name, port);
  PeerMust("after 0 recv %s %d", name, kSize);
  off_t offset = 0;
  long total = 0, put;
  while ((put = sendfile(fd, file, &offset, kSize)) > 0) total += put;
  See("sendfile from the disk", total);
  See("offset", offset);
  PeerMust("wait");
  Must("ftruncate", ftruncate(file, 5000));
  offset = 4000;
  See("what is left of a file that shrank", sendfile(fd, file, &offset, 10000));
  See("offset", offset);
  SeePeer("recv %s 1000", name);
  See("beyond its end", sendfile(fd, file, &offset, 10000));
  close(fd);
  close(file);
}

static void WithoutReading(void) {
  char path[] = "/var/tmp/userstack-XXXXXX";
  int file = mkstemp(path);
  Must("mkstemp", file);
  Must("write", write(file, "0123456789", 10));
  int blind = open(path, O_WRONLY);
  unlink(path);
  off_t offset = 0;
  int fd = Connected("f", kPort + 6);
  See("sendfile from a file that is not readable", sendfile(fd, blind, &offset, 10));
  int fresh = Socket(AF_INET, SOCK_STREAM);
  See("and to an unconnected socket", sendfile(fresh, blind, &offset, 10));
  See("sendfile from a directory", sendfile(fd, Must("open", open("/", O_RDONLY)), &offset, 10));
  See("offset", offset);
  See("sendfile of one byte", sendfile(fd, file, &offset, 1));
  See("offset", offset);
  See("sendfile of the rest", sendfile(fd, file, &offset, 100));
  SeePeer("recv f 10");
  close(fresh);
  close(fd);
  close(blind);
  close(file);
}

static void Splice(void) {
  int file = File();
  int pipes[2];
  char buffer[64];
  Must("pipe", pipe(pipes));
  int fd = Connected("c", kPort + 2);
  PeerMust("text c through the pipe");
  Await(fd, POLLIN);
  See("splice socket to pipe", splice(fd, NULL, pipes[1], NULL, 100, SPLICE_F_MOVE));
  SeeData("read the pipe", buffer, read(pipes[0], buffer, sizeof buffer));
  SetNonblocking(fd);
  See("splice an empty non-blocking socket", splice(fd, NULL, pipes[1], NULL, 100, 0));
  fcntl(fd, F_SETFL, 0);
  Must("write", write(pipes[1], "and back", 8));
  See("splice pipe to socket", splice(pipes[0], NULL, fd, NULL, 100, 0));
  SeePeer("recv c 8");
  loff_t offset = 0;
  See("splice with an offset on a socket", splice(fd, &offset, pipes[1], NULL, 100, 0));
  See("splice socket to socket", splice(fd, NULL, fd, NULL, 100, 0));
  See("splice file to socket", splice(file, NULL, fd, NULL, 100, 0));
  See("splice of nothing", splice(fd, NULL, pipes[1], NULL, 0, 0));
  // A file through a pipe to the socket, as a proxy does it.
  PeerMust("after 0 drain c");
  long total = 0, moved;
  while ((moved = splice(file, NULL, pipes[1], NULL, 65536, 0)) > 0) {
    while (moved > 0) {
      long put = splice(pipes[0], NULL, fd, NULL, (size_t)moved, SPLICE_F_MORE);
      if (put <= 0) break;
      moved -= put;
      total += put;
    }
  }
  See("spliced", total);
  shutdown(fd, SHUT_WR);
  PeerMust("wait");
  PeerMust("close c");
  See("splice at the end", splice(fd, NULL, pipes[1], NULL, 100, 0));
  close(fd);
  fd = Connected("d", kPort + 3);
  PeerMust("after 0 send d %d 8", kSize);
  uint32_t crc = 0;
  total = 0;
  static char chunk[65536];
  while (total < kSize && (moved = splice(fd, NULL, pipes[1], NULL, 65536, 0)) > 0) {
    total += moved;
    while (moved > 0) {
      ssize_t got = read(pipes[0], chunk, (size_t)moved);
      if (got <= 0) break;
      crc = Crc32(crc, chunk, (size_t)got);
      moved -= got;
    }
  }
  if (total < kSize) See("the last splice", moved);
  Note("spliced in: %ld crc %08x", total, crc);
  close(fd);
  close(pipes[0]);
  close(pipes[1]);
  close(file);
}

int main(void) {
  Sendfile();
  FromDisk("e", kPort + 4, 0);
  FromDisk("g", kPort + 5, kSize / 2);
  WithoutReading();
  Splice();
  return 0;
}
