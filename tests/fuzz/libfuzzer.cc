// Glue to libFuzzer. Seeds come in by way of a directory that the runner writes (--write-seeds).
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  userstack::testing::FuzzOne(data, size);
  return 0;
}
