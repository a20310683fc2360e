#include "bench/population.h"

#include <algorithm>

#include "netstack/base/check.h"

namespace userstack::bench {
namespace {

constexpr uint16_t kFirstPort = 1000;
constexpr size_t kPerPort = 25'000;  // of 28,232 ephemeral ports
constexpr size_t kBatch = 512;
constexpr size_t kMessage = 100;

}  // namespace

Population::Population(TwoStacks& stacks, size_t most) : stacks_(stacks) {
  for (int i = 0; i < 2; ++i) {
    Program& program = ends_[i];
    Arena& arena = stacks.end(i).arena();
    program.descriptions.Initialize(&arena, 1u << 21);
    program.watches.Initialize(&arena, 1u << 21);
    program.slots =
        static_cast<shim::Slot*>(arena.Allocate(most * sizeof(shim::Slot), alignof(shim::Slot)));
    void* set = arena.Allocate(sizeof(WatchSet), alignof(WatchSet));
    Check(program.slots != nullptr && set != nullptr, "bench: arena too small");
    program.epoll = new (set) WatchSet;
    program.sockets.reserve(most);
  }
  for (size_t i = 0; i < (most + kPerPort - 1) / kPerPort; ++i) {
    listeners_.push_back(stacks.Listen(0, static_cast<uint16_t>(kFirstPort + i), 4096));
  }
}

Socket& Population::ListenerFor(size_t i) { return *listeners_[i / kPerPort]; }

void Population::Adopt(int end, Socket* socket, size_t i) {
  Program& program = ends_[end];
  shim::Description* description = program.descriptions.New();
  Watch* watch = program.watches.New();
  Check(description != nullptr && watch != nullptr, "bench: arena too small");
  description->socket = socket;
  description->references = 1;
  program.all_descriptions.PushBack(description);
  program.slots[i].description.store(description, std::memory_order_relaxed);
  watch->target = &socket->pollable;
  watch->set = program.epoll;
  watch->interest = kEventIn;
  watch->descriptor = static_cast<int>(i);
  Attach(*watch, stacks_.end(end)->core().wakes);
  if (i == program.sockets.size()) {
    program.sockets.push_back(socket);
  } else {
    program.sockets[i] = socket;
  }
}

void Population::Drop(int end, size_t i) {
  Program& program = ends_[end];
  Socket* socket = program.sockets[i];
  Watch* watch = socket->pollable.watches.front();
  Detach(*watch, stacks_.end(end)->core().wakes);
  program.watches.Delete(watch);
  stacks_.Close(end, socket);
  shim::Description* description = program.slots[i].description.exchange(nullptr);
  description->node.Unlink();
  program.descriptions.Delete(description);
}

void Population::FinishConnecting(const std::vector<Socket*>& clients,
                                  const std::vector<size_t>& places) {
  stacks_.Run();
  for (size_t n = 0; n < clients.size(); ++n) {
    Socket* server = stacks_.Accept(0, ListenerFor(places[n]));
    Check(server != nullptr, "bench: a connection is missing");
    Check(server->tcp->tuple.remote_port == clients[n]->tcp->tuple.local_port,
          "bench: accepted out of order");
    Adopt(0, server, places[n]);
    Adopt(1, clients[n], places[n]);
  }
}

void Population::ConnectSome(size_t count) {
  std::vector<Socket*> clients;
  std::vector<size_t> places;
  for (const size_t end = size() + count; size() < end;) {
    clients.clear();
    places.clear();
    // The first one goes alone, because the neighbour is not known yet.
    const size_t batch = size() == 0 ? 1 : kBatch;
    for (size_t i = size(); i < std::min(end, size() + batch); ++i) {
      clients.push_back(stacks_.Connect(1, static_cast<uint16_t>(kFirstPort + i / kPerPort)));
      places.push_back(i);
    }
    FinishConnecting(clients, places);
  }
}

void Population::GrowTo(size_t count) {
  const size_t before = size();
  ConnectSome(count - before);
  for (size_t i = before; i < count; ++i) Exchange(i);
  Settle();
}

size_t Population::Harvested(int end) {
  EventMask events = 0;
  Counted counted(stacks_.end(end));
  const Watch* watch = Harvest(*ends_[end].epoll, &events, stacks_.end(end)->core().wakes);
  Check(watch != nullptr, "bench: nothing is ready");
  return static_cast<size_t>(watch->descriptor);
}

void Population::Exchange(size_t i) {
  uint8_t bytes[kMessage] = {};
  for (const int from : {1, 0}) {
    const int to = 1 - from;
    Check(stacks_.Send(from, socket(from, i), bytes, kMessage) == kMessage, "bench: send");
    stacks_.Turn(from);
    stacks_.Turn(to);
    Check(Harvested(to) == i, "bench: another one is ready");
    Check(stacks_.Receive(to, socket(to, i), bytes, kMessage) == kMessage, "bench: receive");
  }
}

void Population::Replace(size_t i) {
  Drop(1, i);
  stacks_.Turn(1);
  stacks_.Turn(0);
  Drop(0, i);
  stacks_.Turn(0);
  stacks_.Turn(1);
  FinishConnecting({stacks_.Connect(1, static_cast<uint16_t>(kFirstPort + i / kPerPort))}, {i});
}

void Population::Settle() {
  for (int i = 0; i < 10; ++i) {
    stacks_.Pass(Duration::Milliseconds(100));
    stacks_.Run();
  }
}

}  // namespace userstack::bench
