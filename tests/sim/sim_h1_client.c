// Scenario: an upstream that says more than its response, with a request waiting for that very
// connection. Nothing that came before the second request was sent may be taken for its
// response, however the bytes are spread over buffers, bundles and completions. And a request is
// framed by the message that came, not by a field that somebody has set.
#include "core/log.h"
#include "proto/h1_client.h"
#include "sim.h"
#include "test.h"
#include <stdio.h>

static struct {
    struct worker w;
    struct tcp_pools tcp;
    struct exchange_pools exchanges;
    struct h1_client_pools clients;
    struct h1_client *client;
    struct exchange *x[2];
    uint64_t sent_turn; // of the second request
    int listener, fd;   // fd: the upstream's side, -1 = not accepted yet
    char script[4096];  // what the upstream still says, once it was asked
    size_t script_at, script_len, asked;
    char request[1024];    // what the upstream was asked
    bool closed, answered; // the second one was
    const char *wrong;
} g;

static uint64_t turn(void)
{
    return counter_read(&g.w.counters.c[COUNTER_loop_turns]);
}

static void send_request(struct exchange *x)
{
    x->request.method = SLICE("GET");
    x->request.path = SLICE("/");
    x->request.authority = SLICE("a");
    // As a header operation might, which the documents' rules do not let through.
    (void)!head_set(&x->request, FIELD_CONTENT_LENGTH, SLICE("5"));
    g.sent_turn = turn();
    x->up->ops->send_head(x->up, &x->request, true);
}

static void response_head(struct exchange *x, bool end)
{
    if (x == g.x[1] && g.sent_turn == turn())
        g.wrong = "a response to a request that was not sent";
    g.answered = g.answered || (x == g.x[1] && end);
}

static void response_data(struct exchange *x, struct chunk c, bool end)
{
    chunk_release(x->worker, c);
    g.answered = g.answered || (x == g.x[1] && end);
}

static void upstream_reset(struct exchange *x, enum reset_reason why)
{
    if (x != g.x[1] || why != RESET_UNSENT)
        g.wrong = "a reset that is not the second request's, to be tried again";
}

static void nothing(struct exchange *x)
{
    (void)x;
}

static const struct exchange_handler handler = {
    .upstream_ready = send_request,
    .response_head = response_head,
    .response_data = response_data,
    .upstream_reset = upstream_reset,
    .upstream_writable = nothing,
};

static struct exchange *next_exchange(int i)
{
    g.x[i] = exchange_create(&g.w, &g.exchanges, &handler, 0);
    h1_client_attach(g.client, g.x[i]);
    return g.x[i];
}

static void idle(struct h1_client *c, void *owner)
{
    (void)c;
    (void)owner;
    if (bufring_held(&g.w.bufs) > 1) // the one that is being read, and others of its bundle
        g.wrong = "free for use with bytes behind its response";
    if (!g.x[1])
        send_request(next_exchange(1));
}

static void closing(struct h1_client *c, void *owner)
{
    (void)c;
    (void)owner;
}

static void closed(void *owner)
{
    (void)owner;
    g.closed = true;
}

static const struct h1_client_events events = {.idle = idle, .closing = closing, .closed = closed};

static void step(void *arg)
{
    (void)arg;
    if (g.fd < 0)
        g.fd = sim_accept(g.listener);
    if (g.fd < 0)
        return;
    ssize_t n = sim_read(g.fd, g.request + g.asked, sizeof(g.request) - 1 - g.asked);
    g.asked += n > 0 ? (size_t)n : 0;
    if (g.asked == 0 || g.script_at == g.script_len)
        return;
    n = sim_write(g.fd, g.script + g.script_at, g.script_len - g.script_at);
    g.script_at += n > 0 ? (size_t)n : 0;
}

static bool ended(void *arg)
{
    (void)arg;
    return g.wrong || g.closed || g.answered;
}

#define BUFFER 16u
#define HEAD_OF_3_DIGITS (sizeof("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n") - 1)
#define AT_ONCE (32u * BUFFER) // of a bundle; more of one completion is handed over in a second go

// A response whose end falls anywhere in a buffer, or where the second go begins if the bundle is
// the second or third receive, and another one behind it.
static void write_script(void)
{
    uint32_t len = rng_below(sim_rng(), 1500);
    if (sim_chance(300))
        len = AT_ONCE + (1 + rng_below(sim_rng(), 2)) * BUFFER - (uint32_t)HEAD_OF_3_DIGITS;
    int n =
        snprintf(g.script, sizeof(g.script), "HTTP/1.1 200 OK\r\ncontent-length: %u\r\n\r\n", len);
    memset(g.script + n, 'b', len);
    g.script_len = (size_t)n + len;
    g.script_len += (size_t)snprintf(g.script + g.script_len, sizeof(g.script) - g.script_len,
                                     "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison");
}

static void set_up(uint64_t seed)
{
    struct addr at;
    memset(&g, 0, sizeof(g));
    g.fd = -1;
    sim_begin(seed);
    sim_faults = (struct sim_faults){.late = sim_faults.late};
    (void)!worker_init(
        &g.w, &(struct worker_config){.cpu = -1, .recv_buffers = 128, .recv_buffer_bytes = BUFFER});
    (void)!worker_begin(&g.w);
    tcp_pools_init(&g.tcp, 100, 100);
    exchange_pools_init(&g.exchanges, 2);
    h1_client_pools_init(&g.clients, 1, &g.tcp, &g.exchanges);
    (void)!addr_parse(SLICE("10.0.0.2"), 80, &at);
    g.listener = sim_listen(&at);
    write_script();
    sim_on_step(step, NULL);
    (void)h1_client_connect(&g.w, &g.clients, &(struct dial){.to = &at}, NS_PER_S, &events, NULL,
                            &g.client);
    next_exchange(0);
}

static void tear_down(void)
{
    for (int i = 0; i < 2; i++) {
        if (g.x[i] && g.x[i]->up)
            g.x[i]->up->ops->reset(g.x[i]->up, RESET_LOCAL);
        exchange_destroy(&g.exchanges, g.x[i]);
    }
    if (!g.closed)
        h1_client_close(g.client);
    worker_request_stop(&g.w);
    while (worker_turn(&g.w))
        continue;
    worker_end(&g.w);
    EXPECT(g.closed);
    EXPECT_EQ(g.w.bufs.out, 0);
    if (g.fd >= 0)
        sim_close(g.fd);
    sim_close(g.listener);
    h1_client_pools_fini(&g.clients);
    exchange_pools_fini(&g.exchanges);
    tcp_pools_fini(&g.tcp);
    worker_fini(&g.w);
    sim_end();
}

static bool run_seed(uint64_t seed)
{
    set_up(seed);
    bool done = sim_run(&g.w, ended, NULL, 10 * NS_PER_S);
    if (strstr(g.request, "content-length"))
        g.wrong = "a length that no message had";
    if (!done || g.wrong) {
        test_fail(__FILE__, __LINE__, "seed %llu: %s", (unsigned long long)seed,
                  g.wrong ? g.wrong : "stuck");
        return false;
    }
    tear_down();
    return true;
}

TEST(sim_h1_client_what_was_said_before_is_no_answer)
{
    log_set_level(LOG_LEVEL_OFF);
    sim_run_seeds(run_seed);
}
