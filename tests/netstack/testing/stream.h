// Streams: programs that talk TCP over a Stack's socket calls, by a plan. Each side sends the bytes
// of a content stream and checks what it receives against its peer's, byte for byte; a byte that is
// wrong, missing or in excess fails at once, with the exchange printed.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tests/netstack/testing/network.h"

namespace userstack::testing {

// How a side ends its part.
enum class EndStyle : uint8_t {
  kShutdown,       // shutdown(SHUT_WR) after the last byte, close at the peer's end of stream
  kCloseAfterEnd,  // no shutdown: closes when all is written and the peer's end of stream was read
  kCloseAtOnce,    // close() right after the last byte; the peer must send nothing
  kAbort,  // SO_LINGER 0 and close() after `bytes`: a reset, which the plan calls `may_fail`
};

struct SidePlan {
  uint64_t stream = 0;  // content of what this side sends
  uint64_t bytes = 0;   // how many of them
  EndStyle end = EndStyle::kShutdown;
  uint32_t write_max = 16384;  // each call takes 1..max bytes
  uint32_t read_max = 16384;
  bool exact_sizes = false;  // always `max` bytes a call, for bulk
  uint32_t write_pause = 0;  // chance, in parts per million, to pause after a call
  uint32_t read_pause = 0;
  Duration pause_max = Duration::Milliseconds(50);
  Duration read_delay;        // reads nothing for so long after the connection is made
  uint32_t turn_bytes = 0;    // request and response: sends so many, waits for so many
  bool wait_for_end = false;  // sends only after the peer's end of stream
  bool edge = false;          // EPOLLET
  bool no_delay = false;
  bool cork = false;    // corks at the start, uncorks at the end
  uint32_t more = 0;    // chance of MSG_MORE
  uint32_t peek = 0;    // chance of a MSG_PEEK before a read
  uint32_t urgent = 0;  // chance of MSG_OOB; the receiver has SO_OOBINLINE
  int send_buffer = 0, receive_buffer = 0;
  bool waits = false;    // a read that finds nothing waits, and text may land in its memory
  uint32_t reserve = 0;  // chance that a write goes into the stack's own memory, as sendfile's
  uint32_t hold = 0;     // chance that the last write is held for the close (Stack::HoldReply)
};

struct StreamPlan {
  SidePlan client, server;
  Duration start;         // after the scenario's start
  bool crossed = false;   // both ends connect, nobody listens
  bool may_fail = false;  // a reset or a timeout is no violation; wrong bytes still are
  std::string Describe() const;
};

class StreamSide : public Application {
 public:
  StreamSide(Network* network, const SidePlan& plan, const SidePlan& peer, bool initiator,
             bool may_fail, std::string name);

  // Client: opens and connects, at once; `connecting` hears of each local endpoint before anything
  // arrives. Where the network loses frames a neighbour or a peer may not be found (EHOSTUNREACH,
  // ETIMEDOUT): it tries again, as programs do. Server: takes an accepted socket.
  void Connect(Host& host, Family family, const Endpoint& remote,
               std::function<void(const Endpoint&)> connecting = nullptr);
  void Take(SimSocket* socket);
  // Both ends connect, each from its own `port`: a simultaneous open. Who comes too early for the
  // other is refused, and tries again.
  void ConnectCrossed(Host& host, Family family, uint16_t port, const Endpoint& remote);
  // The other end of the stream, before either connects.
  void FaceTo(StreamSide* other) { other_ = other; }
  // From now on a connection that is open may not fail.
  void EndExcuses() { may_fail_ = may_fail_ && !open(); }
  bool may_fail() const { return may_fail_; }
  bool open() const { return connected_ && !closed_; }

  void OnEvents(SimSocket& socket, EventMask events) override;
  void OnTimer(uint64_t tag) override;
  void OnLooked(SimSocket& socket) override;
  bool finished() const override { return closed_; }
  std::string Describe() const override;
  // The peer is gone before it was accepted: nothing to do any more.
  void Abandon();
  bool taken() const { return host_ != nullptr; }
  bool closes_at_once() const { return plan_.end == EndStyle::kCloseAtOnce; }

