// The control thread's side: loading, compiling, opening sockets, publishing, reclaiming,
// draining, stopping. A reload happens whole or not at all: every socket of the new snapshot is
// open before it is published. Workers are told by messages; each wakes, adopts the
// snapshot and lets go of the old one, which is freed when no worker can read it (RCU) and none
// pins it.
#include "proxy/runtime.h"
#include "core/check.h"
#include "core/clock.h"
#include "core/listener.h"
#include "core/log.h"
#include "core/selfcheck.h"
#include "core/udp.h"
#include "proxy/runtime_internal.h"
#include "proxy/udp.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>

#define BACKLOG 4096
// A snapshot that is replaced is let go at once as a rule; a long request may hold it for hours.
#define RECLAIM_FIRST_MS 20
#define RECLAIM_LAST_MS 1000

// ---- messages to a worker

enum task { TASK_WAKE, TASK_ADD_LISTENER, TASK_REMOVE_LISTENER, TASK_DRAIN, TASK_SHED };

struct task_message {
    struct message message;
    enum task task;
    uint32_t number; // of a listener, or enum shed
    int fd;
    struct listener_record *record;
};

static void deliver(struct message *m, void *worker)
{
    struct task_message *t = container_of(m, struct task_message, message);
    struct proxy_worker *pw = ((struct worker *)worker)->app;
    switch (t->task) {
    case TASK_ADD_LISTENER:
        if (pw->draining || pw->stopping) {
            ring_close(t->fd);
            runtime_worker_release_listener(t->record);
        } else {
            runtime_worker_add_listener(pw, t->number, t->fd, t->record);
        }
        break;
    case TASK_REMOVE_LISTENER:
        runtime_worker_remove_listener(pw, t->number);
        break;
    case TASK_DRAIN:
        runtime_worker_drain(pw);
        break;
    case TASK_SHED:
        runtime_worker_shed(pw, (enum shed)t->number);
        break;
    default: // the turn that follows adopts the snapshot
        break;
    }
    free(t);
}

static void tell(struct proxy_worker *pw, enum task task, uint32_t number, int fd,
                 struct listener_record *record)
{
    struct task_message *t = calloc(1, sizeof(*t));
    check(t);
    *t = (struct task_message){{NULL, deliver}, task, number, fd, record};
    mailbox_send(&pw->worker.mailbox, &t->message);
}

static void tell_all(struct runtime *rt, enum task task, uint32_t number)
{
    for (uint32_t i = 0; i < rt->worker_count; i++)
        tell(rt->workers[i], task, number, -1, NULL);
}

void runtime_tell_shed(struct runtime *rt, enum shed level)
{
    tell_all(rt, TASK_SHED, level);
}

// ---- start

// As many as descriptors suffice for, within what pools can number.
static void limits_by_descriptors(struct runtime_config *c)
{
    struct rlimit l = {.rlim_cur = 1024};
    const uint64_t most = 4u << 20;
    (void)getrlimit(RLIMIT_NOFILE, &l);
    uint64_t n = selfcheck_connections(l.rlim_cur, c->workers);
    uint64_t files = selfcheck_connection_files(l.rlim_cur, c->workers);
    if (!c->max_connections)
        c->max_connections = (uint32_t)(n < most ? n : most);
    if (!c->connection_files)
        c->connection_files = (uint32_t)(files < 2 * most ? files : 2 * most);
}

static void default_config(struct runtime_config *c)
{
    if (!c->workers)
        c->workers = worker_cpu_count();
    if (c->workers > RCU_MAX_WORKERS)
        c->workers = RCU_MAX_WORKERS;
    if (!c->head_timeout_ns)
        c->head_timeout_ns = H1_SERVER_HEAD_TIMEOUT_NS;
    if (!c->idle_timeout_ns)
        c->idle_timeout_ns = H1_SERVER_IDLE_TIMEOUT_NS;
    if (!c->stall_timeout_ns)
        c->stall_timeout_ns = H1_SERVER_STALL_TIMEOUT_NS;
    if (!c->udp_idle_timeout_ns)
        c->udp_idle_timeout_ns = PROXY_UDP_IDLE_NS;
    limits_by_descriptors(c);
    if (!c->max_udp_sessions)
        c->max_udp_sessions = c->max_connections / 2;
}

// On an error errno says why, and there is no such worker.
static enum err start_worker(struct runtime *rt, uint32_t id)
{
    enum err e = runtime_worker_create(rt, id, &rt->workers[id]);
    if (e != OK)
        return e;
    e = worker_start(&rt->workers[id]->worker);
    if (e == OK)
        return OK;
    int why = errno;
    runtime_worker_destroy(rt->workers[id]);
    errno = why;
    return e;
}

