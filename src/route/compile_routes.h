// The rules one VirtualService contributes to a server.
#pragma once
#include "route/compile_hosts.h"
#include "route/rule_set.h"

struct route_block {           // in the scratch arena; what its rules point to is in `out`
    const struct rule **rules; // in order
    uint32_t count;
    const struct rule_set *set; // of a virtual host that has only this block, made on demand
};

// Never NULL; a block without rules means that nothing of this VirtualService applies here.
struct route_block *compile_block(struct compile *c, const struct virtual_service *vs,
                                  const struct server_ref *ref);
