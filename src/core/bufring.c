// Provided buffers. Owns the buffers' memory and the books about it; the descriptor ring that the
// kernel reads is bufring_kernel.c's. One thread.
//
// Invariants:
//  - refs[bid] == 0 means that the buffer is the kernel's or waits in `recycled`.
//  - The kernel has `posted_target` buffers after a flush, or all that nobody holds. It uses them
//    in turn, so the fewer it has the likelier the next one is in the CPU's cache; the target
//    doubles when it found none, and halves after a long time in which a quarter would have done.
//  - out == number of buffers with refs > 0 plus recycled_count.
//  - The kernel consumes in ring order, so the buffers of a bundle are order[p], order[p+1], ...
//    from the position p of its first one. Which positions belong to a completion follows from
//    its first buffer, never from the order of completions: the last completion of a
//    request may be posted after those of requests that ran later.
//  - Positions are overwritten by bufring_flush only, at the end of a turn, when every completion
//    that the kernel has posted was dispatched. So what is read from them is what the kernel used.
//  - The kernel may shorten a descriptor's length when it maps a bundle and forget to restore it
//    if the receive then fails (liburing test recv-bundle-buf-len). The layout of a bundle is
//    therefore read from the descriptors, not computed from buffer_bytes.
#include "core/bufring.h"
#include "core/bufring_kernel.h"
#include "core/check.h"
#include "core/ring.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define POSTED_MIN 128u
#define QUIET_FLUSHES 4096u

static uint32_t mask(const struct bufring *b)
{
    return b->count - 1;
}

static size_t stride(const struct bufring *b)
{
    return (size_t)b->buffer_bytes + BUFRING_TAIL;
}

static char *buffer_at(const struct bufring *b, uint16_t bid)
{
    return b->base + (size_t)bid * stride(b);
}

static void give(struct bufring *b, uint16_t bid, uint32_t ahead)
{
    uint32_t at = (b->tail + ahead) & mask(b);
    bufring_kernel_give(b, at, buffer_at(b, bid), bid);
    b->order[at] = bid;
    b->position[bid] = (uint16_t)at;
}

static void publish(struct bufring *b, uint32_t n)
{
    b->tail += n;
    bufring_kernel_publish(b, n);
}

static void post_recycled(struct bufring *b)
{
    uint32_t posted = b->count - b->out;
    uint32_t n = b->posted_target > posted ? b->posted_target - posted : 0;
    if (n > b->recycled_count)
        n = b->recycled_count;
    if (n == 0)
        return;
    for (uint32_t i = 0; i < n; i++)
        give(b, b->recycled[--b->recycled_count], i);
    publish(b, n);
    b->out -= n;
}

