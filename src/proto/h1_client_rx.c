// Receiving side of h1_client: bytes -> response heads, bodies, trailers. Bytes that nobody asked
// for (an idle connection, or after a complete response) end the connection: they may never reach
// the next request's client. A slice's reference is given back at the end of feed().
#include "proto/h1_client_internal.h"

// 1xx heads before the response itself; each costs the client's output queue, whoever reads slowly.
#define INTERIM_MAX 100u

static struct chunk chunk_of(struct h1_client *c, struct slice bytes, uint16_t bid)
{
    bufring_get(&c->tcp->worker->bufs, bid);
    return (struct chunk){bytes, bid};
}

static void malformed(struct h1_client *c, const char *details)
{
    worker_count(c->tcp->worker, upstream_rs_malformed);
    c->stream.x->details = details;
    h1_client_fail(c, RESET_PROTOCOL);
}

// The response is complete. What has come behind it answers nothing that was asked: whoever is
// given this connection next would take it for theirs.
static void response_done(struct h1_client *c, const struct slice *rest)
{
    if (rest->len > 0 || c->more_slices)
        c->keep_alive = false;
    h1_client_response_done(c);
}

// Delivers the last piece after the connection is free, so that the exchange may end inside.
static void deliver_end(struct h1_client *c, struct slice data, uint16_t bid, struct slice *rest)
{
    struct exchange *x = c->stream.x;
    struct chunk last = CHUNK_EMPTY;
    if (data.len > 0)
        last = chunk_of(c, data, bid);
    response_done(c, rest);
    x->handler->response_data(x, last, true);
}

// ---- head

// An answer to a question that was not asked. Where the connection was used before, it belongs
// to what was asked then: this request has not been sent and may be, on another connection.
static void unsolicited(struct h1_client *c)
{
    worker_count(c->tcp->worker, upstream_rs_malformed);
    c->stream.x->details = "http1.unsolicited_response";
    h1_client_fail(c, c->requests > 0 ? RESET_UNSENT : RESET_PROTOCOL);
}

static void start_tunnel(struct h1_client *c)
{
    c->rx = CLIENT_RX_TUNNEL;
    c->tx = CLIENT_TX_TUNNEL;
    c->keep_alive = false;
    c->stream.x->handler->response_head(c->stream.x, false);
}

// An upstream switches only to what it was asked for (RFC 9110 section 7.8), which is WebSocket.
static void switch_protocols(struct h1_client *c)
{
    struct exchange *x = c->stream.x;
    struct field *upgrade = head_find(&x->response, FIELD_UPGRADE);
    if (x->upgrade && c->rs.connection_upgrade && upgrade &&
        slice_eq_nocase(field_value(upgrade), SLICE("websocket")))
        start_tunnel(c);
    else
        malformed(c, "http1.unexpected_upgrade");
}

static void head_complete(struct h1_client *c, struct slice *rest)
{
    struct exchange *x = c->stream.x;
    struct head *h = &x->response;
    if (h->status == 101) {
        switch_protocols(c);
        return;
    }
    if (h->status < 200) { // informational: another head follows
        if (c->interim++ == INTERIM_MAX) {
            malformed(c, "http1.too_many_interim_responses");
            return;
        }
        x->handler->response_head(x, false);
        if (c->stream.x)
            head_reset(h);
        return;
    }
    // Whoever was asked for a tunnel may take the connection for one: it is not used again.
    if (!c->rs.keep_alive || c->rs.framing == H1_BODY_UNTIL_CLOSE || x->upgrade)
        c->keep_alive = false;
    bool end = c->rs.framing == H1_BODY_NONE ||
               (c->rs.framing == H1_BODY_LENGTH && c->rs.content_length == 0);
    if (end) {
        response_done(c, rest);
    } else {
        c->rx = CLIENT_RX_BODY;
        c->remaining = c->rs.content_length;
        h1_chunked_init(&c->chunked);
    }
    x->handler->response_head(x, end);
}

static void feed_head(struct h1_client *c, struct slice *in)
{
    struct exchange *x = c->stream.x;
    if (!h1_client_asked(c)) {
        unsolicited(c);
        return;
    }
    uint32_t before = c->headbuf.base ? c->headbuf.len : 0;
    size_t n = h1_headbuf_fill(&c->headbuf, c->pools->exchanges, x, *in);
    if (n == 0) {
        malformed(c, "http1.response_head_too_large");
        return;
    }
    head_reset(&x->response);
    enum err e = h1_parse_response(c->headbuf.base, c->headbuf.len, &c->headbuf.scanned,
                                   x->request.method, &x->response, &c->rs);
    if (e == MORE) {
        *in = slice_from(*in, n);
        return;
    }
    if (e != OK) {
        malformed(c, c->rs.details);
        return;
    }
    *in = slice_from(*in, c->rs.head_len - before);
    h1_headbuf_keep(&c->headbuf, x, c->rs.head_len);
    head_complete(c, in);
}

