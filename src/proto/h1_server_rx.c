// Receiving side of h1_server: bytes -> request heads, bodies, trailers. One request at a time;
// bytes of the following ones wait in s->next. Every slice comes with one reference of its
// buffer, which feed() gives back at its end; what is passed on takes one of its own.
#include "core/check.h"
#include "proto/h1_server_internal.h"

// More than this of pipelined requests, and the client is not read until they are served.
#define NEXT_MAX (16u * 1024u)

static struct chunk chunk_of(struct h1_server *s, struct slice bytes, uint16_t bid)
{
    if (bid < CHUNK_VOLATILE)
        bufring_get(&s->tcp->worker->bufs, bid);
    return (struct chunk){bytes, bid};
}

static void request_done(struct h1_server *s)
{
    s->stream.x->request_ended = true;
    s->stream.x->request_end_ns = s->tcp->worker->now_ns;
    h1_server_set_rx(s, SERVER_RX_DONE);
}

// ---- head

static bool begin_request(struct h1_server *s)
{
    struct worker *w = s->tcp->worker;
    struct exchange *x =
        exchange_create(w, s->pools->exchanges, s->cfg->handler, s->cfg->proxy_bytes);
    if (!x) {
        worker_count(w, downstream_rq_rejected_memory);
        h1_server_abort(s, RESET_OVERFLOW);
        return false;
    }
    x->start_ns = w->now_ns;
    x->down = &s->stream;
    x->conn = s->down;
    s->stream.x = x;
    s->first = !s->asked;
    s->asked = true;
    s->headbuf.base = NULL;
    s->empty_line = false;
    h1_server_set_rx(s, SERVER_RX_HEAD);
    // Left standing where it was between requests, the timer would notice a stall that late.
    // So would what is left of the grace of one that is to end cut its response off.
    if (s->draining || s->timer.deadline_ns > w->now_ns + s->cfg->stall_timeout_ns)
        h1_server_arm(s, s->cfg->stall_timeout_ns);
    return true;
}

static void start_body(struct h1_server *s)
{
    if (s->rq.framing == H1_BODY_NONE ||
        (s->rq.framing == H1_BODY_LENGTH && !s->rq.content_length)) {
        request_done(s);
        return;
    }
    h1_server_set_rx(s, SERVER_RX_BODY);
    s->remaining = s->rq.content_length;
    h1_chunked_init(&s->chunked);
    h1_server_arm(s, s->cfg->stall_timeout_ns);
}

// HTTP/1.0 knows no Host: such a request is for the address it came to.
static struct slice own_address(struct h1_server *s)
{
    char text[ADDR_TEXT_MAX];
    size_t n = addr_format(downstream_local(s->down), text, sizeof(text), true);
    char *out = exchange_alloc(s->pools->exchanges, s->stream.x, n);
    if (!out)
        return (struct slice){NULL, 0};
    memcpy(out, text, n);
    return (struct slice){out, n};
}

// Only WebSocket's is passed on. Other upgrades are ignored (RFC 9110 section 7.8): through a
// tunnel to what speaks h2c a client would reach routes that are not its own.
static bool wants_upgrade(const struct h1_server *s, struct head *h)
{
    struct field *upgrade = s->rq.connection_upgrade ? head_find(h, FIELD_UPGRADE) : NULL;
    return upgrade && h->minor_version >= 1 && slice_eq(h->method, SLICE("GET")) &&
           slice_eq_nocase(field_value(upgrade), SLICE("websocket"));
}

static void head_complete(struct h1_server *s)
{
    struct exchange *x = s->stream.x;
    struct head *h = &x->request;
    struct field *host = head_find(h, FIELD_HOST);
    x->version = h->minor_version ? HTTP_1_1 : HTTP_1_0;
    h->scheme = s->down->tls ? SLICE("https") : SLICE("http");
    h->authority = host ? field_value(host) : own_address(s);
    x->upgrade = wants_upgrade(s, h);
    s->keep_alive = s->rq.keep_alive;
    s->expects = head_find(h, FIELD_EXPECT) != NULL;
    s->drain_left = 64u * 1024u;
    s->tx = SERVER_TX_IDLE;
    worker_count(s->tcp->worker, downstream_rq_total);
    start_body(s);
    x->handler->request_head(x, s->rx == SERVER_RX_DONE);
}

