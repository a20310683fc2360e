// Carrying out a Scenario, and its laws.
#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <memory>

#include "netstack/base/check.h"
#include "tests/netstack/testing/crash_note.h"
#include "tests/sim/hoarder.h"
#include "tests/sim/scenario.h"

namespace userstack::testing {
namespace {

constexpr uint16_t kStreamPort = 80, kEchoPort = 7, kCrossedPort = 1000;
constexpr Duration kSettle = Duration::Seconds(5);       // address detection before the start
constexpr Duration kAftermath = Duration::Seconds(200);  // TIME_WAIT, reassembly, delayed frames

class Simulation {
 public:
  Simulation(const Scenario& scenario, bool live) : scenario_(scenario), net_(scenario.network) {
    if (live) net_.PrintLive();
  }

  Outcome Run() {
    BuildHosts();
    net_.RunFor(kSettle);
    for (size_t i = 0; i < net_.host_count(); ++i) before_.push_back(net_.host(i).usage());
    StartPrograms();
    StartPathChanges();
    StartHoarders();
    Drive();
    Finish();
    Outcome outcome;
    outcome.digest = net_.digest();
    outcome.frames = net_.frames();
    outcome.events = net_.events();
    outcome.timer_turns = net_.timer_turns();
    outcome.virtual_time = net_.now() - Instant{};
    uint64_t unresolved = 0;
    for (size_t i = 0; i < net_.host_count(); ++i) {
      const Counters& counters = net_.host(i).core().counters;
      outcome.retransmissions += counters.Get(Counter::kTcpRetransmittedSegments);
      outcome.timeouts += counters.Get(Counter::kTcpTimeouts);
      outcome.predicted += counters.Get(Counter::kTcpHeaderPredictions);
      outcome.window_probes += counters.Get(Counter::kTcpZeroWindowProbes);
      outcome.no_buffer += counters.Get(Counter::kDeviceInNoBuffer);
      outcome.driver.Add(net_.host(i).counts());
      unresolved += counters.Get(Counter::kNeighborQueueDrop);
    }
    // A SYN that datagrams pushed out of the queue for an unresolved neighbour never left.
    Check(!scenario_.quiet || outcome.retransmissions <= unresolved,
          "law: a quiet wire sees nothing twice");
    CountStreams(&outcome);
    for (const Hoarder* hoarder : hoarders_) outcome.refused += hoarder->refused();
    outcome.survivors = survivors_;
    outcome.path_changes = path_changes_;
    return outcome;
  }

 private:
  void CountStreams(Outcome* outcome) {
    for (size_t i = 0; i < pairs_.size(); ++i) {
      const StreamPair& pair = pairs_[i];
      const StreamPlan& plan = scenario_.streams[i].plan;
      if (pair.client->error() == ENOBUFS || pair.client->error() == ENOMEM) ++outcome->refused;
      outcome->bytes += pair.client->received() + pair.server->received();
      if (!pair.client->succeeded() || !pair.server->succeeded()) continue;
      outcome->crossed += plan.crossed ? 1 : 0;
      // Whoever answers after the end of the other was sent to by half a connection.
      outcome->half_closed_by_client += plan.server.wait_for_end && plan.server.bytes > 0 ? 1 : 0;
      outcome->half_closed_by_server += plan.client.wait_for_end && plan.client.bytes > 0 ? 1 : 0;
    }
  }

  void StartPathChanges() {
    for (size_t i = 0; i < scenario_.hosts.size(); ++i) {
      for (const auto& change : scenario_.hosts[i].path_changes) {
        net_.At(net_.now() + change.after, [this, i, mtu = change.mtu] {
          net_.up(i).impairment().path_mtu = mtu;
          ++path_changes_;
        });
      }
    }
  }

  void StartHoarders() {
    for (const Scenario::Hoard& hoard : scenario_.hoards) {
      // Law 7: what is open already has no excuse any more.
      const auto begins = [this] {
        for (const StreamPair& pair : pairs_) {
          if (!pair.client->open() || !pair.server->open()) continue;
          survivors_ += pair.client->may_fail() ? 1 : 0;
          pair.client->EndExcuses();
          pair.server->EndExcuses();
        }
      };
      auto& hoarder =
          net_.AddApplication<Hoarder>(&net_, &net_.host(hoard.host), std::move(begins));
      hoarder.Start(net_.now() + hoard.from, net_.now() + hoard.until);
      hoarders_.push_back(&hoarder);
    }
  }

