// The exchange's memory: one block of a worker's pool holds the exchange, its handler's part and
// a small arena; a head that outgrows that moves to a block of the second pool. Owned by
// the codec that created it; one thread.
#include "proto/exchange.h"
#include "core/check.h"

#define BIG_BYTES (2u * HEAD_MAX_BYTES + 16u * 1024u)

_Static_assert(sizeof(struct exchange) < EXCHANGE_BLOCK_BYTES - 6144,
               "the inline arena holds an ordinary request and response head");

void exchange_pools_init(struct exchange_pools *p, uint32_t cap)
{
    pool_init(&p->exchanges, "exchanges", EXCHANGE_BLOCK_BYTES, cap);
    pool_init(&p->big, "big_heads", BIG_BYTES, cap / 8 + 1);
}

void exchange_pools_fini(struct exchange_pools *p)
{
    pool_fini(&p->exchanges);
    pool_fini(&p->big);
}

struct exchange *exchange_create(struct worker *w, struct exchange_pools *p,
                                 const struct exchange_handler *handler, size_t proxy_bytes)
{
    struct exchange *x = pool_get(&p->exchanges);
    if (!x)
        return NULL;
    // The field slots of both heads are not cleared: they are written before they are read.
    memset(x, 0, offsetof(struct exchange, request));
    head_reset(&x->request);
    head_reset(&x->response);
    memset((char *)x + offsetof(struct exchange, version), 0,
           sizeof(*x) - offsetof(struct exchange, version));
    x->worker = w;
    x->handler = handler;
    x->proxy = (char *)x + ((sizeof(*x) + 63u) & ~(size_t)63u);
    memset(x->proxy, 0, proxy_bytes);
    x->arena_cur = (char *)x->proxy + ((proxy_bytes + 15u) & ~(size_t)15u);
    x->arena_end = (char *)x + EXCHANGE_BLOCK_BYTES;
    check(x->arena_end > x->arena_cur + 2048);
    worker_count(w, exchanges_active);
    return x;
}

void exchange_destroy(struct exchange_pools *p, struct exchange *x)
{
    if (!x)
        return;
    check(!x->up && !x->down);
    pool_put(&p->big, x->big);
    worker_count_n(x->worker, exchanges_active, (uint64_t)-1);
    pool_put(&p->exchanges, x);
}

char *exchange_alloc(struct exchange_pools *p, struct exchange *x, size_t len)
{
    if (likely((size_t)(x->arena_end - x->arena_cur) >= len)) {
        char *at = x->arena_cur;
        x->arena_cur += len;
        return at;
    }
    if (!x->big) {
        x->big = pool_get(&p->big);
        x->starved = !x->big;
        if (!x->big)
            return NULL;
        x->big_cur = x->big;
        x->big_end = x->big_cur + BIG_BYTES;
    }
    if ((size_t)(x->big_end - x->big_cur) < len)
        return NULL;
    char *at = x->big_cur;
    x->big_cur += len;
    return at;
}

void chunk_release(struct worker *w, struct chunk c)
{
    if (c.bid < CHUNK_VOLATILE)
        bufring_put(&w->bufs, c.bid);
}

bool chunk_queue(struct bufq *q, struct chunk c)
{
    if (c.bid == CHUNK_VOLATILE)
        return bufq_append(q, c.bytes);
    return bufq_append_buffer(q, c.bytes, c.bid); // takes over the reference even when it fails
}
