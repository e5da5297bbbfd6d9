// A relay between a client's connection and an upstream's. It owns both. Invariants: the client is
// read only while the upstream is connected and takes what comes; bytes of one side are in the
// other's output queue, or in `held`, and nowhere else; on_end comes once, from a completion or a
// deferred task, when both connections are closed.
#include "proto/l4_relay.h"
#include "core/check.h"
#include "tls/conn.h"
#include <errno.h>

static const struct tcp_events client_events, upstream_events;

static struct worker *worker_of(const struct l4_relay *r)
{
    check(r->client || r->upstream); // a relay without either is over
    return r->client ? r->client->worker : r->upstream->worker;
}

static struct tcp *other_of(const struct l4_relay *r, const struct tcp *t)
{
    return t == r->client ? r->upstream : r->client;
}

// ---- time

static uint64_t moved(const struct l4_relay *r)
{
    const struct tcp *sides[] = {r->client, r->upstream};
    uint64_t sum = 0;
    for (int i = 0; i < 2; i++)
        sum += sides[i] ? sides[i]->rx_bytes + sides[i]->tx_bytes : 0;
    return sum;
}

static void arm(struct l4_relay *r, uint64_t timeout_ns)
{
    struct worker *w = worker_of(r);
    r->progress = moved(r);
    if (timeout_ns)
        timer_arm(&w->timers, &r->timer, w->now_ns + timeout_ns);
    else
        timer_cancel(&w->timers, &r->timer);
}

static void upstream_failed(struct l4_relay *r, enum l4_end why);

static void on_timer(struct timer *timer, uint64_t now_ns)
{
    struct l4_relay *r = container_of(timer, struct l4_relay, timer);
    (void)now_ns;
    if (r->ended)
        return;
    if (r->connecting)
        upstream_failed(r, L4_END_CONNECT_TIMEOUT);
    else if (moved(r) != r->progress) // moved by traffic without touching the timer
        arm(r, r->cfg->idle_timeout_ns);
    else
        l4_relay_close(r, L4_END_IDLE);
}

// ---- end

static void set_end(struct l4_relay *r, enum l4_end why)
{
    if (r->ended)
        return;
    r->ended = true;
    r->end = why;
    r->end_ns = worker_of(r)->now_ns;
    timer_cancel(&worker_of(r)->timers, &r->timer);
    splice_stop(&r->up);
    splice_stop(&r->down);
}

static bool is_reset(enum l4_end why)
{
    return why == L4_END_CLIENT_RESET || why == L4_END_UPSTREAM_RESET;
}

// A reset goes on to the other side as one. A client whose upstream cannot be had is closed after
// what it was sent (an alert of its filter).
void l4_relay_close(struct l4_relay *r, enum l4_end why)
{
    struct tcp *sides[] = {r->client, r->upstream};
    set_end(r, why);
    r->connecting = false;
    for (int i = 0; i < 2; i++) {
        if (!sides[i])
            continue;
        if (is_reset(why))
            tcp_reset(sides[i]);
        else
            tcp_close(sides[i]);
    }
}

// Both sides have ended: what is queued for each is sent first.
static void close_gently(struct l4_relay *r)
{
    set_end(r, L4_END_CLOSED);
    tcp_close_flush(r->client);
    tcp_close_flush(r->upstream);
}

static void on_closed(struct tcp *t)
{
    struct l4_relay *r = t->owner;
    bool was_client = t == r->client;
    struct tcp *other = other_of(r, t);
    // The last timer is of a worker that this connection names.
    timer_cancel(&t->worker->timers, &r->timer);
    *(was_client ? &r->client : &r->upstream) = NULL;
    tcp_destroy(t);
    if (other)
        return;
    bufq_clear(&r->held);
    r->cfg->on_end(r, r->owner);
}

// ---- bytes

