// Scenario: clients of HTTP/1.1 that are slow or silent, on the virtual clock, with the times the
// gateway really has: 30 s for a head, an hour between requests, 5 minutes for a body that stands
// still. Each is given up at its time and not before, and is counted.
#include "core/log.h"
#include "proto/h1_server.h"
#include "sim.h"
#include "test.h"
#include <errno.h>

static struct {
    struct worker w;
    struct tcp_pools tcp;
    struct exchange_pools exchanges;
    struct downstream down;
    bool closed;
    struct h1_server_pools servers;
    struct h1_server_config cfg;
    int fd;                   // the client's
    const char *script;       // what it still sends
    uint64_t every_ns, at_ns; // one byte so often; when the next one is due
    char got[20000];
    size_t got_len;
    bool ended;
    uint64_t ended_ns, sip_ns;
    uint64_t taken_ns; // when the deaf client last got something
    ssize_t end;       // 0 or -errno: how it was told
    uint32_t answered, refused, reset;
    struct exchange *waiting; // for its answer
    struct timer later;
    uint32_t chunks; // of output memory, the most that were held
} g;

#define BODY_BYTES 8192u

static char body[BODY_BYTES];
static int deaf;    // the client reads nothing before the end; so many pieces has an answer's body
static bool tunnel; // is what it is answered, without memory for the answer
static bool slow;   // each answer comes a millisecond after its request
static bool pause;  // the request's body is not read
static uint64_t sips_ns;     // the deaf client takes a little so often
static size_t sip_bytes = 1; // so much
static bool drain;           // begins between the head of the first answer and its body
static uint64_t idle_ns;     // 0: the default

static void answer(struct exchange *x, bool end)
{
    if (!end) { // its body never ends
        if (pause)
            x->down->ops->pause(x->down);
        return;
    }
    g.answered += !g.waiting;
    if (tunnel) {
        g.tcp.chunks.cap = 0;
        x->response.status = 101;
        x->down->ops->send_head(x->down, &x->response, false);
        x->down->ops->tunnel(x->down);
        return;
    }
    if (slow && !g.waiting) {
        g.waiting = x;
        timer_arm(&g.w.timers, &g.later, g.w.now_ns + NS_PER_MS);
        return;
    }
    g.waiting = NULL;
    x->response.status = 200;
    // As a header operation might set it; it frames nothing.
    (void)!head_add(&x->response, FIELD_CONTENT_LENGTH, SLICE("5"));
    x->down->ops->send_head(x->down, &x->response, !deaf);
    if (drain && g.answered == 1)
        (void)g.down.ops->drain(&g.down, H1_SERVER_DRAIN_GRACE_NS);
    for (int i = 1; i <= deaf; i++)
        x->down->ops->send_data(x->down, (struct chunk){{body, sizeof(body)}, CHUNK_VOLATILE},
                                i == deaf);
}

static void answer_later(struct timer *t, uint64_t now_ns)
{
    (void)t;
    (void)now_ns;
    answer(g.waiting, true);
}

static void refused(struct exchange *x)
{
    (void)x;
    g.refused++;
}

static void reset(struct exchange *x, enum reset_reason why)
{
    (void)x;
    (void)why;
    g.reset++;
}

static void data(struct exchange *x, struct chunk c, bool end)
{
    chunk_release(x->worker, c);
    if (end)
        answer(x, true);
}

static uint32_t heads_with(const char *field)
{
    uint32_t n = 0;
    for (const char *p = g.got; (p = strstr(p, field)); p++)
        n++;
    return n;
}

static void nothing(struct exchange *x)
{
    (void)x;
}

static const struct exchange_handler handler = {
    .request_head = answer,
    .request_refused = refused,
    .request_reset = reset,
    .request_data = data,
    .response_sent = nothing,
    .downstream_writable = nothing,
};

