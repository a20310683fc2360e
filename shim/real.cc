// Real: binding of the originals. No lock: every binding is idempotent.
#include "shim/real.h"

#include <dlfcn.h>

#include <cerrno>

namespace userstack::shim {

void* RealSymbol(const char* name) {
  const int saved = errno;
  void* symbol = dlsym(RTLD_NEXT, name);
  errno = saved;
  return symbol;
}

}  // namespace userstack::shim
