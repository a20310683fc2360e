// Ordinary zeroed, page-aligned memory for an arena.
#pragma once

#include <cstdlib>
#include <cstring>

namespace userstack {

class TestMemory {
 public:
  explicit TestMemory(size_t bytes) : data_(std::aligned_alloc(4096, bytes)), size_(bytes) {
    std::memset(data_, 0, bytes);
  }
  ~TestMemory() { std::free(data_); }
  TestMemory(const TestMemory&) = delete;
  TestMemory& operator=(const TestMemory&) = delete;
  void* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  void* data_;
  size_t size_;
};

}  // namespace userstack
