// Random Gateways, VirtualServices and requests, drawn from random.h's generator.
#pragma once
#include "config/model.h"
#include "route/route.h"

// At most 2 Gateways of 2 servers (ports 80 and 81) and 6 VirtualServices of 12 rules, which answer
// by directResponse. Everything lives in the arena. Rules are named "r0", "r1", … and their match
// blocks "m0", "m1", …
void generate_model(struct model *m, struct arena *a);
struct route_request generate_request(struct arena *a);
// What an expression of such documents means, told without an engine.
bool expression_holds(struct slice expression, struct slice value);
