// The upstream's response on its way to the client, back-pressure, and the end of an exchange:
// counted, logged, its snapshot released.
#include "proxy/accept.h"
#include "proxy/proxy_internal.h"

static void fail_downstream(struct exchange *x)
{
    proxy_timers_cancel(x);
    x->down->ops->reset(x->down, RESET_OVERFLOW);
}

static void informational(struct exchange *x)
{
    if (x->version == HTTP_1_0)
        return;
    proxy_drop_connection_fields(&x->response);
    x->down->ops->send_head(x->down, &x->response, false);
}

static void start_tunnel(struct exchange *x)
{
    // The route's timeout is for a response; a tunnel has had its own.
    timer_cancel(&x->worker->timers, &proxy_of(x)->route_timeout);
    x->tunnel = true;
    worker_count(x->worker, tunnel_active);
    x->down->ops->send_head(x->down, &x->response, false);
    if (!x->down)
        return;
    proxy_tunnel_let_go(x);
    x->request_ended = false;
    x->up->ops->tunnel(x->up);
    x->down->ops->tunnel(x->down);
}

void proxy_response_head(struct exchange *x, bool end)
{
    struct proxy_exchange *px = proxy_of(x);
    struct head *h = &x->response;
    if (h->status < 200 && h->status != 101) {
        informational(x);
        return;
    }
    if (proxy_should_retry_status(x)) {
        proxy_note_tried(x);
        proxy_release_upstream(x);
        head_reset(h);
        proxy_schedule_retry(x);
        return;
    }
    x->response_start_ns = x->worker->now_ns;
    x->details = "via_upstream";
    proxy_replay_drop(x);
    timer_cancel(&x->worker->timers, &px->try_timeout);
    proxy_drop_connection_fields(h);
    if (proxy_response_fields(x, h) != OK) {
        fail_downstream(x);
        return;
    }
    if (h->status == 101)
        start_tunnel(x);
    else
        x->down->ops->send_head(x->down, h, end);
}

// Both directions of a tunnel have ended, or one cannot go on.
static void end_tunnel_if_done(struct exchange *x)
{
    if (x->request_ended && x->response_ended)
        x->down->ops->reset(x->down, RESET_LOCAL);
}

void proxy_response_data(struct exchange *x, struct chunk c, bool end)
{
    struct proxy_exchange *px = proxy_of(x);
    if (x->tunnel) {
        x->down->ops->send_data(x->down, c, end);
        if (end) {
            end_tunnel_if_done(x);
            return; // the exchange may be gone
        }
    } else {
        x->down->ops->send_data(x->down, c, end);
        if (end)
            return; // the exchange may be gone
    }
    if (x->down && x->up && !end && !px->up_paused && !x->down->ops->writable(x->down)) {
        px->up_paused = true;
        x->up->ops->pause(x->up);
    }
}

void proxy_response_trailers(struct exchange *x)
{
    proxy_drop_unsafe_trailers(x->response_trailers);
    x->down->ops->send_trailers(x->down, x->response_trailers);
}

void proxy_downstream_writable(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    if (px->up_paused && x->up && x->down->ops->writable(x->down)) {
        px->up_paused = false;
        x->up->ops->resume(x->up);
    }
}

// ---- the end

void proxy_release_snapshot(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    if (!px->snapshot)
        return;
    worker_count_n(x->worker, snapshot_pins, (uint64_t)-1);
    snapshot_unpin(px->snapshot, px->pw->worker.cfg.id);
    px->snapshot = NULL;
}

static void finish(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    struct runtime *rt = px->pw->runtime;
    if (!x->end_ns)
        x->end_ns = x->worker->now_ns;
    proxy_timers_cancel(x);
    proxy_count_end(x);
    if (rt->cfg.on_exchange_end)
        rt->cfg.on_exchange_end(rt->cfg.on_end_arg, x->worker->cfg.id, x);
    proxy_release_upstream(x);
    bufq_clear(&px->held);
    proxy_replay_drop(x);
    if (x->tunnel)
        worker_count_n(x->worker, tunnel_active, (uint64_t)-1);
    proxy_release_snapshot(x);
}

static void response_sent(struct exchange *x)
{
    finish(x);
}

// Flags and words are Envoy's, for whom a client's connection that it closes itself ends as one
// that the client closes, but for the details.
static void request_reset(struct exchange *x, enum reset_reason why)
{
    const char *details = "stream_reset";
    if (why == RESET_REMOTE)
        details = "downstream_remote_disconnect";
    else if (why == RESET_LOCAL)
        details = "downstream_local_disconnect";
    else if (why == RESET_STALL)
        details = "stream_idle_timeout";
    if (why == RESET_REMOTE || why == RESET_LOCAL)
        x->response_flags |= FLAG_DOWNSTREAM_TERMINATION;
    if (!x->details)
        x->details = details;
    if (x->tunnel && x->up) // which wants to know how it ended
        x->up->ops->reset(x->up, why);
    finish(x);
}

static void request_refused(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    px->x = x;
    px->listener = proxy_conn_of(x->conn)->listener;
    px->pw = px->listener->pw;
    proxy_count_refused(x);
    struct runtime_config *cfg = &px->pw->runtime->cfg;
    if (cfg->on_exchange_end)
        cfg->on_exchange_end(cfg->on_end_arg, x->worker->cfg.id, x);
}

static void request_data(struct exchange *x, struct chunk c, bool end)
{
    if (!x->tunnel) {
        proxy_request_data(x, c, end);
        return;
    }
    if (!x->up) {
        chunk_release(x->worker, c);
        return;
    }
    x->up->ops->send_data(x->up, c, end);
    if (end && x->down)
        end_tunnel_if_done(x);
    else if (!end && x->up && !x->up->ops->writable(x->up))
        proxy_pause_client(x);
}

const struct exchange_handler proxy_handler = {
    .request_head = proxy_request_head,
    .request_refused = request_refused,
    .request_data = request_data,
    .request_trailers = proxy_request_trailers,
    .request_reset = request_reset,
    .downstream_writable = proxy_downstream_writable,
    .response_sent = response_sent,
    .upstream_ready = proxy_upstream_ready,
    .response_head = proxy_response_head,
    .response_data = proxy_response_data,
    .response_trailers = proxy_response_trailers,
    .upstream_reset = proxy_upstream_reset,
    .upstream_writable = proxy_upstream_writable,
};
