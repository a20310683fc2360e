// Library: what happens when libuserstack.so is loaded, which is as little as possible. Everything
// else begins at the first socket().
#include <cstdlib>

#include "shim/guest/exec_plan.h"
#include "shim/rewrite/rewrite.h"
#include "shim/runtime.h"

namespace userstack::shim {
namespace {

// A program that was exec'd by a wrapped one may hold sockets of the stack already: it attaches at
// once, so that its first read or write finds them. Any other program pays some looks at its
// environment. Rewriting comes first: it wants a process without threads, and the pump is one.
[[gnu::constructor]] void OnLoad() {
  RewriteAtLoad();
  if (getenv("USERSTACK_REWRITE") != nullptr || getenv("USERSTACK_CONFIG") != nullptr) {
    guest::FindLauncher();
  }
  if (getenv("USERSTACK_ATTACH") != nullptr) AttachInherited();
}

}  // namespace
}  // namespace userstack::shim
