// Config: what the user asked for, from the environment (USERSTACK_*) and a TOML file. The parsers
// are pure: bytes in, Config or one clear line out. The environment's needs no heap, so that it may
// run before constructors.
#pragma once

#include <cstddef>
#include <cstdint>

#include "netstack/base/ip_address.h"
#include "netstack/stack/stack.h"
#include "shim/runtime.h"

namespace userstack::shim {

inline constexpr unsigned kMaxAddresses = 16;
inline constexpr unsigned kMaxKernelPrefixes = 32;
inline constexpr unsigned kMaxPathLength = 512;

// What can be configured, in the order in which an error lists them.
enum class Setting : uint8_t {
  kDevice,
  kAddress,
  kGateway,
  kMtu,
  kMac,
  kCongestionControl,
  kSpin,
  kResolvConf,
  kKernel,
  kLog,
  kLogFile,
  kConfig,
  kCapture,
  kMemory,
  kRewrite,
  kCount,
};

struct Config {
  char device[128] = {};  // "tap:NAME", "xdp:IFACE[,...]"; empty: not configured
  Prefix addresses[kMaxAddresses];
  unsigned address_count = 0;
  IpAddress gateways[2];  // one per family at most
  unsigned gateway_count = 0;
  uint32_t mtu = 0;  // 0: the device's
  bool has_mac = false;
  MacAddress mac;
  CongestionControl congestion_control = CongestionControl::kCubic;
  uint32_t spin_microseconds = 50;
  char resolv_conf[kMaxPathLength] = {};
  Prefix kernel[kMaxKernelPrefixes];
  unsigned kernel_count = 0;
  LogLevel log_level = LogLevel::kWarn;
  char log_file[kMaxPathLength] = {};
  char config_file[kMaxPathLength] = {};
  char capture_file[kMaxPathLength] = {};
  uint64_t memory = uint64_t{4} << 30;
  bool rewrite = false;
  uint32_t given = 0;  // bit per Setting that was given

  bool Has(Setting setting) const { return (given >> static_cast<unsigned>(setting)) & 1; }
};

// One line, without prefix and newline: the variable, its value and what would be accepted.
struct ConfigError {
  char text[768] = {};
};

// Makes the text one printable line: what was configured may hold anything.
void MakePrintable(ConfigError* error);

// Reads every USERSTACK_ variable of `environment` (as environ). False: *error is set. An empty
// value is the same as none. Finish must follow, after the file if there is one.
bool ParseEnvironment(const char* const* environment, Config* config, ConfigError* error);

// Reads the text of a TOML file called `name`: the variables' names in lower case without prefix;
// lists may be arrays. What `config` has from the environment stays. (Uses the heap.)
bool ParseFile(const char* name, const char* text, size_t length, Config* config,
               ConfigError* error);

// What only the whole can tell: a device is missing, an MTU is too small for IPv6; and defaults.
bool FinishConfig(Config* config, ConfigError* error);

// True when the environment says anything about the stack at all (a device or a file).
bool IsConfigured(const Config& config);

// One value, as the environment spells it. `origin` is how an error names the setting.
bool ParseSetting(Setting setting, const char* origin, const char* value, Config* config,
                  ConfigError* error);
const char* SettingName(Setting setting);  // "ADDR"

// What two processes of one stack must agree on, as text "USERSTACK_DEV=... USERSTACK_ADDR=...".
// Returns the length written, without the NUL.
size_t DescribeStack(const Config& config, char* out, size_t size);

// "10.0.0.2", "fd00::2". False when it is not an address.
bool ParseIpAddress(const char* text, size_t length, IpAddress* address);

}  // namespace userstack::shim
