// A histogram of durations: every value counts, none is sampled, at a resolution of 1/128 of
// itself.

#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace userstack::load {

class Histogram {
 public:
  Histogram() : counts_(kSubBuckets * 58) {}

  void Add(int64_t nanoseconds) {
    ++counts_[Index(nanoseconds < 0 ? 0 : static_cast<uint64_t>(nanoseconds))];
    ++total_;
    if (nanoseconds > maximum_) maximum_ = nanoseconds;
  }

  uint64_t total() const { return total_; }
  int64_t maximum() const { return maximum_; }

  // The upper edge of the bucket where the quantile (0 to 1) lies, or the maximum.
  int64_t Quantile(double quantile) const {
    const auto rank = static_cast<uint64_t>(quantile * static_cast<double>(total_));
    uint64_t seen = 0;
    for (size_t i = 0; i < counts_.size(); ++i) {
      seen += counts_[i];
      if (seen > rank) return std::min(UpperEdge(i), maximum_);
    }
    return maximum_;
  }

 private:
  static constexpr int kBits = 7;
  static constexpr size_t kSubBuckets = size_t{1} << kBits;

  static size_t Index(uint64_t value) {
    if (value < kSubBuckets) return value;
    const int shift = std::bit_width(value) - kBits - 1;
    return kSubBuckets * (static_cast<size_t>(shift) + 1) + (value >> shift) - kSubBuckets;
  }
  static int64_t UpperEdge(size_t index) {
    if (index < kSubBuckets) return static_cast<int64_t>(index);
    const size_t shift = index / kSubBuckets - 1;
    return static_cast<int64_t>(((index % kSubBuckets + kSubBuckets + 1) << shift) - 1);
  }

  std::vector<uint64_t> counts_;
  uint64_t total_ = 0;
  int64_t maximum_ = 0;
};

}  // namespace userstack::load
