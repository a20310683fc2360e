// Select: sets to poll entries and back.
#include <gtest/gtest.h>

#include <cerrno>

#include "shim/dispatch/selecting.h"

namespace userstack::shim {
namespace {

struct Sets {
  fd_set read, write, except;
  Sets() {
    FD_ZERO(&read);
    FD_ZERO(&write);
    FD_ZERO(&except);
  }
};

TEST(SelectSets, BecomeOneEntryForEachNumber) {
  Sets sets;
  FD_SET(3, &sets.read);
  FD_SET(3, &sets.write);
  FD_SET(64, &sets.except);
  FD_SET(70, &sets.read);
  EXPECT_EQ(EntriesFromSets(71, &sets.read, &sets.write, &sets.except, nullptr), 3u);
  pollfd entries[3];
  ASSERT_EQ(EntriesFromSets(70, &sets.read, &sets.write, &sets.except, entries), 2u);
  EXPECT_EQ(entries[0].fd, 3);
  EXPECT_EQ(entries[0].events,
            POLLIN | POLLRDNORM | POLLRDBAND | POLLOUT | POLLWRNORM | POLLWRBAND);
  EXPECT_EQ(entries[1].fd, 64);
  EXPECT_EQ(entries[1].events, POLLPRI);
  EXPECT_EQ(EntriesFromSets(71, nullptr, nullptr, nullptr, nullptr), 0u);
}

TEST(SelectSets, AreFilledByLinuxsTableOfEvents) {
  struct Case {
    short revents;
    bool readable, writable, exceptional;
  };
  const Case cases[] = {
      {0, false, false, false},         {POLLIN, true, false, false},
      {POLLRDNORM, true, false, false}, {POLLHUP, true, false, false},
      {POLLERR, true, true, false},     {POLLOUT, false, true, false},
      {POLLPRI, false, false, true},    {POLLIN | POLLOUT | POLLPRI, true, true, true},
  };
  for (const Case& c : cases) {
    Sets sets;
    FD_SET(5, &sets.read);
    FD_SET(5, &sets.write);
    FD_SET(5, &sets.except);
    pollfd entry;
    ASSERT_EQ(EntriesFromSets(6, &sets.read, &sets.write, &sets.except, &entry), 1u);
    entry.revents = c.revents;
    EXPECT_EQ(SetsFromEntries(&entry, 1, 6, &sets.read, &sets.write, &sets.except),
              c.readable + c.writable + c.exceptional);
    EXPECT_EQ(FD_ISSET(5, &sets.read) != 0, c.readable) << c.revents;
    EXPECT_EQ(FD_ISSET(5, &sets.write) != 0, c.writable) << c.revents;
    EXPECT_EQ(FD_ISSET(5, &sets.except) != 0, c.exceptional) << c.revents;
  }
}

TEST(SelectSets, ReportOnlyWhatWasAskedFor) {
  Sets sets;
  FD_SET(5, &sets.except);
  pollfd entry;
  ASSERT_EQ(EntriesFromSets(6, nullptr, nullptr, &sets.except, &entry), 1u);
  entry.revents = POLLHUP | POLLERR;
  EXPECT_EQ(SetsFromEntries(&entry, 1, 6, nullptr, nullptr, &sets.except), 0);
  EXPECT_FALSE(FD_ISSET(5, &sets.except));
}

TEST(SelectSets, AClosedNumberFailsTheCallAndLeavesTheSets) {
  Sets sets;
  FD_SET(5, &sets.read);
  pollfd entry;
  ASSERT_EQ(EntriesFromSets(6, &sets.read, nullptr, nullptr, &entry), 1u);
  entry.revents = POLLNVAL;
  EXPECT_EQ(SetsFromEntries(&entry, 1, 6, &sets.read, nullptr, nullptr), -EBADF);
  EXPECT_TRUE(FD_ISSET(5, &sets.read));
}

}  // namespace
}  // namespace userstack::shim
