#include "tests/sim/hoarder.h"

#include <cerrno>

#include "netstack/base/check.h"

namespace userstack::testing {
namespace {

constexpr uint64_t kTake = 1, kGiveBack = 2;
constexpr size_t kMany = 64;       // more than the other programs of a scenario open
constexpr size_t kMost = 100'000;  // a stack that refuses nobody has no bound

}  // namespace

void Hoarder::Start(Instant from, Instant until) {
  network_->StartTimer(*host_, this, kTake, from);
  network_->StartTimer(*host_, this, kGiveBack, until);
}

void Hoarder::OnEvents(SimSocket& socket, EventMask events) {
  (void)socket;
  (void)events;
}

void Hoarder::OnTimer(uint64_t tag) {
  if (tag == kTake) Take();
  if (tag == kGiveBack) GiveBack();
}

void Hoarder::Take() {
  begins_();
  for (int turn = 0; sockets_.size() < kMost; ++turn) {
    int error = 0;
    const int type = (turn & 1) != 0 ? SOCK_DGRAM : SOCK_STREAM;
    SimSocket* socket = host_->Open((turn & 2) != 0 ? AF_INET6 : AF_INET, type, this, &error);
    if (socket == nullptr) {
      Check(error == ENOBUFS || error == ENOMEM, "law: who finds no memory hears ENOBUFS");
      ++refused_;
      return;
    }
    sockets_.push_back(socket);
  }
}

void Hoarder::GiveBack() {
  for (SimSocket* socket : sockets_) host_->Close(socket);
  // What was given back can be had again, unless data of others fills the buffers meanwhile.
  if (sockets_.size() >= kMany && !host_->core().buffers.under_pressure()) {
    SimSocket* again = host_->Open(AF_INET, SOCK_DGRAM, this);
    Check(again != nullptr, "law: memory that was given back can be had again");
    host_->Close(again);
  }
  sockets_.clear();
  network_->NoteProgress();
  done_ = true;
}

}  // namespace userstack::testing
