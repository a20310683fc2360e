// UDP bursts: equal datagrams that share a frame which the device cuts. What the receiver sees must
// be what it would see of single frames.
#include <gtest/gtest.h>
#include <netinet/udp.h>

#include "tests/netstack/socket/fixture.h"

namespace userstack {
namespace {

constexpr size_t kHeaders = 14 + 20 + 8;

class UdpBurstTest : public StackTest {
 protected:
  UdpBurstTest() { Build(WithSegmentation()); }
  static Options WithSegmentation() {
    Options options;
    options.device.transmit_checksum = true;
    options.device.udp_segmentation = true;
    return options;
  }
  // A client on a and a server on b; the neighbours know each other and the wire was looked at.
  void Open2() {
    server_ = Udp4(b());
    ASSERT_EQ(Bind(server_, At("0.0.0.0", 7)), 0);
    client_ = Udp4(a());
    ASSERT_EQ(SendTo(client_, "hello", to_), 5);
    Pump();
    ASSERT_EQ(Receive(server_).text, "hello");
    TakeFrames(a());
    wire_runs_ = false;
  }
  // Lets the wire run; the number of frames that a's device was given for it.
  uint64_t Go() {
    const uint64_t before = Count(Counter::kDeviceOutFrames);
    wire_runs_ = true;
    Pump();
    return Count(Counter::kDeviceOutFrames) - before;
  }
  std::vector<std::string> All() {
    std::vector<std::string> result;
    for (Datagram d = Receive(server_); d.result >= 0; d = Receive(server_)) {
      result.push_back(d.text);
    }
    return result;
  }
  uint64_t Count(Counter counter) { return a().stack->core().counters.Get(counter); }

