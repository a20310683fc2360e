// Start: see start.h. The guest's memory is as the kernel would lay it out: its segments where they
// belong or, when it may lie anywhere, at random; its break behind them; the process's own stack
// with a vector of its own, whose strings are those that the kernel put there.
#include "shim/guest/start.h"

#include <alloca.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "shim/guest/actions.h"
#include "shim/guest/calls.h"
#include "shim/guest/program.h"
#include "shim/internal.h"
#include "shim/real.h"
#include "shim/rewrite/entry.h"
#include "shim/rewrite/rewrite.h"
#include "shim/signals.h"

namespace userstack::shim::guest {
namespace {

constexpr uint64_t kPage = 4096;
constexpr int kCannotRun = 126;
constexpr size_t kHostStack = 1 << 20;
// Where programs that may lie anywhere are put: far from libraries, stacks and the arena, so that
// their break can grow.
constexpr uint64_t kAnywhere = 0x200000000000;
constexpr uint64_t kSpread = 0x0fffffe00000;

constinit GuestThread g_first;

uint64_t PageDown(uint64_t address) { return address & ~(kPage - 1); }
uint64_t PageUp(uint64_t address) { return PageDown(address + kPage - 1); }
bool Failed(long result) { return result < 0 && result > -4096; }

[[noreturn]] void Refuse(const char* path, const char* why, long error = 0) {
  if (error == 0) {
    Log(LogLevel::kError, "%.300s cannot be run: %s", path, why);
  } else {
    Log(LogLevel::kError, "%.300s cannot be run: %s (%s)", path, why,
        strerror(static_cast<int>(-error)));
  }
  RawSyscall(SYS_exit_group, kCannotRun);
  __builtin_unreachable();
}

struct File {
  int descriptor = -1;
  const uint8_t* bytes = nullptr;
  size_t size = 0;
};

File OpenProgram(const char* path) {
  File file;
  const long fd = RawSyscall(SYS_open, Word(path), O_RDONLY | O_CLOEXEC);
  if (fd < 0) Refuse(path, "it cannot be opened", fd);
  struct stat status;
  const long error = RawSyscall(SYS_fstat, fd, Word(&status));
  if (error < 0 || !S_ISREG(status.st_mode) || status.st_size == 0)
    Refuse(path, "it is no program");
  const long bytes = RawSyscall(SYS_mmap, 0, status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (Failed(bytes)) Refuse(path, "it cannot be read", bytes);
  file.descriptor = static_cast<int>(fd);
  file.bytes = reinterpret_cast<const uint8_t*>(bytes);
  file.size = static_cast<size_t>(status.st_size);
  return file;
}

long Reserve(uint64_t address, uint64_t size) {
  const long result =
      RawSyscall(SYS_mmap, static_cast<long>(address), static_cast<long>(size), PROT_NONE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  return !Failed(result) && static_cast<uint64_t>(result) != address ? -EEXIST : result;
}

// What is added to the program's addresses.
uint64_t ReserveSpan(const char* path, const Program& program) {
  const uint64_t size = program.end - program.begin;
  if (program.kind == Kind::kStatic) {
    const long result = Reserve(program.begin, size);
    if (Failed(result)) Refuse(path, "the addresses that it is linked for cannot be had", result);
    return 0;
  }
  long result = -ENOMEM;
  for (int attempt = 0; attempt < 16; ++attempt) {
    uint64_t random = 0;
    if (getrandom(&random, sizeof random, 0) != sizeof random) random = 0;
    const uint64_t address = PageDown(kAnywhere + random % kSpread);
    result = Reserve(address, size);
    if (!Failed(result)) return address - program.begin;
  }
  Refuse(path, "no addresses for it", result);
}

int ProtectionOf(const Elf64_Phdr& segment) {
  return ((segment.p_flags & PF_R) != 0 ? PROT_READ : 0) |
         ((segment.p_flags & PF_W) != 0 ? PROT_WRITE : 0) |
         ((segment.p_flags & PF_X) != 0 ? PROT_EXEC : 0);
}

void MapSegment(const char* path, const File& file, uint64_t base, const Elf64_Phdr& segment) {
  const uint64_t start = base + segment.p_vaddr;
  const uint64_t file_end = start + segment.p_filesz;
  const uint64_t end = start + segment.p_memsz;
  const int protection = ProtectionOf(segment);
  if (segment.p_filesz != 0) {
    const uint64_t lead = start - PageDown(start);
    const long result =
        RawSyscall(SYS_mmap, static_cast<long>(start - lead),
                   static_cast<long>(segment.p_filesz + lead), protection, MAP_PRIVATE | MAP_FIXED,
                   file.descriptor, static_cast<long>(segment.p_offset - lead));
    if (result == -EPERM) Refuse(path, "code may not be executed from its file system (noexec)");
    if (Failed(result)) Refuse(path, "a segment cannot be mapped", result);
    if (end > file_end && (protection & PROT_WRITE) != 0) {
      const uint64_t tail = PageUp(file_end) < end ? PageUp(file_end) : end;
      memset(reinterpret_cast<void*>(file_end), 0, tail - file_end);
    }
  }
  const uint64_t zero = segment.p_filesz != 0 ? PageUp(file_end) : PageDown(start);
  if (end <= zero) return;
  const long result =
      RawSyscall(SYS_mmap, static_cast<long>(zero), static_cast<long>(PageUp(end) - zero),
                 protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  if (Failed(result)) Refuse(path, "its memory cannot be had", result);
}

bool HasSegmentRegisters() {
  constexpr unsigned long kFsGsBase = 1 << 1;  // AT_HWCAP2: the kernel lets programs use them
  return (getauxval(AT_HWCAP2) & kFsGsBase) != 0;
}

// The calls that are left are trapped, or the program is not run: none may reach the kernel unseen.
void Rewrite(const char* path, uint64_t base, const Program& program) {
  rewrite::DetectVectors();
  rewrite::Image image = rewrite::Image::Mapped(base, program.all.data(), program.all.size());
  image.MarkWhole();
  image.SetUnwindSection(program.unwind);
  const unsigned left = RewriteProgram(base, image, path, userstack_guest_entry);
  if (left == 0 || BeginTrapping()) return;
  Log(LogLevel::kError,
      "%.300s cannot be run: %u of its system calls cannot be rewritten, and this kernel has no "
      "Syscall User Dispatch",
      path, left);
  RawSyscall(SYS_exit_group, kCannotRun);
}

class Vector {
 public:
  explicit Vector(uint64_t* out) : at_(out) {}
  void Add(uint64_t value) { *at_++ = value; }
  void Add(const void* pointer) { Add(reinterpret_cast<uint64_t>(pointer)); }

 private:
  uint64_t* at_;
};

size_t CountPointers(char* const* list) {
  size_t count = 0;
  while (list[count] != nullptr) ++count;
  return count;
}

size_t CountAuxiliary(const uint64_t* auxiliary) {
  size_t count = 0;
  while (auxiliary[2 * count] != AT_NULL) ++count;
  return count + 1;
}

struct Loaded {
  const Program& program;
  uint64_t base;
  const void* random;
  const char* path;
};

uint64_t AuxiliaryValue(uint64_t tag, uint64_t value, const Loaded& loaded) {
  switch (tag) {
    case AT_PHDR:
      return loaded.program.headers == 0 ? 0 : loaded.base + loaded.program.headers;
    case AT_PHNUM:
      return loaded.program.all.size();
    case AT_ENTRY:
      return loaded.base + loaded.program.entry;
    case AT_BASE:
      return 0;
    case AT_RANDOM:
      return reinterpret_cast<uint64_t>(loaded.random);
    case AT_EXECFN:
      return reinterpret_cast<uint64_t>(loaded.path);
  }
  return value;
}

void FillVector(uint64_t* out, int argc, char** argv, const uint64_t* auxiliary,
                const Loaded& loaded) {
  Vector vector(out);
  vector.Add(static_cast<uint64_t>(argc));
  for (int i = 0; i < argc; ++i) vector.Add(argv[i]);
  vector.Add(uint64_t{0});
  for (char** variable = environ; *variable != nullptr; ++variable) vector.Add(*variable);
  vector.Add(uint64_t{0});
  for (;; auxiliary += 2) {
    vector.Add(auxiliary[0]);
    vector.Add(AuxiliaryValue(auxiliary[0], auxiliary[1], loaded));
    if (auxiliary[0] == AT_NULL) return;
  }
}

void MakeFirstThread() {
  const long stack = RawSyscall(SYS_mmap, 0, kHostStack, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (Failed(stack)) Refuse(ProgramPath(), "no memory", stack);
  RawSyscall(SYS_mprotect, stack, kPage, PROT_NONE);
  g_first.host_stack = static_cast<uint64_t>(stack) + kHostStack;
  uint64_t mask = 0;
  RawSyscall(SYS_rt_sigprocmask, SIG_BLOCK, 0, Word(&mask), 8);
  if (IsTrapping()) {
    mask &= ~(uint64_t{1} << (SIGSYS - 1));
    RawSyscall(SYS_rt_sigprocmask, SIG_SETMASK, Word(&mask), 0, 8);
  }
  InitializeThread(&g_first);
}

// argv[0] of the guest is its own affair; what ps shows is the file, as after exec.
void NameProcess(const char* path) {
  const char* slash = strrchr(path, '/');
  RawSyscall(SYS_prctl, PR_SET_NAME, Word(slash == nullptr ? path : slash + 1));
}

// The environment is the program's: what led here is taken out.
const char* TakeProgramPath() {
  static char path[PATH_MAX];
  const char* given = getenv(kProgramVariable);
  if (given == nullptr || strlen(given) >= sizeof path) {
    Refuse(kLauncher, "it is started by userstack run, and by programs that it started");
  }
  strcpy(path, given);
  unsetenv(kProgramVariable);
  return path;
}

}  // namespace

bool IsLauncher() {
  const auto* name = reinterpret_cast<const char*>(getauxval(AT_EXECFN));
  if (name == nullptr || getenv(kProgramVariable) == nullptr) return false;
  const char* slash = strrchr(name, '/');
  return strcmp(slash == nullptr ? name : slash + 1, kLauncher) == 0;
}

void LoadProgram(int argc, char** argv, const uint64_t* auxiliary) {
  const char* path = TakeProgramPath();
  CurrentMode();  // what is wrong with the configuration is said before the guest's first word
  const File file = OpenProgram(path);
  const Program program = ReadProgram(file.bytes, file.size);
  if (program.kind == Kind::kCorrupt) Refuse(path, program.reason);
  if (program.kind != Kind::kStatic && program.kind != Kind::kStaticPie) {
    Refuse(path, "it is no static program of this machine");
  }
  if (!HasSegmentRegisters()) Refuse(path, "this kernel or processor has no wrfsbase");
  static char real[PATH_MAX];
  SetProgramPath(realpath(path, real) == nullptr ? path : real);
  const uint64_t base = ReserveSpan(path, program);
  for (const Elf64_Phdr& segment : program.segments) MapSegment(path, file, base, segment);
  RawSyscall(SYS_munmap, Word(file.bytes), static_cast<long>(file.size));
  RawSyscall(SYS_close, file.descriptor);
  Rewrite(path, base, program);
  SetBreak(base + program.end);
  NameProcess(path);

  auto* random = static_cast<uint8_t*>(alloca(16));
  if (getrandom(random, 16, 0) != 16) memcpy(random, &auxiliary, sizeof auxiliary);
  const size_t words = 1 + static_cast<size_t>(argc) + 1 + CountPointers(environ) + 1 +
                       2 * CountAuxiliary(auxiliary);
  auto* vector = static_cast<uint64_t*>(alloca(words * sizeof(uint64_t) + 16));
  vector = reinterpret_cast<uint64_t*>((reinterpret_cast<uint64_t>(vector) + 15) & ~uint64_t{15});
  FillVector(vector, argc, argv, auxiliary, {program, base, random, path});
  ReadActions();
  ReplaceSignalTakeOver(CatchTermination);
  // Descriptors were inherited: libc's handlers are there already.
  if (IsAttached()) CatchTermination();
  MakeFirstThread();
  g_first.guest_rsp = reinterpret_cast<uint64_t>(vector);
  Frame frame{};
  frame.real = base + program.entry;
  userstack_guest_run(&frame, &g_first);
  __builtin_unreachable();
}

}  // namespace userstack::shim::guest
