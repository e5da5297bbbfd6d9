// Scenario: clients talk through a relay (accept, connect, copy both ways with back-pressure) to
// upstreams that echo. In calm seeds every byte must come back and every connection end by
// itself; in violent ones connections are closed and reset at random by all sides, pools run
// dry, and what arrives must still be a prefix. In most of them what comes in large pieces is
// spliced. In all of them nothing may be left at the end, and what was counted is what came.
#include "core/listener.h"
#include "core/log.h"
#include "proto/l4_relay.h"
#include "sim.h"
#include "test.h"
#include <errno.h>
#include <stdlib.h>

#define CLIENTS 8
#define RELAYS (CLIENTS + 4)

struct relay {
    struct l4_relay r;
    bool used;
};

struct client {
    int fd; // -1 = not open
    bool started, done, fin_sent;
    uint32_t id;
    uint64_t to_send, sent, got;
};

struct upstream {
    int fd;
    char held[4096]; // read and not yet echoed
    uint32_t held_len;
    bool eof;
};

static struct {
    struct worker w;
    struct tcp_pools pools;
    struct listener l;
    bool listener_closed, violent;
    struct relay relays[RELAYS];
    struct client clients[CLIENTS];
    uint32_t client_count;
    struct upstream upstreams[RELAYS];
    int upstream_listener;
    struct addr upstream_addr;
    uint64_t relayed;  // as counted, by relays that have ended
    const char *wrong; // NULL = fine
} g;

static uint64_t spliced; // directions, of all seeds

static uint8_t byte_of(uint32_t id, uint64_t i)
{
    return (uint8_t)(i * 7 + (i >> 8) * 31 + id);
}

// --- The relay -------------------------------------------------------------------------------

static void on_end(struct l4_relay *r, void *owner)
{
    struct relay *slot = owner;
    if (r != &slot->r)
        g.wrong = "the end of another relay";
    if (!g.violent && r->end != L4_END_CLOSED)
        g.wrong = "a rough end in a calm seed";
    if (!g.violent && r->rx != r->tx)
        g.wrong = "an echo of another length";
    g.relayed += r->tx;
    memset(slot, 0xee, sizeof(*slot)); // whoever still looks at it notices
    slot->used = false;
}

static struct dial dial; // in clear text
static struct l4_relay_config relay_config = {
    .idle_timeout_ns = 600 * NS_PER_S, .connect_timeout_ns = 10 * NS_PER_S, .on_end = on_end};

static void on_unowned_closed(struct tcp *t)
{
    tcp_destroy(t);
}

static const struct tcp_events no_events = {.on_closed = on_unowned_closed};

static void on_accept(struct listener *l, int fd)
{
    (void)l;
    struct tcp *t = tcp_create(&g.w, &g.pools, &no_events, NULL);
    if (!t) {
        ring_close(fd);
        return;
    }
    tcp_open(t, fd);
    for (int i = 0; i < RELAYS; i++) {
        struct relay *slot = &g.relays[i];
        if (slot->used)
            continue;
        slot->used = true;
        l4_relay_start(&slot->r, &g.pools, t, NULL, &relay_config, slot);
        if (!l4_relay_try(&slot->r, &dial))
            l4_relay_close(&slot->r, L4_END_LOCAL);
        return;
    }
    tcp_close(t);
}

static void on_listener_closed(struct listener *l)
{
    (void)l;
    g.listener_closed = true;
}

// --- The outside world -----------------------------------------------------------------------

static void client_end(struct client *c)
{
    if (c->fd >= 0)
        sim_chance(500) && g.violent ? sim_reset(c->fd) : sim_close(c->fd);
    c->fd = -1;
    c->done = true;
}

static void client_read(struct client *c)
{
    uint8_t in[3000];
    ssize_t n = sim_read(c->fd, in, 1 + rng_below(sim_rng(), sizeof(in)));
    for (ssize_t i = 0; i < n; i++)
        if (in[i] != byte_of(c->id, c->got++))
            g.wrong = "bytes out of order";
    if (n > 0 || n == -EAGAIN)
        return;
    if (!g.violent && (n < 0 || c->got != c->to_send))
        g.wrong = n < 0 ? "reset in a calm seed" : "early end in a calm seed";
    client_end(c);
}

