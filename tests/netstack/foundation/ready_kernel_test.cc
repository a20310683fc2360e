// ready against the kernel's epoll: the same random operations on both, the same events in the same
// order. Targets are eventfds: a write is an edge of readability, a read one of writability.
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "netstack/base/random.h"
#include "netstack/ready/ready.h"

namespace userstack {
namespace {

constexpr int kTargets = 4;
constexpr int kSets = 3;  // set i may hold the sets after it

class Twins {
 public:
  explicit Twins(uint64_t seed) : random_(seed) {
    for (int& fd : targets_) fd = eventfd(0, EFD_NONBLOCK);
    for (int& fd : epolls_) fd = epoll_create1(0);
    for (Pollable& p : pollables_) Publish(p, kEventOut, 0, wakes_);
  }
  ~Twins() {
    for (const int fd : targets_) close(fd);
    for (const int fd : epolls_) close(fd);
  }

  void Step() {
    switch (random_.Below(8)) {
      case 0:
      case 1:
        Write(static_cast<int>(random_.Below(kTargets)));
        break;
      case 2:
        Read(static_cast<int>(random_.Below(kTargets)));
        break;
      case 3:
      case 4:
        Control();
        break;
      default:
        Compare(static_cast<int>(random_.Below(kSets)), 1 + static_cast<int>(random_.Below(6)));
        break;
    }
    while (wakes_.Pop() != nullptr) {
    }
  }

  const std::string& log() const { return log_; }

 private:
  void Write(int i) {
    log_ += "write " + std::to_string(i) + "\n";
    const uint64_t one = 1;
    ASSERT_EQ(write(targets_[i], &one, sizeof one), 8);
    Publish(pollables_[i], kEventIn | kEventOut, kEventIn, wakes_);
  }
  void Read(int i) {
    uint64_t value;
    if (read(targets_[i], &value, sizeof value) != 8) return;
    log_ += "read " + std::to_string(i) + "\n";
    Publish(pollables_[i], kEventOut, kEventOut, wakes_);
  }

  // Keys: targets are 0..kTargets-1, sets follow.
  void Control() {
    const int set = static_cast<int>(random_.Below(kSets));
    int key = static_cast<int>(random_.Below(kTargets + 2));
    if (key >= kTargets) {
      key = kTargets + set + 1 + static_cast<int>(random_.Below(2));
      if (key >= kTargets + kSets) return;
    }
    const int fd = key < kTargets ? targets_[key] : epolls_[key - kTargets];
    Pollable* target = key < kTargets ? &pollables_[key] : &sets_[key - kTargets].pollable;
    std::unique_ptr<Watch>& watch = watches_[{set, key}];
    epoll_event event{};
    constexpr uint32_t kInterests[] = {EPOLLIN, EPOLLOUT, EPOLLIN | EPOLLOUT, 0};
    event.events = kInterests[random_.Below(4)];
    event.data.u32 = static_cast<uint32_t>(key);
    uint8_t flags = 0;
    if (random_.Below(2) == 0) flags |= kWatchEdge;
    if (random_.Below(4) == 0) flags |= kWatchOneShot;
    if (watch == nullptr && key < kTargets && random_.Below(4) == 0) {
      flags = static_cast<uint8_t>((flags & kWatchEdge) | kWatchExclusive);
    }
    if ((flags & kWatchEdge) != 0) event.events |= EPOLLET;
    if ((flags & kWatchOneShot) != 0) event.events |= EPOLLONESHOT;
    if ((flags & kWatchExclusive) != 0) event.events |= EPOLLEXCLUSIVE;
    const EventMask interest = (event.events & 0xffff) | kEventsAlways;
    const std::string name = std::to_string(set) + " " + std::to_string(key) + " interest " +
                             std::to_string(interest) + " flags " + std::to_string(flags) + "\n";
    if (watch == nullptr) {
      log_ += "add " + name;
      ASSERT_EQ(epoll_ctl(epolls_[set], EPOLL_CTL_ADD, fd, &event), 0);
      watch = std::make_unique<Watch>();
      watch->set = &sets_[set];
      watch->target = target;
      watch->interest = interest;
      watch->flags = flags;
      watch->data = static_cast<uint64_t>(key);
      Attach(*watch, wakes_);
    } else if (random_.Below(2) == 0 && (watch->flags & kWatchExclusive) == 0) {
      log_ += "modify " + name;
      ASSERT_EQ(epoll_ctl(epolls_[set], EPOLL_CTL_MOD, fd, &event), 0);
      watch->interest = interest;
      watch->flags = flags;
      Rearm(*watch, wakes_);
    } else {
      log_ += "delete " + name;
      ASSERT_EQ(epoll_ctl(epolls_[set], EPOLL_CTL_DEL, fd, nullptr), 0);
      Detach(*watch, wakes_);
      watch.reset();
    }
  }

  void Compare(int set, int limit) {
    epoll_event events[8];
    const int count = epoll_wait(epolls_[set], events, limit, 0);
    std::vector<std::pair<uint64_t, uint32_t>> kernel, ours;
    for (int i = 0; i < count; ++i) {
      const epoll_event event = events[i];  // a packed struct
      kernel.emplace_back(uint64_t{event.data.u32}, uint32_t{event.events});
    }
    BeginHarvest(sets_[set]);
    for (int i = 0; i < limit; ++i) {
      EventMask happened = 0;
      const Watch* watch = Harvest(sets_[set], &happened, wakes_);
      if (watch == nullptr) break;
      ours.emplace_back(watch->data, happened & ~kEventReadNormal);
    }
    for (auto& [key, happened] : kernel) happened &= ~uint32_t{kEventReadNormal};
    log_ += "wait " + std::to_string(set) + " limit " + std::to_string(limit) + "\n";
    ASSERT_EQ(ours, kernel);
  }

  Random random_;
  WakeList wakes_;
  int targets_[kTargets];
  int epolls_[kSets];
  Pollable pollables_[kTargets];
  WatchSet sets_[kSets];
  std::map<std::pair<int, int>, std::unique_ptr<Watch>> watches_;
  std::string log_;
};

TEST(ReadyAgainstTheKernel, RandomOperationsGiveTheSameEventsInTheSameOrder) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    Twins twins(seed);
    for (int step = 0; step < 400; ++step) {
      twins.Step();
      if (!HasFatalFailure()) continue;
      const std::string& log = twins.log();
      FAIL() << "seed " << seed << "\n"
             << log.substr(log.size() - std::min<size_t>(log.size(), 1500));
    }
  }
}

}  // namespace
}  // namespace userstack
