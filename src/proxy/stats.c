// Names get a number once and keep it; each worker counts behind that number in chunks it
// allocates itself on first use and publishes with a release store, so that the reader never
// sees a half-made one.
#include "proxy/stats.h"
#include "core/check.h"
#include <stdlib.h>

static const char kind_letter[] = {[STAT_LISTENER] = 'L', [STAT_ROUTE] = 'R', [STAT_CLUSTER] = 'C'};

void stat_registry_init(struct stat_registry *r)
{
    memset(r, 0, sizeof(*r));
    pthread_mutex_init(&r->lock, NULL);
    map_init(&r->by_name, NULL, 64);
}

void stat_registry_fini(struct stat_registry *r)
{
    for (uint32_t i = 0; i < r->count; i++)
        free((void *)(uintptr_t)(r->names[i].name.ptr - 1));
    free(r->names);
    map_fini(&r->by_name);
    pthread_mutex_destroy(&r->lock);
}

static uint32_t add_name(struct stat_registry *r, enum stat_kind kind, char *key, size_t len)
{
    if (r->count == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 64;
        r->names = realloc(r->names, r->cap * sizeof(*r->names));
        check(r->names);
    }
    uint32_t id = r->count++;
    r->names[id].kind = kind;
    r->names[id].name = (struct slice){key + 1, len - 1};
    map_put(&r->by_name, (struct slice){key, len}, (void *)(uintptr_t)(id + 1));
    return id;
}

uint32_t stat_register(struct stat_registry *r, enum stat_kind kind, struct slice name)
{
    char *key = malloc(name.len + 2);
    check(key);
    key[0] = kind_letter[kind];
    memcpy(key + 1, name.ptr, name.len);
    key[name.len + 1] = '\0';
    pthread_mutex_lock(&r->lock);
    uintptr_t found = (uintptr_t)map_get(&r->by_name, (struct slice){key, name.len + 1});
    uint32_t id;
    if (found) {
        id = (uint32_t)found - 1;
        free(key);
    } else {
        id = add_name(r, kind, key, name.len + 1);
    }
    pthread_mutex_unlock(&r->lock);
    return id;
}

struct stat_table *stat_table_create(void)
{
    struct stat_table *t = calloc(1, sizeof(*t));
    check(t);
    return t;
}

void stat_table_destroy(struct stat_table *t)
{
    if (!t)
        return;
    for (uint32_t i = 0; i < STAT_CHUNKS; i++)
        free(atomic_load_explicit(&t->chunks[i], memory_order_relaxed));
    free(t);
}

struct stat_entry *stat_get(struct stat_table *t, uint32_t id)
{
    uint32_t chunk = id / STAT_CHUNK;
    if (chunk >= STAT_CHUNKS)
        return NULL;
    struct stat_entry *e = atomic_load_explicit(&t->chunks[chunk], memory_order_relaxed);
    if (unlikely(!e)) {
        e = calloc(STAT_CHUNK, sizeof(*e));
        if (!e)
            return NULL;
        atomic_store_explicit(&t->chunks[chunk], e, memory_order_release);
    }
    return &e[id % STAT_CHUNK];
}

const struct stat_entry *stat_peek(const struct stat_table *t, uint32_t id)
{
    uint32_t chunk = id / STAT_CHUNK;
    if (chunk >= STAT_CHUNKS)
        return NULL;
    struct stat_entry *e = atomic_load_explicit(&t->chunks[chunk], memory_order_acquire);
    return e ? &e[id % STAT_CHUNK] : NULL;
}
