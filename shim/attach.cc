// Attach: how this process comes to its stack. It joins the one that already holds the device, or
// makes one: memory, stack, interface, addresses, routes. Whoever binds the rendezvous address
// makes it; the others wait for it to listen.
//
// Process-local, under g_attacher (a thread id, so that a handler of a crash that comes here again
// on the same thread is refused instead of waiting for itself). No other handler runs meanwhile:
// one that left by a jump would leave half of a stack behind, which nobody can join.
#include <sys/mman.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "shim/internal.h"
#include "shim/real.h"
#include "shim/signals.h"
#include "shim/spares.h"

namespace userstack::shim {
namespace {

constexpr long kMeetingPause = 1;  // ms
constexpr Duration kLongestMeeting = Duration::Seconds(10);
constexpr int kBusyAttempts = 30;  // 10 ms apart: a holder that is just ending
constexpr size_t kPage = 4096;

constinit std::atomic<int> g_attacher{0};

void Pause(long milliseconds) {
  timespec pause{milliseconds / 1000, (milliseconds % 1000) * 1'000'000};
  RawSyscall(SYS_nanosleep, Word(&pause), 0);
}

void CloseHandover(const Handover& handover) {
  if (handover.arena >= 0) CloseInternal(handover.arena);
  if (handover.listener >= 0) CloseInternal(handover.listener);
  for (unsigned i = 0; i < handover.device_count; ++i) CloseInternal(handover.device[i]);
}

bool PrepareLocal() {
  g_local.pid = static_cast<pid_t>(RawSyscall(SYS_getpid));
  if (g_local.fork_mark == nullptr) {
    const long page =
        RawSyscall(SYS_mmap, 0, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page < 0 && page > -static_cast<long>(kPage)) return false;
    RawSyscall(SYS_madvise, page, kPage, MADV_WIPEONFORK);
    g_local.fork_mark = reinterpret_cast<std::atomic<uint32_t>*>(page);
    InitializeThreadExit();
  }
  g_local.fork_mark->store(1);
  if (g_local.ringer_descriptor >= 0) return true;
  constexpr long kUnix = 1;
  constexpr long kDatagram = 2;
  constexpr long kCloseOnExec = 02000000;
  const long fd = RawSyscall(SYS_socket, kUnix, kDatagram | kCloseOnExec, 0);
  if (fd < 0) return false;
  g_local.ringer_descriptor = MoveInternal(static_cast<int>(fd));
  return g_local.ringer_descriptor >= 0;
}

std::string Identity(const Config& config) {
  char text[1024];
  DescribeStack(config, text, sizeof(text));
  std::string all(text);
  const size_t begin = all.find("USERSTACK_ADDR=");
  return all.substr(begin, all.find(' ', begin) - begin);
}

backend::DeviceOptions OptionsOf(const Config& config) {
  backend::DeviceOptions options;
  if (config.has_mac) options.mac = config.mac;
  options.identity = Identity(config);
  options.mtu = config.mtu;
  options.capture = config.capture_file;
  return options;
}

// Keeps the device of `opened`, or says why there is none.
bool KeepDevice(backend::OpenedDevice opened) {
  if (!opened.warning.empty()) Log(LogLevel::kWarn, "%s", opened.warning.c_str());
  if (!opened.note.empty()) Log(LogLevel::kInfo, "%s", opened.note.c_str());
  if (opened.device == nullptr) {
    Log(LogLevel::kError, "%s", opened.error.c_str());
    return false;
  }
  g_local.device = opened.device.release();  // for as long as the process lives
  int descriptors[kMaxDeviceDescriptors];
  const size_t count = g_local.device->Descriptors(descriptors, kMaxDeviceDescriptors);
  for (size_t i = 0; i < count; ++i) MarkInternal(descriptors[i]);
  return true;
}

void DropDevice() {
  if (g_local.device == nullptr) return;
  int descriptors[kMaxDeviceDescriptors];
  const size_t count = g_local.device->Descriptors(descriptors, kMaxDeviceDescriptors);
  for (size_t i = 0; i < count; ++i) CloseInternal(descriptors[i]);
  g_local.device = nullptr;  // its memory is left: the descriptors are gone already
}

backend::OpenedDevice OpenHigh(const Config& config, backend::DeviceOptions& options) {
  const HighNumbers numbers;
  options.descriptor_floor = numbers.floor();
  return backend::OpenDevice(config.device, options);
}

bool OpenOwnDevice(const Config& config) {
  backend::DeviceOptions options = OptionsOf(config);
  int given[kMaxDeviceDescriptors];
  const unsigned given_count = TakeHandedOver(given);
  if (given_count != 0) {
    if (KeepDevice(backend::OpenHandedOver(config.device, options, given, given_count)))
      return true;
    for (unsigned i = 0; i < given_count; ++i) CloseInternal(given[i]);
    return false;
  }
  for (int attempt = 0;; ++attempt) {
    backend::OpenedDevice opened = OpenHigh(config, options);
    const bool busy = opened.device == nullptr && opened.error.find("busy") != std::string::npos;
    if (!busy || attempt == kBusyAttempts) return KeepDevice(std::move(opened));
    Pause(10);
  }
}

bool AdoptOwnDevice(const Config& config, const Handover& handover) {
  // The capture belongs to whoever made the stack; its descriptor comes with the device's.
  return KeepDevice(backend::AdoptDevice(config.device, OptionsOf(config), handover.device,
                                         handover.device_count));
}

bool MapOrExplain(int fd, uint64_t size) {
  long result = MapArena(fd, size);
  if (result == -ENOMEM) {
    MakeAddressRoom();
    result = MapArena(fd, size);
  }
  if (result == 0) return true;
  if (result == -EEXIST) {
    Log(LogLevel::kError,
        "the address 0x%lx, where the stack's memory has to be, is taken in this program; a "
        "smaller USERSTACK_MEMORY may fit (%llu MiB now)",
        static_cast<unsigned long>(kArenaAddress), static_cast<unsigned long long>(size >> 20));
  } else {
    Log(LogLevel::kError,
        "USERSTACK_MEMORY=%lluM: cannot be mapped (errno %ld; see ulimit -v); accepted is 16M to "
        "1024G",
        static_cast<unsigned long long>(size >> 20), -result);
  }
  return false;
}

// What the parser cannot know to be wrong.
bool ExplainStatus(const char* what, Status status) {
  if (status.ok()) return true;
  Log(LogLevel::kError, "%s: refused by the stack (errno %d)", what, status.error());
  return false;
}

bool ConfigureStack(Stack& stack, const Config& config, Instant now) {
  Ip& ip = stack.ip();
  if (!ExplainStatus("USERSTACK_DEV",
                     ip.AddInterface(kWireInterface, "eth0", g_local.device->capabilities()))) {
    return false;
  }
  if (config.address_count == 0) {
    Log(LogLevel::kWarn,
        "USERSTACK_ADDR is not set, and the stack has no address; expected addresses with prefix "
        "length, as 10.0.0.2/24,fd00::2/64");
  }
  for (unsigned i = 0; i < config.address_count; ++i) {
    const Status status = ip.AddAddress(kWireInterface, config.addresses[i], now);
    if (!ExplainStatus("USERSTACK_ADDR", status)) return false;
  }
  for (unsigned i = 0; i < config.gateway_count; ++i) {
    const Prefix everything{IpAddress::Any(config.gateways[i].family()), 0};
    const Status status = ip.AddRoute(everything, config.gateways[i], kWireInterface, 0);
    if (!ExplainStatus("USERSTACK_GATEWAY", status)) {
      return false;
    }
  }
  return true;
}

// The stack's memory, mapped and formatted, with the device in it.
bool BuildStack(const Config& config) {
  uint64_t memory = config.memory;
  MakeAddressRoom();
  if (memory == Config{}.memory) memory = MemoryWithinLimit(memory);
  const auto mebibytes = static_cast<unsigned long long>(memory >> 20);
  if (memory != config.memory) {
    Log(LogLevel::kWarn,
        "RLIMIT_AS (ulimit -v) leaves the stack %lluM of memory; USERSTACK_MEMORY chooses another "
        "size",
        mebibytes);
  }
  const int fd = CreateArenaFile(memory);
  if (fd < 0) {
    Log(LogLevel::kError,
        "USERSTACK_MEMORY=%lluM: cannot be had (errno %d); accepted is 16M to 1024G", mebibytes,
        -fd);
    return false;
  }
  g_local.arena_descriptor = fd;
  if (!MapOrExplain(fd, memory)) return false;
  Shared* shared = FormatArena(memory, config);
  if (shared == nullptr) {
    Log(LogLevel::kError, "USERSTACK_MEMORY=%lluM: too small for a stack; accepted is 16M to 1024G",
        mebibytes);
  } else if (ConfigureStack(*shared->stack, config, MonotonicNow())) {
    DescribeStack(config, shared->configuration, sizeof(shared->configuration));
    shared->creator = g_local.pid;
    g_shared = shared;
    return true;
  }
  UnmapArena(memory);
  return false;
}

bool Create(const Config& config, int listener) {
  if (OpenOwnDevice(config) && BuildStack(config)) {
    g_local.listener_descriptor = listener;
    StartListening(listener);
    Log(LogLevel::kInfo, "new stack: %s", g_shared->configuration);
    return true;
  }
  if (g_local.arena_descriptor >= 0) CloseInternal(g_local.arena_descriptor);
  g_local.arena_descriptor = -1;
  DropDevice();
  CloseInternal(listener);
  return false;
}

// Uses what another process handed over. `silent`: a handover by exec that may not be ours.
bool Adopt(const Config& config, const Handover& handover, bool silent) {
  if (!silent) MakeAddressRoom();
  if (!MapOrExplain(handover.arena, handover.memory)) return false;
  Shared* shared = FindShared();
  char mine[sizeof(Shared::configuration)];
  DescribeStack(config, mine, sizeof(mine));
  if (shared == nullptr || strcmp(shared->configuration, mine) != 0) {
    if (!silent) Log(LogLevel::kError, "the inherited stack is another build's or configuration's");
    UnmapArena(handover.memory);
    return false;
  }
  if (!AdoptOwnDevice(config, handover)) {
    UnmapArena(handover.memory);
    return false;
  }
  g_local.arena_descriptor = handover.arena;
  g_local.listener_descriptor = handover.listener;
  g_shared = shared;
  Log(LogLevel::kInfo, "joined stack of process %d: %s", shared->creator, shared->configuration);
  return true;
}

enum class Joining : uint8_t { kDone, kNotYet, kFailed };

Joining JoinOrCreate(const Config& config, const SignalsHeld& held) {
  Handover handover;
  switch (MeetHolder(config, held, &handover)) {
    case Meeting::kJoined:
      if (Adopt(config, handover, false)) return Joining::kDone;
      CloseHandover(handover);
      return Joining::kFailed;
    case Meeting::kRefused:
      return Joining::kFailed;
    case Meeting::kNobody:
      break;
  }
  const int listener = BindListener(config);
  if (listener >= 0) return Create(config, listener) ? Joining::kDone : Joining::kFailed;
  if (listener == -EADDRINUSE) return Joining::kNotYet;  // somebody is making the stack
  Log(LogLevel::kError, "no socket for meeting other programs (errno %d)", -listener);
  return Joining::kFailed;
}

// The record of this very process, from before exec.
Process* FindOwnRecord() {
  const uint64_t start = StartTimeOf(g_local.pid);
  for (Process* process : g_shared->processes) {
    if (process == nullptr || process->pid != g_local.pid) continue;
    if (process->start_time == 0 || process->start_time == start) return process;
  }
  return nullptr;
}

// Sleepers of threads that exec ended.
void ReleaseOldSleepers(Instant now) {
  for (Sleeper* sleeper = g_shared->all_sleepers.front(); sleeper != nullptr;) {
    Sleeper* next = g_shared->all_sleepers.Next(sleeper);
    if (sleeper->pid == g_local.pid && sleeper != t_state.sleeper) ReleaseSleeper(sleeper, now);
    sleeper = next;
  }
}

// Enters this process in the stack's table, with the descriptors that it brought along.
bool Register(bool inherited) {
  if (!EnterStack()) return false;
  const Instant now = MonotonicNow();
  Process* process = FindOwnRecord();
  if (process != nullptr) {
    process->executing = false;
    process->exiting = false;
    RevalidateSlots(*process, now);
    ReleaseOldSleepers(now);
  } else {
    process = NewProcess(g_local.pid);
    if (process != nullptr && inherited) ScanDescriptors(*process);
  }
  g_local.process = process;
  g_slots = process == nullptr ? nullptr : process->slots;
  Drain(now);
  LeaveStack();
  if (process != nullptr) return true;
  Log(LogLevel::kError, "more than %u processes on one stack", kMaxProcesses);
  return false;
}

void Finish() {
  TakeOverSignals();
  EnsurePump();
}

// -EAGAIN: not yet; nothing was begun.
long AttachOnce(const SignalsHeld& held) {
  if (IsAttached()) return 0;
  if (g_local.exited || CurrentMode() != Mode::kStack) return -ENETDOWN;
  if (PrepareLocal()) {
    const bool have_stack = g_shared != nullptr;  // a forked child that got no record
    const Joining joining = have_stack ? Joining::kDone : JoinOrCreate(CurrentConfig(), held);
    if (joining == Joining::kNotYet) return -EAGAIN;
    if (joining == Joining::kDone && Register(false)) {
      Finish();
      return 0;
    }
  }
  BreakMode();
  return -ENETDOWN;
}

// Signals are held as long as it is.
class AttachLock {
 public:
  AttachLock() : self_(static_cast<int>(RawSyscall(SYS_gettid))) {
    held_ = g_attacher.compare_exchange_strong(owner_, self_);
  }
  ~AttachLock() {
    if (held_) g_attacher.store(0);
  }
  bool held() const { return held_; }
  bool is_another_threads() const { return !held_ && owner_ != self_; }
  const SignalsHeld& signals() const { return signals_; }