  void BuildHosts() {
    for (const Scenario::HostPlan& plan : scenario_.hosts) {
      net_.AddHost(plan.options, plan.up, plan.down);
    }
  }

  StreamServer& ServerOf(size_t host, Family family) {
    auto& server = servers_[host * 2 + (family == Family::kIpv6 ? 1 : 0)];
    if (server == nullptr) {
      server = &net_.AddApplication<StreamServer>(
          &net_, &net_.host(host), family,
          static_cast<uint16_t>(kStreamPort + (family == Family::kIpv6 ? 1 : 0)),
          scenario_.backlog);
    }
    return *server;
  }

  DatagramEcho& EchoOf(size_t host, Family family) {
    auto& echo = echoes_[host * 2 + (family == Family::kIpv6 ? 1 : 0)];
    if (echo == nullptr) {
      echo = &net_.AddApplication<DatagramEcho>(
          &net_, &net_.host(host), family,
          static_cast<uint16_t>(kEchoPort + (family == Family::kIpv6 ? 1 : 0)));
    }
    return *echo;
  }

  void StartPrograms() {
    for (const Scenario::StreamEntry& entry : scenario_.streams) {
      const std::string name = "stream " + std::to_string(pairs_.size());
      if (entry.plan.crossed) {
        const auto port = static_cast<uint16_t>(kCrossedPort + pairs_.size());
        pairs_.push_back(StartCrossed(net_, net_.host(entry.client), net_.host(entry.server),
                                      entry.family, port, entry.plan, name));
        continue;
      }
      StreamServer& server = ServerOf(entry.server, entry.family);
      pairs_.push_back(
          StartStream(net_, net_.host(entry.client), server, entry.family, entry.plan, name));
    }
    for (const Scenario::DatagramEntry& entry : scenario_.datagrams) {
      DatagramEcho& echo = EchoOf(entry.server, entry.family);
      auto& client = net_.AddApplication<DatagramClient>(
          &net_, entry.plan, "datagrams " + std::to_string(clients_.size()));
      client.Start(net_.host(entry.client), entry.family, echo.endpoint());
      clients_.push_back(&client);
    }
    net_.NoteProgress();
    net_.Flush();
  }

  bool AllEnded() const {
    return std::all_of(pairs_.begin(), pairs_.end(),
                       [](const StreamPair& pair) { return pair.finished(); }) &&
           std::all_of(clients_.begin(), clients_.end(),
                       [](const DatagramClient* client) { return client->finished(); }) &&
           std::all_of(hoarders_.begin(), hoarders_.end(),
                       [](const Hoarder* hoarder) { return hoarder->finished(); });
  }

  // Who closes at once never learns that every answer to the SYN-ACK was lost and that the other
  // host gave up (Linux: tcp_synack_retries), and nobody learns that the last bytes and the FIN of
  // one who has closed were sent in vain until its host gave up (tcp_orphan_retries: 100 s, which
  // is three retransmissions when the round trip once looked long). Who waits for them, which
  // nothing can reach any more: one for each time that a host gave up. Nor does a client that says
  // nothing first learn that its ACK of the SYN-ACK was lost and the handshake given up.
  std::vector<const StreamSide*> AbandonUnheard() {
    std::vector<const StreamSide*> unheard;
    uint64_t gave_up = 0;
    for (size_t i = 0; i < net_.host_count(); ++i) {
      Stack& stack = net_.host(i).stack();
      if (stack.HasUnfinishedWork(false)) return unheard;
      gave_up += stack.core().counters.Get(Counter::kTcpAbortOnTimeout);
    }
    if (scenario_.quiet) return unheard;
    for (const StreamPair& pair : pairs_) {
      const bool silent = pair.client->sent() == 0 && pair.client->received() == 0;
      if (pair.client->open() && silent && !pair.server->taken()) {
        pair.client->Abandon();
        pair.server->Abandon();
        unheard.push_back(pair.client);
        continue;
      }
      for (const auto& [closer, waiter] :
           {std::pair{pair.client, pair.server}, std::pair{pair.server, pair.client}}) {
        if (!closer->finished() || waiter->finished()) continue;
        if (waiter->taken() ? gave_up == 0 : !closer->closes_at_once()) continue;
        if (waiter->taken()) --gave_up;
        waiter->Abandon();
        unheard.push_back(waiter);
      }
    }
    return unheard;
  }