static void step(void *arg)
{
    (void)arg;
    if (g.ended)
        return;
    if (g.chunks < g.tcp.chunks.in_use)
        g.chunks = g.tcp.chunks.in_use;
    while (*g.script && sim_now_ns() >= g.at_ns && sim_write(g.fd, g.script, 1) == 1) {
        g.script++;
        g.at_ns += g.every_ns;
    }
    if (sips_ns && sim_now_ns() >= g.sip_ns) {
        if (sim_read(g.fd, g.got, sip_bytes) > 0)
            g.taken_ns = sim_now_ns();
        g.sip_ns = sim_now_ns() + sips_ns;
    }
    if (deaf && !drain && !g.closed)
        return;
    if ((deaf && !drain) || slow)
        g.got_len = 0;
    ssize_t n = sim_read(g.fd, g.got + g.got_len, sizeof(g.got) - 1 - g.got_len);
    if (n > 0)
        g.got_len += (size_t)n;
    if (n == 0 || (n < 0 && n != -EAGAIN)) {
        g.ended = true;
        g.end = n;
        g.ended_ns = sim_now_ns();
        sim_close(g.fd);
    }
}

static void closed(struct downstream *d)
{
    (void)d;
    g.closed = true;
}

static const struct tcp_events no_events;

static bool ended(void *arg)
{
    (void)arg;
    return g.ended && g.closed;
}

// Runs one client to its end; returns how long it was, in seconds.
static double run(const char *script, uint64_t every_ns, uint64_t max_ns)
{
    int fd[2];
    log_set_level(LOG_LEVEL_OFF);
    memset(&g, 0, sizeof(g));
    memset(body, 'b', sizeof(body));
    sim_begin(7);
    sim_faults = (struct sim_faults){0};
    (void)!worker_init(&g.w, &(struct worker_config){.cpu = -1, .recv_buffers = 16});
    (void)!worker_begin(&g.w);
    tcp_pools_init(&g.tcp, 10, 1000);
    exchange_pools_init(&g.exchanges, 10);
    h1_server_pools_init(&g.servers, 10, &g.tcp, &g.exchanges);
    g.cfg = (struct h1_server_config){
        .handler = &handler,
        .idle_timeout_ns = idle_ns ? idle_ns : H1_SERVER_IDLE_TIMEOUT_NS,
        .head_timeout_ns = H1_SERVER_HEAD_TIMEOUT_NS,
        .stall_timeout_ns = H1_SERVER_STALL_TIMEOUT_NS,
    };
    sim_pair(fd);
    g.fd = fd[0];
    g.script = script;
    g.every_ns = every_ns;
    g.at_ns = sim_now_ns();
    uint64_t began = sim_now_ns();
    timer_init(&g.later, answer_later);
    sim_on_step(step, NULL);
    g.down = (struct downstream){.worker = &g.w, .on_closed = closed};
    g.down.tcp = tcp_create(&g.w, &g.tcp, &no_events, NULL);
    (void)!h1_server_start(&g.servers, &g.cfg, &g.down);
    tcp_open(g.down.tcp, fd[1]);
    if (!sim_run(&g.w, ended, NULL, max_ns))
        test_fail(__FILE__, __LINE__, "the connection is still open");
    return (double)(g.ended_ns - began) / 1e9;
}

static uint64_t count(enum counter_id id)
{
    return counter_read(&g.w.counters.c[id]);
}

static void tear_down(void)
{
    deaf = 0;
    tunnel = slow = drain = pause = false;
    sips_ns = idle_ns = 0;
    sip_bytes = 1;
    if (!g.closed)
        g.down.ops->close(&g.down);
    worker_request_stop(&g.w);
    while (worker_turn(&g.w))
        continue;
    worker_end(&g.w);
    EXPECT_EQ(g.exchanges.exchanges.in_use, 0);
    EXPECT_EQ(g.w.bufs.out, 0);
    h1_server_pools_fini(&g.servers);
    exchange_pools_fini(&g.exchanges);
    tcp_pools_fini(&g.tcp);
    worker_fini(&g.w);
    sim_end();
}

TEST(sim_h1_a_head_that_dribbles_has_30_seconds)
{
    // Each byte is progress; the head as a whole is not.
    double s = run("GET / HTTP/1.1\r\nHost: a\r\nx: a long head that never ends", NS_PER_S,
                   100 * NS_PER_S);
    EXPECT(s >= 30 && s < 32);
    EXPECT(strncmp(g.got, "HTTP/1.1 408 ", 13) == 0);
    EXPECT(strstr(g.got, "connection: close") != NULL);
    EXPECT_EQ(count(COUNTER_downstream_rq_header_timeout), 1);
    EXPECT_EQ(g.refused, 1);
    tear_down();
}

