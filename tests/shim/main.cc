// The runtime's tests, or one of the programs that they exec.
#include <cstring>

#include "tests/shim/processes.h"

int main(int count, char** arguments) {
  if (count == 4 && strcmp(arguments[1], "--program=adopt") == 0) {
    return userstack::shim::RunAdopt(arguments + 2);
  }
  testing::InitGoogleTest(&count, arguments);
  return RUN_ALL_TESTS();
}