static void count(struct l4_relay *r, bool from_client, uint64_t n)
{
    *(from_client ? &r->rx : &r->tx) += n;
    if (r->cfg->on_bytes && n)
        r->cfg->on_bytes(r->owner, from_client, n);
}

static struct splice *splice_from(struct l4_relay *r, const struct tcp *t)
{
    return t == r->client ? &r->up : &r->down;
}

static void on_moved(struct tcp *t, uint32_t bytes)
{
    struct l4_relay *r = t->owner;
    count(r, t == r->client, bytes);
}

static void look(struct l4_relay *r, bool from_client, struct slice bytes)
{
    if (r->watched)
        r->cfg->on_look(r->owner, from_client, bytes);
}

static void on_data(struct tcp *t, const struct slice *data, const uint16_t *bids, uint32_t n)
{
    struct l4_relay *r = t->owner;
    struct tcp *to = r->connected ? other_of(r, t) : NULL;
    struct bufq *out = to ? &to->out : &r->held; // a pause lets arrive what is under way
    bool ok = !r->ended;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < n; i++) {
        bytes += data[i].len;
        look(r, t == r->client, data[i]);
        if (ok)
            ok = bufq_append_buffer(out, data[i], bids[i]);
        else
            bufring_put(&t->worker->bufs, bids[i]);
    }
    if (!ok && !r->ended)
        l4_relay_close(r, L4_END_LOCAL);
    if (r->ended)
        return;
    count(r, t == r->client, bytes);
    if (!to)
        return;
    tcp_flush(to);
    if (out->bytes > TCP_HIGH_WATER)
        tcp_pause(t);
    if (!r->watched) // what is looked at must come through our memory
        splice_note(splice_from(r, t), bytes);
}

static void on_paused(struct tcp *t)
{
    splice_advance(splice_from(t->owner, t));
}

static void on_sent(struct tcp *t)
{
    struct l4_relay *r = t->owner;
    struct tcp *from = other_of(r, t);
    if (!from || !r->connected || r->ended)
        return;
    struct splice *s = splice_from(r, from);
    if (splice_active(s))
        splice_advance(s);
    else
        tcp_resume(from);
}

// Its TLS did not end: anyone may have cut it off, so that the other side must not take what came
// for all there is. It gets that, and a reset.
static void cut_off(struct l4_relay *r, struct tcp *t)
{
    enum l4_end why = t == r->client ? L4_END_CLIENT_RESET : L4_END_UPSTREAM_RESET;
    if (!r->connected) {
        l4_relay_close(r, why);
        return;
    }
    set_end(r, why);
    tcp_reset_flush(other_of(r, t));
    tcp_reset(t);
}

static void on_eof(struct tcp *t)
{
    struct l4_relay *r = t->owner;
    if (r->ended)
        return;
    if (t->flags & TCP_TRUNCATED) {
        cut_off(r, t);
        return;
    }
    *(t == r->client ? &r->client_eof : &r->upstream_eof) = true;
    if (r->client_eof && r->upstream_eof)
        close_gently(r);
    else if (r->connected)
        tcp_shutdown(other_of(r, t));
}

static void on_error(struct tcp *t, int error)
{
    struct l4_relay *r = t->owner;
    bool broken = error == EPROTO; // by its filter, which has said so to the peer
    if (t == r->upstream && r->connecting)
        upstream_failed(r, L4_END_CONNECT_FAILED);
    else if (r->ended)
        tcp_close(t);
    else if (broken)
        l4_relay_close(r, L4_END_LOCAL);
    else
        l4_relay_close(r, t == r->client ? L4_END_CLIENT_RESET : L4_END_UPSTREAM_RESET);
}

// ---- connecting

