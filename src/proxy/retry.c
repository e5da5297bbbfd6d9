// When a request is tried again (Envoy's retry_on, with Istio's defaults), and the three timers
// of an exchange: the route's timeout, the try's, the wait before the next try.
#include "proxy/proxy_internal.h"

static bool replayable(const struct exchange *x)
{
    const struct proxy_exchange *px = (const struct proxy_exchange *)x->proxy;
    return !px->body_sent && !x->response_started;
}

// RFC 9110 section 9.2.2: a pooled connection that was closed as the request was being sent did
// not serve it; a request that may be repeated goes out again at once, on a new connection, outside
// the route's retry policy.
static bool dead_pooled_connection(struct exchange *x, enum reset_reason why)
{
    struct proxy_exchange *px = proxy_of(x);
    return why == RESET_REMOTE && px->on_reused && !px->pool_retried && replayable(x) &&
           http_method_idempotent(x->request.method);
}

bool proxy_should_retry_reset(struct exchange *x, enum reset_reason why)
{
    struct proxy_exchange *px = proxy_of(x);
    uint32_t on = px->route->retry.on;
    bool wanted = false;
    if (dead_pooled_connection(x, why)) {
        px->pool_retried = true;
        px->avoid = NULL;
        return true;
    }
    if (why == RESET_CONNECT || why == RESET_CONNECT_TIMEOUT)
        wanted = on & (RETRY_CONNECT_FAILURE | RETRY_5XX | RETRY_GATEWAY_ERROR | RETRY_RESET);
    else if (why == RESET_REMOTE)
        wanted = on & (RETRY_5XX | RETRY_RESET);
    if (!wanted || px->retries_left == 0 || !replayable(x))
        return false;
    px->retries_left--;
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
    if (!replayable(x) || !status_wanted(&px->route->retry, x->response.status))
        return false;
    if (px->retries_left == 0) { // the response goes to the client, marked as Envoy marks it
        x->response_flags |= FLAG_RETRY_LIMIT;
        return false;
    }
    px->retries_left--;
    return true;
}

// Envoy's full-jitter exponential backoff: a random time below base * 2^(n-1), at most 10 bases.
void proxy_schedule_retry(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    uint64_t base = px->route->retry.backoff_ns ? px->route->retry.backoff_ns : 25 * NS_PER_MS;
    uint32_t shift = px->attempts > 4 ? 4 : px->attempts - 1;
    uint64_t bound = base << shift;
    if (bound > 10 * base)
        bound = 10 * base;
    worker_count(x->worker, upstream_rq_retry);
    uint64_t wait = px->pool_retried ? 0 : rng_next(&x->worker->rng) % bound;
    timer_arm(&x->worker->timers, &px->backoff, x->worker->now_ns + wait);
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

static void time_out(struct exchange *x)
{
    worker_count(x->worker, upstream_rq_timeout);
    if (x->response_started) {
        x->response_flags |= FLAG_TIMEOUT;
        x->down->ops->reset(x->down, RESET_LOCAL);
        return;
    }
    proxy_reply(x, 504, SLICE("upstream request timeout"), FLAG_TIMEOUT, "response_timeout");
}

static void on_route_timeout(struct timer *t, uint64_t now_ns)
{
    (void)now_ns;
    time_out(exchange_of(container_of(t, struct proxy_exchange, route_timeout)));
}

static void on_try_timeout(struct timer *t, uint64_t now_ns)
{
    struct proxy_exchange *px = container_of(t, struct proxy_exchange, try_timeout);
    struct exchange *x = exchange_of(px);
    (void)now_ns;
    bool wanted = px->route->retry.on & (RETRY_5XX | RETRY_GATEWAY_ERROR | RETRY_RESET);
    if (!x->response_started && wanted && px->retries_left > 0 && replayable(x)) {
        px->retries_left--;
        px->avoid = px->endpoint;
        proxy_release_upstream(x);
        proxy_schedule_retry(x);
        return;
    }
    time_out(x);
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
