// Hooks: names. libc's own resolver answers, with the nss modules, files and rules that the program
// is used to; only its system calls are made by the stack. In a rewritten program they are already;
// otherwise the thread's calls are caught while it is inside (catching.h). A name server that
// USERSTACK_KERNEL leaves to the kernel (127.0.0.53) is asked there, and so are the AF_UNIX sockets
// of nss modules and nscd.
//
// What libc asks the kernel's netlink is answered here: which families AI_ADDRCONFIG finds.
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>

#include "shim/dispatch/interfaces.h"
#include "shim/hooks/catching.h"
#include "shim/hooks/hook.h"
#include "shim/rewrite/rewrite.h"

namespace userstack::shim {
namespace {

// Bound at their first call, not when the library is loaded: they are many, and all of them load
// nss modules, so that they are the dynamic linker's customers anyway.
constinit Original<int(const char*, const char*, const addrinfo*, addrinfo**)> real_getaddrinfo(
    "getaddrinfo");
constinit Original<int(int, gaicb**, int, sigevent*)> real_getaddrinfo_a("getaddrinfo_a");
constinit Original<int(const sockaddr*, socklen_t, char*, socklen_t, char*, socklen_t, int)>
    real_getnameinfo("getnameinfo");
constinit Original<hostent*(const char*)> real_gethostbyname("gethostbyname");
constinit Original<hostent*(const char*, int)> real_gethostbyname2("gethostbyname2");
constinit Original<hostent*(const void*, socklen_t, int)> real_gethostbyaddr("gethostbyaddr");
constinit Original<int(const char*, hostent*, char*, size_t, hostent**, int*)> real_gethostbyname_r(
    "gethostbyname_r");
constinit Original<int(const char*, int, hostent*, char*, size_t, hostent**, int*)>
    real_gethostbyname2_r("gethostbyname2_r");
constinit Original<int(const void*, socklen_t, int, hostent*, char*, size_t, hostent**, int*)>
    real_gethostbyaddr_r("gethostbyaddr_r");
using Bytes = unsigned char;
constinit Original<int()> real_res_init("__res_init");
constinit Original<int(res_state)> real_res_ninit("__res_ninit");
constinit Original<void(res_state)> real_res_nclose("__res_nclose");
constinit Original<int(const char*, int, int, Bytes*, int)> real_res_query("res_query");
constinit Original<int(const char*, int, int, Bytes*, int)> real_res_search("res_search");
constinit Original<int(const char*, const char*, int, int, Bytes*, int)> real_res_querydomain(
    "res_querydomain");
constinit Original<int(const Bytes*, int, Bytes*, int)> real_res_send("res_send");
constinit Original<int(res_state, const char*, int, int, Bytes*, int)> real_res_nquery(
    "res_nquery");
constinit Original<int(res_state, const char*, int, int, Bytes*, int)> real_res_nsearch(
    "res_nsearch");
constinit Original<int(res_state, const char*, const char*, int, int, Bytes*, int)>
    real_res_nquerydomain("res_nquerydomain");
constinit Original<int(res_state, const Bytes*, int, Bytes*, int)> real_res_nsend("res_nsend");

bool UsesStack() { return CurrentMode() != Mode::kKernel; }

// `refused`: the answer where the stack cannot be used.
template <typename R, typename... Arguments>
R OnStack(Original<R(Arguments...)>& real, R refused, Arguments... arguments) {
  if (!UsesStack()) return real(arguments...);
  const Catching catching;
  if (catching.failed()) {
    errno = ENETDOWN;
    h_errno = NETDB_INTERNAL;
    return refused;
  }
  return real(arguments...);
}

// The same for those that have places of their own for what went wrong.
template <typename... Arguments>
int OnStackReentrant(Original<int(Arguments...)>& real, hostent** result, int* host_error,
                     Arguments... arguments) {
  if (!UsesStack()) return real(arguments...);
  const Catching catching;
  if (!catching.failed()) return real(arguments...);
  *result = nullptr;
  *host_error = NETDB_INTERNAL;
  return ENETDOWN;
}

struct Families {
  bool v4 = false;
  bool v6 = false;
};

// Of the stack's addresses, loopback apart. False: the stack cannot be asked.
bool FindFamilies(Families* families) {
  if (Attach() < 0) return false;
  Session session;
  if (session.failed()) return false;
  InterfaceView views[kMaxInterfaceViews];
  const size_t count = ListInterfaces(session, views);
  for (size_t i = 0; i < count; ++i) {
    for (size_t a = 0; a < views[i].address_count && !views[i].loopback; ++a) {
      const bool is_v4 = views[i].addresses[a].address.is_v4();
      (is_v4 ? families->v4 : families->v6) = true;
    }
  }
  return true;
}

// AI_ADDRCONFIG as glibc has it, for the stack's addresses; and nothing is left to be asked of the
// kernel's. False: no address can be an answer.
bool LimitToConfigured(addrinfo* hints) {
  if ((hints->ai_flags & AI_ADDRCONFIG) == 0) return true;
  hints->ai_flags &= ~AI_ADDRCONFIG;
  Families families;
  if (!FindFamilies(&families)) return true;
  if (hints->ai_family == AF_UNSPEC && families.v4 != families.v6) {
    hints->ai_family = families.v4 ? AF_INET : AF_INET6;
  }
  return !(hints->ai_family == AF_INET && !families.v4) &&
         !(hints->ai_family == AF_INET6 && !families.v6);
}

}  // namespace
}  // namespace userstack::shim

using namespace userstack::shim;  // NOLINT: the definitions below are libc's, in no namespace

