// Control data: cmsgs to Ancillary and back, byte for byte as Linux's ip_cmsg_send, put_cmsg and
// their relatives. Pure; no lock.
#pragma once

#include <sys/socket.h>

#include "netstack/base/time.h"
#include "netstack/socket/socket.h"

namespace userstack::shim {

// What the control messages of a sendmsg on a socket of `kind` and `domain` ask for. 0, or -EINVAL
// for a malformed or unknown one. SCM_RIGHTS and SCM_CREDENTIALS mean nothing to an internet socket
// and are passed over, as Linux does.
long DecodeControl(const msghdr& message, SocketKind kind, Family domain, Ancillary* out);

struct ControlStyle {
  Family domain = Family::kIpv4;  // of the socket
  bool v4_packet = true;          // the packet was IPv4 (in an IPv6 socket perhaps)
  bool timestamp_ns = false;      // SO_TIMESTAMPNS rather than SO_TIMESTAMP
  Duration realtime_offset;       // CLOCK_REALTIME minus CLOCK_MONOTONIC
  // The IPv4 address of ours that stands for a destination that is a group's or a broadcast's;
  // unspecified: the destination itself is ours.
  IpAddress local;
};

// Writes `ancillary` into message->msg_control and sets msg_controllen. Returns MSG_CTRUNC when
// there was no room for all of it, else 0.
int EncodeControl(const Ancillary& ancillary, const ControlStyle& style, msghdr* message);

}  // namespace userstack::shim
