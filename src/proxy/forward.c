// One try after the other: choose an endpoint, get a connection, send the request, hold its body
// while there is nowhere to send it. Invariant: px->on_endpoint is true exactly while a try is
// counted on px->endpoint.
#include "core/check.h"
#include "proxy/proxy_internal.h"
#include <stdalign.h>
#include <stdio.h>

static void end_try(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    timer_cancel(&x->worker->timers, &px->try_timeout);
    conn_waiter_cancel(&px->pw->upstreams, &px->waiter);
    if (px->on_endpoint) {
        px->on_endpoint = false;
        endpoint_end(px->endpoint);
    }
}

void proxy_release_upstream(struct exchange *x)
{
    if (x->up)
        x->up->ops->reset(x->up, RESET_LOCAL);
    check(!x->up);
    end_try(x);
}

void proxy_pause_client(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    if (!px->down_paused && !x->request_ended) {
        px->down_paused = true;
        x->down->ops->pause(x->down);
    }
}

static void resume_client(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    if (px->down_paused) {
        px->down_paused = false;
        x->down->ops->resume(x->down);
    }
}

// ---- sending

// The endpoint's name is kept in the exchange for the log: it may be freed before that.
static void note_endpoint(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    char *text = proxy_alloc(x, px->endpoint->text_len);
    if (text) {
        memcpy(text, px->endpoint->text, px->endpoint->text_len);
        px->endpoint_text = (struct slice){text, px->endpoint->text_len};
    }
}

static int set_attempt_count(struct exchange *x)
{
    static const char digits[] = "0123456789";
    struct proxy_exchange *px = proxy_of(x);
    uint32_t n = px->attempts > 9 ? 9 : px->attempts;
    return head_set(&x->request, FIELD_X_ENVOY_ATTEMPT_COUNT, (struct slice){digits + n, 1});
}

static bool flush_held(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    while (px->held.bytes > 0 && x->up) {
        struct iovec iov;
        check(bufq_peek(&px->held, &iov, 1) == 1);
        struct chunk c = {{iov.iov_base, iov.iov_len}, CHUNK_VOLATILE};
        bool end = x->request_ended && iov.iov_len == px->held.bytes && !px->held_trailers;
        proxy_replay_keep(x, c.bytes);
        x->up->ops->send_data(x->up, c, end);
        bufq_consume(&px->held, iov.iov_len);
    }
    return x->up != NULL;
}

static void send_held_trailers(struct exchange *x)
{
    const struct proxy_exchange *px = proxy_of(x);
    static _Thread_local struct head trailers;
    head_reset(&trailers);
    trailers.field_count = px->held_trailer_count;
    memcpy(trailers.fields, px->held_trailers, px->held_trailer_count * sizeof(struct field));
    x->up->ops->send_trailers(x->up, &trailers);
}

static void send_request(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    bool held = px->held.bytes > 0;
    if (set_attempt_count(x) != OK) {
        proxy_reply_too_large(x);
        return;
    }
    px->head_sent = true;
    px->head_turn = worker_turns(x->worker);
    if (!x->upstream_start_ns)
        x->upstream_start_ns = x->worker->now_ns;
    bool end = x->request_ended && !held && !px->held_end;
    x->up->ops->send_head(x->up, &x->request, end);
    if (!x->up || !flush_held(x))
        return;
    if (px->held_trailers)
        send_held_trailers(x);
    else if (px->held_end && !held) // the body turned out to be empty after the head was announced
        x->up->ops->send_data(x->up, CHUNK_EMPTY, true);
    if (x->up && !x->up->ops->writable(x->up))
        proxy_pause_client(x);
    else
        resume_client(x);
}

// ---- tries

void proxy_note_tried(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    if (px->route->retry.previous_host_avoided)
        px->tried[px->tried_count++ % PROXY_TRIED_MAX] = px->endpoint;
}

static struct endpoint *choose(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    struct upstream_cluster *c = proxy_worker_cluster(px->pw, px->snapshot, px->cluster);
    uint32_t n = px->tried_count < PROXY_TRIED_MAX ? px->tried_count : PROXY_TRIED_MAX;
    return c ? cluster_choose(c, &x->worker->rng, px->tried, n) : NULL;
}

