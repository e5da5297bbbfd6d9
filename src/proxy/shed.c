// When memory runs short. The control thread measures (runtime_watch_memory) and tells the workers
// a level; each acts for itself:
//   SHED_CONNECTIONS (95 %)  no new connection is accepted, idle ones are closed, those to
//   upstreams
//                            first, the others end after their response
//   SHED_REQUESTS    (98 %)  requests that come in all the same are answered 503 (flag OM)
// Pools never give slabs back to the system, so what is free in them does not count as used: it is
// what the load that caused this has left, and is used again. Each level ends 2 % below where it
// begins.
#include "core/log.h"
#include "core/memory.h"
#include "proxy/accept.h"
#include "proxy/runtime_internal.h"

#define CONNECTIONS_PERMILLE 950u
#define REQUESTS_PERMILLE 980u
#define EASE_PERMILLE 20u

// ---- control thread

static uint64_t reserve_of_all(const struct runtime *rt)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < rt->worker_count; i++)
        sum += atomic_load_explicit(&rt->workers[i]->reserve_bytes, memory_order_relaxed);
    return sum;
}

enum shed runtime_shed_level(enum shed now, uint32_t permille)
{
    if (permille >= REQUESTS_PERMILLE)
        return SHED_REQUESTS;
    if (now == SHED_REQUESTS && permille >= REQUESTS_PERMILLE - EASE_PERMILLE)
        return SHED_REQUESTS;
    if (permille >= CONNECTIONS_PERMILLE)
        return SHED_CONNECTIONS;
    if (now != SHED_NOTHING && permille >= CONNECTIONS_PERMILLE - EASE_PERMILLE)
        return SHED_CONNECTIONS;
    return SHED_NOTHING;
}

static const char *level_name(enum shed level)
{
    switch (level) {
    case SHED_CONNECTIONS:
        return "connections";
    case SHED_REQUESTS:
        return "requests";
    default:
        return "nothing";
    }
}

void runtime_watch_memory(struct runtime *rt)
{
    struct memory_use m;
    if (!rt->cgroup_asked) {
        rt->cgroup_asked = true;
        memory_cgroup_find("/proc/self/cgroup", "/sys/fs/cgroup", &rt->cgroup);
    }
    memory_read(&rt->cgroup, &m);
    uint32_t permille = memory_permille(&m, reserve_of_all(rt));
    enum shed was = (enum shed)atomic_load(&rt->shed), to = runtime_shed_level(was, permille);
    atomic_store(&rt->memory_limit_bytes, m.limit_bytes);
    if (to != SHED_NOTHING) // also those that sleep say what they have free
        runtime_tell_shed(rt, to);
    if (to == was)
        return;
    atomic_store(&rt->shed, to);
    if (to == SHED_NOTHING)
        runtime_tell_shed(rt, to);
    log_warn("memory_shed",
             "shed=%s was=%s used_mib=%llu limit_mib=%llu text=\"raise the limit (MemoryMax= in "
             "the systemd unit, resources.limits.memory), or serve fewer connections\"",
             level_name(to), level_name(was), (unsigned long long)(m.used_bytes >> 20),
             (unsigned long long)(m.limit_bytes >> 20));
}

// ---- a worker

static uint64_t free_bytes(const struct pool *p)
{
    return (uint64_t)(p->total - p->in_use) * p->object_bytes;
}

void runtime_worker_note_reserve(struct proxy_worker *pw)
{
    uint64_t sum = free_bytes(&pw->tcp.chunks) + free_bytes(&pw->tcp.msgs) +
                   free_bytes(&pw->exchanges.exchanges) + free_bytes(&pw->exchanges.big) +
                   free_bytes(&pw->servers.conns) + free_bytes(&pw->clients.conns);
    atomic_store_explicit(&pw->reserve_bytes, sum, memory_order_relaxed);
}

static void pause_listeners(struct proxy_worker *pw)
{
    list_for_each_safe (n, tmp, &pw->listeners) {
        struct proxy_listener *l = container_of(n, struct proxy_listener, link);
        if (l->udp)
            continue; // it begins no session meanwhile
        if (!l->listener.paused && !l->listener.closing)
            worker_count(&pw->worker, shed_listener_paused);
        listener_pause(&l->listener);
    }
}

static void resume_listeners(struct proxy_worker *pw)
{
    list_for_each_safe (n, tmp, &pw->listeners) {
        struct proxy_listener *l = container_of(n, struct proxy_listener, link);
        if (!l->udp)
            listener_resume(&l->listener);
    }
}

void runtime_worker_shed(struct proxy_worker *pw, enum shed level)
{
    enum shed was = pw->shed;
    pw->shed = level;
    if (level == SHED_NOTHING) {
        resume_listeners(pw);
        return;
    }
    pause_listeners(pw); // also those that came since
    // Again each time: what is in flight may leave more of them.
    worker_count_n(&pw->worker, shed_upstream_cx_idle,
                   conn_pool_close_idle(&pw->upstreams, UINT32_MAX));
    uint32_t closed = was == SHED_NOTHING ? proxy_conns_drain(pw, NULL, 0) : 0;
    worker_count_n(&pw->worker, shed_cx_idle, closed);
    runtime_worker_note_reserve(pw);
}
