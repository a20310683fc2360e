// Hooks: pthread_create. Threads of a Go program need a stack for the calls that Go code makes on
// stacks of a few kilobytes (rewrite/entry.S). All others are created as ever.
#include <pthread.h>

#include <cstdlib>

#include "shim/hooks/hook.h"
#include "shim/rewrite/entry.h"
#include "shim/rewrite/rewrite.h"

namespace userstack::shim {
namespace {

using Body = void*(void*);

constinit Original<int(pthread_t*, const pthread_attr_t*, Body*, void*)> real_pthread_create(
    "pthread_create");

[[gnu::constructor]] void BindAll() { Bind(real_pthread_create); }

struct Start {
  Body* body;
  void* argument;
};

void* Run(void* start) {
  const Start copy = *static_cast<Start*>(start);
  free(start);
  rewrite::MakeThreadStack();
  return copy.body(copy.argument);
}

}  // namespace
}  // namespace userstack::shim

using namespace userstack::shim;  // NOLINT: the definitions below are libc's, in no namespace

extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, Body* body,
                              void* argument) noexcept {
  if (!g_threads_need_stacks.load(std::memory_order_relaxed)) {
    return real_pthread_create(thread, attributes, body, argument);
  }
  auto* start = static_cast<Start*>(malloc(sizeof(Start)));
  if (start == nullptr) return EAGAIN;
  *start = {body, argument};
  const int result = real_pthread_create(thread, attributes, Run, start);
  if (result != 0) free(start);
  return result;
}
