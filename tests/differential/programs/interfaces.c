// What a program sees of the interfaces: getifaddrs, if_nametoindex, SIOCGIF*.
#include <ifaddrs.h>
#include <net/if_arp.h>
#include <netpacket/packet.h>
#include <stdlib.h>

#include "observe.h"

static char lines[64][256];
static int line_count;

static int ByText(const void* a, const void* b) { return strcmp(a, b); }

static void List(void) {
  struct ifaddrs* list = NULL;
  See("getifaddrs", getifaddrs(&list));
  for (struct ifaddrs* item = list; item != NULL && line_count < 64; item = item->ifa_next) {
    char address[INET6_ADDRSTRLEN] = "-", mask[INET6_ADDRSTRLEN] = "-",
         broadcast[INET6_ADDRSTRLEN] = "-";
    int family = item->ifa_addr != NULL ? item->ifa_addr->sa_family : 0;
    if (family == AF_INET) {
      inet_ntop(AF_INET, &((struct sockaddr_in*)item->ifa_addr)->sin_addr, address, sizeof address);
      inet_ntop(AF_INET, &((struct sockaddr_in*)item->ifa_netmask)->sin_addr, mask, sizeof mask);
      if ((item->ifa_flags & IFF_BROADCAST) && item->ifa_broadaddr != NULL) {
        inet_ntop(AF_INET, &((struct sockaddr_in*)item->ifa_broadaddr)->sin_addr, broadcast,
                  sizeof broadcast);
      }
    } else if (family == AF_INET6) {
      inet_ntop(AF_INET6, &((struct sockaddr_in6*)item->ifa_addr)->sin6_addr, address,
                sizeof address);
      inet_ntop(AF_INET6, &((struct sockaddr_in6*)item->ifa_netmask)->sin6_addr, mask, sizeof mask);
    } else if (family == AF_PACKET) {
      struct sockaddr_ll* link = (struct sockaddr_ll*)item->ifa_addr;
      snprintf(address, sizeof address, "%02x:%02x:%02x:%02x:%02x:%02x index %d", link->sll_addr[0],
               link->sll_addr[1], link->sll_addr[2], link->sll_addr[3], link->sll_addr[4],
               link->sll_addr[5], link->sll_ifindex);
    }
    unsigned flags =
        item->ifa_flags & (IFF_UP | IFF_BROADCAST | IFF_LOOPBACK | IFF_RUNNING | IFF_MULTICAST);
    snprintf(lines[line_count++], sizeof lines[0], "%s family %d %s mask %s broadcast %s flags %#x",
             item->ifa_name, family, address, mask, broadcast, flags);
  }
  freeifaddrs(list);
  qsort(lines, (size_t)line_count, sizeof lines[0], ByText);
  for (int i = 0; i < line_count; ++i) Note("%s", lines[i]);
}

static void Names(void) {
  char name[IF_NAMESIZE] = "";
  See("index of lo", if_nametoindex("lo"));
  See("index of eth0", if_nametoindex("eth0"));
  See("index of nothing", if_nametoindex("nothing9"));
  Note("name of 1: %s", if_indextoname(1, name) != NULL ? name : ErrnoName(errno));
  Note("name of 2: %s", if_indextoname(2, name) != NULL ? name : ErrnoName(errno));
  Note("name of 99: %s", if_indextoname(99, name) != NULL ? name : ErrnoName(errno));
  struct if_nameindex* list = if_nameindex();
  for (struct if_nameindex* item = list; item != NULL && item->if_index != 0; ++item) {
    Note("interface %u %s", item->if_index, item->if_name);
  }
  if_freenameindex(list);
}

static void Ioctls(void) {
  int fd = Socket(AF_INET, SOCK_DGRAM);
  struct ifreq request;
  static const struct {
    const char* name;
    unsigned long number;
  } kCalls[] = {{"SIOCGIFADDR", SIOCGIFADDR},
                {"SIOCGIFNETMASK", SIOCGIFNETMASK},
                {"SIOCGIFBRDADDR", SIOCGIFBRDADDR}};
  for (size_t i = 0; i < 3; ++i) {
    memset(&request, 0, sizeof request);
    strcpy(request.ifr_name, "eth0");
    long result = ioctl(fd, kCalls[i].number, &request);
    SeeAddress(kCalls[i].name, &request.ifr_addr, result, 16, true);
  }
  memset(&request, 0, sizeof request);
  strcpy(request.ifr_name, "eth0");
  See("SIOCGIFINDEX", ioctl(fd, SIOCGIFINDEX, &request));
  Note("index %d", request.ifr_ifindex);
  See("SIOCGIFFLAGS", ioctl(fd, SIOCGIFFLAGS, &request));
  Note("flags %#x", (unsigned)request.ifr_flags &
                        (IFF_UP | IFF_BROADCAST | IFF_LOOPBACK | IFF_RUNNING | IFF_MULTICAST));
  See("SIOCGIFMTU", ioctl(fd, SIOCGIFMTU, &request));
  Note("mtu %d", request.ifr_mtu);
  See("SIOCGIFHWADDR", ioctl(fd, SIOCGIFHWADDR, &request));
  Note("hardware %02x family %d", (unsigned char)request.ifr_hwaddr.sa_data[5],
       request.ifr_hwaddr.sa_family);
  memset(&request, 0, sizeof request);
  request.ifr_ifindex = 2;
  See("SIOCGIFNAME", ioctl(fd, SIOCGIFNAME, &request));
  Note("name %s", request.ifr_name);
  strcpy(request.ifr_name, "nothing9");
  See("SIOCGIFADDR of nothing", ioctl(fd, SIOCGIFADDR, &request));
  struct ifconf all = {.ifc_len = sizeof lines, .ifc_buf = (char*)lines};
  See("SIOCGIFCONF", ioctl(fd, SIOCGIFCONF, &all));
  for (struct ifreq* item = all.ifc_req; (char*)item < all.ifc_buf + all.ifc_len; ++item) {
    SeeAddress(item->ifr_name, &item->ifr_addr, 0, 16, true);
  }
  close(fd);
}

int main(void) {
  List();
  Names();
  Ioctls();
  return 0;
}
