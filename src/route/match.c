// The request path's entry points: authority -> virtual host -> route -> target. No allocation, no
// state of its own; any worker.
#include "route/host_index.h"
#include "route/virtual_host.h"

const struct virtual_host *route_find_host(const struct route_table *t, struct slice authority)
{
    return t && t->index ? host_index_find(t->index, authority) : NULL;
}

const struct route *route_match(const struct virtual_host *vh, const struct route_request *rq)
{
    const struct rule *r = vh->rules ? rule_set_find(vh->rules, rq) : NULL;
    return r ? r->route : NULL;
}

// Targets are few, and two comparisons beat a search.
const struct route_target *route_pick(const struct route *r, uint32_t draw)
{
    for (uint32_t i = 0; i < r->target_count; i++)
        if (draw < r->targets[i].weight_end)
            return &r->targets[i];
    return NULL;
}