static void client_write(struct client *c)
{
    uint8_t out[3000];
    uint64_t left = c->to_send - c->sent;
    uint32_t len = 1 + rng_below(sim_rng(), sizeof(out));
    if (len > left)
        len = (uint32_t)left;
    for (uint32_t i = 0; i < len; i++)
        out[i] = byte_of(c->id, c->sent + i);
    ssize_t n = len ? sim_write(c->fd, out, len) : 0;
    if (n > 0)
        c->sent += (uint64_t)n;
    if (c->sent == c->to_send && !c->fin_sent) {
        sim_shutdown(c->fd);
        c->fin_sent = true;
    }
}

static void step_client(struct client *c)
{
    if (!c->started) {
        if (!sim_chance(100))
            return;
        c->started = true;
        c->fd = sim_connect(&g.l.addr);
        c->done = c->fd < 0;
        return;
    }
    if (c->fd < 0)
        return;
    if (g.violent && sim_chance(3)) {
        client_end(c);
        return;
    }
    if (!c->fin_sent && sim_chance(500))
        client_write(c);
    if (c->fd >= 0 && sim_chance(500))
        client_read(c);
}

static void upstream_end(struct upstream *u)
{
    sim_chance(500) && g.violent ? sim_reset(u->fd) : sim_close(u->fd);
    u->fd = -1;
}

static void step_upstream(struct upstream *u)
{
    if (g.violent && sim_chance(2)) {
        upstream_end(u);
        return;
    }
    if (u->held_len < sizeof(u->held) && !u->eof) {
        ssize_t n = sim_read(u->fd, u->held + u->held_len, sizeof(u->held) - u->held_len);
        if (n > 0)
            u->held_len += (uint32_t)n;
        u->eof = n == 0;
        if (n < 0 && n != -EAGAIN) {
            upstream_end(u);
            return;
        }
    }
    if (u->held_len > 0) {
        ssize_t n = sim_write(u->fd, u->held, 1 + rng_below(sim_rng(), u->held_len));
        if (n > 0) {
            memmove(u->held, u->held + n, u->held_len - (uint32_t)n);
            u->held_len -= (uint32_t)n;
        } else if (n != -EAGAIN) {
            upstream_end(u);
        }
    } else if (u->eof) {
        upstream_end(u);
    }
}

static void accept_upstream(struct upstream *u)
{
    u->fd = sim_accept(g.upstream_listener);
    u->held_len = 0;
    u->eof = false;
}

static void relay_violence(void)
{
    struct relay *slot = &g.relays[rng_below(sim_rng(), RELAYS)];
    struct l4_relay *r = &slot->r;
    if (!slot->used || r->ended || !sim_chance(5))
        return;
    if (sim_chance(500))
        l4_relay_close(r, L4_END_LOCAL);
    else
        l4_relay_close(r, L4_END_CLIENT_RESET);
}

static void step(void *arg)
{
    (void)arg;
    for (uint32_t i = 0; i < g.client_count; i++)
        step_client(&g.clients[i]);
    for (int i = 0; i < RELAYS; i++) {
        if (g.upstreams[i].fd >= 0)
            step_upstream(&g.upstreams[i]);
        else
            accept_upstream(&g.upstreams[i]);
    }
}

static bool quiet(void *arg)
{
    (void)arg;
    if (g.wrong)
        return true;
    uint64_t got = 0;
    if (g.violent)
        relay_violence(); // between turns, as another layer's timer would
    for (uint32_t i = 0; i < g.client_count; i++)
        if (!g.clients[i].done)
            return false;
        else
            got += g.clients[i].got;
    for (int i = 0; i < RELAYS; i++)
        if (g.relays[i].used)
            return false;
    if (!g.violent && g.relayed != got)
        g.wrong = "bytes counted wrongly";
    return true;
}

static bool listener_gone(void *arg)
{
    (void)arg;
    return g.listener_closed;
}

// --- One seed --------------------------------------------------------------------------------

