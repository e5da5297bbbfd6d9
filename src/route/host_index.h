// From an authority to a virtual host: exact names in one hash table, wildcards by their suffix in
// another, then `*`. Immutable once built, in the snapshot's arena.
#pragma once
#include "core/arena.h"
#include "route/virtual_host.h"

struct host_table { // open addressing by the folded hash of the domain without its `*`
    struct host_slot {
        uint64_t hash;
        const struct virtual_host *host; // NULL = free
    } *slots;
    uint32_t mask, count;
};

struct host_index {
    struct host_table exact, suffix;
    uint8_t suffix_lengths[32]; // bit set of the lengths that occur (a name has at most 255 bytes)
    const struct virtual_host *any; // `*`
};

// Of hosts with one domain the first one is found.
struct host_index *host_index_create(struct arena *arena, struct virtual_host *const *hosts,
                                     uint32_t count);
// `authority` may carry a port. NULL = none.
const struct virtual_host *host_index_find(const struct host_index *x, struct slice authority);
