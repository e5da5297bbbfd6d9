// What happens to one relayed connection: rule, target, endpoint, tries, what is counted and
// logged. Worker's thread.
#pragma once
#include "proxy/accept.h"

void proxy_l4_pools_init(struct proxy_worker *pw, uint32_t cap);
void proxy_l4_pools_fini(struct proxy_worker *pw);
// Goes on with a connection whose chain leads to no HTTP. `first`: what was read of it already,
// emptied; may be NULL. `server_name`: of the ClientHello, where TLS does not end here. false: it
// is the caller's still, to be closed.
bool proxy_relay_start(struct proxy_conn *c, struct bufq *first, struct slice server_name);
// Counts and logs a connection that nothing is done for. flags: enum response_flag; details may be
// NULL.
void proxy_flow_refused(struct proxy_conn *c, struct slice server_name, uint32_t flags,
                        const char *details, struct slice cluster_name);
