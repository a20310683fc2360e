// Rewrite: see rewrite.h. For each loaded object: its sites from the cache, or from the finder with
// the decoder's module loaded for that; then trampolines and jumps.
//
// Left alone: the library itself (its own calls must reach the kernel), the dynamic loader (its
// calls read libraries), the vDSO. The ladder: a site that cannot be rewritten is left to the
// symbols; an object for which something fails, too, with one line. What cannot be verified (an
// object without tables, a place that leaves no room, a process in which threads run already) is
// watched (watch.h).
//
// dlopen: the loader calls an empty function when its list of objects has changed, for debuggers
// (r_debug.r_brk), and it does so before it relocates or runs what is new. That call comes here.
// No thread can be in an object that is still being loaded, whatever else runs.
//
// Owner: the loader's lock, which is held there, and before the program there is one thread.
#include "shim/rewrite/rewrite.h"

#include <dlfcn.h>
#include <link.h>
#include <sys/auxv.h>
#include <sys/stat.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "shim/guest/start.h"
#include "shim/internal.h"
#include "shim/real.h"
#include "shim/rewrite/cache.h"
#include "shim/rewrite/entry.h"
#include "shim/rewrite/finder.h"
#include "shim/rewrite/patch.h"
#include "shim/rewrite/unwind_table.h"
#include "shim/rewrite/watch.h"
#include "shim/signals.h"

namespace userstack::shim {

constinit std::atomic<bool> g_threads_need_stacks{false};
constinit std::atomic<bool> g_libc_is_rewritten{false};

namespace {

using rewrite::Cache;
using rewrite::CacheState;
using rewrite::DecodeFunction;
using rewrite::Image;
using rewrite::Site;

struct Object {
  uintptr_t base = 0;
  std::string name;
  Image image;
  rewrite::Trampolines trampolines;
  uint32_t unknown = 0;  // may be system calls; nothing proves it
  bool present = false;  // still in the loader's list
};

// The directory of this library, with a slash at its end.
std::string OwnDirectory() {
  Dl_info own{};
  if (dladdr(reinterpret_cast<void*>(&userstack_rewrite_entry), &own) == 0) return {};
  const std::string path = own.dli_fname;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? std::string() : path.substr(0, slash + 1);
}

// The module with capstone stays loaded: objects that come later ask it again.
DecodeFunction LoadDecoder() {
  static const DecodeFunction decode = [] {
    const std::string path = OwnDirectory() + rewrite::kDecodeModule;
    void* module = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (module != nullptr) {
      return reinterpret_cast<DecodeFunction>(dlsym(module, rewrite::kDecodeSymbol));
    }
    const char* reason = dlerror();
    Log(LogLevel::kWarn, "USERSTACK_REWRITE: %.200s: cannot be loaded (%.300s); no new sites",
        path.c_str(), reason == nullptr ? "" : reason);
    return DecodeFunction{nullptr};
  }();
  return decode;
}

int Collect(dl_phdr_info* info, size_t, void* out) {
  auto& objects = *static_cast<std::vector<Object>*>(out);
  const auto holds = [&](uintptr_t address) {
    for (size_t i = 0; i < info->dlpi_phnum; ++i) {
      const Elf64_Phdr& header = info->dlpi_phdr[i];
      const uintptr_t start = info->dlpi_addr + header.p_vaddr;
      if (header.p_type == PT_LOAD && address >= start && address - start < header.p_memsz) {
        return true;
      }
    }
    return false;
  };
  const uintptr_t vdso = getauxval(AT_SYSINFO_EHDR);
  const uintptr_t loader = getauxval(AT_BASE);
  if (holds(reinterpret_cast<uintptr_t>(&userstack_rewrite_entry)) || (vdso != 0 && holds(vdso)) ||
      (loader != 0 && holds(loader))) {
    return 0;
  }
  Object object;
  object.base = info->dlpi_addr;
  object.name = info->dlpi_name[0] != '\0' ? info->dlpi_name : "the program";
  if (object.name.ends_with(rewrite::kDecodeModule)) return 0;
  object.image = Image::Mapped(info->dlpi_addr, info->dlpi_phdr, info->dlpi_phnum);
  if (object.image.segment_count() != 0) objects.push_back(std::move(object));
  return 0;
}

// /proc/self/task has a directory a thread.
bool HasThreads() {
  struct stat status;
  constexpr nlink_t kOwnLinks = 2;
  return RawSyscall(SYS_stat, Word("/proc/self/task"), Word(&status)) == 0 &&
         status.st_nlink > kOwnLinks + 1;
}

class Rewriting {
 public:
  Rewriting() : cache_(Environment("XDG_CACHE_HOME"), Environment("HOME")) {}

  bool HasRewritten() const { return rewritten_ != 0; }

