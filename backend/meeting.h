// Meeting: what is said at the address where newcomers find whoever holds a device: an abstract
// AF_UNIX name made of user and device, of message type SOCK_SEQPACKET. Programs of one stack share
// it by this (shim/rendezvous.cc); who only wants the device asks whether its holder is about to
// leave.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <cstdint>
#include <string>

namespace userstack::backend {

inline constexpr uint64_t kHelloMagic = 0x6f6c6c6568737501;

// kSoon: only a successor holds the device, and it gives way.
enum class Answer : uint32_t { kWelcome, kOtherBuild, kOtherConfiguration, kSoon };

struct Hello {
  uint64_t magic = kHelloMagic;
  uint8_t build[32] = {};  // none: not to join
  char configuration[1024] = {};
};

struct Reply {
  uint64_t magic = kHelloMagic;
  Answer answer = Answer::kWelcome;
  int32_t creator = 0;
  char configuration[1024] = {};
};

// Where the programs of `user` meet; returns its length. Without the device's options: two stacks
// with different ones want the same device.
socklen_t MeetingAddress(long user, const char* device, sockaddr_un* address);

// kGivesWay: the programs have ended, and what finishes their connections ends too, having been
// asked. It takes a moment.
enum class Holder : uint8_t { kNone, kGivesWay, kStays };

// Asks who holds the device among the programs of `user`.
Holder AskHolder(long user, const std::string& device);

}  // namespace userstack::backend
