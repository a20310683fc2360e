// Two whole stacks, a (10.0.0.1, fd00::1) and b (10.0.0.2, fd00::2), on a wire that the test can
// look at, and the sockets API in the kernel's convention: a count or -errno. Virtual time;
// CheckInvariants after every call.
#pragma once

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "netstack/stack/stack.h"
#include "tests/netstack/foundation/memory.h"
#include "tests/netstack/testing/wire_frame.h"

namespace userstack {

struct Name {  // a socket address, as bytes
  sockaddr_storage storage{};
  socklen_t length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};
// "10.0.0.1" or "fd00::1" or "fe80::1%2"; an empty text is AF_UNSPEC.
Name At(const std::string& address, uint16_t port);
// "10.0.0.1:80", "[fd00::1]:80", "[fe80::1%2]:80".
std::string ToText(const sockaddr_storage& storage);
IpAddress Parse(const std::string& address);

struct Node {
  explicit Node(size_t arena_bytes) : memory(arena_bytes) {}
  TestMemory memory;
  Stack* stack = nullptr;
};

struct Sock {
  Node* node = nullptr;
  Socket* raw = nullptr;
};

struct Datagram {
  long result = 0;  // bytes, as recvmsg returns them, or -errno
  std::string text;
  std::string from;
  int flags = 0;
  Ancillary ancillary;
};

class StackTest : public ::testing::Test {
 protected:
  struct Options {
    size_t arena_bytes = size_t{8} << 20;
    DeviceCapabilities device;
  };
  StackTest() { Build({}); }
  ~StackTest() override;
  void Build(const Options& options);

  Node& a() { return *a_; }
  Node& b() { return *b_; }
  Sock Open(Node& node, int domain, int type, int protocol = 0);
  Sock Udp4(Node& node) { return Open(node, AF_INET, SOCK_DGRAM); }
  Sock Udp6(Node& node) { return Open(node, AF_INET6, SOCK_DGRAM); }
  Sock Tcp4(Node& node) { return Open(node, AF_INET, SOCK_STREAM); }
  Sock Tcp6(Node& node) { return Open(node, AF_INET6, SOCK_STREAM); }
  int OpenError(Node& node, int domain, int type, int protocol);
  void Close(Sock* socket);

  long Bind(const Sock& s, const Name& name);
  long Connect(const Sock& s, const Name& name);
  long Listen(const Sock& s, int backlog = 8);
  long Accept(const Sock& s, Sock* out);
  long Send(const Sock& s, const std::string& text, int flags = 0,
            const Ancillary* ancillary = nullptr);
  long SendTo(const Sock& s, const std::string& text, const Name& to, int flags = 0,
              const Ancillary* ancillary = nullptr);
  Datagram Receive(const Sock& s, int flags = MSG_DONTWAIT, size_t limit = 70000);
  long Shutdown(const Sock& s, int how);
  std::string LocalName(const Sock& s);
  std::string PeerName(const Sock& s);  // or "ENOTCONN"
  long Set(const Sock& s, int level, int name, int value);
  long SetBytes(const Sock& s, int level, int name, const void* value, size_t length);
  int Get(const Sock& s, int level, int name);  // the value, or -errno
  EventMask Events(const Sock& s) { return s.raw->pollable.level; }

  // Everything that wants to happen now: input, loopback, output of both stacks.
  void Pump();
  // Lets time pass, stopping at every deadline.
  void Run(Duration duration);
  Instant now() const { return now_; }
  // The wire: every frame that `node` sent since the last call of the same.
  std::vector<std::vector<uint8_t>> TakeFrames(Node& node);
  // What the wire loses.
  std::function<bool(const testing::WireFrame&)> lose_;
  // False: frames stay in the stacks' queues (a busy device).
  bool wire_runs_ = true;

 private:
  bool Carry(Node& from, Node& to, std::vector<std::vector<uint8_t>>* seen);
  void Check();

  Instant now_{1'000'000'000};
  std::unique_ptr<Node> a_, b_;
  std::vector<std::vector<uint8_t>> seen_a_, seen_b_;
};

}  // namespace userstack
