// Scenario: the whole gateway, one client, and upstream connections that fail at chosen moments:
// what is tried again, and with what. Each case is run with some seeds, because the order in which
// the kernel's completions come is drawn.
#include "core/check.h"
#include "core/log.h"
#include "proxy/proxy.h"
#include "sim_runtime.h"
#include "sim_socket.h"
#include "test.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SEEDS 40
#define MS (uint64_t)1000000

static const char documents[] =
    "apiVersion: networking.istio.io/v1\nkind: Gateway\n"
    "metadata: {name: gw, namespace: default}\n"
    "spec: {selector: {a: b}, servers: [{port: {number: 80, name: http, protocol: HTTP}, "
    "hosts: ['*']}]}\n---\n"
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"
    "metadata: {name: vs, namespace: default}\n"
    "spec: {hosts: ['*'], gateways: [gw], http: [{match: [{uri: {prefix: /tried-again}}], "
    "route: [{destination: {host: app}}], retries: {attempts: 2, retryOn: reset}}, "
    "{match: [{uri: {prefix: /unavailable}}], "
    "route: [{destination: {host: app}}], retries: {attempts: 1, retryOn: '503'}}, "
    "{match: [{uri: {prefix: /default}}], route: [{destination: {host: app}}]}, "
    "{route: [{destination: {host: app}}], retries: {attempts: 0}}]}\n---\n"
    "apiVersion: v1\nkind: Service\nmetadata: {name: app, namespace: default}\n"
    "spec: {ports: [{name: http, port: 81}]}\n---\n"
    "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
    "metadata: {name: app, namespace: default, labels: {kubernetes.io/service-name: app}}\n"
    "addressType: IPv4\nendpoints: [{addresses: [10.0.0.2]}]\n"
    "ports: [{name: http, port: 81, protocol: TCP}]\n";

#define CONNECTIONS 8

static struct {
    struct runtime rt;
    struct load_input input;
    struct proxy_worker *pw;
    int listener, document;
    char path[SIM_DOCUMENT_PATH];
    int client, upstream[CONNECTIONS];
    char answer[4000], request[CONNECTIONS][32000]; // what each has been sent
    size_t answer_len, request_len[CONNECTIONS];
    uint32_t upstreams, flags;
    bool swallows; // the first upstream reads all it is sent, and forgets it
    struct timer tick;
} g;

static void step(void *arg)
{
    char sink[4096];
    int fd;
    (void)arg;
    if (g.upstreams < CONNECTIONS && (fd = sim_accept(g.listener)) >= 0)
        g.upstream[g.upstreams++] = fd;
    while (g.swallows && sim_read(g.upstream[0], sink, sizeof(sink)) > 0)
        continue;
}

// While nothing happens, time would jump to the next timer: the one of a stall.
static void on_tick(struct timer *t, uint64_t now_ns)
{
    timer_arm(&g.pw->worker.timers, t, now_ns + MS);
}

static bool never(void *arg)
{
    (void)arg;
    return false;
}

static void turns(uint64_t ns)
{
    sim_run(&g.pw->worker, never, NULL, ns);
}

static void ended(void *arg, uint32_t worker, const struct exchange *x)
{
    (void)arg;
    (void)worker;
    g.flags = x->response_flags;
}

static void begin(uint64_t seed)
{
    struct addr at;
    struct findings out;
    log_set_level(LOG_LEVEL_OFF);
    memset(&g, 0, sizeof(g));
    sim_begin(seed);
    sim_faults = (struct sim_faults){0};
    g.document = sim_document(documents, g.path);
    g.input = (struct load_input){"default", g.path};
    struct runtime_config cfg = {.workers = 1,
                                 .max_connections = 10,
                                 .connection_files = 20,
                                 .head_timeout_ns = 30 * NS_PER_S,
                                 .idle_timeout_ns = 30 * NS_PER_S,
                                 .stall_timeout_ns = 30 * NS_PER_S,
                                 .inputs = &g.input,
                                 .input_count = 1,
                                 .on_exchange_end = ended};
    g.pw = sim_runtime_start(&g.rt, &cfg);
    (void)!worker_begin(&g.pw->worker);
    findings_init(&out);
    check(runtime_load(&g.rt, &out) == OK);
    findings_fini(&out);
    (void)!addr_parse(SLICE("10.0.0.2"), 81, &at);
    g.listener = sim_listen(&at);
    sim_on_step(step, NULL);
    timer_init(&g.tick, on_tick);
    timer_arm(&g.pw->worker.timers, &g.tick, g.pw->worker.now_ns);
    turns(MS);
    (void)!addr_parse(SLICE("0.0.0.0"), 80, &at);
    g.client = sim_connect(&at);
    check(g.client >= 0);
}