static void no_endpoint(struct exchange *x)
{
    proxy_reply(x, 503, SLICE("no healthy upstream"), FLAG_NO_HEALTHY, "no_healthy_upstream");
}

static void on_room(struct conn_waiter *w)
{
    proxy_try(container_of(w, struct proxy_exchange, waiter)->x);
}

void proxy_try_init(struct exchange *x)
{
    conn_waiter_init(&proxy_of(x)->waiter, on_room);
}

// The try that would have been.
static void no_connection(struct exchange *x, struct endpoint *e, enum err why)
{
    struct proxy_exchange *px = proxy_of(x);
    px->attempts++;
    px->endpoint = e;
    x->transport_failure = NULL;
    if (why == ERR_NOT_FOUND)
        x->transport_failure = "Secret is not supplied by SDS"; // in Envoy's words
    else if (why == ERR_INVALID)
        x->transport_failure = "the host is too long for a server name";
    if (why == ERR_LIMIT)
        worker_count(x->worker, upstream_rq_pending_overflow);
    proxy_upstream_reset(x, why == ERR_LIMIT ? RESET_OVERFLOW : RESET_CONNECT);
}

void proxy_try(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    struct endpoint *e = choose(x);
    if (!e) {
        no_endpoint(x);
        return;
    }
    struct h1_client *conn;
    struct slice host = http_authority_host(x->request.authority);
    enum err had = endpoint_acquire(e, x->conn, host, px->fresh, &px->waiter, &conn);
    if (had == MORE) {
        proxy_pause_client(x);
        return;
    }
    px->fresh = false;
    if (had != OK) {
        no_connection(x, e, had);
        return;
    }
    px->endpoint = e;
    px->on_endpoint = true;
    px->head_sent = false;
    px->on_reused = h1_client_reused(conn);
    px->attempts++;
    endpoint_begin(e);
    note_endpoint(x);
    h1_client_attach(conn, x);
    const struct retry_policy *retry = &px->route->retry;
    if (retry->per_try_timeout_ns)
        timer_arm(&x->worker->timers, &px->try_timeout,
                  x->worker->now_ns + retry->per_try_timeout_ns);
    if (h1_client_connected(conn))
        send_request(x);
    else
        proxy_pause_client(x);
}

void proxy_upstream_ready(struct exchange *x)
{
    send_request(x);
}

void proxy_arm_timeouts(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    if (px->route->timeout_ns && x->request_ended && !timer_armed(&px->route_timeout))
        timer_arm(&x->worker->timers, &px->route_timeout,
                  x->worker->now_ns + px->route->timeout_ns);
}

// ---- a try ends badly

static struct slice reset_text(struct exchange *x, enum reset_reason why)
{
    bool again = proxy_of(x)->attempts > 1;
#define TEXT(reason)                                                                             \
    (again ? SLICE("upstream connect error or disconnect/reset before headers. retried and the " \
                   "latest reset reason: " reason)                                               \
           : SLICE("upstream connect error or disconnect/reset before headers. reset "           \
                   "reason: " reason))
    switch (why) {
    case RESET_CONNECT:
        return TEXT("remote connection failure");
    case RESET_CONNECT_TIMEOUT:
        return TEXT("connection timeout");
    case RESET_PROTOCOL:
        return TEXT("protocol error");
    case RESET_OVERFLOW:
        return TEXT("overflow");
    default:
        return TEXT("connection termination");
    }
#undef TEXT
}

// What Envoy adds where TLS has failed: `text` is of the arena then.
static struct slice join(struct exchange *x, struct slice text, const char *between,
                         const char *end)
{
    const char *reason = x->transport_failure;
    size_t cap = text.len + strlen(between) + strlen(reason) + strlen(end) + 1;
    char *to = proxy_alloc(x, cap);
    if (!to)
        return text;
    int n = snprintf(to, cap, "%.*s%s%s%s", SLICE_FMT(text), between, reason, end);
    return (struct slice){to, (size_t)n};
}

static void fail_transport(struct exchange *x, uint32_t status, struct slice body, uint32_t flags,
                           const char *details)
{
    struct slice open = slice_of(details);
    if (x->transport_failure) {
        body = join(x, body, ", transport failure reason: TLS_error: ", "");
        open.len--; // the brace
        details = join(x, open, ",TLS_error: ", "}").ptr;
    }
    proxy_reply(x, status, body, flags, details);
}