enum err runtime_start(struct runtime *rt, const struct runtime_config *cfg)
{
    memset(rt, 0, sizeof(*rt));
    rt->cfg = *cfg;
    default_config(&rt->cfg);
    rcu_init(&rt->rcu, rt->cfg.workers);
    stat_registry_init(&rt->stats);
    rt->tickets = tls_tickets_create(&rt->rcu);
    check(rt->tickets);
    rt->tickets_turned_ns = clock_monotonic_ns();
    rt->start_unix_s = clock_realtime_ns() / NS_PER_S;
    rt->workers = calloc(rt->cfg.workers, sizeof(*rt->workers));
    check(rt->workers);
    for (uint32_t i = 0; i < rt->cfg.workers; i++) {
        enum err e = start_worker(rt, i);
        if (e != OK) {
            char text[400];
            selfcheck_explain_start(errno, text, sizeof(text));
            log_error("worker_start_failed", "worker=%u error=\"%s\" text=\"%s\"", i,
                      strerror(errno), text);
            return e;
        }
        rt->worker_count++;
    }
    return OK;
}

// ---- listeners of a snapshot

struct new_sockets {
    uint32_t *ids; // listener number of each
    int *fds;      // worker_count for each
    uint32_t count;
};

static uint32_t find_record(struct runtime *rt, const struct listener_config *lc)
{
    for (uint32_t i = 0; i < rt->listener_count; i++) {
        const struct listener_record *r = rt->listeners[i];
        if (r->used && r->udp == lc->udp && addr_eq(&r->addr, &lc->addr))
            return i;
    }
    return UINT32_MAX;
}

// Acquire: what its last holder did with the number comes before it is somebody else's.
static bool is_free(const struct listener_record *r)
{
    return !r->used && atomic_load_explicit(&r->holders, memory_order_acquire) == 0;
}

static uint32_t add_record(struct runtime *rt, const struct listener_config *lc)
{
    uint32_t i = 0;
    while (i < rt->listener_count && !is_free(rt->listeners[i]))
        i++;
    if (i == rt->listener_count) {
        rt->listeners = realloc(rt->listeners, (i + 1u) * sizeof(struct listener_record *));
        check(rt->listeners);
        rt->listeners[i] = calloc(1, sizeof(struct listener_record));
        check(rt->listeners[i]);
        rt->listener_count++;
    }
    char *name = malloc(lc->name.len + 1);
    check(name);
    memcpy(name, lc->name.ptr, lc->name.len);
    *rt->listeners[i] = (struct listener_record){
        lc->addr, lc->udp, {name, lc->name.len}, .used = true, .seen = true};
    return i;
}

static void drop_record(struct runtime *rt, uint32_t i)
{
    struct listener_record *r = rt->listeners[i];
    free((void *)(uintptr_t)r->name.ptr);
    r->name = (struct slice){NULL, 0};
    r->used = false;
}

static void cannot_listen(const struct listener_config *lc, int error, struct findings *out)
{
    char text[LISTENER_EXPLAIN_MAX];
    struct slice rest = lc->gateways, name, ns;
    struct metadata gateway = {.kind = SLICE("Gateway")};
    if (slice_split(&rest, ',', &name) && slice_split(&name, '/', &ns)) {
        gateway.ns = ns;
        gateway.name = name;
    }
    bool is_unix = lc->addr.sa.sa_family == AF_UNIX;
    listener_explain(&lc->addr, error,
                     is_unix ? "bind the server elsewhere"
                             : "let targetPort of the gateway's Service map the port to another",
                     text);
    finding_add(out, SEVERITY_ERROR, NULL, lc->pos, &gateway, "cannot listen on %s%s",
                lc->udp ? "UDP " : "", text);
}

static int open_socket(const struct listener_config *lc, bool probe)
{
    int rc = 0;
    if (probe)
        rc = lc->udp ? udp_probe(&lc->addr) : listener_probe(&lc->addr);
    if (rc < 0)
        return rc;
    return lc->udp ? udp_open(&lc->addr) : listener_open(&lc->addr, BACKLOG);
}

static bool open_sockets(struct runtime *rt, const struct listener_config *lc, int *fds,
                         struct findings *out)
{
    // Later on it may be a listener of our own that was removed a moment ago.
    bool starting = !atomic_load(&rt->current);
    for (uint32_t w = 0; w < rt->worker_count; w++) {
        fds[w] = open_socket(lc, starting && w == 0);
        if (fds[w] >= 0)
            continue;
        cannot_listen(lc, -fds[w], out);
        while (w-- > 0)
            ring_close(fds[w]);
        return false;
    }
    return true;
}

