// When a reply may wait for the close that follows it: the rule, without clocks.
#include "shim/reply_estimate.h"

#include <gtest/gtest.h>

namespace userstack::shim {
namespace {

class Replies : public ::testing::Test {
 protected:
  // One connection's write and close, so far apart.
  void AnswerAndClose(Duration apart) {
    estimate_.NoteWrite(&connections_[0], now_);
    now_ = now_ + apart;
    estimate_.NoteClose(&connections_[0], now_);
    now_ = now_ + Duration::Milliseconds(1);
  }
  void AnswerMany() {
    for (int i = 0; i < ReplyEstimate::kEnough; ++i) AnswerAndClose(Duration::Microseconds(2));
    ASSERT_TRUE(estimate_.ExpectsClose());
  }

  ReplyEstimate estimate_;
  Instant now_;
  int connections_[2];
};

TEST_F(Replies, SeveralThatWereClosedAtOnceMakeTheHabit) {
  EXPECT_FALSE(estimate_.ExpectsClose());
  for (int i = 0; i + 1 < ReplyEstimate::kEnough; ++i) AnswerAndClose(Duration::Microseconds(2));
  EXPECT_FALSE(estimate_.ExpectsClose());
  AnswerAndClose(Duration::Microseconds(2));
  EXPECT_TRUE(estimate_.ExpectsClose());
}

TEST_F(Replies, AReplyInSeveralWritesIsOne) {
  AnswerMany();
  estimate_.NoteWrite(&connections_[0], now_);
  estimate_.NoteWrite(&connections_[0], now_ + Duration::Microseconds(1));
  EXPECT_TRUE(estimate_.ExpectsClose());
}

TEST_F(Replies, ACloseThatComesLateEndsIt) {
  AnswerMany();
  AnswerAndClose(Duration::Milliseconds(5));
  EXPECT_FALSE(estimate_.ExpectsClose());
}

TEST_F(Replies, AConnectionThatIsKeptEndsIt) {
  AnswerMany();
  estimate_.NoteWrite(&connections_[0], now_);
  estimate_.NoteWrite(&connections_[1], now_ + Duration::Microseconds(1));
  EXPECT_FALSE(estimate_.ExpectsClose());
  AnswerMany();
  estimate_.NoteWrite(&connections_[0], now_);
  estimate_.NoteWrite(&connections_[0], now_ + Duration::Milliseconds(1));
  EXPECT_FALSE(estimate_.ExpectsClose());
}

TEST_F(Replies, ClosingWhatWasNotWrittenSaysNothing) {
  AnswerMany();
  estimate_.NoteClose(&connections_[1], now_);
  EXPECT_TRUE(estimate_.ExpectsClose());
}

}  // namespace
}  // namespace userstack::shim