  unsigned Program(uintptr_t base, const Image& image, const char* name, void (*entry)()) {
    Object object;
    object.base = base;
    object.name = name;
    object.image = image;
    std::vector<Site> sites;
    if (!FindIn(&object, &sites)) return 1;
    const rewrite::PatchResult result =
        rewrite::PatchSites(base, image, sites.data(), sites.size(), entry);
    Log(LogLevel::kInfo, "rewrote %u system calls of %.200s; left %u alone", result.rewritten, name,
        result.left);
    return result.left;
  }

  // Rewrites what is new in the loader's list, and forgets what is gone.
  void Run() {
    std::vector<Object> objects;
    dl_iterate_phdr(Collect, &objects);
    for (Object& known : known_) known.present = false;
    const uint32_t before = rewritten_;
    for (Object& object : objects) {
      if (IsKnown(object)) continue;
      std::vector<Site> sites;
      if (FindIn(&object, &sites)) Patch(&object, sites);
      object.present = true;
      known_.push_back(std::move(object));
    }
    std::erase_if(known_, [](const Object& object) {
      if (!object.present) rewrite::FreeTrampolines(object.trampolines);
      return !object.present;
    });
    Describe();
    if (rewritten_ == before && before != 0) return;
    Log(LogLevel::kInfo, "rewrote %u system calls in %u objects; left %u alone", rewritten_,
        objects_, left_);
  }

  // The lazy route for what cannot be verified, if there is such an object.
  void WatchIfNeeded() const {
    for (const Object& object : known_) {
      if (object.unknown == 0) continue;
      WatchProcess(object.name.c_str());
      return;
    }
  }

 private:
  struct Description {
    const std::vector<Object>& known;
    std::vector<KnownCode> code;
  };

  // What is left alone makes no calls for the program, or none that libraries would notice.
  static int DescribeOne(dl_phdr_info* info, size_t, void* out) {
    auto& description = *static_cast<Description*>(out);
    const Image image = Image::Mapped(info->dlpi_addr, info->dlpi_phdr, info->dlpi_phnum);
    if (image.segment_count() == 0) return 0;
    KnownCode code;
    code.range = {info->dlpi_addr + image.segments()[0].address, info->dlpi_addr + image.end()};
    code.verified = true;
    for (const Object& object : description.known) {
      if (object.base != info->dlpi_addr) continue;
      code.verified = object.unknown == 0;
      code.small_stack = object.image.is_go();
    }
    description.code.push_back(code);
    return 0;
  }

  void Describe() const {
    Description description{known_, {}};
    dl_iterate_phdr(DescribeOne, &description);
    for (const Object& object : known_) {
      const rewrite::Trampolines& near = object.trampolines;
      if (near.memory != 0) {
        description.code.push_back({{near.memory, near.memory + near.size}, true, false});
      }
    }
    DescribeCode(description.code.data(), description.code.size());
  }

  // Threads that exist already have none: their calls from Go are the kernel's.
  static void NeedThreadStacks() {
    g_threads_need_stacks.store(true);
    rewrite::MakeThreadStack();
  }

  // Where the loader does not trust the environment the cache must not either.
  static const char* Environment(const char* name) {
    return getauxval(AT_SECURE) != 0 ? nullptr : getenv(name);
  }

  bool IsKnown(const Object& object) {
    for (Object& known : known_) {
      if (known.base != object.base || known.name != object.name) continue;
      known.present = true;
      return true;
    }
    return false;
  }

  bool FindIn(Object* found_in, std::vector<Site>* sites) {
    const Object& object = *found_in;
    const rewrite::BuildId& build = object.image.build_id();
    const CacheState state = cache_.Load(build, sites, &found_in->unknown);
    switch (state) {
      case CacheState::kFound:
        return true;
      case CacheState::kMissing:
        break;
      case CacheState::kForeign:
        Distrust("it belongs to somebody else, or others may write it");
        break;
      case CacheState::kCorrupt:
        Distrust("a file in it is damaged or of another version");
        break;
    }
    rewrite::Findings findings;
    if (!rewrite::FindSites(object.image, LoadDecoder, &findings)) return false;
    Log(LogLevel::kDebug,
        "%.200s: %u times 0f 05: %zu sites, %u irrelevant, %u no system call as far as is known",
        object.name.c_str(), findings.hits, findings.sites.size(), findings.irrelevant,
        findings.unproved);
    *sites = std::move(findings.sites);
    found_in->unknown = findings.unknown;
    if (state != CacheState::kForeign) cache_.Store(build, *sites, findings.unknown);
    return true;
  }

  void Distrust(const char* why) {
    if (distrusted_) return;
    distrusted_ = true;
    Log(LogLevel::kWarn, "USERSTACK_REWRITE: the cache %.200s is not used: %s", cache_.directory(),
        why);
  }

