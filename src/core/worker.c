// A worker's loop. Owns the ring, the buffers, the wheel and the mailbox; everything but
// worker_request_stop runs on its thread once worker_begin was called.
//
// Invariant: between rcu_offline and rcu_online nothing published is read: that stretch is
// ring_wait only, when it may block.
#include "core/worker.h"
#include "core/check.h"
#include "core/log.h"
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_SQ 256
#define DEFAULT_CQ 8192
#define DEFAULT_BUFFERS 1024
#define DEFAULT_BUFFER_BYTES 8192
#define BUFFER_GROUP 0
#define DATAGRAM_GROUP 1
#define DATAGRAM_BUFFERS 256
// 64 KiB and what stands before them (ring.h); no power of two, lest all begin in one cache set.
#define DATAGRAM_BUFFER_BYTES (65536 + 256)
// Tasks may queue tasks; what is left after this many rounds waits for the next turn.
#define DEFER_ROUNDS 4
#define STOP_GRACE_NS (2 * NS_PER_S)

static void deliver_stop(struct message *m, void *worker)
{
    struct worker *w = worker;
    (void)m;
    w->stop = true;
}

static uint32_t or_default(uint32_t v, uint32_t fallback)
{
    return v ? v : fallback;
}

enum err worker_init(struct worker *w, const struct worker_config *cfg)
{
    memset(w, 0, sizeof(*w));
    w->cfg = *cfg;
    w->cfg.sq_entries = or_default(cfg->sq_entries, DEFAULT_SQ);
    w->cfg.cq_entries = or_default(cfg->cq_entries, DEFAULT_CQ);
    w->cfg.recv_buffers = or_default(cfg->recv_buffers, DEFAULT_BUFFERS);
    w->cfg.recv_buffer_bytes = or_default(cfg->recv_buffer_bytes, DEFAULT_BUFFER_BYTES);
    w->stop_message.deliver = deliver_stop;
    list_init(&w->dirty);
    rng_init(&w->rng, 0);
    w->now_ns = clock_monotonic_ns();
    w->now_unix_s = clock_realtime_ns() / NS_PER_S;
    timer_wheel_init(&w->timers, w->now_ns);
    enum err e = mailbox_init(&w->mailbox, w);
    if (e != OK)
        return e;
    e = ring_init(&w->ring, w->cfg.sq_entries, w->cfg.cq_entries);
    if (e == OK) {
        e = bufring_init(&w->bufs, &w->ring, BUFFER_GROUP, w->cfg.recv_buffers,
                         w->cfg.recv_buffer_bytes);
        if (e != OK)
            ring_fini(&w->ring);
    }
    if (e != OK)
        mailbox_fini(&w->mailbox);
    return e;
}

void worker_fini(struct worker *w)
{
    bufring_fini(&w->bufs, &w->ring);
    bufring_fini(&w->datagrams, &w->ring);
    ring_fini(&w->ring);
    w->mailbox.poll.inflight = false; // went with the ring
    mailbox_fini(&w->mailbox);
}

struct bufring *worker_datagrams(struct worker *w)
{
    struct bufring *b = &w->datagrams;
    if (!b->ring_mem &&
        bufring_init(b, &w->ring, DATAGRAM_GROUP, DATAGRAM_BUFFERS, DATAGRAM_BUFFER_BYTES) != OK)
        return NULL;
    return b;
}

void worker_defer(struct worker *w, struct turn_task *t)
{
    if (!list_linked(&t->link))
        list_insert_tail(&w->dirty, &t->link);
}

static void run_deferred(struct worker *w)
{
    for (int round = 0; round < DEFER_ROUNDS && !list_empty(&w->dirty); round++) {
        struct list_node batch, *n;
        list_init(&batch);
        list_splice_tail(&batch, &w->dirty);
        while ((n = list_pop_head(&batch))) {
            struct turn_task *t = container_of(n, struct turn_task, link);
            t->run(t, w);
        }
    }
}

static void read_clock(struct worker *w)
{
    w->now_ns = clock_monotonic_ns();
    w->now_unix_s = clock_realtime_ns() / NS_PER_S;
}

// A blocking wait is a grace period by itself; a poll is not worth leaving for.
static void wait_for_work(struct worker *w)
{
    uint64_t timeout = list_empty(&w->dirty) ? timer_wheel_next_ns(&w->timers, w->now_ns) : 0;
    if (w->stop && timeout > NS_PER_S / 10)
        timeout = NS_PER_S / 10; // on_stop may wait for something that wakes nobody
    if (timeout && w->cfg.rcu)
        rcu_offline(w->cfg.rcu, w->cfg.id);
    ring_wait(&w->ring, timeout);
    if (timeout && w->cfg.rcu)
        rcu_online(w->cfg.rcu, w->cfg.id);
    read_clock(w);
}