  Sock server_, client_;
  const Name to_ = At("10.0.0.2", 7);
};

TEST_F(UdpBurstTest, EqualDatagramsShareAFrameAndArriveApartAndInOrder) {
  Open2();
  const uint64_t before = Count(Counter::kUdpOutDatagrams);
  std::vector<std::string> sent;
  for (int i = 0; i < 10; ++i) {
    sent.push_back("datagram " + std::to_string(i));
    EXPECT_EQ(SendTo(client_, sent.back(), to_), 10);
  }
  EXPECT_EQ(Go(), 1u);
  const auto datagrams = TakeFrames(a());
  ASSERT_EQ(datagrams.size(), 10u) << "as the device cuts them";
  for (const auto& datagram : datagrams) EXPECT_EQ(datagram.size(), kHeaders + 10);
  EXPECT_EQ(All(), sent);
  EXPECT_EQ(Count(Counter::kUdpOutDatagrams) - before, 10u);
}

TEST_F(UdpBurstTest, ADatagramAloneIsAnOrdinaryFrame) {
  Open2();
  SendTo(client_, "alone", to_);
  EXPECT_EQ(Go(), 1u);
  const auto frames = TakeFrames(a());
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(frames[0].size(), kHeaders + 5);
  EXPECT_EQ(All(), std::vector<std::string>{"alone"});
}

TEST_F(UdpBurstTest, AShorterDatagramEndsABurstAndALongerOneBeginsAnother) {
  Open2();
  const std::vector<std::string> sent = {"aaaa", "bbbb", "c", "dddd", "eeeeee", "ffffff", "", "gg"};
  for (const std::string& text : sent) {
    EXPECT_EQ(SendTo(client_, text, to_), static_cast<long>(text.size()));
  }
  EXPECT_EQ(Go(), 5u) << "aaaa bbbb c / dddd / eeeeee ffffff / nothing / gg";
  EXPECT_EQ(All(), sent);
}

TEST_F(UdpBurstTest, ABurstHoldsSixtyFourDatagramsAndOneIpPacket) {
  Open2();
  for (int i = 0; i < 100; ++i) SendTo(client_, "x", to_);
  EXPECT_EQ(Go(), 2u);
  EXPECT_EQ(All().size(), 100u);
  wire_runs_ = false;
  std::vector<std::string> sent;
  for (int i = 0; i < 90; ++i) {
    sent.emplace_back(1472, static_cast<char>('!' + i));
    ASSERT_EQ(SendTo(client_, sent.back(), to_), 1472);
  }
  EXPECT_EQ(Go(), 3u) << "41 of 1472 bytes fill a packet";
  EXPECT_EQ(All(), sent);
}

TEST_F(UdpBurstTest, OtherDestinationsSocketsAndOptionsKeepTheirOrder) {
  Open2();
  Sock other = Udp4(a());
  ASSERT_EQ(Connect(other, to_), 0);
  const std::vector<std::string> sent = {"1", "2", "3", "4", "5", "6", "7"};
  SendTo(client_, "1", to_);
  Send(other, "2");
  Send(other, "3");
  SendTo(client_, "4", to_);
  ASSERT_EQ(Set(client_, IPPROTO_IP, IP_TOS, 0x20), 0);
  SendTo(client_, "5", to_);
  SendTo(client_, "x", At("10.0.0.2", 8));
  SendTo(client_, "6", to_);
  Close(&client_);
  Send(other, "7");
  Go();
  EXPECT_EQ(All(), sent);
}

TEST_F(UdpBurstTest, CorkAndAncillaryDataStayOutOfBursts) {
  Open2();
  SendTo(client_, "one ", to_);
  SendTo(client_, "two ", to_, MSG_MORE);
  SendTo(client_, "more", to_);
  Ancillary ttl;
  ttl.present = Ancillary::kTtl;
  ttl.ttl = 3;
  SendTo(client_, "ttl3", to_, 0, &ttl);
  SendTo(client_, "last", to_);
  EXPECT_EQ(Go(), 4u);
  const auto frames = TakeFrames(a());
  ASSERT_EQ(frames.size(), 4u);
  EXPECT_EQ(frames[2][14 + 8], 3) << "TTL";
  EXPECT_EQ(frames[3][14 + 8], 64);
  EXPECT_EQ(All(), (std::vector<std::string>{"one ", "two more", "ttl3", "last"}));
}

TEST_F(UdpBurstTest, ErrorsComeToTheCallThatTheyComeToWithoutBursts) {
  Open2();
  ASSERT_EQ(Connect(client_, At("10.0.0.2", 9)), 0) << "nobody listens";
  EXPECT_EQ(Send(client_, "x"), 1);
  Go();
  EXPECT_EQ(Send(client_, "x"), -ECONNREFUSED);
  wire_runs_ = false;
  EXPECT_EQ(Send(client_, "x"), 1);
  ASSERT_EQ(Set(client_, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO), 0);
  EXPECT_EQ(Send(client_, "x"), 1);
  EXPECT_EQ(Send(client_, std::string(2000, 'x')), -EMSGSIZE);
  EXPECT_EQ(Send(client_, "x"), 1);
  EXPECT_EQ(Shutdown(client_, SHUT_WR), 0);
  EXPECT_EQ(Send(client_, "x"), -EPIPE);
}

TEST_F(UdpBurstTest, AFullSendBufferIsToldWithinABurst) {
  Open2();
  ASSERT_EQ(Set(client_, SOL_SOCKET, SO_SNDBUF, 4608), 0);
  int taken = 0;
  while (taken < 1000 && SendTo(client_, std::string(1000, 'x'), to_) == 1000) ++taken;
  EXPECT_GT(taken, 2);
  EXPECT_LT(taken, 20);
  EXPECT_EQ(SendTo(client_, "x", to_), -EAGAIN);
  Go();
  EXPECT_EQ(All().size(), static_cast<size_t>(taken));
  EXPECT_EQ(SendTo(client_, "x", to_), 1);
}

TEST_F(UdpBurstTest, OnlyAStreamOfCallsMayWaitAndNeverLongerThanItsBound) {
  Open2();
  Stack& stack = *a().stack;
  SendTo(client_, "first", to_);
  EXPECT_FALSE(stack.OutputMayWait(now())) << "an idle device is used at once";
  EXPECT_LE(stack.NextDeadline(), now() + Duration::Microseconds(50));
  for (int i = 0; i < 40; ++i) SendTo(client_, "next!", to_);
  EXPECT_TRUE(stack.OutputMayWait(now()));
  EXPECT_TRUE(stack.OutputMayWait(now() + Duration::Microseconds(49)));
  EXPECT_FALSE(stack.OutputMayWait(now() + Duration::Microseconds(50)));
  EXPECT_LE(stack.NextDeadline(), now() + Duration::Microseconds(50));
  EXPECT_TRUE(stack.HasUnfinishedWork(false));
  Go();
  EXPECT_FALSE(stack.OutputMayWait(now()));
  EXPECT_EQ(All().size(), 41u);
  Run(Duration::Milliseconds(1));
  wire_runs_ = false;
  SendTo(client_, "later", to_);
  EXPECT_FALSE(stack.OutputMayWait(now())) << "the stream has ended";
}

// A wire that is slow, or has to wake the receiver, takes its time for a burst: the calls before
// and after it follow each other at once all the same.
TEST_F(UdpBurstTest, TheTimeInWhichABurstLeftDoesNotEndAStreamOfCalls) {
  Open2();
  for (int i = 0; i < 64; ++i) SendTo(client_, "burst", to_);
  Go();
  wire_runs_ = false;
  Run(Duration::Microseconds(200));
  SendTo(client_, "burst", to_);
  EXPECT_TRUE(a().stack->OutputMayWait(now()));
  Go();
  wire_runs_ = false;
  Run(Duration::Microseconds(30));
  SendTo(client_, "burst", to_);
  EXPECT_FALSE(a().stack->OutputMayWait(now())) << "one datagram does not take that long";
  Go();
  EXPECT_EQ(All().size(), 66u);
}

TEST_F(UdpBurstTest, ADeadlineThatHasPassedIsNotKeptWhileTheDeviceTakesNothing) {
  Open2();
  Stack& stack = *a().stack;
  SendTo(client_, "held", to_);
  const Instant deadline = now() + Duration::Microseconds(50);
  stack.Advance(deadline);
  EXPECT_GT(stack.NextDeadline(), deadline);
  EXPECT_EQ(Go(), 1u);
  EXPECT_EQ(All(), std::vector<std::string>{"held"});
}

TEST_F(UdpBurstTest, WhatElseWaitsEndsTheWait) {
  Open2();
  for (int i = 0; i < 40; ++i) SendTo(client_, "burst", to_);
  ASSERT_TRUE(a().stack->OutputMayWait(now()));
  Sock tcp = Tcp4(a());
  EXPECT_EQ(Connect(tcp, At("10.0.0.2", 80)), -EINPROGRESS);
  EXPECT_FALSE(a().stack->OutputMayWait(now()));
}

TEST_F(UdpBurstTest, ADeviceThatCannotCutGetsSingleFrames) {
  Options options = WithSegmentation();
  options.device.udp_segmentation = false;
  Build(options);
  Open2();
  for (int i = 0; i < 10; ++i) SendTo(client_, "same size", to_);
  EXPECT_EQ(Go(), 10u);
  EXPECT_EQ(All().size(), 10u);
}

TEST_F(UdpBurstTest, BurstsCrossIpv6) {
  Open2();
  wire_runs_ = true;
  Sock server = Udp6(b()), client = Udp6(a());
  ASSERT_EQ(Bind(server, At("fd00::2", 70)), 0);
  SendTo(client, "hello", At("fd00::2", 70));
  Pump();
  ASSERT_EQ(Receive(server).text, "hello");
  TakeFrames(a());
  wire_runs_ = false;
  for (int i = 0; i < 10; ++i) SendTo(client, "six" + std::to_string(i), At("fd00::2", 70));
  EXPECT_EQ(Go(), 1u);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(Receive(server).text, "six" + std::to_string(i));
}

}  // namespace
}  // namespace userstack
