// Hooks: getifaddrs, if_nametoindex and their relatives show the stack's interfaces, in stack mode.
//
// What these return is freed by libc's own functions: getifaddrs gives one block of malloc, which
// is all that libc's freeifaddrs frees; the names of if_nameindex are blocks of their own, as
// libc's are.
#include "shim/dispatch/interfaces.h"

#include <ifaddrs.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>

#include <cstdlib>
#include <cstring>

#include "shim/hooks/hook.h"

namespace userstack::shim {
namespace {

constinit Original<int(ifaddrs**)> real_getifaddrs("getifaddrs");
constinit Original<unsigned(const char*)> real_if_nametoindex("if_nametoindex");
constinit Original<char*(unsigned, char*)> real_if_indextoname("if_indextoname");
constinit Original<struct if_nameindex*()> real_if_nameindex("if_nameindex");

[[gnu::constructor]] void BindAll() {
  Bind(real_getifaddrs, real_if_nametoindex, real_if_indextoname, real_if_nameindex);
}

struct View {
  InterfaceView interfaces[kMaxInterfaceViews];
  size_t count = 0;
};

// 0 or -errno.
long Look(View* view) {
  const long attached = Attach();
  if (attached < 0) return attached;
  Session session;
  if (session.failed()) return -ENETDOWN;
  view->count = ListInterfaces(session, view->interfaces);
  return 0;
}

// One entry of the list, its storage beside it.
struct Entry {
  ifaddrs entry;
  sockaddr_storage address;
  sockaddr_storage mask;
  sockaddr_storage broadcast;
  char name[IF_NAMESIZE];
  rtnl_link_stats statistics;
};

sockaddr* Generic(sockaddr_storage* storage) { return reinterpret_cast<sockaddr*>(storage); }

void PutV4(uint32_t host_order, sockaddr_storage* out) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(host_order);
  std::memcpy(out, &address, sizeof address);
}

void PutV6(const uint8_t* bytes, unsigned scope, sockaddr_storage* out) {
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  std::memcpy(&address.sin6_addr, bytes, 16);
  address.sin6_scope_id = scope;
  std::memcpy(out, &address, sizeof address);
}

void FillLink(const InterfaceView& view, const uint8_t* mac, sockaddr_storage* out) {
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_ifindex = static_cast<int>(view.index);
  address.sll_hatype = view.loopback ? ARPHRD_LOOPBACK : ARPHRD_ETHER;
  address.sll_halen = 6;
  std::memcpy(address.sll_addr, mac, 6);
  std::memcpy(out, &address, sizeof address);
}

void FillPacketEntry(const InterfaceView& view, Entry* out) {
  constexpr uint8_t kAllOnes[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  constexpr uint8_t kZero[6] = {};
  FillLink(view, view.mac.bytes.data(), &out->address);
  FillLink(view, view.loopback ? kZero : kAllOnes, &out->broadcast);
  out->entry.ifa_addr = Generic(&out->address);
  out->entry.ifa_broadaddr = Generic(&out->broadcast);
  out->entry.ifa_data = &out->statistics;
}

void FillV4Entry(const InterfaceView& view, const userstack::Prefix& prefix, Entry* out) {
  PutV4(prefix.address.v4(), &out->address);
  PutV4(MaskOf(prefix), &out->mask);
  PutV4(view.loopback ? prefix.address.v4() : BroadcastOf(prefix), &out->broadcast);
  out->entry.ifa_addr = Generic(&out->address);
  out->entry.ifa_netmask = Generic(&out->mask);
  out->entry.ifa_broadaddr = Generic(&out->broadcast);
}

void FillV6Entry(const InterfaceView& view, const userstack::Prefix& prefix, Entry* out) {
  uint8_t mask[16] = {};
  for (unsigned bit = 0; bit < prefix.length; ++bit) {
    mask[bit / 8] |= static_cast<uint8_t>(0x80 >> (bit % 8));
  }
  PutV6(prefix.address.v6_bytes(), prefix.address.is_link_local() ? view.index : 0, &out->address);
  PutV6(mask, 0, &out->mask);
  out->entry.ifa_addr = Generic(&out->address);
  out->entry.ifa_netmask = Generic(&out->mask);
}

// Links first, then IPv4, then IPv6 addresses, as the kernel's dumps come.
enum class Pass : uint8_t { kLinks, kV4, kV6 };

class ListBuilder {
 public:
  explicit ListBuilder(Entry* entries) : entries_(entries) {}
  size_t count() const { return count_; }

  void AddAll(const View& view, Pass pass) {
    for (size_t i = 0; i < view.count; ++i) {
      const InterfaceView& interface = view.interfaces[i];
      if (pass == Pass::kLinks) {
        if (Entry* entry = Next(interface)) FillPacketEntry(interface, entry);
        continue;
      }
      for (size_t a = 0; a < interface.address_count; ++a) {
        const userstack::Prefix& prefix = interface.addresses[a];
        if (prefix.address.is_v4() != (pass == Pass::kV4)) continue;
        Entry* entry = Next(interface);
        if (entry == nullptr) continue;
        pass == Pass::kV4 ? FillV4Entry(interface, prefix, entry)
                          : FillV6Entry(interface, prefix, entry);
      }
    }
  }

 private:
  // Null entries_: only count.
  Entry* Next(const InterfaceView& interface) {
    const size_t index = count_++;
    if (entries_ == nullptr) return nullptr;
    Entry* entry = &entries_[index];
    if (index != 0) entries_[index - 1].entry.ifa_next = &entry->entry;
    std::memcpy(entry->name, interface.name, IF_NAMESIZE);
    entry->entry.ifa_name = entry->name;
    entry->entry.ifa_flags = interface.flags;
    return entry;
  }

  Entry* entries_;
  size_t count_ = 0;
};

size_t Build(const View& view, Entry* entries) {
  ListBuilder builder(entries);
  builder.AddAll(view, Pass::kLinks);
  builder.AddAll(view, Pass::kV4);
  builder.AddAll(view, Pass::kV6);
  return builder.count();
}

bool UsesStack() { return CurrentMode() != Mode::kKernel; }

}  // namespace
}  // namespace userstack::shim

