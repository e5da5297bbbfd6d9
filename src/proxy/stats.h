// Statistics of listeners, routes and clusters: a stable number for each name (kept across
// reloads by the control thread), and for each worker its own counters behind that number.
#pragma once
#include "core/counter.h"
#include "core/map.h"
#include "core/slice.h"
#include <pthread.h>

enum stat_kind { STAT_LISTENER, STAT_ROUTE, STAT_CLUSTER };

struct stat_entry { // written by one worker
    struct counter rq_total;
    struct counter rq_class[5]; // 1xx .. 5xx
    struct counter rq_active;   // gauge
    struct histogram latency;   // request begun -> response complete
};

#define STAT_CHUNK 64u
#define STAT_CHUNKS 32768u

struct stat_table { // one per worker
    _Atomic(struct stat_entry *) chunks[STAT_CHUNKS];
};

struct stat_registry { // control thread, and listings under the lock
    pthread_mutex_t lock;
    struct map by_name; // "C" + name -> number
    struct stat_name {
        enum stat_kind kind;
        struct slice name;
    } *names;
    uint32_t count, cap;
};

void stat_registry_init(struct stat_registry *r);
void stat_registry_fini(struct stat_registry *r);
uint32_t stat_register(struct stat_registry *r, enum stat_kind kind, struct slice name);
struct stat_table *stat_table_create(void);
void stat_table_destroy(struct stat_table *t);
// The worker's own entry; the chunk is allocated on first use. NULL past the end of the table.
struct stat_entry *stat_get(struct stat_table *t, uint32_t id);
// Reader side: NULL when this worker never touched it.
const struct stat_entry *stat_peek(const struct stat_table *t, uint32_t id);