TEST(sim_h1_a_head_within_30_seconds_is_served)
{
    double s = run("GET / HTTP/1.1\r\nHost: a\r\n\r\n", NS_PER_S, 7200 * NS_PER_S);
    EXPECT(strncmp(g.got, "HTTP/1.1 200 ", 13) == 0);
    EXPECT(strstr(g.got, "content-length: 0\r\n") && !strstr(g.got, "content-length: 5"));
    EXPECT_EQ(count(COUNTER_downstream_rq_header_timeout), 0);
    EXPECT(s >= 26 + 3600 && s < 26 + 3602); // and then it is idle
    EXPECT_EQ(count(COUNTER_downstream_cx_idle_timeout), 1);
    tear_down();
}

TEST(sim_h1_a_second_head_has_its_own_30_seconds)
{
    double s =
        run("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nx: and so on for ever",
            NS_PER_S, 7200 * NS_PER_S);
    EXPECT(s >= 27 + 30 && s < 27 + 32);
    EXPECT(strstr(g.got, "HTTP/1.1 408 ") != NULL);
    EXPECT_EQ(count(COUNTER_downstream_rq_header_timeout), 1);
    tear_down();
}

TEST(sim_h1_a_client_that_says_nothing_has_30_seconds)
{
    double s = run("", NS_PER_S, 100 * NS_PER_S);
    EXPECT(s >= 30 && s < 32);
    EXPECT_EQ(g.got_len, 0);
    EXPECT_EQ(count(COUNTER_downstream_cx_idle_timeout), 1);
    tear_down();
}

TEST(sim_h1_a_body_that_stands_still_has_5_minutes)
{
    double s = run("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n12", 1, 7200 * NS_PER_S);
    EXPECT(s >= 300 && s < 700); // looked at so often: one that moved just after is seen next time
    EXPECT_EQ(g.reset, 1);
    tear_down();
}

