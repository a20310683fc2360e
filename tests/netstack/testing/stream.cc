#include "tests/netstack/testing/stream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <cstring>
#include <sstream>

#include "netstack/base/check.h"
#include "tests/netstack/testing/content.h"
#include "tests/netstack/testing/crash_note.h"

namespace userstack::testing {
namespace {

constexpr uint64_t kReadTimer = 1, kWriteTimer = 2, kConnectTimer = 3;
constexpr int kConnectAttempts = 20;
constexpr uint8_t kFilling = 0xa7;  // of memory that nothing was read into
constexpr size_t kMargin = 64;      // behind the memory of a call
constexpr uint32_t kLongestReply = 1024;

}  // namespace

StreamSide::StreamSide(Network* network, const SidePlan& plan, const SidePlan& peer, bool initiator,
                       bool may_fail, std::string name)
    : network_(network),
      plan_(plan),
      peer_(peer),
      initiator_(initiator),
      may_fail_(may_fail),
      name_(std::move(name)),
      random_(network->random().Next()) {}

std::string StreamSide::Describe() const {
  std::ostringstream out;
  out << name_ << " (" << FormatAddress(local_.address) << "." << local_.port << ") sent " << sent_
      << "/" << plan_.bytes << " received " << received_ << "/" << peer_.bytes
      << (connected_ ? "" : " not connected") << (ended_ ? " ended" : "")
      << (end_seen_ ? " end-seen" : "") << (read_paused_ ? " read-paused" : "")
      << (write_paused_ ? " write-paused" : "") << (closed_ ? " closed" : "");
  if (error_ != 0) out << " error " << strerror(error_);
  if (socket_ != nullptr) {
    out << " level 0x" << std::hex << socket_->socket->pollable.level << " interest 0x"
        << socket_->watch.interest;
  }
  return out.str();
}

bool StreamSide::succeeded() const {
  // Whoever closes at once does not wait for the peer's end of stream.
  const bool end_ok = end_seen_ || plan_.end == EndStyle::kCloseAtOnce;
  return closed_ && error_ == 0 && sent_ == plan_.bytes && received_ == peer_.bytes && end_ok;
}

void StreamSide::Violate(const std::string& what) {
  const std::string text = what + ": " + Describe();
  Check(false, text.c_str());
}

uint32_t StreamSide::Size(uint32_t max) {
  return plan_.exact_sizes ? max : 1 + static_cast<uint32_t>(random_.Below(max));
}

void StreamSide::SetUp() {
  buffer_.resize(std::max(plan_.read_max, plan_.write_max));
  if (plan_.waits) memory_.assign(plan_.read_max + kMargin, kFilling);
  const auto set = [this](int level, int name, int value) {
    const Status status = host_->SetOption(*socket_, level, name, value);
    Check(status.ok(), "test: setsockopt");
  };
  if (plan_.no_delay) set(IPPROTO_TCP, TCP_NODELAY, 1);
  if (plan_.cork) set(IPPROTO_TCP, TCP_CORK, 1);
  if (peer_.urgent != 0) set(SOL_SOCKET, SO_OOBINLINE, 1);
  if (plan_.send_buffer != 0) set(SOL_SOCKET, SO_SNDBUF, plan_.send_buffer);
  if (plan_.receive_buffer != 0) set(SOL_SOCKET, SO_RCVBUF, plan_.receive_buffer);
  if (may_fail_) {  // the other end may vanish, and its reset be lost
    set(SOL_SOCKET, SO_KEEPALIVE, 1);
    set(IPPROTO_TCP, TCP_KEEPIDLE, 60);
    set(IPPROTO_TCP, TCP_KEEPINTVL, 10);
  }
}

void StreamSide::Connect(Host& host, Family family, const Endpoint& remote,
                         std::function<void(const Endpoint&)> connecting) {
  host_ = &host;
  family_ = family;
  remote_ = remote;
  connecting_ = std::move(connecting);
  TryConnect();
}

void StreamSide::ConnectCrossed(Host& host, Family family, uint16_t port, const Endpoint& remote) {
  crossed_port_ = port;
  Connect(host, family, remote);
}

void StreamSide::TryConnect() {
  ++attempts_;
  int error = 0;
  socket_ = host_->Open(family_ == Family::kIpv4 ? AF_INET : AF_INET6, SOCK_STREAM, this, &error);
  if (socket_ == nullptr) return Fail(error);
  SetUp();
  if (crossed_port_ != 0) {
    const Status bound = host_->Bind(*socket_, {IpAddress::Any(family_), crossed_port_, 0});
    Check(bound.ok(), "test: bind");
  }
  const Status status = host_->Connect(*socket_, remote_);
  if (!status.ok() && status.error() != EINPROGRESS) return Fail(status.error());
  local_ = host_->LocalName(*socket_);
  if (connecting_ != nullptr) connecting_(local_);
  UpdateInterest();
}

bool StreamSide::RetryConnect(int error) {
  const bool crossed = crossed_port_ != 0;
  if (!(initiator_ || crossed) || connected_ || attempts_ >= kConnectAttempts) return false;
  if (error != EHOSTUNREACH && error != ETIMEDOUT && !(crossed && error == ECONNREFUSED)) {
    return false;
  }
  // The other end is established already: this one gave up in SYN-RECEIVED, and its next SYN, from
  // the same port, resets it (RFC 9293 3.5.1, 3.10.7.4).
  if (crossed && other_->connected_) may_fail_ = other_->may_fail_ = true;
  if (socket_ != nullptr) host_->Close(socket_);
  socket_ = nullptr;
  network_->StartTimer(*host_, this, kConnectTimer, NextAttempt());
  return true;
}

// Two that are to meet within a round trip, which may be microseconds, need an appointment: even
// seconds.
Instant StreamSide::NextAttempt() const {
  const Instant next = network_->now() + Duration::Seconds(1);
  if (crossed_port_ == 0) return next;
  const int64_t slot = Duration::Seconds(2).nanoseconds;
  return Instant{(next.nanoseconds + slot - 1) / slot * slot};
}

void StreamSide::Take(SimSocket* socket) {
  if (closed_) {  // abandoned: the client failed, and its connection was accepted after that
    socket->host->Close(socket);
    return;
  }
  host_ = socket->host;
  socket_ = socket;
  socket->application = this;
  local_ = host_->LocalName(*socket_);
  SetUp();
  connected_ = true;
  if (plan_.read_delay.nanoseconds != 0) Pause(&read_paused_, kReadTimer, plan_.read_delay);
  Work();
}

void StreamSide::FinishConnect() {
  const int error = host_->GetOption(*socket_, SOL_SOCKET, SO_ERROR);
  if (error != 0) return Fail(error);
  if (host_->stack().IsConnecting(*socket_->socket)) return;
  connected_ = true;
  network_->NoteProgress();
  if (plan_.read_delay.nanoseconds != 0) Pause(&read_paused_, kReadTimer, plan_.read_delay);
}

void StreamSide::OnEvents(SimSocket& socket, EventMask events) {
  Check(socket_ == &socket && !closed_, "test: event for a closed stream");
  if (!connected_) {
    if ((events & (kEventOut | kEventError | kEventHangUp)) == 0) return;
    FinishConnect();
    if (!connected_) return;
  }
  // A hang-up is reported whatever the interest: whoever pauses must look, or spin.
  if ((events & (kEventHangUp | kEventError)) != 0) read_paused_ = write_paused_ = false;
  Work();
}

void StreamSide::OnTimer(uint64_t tag) {
  if (closed_) return;
  if (tag == kConnectTimer) return TryConnect();
  if (socket_ == nullptr) return;
  if (tag == kReadTimer) read_paused_ = false;
  if (tag == kWriteTimer) write_paused_ = false;
  if (connected_) Work();
}

void StreamSide::Pause(bool* paused, uint64_t tag, Duration duration) {
  *paused = true;
  network_->StartTimer(*host_, this, tag, network_->now() + duration);
}

uint64_t StreamSide::Allowance() const {
  if (plan_.wait_for_end && !end_seen_) return 0;
  if (plan_.turn_bytes == 0 || end_seen_) return plan_.bytes;
  const uint64_t turns = received_ / plan_.turn_bytes + (initiator_ ? 1 : 0);
  return std::min(plan_.bytes, turns * plan_.turn_bytes);
}

void StreamSide::Work() {
  // With edge triggering everything must be taken until EAGAIN; with level triggering one call of
  // each kind an event is as good, because the level is reported again.
  bool again = true;
  while (again && !closed_) {
    again = false;
    if (!read_paused_ && !end_seen_) again |= ReadSome();
    if (!closed_ && !write_paused_) again |= WriteSome();
    if (!plan_.edge) break;
  }
  if (!closed_) CloseIfDone();
  if (!closed_) UpdateInterest();
}

void StreamSide::OnLooked(SimSocket& socket) {
  Check(socket_ == &socket && wanted_ != 0, "test: a look for a call that does not wait");
  Work();
}

// The call that waited returns.
void StreamSide::EndWait() {
  if (wanted_ == 0) return;
  wanted_ = 0;
  host_->Withdraw(*socket_);
  std::fill(memory_.begin(), memory_.end(), kFilling);
}

// One call, which may be the one that waits and tries again.
Result<size_t> StreamSide::Get(uint32_t want) {
  if (!plan_.waits) return host_->Receive(*socket_, buffer_.data(), want);
  const uint8_t* unused = memory_.data() + wanted_;
  const uint8_t* end = memory_.data() + memory_.size();
  if (std::any_of(unused, end, [](uint8_t byte) { return byte != kFilling; })) {
    Violate("memory was written that no call had");
  }
  const auto got = host_->Receive(*socket_, memory_.data(), want);
  if (got.ok()) std::copy_n(memory_.begin(), *got, buffer_.begin());
  if (!got.ok() && got.error() == EAGAIN) {
    if (wanted_ == 0) host_->WaitForText(*socket_, memory_.data(), want);
    wanted_ = want;
    return got;
  }
  if (wanted_ == 0) std::fill_n(memory_.begin(), want, kFilling);
  EndWait();
  return got;
}

bool StreamSide::ReadSome() {
  const uint32_t want = wanted_ != 0 ? wanted_ : Size(plan_.read_max);
  if (wanted_ == 0 && Chance(plan_.peek)) {
    const auto peeked = host_->Receive(*socket_, buffer_.data(), want, MSG_PEEK);
    if (peeked.ok() && MatchContent(peer_.stream, received_, buffer_.data(), *peeked) != *peeked) {
      Violate("MSG_PEEK shows wrong bytes");
    }
  }
  const auto got = Get(want);
  if (!got.ok()) {
    if (got.error() != EAGAIN) Fail(got.error());
    return false;
  }
  network_->NoteProgress();
  if (*got == 0) {
    end_seen_ = true;
    if (received_ != peer_.bytes && !may_fail_) Violate("end of stream too early");
    return true;
  }
  if (received_ + *got > peer_.bytes) Violate("more bytes than were sent");
  const size_t match = MatchContent(peer_.stream, received_, buffer_.data(), *got);
  if (match != *got) Violate("wrong byte at " + std::to_string(received_ + match));
  received_ += *got;
  if (Chance(plan_.read_pause)) {
    Pause(&read_paused_, kReadTimer,
          Duration::Nanoseconds(static_cast<int64_t>(
              random_.Below(static_cast<uint64_t>(plan_.pause_max.nanoseconds) + 1))));
    return false;
  }
  return true;
}

Result<size_t> StreamSide::Put(uint32_t n, int flags) {
  if ((flags & MSG_OOB) == 0 && Chance(plan_.reserve)) return PutReserved(n, flags);
  const bool last = sent_ + n == plan_.bytes;
  const bool hold = flags == MSG_NOSIGNAL && n <= kLongestReply && last && Chance(plan_.hold);
  FillContent(plan_.stream, sent_, buffer_.data(), n);
  const auto put = host_->Send(*socket_, buffer_.data(), n, hold ? flags | MSG_MORE : flags);
  if (put.ok() && hold) host_->HoldReply(*socket_);
  return put;
}

// As sendfile: reservation after reservation, then all is sent. The file may end early, or not be
// there at all.
Result<size_t> StreamSide::PutReserved(uint32_t n, int flags) {
  size_t put = 0;
  for (bool whole = true; whole && put < n;) {
    const auto space = host_->ReserveSend(*socket_, n - put);
    if (!space.ok() && put == 0) return space.status();
    if (!space.ok()) return put;
    auto filled = (*space).length;
    if (random_.Below(8) == 0) filled = static_cast<uint32_t>(random_.Below(filled + 1));
    FillContent(plan_.stream, sent_ + put, (*space).bytes, filled);
    host_->CommitSend(*socket_, filled);
    put += filled;
    whole = filled == (*space).length;
  }
  host_->SendCommitted(*socket_, (flags & MSG_MORE) != 0);
  if (put != 0) return put;
  FillContent(plan_.stream, sent_, buffer_.data(), n);
  return host_->Send(*socket_, buffer_.data(), n, flags);
}

bool StreamSide::WriteSome() {
  if (ended_) return false;
  const uint64_t allowed = Allowance();
  if (sent_ < allowed) {
    const auto n =
        static_cast<uint32_t>(std::min<uint64_t>(Size(plan_.write_max), allowed - sent_));
    int flags = MSG_NOSIGNAL;
    if (Chance(plan_.more) && sent_ + n < allowed) flags |= MSG_MORE;
    if (Chance(plan_.urgent)) flags |= MSG_OOB;
    const auto put = Put(n, flags);
    if (!put.ok()) {
      if (put.error() != EAGAIN) Fail(put.error());
      return false;
    }
    Check(*put > 0 && *put <= n, "Send returned a count out of range");
    network_->NoteProgress();
    sent_ += *put;
  }
  if (sent_ == plan_.bytes && (!plan_.wait_for_end || end_seen_)) EndWriting();
  if (closed_) return false;
  if (Chance(plan_.write_pause)) {
    Pause(&write_paused_, kWriteTimer,
          Duration::Nanoseconds(static_cast<int64_t>(
              random_.Below(static_cast<uint64_t>(plan_.pause_max.nanoseconds) + 1))));
    return false;
  }
  return !ended_ && sent_ < Allowance();
}

void StreamSide::EndWriting() {
  if (plan_.cork) {
    Check(host_->SetOption(*socket_, IPPROTO_TCP, TCP_CORK, 0).ok(), "test: uncork");
  }
  ended_ = true;
  switch (plan_.end) {
    case EndStyle::kShutdown: {
      const Status status = host_->Shutdown(*socket_, SHUT_WR);
      if (!status.ok()) Fail(status.error());
      return;
    }
    case EndStyle::kCloseAfterEnd:
      return;
    case EndStyle::kCloseAtOnce:
      Close();
      return;
    case EndStyle::kAbort: {
      const linger value{1, 0};
      Check(host_->stack()
                .SetOption(*socket_->socket, SOL_SOCKET, SO_LINGER, &value, sizeof value,
                           host_->now())
                .ok(),
            "test: SO_LINGER");
      Close();
      return;
    }
  }
}

void StreamSide::CloseIfDone() {
  if (ended_ && end_seen_) Close();
}

void StreamSide::Close() {
  closed_ = true;
  given_up_at_close_ = host_->core().counters.Get(Counter::kTcpAbortOnTimeout);
  network_->NoteProgress();
  host_->Close(socket_);
  socket_ = nullptr;
  std::vector<uint8_t>().swap(buffer_);
}

void StreamSide::Abandon() {
  closed_ = true;
  if (socket_ != nullptr) host_->Close(socket_);
  socket_ = nullptr;
}

// The other end was closed, and its host sent the last bytes and the FIN in vain until it gave up
// (Linux: tcp_orphan_retries). A keepalive learns of that by a reset, or by silence.
bool StreamSide::OtherGaveUp() const {
  if (!other_->closed_ || other_->error_ != 0 || other_->host_ == nullptr) return false;
  const Counters& counters = other_->host_->core().counters;
  return counters.Get(Counter::kTcpAbortOnTimeout) > other_->given_up_at_close_;
}

void StreamSide::Fail(int error) {
  if (RetryConnect(error)) return;
  if (OtherGaveUp()) may_fail_ = other_->may_fail_ = true;
  error_ = error;
  closed_ = true;
  if (!may_fail_) Violate("unexpected error");
  if (socket_ != nullptr) host_->Close(socket_);
  socket_ = nullptr;
  std::vector<uint8_t>().swap(buffer_);
}

void StreamSide::UpdateInterest() {
  EventMask interest = 0;
  if (!connected_) {
    interest = kEventOut;
  } else {
    if (!read_paused_ && !end_seen_) interest |= kEventIn;
    if (!write_paused_ && !ended_ &&
        (sent_ < Allowance() || (sent_ == plan_.bytes && !plan_.wait_for_end))) {
      interest |= kEventOut;
    }
  }
  const uint8_t flags = plan_.edge ? kWatchEdge : 0;
  if (socket_->watch.interest != interest || socket_->watch.flags != flags) {
    host_->SetInterest(*socket_, interest, flags);
  }
}

StreamServer::StreamServer(Network* network, Host* host, Family family, uint16_t port, int backlog)
    : network_(network), host_(host), family_(family), port_(port) {
  host->EnterCall(network->now());
  listener_ = host->Open(family == Family::kIpv4 ? AF_INET : AF_INET6, SOCK_STREAM, this);
  Check(listener_ != nullptr, "test: no socket for a server");
  Check(host->SetOption(*listener_, SOL_SOCKET, SO_REUSEADDR, 1).ok(), "test: SO_REUSEADDR");
  // Inherited: an urgent byte that comes before accept must not be taken out of the stream when the
  // next one comes (Linux: tcp_check_urg).
  Check(host->SetOption(*listener_, SOL_SOCKET, SO_OOBINLINE, 1).ok(), "test: SO_OOBINLINE");
  Check(host->Bind(*listener_, {IpAddress::Any(family), port, 0}).ok(), "test: bind");
  Check(host->Listen(*listener_, backlog).ok(), "test: listen");
  host->SetInterest(*listener_, kEventIn);
}

Endpoint StreamServer::endpoint() const { return {host_->address(family_), port_, 0}; }

void StreamServer::OnEvents(SimSocket& socket, EventMask events) {
  if ((events & kEventIn) == 0) return;
  int error = 0;
  SimSocket* accepted = host_->Accept(socket, this, &error);
  if (accepted == nullptr) {
    if (error == EAGAIN) return;
    // Out of memory is the accepting program's to bear: whoever waits is still told of, as on
    // Linux.
    Check(error == ENOBUFS || error == ENOMEM, "accept failed");
    host_->SetInterest(socket, 0);
    network_->StartTimer(*host_, this, 0, network_->now() + Duration::Milliseconds(10));
    return;
  }
  ++accepted_;
  network_->NoteProgress();
  const Endpoint peer = host_->PeerName(*accepted);
  const auto found = expected_.find(Key(peer));
  if (found == expected_.end()) {  // reset before it was accepted: getpeername says ENOTCONN
    host_->Close(accepted);
    return;
  }
  StreamSide* side = found->second;
  expected_.erase(found);
  side->Take(accepted);
}

void StreamServer::OnTimer(uint64_t tag) {
  (void)tag;
  if (listener_ != nullptr) host_->SetInterest(*listener_, kEventIn);
}

void StreamServer::Close() {
  if (listener_ == nullptr) return;
  host_->EnterCall(network_->now());
  host_->Close(listener_);
  listener_ = nullptr;
}

bool StreamPair::finished() const {
  if (!client->finished()) return false;
  if (!server->taken() && !client->succeeded()) server->Abandon();
  return server->finished();
}

namespace {

StreamPair MakePair(Network& network, const StreamPlan& plan, const std::string& name) {
  StreamPair pair;
  pair.client = &network.AddApplication<StreamSide>(&network, plan.client, plan.server, true,
                                                    plan.may_fail, name + " client");
  pair.server = &network.AddApplication<StreamSide>(&network, plan.server, plan.client, false,
                                                    plan.may_fail, name + " server");
  pair.client->FaceTo(pair.server);
  pair.server->FaceTo(pair.client);
  return pair;
}

}  // namespace

StreamPair StartCrossed(Network& network, Host& client, Host& server, Family family, uint16_t port,
                        const StreamPlan& plan, const std::string& name) {
  const StreamPair pair = MakePair(network, plan, name);
  network.At(network.now() + plan.start, [pair, &client, &server, family, port] {
    pair.client->ConnectCrossed(client, family, port, {server.address(family), port, 0});
    pair.server->ConnectCrossed(server, family, port, {client.address(family), port, 0});
  });
  return pair;
}

StreamPair StartStream(Network& network, Host& client, StreamServer& server, Family family,
                       const StreamPlan& plan, const std::string& name) {
  const StreamPair pair = MakePair(network, plan, name);
  network.At(network.now() + plan.start, [pair, &client, &server, family] {
    pair.client->Connect(client, family, server.endpoint(), [&server, pair](const Endpoint& local) {
      server.Expect(local, pair.server);
    });
  });
  return pair;
}

}  // namespace userstack::testing
