// TwoStacks: two stacks in two arenas, joined by the in-memory wire. One thread, virtual time, no
// system call in the path: the same program gives the same instructions. What the benchmarks and
// the instruction counts drive.
//
// Owner: the benchmark. The arenas are reserved, not touched: memory is taken as a stack asks.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "backend/memory.h"
#include "netstack/stack/stack.h"

namespace userstack::bench {

struct TwoStacksOptions {
  size_t arena_bytes = size_t{256} << 20;
  bool offload = true;  // segments of up to 64 KiB, checksums left to the device
  size_t queue_frames = 8192;
};

// One stack and its end of the wire.
class End {
 public:
  End(int index, backend::Device& device, size_t arena_bytes);
  End(const End&) = delete;
  End& operator=(const End&) = delete;

  // Takes what the wire has, does what is due, sends. False when nothing moved.
  bool Turn(Instant now);

  // While set, what this stack does is counted: its calls, not the wire and not the benchmark
  // around them. In instructions when valgrind counts (--collect-atstart=no), and in time.
  void set_counted(bool counted) { counted_ = counted; }
  bool counted() const { return counted_; }
  double seconds() const { return seconds_; }

  Stack* operator->() const { return stack_; }
  Stack& operator*() const { return *stack_; }
  Arena& arena() const { return *arena_; }

 private:
  struct Unmap {
    size_t bytes;
    void operator()(uint8_t* memory) const;
  };

  backend::Device& device_;
  std::unique_ptr<uint8_t, Unmap> memory_;
  Arena* arena_ = nullptr;
  Stack* stack_ = nullptr;
  friend class Counted;
  bool counted_ = false;
  double seconds_ = 0;
};

// Counts while it lives, if `end` is counted.
class Counted {
 public:
  explicit Counted(End& end);
  Counted();  // always, without time
  ~Counted();
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;

 private:
  bool counted_ = true;
  End* end_ = nullptr;
  std::chrono::steady_clock::time_point began_;
};
// Under valgrind with --instr-atstart=no: from now on instructions are looked at one by one, which
// is slow. Once in a process.
void StartCounting();

class TwoStacks {
 public:
  explicit TwoStacks(const TwoStacksOptions& options = {});

  End& end(int index) { return index == 0 ? first_ : second_; }
  Instant now() const { return now_; }
  void Turn(int index);
  // Until nothing moves; a hundred microseconds of virtual time a turn.
  void Run();
  // Nothing but time passes.
  void Pass(Duration time) { now_ = now_ + time; }

  // Calls that cannot fail here: a failed Check otherwise.
  Socket* Open(int index, int type);
  Socket* Listen(int index, uint16_t port, int backlog);
  Socket* Bind(int index, int type, uint16_t port);
  Socket* Connect(int index, uint16_t port, int type = SOCK_STREAM);  // begins to connect
  void SetOption(int index, Socket& socket, int level, int name, int value);
  void Close(int index, Socket* socket);
  // nullptr when none is waiting.
  Socket* Accept(int index, Socket& listener);
  // Bytes moved; 0 when it would block.
  size_t Send(int index, Socket& socket, const void* bytes, size_t length);
  size_t Receive(int index, Socket& socket, void* bytes, size_t length);

 private:
  Instant now_{1'000'000'000};
  backend::MemoryWire wire_;
  End first_, second_;
};

// A pair of stream sockets: [0] was accepted by end 0, [1] connected from end 1; TCP_NODELAY.
struct StreamPair {
  Socket* sockets[2] = {};
};
StreamPair MakeStreamPair(TwoStacks& stacks, uint16_t port);

}  // namespace userstack::bench
