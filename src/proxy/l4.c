// A relayed connection. It owns the relay; of the configuration it keeps nothing but names, so that
// a connection that lasts for days holds no snapshot. Worker's thread.
#include "proxy/l4.h"
#include "core/ring.h"
#include "proto/l4_decode.h"
#include "proto/l4_relay.h"
#include "proxy/flow_end.h"
#include "proxy/proxy_internal.h"
#include "tls/conn.h"
#include "tls/hello.h"

// A direction goes over to splice(2) once it has brought so much in pieces of at least a receive
// buffer's size: below that copying costs the same, and round trips cost less (ARCHITECTURE.md).
static const struct splice_limits splice_limits = {.after = 256 * 1024, .large = 8192};

#define TRIES 3u // of endpoints that do not answer; nothing has been sent to those

struct flow {
    struct l4_relay relay;
    struct l4_relay_config cfg;
    struct proxy_conn *conn;
    struct upstream_cluster *cluster;                  // held
    struct endpoint *endpoint;                         // begun on, until the end
    struct stat_entry *listener_stats, *cluster_stats; // held; NULL: none
    struct timer duration;                             // maxConnectionDuration
    struct l4_decoder *decoder;                        // NULL: its bytes are not looked at
    struct stat_ops *listener_ops, *cluster_ops;       // what that counts in; NULL: none
    uint32_t tries;
    uint32_t flags;             // enum response_flag
    struct addr upstream_local; // for the log only
    uint16_t server_name_len;
    char server_name[TLS_SNI_MAX];
};

void proxy_l4_pools_init(struct proxy_worker *pw, uint32_t cap)
{
    pool_init(&pw->relays, "relays", sizeof(struct flow), cap);
    pool_init(&pw->decoders, "l4_decoders", sizeof(struct l4_decoder), cap);
}

void proxy_l4_pools_fini(struct proxy_worker *pw)
{
    pool_fini(&pw->relays);
    pool_fini(&pw->decoders);
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
        return false;
    }
    if (e == before && f->tries > 0)
        return false; // there is no other
    endpoint_begin(e);
    if (before)
        endpoint_end(before);
    f->endpoint = e;
    f->tries++;
    struct dial dial;
    if (endpoint_dial(e, &f->conn->d, (struct slice){NULL, 0}, &dial) != OK) {
        f->flags |= FLAG_CONNECT_FAILURE; // a credential of it is broken
        return false;
    }
    if (l4_relay_try(&f->relay, &dial))
        return true;
    f->flags |= FLAG_OVERFLOW;
    return false;
}

static void learn_upstream_local(struct flow *f, int fd)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    if (ring_getsockname(fd, &ss, &len) < 0 || len > sizeof(struct sockaddr_un))
        return;
    memcpy(&f->upstream_local, &ss, len);
    f->upstream_local.len = len;
}

static void on_connect(struct l4_relay *r, void *owner, bool connected)
{
    struct flow *f = owner;
    struct worker *w = f->conn->d.worker;
    if (connected) {
        worker_count(w, upstream_cx_total);
        if (f->conn->listener->pw->runtime->cfg.on_flow_end)
            learn_upstream_local(f, r->upstream->fd);
        return;
    }
    worker_count(w, upstream_cx_connect_fail);
    if (f->cluster_stats)
        counter_add(&f->cluster_stats->cx_connect_fail, 1);
    if (f->tries < TRIES && !r->ended && try_next(f))
        return;
    f->flags |= FLAG_CONNECT_FAILURE | FLAG_RETRY_LIMIT; // "UF,URX", as Envoy's tcp_proxy
}

// ---- statistics and the log

static void on_bytes(void *owner, bool from_client, uint64_t n)
{
    struct flow *f = owner;
    struct stat_entry *all[] = {f->listener_stats, f->cluster_stats};
    for (int i = 0; i < 2; i++)
        if (all[i])
            counter_add(from_client ? &all[i]->rx_bytes : &all[i]->tx_bytes, n);
}

// ---- looking at the bytes

static void on_op(void *flow, enum l4_op op)
{
    struct flow *f = flow;
    struct stat_ops *all[] = {f->listener_ops, f->cluster_ops};
    for (int i = 0; i < 2; i++)
        if (all[i])
            counter_add(&all[i]->c[op], 1);
}

static void stop_looking(struct flow *f)
{
    f->relay.watched = false;
    pool_put(&f->conn->listener->pw->decoders, f->decoder);
    f->decoder = NULL;
}