static void publish_counters(struct worker *w)
{
    worker_count(w, loop_turns);
    if (unlikely(w->ring.overflows != w->overflows_seen)) {
        worker_count_n(w, ring_overflows, w->ring.overflows - w->overflows_seen);
        w->overflows_seen = w->ring.overflows;
    }
    uint64_t starved = w->bufs.enobufs + w->datagrams.enobufs;
    if (unlikely(starved != w->enobufs_seen)) {
        worker_count_n(w, buffer_starved, starved - w->enobufs_seen);
        w->enobufs_seen = starved;
    }
    atomic_store_explicit(&w->counters.c[COUNTER_buffers_out].v,
                          bufring_held(&w->bufs) + bufring_held(&w->datagrams),
                          memory_order_relaxed);
    if (w->output)
        atomic_store_explicit(&w->counters.c[COUNTER_output_chunks].v, w->output->in_use,
                              memory_order_relaxed);
}

// Whether the loop goes on.
static bool stop_progress(struct worker *w)
{
    if (!w->mailbox.stopping) {
        if (w->on_stop && !w->on_stop(w))
            return true;
        mailbox_stop(&w->mailbox);
        w->stop_deadline_ns = w->now_ns + STOP_GRACE_NS;
    }
    if (w->ring.inflight == 0 && list_empty(&w->dirty))
        return false;
    if (w->now_ns < w->stop_deadline_ns)
        return true;
    log_warn("worker_stop_forced", "worker=%u inflight=%u", w->cfg.id, w->ring.inflight);
    return false;
}

bool worker_turn(struct worker *w)
{
    wait_for_work(w);
    ring_dispatch(&w->ring);
    mailbox_drain(&w->mailbox);
    timer_wheel_advance(&w->timers, w->now_ns);
    if (w->on_turn)
        w->on_turn(w);
    run_deferred(w);
    bufring_flush(&w->bufs);
    if (w->datagrams.ring_mem)
        bufring_flush(&w->datagrams);
    publish_counters(w);
    if (w->cfg.rcu)
        rcu_quiescent(w->cfg.rcu, w->cfg.id);
    return !w->stop || stop_progress(w);
}

enum err worker_begin(struct worker *w)
{
    enum err e = ring_enable(&w->ring);
    if (e != OK)
        return e;
    if (w->cfg.rcu)
        rcu_online(w->cfg.rcu, w->cfg.id);
    read_clock(w);
    mailbox_start(&w->mailbox, &w->ring);
    if (w->on_start)
        w->on_start(w);
    run_deferred(w);
    return OK;
}

void worker_end(struct worker *w)
{
    if (w->cfg.rcu)
        rcu_offline(w->cfg.rcu, w->cfg.id);
    ring_disable(&w->ring);
}

static void pin(struct worker *w)
{
    if (w->cfg.cpu < 0)
        return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((unsigned)w->cfg.cpu, &set);
    int rc = pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
    if (rc != 0) // goes on unpinned: slower, not wrong
        log_warn("worker_pin_failed", "worker=%u cpu=%d error=\"%s\"", w->cfg.id, w->cfg.cpu,
                 strerror(rc));
}

void worker_run(struct worker *w)
{
    pin(w);
    if (worker_begin(w) != OK) {
        log_error("worker_ring_failed", "worker=%u error=\"%m\"", w->cfg.id);
        abort(); // the ring was created: only a broken kernel refuses to enable it
    }
    while (worker_turn(w))
        continue;
    worker_end(w);
}

static void *thread_main(void *arg)
{
    worker_run(arg);
    return NULL;
}

enum err worker_start(struct worker *w)
{
    int rc = pthread_create(&w->thread, NULL, thread_main, w);
    if (rc != 0) {
        errno = rc;
        return ERR_IO;
    }
    char name[16];
    snprintf(name, sizeof(name), "worker-%u", w->cfg.id);
    pthread_setname_np(w->thread, name);
    w->started = true;
    return OK;
}

void worker_request_stop(struct worker *w)
{
    if (!atomic_exchange(&w->stop_requested, true))
        mailbox_send(&w->mailbox, &w->stop_message);
}

void worker_join(struct worker *w)
{
    if (!w->started)
        return;
    pthread_join(w->thread, NULL);
    w->started = false;
}