static void end(void)
{
    struct worker *w = &g.pw->worker;
    timer_cancel(&w->timers, &g.tick);
    worker_request_stop(w);
    while (worker_turn(w))
        continue;
    worker_end(w);
    EXPECT_EQ(g.pw->tcp.chunks.in_use, 0);
    sim_on_step(NULL, NULL);
    sim_close(g.client);
    for (uint32_t i = 0; i < g.upstreams; i++)
        if (g.upstream[i] >= 0)
            sim_close(g.upstream[i]);
    sim_close(g.listener);
    runtime_stop(&g.rt);
    close(g.document);
    sim_end();
}

static void ask(const char *text)
{
    for (size_t at = 0, len = strlen(text); at < len;) {
        ssize_t n = sim_write(g.client, text + at, len - at);
        check(n >= 0 || n == -EAGAIN);
        at += n > 0 ? (size_t)n : 0;
        if (at < len)
            turns(MS);
    }
}

static const char *answer(void)
{
    ssize_t n;
    for (int i = 0; i < 20; i++) {
        turns(10 * MS);
        while ((n = sim_read(g.client, g.answer + g.answer_len,
                             sizeof(g.answer) - 1 - g.answer_len)) > 0)
            g.answer_len += (size_t)n;
    }
    return g.answer;
}

// What that connection has been sent so far.
static const char *asked(uint32_t i)
{
    ssize_t n;
    turns(50 * MS);
    check(i < g.upstreams);
    for (int quiet = 0; quiet < 10; quiet++, turns(MS))
        while ((n = sim_read(g.upstream[i], g.request[i] + g.request_len[i],
                             sizeof(g.request[i]) - 1 - g.request_len[i])) > 0) {
            g.request_len[i] += (size_t)n;
            quiet = 0;
        }
    return g.request[i];
}

static void say(uint32_t i, const char *text)
{
    for (size_t at = 0, len = strlen(text); at < len;) {
        ssize_t n = sim_write(g.upstream[i], text + at, len - at);
        if (n < 0 && n != -EAGAIN)
            return; // the gateway has given the connection up
        at += n > 0 ? (size_t)n : 0;
        if (at < len)
            turns(MS);
    }
}

static bool starts(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

#define OK_REPLY "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"

// A connection to the upstream is idle in its pool.
static void pool_one(void)
{
    ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    (void)asked(0);
    say(0, OK_REPLY);
    (void)answer();
    memset(g.answer, 0, g.answer_len);
    g.answer_len = 0;
}

static bool ends(const char *text, const char *with)
{
    size_t n = strlen(text), m = strlen(with);
    return n >= m && strcmp(text + n - m, with) == 0;
}

// The end of the connection is among the completions of the turn that queues the request on it.
static void not_sent(const char *fields_and_body, const char *sent_body)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        char text[200];
        begin(seed);
        pool_one();
        sim_socket(SIM_FD_BASE + sim_socket(g.client)->peer)->in_cap = SIM_PIPE_MAX; // in one go
        snprintf(text, sizeof(text), "POST / HTTP/1.1\r\nhost: a\r\n%s", fields_and_body);
        ask(text);
        sim_shutdown(g.upstream[0]);
        turns(50 * MS);
        if (g.upstreams == 2) {
            EXPECT(starts(asked(1), "POST / HTTP/1.1\r\n"));
            EXPECT(ends(asked(1), sent_body));
            say(1, OK_REPLY);
        }
        EXPECT(starts(answer(), "HTTP/1.1 200 "));
        EXPECT(!strstr(asked(0), "POST"));
        end();
    }
}

TEST(sim_retry_what_was_not_sent_on_a_dead_connection_is_sent_on_another_whatever_its_method)
{
    not_sent("content-length: 0\r\n\r\n", "\r\n\r\n");
}

