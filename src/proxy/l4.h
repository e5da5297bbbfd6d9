// What happens to one relayed connection: rule, target, endpoint, tries, what is counted and
// logged. Worker's thread.
#pragma once
#include "proxy/accept.h"

void proxy_l4_pools_init(struct proxy_worker *pw, uint32_t cap);
void proxy_l4_pools_fini(struct proxy_worker *pw);
// Goes on with a connection whose chain leads to no HTTP. `first`: what was read of it already,
// emptied; may be NULL. false: it is the caller's still, to be closed.
bool proxy_relay_start(struct proxy_conn *c, struct bufq *first);
