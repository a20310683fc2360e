// Half-close in both directions, end of stream, RST on close with unread data, reset by the peer,
// SIGPIPE and EPIPE.
#include "observe.h"

enum { kPort = 5020 };

static volatile sig_atomic_t pipes_seen;
static void OnPipe(int signal_number) {
  (void)signal_number;
  ++pipes_seen;
}

static void HalfCloseOurs(void) {
  int fd = Connected("a", kPort);
  char buffer[64];
  See("write", write(fd, "request", 7));
  See("shutdown WR", shutdown(fd, SHUT_WR));
  See("shutdown WR again", shutdown(fd, SHUT_WR));
  See("send after shutdown", send(fd, "x", 1, MSG_NOSIGNAL));
  SeePeer("drain a");
  PeerMust("text a answer");
  SeeData("read after shutdown WR", buffer, read(fd, buffer, sizeof buffer));
  PollOne("poll half closed", fd, POLLIN | POLLOUT | POLLRDHUP, 0);
  PeerMust("close a");
  PollOne("poll for the end", fd, POLLIN | POLLRDHUP, 5000);
  Await(fd, POLLHUP);
  PollOne("poll at the end", fd, POLLIN | POLLOUT | POLLRDHUP, 0);
  See("read at the end", read(fd, buffer, sizeof buffer));
  See("read at the end again", read(fd, buffer, sizeof buffer));
  See("shutdown of a closed connection", shutdown(fd, SHUT_RDWR));
  struct sockaddr_storage name;
  socklen_t length = sizeof name;
  See("getpeername of it", getpeername(fd, (struct sockaddr*)&name, &length));
  close(fd);
}

static void HalfCloseTheirs(void) {
  int fd = Connected("b", kPort + 1);
  char buffer[64];
  PeerMust("text b last words");
  PeerMust("shut b wr");
  Await(fd, POLLRDHUP);
  PollOne("peer half closed", fd, POLLIN | POLLOUT | POLLRDHUP, 5000);
  PollOne("without RDHUP asked", fd, POLLIN | POLLOUT, 0);
  SeeData("read the rest", buffer, read(fd, buffer, sizeof buffer));
  See("read the end", read(fd, buffer, sizeof buffer));
  See("recv with DONTWAIT at the end", recv(fd, buffer, 1, MSG_DONTWAIT));
  See("write to the half", write(fd, "still here", 10));
  SeePeer("recv b 10");
  See("shutdown RD", shutdown(fd, SHUT_RD));
  close(fd);
  SeePeer("drain b");
}

static void ShutdownRead(void) {
  int fd = Connected("c", kPort + 2);
  char buffer[64];
  See("shutdown RD", shutdown(fd, SHUT_RD));
  PollOne("poll after shutdown RD", fd, POLLIN | POLLOUT | POLLRDHUP, 0);
  See("read after shutdown RD", read(fd, buffer, sizeof buffer));
  PeerMust("text c late");
  Await(fd, POLLIN);
  usleep(100000);
  SeeData("data that came after SHUT_RD", buffer, read(fd, buffer, sizeof buffer));
  See("and then", read(fd, buffer, sizeof buffer));
  See("write after shutdown RD", write(fd, "ok", 2));
  SeePeer("recv c 2");
  close(fd);
}

static void CloseUnread(void) {
  int fd = Connected("d", kPort + 3);
  PeerMust("text d you will not read this");
  Await(fd, POLLIN);
  close(fd);
  SeePeer("drain d");
}

