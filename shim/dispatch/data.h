// Data: moving bytes through a socket of the stack, blocking as Linux does. What read, recv,
// recvmsg, write, send, sendmsg, sendfile and splice have in common.
#pragma once

#include "shim/dispatch/call.h"

namespace userstack::shim {

// The largest count one call moves (Linux: MAX_RW_COUNT).
inline constexpr size_t kMaxTransfer = 0x7ffff000;

struct Destination {
  const sockaddr* address = nullptr;
  socklen_t length = 0;
};

// Bytes moved, or -errno; with bytes moved an error waits for the next call. -EPIPE: the caller
// raises SIGPIPE once the session is over, see WantsBrokenPipe.
long SendData(SocketCall& call, const IoVector& data, int flags, const Destination& destination,
              const Ancillary* ancillary);
// What recvmsg returns; *message holds the rest. For a call made with Look::kLater: the device is
// asked only when the socket has nothing, or nobody has asked for long.
long ReceiveData(SocketCall& call, const IoVector& data, int flags, ReceivedMessage* message);

// SIGPIPE is for stream sockets, unless MSG_NOSIGNAL.
bool WantsBrokenPipe(const SocketCall& call, long result, int flags);

// 0, -EINVAL or -EFAULT, as import_iovec.
long CheckVector(const iovec* entries, long count);

}  // namespace userstack::shim