TEST(sim_retry_what_was_not_sent_on_a_dead_connection_is_sent_on_another_with_its_body)
{
    not_sent("content-length: 5\r\n\r\nhello", "\r\n\r\nhello");
    not_sent("transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n",
             "\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n");
}

TEST(sim_retry_keeps_the_trailers_behind_an_empty_body)
{
    begin(1);
    ask("POST /tried-again HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    (void)asked(0);
    ask("0\r\nx-sum: 1\r\n\r\n");
    EXPECT(strstr(asked(0), "\r\n0\r\nx-sum: 1\r\n\r\n") != NULL);
    sim_reset(g.upstream[0]);
    g.upstream[0] = -1;
    turns(200 * MS);
    REQUIRE(g.upstreams == 2);
    EXPECT(strstr(asked(1), "\r\n0\r\nx-sum: 1\r\n\r\n") != NULL);
    say(1, OK_REPLY);
    EXPECT(starts(answer(), "HTTP/1.1 200 "));
    end();
}

static void *take_output_memory(void)
{
    void *all = NULL, *one;
    g.pw->tcp.chunks.cap = g.pw->tcp.chunks.total;
    while ((one = pool_get(&g.pw->tcp.chunks))) {
        *(void **)one = all;
        all = one;
    }
    return all;
}

static void give_output_memory(void *all)
{
    while (all) {
        void *one = all;
        all = *(void **)one;
        pool_put(&g.pw->tcp.chunks, one);
    }
}

// The 103 does not fit, so neither does the 101 behind it; and the rest of the request, which the
// upstream has not read, finds the connection reset in the turn in which both came.
TEST(sim_retry_of_a_tunnel_that_did_not_begin_is_none)
{
    char head[4000];
    snprintf(head, sizeof(head),
             "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
             "x: %02000d\r\n\r\n",
             1);
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        begin(seed);
        pool_one();
        sim_socket(g.upstream[0])->in_cap = 64;
        ask(head);
        turns(50 * MS);
        void *all = take_output_memory();
        say(0, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n"
               "connection: upgrade\r\nupgrade: websocket\r\n\r\n");
        sim_reset(g.upstream[0]);
        g.upstream[0] = -1;
        EXPECT(!starts(answer(), "HTTP/1.1 101 "));
        give_output_memory(all);
        end();
    }
}

static bool are_upstreams(void *n)
{
    return g.upstreams == *(const uint32_t *)n;
}

// 25 ms at most before the first retry of the route, as many again before the second.
TEST(sim_retry_of_a_dead_pooled_connection_makes_no_later_one_wait_longer)
{
    const uint32_t three = 3;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        begin(seed);
        pool_one();
        ask("GET /tried-again HTTP/1.1\r\nhost: a\r\n\r\n");
        (void)asked(0);
        sim_reset(g.upstream[0]);
        g.upstream[0] = -1;
        turns(50 * MS);
        REQUIRE(g.upstreams == 2);
        (void)asked(1);
        sim_reset(g.upstream[1]);
        g.upstream[1] = -1;
        EXPECT(sim_run(&g.pw->worker, are_upstreams, (void *)(uintptr_t)&three, 30 * MS));
        end();
    }
}

// ---- bodies that were sent already

#define PIECE 1500u

static char piece[PIECE + 1];

// A chunk of the body, all of one letter.
static void ask_piece(char letter)
{
    char size[8];
    memset(piece, letter, PIECE);
    snprintf(size, sizeof(size), "%x\r\n", PIECE);
    ask(size);
    ask(piece);
    ask("\r\n");
}

// Whether the body of what that connection was sent is `count` pieces in order, whatever its
// chunks.
static bool has_body(uint32_t i, uint32_t count)
{
    const char *p = strstr(asked(i), "\r\n\r\n");
    uint32_t n = 0;
    for (p = p ? p + 4 : ""; *p;) {
        char *data;
        unsigned long size = strtoul(p, &data, 16);
        if (data == p || strncmp(data, "\r\n", 2) != 0 || strlen(data) < size + 4)
            return false;
        if (size == 0)
            return n == count * PIECE && starts(data, "\r\nx-sum: 1\r\n\r\n") && strlen(data) == 14;
        for (unsigned long k = 0; k < size; k++)
            if (data[2 + k] != (char)('a' + n++ / PIECE))
                return false;
        p = data + 2 + size + 2;
    }
    return false;
}

