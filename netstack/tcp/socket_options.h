// Options of level IPPROTO_TCP.
#pragma once

#include "netstack/tcp/context.h"

namespace userstack::tcp {

Status SetTcpOption(Context& context, Connection& c, int name, const void* value, uint32_t length,
                    Instant now);
Status GetTcpOption(const Connection& c, int name, void* value, uint32_t* length, Instant now);

}  // namespace userstack::tcp
