// Spares: placeholders of connections that have ended, kept for those to come. A number costs
// socket, fstat and close (1.5 us); a duplicate of a descriptor whose inode is known, and that
// keeps its file alive when it is closed, an eighth of it. The kept descriptor is one of our own,
// beyond the program's numbers.
//
// Owner: this process; with the stack's lock. Invariants:
// 1. A file that is handed out again is in nobody else's hands: a description that was shared
//    (fork, SCM_RIGHTS), or whose placeholder was changed beyond O_NONBLOCK, is `unfit`, and its
//    file goes with it.
// 2. A spare has at most one user, which names it (Description::spare); a user of another process
//    or of before an exec names none of ours, because both must name each other.
// 3. What a fork that no hook saw took along is told from what was handed out since by
//    Description::placed (IsPlacedSince).
#pragma once

#include <cstdint>

#include "shim/shared.h"

namespace userstack::shim {

// A number for a new connection, made of a spare.
struct SparePlacement {
  long number = -1;  // or -errno
  int spare = -1;    // for Use; -1: there was none, ask the kernel for a socket
};
// `flags`: SOCK_CLOEXEC, SOCK_NONBLOCK. To be closed and given to PutBack, or installed and Used.
SparePlacement TakeSpare(int flags);
void PutBack(int spare, int flags);
// `description` stands behind a number that TakeSpare made: it gets the inode.
void Use(int spare, Description& description, Instant now);

// Before the last reference to `description`, a connection behind `fd`, goes: keeps its placeholder
// if it may.
void KeepPlaceholder(int fd, Description& description, Instant now);
// `description` is destroyed: what it used is free for another.
void ReleaseSpare(const Description& description);

// This process has seen `description`.
void NotePlaced(const Description& description);
// Was it given its placeholder after what this process (or who it was forked from, or the program
// before the exec) saw last?
bool IsPlacedSince(const Description& description);
uint32_t NewestPlaced();
void SetNewestPlaced(uint32_t placed);

// A forked child: they are its parent's (and closed, as all that is internal).
void ForgetSpares();

}  // namespace userstack::shim
