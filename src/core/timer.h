// Hierarchical timer wheel (Varghese and Lauck 1987), 1 ms ticks, one wheel per worker, no
// locking. Adding, moving and cancelling are O(1). A timer may be late by one tick plus the
// length of a turn of the loop; it is never early. Timers fire from timer_wheel_advance only.
#pragma once
#include "core/list.h"
#include <stdbool.h>
#include <stdint.h>

#define TIMER_LEVELS 5
#define TIMER_SLOTS 64

struct timer {
    struct list_node link;
    uint64_t deadline_ns; // of the worker's monotonic clock
    void (*fire)(struct timer *t, uint64_t now_ns);
};

struct timer_wheel {
    uint64_t now_tick;
    uint64_t occupied[TIMER_LEVELS]; // a bit per slot
    struct list_node slots[TIMER_LEVELS][TIMER_SLOTS];
    uint32_t armed;
};

void timer_wheel_init(struct timer_wheel *w, uint64_t now_ns);
void timer_init(struct timer *t, void (*fire)(struct timer *, uint64_t now_ns));
void timer_arm(struct timer_wheel *w, struct timer *t, uint64_t deadline_ns); // moves if armed
void timer_cancel(struct timer_wheel *w, struct timer *t);                    // fine if not armed
bool timer_armed(const struct timer *t);
// Fires all that are due. A callback may arm and cancel any timer, itself included.
void timer_wheel_advance(struct timer_wheel *w, uint64_t now_ns);
// Nanoseconds until the next timer may be due (a lower bound), UINT64_MAX when none is armed.
uint64_t timer_wheel_next_ns(const struct timer_wheel *w, uint64_t now_ns);