static void on_look(void *owner, bool from_client, struct slice bytes)
{
    struct flow *f = owner;
    l4_decode(f->decoder, from_client, bytes);
    if (f->decoder->stopped)
        stop_looking(f);
}

static enum l4_protocol protocol_of(const struct l4_rule *rule)
{
    switch (rule->protocol) {
    case PROTO_MONGO:
        return L4_MONGO;
    case PROTO_MYSQL:
        return L4_MYSQL;
    case PROTO_REDIS:
        return L4_REDIS;
    default:
        return L4_PLAIN;
    }
}

// Where there is no memory for it the connection goes on without.
static void begin_looking(struct flow *f, const struct snapshot *s, const struct l4_rule *rule,
                          uint32_t cluster)
{
    const struct proxy_listener *l = f->conn->listener;
    struct proxy_worker *pw = l->pw;
    const struct listener_config *lc = snapshot_listener(s, l->id);
    enum l4_protocol protocol = protocol_of(rule);
    bool wanted = protocol != L4_PLAIN && pw->runtime->cfg.look_at[protocol];
    f->decoder = wanted ? pool_get(&pw->decoders) : NULL;
    if (!f->decoder)
        return;
    l4_decoder_init(f->decoder, protocol, on_op, f);
    f->listener_ops = lc ? stat_ops_get(pw->stats, s->listener_stats[lc->stat_id]) : NULL;
    f->cluster_ops = stat_ops_get(pw->stats, s->cluster_stats[cluster]);
    f->cfg.on_look = on_look;
}

static struct stat_entry *listener_entry(struct proxy_conn *c, const struct snapshot *s)
{
    const struct listener_config *lc = snapshot_listener(s, c->listener->id);
    return lc ? stat_get(c->listener->pw->stats, s->listener_stats[lc->stat_id]) : NULL;
}

static void log_end(const struct proxy_conn *c, const struct proxy_flow_end *end)
{
    const struct worker *w = c->d.worker;
    const struct runtime_config *cfg = &c->listener->pw->runtime->cfg;
    if (cfg->on_flow_end)
        cfg->on_flow_end(cfg->on_end_arg, w->cfg.id, end);
}

void proxy_flow_refused(struct proxy_conn *c, struct slice server_name, uint32_t flags,
                        const char *details, struct slice cluster_name)
{
    uint64_t now = c->d.worker->now_ns;
    const struct snapshot *s = c->last ? c->last : proxy_listener_snapshot(c->listener);
    struct stat_entry *e = listener_entry(c, s);
    if (e) {
        counter_add(&e->cx_total, 1);
        stat_count_flags(e, flags);
    }
    (void)downstream_local(&c->d);
    log_end(c, &(struct proxy_flow_end){.conn = &c->d,
                                        .start_ns = now,
                                        .end_ns = now,
                                        .response_flags = flags,
                                        .details = details,
                                        .cluster_name = cluster_name,
                                        .server_name = server_name});
}

// ---- the end

static uint32_t flags_of(enum l4_end end)
{
    if (end == L4_END_CLIENT_RESET)
        return FLAG_DOWNSTREAM_TERMINATION;
    return end == L4_END_UPSTREAM_RESET ? FLAG_UPSTREAM_TERMINATION : 0;
}

static const char *termination_of(const struct flow *f)
{
    if (f->flags & FLAG_DURATION)
        return "max_connection_duration_reached";
    return f->relay.end == L4_END_IDLE ? "tcp_session_idle_timeout" : NULL;
}

static void tell_end(const struct flow *f)
{
    const struct l4_relay *r = &f->relay;
    const struct endpoint *e = f->endpoint;
    log_end(f->conn, &(struct proxy_flow_end){
                         .conn = &f->conn->d,
                         .start_ns = r->start_ns,
                         .end_ns = r->end_ns,
                         .bytes_received = r->rx,
                         .bytes_sent = r->tx,
                         .response_flags = f->flags,
                         .tries = f->tries,
                         .termination = termination_of(f),
                         .transport_failure = r->connected ? NULL : r->transport_failure,
                         .cluster_name = f->cluster->name,
                         .upstream_host = {e ? e->text : NULL, e ? e->text_len : 0},
                         .server_name = {f->server_name, f->server_name_len},
                         .upstream_local = f->upstream_local,
                     });
}

