// Configuration: see configuration.h.
#include "shim/tool/configuration.h"

#include <arpa/inet.h>
#include <linux/capability.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "backend/device.h"
#include "backend/xdp_spec.h"
#include "shim/tool/command.h"
#include "shim/tool/process_files.h"

namespace userstack::tool {
namespace {

bool HasCapability(unsigned number) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (syscall(SYS_capget, &header, data) != 0) return false;
  return (data[number / 32].effective >> (number % 32) & 1) != 0;
}

bool IsHandedOver() {
  const char* const names = getenv("LISTEN_FDNAMES");
  return names != nullptr && strstr(names, "userstack") != nullptr;
}

std::string Interface(const char* device) {
  const std::string rest = device + strlen("tap:");
  return rest.substr(0, rest.find(','));
}

// An interface of this network namespace. /sys may show another one's: it is asked for the owner
// only, which nothing else tells, and only when it means the same interface.
struct Link {
  explicit Link(const std::string& name) {
    const unsigned index = if_nametoindex(name.c_str());
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    exists = index != 0;
    ifreq request{};
    ethtool_drvinfo driver{};
    driver.cmd = ETHTOOL_GDRVINFO;
    strncpy(request.ifr_name, name.c_str(), sizeof request.ifr_name - 1);
    request.ifr_data = reinterpret_cast<char*>(&driver);
    is_tun = ioctl(fd, SIOCETHTOOL, &request) == 0 && strcmp(driver.driver, "tun") == 0;
    is_held = ioctl(fd, SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_RUNNING) != 0;
    close(fd);
    const std::string directory = "/sys/class/net/" + name;
    const std::string text = ReadWhole(directory + "/owner");
    owner_known =
        !text.empty() && strtoul(ReadWhole(directory + "/ifindex").c_str(), nullptr, 10) == index;
    owner = strtol(text.c_str(), nullptr, 10);
  }
  bool exists = false;
  bool is_tun = false;
  bool is_held = false;  // somebody has its other end open
  bool owner_known = false;
  long owner = -1;
};

void CheckTap(const std::string& name, std::vector<Finding>* findings) {
  if (access("/dev/net/tun", R_OK | W_OK) != 0) {
    findings->push_back({true, std::string("/dev/net/tun cannot be opened: ") + strerror(errno) +
                                   " (userstack-open hands a device to a program)"});
    return;
  }
  const bool may_all = HasCapability(CAP_NET_ADMIN);
  const Link link(name);
  if (!link.exists) {
    findings->push_back({!may_all, "TAP " + name +
                                       (may_all ? " does not exist: it will be created"
                                                : " does not exist, and creating it "
                                                  "needs CAP_NET_ADMIN")});
    return;
  }
  if (!link.is_tun) {
    findings->push_back({true, name + " is an interface, but no TAP"});
    return;
  }
  if (!may_all && link.owner_known && link.owner != static_cast<long>(geteuid())) {
    findings->push_back(
        {true, "TAP " + name +
                   (link.owner < 0 ? std::string(" has no owner")
                                   : " belongs to user " + std::to_string(link.owner)) +
                   ": it needs CAP_NET_ADMIN, or ip tuntap add ... user"});
  }
  if (link.is_held) {
    findings->push_back({false, "TAP " + name +
                                    " is held by a running program: this one joins its "
                                    "stack if that is the library with the same "
                                    "configuration, and is refused otherwise"});
  }
}

void CheckXdp(const shim::Config& config, std::vector<Finding>* findings) {
  const std::string text = config.device + strlen("xdp:");
  backend::DeviceOptions options;
  options.mtu = config.mtu;
  const std::string problem = backend::ExamineXdp(text, options);
  if (!problem.empty()) findings->push_back({true, problem});
  constexpr struct {
    unsigned number;
    const char* name;
  } kNeeded[] = {{CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {CAP_NET_RAW, "CAP_NET_RAW"}, {39, "CAP_BPF"}};
  for (const auto& needed : kNeeded) {
    // CAP_SYS_ADMIN is all that CAP_BPF is.
    if (HasCapability(needed.number) || (needed.number == 39 && HasCapability(CAP_SYS_ADMIN))) {
      continue;
    }
    findings->push_back({true, std::string("AF_XDP needs ") + needed.name +
                                   " (userstack-open hands a device to a program)"});
  }
}

}  // namespace

std::string AddressText(const IpAddress& address) {
  char text[INET6_ADDRSTRLEN] = {};
  if (address.is_v4()) {
    inet_ntop(AF_INET, address.v4_bytes(), text, sizeof text);
    return text;
  }
  inet_ntop(AF_INET6, address.v6_bytes(), text, sizeof text);
  return text;
}

Configuration::Configuration(const std::vector<std::string>& environment) {
  std::vector<const char*> variables;
  for (const std::string& variable : environment) variables.push_back(variable.c_str());
  variables.push_back(nullptr);
  shim::ConfigError error;
  bool right = shim::ParseEnvironment(variables.data(), &config, &error);
  if (right && config.config_file[0] != '\0') {
    const std::string text = ReadWhole(config.config_file);
    right = access(config.config_file, R_OK) == 0;
    if (!right) {
      why = std::string("USERSTACK_CONFIG=") + config.config_file +
            ": cannot be read: " + strerror(errno);
      return;
    }
    right = shim::ParseFile(config.config_file, text.data(), text.size(), &config, &error);
  }
  right = right && shim::FinishConfig(&config, &error);
  usable = right && shim::IsConfigured(config);
  if (!right) why = error.text;
  if (right && !usable) why = "no configuration (USERSTACK_DEV is not set)";
}

std::string Configuration::RuleFor(const IpAddress& address) const {
  for (unsigned i = 0; i < config.kernel_count; ++i) {
    if (!config.kernel[i].Contains(address)) continue;
    return AddressText(config.kernel[i].address) + "/" + std::to_string(config.kernel[i].length);
  }
  return {};
}

std::vector<Finding> CheckDevice(const shim::Config& config) {
  std::vector<Finding> findings;
  if (IsHandedOver()) {
    findings.push_back({false, "the device is handed over (LISTEN_FDNAMES)"});
  } else if (strncmp(config.device, "tap:", 4) == 0) {
    CheckTap(Interface(config.device), &findings);
  } else {
    CheckXdp(config, &findings);
  }
  if (config.address_count == 0) {
    findings.push_back({false, "USERSTACK_ADDR is not set: the stack has no address"});
  }
  if (config.resolv_conf[0] != '\0' && access(config.resolv_conf, R_OK) != 0) {
    findings.push_back({true, std::string("USERSTACK_RESOLV_CONF=") + config.resolv_conf +
                                  ": cannot be read: " + strerror(errno)});
  }
  return findings;
}

}  // namespace userstack::tool
