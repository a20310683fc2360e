// Host: one stack in an arena of ordinary memory, with its wire end and its applications.
// Everything a shim does for a process is done here in virtual time: input in batches, advance,
// output, and readiness by way of a watch set, so that a lost wake-up shows as a stalled
// application.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "netstack/stack/stack.h"
#include "tests/netstack/testing/wire_frame.h"

namespace userstack::testing {

class Application;
class Host;

struct HostOptions {
  std::string name = "host";
  size_t arena_bytes = size_t{64} << 20;
  StackConfig stack;
  DeviceCapabilities device;
  std::vector<Prefix> addresses;
  std::vector<IpAddress> gateways;
  Duration coalesce;              // input waits this long for more, and arrives as one batch
  bool merge_input = false;       // as GRO does, within one batch
  bool shuffle_delivery = false;  // vary how packets lie in buffers
  uint32_t forgeries = 0;         // chance, in ppm, of a forged copy before a frame (Forge)
  bool keeps_replies = false;     // now and then a turn ends with a held reply still waiting
  unsigned device_queues = 0;     // further queues of the device (DeviceQueues), as a TAP's
};

// What a host's driver saw of what only drivers see.
struct DriverCounts {
  uint64_t landed_bytes = 0;    // text that the device put where its reader wanted it
  uint64_t landed_in_part = 0;  // frames of which it had room for a part
  uint64_t wrong_guesses = 0;   // frames that overwrote such memory and were others
  uint64_t reserved_bytes = 0;
  uint64_t held_replies = 0, kept_replies = 0;  // kept: beyond the turn
  uint64_t queue_frames = 0;                    // that came by a queue of the device's further ones
  void Add(const DriverCounts& other);
};

// A socket with its watch. Applications hold a pointer to it until they call Host::Close.
struct SimSocket {
  Host* host = nullptr;
  Socket* socket = nullptr;
  Application* application = nullptr;
  Watch watch;
  bool closed = false;
  uint8_t* wanted_at = nullptr;  // a call waits for text, and this is its memory
  size_t wanted = 0;
};

class Application {
 public:
  virtual ~Application() = default;
  virtual void OnEvents(SimSocket& socket, EventMask events) = 0;
  virtual void OnTimer(uint64_t tag) { (void)tag; }
  // The call of `socket` that waits for text has looked at the device and goes on: it must ask for
  // its text before anything else.
  virtual void OnLooked(SimSocket& socket) { (void)socket; }
  virtual bool finished() const = 0;
  // What it waits for, for reports of a stall.
  virtual std::string Describe() const { return "application"; }
};

// Memory for an arena, zero-filled and page aligned; unmapped at the end.
class ArenaMemory {
 public:
  explicit ArenaMemory(size_t bytes);
  ~ArenaMemory();
  ArenaMemory(const ArenaMemory&) = delete;
  ArenaMemory& operator=(const ArenaMemory&) = delete;
  void* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  void* data_;
  size_t size_;
};

// What must return to where it was once all sockets are gone.
struct Usage {
  uint64_t buffer_bytes = 0;
  uint32_t packets = 0;
  uint32_t frames = 0;
  uint32_t sockets = 0;
  uint32_t queues = 0;  // of the device, that are some connection's
  bool operator==(const Usage&) const = default;
};

class Host {
 public:
  Host(const HostOptions& options, uint64_t seed, Instant now);

  const HostOptions& options() const { return options_; }
  const std::string& name() const { return options_.name; }
  Stack& stack() { return *stack_; }
  Core& core() { return stack_->core(); }
  Instant now() const { return now_; }
  const IpAddress& address(Family family) const;
  Usage usage();

  // --- sockets ---
  // nullptr with *error set when the call fails.
  SimSocket* Open(int domain, int type, Application* application, int* error = nullptr);
  SimSocket* Accept(SimSocket& listener, Application* application, int* error);
  void Close(SimSocket* socket);
  void SetInterest(SimSocket& socket, EventMask interest, uint8_t flags = 0);
  Status Bind(SimSocket& socket, const Endpoint& local);
  Status Connect(SimSocket& socket, const Endpoint& remote);
  Status Listen(SimSocket& socket, int backlog);
  Result<size_t> Send(SimSocket& socket, const void* data, size_t length, int flags = 0);
  Result<size_t> SendTo(SimSocket& socket, const void* data, size_t length, const Endpoint& to);
  Result<size_t> Receive(SimSocket& socket, void* data, size_t length, int flags = 0,
                         ReceivedMessage* message = nullptr);
  // A call waits for text, as a blocked recv does: until it withdraws, the thread that looks at the
  // device may be its, and then the device may put text into `memory` (Stack::OpenLanding).
  void WaitForText(SimSocket& socket, uint8_t* memory, size_t size);
  void Withdraw(SimSocket& socket);
  Result<SendSpace> ReserveSend(SimSocket& socket, size_t wanted);
  void CommitSend(SimSocket& socket, size_t filled);
  void SendCommitted(SimSocket& socket, bool more);
  void HoldReply(SimSocket& socket);
  Status Shutdown(SimSocket& socket, int how);
  Endpoint LocalName(SimSocket& socket);
  Endpoint PeerName(SimSocket& socket);
  Status SetOption(SimSocket& socket, int level, int name, int value);
  int GetOption(SimSocket& socket, int level, int name);

  // --- driven by the network ---
  void Enqueue(WireFrame frame);
  // A frame of the host's leaves by this queue of its device, and so what answers it comes by that.
  void NoteLeaves(const WireFrame& frame, unsigned queue);
  bool has_input() const;
  // Input, advance, applications until none has anything to do.
  void Run(Instant now);
  // Application calls outside Run (a timer, a test's own call) are bracketed by these.
  void EnterCall(Instant now) { now_ = now; }
  bool HasReadyApplications() { return HasReady(set_, core().wakes); }
  Frame* NextFrame();
  const DriverCounts& counts() const { return counts_; }
  uint64_t events_delivered() const { return events_delivered_; }

 private:
  SimSocket* Track(Socket* raw, Application* application);
  void TakeInput();
  size_t TakeBatch(SimSocket* caller, unsigned queue, size_t limit);
  void TurnQueues(SimSocket* caller);
  unsigned QueueToLookAt(const SimSocket* caller);
  Packet* TakeFrame(const WireFrame& frame);
  void Look();
  void AdvanceTo(Instant now);
  bool RunApplications();

  HostOptions options_;
  ArenaMemory memory_;
  Random random_;
  Stack* stack_ = nullptr;
  Instant now_;
  WatchSet set_;
  std::array<std::deque<WireFrame>, 1 + DeviceQueues::kMost> inboxes_;
  std::map<std::string, unsigned> flows_;  // what the device knows: by which queue one comes
  std::vector<std::unique_ptr<SimSocket>> sockets_;
  std::vector<SimSocket*> free_sockets_;
  std::vector<SimSocket*> waiting_;  // for text
  DriverCounts counts_;
  bool keep_ = false;
  uint64_t events_delivered_ = 0;
};

}  // namespace userstack::testing
