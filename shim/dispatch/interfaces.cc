// Interfaces: see interfaces.h.
#include "shim/dispatch/interfaces.h"

#include <net/if_arp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "shim/dispatch/call.h"

namespace userstack::shim {
namespace {

// What the kernel gives a wire of ours: it is up and runs as long as the device is open.
constexpr unsigned kWireFlags = IFF_UP | IFF_BROADCAST | IFF_RUNNING | IFF_MULTICAST;
constexpr unsigned kLoopbackFlags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING;

void ListAddresses(Ip& ip, InterfaceView& view) {
  for (unsigned slot = 0; slot < kMaxAddresses; ++slot) {
    const Address* address = ip.AddressAt(slot);
    if (address == nullptr || address->interface != view.index) continue;
    if (view.address_count == InterfaceView::kMaxAddresses) return;
    view.addresses[view.address_count++] = address->prefix;
  }
}

const Prefix* FirstV4(const InterfaceView& view) {
  for (size_t i = 0; i < view.address_count; ++i) {
    if (view.addresses[i].address.is_v4()) return &view.addresses[i];
  }
  return nullptr;
}

void PutV4(uint32_t host_order, sockaddr* out) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(host_order);
  std::memcpy(out, &address, sizeof address);
}

// SIOCGIFCONF: IPv4 addresses only, one ifreq each. Without a buffer: the room it would take.
long ListV4(const InterfaceView* views, size_t count, ifconf* configuration) {
  const int room = configuration->ifc_len;
  char* out = configuration->ifc_buf;
  int written = 0;
  for (size_t i = 0; i < count; ++i) {
    for (size_t a = 0; a < views[i].address_count; ++a) {
      if (!views[i].addresses[a].address.is_v4()) continue;
      if (out != nullptr && room - written < static_cast<int>(sizeof(ifreq))) break;
      if (out != nullptr) {
        ifreq request{};
        std::memcpy(request.ifr_name, views[i].name, IFNAMSIZ);
        PutV4(views[i].addresses[a].address.v4(), &request.ifr_addr);
        std::memcpy(out + written, &request, sizeof request);
      }
      written += sizeof(ifreq);
    }
  }
  configuration->ifc_len = written;
  return 0;
}

long AnswerAddress(const InterfaceView& view, unsigned long request, ifreq* out) {
  const Prefix* prefix = FirstV4(view);
  if (prefix == nullptr) return -EADDRNOTAVAIL;
  if (request == SIOCGIFADDR) {
    PutV4(prefix->address.v4(), &out->ifr_addr);
  } else if (request == SIOCGIFNETMASK) {
    PutV4(MaskOf(*prefix), &out->ifr_netmask);
  } else {
    PutV4(view.loopback ? 0 : BroadcastOf(*prefix), &out->ifr_broadaddr);
  }
  return 0;
}

long Answer(const InterfaceView& view, unsigned long request, ifreq* out) {
  switch (request) {
    case SIOCGIFFLAGS:
      out->ifr_flags = static_cast<short>(view.flags);
      return 0;
    case SIOCGIFADDR:
    case SIOCGIFNETMASK:
    case SIOCGIFBRDADDR:
      return AnswerAddress(view, request, out);
    case SIOCGIFDSTADDR: {
      const Prefix* prefix = FirstV4(view);
      if (prefix == nullptr) return -EADDRNOTAVAIL;
      PutV4(prefix->address.v4(), &out->ifr_dstaddr);
      return 0;
    }
    case SIOCGIFMTU:
      out->ifr_mtu = static_cast<int>(view.mtu);
      return 0;
    case SIOCGIFINDEX:
      out->ifr_ifindex = static_cast<int>(view.index);
      return 0;
    case SIOCGIFMETRIC:
      out->ifr_metric = 0;
      return 0;
    case SIOCGIFTXQLEN:
      out->ifr_qlen = 1000;
      return 0;
    case SIOCGIFHWADDR:
      out->ifr_hwaddr = {};
      out->ifr_hwaddr.sa_family = view.loopback ? ARPHRD_LOOPBACK : ARPHRD_ETHER;
      std::memcpy(out->ifr_hwaddr.sa_data, view.mac.bytes.data(), view.mac.bytes.size());
      return 0;
    case SIOCGIFMAP:
      out->ifr_map = {};
      return 0;
  }
  // The rest would change the interface.
  return -EPERM;
}

}  // namespace

uint32_t MaskOf(const Prefix& prefix) {
  return prefix.length == 0 ? 0 : ~uint32_t{0} << (32 - prefix.length);
}

uint32_t BroadcastOf(const Prefix& prefix) {
  return prefix.length >= 31 ? 0xffffffff : prefix.address.v4() | ~MaskOf(prefix);
}

size_t ListInterfaces(Session& session, InterfaceView* out) {
  Ip& ip = session.stack().ip();
  size_t count = 0;
  for (uint16_t index = 1; index <= kMaxInterfaces && count < kMaxInterfaceViews; ++index) {
    const Interface* interface = ip.interface(index);
    if (interface == nullptr) continue;
    InterfaceView& view = out[count++];
    view = InterfaceView();
    view.index = index;
    std::memcpy(view.name, interface->name,
                std::min<size_t>(IF_NAMESIZE - 1, sizeof interface->name));
    view.loopback = interface->loopback;
    view.flags = interface->loopback ? kLoopbackFlags : kWireFlags;
    view.mtu = interface->mtu;
    view.mac = interface->device.mac;
    ListAddresses(ip, view);
  }
  return count;
}

long InterfaceIoctl(Session& session, unsigned long request, void* argument) {
  InterfaceView views[kMaxInterfaceViews];
  const size_t count = ListInterfaces(session, views);
  if (request == SIOCGIFCONF) return ListV4(views, count, static_cast<ifconf*>(argument));
  auto* interface_request = static_cast<ifreq*>(argument);
  for (size_t i = 0; i < count; ++i) {
    if (request == SIOCGIFNAME) {
      if (static_cast<unsigned>(interface_request->ifr_ifindex) != views[i].index) continue;
      std::memcpy(interface_request->ifr_name, views[i].name, IFNAMSIZ);
      return 0;
    }
    if (std::strncmp(interface_request->ifr_name, views[i].name, IFNAMSIZ) == 0) {
      return Answer(views[i], request, interface_request);
    }
  }
  return -ENODEV;
}

}  // namespace userstack::shim
