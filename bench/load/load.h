// The load program's parts: what the command line said, sockets, clocks, and one entry for each
// mode.
//
// The program is made of plain POSIX calls and knows nothing of the library: the same binary runs
// on the kernel and, with LD_PRELOAD, on the stack, so that a comparison compares the stacks alone.
// Every function ends the process with one line on stderr when a call fails that must not fail.

#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace userstack::load {

struct Options {
  std::string mode;
  std::string address = "127.0.0.1";
  int port = 7000;
  int ports = 1;                   // crr: as many consecutive ports are used in turn
  double seconds = 5;              // the time that counts
  double warmup = 0.5;             // the time before it
  size_t size = 0;                 // bytes of a call, request or datagram; 0: the mode's own
  size_t response = 0;             // rr, crr: bytes of an answer; 0: as the request
  int streams = 1;                 // bulk: connections, each with a thread
  int in_flight = 1;               // crr, rr, memcached: connections at a time
  int pipeline = 1;                // rr, memcached: requests outstanding on each connection
  int batch = 1;                   // udp: datagrams a call (sendmmsg, recvmmsg); 1: sendto, recv
  int mss = 0;                     // TCP_MAXSEG
  bool receive = false;            // bulk: the server sends
  bool blocking = false;           // echo-server: a thread for each connection, blocking calls
  bool close_after_reply = false;  // echo-server: the server's part of crr
  bool set = false;                // memcached: set instead of get
};

struct Address {
  sockaddr_storage storage{};
  socklen_t length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

// Nanoseconds of the monotonic clock.
int64_t Now();
int64_t Nanoseconds(double seconds);
// CPU time that the whole machine has spent so far, in seconds (/proc/stat): what the kernel does
// in softirq is charged to no process.
double MachineBusySeconds();

[[noreturn]] void Fail(const char* what);

Address Resolve(const std::string& address, int port);
int MakeSocket(const Options& options, const Address& address, int type);
// A listener on `port`; then says "ready" on stdout once, when it is the last (`announce`).
int Listen(const Options& options, int port, bool announce);
int Connect(const Options& options, int port);
void SetNoDelay(int fd);
void SetNonBlocking(int fd);
// All of it, by as many calls as it takes; false when the connection ended.
bool ReadAll(int fd, void* data, size_t size);
bool WriteAll(int fd, const void* data, size_t size);

int EchoServer(const Options& options);
int BulkServer(const Options& options);
int Bulk(const Options& options);
int PingPong(const Options& options);
int ConnectRequestResponse(const Options& options);
int RequestResponse(const Options& options);
int Memcached(const Options& options);
int UdpFlood(const Options& options);
int UdpSink(const Options& options);

}  // namespace userstack::load
