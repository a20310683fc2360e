// Read from /proc, which needs no privilege and no netlink.
#include "backend/default_route.h"

#include <fcntl.h>

#include <vector>

#include "backend/system_call.h"

namespace userstack::backend {
namespace {

std::string ReadFile(const char* path) {
  const long opened = KernelOpen(path, O_RDONLY | O_CLOEXEC);
  if (opened < 0) return "";
  const OwnedDescriptor fd(static_cast<int>(opened));
  std::string text;
  char part[4096];
  for (;;) {
    const long got = SystemCall(SYS_read, fd.get(), reinterpret_cast<long>(part), sizeof part);
    if (got <= 0) return text;
    text.append(part, static_cast<size_t>(got));
  }
}

std::vector<std::string> Words(const std::string& text, size_t begin, size_t end) {
  std::vector<std::string> words;
  while (begin < end) {
    const size_t word = text.find_first_not_of(" \t", begin);
    if (word >= end) break;
    begin = std::min(text.find_first_of(" \t\n", word), end);
    words.push_back(text.substr(word, begin - word));
  }
  return words;
}

// `match` is asked of the words of every line.
template <typename Match>
bool AnyLine(const std::string& text, Match match) {
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    if (match(Words(text, begin, end))) return true;
    begin = end + 1;
  }
  return false;
}

}  // namespace

// Iface Destination Gateway Flags RefCnt Use Metric Mask ...
bool HasDefaultRouteV4(const std::string& table, const std::string& interface) {
  return AnyLine(table, [&](const std::vector<std::string>& w) {
    return w.size() > 7 && w[0] == interface && w[1] == "00000000" && w[7] == "00000000";
  });
}

// destination length source length next-hop metric reference use flags interface. The kernel's own
// route for what it cannot reach is a default route by "lo".
bool HasDefaultRouteV6(const std::string& table, const std::string& interface) {
  return AnyLine(table, [&](const std::vector<std::string>& w) {
    return w.size() > 9 && w[9] == interface && w[1] == "00" && interface != "lo";
  });
}

bool HasDefaultRoute(const std::string& interface) {
  return HasDefaultRouteV4(ReadFile("/proc/net/route"), interface) ||
         HasDefaultRouteV6(ReadFile("/proc/net/ipv6_route"), interface);
}

}  // namespace userstack::backend
