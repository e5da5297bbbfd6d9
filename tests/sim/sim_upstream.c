// Scenario: a worker's connections to two clusters when there is room for few of them. Who is given
// up for whom, who waits, and what becomes of a connection whose exchange has gone.
#include "core/check.h"
#include "core/log.h"
#include "proto/downstream.h"
#include "sim.h"
#include "test.h"
#include "upstream/cluster.h"
#include <errno.h>

#define CAP 2
#define EXCHANGES 4

static struct {
    struct worker w;
    struct tcp_pools tcp;
    struct exchange_pools exchanges;
    struct h1_client_pools clients;
    struct conn_pool pool;
    int listeners[2], accepted[8];
    uint32_t accepted_count;
    struct cluster_config configs[2];
    struct endpoint_config endpoints[2];
    struct upstream_cluster *clusters[2];
    struct exchange *x[EXCHANGES];
    struct conn_waiter waiter;
    uint32_t told, became_ready, resets;
} g;

static void count_ready(struct exchange *x)
{
    (void)x;
    g.became_ready++;
}

static void count_reset(struct exchange *x, enum reset_reason why)
{
    (void)x;
    (void)why;
    g.resets++;
}

static const struct exchange_handler handler = {.upstream_ready = count_ready,
                                                .upstream_reset = count_reset};

static void told(struct conn_waiter *w)
{
    (void)w;
    g.told++;
}

static void accept_all(void *arg)
{
    (void)arg;
    for (int i = 0; i < 2; i++) {
        int fd = sim_accept(g.listeners[i]);
        if (fd >= 0)
            g.accepted[g.accepted_count++] = fd;
    }
}

static void make_cluster(int i)
{
    static const char *const names[] = {"a", "b"};
    check(addr_parse(SLICE("10.0.0.2"), (uint16_t)(80 + i), &g.endpoints[i].addr) == OK);
    g.endpoints[i].weight = 1;
    g.listeners[i] = sim_listen(&g.endpoints[i].addr);
    g.configs[i] = (struct cluster_config){.name = slice_of(names[i]),
                                           .endpoints = &g.endpoints[i],
                                           .endpoint_count = 1,
                                           .connect_timeout_ns = 10 * NS_PER_S,
                                           .idle_timeout_ns = 60 * NS_PER_S};
    g.clusters[i] = cluster_create(&g.pool, &g.configs[i]);
}

static void begin(void)
{
    log_set_level(LOG_LEVEL_OFF);
    memset(&g, 0, sizeof(g));
    sim_begin(7);
    sim_faults = (struct sim_faults){0};
    (void)!worker_init(&g.w, &(struct worker_config){.cpu = -1, .recv_buffers = 16});
    rng_init(&g.w.rng, 1);
    (void)!worker_begin(&g.w);
    tcp_pools_init(&g.tcp, 100, 100);
    exchange_pools_init(&g.exchanges, EXCHANGES);
    h1_client_pools_init(&g.clients, CAP, &g.tcp, &g.exchanges);
    conn_pool_init(&g.pool, &g.w, &g.clients, NULL);
    conn_waiter_init(&g.waiter, told);
    for (int i = 0; i < 2; i++)
        make_cluster(i);
    for (int i = 0; i < EXCHANGES; i++)
        g.x[i] = exchange_create(&g.w, &g.exchanges, &handler, 0);
    sim_on_step(accept_all, NULL);
}

static bool all_closed(void *arg)
{
    (void)arg;
    return g.clients.conns.in_use == 0;
}

static void give_up(struct exchange *x)
{
    if (x->up)
        x->up->ops->reset(x->up, RESET_LOCAL);
}

