// A worker: one pinned thread, one ring, its own sockets, buffers, timers, pools and counters.
// Nothing it writes on the data path is read by another thread, except the counters.
//
// A turn: submit and wait once, read the clock, dispatch completions, deliver messages, run due
// timers, on_turn, run the deferred tasks (flush every connection that got output), recycle
// buffers, quiescent state.
#pragma once
#include "core/bufring.h"
#include "core/clock.h"
#include "core/counter.h"
#include "core/err.h"
#include "core/list.h"
#include "core/mailbox.h"
#include "core/pool.h"
#include "core/rcu.h"
#include "core/ring.h"
#include "core/rng.h"
#include "core/timer.h"
#include <pthread.h>

struct worker_config {
    uint32_t id;                     // 0-based, also the RCU slot
    int cpu;                         // to be pinned to, -1 = not pinned
    uint32_t sq_entries, cq_entries; // 0 = defaults (256, 8192)
    uint32_t recv_buffers;           // a power of two; 0 = default (1024)
    uint32_t recv_buffer_bytes;      // 0 = default (8192)
    struct rcu *rcu;
};

struct worker {
    struct worker_config cfg;
    struct ring ring;
    struct bufring bufs;
    struct bufring datagrams; // see worker_datagrams
    struct timer_wheel timers;
    struct mailbox mailbox;
    struct rng rng;
    struct counter_block counters;
    uint64_t now_ns;     // monotonic, read once per turn
    uint64_t now_unix_s; // wall clock, refreshed once per turn
    // Work that waits for the end of this turn (struct turn_task), e.g. connections with output.
    struct list_node dirty;
    bool stop;
    struct message stop_message;
    _Atomic bool stop_requested;
    uint64_t overflows_seen, enobufs_seen; // already counted
    uint64_t stop_deadline_ns;
    pthread_t thread;
    bool started;              // there is a thread to join
    const struct pool *output; // how much of it is in use is published each turn; may be NULL
    // Hooks of the layer above; each may be NULL. Run on the worker's thread.
    void *app;
    void (*on_start)(struct worker *w);
    void (*on_turn)(struct worker *w); // after completions and timers, before the dirty list
    bool (*on_stop)(struct worker *w); // true once nothing is left in flight and the loop may end
};

struct turn_task {
    struct list_node link;
    void (*run)(struct turn_task *t, struct worker *w);
};

enum err worker_init(struct worker *w, const struct worker_config *cfg) must_use;
enum err worker_start(struct worker *w) must_use; // creates the thread
void worker_run(struct worker *w); // the loop; worker_start calls it on the new thread
// The pieces of worker_run, for tests that drive a worker in their own thread: begin once, then
// turns until one returns false (nothing left after a stop), then end.
enum err worker_begin(struct worker *w) must_use;
bool worker_turn(struct worker *w);
void worker_end(struct worker *w);
void worker_request_stop(struct worker *w); // any thread
void worker_join(struct worker *w);
void worker_fini(struct worker *w);
// Buffers that hold the largest datagram, made when first asked for. Their number is also what one
// turn receives of them at most. NULL: there is no memory for them.
struct bufring *worker_datagrams(struct worker *w);
// Queues the task for the end of this turn; queued once however often it is called.
void worker_defer(struct worker *w, struct turn_task *t);

static inline void turn_task_init(struct turn_task *t,
                                  void (*run)(struct turn_task *, struct worker *))
{
    list_init(&t->link);
    t->run = run;
}
// Takes it out again; fine if it is not queued.
static inline void turn_task_cancel(struct turn_task *t)
{
    list_remove(&t->link);
}

// How many CPUs this process may use: sched_getaffinity, then the cgroup's cpu.max, at least 1.
uint32_t worker_cpu_count(void);
int worker_nth_cpu(uint32_t n); // the n-th CPU of the affinity mask, -1 if none

// Turns of its loop so far, the present one included.
static inline uint64_t worker_turns(const struct worker *w)
{
    return counter_read(&w->counters.c[COUNTER_loop_turns]);
}

#define worker_count(w, name) counter_add(&(w)->counters.c[COUNTER_##name], 1)
#define worker_count_n(w, name, n) counter_add(&(w)->counters.c[COUNTER_##name], (uint64_t)(n))
