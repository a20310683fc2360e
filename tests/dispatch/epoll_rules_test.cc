// Epoll: epoll_ctl's rules, the translation of events, the kernel's listing of registrations.
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>

#include "shim/dispatch/epoll.h"

namespace userstack::shim {
namespace {

TEST(CheckControl, KnowsTheRulesOfExclusive) {
  constexpr bool kPlain = false;
  constexpr bool kEpoll = true;
  EXPECT_EQ(CheckControl(EPOLL_CTL_ADD, EPOLLIN | EPOLLONESHOT | EPOLLET, kPlain), 0);
  EXPECT_EQ(CheckControl(EPOLL_CTL_ADD, EPOLLIN | EPOLLEXCLUSIVE, kPlain), 0);
  EXPECT_EQ(CheckControl(EPOLL_CTL_ADD, EPOLLIN | EPOLLEXCLUSIVE | EPOLLET, kPlain), 0);
  EXPECT_EQ(CheckControl(EPOLL_CTL_ADD, EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT, kPlain), -EINVAL);
  EXPECT_EQ(CheckControl(EPOLL_CTL_ADD, EPOLLRDHUP | EPOLLEXCLUSIVE, kPlain), -EINVAL);
  EXPECT_EQ(CheckControl(EPOLL_CTL_ADD, EPOLLIN | EPOLLEXCLUSIVE, kEpoll), -EINVAL);
  EXPECT_EQ(CheckControl(EPOLL_CTL_MOD, EPOLLIN | EPOLLEXCLUSIVE, kPlain), -EINVAL);
  EXPECT_EQ(CheckControl(EPOLL_CTL_DEL, 0, kPlain), 0);
  EXPECT_EQ(CheckControl(77, 0, kPlain), -EINVAL);
}

TEST(WatchEvent, GoesToAWatchAndBack) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET | EPOLLONESHOT;
  event.data.u64 = 0x1122334455667788;
  Watch watch;
  SetWatchEvent(event, &watch);
  EXPECT_EQ(watch.interest, kEventIn | kEventsAlways);
  EXPECT_EQ(watch.flags, kWatchEdge | kWatchOneShot);
  const epoll_event back = EventOf(watch);
  EXPECT_EQ(back.events, uint32_t{EPOLLIN} | EPOLLET | EPOLLONESHOT | EPOLLERR | EPOLLHUP);
  EXPECT_EQ(back.data.u64, event.data.u64);
}

TEST(WatchEvent, NoInterestIsNotADisarmedOneShot) {
  epoll_event event{};
  Watch watch;
  SetWatchEvent(event, &watch);
  EXPECT_NE(watch.interest, 0u);
}

bool Parse(const char* line, int* fd, epoll_event* event) {
  return ParseRegistration(line, line + std::strlen(line), fd, event);
}

TEST(ParseRegistration, ReadsTheKernelsListing) {
  int fd = -1;
  epoll_event event{};
  ASSERT_TRUE(Parse("tfd:        5 events:       19 data:         deadbeef01  pos:0 ino:411 sdev:f",
                    &fd, &event));
  EXPECT_EQ(fd, 5);
  EXPECT_EQ(event.events, 0x19u);
  EXPECT_EQ(event.data.u64, 0xdeadbeef01u);
  for (const char* other : {"pos:\t0", "flags:\t02", "", "tfd:", "tfd: 5 events:", "mnt_id:\t16"}) {
    EXPECT_FALSE(Parse(other, &fd, &event)) << other;
  }
}

}  // namespace
}  // namespace userstack::shim
