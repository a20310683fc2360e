// Opens what USERSTACK_DEV names, and puts the capture around it when one is asked for.
#include "backend/device.h"

#include "backend/pcap.h"
#include "backend/tap.h"
#include "backend/xdp.h"

namespace userstack::backend {
namespace {

constexpr char kTapPrefix[] = "tap:";
constexpr char kXdpPrefix[] = "xdp:";

enum class Kind { kTap, kXdp, kUnknown };

Kind KindOf(const std::string& spec) {
  if (spec.rfind(kTapPrefix, 0) == 0) return Kind::kTap;
  return spec.rfind(kXdpPrefix, 0) == 0 ? Kind::kXdp : Kind::kUnknown;
}

// What stands behind the kind.
std::string Rest(const std::string& spec) { return spec.substr(sizeof kTapPrefix - 1); }

OpenedDevice UnknownKind(const std::string& spec) {
  return {.error =
              "USERSTACK_DEV=" + spec + ": no such kind of device; expected tap:NAME or xdp:IFACE"};
}

OpenedDevice OpenWire(const std::string& spec, const DeviceOptions& options) {
  switch (KindOf(spec)) {
    case Kind::kTap:
      return TapDevice::Open(Rest(spec), options);
    case Kind::kXdp:
      return XdpDevice::Open(Rest(spec), options);
    case Kind::kUnknown:
      break;
  }
  return UnknownKind(spec);
}

}  // namespace

OpenedDevice OpenDevice(const std::string& spec, const DeviceOptions& options) {
  OpenedDevice opened = OpenWire(spec, options);
  if (opened.device == nullptr || options.capture.empty()) return opened;
  return CaptureDevice::Open(std::move(opened), options);
}

OpenedDevice OpenHandedOver(const std::string& spec, const DeviceOptions& options,
                            const int* descriptors, size_t count) {
  OpenedDevice opened = AdoptDevice(spec, options, descriptors, count);
  if (opened.device == nullptr) return opened;
  opened.note = "USERSTACK_DEV=" + spec + ": was handed over";
  return options.capture.empty() ? std::move(opened)
                                 : CaptureDevice::Open(std::move(opened), options);
}

OpenedDevice AdoptDevice(const std::string& spec, const DeviceOptions& options,
                         const int* descriptors, size_t count) {
  const Kind kind = KindOf(spec);
  if (kind == Kind::kUnknown) return UnknownKind(spec);
  size_t own = 0;
  if (kind == Kind::kTap && count > 0) own = TapDevice::DescriptorCount(descriptors, count);
  if (kind == Kind::kXdp && count > 0) own = XdpDevice::DescriptorCount(descriptors[0]);
  // The one behind the device's own is the capture's.
  if (own == 0 || (count != own && count != own + 1)) {
    return {.error = "USERSTACK_DEV=" + spec + ": inherited " + std::to_string(count) +
                     " descriptors, which are not this device's"};
  }
  OpenedDevice adopted = kind == Kind::kTap
                             ? TapDevice::Adopt(Rest(spec), options, descriptors, own)
                             : XdpDevice::Adopt(Rest(spec), options, descriptors, own);
  if (adopted.device == nullptr || count == own) return adopted;
  return CaptureDevice::Adopt(std::move(adopted), descriptors[own]);
}

}  // namespace userstack::backend