static void end(void)
{
    for (int i = 0; i < EXCHANGES; i++) {
        give_up(g.x[i]);
        exchange_destroy(&g.exchanges, g.x[i]);
    }
    conn_waiter_cancel(&g.pool, &g.waiter);
    cluster_retire(g.clusters[0]);
    cluster_retire(g.clusters[1]);
    EXPECT(sim_run(&g.w, all_closed, NULL, NS_PER_S));
    EXPECT_EQ(g.pool.closing, 0);
    EXPECT_EQ(g.pool.waiters, 0);
    EXPECT(list_empty(&g.pool.idle));
    EXPECT_EQ(g.w.timers.armed, 0);
    sim_on_step(NULL, NULL);
    worker_request_stop(&g.w);
    while (worker_turn(&g.w))
        continue;
    worker_end(&g.w);
    for (uint32_t i = 0; i < g.accepted_count; i++)
        sim_close(g.accepted[i]);
    for (int i = 0; i < 2; i++)
        sim_close(g.listeners[i]);
    h1_client_pools_fini(&g.clients);
    exchange_pools_fini(&g.exchanges);
    tcp_pools_fini(&g.tcp);
    worker_fini(&g.w);
    sim_end();
}

static enum err acquire(int cluster, struct h1_client **out)
{
    return endpoint_acquire(g.clusters[cluster]->endpoints[0], NULL, SLICE(""), false, &g.waiter,
                            out);
}

static bool ready_count(void *n)
{
    return g.became_ready == *(const uint32_t *)n;
}

// A connection of that cluster that has connected, with the exchange on it.
static struct h1_client *take(int cluster, struct exchange *x)
{
    struct h1_client *h = NULL;
    uint32_t wanted = g.became_ready + 1;
    check(acquire(cluster, &h) == OK);
    h1_client_attach(h, x);
    if (!h1_client_connected(h))
        check(sim_run(&g.w, ready_count, &wanted, NS_PER_S));
    return h;
}

static bool was_told(void *arg)
{
    (void)arg;
    return g.told > 0;
}

static uint64_t counted(enum counter_id id)
{
    return counter_read(&g.w.counters.c[id]);
}

TEST(upstream_idle_connection_makes_room_for_another_cluster)
{
    struct h1_client *h;
    begin();
    struct h1_client *older = take(0, g.x[0]), *newer = take(0, g.x[1]);
    give_up(g.x[0]);
    give_up(g.x[1]);
    EXPECT_EQ(acquire(1, &h), MORE);
    EXPECT(g.clusters[0]->endpoints[0]->idle.next == h1_client_pool_link(newer));
    EXPECT(!list_linked(h1_client_pool_link(older))); // the one unused for longest
    EXPECT(sim_run(&g.w, was_told, NULL, NS_PER_S));
    EXPECT_EQ(acquire(1, &h), OK);
    EXPECT_EQ(g.clusters[0]->connections, 1);
    EXPECT_EQ(g.clusters[1]->connections, 1);
    EXPECT_EQ(counted(COUNTER_upstream_cx_overflow), 1);
    EXPECT_EQ(counted(COUNTER_upstream_cx_evicted), 1);
    h1_client_attach(h, g.x[2]);
    end();
}

TEST(upstream_idle_connection_makes_room_when_descriptors_are_used_up)
{
    struct h1_client *h;
    begin();
    take(0, g.x[0]);
    give_up(g.x[0]);
    sim_faults.socket_fails = 1000;
    EXPECT_EQ(acquire(1, &h), MORE);
    sim_faults.socket_fails = 0;
    EXPECT(sim_run(&g.w, was_told, NULL, NS_PER_S));
    EXPECT_EQ(acquire(1, &h), OK);
    h1_client_attach(h, g.x[1]);
    EXPECT_EQ(g.clusters[0]->connections, 0);
    end();
}

TEST(upstream_connection_in_use_makes_no_room)
{
    struct h1_client *h;
    begin();
    take(0, g.x[0]);
    take(0, g.x[1]);
    EXPECT_EQ(acquire(1, &h), ERR_LIMIT);
    EXPECT_EQ(acquire(0, &h), ERR_LIMIT);
    EXPECT_EQ(counted(COUNTER_upstream_cx_overflow), 2);
    EXPECT_EQ(counted(COUNTER_upstream_cx_evicted), 0);
    end();
}

