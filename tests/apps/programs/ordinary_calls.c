/* Calls of every kind that the library hooks, between two marks that a tracer sees. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static void Mark(const char* text) {
  if (write(-1, text, strlen(text)) == 0) abort();
}
static void Ignore(long result) { (void)result; }

static void Limits(pid_t self) {
  struct rlimit limit;
  Ignore(getrlimit(RLIMIT_NOFILE, &limit));
  Ignore(setrlimit(RLIMIT_NOFILE, &limit));
  Ignore(prlimit(self, RLIMIT_NOFILE, NULL, &limit));
  Ignore(getrlimit(RLIMIT_AS, &limit));
  Ignore(setrlimit(RLIMIT_AS, &limit));
  Ignore(prlimit(self, RLIMIT_AS, &limit, &limit));
  Ignore(getrlimit(RLIMIT_CORE, &limit));
}

static void Sockets(void) {
  struct sockaddr_in address = {.sin_family = AF_INET};
  socklen_t size = sizeof address;
  char text[8] = "text";
  int one = 1;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  Ignore(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
  Ignore(bind(listener, (struct sockaddr*)&address, sizeof address));
  Ignore(getsockname(listener, (struct sockaddr*)&address, &size));
  Ignore(listen(listener, 4));
  int client = socket(AF_INET, SOCK_STREAM, 0);
  Ignore(connect(client, (struct sockaddr*)&address, sizeof address));
  int server = accept4(listener, (struct sockaddr*)&address, &size, SOCK_CLOEXEC);
  Ignore(setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
  Ignore(send(client, text, 4, 0));
  Ignore(recv(server, text, 4, 0));
  Ignore(write(server, text, 4));
  Ignore(read(client, text, 4));
  struct iovec part = {text, 4};
  Ignore(writev(client, &part, 1));
  Ignore(readv(server, &part, 1));
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  Ignore(sendmsg(client, &message, MSG_NOSIGNAL));
  Ignore(ioctl(server, FIONREAD, &one));
  Ignore(recvmsg(server, &message, MSG_DONTWAIT));
  struct pollfd watched = {client, POLLOUT, 0};
  Ignore(poll(&watched, 1, 0));
  fd_set set;
  struct timeval none = {0, 0};
  FD_ZERO(&set);
  FD_SET(client, &set);
  Ignore(select(client + 1, NULL, &set, NULL, &none));
  int queue = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLOUT};
  Ignore(epoll_ctl(queue, EPOLL_CTL_ADD, client, &event));
  Ignore(epoll_wait(queue, &event, 1, 0));
  Ignore(fcntl(client, F_SETFL, fcntl(client, F_GETFL) | O_NONBLOCK));
  int copy = dup(client);
  Ignore(dup2(copy, 40));
  Ignore(dup3(copy, 41, O_CLOEXEC));
  Ignore(shutdown(client, SHUT_WR));
  for (int i = 0; i < 2; ++i) Ignore(close(40 + i));
  Ignore(close(copy));
  Ignore(close(queue));
  Ignore(close(server));
  Ignore(close(client));
  Ignore(close(listener));
  Ignore(close_range(50, 60, 0));
}

static void Handler(int number) { (void)number; }

static void Processes(void) {
  struct sigaction action = {.sa_handler = Handler};
  Ignore(sigaction(SIGUSR1, &action, NULL));
  Ignore(signal(SIGUSR2, SIG_IGN) == SIG_ERR);
  int pair[2];
  Ignore(pipe2(pair, O_CLOEXEC));
  Ignore(write(pair[1], "x", 1));
  char byte;
  Ignore(read(pair[0], &byte, 1));
  int file = open("/proc/self/exe", O_RDONLY);
  off_t from = 0;
  Ignore(sendfile(pair[1], file, &from, 16));
  Ignore(close(file));
  Ignore(close(pair[0]));
  Ignore(close(pair[1]));
}

int main(void) {
  const pid_t self = getpid();
  Mark("begin");
  Limits(self);
  Sockets();
  Processes();
  Mark("end");
  return 0;
}
