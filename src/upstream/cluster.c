// A worker's clusters and endpoints: made on first use, updated when the worker meets a newer
// snapshot, freed when nothing points at them. One thread. Invariants: endpoint.refs counts its
// connections and the exchanges on it; cluster.refs counts its endpoints that are still allocated
// plus one while it is in the worker's table.
#include "upstream/cluster.h"
#include "core/check.h"
#include "core/map.h"
#include "proto/downstream.h"
#include "tls/ctx.h"
#include "upstream/wrr.h"
#include <stdlib.h>

static void free_tls(struct upstream_cluster *c)
{
    if (c->tls)
        tls_ctx_put(c->tls);
    free((void *)(uintptr_t)c->host.ptr);
    free((void *)(uintptr_t)c->tls_name.ptr);
}

static struct slice copy(struct slice s)
{
    char *text = malloc(s.len + 1);
    check(text);
    if (s.len)
        memcpy(text, s.ptr, s.len);
    return (struct slice){text, s.len};
}

static void take_tls(struct upstream_cluster *c, const struct cluster_config *cfg)
{
    free_tls(c);
    c->tls_mode = cfg->tls_mode;
    c->tls = cfg->tls ? tls_ctx_get(cfg->tls) : NULL;
    c->host = copy(cfg->host);
    c->tls_name = copy(cfg->tls_name);
}

void cluster_hold(struct upstream_cluster *c)
{
    c->refs++;
}

void cluster_put(struct upstream_cluster *c)
{
    check(c->refs > 0);
    if (--c->refs > 0)
        return;
    free(c->endpoints);
    free(c->weight_ends);
    wrr_destroy(c->wrr);
    free((void *)(uintptr_t)c->name.ptr);
    free_tls(c);
    free(c);
}

static struct endpoint *endpoint_create(struct upstream_cluster *c,
                                        const struct endpoint_config *cfg)
{
    struct endpoint *e = calloc(1, sizeof(*e));
    check(e);
    e->cluster = c;
    e->addr = cfg->addr;
    e->text_len = (uint32_t)addr_format(&cfg->addr, e->text, sizeof(e->text), true);
    e->refs = 1; // of the list
    e->index = UINT32_MAX;
    list_init(&e->idle);
    c->refs++;
    return e;
}

void endpoint_put(struct endpoint *e)
{
    check(e->refs > 0);
    if (--e->refs > 0)
        return;
    struct upstream_cluster *c = e->cluster;
    free(e);
    cluster_put(c);
}

static void endpoint_retire(struct endpoint *e)
{
    e->retired = true;
    endpoint_close_idle(e);
    endpoint_put(e);
}

struct upstream_cluster *cluster_create(struct conn_pool *p, const struct cluster_config *cfg)
{
    struct upstream_cluster *c = calloc(1, sizeof(*c));
    char *name = malloc(cfg->name.len + 1);
    check(c && name);
    memcpy(name, cfg->name.ptr, cfg->name.len);
    name[cfg->name.len] = '\0';
    c->pool = p;
    c->name = (struct slice){name, cfg->name.len};
    c->settings_hash = cfg->settings_hash;
    c->refs = 1;
    c->rr_next = (uint32_t)rng_next(&p->worker->rng); // workers must not start in step
    cluster_update(c, cfg);
    return c;
}

// The endpoints there were, by address. Most reloads leave a cluster as it is, so each is first
// looked for where it was, and the map is made when one is not there. Of two with one address the
// map knows the first; the other is made anew.
struct former {
    struct upstream_cluster *cluster;
    struct map by_addr;
    bool mapped;
    bool same; // so far each has been found where it was, with its weight
};

static struct slice addr_key(const struct addr *a)
{
    return (struct slice){(const char *)&a->sa, a->len};
}

static void map_former(struct former *f)
{
    const struct upstream_cluster *c = f->cluster;
    check(c->endpoints || c->endpoint_count == 0);
    f->mapped = true;
    map_init(&f->by_addr, NULL, c->endpoint_count);
    for (uint32_t i = 0; i < c->endpoint_count; i++) {
        struct endpoint *e = c->endpoints[i];
        if (e && !map_get(&f->by_addr, addr_key(&e->addr)))
            map_put(&f->by_addr, addr_key(&e->addr), &c->endpoints[i]);
    }
}

static struct endpoint *take_former(struct former *f, uint32_t at, const struct addr *addr)
{
    const struct upstream_cluster *c = f->cluster;
    struct endpoint **slot = at < c->endpoint_count ? &c->endpoints[at] : NULL;
    if (!slot || !*slot || !addr_eq(&(*slot)->addr, addr)) {
        f->same = false;
        if (!f->mapped)
            map_former(f);
        slot = map_get(&f->by_addr, addr_key(addr));
    }
    struct endpoint *e = slot ? *slot : NULL;
    if (e)
        *slot = NULL;
    return e;
}

static void set_weight(struct former *f, struct endpoint *e, uint32_t weight)
{
    weight = weight ? weight : 1;
    f->same = f->same && e->weight == weight;
    e->weight = weight;
}

