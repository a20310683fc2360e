// Transfer: sendfile and splice with a socket of the stack at one end. A file that is in memory is
// read into the send queue at once: with the lock, because such a read never sleeps (RWF_NOWAIT).
// All else goes through a buffer of ours; what the socket does not take is left where it was (the
// file's position, the pipe).
//
// tee, vmsplice and copy_file_range need nothing here: the kernel refuses them for any socket.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>

#include "shim/dispatch/data.h"

namespace userstack::shim {
namespace {

constexpr size_t kChunk = 128 * 1024;
constexpr size_t kAtOnce = 16 * 1024;

// One buffer is kept between calls; a second caller at the same time makes its own.
std::atomic<void*> g_spare{nullptr};

class Chunk {
 public:
  Chunk() : data_(g_spare.exchange(nullptr, std::memory_order_acquire)) {
    if (data_ != nullptr) return;
    const long pages =
        RawSyscall(SYS_mmap, 0, kChunk, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages > 0) data_ = reinterpret_cast<void*>(pages);
  }
  ~Chunk() {
    if (data_ == nullptr) return;
    void* none = nullptr;
    if (g_spare.compare_exchange_strong(none, data_, std::memory_order_release)) return;
    RawSyscall(SYS_munmap, Word(data_), kChunk);
  }
  Chunk(const Chunk&) = delete;
  Chunk& operator=(const Chunk&) = delete;
  bool ok() const { return data_ != nullptr; }
  void* data() { return data_; }

 private:
  void* data_;
};

// One send of the buffer's first `size` bytes; SIGPIPE where it is due.
long SendChunk(int fd, Chunk& chunk, size_t size, int flags) {
  long result = 0;
  bool broken_pipe = false;
  {
    SocketCall call(fd);
    if (call.status() != 0) return call.status() == kNotOurs ? -EBADF : call.status();
    const iovec entry{chunk.data(), size};
    result = SendData(call, IoVector(&entry, 1), flags, {}, nullptr);
    broken_pipe = WantsBrokenPipe(call, result, flags);
  }
  if (broken_pipe) RaiseBrokenPipe();
  return result;
}

// sendfile: the file from *position on, until `count` bytes are sent, the file ends, or the socket
// takes no more.
class FileSend {
 public:
  FileSend(int out, int in, int64_t size, off_t* position)
      : out_(out), in_(in), size_(size), position_(*position) {}

  long Run(size_t count) {
    size_t sent = 0;
    while (sent < count && position_ < size_) {
      const size_t left = std::min(count - sent, static_cast<size_t>(size_ - position_));
      const size_t want = std::min(left, kChunk);
      file_ = File::kCached;
      long n = SendCached(want, left);
      if (n == 0 && file_ == File::kNotCached) n = SendCopied(want, left);
      if (n < 0 && sent == 0) return ErrorOf(n);
      if (n <= 0) break;
      sent += static_cast<size_t>(n);
      position_ += n;
      if (static_cast<size_t>(n) < want && file_ == File::kCached) break;
    }
    return static_cast<long>(sent);
  }

 private:
  enum class File : uint8_t { kCached, kNotCached, kEnded };

  // One stay in the stack, for at most `want` of `left` bytes. 0: see file_.
  long SendCached(size_t want, size_t left) {
    bool broken_pipe = false;
    long result = 0;
    {
      SocketCall call(out_);
      if (call.status() != 0) return call.status() == kNotOurs ? -EBADF : call.status();
      if (call.socket().kind != SocketKind::kTcp) {
        file_ = File::kNotCached;
        return 0;
      }
      if (left >= Session::kBulk) call.session().LookBeforeBulk();
      size_t moved = 0;
      const auto attempt = [&]() -> long { return ReadInto(call, want, left, &moved); };
      result = Repeat(call, kWaitWritable, call.description().nonblocking,
                      call.description().send_timeout, attempt, &moved);
      if (result < 0 && moved != 0) result = static_cast<long>(moved);
      broken_pipe = WantsBrokenPipe(call, result, 0);
    }
    if (broken_pipe) RaiseBrokenPipe();
    return result;
  }

  // All is read before any of it is sent, so that it leaves in as few frames as it can.
  long ReadInto(SocketCall& call, size_t want, size_t left, size_t* moved) {
    while (*moved < want) {
      // An error that the next call has to report: to ask again would consume it.
      if (*moved != 0 && (call.socket().pollable.level & (kEventError | kEventHangUp)) != 0) break;
      const Result<SendSpace> space =
          call.stack().ReserveSend(call.socket(), want - *moved, call.now());
      if (!space.ok()) return -space.error();
      const iovec entry{(*space).bytes, (*space).length};
      const long n = RawSyscall(SYS_preadv2, in_, Word(&entry), 1,
                                position_ + static_cast<long>(*moved), 0, RWF_NOWAIT);
      if (n <= 0) file_ = n == 0 ? File::kEnded : File::kNotCached;
      const size_t filled = n > 0 ? static_cast<size_t>(n) : 0;
      call.stack().CommitSend(call.socket(), filled);
      if (n <= 0) break;
      *moved += filled;
    }
    const bool more = file_ != File::kEnded && *moved < left;
    call.stack().SendCommitted(call.socket(), more, call.now());
    return static_cast<long>(*moved);
  }

