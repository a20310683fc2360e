// Serves the protocols of bench/load on lwIP as Debian builds it (liblwip-dev, POSIX port), over a
// TAP interface that exists: echo, echo with close (crr) and bulk. For bench/compare, which builds
// it.
//
//   lwip_server TAP echo-server|crr-server|bulk-server ADDRESS NETMASK PORT
//
// One thread a connection, blocking calls, as the load program does it.

#include <fcntl.h>
#include <linux/if_tun.h>
#include <lwip/etharp.h>
#include <lwip/netif.h>
#include <lwip/sockets.h>
#include <lwip/tcpip.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string_view>
#include <thread>
#include <vector>

namespace {

constexpr size_t kFrame = 2048;

int64_t Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * int64_t{1'000'000'000} + now.tv_nsec;
}

[[noreturn]] void Fail(const char* what) {
  std::fprintf(stderr, "lwip_server: %s\n", what);
  std::exit(1);
}

struct Interface {
  ip4_addr_t address, netmask, gateway;
  netif device;
  const char* name;
  int tap;
};

err_t Output(netif* device, pbuf* packet) {
  static char frame[kFrame];  // only lwIP's thread, or who holds its lock, sends
  const u16_t size = pbuf_copy_partial(packet, frame, sizeof frame, 0);
  return write(static_cast<Interface*>(device->state)->tap, frame, size) == size ? ERR_OK : ERR_IF;
}

// The library's own TAP driver is not used: its PBUF_POOL buffers hold 592 bytes in Debian's build,
// and a full frame overruns them.
void Input(Interface* interface) {
  static char frame[kFrame];
  while (true) {
    const ssize_t size = read(interface->tap, frame, sizeof frame);
    if (size < 0) Fail("read from the TAP");
    pbuf* packet = pbuf_alloc(PBUF_RAW, static_cast<u16_t>(size), PBUF_RAM);
    if (packet == nullptr) continue;
    pbuf_take(packet, frame, static_cast<u16_t>(size));
    if (interface->device.input(packet, &interface->device) != ERR_OK) pbuf_free(packet);
  }
}

err_t Initialize(netif* device) {
  auto* interface = static_cast<Interface*>(device->state);
  interface->tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
  ifreq request{};
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  std::strncpy(request.ifr_name, interface->name, IFNAMSIZ - 1);
  if (interface->tap < 0 || ioctl(interface->tap, TUNSETIFF, &request) != 0) Fail(interface->name);
  device->name[0] = 't';
  device->name[1] = 'p';
  device->output = etharp_output;
  device->linkoutput = Output;
  device->mtu = 1500;
  device->hwaddr_len = 6;
  std::memcpy(device->hwaddr, "\x02\x00\x00\x00\x00\x77", 6);
  device->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET;
  std::thread(Input, interface).detach();
  return ERR_OK;
}

// Runs in lwIP's own thread, before anything else there.
void Start(void* argument) {
  auto* interface = static_cast<Interface*>(argument);
  if (netif_add(&interface->device, &interface->address, &interface->netmask, &interface->gateway,
                interface, Initialize, tcpip_input) == nullptr) {
    Fail("netif_add");
  }
  netif_set_default(&interface->device);
  netif_set_up(&interface->device);
  netif_set_link_up(&interface->device);
}

bool WriteAll(int fd, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t count = lwip_send(fd, data, size, 0);
    if (count <= 0) return false;
    data += count;
    size -= static_cast<size_t>(count);
  }
  return true;
}

void Echo(int fd, bool once) {
  std::vector<char> buffer(64 * 1024);
  const int on = 1;
  lwip_setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ssize_t count;
  while ((count = lwip_recv(fd, buffer.data(), buffer.size(), 0)) > 0) {
    if (!WriteAll(fd, buffer.data(), static_cast<size_t>(count)) || once) break;
  }
  lwip_close(fd);
}

// bench/load/bulk.cc: server sends?, warm-up, time that counts, size of a call.
void Bulk(int fd) {
  uint64_t request[4];
  size_t have = 0;
  while (have < sizeof request) {
    const ssize_t count =
        lwip_recv(fd, reinterpret_cast<char*>(request) + have, sizeof request - have, 0);
    if (count <= 0) break;
    have += static_cast<size_t>(count);
  }
  if (have == sizeof request && request[3] > 0 && request[3] <= 64 << 20) {
    std::vector<char> buffer(request[3], 'x');
    if (request[0] != 0) {
      while (WriteAll(fd, buffer.data(), buffer.size())) {
      }
    } else {
      const int64_t begin = Now() + static_cast<int64_t>(request[1]);
      const int64_t end = begin + static_cast<int64_t>(request[2]);
      int64_t first = 0, last = 0;
      uint64_t bytes = 0;
      ssize_t count;
      while ((count = lwip_recv(fd, buffer.data(), buffer.size(), 0)) > 0) {
        const int64_t now = Now();
        if (now < begin) continue;
        if (first == 0) {
          first = last = now;
        } else if (last < end || bytes == 0) {
          bytes += static_cast<uint64_t>(count);
          last = now;
        }
      }
      const uint64_t reply[2] = {bytes, static_cast<uint64_t>(last - first)};
      WriteAll(fd, reinterpret_cast<const char*>(reply), sizeof reply);
    }
  }
  lwip_close(fd);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) Fail("usage: lwip_server TAP MODE ADDRESS NETMASK PORT");
  const std::string_view mode = argv[2];
  static Interface interface;
  interface.name = argv[1];
  if (!ip4addr_aton(argv[3], &interface.address) || !ip4addr_aton(argv[4], &interface.netmask)) {
    Fail("addresses");
  }
  tcpip_init(Start, &interface);
  const int listener = lwip_socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(std::atoi(argv[5])));
  if (lwip_bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) Fail("bind");
  if (lwip_listen(listener, 128) != 0) Fail("listen");
  std::puts("ready");
  std::fflush(stdout);
  while (true) {
    const int fd = lwip_accept(listener, nullptr, nullptr);
    if (fd < 0) continue;
    if (mode == "crr-server") {
      Echo(fd, true);
    } else if (mode == "echo-server") {
      std::thread(Echo, fd, false).detach();
    } else {
      std::thread(Bulk, fd).detach();
    }
  }
}
