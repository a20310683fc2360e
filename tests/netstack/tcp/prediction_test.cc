// Header prediction: taken for the next segment of a one-way flow, never when a segment tells more
// than that, and without effect of its own. Each conversation is played twice, with prediction and
// without; what was sent, what was read and the state of the connection must be equal after every
// event.
#include <functional>
#include <sstream>

#include "netstack/base/random.h"
#include "netstack/tcp/window.h"
#include "tests/netstack/tcp/host.h"

namespace userstack::testing {
namespace {

using namespace wire;  // NOLINT: TcpFlag names

// What a predicted segment may touch, and more. Left out is what Output writes before anybody reads
// it: window_limited and its company.
void PrintState(std::ostream& out, const tcp::Connection& c) {
  const auto& s = c.send;
  const auto& r = c.receive;
  out << "state " << static_cast<int>(c.state) << " una " << s.unacknowledged.value << " nxt "
      << s.next.value << " end " << s.end.value << " wl1 " << s.window_sequence.value << " wnd "
      << s.window << " max " << s.maximum_window << " rcv " << r.next.value << " copied "
      << r.copied.value << " acked " << r.acknowledged.value << " rwnd " << r.window << " clamp "
      << r.window_clamp << " threshold " << r.threshold << " fin " << r.fin_known << r.fin_received
      << " recent " << c.recent_timestamp << "@" << c.recent_timestamp_at.nanoseconds << " srtt "
      << c.smoothed_rtt.nanoseconds << " rto " << c.rto.nanoseconds << " cwnd "
      << c.congestion.window << " delivered " << c.delivered << " recovery "
      << static_cast<int>(c.recovery) << " dup " << c.duplicate_acks << " mss " << c.receive_mss
      << "/" << c.last_segment_size << " memory " << c.received_memory << " urgent "
      << static_cast<int>(c.urgent) << " dsack " << c.duplicate_sack << " ack " << c.ack_pending
      << c.ack_now << c.ping_pong << int{c.quick_acks} << int{c.ack_pushed} << " ato "
      << c.ack_timeout.nanoseconds << " probes " << int{c.probes} << " soft " << c.soft_error
      << " heard " << c.last_received.nanoseconds << " " << c.last_received_data.nanoseconds << " "
      << c.last_received_ack.nanoseconds << " in " << c.segments_in << "/" << c.data_segments_in
      << "/" << c.bytes_received << " out " << c.segments_out << " timers "
      << c.retransmit_timer.armed() << c.delayed_ack_timer.armed() << c.keep_alive_timer.armed();
  if (c.delayed_ack_timer.armed()) out << " at " << c.delayed_ack_timer.deadline.nanoseconds;
  out << " tuning " << c.tuning_space << " " << c.tuning_copied.value << " "
      << c.receive_rtt.nanoseconds << " buffer " << c.options.receive_buffer << "\n";
}

// One conversation, written down.
class Player : public TcpScript {
 public:
  explicit Player(bool predict, const TcpOptions& options = FullOptions(), bool active = false) {
    tcp().SetHeaderPrediction(predict);
    socket_ = active ? ConnectOne(options) : AcceptOne(options);
    sent_end_ = peer_ack_;
  }
  void TestBody() override {}
  static TcpOptions FullOptions() { return PeerOptions(); }
  static TcpOptions PlainOptions() { return MssOnly(); }

  // --- what a script may do ---
  void Take(const Seg& segment) {
    In(segment);
    Note();
  }
  void TakeText(const std::string& text) {
    PeerSends(text);
    Note();
  }
  Seg Next(uint8_t flags, const std::string& text) { return Peer(flags, text); }
  void Say(const std::string& text, int flags = 0) {
    log_ << "write " << Write(socket_, text, flags) << "\n";
    Note();
  }
  void ReadAll(int flags = 0) {
    std::string data;
    const int64_t n = host().Receive(socket_, &data, 1 << 16, now(), flags);
    log_ << "read " << n << " " << std::hash<std::string>{}(data) << "\n";
    Note();
  }
  void Wait(Duration d) {
    Advance(d);
    Note();
  }
  void Set(int name, int value) { SetOption(socket_, name, value); }
  void End(int how) {
    (void)tcp().Shutdown(*socket_->connection, how, now());
    Note();
  }
  // The peer has seen all that we sent.
  void Acknowledge() { peer_ack_ = sent_end_; }
  void PeerTook(uint32_t bytes) { peer_next_ += bytes; }
  void PeerWindow(uint16_t window) { peer_window_ = window; }

