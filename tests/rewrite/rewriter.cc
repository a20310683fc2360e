// Rewriter: see rewriter.h.
#include "tests/rewrite/rewriter.h"

#include <link.h>

#include <set>

#include "shim/rewrite/finder.h"
#include "shim/rewrite/unwind_table.h"

namespace userstack::testing {
namespace {

using namespace shim::rewrite;  // NOLINT

struct Self {
  uintptr_t base = 0;
  Image image;
};

int TakeFirst(dl_phdr_info* info, size_t, void* out) {
  auto& self = *static_cast<Self*>(out);
  self.base = info->dlpi_addr;
  self.image = Image::Mapped(info->dlpi_addr, info->dlpi_phdr, info->dlpi_phnum);
  return 1;
}

}  // namespace

Dispatcher dispatcher;

unsigned RewriteFunction(void (*function)(), void (*entry)()) {
  static std::set<void (*)()> done;
  if (!done.insert(function).second) return 1;
  DetectVectors();
  Self self;
  dl_iterate_phdr(TakeFirst, &self);
  UnwindTable table;
  Function bounds;
  const auto start = reinterpret_cast<uintptr_t>(function) - self.base;
  if (!UnwindTable::Open(self.image, &table) || !table.FunctionAt(start, &bounds)) return 0;
  Findings findings;
  FindSites(
      self.image, [] { return DecodeFunction{userstack_decode_function}; }, &findings);
  std::vector<Site> sites;
  for (const Site& site : findings.sites) {
    if (site.syscall - bounds.start < bounds.size) sites.push_back(site);
  }
  return PatchSites(self.base, self.image, sites.data(), sites.size(), entry).rewritten;
}

}  // namespace userstack::testing

extern "C" userstack::shim::rewrite::Answer userstack_rewrite_call(long number,
                                                                   const long* arguments) {
  return userstack::testing::dispatcher.call(number, arguments);
}
