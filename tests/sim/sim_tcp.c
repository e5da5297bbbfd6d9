// Scenario: clients talk through a relay (accept, connect, copy both ways with back-pressure) to
// upstreams that echo. In calm seeds every byte must come back and every connection end by
// itself; in violent ones connections are closed and reset at random by all sides, pools run
// dry, and what arrives must still be a prefix. In all of them nothing may be left at the end.
#include "core/listener.h"
#include "core/log.h"
#include "core/tcp.h"
#include "sim.h"
#include "test.h"
#include <errno.h>
#include <stdlib.h>

#define CLIENTS 8
#define RELAYS (CLIENTS + 4)

struct relay {
    struct tcp a, b; // client's side, upstream's side
    bool used, a_closed, b_closed;
    bool a_eof, b_eof;
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
    const char *wrong; // NULL = fine
} g;

static uint8_t byte_of(uint32_t id, uint64_t i)
{
    return (uint8_t)(i * 7 + (i >> 8) * 31 + id);
}

// --- The relay, over struct tcp --------------------------------------------------------------

static struct relay *relay_of(struct tcp *t, bool *is_a)
{
    for (int i = 0; i < RELAYS; i++) {
        *is_a = t == &g.relays[i].a;
        if (*is_a || t == &g.relays[i].b)
            return &g.relays[i];
    }
    abort();
}

static struct tcp *other(struct tcp *t)
{
    bool is_a;
    struct relay *r = relay_of(t, &is_a);
    return is_a ? &r->b : &r->a;
}

static void relay_abort(struct tcp *t)
{
    struct tcp *o = other(t);
    tcp_close(t);
    sim_chance(500) ? tcp_reset(o) : tcp_close(o);
}

static void on_data(struct tcp *t, const struct slice *data, const uint16_t *bids, uint32_t n)
{
    struct tcp *o = other(t);
    bool ok = !(o->flags & (TCP_CLOSE_STARTED | TCP_CLOSE_AFTER_FLUSH));
    for (uint32_t i = 0; i < n; i++) {
        if (!ok)
            bufring_put(&g.w.bufs, bids[i]);
        else
            ok = bufq_append_buffer(&o->out, data[i], bids[i]);
    }
    if (!ok) {
        relay_abort(t);
        return;
    }
    tcp_flush(o);
    if (o->out.bytes > TCP_HIGH_WATER / 8)
        tcp_pause(t);
}

static void on_sent(struct tcp *t)
{
    struct tcp *o = other(t);
    if (!(o->flags & TCP_CLOSE_STARTED))
        tcp_resume(o);
}

static void on_eof(struct tcp *t)
{
    bool is_a;
    struct relay *r = relay_of(t, &is_a);
    bool *seen = is_a ? &r->a_eof : &r->b_eof;
    if (*seen)
        g.wrong = "a second end of stream";
    *seen = true;
    tcp_shutdown(other(t));
    if (r->a_eof && r->b_eof) {
        tcp_close_flush(&r->a);
        tcp_close_flush(&r->b);
    }
}

static void on_error(struct tcp *t, int error)
{
    (void)error;
    relay_abort(t);
}

static void on_connected(struct tcp *t)
{
    (void)t;
}

static void on_closed(struct tcp *t)
{
    bool is_a;
    struct relay *r = relay_of(t, &is_a);
    *(is_a ? &r->a_closed : &r->b_closed) = true;
    if (r->a_closed && r->b_closed)
        memset(r, 0xee, sizeof(*r)), r->used = false; // whoever still looks at it notices
}

static const struct tcp_events events = {.on_data = on_data,
                                         .on_eof = on_eof,
                                         .on_sent = on_sent,
                                         .on_error = on_error,
                                         .on_connected = on_connected,
                                         .on_closed = on_closed};

static void on_accept(struct listener *l, int fd)
{
    (void)l;
    for (int i = 0; i < RELAYS; i++) {
        struct relay *r = &g.relays[i];
        if (r->used)
            continue;
        memset(r, 0, sizeof(*r));
        r->used = true;
        tcp_init(&r->a, &g.w, &g.pools, &events);
        tcp_init(&r->b, &g.w, &g.pools, &events);
        tcp_open(&r->a, fd);
        if (tcp_connect(&r->b, &g.upstream_addr) < 0)
            relay_abort(&r->a);
        return;
    }
    ring_close(fd);
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
    struct relay *r = &g.relays[rng_below(sim_rng(), RELAYS)];
    if (!r->used || !sim_chance(5))
        return;
    switch (rng_below(sim_rng(), 4)) {
    case 0:
        tcp_close(&r->a);
        tcp_close(&r->b);
        break;
    case 1:
        tcp_close_flush(&r->a);
        tcp_close(&r->b);
        break;
    case 2:
        tcp_reset(&r->b);
        tcp_close_flush(&r->a);
        break;
    case 3:
        tcp_pause(&r->a);
        tcp_resume(&r->a);
        break;
    }
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
    if (g.violent)
        relay_violence(); // between turns, as another layer's timer would
    for (uint32_t i = 0; i < g.client_count; i++)
        if (!g.clients[i].done)
            return false;
    for (int i = 0; i < RELAYS; i++)
        if (g.relays[i].used)
            return false;
    return true;
}

static bool listener_gone(void *arg)
{
    (void)arg;
    return g.listener_closed;
}

// --- One seed --------------------------------------------------------------------------------

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
    tcp_pools_init(&g.pools, g.violent && sim_chance(500) ? 1 + rng_below(sim_rng(), 8) : 4000);
    (void)!addr_parse(SLICE("10.0.0.1"), 80, &any);
    g.l.on_accept = on_accept;
    g.l.on_closed = on_listener_closed;
    listener_start(&g.l, &g.w, listener_open(&any, 16));
    (void)!addr_parse(SLICE("10.0.0.2"), 81, &g.upstream_addr);
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
    EXPECT_EQ(g.pools.chunks.in_use, 0);
    EXPECT_EQ(g.pools.msgs.in_use, 0);
    EXPECT_EQ(g.w.bufs.out, 0);
    tcp_pools_fini(&g.pools);
    worker_fini(&g.w);
    sim_end();
    return true;
}

TEST(sim_tcp_relay)
{
    log_set_level(LOG_LEVEL_OFF);
    sim_run_seeds(run_seed);
}
