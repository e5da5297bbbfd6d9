// Statistics of listeners, routes and clusters: a number for each name (kept by the control thread
// for as long as a configuration in service has the name), and for each worker its own counters
// behind that number.
#pragma once
#include "core/counter.h"
#include "core/map.h"
#include "core/slice.h"
#include "proto/exchange.h"
#include "proto/l4_decode.h"
#include <pthread.h>

enum stat_kind { STAT_LISTENER, STAT_ROUTE, STAT_CLUSTER };

struct stat_entry { // written by one worker
    struct counter rq_total;
    struct counter rq_class[5]; // 1xx .. 5xx
    struct counter rq_active;   // gauge; not of routes
    struct counter rq_retry;    // tries after the first one; not of listeners
    struct counter flag[RESPONSE_FLAG_COUNT];
    struct counter request_bytes, response_bytes; // of bodies
    struct histogram latency;                     // request begun -> response complete
    // Of relayed connections; no routes'.
    struct counter cx_total, cx_connect_fail; // the latter: attempts; of clusters only
    struct counter cx_active;                 // gauge
    struct counter rx_bytes, tx_bytes;        // from and to clients
    struct counter held;                      // by who counts here and pins no snapshot
};

struct stat_ops { // of relays whose bytes are looked at; written by one worker
    struct counter c[L4_OP_COUNT];
};

#define STAT_CHUNK 64u
#define STAT_CHUNKS 32768u

struct stat_table { // one per worker
    _Atomic(struct stat_entry *) chunks[STAT_CHUNKS];
    _Atomic(struct stat_ops *) op_chunks[STAT_CHUNKS]; // behind the same numbers
};

struct stat_registry { // control thread, and listings under the lock
    pthread_mutex_t lock;
    struct map by_name; // "C" + name -> number
    struct stat_name {
        enum stat_kind kind;
        struct slice name;   // ptr NULL: the number is free
        uint64_t born, seen; // the epoch of its registration, and of the latest one
    } *names;
    uint32_t count, cap;
    uint32_t *free_ids, free_count;
    uint64_t epoch, collected; // configurations numbered; the one collected for last
};

void stat_registry_init(struct stat_registry *r);
void stat_registry_fini(struct stat_registry *r);
// A new configuration is about to register its names.
void stat_registry_begin(struct stat_registry *r);
uint32_t stat_register(struct stat_registry *r, enum stat_kind kind, struct slice name);
// Of the configuration registered last.
bool stat_current(const struct stat_registry *r, uint32_t id);
// Frees the names that only earlier configurations had, once none of those is in use any more, but
// for those that are `held`; `forget` clears their counters in every worker's table. Their numbers
// are given out again.
void stat_registry_collect(struct stat_registry *r, bool (*held)(void *arg, uint32_t id),
                           void (*forget)(void *arg, uint32_t id), void *arg);
struct stat_table *stat_table_create(void);
void stat_table_destroy(struct stat_table *t);
// The worker's own entry; the chunk is allocated on first use. NULL past the end of the table.
struct stat_entry *stat_get(struct stat_table *t, uint32_t id);
struct stat_ops *stat_ops_get(struct stat_table *t, uint32_t id); // likewise
// The number stays its name's until then, whatever the configuration. The worker whose entry it is.
void stat_hold(struct stat_entry *e);
void stat_release(struct stat_entry *e); // nothing is counted by the holder after this
bool stat_is_held(const struct stat_table *t, uint32_t id); // any thread
// A relayed connection, or a session of UDP, that pins no snapshot: counts and holds. NULL stays
// NULL. flags: enum response_flag.
struct stat_entry *stat_flow_begin(struct stat_entry *e);
void stat_flow_end(struct stat_entry *e, uint32_t flags);
void stat_count_flags(struct stat_entry *e, uint32_t flags);
// Any thread, while no worker counts behind that number.
void stat_clear(struct stat_table *t, uint32_t id);
// Reader side: NULL when this worker never touched it.
const struct stat_entry *stat_peek(const struct stat_table *t, uint32_t id);
const struct stat_ops *stat_ops_peek(const struct stat_table *t, uint32_t id);
