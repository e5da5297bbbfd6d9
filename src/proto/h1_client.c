// Life of a connection to an endpoint: connect, idle in its pool, one exchange after the other,
// close. Owned by its worker; referenced by the pool that asked for it (events) and by
// at most one exchange (stream.x). Invariant: rx is IDLE exactly while stream.x is NULL.
#include "core/check.h"
#include "proto/h1_client_internal.h"
#include <errno.h>

static void on_connected(struct tcp *t);
static void on_sent(struct tcp *t);
static void on_error(struct tcp *t, int error);
static void on_closed(struct tcp *t);

static const struct tcp_events client_tcp_events = {
    .on_data = h1_client_on_data,
    .on_eof = h1_client_on_eof,
    .on_sent = on_sent,
    .on_error = on_error,
    .on_connected = on_connected,
    .on_closed = on_closed,
    .counted = true,
    .rx_counter = COUNTER_upstream_rx_bytes,
    .tx_counter = COUNTER_upstream_tx_bytes,
};

void h1_client_pools_init(struct h1_client_pools *p, uint32_t cap, struct tcp_pools *tcp,
                          struct exchange_pools *exchanges)
{
    pool_init(&p->conns, "h1_client", sizeof(struct h1_client), cap);
    p->tcp = tcp;
    p->exchanges = exchanges;
    list_init(&p->ending);
}

void h1_client_pools_fini(struct h1_client_pools *p)
{
    pool_fini(&p->conns);
}

static void on_connect_timeout(struct timer *t, uint64_t now_ns)
{
    struct h1_client *c = container_of(t, struct h1_client, timer);
    (void)now_ns;
    worker_count(c->tcp->worker, upstream_cx_connect_timeout);
    worker_count(c->tcp->worker, upstream_cx_connect_fail); // includes these, as in Envoy
    h1_client_fail(c, RESET_CONNECT_TIMEOUT);
}

int h1_client_connect(struct worker *w, struct h1_client_pools *p, const struct dial *dial,
                      uint64_t connect_timeout_ns, const struct h1_client_events *events,
                      void *owner, struct h1_client **out)
{
    struct h1_client *c = pool_get(&p->conns);
    if (!c)
        return -EMFILE;
    memset(c, 0, sizeof(*c));
    c->pools = p;
    c->events = events;
    c->owner = owner;
    c->stream.ops = &h1_client_stream_ops;
    list_init(&c->pool_link);
    list_init(&c->worker_link);
    list_init(&c->client_link);
    list_init(&c->ending_link);
    c->tcp = tcp_create(w, p->tcp, &client_tcp_events, c);
    if (!c->tcp) {
        pool_put(&p->conns, c);
        return -EMFILE;
    }
    timer_init(&c->timer, on_connect_timeout);
    int rc = dial_start(dial, c->tcp);
    if (rc < 0) {
        tcp_destroy(c->tcp);
        pool_put(&p->conns, c);
        return rc;
    }
    worker_count(w, upstream_cx_total);
    worker_count(w, upstream_cx_active);
    timer_arm(&w->timers, &c->timer, w->now_ns + connect_timeout_ns);
    *out = c;
    return 0;
}

void h1_client_attach(struct h1_client *c, struct exchange *x)
{
    check(!c->stream.x && c->rx == CLIENT_RX_IDLE);
    c->stream.x = x;
    x->up = &c->stream;
    x->transport_failure = NULL;
    x->upstream_tls_version = c->tls_version;
    c->rx = CLIENT_RX_HEAD;
    c->tx = CLIENT_TX_IDLE;
    c->headbuf.base = NULL;
    c->interim = 0;
    c->keep_alive = true;
}

struct exchange *h1_client_detach(struct h1_client *c)
{
    struct exchange *x = c->stream.x;
    if (x) {
        if (c->headbuf.base) // given up in the middle of a response head
            h1_headbuf_keep(&c->headbuf, x, 0);
        x->up = NULL;
        c->stream.x = NULL;
    }
    return x;
}

static void retire(struct h1_client *c)
{
    check(!c->stream.x);
    c->rx = CLIENT_RX_CLOSED;
    timer_cancel(&c->tcp->worker->timers, &c->timer);
    c->events->closing(c, c->owner);
}

void h1_client_shut(struct h1_client *c)
{
    if (c->rx == CLIENT_RX_CLOSED)
        return;
    retire(c);
    tcp_close(c->tcp);
}

static void begin_end(struct h1_client *c)
{
    check(c->rx == CLIENT_RX_TUNNEL || c->rx == CLIENT_RX_IDLE);
    retire(c);
    list_insert_tail(&c->pools->ending, &c->ending_link);
}

void h1_client_end(struct h1_client *c)
{
    begin_end(c);
    tcp_close_flush(c->tcp);
}

void h1_client_cut(struct h1_client *c)
{
    begin_end(c);
    tcp_reset_flush(c->tcp);
}

void h1_client_close_ending(struct h1_client_pools *p)
{
    list_for_each_safe (n, tmp, &p->ending)
        tcp_close(container_of(n, struct h1_client, ending_link)->tcp);
}