  // What a read without waiting does not get: from the disk, without the lock.
  long SendCopied(size_t want, size_t left) {
    Chunk chunk;
    if (!chunk.ok()) return -ENOMEM;
    const long read = RawSyscall(SYS_pread64, in_, Word(chunk.data()), want, position_);
    if (read <= 0) return read;
    const bool more = static_cast<size_t>(read) < left;
    const long n = SendChunk(out_, chunk, static_cast<size_t>(read), more ? MSG_MORE : 0);
    if (n < read) file_ = File::kCached;  // it is the socket that takes no more
    return n;
  }

  // Linux reads before it sends, so a file that cannot be read is what the caller hears of.
  long ErrorOf(long error) const {
    char byte;
    const long read =
        error == -EAGAIN ? 0 : RawSyscall(SYS_pread64, in_, Word(&byte), 1, position_);
    return read < 0 ? read : error;
  }

  const int out_;
  const int in_;
  const int64_t size_;
  off_t& position_;
  File file_ = File::kCached;
};

// A small part of a file that is all there: one read proves that `in` can be read at a position and
// need not be asked what it is, which for a web server's small files is a fifth of its calls. 0:
// nothing was sent, and FileSend has to find out why.
long SendAtOnce(int out, int in, off_t position, size_t count) {
  if (count == 0 || count > kAtOnce || position < 0) return 0;
  SocketCall call(out);
  if (call.status() != 0 || call.socket().kind != SocketKind::kTcp) return 0;
  Socket& socket = call.socket();
  if ((socket.pollable.level & (kEventError | kEventHangUp)) != 0) return 0;
  const Result<SendSpace> space = call.stack().ReserveSend(socket, count, call.now());
  if (!space.ok()) return 0;
  long n = 0;
  if ((*space).length == count) {
    const iovec entry{(*space).bytes, count};
    n = RawSyscall(SYS_preadv2, in, Word(&entry), 1, position, 0, RWF_NOWAIT);
  }
  const bool all = n == static_cast<long>(count);
  call.stack().CommitSend(socket, all ? count : 0);
  if (!all) return 0;
  call.stack().SendCommitted(socket, false, call.now());
  call.description().missed = false;
  return n;
}

bool WaitForPipe(int fd, short events, bool nonblocking, long* error) {
  pollfd entry{fd, events, 0};
  const timespec zero{};
  const long ready = RawSyscall(SYS_ppoll, Word(&entry), 1, nonblocking ? Word(&zero) : 0, 0, 8);
  if (ready > 0) return true;
  *error = ready == 0 ? -EAGAIN : ready;
  return false;
}

bool IsNonblocking(int fd) {
  const long flags = RawSyscall(SYS_fcntl, fd, F_GETFL);
  return flags > 0 && (flags & O_NONBLOCK) != 0;
}

bool IsPipe(int fd) {
  struct stat status;
  return RawSyscall(SYS_fstat, fd, Word(&status)) == 0 && S_ISFIFO(status.st_mode);
}

// A pipe of our own for the time of one call.
class OwnPipe {
 public:
  OwnPipe() : status_(RawSyscall(SYS_pipe2, Word(ends_), O_CLOEXEC | O_NONBLOCK)) {}
  ~OwnPipe() {
    if (status_ < 0) return;
    RawSyscall(SYS_close, ends_[0]);
    RawSyscall(SYS_close, ends_[1]);
  }
  OwnPipe(const OwnPipe&) = delete;
  OwnPipe& operator=(const OwnPipe&) = delete;
  long status() const { return status_; }
  int reader() const { return ends_[0]; }
  int writer() const { return ends_[1]; }

