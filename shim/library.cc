// Library: what happens when libuserstack.so is loaded, which is as little as possible. Everything
// else begins at the first socket().
#include <cstdlib>

#include "shim/runtime.h"

namespace userstack::shim {
namespace {

// A program that was exec'd by a wrapped one may hold sockets of the stack already: it attaches at
// once, so that its first read or write finds them. Any other program pays one look at its
// environment.
[[gnu::constructor]] void OnLoad() {
  if (getenv("USERSTACK_ATTACH") != nullptr) AttachInherited();
}

}  // namespace
}  // namespace userstack::shim