  void Patch(Object* object, const std::vector<Site>& sites) {
    if (sites.empty()) return;
    const rewrite::PatchResult result = rewrite::PatchSites(
        object->base, object->image, sites.data(), sites.size(),
        object->image.is_go() ? userstack_rewrite_entry_small : userstack_rewrite_entry);
    object->trampolines = result.trampolines;
    if (object->image.is_go() && result.rewritten != 0) NeedThreadStacks();
    rewritten_ += result.rewritten;
    left_ += result.left;
    if (result.rewritten != 0) ++objects_;
    if (result.rewritten != 0 && object->name.ends_with("/libc.so.6")) g_libc_is_rewritten = true;
    if (result.failure == nullptr) {
      object->unknown += result.left;
      return;
    }
    Log(LogLevel::kWarn, "USERSTACK_REWRITE: %.200s: %s (errno %ld); %u of its system calls %s",
        object->name.c_str(), result.failure, -result.error, result.left,
        "are reached by symbols only");
  }

  Cache cache_;
  std::vector<Object> known_;
  bool distrusted_ = false;
  uint32_t rewritten_ = 0;
  uint32_t objects_ = 0;
  uint32_t left_ = 0;
};

// Never destroyed: a library's destructor may still call dlopen.
Rewriting& Everything() {
  static Rewriting& rewriting = *new Rewriting;
  return rewriting;
}

const r_debug* LoaderState() {
  return static_cast<const r_debug*>(dlsym(RTLD_DEFAULT, "_r_debug"));
}

// In place of the loader's empty function.
void OnLoaderChange() {
  static const r_debug* const state = LoaderState();
  static bool busy = false;  // the decoder's module is being loaded for us
  if (busy || state->r_state != r_debug::RT_CONSISTENT) return;
  const int saved_errno = errno;
  busy = true;
  Everything().Run();
  Everything().WatchIfNeeded();
  busy = false;
  errno = saved_errno;
}

// How many bytes from an empty function on belong to nothing else.
size_t RoomAt(uintptr_t function) {
  struct Search {
    uintptr_t address;
    size_t room;
  } search{function, 0};
  const auto look = [](dl_phdr_info* info, size_t, void* out) {
    auto& wanted = *static_cast<Search*>(out);
    const Image image = Image::Mapped(info->dlpi_addr, info->dlpi_phdr, info->dlpi_phnum);
    const uint64_t address = wanted.address - info->dlpi_addr;
    rewrite::UnwindTable table;
    rewrite::Function bounds;
    if (image.CodeAt(address, 1) == nullptr || !rewrite::UnwindTable::Open(image, &table) ||
        !table.FunctionAt(address, &bounds) || bounds.start != address || bounds.size != 1) {
      return 0;
    }
    constexpr size_t kAlignment = 16;
    for (wanted.room = 1; wanted.room < kAlignment; ++wanted.room) {
      if (table.FunctionAt(address + wanted.room, &bounds)) break;
    }
    return 1;
  };
  dl_iterate_phdr(look, &search);
  return search.room;
}

void WatchLoader() {
  const r_debug* const state = LoaderState();
  const uintptr_t function = state == nullptr ? 0 : state->r_brk;
  const long error =
      function == 0 ? -ENOENT
                    : rewrite::RedirectEmptyFunction(function, RoomAt(function), OnLoaderChange);
  if (error == 0) return;
  Log(LogLevel::kWarn,
      "USERSTACK_REWRITE: the dynamic loader cannot be watched (errno %ld): the system calls of "
      "what dlopen brings are reached by symbols only",
      -error);
}

// No handler of the program's may find a site half-written.
class AllSignalsBlocked {
 public:
  AllSignalsBlocked() {
    RawSyscall(SYS_rt_sigprocmask, SIG_SETMASK, Word(&kAllSignals), Word(&before_), 8);
  }
  ~AllSignalsBlocked() { RawSyscall(SYS_rt_sigprocmask, SIG_SETMASK, Word(&before_), 0, 8); }
  AllSignalsBlocked(const AllSignalsBlocked&) = delete;
  AllSignalsBlocked& operator=(const AllSignalsBlocked&) = delete;

 private:
  sigset_t before_{};
};

void RewriteEverything() {
  {
    const AllSignalsBlocked blocked;
    Everything().Run();
    // Where not even libc could be rewritten, the line that says so is enough.
    if (!Everything().HasRewritten()) return;
    WatchLoader();
  }
  g_executable_memory_matters.store(true);
  Everything().WatchIfNeeded();
}

}  // namespace

unsigned RewriteProgram(uintptr_t base, const rewrite::Image& image, const char* name,
                        void (*entry)()) {
  return Everything().Program(base, image, name, entry);
}

void RewriteAtLoad() {
  if (guest::IsLauncher()) return;
  const bool asked =
      getenv("USERSTACK_REWRITE") != nullptr || getenv("USERSTACK_CONFIG") != nullptr;
  if (!asked) return;
  const int saved_errno = errno;
  if (CurrentMode() == Mode::kStack && CurrentConfig().rewrite) {
    rewrite::DetectVectors();
    if (HasThreads()) {
      // Nothing can be rewritten under their feet but what a first hit proves.
      WatchProcess("a process with threads");
    } else {
      RewriteEverything();
    }
  }
  errno = saved_errno;
}

}  // namespace userstack::shim
