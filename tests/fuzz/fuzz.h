// What a fuzz target is: one function over bytes, and seeds made by small code. The same targets
// link with libFuzzer (preset fuzz, clang) and with a plain runner (any compiler) that tries a
// bounded number of pseudo-random mutations of the seeds, so that ctest runs them everywhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace userstack::testing {

using Bytes = std::vector<uint8_t>;

// Each target defines these two.
void FuzzOne(const uint8_t* data, size_t size);
std::vector<Bytes> FuzzSeeds();

// Takes values from the front of an input; zeros when it is used up.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : at_(data), left_(size) {}
  bool empty() const { return left_ == 0; }
  size_t left() const { return left_; }
  uint8_t U8() { return static_cast<uint8_t>(Number(1)); }
  uint16_t U16() { return static_cast<uint16_t>(Number(2)); }
  uint32_t U32() { return static_cast<uint32_t>(Number(4)); }
  Bytes Take(size_t n) {
    if (n > left_) n = left_;
    Bytes out(at_, at_ + n);
    at_ += n;
    left_ -= n;
    return out;
  }

 private:
  uint64_t Number(size_t n) {
    uint64_t v = 0;
    for (size_t i = 0; i < n && left_ > 0; ++i, ++at_, --left_) v = v << 8 | *at_;
    return v;
  }
  const uint8_t* at_;
  size_t left_;
};

}  // namespace userstack::testing
