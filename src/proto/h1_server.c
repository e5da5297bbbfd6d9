// Life of a client's HTTP/1.x connection: accept, idle, one exchange after the other, drain,
// close. Owned by its worker; the exchange it carries belongs to it (created in h1_server_rx.c,
// destroyed here). Invariants: stream.x is set from the first byte of a request until both
// directions are complete; after tcp_close nothing but on_closed happens.
#include "core/check.h"
#include "proto/h1_server_internal.h"

static void on_eof(struct tcp *t);
static void on_sent(struct tcp *t);
static void on_error(struct tcp *t, int error);
static void on_closed(struct tcp *t);

static const struct tcp_events server_tcp_events = {
    .on_data = h1_server_on_data,
    .on_eof = on_eof,
    .on_sent = on_sent,
    .on_error = on_error,
    .on_closed = on_closed,
    .counted = true,
    .rx_counter = COUNTER_downstream_rx_bytes,
    .tx_counter = COUNTER_downstream_tx_bytes,
};

void h1_server_pools_init(struct h1_server_pools *p, uint32_t cap, struct tcp_pools *tcp,
                          struct exchange_pools *exchanges)
{
    pool_init(&p->conns, "h1_server", sizeof(struct h1_server), cap);
    p->tcp = tcp;
    p->exchanges = exchanges;
}

void h1_server_pools_fini(struct h1_server_pools *p)
{
    pool_fini(&p->conns);
}

void h1_server_set_rx(struct h1_server *s, enum h1_server_rx to)
{
    // Which states may follow which: bit `to` of allowed[from].
    static const uint8_t allowed[] = {
        [SERVER_RX_IDLE] = 1 << SERVER_RX_HEAD | 1 << SERVER_RX_CLOSED,
        [SERVER_RX_HEAD] =
            1 << SERVER_RX_BODY | 1 << SERVER_RX_DONE | 1 << SERVER_RX_CLOSED | 1 << SERVER_RX_IDLE,
        [SERVER_RX_BODY] = 1 << SERVER_RX_TRAILERS | 1 << SERVER_RX_DONE | 1 << SERVER_RX_CLOSED,
        [SERVER_RX_TRAILERS] = 1 << SERVER_RX_DONE | 1 << SERVER_RX_CLOSED,
        [SERVER_RX_DONE] = 1 << SERVER_RX_IDLE | 1 << SERVER_RX_TUNNEL | 1 << SERVER_RX_CLOSED,
        [SERVER_RX_TUNNEL] = 1 << SERVER_RX_CLOSED,
        [SERVER_RX_CLOSED] = 1 << SERVER_RX_CLOSED,
    };
    check(allowed[s->rx] & 1 << to);
    s->rx = to;
}

// ---- the one timer: head timeout, idle timeout, stall timeout, by state

// A client that has responses to take is alive only if it takes them, whatever it sends.
static uint64_t moved(const struct h1_server *s)
{
    bool counts = !s->unsent && s->rx != SERVER_RX_IDLE;
    return s->tcp->tx_bytes + (counts ? s->tcp->rx_bytes : 0);
}

void h1_server_arm(struct h1_server *s, uint64_t timeout_ns)
{
    s->unsent = tcp_unsent(s->tcp);
    s->progress = moved(s);
    timer_arm(&s->tcp->worker->timers, &s->timer, s->tcp->worker->now_ns + timeout_ns);
}

// A client that takes a byte now and then of what is queued for it does not move either. What was
// queued when the timer was armed is enough to ask for: an end may be short.
static bool stands_still(const struct h1_server *s)
{
    uint64_t enough = s->unsent < H1_SERVER_STALL_BYTES ? s->unsent : H1_SERVER_STALL_BYTES;
    if ((tcp_unsent(s->tcp) > 0) != (s->unsent > 0))
        return false;
    return moved(s) - s->progress < (s->unsent ? enough : 1);
}

// Whose stall it is: the client's, unless it has sent all, or was not read.
static enum h1_error stall_error(const struct h1_server *s)
{
    bool ours = s->rx == SERVER_RX_DONE || (s->paused & SERVER_PAUSE_HANDLER);
    return ours ? H1_GATEWAY_TIMEOUT : H1_TIMEOUT;
}

// Between requests, or in a tunnel, and all is said: since quiet_ns.
static bool is_quiet(const struct h1_server *s)
{
    return (s->rx == SERVER_RX_IDLE || s->rx == SERVER_RX_TUNNEL) && !tcp_unsent(s->tcp);
}