TEST(upstream_two_that_wait_do_not_wait_for_the_same_connection)
{
    struct h1_client *h;
    struct conn_waiter second;
    begin();
    conn_waiter_init(&second, told);
    take(0, g.x[0]);
    take(0, g.x[1]);
    give_up(g.x[0]);
    EXPECT_EQ(acquire(1, &h), MORE);
    struct endpoint *e = g.clusters[1]->endpoints[0];
    EXPECT_EQ(endpoint_acquire(e, NULL, SLICE(""), false, &second, &h), ERR_LIMIT);
    give_up(g.x[1]);
    EXPECT_EQ(endpoint_acquire(e, NULL, SLICE(""), false, &second, &h), MORE);
    conn_waiter_cancel(&g.pool, &g.waiter); // its exchange has ended
    EXPECT(sim_run(&g.w, was_told, NULL, NS_PER_S));
    EXPECT(!list_linked(&second.link));
    end();
}

// ---- connections that tell who the client is

static void client_at(struct downstream *d, const char *address)
{
    *d = (struct downstream){.worker = &g.w};
    list_init(&d->own_upstreams);
    check(addr_parse_port(slice_of(address), &d->peer) == OK);
    check(addr_parse_port(SLICE("10.0.0.1:80"), &d->local) == OK);
}

static void tell_clients(int cluster)
{
    cluster_retire(g.clusters[cluster]);
    g.configs[cluster].proxy_protocol = PROXYPROTO_V1;
    g.clusters[cluster] = cluster_create(&g.pool, &g.configs[cluster]);
}

static struct h1_client *take_for(struct downstream *from, struct exchange *x)
{
    struct h1_client *h = NULL;
    uint32_t wanted = g.became_ready + 1;
    struct endpoint *e = g.clusters[0]->endpoints[0];
    check(endpoint_acquire(e, from, SLICE(""), false, &g.waiter, &h) == OK);
    h1_client_attach(h, x);
    if (!h1_client_connected(h))
        check(sim_run(&g.w, ready_count, &wanted, NS_PER_S));
    return h;
}

static bool none_is_left(void *arg)
{
    (void)arg;
    return g.clusters[0]->connections == 0;
}

TEST(upstream_connections_that_tell_the_client_are_that_clients)
{
    struct downstream one, other;
    begin();
    tell_clients(0);
    client_at(&one, "192.0.2.1:1");
    client_at(&other, "192.0.2.1:2");
    struct h1_client *first = take_for(&one, g.x[0]);
    give_up(g.x[0]);
    EXPECT(take_for(&other, g.x[1]) != first);
    EXPECT(take_for(&one, g.x[0]) == first);
    give_up(g.x[0]);
    conn_pool_client_gone(&one);
    EXPECT(!list_linked(h1_client_pool_link(first)));
    EXPECT_EQ(g.clusters[0]->endpoints[0]->connections, 2); // one of them is closing
    give_up(g.x[1]);
    conn_pool_client_gone(&other);
    EXPECT(sim_run(&g.w, none_is_left, NULL, NS_PER_S));
    end();
}

TEST(upstream_connection_whose_client_has_gone_is_not_kept)
{
    struct downstream one;
    struct h1_client *h;
    begin();
    tell_clients(0);
    client_at(&one, "192.0.2.1:1");
    struct endpoint *e = g.clusters[0]->endpoints[0];
    EXPECT_EQ(endpoint_acquire(e, &one, SLICE(""), false, &g.waiter, &h), OK);
    h1_client_attach(h, g.x[0]);
    conn_pool_client_gone(&one);
    give_up(g.x[0]); // it is connecting: another would be given to anyone
    EXPECT(list_empty(&e->idle));
    EXPECT(sim_run(&g.w, none_is_left, NULL, NS_PER_S));
    end();
}

struct seen {
    char bytes[200];
    size_t len, wanted;
};

static bool has_come(void *arg)
{
    struct seen *s = arg;
    ssize_t n = g.accepted_count
                    ? sim_read(g.accepted[0], s->bytes + s->len, sizeof(s->bytes) - s->len)
                    : 0;
    s->len += n > 0 ? (size_t)n : 0;
    return s->len >= s->wanted;
}

