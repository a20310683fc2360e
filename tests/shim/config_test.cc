// The configuration's parsers, table by table: what is accepted, and that every refusal is one line
// that names the variable, its value and what would be accepted.
#include "shim/config.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

namespace userstack::shim {
namespace {

struct Outcome {
  bool ok = false;
  Config config;
  std::string error;
};

Outcome Parse(const std::vector<std::string>& variables, const std::string& file = "") {
  std::vector<const char*> environment;
  for (const std::string& variable : variables) environment.push_back(variable.c_str());
  environment.push_back(nullptr);
  Outcome outcome;
  ConfigError error;
  outcome.ok = ParseEnvironment(environment.data(), &outcome.config, &error);
  if (outcome.ok && !file.empty()) {
    outcome.ok = ParseFile("/etc/us.toml", file.data(), file.size(), &outcome.config, &error);
  }
  if (outcome.ok) outcome.ok = FinishConfig(&outcome.config, &error);
  outcome.error = error.text;
  return outcome;
}

std::string Describe(const Config& config) {
  char text[1024];
  return std::string(text, DescribeStack(config, text, sizeof(text)));
}

TEST(Config, ProgramsWithoutVariablesAreNotConfigured) {
  EXPECT_FALSE(IsConfigured(Parse({}).config));
  EXPECT_FALSE(IsConfigured(Parse({"PATH=/bin", "USERSTACKX=1", "XUSERSTACK_DEV=2"}).config));
  EXPECT_FALSE(IsConfigured(Parse({"USERSTACK_LOG=debug", "USERSTACK_LOG_FILE=/tmp/x"}).config));
  EXPECT_FALSE(IsConfigured(Parse({"USERSTACK_DEV="}).config));
}

TEST(Config, AcceptsEveryVariable) {
  const Outcome o =
      Parse({"USERSTACK_DEV=tap:us0", "USERSTACK_ADDR=10.0.0.2/24, fd00::2/64",
             "USERSTACK_GATEWAY=10.0.0.1,fd00::1", "USERSTACK_MTU=9000",
             "USERSTACK_MAC=02:aA:00:00:00:01", "USERSTACK_CC=reno", "USERSTACK_SPIN_US=0",
             "USERSTACK_RESOLV_CONF=/tmp/resolv.conf", "USERSTACK_KERNEL=127.0.0.0/8,192.168.1.1",
             "USERSTACK_LOG=info", "USERSTACK_LOG_FILE=/tmp/log", "USERSTACK_CAPTURE=/tmp/c.pcap",
             "USERSTACK_MEMORY=64M", "USERSTACK_REWRITE=on"});
  ASSERT_TRUE(o.ok) << o.error;
  EXPECT_TRUE(o.config.rewrite);
  EXPECT_EQ(Describe(o.config),
            "USERSTACK_DEV=tap:us0 USERSTACK_ADDR=10.0.0.2/24,fd00::2/64 "
            "USERSTACK_GATEWAY=10.0.0.1,fd00::1 USERSTACK_MTU=9000 "
            "USERSTACK_MAC=02:aa:00:00:00:01 USERSTACK_CC=reno");
  EXPECT_EQ(o.config.spin_microseconds, 0u);
  EXPECT_STREQ(o.config.resolv_conf, "/tmp/resolv.conf");
  ASSERT_EQ(o.config.kernel_count, 2u);
  EXPECT_EQ(o.config.kernel[1].length, 32);
  EXPECT_EQ(o.config.log_level, LogLevel::kInfo);
  EXPECT_STREQ(o.config.capture_file, "/tmp/c.pcap");
  EXPECT_EQ(o.config.memory, uint64_t{64} << 20);
}

TEST(Config, HasTheDefaultsOfTheContract) {
  const Outcome o = Parse({"USERSTACK_DEV=tap:us0"});
  ASSERT_TRUE(o.ok) << o.error;
  EXPECT_EQ(o.config.congestion_control, CongestionControl::kCubic);
  EXPECT_EQ(o.config.log_level, LogLevel::kWarn);
  EXPECT_EQ(o.config.memory, uint64_t{4} << 30);
  EXPECT_FALSE(o.config.rewrite);
  ASSERT_EQ(o.config.kernel_count, 2u);
  EXPECT_TRUE(o.config.kernel[0].Contains(IpAddress::V4(0x7f000001)));
  IpAddress loopback;
  ASSERT_TRUE(ParseIpAddress("::1", 3, &loopback));
  EXPECT_TRUE(o.config.kernel[1].Contains(loopback));
}

TEST(Config, LeavesNothingToTheKernelWhenToldSo) {
  EXPECT_EQ(Parse({"USERSTACK_DEV=tap:us0", "USERSTACK_KERNEL=none"}).config.kernel_count, 0u);
}

TEST(Config, IgnoresTheVariableThatItSetsItself) {
  EXPECT_TRUE(Parse({"USERSTACK_DEV=tap:us0", "USERSTACK_ATTACH=1000:1001:1002"}).ok);
}

struct Refusal {
  const char* variable;
  const char* value;
  const char* accepted;  // part of what the line offers
};

constexpr Refusal kRefusals[] = {
    {"USERSTACK_DEV", "eth0", "tap:NAME"},
    {"USERSTACK_DEV", "tap:", "tap:NAME"},
    {"USERSTACK_DEV", "tap:a-name-too-long-for-it", "tap:NAME"},
    {"USERSTACK_DEV", "tap:a b", "tap:NAME"},
    {"USERSTACK_DEV", "tap:a/b", "tap:NAME"},
    {"USERSTACK_DEV", "tap:a%d", "tap:NAME"},
    {"USERSTACK_DEV", "xdp:", "xdp:IFACE"},
    {"USERSTACK_DEV", "xdp:,queue=0", "xdp:IFACE"},
    {"USERSTACK_DEV", "xdp:a-name-too-long-for-it,force", "xdp:IFACE"},
    {"USERSTACK_DEV", "tap:a,force-it-if-you-can", "tap:NAME"},
    {"USERSTACK_DEV", "tap:a,queue=0", "tap:NAME"},
    {"USERSTACK_ADDR", "10.0.0.2", "10.0.0.2/24"},
    {"USERSTACK_ADDR", "10.0.0.2/33", "10.0.0.2/24"},
    {"USERSTACK_ADDR", "10.0.0.2/0", "10.0.0.2/24"},
    {"USERSTACK_ADDR", "10.0.0/24", "10.0.0.2/24"},
    {"USERSTACK_ADDR", "10.0.0.2/24,", "10.0.0.2/24"},
    {"USERSTACK_ADDR", "fd00::2/129", "fd00::2/64"},
    {"USERSTACK_ADDR", "224.0.0.1/24", "10.0.0.2/24"},
    {"USERSTACK_ADDR", "127.0.0.1/8", "10.0.0.2/24"},
    {"USERSTACK_ADDR", "10.0.0.2/-1", "10.0.0.2/24"},
    {"USERSTACK_GATEWAY", "10.0.0.1/24", "one address per family"},
    {"USERSTACK_GATEWAY", "10.0.0.1,10.0.0.3", "one address per family"},
    {"USERSTACK_GATEWAY", "host", "one address per family"},
    {"USERSTACK_MTU", "575", "576 to 65535"},
    {"USERSTACK_MTU", "65536", "576 to 65535"},
    {"USERSTACK_MTU", "1500x", "576 to 65535"},
    {"USERSTACK_MTU", "99999999999999999999", "576 to 65535"},
    {"USERSTACK_MAC", "01:00:00:00:00:01", "unicast"},
    {"USERSTACK_MAC", "00:00:00:00:00:00", "unicast"},
    {"USERSTACK_MAC", "02:00:00:00:00", "unicast"},
    {"USERSTACK_MAC", "02-00-00-00-00-01", "unicast"},
    {"USERSTACK_CC", "vegas", "cubic or reno"},
    {"USERSTACK_SPIN_US", "-1", "0 to 1000000"},
    {"USERSTACK_KERNEL", "10.0.0.0/8;::1", "127.0.0.0/8,::1"},
    {"USERSTACK_LOG", "loud", "error, warn, info or debug"},
    {"USERSTACK_REWRITE", "yes", "on or off"},
    {"USERSTACK_MEMORY", "1M", "16M to 1024G"},
    {"USERSTACK_MEMORY", "4", "16M to 1024G"},
    {"USERSTACK_MEMORY", "2000G", "16M to 1024G"},
    {"USERSTACK_MEMORY", "4096M4", "16M to 1024G"},
};

TEST(Config, RefusalsNameTheVariableItsValueAndWhatIsAccepted) {
  for (const Refusal& refusal : kRefusals) {
    const std::string assignment = std::string(refusal.variable) + "=" + refusal.value;
    const Outcome o = Parse({"USERSTACK_DEV=tap:us0", assignment});
    EXPECT_FALSE(o.ok) << assignment;
    EXPECT_NE(o.error.find(assignment), std::string::npos) << assignment << ": " << o.error;
    EXPECT_NE(o.error.find(refusal.accepted), std::string::npos) << assignment << ": " << o.error;
    EXPECT_EQ(o.error.find('\n'), std::string::npos) << o.error;
  }
}

TEST(Config, RefusesAnUnknownVariableAndListsTheKnown) {
  const Outcome o = Parse({"USERSTACK_DEV=tap:us0", "USERSTACK_ADRESS=10.0.0.2/24"});
  EXPECT_FALSE(o.ok);
  EXPECT_NE(o.error.find("USERSTACK_ADRESS=10.0.0.2/24: unknown variable"), std::string::npos)
      << o.error;
  for (unsigned i = 0; i < static_cast<unsigned>(Setting::kCount); ++i) {
    EXPECT_NE(o.error.find(SettingName(static_cast<Setting>(i))), std::string::npos);
  }
}

TEST(Config, RefusesSettingsWithoutADevice) {
  const Outcome o = Parse({"USERSTACK_ADDR=10.0.0.2/24"});
  EXPECT_FALSE(o.ok);
  EXPECT_NE(o.error.find("USERSTACK_DEV is missing"), std::string::npos) << o.error;
}

TEST(Config, RefusesAnMtuTooSmallForIpv6) {
  EXPECT_TRUE(
      Parse({"USERSTACK_DEV=tap:us0", "USERSTACK_MTU=1279", "USERSTACK_ADDR=10.0.0.2/24"}).ok);
  const Outcome o =
      Parse({"USERSTACK_DEV=tap:us0", "USERSTACK_MTU=1279", "USERSTACK_ADDR=fd00::2/64"});
  EXPECT_FALSE(o.ok);
  EXPECT_NE(o.error.find("USERSTACK_MTU=1279"), std::string::npos) << o.error;
}

TEST(Config, RefusesAnAddressThatIsGivenTwice) {
  const Outcome o =
      Parse({"USERSTACK_DEV=tap:us0", "USERSTACK_ADDR=fd00::2/64,10.0.0.2/24,10.0.0.2/16"});
  EXPECT_FALSE(o.ok);
  EXPECT_EQ(o.error.find("USERSTACK_ADDR=10.0.0.2/16: given twice; accepted is up to 16"), 0u)
      << o.error;
}

TEST(Config, AGatewayIsAnotherHostInASubnetOfTheStack) {
  const std::string addresses = "USERSTACK_ADDR=10.0.0.2/24,10.1.0.2/31,fd00::2/64";
  for (const char* good : {"10.0.0.1", "10.0.0.254,fd00::1", "fe80::1", "10.1.0.3"}) {
    const Outcome o =
        Parse({"USERSTACK_DEV=tap:us0", addresses, std::string("USERSTACK_GATEWAY=") + good});
    EXPECT_TRUE(o.ok) << o.error;
  }
  const struct {
    const char* value;
    const char* says;
  } kTable[] = {{"10.2.0.1", "=10.2.0.1: in no subnet of USERSTACK_ADDR; accepted is"},
                {"10.0.0.1,fd01::1", "=fd01::1: in no subnet of USERSTACK_ADDR; accepted is"},
                {"10.0.0.2", "=10.0.0.2: not another host's address; accepted is"},
                {"10.0.0.255", "=10.0.0.255: not another host's address; accepted is"},
                {"fd00::2", "=fd00::2: not another host's address; accepted is"}};
  for (const auto& row : kTable) {
    const Outcome o =
        Parse({"USERSTACK_DEV=tap:us0", addresses, std::string("USERSTACK_GATEWAY=") + row.value});
    EXPECT_FALSE(o.ok) << row.value;
    EXPECT_EQ(o.error.find(std::string("USERSTACK_GATEWAY") + row.says), 0u) << o.error;
  }
  EXPECT_FALSE(
      Parse({"USERSTACK_DEV=tap:us0", "USERSTACK_ADDR=10.0.0.2/24", "USERSTACK_GATEWAY=fe80::1"})
          .ok);
}

TEST(Config, LimitsTheNumberOfAddresses) {
  std::string list = "USERSTACK_ADDR=10.0.0.1/24";
  for (unsigned i = 2; i <= kMaxAddresses; ++i) list += ",10.0.0." + std::to_string(i) + "/24";
  EXPECT_TRUE(Parse({"USERSTACK_DEV=tap:us0", list}).ok);
  EXPECT_FALSE(Parse({"USERSTACK_DEV=tap:us0", list + ",10.0.0.99/24"}).ok);
}

TEST(ConfigFile, SaysAllThatTheEnvironmentCan) {
  const Outcome o = Parse({"USERSTACK_CONFIG=/etc/us.toml"},
                          "dev = \"tap:us0\"\n"
                          "addr = [\"10.0.0.2/24\", \"fd00::2/64\"]\n"
                          "gateway = \"10.0.0.1\"\n"
                          "mtu = 1400\n"
                          "cc = \"reno\"\n"
                          "spin_us = 5\n"
                          "log = \"debug\"\n"
                          "memory = \"1G\"\n");
  ASSERT_TRUE(o.ok) << o.error;
  EXPECT_EQ(Describe(o.config),
            "USERSTACK_DEV=tap:us0 USERSTACK_ADDR=10.0.0.2/24,fd00::2/64 "
            "USERSTACK_GATEWAY=10.0.0.1 USERSTACK_MTU=1400 USERSTACK_CC=reno");
  EXPECT_EQ(o.config.spin_microseconds, 5u);
  EXPECT_EQ(o.config.memory, uint64_t{1} << 30);
}

TEST(ConfigFile, YieldsToTheEnvironment) {
  const Outcome o = Parse({"USERSTACK_CONFIG=/etc/us.toml", "USERSTACK_MTU=1400"},
                          "dev = \"tap:us0\"\nmtu = 9000\n");
  ASSERT_TRUE(o.ok) << o.error;
  EXPECT_EQ(o.config.mtu, 1400u);
}

TEST(ConfigFile, RefusalsNameFileLineAndKey) {
  struct Case {
    const char* text;
    const char* expected;
  };
  constexpr Case kCases[] = {
      {"dev = \"tap:us0\"\nadress = \"x\"\n", "line 2: unknown key adress"},
      {"dev = \"tap:us0\"\nmtu = 1\n", "line 2: mtu=1: not valid; accepted is 576 to 65535"},
      {"dev = \"tap:us0\"\nmtu = 1.5\n", "line 2: mtu must be a string, an integer or an array"},
      {"dev = \"tap:us0\"\naddr = [1]\n", "line 2: addr must be a string, an integer or an array"},
      {"dev = \"tap:us0\nmtu = 1\n", "line 1: "},
      {"config = \"other\"\n", "line 1: unknown key config"},
      {"[table]\nmtu = 1500\n", "unknown key table"},
  };
  for (const Case& c : kCases) {
    const Outcome o = Parse({"USERSTACK_CONFIG=/etc/us.toml"}, c.text);
    EXPECT_FALSE(o.ok) << c.text;
    EXPECT_NE(o.error.find("USERSTACK_CONFIG=/etc/us.toml"), std::string::npos) << o.error;
    EXPECT_NE(o.error.find(c.expected), std::string::npos) << c.text << ": " << o.error;
    EXPECT_EQ(o.error.find('\n'), std::string::npos) << o.error;
  }
}

}  // namespace
}  // namespace userstack::shim
