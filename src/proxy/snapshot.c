// Pins: how many references a worker's exchanges (and the worker itself, for the snapshot it has
// adopted) hold. Each word is written by its worker alone; the control thread reads it after a
// grace period, when no new pin can appear.
#include "proxy/snapshot.h"
#include "core/check.h"
#include <stdlib.h>

void snapshot_pin(struct snapshot *s, uint32_t worker)
{
    _Atomic uint64_t *p = &s->pins[worker].count;
    atomic_store_explicit(p, atomic_load_explicit(p, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

void snapshot_unpin(struct snapshot *s, uint32_t worker)
{
    _Atomic uint64_t *p = &s->pins[worker].count;
    uint64_t held = atomic_load_explicit(p, memory_order_relaxed);
    check(held > 0);
    // Release: everything this worker has read of the snapshot comes before the last unpin.
    atomic_store_explicit(p, held - 1, memory_order_release);
}

bool snapshot_pinned(const struct snapshot *s, uint32_t workers)
{
    for (uint32_t i = 0; i < workers; i++)
        if (atomic_load_explicit(&s->pins[i].count, memory_order_acquire))
            return true;
    return false;
}

void snapshot_destroy(struct snapshot *s)
{
    if (!s)
        return;
    route_config_fini(&s->routes);
    tls_store_destroy(s->tls);
    arena_fini(&s->arena);
    free(s);
}
