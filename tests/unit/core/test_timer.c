#include "core/clock.h"
#include "core/rng.h"
#include "core/timer.h"
#include "test.h"
#include <stdlib.h>

#define N 600

struct probe {
    struct timer t;
    uint64_t fired_ns; // 0 = not yet
    uint32_t fires;
};

static struct probe probes[N];
static struct timer_wheel wheel;

static void on_fire(struct timer *t, uint64_t now_ns)
{
    struct probe *p = container_of(t, struct probe, t);
    p->fired_ns = now_ns;
    p->fires++;
}

static uint64_t random_span(struct rng *r)
{
    static const uint64_t spans[] = {NS_PER_MS, 70 * NS_PER_MS, 5 * NS_PER_S, 400 * NS_PER_S,
                                     20000 * NS_PER_S, 2000000ull * NS_PER_S};
    return rng_next(r) % spans[rng_below(r, 6)];
}

// Never early; fired by the first advance that is a tick past the deadline; cancelled ones never;
// next_ns is never later than the earliest deadline. From several starting times, so that
// every level's boundary is crossed.
static void soak(uint64_t start, uint64_t seed)
{
    struct rng r;
    uint64_t now = start;
    rng_init(&r, seed);
    timer_wheel_init(&wheel, now);
    for (int i = 0; i < N; i++) {
        probes[i] = (struct probe){0};
        timer_init(&probes[i].t, on_fire);
        timer_arm(&wheel, &probes[i].t, now + random_span(&r));
    }
    for (int step = 0; step < 4000; step++) {
        uint64_t next = timer_wheel_next_ns(&wheel, now), least = UINT64_MAX;
        for (int i = 0; i < N; i++)
            if (timer_armed(&probes[i].t) && probes[i].t.deadline_ns < least)
                least = probes[i].t.deadline_ns;
        REQUIRE((least == UINT64_MAX) == (next == UINT64_MAX));
        if (next == UINT64_MAX)
            break;
        REQUIRE(now + next <= (least > now ? least : now) + NS_PER_MS);
        now += rng_below(&r, 4) ? next : random_span(&r) / 16;
        timer_wheel_advance(&wheel, now);
        for (int i = 0; i < N; i++) {
            struct probe *p = &probes[i];
            if (p->fired_ns) {
                REQUIRE(p->t.deadline_ns <= now && !timer_armed(&p->t) && p->fires == 1);
                p->fired_ns = p->fires = 0;
                if (rng_below(&r, 3) == 0)
                    timer_arm(&wheel, &p->t, now + random_span(&r));
            } else if (timer_armed(&p->t)) {
                REQUIRE(p->t.deadline_ns + NS_PER_MS > now);
                if (rng_below(&r, 2000) == 0)
                    timer_cancel(&wheel, &p->t);
                else if (rng_below(&r, 1000) == 0)
                    timer_arm(&wheel, &p->t, now + random_span(&r));
            }
        }
    }
    uint32_t armed = 0;
    for (int i = 0; i < N; i++)
        armed += timer_armed(&probes[i].t);
    EXPECT_EQ(armed, wheel.armed);
}

TEST(timer_is_never_early_and_at_most_a_tick_late)
{
    const uint64_t ms = NS_PER_MS;
    soak(0, 1);
    soak(ms * ((1ull << 12) - 3), 2);
    soak(ms * ((1ull << 18) - 3), 3);
    soak(ms * ((1ull << 24) - 3), 4);
    soak(ms * ((1ull << 30) - 3), 5); // beyond the top level's range
    soak(ms * ((1ull << 36) - 3), 6);
    soak(clock_monotonic_ns(), 7);
}

static struct timer greedy;
static int greedy_fires;

static void fire_again(struct timer *t, uint64_t now_ns)
{
    if (++greedy_fires < 100)
        timer_arm(&wheel, t, now_ns);
}

TEST(timer_armed_for_now_by_its_callback_does_not_hold_the_loop)
{
    timer_wheel_init(&wheel, 0);
    timer_init(&greedy, fire_again);
    greedy_fires = 0;
    timer_arm(&wheel, &greedy, 0);
    timer_wheel_advance(&wheel, NS_PER_MS);
    EXPECT(greedy_fires >= 1 && greedy_fires <= 2);
    EXPECT(timer_armed(&greedy));
    timer_cancel(&wheel, &greedy);
    EXPECT_EQ(wheel.armed, 0);
    EXPECT(timer_wheel_next_ns(&wheel, 0) == UINT64_MAX);
}

static struct timer pair[2];
static int pair_fires;

static void cancel_other(struct timer *t, uint64_t now_ns)
{
    (void)now_ns;
    pair_fires++;
    timer_cancel(&wheel, t == &pair[0] ? &pair[1] : &pair[0]);
}

TEST(timer_cancelled_by_another_of_the_same_tick_does_not_fire)
{
    timer_wheel_init(&wheel, 0);
    pair_fires = 0;
    for (int i = 0; i < 2; i++) {
        timer_init(&pair[i], cancel_other);
        timer_arm(&wheel, &pair[i], 5 * NS_PER_MS);
    }
    timer_wheel_advance(&wheel, 10 * NS_PER_MS);
    EXPECT_EQ(pair_fires, 1);
    EXPECT_EQ(wheel.armed, 0);
}