static void on_connected(struct tcp *t)
{
    struct l4_relay *r = t->owner;
    check(t == r->upstream && r->connecting);
    r->connecting = false;
    r->connected = true;
    r->connected_ns = t->worker->now_ns;
    arm(r, r->cfg->idle_timeout_ns);
    bufq_move(&t->out, &r->held);
    splice_init(&r->up, r->client, t, &r->cfg->splice, on_moved);
    splice_init(&r->down, t, r->client, &r->cfg->splice, on_moved);
    if (r->client_eof)
        tcp_shutdown(t);
    else
        tcp_flush(t);
    tcp_resume(r->client);
    if (r->cfg->on_connect)
        r->cfg->on_connect(r, r->owner, true);
}

// A connection that was tried in vain: it belongs to nobody any more.
static void on_abandoned_closed(struct tcp *t)
{
    tcp_destroy(t);
}

static const struct tcp_events abandoned_events = {.on_closed = on_abandoned_closed};

static void upstream_failed(struct l4_relay *r, enum l4_end why)
{
    struct tcp *t = r->upstream;
    const struct tls_conn *tls = tls_filter_conn(t);
    if (tls && tls_conn_failure(tls) != TLS_FAIL_NONE)
        r->transport_failure = tls_conn_failure_reason(tls);
    r->connecting = false;
    r->upstream = NULL;
    tcp_hand_over(t, &abandoned_events, NULL);
    tcp_close(t);
    if (r->cfg->on_connect)
        r->cfg->on_connect(r, r->owner, false);
    if (!r->connecting && !r->ended)
        l4_relay_close(r, why);
}

bool l4_relay_try(struct l4_relay *r, const struct dial *dial)
{
    check(!r->upstream && !r->ended);
    struct tcp *t = tcp_create(r->client->worker, r->tcp, &upstream_events, r);
    if (!t)
        return false;
    if (dial_start(dial, t) < 0) {
        tcp_destroy(t);
        return false;
    }
    r->upstream = t;
    r->connecting = true;
    arm(r, r->cfg->connect_timeout_ns);
    return true;
}

#define LOOK_AHEAD 64 // pieces of what was read before the relay began

static void look_at_first(struct l4_relay *r, struct bufq *first)
{
    struct iovec iov[LOOK_AHEAD];
    size_t seen = 0;
    uint32_t n = bufq_peek(first, iov, LOOK_AHEAD);
    for (uint32_t i = 0; i < n; i++) {
        look(r, true, (struct slice){iov[i].iov_base, iov[i].iov_len});
        seen += iov[i].iov_len;
    }
    if (seen < first->bytes) // the rest would not follow on what was looked at
        r->watched = false;
}

void l4_relay_start(struct l4_relay *r, struct tcp_pools *tcp, struct tcp *client,
                    struct bufq *first, const struct l4_relay_config *cfg, void *owner)
{
    *r = (struct l4_relay){.client = client, .cfg = cfg, .owner = owner, .tcp = tcp};
    r->start_ns = client->worker->now_ns;
    r->watched = cfg->on_look != NULL;
    timer_init(&r->timer, on_timer);
    bufq_init(&r->held, &tcp->chunks, &client->worker->bufs);
    if (first) {
        look_at_first(r, first);
        count(r, true, first->bytes);
        bufq_move(&r->held, first);
    }
    tcp_hand_over(client, &client_events, r);
    tcp_pause(client);
}

static const struct tcp_events client_events = {
    .on_data = on_data,
    .on_eof = on_eof,
    .on_sent = on_sent,
    .on_paused = on_paused,
    .on_error = on_error,
    .on_closed = on_closed,
    .counted = true,
    .rx_counter = COUNTER_downstream_rx_bytes,
    .tx_counter = COUNTER_downstream_tx_bytes,
};
static const struct tcp_events upstream_events = {
    .on_data = on_data,
    .on_eof = on_eof,
    .on_sent = on_sent,
    .on_paused = on_paused,
    .on_error = on_error,
    .on_connected = on_connected,
    .on_closed = on_closed,
    .counted = true,
    .rx_counter = COUNTER_upstream_rx_bytes,
    .tx_counter = COUNTER_upstream_tx_bytes,
};
