// Device: a wire. Process-local object over descriptors that every attached process has. Moves
// packets and frames between the core's pools and the wire; holds no protocol. All calls by whoever
// holds the stack's lock, but for wait_descriptor() and what says otherwise. A Device keeps no
// packet, frame or buffer of the arena between calls, so that a process may die at any time without
// taking some along.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "netstack/device/device.h"
#include "netstack/packet/core.h"

namespace userstack::backend {

class Device {
 public:
  virtual ~Device() = default;

  virtual const DeviceCapabilities& capabilities() const = 0;

  // Takes up to `limit` packets without blocking; they are from `core.packets`, arrival = now,
  // interface = `interface`. Fewer than `limit`: nothing was left, or so many bytes were taken that
  // the rest had better wait until they are used.
  virtual size_t Receive(Core& core, Packet** packets, size_t limit, uint16_t interface,
                         Instant now) = 0;

  // Further queues, from 1 to extra_queues(), each of which is one flow's while that wants it: what
  // comes for a flow comes by the queue that its own frames left by (Frame::queue), after a while.
  // What comes for others may come there too. Wires without: 0.
  virtual unsigned extra_queues() const { return 0; }
  // False: it cannot be opened, and nothing was changed. Opened twice is once.
  virtual bool OpenQueue(unsigned) { return false; }
  // What was on it is lost. Costs the kernel a grace period of RCU.
  virtual void CloseQueue(unsigned) {}
  // As Receive, and as wait_descriptor(), of one further queue that has been opened before.
  virtual size_t ReceiveFrom(unsigned, Core&, Packet**, size_t, uint16_t, Instant) { return 0; }
  virtual int queue_descriptor(unsigned) const { return -1; }

  enum class Sent : uint8_t { kDone, kBusy, kDropped };
  // Puts one frame on the wire. kDone and kDropped (counted): the caller releases the frame. kBusy:
  // keep it, try again when wait_descriptor() is writable or after the next deadline.
  virtual Sent Transmit(Core& core, const Frame& frame) = 0;
  // In two steps, for small frames: Encode as Transmit, but into `out`; returns the bytes, or 0:
  // the frame is too large or the wire has no such form. TransmitEncoded then needs no lock of the
  // caller's and may be called by any thread.
  virtual size_t Encode(const Frame&, uint8_t* /*out*/, size_t /*limit*/) { return 0; }
  virtual Sent TransmitEncoded(unsigned /*queue*/, const uint8_t*, size_t) {
    return Sent::kDropped;
  }
  // Whether frames may also be put on the wire by TransmitApart, which needs no lock of the
  // caller's and may be called by any thread, as long as the frame and its buffers stay as they
  // are. Nothing is counted.
  virtual bool transmits_apart() const { return false; }
  virtual Sent TransmitApart(const Frame&) { return Sent::kDropped; }
  // Makes the wire notice what Transmit queued (for rings). False: not all of it could be taken;
  // call again as after kBusy.
  virtual bool Kick() { return true; }
  // What the stack wants from a wire that it shares with others: its addresses and the groups that
  // it joined. False: it could not be arranged; ask again.
  virtual bool SetAddresses(const IpAddress*, size_t) { return true; }

  // Before somebody sleeps on wait_descriptor(): it is readable from now on only when something has
  // arrived. Until then it may stay so for a few looks that find nothing.
  virtual void BeforeSleep() {}

  // Readable (POLLIN) when Receive has something to take. Level-triggered.
  virtual int wait_descriptor() const = 0;
  // Readable, or in error, when Receive should be called although wait_descriptor() says nothing:
  // what comes rarely. -1: there is none.
  virtual int side_descriptor() const { return -1; }
  // Descriptors to be kept across fork and exec, so that another process can Adopt the device.
  virtual size_t Descriptors(int* out, size_t limit) const = 0;

  // The wire is gone for good (the interface was deleted). wait_descriptor() may then report
  // POLLERR without end: stop waiting on it.
  virtual bool gone() const { return false; }
  // Something that went wrong after opening (static text, for one line in the log), or nullptr.
  virtual const char* Problem() { return nullptr; }
};

struct DeviceOptions {
  std::optional<MacAddress> mac;  // USERSTACK_MAC; otherwise derived from the name and `identity`
  std::string identity;           // what tells this stack from others on the wire: USERSTACK_ADDR
  uint32_t mtu = 0;               // USERSTACK_MTU; 0: the device's own
  std::string capture;            // USERSTACK_CAPTURE: pcap file of both directions; empty: none
  int descriptor_floor = 0;       // descriptors are placed at this number or above, where possible
};

// A device, or none and one clear line without a newline that names the variable, its value, what
// was wrong and what is accepted. `warning` and `note` (how it was opened) may be there beside a
// device: for the log.
struct OpenedDevice {
  std::unique_ptr<Device> device = nullptr;
  std::string error = {};
  std::string warning = {};
  std::string note = {};
};

// `spec` as USERSTACK_DEV has it: "tap:NAME" or "xdp:IFACE[,...]".
OpenedDevice OpenDevice(const std::string& spec, const DeviceOptions& options);
// A device that somebody else has opened, from its descriptors. Takes ownership of them on success.
OpenedDevice OpenHandedOver(const std::string& spec, const DeviceOptions& options,
                            const int* descriptors, size_t count);
// The same device from descriptors that Descriptors() gave in another process, the capture's among
// them where there is one. Takes ownership of them on success.
OpenedDevice AdoptDevice(const std::string& spec, const DeviceOptions& options,
                         const int* descriptors, size_t count);

}  // namespace userstack::backend
