// Sending side of h1_client: request heads, bodies, trailers; the stream_ops of a connection to
// an endpoint.
#include "core/check.h"
#include "proto/h1_client_internal.h"

static void tx_done(struct h1_client *c)
{
    c->tx = CLIENT_TX_DONE;
    tcp_flush(c->tcp);
}

static void on_tx_failed(struct timer *t, uint64_t now_ns)
{
    (void)now_ns;
    h1_client_fail(container_of(t, struct h1_client, timer), RESET_OVERFLOW);
}

// Never ends the try inside the call that sends: the handler still uses the exchange.
static void tx_failed(struct h1_client *c)
{
    c->tx_failed = true;
    c->timer.fire = on_tx_failed;
    timer_arm(&c->tcp->worker->timers, &c->timer, c->tcp->worker->now_ns);
}

static void send_head(struct stream *st, struct head *h, bool end)
{
    struct h1_client *c = client_of_stream(st);
    struct exchange *x = st->x;
    check(c->connected && c->tx == CLIENT_TX_IDLE);
    c->tx_framing = H1_BODY_NONE;
    if (h->has_length)
        c->tx_framing = H1_BODY_LENGTH;
    else if (!end)
        c->tx_framing = H1_BODY_CHUNKED;
    c->queued_turn = worker_turns(c->tcp->worker);
    c->tx = CLIENT_TX_BODY; // part of a head that does not fit is queued too
    if (!h1_write_request(&c->tcp->out, h, c->tx_framing, h->content_length, x->upgrade)) {
        tx_failed(c);
        return;
    }
    if (end)
        tx_done(c);
    else
        tcp_flush(c->tcp);
}

static void send_data(struct stream *st, struct chunk data, bool end)
{
    struct h1_client *c = client_of_stream(st);
    struct bufq *out = &c->tcp->out;
    bool chunked = c->tx == CLIENT_TX_BODY && c->tx_framing == H1_BODY_CHUNKED, ok = true;
    if (c->tx_failed) {
        chunk_release(c->tcp->worker, data);
        return;
    }
    check(c->tx == CLIENT_TX_BODY || c->tx == CLIENT_TX_TUNNEL);
    if (data.bytes.len > 0) {
        ok = !chunked || h1_write_chunk_start(out, data.bytes.len);
        ok = chunk_queue(out, data) && ok;
        ok = ok && (!chunked || h1_write_chunk_end(out));
    } else {
        chunk_release(c->tcp->worker, data);
    }
    if (ok && end && chunked)
        ok = h1_write_last_chunk(out, NULL);
    if (!ok) {
        tx_failed(c);
        return;
    }
    if (end && c->tx == CLIENT_TX_TUNNEL)
        tcp_shutdown(c->tcp);
    else if (end)
        tx_done(c);
    else
        tcp_flush(c->tcp);
}

static void send_trailers(struct stream *st, struct head *trailers)
{
    struct h1_client *c = client_of_stream(st);
    if (c->tx_failed)
        return;
    check(c->tx == CLIENT_TX_BODY);
    if (c->tx_framing == H1_BODY_CHUNKED && !h1_write_last_chunk(&c->tcp->out, trailers)) {
        tx_failed(c);
        return;
    }
    tx_done(c);
}

// A request that is given up: the connection is in the middle of a message and cannot be used
// again, unless nothing was sent on it yet. What a tunnel's client has sent before it went still
// goes out.
// The client of a tunnel that breaks off is a reset to the upstream too.
static void reset(struct stream *st, enum reset_reason why)
{
    struct h1_client *c = client_of_stream(st);
    h1_client_detach(c);
    if (c->tx == CLIENT_TX_IDLE && c->rx == CLIENT_RX_HEAD) {
        h1_client_to_pool(c);
    } else if (c->tx == CLIENT_TX_TUNNEL && !c->tx_failed && why == RESET_REMOTE) {
        h1_client_cut(c);
    } else if (c->tx == CLIENT_TX_TUNNEL && !c->tx_failed) {
        h1_client_end(c);
    } else {
        h1_client_shut(c);
    }
}

static void pause(struct stream *st)
{
    tcp_pause(client_of_stream(st)->tcp);
}

static void resume(struct stream *st)
{
    tcp_resume(client_of_stream(st)->tcp);
}

static bool writable(const struct stream *st)
{
    return client_of_stream(st)->tcp->out.bytes < TCP_HIGH_WATER;
}

static void tunnel(struct stream *st)
{
    check(client_of_stream(st)->tx == CLIENT_TX_TUNNEL);
}

const struct stream_ops h1_client_stream_ops = {
    .send_head = send_head,
    .send_data = send_data,
    .send_trailers = send_trailers,
    .reset = reset,
    .pause = pause,
    .resume = resume,
    .writable = writable,
    .tunnel = tunnel,
};
