// The user's calls (RFC 9293 3.10.1 to 3.10.6), with Linux's errno values. Tcp forwards to them.
#pragma once

#include "netstack/base/io.h"
#include "netstack/tcp/context.h"

namespace userstack::tcp {

Status Bind(Context& context, Connection& c, const Endpoint& local);
Status Connect(Context& context, Connection& c, const Endpoint& remote, Instant now);
Status Disconnect(Context& context, Connection& c, Instant now);
Result<size_t> SendData(Context& context, Connection& c, const IoVector& data, int flags,
                        Instant now);
// See Stack::ReserveSend, Stack::CommitSend and Stack::SendCommitted.
Result<SendSpace> ReserveSend(Context& context, Connection& c, size_t wanted, Instant now);
void CommitSend(Context& context, Connection& c, size_t filled);
void SendCommitted(Context& context, Connection& c, bool more, Instant now);
// See Stack::ReserveApart and Stack::CommitApart.
uint32_t ReserveApart(Context& context, const Connection& c, size_t wanted, SendChunks* to);
size_t CommitApart(Context& context, Connection& c, SendChunks* from, bool more, Instant now);
// See Stack::HoldReply. FlushHeldReply: false when there was none.
void HoldReply(Context& context, Connection& c, Instant now);
bool FlushHeldReply(Context& context, Instant now);
Result<size_t> ReceiveData(Context& context, Connection& c, const IoVector& data, int flags,
                           int* message_flags, Instant now);
Status Shutdown(Context& context, Connection& c, int how, Instant now);
void Close(Context& context, Connection& c, Instant now);

}  // namespace userstack::tcp