 private:
  const SignalsHeld signals_;  // before the lock is taken and until it is given back
  const int self_;
  int owner_ = 0;
  bool held_ = false;
};

// Once. -EAGAIN: see AttachOnce; -EALREADY: another thread is about it.
long TryToAttach() {
  const AttachLock lock;
  if (lock.is_another_threads()) return -EALREADY;
  return lock.held() ? AttachOnce(lock.signals()) : -ENETDOWN;
}

long GiveUp() {
  Log(LogLevel::kError, "USERSTACK_DEV=%s: device busy: its holder does not get ready",
      CurrentConfig().device);
  BreakMode();
  return -ENETDOWN;
}

// "arena:listener:device[:device]@placed".
bool ParseHandover(const char* text, Handover* handover) {
  int numbers[kMaxDeviceDescriptors + 2];
  unsigned count = 0;
  while (count < kMaxDeviceDescriptors + 2) {
    char* end = nullptr;
    const long number = strtol(text, &end, 10);
    if (end == text || number < 0) return false;
    numbers[count++] = static_cast<int>(number);
    if (*end == '\0') break;
    if (*end == '@') {
      SetNewestPlaced(static_cast<uint32_t>(strtoul(end + 1, nullptr, 10)));
      break;
    }
    if (*end != ':') return false;
    text = end + 1;
  }
  if (count < 3) return false;
  handover->arena = numbers[0];
  handover->listener = numbers[1];
  handover->device_count = count - 2;
  memcpy(handover->device, numbers + 2, sizeof(int) * handover->device_count);
  handover->memory = ArenaFileSize(handover->arena);
  return handover->memory != 0;
}

void CloseOnExec(const Handover& handover) {
  constexpr long kSetFlags = 2;  // F_SETFD
  RawSyscall(SYS_fcntl, handover.arena, kSetFlags, 1);
  RawSyscall(SYS_fcntl, handover.listener, kSetFlags, 1);
  for (unsigned i = 0; i < handover.device_count; ++i) {
    RawSyscall(SYS_fcntl, handover.device[i], kSetFlags, 1);
  }
}

}  // namespace

bool IsAttached() { return g_local.process != nullptr && !g_local.exited; }

long Attach() {
  const int saved_errno = errno;
  const Instant last = MonotonicNow() + kLongestMeeting;
  long result = TryToAttach();
  // Handlers run, and may leave, in the pauses.
  while (result == -EALREADY || (result == -EAGAIN && MonotonicNow() < last)) {
    Pause(kMeetingPause);
    result = TryToAttach();
  }
  if (result == -EAGAIN) result = GiveUp();
  errno = saved_errno;
  return result;
}

void AttachInherited() {
  const int saved_errno = errno;
  const AttachLock lock;
  Handover handover;
  const char* text = getenv("USERSTACK_ATTACH");
  if (lock.held() && text != nullptr && ParseHandover(text, &handover)) {
    MarkInternal(handover.arena);
    MarkInternal(handover.listener);
    for (unsigned i = 0; i < handover.device_count; ++i) MarkInternal(handover.device[i]);
    CloseOnExec(handover);
    if (CurrentMode() == Mode::kStack && PrepareLocal() && Adopt(CurrentConfig(), handover, true)) {
      if (Register(true)) Finish();
    } else {
      CloseHandover(handover);
    }
  }
  unsetenv("USERSTACK_ATTACH");
  errno = saved_errno;
}

}  // namespace userstack::shim
