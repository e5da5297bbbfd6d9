// What has been sent of a request's body, copied, for as long as it may have to be sent again: by
// the route's retry policy (Envoy buffers it likewise), or because the pooled connection it was
// sent on had ended. Copied, because receive buffers that wait for a slow endpoint's answer would
// be missing in the ring; the copies are of the worker's output memory, of which they leave half to
// what moves. A request without a body, or that nobody would repeat, has nothing of this.
// Invariant: body_lost, or `replay` is all of the body that this try has been sent.
#include "proxy/proxy_internal.h"

#define REPLAY_MAX (256u * 1024u) // of one request

// A response head is what still can fail once a part of the body is gone: connect failures have all
// of it in `held`.
static bool by_policy(const struct proxy_exchange *px)
{
    const struct retry_policy *p = &px->route->retry;
    if (px->retries_left == 0)
        return false;
    return (p->on & (RETRY_ANY_RESET | RETRY_RETRIABLE_4XX)) || p->status_count > 0 ||
           ((p->on & RETRY_RESET_BEFORE_REQUEST) && px->head_turn == worker_turns(&px->pw->worker));
}

// See dead_pooled_connection (retry.c): whether nothing was sent is known in the head's turn only.
static bool by_dead_connection(const struct exchange *x)
{
    const struct proxy_exchange *px = proxy_of(x);
    return px->on_reused && !px->pool_retried &&
           (http_method_idempotent(x->request.method) ||
            px->head_turn == worker_turns(&px->pw->worker));
}

static bool has_room(const struct proxy_exchange *px, size_t more)
{
    const struct pool *chunks = &px->pw->tcp.chunks;
    return px->replay.bytes + more <= REPLAY_MAX && chunks->in_use < chunks->cap / 2 &&
           px->pw->shed == SHED_NOTHING;
}

void proxy_replay_drop(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    if (px->replay.bytes > 0)
        bufq_clear(&px->replay);
}

void proxy_replay_keep(struct exchange *x, struct slice piece)
{
    struct proxy_exchange *px = proxy_of(x);
    if (px->body_lost || x->response_started || piece.len == 0)
        return;
    bool policy = by_policy(px);
    if (!px->replay.chunks)
        bufq_init(&px->replay, &px->pw->tcp.chunks, &x->worker->bufs);
    if ((policy || by_dead_connection(x)) && has_room(px, piece.len) &&
        bufq_append(&px->replay, piece))
        return;
    if (policy)
        worker_count(x->worker, upstream_rq_retry_abandoned);
    px->body_lost = true;
    proxy_replay_drop(x);
}

void proxy_replay_rewind(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    if (px->replay.bytes == 0)
        return;
    bufq_move(&px->replay, &px->held); // came behind it and was not sent yet
    bufq_move(&px->held, &px->replay);
}
