// Opens what USERSTACK_DEV names, and puts the capture around it when one is asked for.
#include "backend/device.h"

#include "backend/pcap.h"
#include "backend/tap.h"

namespace userstack::backend {
namespace {

constexpr char kTapPrefix[] = "tap:";

bool IsTap(const std::string& spec) { return spec.rfind(kTapPrefix, 0) == 0; }
std::string TapName(const std::string& spec) { return spec.substr(sizeof kTapPrefix - 1); }

OpenedDevice UnknownKind(const std::string& spec) {
  return {.error = "USERSTACK_DEV=" + spec + ": no such kind of device; expected tap:NAME"};
}

}  // namespace

OpenedDevice OpenDevice(const std::string& spec, const DeviceOptions& options) {
  if (!IsTap(spec)) return UnknownKind(spec);
  OpenedDevice opened = TapDevice::Open(TapName(spec), options);
  if (opened.device == nullptr || options.capture.empty()) return opened;
  return CaptureDevice::Open(std::move(opened), options);
}

OpenedDevice AdoptDevice(const std::string& spec, const DeviceOptions& options,
                         const int* descriptors, size_t count) {
  if (!IsTap(spec)) return UnknownKind(spec);
  const size_t expected = options.capture.empty() ? 1 : 2;
  if (count != expected) {
    return {.error = "USERSTACK_DEV=" + spec + ": inherited " + std::to_string(count) +
                     " descriptors, expected " + std::to_string(expected)};
  }
  OpenedDevice adopted = TapDevice::Adopt(TapName(spec), options, descriptors[0]);
  if (adopted.device == nullptr || options.capture.empty()) return adopted;
  return CaptureDevice::Adopt(std::move(adopted), descriptors[1]);
}

}  // namespace userstack::backend
