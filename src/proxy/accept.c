// Accepting. Owns a client's connection until a codec has it, and the memory of it until it is
// closed. The stages, by the connection's events: a proxy's header is read (proxied.c) -> a
// ClientHello is read (nothing is answered before the chain is known, as the bytes may be another
// server's) -> the handshake -> the codec. Where there is no proxy in front and TLS plays no part
// the codec has the connection at once.
#include "proxy/accept.h"
#include "core/check.h"
#include "core/log.h"
#include "proto/h1_server.h"
#include "proxy/l4.h"
#include "proxy/proxied.h"
#include "tls/ctx.h"
#include "tls/filter.h"
#include "tls/hello.h"
#include "tls/xfcc.h"
#include <stdlib.h>

#define FAILURES_LOGGED 20                   // a second, of each worker
#define HANDSHAKE_TIMEOUT_NS (10 * NS_PER_S) // at most; the hello included

struct accept_tls {
    struct tls_hello hello;
    struct bufq peeked; // what has been received
};

void proxy_accept_pools_init(struct proxy_worker *pw, uint32_t cap)
{
    list_init(&pw->all_conns);
    pool_init(&pw->conns, "client_connections", sizeof(struct proxy_conn), cap);
    pool_init(&pw->hellos, "client_hellos", sizeof(struct accept_tls), cap);
}

void proxy_accept_pools_fini(struct proxy_worker *pw)
{
    check(list_empty(&pw->all_conns));
    pool_fini(&pw->conns);
    pool_fini(&pw->hellos);
}

static struct worker *worker_of(const struct proxy_conn *c)
{
    return &c->listener->pw->worker;
}

// ---- the end

static void drop_hello(struct proxy_conn *c)
{
    if (!c->hello)
        return;
    bufq_clear(&c->hello->peeked);
    pool_put(&c->listener->pw->hellos, c->hello);
    c->hello = NULL;
}

static void conn_gone(struct downstream *d)
{
    struct proxy_conn *c = proxy_conn_of(d);
    struct proxy_listener *l = c->listener;
    struct worker *w = worker_of(c);
    timer_cancel(&w->timers, &c->timer);
    drop_hello(c);
    proxied_drop(c);
    if (c->last) {
        snapshot_unpin(c->last, w->cfg.id);
        worker_count_n(w, snapshot_pins, (uint64_t)-1);
    }
    free((void *)(uintptr_t)d->client_cert.ptr);
    conn_pool_client_gone(d);
    downstream_fini(d);
    list_remove(&d->link);
    worker_count_n(w, downstream_cx_active, (uint64_t)-1);
    pool_put(&l->pw->conns, c);
    proxy_listener_conn_closed(l);
}

void proxy_accept_gone(struct tcp *t)
{
    struct proxy_conn *c = t->owner;
    tcp_destroy(t);
    conn_gone(&c->d);
}

// ---- why a client was not let in

static void log_failure(const struct proxy_conn *c, const char *reason)
{
    static _Thread_local struct log_limit limit;
    char peer[ADDR_TEXT_MAX];
    struct slice sni = c->hello ? tls_hello_sni(&c->hello->hello) : (struct slice){NULL, 0};
    struct slice chain = c->chain ? c->chain->name : (struct slice){NULL, 0};
    if (!log_enabled(LOG_LEVEL_DEBUG) || !log_allow(&limit, worker_of(c)->now_ns, FAILURES_LOGGED))
        return;
    size_t n = addr_format(&c->d.peer, peer, sizeof(peer), true);
    log_debug("tls_handshake_failed",
              "peer=%.*s listener=%.*s chain=%.*s sni=%.*s reason=\"%s\" suppressed=%u", (int)n,
              peer, SLICE_FMT(c->listener->record->name), SLICE_FMT(chain), SLICE_FMT(sni), reason,
              limit.suppressed);
    limit.suppressed = 0;
}

// ---- the codec

static void start_relay(struct proxy_conn *c, struct bufq *first, struct slice server_name)
{
    if (!proxy_relay_start(c, first, server_name))
        tcp_close(c->d.tcp);
    c->chain = NULL; // a relay that goes on needs nothing of the configuration
}

// What has been read of it already, for whoever reads it now.
static void deliver(struct proxy_conn *c, struct bufq *first)
{
    struct iovec iov;
    while (bufq_peek(first, &iov, 1) == 1) {
        struct slice bytes = {iov.iov_base, iov.iov_len};
        uint16_t bid = BUFRING_VOLATILE;
        tcp_deliver(c->d.tcp, &bytes, &bid, 1);
        bufq_consume(first, iov.iov_len);
    }
}