static bool allocate(struct bufring *b)
{
    void *base = mmap(NULL, (size_t)b->count * stride(b), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    b->base = base == MAP_FAILED ? NULL : base;
    b->refs = calloc(b->count, sizeof(uint16_t));
    b->order = calloc(b->count, sizeof(uint16_t));
    b->position = calloc(b->count, sizeof(uint16_t));
    b->recycled = calloc(b->count, sizeof(uint16_t));
    return b->base && b->refs && b->order && b->position && b->recycled;
}

static void release(struct bufring *b)
{
    if (b->base)
        munmap(b->base, (size_t)b->count * stride(b));
    free(b->refs);
    free(b->order);
    free(b->position);
    free(b->recycled);
    *b = (struct bufring){0};
}

int bufring_init(struct bufring *b, struct ring *r, uint16_t group_id, uint32_t count,
                 uint32_t buffer_bytes)
{
    check(count >= 2 && count <= 32768 && (count & (count - 1)) == 0);
    *b = (struct bufring){
        .ring = r, .group_id = group_id, .count = count, .buffer_bytes = buffer_bytes};
    list_init(&b->starved);
    if (!allocate(b)) {
        release(b);
        return ERR_NOMEM;
    }
    b->posted_target = count < POSTED_MIN ? count : POSTED_MIN;
    int rc = bufring_kernel_register(b);
    if (rc < 0) {
        release(b);
        errno = -rc;
        return ERR_IO;
    }
    for (uint32_t i = 0; i < count; i++)
        b->recycled[i] = (uint16_t)i;
    b->recycled_count = b->out = count;
    post_recycled(b);
    return OK;
}

void bufring_fini(struct bufring *b, struct ring *r)
{
    check(!b->ring || b->ring == r);
    if (!b->ring_mem)
        return;
    check(b->out == b->recycled_count);
    bufring_kernel_unregister(b);
    release(b);
}

uint32_t bufring_take_some(struct bufring *b, uint16_t bid, uint32_t len, struct slice *iov,
                           uint16_t *bids, uint32_t cap, uint32_t *taken)
{
    uint32_t n = 0;
    check(bid < b->count);
    uint32_t at = b->position[bid];
    *taken = 0;
    for (; *taken < len && n < cap; at = (at + 1) & mask(b)) {
        bid = b->order[at];
        uint32_t here = bufring_kernel_length(b, at);
        if (here > len - *taken)
            here = len - *taken;
        check(here > 0 && b->refs[bid] == 0);
        b->refs[bid] = 1;
        iov[n] = (struct slice){buffer_at(b, bid), here};
        bids[n++] = bid;
        *taken += here;
    }
    b->out += n;
    check(b->out <= b->count);
    return n;
}

uint32_t bufring_take(struct bufring *b, uint16_t bid, uint32_t len, struct slice *iov,
                      uint16_t *bids, uint32_t cap)
{
    uint32_t taken, n = bufring_take_some(b, bid, len, iov, bids, cap, &taken);
    check(taken == len);
    return n;
}

uint16_t bufring_following(const struct bufring *b, uint16_t bid)
{
    return b->order[(b->position[bid] + 1u) & mask(b)];
}

void bufring_take_empty(struct bufring *b, uint16_t bid)
{
    check(bid < b->count);
    if (b->ring->bundles && !b->ring->bundle_eof_consumes)
        return; // named, but still the kernel's
    check(b->refs[bid] == 0);
    b->refs[bid] = 1;
    b->out++;
    bufring_put(b, bid);
}

char *bufring_borrow(struct bufring *b, uint16_t *bid)
{
    if (b->recycled_count == 0 || bufring_scarce(b))
        return NULL;
    *bid = b->recycled[--b->recycled_count];
    check(b->refs[*bid] == 0);
    b->refs[*bid] = 1;
    return buffer_at(b, *bid);
}

void bufring_get(struct bufring *b, uint16_t bid)
{
    if (bid == BUFRING_VOLATILE)
        return;
    check(bid < b->count && b->refs[bid] > 0 && b->refs[bid] < UINT16_MAX);
    b->refs[bid]++;
}

void bufring_put(struct bufring *b, uint16_t bid)
{
    if (bid == BUFRING_VOLATILE)
        return;
    check(bid < b->count && b->refs[bid] > 0);
    if (--b->refs[bid] == 0)
        b->recycled[b->recycled_count++] = bid;
}

void bufring_wait(struct bufring *b, struct bufring_waiter *w)
{
    b->enobufs++;
    b->posted_target = b->posted_target * 2 < b->count ? b->posted_target * 2 : b->count;
    b->quiet_flushes = 0;
    if (!list_linked(&w->link))
        list_insert_tail(&b->starved, &w->link);
}

void bufring_unwait(struct bufring *b, struct bufring_waiter *w)
{
    (void)b;
    list_remove(&w->link);
}

// As many as there are buffers: waking more would only have them fail again.
static void wake_starved(struct bufring *b)
{
    for (uint32_t room = b->count - b->out; room > 0; room--) {
        struct list_node *n = list_pop_head(&b->starved);
        if (!n)
            return;
        struct bufring_waiter *w = container_of(n, struct bufring_waiter, link);
        w->ready(w);
    }
}

static void lower_target(struct bufring *b, uint32_t used)
{
    if (used > b->posted_target / 4 || b->posted_target / 2 < POSTED_MIN) {
        b->quiet_flushes = 0;
    } else if (++b->quiet_flushes == QUIET_FLUSHES) {
        b->posted_target /= 2;
        b->quiet_flushes = 0;
    }
}

void bufring_flush(struct bufring *b)
{
    uint32_t posted = b->count - b->out;
    lower_target(b, b->posted_target > posted ? b->posted_target - posted : 0);
    post_recycled(b);
    if (unlikely(!list_empty(&b->starved)))
        wake_starved(b);
}
