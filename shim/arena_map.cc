// Arena map: the memory file behind a stack, and its place in the address space.
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <new>

#include "shim/internal.h"
#include "shim/real.h"

// The first byte of the object that this code is linked into (the linker defines it).
extern "C" [[gnu::visibility("hidden")]] const uint8_t __ehdr_start[];

namespace userstack::shim {

constinit Shared* g_shared = nullptr;

namespace {

constexpr size_t kPage = 4096;
// What is mapped cannot be cut off by anybody who has the descriptor: no SIGBUS.
constexpr long kArenaSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
constexpr uint32_t kDescriptionLimit = 1 << 20;
constexpr uint32_t kWatchLimit = 1 << 21;
constexpr uint32_t kSleeperLimit = 1 << 15;

// Shared follows the arena's header at the next page.
Shared* SharedAddress() { return reinterpret_cast<Shared*>(kArenaAddress + kPage); }

uint64_t RandomSeed() {
  uint64_t seed = 0;
  if (RawSyscall(SYS_getrandom, Word(&seed), sizeof(seed), 0) != sizeof(seed)) {
    seed = static_cast<uint64_t>(MonotonicNow().nanoseconds) * 0x9e3779b97f4a7c15u;
  }
  return seed;
}

// Copies the build id out of a PT_NOTE segment; false when it holds none.
bool CopyBuildId(const uint8_t* note, size_t size, uint8_t (&identity)[32]) {
  while (size >= sizeof(ElfW(Nhdr))) {
    ElfW(Nhdr) header;
    memcpy(&header, note, sizeof(header));
    const size_t name = (header.n_namesz + 3u) & ~size_t{3};
    const size_t length = sizeof(header) + name + ((header.n_descsz + 3u) & ~size_t{3});
    if (length > size) return false;
    if (header.n_type == NT_GNU_BUILD_ID) {
      const size_t n = header.n_descsz < sizeof(identity) ? header.n_descsz : sizeof(identity);
      memcpy(identity, note + sizeof(header) + name, n);
      return true;
    }
    note += length;
    size -= length;
  }
  return false;
}

}  // namespace

void BuildIdentity(uint8_t (&identity)[32]) {
  memset(identity, 0, sizeof(identity));
  const uint8_t* const base = __ehdr_start;
  const auto& header = *reinterpret_cast<const ElfW(Ehdr)*>(base);
  const auto* segments = reinterpret_cast<const ElfW(Phdr)*>(base + header.e_phoff);
  ElfW(Addr) lowest = ~ElfW(Addr){0};
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    if (segments[i].p_type == PT_LOAD && segments[i].p_vaddr < lowest) {
      lowest = segments[i].p_vaddr;
    }
  }
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    if (segments[i].p_type != PT_NOTE) continue;
    if (CopyBuildId(base + (segments[i].p_vaddr - lowest), segments[i].p_memsz, identity)) return;
  }
}

long MapArena(int fd, size_t size) {
  const long result =
      RawSyscall(SYS_mmap, static_cast<long>(kArenaAddress), static_cast<long>(size),
                 PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_NORESERVE, fd, 0);
  if (result < 0 && result > -static_cast<long>(kPage)) return result;
  if (result == static_cast<long>(kArenaAddress)) return 0;
  RawSyscall(SYS_munmap, result, static_cast<long>(size));  // a kernel that does not know the flag
  return -EEXIST;
}

void UnmapArena(size_t size) {
  RawSyscall(SYS_munmap, static_cast<long>(kArenaAddress), static_cast<long>(size));
}

int CreateArenaFile(size_t size) {
  const long fd = RawSyscall(SYS_memfd_create, Word("userstack"), MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return static_cast<int>(fd);
  long result = RawSyscall(SYS_ftruncate, fd, static_cast<long>(size));
  if (result == 0) result = RawSyscall(SYS_fcntl, fd, F_ADD_SEALS, kArenaSeals);
  if (result < 0) {
    RawSyscall(SYS_close, fd);
    return static_cast<int>(result);
  }
  return MoveInternal(static_cast<int>(fd));
}

uint64_t ArenaFileSize(int fd) {
  struct stat status;
  if (RawSyscall(SYS_fcntl, fd, F_GET_SEALS) != kArenaSeals) return 0;
  if (RawSyscall(SYS_fstat, fd, Word(&status)) != 0) return 0;
  const auto size = static_cast<uint64_t>(status.st_size);
  return size < kPage + sizeof(Shared) ? 0 : size;  // what FindShared reads is there
}

Shared* FormatArena(size_t size, const Config& config) {
  Arena* arena = Arena::Format(reinterpret_cast<void*>(kArenaAddress), size);
  void* memory = arena->Allocate(sizeof(Shared), kPage);
  if (memory != SharedAddress()) return nullptr;
  auto* shared = new (memory) Shared;
  BuildIdentity(shared->build);
  shared->arena = arena;
  InitializeLock(&shared->lock);
  InitializeLock(&shared->pump_lock);
  shared->descriptions.Initialize(arena, kDescriptionLimit);
  shared->watch_sets.Initialize(arena, kDescriptionLimit);
  shared->watches.Initialize(arena, kWatchLimit);
  shared->sleepers.Initialize(arena, kSleeperLimit);
  StackConfig stack;
  stack.seed = RandomSeed();
  stack.congestion_control = config.congestion_control;
  shared->stack = Stack::Create(arena, stack, MonotonicNow());
  if (shared->stack == nullptr) return nullptr;
  shared->magic = Shared::kMagic;
  return shared;
}

Shared* FindShared() {
  Shared* shared = SharedAddress();
  uint8_t identity[32];
  BuildIdentity(identity);
  if (shared->magic != Shared::kMagic) return nullptr;
  return memcmp(shared->build, identity, sizeof(identity)) == 0 ? shared : nullptr;
}

}  // namespace userstack::shim
