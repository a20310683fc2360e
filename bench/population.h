// Population: very many established connections between two stacks, each with everything that a
// wrapped epoll server or client keeps of it: the socket, its description and slot (shim/shared.h),
// its watch in an epoll set. All of it in the two arenas, so that the growth of an arena is what a
// connection costs.
//
// Owner: the benchmark. Invariant: connection i is sockets i of both ends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bench/two_stacks.h"
#include "netstack/base/random.h"
#include "shim/shared.h"

namespace userstack::bench {

class Population {
 public:
  // `most` connections at the most.
  Population(TwoStacks& stacks, size_t most);

  size_t size() const { return ends_[0].sockets.size(); }
  // Connects until there are `count`; each then asks and is answered once.
  void GrowTo(size_t count);
  // The pieces of GrowTo and of what a benchmark measures.
  void ConnectSome(size_t count);
  // A request of 100 bytes and its answer over connection i, found through epoll at both ends.
  void Exchange(size_t i);
  // Closes connection i at both ends, the client's first, and connects another in its place.
  void Replace(size_t i);
  size_t RandomIndex() { return random_.Below(size()); }
  // Delayed acknowledgments and whatever else is under way come to rest.
  void Settle();
  Socket& socket(int end, size_t i) { return *ends_[end].sockets[i]; }

 private:
  // What the shim keeps in one end's arena.
  struct Program {
    std::vector<Socket*> sockets;
    Pool<shim::Description> descriptions;
    List<shim::Description, &shim::Description::node> all_descriptions;
    Pool<Watch> watches;
    shim::Slot* slots = nullptr;
    WatchSet* epoll = nullptr;
  };
  void Adopt(int end, Socket* socket, size_t i);
  void Drop(int end, size_t i);
  // The one connection that epoll finds readable at `end`.
  size_t Harvested(int end);
  // Both ends of what was begun from the client; the order of arrival is that of the requests.
  void FinishConnecting(const std::vector<Socket*>& clients, const std::vector<size_t>& places);
  Socket& ListenerFor(size_t i);

  TwoStacks& stacks_;
  Random random_{1};
  Program ends_[2];
  std::vector<Socket*> listeners_;
};

}  // namespace userstack::bench