static void on_end(struct l4_relay *r, void *owner)
{
    struct flow *f = owner;
    struct proxy_conn *c = f->conn;
    struct proxy_worker *pw = c->listener->pw;
    timer_cancel(&pw->worker.timers, &f->duration);
    f->flags |= flags_of(r->end);
    stat_flow_end(f->listener_stats, f->flags);
    stat_flow_end(f->cluster_stats, f->flags);
    tell_end(f);
    if (f->decoder)
        stop_looking(f);
    if (f->endpoint)
        endpoint_end(f->endpoint);
    cluster_put(f->cluster);
    worker_count_n(&pw->worker, tcp_cx_active, (uint64_t)-1);
    pool_put(&pw->relays, f);
    c->d.on_closed(&c->d);
}

static void on_duration(struct timer *t, uint64_t now_ns)
{
    struct flow *f = container_of(t, struct flow, duration);
    (void)now_ns;
    if (f->relay.ended)
        return;
    f->flags |= FLAG_DURATION;
    l4_relay_close(&f->relay, L4_END_LOCAL);
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

static const struct l4_target *choose_target(struct proxy_conn *c, const struct l4_rule *rule)
{
    if (!rule || rule->total_weight == 0)
        return NULL;
    return l4_pick(rule, rng_below(&c->d.worker->rng, rule->total_weight));
}

static struct flow *flow_create(struct proxy_conn *c, const struct snapshot *s,
                                const struct cluster_config *cfg, struct slice server_name)
{
    struct proxy_worker *pw = c->listener->pw;
    struct upstream_cluster *cluster = proxy_worker_cluster(pw, s, cfg);
    struct flow *f = cluster ? pool_get(&pw->relays) : NULL;
    if (!f)
        return NULL;
    *f = (struct flow){.conn = c, .cluster = cluster};
    f->cfg = (struct l4_relay_config){.splice = splice_limits,
                                      .idle_timeout_ns = cluster->tcp_idle_timeout_ns,
                                      .connect_timeout_ns = cluster->connect_timeout_ns,
                                      .on_connect = on_connect,
                                      .on_bytes = on_bytes,
                                      .on_end = on_end};
    timer_init(&f->duration, on_duration);
    if (cluster->max_connection_duration_ns)
        timer_arm(&pw->worker.timers, &f->duration,
                  pw->worker.now_ns + cluster->max_connection_duration_ns);
    cluster_hold(cluster);
    f->listener_stats = stat_flow_begin(listener_entry(c, s));
    f->cluster_stats = stat_flow_begin(stat_get(pw->stats, s->cluster_stats[cfg->index]));
    f->server_name_len = (uint16_t)server_name.len;
    memcpy(f->server_name, server_name.ptr, server_name.len);
    return f;
}

// The name of a terminated connection is its TLS's, which is gone before the relay's end.
static struct slice name_of(const struct proxy_conn *c, struct slice server_name)
{
    struct tls_info info;
    if (server_name.len || !c->d.tls)
        return server_name.ptr ? server_name : SLICE("");
    tls_conn_info(c->d.tls, &info);
    return info.sni.ptr && info.sni.len <= TLS_SNI_MAX ? info.sni : SLICE("");
}

bool proxy_relay_start(struct proxy_conn *c, struct bufq *first, struct slice server_name)
{
    struct proxy_worker *pw = c->listener->pw;
    const struct l4_rule *rule = chain_rule(c->chain, downstream_local(&c->d));
    const struct l4_target *target = choose_target(c, rule);
    const struct snapshot *s = c->last ? c->last : proxy_listener_snapshot(c->listener);
    struct slice name = name_of(c, server_name);
    struct flow *f = target && target->cluster ? flow_create(c, s, target->cluster, name) : NULL;
    if (!f) {
        bool no_memory = target && target->cluster;
        uint32_t flag = no_memory ? FLAG_OVERFLOW : target ? FLAG_NO_CLUSTER : FLAG_NO_ROUTE;
        worker_count(&pw->worker, tcp_cx_no_route);
        proxy_flow_refused(c, name, flag, NULL, target ? target->cluster_name : SLICE(""));
        return false;
    }
    worker_count(&pw->worker, tcp_cx_total);
    worker_count(&pw->worker, tcp_cx_active);
    begin_looking(f, s, rule, target->cluster->index);
    c->d.ops = &relay_ops;
    c->d.codec = f;
    l4_relay_start(&f->relay, &pw->tcp, c->d.tcp, first, &f->cfg, f);
    if (!try_next(f))
        l4_relay_close(&f->relay, L4_END_CONNECT_FAILED);
    return true;
}