// From at once to never; now and then there are no pipes.
static void draw_splicing(void)
{
    relay_config.splice = (struct splice_limits){0};
    if (sim_chance(300))
        return;
    relay_config.splice.after = 1 + rng_below(sim_rng(), sim_chance(500) ? 4 : 3000);
    relay_config.splice.large = 1 + rng_below(sim_rng(), sim_chance(500) ? 4 : 300);
    sim_faults.pipe_fails = sim_chance(300) ? rng_below(sim_rng(), 1000) : 0;
    g.pools.pipes.cap = sim_chance(300) ? rng_below(sim_rng(), 4) : 64;
}

static void set_up(uint64_t seed)
{
    struct addr any;
    memset(&g, 0, sizeof(g));
    sim_begin(seed);
    g.violent = sim_chance(500);
    if (!g.violent)
        sim_faults.connect_fails = sim_faults.reset_drops = 0;
    struct worker_config cfg = {.cpu = -1,
                                .recv_buffers = 2u << rng_below(sim_rng(), 7),
                                .recv_buffer_bytes = 64u << rng_below(sim_rng(), 6)};
    (void)!worker_init(&g.w, &cfg);
    rng_init(&g.w.rng, seed + 1);
    (void)!worker_begin(&g.w);
    tcp_pools_init(&g.pools, 2 * RELAYS,
                   g.violent && sim_chance(500) ? 1 + rng_below(sim_rng(), 8) : 4000);
    (void)!addr_parse(SLICE("10.0.0.1"), 80, &any);
    g.l.on_accept = on_accept;
    g.l.on_closed = on_listener_closed;
    listener_start(&g.l, &g.w, listener_open(&any, 16));
    (void)!addr_parse(SLICE("10.0.0.2"), 81, &g.upstream_addr);
    dial.to = &g.upstream_addr;
    g.upstream_listener = sim_listen(&g.upstream_addr);
    for (int i = 0; i < RELAYS; i++)
        g.upstreams[i].fd = -1;
    g.client_count = 1 + rng_below(sim_rng(), CLIENTS);
    for (uint32_t i = 0; i < g.client_count; i++) {
        struct client *c = &g.clients[i];
        c->id = i * 17;
        c->fd = -1;
        c->to_send = rng_below(sim_rng(), sim_chance(50) ? 200000 : 10000);
    }
    sim_on_step(step, NULL);
    draw_splicing();
}

static bool run_seed(uint64_t seed)
{
    set_up(seed);
    bool finished = sim_run(&g.w, quiet, NULL, 3600 * NS_PER_S);
    if (!finished || g.wrong) {
        test_fail(__FILE__, __LINE__, "seed %llu (%s): %s", (unsigned long long)seed,
                  g.violent ? "violent" : "calm", g.wrong ? g.wrong : "stuck");
        return false;
    }
    g.violent = false;
    listener_close(&g.l, sim_chance(500) ? 0 : rng_below(sim_rng(), 20) * NS_PER_MS);
    sim_run(&g.w, listener_gone, NULL, 10 * NS_PER_S);
    worker_request_stop(&g.w);
    while (worker_turn(&g.w))
        continue;
    worker_end(&g.w);
    for (int i = 0; i < RELAYS; i++)
        if (g.upstreams[i].fd >= 0)
            sim_close(g.upstreams[i].fd);
    sim_close(g.upstream_listener);
    spliced += counter_read(&g.w.counters.c[COUNTER_splice_total]);
    EXPECT_EQ(counter_read(&g.w.counters.c[COUNTER_splice_pipes]), 0);
    EXPECT_EQ(g.pools.pipes.open, g.pools.pipes.idle);
    EXPECT_EQ(g.pools.chunks.in_use, 0);
    EXPECT_EQ(g.pools.msgs.in_use, 0);
    EXPECT_EQ(g.w.bufs.out, 0);
    EXPECT_EQ(g.pools.conns.in_use, 0);
    tcp_pools_fini(&g.pools);
    worker_fini(&g.w);
    sim_end();
    return true;
}

TEST(sim_tcp_relay)
{
    log_set_level(LOG_LEVEL_OFF);
    spliced = 0;
    sim_run_seeds(run_seed);
    EXPECT(spliced > 0 || getenv("SIM_SEED"));
}
