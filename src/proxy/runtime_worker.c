// A worker's part of the runtime: adopting snapshots, its clusters, its listeners, accepting.
// Everything here runs on the worker's thread. Invariant: `adopted` is pinned by this worker, so
// it may be read at any time, whatever the RCU phase; the published pointer is read only
// between rcu_online and the next quiescent state (on_turn).
#include "core/check.h"
#include "proxy/accept.h"
#include "proxy/l4.h"
#include "proxy/proxied.h"
#include "proxy/proxy_internal.h"
#include "proxy/runtime_internal.h"
#include "proxy/udp.h"
#include <errno.h>
#include <stdlib.h>

// ---- clusters

// What a worker has of the name belongs to `adopted` (adopt_clusters) and is in its slot already.
static struct upstream_cluster *make_cluster(struct proxy_worker *pw,
                                             const struct cluster_config *cfg)
{
    struct upstream_cluster *c = cluster_create(&pw->upstreams, cfg);
    check(!map_put(&pw->clusters_by_name, c->name, c));
    return c;
}

// A listener that has gone may have taken its Services along, and still serves what is on its way.
static struct upstream_cluster *departed_cluster(struct proxy_worker *pw,
                                                 const struct cluster_config *cfg)
{
    struct upstream_cluster *c = map_get(&pw->departed, cfg->name);
    if (!c) {
        c = cluster_create(&pw->upstreams, cfg);
        check(!map_put(&pw->departed, c->name, c));
    }
    return c;
}

struct upstream_cluster *proxy_worker_cluster(struct proxy_worker *pw, const struct snapshot *s,
                                              const struct cluster_config *cfg)
{
    if (likely(s == pw->adopted)) {
        struct upstream_cluster **slot = &pw->clusters[cfg->index];
        if (unlikely(!*slot))
            *slot = make_cluster(pw, cfg);
        return *slot;
    }
    // An exchange that began before a reload: what its cluster has become since.
    struct upstream_cluster *c = map_get(&pw->clusters_by_name, cfg->name);
    if (c)
        return c;
    const struct cluster_config *now = map_get(&pw->adopted->routes.clusters.by_name, cfg->name);
    return now ? proxy_worker_cluster(pw, pw->adopted, now) : departed_cluster(pw, cfg);
}

static void retire_all(struct map *clusters)
{
    struct map_entry *e;
    for (uint32_t i = 0; map_next(clusters, &i, &e);)
        cluster_retire(e->value);
    map_fini(clusters);
    map_init(clusters, NULL, 16);
}

// The clusters in use move to the new snapshot or are retired; the others are made when needed.
static void adopt_clusters(struct proxy_worker *pw, const struct snapshot *s)
{
    struct map kept;
    struct map_entry *e;
    map_init(&kept, NULL, pw->clusters_by_name.count + 16);
    for (uint32_t i = 0; map_next(&pw->clusters_by_name, &i, &e);) {
        struct upstream_cluster *c = e->value;
        const struct cluster_config *cfg = map_get(&s->routes.clusters.by_name, c->name);
        if (!cfg || cfg->settings_hash != c->settings_hash) {
            cluster_retire(c);
            continue;
        }
        cluster_update(c, cfg);
        map_put(&kept, c->name, c);
        pw->clusters[cfg->index] = c;
    }
    map_fini(&pw->clusters_by_name);
    pw->clusters_by_name = kept;
    retire_all(&pw->departed); // who still needs one makes it anew
}

static bool has_listener(const struct snapshot *s, uint32_t id)
{
    return id < s->listener_ids && s->listener_by_id[id];
}

static void pin_for_listener(struct proxy_listener *l, struct snapshot *s)
{
    l->last = s;
    snapshot_pin(s, l->pw->worker.cfg.id);
    worker_count(&l->pw->worker, snapshot_pins);
}