static void undo_sockets(struct runtime *rt, struct new_sockets *ns)
{
    for (uint32_t i = 0; i < ns->count; i++) {
        for (uint32_t w = 0; w < rt->worker_count; w++)
            ring_close(ns->fds[i * rt->worker_count + w]);
        drop_record(rt, ns->ids[i]);
    }
}

// Opens what the snapshot needs and does not have yet, and numbers its listeners. All or nothing.
static bool prepare_listeners(struct runtime *rt, struct snapshot *s, struct new_sockets *ns,
                              struct findings *out)
{
    uint32_t n = s->routes.listener_count;
    bool ok = true;
    ns->ids = calloc(n + 1u, sizeof(*ns->ids));
    ns->fds = calloc((size_t)(n + 1u) * rt->worker_count, sizeof(*ns->fds));
    check(ns->ids && ns->fds);
    for (uint32_t i = 0; i < rt->listener_count; i++)
        rt->listeners[i]->seen = false;
    for (uint32_t i = 0; i < n; i++) {
        struct listener_config *lc = s->routes.listeners[i];
        uint32_t id = find_record(rt, lc);
        if (id != UINT32_MAX) {
            rt->listeners[id]->seen = true;
            continue;
        }
        if (!open_sockets(rt, lc, ns->fds + (size_t)ns->count * rt->worker_count, out)) {
            ok = false;
            continue; // name every address that cannot be had
        }
        ns->ids[ns->count++] = add_record(rt, lc);
    }
    if (!ok)
        undo_sockets(rt, ns);
    return ok;
}

static void number_listeners(struct runtime *rt, struct snapshot *s)
{
    s->listener_ids = rt->listener_count;
    s->listener_by_id = arena_array(&s->arena, struct listener_config *, rt->listener_count + 1u);
    for (uint32_t i = 0; i < s->routes.listener_count; i++)
        s->listener_by_id[find_record(rt, s->routes.listeners[i])] = s->routes.listeners[i];
}

// Where there are several, none may take the last eighth: the others can still be reached.
static uint32_t share_of(uint32_t max, uint32_t listeners)
{
    return listeners > 1 ? max - max / 8 : max;
}

static void share_connections(struct runtime *rt, const struct route_config *rc)
{
    uint32_t udp = 0;
    for (uint32_t i = 0; i < rc->listener_count; i++)
        udp += rc->listeners[i]->udp;
    atomic_store(&rt->listener_share, share_of(rt->cfg.max_connections, rc->listener_count));
    atomic_store(&rt->udp_share, share_of(rt->cfg.max_udp_sessions, udp));
}

static void apply_listeners(struct runtime *rt, const struct new_sockets *ns)
{
    char text[ADDR_TEXT_MAX];
    for (uint32_t i = 0; i < ns->count; i++) {
        struct listener_record *r = rt->listeners[ns->ids[i]];
        atomic_store(&r->holders, rt->worker_count);
        for (uint32_t w = 0; w < rt->worker_count; w++)
            tell(rt->workers[w], TASK_ADD_LISTENER, ns->ids[i], ns->fds[i * rt->worker_count + w],
                 r);
        size_t n = addr_format(&r->addr, text, sizeof(text), true);
        log_info("listening", "name=%.*s addr=%.*s", SLICE_FMT(r->name), (int)n, text);
    }
    for (uint32_t i = 0; i < rt->listener_count; i++) {
        if (!rt->listeners[i]->used || rt->listeners[i]->seen)
            continue;
        tell_all(rt, TASK_REMOVE_LISTENER, i);
        log_info("listener_closed", "name=%.*s", SLICE_FMT(rt->listeners[i]->name));
        drop_record(rt, i);
    }
}

// ---- snapshot

static struct slice route_stat_name(const struct virtual_host *vh, const struct route *r, char *buf,
                                    size_t cap)
{
    struct slice host = virtual_host_name(vh);
    struct slice what = r->name.len ? r->name : r->stat_label;
    int n = snprintf(buf, cap, "%.*s/%.*s/%.*s", SLICE_FMT(r->virtual_service), SLICE_FMT(host),
                     SLICE_FMT(what));
    size_t len = n < 0 ? 0 : (size_t)n;
    if (len >= cap) { // Prometheus takes no half character
        for (len = cap - 1; len > 0 && ((unsigned char)buf[len - 1] & 0xc0) == 0x80; len--)
            continue;
        len -= len > 0 && ((unsigned char)buf[len - 1] & 0x80);
    }
    return (struct slice){buf, len};
}