void h1_server_note_quiet(struct h1_server *s)
{
    uint64_t now = s->tcp->worker->now_ns;
    s->quiet_ns = now;
    // Left standing where it was for a body, the timer would notice that late.
    if (!s->draining && is_quiet(s) && s->timer.deadline_ns > now + s->cfg->idle_timeout_ns)
        h1_server_arm(s, s->cfg->idle_timeout_ns);
}

// Something has happened since the timer was armed: it is armed again for what is left of the time.
static bool look_again_later(struct h1_server *s)
{
    uint64_t idle = s->cfg->idle_timeout_ns, since = s->tcp->worker->now_ns - s->quiet_ns;
    if (s->rx == SERVER_RX_IDLE && !s->asked)
        return false; // the end of a handshake is no request, which has been on its way all along
    if (is_quiet(s)) {
        if (since < idle)
            h1_server_arm(s, idle - since);
        return since < idle;
    }
    if (stands_still(s))
        return false;
    h1_server_arm(s, s->rx == SERVER_RX_TUNNEL ? idle : s->cfg->stall_timeout_ns);
    return true;
}

static void idle_or_busy(struct h1_server *s)
{
    bool unsent = tcp_unsent(s->tcp);
    if (s->draining && s->rx == SERVER_RX_IDLE && s->next.bytes == 0) { // the grace is over
        h1_server_close_soon(s);
        return;
    }
    if (look_again_later(s))
        return;
    struct exchange *x = s->stream.x;
    if (!x) {
        worker_count(s->tcp->worker, downstream_cx_idle_timeout);
        if (unsent)
            h1_server_abort(s, RESET_LOCAL);
        else
            h1_server_close_soon(s);
        return;
    }
    x->response_flags |= FLAG_STREAM_IDLE;
    if (!x->response_started) // the client can still be told
        h1_server_refuse(s, stall_error(s), "stream_idle_timeout");
    else
        h1_server_abort(s, RESET_STALL);
}

static void on_timer(struct timer *t, uint64_t now_ns)
{
    struct h1_server *s = container_of(t, struct h1_server, timer);
    (void)now_ns;
    if (s->rx == SERVER_RX_CLOSED)
        return;
    if (s->tx_failed) {
        h1_server_abort(s, RESET_OVERFLOW);
        return;
    }
    if (s->rx == SERVER_RX_HEAD) {
        worker_count(s->tcp->worker, downstream_rq_header_timeout);
        h1_server_refuse(s, H1_TIMEOUT, "http1.request_header_timeout");
        return;
    }
    idle_or_busy(s);
}

// ---- accept

// A connection that says nothing at all is given as long as one that is slow with its head.
static uint64_t first_timeout(const struct h1_server_config *cfg)
{
    uint64_t t =
        cfg->head_timeout_ns < cfg->idle_timeout_ns ? cfg->head_timeout_ns : cfg->idle_timeout_ns;
    return cfg->draining && t > H1_SERVER_DRAIN_GRACE_NS ? H1_SERVER_DRAIN_GRACE_NS : t;
}

static bool drain(struct downstream *d, uint64_t grace_ns);
static void close_now(struct downstream *d);
static const struct downstream_ops server_downstream_ops = {drain, close_now};

bool h1_server_start(struct h1_server_pools *p, const struct h1_server_config *cfg,
                     struct downstream *d)
{
    struct worker *w = d->worker;
    struct h1_server *s = pool_get(&p->conns);
    if (!s)
        return false;
    memset(s, 0, sizeof(*s));
    s->pools = p;
    s->cfg = cfg;
    s->tcp = d->tcp;
    s->down = d;
    s->draining = cfg->draining;
    s->stream.ops = &h1_server_stream_ops;
    bufq_init(&s->next, &p->tcp->chunks, &w->bufs);
    timer_init(&s->timer, on_timer);
    h1_server_arm(s, first_timeout(cfg));
    d->ops = &server_downstream_ops;
    d->codec = s;
    tcp_hand_over(s->tcp, &server_tcp_events, s);
    return true;
}

// ---- end of an exchange

static void release_exchange(struct h1_server *s)
{
    struct exchange *x = s->stream.x;
    s->stream.x = NULL;
    x->down = NULL;
    exchange_destroy(s->pools->exchanges, x);
}

// Responses that the client does not take must not pile up: as long as it owes us that, nothing
// more of it is served. on_sent goes on.
static void go_on_or_hold_back(struct h1_server *s)
{
    if (s->tcp->out.bytes >= TCP_HIGH_WATER)
        h1_server_pause(s, SERVER_PAUSE_UNSENT);
    h1_server_resume(s, SERVER_PAUSE_HANDLER);
    if (s->draining) // its head has promised that another request is taken: that one's will tell
        h1_server_arm(s, H1_SERVER_DRAIN_GRACE_NS);
    if (s->next.bytes > 0)
        h1_server_next_request(s);
}