void h1_client_fail(struct h1_client *c, enum reset_reason why)
{
    struct exchange *x = h1_client_detach(c);
    h1_client_shut(c);
    if (x)
        x->handler->upstream_reset(x, why);
}

void h1_client_to_pool(struct h1_client *c)
{
    c->rx = CLIENT_RX_IDLE;
    c->tx = CLIENT_TX_IDLE;
    c->reused = c->connected;
    c->events->idle(c, c->owner);
}

void h1_client_response_done(struct h1_client *c)
{
    bool reusable = c->keep_alive && c->tx == CLIENT_TX_DONE;
    h1_client_detach(c);
    c->requests++;
    if (!reusable) {
        c->rx = CLIENT_RX_IDLE;
        if (c->tx == CLIENT_TX_DONE)
            h1_client_part(c);
        else
            h1_client_shut(c);
        return;
    }
    tcp_resume(c->tcp);
    h1_client_to_pool(c);
}

static void note_tls(struct h1_client *c)
{
    const struct tls_conn *tls = tls_filter_conn(c->tcp);
    struct tls_info info;
    if (!tls)
        return;
    tls_conn_info(tls, &info);
    c->tls_version = info.version;
    if (c->stream.x)
        c->stream.x->upstream_tls_version = info.version;
}

static void on_connected(struct tcp *t)
{
    struct h1_client *c = client_of_tcp(t);
    if (c->rx == CLIENT_RX_CLOSED)
        return;
    timer_cancel(&t->worker->timers, &c->timer);
    c->connected = true;
    c->connected_ns = t->worker->now_ns;
    note_tls(c);
    if (c->stream.x)
        c->stream.x->handler->upstream_ready(c->stream.x);
    else
        h1_client_to_pool(c); // its exchange went away while it was connecting
}

static void on_sent(struct tcp *t)
{
    struct h1_client *c = client_of_tcp(t);
    if (c->stream.x && c->tx != CLIENT_TX_IDLE)
        c->stream.x->handler->upstream_writable(c->stream.x);
}

static void note_failure(struct h1_client *c)
{
    const struct tls_conn *tls = tls_filter_conn(c->tcp);
    if (c->stream.x && tls && tls_conn_failure(tls) != TLS_FAIL_NONE)
        c->stream.x->transport_failure = tls_conn_failure_reason(tls);
}

static void on_error(struct tcp *t, int error)
{
    struct h1_client *c = client_of_tcp(t);
    (void)error;
    if (c->rx == CLIENT_RX_CLOSED)
        return;
    note_failure(c);
    if (!c->connected) {
        worker_count(t->worker, upstream_cx_connect_fail);
        h1_client_fail(c, RESET_CONNECT);
    } else {
        h1_client_fail(c, h1_client_asked(c) ? RESET_REMOTE : RESET_UNSENT);
    }
}

static void on_closed(struct tcp *t)
{
    struct h1_client *c = client_of_tcp(t);
    struct worker *w = t->worker;
    check(!c->stream.x);
    timer_cancel(&w->timers, &c->timer);
    list_remove(&c->ending_link);
    worker_count_n(w, upstream_cx_active, (uint64_t)-1);
    const struct h1_client_events *events = c->events;
    void *owner = c->owner;
    tcp_destroy(t);
    pool_put(&c->pools->conns, c);
    events->closed(owner);
}

void h1_client_close(struct h1_client *c)
{
    h1_client_shut(c);
}

// RFC 8446, 6.1: TLS ends by close_notify, that nobody takes it for cut off.
void h1_client_part(struct h1_client *c)
{
    if (c->tls_version && c->rx == CLIENT_RX_IDLE && !c->tcp->worker->stop)
        h1_client_end(c);
    else
        h1_client_shut(c);
}

bool h1_client_connected(const struct h1_client *c)
{
    return c->connected;
}

bool h1_client_reused(const struct h1_client *c)
{
    return c->reused;
}

struct slice h1_client_tls_host(const struct h1_client *c)
{
    const struct tls_conn *tls = tls_filter_conn(c->tcp);
    return tls ? tls_conn_host(tls) : (struct slice){NULL, 0};
}

uint64_t h1_client_connected_ns(const struct h1_client *c)
{
    return c->connected_ns;
}

uint32_t h1_client_requests(const struct h1_client *c)
{
    return c->requests;
}

struct list_node *h1_client_pool_link(struct h1_client *c)
{
    return &c->pool_link;
}

struct h1_client *h1_client_of_link(struct list_node *n)
{
    return container_of(n, struct h1_client, pool_link);
}

struct list_node *h1_client_worker_link(struct h1_client *c)
{
    return &c->worker_link;
}

struct h1_client *h1_client_of_worker_link(struct list_node *n)
{
    return container_of(n, struct h1_client, worker_link);
}

struct list_node *h1_client_client_link(struct h1_client *c)
{
    return &c->client_link;
}

struct h1_client *h1_client_of_client_link(struct list_node *n)
{
    return container_of(n, struct h1_client, client_link);
}

struct timer *h1_client_idle_timer(struct h1_client *c)
{
    return &c->timer;
}

struct h1_client *h1_client_of_timer(struct timer *t)
{
    return container_of(t, struct h1_client, timer);
}

void *h1_client_owner(const struct h1_client *c)
{
    return c->owner;
}
