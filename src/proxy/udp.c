// UDP sessions. A listener owns its sessions, a session its socket to the endpoint and, like a
// relayed connection, of the configuration names and statistics only: it pins no snapshot.
//
// Invariants: a session is in `by_client` until it is `parted` or `ended`; it is freed, and its
// place given back, once its socket is closed; the listener's socket is closed after its last
// session. Clients cannot be told from forged addresses, so there is no state but sessions, whose
// number is limited and which end by themselves.
#include "proxy/udp.h"
#include "core/check.h"
#include "core/log.h"
#include "core/ring.h"
#include "core/udp.h"
#include "proxy/flow_end.h"
#include "proxy/proxy_internal.h"
#include <errno.h>
#include <stdlib.h>

#define SENDS_MAX 1024u // in flight, of a worker: more than its buffers

struct proxy_udp {
    struct proxy_listener *listener;
    struct udp socket;
    struct map by_client;      // client_key -> struct session
    struct list_node sessions; // all of them
    bool draining;
};

struct client_key {
    uint8_t client[16], local[16];
    uint32_t scope;
    uint16_t port, family;
};

struct session {
    struct list_node link;
    struct proxy_udp *of;
    struct client_key key;
    struct udp upstream;
    struct downstream client;                          // its addresses
    struct upstream_cluster *cluster;                  // held
    struct endpoint *endpoint;                         // begun on
    struct stat_entry *listener_stats, *cluster_stats; // held; NULL: none
    struct timer timer;
    uint64_t start_ns, last_ns;  // its latest datagram
    uint64_t idle_ns, end_at_ns; // end_at_ns: maxConnectionDuration, 0 = none
    uint64_t rx, tx;             // bytes
    struct addr upstream_local;  // for the log only
    bool parted;                 // not its client's any more
    bool cut_off;                // end_at_ns is because of that
    bool ended;
};

void proxy_udp_pools_init(struct proxy_worker *pw, uint32_t sessions)
{
    pool_init(&pw->udp_sessions, "udp_sessions", sizeof(struct session), sessions);
    udp_sends_init(&pw->udp_sends, SENDS_MAX);
}

void proxy_udp_pools_fini(struct proxy_worker *pw)
{
    pool_fini(&pw->udp_sessions);
    pool_fini(&pw->udp_sends);
}

static struct worker *worker_of(const struct session *s)
{
    return s->upstream.worker;
}

// ---- clients

static void copy_ip(uint8_t to[16], const struct addr *a)
{
    if (a->sa.sa_family == AF_INET)
        memcpy(to, &a->in.sin_addr, 4);
    else
        memcpy(to, &a->in6.sin6_addr, 16);
}

static void make_key(struct client_key *k, const struct udp_datagram *d)
{
    memset(k, 0, sizeof(*k));
    copy_ip(k->client, d->peer);
    copy_ip(k->local, d->local);
    k->family = d->peer->sa.sa_family;
    k->port = addr_port(d->peer);
    if (k->family == AF_INET6)
        k->scope = d->peer->in6.sin6_scope_id;
}

static struct slice key_slice(const struct client_key *k)
{
    return (struct slice){(const char *)k, sizeof(*k)};
}

static void leave_client(struct session *s)
{
    if (!s->parted)
        (void)map_remove(&s->of->by_client, key_slice(&s->key));
    s->parted = true;
}

// ---- the end

static void close_if_done(struct proxy_udp *pu)
{
    if (pu->draining && list_empty(&pu->sessions))
        udp_close(&pu->socket);
}

static void on_session_closed(struct udp *u)
{
    struct session *s = u->owner;
    struct proxy_udp *pu = s->of;
    list_remove(&s->link);
    pool_put(&pu->listener->pw->udp_sessions, s);
    proxy_listener_session_closed(pu->listener);
    close_if_done(pu);
}

static void tell_end(const struct session *s, uint32_t flags, const char *termination)
{
    const struct worker *w = worker_of(s);
    const struct runtime_config *cfg = &s->of->listener->pw->runtime->cfg;
    const struct proxy_flow_end end = {
        .conn = &s->client,
        .start_ns = s->start_ns,
        .end_ns = w->now_ns,
        .bytes_received = s->rx,
        .bytes_sent = s->tx,
        .response_flags = flags,
        .tries = 1,
        .termination = termination,
        .cluster_name = s->cluster->name,
        .upstream_host = {s->endpoint->text, s->endpoint->text_len},
        .server_name = SLICE(""),
        .upstream_local = s->upstream_local,
    };
    if (cfg->on_flow_end)
        cfg->on_flow_end(cfg->on_end_arg, w->cfg.id, &end);
}

