// Maps: see maps.h. A line (proc_pid_maps(5)): begin-end perms offset device inode path.
#include "shim/rewrite/maps.h"

#include <fcntl.h>

namespace userstack::shim::rewrite {

MapsReader::MapsReader()
    : file_(static_cast<int>(backend::KernelOpen("/proc/self/maps", O_RDONLY | O_CLOEXEC))) {}

int MapsReader::Character() {
  if (used_ == filled_) {
    const long got = file_.valid()
                         ? backend::SystemCall(SYS_read, file_.get(),
                                               reinterpret_cast<long>(buffer_), sizeof buffer_)
                         : 0;
    if (got <= 0) return -1;
    used_ = 0;
    filled_ = static_cast<size_t>(got);
  }
  return static_cast<unsigned char>(buffer_[used_++]);
}

bool MapsReader::Number(int base, uint64_t* value, int* end) {
  *value = 0;
  for (;;) {
    const int c = Character();
    int digit = -1;
    if (c >= '0' && c <= '9') digit = c - '0';
    if (base == 16 && c >= 'a' && c <= 'f') digit = c - 'a' + 10;
    if (digit < 0) {
      *end = c;
      return c != -1;
    }
    *value = *value * static_cast<uint64_t>(base) + static_cast<uint64_t>(digit);
  }
}

bool MapsReader::Next(Mapping* mapping) {
  uint64_t value = 0;
  int end = 0;
  *mapping = {};
  if (!Number(16, &mapping->range.begin, &end) || !Number(16, &mapping->range.end, &end)) {
    return false;
  }
  Character();
  mapping->writable = Character() == 'w';
  mapping->executable = Character() == 'x';
  Character();
  Character();
  // The offset, the device's two numbers, the inode.
  for (int i = 0; i < 3; ++i) {
    if (!Number(16, &value, &end)) return false;
  }
  if (!Number(10, &value, &end)) return false;
  mapping->of_file = value != 0;
  while (end != '\n' && end != -1) end = Character();
  return true;
}

}  // namespace userstack::shim::rewrite
