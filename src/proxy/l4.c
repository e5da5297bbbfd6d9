// A relayed connection. It owns the relay; of the configuration it keeps nothing but names, so that
// a connection that lasts for days holds no snapshot. Worker's thread.
#include "proxy/l4.h"
#include "proto/l4_relay.h"
#include "proxy/proxy_internal.h"

#define TRIES 3u // of endpoints that do not answer; nothing has been sent to those
#define IDLE_TIMEOUT_NS (3600 * NS_PER_S) // Envoy's tcp_proxy idle_timeout

struct flow {
    struct l4_relay relay;
    struct l4_relay_config cfg;
    struct proxy_conn *conn;
    struct upstream_cluster *cluster;
    struct endpoint *endpoint; // begun on, until the end
    uint32_t tries;
    uint32_t flags;      // enum response_flag
    const char *details; // as in the access log; NULL: none
    uint64_t client_rx, client_tx;
};

void proxy_l4_pools_init(struct proxy_worker *pw, uint32_t cap)
{
    pool_init(&pw->relays, "relays", sizeof(struct flow), cap);
}

void proxy_l4_pools_fini(struct proxy_worker *pw)
{
    pool_fini(&pw->relays);
}

// ---- tries

static bool try_next(struct flow *f)
{
    struct worker *w = f->conn->d.worker;
    struct endpoint *before = f->endpoint;
    const struct endpoint *const avoid[] = {before};
    struct endpoint *e = cluster_choose(f->cluster, &w->rng, avoid, 1);
    if (!e) {
        f->flags |= FLAG_NO_HEALTHY;
        f->details = "no_healthy_upstream";
        return false;
    }
    if (e == before && f->tries > 0)
        return false; // there is no other
    endpoint_begin(e);
    if (before)
        endpoint_end(before);
    f->endpoint = e;
    f->tries++;
    struct tls_target tls;
    if (cluster_tls(f->cluster, (struct slice){NULL, 0}, &tls) != OK) {
        f->flags |= FLAG_CONNECT_FAILURE; // a credential of it is broken
        return false;
    }
    if (l4_relay_try(&f->relay, &e->addr, &tls))
        return true;
    f->flags |= FLAG_OVERFLOW;
    return false;
}

static void on_connect(struct l4_relay *r, void *owner, bool connected)
{
    struct flow *f = owner;
    struct worker *w = f->conn->d.worker;
    if (connected) {
        worker_count(w, upstream_cx_total);
        return;
    }
    worker_count(w, upstream_cx_connect_fail);
    if (f->tries < TRIES && !r->ended && try_next(f))
        return;
    f->flags |= FLAG_CONNECT_FAILURE;
}

// ---- the end

static void on_end(struct l4_relay *r, void *owner)
{
    struct flow *f = owner;
    struct proxy_conn *c = f->conn;
    struct proxy_worker *pw = c->listener->pw;
    (void)r;
    if (f->endpoint)
        endpoint_end(f->endpoint);
    worker_count_n(&pw->worker, tcp_cx_active, (uint64_t)-1);
    pool_put(&pw->relays, f);
    c->d.on_closed(&c->d);
}

static bool drain(struct downstream *d, uint64_t grace_ns)
{
    (void)d;
    (void)grace_ns; // bytes of a relay have no end that could be waited for: until the drain time
    return false;
}

static void close_now(struct downstream *d)
{
    struct flow *f = d->codec;
    if (!f->relay.ended)
        l4_relay_close(&f->relay, L4_END_LOCAL);
}

static const struct downstream_ops relay_ops = {drain, close_now};

// ---- start

static const struct l4_target *choose_target(struct proxy_conn *c)
{
    const struct l4_rule *rule = chain_rule(c->chain, downstream_local(&c->d));
    if (!rule || rule->total_weight == 0)
        return NULL;
    return l4_pick(rule, rng_below(&c->d.worker->rng, rule->total_weight));
}

bool proxy_relay_start(struct proxy_conn *c, struct bufq *first)
{
    struct proxy_worker *pw = c->listener->pw;
    const struct l4_target *target = choose_target(c);
    const struct snapshot *s = c->last ? c->last : proxy_listener_snapshot(c->listener);
    struct upstream_cluster *cluster =
        target && target->cluster ? proxy_worker_cluster(pw, s, target->cluster) : NULL;
    struct flow *f = cluster ? pool_get(&pw->relays) : NULL;
    if (!f) {
        worker_count(&pw->worker, tcp_cx_no_route);
        return false;
    }
    *f = (struct flow){.conn = c, .cluster = cluster};
    f->cfg = (struct l4_relay_config){.idle_timeout_ns = IDLE_TIMEOUT_NS,
                                      .connect_timeout_ns = cluster->connect_timeout_ns,
                                      .on_connect = on_connect,
                                      .on_end = on_end};
    worker_count(&pw->worker, tcp_cx_total);
    worker_count(&pw->worker, tcp_cx_active);
    c->d.ops = &relay_ops;
    c->d.codec = f;
    l4_relay_start(&f->relay, &pw->tcp, c->d.tcp, first, &f->cfg, f);
    if (!try_next(f))
        l4_relay_close(&f->relay, L4_END_CONNECT_FAILED);
    return true;
}