  // Laws 1, 2 and 4.
  void Drive() {
    const Instant begin = net_.now();
    const bool ended = net_.RunUntil(
        [&] { return AllEnded() || net_.now() - net_.last_progress() > scenario_.stall; },
        scenario_.patience);
    if (!AllEnded()) {
      net_.Note(ended ? "nothing moved for too long" : "patience is over, or nothing is left");
      for (size_t i = 0; i < net_.host_count(); ++i) {
        Stack& stack = net_.host(i).stack();
        net_.Note("host " + net_.host(i).name() + ": unfinished work " +
                  std::to_string(stack.HasUnfinishedWork(false)) + ", with TIME-WAIT " +
                  std::to_string(stack.HasUnfinishedWork(true)));
      }
    }
    const std::vector<const StreamSide*> unheard = AbandonUnheard();
    Check(AllEnded(), "law: connections end within bounded virtual time");
    for (const StreamPair& pair : pairs_) {
      if (pair.client->succeeded() && pair.server->succeeded()) continue;
      const bool heard = std::none_of(unheard.begin(), unheard.end(), [&](const StreamSide* side) {
        return side == pair.server || side == pair.client;
      });
      if (!heard) continue;
      Check(pair.client->may_fail() && pair.server->may_fail(), "law: every byte arrives");
    }
    CheckTimers(net_.now() - begin);
  }

  void CheckTimers(Duration elapsed) {
    const uint64_t sockets = pairs_.size() * 2 + clients_.size() * 2 + 8;
    const auto seconds = static_cast<uint64_t>(elapsed.seconds()) + 1;
    // A busy connection may run a delayed acknowledgment, a retransmission and a probe many times a
    // second, but not thousands of times, and never more often than frames and ticks explain.
    const uint64_t bound = sockets * seconds * 200 + net_.frames() * 2 + 1000;
    Check(net_.timer_turns() <= bound, "law: no timer storm");
  }

  // Law 3.
  void Finish() {
    for (auto& [key, server] : servers_) server->Close();
    for (auto& [key, echo] : echoes_) echo->Close();
    net_.Flush();
    const uint64_t turns = net_.timer_turns();
    net_.RunFor(kAftermath);
    const uint64_t bound = (pairs_.size() * 2 + 20) * 60 +
                           static_cast<uint64_t>(kAftermath.seconds()) * 10 * net_.host_count();
    Check(net_.timer_turns() - turns <= bound, "law: no timer storm after the end");
    for (size_t i = 0; i < net_.host_count(); ++i) CheckClean(i);
  }

  void CheckClean(size_t index) {
    Host& host = net_.host(index);
    Check(!host.stack().HasUnfinishedWork(true), "law: no unfinished work is left");
    const Usage now = host.usage();
    if (!(now == before_[index])) {
      net_.Note("host " + host.name() + ": buffers " + std::to_string(now.buffer_bytes) + " (" +
                std::to_string(before_[index].buffer_bytes) + " before), packets " +
                std::to_string(now.packets) + " (" + std::to_string(before_[index].packets) +
                "), frames " + std::to_string(now.frames) + " (" +
                std::to_string(before_[index].frames) + "), sockets " +
                std::to_string(now.sockets));
    }
    Check(now.sockets == 0, "law: no socket is left");
    Check(now.frames <= before_[index].frames, "law: no frame is left");
    Check(now.packets <= before_[index].packets, "law: no packet is left");
    Check(now.buffer_bytes <= before_[index].buffer_bytes, "law: no buffer is left");
  }

  const Scenario& scenario_;
  Network net_;
  std::map<size_t, StreamServer*> servers_;
  std::map<size_t, DatagramEcho*> echoes_;
  std::vector<StreamPair> pairs_;
  std::vector<DatagramClient*> clients_;
  std::vector<Hoarder*> hoarders_;
  std::vector<Usage> before_;
  uint64_t survivors_ = 0, path_changes_ = 0;
};

}  // namespace

Outcome Simulate(const Scenario& scenario, bool live) {
  Simulation simulation(scenario, live);
  return simulation.Run();
}

}  // namespace userstack::testing
