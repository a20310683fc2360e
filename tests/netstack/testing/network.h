// Network: hosts on one Ethernet segment, in virtual time. Each host has a link up to the segment
// and a link down from it, each with its own impairment. Events are ordered by (time, sequence), so
// the same seed gives the same trace, byte for byte.
//
// Laws that are checked throughout: every stack's invariants (after every event, or every
// `check_every` events); frames are well formed, no longer than the MTU, and their checksums right;
// no host asks to be woken for ever without virtual time moving on.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/netstack/testing/crash_note.h"
#include "tests/netstack/testing/host.h"
#include "tests/netstack/testing/impairment.h"
#include "tests/netstack/testing/printer.h"

namespace userstack::testing {

struct NetworkOptions {
  uint64_t seed = 1;
  uint64_t check_every = 1;    // events between two CheckInvariants; 0: only at the end of Run
  size_t trace_frames = 4000;  // the last so many frames are kept for printing
  bool verify_frames = true;   // checksums and lengths of all that hosts send
  bool pass_large = false;     // links carry frames with segmentation whole, as TAP does
  bool flood = false;          // unicast reaches every host, as on a hub
};

class Network {
 public:
  explicit Network(const NetworkOptions& options);

  // `up` impairs what the host sends, `down` what it receives.
  Host& AddHost(const HostOptions& options, const Impairment& up = {}, const Impairment& down = {});
  size_t host_count() const { return ports_.size(); }
  Host& host(size_t index) { return *ports_[index]->host; }
  Link& up(size_t index) { return ports_[index]->up; }
  Link& down(size_t index) { return ports_[index]->down; }

  template <typename App, typename... Args>
  App& AddApplication(Args&&... args) {
    auto owned = std::make_unique<App>(std::forward<Args>(args)...);
    App& application = *owned;
    applications_.push_back(std::move(owned));
    return application;
  }
  bool AllFinished() const;

  Instant now() const { return now_; }
  Random& random() { return random_; }
  // Calls `application->OnTimer(tag)` at `at`, in a turn of `host`.
  void StartTimer(Host& host, Application* application, uint64_t tag, Instant at);
  // Calls `action` at `at`; it may call hosts (they are run afterwards).
  void At(Instant at, std::function<void()> action);
  // Runs the hosts after calls made from outside.
  void Flush();
  // Puts a frame on the segment as if some station had sent it; it reaches `to` after its down
  // link.
  void Inject(Host& to, std::vector<uint8_t> bytes);

  // One event instant. False when nothing is left to happen.
  bool Step();
  void RunFor(Duration duration) { RunUntilTime(now_ + duration); }
  void RunUntilTime(Instant until);
  // False when `limit` passed or nothing was left to happen before `done` held.
  bool RunUntil(const std::function<bool()>& done, Duration limit);

  // Applications call this whenever they got something done.
  void NoteProgress() { last_progress_ = now_; }
  Instant last_progress() const { return last_progress_; }

  uint64_t digest() const { return digest_; }
  uint64_t events() const { return events_; }
  uint64_t frames() const { return frames_; }
  // Times a host ran for its deadline alone.
  uint64_t timer_turns() const { return timer_turns_; }
  // The last frames as tcpdump prints them, with what became of each.
  std::string Trace();
  std::string DescribeApplications() const;
  // Adds a line to the trace.
  void Note(const std::string& text);
  // Keeps every frame for Trace from now on and prints each to stderr as it happens.
  void PrintLive() { live_ = true; }
  void CheckInvariants();

 private:
  struct Port {
    Port(const Impairment& u, const Impairment& d, uint64_t seed)
        : up(u, seed * 2 + 1), down(d, seed * 2 + 2) {}
    std::unique_ptr<Host> host;
    Link up, down;
    bool dirty = false;
    Instant run_at = Instant::Never();  // coalesced input
    Instant blocked_until;              // the up link refused a frame
    uint64_t idle_turns = 0;            // turns for a deadline at the same instant
    Instant last_turn;
  };
  enum class EventKind : uint8_t { kSegment, kArrive, kTimer, kAction, kUnblock };
  struct Event {
    EventKind kind;
    size_t port = 0;
    WireFrame frame;
    Application* application = nullptr;
    uint64_t tag = 0;
    std::function<void()> action;
  };
  struct Scheduled {
    Instant at;
    uint64_t sequence;
    uint32_t slot;
    bool operator<(const Scheduled& o) const {  // for a max-heap: later is less
      return at != o.at ? at > o.at : sequence > o.sequence;
    }
  };
  struct TraceEntry {
    Instant at;
    std::string note;  // when not a frame
    std::vector<uint8_t> head;
    uint32_t length = 0;
    Offload offload;
    size_t port = 0;
    LinkFate fate = LinkFate::kSent;
    size_t copies = 1;
  };

  void PrintState();
  void Schedule(Instant at, Event event);
  Instant NextTime();
  void Dispatch(Event& event);
  void RunPort(size_t index);
  void DrainOutput(size_t index);
  void Transmit(size_t index, WireFrame frame);
  void Up(size_t index, const WireFrame& frame);
  void Forward(size_t from, WireFrame frame);
  void Down(size_t to, const WireFrame& frame);
  void Arrive(size_t to, WireFrame frame);
  bool PassesPathMtu(size_t from, const WireFrame& frame, std::vector<WireFrame>* out);
  void AnswerTooBig(size_t from, const WireFrame& frame, uint32_t mtu);
  void VerifyFrame(size_t index, const WireFrame& frame);
  void Record(size_t port, const WireFrame& frame, LinkFate fate, size_t copies);
  void Digest(const void* bytes, size_t length);

  NetworkOptions options_;
  Random random_;
  Instant now_;
  Instant last_progress_;
  std::vector<std::unique_ptr<Application>> applications_;
  std::vector<std::unique_ptr<Port>> ports_;
  std::vector<Scheduled> heap_;
  std::vector<Event> slots_;
  std::vector<uint32_t> free_slots_;
  uint64_t sequence_ = 0;
  uint64_t digest_ = 0xcbf29ce484222325ull;
  uint64_t events_ = 0;
  uint64_t frames_ = 0;
  uint64_t timer_turns_ = 0;
  uint64_t since_check_ = 0;
  uint32_t fragment_id_ = 1;
  std::deque<TraceEntry> trace_;
  Printer live_printer_;
  bool live_ = false;
  CrashNote note_;
};

}  // namespace userstack::testing