// Later on a connection it is a request of a version that there is not.
static bool is_http2_preface(const struct h1_server *s)
{
    const struct slice got = {s->headbuf.base, s->headbuf.len};
    return s->first && slice_has_prefix(got, SLICE("PRI * HTTP/2.0\r\n\r\n"));
}

// Consumes head bytes from *in; false when the connection is done for.
static bool feed_head(struct h1_server *s, struct slice *in)
{
    struct exchange *x = s->stream.x;
    uint32_t before = s->headbuf.base ? s->headbuf.len : 0;
    size_t n = h1_headbuf_fill(&s->headbuf, s->pools->exchanges, x, *in);
    if (n == 0) {
        h1_server_refuse(s, x->starved ? H1_UNAVAILABLE : H1_TOO_LARGE,
                         x->starved ? "overload_manager" : "http1.headers_too_large");
        return false;
    }
    head_reset(&x->request);
    enum err e =
        h1_parse_request(s->headbuf.base, s->headbuf.len, &s->headbuf.scanned, &x->request, &s->rq);
    if (e == MORE) {
        *in = slice_from(*in, n);
        x->request.method = (struct slice){NULL, 0};
        if (before == 0)
            h1_server_arm(s, s->cfg->head_timeout_ns);
        return true;
    }
    if (e != OK) {
        x->request.method = (struct slice){NULL, 0};
        if (is_http2_preface(s))
            h1_server_refuse_http2(s);
        else
            h1_server_refuse(s, s->rq.error, s->rq.details);
        return false;
    }
    *in = slice_from(*in, s->rq.head_len - before);
    h1_headbuf_keep(&s->headbuf, x, s->rq.head_len);
    if (before > 0) // the timer was set for the head
        h1_server_arm(s, s->cfg->stall_timeout_ns);
    head_complete(s);
    return true;
}

// ---- body

// After an early response what is left of the request is dropped, if it is little.
static void drop(struct h1_server *s, size_t len)
{
    if (len > s->drain_left) {
        s->keep_alive = false;
        h1_server_finish_if_done(s);
        return;
    }
    s->drain_left -= (uint32_t)len;
    h1_server_finish_if_done(s);
}

static void deliver(struct h1_server *s, struct slice data, uint16_t bid)
{
    struct exchange *x = s->stream.x;
    x->request_body_bytes += data.len;
    if (s->tx == SERVER_TX_DONE) {
        drop(s, data.len);
        return;
    }
    bool end = s->rx == SERVER_RX_DONE;
    x->handler->request_data(x, chunk_of(s, data, bid), end);
}

static bool feed_length(struct h1_server *s, struct slice *in, uint16_t bid)
{
    struct slice data = *in;
    if (data.len > s->remaining)
        data.len = (size_t)s->remaining;
    *in = slice_from(*in, data.len);
    s->remaining -= data.len;
    if (s->remaining == 0)
        request_done(s);
    deliver(s, data, bid);
    return true;
}

static bool feed_chunked(struct h1_server *s, struct slice *in, uint16_t bid)
{
    struct slice data;
    switch (h1_chunked_next(&s->chunked, in, &data)) {
    case H1_CHUNK_DATA:
        deliver(s, data, bid);
        return true;
    case H1_CHUNK_TRAILERS:
        h1_server_set_rx(s, SERVER_RX_TRAILERS);
        s->headbuf.base = NULL;
        return true;
    case H1_CHUNK_MORE:
        return true;
    default:
        h1_server_refuse(s, H1_BAD_REQUEST, "http1.invalid_chunk");
        return false;
    }
}

// The request's own fields are not needed any more once the trailers are read: the head has been
// sent, so its slots are used again.
static bool feed_trailers(struct h1_server *s, struct slice *in)
{
    struct exchange *x = s->stream.x;
    struct h1_message m;
    uint32_t before = s->headbuf.base ? s->headbuf.len : 0;
    if (in->len == 0)
        return true;
    size_t n = h1_headbuf_fill(&s->headbuf, s->pools->exchanges, x, *in);
    static _Thread_local struct head trailers;
    head_reset(&trailers);
    enum err e =
        n ? h1_parse_trailers(s->headbuf.base, s->headbuf.len, &s->headbuf.scanned, &trailers, &m)
          : ERR_LIMIT;
    if (e == MORE) {
        *in = slice_from(*in, n);
        return true;
    }
    if (e != OK) {
        enum h1_error full = x->starved ? H1_UNAVAILABLE : H1_TOO_LARGE;
        h1_server_refuse(s, n ? m.error : full, "http1.invalid_trailers");
        return false;
    }
    *in = slice_from(*in, m.head_len - before);
    h1_headbuf_keep(&s->headbuf, x, m.head_len);
    request_done(s);
    if (s->tx == SERVER_TX_DONE) {
        h1_server_finish_if_done(s);
        return true;
    }
    if (trailers.field_count > 0) {
        x->request_trailers = &trailers;
        x->handler->request_trailers(x);
    } else {
        x->handler->request_data(x, CHUNK_EMPTY, true);
    }
    if (s->stream.x)
        s->stream.x->request_trailers = NULL;
    return true;
}