static void ResetByPeer(void) {
  int fd = Connected("e", kPort + 4);
  char buffer[64];
  PeerMust("reset e");
  Await(fd, POLLERR);
  PollOne("poll after a reset", fd, POLLIN | POLLOUT | POLLRDHUP, 0);
  See("read after a reset", read(fd, buffer, sizeof buffer));
  See("read again", read(fd, buffer, sizeof buffer));
  See("send after a reset", send(fd, "x", 1, MSG_NOSIGNAL));
  See("shutdown after a reset", shutdown(fd, SHUT_WR));
  close(fd);

  fd = Connected("f", kPort + 5);
  PeerMust("text f data first");
  Await(fd, POLLIN);
  PeerMust("reset f");
  Await(fd, POLLERR);
  SeeSocketError("reset with data waiting", fd);
  SeeData("read the data", buffer, read(fd, buffer, sizeof buffer));
  See("read on", read(fd, buffer, sizeof buffer));
  close(fd);

  fd = Connected("g", kPort + 6);
  PeerMust("reset g");
  Await(fd, POLLERR);
  See("send first after a reset", send(fd, "x", 1, MSG_NOSIGNAL));
  See("send second", send(fd, "x", 1, MSG_NOSIGNAL));
  close(fd);
}

static void Pipe(void) {
  struct sigaction action = {.sa_handler = OnPipe};
  sigaction(SIGPIPE, &action, NULL);
  int fd = Connected("h", kPort + 7);
  shutdown(fd, SHUT_WR);
  See("write after shutdown", write(fd, "x", 1));
  Note("signals: %d", (int)pipes_seen);
  See("send with MSG_NOSIGNAL", send(fd, "x", 1, MSG_NOSIGNAL));
  Note("signals: %d", (int)pipes_seen);
  struct iovec part = {"x", 1};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  See("sendmsg after shutdown", sendmsg(fd, &message, 0));
  Note("signals: %d", (int)pipes_seen);
  See("writev after shutdown", writev(fd, &part, 1));
  Note("signals: %d", (int)pipes_seen);
  See("write of nothing after shutdown", write(fd, "", 0));
  Note("signals: %d", (int)pipes_seen);
  close(fd);
  PeerMust("close h");
  // Blocked signals stay pending.
  sigset_t set, pending;
  sigemptyset(&set);
  sigaddset(&set, SIGPIPE);
  sigprocmask(SIG_BLOCK, &set, NULL);
  fd = Connected("i", kPort + 8);
  shutdown(fd, SHUT_WR);
  See("write with SIGPIPE blocked", write(fd, "x", 1));
  sigpending(&pending);
  SeeBool("SIGPIPE is pending", sigismember(&pending, SIGPIPE));
  Note("signals: %d", (int)pipes_seen);
  sigprocmask(SIG_UNBLOCK, &set, NULL);
  Note("signals: %d", (int)pipes_seen);
  close(fd);
  // The default action ends the process.
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    signal(SIGPIPE, SIG_DFL);
    int mine = Socket(AF_INET, SOCK_STREAM);
    ssize_t ignored = write(mine, "x", 1);
    (void)ignored;
    _exit(9);
  }
  int status = 0;
  waitpid(child, &status, 0);
  Note("default action: %s %d", WIFSIGNALED(status) ? "signal" : "exit",
       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

static void Misuse(void) {
  int fd = Socket(AF_INET, SOCK_STREAM);
  See("shutdown unconnected", shutdown(fd, SHUT_RDWR));
  See("shutdown with a bad how", shutdown(fd, 9));
  close(fd);
  See("shutdown of a bad number", shutdown(4444, SHUT_RD));
  See("shutdown of stdin's kind", shutdown(0, SHUT_RD));
  int listener = Listener(SELF4, kPort + 9, 4);
  See("shutdown RD of a listener", shutdown(listener, SHUT_RD));
  See("accept after it", accept(listener, NULL, NULL));
  PollOne("poll after it", listener, POLLIN | POLLOUT, 0);
  See("listen once more", listen(listener, 4));
  int accepted = Accepted(listener, "j", kPort + 9);
  SeeOk("accept works again", accepted);
  close(accepted);
  close(listener);
}

int main(void) {
  HalfCloseOurs();
  HalfCloseTheirs();
  ShutdownRead();
  CloseUnread();
  ResetByPeer();
  Pipe();
  Misuse();
  return 0;
}
