// The simulator's time, chance and loop.
#include "sim.h"
#include "core/check.h"
#include "core/clock.h"
#include "core/slice.h"
#include "sim_socket.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct sim_faults sim_faults;

static struct rng rng;
static uint64_t now_ns, current_seed;
static void (*step_fn)(void *arg);
static void *step_arg;

void sim_socket_reset_all(void);

struct rng *sim_rng(void)
{
    return &rng;
}

bool sim_chance(uint32_t per_mille)
{
    return per_mille > 0 && rng_below(&rng, 1000) < per_mille;
}

uint64_t sim_now_ns(void)
{
    return now_ns;
}

void sim_time_pass(uint64_t ns)
{
    now_ns += ns;
}

uint64_t clock_monotonic_ns(void)
{
    return now_ns;
}

uint64_t clock_realtime_ns(void)
{
    return 1800000000ull * NS_PER_S + now_ns;
}

// Half of the seeds are kind in one respect or another, so that each fault is also seen alone.
static uint32_t draw(uint32_t max)
{
    return sim_chance(500) ? 0 : rng_below(&rng, max + 1);
}

void sim_begin(uint64_t seed)
{
    rng_init(&rng, seed + 1); // 0 would ask the kernel
    slice_hash_seed(seed * 2 + 1);
    now_ns = 1000 * NS_PER_S;
    step_fn = NULL;
    sim_socket_reset_all();
    sim_pipe_reset_all();
    sim_ring_forget();
    sim_faults = (struct sim_faults){.late = draw(600),
                                     .short_send = draw(200),
                                     .no_buffers = draw(100),
                                     .lost_more = draw(200),
                                     .cancel_lost = draw(500),
                                     .accept_fails = draw(50),
                                     .connect_fails = draw(50),
                                     .reset_drops = draw(1000)};
}

void sim_end(void)
{
    check(sim_ring_idle());
    check(sim_open_sockets() == 0);
    check(sim_open_pipes() == 0);
    sim_socket_reset_all();
}

static void name_seed(int sig)
{
    dprintf(STDERR_FILENO, "in seed %llu\n", (unsigned long long)current_seed);
    signal(sig, SIG_DFL);
    raise(sig);
}

void sim_run_seeds(bool (*run)(uint64_t seed))
{
    const char *one = getenv("SIM_SEED"), *many = getenv("SIM_SEEDS");
    uint64_t first = one ? strtoull(one, NULL, 10) : 1;
    uint64_t count = one ? 1 : many ? strtoull(many, NULL, 10) : 1000;
    signal(SIGABRT, name_seed);
    for (current_seed = first; current_seed < first + count; current_seed++)
        if (!run(current_seed))
            break;
    signal(SIGABRT, SIG_DFL);
}

void sim_on_step(void (*step)(void *arg), void *arg)
{
    step_fn = step;
    step_arg = arg;
}

void sim_step(void)
{
    if (step_fn)
        step_fn(step_arg);
}

bool sim_run(struct worker *w, bool (*until)(void *arg), void *arg, uint64_t max_ns)
{
    uint64_t end = now_ns + max_ns;
    while (!until(arg)) {
        if (now_ns >= end)
            return false;
        worker_turn(w);
    }
    return true;
}