void h1_server_finish_if_done(struct h1_server *s)
{
    struct exchange *x = s->stream.x;
    if (!x || s->tx != SERVER_TX_DONE)
        return;
    bool complete = s->rx == SERVER_RX_DONE;
    if (!complete && s->keep_alive && s->rx != SERVER_RX_CLOSED) {
        // The rest of the request is read and dropped first.
        h1_server_resume(s, SERVER_PAUSE_HANDLER);
        return;
    }
    x->handler->response_sent(x);
    release_exchange(s);
    s->tx = SERVER_TX_IDLE;
    if (!complete || !s->keep_alive) {
        h1_server_close_soon(s);
        return;
    }
    h1_server_set_rx(s, SERVER_RX_IDLE);
    h1_server_note_quiet(s);
    go_on_or_hold_back(s);
}

void h1_server_abort(struct h1_server *s, enum reset_reason why)
{
    struct exchange *x = s->stream.x;
    if (s->rx != SERVER_RX_CLOSED)
        h1_server_set_rx(s, SERVER_RX_CLOSED);
    if (x) {
        // An exchange whose head never was complete is unknown to the handler.
        if (x->start_ns && x->request.method.ptr)
            x->handler->request_reset(x, why);
        release_exchange(s);
    }
    timer_cancel(&s->tcp->worker->timers, &s->timer);
    if (h1_server_end_is_meant(s))
        tcp_reset(s->tcp);
    else
        tcp_close(s->tcp);
}

static void begin_close(struct h1_server *s)
{
    check(!s->stream.x);
    if (s->rx != SERVER_RX_CLOSED)
        h1_server_set_rx(s, SERVER_RX_CLOSED);
    timer_cancel(&s->tcp->worker->timers, &s->timer);
    bufq_clear(&s->next);
}

void h1_server_close_soon(struct h1_server *s)
{
    begin_close(s);
    tcp_close_flush(s->tcp);
}

void h1_server_cut(struct h1_server *s)
{
    begin_close(s);
    tcp_reset_flush(s->tcp);
}

// ---- events of the socket

static void on_eof(struct tcp *t)
{
    struct h1_server *s = server_of_tcp(t);
    if (s->rx == SERVER_RX_CLOSED)
        return;
    if (s->rx == SERVER_RX_TUNNEL && !(t->flags & TCP_TRUNCATED)) {
        struct exchange *x = s->stream.x;
        x->request_ended = true;
        x->handler->request_data(x, CHUNK_EMPTY, true);
        return;
    }
    worker_count(t->worker, downstream_cx_destroy_remote);
    if (s->stream.x) // as Envoy: a client that half-closes does not wait for its answer
        h1_server_abort(s, RESET_REMOTE);
    else
        h1_server_close_soon(s); // it may still read what it was answered
}

static void on_error(struct tcp *t, int error)
{
    struct h1_server *s = server_of_tcp(t);
    (void)error;
    worker_count(t->worker, downstream_cx_destroy_remote);
    h1_server_abort(s, RESET_REMOTE);
}

static void on_sent(struct tcp *t)
{
    struct h1_server *s = server_of_tcp(t);
    if (s->rx == SERVER_RX_CLOSED)
        return;
    h1_server_note_quiet(s);
    if (s->paused & SERVER_PAUSE_UNSENT) {
        h1_server_resume(s, SERVER_PAUSE_UNSENT);
        h1_server_next_request(s);
    } else if (s->stream.x && s->tx != SERVER_TX_IDLE) {
        s->stream.x->handler->downstream_writable(s->stream.x);
    }
}

static void on_closed(struct tcp *t)
{
    struct h1_server *s = server_of_tcp(t);
    struct downstream *d = s->down;
    check(!s->stream.x);
    timer_cancel(&t->worker->timers, &s->timer);
    bufq_clear(&s->next);
    tcp_destroy(t);
    pool_put(&s->pools->conns, s);
    d->on_closed(d);
}

// ---- drain

static bool drain(struct downstream *d, uint64_t grace_ns)
{
    struct h1_server *s = d->codec;
    bool again = s->draining; // its grace has begun
    s->draining = true;
    if (s->rx != SERVER_RX_IDLE)
        return false;
    if (grace_ns == 0)
        h1_server_close_soon(s);
    else if (!again)
        h1_server_arm(s, grace_ns);
    return grace_ns == 0;
}

static void close_now(struct downstream *d)
{
    h1_server_abort(d->codec, RESET_LOCAL);
}
