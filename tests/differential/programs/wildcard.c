// A program that serves the wildcard address and is its own client over loopback: TCP and UDP, from
// the same process and from another one, by every address that leads to itself.
#include "observe.h"

enum { kPort = 5830 };

static int Family(const char* address) { return strchr(address, ':') ? AF_INET6 : AF_INET; }

static void SeeName(const char* what, int fd, bool peer) {
  struct sockaddr_storage name;
  socklen_t length = sizeof name;
  long result = peer ? getpeername(fd, (struct sockaddr*)&name, &length)
                     : getsockname(fd, (struct sockaddr*)&name, &length);
  SeeAddress(what, &name, result, length, false);
}

static void Stream(const char* server, const char* client, int port) {
  Note("-- a stream to %s, served at %s", client, server);
  int listener = Listener(server, port, 4);
  int fd = Socket(Family(client), SOCK_STREAM);
  if (SeeOk("connect", Connect(fd, client, port)) == 0) {
    int accepted = (int)Must("accept", accept(listener, NULL, NULL));
    SeeName("peer of the client", fd, true);
    SeeName("name of the server", accepted, false);
    char buffer[16];
    See("write", write(fd, "there", 5));
    SeeData("read", buffer, ReadAll(accepted, buffer, 5));
    See("write", write(accepted, "back", 4));
    SeeData("read", buffer, ReadAll(fd, buffer, 4));
    close(accepted);
    See("end", read(fd, buffer, 1));
  }
  close(fd);
  close(listener);
  fd = Socket(Family(client), SOCK_STREAM);
  SeeOk("when nobody listens any more", Connect(fd, client, port));
  close(fd);
}

// The client binds to a port of the wildcard first, as source_address=("", port) does.
static void BoundClient(void) {
  Note("-- a client with a port of its own");
  int listener = Listener("0.0.0.0", kPort + 20, 4);
  int fd = Socket(AF_INET, SOCK_STREAM);
  SetInt(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  Must("bind", Bind(fd, "0.0.0.0", kPort + 21));
  SeeOk("connect", Connect(fd, "127.0.0.1", kPort + 20));
  SeeName("name", fd, false);
  close(fd);
  close(listener);
}

static void OtherProcess(void) {
  Note("-- a client in another process");
  int listener = Listener("0.0.0.0", kPort + 22, 4);
  pid_t child = fork();
  if (child == 0) {
    close(listener);
    int fd = Socket(AF_INET, SOCK_STREAM);
    if (Connect(fd, "127.0.0.1", kPort + 22) != 0) _exit(1);
    char byte = 0;
    if (read(fd, &byte, 1) != 1) _exit(2);
    _exit(byte == 'y' ? 0 : 3);
  }
  struct pollfd entry = {listener, POLLIN, 0};
  if (poll(&entry, 1, 3000) == 1) {
    int accepted = (int)Must("accept", accept(listener, NULL, NULL));
    See("write", write(accepted, "y", 1));
    close(accepted);
  }
  int status = 0;
  waitpid(child, &status, 0);
  Note("the child: %d", WEXITSTATUS(status));
  close(listener);
}

static void Datagrams(const char* server, const char* client, int port, bool connected) {
  Note("-- datagrams to %s, served at %s%s", client, server, connected ? ", connected" : "");
  int a = Socket(Family(server), SOCK_DGRAM), b = Socket(Family(client), SOCK_DGRAM);
  Must("bind", Bind(a, server, port));
  struct sockaddr_storage to, from;
  socklen_t length = Address(&to, client, port), from_length = sizeof from;
  char buffer[32];
  if (connected) {
    SeeOk("connect", connect(b, (struct sockaddr*)&to, length));
    See("send", send(b, "question", 8, 0));
  } else {
    See("sendto", sendto(b, "question", 8, 0, (struct sockaddr*)&to, length));
  }
  struct pollfd entry = {a, POLLIN, 0};
  if (poll(&entry, 1, 2000) == 1) {
    SeeData("recvfrom", buffer,
            recvfrom(a, buffer, sizeof buffer, 0, (struct sockaddr*)&from, &from_length));
    See("answer", sendto(a, "answer", 6, 0, (struct sockaddr*)&from, from_length));
    entry.fd = b;
    if (poll(&entry, 1, 2000) == 1) SeeData("recv", buffer, recv(b, buffer, sizeof buffer, 0));
  } else {
    Note("nothing came");
  }
  close(a);
  close(b);
}

int main(void) {
  Stream("0.0.0.0", "127.0.0.1", kPort);
  Stream("0.0.0.0", "127.1.2.3", kPort + 1);
  Stream("::", "::1", kPort + 2);
  Stream("::", "127.0.0.1", kPort + 3);
  Stream("0.0.0.0", SELF4, kPort + 4);
  Stream("127.0.0.1", "127.0.0.1", kPort + 5);
  BoundClient();
  OtherProcess();
  Datagrams("0.0.0.0", "127.0.0.1", kPort + 6, false);
  Datagrams("0.0.0.0", "127.0.0.1", kPort + 7, true);
  Datagrams("::", "::1", kPort + 8, false);
  Datagrams("::", "::1", kPort + 9, true);
  Datagrams("::", "127.0.0.1", kPort + 10, true);
  Datagrams("127.0.0.1", "127.0.0.1", kPort + 11, false);
  return 0;
}
