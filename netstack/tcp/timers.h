// The timers of a connection: retransmission with exponential back-off (RFC 6298 5), window probes
// (RFC 9293 3.8.6.1), keepalive (3.8.4), and what their expiry does.
#pragma once

#include "netstack/tcp/context.h"

namespace userstack::tcp {

void ArmRetransmit(Context& context, Connection& c, Instant now);
void ArmWindowProbe(Context& context, Connection& c, Instant now);
void DisarmRetransmit(Context& context, Connection& c);
// (Re)starts keepalive when the option is set, stops it when not.
void ArmKeepAlive(Context& context, Connection& c, Instant now);
void DisarmAll(Context& context, Connection& c);

void OnRetransmitTimer(Context& context, Connection& c, Instant now);
void OnKeepAliveTimer(Context& context, Connection& c, Instant now);

// Linux: tcp_model_timeout. How long `retries` timeouts with doubling from the minimum RTO take.
Duration TimeoutOfRetries(uint32_t retries);

uint32_t KeepAliveIdleSeconds(const Connection& c);
uint32_t KeepAliveIntervalSeconds(const Connection& c);
uint32_t KeepAliveCount(const Connection& c);
uint32_t SynRetries(const Connection& c);

}  // namespace userstack::tcp
