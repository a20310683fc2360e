// Unwind table: see unwind_table.h.
#include "shim/rewrite/unwind_table.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace userstack::shim::rewrite {
namespace {

// Pointer encodings (LSB 5.0 core, 10.5.1).
constexpr uint8_t kAbsolute = 0x00;
constexpr uint8_t kUnsigned4 = 0x03;
constexpr uint8_t kSigned4 = 0x0b;
constexpr uint8_t kSigned8 = 0x0c;
constexpr uint8_t kFormat = 0x0f;
constexpr uint8_t kRelative = 0x70;
constexpr uint8_t kPcRelative = 0x10;
constexpr uint8_t kIndirect = 0x80;
constexpr uint8_t kTableEncoding = 0x3b;  // relative to the header, signed 4 bytes
constexpr uint64_t kLargestEntry = 1 << 20;
constexpr uint64_t kLargestFunction = 1 << 26;

// Takes values from the front of some bytes of the image. Once it has failed it stays so.
class Reader {
 public:
  Reader(const uint8_t* bytes, uint64_t size, uint64_t address)
      : at_(bytes), left_(size), address_(address), ok_(bytes != nullptr) {}

  bool ok() const { return ok_; }
  uint64_t address() const { return address_; }
  uint64_t left() const { return left_; }
  void Skip(uint64_t size) { Take(size); }

  template <typename T>
  T Value() {
    T value{};
    const uint8_t* bytes = Take(sizeof(T));
    if (bytes != nullptr) memcpy(&value, bytes, sizeof(T));
    return value;
  }

  uint64_t Uleb() {
    uint64_t value = 0;
    for (unsigned shift = 0; ok_ && shift < 64; shift += 7) {
      const auto byte = Value<uint8_t>();
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) return value;
    }
    ok_ = false;
    return 0;
  }

  // A pointer in `encoding`; what this reader cannot follow is a failure. Zero means "none" and is
  // not made relative.
  uint64_t Pointer(uint8_t encoding) {
    const uint64_t here = address_;
    uint64_t value = 0;
    switch (encoding & kFormat) {
      case kAbsolute:
        value = Value<uint64_t>();
        break;
      case kUnsigned4:
        value = Value<uint32_t>();
        break;
      case kSigned4:
        value = static_cast<uint64_t>(static_cast<int64_t>(Value<int32_t>()));
        break;
      case kSigned8:
        value = Value<uint64_t>();
        break;
      default:
        ok_ = false;
    }
    if (value != 0 && (encoding & kRelative) == kPcRelative) value += here;
    if ((encoding & kRelative) != 0 && (encoding & kRelative) != kPcRelative) ok_ = false;
    return value;
  }

 private:
  const uint8_t* Take(uint64_t size) {
    if (!ok_ || left_ < size) {
      ok_ = false;
      return nullptr;
    }
    const uint8_t* bytes = at_;
    at_ += size;
    left_ -= size;
    address_ += size;
    return bytes;
  }

  const uint8_t* at_;
  uint64_t left_;
  uint64_t address_;
  bool ok_;
};

// The entry at `address` behind its length. Null bytes when it is not whole, or is in the 64-bit
// format, which nobody writes on x86-64.
Reader OpenEntry(const Image& image, uint64_t address, uint64_t* begin) {
  uint32_t length = 0;
  const uint8_t* head = image.At(address, sizeof length);
  if (head != nullptr) memcpy(&length, head, sizeof length);
  if (length == 0 || length > kLargestEntry) return {nullptr, 0, 0};
  *begin = address + sizeof length;
  return {image.At(*begin, length), length, *begin};
}

}  // namespace

// What an entry shares with others (the CIE).
struct UnwindTable::Common {
  uint8_t code_encoding = kAbsolute;
  uint8_t data_encoding = kAbsolute;
  bool has_size = false;
  bool has_data = false;
  bool is_signal_frame = false;
};

bool UnwindTable::Open(const Image& image, UnwindTable* table) {
  table->image_ = &image;
  return image.unwind_header() != 0 ? table->OpenHeader(image) : table->OpenSection(image);
}

bool UnwindTable::OpenHeader(const Image& image) {
  const uint64_t header = image.unwind_header();
  constexpr uint64_t kFixed = 12;  // version, three encodings, .eh_frame's place, the count
  const uint8_t* bytes = image.At(header, kFixed);
  if (bytes == nullptr || bytes[0] != 1) return false;
  if ((bytes[1] & kFormat) != kSigned4 || bytes[2] != kUnsigned4 || bytes[3] != kTableEncoding) {
    return false;
  }
  memcpy(&count_, bytes + 8, sizeof count_);
  entries_ = image.At(header + kFixed, uint64_t{count_} * sizeof(Pair));
  header_ = header;
  return entries_ != nullptr && count_ != 0;
}

