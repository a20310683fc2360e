#include "tests/netstack/testing/forge.h"

#include <algorithm>
#include <cstdint>

#include "netstack/base/byte_order.h"

namespace userstack::testing {
namespace {

constexpr uint8_t kTcp = 6;
constexpr uint8_t kFin = 1, kSyn = 2, kReset = 4, kAck = 16, kUrgent = 32;
constexpr size_t kLongest = 65535 + 14;

enum class Change : uint8_t {
  kNone,  // a duplicate
  kPort,
  kAddress,  // of the sender
  kNetworkOptions,
  kSegmentOptions,
  kFragment,  // the first of several, without the others
  kReset,     // far outside the window (RFC 5961)
  kSyn,
  kWithoutAck,
  kNull,  // no flag at all
  kFarAhead,
  kFarBehind,
  kChecksum,
  kText,       // another byte, and the checksum of before
  kCutShort,   // less than the network header says
  kLonger,     // more than it says: padding
  kShortText,  // less text, and all lengths say so
  kTtl,        // another hop limit: the same for whoever receives it
  kCount,
};

class Forgery {
 public:
  Forgery(std::vector<uint8_t>& bytes, const FrameLayout& layout, Random& random)
      : b_(bytes), layout_(layout), random_(random) {}

  void Apply(Change change);

 private:
  uint8_t& At(uint32_t offset) { return b_[offset]; }
  uint8_t& Flags() { return At(layout_.transport + 13); }
  uint32_t TextBegin() { return layout_.transport + (At(layout_.transport + 12) >> 4) * 4u; }
  void MoveSequence(uint32_t by) {
    uint8_t* sequence = &At(layout_.transport + 4);
    Store32(sequence, Load32(sequence) + by);
  }
  void SetNetworkLength(size_t bytes) {
    const auto length = static_cast<uint16_t>(bytes - layout_.network - (layout_.is_v6 ? 40 : 0));
    Store16(&At(layout_.network + (layout_.is_v6 ? 4 : 2)), length);
  }
  void Fix() { FixChecksums(&b_); }
  void AddNetworkOptions();
  void AddSegmentOptions();
  void Shorten();
  void Flip();

  std::vector<uint8_t>& b_;
  const FrameLayout layout_;
  Random& random_;
};

// Four times "no operation".
void Forgery::AddNetworkOptions() {
  const bool fits = b_.size() + 4 <= kLongest && (At(layout_.network) & 15) < 15;
  if (layout_.is_v6 || !fits) return;
  b_.insert(b_.begin() + layout_.network + 20, 4, 1);
  ++At(layout_.network);
  SetNetworkLength(layout_.end + 4);
  Fix();
}

void Forgery::AddSegmentOptions() {
  if (b_.size() + 4 > kLongest || At(layout_.transport + 12) >= 0xf0) return;
  b_.insert(b_.begin() + layout_.transport + 20, 4, 1);
  At(layout_.transport + 12) = static_cast<uint8_t>(At(layout_.transport + 12) + 0x10);
  SetNetworkLength(layout_.end + 4);
  Fix();
}

void Forgery::Shorten() {
  const uint32_t begin = TextBegin();
  if (begin + 1 >= layout_.end) return;
  const auto text = static_cast<uint32_t>(1 + random_.Below(layout_.end - begin - 1));
  b_.resize(begin + text);
  SetNetworkLength(b_.size());
  Flags() = static_cast<uint8_t>(Flags() & ~kFin);
  Fix();
}

void Forgery::Flip() {
  const uint32_t begin = layout_.transport;
  At(static_cast<uint32_t>(begin + random_.Below(layout_.end - begin))) ^=
      static_cast<uint8_t>(1 << random_.Below(8));
}

void Forgery::Apply(Change change) {
  switch (change) {
    case Change::kNone:
    case Change::kCount:
      return;
    case Change::kPort:
      At(layout_.transport) ^= 0x40;
      return Fix();
    case Change::kAddress:
      At(layout_.network + (layout_.is_v6 ? 8 : 12) + 3) ^= 0x40;
      return Fix();
    case Change::kNetworkOptions:
      return AddNetworkOptions();
    case Change::kSegmentOptions:
      return AddSegmentOptions();
    case Change::kFragment:
      if (!layout_.is_v6) At(layout_.network + 6) = 0x20;
      return Fix();
    case Change::kReset:
      Flags() |= kReset;
      MoveSequence(0x40000000);
      return Fix();
    case Change::kSyn:
      // A listener that has sent a cookie knows of no connection: it answers a SYN with an ACK by a
      // reset, as Linux's does. With the number that this ACK has, it would be good.
      Flags() |= kSyn;
      At(layout_.transport + 8) ^= 0x40;
      MoveSequence(0x40000000);
      return Fix();
    case Change::kWithoutAck:
      Flags() = static_cast<uint8_t>(Flags() & ~kAck);
      return Fix();
    case Change::kNull:
      Flags() = 0;
      return Fix();
    case Change::kFarAhead:
      MoveSequence(0x30000000);
      return Fix();
    case Change::kFarBehind:
      MoveSequence(0xd0000000);
      return Fix();
    case Change::kChecksum:
      At(layout_.transport + 16) ^= 0x55;
      return;
    case Change::kText:
      return Flip();
    case Change::kCutShort:
      b_.resize(layout_.end - 1 - random_.Below(layout_.end - layout_.transport - 1));
      return;
    case Change::kLonger:
      b_.insert(b_.end(), 1 + random_.Below(std::min<size_t>(100, kLongest + 1 - b_.size())), 0xee);
      if (b_.size() > kLongest) b_.resize(kLongest);
      return;
    case Change::kShortText:
      return Shorten();
    case Change::kTtl:
      At(layout_.network + (layout_.is_v6 ? 7 : 8)) ^= 0x11;
      return Fix();
  }
}

}  // namespace

WireFrame Forge(const WireFrame& frame, Random& random) {
  WireFrame copy = frame;
  FrameLayout layout;
  const bool whole = ParseLayout(copy.bytes, &layout) && layout.protocol == kTcp &&
                     layout.transport != 0 && !layout.is_fragment;
  if (!whole || layout.transport + 20 > layout.end) return copy;
  // Urgent data is out of the stream's bytes for whoever has it twice: left alone, as connection
  // attempts are, whose copies make other connections.
  if ((copy.bytes[layout.transport + 13] & (kSyn | kReset | kUrgent)) != 0) return copy;
  // What was damaged on its way must not become good.
  const bool vouched = copy.offload.checksum_needed || copy.offload.checksum_verified;
  if (!vouched && !ChecksumsAreRight(copy.bytes)) return copy;
  copy.offload = {};
  FixChecksums(&copy.bytes);
  Forgery(copy.bytes, layout, random)
      .Apply(static_cast<Change>(random.Below(static_cast<uint64_t>(Change::kCount))));
  return copy;
}

}  // namespace userstack::testing
