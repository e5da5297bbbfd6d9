// Grace periods (QSBR). Owns the epoch and a slot for each worker on a cache line of its own.
// A slot is written by its worker only, the epoch by the control thread only.
//
// Why the orders suffice; P is the published pointer, S a worker's slot, E the epoch:
//
//  1. Online, store buffering: the worker does S := e; fence; read P. The writer does P := new;
//     fence; read S. Both fences are sequentially consistent, so at least one side sees the
//     other: either the writer reads S != 0 and waits, or the worker reads the new P.
//  2. Quiescent, message passing: the writer does P := new; E := e (release). A worker that
//     read e from E (acquire) sees the new P in every later read. Only then does it store e
//     to S; so S >= e means that whatever it reads from now on is new.
//  3. Freeing: the worker's reads of the old object precede its release store to S (quiescent or
//     offline); the writer's acquire load of S that sees it precedes the free.
//
// tests/unit/core/test_rcu.c checks 1-3 over all interleavings of a small model, with store
// buffers, and shows that the model fails without the fence of rule 1.
#include "core/rcu.h"
#include "core/check.h"

void rcu_init(struct rcu *r, uint32_t workers)
{
    check(workers <= RCU_MAX_WORKERS);
    atomic_init(&r->epoch, 1);
    r->workers = workers;
    for (uint32_t i = 0; i < RCU_MAX_WORKERS; i++)
        atomic_init(&r->slots[i].epoch, 0);
}

void rcu_online(struct rcu *r, uint32_t worker)
{
    uint64_t e = atomic_load_explicit(&r->epoch, memory_order_acquire);
    // An exchange is a full barrier on x86-64 and, unlike a bare fence, is understood by
    // ThreadSanitizer; the fence keeps rule 1 on other machines.
    atomic_exchange_explicit(&r->slots[worker].epoch, e, memory_order_seq_cst);
#ifndef __SANITIZE_THREAD__
    atomic_thread_fence(memory_order_seq_cst);
#endif
}

void rcu_quiescent(struct rcu *r, uint32_t worker)
{
    uint64_t e = atomic_load_explicit(&r->epoch, memory_order_acquire);
    _Atomic uint64_t *slot = &r->slots[worker].epoch;
    // Nothing was published since: leave the line alone.
    if (atomic_load_explicit(slot, memory_order_relaxed) != e)
        atomic_store_explicit(slot, e, memory_order_release);
}

void rcu_offline(struct rcu *r, uint32_t worker)
{
    atomic_store_explicit(&r->slots[worker].epoch, 0, memory_order_release);
}

uint64_t rcu_advance(struct rcu *r)
{
    // seq_cst: the swap before it and the loads of the slots after it stay on their sides.
    return atomic_fetch_add_explicit(&r->epoch, 1, memory_order_seq_cst) + 1;
}

bool rcu_passed(const struct rcu *r, uint64_t epoch)
{
#ifndef __SANITIZE_THREAD__
    atomic_thread_fence(memory_order_seq_cst);
#endif
    for (uint32_t i = 0; i < r->workers; i++) {
        uint64_t e = atomic_load_explicit(&r->slots[i].epoch, memory_order_acquire);
        if (e != 0 && e < epoch)
            return false;
    }
    return true;
}