// One entry after the other, sorted as a linker would have.
bool UnwindTable::OpenSection(const Image& image) {
  const Section& section = image.unwind_section();
  if (section.size == 0 || image.At(section.address, section.size) == nullptr) return false;
  header_ = section.address;
  uint64_t at = section.address;
  const uint64_t end = section.address + section.size;
  for (uint64_t begin = 0; at < end; at = begin) {
    const Reader reader = OpenEntry(image, at, &begin);
    if (!reader.ok()) break;  // the last has no length
    Function function;
    const auto start = [&] { return static_cast<int64_t>(function.start - header_); };
    if (ReadEntry(at, &function) && start() == static_cast<int32_t>(start())) {
      sorted_.push_back({static_cast<int32_t>(start()), static_cast<int32_t>(at - header_)});
    }
    begin += reader.left();
  }
  std::sort(sorted_.begin(), sorted_.end(),
            [](const Pair& a, const Pair& b) { return a.start < b.start; });
  count_ = static_cast<uint32_t>(sorted_.size());
  return count_ != 0;
}

int32_t UnwindTable::Field(uint32_t index, size_t field) const {
  const auto* entries =
      entries_ != nullptr ? entries_ : reinterpret_cast<const uint8_t*>(sorted_.data());
  int32_t value = 0;
  memcpy(&value, entries + index * sizeof(Pair) + field, sizeof value);
  return value;
}

bool UnwindTable::FunctionBefore(uint64_t address, Function* function) const {
  const auto at = [&](uint32_t index, size_t field) {
    return header_ + static_cast<uint64_t>(static_cast<int64_t>(Field(index, field)));
  };
  uint32_t low = 0;
  uint32_t high = count_;
  while (high - low > 1) {
    const uint32_t middle = low + (high - low) / 2;
    (at(middle, offsetof(Pair, start)) <= address ? low : high) = middle;
  }
  return ReadEntry(at(low, offsetof(Pair, entry)), function) && address >= function->start;
}

bool UnwindTable::FunctionAt(uint64_t address, Function* function) const {
  return FunctionBefore(address, function) && address - function->start < function->size;
}

bool UnwindTable::ReadCommon(uint64_t address, Common* common) const {
  uint64_t begin = 0;
  Reader reader = OpenEntry(*image_, address, &begin);
  if (reader.Value<uint32_t>() != 0) return false;
  const auto version = reader.Value<uint8_t>();
  if (version != 1 && version != 3) return false;
  char augmentation[8] = {};
  for (size_t i = 0;; ++i) {
    if (i == sizeof augmentation) return false;
    augmentation[i] = static_cast<char>(reader.Value<uint8_t>());
    if (augmentation[i] == '\0') break;
  }
  reader.Uleb();  // code alignment
  reader.Uleb();  // data alignment: only its length matters here
  if (version == 1) {
    reader.Value<uint8_t>();  // the return address's register
  } else {
    reader.Uleb();
  }
  if (augmentation[0] == '\0') return reader.ok();
  if (augmentation[0] != 'z') return false;
  common->has_size = true;
  reader.Uleb();
  for (const char* letter = augmentation + 1; *letter != '\0'; ++letter) {
    if (*letter == 'R') {
      common->code_encoding = reader.Value<uint8_t>();
    } else if (*letter == 'L') {
      common->data_encoding = reader.Value<uint8_t>();
      common->has_data = true;
    } else if (*letter == 'P') {
      const auto encoding = reader.Value<uint8_t>();
      reader.Pointer(encoding & static_cast<uint8_t>(~kIndirect));
    } else if (*letter == 'S') {
      common->is_signal_frame = true;
    } else {
      return false;
    }
  }
  return reader.ok();
}

bool UnwindTable::ReadEntry(uint64_t address, Function* function) const {
  uint64_t begin = 0;
  Reader reader = OpenEntry(*image_, address, &begin);
  const auto back = reader.Value<uint32_t>();
  Common common;
  if (!reader.ok() || back == 0 || !ReadCommon(begin - back, &common)) return false;
  // What a signal handler returns to: glibc's entry begins a byte early, and nobody may touch it.
  if (common.is_signal_frame || (common.code_encoding & kIndirect) != 0) return false;
  function->start = reader.Pointer(common.code_encoding);
  function->size = reader.Pointer(common.code_encoding & kFormat);
  function->has_landing_pads = false;
  if (common.has_size) reader.Uleb();
  if (common.has_data) {
    function->has_landing_pads =
        reader.Pointer(common.data_encoding & static_cast<uint8_t>(~kIndirect)) != 0;
  }
  if (!reader.ok() || function->size == 0 || function->size > kLargestFunction) return false;
  return image_->CodeAt(function->start, function->size) != nullptr;
}

}  // namespace userstack::shim::rewrite