// What it asks for is a thousand times what its socket holds, and it never stops asking.
TEST(sim_h1_a_client_that_does_not_read_has_5_minutes)
{
    static const char one[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    static char script[8000 * (sizeof(one) - 1) + 1];
    for (uint32_t i = 0; i < 8000; i++)
        memcpy(script + i * (sizeof(one) - 1), one, sizeof(one) - 1);
    deaf = 1;
    double s = run(script, 20 * NS_PER_MS, 7200 * NS_PER_S);
    EXPECT(s >= 300 && s < 1000);
    EXPECT(g.answered >= TCP_HIGH_WATER / BODY_BYTES); // so many are waited for
    EXPECT(g.answered <= (TCP_HIGH_WATER + 65536) / BODY_BYTES + 1);
    EXPECT_EQ(count(COUNTER_downstream_cx_idle_timeout), 1);
    EXPECT_EQ(count(COUNTER_downstream_rq_rejected_memory), 0);
    tear_down();
}

// Where the connection's end is the body's, an orderly one would make a whole of what was cut off.
TEST(sim_h1_a_response_that_nobody_takes_is_cut_off_by_a_reset)
{
    deaf = 20;
    double s = run("GET / HTTP/1.0\r\n\r\n", 1, 100 * NS_PER_S);
    EXPECT(s >= 10 && s < 12);
    EXPECT_EQ(g.end, -ECONNRESET);
    tear_down();
}

TEST(sim_h1_a_tunnel_whose_101_does_not_fit_ends_at_once)
{
    tunnel = true;
    double s = run("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1, 7200 * NS_PER_S);
    EXPECT(s < 1);
    EXPECT_EQ(g.got_len, 0);
    EXPECT_EQ(g.reset, 1);
    EXPECT_EQ(count(COUNTER_downstream_rq_rejected_memory), 1);
    tear_down();
}

// Reads all it is answered, and asks without end: what waits for its turn waits in the socket.
TEST(sim_h1_a_client_that_pipelines_without_end_is_not_read_ahead)
{
    static const char one[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    static char script[20000 * (sizeof(one) - 1) + 1];
    for (uint32_t i = 0; i < 20000; i++)
        memcpy(script + i * (sizeof(one) - 1), one, sizeof(one) - 1);
    slow = true;
    (void)run(script, 1, 7200 * NS_PER_S);
    EXPECT_EQ(g.answered, 20000);
    EXPECT(g.chunks >= 4 && g.chunks < 28); // 16 KiB, and what one receive brings on top
    tear_down();
}

// A request may be on its way already: the client was promised, in the head of the response under
// way, that it is taken.
TEST(sim_h1_the_request_behind_a_response_under_way_is_served_in_a_drain)
{
    deaf = 1;
    drain = true;
    double s = run("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
                   10 * NS_PER_MS, 100 * NS_PER_S);
    EXPECT_EQ(g.answered, 2);
    EXPECT_EQ(heads_with("HTTP/1.1 200 "), 2);
    EXPECT_EQ(heads_with("connection: close\r\n"), 1);
    EXPECT_EQ(g.got_len > 2 * BODY_BYTES, 1);
    EXPECT(s < 2);
    tear_down();
}

TEST(sim_h1_nothing_behind_a_response_under_way_ends_a_drain_within_a_second)
{
    deaf = 1;
    drain = true;
    double s = run("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1, 100 * NS_PER_S);
    EXPECT_EQ(heads_with("HTTP/1.1 200 "), 1);
    EXPECT_EQ(heads_with("connection: close\r\n"), 0);
    EXPECT(s >= 1 && s < 2);
    tear_down();
}

TEST(sim_h1_a_body_that_its_upstream_does_not_take_is_no_stall_of_the_client)
{
    pause = true;
    double s =
        run("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n12", 1, 7200 * NS_PER_S);
    EXPECT(s >= 300 && s < 700);
    EXPECT(strncmp(g.got, "HTTP/1.1 504 ", 13) == 0);
    tear_down();
}

TEST(sim_h1_a_response_taken_by_the_byte_is_cut_off)
{
    deaf = 40;
    sips_ns = 50 * NS_PER_S;
    double s = run("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1, 7200 * NS_PER_S);
    EXPECT(s >= 300 && s < 1000);
    EXPECT_EQ(count(COUNTER_downstream_cx_idle_timeout), 1);
    tear_down();
}

TEST(sim_h1_a_last_response_taken_by_the_byte_is_cut_off)
{
    deaf = 40;
    sips_ns = 9 * NS_PER_S;
    double s = run("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 1, 7200 * NS_PER_S);
    EXPECT(s >= 10 && s < 30);
    EXPECT_EQ(g.end, -ECONNRESET);
    tear_down();
}

TEST(sim_h1_a_last_response_has_5_minutes_in_all)
{
    deaf = 100;
    sips_ns = 9 * NS_PER_S;
    sip_bytes = 12000;
    double s = run("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 1, 7200 * NS_PER_S);
    EXPECT(s >= 300 && s < 302);
    EXPECT_EQ(g.end, -ECONNRESET);
    tear_down();
}

TEST(sim_h1_idle_time_begins_when_the_last_answer_was_taken)
{
    deaf = 40;
    sips_ns = 9 * NS_PER_S;
    sip_bytes = 12000;
    (void)run("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1, 9000 * NS_PER_S);
    double idle = (double)(g.ended_ns - g.taken_ns) / 1e9;
    // The last of it was in the client's socket a while before: 64 KiB at most.
    EXPECT(idle > 3600 - 6 * 9 && idle < 3602);
    EXPECT_EQ(count(COUNTER_downstream_cx_idle_timeout), 1);
    tear_down();
}

TEST(sim_h1_idle_time_that_is_short_begins_behind_a_body_too)
{
    idle_ns = 10 * NS_PER_S;
    double s = run("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n12", 1, 7200 * NS_PER_S);
    EXPECT(strncmp(g.got, "HTTP/1.1 200 ", 13) == 0);
    EXPECT(s >= 10 && s < 11);
    EXPECT_EQ(count(COUNTER_downstream_cx_idle_timeout), 1);
    tear_down();
}
