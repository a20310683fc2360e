// Io: read, write and their relatives on sockets of the stack.
#include "shim/dispatch/data.h"
#include "shim/dispatch/kernel_route.h"

namespace userstack::shim {
namespace {

long Receive(int fd, const IoVector& data, int flags, sockaddr* address, socklen_t* length) {
  if (!IsOurs(fd)) return kNotOurs;
  SocketCall call(fd, Session::Look::kLater);
  if (call.status() != 0) return call.status();
  ReceivedMessage message;
  const long result = ReceiveData(call, data, flags, &message);
  if (result < 0 || address == nullptr) return result;
  if (IsBadAddress(length)) return -EFAULT;
  if (static_cast<int>(*length) < 0) return -EINVAL;
  // Linux: a stream has no source address (tcp_recvmsg leaves msg_namelen at 0).
  if (call.socket().kind == SocketKind::kTcp) {
    *length = 0;
    return result;
  }
  StoreEndpoint(message.source, call.socket().family, address, length);
  return result;
}

long Send(int fd, const IoVector& data, int flags, const Destination& destination) {
  if (!IsOurs(fd)) return kNotOurs;
  long result = 0;
  bool broken_pipe = false;
  {
    SocketCall call(fd);
    if (call.status() != 0) return call.status();
    result = SendData(call, data, flags, destination, nullptr);
    broken_pipe = WantsBrokenPipe(call, result, flags);
  }
  if (broken_pipe) RaiseBrokenPipe();
  return result;
}

int VectorFlags(int flags) { return (flags & RWF_NOWAIT) != 0 ? MSG_DONTWAIT : 0; }

}  // namespace

long sys_read(int fd, void* buffer, size_t size) {
  if (IsOurs(fd)) {
    // Linux (sock_read_iter): nothing asked for, nothing done.
    if (size == 0) return 0;
    if (IsBadAddress(buffer)) return -EFAULT;
  }
  const iovec entry{buffer, std::min(size, kMaxTransfer)};
  const long result = Receive(fd, IoVector(&entry, 1), 0, nullptr, nullptr);
  return result != kNotOurs ? result : RawSyscall(SYS_read, fd, Word(buffer), size);
}

long sys_write(int fd, const void* buffer, size_t size) {
  if (IsOurs(fd) && size != 0 && IsBadAddress(buffer)) return -EFAULT;
  const iovec entry{const_cast<void*>(buffer), std::min(size, kMaxTransfer)};
  const long result = Send(fd, IoVector(&entry, 1), 0, {});
  return result != kNotOurs ? result : RawSyscall(SYS_write, fd, Word(buffer), size);
}

long sys_readv(int fd, const iovec* entries, int count) {
  if (IsOurs(fd)) {
    const long bad = CheckVector(entries, count);
    if (bad != 0) return bad;
    const IoVector data(entries, count);
    if (data.Total() == 0) return 0;
    const long result = Receive(fd, data, 0, nullptr, nullptr);
    if (result != kNotOurs) return result;
  }
  return RawSyscall(SYS_readv, fd, Word(entries), count);
}

long sys_writev(int fd, const iovec* entries, int count) {
  if (IsOurs(fd)) {
    const long bad = CheckVector(entries, count);
    if (bad != 0) return bad;
    const long result = Send(fd, IoVector(entries, count), 0, {});
    if (result != kNotOurs) return result;
  }
  return RawSyscall(SYS_writev, fd, Word(entries), count);
}

long sys_preadv2(int fd, const iovec* entries, int count, off_t offset, int flags) {
  // An offset of -1 means the file position: readv with flags. Any other is ESPIPE, which the
  // kernel says of the placeholder too.
  if (offset == -1 && IsOurs(fd)) {
    const long bad = CheckVector(entries, count);
    if (bad != 0) return bad;
    const long result = Receive(fd, IoVector(entries, count), VectorFlags(flags), nullptr, nullptr);
    if (result != kNotOurs) return result;
  }
  return RawSyscall(SYS_preadv2, fd, Word(entries), count, offset, 0, flags);
}

long sys_pwritev2(int fd, const iovec* entries, int count, off_t offset, int flags) {
  if (offset == -1 && IsOurs(fd)) {
    const long bad = CheckVector(entries, count);
    if (bad != 0) return bad;
    const long result = Send(fd, IoVector(entries, count), VectorFlags(flags), {});
    if (result != kNotOurs) return result;
  }
  return RawSyscall(SYS_pwritev2, fd, Word(entries), count, offset, 0, flags);
}

long sys_recvfrom(int fd, void* buffer, size_t size, int flags, sockaddr* address,
                  socklen_t* length) {
  if (IsOurs(fd) && size != 0 && IsBadAddress(buffer)) return -EFAULT;
  const iovec entry{buffer, std::min(size, kMaxTransfer)};
  const long result = Receive(fd, IoVector(&entry, 1), flags, address, length);
  if (result != kNotOurs) return result;
  return RawSyscall(SYS_recvfrom, fd, Word(buffer), size, flags, Word(address), Word(length));
}

long sys_sendto(int fd, const void* buffer, size_t size, int flags, const sockaddr* address,
                socklen_t length) {
  if (IsOurs(fd) && size != 0 && IsBadAddress(buffer)) return -EFAULT;
  if (address != nullptr && IsOurs(fd)) {
    const long moved = RouteSend(fd, address, length);
    if (moved < 0) return moved;
  }
  const iovec entry{const_cast<void*>(buffer), std::min(size, kMaxTransfer)};
  const long result = Send(fd, IoVector(&entry, 1), flags, {address, length});
  if (result != kNotOurs) return result;
  return RawSyscall(SYS_sendto, fd, Word(buffer), size, flags, Word(address), length);
}

}  // namespace userstack::shim