// ---- dispatch

void h1_server_pause(struct h1_server *s, enum h1_server_pause why)
{
    s->paused |= (uint8_t)why;
    tcp_pause(s->tcp);
}

void h1_server_resume(struct h1_server *s, enum h1_server_pause why)
{
    s->paused &= (uint8_t)~why;
    if (!s->paused)
        tcp_resume(s->tcp);
}

static void keep_for_later(struct h1_server *s, struct slice in)
{
    if (!bufq_append(&s->next, in))
        h1_server_abort(s, RESET_OVERFLOW);
    else if (s->next.bytes > NEXT_MAX)
        h1_server_pause(s, SERVER_PAUSE_NEXT);
}

// RFC 9112 section 2.2: an empty line before a request line, as some clients send one behind a
// body, begins no request, so that an idle connection stays idle. Only one: more would keep it from
// its time-outs.
static void skip_empty_line(struct h1_server *s, struct slice *in)
{
    if (!s->empty_line && in->len >= 2 && in->ptr[0] == '\r' && in->ptr[1] == '\n') {
        s->empty_line = true;
        *in = slice_from(*in, 2);
    }
}

static bool feed_one(struct h1_server *s, struct slice *in, uint16_t bid)
{
    switch (s->rx) {
    case SERVER_RX_IDLE:
        skip_empty_line(s, in);
        return in->len == 0 || begin_request(s);
    case SERVER_RX_HEAD:
        return feed_head(s, in);
    case SERVER_RX_BODY:
        return s->rq.framing == H1_BODY_CHUNKED ? feed_chunked(s, in, bid)
                                                : feed_length(s, in, bid);
    case SERVER_RX_TRAILERS:
        return feed_trailers(s, in);
    case SERVER_RX_TUNNEL: {
        struct slice all = *in;
        *in = slice_from(*in, in->len);
        h1_server_note_quiet(s);
        deliver(s, all, bid);
        return true;
    }
    default:
        return false;
    }
}

static bool takes_more(const struct h1_server *s)
{
    return s->rx != SERVER_RX_CLOSED && s->rx != SERVER_RX_DONE &&
           !(s->paused & SERVER_PAUSE_UNSENT);
}

static void feed(struct h1_server *s, struct slice *in, uint16_t bid)
{
    while (in->len > 0 && takes_more(s) && feed_one(s, in, bid))
        continue;
}

// Something waits in `next` only while nothing more is taken: what comes then goes behind it.
void h1_server_on_data(struct tcp *t, const struct slice *data, const uint16_t *bids, uint32_t n)
{
    struct h1_server *s = server_of_tcp(t);
    s->feeding = true;
    for (uint32_t i = 0; i < n; i++) {
        struct slice in = data[i];
        feed(s, &in, bids[i]);
        if (in.len > 0 && s->rx != SERVER_RX_CLOSED)
            keep_for_later(s, in);
        bufring_put(&t->worker->bufs, bids[i]);
    }
    s->feeding = false;
}

// Not recursive: whoever is feeding goes on by itself when an exchange has ended inside.
void h1_server_next_request(struct h1_server *s)
{
    if (s->feeding)
        return;
    s->feeding = true;
    while (s->next.bytes > 0 && takes_more(s)) {
        struct iovec iov;
        check(bufq_peek(&s->next, &iov, 1) == 1);
        struct slice in = {iov.iov_base, iov.iov_len};
        feed(s, &in, CHUNK_VOLATILE);
        if (s->next.bytes > 0) // an abort has cleared it
            bufq_consume(&s->next, iov.iov_len - in.len);
    }
    s->feeding = false;
    if (s->next.bytes <= NEXT_MAX)
        h1_server_resume(s, SERVER_PAUSE_NEXT);
}
