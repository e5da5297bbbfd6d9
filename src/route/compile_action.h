// What a route does once it matched: destinations, header edits, rewrite, redirect, retries.
#pragma once
#include "route/compile.h"
#include "route/rule.h"

// Fills route->action and all that belongs to it. `match` has the rule's path (for prefixes).
void compile_action(struct compile *c, struct route *route, const struct virtual_service *vs,
                    const struct http_route *in, const struct rule *match, uint32_t listener_port);
