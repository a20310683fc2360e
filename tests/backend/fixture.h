// What the tests of the backends share: a core in ordinary memory, frames, and a network namespace
// with a real TAP device.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "backend/device.h"
#include "netstack/packet/core.h"

namespace userstack::backend {

inline constexpr size_t kTestArenaBytes = 64 << 20;

// A core whose pools are small enough to be emptied on purpose.
class TestCore {
 public:
  explicit TestCore(uint64_t small_bytes = 8 << 20, uint64_t large_bytes = 16 << 20)
      : memory_(static_cast<uint8_t*>(std::aligned_alloc(4096, kTestArenaBytes))) {
    std::fill_n(memory_.get(), kTestArenaBytes, uint8_t{0});
    core_.arena = Arena::Format(memory_.get(), kTestArenaBytes);
    core_.buffers.Initialize(core_.arena, small_bytes, large_bytes);
    core_.packets.Initialize(core_.arena, &core_.buffers, 4096);
    core_.frames.Initialize(core_.arena, &core_.buffers, 4096);
  }
  Core& operator*() { return core_; }
  Core* operator->() { return &core_; }

  // A frame whose first `header` bytes are in its storage and the rest in a buffer.
  Frame* MakeFrame(const std::vector<uint8_t>& bytes, size_t header) {
    Frame* frame = core_.frames.Allocate();
    std::copy_n(bytes.begin(), header, frame->Append(static_cast<uint16_t>(header)));
    for (size_t done = header; done < bytes.size();) {
      Buffer* buffer = core_.buffers.Allocate(BufferClass::kLarge);
      const size_t n = std::min<size_t>(bytes.size() - done, buffer->capacity);
      std::copy_n(bytes.begin() + static_cast<long>(done), n, buffer->bytes);
      EXPECT_TRUE(frame->AddSlice(buffer, 0, static_cast<uint32_t>(n)));
      core_.buffers.Release(buffer);
      done += n;
    }
    return frame;
  }

  static std::vector<uint8_t> BytesOf(const Packet& packet) {
    std::vector<uint8_t> bytes(packet.length);
    EXPECT_EQ(PacketPool::Copy(packet, 0, bytes.data(), packet.length), packet.length);
    return bytes;
  }

 private:
  struct Free {
    void operator()(uint8_t* memory) const { std::free(memory); }
  };
  std::unique_ptr<uint8_t, Free> memory_;
  Core core_;
};

// Puts the calling process into a network (and mount) namespace of its own where TAP devices can be
// made. Each test runs in a process of its own. Otherwise the reason why not, for GTEST_SKIP.
std::string EnterNamespace();
// Runs a program and waits; true when it exits with 0.
bool RunCommand(const std::string& command);

}  // namespace userstack::backend
