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
    char answer[4000], request[CONNECTIONS][8000]; // what each has been sent
    size_t answer_len, request_len[CONNECTIONS];
    uint32_t upstreams, flags;
} g;

static void step(void *arg)
{
    int fd;
    (void)arg;
    if (g.upstreams < CONNECTIONS && (fd = sim_accept(g.listener)) >= 0)
        g.upstream[g.upstreams++] = fd;
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
    turns(MS);
    (void)!addr_parse(SLICE("0.0.0.0"), 80, &at);
    g.client = sim_connect(&at);
    check(g.client >= 0);
}

static void end(void)
{
    struct worker *w = &g.pw->worker;
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
    while ((n = sim_read(g.upstream[i], g.request[i] + g.request_len[i],
                         sizeof(g.request[i]) - 1 - g.request_len[i])) > 0) {
        g.request_len[i] += (size_t)n;
        turns(MS);
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

// The end of the connection is among the completions of the turn that queues the request on it.
TEST(sim_retry_what_was_not_sent_on_a_dead_connection_is_sent_on_another_whatever_its_method)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        begin(seed);
        pool_one();
        ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
        sim_shutdown(g.upstream[0]);
        turns(50 * MS);
        if (g.upstreams == 2) {
            EXPECT(starts(asked(1), "POST / HTTP/1.1\r\n"));
            say(1, OK_REPLY);
        }
        EXPECT(starts(answer(), "HTTP/1.1 200 "));
        EXPECT(!strstr(asked(0), "POST"));
        end();
    }
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
