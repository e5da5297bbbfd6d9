// Balancing: weights are kept, the busy one is avoided, a failed one is not asked again.
#include "core/worker.h"
#include "test.h"
#include "upstream/cluster.h"
#include <stdlib.h>
#include <time.h>

#define N 4
#define DRAWS 40000

static struct endpoint_config endpoints[N];
static struct worker worker;
static struct conn_pool pool;

static struct cluster_config made; // what the last one was made of

static struct upstream_cluster *make(enum lb_policy policy, const uint32_t weights[N])
{
    rng_init(&worker.rng, 42);
    conn_pool_init(&pool, &worker, NULL, NULL);
    for (int i = 0; i < N; i++) {
        (void)!addr_parse(SLICE("127.0.0.1"), (uint16_t)(9000 + i), &endpoints[i].addr);
        endpoints[i].weight = weights[i];
    }
    made = (struct cluster_config){
        .name = SLICE("c"), .endpoints = endpoints, .endpoint_count = N, .lb = policy};
    return cluster_create(&pool, &made);
}

static void draw_but(struct upstream_cluster *c, const struct endpoint *const *avoid, uint32_t n,
                     uint32_t counts[N])
{
    memset(counts, 0, N * sizeof(counts[0]));
    for (int i = 0; i < DRAWS; i++) {
        struct endpoint *e = cluster_choose(c, &worker.rng, avoid, n);
        counts[addr_port(&e->addr) - 9000]++;
    }
}

static void draw(struct upstream_cluster *c, uint32_t counts[N])
{
    draw_but(c, NULL, 0, counts);
}

TEST(lb_random_keeps_weights)
{
    const uint32_t weights[N] = {1, 2, 3, 4};
    uint32_t counts[N];
    struct upstream_cluster *c = make(LB_POLICY_RANDOM, weights);
    draw(c, counts);
    for (uint32_t i = 0; i < N; i++) // six standard deviations
        EXPECT(counts[i] > DRAWS / 10 * weights[i] - 600 &&
               counts[i] < DRAWS / 10 * weights[i] + 600);
    cluster_retire(c);
}

TEST(lb_weights_may_add_up_to_more_than_32_bits)
{
    const uint32_t weights[N] = {1u << 31, 1u << 31, 1u << 31, 1u << 31};
    uint32_t counts[N];
    struct upstream_cluster *c = make(LB_POLICY_RANDOM, weights);
    draw(c, counts);
    for (uint32_t i = 0; i < N; i++) // six standard deviations
        EXPECT(counts[i] > DRAWS / 4 - 520 && counts[i] < DRAWS / 4 + 520);
    cluster_retire(c);
}

TEST(lb_round_robin_is_even)
{
    const uint32_t weights[N] = {1, 1, 1, 1};
    uint32_t counts[N];
    struct upstream_cluster *c = make(LB_POLICY_ROUND_ROBIN, weights);
    draw(c, counts);
    for (int i = 0; i < N; i++)
        EXPECT_EQ(counts[i], DRAWS / N);
    cluster_retire(c);
}

// Not twice, once by the draw and once by the comparison: who weighs a tenth has a tenth.
TEST(lb_least_request_keeps_weights_when_nothing_is_busy)
{
    const uint32_t weights[N] = {1, 2, 3, 4};
    uint32_t counts[N];
    struct upstream_cluster *c = make(LB_POLICY_LEAST_REQUEST, weights);
    draw(c, counts);
    for (uint32_t i = 0; i < N; i++) // six standard deviations
        EXPECT(counts[i] > DRAWS / 10 * weights[i] - 600 &&
               counts[i] < DRAWS / 10 * weights[i] + 600);
    cluster_retire(c);
}

TEST(lb_least_request_measures_load_against_weight)
{
    const uint32_t weights[N] = {1, 1, 8, 8};
    struct upstream_cluster *c = make(LB_POLICY_LEAST_REQUEST, weights);
    c->endpoints[0]->active = c->endpoints[1]->active = 1;
    c->endpoints[2]->active = c->endpoints[3]->active = 4; // half as busy for their weight
    uint32_t counts[N];
    draw(c, counts);
    EXPECT(counts[0] + counts[1] < DRAWS / 50); // both draws: (2 / 18)^2
    cluster_retire(c);
}

// However rarely the policy would draw the other.
TEST(lb_one_that_was_tried_is_not_asked_again_while_there_is_another)
{
    static const enum lb_policy policies[] = {LB_POLICY_RANDOM, LB_POLICY_ROUND_ROBIN,
                                              LB_POLICY_LEAST_REQUEST};
    const uint32_t weights[N] = {1000000, 1000000, 1000000, 1};
    for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++) {
        uint32_t counts[N];
        struct upstream_cluster *c = make(policies[i], weights);
        const struct endpoint *const tried[] = {c->endpoints[0], c->endpoints[1], c->endpoints[2]};
        draw_but(c, tried, 3, counts);
        EXPECT_EQ(counts[3], DRAWS);
        cluster_retire(c);
    }
}

TEST(lb_least_request_avoids_the_busy_one)
{
    const uint32_t weights[N] = {1, 1, 1, 1};
    uint32_t counts[N];
    struct upstream_cluster *c = make(LB_POLICY_LEAST_REQUEST, weights);
    c->endpoints[2]->active = 100;
    draw(c, counts);
    EXPECT(counts[2] < DRAWS / 10); // only when both choices fall on it: a sixteenth
    EXPECT(counts[0] > DRAWS / 5);
    cluster_retire(c);
}

