// Fixed-size objects. Owns slabs of about 64 KiB; a free object's first word links the free
// list. Invariants: in_use <= total <= cap; total - in_use objects are on the free list or not
// yet carved. One owner thread.
//
// Under AddressSanitizer freed objects are poisoned, so that use after pool_put is reported.
#include "core/pool.h"
#include "core/check.h"
#include "core/counter.h"
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
// Of the runtime; Zig does not ship its header.
void __asan_poison_memory_region(void const volatile *at, size_t bytes);
void __asan_unpoison_memory_region(void const volatile *at, size_t bytes);
#define POISON(p, n) __asan_poison_memory_region((p), (n))
#define UNPOISON(p, n) __asan_unpoison_memory_region((p), (n))
#else
#define POISON(p, n) ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#endif

#define SLAB_BYTES 65536u

struct pool_slab {
    _Alignas(64) struct pool_slab *next;
};

void pool_init(struct pool *p, const char *name, size_t object_bytes, uint32_t cap)
{
    object_bytes = (object_bytes + 15) & ~(size_t)15;
    check(object_bytes >= sizeof(void *) && object_bytes <= UINT32_MAX);
    *p = (struct pool){.name = name, .object_bytes = (uint32_t)object_bytes, .cap = cap};
}

void pool_fini(struct pool *p)
{
    check(p->in_use == 0);
    for (struct pool_slab *s = p->slabs, *next; s; s = next) {
        next = s->next;
        free(s);
    }
    p->slabs = NULL;
    p->free_list = NULL;
    p->total = 0;
}

static void free_list_push(struct pool *p, void *object)
{
    *(void **)object = p->free_list;
    p->free_list = object;
    POISON(object, p->object_bytes);
}

// Carves one more slab. Its objects go to the free list so that the lowest address comes first.
static bool grow(struct pool *p)
{
    uint32_t n = SLAB_BYTES / p->object_bytes;
    if (n == 0)
        n = 1;
    if (n > p->cap - p->total)
        n = p->cap - p->total;
    if (n == 0)
        return false;
    size_t bytes = sizeof(struct pool_slab) + (size_t)n * p->object_bytes;
    struct pool_slab *s = aligned_alloc(64, (bytes + 63) & ~(size_t)63);
    if (!s)
        return false;
    s->next = p->slabs;
    p->slabs = s;
    p->total += n;
    if (p->bytes)
        counter_add(p->bytes, bytes);
    for (char *o = (char *)(s + 1) + (size_t)n * p->object_bytes; o > (char *)(s + 1);) {
        o -= p->object_bytes;
        free_list_push(p, o);
    }
    return true;
}

void *pool_get(struct pool *p)
{
    if (unlikely(!p->free_list) && !grow(p)) {
        p->refusals++;
        return NULL;
    }
    void *object = p->free_list;
    UNPOISON(object, p->object_bytes);
    p->free_list = *(void **)object;
    if (++p->in_use > p->peak)
        p->peak = p->in_use;
    return object;
}

void pool_put(struct pool *p, void *object)
{
    if (!object)
        return;
    check(p->in_use > 0);
    p->in_use--;
#ifdef SLUICE_DEBUG
    memset(object, 0xdd, p->object_bytes);
#endif
    free_list_push(p, object);
}
