// Decoder: the boundary to libuserstack-decode.so, the module that holds capstone. Plain C types,
// so that either side may be loaded without the other.
#pragma once

#include "shim/rewrite/site.h"

namespace userstack::shim::rewrite {

// One function's bytes, with what may follow it, and the places in it where `0f 05` was found.
struct DecodeRequest {
  const uint8_t* code = nullptr;
  uint64_t size = 0;
  uint64_t address = 0;         // of the first byte
  uint64_t described = 0;       // how much of it the tables describe; what follows is believed only
                                // when it is fallen through to
  bool hidden_entries = false;  // something may enter it where no branch of it leads
  const uint32_t* hits = nullptr;  // offsets, ascending
  uint32_t hit_count = 0;
};

// Writes those hits that are instructions to `sites` (room for hit_count of them) and returns how
// many; -1: no decoder can be had. The function is decoded from its first byte; what lies behind a
// byte that is no instruction is not believed.
using DecodeFunction = int (*)(const DecodeRequest* request, Site* sites);

inline constexpr char kDecodeSymbol[] = "userstack_decode_function";
inline constexpr char kDecodeModule[] = "libuserstack-decode.so";

}  // namespace userstack::shim::rewrite

extern "C" int userstack_decode_function(const userstack::shim::rewrite::DecodeRequest* request,
                                         userstack::shim::rewrite::Site* sites);