// Before its socket is closed by a message of its own, which comes after the publication.
static void keep_for_listeners_that_go(struct proxy_worker *pw, struct snapshot *old,
                                       const struct snapshot *s)
{
    list_for_each_safe (n, tmp, &pw->listeners) {
        struct proxy_listener *l = container_of(n, struct proxy_listener, link);
        if (!l->last && has_listener(old, l->id) && !has_listener(s, l->id))
            pin_for_listener(l, old);
    }
}

struct snapshot *proxy_listener_snapshot(const struct proxy_listener *l)
{
    return l->last ? l->last : (struct snapshot *)(uintptr_t)l->pw->adopted;
}

const struct listener_config *proxy_listener_config(const struct proxy_listener *l)
{
    const struct snapshot *s = proxy_listener_snapshot(l);
    return s ? snapshot_listener(s, l->id) : NULL;
}

static void adopt_sessions(struct proxy_worker *pw)
{
    list_for_each_safe (n, tmp, &pw->listeners) {
        struct proxy_listener *l = container_of(n, struct proxy_listener, link);
        if (l->udp)
            proxy_udp_adopt(l);
    }
}

static void adopt(struct proxy_worker *pw, struct snapshot *s)
{
    struct snapshot *old = (struct snapshot *)(uintptr_t)pw->adopted;
    uint32_t id = pw->worker.cfg.id;
    free(pw->clusters);
    pw->clusters = calloc(s->routes.clusters.count + 1u, sizeof(*pw->clusters));
    check(pw->clusters);
    snapshot_pin(s, id);
    pw->adopted = s;
    adopt_clusters(pw, s);
    if (!old)
        return;
    keep_for_listeners_that_go(pw, old, s);
    proxy_conns_adopt(pw, old, s);
    adopt_sessions(pw);
    snapshot_unpin(old, id);
}

void runtime_worker_on_turn(struct worker *w)
{
    struct proxy_worker *pw = w->app;
    struct snapshot *s = atomic_load_explicit(&pw->runtime->current, memory_order_acquire);
    if (unlikely(s != pw->adopted) && s)
        adopt(pw, s);
    if (atomic_load_explicit(&pw->runtime->memory_limit_bytes, memory_order_relaxed))
        runtime_worker_note_reserve(pw);
}

// ---- listeners

void runtime_worker_release_listener(struct listener_record *record)
{
    atomic_fetch_sub_explicit(&record->holders, 1, memory_order_release);
}

static void free_listener_if_unused(struct proxy_listener *l)
{
    struct worker *w = &l->pw->worker;
    if (l->connections > 0 || l->listener.fd >= 0 || l->udp)
        return;
    timer_cancel(&w->timers, &l->drain_end);
    if (l->last) {
        snapshot_unpin(l->last, w->cfg.id);
        worker_count_n(w, snapshot_pins, (uint64_t)-1);
    }
    runtime_worker_release_listener(l->record);
    free(l);
}

static void release(struct proxy_listener *l)
{
    struct runtime *rt = l->pw->runtime;
    atomic_fetch_sub_explicit(&rt->connections, 1, memory_order_relaxed);
    if (l->id < RUNTIME_COUNTED_LISTENERS)
        atomic_fetch_sub_explicit(&rt->listener_connections[l->id], 1, memory_order_relaxed);
}

void proxy_listener_closed(struct proxy_listener *l)
{
    list_remove(&l->link);
    free_listener_if_unused(l);
}

static void on_listener_closed(struct listener *core)
{
    proxy_listener_closed(core->owner);
}

static bool is_closing(const struct proxy_listener *l)
{
    return l->udp ? proxy_udp_draining(l) : l->listener.closing;
}

// Up to half of the descriptors each client finds one for its upstream. Beyond that, clients that
// ask for nothing are taken for as long as those who do leave descriptors.
static bool has_descriptors(const struct runtime *rt, uint32_t clients)
{
    uint32_t files = rt->cfg.connection_files;
    return clients <= files / 2 ||
           clients + runtime_counter(rt, COUNTER_upstream_cx_active) <= files;
}