using namespace userstack::shim;  // NOLINT: the definitions below are libc's, in no namespace

extern "C" {

int getifaddrs(ifaddrs** list) noexcept {
  if (!UsesStack()) return real_getifaddrs(list);
  View view;
  const long looked = Look(&view);
  if (looked < 0) return ReturnInt(looked);
  auto* entries = static_cast<Entry*>(calloc(Build(view, nullptr), sizeof(Entry)));
  if (entries == nullptr) return ReturnInt(-ENOMEM);
  Build(view, entries);
  *list = &entries->entry;
  return 0;
}

unsigned if_nametoindex(const char* name) noexcept {
  if (!UsesStack()) return real_if_nametoindex(name);
  View view;
  const long looked = Look(&view);
  for (size_t i = 0; i < view.count; ++i) {
    if (std::strncmp(view.interfaces[i].name, name, IF_NAMESIZE) == 0) {
      return view.interfaces[i].index;
    }
  }
  errno = looked < 0 ? static_cast<int>(-looked) : ENODEV;
  return 0;
}

char* if_indextoname(unsigned index, char* name) noexcept {
  if (!UsesStack()) return real_if_indextoname(index, name);
  View view;
  const long looked = Look(&view);
  for (size_t i = 0; i < view.count; ++i) {
    if (view.interfaces[i].index != index) continue;
    std::memcpy(name, view.interfaces[i].name, IF_NAMESIZE);
    return name;
  }
  errno = looked < 0 ? static_cast<int>(-looked) : ENXIO;
  return nullptr;
}

struct if_nameindex* if_nameindex() noexcept {
  if (!UsesStack()) return real_if_nameindex();
  View view;
  const long looked = Look(&view);
  if (looked < 0) {
    errno = static_cast<int>(-looked);
    return nullptr;
  }
  auto* list =
      static_cast<struct if_nameindex*>(calloc(view.count + 1, sizeof(struct if_nameindex)));
  for (size_t i = 0; list != nullptr && i < view.count; ++i) {
    list[i].if_index = view.interfaces[i].index;
    list[i].if_name = strdup(view.interfaces[i].name);
  }
  return list;
}

}  // extern "C"