extern "C" {

int getaddrinfo(const char* node, const char* service, const addrinfo* hints, addrinfo** result) {
  if (!UsesStack()) return real_getaddrinfo(node, service, hints, result);
  addrinfo own{};
  own.ai_flags = AI_V4MAPPED | AI_ADDRCONFIG;  // glibc's for none
  if (hints != nullptr) own = *hints;
  if (!LimitToConfigured(&own)) return EAI_NONAME;
  return OnStack(real_getaddrinfo, EAI_SYSTEM, node, service, static_cast<const addrinfo*>(&own),
                 result);
}

// Its threads are made inside libc: only in a rewritten program are their calls seen.
int getaddrinfo_a(int mode, gaicb** list, int count, sigevent* event) noexcept {
  if (UsesStack() && !g_libc_is_rewritten.load()) {
    Log(LogLevel::kWarn, "getaddrinfo_a: refused; it needs USERSTACK_REWRITE=on");
    errno = ENOSYS;
    return EAI_SYSTEM;
  }
  return real_getaddrinfo_a(mode, list, count, event);
}

int getnameinfo(const sockaddr* address, socklen_t length, char* host, socklen_t host_length,
                char* service, socklen_t service_length, int flags) {
  return OnStack(real_getnameinfo, EAI_SYSTEM, address, length, host, host_length, service,
                 service_length, flags);
}

hostent* gethostbyname(const char* name) {
  return OnStack(real_gethostbyname, static_cast<hostent*>(nullptr), name);
}
hostent* gethostbyname2(const char* name, int family) {
  return OnStack(real_gethostbyname2, static_cast<hostent*>(nullptr), name, family);
}
hostent* gethostbyaddr(const void* address, socklen_t length, int family) {
  return OnStack(real_gethostbyaddr, static_cast<hostent*>(nullptr), address, length, family);
}
int gethostbyname_r(const char* name, hostent* entry, char* buffer, size_t size, hostent** result,
                    int* error) {
  return OnStackReentrant(real_gethostbyname_r, result, error, name, entry, buffer, size, result,
                          error);
}
int gethostbyname2_r(const char* name, int family, hostent* entry, char* buffer, size_t size,
                     hostent** result, int* error) {
  return OnStackReentrant(real_gethostbyname2_r, result, error, name, family, entry, buffer, size,
                          result, error);
}
int gethostbyaddr_r(const void* address, socklen_t length, int family, hostent* entry, char* buffer,
                    size_t size, hostent** result, int* error) {
  return OnStackReentrant(real_gethostbyaddr_r, result, error, address, length, family, entry,
                          buffer, size, result, error);
}

// <resolv.h> renames these two.
int __res_init() noexcept { return OnStack(real_res_init, -1); }
int __res_ninit(res_state state) noexcept { return OnStack(real_res_ninit, -1, state); }

void __res_nclose(res_state state) noexcept {
  if (!UsesStack()) return real_res_nclose(state);
  const Catching catching;
  real_res_nclose(state);
}

int res_query(const char* name, int type_class, int type, unsigned char* answer,
              int size) noexcept {
  return OnStack(real_res_query, -1, name, type_class, type, answer, size);
}
int res_search(const char* name, int type_class, int type, unsigned char* answer,
               int size) noexcept {
  return OnStack(real_res_search, -1, name, type_class, type, answer, size);
}
int res_querydomain(const char* name, const char* domain, int type_class, int type,
                    unsigned char* answer, int size) noexcept {
  return OnStack(real_res_querydomain, -1, name, domain, type_class, type, answer, size);
}
int res_send(const unsigned char* query, int length, unsigned char* answer, int size) noexcept {
  return OnStack(real_res_send, -1, query, length, answer, size);
}
int res_nquery(res_state state, const char* name, int type_class, int type, unsigned char* answer,
               int size) noexcept {
  return OnStack(real_res_nquery, -1, state, name, type_class, type, answer, size);
}
int res_nsearch(res_state state, const char* name, int type_class, int type, unsigned char* answer,
                int size) noexcept {
  return OnStack(real_res_nsearch, -1, state, name, type_class, type, answer, size);
}
int res_nquerydomain(res_state state, const char* name, const char* domain, int type_class,
                     int type, unsigned char* answer, int size) noexcept {
  return OnStack(real_res_nquerydomain, -1, state, name, domain, type_class, type, answer, size);
}
int res_nsend(res_state state, const unsigned char* query, int length, unsigned char* answer,
              int size) noexcept {
  return OnStack(real_res_nsend, -1, state, query, length, answer, size);
}

// As programs know them that were built before glibc 2.34.
[[gnu::alias("res_query")]] int __res_query(const char* name, int type_class, int type,
                                            unsigned char* answer, int size) noexcept;
[[gnu::alias("res_search")]] int __res_search(const char* name, int type_class, int type,
                                              unsigned char* answer, int size) noexcept;
[[gnu::alias("res_querydomain")]] int __res_querydomain(const char* name, const char* domain,
                                                        int type_class, int type,
                                                        unsigned char* answer, int size) noexcept;
[[gnu::alias("res_send")]] int __res_send(const unsigned char* query, int length,
                                          unsigned char* answer, int size) noexcept;
[[gnu::alias("res_nquery")]] int __res_nquery(res_state state, const char* name, int type_class,
                                              int type, unsigned char* answer, int size) noexcept;
[[gnu::alias("res_nsearch")]] int __res_nsearch(res_state state, const char* name, int type_class,
                                                int type, unsigned char* answer, int size) noexcept;
[[gnu::alias("res_nquerydomain")]] int __res_nquerydomain(res_state state, const char* name,
                                                          const char* domain, int type_class,
                                                          int type, unsigned char* answer,
                                                          int size) noexcept;
[[gnu::alias("res_nsend")]] int __res_nsend(res_state state, const unsigned char* query, int length,
                                            unsigned char* answer, int size) noexcept;

}  // extern "C"
