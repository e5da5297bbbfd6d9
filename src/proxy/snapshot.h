// A snapshot: everything compiled from the documents, in one arena, never written after
// publication (but for the pins, one word a worker). The control thread builds and publishes it;
// a worker reads the pointer once per turn; an exchange pins the one it began with.
#pragma once
#include "core/arena.h"
#include "core/rcu.h"
#include "route/route.h"
#include "tls/store.h"

struct snapshot {
    struct arena arena;
    uint64_t generation; // from 1
    struct route_config routes;
    struct tls_store *tls;                                  // the contexts that the routes name
    uint32_t *listener_stats, *route_stats, *cluster_stats; // dense number -> stat number
    // Listeners keep a number as long as their address is served; NULL where this snapshot has
    // none.
    struct listener_config **listener_by_id;
    uint32_t listener_ids;
    uint64_t built_ns; // how long it took
    struct snapshot *next_retired;
    uint64_t retire_epoch;
    struct snapshot_pin {
        _Alignas(64) _Atomic uint64_t count; // written by one worker
    } pins[RCU_MAX_WORKERS];
};

// NULL: this snapshot has no such listener.
static inline const struct listener_config *snapshot_listener(const struct snapshot *s, uint32_t id)
{
    return id < s->listener_ids ? s->listener_by_id[id] : NULL;
}
void snapshot_pin(struct snapshot *s, uint32_t worker);
void snapshot_unpin(struct snapshot *s, uint32_t worker);
bool snapshot_pinned(const struct snapshot *s, uint32_t workers);
void snapshot_destroy(struct snapshot *s);