// `same`: all of them are what they were.
static struct endpoint **take_endpoints(struct upstream_cluster *c,
                                        const struct cluster_config *cfg, bool *same)
{
    struct endpoint **next = calloc(cfg->endpoint_count + 1u, sizeof(struct endpoint *));
    struct former former = {.cluster = c, .same = c->endpoint_count == cfg->endpoint_count};
    check(next);
    for (uint32_t i = 0; i < cfg->endpoint_count; i++) {
        next[i] = take_former(&former, i, &cfg->endpoints[i].addr);
        if (!next[i])
            next[i] = endpoint_create(c, &cfg->endpoints[i]);
        set_weight(&former, next[i], cfg->endpoints[i].weight);
    }
    if (former.mapped)
        map_fini(&former.by_addr);
    *same = former.same;
    return next;
}

// Each that stays goes on where it was in its round, with its new share.
static struct wrr *next_round(const struct upstream_cluster *c, struct endpoint *const *next,
                              uint32_t count)
{
    uint32_t *from = calloc(count, sizeof(*from));
    struct wrr *w = wrr_create(count);
    check(from);
    for (uint32_t i = 0; i < count; i++) {
        w->items[i].weight = next[i]->weight;
        from[i] = next[i]->index;
    }
    wrr_start(w, c->wrr, from);
    free(from);
    // Workers must not start in step.
    for (uint32_t n = c->wrr ? 0 : rng_below(&c->pool->worker->rng, count); n > 0; n--)
        (void)wrr_next(w);
    return w;
}

static void set_weights(struct upstream_cluster *c, struct endpoint *const *next,
                        const struct cluster_config *cfg)
{
    uint32_t count = cfg->endpoint_count;
    uint64_t *ends = calloc(count + 1u, sizeof(*ends)), end = 0;
    check(ends);
    c->alike = true;
    for (uint32_t i = 0; i < count; i++) {
        ends[i] = end += next[i]->weight;
        c->alike = c->alike && next[i]->weight == next[0]->weight;
    }
    bool round = !c->alike && cfg->lb == LB_POLICY_ROUND_ROBIN;
    struct wrr *w = round ? next_round(c, next, count) : NULL;
    wrr_destroy(c->wrr);
    c->wrr = w;
    free(c->weight_ends);
    c->weight_ends = ends;
    c->total_weight = end;
    for (uint32_t i = 0; i < count; i++)
        next[i]->index = i;
}

void cluster_update(struct upstream_cluster *c, const struct cluster_config *cfg)
{
    bool same;
    struct endpoint **next = take_endpoints(c, cfg, &same);
    if (!same || !c->weight_ends)
        set_weights(c, next, cfg);
    for (uint32_t i = 0; i < c->endpoint_count; i++)
        if (c->endpoints[i])
            endpoint_retire(c->endpoints[i]);
    free(c->endpoints);
    c->endpoints = next;
    c->endpoint_count = cfg->endpoint_count;
    c->lb = cfg->lb;
    take_tls(c, cfg);
    c->idle_timeout_ns = cfg->idle_timeout_ns;
    c->tcp_idle_timeout_ns = cfg->tcp_idle_timeout_ns;
    c->max_connection_duration_ns = cfg->max_connection_duration_ns;
    c->connect_timeout_ns = cfg->connect_timeout_ns;
    c->proxy_protocol = (enum proxyproto_version)cfg->proxy_protocol;
    c->keepalive = (struct tcp_keepalive){cfg->keepalive, cfg->keepalive_idle_s,
                                          cfg->keepalive_interval_s, cfg->keepalive_probes};
    c->max_requests_per_connection = cfg->max_requests_per_connection;
}

void cluster_retire(struct upstream_cluster *c)
{
    for (uint32_t i = 0; i < c->endpoint_count; i++)
        endpoint_retire(c->endpoints[i]);
    c->endpoint_count = 0;
    cluster_put(c);
}

// Istio's gateways offer these to their own kind only, and AUTO_PASSTHROUGH asks for them.
#define ISTIO_HTTP_ALPN SLICE("\x0eistio-http/1.1\x05istio\x08http/1.1")
#define ISTIO_TCP_ALPN SLICE("\x05istio")
#define TLS_HOST_MAX 255 // RFC 6066, 3 by RFC 1035, 2.3.4

static enum err set_tls(const struct upstream_cluster *c, struct slice host, struct tls_target *out)
{
    *out = (struct tls_target){.pools = c->pool->tls};
    if (c->tls_mode == CLIENT_TLS_DISABLE)
        return OK;
    if (!c->tls)
        return ERR_NOT_FOUND;
    out->ctx = c->tls;
    if (host.len > TLS_HOST_MAX)
        return ERR_INVALID;
    if (c->tls_mode == CLIENT_TLS_ISTIO_MUTUAL)
        out->alpn = host.len ? ISTIO_HTTP_ALPN : ISTIO_TCP_ALPN;
    if (c->tls_name.len)
        host = c->tls_name;
    out->host = host.len ? host : c->host;
    if (out->host.ptr[out->host.len - 1] == '.')
        out->host.len--; // RFC 6066, 3
    return OK;
}

enum err endpoint_dial(const struct endpoint *e, struct downstream *from, struct slice host,
                       struct dial *out)
{
    const struct upstream_cluster *c = e->cluster;
    out->to = &e->addr;
    out->keepalive = c->keepalive;
    out->header_len = 0;
    if (c->proxy_protocol)
        out->header_len = (uint8_t)proxyproto_write(c->proxy_protocol, &from->peer,
                                                    downstream_local(from), out->header);
    return set_tls(c, host, &out->tls);
}

void endpoint_begin(struct endpoint *e)
{
    e->active++;
    e->refs++;
}

void endpoint_end(struct endpoint *e)
{
    check(e->active > 0);
    e->active--;
    endpoint_put(e);
}
