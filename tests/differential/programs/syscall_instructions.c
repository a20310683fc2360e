// System calls made by the instruction itself, as Go and other runtimes make them: no symbol sees
// them.
#include "observe.h"

enum { kPort = 5310 };

static long Instruction(long number, long a, long b, long c) {
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c)
                   : "rcx", "r11", "memory");
  return result;
}

static void Instructions(void) {
  int fd = Connected("b", kPort + 1);
  char buffer[32];
  See("write by instruction", Instruction(SYS_write, fd, (long)"bare", 4));
  SeePeer("recv b 4");
  PeerMust("text b metal");
  Await(fd, POLLIN);
  SeeData("read by instruction", buffer, Instruction(SYS_read, fd, (long)buffer, sizeof buffer));
  See("close by instruction", Instruction(SYS_close, fd, 0, 0));
  SeePeer("drain b");
  int again = Socket(AF_INET, SOCK_STREAM);
  See("the number is reused", again == fd);
  SeeOk("and is fresh", Connect(again, PEER4, kPort + 2));
  close(again);
}

int main(void) {
  Instructions();
  return 0;
}
