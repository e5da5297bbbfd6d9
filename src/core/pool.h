// Fixed-size objects with a cap, one owner thread, no locking. Objects come from slabs that are
// given back only by pool_fini; a freed object is reused last-in first-out (warm in the cache).
// pool_get returns NULL at the cap: a counted, tested refusal, never an abort.
#pragma once
#include <stddef.h>
#include <stdint.h>

struct counter;
struct pool_slab;

struct pool {
    const char *name; // for the metric and the log
    uint32_t object_bytes;
    uint32_t cap;   // objects at most
    uint32_t total; // objects ever carved
    uint32_t in_use;
    uint32_t peak;
    uint64_t refusals;
    void *free_list;
    struct pool_slab *slabs;
    struct counter *bytes; // grows with the slabs; may be NULL, set before the first pool_get
};

void pool_init(struct pool *p, const char *name, size_t object_bytes, uint32_t cap);
void pool_fini(struct pool *p);              // checks that nothing is in use
void *pool_get(struct pool *p);              // not zeroed; NULL at the cap
void pool_put(struct pool *p, void *object); // NULL is fine
