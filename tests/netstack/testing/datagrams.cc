#include "tests/netstack/testing/datagrams.h"

#include <sstream>

#include "netstack/base/byte_order.h"
#include "netstack/base/check.h"
#include "tests/netstack/testing/content.h"

namespace userstack::testing {
namespace {

constexpr uint64_t kSendTimer = 1, kEndTimer = 2;
constexpr uint32_t kHeader = 16;  // stream, number, size

bool IsTransient(int error) {
  // Full queues, and errors that ICMP brings to a connected socket.
  return error == EAGAIN || error == ENOBUFS || error == EHOSTUNREACH || error == ECONNREFUSED ||
         error == ENOMEM || error == EMSGSIZE;
}

}  // namespace

DatagramEcho::DatagramEcho(Network* network, Host* host, Family family, uint16_t port)
    : network_(network), host_(host), family_(family), port_(port), buffer_(65536) {
  host->EnterCall(network->now());
  socket_ = host->Open(family == Family::kIpv4 ? AF_INET : AF_INET6, SOCK_DGRAM, this);
  Check(socket_ != nullptr, "test: no socket for the echo server");
  Check(host->Bind(*socket_, {IpAddress::Any(family), port, 0}).ok(), "test: bind");
  host->SetInterest(*socket_, kEventIn);
}

Endpoint DatagramEcho::endpoint() const { return {host_->address(family_), port_, 0}; }

void DatagramEcho::OnEvents(SimSocket& socket, EventMask events) {
  (void)events;
  ReceivedMessage message;
  const auto got = host_->Receive(socket, buffer_.data(), buffer_.size(), 0, &message);
  if (!got.ok()) {
    Check(IsTransient(got.error()), "udp echo: receive failed");
    return;
  }
  Check(message.length == *got, "udp echo: truncated");
  const auto put = host_->SendTo(socket, buffer_.data(), *got, message.source);
  Check(put.ok() || IsTransient(put.error()), "udp echo: send failed");
}

void DatagramEcho::Close() {
  if (socket_ == nullptr) return;
  host_->EnterCall(network_->now());
  host_->Close(socket_);
  socket_ = nullptr;
}

DatagramClient::DatagramClient(Network* network, const DatagramPlan& plan, std::string name)
    : network_(network),
      plan_(plan),
      name_(std::move(name)),
      random_(network->random().Next()),
      sizes_(plan.count),
      replies_(plan.count),
      buffer_(65536) {}

std::string DatagramClient::Describe() const {
  std::ostringstream out;
  out << name_ << " sent " << sent_ << "/" << plan_.count << ", answered " << answered_;
  return out.str();
}

void DatagramClient::Start(Host& host, Family family, const Endpoint& server) {
  host_ = &host;
  family_ = family;
  server_ = server;
  network_->StartTimer(host, this, kSendTimer, network_->now() + plan_.start);
}

void DatagramClient::OnTimer(uint64_t tag) {
  if (closed_) return;
  if (tag == kEndTimer) return Close();
  if (socket_ == nullptr) {
    socket_ = host_->Open(family_ == Family::kIpv4 ? AF_INET : AF_INET6, SOCK_DGRAM, this);
    Check(socket_ != nullptr, "test: no socket for a datagram client");
    if (plan_.connected) Check(host_->Connect(*socket_, server_).ok(), "test: udp connect");
    host_->SetInterest(*socket_, kEventIn);
  }
  SendOne();
}

void DatagramClient::SendOne() {
  const uint32_t size =
      kHeader + static_cast<uint32_t>(random_.Below(plan_.size_max - kHeader + 1));
  Store64(&buffer_[0], plan_.stream);
  Store32(&buffer_[8], sent_);
  Store32(&buffer_[12], size);
  FillContent(plan_.stream + sent_, 0, &buffer_[kHeader], size - kHeader);
  const auto put = plan_.connected ? host_->Send(*socket_, buffer_.data(), size)
                                   : host_->SendTo(*socket_, buffer_.data(), size, server_);
  Check(put.ok() ? *put == size : IsTransient(put.error()), "udp client: send failed");
  if (put.ok()) sizes_[sent_] = size;
  ++sent_;
  network_->NoteProgress();
  if (sent_ == plan_.count || answered_ == plan_.count) {
    network_->StartTimer(*host_, this, kEndTimer, network_->now() + plan_.patience);
  } else {
    network_->StartTimer(*host_, this, kSendTimer, network_->now() + plan_.interval);
  }
}

void DatagramClient::OnEvents(SimSocket& socket, EventMask events) {
  (void)events;
  ReceivedMessage message;
  const auto got = host_->Receive(socket, buffer_.data(), buffer_.size(), 0, &message);
  if (!got.ok()) {
    Check(IsTransient(got.error()), "udp client: receive failed");
    return;
  }
  Check(message.source == server_, "udp client: reply from elsewhere");
  Check(*got >= kHeader && Load64(&buffer_[0]) == plan_.stream, "udp client: foreign datagram");
  const uint32_t number = Load32(&buffer_[8]);
  Check(number < sent_ && sizes_[number] == *got && Load32(&buffer_[12]) == *got,
        "udp client: datagram of a wrong size");
  Check(MatchContent(plan_.stream + number, 0, &buffer_[kHeader], *got - kHeader) == *got - kHeader,
        "udp client: wrong bytes in a datagram");
  if (replies_[number]++ == 0) {
    ++answered_;
    network_->NoteProgress();
  } else {
    ++duplicates_;
  }
  Check(replies_[number] < 32, "udp client: a datagram multiplies");
  if (answered_ == plan_.count) Close();
}

void DatagramClient::Close() {
  closed_ = true;
  host_->Close(socket_);
  socket_ = nullptr;
}

}  // namespace userstack::testing