  uint32_t Room() const { return tcp::RemainingReceiveWindow(*socket_->connection); }
  uint64_t hits() { return host().Count(Counter::kTcpHeaderPredictions); }
  std::string log() const { return log_.str(); }

 private:
  void Note() {
    while (HasOut()) {
      const Seg s = Out();
      log_ << (now() - kStart).microseconds() << " " << s << " ts " << s.options.timestamp_value
           << " " << s.options.timestamp_echo_reply << "\n";
      const auto end =
          static_cast<uint32_t>(s.sequence + s.payload.size() + (s.Has(kTcpFin) ? 1 : 0));
      if (static_cast<int32_t>(end - sent_end_) > 0) sent_end_ = end;
    }
    log_ << "level " << host().Level(socket_) << " ";
    PrintState(log_, *socket_->connection);
    tcp().CheckInvariants();
  }

  TcpHost::Socket* socket_ = nullptr;
  std::ostringstream log_;
  uint32_t sent_end_ = 0;
};

using Script = std::function<void(Player&)>;

// Plays `before` and `subject` with and without prediction, and some more of the flow, which must
// not notice; how many segments of `subject` were predicted.
uint64_t Predicted(const Script& before, const Script& subject,
                   const TcpOptions& options = Player::FullOptions(), bool active = false) {
  Player with(true, options, active), without(false, options, active);
  uint64_t hits = 0;
  for (Player* player : {&with, &without}) {
    before(*player);
    const uint64_t begin = player->hits();
    subject(*player);
    if (player == &with) hits = player->hits() - begin;
    player->TakeText("and the stream goes on");
    player->ReadAll();
    player->Wait(Duration::Seconds(3));
  }
  EXPECT_EQ(without.hits(), 0u);
  EXPECT_EQ(with.log(), without.log());
  return hits;
}

void Nothing(Player&) {}
void SomeText(Player& p) {
  for (int i = 0; i < 3; ++i) p.TakeText(std::string(1000, 'x'));
}
// The next text, changed by `change`.
Script Changed(std::function<void(Seg&)> change) {
  return [change = std::move(change)](Player& p) {
    Seg segment = p.Next(kTcpAck, "text");
    change(segment);
    p.Take(segment);
  };
}

TEST(HeaderPrediction, TakesTheNextTextOfAOneWayFlow) {
  EXPECT_EQ(Predicted(Nothing, SomeText), 3u);
  EXPECT_EQ(Predicted(Nothing, SomeText, Player::PlainOptions()), 3u);
  // A SYN's window is never scaled, so that the first text brings news.
  EXPECT_EQ(Predicted(Nothing, SomeText, Player::FullOptions(), true), 2u);
}

TEST(HeaderPrediction, PushAndEcnBitsTellNothingNew) {
  for (const uint8_t flag : {uint8_t{kTcpPush}, uint8_t{0x40}, uint8_t{0x80}}) {
    EXPECT_EQ(Predicted(SomeText, Changed([flag](Seg& s) { s.flags |= flag; })), 1u) << int{flag};
  }
}

TEST(HeaderPrediction, IsTakenAgainOnceTheTroubleIsOver) {
  // A hole that was filled.
  EXPECT_EQ(Predicted(
                [](Player& p) {
                  Seg ahead = p.Next(kTcpAck, "ahead");
                  ahead.sequence += 4;
                  p.Take(ahead);
                  p.TakeText("hole");
                  p.PeerTook(5);
                },
                SomeText),
            3u);
  // Data of ours that was acknowledged.
  EXPECT_EQ(Predicted(
                [](Player& p) {
                  p.Say("an answer");
                  p.Acknowledge();
                  p.Take(p.Next(kTcpAck, ""));
                },
                SomeText),
            3u);
  // A window that was told.
  EXPECT_EQ(Predicted(
                [](Player& p) {
                  p.TakeText("old window");
                  p.PeerWindow(1000);
                  p.TakeText("new window");
                },
                SomeText),
            3u);
}

TEST(HeaderPrediction, ASegmentThatTellsMoreTakesEveryStep) {
  const struct {
    const char* what;
    Script subject;
  } cases[] = {
      {"FIN", Changed([](Seg& s) { s.flags |= kTcpFin; })},
      {"SYN", Changed([](Seg& s) { s.flags |= kTcpSyn; })},
      {"RST, inexact", Changed([](Seg& s) { s.flags |= kTcpReset, ++s.sequence; })},
      {"RST", Changed([](Seg& s) { s.flags |= kTcpReset; })},
      {"URG", Changed([](Seg& s) { s.flags |= kTcpUrgent, s.urgent = 2; })},
      {"no ACK", Changed([](Seg& s) { s.flags = kTcpPush; })},
      {"no text", Changed([](Seg& s) { s.payload.clear(); })},
      {"an ACK for unsent data", Changed([](Seg& s) { ++s.acknowledgment; })},
      {"an old ACK", Changed([](Seg& s) { --s.acknowledgment; })},
      {"a larger window", Changed([](Seg& s) { s.window = 65535; })},
      {"a smaller window", Changed([](Seg& s) { s.window = 999; })},
      {"a closed window", Changed([](Seg& s) { s.window = 0; })},
      {"a hole", Changed([](Seg& s) { s.sequence += 10; })},
      {"a repetition", Changed([](Seg& s) { s.sequence -= 4; })},
      {"an overlap", Changed([](Seg& s) { s.sequence -= 2; })},
      {"text from far ahead", Changed([](Seg& s) { s.sequence += 0x4000'0000; })},
      {"no timestamp", Changed([](Seg& s) { s.options.has_timestamps = false; })},
      {"an old timestamp (PAWS)", Changed([](Seg& s) { s.options.timestamp_value -= 100; })},
      {"a SACK block", Changed([](Seg& s) {
         s.options.sack_count = 1;
         s.options.sack_blocks[0] = {{s.acknowledgment - 1}, {s.acknowledgment}};
       })},
  };
  for (const auto& one : cases) {
    SCOPED_TRACE(one.what);
    const auto before = [](Player& p) {
      p.PeerWindow(5000);
      SomeText(p);
      SomeText(p);
    };
    EXPECT_EQ(Predicted(before, one.subject), 0u);
  }
}

TEST(HeaderPrediction, AConnectionWithMoreToLookAtTakesEveryStep) {
  const struct {
    const char* what;
    Script before;
  } cases[] = {
      {"data of ours in flight", [](Player& p) { p.Say("in flight"); }},
      {"data that waits for a cork",
       [](Player& p) {
         p.Set(TCP_CORK, 1);
         p.Say("corked");
       }},
      {"a hole",
       [](Player& p) {
         Seg ahead = p.Next(kTcpAck, "ahead");
         ahead.sequence += 1000;
         p.Take(ahead);
       }},
      {"a FIN ahead",
       [](Player& p) {
         Seg fin = p.Next(kTcpAck | kTcpFin, "");
         fin.sequence += 100;
         p.Take(fin);
       }},
      {"an urgent byte expected",
       [](Player& p) {
         Seg urgent = p.Next(kTcpAck | kTcpUrgent, "u");
         urgent.urgent = 100;
         p.Take(urgent);
         p.PeerTook(1);
       }},
      {"an urgent byte unread",
       [](Player& p) {
         Seg urgent = p.Next(kTcpAck | kTcpUrgent, "u");
         urgent.urgent = 1;
         p.Take(urgent);
         p.PeerTook(1);
       }},
      {"FIN-WAIT-1", [](Player& p) { p.End(SHUT_WR); }},
      {"FIN-WAIT-2",
       [](Player& p) {
         p.End(SHUT_WR);
         p.Acknowledge();
         p.Take(p.Next(kTcpAck, ""));
       }},
  };
  for (const auto& one : cases) {
    SCOPED_TRACE(one.what);
    EXPECT_EQ(Predicted(one.before, [](Player& p) { p.TakeText("text"); }), 0u);
  }
}

TEST(HeaderPrediction, TextBeyondTheWindowTakesEveryStep) {
  EXPECT_EQ(Predicted(
                [](Player& p) {
                  // Nobody reads, until no whole segment fits any more.
                  while (p.Room() >= 1400) p.TakeText(std::string(1400, 'f'));
                },
                [](Player& p) { p.Take(p.Next(kTcpAck, std::string(1400, 'b'))); }),
            0u);
}

TEST(HeaderPrediction, ALateSegmentDoesNotBringBackAnOldWindow) {
  // RFC 9293 3.10.7.4: SND.WL1 never goes back. A pure ACK overtakes text; the text after it tells
  // the window of before.
  EXPECT_EQ(Predicted(SomeText,
                      [](Player& p) {
                        Seg early = p.Next(kTcpAck, "");
                        early.sequence += 8;
                        p.Take(early);
                        p.TakeText("text");
                        Seg old = p.Next(kTcpAck, "more");
                        old.window /= 2;
                        p.Take(old);
                        p.PeerTook(4);
                      }),
            1u);
}

// --- random conversations ---

class Conversation {
 public:
  explicit Conversation(uint64_t seed) : random_(seed) {}

  void Play(Player& p) {
    for (int i = 0; i < 120; ++i) Step(p);
  }

 private:
  uint64_t Below(uint64_t n) { return random_.Below(n); }
  std::string Text() { return std::string(1 + Below(Below(3) == 0 ? 1400 : 40), 't'); }

  void Step(Player& p) {
    switch (Below(16)) {
      case 0:
        p.Say(Text(), Below(8) == 0 ? MSG_OOB : 0);
        return;
      case 1:
      case 2:
        p.ReadAll(Below(10) == 0 ? MSG_PEEK : 0);
        return;
      case 3:
        p.Wait(Duration::Milliseconds(static_cast<int64_t>(Below(Below(4) == 0 ? 900 : 30))));
        return;
      case 4:
        p.Acknowledge();
        p.Take(p.Next(kTcpAck, ""));
        return;
      case 5:
        p.PeerWindow(static_cast<uint16_t>(Below(3) == 0 ? Below(65536) : 5000));
        return;
      case 6:
      case 7:
        Odd(p);
        return;
      default:
        if (Below(4) == 0) p.Acknowledge();
        p.TakeText(Text());
        return;
    }
  }

  // A segment with one or two things out of the ordinary.
  void Odd(Player& p) {
    Seg s = p.Next(kTcpAck, Text());
    for (uint64_t n = 1 + Below(2); n > 0; --n) {
      switch (Below(10)) {
        case 0:
          s.sequence += static_cast<uint32_t>(Below(3000));
          break;
        case 1:
          s.sequence -= static_cast<uint32_t>(Below(2000));
          break;
        case 2:
          s.acknowledgment -= static_cast<uint32_t>(Below(100));
          break;
        case 3:
          s.window = static_cast<uint16_t>(Below(65536));
          break;
        case 4:
          s.options.timestamp_value -= static_cast<uint32_t>(Below(50));
          break;
        case 5:
          s.flags ^= static_cast<uint8_t>(1u << Below(8));
          // A reset or a SYN in the right place ends the conversation too soon.
          if ((s.flags & (kTcpReset | kTcpSyn)) != 0) s.sequence += 1000;
          if ((s.flags & kTcpFin) != 0 && Below(10) != 0) s.flags &= ~kTcpFin;
          s.urgent = static_cast<uint16_t>(Below(50));
          break;
        case 6:
          s.payload.clear();
          break;
        case 7:
          s.options.sack_count = 1;
          s.options.sack_blocks[0] = {{s.acknowledgment - 40}, {s.acknowledgment - 10}};
          break;
        case 8:
          s.options.has_timestamps = !s.options.has_timestamps;
          break;
        default:
          s.flags |= kTcpPush;
          break;
      }
    }
    p.Take(s);
  }

  Random random_;
};

TEST(HeaderPrediction, RandomConversationsDoNotNoticeIt) {
  uint64_t hits = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    const TcpOptions options = seed % 3 == 0 ? Player::PlainOptions() : Player::FullOptions();
    Player with(true, options, seed % 2 == 0), without(false, options, seed % 2 == 0);
    Conversation(seed).Play(with);
    Conversation(seed).Play(without);
    ASSERT_EQ(with.log(), without.log()) << "seed " << seed;
    hits += with.hits();
  }
  EXPECT_GT(hits, 2000u) << "the conversations must have something to predict";
}

}  // namespace
}  // namespace userstack::testing
