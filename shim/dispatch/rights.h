// Rights: sockets of the stack in SCM_RIGHTS messages over kernel AF_UNIX sockets. The placeholder
// travels; its inode tells the receiver, a process of the same stack, which description it is. From
// sendmsg to recvmsg the description is kept by a reference of the message itself.
//
// A message that nobody takes, or that a process takes which is not of the stack (it gets the
// placeholder only), keeps the socket until its placeholder is gone from every process: the pump
// looks for that every two seconds (stray.cc).
#pragma once

#include <sys/socket.h>

namespace userstack::shim {

// Does the message carry sockets of the stack? (fd itself is the kernel's.) Cheap when not
// attached.
bool CarriesOurs(const msghdr* message);
// Around the kernel's sendmsg: takes the references; gives them back when it failed.
void BeforeSendRights(const msghdr* message);
void AfterSendRights(const msghdr* message, long result);
// After the kernel's recvmsg: numbers that stand for sockets of the stack become so here.
void AdoptReceivedRights(const msghdr* message, int flags);

}  // namespace userstack::shim
