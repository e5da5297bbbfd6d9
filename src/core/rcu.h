// Quiescent-state-based reclamation (QSBR; Desnoyers et al. 2012, "User-Level Implementations of
// Read-Copy Update") for one published pointer and a fixed set of workers.
//
// A worker is online from rcu_online to rcu_offline and says rcu_quiescent once per turn of its
// loop; before it blocks in the kernel it goes offline. On the read side there is no lock and no
// atomic read-modify-write: one load and one store to the worker's own cache line per turn.
// The writer (the control thread) swaps the pointer, reads the epoch with rcu_advance, and may
// free the old object once rcu_passed(epoch) is true.
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define RCU_MAX_WORKERS 256

struct rcu_slot {
    _Alignas(64) _Atomic uint64_t epoch; // 0 = offline
};

struct rcu {
    _Alignas(64) _Atomic uint64_t epoch; // starts at 1
    uint32_t workers;
    struct rcu_slot slots[RCU_MAX_WORKERS];
};

void rcu_init(struct rcu *r, uint32_t workers);
void rcu_online(struct rcu *r, uint32_t worker); // full fence: loads after it see the newest
void rcu_quiescent(struct rcu *r, uint32_t worker);
void rcu_offline(struct rcu *r, uint32_t worker);
uint64_t rcu_advance(struct rcu *r); // control thread, after the swap; returns the epoch to await
bool rcu_passed(const struct rcu *r, uint64_t epoch); // every worker is offline or has seen it
