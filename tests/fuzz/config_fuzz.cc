// The configuration parsers: a TOML file, the environment, and the two together. An error must come
// with one printable line, whatever the bytes were. Input: {environment length, environment as
// lines, file}.
#include <algorithm>
#include <cstring>
#include <string>

#include "netstack/base/check.h"
#include "shim/config.h"
#include "tests/fuzz/fuzz.h"

namespace userstack::testing {
namespace {

void CheckError(const shim::ConfigError& error) {
  const size_t length = strnlen(error.text, sizeof error.text);
  Check(length > 0 && length < sizeof error.text, "config: an error without a line");
  for (size_t i = 0; i < length; ++i) {
    Check(error.text[i] != '\n', "config: an error of two lines");
  }
}

}  // namespace

void FuzzOne(const uint8_t* data, size_t size) {
  Input input(data, size);
  const Bytes environment = input.Take(input.U8());
  const Bytes file = input.Take(input.left());
  std::vector<std::string> lines(1);
  for (const uint8_t byte : environment) {
    if (byte == '\n') {
      lines.emplace_back();
    } else if (byte != 0) {
      lines.back() += static_cast<char>(byte);
    }
  }
  std::vector<const char*> pointers;
  for (const std::string& line : lines) pointers.push_back(line.c_str());
  pointers.push_back(nullptr);
  shim::Config config;
  shim::ConfigError error;
  if (!shim::ParseEnvironment(pointers.data(), &config, &error)) return CheckError(error);
  const std::string text(file.begin(), file.end());
  if (!shim::ParseFile("fuzz.toml", text.data(), text.size(), &config, &error)) {
    return CheckError(error);
  }
  if (!shim::FinishConfig(&config, &error)) return CheckError(error);
  char description[4096];
  Check(shim::DescribeStack(config, description, sizeof description) < sizeof description,
        "config: description too long");
}

std::vector<Bytes> FuzzSeeds() {
  const auto seed = [](const std::string& environment, const std::string& file) {
    Bytes out = {static_cast<uint8_t>(environment.size())};
    out.insert(out.end(), environment.begin(), environment.end());
    out.insert(out.end(), file.begin(), file.end());
    return out;
  };
  return {
      seed("USERSTACK_DEV=tap:tap0\nUSERSTACK_ADDR=10.0.0.2/24,fd00::2/64\nUSERSTACK_MTU=1500", ""),
      seed("USERSTACK_DEV=tap:t\nUSERSTACK_ADDR=10.0.0.2/24\nUSERSTACK_GATEWAY=10.0.0.1,fd00::1",
           ""),
      seed("USERSTACK_MAC=02:00:00:00:00:01\nUSERSTACK_CC=reno\nUSERSTACK_SPIN_US=50", ""),
      seed("USERSTACK_KERNEL=127.0.0.0/8,::1\nUSERSTACK_LOG=debug\nUSERSTACK_UNKNOWN=1", ""),
      seed("PATH=/bin",
           "dev = \"tap:tap0\"\naddr = [\"10.0.0.2/24\", \"fd00::2/64\"]\nmtu = 9000\n"),
      seed("", "cc = \"cubic\"\nspin_us = 20\nlog = \"info\"\nkernel = \"127.0.0.0/8\"\n"),
      seed("", "[section]\nx = {a = 1, b = [1, 2, 3]}\n\"quoted key\" = '''text'''\n"),
  };
}

}  // namespace userstack::testing
