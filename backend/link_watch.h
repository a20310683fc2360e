// The kernel's side of an interface whose carrier has just come.
#pragma once

#include <string>

namespace userstack::backend {

// Attaching raises the carrier, but the kernel sends on the interface only when its link watch has
// seen that, a moment later (net/core/link_watch.c): until then what it answers is lost, and a
// first ARP request that nobody answers costs a second. Returns when it has seen it, or after 50
// ms; at once when the interface is down. `socket`: any.
void AwaitLink(int socket, const std::string& interface);

}  // namespace userstack::backend