static void session_end(struct session *s, uint32_t flags, const char *termination)
{
    struct worker *w = worker_of(s);
    if (s->ended)
        return;
    s->ended = true;
    leave_client(s);
    timer_cancel(&w->timers, &s->timer);
    tell_end(s, flags, termination);
    stat_flow_end(s->listener_stats, flags);
    stat_flow_end(s->cluster_stats, flags);
    worker_count_n(w, udp_sess_active, (uint64_t)-1);
    endpoint_end(s->endpoint);
    cluster_put(s->cluster);
    udp_close(&s->upstream);
}

static uint64_t deadline_of(const struct session *s)
{
    uint64_t idle = s->last_ns + s->idle_ns;
    return s->end_at_ns && s->end_at_ns < idle ? s->end_at_ns : idle;
}

static void on_timer(struct timer *t, uint64_t now_ns)
{
    struct session *s = container_of(t, struct session, timer);
    struct worker *w = worker_of(s);
    if (deadline_of(s) > now_ns) {
        timer_arm(&w->timers, t, deadline_of(s));
    } else if (s->end_at_ns && s->end_at_ns <= now_ns) {
        session_end(s, s->cut_off ? 0 : FLAG_DURATION,
                    s->cut_off ? "route_changed" : "max_connection_duration_reached");
    } else {
        worker_count(w, udp_sess_idle_timeout);
        session_end(s, 0, "udp_session_idle_timeout");
    }
}

// It ends as soon as it has nothing more to carry.
static void end_when_quiet(struct session *s)
{
    if (s->ended || s->idle_ns <= PROXY_UDP_QUIET_NS)
        return;
    s->idle_ns = PROXY_UDP_QUIET_NS;
    timer_arm(&worker_of(s)->timers, &s->timer, deadline_of(s));
}

// However much it has to carry.
static void cut_off_after(struct session *s, uint64_t ns)
{
    uint64_t at = worker_of(s)->now_ns + ns;
    if (s->end_at_ns && s->end_at_ns <= at)
        return;
    s->end_at_ns = at;
    s->cut_off = true;
    timer_arm(&worker_of(s)->timers, &s->timer, deadline_of(s));
}

// ---- what the endpoint sends

static void count_bytes(struct session *s, const struct udp_datagram *d, bool from_client)
{
    struct stat_entry *all[] = {s->listener_stats, s->cluster_stats};
    s->last_ns = worker_of(s)->now_ns;
    *(from_client ? &s->rx : &s->tx) += d->data.len;
    for (int i = 0; i < 2; i++)
        if (all[i])
            counter_add(from_client ? &all[i]->rx_bytes : &all[i]->tx_bytes, d->data.len);
}

static void on_answer(struct udp *u, const struct udp_datagram *d)
{
    struct session *s = u->owner;
    struct worker *w = u->worker;
    struct udp_datagram to_client = *d;
    count_bytes(s, d, false);
    worker_count_n(w, upstream_rx_bytes, d->data.len);
    worker_count_n(w, downstream_tx_bytes, d->data.len);
    worker_count_n(w, udp_tx_datagrams, udp_segments(d));
    to_client.peer = &s->client.peer;
    to_client.local = &s->client.local;
    to_client.ecn = 0; // two paths, each with its own congestion
    udp_send(&s->of->socket, &to_client);
}

// ECONNREFUSED and its like, told by ICMP. Another session may be led to another endpoint.
static void on_unreachable(struct udp *u, int error)
{
    struct session *s = u->owner;
    bool answered = s->tx > 0;
    (void)error;
    if (s->ended)
        return;
    if (!answered) {
        worker_count(u->worker, upstream_cx_connect_fail);
        if (s->cluster_stats)
            counter_add(&s->cluster_stats->cx_connect_fail, 1);
    }
    session_end(s, answered ? FLAG_UPSTREAM_TERMINATION : FLAG_CONNECT_FAILURE, NULL);
}

static const struct udp_events upstream_events = {on_answer, on_unreachable, on_session_closed};

// ---- a new client

struct chosen {
    const struct snapshot *snapshot;
    const struct cluster_config *config;
    struct upstream_cluster *cluster;
    struct endpoint *endpoint;
};

static const struct l4_target *target_of(struct proxy_udp *pu, const struct listener_config *lc,
                                         const struct addr *local)
{
    const struct l4_rule *rule = lc ? chain_rule(lc->any, local) : NULL;
    if (!rule || rule->total_weight == 0)
        return NULL;
    return l4_pick(rule, rng_below(&pu->socket.worker->rng, rule->total_weight));
}

