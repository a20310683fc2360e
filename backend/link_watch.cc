// AwaitLink: see link_watch.h.
#include "backend/link_watch.h"

#include <linux/ethtool.h>

#include <ctime>

#include "backend/interface_request.h"

namespace userstack::backend {
namespace {

constexpr int kMostLooks = 50;
constexpr timespec kBetween{0, 1'000'000};

}  // namespace

void AwaitLink(int socket, const std::string& interface) {
  for (int look = 0; look < kMostLooks; ++look) {
    ifreq request = RequestFor(interface);
    if (KernelIoctl(socket, SIOCGIFFLAGS, &request) < 0) return;
    const bool settled =
        (request.ifr_flags & IFF_UP) == 0 || (request.ifr_flags & IFF_RUNNING) != 0;
    // Who asks for the link's state makes the link watch see it (Linux 6.9). Before, IFF_RUNNING
    // comes under the same lock as what is waited for, which this takes and lets go.
    ethtool_value link{ETHTOOL_GLINK, 0};
    if (!AskDriver(socket, interface, &link) || settled) return;
    if (look > 0) SystemCall(SYS_nanosleep, reinterpret_cast<long>(&kBetween));
  }
}

}  // namespace userstack::backend
