// A reply that waits for the close that probably follows it (Stack::HoldReply).
#include <linux/sockios.h>

#include "tests/netstack/socket/fixture.h"

namespace userstack {
namespace {

class HeldReply : public StackTest {
 protected:
  HeldReply() {
    listener_ = Tcp4(a());
    EXPECT_EQ(Bind(listener_, At("10.0.0.1", 80)), 0);
    EXPECT_EQ(Listen(listener_), 0);
    client_ = Tcp4(b());
    EXPECT_EQ(Connect(client_, At("10.0.0.1", 80)), -EINPROGRESS);
    EXPECT_EQ(Accept(listener_, &server_), 0);
    EXPECT_EQ(Send(client_, "ask"), 3);
    EXPECT_EQ(Receive(server_).text, "ask");
    Run(Duration::Milliseconds(10));
    TakeFrames(a());
    wire_runs_ = false;
  }
  ~HeldReply() override {
    wire_runs_ = true;
    for (Sock* s : {&server_, &client_, &listener_}) {
      if (s->raw != nullptr) Close(s);
    }
  }
  void Reply() {
    ASSERT_EQ(Send(server_, "answer", MSG_MORE), 6);
    a().stack->HoldReply(*server_.raw, now());
  }
  // The frames of `a` that a driver gets now; with `all` also what is held.
  size_t Frames(bool all) {
    size_t count = 0;
    while (Frame* frame = a().stack->NextFrame(kWireInterface, all)) {
      a().stack->core().frames.Release(frame);
      ++count;
    }
    return count;
  }
  void WireRuns() {
    wire_runs_ = true;
    Run(Duration::Milliseconds(1));
  }

  Sock listener_, client_, server_;
};

TEST_F(HeldReply, SharesItsSegmentWithTheFin) {
  Reply();
  EXPECT_EQ(Frames(false), 0u);
  Close(&server_);
  EXPECT_FALSE(a().stack->HoldsReply());
  WireRuns();
  EXPECT_EQ(TakeFrames(a()).size(), 1u);
  EXPECT_EQ(Receive(client_).text, "answer");
  EXPECT_EQ(Receive(client_).result, 0);
}

TEST_F(HeldReply, GoesWithShutdownToo) {
  Reply();
  EXPECT_EQ(Shutdown(server_, SHUT_WR), 0);
  WireRuns();
  EXPECT_EQ(TakeFrames(a()).size(), 1u);
}

TEST_F(HeldReply, GoesWhenADriverAsksForAllFrames) {
  Reply();
  EXPECT_EQ(Frames(false), 0u);
  WireRuns();
  EXPECT_EQ(TakeFrames(a()).size(), 1u);
  EXPECT_EQ(Receive(client_).text, "answer");
}

TEST_F(HeldReply, WaitsNoLongerThanItsDeadline) {
  Reply();
  const Instant until = a().stack->NextDeadline();
  EXPECT_LE(until, now() + Duration::Microseconds(50));
  a().stack->Advance(until);
  EXPECT_FALSE(a().stack->HoldsReply());
  EXPECT_EQ(Frames(false), 1u);
  EXPECT_GT(a().stack->NextDeadline(), until) << "a deadline that has passed would spin";
}

TEST_F(HeldReply, AnotherOneSendsTheFirst) {
  Sock second_client = Tcp4(b()), second;
  wire_runs_ = true;
  ASSERT_EQ(Connect(second_client, At("10.0.0.1", 80)), -EINPROGRESS);
  ASSERT_EQ(Accept(listener_, &second), 0);
  wire_runs_ = false;
  Reply();
  ASSERT_EQ(Send(second, "other", MSG_MORE), 5);
  a().stack->HoldReply(*second.raw, now());
  EXPECT_EQ(Frames(false), 1u);
  Close(&second);
  Close(&second_client);
}

TEST_F(HeldReply, GoesBeforeTheResetOfACloseWithUnreadData) {
  wire_runs_ = true;
  ASSERT_EQ(Send(client_, "more"), 4);
  Run(Duration::Milliseconds(10));
  TakeFrames(a());
  wire_runs_ = false;
  Reply();
  Close(&server_);
  WireRuns();
  EXPECT_EQ(TakeFrames(a()).size(), 2u);
}

TEST_F(HeldReply, IsNotSeenByWhoAsksWhatIsUnsent) {
  Reply();
  const Result<int> unsent = a().stack->Ioctl(*server_.raw, SIOCOUTQNSD, now());
  ASSERT_TRUE(unsent.ok());
  EXPECT_EQ(*unsent, 0);
}

TEST_F(HeldReply, SurvivesADeath) {
  Reply();
  const tcp::Connection* examined = nullptr;
  a().stack->Mend(&examined, now());
  EXPECT_TRUE(a().stack->HoldsReply());
  WireRuns();
  EXPECT_EQ(Receive(client_).text, "answer");
}

TEST_F(HeldReply, OfAConnectionThatIsGivenUpIsForgotten) {
  Reply();
  a().stack->Condemn(server_.raw->tcp);
  EXPECT_FALSE(a().stack->HoldsReply());
  const tcp::Connection* examined = nullptr;
  a().stack->Mend(&examined, now());
}

TEST_F(HeldReply, OfAConnectionThatThePeerResetsIsForgotten) {
  const linger value{1, 0};
  ASSERT_EQ(SetBytes(client_, SOL_SOCKET, SO_LINGER, &value, sizeof value), 0);
  Reply();
  Close(&client_);
  Frame* reset = b().stack->NextFrame(kWireInterface);
  ASSERT_NE(reset, nullptr);
  Packet* packet =
      testing::Deliver(a().stack->core(), testing::Serialize(*reset), kWireInterface, now(), {});
  b().stack->core().frames.Release(reset);
  a().stack->Input(&packet, 1, now());
  Close(&server_);
  EXPECT_FALSE(a().stack->HoldsReply());
}

}  // namespace
}  // namespace userstack