// ---- body

static void feed_length(struct h1_client *c, struct slice *in, uint16_t bid)
{
    struct slice data = *in;
    if (data.len > c->remaining)
        data.len = (size_t)c->remaining;
    *in = slice_from(*in, data.len);
    c->remaining -= data.len;
    if (c->remaining == 0)
        deliver_end(c, data, bid, in);
    else
        c->stream.x->handler->response_data(c->stream.x, chunk_of(c, data, bid), false);
}

static void feed_chunked(struct h1_client *c, struct slice *in, uint16_t bid)
{
    struct slice data;
    switch (h1_chunked_next(&c->chunked, in, &data)) {
    case H1_CHUNK_DATA:
        c->stream.x->handler->response_data(c->stream.x, chunk_of(c, data, bid), false);
        break;
    case H1_CHUNK_TRAILERS:
        c->rx = CLIENT_RX_TRAILERS;
        c->headbuf.base = NULL;
        break;
    case H1_CHUNK_MORE:
        break;
    default:
        malformed(c, "http1.invalid_chunk");
    }
}

static void feed_trailers(struct h1_client *c, struct slice *in)
{
    struct exchange *x = c->stream.x;
    struct h1_message m;
    static _Thread_local struct head trailers;
    uint32_t before = c->headbuf.base ? c->headbuf.len : 0;
    size_t n = h1_headbuf_fill(&c->headbuf, c->pools->exchanges, x, *in);
    head_reset(&trailers);
    enum err e =
        n ? h1_parse_trailers(c->headbuf.base, c->headbuf.len, &c->headbuf.scanned, &trailers, &m)
          : ERR_LIMIT;
    if (e == MORE) {
        *in = slice_from(*in, n);
        return;
    }
    if (e != OK) {
        malformed(c, "http1.invalid_trailers");
        return;
    }
    *in = slice_from(*in, m.head_len - before);
    h1_headbuf_keep(&c->headbuf, x, m.head_len);
    if (trailers.field_count == 0) {
        deliver_end(c, (struct slice){NULL, 0}, 0, in);
        return;
    }
    x->response_trailers = &trailers;
    response_done(c, in);
    x->handler->response_trailers(x);
}

// ---- dispatch

static void feed_one(struct h1_client *c, struct slice *in, uint16_t bid)
{
    switch (c->rx) {
    case CLIENT_RX_HEAD:
        feed_head(c, in);
        break;
    case CLIENT_RX_BODY:
        if (c->rs.framing == H1_BODY_CHUNKED) {
            feed_chunked(c, in, bid);
        } else if (c->rs.framing == H1_BODY_LENGTH) {
            feed_length(c, in, bid);
        } else {
            struct slice all = *in;
            *in = slice_from(*in, in->len);
            c->stream.x->handler->response_data(c->stream.x, chunk_of(c, all, bid), false);
        }
        break;
    case CLIENT_RX_TRAILERS:
        feed_trailers(c, in);
        break;
    case CLIENT_RX_TUNNEL: {
        struct slice all = *in;
        *in = slice_from(*in, in->len);
        c->stream.x->handler->response_data(c->stream.x, chunk_of(c, all, bid), false);
        break;
    }
    default: // idle: unsolicited bytes
        h1_client_shut(c);
    }
}

void h1_client_on_data(struct tcp *t, const struct slice *data, const uint16_t *bids, uint32_t n)
{
    struct h1_client *c = client_of_tcp(t);
    for (uint32_t i = 0; i < n; i++) {
        struct slice in = data[i];
        c->more_slices = i + 1 < n;
        while (in.len > 0 && c->rx != CLIENT_RX_CLOSED)
            feed_one(c, &in, bids[i]);
        bufring_put(&t->worker->bufs, bids[i]);
    }
}

void h1_client_on_eof(struct tcp *t)
{
    struct h1_client *c = client_of_tcp(t);
    struct exchange *x = c->stream.x;
    struct slice none = {NULL, 0};
    if (c->rx == CLIENT_RX_CLOSED)
        return;
    if (!x) {
        h1_client_shut(c);
    } else if (c->rx == CLIENT_RX_TUNNEL && !(t->flags & TCP_TRUNCATED)) {
        x->response_ended = true;
        x->handler->response_data(x, CHUNK_EMPTY, true);
    } else if (c->rx == CLIENT_RX_BODY && c->rs.framing == H1_BODY_UNTIL_CLOSE &&
               !(t->flags & TCP_TRUNCATED)) { // without close_notify anyone may have cut it off
        deliver_end(c, none, 0, &none);
    } else {
        h1_client_fail(c, h1_client_asked(c) ? RESET_REMOTE : RESET_UNSENT);
    }
}
