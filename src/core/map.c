// Robin Hood hash map. An entry with a NULL key pointer is free. Invariant: along a probe
// sequence the distance from home never falls by more than it may, so a lookup stops at the
// first entry that is closer to its home than the probe is. One writer, then many readers.
#include "core/map.h"
#include "core/check.h"
#include <stdlib.h>

static struct map_entry *slots_create(struct arena *arena, uint32_t n)
{
    struct map_entry *s =
        arena ? arena_array(arena, struct map_entry, n) : calloc(n, sizeof(struct map_entry));
    check(s != NULL); // maps are built at start-up and on reload, never per request
    return s;
}

void map_init(struct map *m, struct arena *arena, uint32_t expected)
{
    uint64_t n = 8;
    while (n * 7 / 8 < expected)
        n *= 2;
    check(n <= UINT32_MAX / 2);
    *m = (struct map){
        .slots = slots_create(arena, (uint32_t)n), .mask = (uint32_t)n - 1, .arena = arena};
}

void map_fini(struct map *m)
{
    if (!m->arena)
        free(m->slots);
    m->slots = NULL;
    m->count = m->mask = 0;
}

static inline uint32_t distance(const struct map *m, const struct map_entry *e, uint32_t at)
{
    return (at - (uint32_t)e->hash) & m->mask;
}

static struct map_entry *find(const struct map *m, uint64_t hash, struct slice key)
{
    uint32_t at = (uint32_t)hash & m->mask;
    for (uint32_t d = 0;; d++, at = (at + 1) & m->mask) {
        struct map_entry *e = &m->slots[at];
        if (!e->key.ptr || distance(m, e, at) < d)
            return NULL;
        if (e->hash == hash && slice_eq(e->key, key))
            return e;
    }
}

void *map_get(const struct map *m, struct slice key)
{
    if (m->count == 0)
        return NULL;
    struct map_entry *e = find(m, slice_hash(key), key);
    return e ? e->value : NULL;
}

static void insert_new(struct map *m, struct map_entry in)
{
    uint32_t at = (uint32_t)in.hash & m->mask;
    for (uint32_t d = 0;; d++, at = (at + 1) & m->mask) {
        struct map_entry *e = &m->slots[at];
        if (!e->key.ptr) {
            *e = in;
            break;
        }
        uint32_t theirs = distance(m, e, at);
        if (theirs < d) { // the richer one moves on
            struct map_entry moved = *e;
            *e = in;
            in = moved;
            d = theirs;
        }
    }
    m->count++;
}

static void grow(struct map *m)
{
    struct map old = *m;
    check(old.mask < UINT32_MAX / 2);
    m->mask = old.mask * 2 + 1;
    m->slots = slots_create(m->arena, m->mask + 1);
    m->count = 0;
    for (uint32_t i = 0; i <= old.mask; i++)
        if (old.slots[i].key.ptr)
            insert_new(m, old.slots[i]);
    if (!old.arena)
        free(old.slots);
}

void *map_put(struct map *m, struct slice key, void *value)
{
    if (!key.ptr)
        key.ptr = ""; // NULL marks a free slot
    uint64_t hash = slice_hash(key);
    struct map_entry *e = find(m, hash, key);
    if (e) {
        void *before = e->value;
        e->value = value;
        return before;
    }
    if (((uint64_t)m->count + 1) * 8 > ((uint64_t)m->mask + 1) * 7)
        grow(m);
    insert_new(m, (struct map_entry){hash, key, value});
    return NULL;
}

// Backward shift: the followers that are not at home move up, so no tombstones are needed.
void *map_remove(struct map *m, struct slice key)
{
    struct map_entry *e = m->count ? find(m, slice_hash(key), key) : NULL;
    if (!e)
        return NULL;
    void *value = e->value;
    uint32_t at = (uint32_t)(e - m->slots);
    for (;;) {
        uint32_t next = (at + 1) & m->mask;
        struct map_entry *n = &m->slots[next];
        if (!n->key.ptr || distance(m, n, next) == 0)
            break;
        m->slots[at] = *n;
        at = next;
    }
    m->slots[at] = (struct map_entry){0};
    m->count--;
    return value;
}

bool map_next(const struct map *m, uint32_t *i, struct map_entry **out)
{
    while (m->slots && *i <= m->mask) {
        struct map_entry *e = &m->slots[(*i)++];
        if (e->key.ptr) {
            *out = e;
            return true;
        }
    }
    return false;
}
