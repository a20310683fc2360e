// Hoarder: a program that opens sockets until its stack has no more to give, holds them for a
// while, and gives them back.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "tests/netstack/testing/network.h"

namespace userstack::testing {

class Hoarder : public Application {
 public:
  // `begins` is called just before the first socket.
  Hoarder(Network* network, Host* host, std::function<void()> begins)
      : network_(network), host_(host), begins_(std::move(begins)) {}
  void Start(Instant from, Instant until);

  void OnEvents(SimSocket& socket, EventMask events) override;
  void OnTimer(uint64_t tag) override;
  bool finished() const override { return done_; }
  // Sockets that were refused, with ENOBUFS or ENOMEM.
  uint64_t refused() const { return refused_; }

 private:
  void Take();
  void GiveBack();

  Network* network_;
  Host* host_;
  std::function<void()> begins_;
  std::vector<SimSocket*> sockets_;
  uint64_t refused_ = 0;
  bool done_ = false;
};

}  // namespace userstack::testing
