#include "core/worker.h"
#include "test.h"

static struct worker w;
static int order[8], steps;
static struct turn_task task, chained;
static struct timer timer;
static uint64_t timer_now, started_ns;

static void run_chained(struct turn_task *t, struct worker *worker)
{
    (void)t;
    (void)worker;
    order[steps++] = 3;
}

static void run_task(struct turn_task *t, struct worker *worker)
{
    (void)t;
    order[steps++] = 2;
    worker_defer(worker, &chained);
    worker_defer(worker, &chained); // once
}

static void on_timer(struct timer *t, uint64_t now_ns)
{
    (void)t;
    order[steps++] = 1;
    timer_now = now_ns;
    worker_defer(&w, &task);
    worker_request_stop(&w);
    worker_request_stop(&w); // twice is fine
}

static void on_start(struct worker *worker)
{
    started_ns = worker->now_ns;
    timer_init(&timer, on_timer);
    timer_arm(&worker->timers, &timer, worker->now_ns + 15 * NS_PER_MS);
}

TEST(worker_runs_timers_and_deferred_tasks_and_stops)
{
    static struct rcu rcu;
    rcu_init(&rcu, 1);
    struct worker_config cfg = {.cpu = worker_nth_cpu(0), .recv_buffers = 16, .rcu = &rcu};
    steps = 0;
    turn_task_init(&task, run_task);
    turn_task_init(&chained, run_chained);
    REQUIRE(worker_init(&w, &cfg) == OK);
    w.on_start = on_start;
    REQUIRE(worker_start(&w) == OK);
    worker_join(&w);
    REQUIRE(steps == 3);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(order[i], i + 1);
    EXPECT(timer_now >= started_ns + 15 * NS_PER_MS);
    EXPECT(counter_read(&w.counters.c[COUNTER_loop_turns]) >= 2);
    EXPECT(rcu_passed(&rcu, rcu_advance(&rcu))); // offline for good
    worker_fini(&w);
}

TEST(worker_counts_cpus)
{
    EXPECT(worker_cpu_count() >= 1);
    EXPECT(worker_nth_cpu(0) >= 0);
    EXPECT_EQ(worker_nth_cpu(100000), -1);
}
