// When a request is tried again (Envoy's retry_on, with Istio's defaults), and the three timers
// of an exchange: the route's timeout, the try's, the wait before the next try.
#include "proxy/proxy_internal.h"

static bool replayable(const struct exchange *x)
{
    const struct proxy_exchange *px = (const struct proxy_exchange *)x->proxy;
    return !px->body_lost && !x->response_started;
}

// RFC 9110 section 9.2.2: a pooled connection that was closed as the request was being sent did
// not serve it; a request that may be repeated goes out again at once, on a new connection, outside
// the route's retry policy. Any may of which nothing was sent.
static bool dead_pooled_connection(struct exchange *x, enum reset_reason why)
{
    struct proxy_exchange *px = proxy_of(x);
    bool repeatable =
        why == RESET_UNSENT || (why == RESET_REMOTE && http_method_idempotent(x->request.method));
    return repeatable && px->on_reused && !px->pool_retried && replayable(x);
}

// One of the route's retries is taken for what its policy wants tried again; when there were some
// and they are used up, the response says so (Envoy's URX).
static bool take_retry(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    if (px->retries_left == 0) {
        if (px->route->retry.attempts > 0)
            x->response_flags |= FLAG_RETRY_LIMIT;
        return false;
    }
    if (!replayable(x))
        return false;
    px->retries_left--;
    return true;
}

// A limit of ours that was hit is never tried again.
static bool reset_wanted(const struct retry_policy *p, enum reset_reason why)
{
    if (why == RESET_OVERFLOW || why == RESET_LOCAL)
        return false;
    if (p->on & RETRY_ANY_RESET)
        return true;
    bool connect = why == RESET_CONNECT || why == RESET_CONNECT_TIMEOUT;
    return (connect && (p->on & RETRY_CONNECT_FAILURE)) ||
           ((connect || why == RESET_UNSENT) && (p->on & RETRY_RESET_BEFORE_REQUEST));
}

bool proxy_should_retry_reset(struct exchange *x, enum reset_reason why)
{
    struct proxy_exchange *px = proxy_of(x);
    if (dead_pooled_connection(x, why)) {
        px->pool_retried = px->fresh = true;
        return true;
    }
    if (!reset_wanted(&px->route->retry, why) || x->response_started || !take_retry(x))
        return false;
    proxy_note_tried(x);
    return true;
}

static bool status_wanted(const struct retry_policy *p, uint32_t status)
{
    if ((p->on & RETRY_5XX) && status >= 500)
        return true;
    if ((p->on & RETRY_GATEWAY_ERROR) && status >= 502 && status <= 504)
        return true;
    if ((p->on & RETRY_RETRIABLE_4XX) && status == 409)
        return true;
    for (uint32_t i = 0; i < p->status_count; i++)
        if (p->status_codes[i] == status)
            return true;
    return false;
}

bool proxy_should_retry_status(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    if (x->response_started || !status_wanted(&px->route->retry, x->response.status))
        return false;
    return take_retry(x);
}

// Envoy's full-jitter exponential backoff: a random time below base * 2^(n-1), at most 10 bases,
// before the route's n-th retry. One for a dead pooled connection is none of those: it says nothing
// of how the endpoint is, and does not wait.
static uint64_t backoff_ns(struct exchange *x)
{
    const struct proxy_exchange *px = proxy_of(x);
    const struct retry_policy *p = &px->route->retry;
    if (px->fresh)
        return 0;
    uint64_t base = p->backoff_ns ? p->backoff_ns : 25 * NS_PER_MS;
    uint32_t n = px->attempts - px->pool_retried;
    uint64_t bound = base << (n > 4 ? 4 : n - 1);
    if (bound > 10 * base)
        bound = 10 * base;
    return rng_next(&x->worker->rng) % bound;
}

void proxy_schedule_retry(struct exchange *x)
{
    proxy_replay_rewind(x);
    worker_count(x->worker, upstream_rq_retry);
    timer_arm(&x->worker->timers, &proxy_of(x)->backoff, x->worker->now_ns + backoff_ns(x));
}

// ---- timers

static struct exchange *exchange_of(struct proxy_exchange *px)
{
    return px->x;
}

static void on_backoff(struct timer *t, uint64_t now_ns)
{
    struct proxy_exchange *px = container_of(t, struct proxy_exchange, backoff);
    (void)now_ns;
    proxy_try(exchange_of(px));
}

static void time_out(struct exchange *x, const char *details)
{
    if (x->response_started) {
        x->response_flags |= FLAG_TIMEOUT;
        x->down->ops->reset(x->down, RESET_LOCAL);
        return;
    }
    proxy_reply(x, 504, SLICE("upstream request timeout"), FLAG_TIMEOUT, details);
}

static void on_route_timeout(struct timer *t, uint64_t now_ns)
{
    (void)now_ns;
    struct exchange *x = exchange_of(container_of(t, struct proxy_exchange, route_timeout));
    worker_count(x->worker, upstream_rq_timeout);
    time_out(x, "response_timeout");
}

static void on_try_timeout(struct timer *t, uint64_t now_ns)
{
    struct proxy_exchange *px = container_of(t, struct proxy_exchange, try_timeout);
    struct exchange *x = exchange_of(px);
    (void)now_ns;
    worker_count(x->worker, upstream_rq_per_try_timeout);
    bool wanted = px->route->retry.on & RETRY_ANY_RESET;
    if (wanted && !x->response_started && take_retry(x)) {
        proxy_note_tried(x);
        proxy_release_upstream(x);
        proxy_schedule_retry(x);
        return;
    }
    time_out(x, "upstream_per_try_timeout");
}

void proxy_timers_init(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    px->x = x;
    timer_init(&px->backoff, on_backoff);
    timer_init(&px->route_timeout, on_route_timeout);
    timer_init(&px->try_timeout, on_try_timeout);
}

void proxy_timers_cancel(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    struct timer_wheel *w = &x->worker->timers;
    timer_cancel(w, &px->backoff);
    timer_cancel(w, &px->route_timeout);
    timer_cancel(w, &px->try_timeout);
}