TEST(upstream_is_told_the_client_before_anything_else)
{
    static const char header[] = "PROXY TCP4 192.0.2.1 10.0.0.1 1 80\r\n";
    struct downstream one;
    begin();
    tell_clients(0);
    client_at(&one, "192.0.2.1:1");
    take_for(&one, g.x[0]);
    struct seen seen = {.wanted = sizeof(header) - 1};
    EXPECT(sim_run(&g.w, has_come, &seen, NS_PER_S));
    EXPECT_EQ(seen.len, seen.wanted);
    EXPECT(memcmp(seen.bytes, header, seen.wanted) == 0);
    give_up(g.x[0]);
    conn_pool_client_gone(&one);
    end();
}

TEST(upstream_connecting_for_nobody_is_the_next_ones)
{
    struct h1_client *first, *h;
    uint32_t one = 1;
    begin();
    EXPECT_EQ(acquire(0, &first), OK);
    h1_client_attach(first, g.x[0]);
    give_up(g.x[0]);
    EXPECT_EQ(acquire(0, &h), OK);
    EXPECT(h == first);
    EXPECT(!h1_client_connected(h));
    h1_client_attach(h, g.x[1]);
    EXPECT(sim_run(&g.w, ready_count, &one, NS_PER_S));
    EXPECT(!h1_client_reused(h));
    EXPECT_EQ(counted(COUNTER_upstream_cx_total), 1);
    end();
}

static bool is_connected(void *h)
{
    return h1_client_connected(h);
}

TEST(upstream_connected_for_nobody_goes_idle)
{
    struct h1_client *first, *h;
    begin();
    EXPECT_EQ(acquire(0, &first), OK);
    h1_client_attach(first, g.x[0]);
    give_up(g.x[0]);
    EXPECT(sim_run(&g.w, is_connected, first, NS_PER_S));
    EXPECT_EQ(acquire(0, &h), OK);
    EXPECT(h == first);
    EXPECT(h1_client_reused(h)); // it has been idle: the endpoint may have closed it
    h1_client_attach(h, g.x[1]);
    end();
}

TEST(upstream_connecting_for_nobody_makes_room)
{
    struct h1_client *first, *h;
    begin();
    g.clients.conns.cap = 1;
    EXPECT_EQ(acquire(0, &first), OK);
    h1_client_attach(first, g.x[0]);
    give_up(g.x[0]);
    EXPECT_EQ(acquire(1, &h), MORE);
    EXPECT(sim_run(&g.w, was_told, NULL, NS_PER_S));
    end();
}

TEST(upstream_idle_time_out_is_counted)
{
    begin();
    take(0, g.x[0]);
    give_up(g.x[0]);
    uint64_t began = sim_now_ns();
    EXPECT(sim_run(&g.w, all_closed, NULL, 61 * NS_PER_S));
    EXPECT(sim_now_ns() - began >= 60 * NS_PER_S);
    EXPECT_EQ(counted(COUNTER_upstream_cx_idle_timeout), 1);
    end();
}

// In the turn in which the end of an idle connection is seen, after the completions: a request
// that comes then must not be given it.
static void take_what_is_idle(struct worker *w)
{
    const struct endpoint *e = g.clusters[0]->endpoints[0];
    struct h1_client *h;
    (void)w;
    if (list_empty(&e->idle))
        return;
    check(acquire(0, &h) == OK);
    h1_client_attach(h, g.x[0]);
    give_up(g.x[0]);
}

static bool is_accepted(void *arg)
{
    (void)arg;
    return g.accepted_count > 0;
}

TEST(upstream_connection_that_the_endpoint_closed_is_not_taken)
{
    begin();
    take(0, g.x[0]);
    give_up(g.x[0]);
    REQUIRE(sim_run(&g.w, is_accepted, NULL, NS_PER_S));
    g.w.on_turn = take_what_is_idle;
    sim_shutdown(g.accepted[0]);
    EXPECT(sim_run(&g.w, all_closed, NULL, NS_PER_S));
    g.w.on_turn = NULL;
    EXPECT_EQ(g.resets, 0);
    end();
}
