// Idle connections and who waits for room. Invariants: a connection is in its endpoint's list and
// in the worker's exactly while no exchange has it and one may; one that tells who its client is,
// is in that client's list from its beginning and idle only while it is there; waiters <= closing +
// room, so that each waiter has a connection whose end will wake it.
#include "upstream/conn_pool.h"
#include "proto/downstream.h"
#include "tls/ctx.h"
#include "upstream/cluster.h"
#include <errno.h>

// Tells those waiting, in the same turn in which the descriptors have become free. Whoever finds
// them taken again waits for others, or gives up.
static void tell_waiters(struct turn_task *t, struct worker *w)
{
    struct conn_pool *p = container_of(t, struct conn_pool, tell);
    struct list_node *n;
    (void)w;
    while (p->room > 0) {
        p->room--;
        if (!(n = list_pop_head(&p->waiting)))
            continue;
        struct conn_waiter *first = container_of(n, struct conn_waiter, link);
        p->waiters--;
        first->ready(first);
    }
}

void conn_pool_init(struct conn_pool *p, struct worker *w, struct h1_client_pools *clients,
                    struct tls_pools *tls)
{
    *p = (struct conn_pool){.worker = w, .clients = clients, .tls = tls};
    list_init(&p->idle);
    list_init(&p->waiting);
    turn_task_init(&p->tell, tell_waiters);
}

uint32_t conn_pool_close_idle(struct conn_pool *p, uint32_t most)
{
    uint32_t n = 0;
    for (; n < most && !list_empty(&p->idle); n++)
        h1_client_close(h1_client_of_worker_link(p->idle.prev));
    return n;
}

void conn_waiter_init(struct conn_waiter *w, void (*ready)(struct conn_waiter *w))
{
    list_init(&w->link);
    w->ready = ready;
}

void conn_waiter_cancel(struct conn_pool *p, struct conn_waiter *w)
{
    if (!list_linked(&w->link))
        return;
    list_remove(&w->link);
    p->waiters--;
}

void endpoint_close_idle(struct endpoint *e)
{
    while (!list_empty(&e->idle))
        h1_client_part(h1_client_of_link(e->idle.next));
}

// ---- what a connection tells

static void unlink_idle(struct h1_client *h)
{
    list_remove(h1_client_pool_link(h));
    list_remove(h1_client_worker_link(h));
}

static void on_idle_timeout(struct timer *t, uint64_t now_ns)
{
    struct h1_client *h = h1_client_of_timer(t);
    const struct endpoint *e = h1_client_owner(h);
    (void)now_ns;
    worker_count(e->cluster->pool->worker, upstream_cx_idle_timeout);
    h1_client_part(h);
}

static void on_old_age(struct timer *t, uint64_t now_ns)
{
    (void)now_ns;
    h1_client_part(h1_client_of_timer(t));
}

// By maxConnectionDuration; a connection in use goes on until its response has ended.
static uint64_t end_of_life(const struct h1_client *h, const struct upstream_cluster *c)
{
    uint64_t most = c->max_connection_duration_ns;
    return most && h1_client_connected(h) ? h1_client_connected_ns(h) + most : UINT64_MAX;
}

static void arm_idle(struct h1_client *h, const struct upstream_cluster *c)
{
    struct worker *w = c->pool->worker;
    struct timer *t = h1_client_idle_timer(h);
    uint64_t idle = c->idle_timeout_ns ? w->now_ns + c->idle_timeout_ns : UINT64_MAX;
    uint64_t end = end_of_life(h, c);
    t->fire = idle < end ? on_idle_timeout : on_old_age;
    if (idle != UINT64_MAX || end != UINT64_MAX)
        timer_arm(&w->timers, t, idle < end ? idle : end);
}

// One that is still connecting keeps its connect timeout, and comes here again when it has
// connected and still nobody has it.
static void on_idle(struct h1_client *h, void *owner)
{
    struct endpoint *e = owner;
    const struct upstream_cluster *c = e->cluster;
    struct worker *w = c->pool->worker;
    bool worn =
        c->max_requests_per_connection && h1_client_requests(h) >= c->max_requests_per_connection;
    bool orphan = c->proxy_protocol && !list_linked(h1_client_client_link(h));
    if (e->retired || worn || orphan || w->stop || w->now_ns >= end_of_life(h, c)) {
        h1_client_part(h);
        return;
    }
    unlink_idle(h);
    list_insert_head(&c->pool->idle, h1_client_worker_link(h));
    if (!h1_client_connected(h)) {
        list_insert_tail(&e->idle, h1_client_pool_link(h));
        return;
    }
    list_insert_head(&e->idle, h1_client_pool_link(h));
    arm_idle(h, c);
}