static void fail(struct exchange *x, enum reset_reason why)
{
    static const struct {
        uint16_t status;
        uint32_t flag;
        const char *details;
    } answers[] = {
        [RESET_LOCAL] = {503, FLAG_LOCAL_RESET, "local_reset"},
        [RESET_STALL] = {503, FLAG_LOCAL_RESET, "local_reset"},
        [RESET_REMOTE] = {503, FLAG_UPSTREAM_TERMINATION,
                          "upstream_reset_before_response_started{connection_termination}"},
        [RESET_UNSENT] = {503, FLAG_UPSTREAM_TERMINATION,
                          "upstream_reset_before_response_started{connection_termination}"},
        [RESET_CONNECT] = {503, FLAG_CONNECT_FAILURE,
                           "upstream_reset_before_response_started{remote_connection_failure}"},
        [RESET_CONNECT_TIMEOUT] = {503, FLAG_CONNECT_FAILURE,
                                   "upstream_reset_before_response_started{connection_timeout}"},
        [RESET_PROTOCOL] = {502, FLAG_UPSTREAM_PROTOCOL,
                            "upstream_reset_before_response_started{protocol_error}"},
        [RESET_OVERFLOW] = {503, FLAG_OVERFLOW, "upstream_reset_before_response_started{overflow}"},
    };
    fail_transport(x, answers[why].status, reset_text(x, why), answers[why].flag,
                   answers[why].details);
}

void proxy_upstream_reset(struct exchange *x, enum reset_reason why)
{
    end_try(x);
    if (x->response_started || x->tunnel) { // a tunnel whose 101 did not fit has no route any more
        x->response_flags |=
            why == RESET_PROTOCOL ? FLAG_UPSTREAM_PROTOCOL : FLAG_UPSTREAM_TERMINATION;
        x->down->ops->reset(x->down, why);
        return;
    }
    if (proxy_should_retry_reset(x, why))
        proxy_schedule_retry(x);
    else
        fail(x, why);
}

// ---- request body

static void hold(struct exchange *x, struct chunk c, bool end)
{
    struct proxy_exchange *px = proxy_of(x);
    if (c.bytes.len == 0)
        chunk_release(x->worker, c);
    else if (!chunk_queue(&px->held, c)) {
        proxy_reply(x, 503, (struct slice){NULL, 0}, FLAG_OVERLOAD, "request_buffer_overflow");
        return;
    }
    if (end)
        px->held_end = true;
    proxy_pause_client(x);
}

void proxy_request_data(struct exchange *x, struct chunk c, bool end)
{
    struct proxy_exchange *px = proxy_of(x);
    if (end && px->route)
        proxy_arm_timeouts(x);
    if (x->response_ended || (!x->up && x->response_started)) {
        chunk_release(x->worker, c); // nobody wants the rest
        return;
    }
    if (!x->up || !px->head_sent) {
        hold(x, c, end);
        return;
    }
    proxy_replay_keep(x, c.bytes);
    x->up->ops->send_data(x->up, c, end);
    if (x->up && !end && !x->up->ops->writable(x->up))
        proxy_pause_client(x);
}

// Their strings live as long as the exchange; without room for the list, they are left out
// (RFC 9110 section 6.5.1 allows it), the body they follow is not.
static void hold_trailers(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    const struct head *t = x->request_trailers;
    size_t bytes = t->field_count * sizeof(struct field);
    char *at = t->field_count ? proxy_alloc(x, bytes + alignof(struct field)) : NULL;
    px->held_end = true;
    if (!at)
        return;
    at += -(uintptr_t)at & (alignof(struct field) - 1);
    memcpy(at, t->fields, bytes);
    px->held_trailers = (const struct field *)(const void *)at;
    px->held_trailer_count = t->field_count;
}

void proxy_request_trailers(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    if (px->route)
        proxy_arm_timeouts(x);
    proxy_drop_unsafe_trailers(x->request_trailers);
    if (!x->response_started && !px->body_lost) // it may be sent again
        hold_trailers(x);
    if (x->up && px->head_sent)
        x->up->ops->send_trailers(x->up, x->request_trailers);
}

void proxy_upstream_writable(struct exchange *x)
{
    if (x->up && x->up->ops->writable(x->up))
        resume_client(x);
}
