// Bump allocator. Owns its blocks; each allocation lies inside one block; blocks double up to a
// megabyte. An allocation larger than a block gets one of its own behind the current one, so
// that the current one is not abandoned. Single owner.
#include "core/arena.h"
#include "core/check.h"
#include <stdio.h>
#include <stdlib.h>

#define FIRST_BLOCK ((size_t)8 * 1024)
#define LARGEST_BLOCK ((size_t)1024 * 1024)
#define ALIGN ((size_t)16)

struct arena_block {
    _Alignas(16) struct arena_block *next;
    size_t bytes; // usable, behind this header
};

void arena_init(struct arena *a, size_t limit_bytes)
{
    *a = (struct arena){.limit_bytes = limit_bytes};
}

void arena_fini(struct arena *a)
{
    for (struct arena_block *b = a->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    arena_init(a, a->limit_bytes);
}

// calloc, because fresh pages from the kernel are zero already and need no second pass.
static struct arena_block *block_create(size_t bytes)
{
    struct arena_block *b = calloc(1, sizeof(*b) + bytes);
    if (b)
        b->bytes = bytes;
    return b;
}

// Memory ran out: with a limit the caller is prepared for NULL, without one this is start-up.
static void *out_of_memory(const struct arena *a)
{
    check(a->limit_bytes != 0);
    return NULL;
}

static void *alloc_large(struct arena *a, size_t size)
{
    struct arena_block *b = block_create(size);
    if (!b)
        return out_of_memory(a);
    if (a->blocks) { // the head stays the block that is being bumped
        b->next = a->blocks->next;
        a->blocks->next = b;
    } else {
        a->blocks = b;
    }
    a->used_bytes += size;
    return b + 1;
}

static bool block_push(struct arena *a)
{
    size_t bytes = a->blocks ? a->blocks->bytes * 2 : FIRST_BLOCK;
    if (bytes > LARGEST_BLOCK || bytes < FIRST_BLOCK)
        bytes = LARGEST_BLOCK;
    struct arena_block *b = block_create(bytes);
    if (!b)
        return false;
    b->next = a->blocks;
    a->blocks = b;
    a->cur = (char *)(b + 1);
    a->end = a->cur + bytes;
    return true;
}

void *arena_alloc(struct arena *a, size_t size)
{
    if (size > SIZE_MAX / 2)
        return out_of_memory(a);
    size = (size + ALIGN - 1) & ~(ALIGN - 1);
    if (size == 0)
        size = ALIGN; // a distinct address
    if (a->limit_bytes && size > a->limit_bytes - a->used_bytes)
        return NULL;
    if ((size_t)(a->end - a->cur) < size) {
        if (size > FIRST_BLOCK / 2)
            return alloc_large(a, size);
        if (!block_push(a))
            return out_of_memory(a);
    }
    void *p = a->cur;
    a->cur += size;
    a->used_bytes += size;
    return p;
}

struct slice arena_dup(struct arena *a, struct slice s)
{
    char *p = arena_alloc(a, s.len + 1);
    if (!p)
        return (struct slice){NULL, 0};
    if (s.len)
        memcpy(p, s.ptr, s.len);
    return (struct slice){p, s.len};
}

char *arena_strdup(struct arena *a, const char *s)
{
    if (!s)
        return NULL;
    size_t len = strlen(s) + 1;
    char *p = arena_alloc(a, len);
    return p ? memcpy(p, s, len) : NULL;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    char *p = n >= 0 ? arena_alloc(a, (size_t)n + 1) : NULL;
    if (p)
        vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    va_end(ap);
    return p;
}