static void register_route_stats(struct runtime *rt, struct snapshot *s,
                                 const struct route_table *t)
{
    char buf[512];
    for (uint32_t h = 0; h < t->host_count; h++) {
        const struct virtual_host *vh = t->hosts[h];
        for (uint32_t i = 0; i < virtual_host_route_count(vh); i++) {
            const struct route *r = virtual_host_route(vh, i);
            s->route_stats[r->stat_id] =
                stat_register(&rt->stats, STAT_ROUTE, route_stat_name(vh, r, buf, sizeof(buf)));
        }
    }
}

static void register_stats(struct runtime *rt, struct snapshot *s)
{
    const struct route_config *rc = &s->routes;
    stat_registry_begin(&rt->stats);
    s->listener_stats = arena_array(&s->arena, uint32_t, rc->listener_count + 1u);
    s->route_stats = arena_array(&s->arena, uint32_t, rc->route_count + 1u);
    s->cluster_stats = arena_array(&s->arena, uint32_t, rc->clusters.count + 1u);
    for (uint32_t i = 0; i < rc->listener_count; i++) {
        struct listener_config *lc = rc->listeners[i];
        s->listener_stats[lc->stat_id] = stat_register(&rt->stats, STAT_LISTENER, lc->name);
        for (uint32_t k = 0; k < lc->chain_count; k++)
            if (lc->chains[k]->routes)
                register_route_stats(rt, s, lc->chains[k]->routes);
    }
    for (uint32_t i = 0; i < rc->clusters.count; i++)
        s->cluster_stats[i] =
            stat_register(&rt->stats, STAT_CLUSTER, rc->clusters.clusters[i]->name);
}

static struct tls_store *load_tls(struct runtime *rt, const struct model *m, struct findings *out)
{
    struct snapshot *now = atomic_load_explicit(&rt->current, memory_order_relaxed);
    const struct tls_store_options options = {.identity = rt->cfg.identity,
                                              .tickets = rt->tickets,
                                              .http_alpn = SLICE("http/1.1"),
                                              .now_s = (int64_t)(clock_realtime_ns() / NS_PER_S)};
    return tls_store_load(now ? now->tls : NULL, m, &options, out);
}

static struct tls_ctx *server_tls(void *store, const struct gateway *g, const struct server *s)
{
    (void)g;
    return tls_store_server(store, s);
}

static struct tls_ctx *client_tls(void *store, const struct client_tls *t)
{
    return tls_store_client(store, t);
}

static struct snapshot *build(struct runtime *rt, struct findings *out)
{
    struct model *m = NULL;
    struct snapshot *s = NULL;
    enum err e = load_documents(rt->cfg.inputs, rt->cfg.input_count, &rt->cfg.load, &m, out);
    if (e == OK) {
        s = aligned_alloc(64, (sizeof(*s) + 63u) & ~(size_t)63u);
        check(s);
        memset(s, 0, sizeof(*s));
        arena_init(&s->arena, 0);
        s->tls = load_tls(rt, m, out);
        struct compile_options options = {.labels = rt->cfg.labels,
                                          .any_alpn = rt->cfg.any_alpn,
                                          .server_tls = server_tls,
                                          .server_tls_arg = s->tls,
                                          .client_tls = client_tls,
                                          .client_tls_arg = s->tls};
        if (route_compile(m, &options, &s->arena, out, &s->routes) != OK) {
            snapshot_destroy(s);
            s = NULL;
        }
    }
    model_destroy(m);
    return s;
}

static void publish(struct runtime *rt, struct snapshot *s)
{
    s->generation = ++rt->generation;
    struct snapshot *old = atomic_exchange_explicit(&rt->current, s, memory_order_acq_rel);
    if (old) {
        old->retire_epoch = rcu_advance(&rt->rcu);
        old->next_retired = rt->retired;
        rt->retired = old;
        rt->reclaim_wait_ms = 0;
    }
    atomic_fetch_add(&rt->snapshots_alive, 1);
    tell_all(rt, TASK_WAKE, 0);
}

static void count_findings(struct runtime *rt, const struct findings *f)
{
    atomic_store(&rt->config_findings[SEVERITY_ERROR], f->errors);
    atomic_store(&rt->config_findings[SEVERITY_WARNING], f->warnings);
    atomic_store(&rt->config_findings[SEVERITY_INFO], f->count - f->errors - f->warnings);
}

