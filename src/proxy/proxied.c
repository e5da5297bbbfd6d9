// Reads a PROXY header and learns the client's address by it. Owns what it reads with until the
// header is complete or the connection is gone.
#include "proxy/proxied.h"
#include "core/log.h"
#include "proto/proxyproto.h"

#define FAILURES_LOGGED 20 // a second, of each worker

struct proxied {
    struct proxyproto_reader header;
    struct bufq behind; // of the client, came together with the header's end
};

void proxied_pool_init(struct proxy_worker *pw, uint32_t cap)
{
    pool_init(&pw->proxied, "proxy_headers", sizeof(struct proxied), cap);
}

void proxied_pool_fini(struct proxy_worker *pw)
{
    pool_fini(&pw->proxied);
}

bool proxied_is(const struct proxy_conn *c)
{
    const struct runtime_config *cfg = &c->listener->pw->runtime->cfg;
    for (uint32_t i = 0; i < cfg->proxy_source_count; i++)
        if (addr_prefix_contains(&cfg->proxy_sources[i], &c->d.peer))
            return true;
    return false;
}

void proxied_drop(struct proxy_conn *c)
{
    if (!c->proxied)
        return;
    bufq_clear(&c->proxied->behind);
    pool_put(&c->listener->pw->proxied, c->proxied);
    c->proxied = NULL;
}

// ---- refusing

static void log_failure(const struct proxy_conn *c, const char *reason)
{
    static _Thread_local struct log_limit limit;
    char peer[ADDR_TEXT_MAX];
    if (!log_enabled(LOG_LEVEL_DEBUG) || !log_allow(&limit, c->d.worker->now_ns, FAILURES_LOGGED))
        return;
    size_t n = addr_format(&c->d.peer, peer, sizeof(peer), true);
    log_debug("proxy_header_refused", "peer=%.*s listener=%.*s reason=\"%s\" suppressed=%u", (int)n,
              peer, SLICE_FMT(c->listener->record->name), reason, limit.suppressed);
    limit.suppressed = 0;
}

static void on_timeout(struct timer *t, uint64_t now_ns)
{
    struct proxy_conn *c = container_of(t, struct proxy_conn, timer);
    (void)now_ns;
    worker_count(c->d.worker, downstream_proxy_protocol_timeout);
    log_failure(c, "it took too long");
    tcp_close(c->d.tcp);
}

static void refuse(struct proxy_conn *c, enum err why)
{
    worker_count(c->d.worker, downstream_proxy_protocol_fail);
    log_failure(c, why == ERR_LIMIT ? "it is too long" : "it is none, or malformed");
    tcp_close(c->d.tcp);
}

// ---- reading

static void go_on(struct proxy_conn *c)
{
    struct proxied *p = c->proxied;
    struct bufq behind;
    bufq_init(&behind, p->behind.chunks, p->behind.ring);
    bufq_move(&behind, &p->behind);
    if (p->header.given)
        downstream_set_client(&c->d, &p->header.source, &p->header.destination);
    proxied_drop(c);
    proxy_accept_go_on(c, &behind);
    bufq_clear(&behind);
}

static void on_data(struct tcp *t, const struct slice *data, const uint16_t *bids, uint32_t n)
{
    struct proxy_conn *c = t->owner;
    struct proxied *p = c->proxied;
    enum err e = MORE;
    bool kept = true;
    for (uint32_t i = 0; i < n; i++) {
        struct slice rest = data[i];
        e = proxyproto_feed(&p->header, &rest);
        if (e == OK && rest.len > 0)
            kept = bufq_append_buffer(&p->behind, rest, bids[i]) && kept;
        else
            bufring_put(&t->worker->bufs, bids[i]);
    }
    if (e == OK && kept) {
        go_on(c);
    } else if (e == OK) {
        worker_count(t->worker, downstream_cx_overflow);
        tcp_close(t);
    } else if (e != MORE) {
        refuse(c, e);
    }
}

static void on_eof(struct tcp *t)
{
    worker_count(t->worker, downstream_cx_destroy_remote);
    tcp_close(t);
}

static void on_error(struct tcp *t, int error)
{
    (void)error;
    on_eof(t);
}

static void on_sent(struct tcp *t)
{
    (void)t; // nothing has been
}

static const struct tcp_events events = {
    .on_data = on_data,
    .on_eof = on_eof,
    .on_sent = on_sent,
    .on_error = on_error,
    .on_closed = proxy_accept_gone,
    .counted = true,
    .rx_counter = COUNTER_downstream_rx_bytes,
    .tx_counter = COUNTER_downstream_tx_bytes,
};

void proxied_start(struct proxy_conn *c)
{
    struct proxy_worker *pw = c->listener->pw;
    struct worker *w = &pw->worker;
    c->proxied = pool_get(&pw->proxied);
    if (!c->proxied) {
        worker_count(w, downstream_cx_overflow);
        tcp_close(c->d.tcp);
        return;
    }
    proxyproto_reader_init(&c->proxied->header);
    bufq_init(&c->proxied->behind, &pw->tcp.chunks, &w->bufs);
    c->timer.fire = on_timeout;
    timer_arm(&w->timers, &c->timer, w->now_ns + proxy_accept_timeout_ns(c->listener));
    tcp_hand_over(c->d.tcp, &events, c);
}