// Not logged: each datagram would be a line.
static void count_refused(struct proxy_udp *pu, const struct listener_config *lc, uint32_t flags)
{
    struct proxy_worker *pw = pu->listener->pw;
    const struct snapshot *s = proxy_listener_snapshot(pu->listener);
    if (lc)
        stat_count_flags(stat_get(pw->stats, s->listener_stats[lc->stat_id]), flags);
    if (flags == FLAG_OVERFLOW)
        worker_count(&pw->worker, udp_sess_overflow);
    else
        worker_count(&pw->worker, udp_sess_no_route);
}

static uint32_t choose(struct proxy_udp *pu, const struct listener_config *lc,
                       const struct addr *local, struct chosen *out)
{
    struct proxy_worker *pw = pu->listener->pw;
    const struct l4_target *target = target_of(pu, lc, local);
    if (!target || !target->cluster)
        return target ? FLAG_NO_CLUSTER : FLAG_NO_ROUTE;
    out->snapshot = proxy_listener_snapshot(pu->listener);
    out->config = target->cluster;
    out->cluster = proxy_worker_cluster(pw, out->snapshot, target->cluster);
    out->endpoint = cluster_choose(out->cluster, &pw->worker.rng, NULL, 0);
    return out->endpoint ? 0 : FLAG_NO_HEALTHY;
}

static void learn_client(struct session *s, const struct udp_datagram *d)
{
    char ip[ADDR_TEXT_MAX];
    struct downstream *c = &s->client;
    c->worker = s->of->socket.worker;
    c->peer = *d->peer;
    c->local = *d->local;
    size_t n = addr_format(&c->peer, ip, sizeof(ip), false);
    c->peer_ip_len = (uint8_t)(n < sizeof(c->peer_ip) ? n : 0);
    memcpy(c->peer_ip, ip, c->peer_ip_len);
}

static void learn_upstream_local(struct session *s)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    if (!s->of->listener->pw->runtime->cfg.on_flow_end ||
        ring_getsockname(s->upstream.fd, &ss, &len) < 0 || len > sizeof(s->upstream_local.in6))
        return;
    memcpy(&s->upstream_local.sa, &ss, len);
    s->upstream_local.len = len;
}

static void session_begin(struct session *s, const struct chosen *c, uint32_t listener_stat)
{
    struct proxy_udp *pu = s->of;
    struct proxy_worker *pw = pu->listener->pw;
    uint64_t longest_ns = c->cluster->max_connection_duration_ns;
    s->cluster = c->cluster;
    s->endpoint = c->endpoint;
    cluster_hold(s->cluster);
    endpoint_begin(s->endpoint);
    s->start_ns = s->last_ns = pw->worker.now_ns;
    s->idle_ns = c->cluster->tcp_idle_timeout_ns;
    if (!s->idle_ns)
        s->idle_ns = pw->runtime->cfg.udp_idle_timeout_ns;
    s->end_at_ns = longest_ns ? s->start_ns + longest_ns : 0;
    timer_init(&s->timer, on_timer);
    timer_arm(&pw->worker.timers, &s->timer, deadline_of(s));
    s->listener_stats = stat_flow_begin(stat_get(pw->stats, listener_stat));
    s->cluster_stats =
        stat_flow_begin(stat_get(pw->stats, c->snapshot->cluster_stats[c->config->index]));
    worker_count(&pw->worker, udp_sess_total);
    worker_count(&pw->worker, udp_sess_active);
    learn_upstream_local(s);
}

static struct session *session_open(struct proxy_udp *pu, const struct chosen *c)
{
    struct proxy_worker *pw = pu->listener->pw;
    struct session *s = pool_get(&pw->udp_sessions);
    if (!s)
        return NULL;
    memset(s, 0, sizeof(*s));
    s->of = pu;
    int rc = udp_connect(&s->upstream, &pw->worker, &pw->udp_sends, &upstream_events, s,
                         &c->endpoint->addr);
    if (rc == 0)
        return s;
    worker_count(&pw->worker, upstream_cx_connect_fail);
    pool_put(&pw->udp_sessions, s);
    return NULL;
}