static void on_closing(struct h1_client *h, void *owner)
{
    struct endpoint *e = owner;
    unlink_idle(h);
    list_remove(h1_client_client_link(h));
    e->cluster->pool->closing++;
}

static void on_closed(void *owner)
{
    struct endpoint *e = owner;
    struct conn_pool *p = e->cluster->pool;
    p->closing--;
    if (p->waiters > p->room) {
        p->room++;
        worker_defer(p->worker, &p->tell);
    }
    e->connections--;
    e->cluster->connections--;
    endpoint_put(e);
}

static const struct h1_client_events pool_events = {
    .idle = on_idle,
    .closing = on_closing,
    .closed = on_closed,
};

// ---- taking one

static bool used_up(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

// One idle connection is given up for each that waits, unless one is closing anyway.
static enum err wait_for_room(struct conn_pool *p, struct conn_waiter *w)
{
    worker_count(p->worker, upstream_cx_overflow);
    if (p->closing + p->room <= p->waiters && conn_pool_close_idle(p, 1))
        worker_count(p->worker, upstream_cx_evicted);
    if (p->closing + p->room <= p->waiters)
        return ERR_LIMIT;
    list_insert_tail(&p->waiting, &w->link);
    p->waiters++;
    return MORE;
}

static enum err connect_new(struct endpoint *e, const struct dial *dial, struct conn_waiter *w,
                            struct h1_client **out)
{
    struct upstream_cluster *c = e->cluster;
    struct conn_pool *p = c->pool;
    int rc =
        h1_client_connect(p->worker, p->clients, dial, c->connect_timeout_ns, &pool_events, e, out);
    if (rc < 0) {
        errno = -rc;
        return used_up(-rc) ? wait_for_room(p, w) : ERR_IO;
    }
    e->connections++;
    c->connections++;
    e->refs++;
    return OK;
}

#define LOOKS 64u // at connections to other hosts, before one more is opened

// The certificate was checked for one host: a request to another must not be sent there.
static bool serves_host(const struct h1_client *h, const struct tls_target *tls)
{
    bool any = !tls->ctx || !tls_ctx_follows_host(tls->ctx);
    return any || slice_eq_nocase(h1_client_tls_host(h), tls->host);
}

static struct h1_client *find_idle(struct endpoint *e, const struct tls_target *tls)
{
    struct list_node *n = e->idle.next;
    for (uint32_t i = 0; n != &e->idle && i < LOOKS; i++, n = n->next) {
        struct h1_client *h = h1_client_of_link(n);
        if (serves_host(h, tls))
            return h;
    }
    return NULL;
}

static struct h1_client *find_own(const struct endpoint *e, struct downstream *from,
                                  const struct tls_target *tls)
{
    struct list_node *n = from->own_upstreams.next;
    for (uint32_t i = 0; n != &from->own_upstreams && i < LOOKS; i++, n = n->next) {
        struct h1_client *h = h1_client_of_client_link(n);
        if (h1_client_owner(h) == e && list_linked(h1_client_pool_link(h)) && serves_host(h, tls))
            return h;
    }
    return NULL;
}

void conn_pool_client_gone(struct downstream *from)
{
    struct list_node *n;
    while ((n = list_pop_head(&from->own_upstreams))) {
        struct h1_client *h = h1_client_of_client_link(n);
        if (list_linked(h1_client_pool_link(h)))
            h1_client_part(h);
    }
}

enum err endpoint_acquire(struct endpoint *e, struct downstream *from, struct slice host,
                          bool fresh, struct conn_waiter *w, struct h1_client **out)
{
    struct dial dial;
    bool own = e->cluster->proxy_protocol != PROXYPROTO_NONE;
    enum err had = endpoint_dial(e, from, host, &dial);
    if (had != OK)
        return had;
    struct h1_client *h = NULL;
    if (!fresh)
        h = own ? find_own(e, from, &dial.tls) : find_idle(e, &dial.tls);
    if (!h) {
        had = connect_new(e, &dial, w, out);
        if (had == OK && own)
            list_insert_tail(&from->own_upstreams, h1_client_client_link(*out));
        return had;
    }
    unlink_idle(h);
    if (h1_client_connected(h))
        timer_cancel(&e->cluster->pool->worker->timers, h1_client_idle_timer(h));
    *out = h;
    return OK;
}
