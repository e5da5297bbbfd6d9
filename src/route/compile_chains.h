// From the servers that share a port to the filter chains of one listener. Control thread.
#pragma once
#include "route/compile_hosts.h"

enum server_family { FAMILY_HTTP, FAMILY_TLS, FAMILY_TCP, FAMILY_UDP };

// What the servers of a port must have in common: the first one decides.
enum server_family compile_family(const struct server *s);
// Fills the listener's chains; false: there is nothing to serve, no listener is opened.
bool compile_chains(struct compile *c, struct listener_config *l, enum server_family family,
                    const struct server_ref *servers, uint32_t server_count, uint32_t port,
                    struct slice bind);
