// Hierarchical timer wheel. now_tick is the next tick that has not been processed. A timer that
// expires at tick T lies on the lowest level on which T and now_tick differ in nothing above
// that level's six bits, in the slot of T's six bits; so everything on a level comes before
// everything on the level above, until now_tick enters the slot, which is then cascaded.
// The top level is by distance instead and wraps; what lies beyond it (12 days) waits in its
// furthest slot and is placed anew from there. Owned by one worker.
#include "core/timer.h"
#include "core/check.h"
#include "core/clock.h"

#define BITS 6
#define TOP (TIMER_LEVELS - 1)
#define MASK (TIMER_SLOTS - 1)
#define TICK_NS NS_PER_MS

void timer_wheel_init(struct timer_wheel *w, uint64_t now_ns)
{
    w->now_tick = now_ns / TICK_NS;
    w->armed = 0;
    for (int l = 0; l < TIMER_LEVELS; l++) {
        w->occupied[l] = 0;
        for (int s = 0; s < TIMER_SLOTS; s++)
            list_init(&w->slots[l][s]);
    }
}

void timer_init(struct timer *t, void (*fire)(struct timer *, uint64_t now_ns))
{
    list_init(&t->link);
    t->deadline_ns = 0;
    t->fire = fire;
}

bool timer_armed(const struct timer *t)
{
    return list_linked(&t->link);
}

static void place(struct timer_wheel *w, struct timer *t)
{
    // Rounded up, so that no timer is early; what is already due goes into the next tick.
    uint64_t tick = t->deadline_ns / TICK_NS + (t->deadline_ns % TICK_NS != 0);
    if (tick < w->now_tick)
        tick = w->now_tick;
    uint64_t differ = tick ^ w->now_tick;
    unsigned level = differ ? (unsigned)(63 - __builtin_clzll(differ)) / BITS : 0;
    uint64_t slot;
    if (level < TOP) {
        slot = (tick >> (BITS * level)) & MASK;
    } else {
        level = TOP;
        uint64_t now = w->now_tick >> (BITS * TOP), then = tick >> (BITS * TOP);
        slot = (then - now < TIMER_SLOTS ? then : now + TIMER_SLOTS - 1) & MASK;
    }
    list_insert_tail(&w->slots[level][slot], &t->link);
    w->occupied[level] |= 1ull << slot;
}

// A slot's bit may outlive its last timer: cancelling only unlinks when the slot is not known.
// Finding the slot again from the deadline would need the now_tick of placing; instead the head
// is recognised when the timer is alone in its list.
static void unlink_timer(struct timer_wheel *w, struct timer *t)
{
    struct list_node *next = t->link.next;
    list_remove(&t->link);
    struct list_node *first = &w->slots[0][0];
    if (list_empty(next) && next >= first && next < first + TIMER_LEVELS * TIMER_SLOTS) {
        size_t i = (size_t)(next - first);
        w->occupied[i / TIMER_SLOTS] &= ~(1ull << (i % TIMER_SLOTS));
    }
}

void timer_arm(struct timer_wheel *w, struct timer *t, uint64_t deadline_ns)
{
    if (timer_armed(t))
        unlink_timer(w, t);
    else
        w->armed++;
    t->deadline_ns = deadline_ns;
    place(w, t);
}

void timer_cancel(struct timer_wheel *w, struct timer *t)
{
    if (!timer_armed(t))
        return;
    unlink_timer(w, t);
    w->armed--;
}

struct next {
    uint64_t tick; // when its slot begins, not before now_tick
    unsigned level, slot;
};

// The earliest occupied slot; of equals the highest level, which must be cascaded first.
static bool find_next(const struct timer_wheel *w, struct next *out)
{
    bool found = false;
    for (unsigned l = 0; l < TIMER_LEVELS; l++) {
        if (!w->occupied[l])
            continue;
        uint64_t here = w->now_tick >> (BITS * l);
        unsigned at = (unsigned)(here & MASK);
        uint64_t turned =
            at ? w->occupied[l] >> at | w->occupied[l] << (TIMER_SLOTS - at) : w->occupied[l];
        unsigned ahead = (unsigned)__builtin_ctzll(turned);
        uint64_t tick = (here + ahead) << (BITS * l);
        if (tick < w->now_tick)
            tick = w->now_tick;
        if (!found || tick <= out->tick) {
            *out = (struct next){tick, l, (at + ahead) & MASK};
            found = true;
        }
    }
    return found;
}

static void fire_all(struct timer_wheel *w, struct list_node *due, uint64_t now_ns)
{
    struct list_node *n;
    while ((n = list_pop_head(due))) {
        struct timer *t = container_of(n, struct timer, link);
        dcheck(t->deadline_ns <= now_ns);
        w->armed--;
        t->fire(t, now_ns);
    }
}

void timer_wheel_advance(struct timer_wheel *w, uint64_t now_ns)
{
    uint64_t target = now_ns / TICK_NS;
    struct next n;
    while (find_next(w, &n) && n.tick <= target) {
        struct list_node taken;
        list_init(&taken);
        list_splice_tail(&taken, &w->slots[n.level][n.slot]);
        w->occupied[n.level] &= ~(1ull << n.slot);
        w->now_tick = n.tick;
        if (n.level == 0) {
            // Past this tick already, so that a timer armed anew by a callback lands behind it
            // and one that always asks for "now" cannot hold the loop.
            w->now_tick++;
            fire_all(w, &taken, now_ns);
            continue;
        }
        struct list_node *t;
        while ((t = list_pop_head(&taken)))
            place(w, container_of(t, struct timer, link));
    }
    if (w->now_tick <= target)
        w->now_tick = target + 1;
}

uint64_t timer_wheel_next_ns(const struct timer_wheel *w, uint64_t now_ns)
{
    struct next n;
    if (!find_next(w, &n))
        return UINT64_MAX;
    uint64_t at = n.tick * TICK_NS;
    return at > now_ns ? at - now_ns : 0;
}