static void lose(uint32_t i)
{
    sim_reset(g.upstream[i]);
    g.upstream[i] = -1;
    turns(300 * MS); // the longest wait before a retry is of 250
}

#define CHUNKED_POST(path) "POST " path " HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
#define END "0\r\nx-sum: 1\r\n\r\n"

TEST(sim_retry_sends_a_body_again_that_was_sent)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        begin(seed);
        ask(CHUNKED_POST("/tried-again"));
        for (char c = 'a'; c < 'd'; c++)
            ask_piece(c);
        ask(END);
        EXPECT(has_body(0, 3));
        lose(0);
        REQUIRE(g.upstreams == 2);
        EXPECT(has_body(1, 3));
        lose(1);
        REQUIRE(g.upstreams == 3);
        EXPECT(has_body(2, 3));
        say(2, OK_REPLY);
        EXPECT(starts(answer(), "HTTP/1.1 200 "));
        end();
    }
}

TEST(sim_retry_sends_the_rest_of_a_body_behind_what_was_sent)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        begin(seed);
        ask(CHUNKED_POST("/unavailable"));
        ask_piece('a');
        (void)asked(0);
        say(0, "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
        turns(MS);
        ask_piece('b'); // perhaps before the next try
        turns(300 * MS);
        REQUIRE(g.upstreams == 2);
        ask_piece('c');
        ask(END);
        EXPECT(has_body(1, 3));
        say(1, OK_REPLY);
        EXPECT(starts(answer(), "HTTP/1.1 200 "));
        end();
    }
}

TEST(sim_retry_of_a_body_that_is_too_large_is_given_up)
{
    uint32_t most = 0;
    begin(1);
    ask(CHUNKED_POST("/tried-again"));
    (void)asked(0);
    g.swallows = true;
    for (uint32_t n = 0; n < 400; n++) {
        ask_piece('a');
        turns(MS);
        if (most < g.pw->tcp.chunks.in_use)
            most = g.pw->tcp.chunks.in_use;
    }
    EXPECT(most >= 256 / 4 && most < 2 * 256 / 4);
    EXPECT_EQ(g.pw->tcp.chunks.in_use, 0);
    EXPECT_EQ(runtime_counter(&g.rt, COUNTER_upstream_rq_retry_abandoned), 1);
    ask("0\r\n\r\n");
    turns(50 * MS);
    g.swallows = false;
    lose(0);
    EXPECT(starts(answer(), "HTTP/1.1 503 "));
    EXPECT_EQ(g.upstreams, 1);
    end();
}

// Istio's default policy asks for none of a request that was begun.
TEST(sim_retry_keeps_no_body_that_nobody_would_send_again)
{
    static const char *const paths[] = {"/", "/default"};
    for (int i = 0; i < 2; i++) {
        char head[200];
        begin(1);
        pool_one();
        snprintf(head, sizeof(head),
                 "POST %s HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", paths[i]);
        ask(head);
        for (char c = 'a'; c < 'd'; c++)
            ask_piece(c);
        ask(END);
        (void)asked(0);
        EXPECT_EQ(g.pw->tcp.chunks.in_use, 0);
        EXPECT_EQ(runtime_counter(&g.rt, COUNTER_upstream_rq_retry_abandoned), 0);
        lose(0); // and it is not known what became of it
        EXPECT(starts(answer(), "HTTP/1.1 503 "));
        EXPECT_EQ(g.upstreams, 1);
        end();
    }
}

// RFC 9110 section 9.2.2: it may be repeated, so it is on a dead pooled connection.
TEST(sim_retry_of_an_idempotent_request_on_a_dead_connection_has_its_body)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        begin(seed);
        pool_one();
        ask("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhel");
        (void)asked(0);
        ask("lo");
        (void)asked(0);
        lose(0);
        REQUIRE(g.upstreams == 2);
        EXPECT(ends(asked(1), "\r\n\r\nhello"));
        say(1, OK_REPLY);
        EXPECT(starts(answer(), "HTTP/1.1 200 "));
        end();
    }
}