// `first`: see deliver; may be NULL.
static void start_codec(struct proxy_conn *c, struct bufq *first)
{
    struct proxy_worker *pw = c->listener->pw;
    if (!c->chain->routes) {
        start_relay(c, first, SLICE(""));
    } else if (!h1_server_start(&pw->servers, &c->listener->server_cfg, &c->d)) {
        worker_count(&pw->worker, downstream_cx_overflow);
        tcp_close(c->d.tcp);
    } else if (first) {
        deliver(c, first);
    }
}

// ---- TLS

static void on_timeout(struct timer *t, uint64_t now_ns)
{
    struct proxy_conn *c = container_of(t, struct proxy_conn, timer);
    (void)now_ns;
    worker_count(worker_of(c), downstream_tls_handshake_timeout);
    log_failure(c, "it took too long");
    tcp_close(c->d.tcp);
}

static bool speaks_istio(const struct tls_hello *hello)
{
    static const char *const protocols[] = {"istio", "istio-peer-exchange", "istio-http/1.0",
                                            "istio-http/1.1", "istio-h2"};
    uint32_t at = 0;
    struct slice name;
    while (tls_hello_alpn(hello, &at, &name))
        for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++)
            if (slice_eq(name, slice_of(protocols[i])))
                return true;
    return false;
}

// NULL, or why a chain that was found (or not) serves nobody.
static const char *unusable(const struct filter_chain *chain, const struct tls_hello *hello)
{
    if (!chain)
        return "no server is for this name";
    if (chain->terminates_tls && !chain->tls)
        return "the server's credential is missing or broken";
    if (chain->istio_alpn_only && !speaks_istio(hello))
        return "none of Istio's application protocols is offered";
    return NULL;
}

static void terminate(struct proxy_conn *c)
{
    struct proxy_worker *pw = c->listener->pw;
    struct tcp *t = c->d.tcp;
    struct tcp_filter *f = tls_filter_create_server(&pw->tls, c->chain->tls, t);
    struct bufq *peeked = &c->hello->peeked;
    struct iovec iov;
    if (!f) {
        worker_count(&pw->worker, downstream_cx_overflow);
        tcp_close(t);
        return;
    }
    tcp_set_filter(t, f);
    c->d.tls = tls_filter_conn(t);
    while (bufq_peek(peeked, &iov, 1) == 1 && !(t->flags & (TCP_BROKEN | TCP_CLOSE_STARTED))) {
        struct slice bytes = {iov.iov_base, iov.iov_len};
        uint16_t bid = BUFRING_VOLATILE;
        f->ops->input(f, &bytes, &bid, 1);
        bufq_consume(peeked, iov.iov_len);
    }
    drop_hello(c);
}

// No chain, no answer: an alert would tell that TLS is spoken here.
static void choose_chain(struct proxy_conn *c)
{
    const struct listener_config *lc = proxy_listener_config(c->listener);
    struct tls_hello *hello = &c->hello->hello;
    const struct filter_chain *chain =
        lc ? chain_find(&lc->by_name, lc->any, tls_hello_sni(hello)) : NULL;
    const char *why = unusable(chain, hello);
    if (why) {
        worker_count(worker_of(c), no_filter_chain_match);
        proxy_flow_refused(c, tls_hello_sni(hello), FLAG_NO_ROUTE, "filter_chain_not_found",
                           SLICE(""));
        log_failure(c, why);
        tcp_close(c->d.tcp);
        return;
    }
    c->chain = chain;
    if (chain->terminates_tls) {
        terminate(c);
    } else {
        timer_cancel(&worker_of(c)->timers, &c->timer);
        start_relay(c, &c->hello->peeked, tls_hello_sni(hello));
        drop_hello(c);
    }
}

static void count_fault(struct worker *w, enum tls_hello_fault fault)
{
    if (fault == TLS_HELLO_HTTP)
        worker_count(w, downstream_tls_fail_http);
    else if (fault == TLS_HELLO_NOT_TLS || fault == TLS_HELLO_SSLV2)
        worker_count(w, downstream_tls_fail_not_tls);
    else if (fault == TLS_HELLO_FINE)
        worker_count(w, downstream_tls_fail_memory);
    else
        worker_count(w, downstream_tls_fail_protocol);
}

