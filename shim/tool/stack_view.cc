// StackView: see stack_view.h.
#include "shim/tool/stack_view.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "shim/rewrite/image.h"

namespace userstack::tool {
namespace {

using shim::Description;
using shim::Process;
using shim::Shared;
using shim::Slot;

constexpr uint64_t kPage = 4096;
constexpr int kTries = 5;

// A Process without its table, which is half a mebibyte.
struct ProcessHead {
  pid_t pid;
  pid_t parent;
  uint64_t start_time;
};
static_assert(offsetof(ProcessHead, pid) == offsetof(Process, pid));
static_assert(offsetof(ProcessHead, start_time) == offsetof(Process, start_time));

}  // namespace

// What one number leads to.
struct StackView::Chain {
  Copy<Slot> slot;
  Copy<Description> description;
  Copy<Socket> socket;
  Copy<tcp::Connection> tcp;
  Copy<UdpEndpoint> udp;
  Copy<RawEndpoint> raw;
};

std::string BuildIdOf(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat status;
  if (fd < 0 || fstat(fd, &status) != 0) return {};
  const auto size = static_cast<size_t>(status.st_size);
  void* const bytes = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  close(fd);
  if (bytes == MAP_FAILED) return {};
  shim::rewrite::Image image;
  std::string id;
  if (shim::rewrite::Image::FromFile(static_cast<const uint8_t*>(bytes), size, &image)) {
    const shim::rewrite::BuildId& build = image.build_id();
    id.assign(reinterpret_cast<const char*>(build.bytes), build.size);
  }
  munmap(bytes, size);
  return id;
}

StackView::~StackView() {
  if (file_ >= 0) close(file_);
}

bool StackView::ReadBytes(const void* address, void* out, size_t size) const {
  const auto at = reinterpret_cast<uintptr_t>(address);
  if (at < shim::kArenaAddress || at % alignof(void*) != 0) return false;
  const uint64_t offset = at - shim::kArenaAddress;
  if (offset > size_ || size_ - offset < size) return false;
  return pread(file_, out, size, static_cast<off_t>(offset)) == static_cast<ssize_t>(size);
}

StackView::Found StackView::Open(const ProcessFiles& process, const std::string& build,
                                 std::string* why) {
  int number = -1;
  for (const OpenFile& file : process.Files()) {
    if (file.target.starts_with("/memfd:userstack ")) number = file.number;
  }
  if (number < 0) return Found::kNone;
  const std::string path =
      "/proc/" + std::to_string(process.pid()) + "/fd/" + std::to_string(number);
  file_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat status;
  if (file_ < 0 || fstat(file_, &status) != 0 || !S_ISREG(status.st_mode)) {
    *why = "its stack cannot be read: " + std::string(strerror(errno));
    return Found::kUnusable;
  }
  size_ = static_cast<uint64_t>(status.st_size);
  return FindProcess(process, build, why) ? Found::kAttached : Found::kUnusable;
}

bool StackView::FindProcess(const ProcessFiles& process, const std::string& build,
                            std::string* why) {
  const auto* const address = reinterpret_cast<const Shared*>(shim::kArenaAddress + kPage);
  const auto copy = std::make_unique<Copy<Shared>>();
  if (!Read(address, copy.get()) || (**copy).magic != Shared::kMagic) {
    *why = "its stack has a form that this tool does not know";
    return false;
  }
  const Shared& shared = **copy;
  if (build.empty() || memcmp(shared.build, build.data(), build.size()) != 0) {
    *why = "its stack was made by another build of the library than the one beside this tool";
    return false;
  }
  configuration_.assign(shared.configuration,
                        strnlen(shared.configuration, sizeof shared.configuration));
  failed_ = shared.failed;
  for (const Process* record : shared.processes) {
    Copy<ProcessHead> head;
    if (record == nullptr || !ReadBytes(record, head.bytes, sizeof head.bytes)) continue;
    if (head->pid != process.inner_pid() || head->start_time != process.start_time()) continue;
    process_ = record;
    return true;
  }
  *why = "its stack does not know it (a child that has not used a socket yet, or a successor)";
  return false;
}

bool StackView::ReadChain(unsigned number, Chain* chain) const {
  const auto slots = reinterpret_cast<uintptr_t>(process_) + offsetof(Process, slots);
  const auto* const slot = reinterpret_cast<const Slot*>(slots) + number;
  if (!Read(slot, &chain->slot)) return false;
  const Description* const description = chain->slot->description.load(std::memory_order_relaxed);
  if (description == nullptr || !Read(description, &chain->description)) return false;
  if (chain->description->kind == Description::Kind::kEpoll) return true;
  const Socket* const socket = chain->description->socket;
  if (socket == nullptr || !Read(socket, &chain->socket)) return false;
  switch (chain->socket->kind) {
    case SocketKind::kTcp:
      return chain->socket->tcp != nullptr && Read(chain->socket->tcp, &chain->tcp);
    case SocketKind::kUdp:
      return chain->socket->udp != nullptr && Read(chain->socket->udp, &chain->udp);
    case SocketKind::kPing:
    case SocketKind::kRaw:
      return chain->socket->raw != nullptr && Read(chain->socket->raw, &chain->raw);
  }
  return false;
}

StackSocket StackView::Describe(const Chain& chain) {
  StackSocket result;
  result.inode = chain.description->inode;
  result.carried = chain.description->carried;
  if (chain.description->kind == Description::Kind::kEpoll) {
    result.kind = "epoll";
    return result;
  }
  result.id = chain.socket->id;
  const auto datagram = [&result](const DatagramSocket& socket) {
    result.local = socket.local;
    result.peer = socket.remote;
    result.has_peer = socket.connected;
    result.state = socket.connected ? "ESTAB" : "UNCONN";
  };
  switch (chain.socket->kind) {
    case SocketKind::kTcp: {
      const tcp::Connection& c = *chain.tcp;
      result.kind = "tcp";
      result.state = TcpStateName(static_cast<unsigned>(c.state));
      result.local = {c.tuple.local, c.tuple.local_port, 0};
      result.peer = {c.tuple.remote, c.tuple.remote_port, 0};
      result.listening = c.state == tcp::State::kListen;
      result.has_peer = c.tuple.remote_port != 0;
      break;
    }
    case SocketKind::kUdp:
      result.kind = "udp";
      datagram(*chain.udp);
      break;
    case SocketKind::kPing:
      result.kind = "icmp";
      datagram(*chain.raw);
      break;
    case SocketKind::kRaw:
      result.kind = "raw";
      datagram(*chain.raw);
      break;
  }
  return result;
}

std::optional<StackSocket> StackView::At(const OpenFile& file) const {
  const auto number = static_cast<unsigned>(file.number);
  if (process_ == nullptr || number >= shim::kMaxDescriptors) return std::nullopt;
  const auto chain = std::make_unique<Chain>();
  for (int i = 0; i < kTries; ++i) {
    if (!ReadChain(number, chain.get())) return std::nullopt;
    const StackSocket first = Describe(*chain);
    if (!ReadChain(number, chain.get())) continue;
    if (!(first == Describe(*chain))) continue;
    // An epoll instance is a kernel's own descriptor, whose link does not tell its inode.
    if (first.kind != "epoll" && first.inode != file.socket) return std::nullopt;
    return first;
  }
  return std::nullopt;
}

}  // namespace userstack::tool
