// The glue between tcp and a tls_conn. Owns the tls_conn. Worker's thread.
//
// Invariant: plaintext that is not inside the buffer that came (BUFRING_VOLATILE) is delivered
// before the connection is read on, for it lies where the next record will.
#include "tls/filter_parts.h"
#include <errno.h>

#define BATCH 32                   // slices handed over at once
#define PIECES 64                  // of output looked at together
#define TLS_WIRE_MAX (64u * 1024u) // records sealed ahead of the socket

_Static_assert(sizeof(struct tls_filter) <= TLS_FILTER_BYTES, "as the pool was told");

struct batch {
    struct slice data[BATCH];
    uint16_t bids[BATCH];
    uint32_t n;
};

// --- counting ---

static const struct {
    enum counter_id down, up;
} failure_counters[TLS_FAIL_COUNT] = {
    [TLS_FAIL_NONE] = {DOWN(fail_aborted), UP(fail_aborted)},
    [TLS_FAIL_HTTP] = {DOWN(fail_http), UP(fail_protocol)},
    [TLS_FAIL_NOT_TLS] = {DOWN(fail_not_tls), UP(fail_protocol)},
    [TLS_FAIL_VERSION] = {DOWN(fail_version), UP(fail_protocol)},
    [TLS_FAIL_CIPHER] = {DOWN(fail_cipher), UP(fail_protocol)},
    [TLS_FAIL_ALPN] = {DOWN(fail_protocol), UP(fail_protocol)},
    [TLS_FAIL_NO_CERTIFICATE] = {DOWN(fail_no_certificate), UP(fail_certificate)},
    [TLS_FAIL_CERTIFICATE] = {DOWN(fail_certificate), UP(fail_certificate)},
    [TLS_FAIL_NAME] = {DOWN(fail_name), UP(fail_name)},
    [TLS_FAIL_PIN] = {DOWN(fail_pin), UP(fail_pin)},
    [TLS_FAIL_ALERT] = {DOWN(fail_alert), UP(fail_alert)},
    [TLS_FAIL_RECORD] = {DOWN(fail_record), UP(fail_protocol)},
    [TLS_FAIL_FLOOD] = {DOWN(fail_flood), UP(fail_protocol)},
    [TLS_FAIL_RENEGOTIATION] = {DOWN(fail_renegotiation), UP(fail_protocol)},
    [TLS_FAIL_TRUNCATED] = {DOWN(fail_aborted), UP(fail_aborted)},
    [TLS_FAIL_MEMORY] = {DOWN(fail_memory), UP(fail_memory)},
    [TLS_FAIL_KEY_CHANGE] = {DOWN(fail_key_change), UP(fail_key_change)},
    [TLS_FAIL_PROTOCOL] = {DOWN(fail_protocol), UP(fail_protocol)},
};

void tls_filter_count(const struct tls_filter *f, enum counter_id down, enum counter_id up)
{
    counter_add(&f->base.tcp->worker->counters.c[f->server ? down : up], 1);
}

static void count_handshake(const struct tls_filter *f)
{
    struct tls_info info;
    tls_conn_info(f->conn, &info);
    tls_filter_count(f, DOWN(handshakes), UP(handshakes));
    if (info.resumed)
        tls_filter_count(f, DOWN(resumed), UP(resumed));
}

static void count_failure(const struct tls_filter *f)
{
    enum tls_failure failure = tls_conn_failure(f->conn);
    tls_filter_count(f, failure_counters[failure].down, failure_counters[failure].up);
}

// --- what tcp calls ---

void tls_filter_fail(struct tls_filter *f)
{
    tls_filter_say_why(f);
    tcp_filter_fail(f->base.tcp, tls_conn_failure(f->conn) == TLS_FAIL_MEMORY ? ENOMEM : EPROTO);
}

static void on_start(struct tcp_filter *base)
{
    struct tls_filter *f = tls_filter_of(base);
    if (tls_conn_start(f->conn) != OK)
        tls_filter_fail(f);
    tcp_flush(base->tcp);
}

static void deliver(struct tcp *t, struct batch *b)
{
    uint32_t n = b->n;
    b->n = 0;
    if (n > 0)
        tcp_deliver(t, b->data, b->bids, n);
}

static void add(struct tcp *t, struct batch *b, const struct tls_plain *plain, uint16_t bid)
{
    uint16_t mine = plain->in_place ? bid : BUFRING_VOLATILE;
    bufring_get(&t->worker->bufs, mine);
    b->data[b->n] = plain->bytes;
    b->bids[b->n++] = mine;
    if (b->n == BATCH || !plain->in_place)
        deliver(t, b);
}

// The handshake's end is told before the first byte behind it is.
static void note_ready(struct tls_filter *f)
{
    struct tcp *t = f->base.tcp;
    if ((t->flags & TCP_READY) || !tls_conn_is_established(f->conn))
        return;
    count_handshake(f);
    tls_filter_ask_kernel(f);
    tcp_ready(t);
}