// An upstream connection that nobody uses is worth less than a client.
static bool make_room(struct proxy_worker *pw)
{
    uint32_t closed = conn_pool_close_idle(&pw->upstreams, 1);
    worker_count_n(&pw->worker, upstream_cx_evicted, closed);
    return closed > 0;
}

// One more of the connections that all workers together may have.
static bool admit_to_all(struct proxy_listener *l, bool evict)
{
    struct runtime *rt = l->pw->runtime;
    uint32_t clients = 1 + atomic_fetch_add_explicit(&rt->connections, 1, memory_order_relaxed);
    if (clients <= rt->cfg.max_connections &&
        (has_descriptors(rt, clients) || (evict && make_room(l->pw))))
        return true;
    atomic_fetch_sub_explicit(&rt->connections, 1, memory_order_relaxed);
    return false;
}

// And of this listener's share; else it is none of either.
static bool admit_to_share(struct proxy_listener *l, const _Atomic uint32_t *share)
{
    struct runtime *rt = l->pw->runtime;
    if (l->id >= RUNTIME_COUNTED_LISTENERS)
        return true;
    if (atomic_fetch_add_explicit(&rt->listener_connections[l->id], 1, memory_order_relaxed) <
        atomic_load_explicit(share, memory_order_relaxed))
        return true;
    release(l);
    return false;
}

static bool admit(struct proxy_listener *l)
{
    if (!admit_to_all(l, true)) {
        worker_count(&l->pw->worker, downstream_cx_overflow);
        return false;
    }
    if (admit_to_share(l, &l->pw->runtime->listener_share))
        return true;
    worker_count(&l->pw->worker, downstream_cx_listener_overflow);
    return false;
}

// What it costs the gateway, anyone can ask for by a forged address: nothing is evicted for it.
bool proxy_listener_admit_session(struct proxy_listener *l)
{
    struct runtime *rt = l->pw->runtime;
    uint32_t before = atomic_fetch_add_explicit(&rt->udp_sessions, 1, memory_order_relaxed);
    if (before < rt->cfg.max_udp_sessions && admit_to_all(l, false) &&
        admit_to_share(l, &rt->udp_share)) {
        l->connections++;
        return true;
    }
    atomic_fetch_sub_explicit(&rt->udp_sessions, 1, memory_order_relaxed);
    return false;
}

void proxy_listener_session_closed(struct proxy_listener *l)
{
    atomic_fetch_sub_explicit(&l->pw->runtime->udp_sessions, 1, memory_order_relaxed);
    proxy_listener_conn_closed(l);
}

void proxy_listener_conn_closed(struct proxy_listener *l)
{
    check(l->connections > 0);
    l->connections--;
    release(l);
    free_listener_if_unused(l);
}

static void on_accept(struct listener *core, int fd)
{
    struct proxy_listener *l = core->owner;
    if (l->pw->stopping || !admit(l)) {
        ring_close(fd);
        return;
    }
    l->connections++;
    if (!proxy_accept(l, fd))
        proxy_listener_conn_closed(l);
}

// As Envoy does when the drain time of a removed listener is over.
static void on_drain_end(struct timer *t, uint64_t now_ns)
{
    struct proxy_listener *l = container_of(t, struct proxy_listener, drain_end);
    (void)now_ns;
    if (l->udp)
        proxy_udp_close(l);
    proxy_conns_close(l->pw, l);
}

// While another one of that address drains, half of its clients would find that one.
static void take_over_address(struct proxy_worker *pw, const struct listener_record *record)
{
    list_for_each_safe (n, tmp, &pw->listeners) {
        struct proxy_listener *l = container_of(n, struct proxy_listener, link);
        if (l->udp && l->record != record && addr_eq(&l->record->addr, &record->addr))
            proxy_udp_close(l);
    }
}