TEST(lb_does_not_ask_the_failed_one_again)
{
    const uint32_t weights[N] = {1, 1, 1, 1};
    uint32_t counts[N];
    struct upstream_cluster *c = make(LB_POLICY_RANDOM, weights);
    const struct endpoint *failed = c->endpoints[1];
    draw_but(c, &failed, 1, counts);
    EXPECT(counts[1] < DRAWS / 1000);
    cluster_retire(c);
}

TEST(lb_asks_none_of_those_that_failed_again)
{
    const uint32_t weights[N] = {1, 1, 1, 1};
    uint32_t counts[N];
    struct upstream_cluster *c = make(LB_POLICY_ROUND_ROBIN, weights);
    const struct endpoint *failed[] = {c->endpoints[3], c->endpoints[0], c->endpoints[1]};
    draw_but(c, failed, 3, counts);
    EXPECT_EQ(counts[2], DRAWS);
    cluster_retire(c);
}

// An unchanged reload goes on in the round, it does not begin another.
TEST(lb_round_robin_goes_on_after_a_reload)
{
    const uint32_t weights[N] = {7, 1, 1, 1};
    uint32_t counts[N] = {0};
    struct upstream_cluster *c = make(LB_POLICY_ROUND_ROBIN, weights);
    struct cluster_config cfg = made;
    for (int i = 0; i < 1000; i++) {
        counts[addr_port(&cluster_choose(c, &worker.rng, NULL, 0)->addr) - 9000]++;
        cluster_update(c, &cfg);
    }
    for (uint32_t i = 0; i < N; i++)
        EXPECT_EQ(counts[i], 100 * weights[i]);
    cluster_retire(c);
}

// One endpoint comes or goes with each pick; the others have their shares all the same.
TEST(lb_round_robin_keeps_its_place_when_another_endpoint_comes_or_goes)
{
    const uint32_t weights[N] = {6, 3, 1, 2};
    uint32_t counts[N] = {0}, without = 0;
    struct upstream_cluster *c = make(LB_POLICY_ROUND_ROBIN, weights);
    static struct cluster_config cfgs[2];
    cfgs[0] = cfgs[1] = made;
    cfgs[1].endpoint_count = N - 1;
    for (uint32_t i = 0; i < 12000; i++) {
        cluster_update(c, &cfgs[i % 2]);
        uint32_t at = addr_port(&cluster_choose(c, &worker.rng, NULL, 0)->addr) - 9000u;
        counts[at]++;
        without += at == N - 1;
    }
    uint32_t rest = 12000 - without;
    for (uint32_t i = 0; i < N - 1; i++)
        EXPECT(counts[i] > rest * weights[i] / 10 - 60 && counts[i] < rest * weights[i] / 10 + 60);
    cluster_retire(c);
}

TEST(cluster_update_keeps_endpoints_by_address)
{
    const uint32_t weights[N] = {1, 1, 1, 1};
    struct upstream_cluster *c = make(LB_POLICY_RANDOM, weights);
    struct endpoint *second = c->endpoints[1];
    struct cluster_config cfg = {
        .name = SLICE("c"), .endpoints = endpoints + 1, .endpoint_count = 2};
    endpoint_begin(c->endpoints[0]);
    struct endpoint *gone = c->endpoints[0];
    cluster_update(c, &cfg);
    EXPECT_EQ(c->endpoint_count, 2);
    EXPECT(c->endpoints[0] == second);
    EXPECT(gone->retired);
    endpoint_end(gone); // the exchange that was on it lets go
    cluster_retire(c);
}

static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

// So many endpoints, then the same in the opposite order with every other one replaced.
static uint64_t reload_ns(uint32_t count)
{
    struct endpoint_config *list = calloc(2 * (size_t)count, sizeof(*list)), *other = list + count;
    uint64_t took = UINT64_MAX;
    if (!list)
        abort();
    for (uint32_t i = 0; i < 2 * count; i++) {
        list[i].addr.in.sin_family = AF_INET;
        list[i].addr.in.sin_addr.s_addr = htonl(0x0a000000 + i);
        list[i].addr.len = sizeof(list[i].addr.in);
    }
    for (uint32_t i = 0; i < count; i += 2)
        other[i] = list[count - 1 - i];
    struct cluster_config cfg = {.name = SLICE("c"), .endpoints = list, .endpoint_count = count};
    struct cluster_config next = {.name = SLICE("c"), .endpoints = other, .endpoint_count = count};
    conn_pool_init(&pool, &worker, NULL, NULL);
    struct upstream_cluster *c = cluster_create(&pool, &cfg);
    for (int tries = 0; tries < 3; tries++) {
        const struct endpoint *kept = c->endpoints[count - 1];
        uint64_t begin = cpu_ns();
        cluster_update(c, &next);
        uint64_t now = cpu_ns() - begin;
        took = now < took ? now : took;
        EXPECT(c->endpoints[0] == kept);
        cluster_update(c, &cfg);
    }
    cluster_retire(c);
    free(list);
    return took;
}

// Ten times the endpoints may take forty times as long, as in test_scale.c: not a hundred times.
TEST(cluster_update_takes_time_in_proportion)
{
    uint64_t few = reload_ns(2000), many = reload_ns(20000);
    uint64_t least = 2000000; // below, what else the machine does decides
    if (many > (few < least ? least : few) * 40)
        test_fail(__FILE__, __LINE__, "2,000 take %.1f ms, 20,000 take %.1f ms", (double)few / 1e6,
                  (double)many / 1e6);
}