enum err runtime_load(struct runtime *rt, struct findings *out)
{
    uint64_t began = clock_monotonic_ns();
    struct new_sockets ns = {0};
    struct snapshot *s = build(rt, out);
    if (rt->cfg.disturbed && rt->cfg.disturbed(rt->cfg.disturbed_arg)) {
        snapshot_destroy(s);
        return MORE;
    }
    bool ok = s && prepare_listeners(rt, s, &ns, out);
    findings_sort(out);
    count_findings(rt, out);
    if (ok) {
        number_listeners(rt, s);
        register_stats(rt, s);
        s->built_ns = clock_monotonic_ns() - began;
        share_connections(rt, &s->routes);
        publish(rt, s);
        apply_listeners(rt, &ns);
        atomic_fetch_add(&rt->reload_successes, 1);
        atomic_store(&rt->last_reload_unix_s, clock_realtime_ns() / NS_PER_S);
        atomic_store(&rt->ready, s->routes.listener_count > 0);
    } else {
        snapshot_destroy(s);
        atomic_fetch_add(&rt->reload_failures, 1);
    }
    free(ns.ids);
    free(ns.fds);
    return ok ? OK : ERR_INVALID;
}

static bool stat_held(void *runtime, uint32_t id)
{
    struct runtime *rt = runtime;
    for (uint32_t i = 0; i < rt->worker_count; i++)
        if (stat_is_held(rt->workers[i]->stats, id))
            return true;
    return false;
}

static void forget_stat(void *runtime, uint32_t id)
{
    struct runtime *rt = runtime;
    for (uint32_t i = 0; i < rt->worker_count; i++)
        stat_clear(rt->workers[i]->stats, id);
}

void runtime_reclaim(struct runtime *rt)
{
    struct snapshot **at = &rt->retired;
    rt->reclaim_wait_ms = rt->reclaim_wait_ms ? rt->reclaim_wait_ms * 2 : RECLAIM_FIRST_MS;
    if (rt->reclaim_wait_ms > RECLAIM_LAST_MS)
        rt->reclaim_wait_ms = RECLAIM_LAST_MS;
    while (*at) {
        struct snapshot *s = *at;
        if (rcu_passed(&rt->rcu, s->retire_epoch) && !snapshot_pinned(s, rt->worker_count)) {
            *at = s->next_retired;
            snapshot_destroy(s);
            atomic_fetch_sub(&rt->snapshots_alive, 1);
        } else {
            at = &s->next_retired;
        }
    }
    if (!rt->retired)
        stat_registry_collect(&rt->stats, stat_held, forget_stat, rt);
}

void runtime_turn_tickets(struct runtime *rt)
{
    uint64_t now = clock_monotonic_ns();
    if (now - rt->tickets_turned_ns < TLS_TICKET_TURN_S * NS_PER_S)
        return;
    rt->tickets_turned_ns = now;
    if (tls_tickets_turn(rt->tickets) == OK)
        log_info("ticket_keys_turned", "every_s=%u", TLS_TICKET_TURN_S);
}

// ---- end

void runtime_drain(struct runtime *rt)
{
    if (atomic_exchange(&rt->draining, true))
        return;
    tell_all(rt, TASK_DRAIN, 0);
}

bool runtime_drained(const struct runtime *rt)
{
    for (uint32_t i = 0; i < rt->listener_count; i++)
        if (atomic_load_explicit(&rt->listeners[i]->holders, memory_order_acquire))
            return false;
    return true;
}

void runtime_stop(struct runtime *rt)
{
    for (uint32_t i = 0; i < rt->worker_count; i++)
        worker_request_stop(&rt->workers[i]->worker);
    for (uint32_t i = 0; i < rt->worker_count; i++)
        worker_join(&rt->workers[i]->worker);
    for (uint32_t i = 0; i < rt->worker_count; i++)
        runtime_worker_destroy(rt->workers[i]);
    while (rt->retired) {
        struct snapshot *s = rt->retired;
        rt->retired = s->next_retired;
        snapshot_destroy(s);
    }
    snapshot_destroy(atomic_load(&rt->current));
    for (uint32_t i = 0; i < rt->listener_count; i++) {
        drop_record(rt, i);
        free(rt->listeners[i]);
    }
    free(rt->listeners);
    free(rt->workers);
    tls_tickets_destroy(rt->tickets);
    stat_registry_fini(&rt->stats);
}

uint64_t runtime_counter(const struct runtime *rt, enum counter_id id)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < rt->worker_count; i++)
        sum += counter_read(&rt->workers[i]->worker.counters.c[id]);
    return sum;
}
