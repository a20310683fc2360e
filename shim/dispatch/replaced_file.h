// Replaced file: USERSTACK_RESOLV_CONF stands in for /etc/resolv.conf, whoever opens or examines
// that by its full name: libc's resolver, others' (c-ares, Go's), the program itself.
#pragma once

namespace userstack::shim {

// The file that stands in for `path`, or null: none does. The first is for libc's symbols; the
// second for system calls, where a bad address must be the kernel's to refuse.
const char* ReplacedFile(const char* path);
const char* ReplacedFileOf(const char* path);

// The system call, with one line when the file is not there: what resolvers then do by themselves
// (ask 127.0.0.1) would be hard to understand.
long OpenReplaced(long number, long a, long b, long c, long d);

}  // namespace userstack::shim
