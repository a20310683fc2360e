// XdpSpec: parsing, which needs no privilege and no interface.
#include "backend/xdp_spec.h"

#include <algorithm>

namespace userstack::backend {
namespace {

constexpr size_t kNameLimit = 16;  // IFNAMSIZ
constexpr char kAccepted[] =
    "expected xdp:IFACE, then any of ,queue=N ,queue=all ,mode=native ,mode=generic ,copy "
    ",zerocopy ,busy-poll ,force";

bool ParseQueue(const std::string& text, int* queue) {
  if (text == "all") {
    *queue = -1;
    return true;
  }
  const bool digits = !text.empty() && text.size() <= 4 &&
                      text.find_first_not_of("0123456789") == std::string::npos;
  if (digits) *queue = std::stoi(text);
  return digits;
}

bool ParseOption(const std::string& option, XdpSpec* spec) {
  if (option.rfind("queue=", 0) == 0) return ParseQueue(option.substr(6), &spec->queue);
  if (option == "mode=native") {
    spec->mode = XdpSpec::Mode::kNative;
  } else if (option == "mode=generic") {
    spec->mode = XdpSpec::Mode::kGeneric;
  } else if (option == "copy") {
    spec->copies = XdpSpec::Copies::kCopy;
  } else if (option == "zerocopy") {
    spec->copies = XdpSpec::Copies::kZeroCopy;
  } else if (option == "busy-poll") {
    spec->busy_poll = true;
  } else if (option == "force") {
    spec->force = true;
  } else {
    return false;
  }
  return true;
}

}  // namespace

std::string CheckInterfaceName(const std::string& kind, const std::string& name) {
  const std::string expected = kind == "tap" ? "tap:NAME" : "xdp:IFACE";
  if (name.empty()) return "the interface name is missing; expected " + expected;
  if (kind == "tap" && name.find(',') != std::string::npos)
    return "a TAP has no options; expected " + expected;
  if (name.size() >= kNameLimit) return "the interface name is too long; at most 15 characters";
  const bool bad = name == "." || name == ".." || std::any_of(name.begin(), name.end(), [](char c) {
                     return c == '/' || c == ':' || c == '%' || c <= ' ' || c == 0x7f;
                   });
  return bad ? "not an interface name; expected " + expected : "";
}

std::string ParseXdpSpec(const std::string& text, XdpSpec* spec) {
  size_t end = std::min(text.find(','), text.size());
  spec->interface = text.substr(0, end);
  const std::string bad_name = CheckInterfaceName("xdp", spec->interface);
  if (!bad_name.empty()) return bad_name;
  while (end < text.size()) {
    const size_t begin = end + 1;
    end = std::min(text.find(',', begin), text.size());
    const std::string option = text.substr(begin, end - begin);
    if (!ParseOption(option, spec)) return "\"" + option + "\" is not known; " + kAccepted;
  }
  if (spec->mode == XdpSpec::Mode::kGeneric && spec->copies == XdpSpec::Copies::kZeroCopy) {
    return "generic mode cannot do without copies; leave \",zerocopy\" or \",mode=generic\" out";
  }
  return "";
}

}  // namespace userstack::backend
