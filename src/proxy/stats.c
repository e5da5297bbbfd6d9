// Names have a number as long as they are in a configuration that is in use; each worker counts
// behind that number in chunks it allocates itself on first use and publishes with a release store,
// so that the reader never sees a half-made one. A number is given to another name only when no
// snapshot with the old name is left, so that nobody still counts for it.
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
        if (r->names[i].name.ptr)
            free((void *)(uintptr_t)(r->names[i].name.ptr - 1));
    free(r->names);
    free(r->free_ids);
    map_fini(&r->by_name);
    pthread_mutex_destroy(&r->lock);
}

static uint32_t free_number(struct stat_registry *r)
{
    if (r->free_count)
        return r->free_ids[--r->free_count];
    if (r->count == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 64;
        r->names = realloc(r->names, r->cap * sizeof(*r->names));
        r->free_ids = realloc(r->free_ids, r->cap * sizeof(*r->free_ids));
        check(r->names && r->free_ids);
    }
    return r->count++;
}

static uint32_t add_name(struct stat_registry *r, enum stat_kind kind, char *key, size_t len)
{
    uint32_t id = free_number(r);
    r->names[id] = (struct stat_name){kind, {key + 1, len - 1}, .born = r->epoch, .seen = r->epoch};
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
        r->names[id].seen = r->epoch;
        free(key);
    } else {
        id = add_name(r, kind, key, name.len + 1);
    }
    pthread_mutex_unlock(&r->lock);
    return id;
}

void stat_registry_begin(struct stat_registry *r)
{
    r->epoch++;
}

bool stat_current(const struct stat_registry *r, uint32_t id)
{
    return r->names[id].name.ptr && r->names[id].seen == r->epoch;
}

void stat_registry_collect(struct stat_registry *r, bool (*held)(void *arg, uint32_t id),
                           void (*forget)(void *arg, uint32_t id), void *arg)
{
    if (r->collected == r->epoch)
        return;
    bool all = true;
    pthread_mutex_lock(&r->lock);
    for (uint32_t i = 0; i < r->count; i++) {
        struct stat_name *n = &r->names[i];
        if (!n->name.ptr || n->seen == r->epoch)
            continue;
        if (held(arg, i)) {
            all = false;
            continue;
        }
        char *key = (char *)(uintptr_t)(n->name.ptr - 1);
        map_remove(&r->by_name, (struct slice){key, n->name.len + 1});
        free(key);
        n->name = (struct slice){NULL, 0};
        forget(arg, i);
        r->free_ids[r->free_count++] = i;
    }
    pthread_mutex_unlock(&r->lock);
    if (all)
        r->collected = r->epoch;
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
    for (uint32_t i = 0; i < STAT_CHUNKS; i++) {
        free(atomic_load_explicit(&t->chunks[i], memory_order_relaxed));
        free(atomic_load_explicit(&t->op_chunks[i], memory_order_relaxed));
    }
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

struct stat_ops *stat_ops_get(struct stat_table *t, uint32_t id)
{
    uint32_t chunk = id / STAT_CHUNK;
    if (chunk >= STAT_CHUNKS)
        return NULL;
    struct stat_ops *o = atomic_load_explicit(&t->op_chunks[chunk], memory_order_relaxed);
    if (!o) {
        o = calloc(STAT_CHUNK, sizeof(*o));
        if (!o)
            return NULL;
        atomic_store_explicit(&t->op_chunks[chunk], o, memory_order_release);
    }
    return &o[id % STAT_CHUNK];
}

// Before its snapshot is unpinned, with release: who has seen that sees this.
void stat_hold(struct stat_entry *e)
{
    counter_add(&e->held, 1);
}

void stat_release(struct stat_entry *e)
{
    uint64_t held = counter_read(&e->held);
    check(held > 0);
    atomic_store_explicit(&e->held.v, held - 1, memory_order_release);
}

struct stat_entry *stat_flow_begin(struct stat_entry *e)
{
    if (!e)
        return NULL;
    stat_hold(e);
    counter_add(&e->cx_total, 1);
    counter_add(&e->cx_active, 1);
    return e;
}

void stat_count_flags(struct stat_entry *e, uint32_t flags)
{
    for (; e && flags; flags &= flags - 1)
        counter_add(&e->flag[__builtin_ctz(flags)], 1);
}

void stat_flow_end(struct stat_entry *e, uint32_t flags)
{
    if (!e)
        return;
    counter_add(&e->cx_active, (uint64_t)-1);
    stat_count_flags(e, flags);
    stat_release(e);
}

bool stat_is_held(const struct stat_table *t, uint32_t id)
{
    const struct stat_entry *e = stat_peek(t, id);
    return e && atomic_load_explicit(&e->held.v, memory_order_acquire) > 0;
}

static void clear_counters(void *counters, size_t bytes)
{
    struct counter *c = counters;
    for (size_t i = 0; c && i < bytes / sizeof(*c); i++)
        atomic_store_explicit(&c[i].v, 0, memory_order_relaxed);
}

void stat_clear(struct stat_table *t, uint32_t id)
{
    struct stat_entry *e = (struct stat_entry *)(uintptr_t)stat_peek(t, id);
    struct stat_ops *o = (struct stat_ops *)(uintptr_t)stat_ops_peek(t, id);
    _Static_assert(sizeof(*e) % sizeof(struct counter) == 0, "an entry is nothing but counters");
    clear_counters(e, sizeof(*e));
    clear_counters(o, sizeof(*o));
}

const struct stat_ops *stat_ops_peek(const struct stat_table *t, uint32_t id)
{
    uint32_t chunk = id / STAT_CHUNK;
    if (chunk >= STAT_CHUNKS)
        return NULL;
    struct stat_ops *o = atomic_load_explicit(&t->op_chunks[chunk], memory_order_acquire);
    return o ? &o[id % STAT_CHUNK] : NULL;
}

const struct stat_entry *stat_peek(const struct stat_table *t, uint32_t id)
{
    uint32_t chunk = id / STAT_CHUNK;
    if (chunk >= STAT_CHUNKS)
        return NULL;
    struct stat_entry *e = atomic_load_explicit(&t->chunks[chunk], memory_order_acquire);
    return e ? &e[id % STAT_CHUNK] : NULL;
}