static const char *hello_fault_text(enum tls_hello_fault fault)
{
    static const char *const texts[] = {
        [TLS_HELLO_FINE] = "out of memory",
        [TLS_HELLO_NOT_TLS] = "the client does not speak TLS",
        [TLS_HELLO_HTTP] = "the client speaks HTTP in clear text",
        [TLS_HELLO_SSLV2] = "the client speaks SSLv2",
        [TLS_HELLO_MALFORMED] = "a malformed ClientHello",
        [TLS_HELLO_TOO_LARGE] = "too large a ClientHello",
        [TLS_HELLO_BAD_NAME] = "a server name that is none",
    };
    return texts[fault];
}

static void on_data(struct tcp *t, const struct slice *data, const uint16_t *bids, uint32_t n)
{
    struct proxy_conn *c = t->owner;
    enum err e = MORE;
    bool kept = true;
    for (uint32_t i = 0; i < n; i++) {
        if (e == MORE)
            e = tls_hello_feed(&c->hello->hello, data[i]);
        kept = bufq_append_buffer(&c->hello->peeked, data[i], bids[i]) && kept;
    }
    if (e == OK && kept) {
        choose_chain(c);
    } else if (e != MORE || !kept) {
        count_fault(t->worker, c->hello->hello.fault);
        log_failure(c, hello_fault_text(c->hello->hello.fault));
        tcp_close(t);
    }
}

// Once a connection, at its handshake's end: requests then share the text.
static void learn_client_cert(struct proxy_conn *c)
{
    char buf[4096];
    struct slice leaf = tls_conn_peer_certificate(c->d.tls);
    struct slice by = tls_ctx_own_uri(c->chain->tls);
    size_t len = leaf.len ? xfcc_write(leaf, by, buf, sizeof(buf)) : 0;
    char *text = len ? malloc(len) : NULL;
    if (!text)
        return;
    if (len <= sizeof(buf))
        memcpy(text, buf, len);
    else
        (void)xfcc_write(leaf, by, text, len);
    c->d.client_cert = (struct slice){text, len};
}

static void on_ready(struct tcp *t)
{
    struct proxy_conn *c = t->owner;
    timer_cancel(&t->worker->timers, &c->timer);
    if (c->chain->routes && tls_ctx_client_auth(c->chain->tls) != TLS_CLIENT_AUTH_NONE)
        learn_client_cert(c);
    start_codec(c, NULL);
}

static void client_gone(struct tcp *t)
{
    struct proxy_conn *c = t->owner;
    worker_count(t->worker, downstream_cx_destroy_remote);
    if (c->d.tls)
        log_failure(c, tls_conn_failure_reason(c->d.tls));
    tcp_close(t);
}

static void on_eof(struct tcp *t)
{
    client_gone(t);
}

static void on_error(struct tcp *t, int error)
{
    (void)error;
    client_gone(t);
}

static void on_sent(struct tcp *t)
{
    (void)t; // the handshake is not ours
}

static const struct tcp_events accept_events = {
    .on_data = on_data,
    .on_eof = on_eof,
    .on_sent = on_sent,
    .on_error = on_error,
    .on_connected = on_ready,
    .on_closed = proxy_accept_gone,
    .counted = true,
    .rx_counter = COUNTER_downstream_rx_bytes,
    .tx_counter = COUNTER_downstream_tx_bytes,
};

static bool accept_drain(struct downstream *d, uint64_t grace_ns)
{
    (void)d;
    (void)grace_ns; // its codec will know that the listener is going
    return false;
}

static void accept_close(struct downstream *d)
{
    tcp_close(d->tcp);
}

static const struct downstream_ops accept_ops = {accept_drain, accept_close};

// ---- accept

// Whoever waits less for a head does not wait longer for what comes in front of it.
uint64_t proxy_accept_timeout_ns(const struct proxy_listener *l)
{
    uint64_t head_ns = l->server_cfg.head_timeout_ns;
    return head_ns < HANDSHAKE_TIMEOUT_NS ? head_ns : HANDSHAKE_TIMEOUT_NS;
}

static bool read_hello(struct proxy_conn *c)
{
    struct proxy_worker *pw = c->listener->pw;
    c->hello = pool_get(&pw->hellos);
    if (!c->hello) {
        worker_count(&pw->worker, downstream_cx_overflow);
        tcp_close(c->d.tcp);
        return false;
    }
    tls_hello_init(&c->hello->hello);
    bufq_init(&c->hello->peeked, &pw->tcp.chunks, &pw->worker.bufs);
    return true;
}