// One slice; false when nothing behind it matters any more.
static bool read_slice(struct tls_filter *f, struct slice in, uint16_t bid, struct batch *b)
{
    struct tcp *t = f->base.tcp;
    struct tls_plain plain;
    enum tls_read r = TLS_DATA;
    while (r == TLS_DATA && !(t->flags & OVER)) {
        r = tls_conn_read(f->conn, &in, &plain);
        note_ready(f);
        if (r == TLS_DATA)
            add(t, b, &plain, bid);
    }
    if (r == TLS_MORE && !(t->flags & OVER))
        return true;
    deliver(t, b);
    if (r == TLS_CLOSED)
        tcp_deliver_eof(t);
    else if (r == TLS_FAILED)
        tls_filter_fail(f);
    return false;
}

static void on_input(struct tcp_filter *base, const struct slice *data, const uint16_t *bids,
                     uint32_t n)
{
    struct tls_filter *f = tls_filter_of(base);
    struct tcp *t = base->tcp;
    struct batch b = {.n = 0};
    bool go_on = true;
    for (uint32_t i = 0; i < n; i++) {
        go_on = go_on && read_slice(f, data[i], bids[i], &b);
        bufring_put(&t->worker->bufs, bids[i]);
    }
    deliver(t, &b);
    if (t->wire.bytes > 0)
        tcp_flush(t);
}

static void on_output(struct tcp_filter *base)
{
    struct tls_filter *f = tls_filter_of(base);
    struct tcp *t = base->tcp;
    struct iovec iov[PIECES];
    enum err e = OK;
    if (tls_filter_give_sending(f))
        return;
    while (e == OK && t->out.bytes > 0 && t->wire.bytes < TLS_WIRE_MAX) {
        size_t taken = 0;
        uint32_t n = bufq_peek(&t->out, iov, PIECES);
        e = tls_conn_write(f->conn, iov, n, t->worker->now_ns, TLS_WIRE_MAX, &taken);
        bufq_consume(&t->out, taken);
    }
    // Without memory it goes on when some of the wire has been sent; with nothing there it never
    // would.
    if (e == ERR_CLOSED)
        tls_filter_fail(f);
    else if (e != OK && t->wire.bytes == 0)
        tcp_filter_fail(t, ENOMEM);
}

static void on_finish(struct tcp_filter *base)
{
    struct tls_filter *f = tls_filter_of(base);
    if (base->tcp->flags & TCP_PLAIN_TX)
        tls_filter_close_notify(f);
    else
        tls_conn_close(f->conn);
}

static void on_destroy(struct tcp_filter *base)
{
    struct tls_filter *f = tls_filter_of(base);
    if (!tls_conn_is_established(f->conn) || tls_conn_failure(f->conn) != TLS_FAIL_NONE)
        count_failure(f);
    tls_conn_destroy(f->conn);
    pool_put(&f->pools->filters, f);
}

static const struct tcp_filter_ops ops = {.start = on_start,
                                          .input = on_input,
                                          .output = on_output,
                                          .finish = on_finish,
                                          .destroy = on_destroy,
                                          .receive = tls_filter_receive,
                                          .receive_failed = tls_filter_receive_failed,
                                          .record_sent = tls_filter_record_sent};

// --- life ---

static struct tcp_filter *wrap(struct tls_pools *p, struct tls_conn *conn, bool server)
{
    struct tls_filter *f = conn ? pool_get(&p->filters) : NULL;
    if (!f) {
        tls_conn_destroy(conn);
        return NULL;
    }
    *f = (struct tls_filter){.base.ops = &ops, .pools = p, .conn = conn, .server = server};
    return &f->base;
}

struct tcp_filter *tls_filter_create_server(struct tls_pools *p, struct tls_ctx *ctx, struct tcp *t)
{
    return wrap(p, tls_conn_create_server(p, ctx, &t->wire), true);
}

struct tcp_filter *tls_filter_create_client(struct tls_pools *p, struct tls_ctx *ctx,
                                            struct slice host, struct slice alpn, struct tcp *t)
{
    return wrap(p, tls_conn_create_client(p, ctx, host, alpn, &t->wire), false);
}

bool tls_filter_connect(const struct tls_target *to, struct tcp *t)
{
    if (!to->ctx)
        return true;
    struct tcp_filter *f = tls_filter_create_client(to->pools, to->ctx, to->host, to->alpn, t);
    if (f)
        tcp_set_filter(t, f);
    return f != NULL;
}

const struct tls_conn *tls_filter_conn(const struct tcp *t)
{
    if (!t->filter || t->filter->ops != &ops)
        return NULL;
    return tls_filter_of(t->filter)->conn;
}
