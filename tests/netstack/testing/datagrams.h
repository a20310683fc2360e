// Datagrams: a UDP echo server and clients. A client sends numbered datagrams of content and checks
// every reply: it is one of those that were sent, whole and unchanged, and no more often than the
// network could have duplicated it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/netstack/testing/network.h"

namespace userstack::testing {

struct DatagramPlan {
  uint64_t stream = 0;
  uint32_t count = 20;
  uint32_t size_max = 1400;  // payload bytes, 16..size_max
  Duration interval = Duration::Milliseconds(5);
  Duration start;
  Duration patience = Duration::Seconds(90);  // waits for replies so long after the last datagram
  bool connected = false;                     // connect() and send() instead of sendto()
};

class DatagramEcho : public Application {
 public:
  DatagramEcho(Network* network, Host* host, Family family, uint16_t port);
  void OnEvents(SimSocket& socket, EventMask events) override;
  bool finished() const override { return true; }
  std::string Describe() const override { return "udp echo"; }
  Endpoint endpoint() const;
  void Close();

 private:
  Network* network_;
  Host* host_;
  Family family_;
  uint16_t port_;
  SimSocket* socket_ = nullptr;
  std::vector<uint8_t> buffer_;
};

class DatagramClient : public Application {
 public:
  DatagramClient(Network* network, const DatagramPlan& plan, std::string name);
  // Begins at plan.start.
  void Start(Host& host, Family family, const Endpoint& server);
  void OnEvents(SimSocket& socket, EventMask events) override;
  void OnTimer(uint64_t tag) override;
  bool finished() const override { return closed_; }
  std::string Describe() const override;
  uint32_t sent() const { return sent_; }
  uint32_t answered() const { return answered_; }  // different datagrams that came back
  uint32_t duplicates() const { return duplicates_; }

 private:
  void SendOne();
  void Close();

  Network* network_;
  DatagramPlan plan_;
  std::string name_;
  Random random_;
  Host* host_ = nullptr;
  Family family_ = Family::kIpv4;
  SimSocket* socket_ = nullptr;
  Endpoint server_;
  uint32_t sent_ = 0, answered_ = 0, duplicates_ = 0;
  std::vector<uint32_t> sizes_;   // by number; 0: not sent
  std::vector<uint8_t> replies_;  // by number
  std::vector<uint8_t> buffer_;
  bool closed_ = false;
};

}  // namespace userstack::testing
