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

const char* EndName(EndStyle end) {
  switch (end) {
    case EndStyle::kShutdown:
      return "shutdown";
    case EndStyle::kCloseAfterEnd:
      return "close-after-end";
    case EndStyle::kCloseAtOnce:
      return "close-at-once";
    case EndStyle::kAbort:
      return "abort";
  }
  return "";
}

std::string DescribeSide(const SidePlan& plan) {
  std::ostringstream out;
  out << plan.bytes << " bytes, " << EndName(plan.end) << ", writes " << plan.write_max
      << ", reads " << plan.read_max;
  if (plan.turn_bytes != 0) out << ", turns of " << plan.turn_bytes;
  if (plan.wait_for_end) out << ", after the peer's end";
  if (plan.write_pause != 0) out << ", pauses writing";
  if (plan.read_pause != 0) out << ", pauses reading";
  if (plan.read_delay.nanoseconds != 0) out << ", reads late by " << plan.read_delay.milliseconds();
  if (plan.edge) out << ", edge";
  if (plan.no_delay) out << ", nodelay";
  if (plan.cork) out << ", cork";
  if (plan.more != 0) out << ", more";
  if (plan.peek != 0) out << ", peek";
  if (plan.urgent != 0) out << ", urgent";
  if (plan.send_buffer != 0) out << ", sndbuf " << plan.send_buffer;
  if (plan.receive_buffer != 0) out << ", rcvbuf " << plan.receive_buffer;
  return out.str();
}

}  // namespace

std::string StreamPlan::Describe() const {
  return "at " + std::to_string(start.milliseconds()) + " ms: client " + DescribeSide(client) +
         "; server " + DescribeSide(server) + (crossed ? " (crossed)" : "") +
         (may_fail ? " (may fail)" : "");
}

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

void StreamSide::ConnectCrossed(Host& host, Family family, uint16_t port, const Endpoint& remote,
                                StreamSide* other) {
  crossed_ = other;
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
  // To meet takes luck where the delay is short beside the pauses.
  const int most = crossed ? 10 * kConnectAttempts : kConnectAttempts;
  if (!(initiator_ || crossed) || connected_ || attempts_ >= most) return false;
  if (error != EHOSTUNREACH && error != ETIMEDOUT && !(crossed && error == ECONNREFUSED)) {
    return false;
  }
  // The other end is established already: this one gave up in SYN-RECEIVED, and its next SYN, from
  // the same port, resets it (RFC 9293 3.5.1, 3.10.7.4).
  if (crossed && crossed_->connected_) may_fail_ = crossed_->may_fail_ = true;
  if (socket_ != nullptr) host_->Close(socket_);
  socket_ = nullptr;
  // Two that meet may not keep missing each other.
  const Duration pause =
      Duration::Milliseconds(1000 + (crossed ? static_cast<int64_t>(random_.Below(1000)) : 0));
  network_->StartTimer(*host_, this, kConnectTimer, network_->now() + pause);
  return true;
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

bool StreamSide::ReadSome() {
  const uint32_t want = Size(plan_.read_max);
  if (Chance(plan_.peek)) {
    const auto peeked = host_->Receive(*socket_, buffer_.data(), want, MSG_PEEK);
    if (peeked.ok() && MatchContent(peer_.stream, received_, buffer_.data(), *peeked) != *peeked) {
      Violate("MSG_PEEK shows wrong bytes");
    }
  }
  const auto got = host_->Receive(*socket_, buffer_.data(), want);
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

bool StreamSide::WriteSome() {
  if (ended_) return false;
  const uint64_t allowed = Allowance();
  if (sent_ < allowed) {
    const auto n =
        static_cast<uint32_t>(std::min<uint64_t>(Size(plan_.write_max), allowed - sent_));
    FillContent(plan_.stream, sent_, buffer_.data(), n);
    int flags = MSG_NOSIGNAL;
    if (Chance(plan_.more) && sent_ + n < allowed) flags |= MSG_MORE;
    if (Chance(plan_.urgent)) flags |= MSG_OOB;
    const auto put = host_->Send(*socket_, buffer_.data(), n, flags);
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

void StreamSide::Fail(int error) {
  if (RetryConnect(error)) return;
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
  return pair;
}

}  // namespace

StreamPair StartCrossed(Network& network, Host& client, Host& server, Family family, uint16_t port,
                        const StreamPlan& plan, const std::string& name) {
  const StreamPair pair = MakePair(network, plan, name);
  network.At(network.now() + plan.start, [pair, &client, &server, family, port] {
    pair.client->ConnectCrossed(client, family, port, {server.address(family), port, 0},
                                pair.server);
    pair.server->ConnectCrossed(server, family, port, {client.address(family), port, 0},
                                pair.client);
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