void runtime_worker_add_listener(struct proxy_worker *pw, uint32_t id, int fd,
                                 struct listener_record *record)
{
    struct proxy_listener *l = calloc(1, sizeof(*l));
    const struct runtime_config *cfg = &pw->runtime->cfg;
    check(l);
    l->pw = pw;
    l->id = id;
    l->record = record;
    timer_init(&l->drain_end, on_drain_end);
    l->server_cfg = (struct h1_server_config){
        .handler = &proxy_handler,
        .proxy_bytes = sizeof(struct proxy_exchange),
        .idle_timeout_ns = cfg->idle_timeout_ns,
        .head_timeout_ns = cfg->head_timeout_ns,
        .stall_timeout_ns = cfg->stall_timeout_ns,
    };
    l->listener.on_accept = on_accept;
    l->listener.on_closed = on_listener_closed;
    l->listener.owner = l;
    list_insert_tail(&pw->listeners, &l->link);
    if (record->udp) {
        l->listener.fd = -1;
        take_over_address(pw, record);
        proxy_udp_start(l, fd);
        return;
    }
    listener_start(&l->listener, &pw->worker, fd);
    if (pw->shed != SHED_NOTHING)
        listener_pause(&l->listener);
}

static void drain_listener(struct proxy_listener *l)
{
    if (l->udp) {
        proxy_udp_drain(l);
        return;
    }
    l->server_cfg.draining = true;
    listener_close(&l->listener, LISTENER_LINGER_NS);
    (void)proxy_conns_drain(l->pw, l, H1_SERVER_DRAIN_GRACE_NS);
}

void runtime_worker_remove_listener(struct proxy_worker *pw, uint32_t id)
{
    list_for_each_safe (n, tmp, &pw->listeners) {
        struct proxy_listener *l = container_of(n, struct proxy_listener, link);
        if (l->id != id || is_closing(l))
            continue;
        drain_listener(l);
        timer_arm(&pw->worker.timers, &l->drain_end,
                  pw->worker.now_ns + pw->runtime->cfg.drain_time_ns);
    }
}

void runtime_worker_drain(struct proxy_worker *pw)
{
    pw->draining = true;
    list_for_each_safe (n, tmp, &pw->listeners) {
        struct proxy_listener *l = container_of(n, struct proxy_listener, link);
        if (!is_closing(l))
            drain_listener(l);
    }
}

// ---- end

static void close_listeners(struct proxy_worker *pw)
{
    list_for_each_safe (n, tmp, &pw->listeners) {
        struct proxy_listener *l = container_of(n, struct proxy_listener, link);
        if (l->udp)
            proxy_udp_close(l);
        else
            listener_close(&l->listener, 0);
    }
}

// Called each turn once the worker is to stop; true when nothing is left in flight.
bool runtime_worker_on_stop(struct worker *w)
{
    struct proxy_worker *pw = w->app;
    if (!pw->stopping) {
        pw->stopping = true;
        runtime_worker_drain(pw);
        close_listeners(pw);
        proxy_conns_close(pw, NULL);
        h1_client_close_ending(&pw->clients);
        retire_all(&pw->clusters_by_name);
        retire_all(&pw->departed);
    }
    return list_empty(&pw->all_conns) && list_empty(&pw->listeners) &&
           pw->clients.conns.in_use == 0;
}

#define MAX_CLIENT_CONNECTIONS 65536u
#define MAX_OUTPUT_CHUNKS 65536u // of 4 KiB: 256 MiB a worker at most
#define MAX_PIPES 256u           // of 256 KiB
#define FILES_PER_PIPE 32u       // so that all pipes take a sixteenth of the descriptors