  // Everything sent, everything received, end of stream seen, closed without an error.
  bool succeeded() const;
  int error() const { return error_; }
  uint64_t received() const { return received_; }
  uint64_t sent() const { return sent_; }
  SimSocket* socket() { return socket_; }
  const Endpoint& local() const { return local_; }

 private:
  bool Chance(uint32_t ppm) { return ppm != 0 && random_.Below(kMillion) < ppm; }
  uint32_t Size(uint32_t max);
  void SetUp();
  void TryConnect();
  bool RetryConnect(int error);
  Instant NextAttempt() const;
  bool OtherGaveUp() const;
  void FinishConnect();
  void Work();
  bool ReadSome();   // false: nothing more can be read now
  bool WriteSome();  // false: nothing more can be written now
  Result<size_t> Put(uint32_t n, int flags);
  Result<size_t> PutReserved(uint32_t n, int flags);
  Result<size_t> Get(uint32_t want);
  void EndWait();
  void EndWriting();
  void CloseIfDone();
  void Close();
  void Fail(int error);
  void Violate(const std::string& what);
  uint64_t Allowance() const;
  void UpdateInterest();
  void Pause(bool* paused, uint64_t tag, Duration duration);

  Network* network_;
  SidePlan plan_, peer_;
  bool initiator_, may_fail_;
  std::string name_;
  Random random_;
  Host* host_ = nullptr;
  SimSocket* socket_ = nullptr;
  Endpoint local_;
  Family family_ = Family::kIpv4;
  Endpoint remote_;
  std::function<void(const Endpoint&)> connecting_;
  int attempts_ = 0;
  uint16_t crossed_port_ = 0;  // of a simultaneous open; 0: none
  StreamSide* other_ = nullptr;
  uint64_t given_up_at_close_ = 0;  // connections that the host had given up when this one closed
  uint64_t sent_ = 0, received_ = 0;
  bool connected_ = false, ended_ = false, end_seen_ = false, closed_ = false;
  bool read_paused_ = false, write_paused_ = false;
  int error_ = 0;
  std::vector<uint8_t> buffer_;
  // Of a side that waits: what its calls read into; nobody else may write there, and what is not
  // being read into keeps its filling.
  std::vector<uint8_t> memory_;
  uint32_t wanted_ = 0;  // by the call that waits; 0: none does
};

// Listens, and pairs what it accepts with the plans that clients registered by their local
// endpoint.
class StreamServer : public Application {
 public:
  StreamServer(Network* network, Host* host, Family family, uint16_t port, int backlog);
  // The sides of a plan. The client connects after plan.start; call order decides names.
  void Expect(const Endpoint& client, StreamSide* side) { expected_[Key(client)] = side; }
  void OnEvents(SimSocket& socket, EventMask events) override;
  void OnTimer(uint64_t tag) override;  // memory may be back: accepts again
  bool finished() const override { return true; }
  std::string Describe() const override { return "server"; }
  Endpoint endpoint() const;
  uint64_t accepted() const { return accepted_; }
  void Close();

 private:
  using EndpointKey = std::pair<std::string, uint16_t>;
  static EndpointKey Key(const Endpoint& e) { return {FormatAddress(e.address), e.port}; }

  Network* network_;
  Host* host_;
  Family family_;
  uint16_t port_;
  SimSocket* listener_ = nullptr;
  std::map<EndpointKey, StreamSide*> expected_;
  uint64_t accepted_ = 0;
};

// One plan from start to end: adds both sides to the network, and connects at plan.start.
struct StreamPair {
  StreamSide* client = nullptr;
  StreamSide* server = nullptr;
  // Both sides are done. A server side whose client failed before it was accepted counts as done.
  bool finished() const;
};
StreamPair StartCrossed(Network& network, Host& client, Host& server, Family family, uint16_t port,
                        const StreamPlan& plan, const std::string& name);
StreamPair StartStream(Network& network, Host& client, StreamServer& server, Family family,
                       const StreamPlan& plan, const std::string& name);

}  // namespace userstack::testing