void proxy_accept_go_on(struct proxy_conn *c, struct bufq *first)
{
    const struct listener_config *lc = proxy_listener_config(c->listener);
    if (lc && lc->tls && read_hello(c)) {
        c->timer.fire = on_timeout; // at the time that the header had, too
        tcp_hand_over(c->d.tcp, &accept_events, c);
        deliver(c, first);
    } else if (lc && !lc->tls) {
        timer_cancel(&worker_of(c)->timers, &c->timer);
        c->chain = lc->any;
        start_codec(c, first);
    } else {
        tcp_close(c->d.tcp);
    }
}

static struct proxy_conn *conn_create(struct proxy_listener *l, int fd)
{
    struct proxy_worker *pw = l->pw;
    struct worker *w = &pw->worker;
    struct proxy_conn *c = pool_get(&pw->conns);
    struct tcp *t = c ? tcp_create(w, &pw->tcp, &accept_events, c) : NULL;
    if (!t) {
        pool_put(&pw->conns, c);
        return NULL;
    }
    *c = (struct proxy_conn){
        .d = {.worker = w, .tcp = t, .ops = &accept_ops, .on_closed = conn_gone}, .listener = l};
    list_init(&c->d.own_upstreams);
    timer_init(&c->timer, on_timeout);
    downstream_learn_peer(&c->d, fd);
    list_insert_tail(&pw->all_conns, &c->d.link);
    worker_count(w, downstream_cx_total);
    worker_count(w, downstream_cx_active);
    return c;
}

bool proxy_accept(struct proxy_listener *l, int fd)
{
    const struct listener_config *lc = proxy_listener_config(l);
    struct proxy_conn *c = lc ? conn_create(l, fd) : NULL;
    if (!c) {
        worker_count(&l->pw->worker, downstream_cx_overflow);
        ring_close(fd);
        return false;
    }
    struct worker *w = &l->pw->worker;
    if (proxied_is(c)) {
        proxied_start(c);
    } else if (!lc->tls) {
        c->chain = lc->any;
        if (!c->chain->routes)
            downstream_learn_local(&c->d, fd); // its rules ask for it before it is open
        start_codec(c, NULL);
    } else if (read_hello(c)) {
        timer_arm(&w->timers, &c->timer, w->now_ns + proxy_accept_timeout_ns(l));
    }
    tcp_open(c->d.tcp, fd);
    return true;
}

// ---- reload

static const struct filter_chain *same_chain(const struct listener_config *lc,
                                             const struct filter_chain *before)
{
    struct slice name = before->name_count ? before->names[0] : (struct slice){NULL, 0};
    const struct filter_chain *now =
        name.len ? map_get(&lc->by_name, name) : (struct filter_chain *)(uintptr_t)lc->any;
    if (!now || !slice_eq(now->name, before->name) || !now->routes != !before->routes)
        return NULL;
    if (!before->terminates_tls && !now->terminates_tls)
        return now;
    bool same = before->tls && now->tls &&
                memcmp(tls_ctx_policy(before->tls), tls_ctx_policy(now->tls), 32) == 0;
    return same ? now : NULL;
}

static void adopt_one(struct proxy_conn *c, struct snapshot *old, const struct snapshot *now)
{
    struct worker *w = worker_of(c);
    const struct listener_config *lc = snapshot_listener(now, c->listener->id);
    // Of a listener that goes it is served by that one's last snapshot.
    if (!c->chain || c->last || c->listener->last || !lc)
        return;
    const struct filter_chain *chain = same_chain(lc, c->chain);
    if (chain) {
        c->chain = chain;
        return;
    }
    c->last = old;
    snapshot_pin(old, w->cfg.id);
    worker_count(w, snapshot_pins);
    (void)c->d.ops->drain(&c->d, H1_SERVER_DRAIN_GRACE_NS);
}

void proxy_conns_adopt(struct proxy_worker *pw, struct snapshot *old, const struct snapshot *now)
{
    list_for_each_safe (n, tmp, &pw->all_conns)
        adopt_one(proxy_conn_of(container_of(n, struct downstream, link)), old, now);
}

uint32_t proxy_conns_drain(struct proxy_worker *pw, const struct proxy_listener *l,
                           uint64_t grace_ns)
{
    uint32_t closed = 0;
    list_for_each_safe (n, tmp, &pw->all_conns) {
        struct downstream *d = container_of(n, struct downstream, link);
        if (!l || proxy_conn_of(d)->listener == l)
            closed += d->ops->drain(d, grace_ns);
    }
    return closed;
}

void proxy_conns_close(struct proxy_worker *pw, const struct proxy_listener *l)
{
    list_for_each_safe (n, tmp, &pw->all_conns) {
        struct downstream *d = container_of(n, struct downstream, link);
        if (!l || proxy_conn_of(d)->listener == l)
            d->ops->close(d);
    }
}