static void watch_pools(struct proxy_worker *pw)
{
    struct pool *pools[] = {&pw->tcp.chunks,    &pw->tcp.msgs,      &pw->exchanges.exchanges,
                            &pw->exchanges.big, &pw->servers.conns, &pw->clients.conns,
                            &pw->tcp.conns,     &pw->conns,         &pw->hellos,
                            &pw->relays,        &pw->tls.conns,     &pw->tls.records,
                            &pw->udp_sessions,  &pw->udp_sends};
    for (size_t i = 0; i < sizeof(pools) / sizeof(pools[0]); i++)
        pools[i]->bytes = &pw->worker.counters.c[COUNTER_pool_bytes];
    pw->worker.output = &pw->tcp.chunks;
}

// All but the worker of core.
static void free_worker(struct proxy_worker *pw)
{
    free(pw->clusters);
    map_fini(&pw->clusters_by_name);
    map_fini(&pw->departed);
    tls_pools_fini(&pw->tls);
    proxy_l4_pools_fini(pw);
    proxy_udp_pools_fini(pw);
    proxy_accept_pools_fini(pw);
    proxied_pool_fini(pw);
    h1_server_pools_fini(&pw->servers);
    h1_client_pools_fini(&pw->clients);
    exchange_pools_fini(&pw->exchanges);
    tcp_pools_fini(&pw->tcp);
    stat_table_destroy(pw->stats);
    free(pw);
}

static uint32_t pipes_cap(const struct runtime *rt)
{
    uint32_t n = rt->cfg.connection_files / rt->cfg.workers / FILES_PER_PIPE;
    return n < MAX_PIPES ? n : MAX_PIPES;
}

enum err runtime_worker_create(struct runtime *rt, uint32_t id, struct proxy_worker **out)
{
    struct proxy_worker *pw = calloc(1, sizeof(*pw));
    check(pw);
    uint32_t max = rt->cfg.max_connections;
    struct worker_config wc = {
        .id = id,
        .cpu = rt->cfg.workers <= worker_cpu_count() ? worker_nth_cpu(id) : -1,
        .rcu = &rt->rcu,
    };
    pw->runtime = rt;
    list_init(&pw->listeners);
    map_init(&pw->clusters_by_name, NULL, 64);
    map_init(&pw->departed, NULL, 16);
    tcp_pools_init(&pw->tcp, max + MAX_CLIENT_CONNECTIONS, MAX_OUTPUT_CHUNKS);
    pw->tcp.pipes.cap = pipes_cap(rt);
    exchange_pools_init(&pw->exchanges, max);
    h1_server_pools_init(&pw->servers, max, &pw->tcp, &pw->exchanges);
    h1_client_pools_init(&pw->clients, MAX_CLIENT_CONNECTIONS, &pw->tcp, &pw->exchanges);
    conn_pool_init(&pw->upstreams, &pw->worker, &pw->clients, &pw->tls);
    proxy_accept_pools_init(pw, max);
    proxied_pool_init(pw, max);
    proxy_l4_pools_init(pw, max);
    proxy_udp_pools_init(pw, rt->cfg.max_udp_sessions);
    check(tls_pools_init(&pw->tls, max + MAX_CLIENT_CONNECTIONS, max + MAX_CLIENT_CONNECTIONS) ==
          OK);
    pw->tls.ktls = rt->cfg.ktls;
    pw->stats = stat_table_create();
    enum err e = worker_init(&pw->worker, &wc);
    if (e != OK) {
        int why = errno;
        free_worker(pw);
        errno = why;
        return e;
    }
    watch_pools(pw);
    pw->worker.app = pw;
    pw->worker.on_turn = runtime_worker_on_turn;
    pw->worker.on_stop = runtime_worker_on_stop;
    *out = pw;
    return OK;
}

void runtime_worker_destroy(struct proxy_worker *pw)
{
    if (pw->adopted)
        snapshot_unpin((struct snapshot *)(uintptr_t)pw->adopted, pw->worker.cfg.id);
    worker_fini(&pw->worker);
    free_worker(pw);
}