 private:
  int ends_[2];
  long status_;
};

// A look into a pipe without taking anything: tee into one of our own. Returns how much was copied
// to the buffer; 0 at its end.
long PeekPipe(int pipe, Chunk& chunk, size_t size) {
  const OwnPipe own;
  if (own.status() < 0) return own.status();
  const long copied =
      RawSyscall(SYS_tee, pipe, own.writer(), static_cast<long>(size), SPLICE_F_NONBLOCK);
  long filled = 0;
  while (filled < copied) {
    const long n = RawSyscall(SYS_read, own.reader(),
                              Word(static_cast<char*>(chunk.data()) + filled), copied - filled);
    if (n <= 0) break;
    filled += n;
  }
  return copied > 0 ? filled : copied;
}

long PipeToSocket(int pipe, int socket, size_t size, unsigned flags) {
  Chunk chunk;
  if (!chunk.ok()) return -ENOMEM;
  long error = 0;
  const bool nonblocking = (flags & SPLICE_F_NONBLOCK) != 0 || IsNonblocking(pipe);
  if (!WaitForPipe(pipe, POLLIN, nonblocking, &error)) return error;
  const long peeked = PeekPipe(pipe, chunk, std::min(size, kChunk));
  if (peeked <= 0) return peeked;
  const int send_flags = ((flags & SPLICE_F_MORE) != 0 ? MSG_MORE : 0) |
                         ((flags & SPLICE_F_NONBLOCK) != 0 ? MSG_DONTWAIT : 0);
  const long sent = SendChunk(socket, chunk, static_cast<size_t>(peeked), send_flags);
  for (long left = sent; left > 0;) {
    const long n = RawSyscall(SYS_read, pipe, Word(chunk.data()), left);
    if (n <= 0) break;
    left -= n;
  }
  return sent;
}

long ReceiveChunk(int fd, Chunk& chunk, size_t size, int flags) {
  SocketCall call(fd);
  if (call.status() != 0) return call.status() == kNotOurs ? -EBADF : call.status();
  if (call.socket().kind != SocketKind::kTcp) return -EINVAL;
  const iovec entry{chunk.data(), size};
  ReceivedMessage message;
  return ReceiveData(call, IoVector(&entry, 1), flags, &message);
}

// A write that never waits, whatever the pipe's flags: the thread that splices into a pipe is often
// the one that empties it. (RWF_NOWAIT would do, but a pipe that was ever spliced refuses it.)
long WriteNow(int pipe, const void* data, size_t size) {
  const OwnPipe own;
  if (own.status() < 0) return own.status();
  const long filled = RawSyscall(SYS_write, own.writer(), Word(data), static_cast<long>(size));
  if (filled <= 0) return filled;
  return RawSyscall(SYS_splice, own.reader(), 0, pipe, 0, filled, SPLICE_F_NONBLOCK);
}

long SocketToPipe(int socket, int pipe, size_t size, unsigned flags) {
  Chunk chunk;
  if (!chunk.ok()) return -ENOMEM;
  const bool pipe_nonblocking = (flags & SPLICE_F_NONBLOCK) != 0 || IsNonblocking(pipe);
  long error = 0;
  if (!WaitForPipe(pipe, POLLOUT, pipe_nonblocking, &error)) return error;
  const int wait = (flags & SPLICE_F_NONBLOCK) != 0 ? MSG_DONTWAIT : 0;
  const long peeked = ReceiveChunk(socket, chunk, std::min(size, kChunk), MSG_PEEK | wait);
  if (peeked <= 0) return peeked;
  const long written = WriteNow(pipe, chunk.data(), static_cast<size_t>(peeked));
  if (written < 0) {
    if (written == -EPIPE) RaiseBrokenPipe();
    return written;
  }
  ReceiveChunk(socket, chunk, static_cast<size_t>(written), MSG_DONTWAIT);
  return written;
}

}  // namespace

long sys_sendfile(int out, int in, off_t* offset, size_t count) {
  if (IsOurs(out) && offset != nullptr && !IsBadAddress(offset)) {
    const long sent = SendAtOnce(out, in, *offset, count);
    if (sent != 0) {
      *offset += sent;
      return sent;
    }
  }
  struct stat status;
  if (!IsOurs(out) || RawSyscall(SYS_fstat, in, Word(&status)) != 0 ||
      !(S_ISREG(status.st_mode) || S_ISBLK(status.st_mode))) {
    // Linux: sendfile reads from files only. The kernel's errors are right for the placeholder too.
    return RawSyscall(SYS_sendfile, out, in, Word(offset), static_cast<long>(count));
  }
  count = std::min(count, kMaxTransfer);
  if (offset != nullptr && IsBadAddress(offset)) return -EFAULT;
  off_t position = offset != nullptr ? *offset : RawSyscall(SYS_lseek, in, 0, SEEK_CUR);
  if (position < 0) return -EINVAL;
  const int64_t size = S_ISREG(status.st_mode) ? status.st_size : INT64_MAX;
  const long result = FileSend(out, in, size, &position).Run(count);
  if (offset != nullptr) {
    *offset = position;
  } else {
    RawSyscall(SYS_lseek, in, position, SEEK_SET);
  }
  return result;
}

long sys_splice(int in, off_t* in_offset, int out, off_t* out_offset, size_t size, unsigned flags) {
  const bool from = IsOurs(in);
  const bool to = IsOurs(out);
  if ((from || to) && size == 0) return 0;
  if (to && !from && IsPipe(in)) {
    if (in_offset != nullptr) return -ESPIPE;
    // do_splice asks whether the other end can seek before it says what it is.
    if (out_offset != nullptr) return -EINVAL;
    return PipeToSocket(in, out, size, flags);
  }
  if (from && !to && IsPipe(out)) {
    if (out_offset != nullptr) return -ESPIPE;
    if (in_offset != nullptr) return -EINVAL;
    return SocketToPipe(in, out, size, flags);
  }
  return RawSyscall(SYS_splice, in, Word(in_offset), out, Word(out_offset), static_cast<long>(size),
                    flags);
}

}  // namespace userstack::shim
