// StackView: a look into the stack of another process, without disturbing it.
//
// The arena is a file in memory, which /proc/PID/fd names; it is read, not mapped. So nothing is
// written, no page comes to be, and no lock is taken: the lock's owner may be stopped, and a holder
// that is killed costs the others an audit. What is read may therefore be torn. Each pointer is
// followed within the file's bounds only, a descriptor's chain (slot, description, socket,
// transport) is read twice until both are alike, and the description must name the inode that the
// kernel shows under that number: that is what makes an answer right.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "shim/shared.h"
#include "shim/tool/process_files.h"

namespace userstack::tool {

struct StackSocket {
  std::string kind;   // "tcp", "udp", "ping", "raw", "epoll"
  std::string state;  // as ss says it
  Endpoint local;
  Endpoint peer;
  bool has_peer = false;
  bool listening = false;
  bool carried = false;  // data has gone through the stack
  uint64_t inode = 0;    // of the descriptor that stands for it
  uint64_t id = 0;       // unique in the stack's life
  bool operator==(const StackSocket&) const = default;
};

class StackView {
 public:
  StackView() = default;
  ~StackView();
  StackView(const StackView&) = delete;
  StackView& operator=(const StackView&) = delete;

  enum class Found : uint8_t {
    kAttached,  // the stack that the process uses
    kNone,      // the process has no stack
    kUnusable,  // *why is one line
  };
  // `build`: of the library whose layout this tool knows.
  Found Open(const ProcessFiles& process, const std::string& build, std::string* why);

  // What the descriptor is to the stack; nothing: it is not the stack's.
  std::optional<StackSocket> At(const OpenFile& file) const;
  // "USERSTACK_DEV=... USERSTACK_ADDR=..."
  const std::string& configuration() const { return configuration_; }
  bool failed() const { return failed_; }

 private:
  // Bytes with the layout of a T, which need not be one yet.
  template <typename T>
  struct Copy {
    alignas(T) unsigned char bytes[sizeof(T)];
    const T& operator*() const { return *reinterpret_cast<const T*>(bytes); }
    const T* operator->() const { return &**this; }
  };
  struct Chain;

  bool ReadBytes(const void* address, void* out, size_t size) const;
  template <typename T>
  bool Read(const T* address, Copy<T>* out) const {
    return ReadBytes(address, out->bytes, sizeof out->bytes);
  }
  bool FindProcess(const ProcessFiles& process, const std::string& build, std::string* why);
  bool ReadChain(unsigned number, Chain* chain) const;
  static StackSocket Describe(const Chain& chain);

  int file_ = -1;
  uint64_t size_ = 0;
  const shim::Process* process_ = nullptr;  // an address in the arena
  std::string configuration_;
  bool failed_ = false;
};

// The build id of an object; "" when it has none or cannot be read.
std::string BuildIdOf(const std::string& path);

}  // namespace userstack::tool
