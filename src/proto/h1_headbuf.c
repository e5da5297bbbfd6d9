// See h1_headbuf.h. While a head is being collected it owns all that is left of the inline arena
// but a reserve: two of them (trailers and an early response) may be under way at once, and others
// allocate meanwhile. When its room is full it moves, once, to a block of the second pool.
#include "proto/h1_headbuf.h"
#include "core/check.h"
#include "proto/h1_parse.h"

// The arena keeps this much for what the gateway adds to the head (names, rewritten path, IDs).
#define ARENA_RESERVE 1024

static void begin(struct h1_headbuf *b, struct exchange *x)
{
    size_t room = (size_t)(x->arena_end - x->arena_cur);
    b->base = x->arena_cur;
    b->len = 0;
    b->scanned = 0;
    b->cap = room > ARENA_RESERVE ? (uint32_t)(room - ARENA_RESERVE) : 0;
    x->arena_cur += b->cap;
}

// Room behind the first `used` bytes is the arena's again, unless somebody has allocated behind it.
static void give_back(struct h1_headbuf *b, struct exchange *x, uint32_t used)
{
    uint32_t kept = (used + 15u) & ~15u;
    if (b->base + b->cap == x->arena_cur && kept < b->cap)
        x->arena_cur = b->base + kept;
}

static bool grow(struct h1_headbuf *b, struct exchange_pools *p, struct exchange *x)
{
    const uint32_t cap = HEAD_MAX_BYTES + 4096;
    if (b->cap >= cap)
        return false;
    char *inline_end = x->arena_end;
    x->arena_end = x->arena_cur; // force the large block
    char *big = exchange_alloc(p, x, cap);
    x->arena_end = inline_end;
    if (!big)
        return false;
    memcpy(big, b->base, b->len);
    give_back(b, x, 0);
    b->base = big;
    b->cap = cap;
    return true;
}

size_t h1_headbuf_fill(struct h1_headbuf *b, struct exchange_pools *p, struct exchange *x,
                       struct slice bytes)
{
    if (!b->base)
        begin(b, x);
    if (b->len == b->cap && !grow(b, p, x))
        return 0;
    // What follows a head that is here whole is not the head's to copy.
    const char *end = b->len == 0 ? h1_find_head_end(bytes.ptr, bytes.len, &b->scanned) : NULL;
    size_t wanted = end ? (size_t)(end - bytes.ptr) : bytes.len, n = b->cap - b->len;
    if (n > wanted)
        n = wanted;
    memcpy(b->base + b->len, bytes.ptr, n);
    b->len += (uint32_t)n;
    if (b->scanned > b->len)
        b->scanned = b->len; // not all of it has been copied
    return n;
}

void h1_headbuf_keep(struct h1_headbuf *b, struct exchange *x, uint32_t used)
{
    check(used <= b->len);
    give_back(b, x, used);
    b->base = NULL;
}