static struct session *session_create(struct proxy_udp *pu, const struct udp_datagram *d,
                                      const struct client_key *key)
{
    struct proxy_listener *l = pu->listener;
    const struct listener_config *lc = proxy_listener_config(l);
    struct chosen c;
    bool closed = pu->draining || l->pw->shed != SHED_NOTHING;
    uint32_t refused = closed ? FLAG_OVERFLOW : choose(pu, lc, d->local, &c);
    if (!refused && !proxy_listener_admit_session(l))
        refused = FLAG_OVERFLOW;
    if (refused) {
        count_refused(pu, lc, refused);
        return NULL;
    }
    struct session *s = session_open(pu, &c);
    if (!s) {
        count_refused(pu, lc, FLAG_OVERFLOW);
        proxy_listener_session_closed(l);
        return NULL;
    }
    s->key = *key;
    (void)map_put(&pu->by_client, key_slice(&s->key), s);
    list_insert_tail(&pu->sessions, &s->link);
    learn_client(s, d);
    session_begin(s, &c, proxy_listener_snapshot(l)->listener_stats[lc->stat_id]);
    return s;
}

static void on_client(struct udp *u, const struct udp_datagram *d)
{
    struct proxy_udp *pu = u->owner;
    struct worker *w = u->worker;
    struct client_key key;
    struct udp_datagram to_endpoint = *d;
    worker_count_n(w, udp_rx_datagrams, udp_segments(d));
    worker_count_n(w, downstream_rx_bytes, d->data.len);
    make_key(&key, d);
    struct session *s = map_get(&pu->by_client, key_slice(&key));
    if (!s)
        s = session_create(pu, d, &key);
    if (!s) {
        bufring_put(&w->datagrams, d->bid);
        return;
    }
    count_bytes(s, d, true);
    worker_count_n(w, upstream_tx_bytes, d->data.len);
    to_endpoint.peer = to_endpoint.local = NULL;
    to_endpoint.ecn = 0;
    udp_send(&s->upstream, &to_endpoint);
}

// ---- the listener

static void free_listener(struct proxy_udp *pu)
{
    struct proxy_listener *l = pu->listener;
    check(pu->by_client.count == 0 && list_empty(&pu->sessions));
    map_fini(&pu->by_client);
    l->udp = NULL;
    free(pu);
    proxy_listener_closed(l);
}

static void on_closed(struct udp *u)
{
    free_listener(u->owner);
}

static void on_error(struct udp *u, int error)
{
    (void)u;
    (void)error; // of connected sockets only
}

static const struct udp_events client_events = {on_client, on_error, on_closed};

void proxy_udp_start(struct proxy_listener *l, int fd)
{
    struct proxy_worker *pw = l->pw;
    struct proxy_udp *pu = calloc(1, sizeof(*pu));
    check(pu);
    pu->listener = l;
    l->udp = pu;
    map_init(&pu->by_client, NULL, 64);
    list_init(&pu->sessions);
    if (udp_start(&pu->socket, &pw->worker, &pw->udp_sends, &client_events, pu, fd) == OK)
        return;
    log_error("udp_listener_failed", "worker=%u name=%.*s error=\"no memory for its buffers\"",
              pw->worker.cfg.id, SLICE_FMT(l->record->name));
    free_listener(pu);
}

static bool still_meant(const struct session *s, const struct listener_config *lc)
{
    const struct l4_rule *rule = chain_rule(lc->any, &s->client.local);
    if (s->endpoint->retired)
        return false;
    for (uint32_t i = 0; rule && i < rule->target_count; i++)
        if (rule->targets[i].cluster && slice_eq(rule->targets[i].cluster_name, s->cluster->name))
            return true;
    return false;
}

void proxy_udp_adopt(struct proxy_listener *l)
{
    const struct listener_config *lc = l->last ? NULL : proxy_listener_config(l);
    if (!lc)
        return; // it goes, and its sessions with it
    list_for_each_safe (n, tmp, &l->udp->sessions) {
        struct session *s = container_of(n, struct session, link);
        if (s->ended || s->parted || still_meant(s, lc))
            continue;
        leave_client(s);
        cut_off_after(s, l->pw->runtime->cfg.drain_time_ns);
        end_when_quiet(s);
    }
}

void proxy_udp_drain(struct proxy_listener *l)
{
    struct proxy_udp *pu = l->udp;
    pu->draining = true;
    list_for_each_safe (n, tmp, &pu->sessions)
        end_when_quiet(container_of(n, struct session, link));
    close_if_done(pu);
}

void proxy_udp_close(struct proxy_listener *l)
{
    struct proxy_udp *pu = l->udp;
    pu->draining = true;
    list_for_each_safe (n, tmp, &pu->sessions)
        session_end(container_of(n, struct session, link), 0, "listener_closed");
    close_if_done(pu);
}

bool proxy_udp_draining(const struct proxy_listener *l)
{
    return l->udp->draining;
}
