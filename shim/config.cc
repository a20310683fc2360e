// Config: the environment's parser, and the values'. Pure, no heap, no locale.
#include "shim/config.h"

#include <arpa/inet.h>

#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace userstack::shim {
namespace {

constexpr char kPrefix[] = "USERSTACK_";
// Between our own processes, across exec.
constexpr char kInternalAttach[] = "ATTACH";
constexpr char kInternalProgram[] = "PROGRAM";

struct Rule {
  const char* name;
  const char* accepted;
};

// Indexed by Setting.
constexpr Rule kRules[] = {
    {"DEV", "a device as tap:NAME or xdp:IFACE[,OPTION...], a name of 1 to 15 characters"},
    {"ADDR", "up to 16 addresses with prefix length, as 10.0.0.2/24,fd00::2/64"},
    {"GATEWAY", "one address per family, as 10.0.0.1,fd00::1"},
    {"MTU", "576 to 65535"},
    {"MAC", "a unicast address as 02:00:00:00:00:01"},
    {"CC", "cubic or reno"},
    {"SPIN_US", "0 to 1000000 (microseconds)"},
    {"RESOLV_CONF", "a path shorter than 512 bytes"},
    {"KERNEL", "up to 32 addresses or prefixes, as 127.0.0.0/8,::1, or none"},
    {"LOG", "error, warn, info or debug"},
    {"LOG_FILE", "a path shorter than 512 bytes"},
    {"CONFIG", "the path of a TOML file, shorter than 512 bytes"},
    {"CAPTURE", "the path of a pcap file to write, shorter than 512 bytes"},
    {"MEMORY", "16M to 1024G, as 512M or 4G"},
    {"REWRITE", "on or off"},
};
static_assert(sizeof(kRules) / sizeof(kRules[0]) == static_cast<size_t>(Setting::kCount));

const Rule& RuleOf(Setting setting) { return kRules[static_cast<size_t>(setting)]; }

[[gnu::format(printf, 2, 3)]] bool Fail(ConfigError* error, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(error->text, sizeof(error->text), format, arguments);
  va_end(arguments);
  MakePrintable(error);
  return false;
}

struct Text {
  const char* data = nullptr;
  size_t size = 0;
  bool Is(const char* word) const { return strlen(word) == size && memcmp(data, word, size) == 0; }
};

// Takes the part up to `separator` from the front of *rest, blanks around it removed. False at the
// end.
bool NextPart(Text* rest, char separator, Text* part) {
  if (rest->data == nullptr) return false;
  const auto* end = static_cast<const char*>(memchr(rest->data, separator, rest->size));
  *part = {rest->data, end == nullptr ? rest->size : static_cast<size_t>(end - rest->data)};
  *rest = end == nullptr ? Text{} : Text{end + 1, rest->size - part->size - 1};
  while (part->size > 0 && part->data[0] == ' ') ++part->data, --part->size;
  while (part->size > 0 && part->data[part->size - 1] == ' ') --part->size;
  return true;
}

bool ParseNumber(Text text, uint64_t limit, uint64_t* number) {
  if (text.size == 0 || text.size > 19) return false;
  uint64_t value = 0;
  for (size_t i = 0; i < text.size; ++i) {
    if (text.data[i] < '0' || text.data[i] > '9') return false;
    value = value * 10 + static_cast<uint64_t>(text.data[i] - '0');
  }
  if (value > limit) return false;
  *number = value;
  return true;
}

// `need_length`: "/24" must be there; otherwise it may be missing and means the whole address.
bool ParsePrefix(Text text, bool need_length, Prefix* prefix) {
  Text address;
  Text rest = text;
  if (!NextPart(&rest, '/', &address)) return false;
  if (!ParseIpAddress(address.data, address.size, &prefix->address)) return false;
  const unsigned bits = prefix->address.is_v4() ? 32 : 128;
  prefix->length = static_cast<uint8_t>(bits);
  if (rest.data == nullptr) return !need_length;
  uint64_t length = 0;
  if (!ParseNumber(rest, bits, &length)) return false;
  prefix->length = static_cast<uint8_t>(length);
  return true;
}

bool IsHostAddress(const IpAddress& address) {
  return !address.is_unspecified() && !address.is_multicast() && !address.is_loopback() &&
         !address.is_limited_broadcast();
}

bool ParseAddresses(Text text, Config* config) {
  config->address_count = 0;
  Text part;
  while (NextPart(&text, ',', &part)) {
    Prefix prefix;
    if (!ParsePrefix(part, true, &prefix) || !IsHostAddress(prefix.address)) return false;
    if (prefix.length == 0 || config->address_count == kMaxAddresses) return false;
    config->addresses[config->address_count++] = prefix;
  }
  return true;
}

bool ParseGateways(Text text, Config* config) {
  config->gateway_count = 0;
  Text part;
  while (NextPart(&text, ',', &part)) {
    IpAddress address;
    if (!ParseIpAddress(part.data, part.size, &address) || !IsHostAddress(address)) return false;
    if (config->gateway_count == 2) return false;
    if (config->gateway_count == 1 && config->gateways[0].is_v4() == address.is_v4()) return false;
    config->gateways[config->gateway_count++] = address;
  }
  return true;
}

bool ParseKernel(Text text, Config* config) {
  config->kernel_count = 0;
  if (text.Is("none")) return true;
  Text part;
  while (NextPart(&text, ',', &part)) {
    Prefix prefix;
    if (!ParsePrefix(part, false, &prefix) || config->kernel_count == kMaxKernelPrefixes) {
      return false;
    }
    config->kernel[config->kernel_count++] = prefix;
  }
  return true;
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool ParseMac(Text text, Config* config) {
  if (text.size != 17) return false;
  MacAddress mac;
  for (size_t i = 0; i < 6; ++i) {
    const int high = HexDigit(text.data[i * 3]);
    const int low = HexDigit(text.data[i * 3 + 1]);
    if (high < 0 || low < 0 || (i < 5 && text.data[i * 3 + 2] != ':')) return false;
    mac.bytes[i] = static_cast<uint8_t>(high * 16 + low);
  }
  if (mac.is_multicast() || mac == MacAddress{}) return false;
  config->mac = mac;
  config->has_mac = true;
  return true;
}

bool ParseMtu(Text text, Config* config) {
  uint64_t mtu = 0;
  if (!ParseNumber(text, 65535, &mtu) || mtu < 576) return false;
  config->mtu = static_cast<uint32_t>(mtu);
  return true;
}

bool ParseSpin(Text text, Config* config) {
  uint64_t spin = 0;
  if (!ParseNumber(text, 1'000'000, &spin)) return false;
  config->spin_microseconds = static_cast<uint32_t>(spin);
  return true;
}

bool ParseMemory(Text text, Config* config) {
  if (text.size < 2) return false;
  const char unit = text.data[text.size - 1];
  const int shift = unit == 'M' || unit == 'm' ? 20 : unit == 'G' || unit == 'g' ? 30 : 0;
  uint64_t number = 0;
  if (shift == 0 || !ParseNumber({text.data, text.size - 1}, 1 << 20, &number)) return false;
  const uint64_t bytes = number << shift;
  if (bytes < (uint64_t{16} << 20) || bytes > (uint64_t{1} << 40)) return false;
  config->memory = bytes;
  return true;
}

bool ParseCongestionControl(Text text, Config* config) {
  if (text.Is("cubic")) {
    config->congestion_control = CongestionControl::kCubic;
  } else if (text.Is("reno")) {
    config->congestion_control = CongestionControl::kReno;
  } else {
    return false;
  }
  return true;
}

bool ParseRewrite(Text text, Config* config) {
  config->rewrite = text.Is("on");
  return config->rewrite || text.Is("off");
}

bool ParseLogLevel(Text text, Config* config) {
  constexpr const char* kLevels[] = {"error", "warn", "info", "debug"};
  for (int i = 0; i < 4; ++i) {
    if (!text.Is(kLevels[i])) continue;
    config->log_level = static_cast<LogLevel>(i);
    return true;
  }
  return false;
}

template <size_t kSize>
bool CopyText(Text text, char (&out)[kSize]) {
  if (text.size == 0 || text.size >= kSize) return false;
  memcpy(out, text.data, text.size);
  out[text.size] = '\0';
  return true;
}

// The rest of a device's syntax belongs to the backends; a name that none can have is refused here.
bool ParseDevice(Text text, Config* config) {
  constexpr size_t kKindLength = 4;
  if (text.size <= kKindLength) return false;
  const bool xdp = memcmp(text.data, "xdp:", kKindLength) == 0;
  if (!xdp && memcmp(text.data, "tap:", kKindLength) != 0) return false;
  const auto* comma = static_cast<const char*>(memchr(text.data, ',', text.size));
  if (!xdp && comma != nullptr) return false;  // a TAP has no options
  const size_t end = comma != nullptr ? static_cast<size_t>(comma - text.data) : text.size;
  if (end == kKindLength || end > kKindLength + 15) return false;
  for (size_t i = kKindLength; i < text.size; ++i) {
    const char c = text.data[i];
    if (c <= ' ' || c == '/' || c == ':' || c == '%' || c == 0x7f) return false;
  }
  return CopyText(text, config->device);
}

bool ParseValue(Setting setting, Text text, Config* config) {
  switch (setting) {
    case Setting::kDevice:
      return ParseDevice(text, config);
    case Setting::kAddress:
      return ParseAddresses(text, config);
    case Setting::kGateway:
      return ParseGateways(text, config);
    case Setting::kMtu:
      return ParseMtu(text, config);
    case Setting::kMac:
      return ParseMac(text, config);
    case Setting::kCongestionControl:
      return ParseCongestionControl(text, config);
    case Setting::kSpin:
      return ParseSpin(text, config);
    case Setting::kResolvConf:
      return CopyText(text, config->resolv_conf);
    case Setting::kKernel:
      return ParseKernel(text, config);
    case Setting::kLog:
      return ParseLogLevel(text, config);
    case Setting::kLogFile:
      return CopyText(text, config->log_file);
    case Setting::kConfig:
      return CopyText(text, config->config_file);
    case Setting::kCapture:
      return CopyText(text, config->capture_file);
    case Setting::kMemory:
      return ParseMemory(text, config);
    case Setting::kRewrite:
      return ParseRewrite(text, config);
    case Setting::kCount:
      break;
  }
  return false;
}

bool FailUnknown(const char* variable, size_t name_length, const char* value, ConfigError* error) {
  char list[256] = {};
  size_t used = 0;
  for (const Rule& rule : kRules) {
    const int n =
        snprintf(list + used, sizeof(list) - used, "%s%s", used == 0 ? "" : " ", rule.name);
    used += static_cast<size_t>(n);
  }
  return Fail(error, "%.*s=%.80s: unknown variable; known are %s with one of %s",
              static_cast<int>(name_length < 80 ? name_length : 80), variable, value, kPrefix,
              list);
}

bool ParseVariable(const char* variable, Config* config, ConfigError* error) {
  const char* name = variable + sizeof(kPrefix) - 1;
  const char* equals = strchr(name, '=');
  if (equals == nullptr) return true;  // not an assignment: getenv does not see it either
  const auto length = static_cast<size_t>(equals - name);
  const Text given{name, length};
  const bool internal = given.Is(kInternalAttach) || given.Is(kInternalProgram);
  if (internal || equals[1] == '\0') return true;
  for (size_t i = 0; i < static_cast<size_t>(Setting::kCount); ++i) {
    if (!given.Is(kRules[i].name)) continue;
    char origin[32];
    snprintf(origin, sizeof(origin), "%s%s", kPrefix, kRules[i].name);
    return ParseSetting(static_cast<Setting>(i), origin, equals + 1, config, error);
  }
  return FailUnknown(variable, static_cast<size_t>(equals - variable), equals + 1, error);
}

void FormatAddress(const IpAddress& address, char* out, socklen_t size) {
  if (address.is_v4()) {
    inet_ntop(AF_INET, address.v4_bytes(), out, size);
  } else {
    inet_ntop(AF_INET6, address.v6_bytes(), out, size);
  }
}

// No address twice: the stack would refuse the second, and so everything.
bool CheckAddresses(const Config& config, ConfigError* error) {
  char text[INET6_ADDRSTRLEN];
  for (unsigned i = 0; i < config.address_count; ++i) {
    const Prefix& prefix = config.addresses[i];
    for (unsigned earlier = 0; earlier < i; ++earlier) {
      if (!(config.addresses[earlier].address == prefix.address)) continue;
      FormatAddress(prefix.address, text, sizeof(text));
      return Fail(error, "USERSTACK_ADDR=%s/%u: given twice; accepted is %s", text, prefix.length,
                  RuleOf(Setting::kAddress).accepted);
    }
    if (config.mtu == 0 || config.mtu >= 1280 || prefix.address.is_v4()) continue;
    return Fail(error,
                "USERSTACK_MTU=%u: too small for the IPv6 address in USERSTACK_ADDR; accepted is "
                "1280 to 65535",
                config.mtu);
  }
  return true;
}

bool IsLastOf(const Prefix& prefix, const IpAddress& address) {
  if (!address.is_v4() || prefix.length >= 31) return false;
  const uint32_t host_bits = ~uint32_t{0} >> prefix.length;
  return (address.v4() & host_bits) == host_bits;
}

// A next hop is a neighbour: it shares a subnet, and is neither the stack itself nor everybody.
bool CheckGateways(const Config& config, ConfigError* error) {
  for (unsigned i = 0; i < config.gateway_count; ++i) {
    const IpAddress& gateway = config.gateways[i];
    bool reached = false;
    bool host = true;
    for (unsigned k = 0; k < config.address_count; ++k) {
      const Prefix& prefix = config.addresses[k];
      const bool inside = prefix.Contains(gateway);
      // An interface with an IPv6 address has a link-local one as well.
      const bool on_link = gateway.is_v6() && prefix.address.is_v6() && gateway.is_link_local();
      reached = reached || inside || on_link;
      host = host && !(prefix.address == gateway) && !(inside && IsLastOf(prefix, gateway));
    }
    if (reached && host) continue;
    char text[INET6_ADDRSTRLEN];
    FormatAddress(gateway, text, sizeof(text));
    return Fail(error, "USERSTACK_GATEWAY=%s: %s; accepted is the address of another host there",
                text, host ? "in no subnet of USERSTACK_ADDR" : "not another host's address");
  }
  return true;
}

}  // namespace

void MakePrintable(ConfigError* error) {
  for (char* c = error->text; *c != '\0'; ++c) {
    const auto byte = static_cast<unsigned char>(*c);
    if (byte < 0x20 || byte == 0x7f) *c = '?';
  }
}

const char* SettingName(Setting setting) { return RuleOf(setting).name; }

bool ParseIpAddress(const char* text, size_t length, IpAddress* address) {
  char copy[INET6_ADDRSTRLEN];
  if (length == 0 || length >= sizeof(copy)) return false;
  memcpy(copy, text, length);
  copy[length] = '\0';
  uint8_t bytes[16];
  if (inet_pton(AF_INET, copy, bytes) == 1) {
    *address = IpAddress::V4FromBytes(bytes);
    return true;
  }
  if (inet_pton(AF_INET6, copy, bytes) != 1) return false;
  *address = IpAddress::V6FromBytes(bytes);
  return true;
}

bool ParseSetting(Setting setting, const char* origin, const char* value, Config* config,
                  ConfigError* error) {
  if (!ParseValue(setting, {value, strlen(value)}, config)) {
    return Fail(error, "%s=%.200s: not valid; accepted is %s", origin, value,
                RuleOf(setting).accepted);
  }
  config->given |= 1u << static_cast<unsigned>(setting);
  return true;
}

bool ParseEnvironment(const char* const* environment, Config* config, ConfigError* error) {
  if (environment == nullptr) return true;
  for (const char* const* variable = environment; *variable != nullptr; ++variable) {
    if (strncmp(*variable, kPrefix, sizeof(kPrefix) - 1) != 0) continue;
    if (!ParseVariable(*variable, config, error)) return false;
  }
  return true;
}

bool IsConfigured(const Config& config) {
  constexpr uint32_t kHarmless =
      1u << static_cast<unsigned>(Setting::kLog) | 1u << static_cast<unsigned>(Setting::kLogFile);
  return (config.given & ~kHarmless) != 0;
}

bool FinishConfig(Config* config, ConfigError* error) {
  if (!IsConfigured(*config)) return true;
  if (config->device[0] == '\0') {
    return Fail(error, "USERSTACK_DEV is missing although other settings are there; accepted is %s",
                RuleOf(Setting::kDevice).accepted);
  }
  if (!CheckAddresses(*config, error) || !CheckGateways(*config, error)) return false;
  if (!config->Has(Setting::kKernel)) {
    config->kernel[0] = {IpAddress::V4(0x7f000000), 8};
    ParseIpAddress("::1", 3, &config->kernel[1].address);
    config->kernel[1].length = 128;
    config->kernel_count = 2;
  }
  return true;
}

size_t DescribeStack(const Config& config, char* out, size_t size) {
  size_t used = 0;
  const auto append = [&](const char* format, auto... arguments) {
    const int n = snprintf(out + used, size - used, format, arguments...);
    if (n > 0) used += static_cast<size_t>(n);
    if (used >= size) used = size - 1;
  };
  char address[INET6_ADDRSTRLEN];
  append("USERSTACK_DEV=%s USERSTACK_ADDR=", config.device);
  for (unsigned i = 0; i < config.address_count; ++i) {
    FormatAddress(config.addresses[i].address, address, sizeof(address));
    append("%s%s/%u", i == 0 ? "" : ",", address, config.addresses[i].length);
  }
  append("%s", " USERSTACK_GATEWAY=");
  for (unsigned i = 0; i < config.gateway_count; ++i) {
    FormatAddress(config.gateways[i], address, sizeof(address));
    append("%s%s", i == 0 ? "" : ",", address);
  }
  if (config.mtu != 0) append(" USERSTACK_MTU=%u", config.mtu);
  if (config.has_mac) {
    const uint8_t* b = config.mac.bytes.data();
    append(" USERSTACK_MAC=%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5]);
  }
  append(" USERSTACK_CC=%s",
         config.congestion_control == CongestionControl::kCubic ? "cubic" : "reno");
  return used;
}

}  // namespace userstack::shim
