// Scenario: the whole gateway, one worker of it, between clients and upstreams of which each checks
// what it gets byte by byte (proxy_client.c, proxy_upstream.c), while its documents are
// changed under it. In calm seeds every request must be answered rightly and every connection end
// by itself; in violent ones all sides stall, break off and talk rubbish, pools and buffers
// run dry, and every request must still get one answer of its own or a close. In all of them
// nothing may be left at the end: no buffer, pin, timer, operation, socket.
#include "core/log.h"
#include "proxy_world.h"
#include "sim_runtime.h"
#include "test.h"
#include <stdio.h>
#include <stdlib.h>

struct world world;

void world_wrong(const struct job *j, const char *what)
{
    if (world.wrong)
        return;
    world.wrong = what;
    world.wrong_job = j ? j->id : UINT32_MAX;
}

// --- Documents -------------------------------------------------------------------------------

#define META(name) "\nmetadata: {name: " name ", namespace: default}\n"
#define GATEWAY(more)                                                                         \
    "apiVersion: networking.istio.io/v1\nkind: Gateway" META(                                 \
        "gw") "spec: {selector: {a: b}, servers: [{port: {number: 80, name: http, protocol: " \
              "HTTP}, "                                                                       \
              "hosts: ['*']}" more "]}\n---\n"
#define SERVER_8081 ", {port: {number: 8081, name: http2, protocol: HTTP}, hosts: ['*']}"
// On 8082, with a route that no client here may meet.
#define OTHER_LISTENER                                                                           \
    "apiVersion: networking.istio.io/v1\nkind: Gateway" META(                                    \
        "other") "spec: {selector: {a: b}, servers: [{port: {number: 8082, name: http, "         \
                 "protocol: HTTP}, hosts: ['*']}]}\n---\n"                                       \
                 "apiVersion: networking.istio.io/v1\nkind: VirtualService" META(                \
                     "other") "spec: {hosts: ['*'], gateways: [other], http: [{directResponse: " \
                              "{status: 418, body: {string: another listener's}}}]}\n---\n"
#define ROUTES(version, retries)                                                              \
    "apiVersion: networking.istio.io/v1\nkind: VirtualService" META(                          \
        "vs") "spec:\n  hosts: ['*']\n  gateways: [gw]\n  http:\n"                            \
              "  - match: [{uri: {prefix: /old}}]\n    redirect: {uri: /new}\n"               \
              "  - match: [{uri: {prefix: /direct}}]\n"                                       \
              "    directResponse: {status: 200, body: {string: direct}}\n"                   \
              "  - match: [{uri: {prefix: /timed}}]\n    timeout: 0.3s\n"                     \
              "    route: [{destination: {host: app}}]\n"                                     \
              "  - match: [{uri: {prefix: /app}}]\n    route: [{destination: {host: app}}]\n" \
              "    headers: {response: {set: {x-version: '" version "'}}}\n" retries "---\n"
#define RETRIES "    retries: {attempts: 3, perTryTimeout: 0.4s, retryOn: '5xx,reset'}\n"
#define ENDPOINTS(list)                                                          \
    "apiVersion: v1\nkind: Service" META(                                        \
        "app") "spec: {ports: [{name: http, port: 81}]}\n---\n"                  \
               "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"          \
               "metadata: {name: app, namespace: default, "                      \
               "labels: {kubernetes.io/service-name: app}}\naddressType: IPv4\n" \
               "endpoints: [" list "]\nports: [{name: http, port: 81, protocol: TCP}]\n---\n"
#define AT(n) "{addresses: [10.0.0." n "]}"
#define FEW_REQUESTS                                                      \
    "apiVersion: networking.istio.io/v1\nkind: DestinationRule" META(     \
        "dr") "spec: {host: app, trafficPolicy: {connectionPool: {http: " \
              "{maxRequestsPerConnection: 2}}}}\n"

// The last two are for violent seeds: retries, an address where nobody listens, other ports.
static const char *const documents[WORLD_VERSIONS] = {
    GATEWAY("") ROUTES("0", "") ENDPOINTS(AT("2")),
    GATEWAY("") ROUTES("1", "") ENDPOINTS(AT("2") ", " AT("3")),
    GATEWAY("") ROUTES("2", "") ENDPOINTS(AT("3")) FEW_REQUESTS,
    GATEWAY(SERVER_8081) ROUTES("3", RETRIES) ENDPOINTS(AT("2") ", " AT("9")),
    GATEWAY("") OTHER_LISTENER ROUTES("4", "") ENDPOINTS(AT("2")),
};

// Written once; every seed reads the same files.
static const char *document_path(int version)
{
    static char paths[WORLD_VERSIONS][SIM_DOCUMENT_PATH];
    if (!paths[version][0])
        (void)sim_document(documents[version], paths[version]);
    return paths[version];
}

static void load(uint32_t version)
{
    struct findings out;
    findings_init(&out);
    world.rt.cfg.inputs = &world.inputs[version];
    world.version_of[world.rt.generation + 1] = (uint8_t)version;
    if (runtime_load(&world.rt, &out) != OK && !world.violent) {
        for (uint32_t i = 0; i < out.count; i++)
            printf("%s\n", out.items[i].message);
        world_wrong(NULL, "the documents are refused");
    }
    findings_fini(&out);
}

static void maybe_reload(void)
{
    if (world.rt.generation + 2 >= WORLD_GENERATIONS || !sim_chance(2) || world.closing)
        return;
    load(rng_below(sim_rng(), world.violent ? WORLD_VERSIONS : WORLD_CALM_VERSIONS));
    runtime_reclaim(&world.rt);
}

// --- One seed --------------------------------------------------------------------------------

static void step(void *arg)
{
    (void)arg;
    maybe_reload();
    clients_step();
    upstreams_step();
}

static uint64_t gauge(enum counter_id id)
{
    return runtime_counter(&world.rt, id);
}

// Nothing of a client or of a request is left.
static bool quiet(void)
{
    const struct proxy_worker *pw = world.pw;
    return gauge(COUNTER_downstream_cx_active) == 0 && gauge(COUNTER_exchanges_active) == 0 &&
           gauge(COUNTER_snapshot_pins) == 0 && gauge(COUNTER_tunnel_active) == 0 &&
           gauge(COUNTER_downstream_rq_active) == 0 && pw->worker.bufs.out == 0 &&
           pw->tcp.chunks.in_use == 0 && pw->exchanges.big.in_use == 0;
}

static bool finished(void *arg)
{
    const uint32_t *leave_at = arg;
    maybe_reload(); // between two turns as well
    return world.wrong || (clients_done() && quiet()) ||
           (*leave_at && gauge(COUNTER_loop_turns) > *leave_at);
}

static bool never(void *arg)
{
    (void)arg;
    return false;
}

// Small pools and few buffers, so that each of them is found empty now and then.
static void starve(struct proxy_worker *pw)
{
    struct pool *pools[] = {&pw->tcp.chunks,    &pw->tcp.msgs,      &pw->exchanges.exchanges,
                            &pw->exchanges.big, &pw->servers.conns, &pw->clients.conns};
    for (size_t i = 0; i < sizeof(pools) / sizeof(pools[0]); i++)
        if (sim_chance(250))
            pools[i]->cap = 1 + rng_below(sim_rng(), i ? 8 : 30);
    sim_faults.socket_fails = sim_chance(300) ? rng_below(sim_rng(), 100) : 0;
}

static void few_buffers(struct worker *w)
{
    bufring_fini(&w->bufs, &w->ring);
    enum err e = (enum err)bufring_init(&w->bufs, &w->ring, 0, 2u << rng_below(sim_rng(), 7),
                                        64u << rng_below(sim_rng(), 6));
    if (e != OK)
        abort();
}

static void start_runtime(void)
{
    bool hasty = world.violent;
    struct runtime_config cfg = {.workers = 1,
                                 .max_connections = 1000,
                                 .connection_files = 2000,
                                 .head_timeout_ns = (hasty ? 1 : 600) * NS_PER_S,
                                 .idle_timeout_ns = 3 * NS_PER_S,
                                 .stall_timeout_ns = (hasty ? 2 : 600) * NS_PER_S,
                                 .drain_time_ns = 5 * NS_PER_S,
                                 .input_count = 1};
    world.pw = sim_runtime_start(&world.rt, &cfg);
    few_buffers(&world.pw->worker);
    (void)!worker_begin(&world.pw->worker);
}

static void set_up(uint64_t seed)
{
    memset(&world, 0, sizeof(world));
    sim_begin(seed);
    world.violent = sim_chance(600);
    if (!world.violent)
        sim_faults.connect_fails = sim_faults.reset_drops = 0;
    for (int i = 0; i < WORLD_VERSIONS; i++)
        world.inputs[i] = (struct load_input){"default", document_path(i)};
    start_runtime();
    load(rng_below(sim_rng(), 3));
    if (world.violent)
        starve(world.pw);
    else if (sim_chance(500)) // as many as clients: enough when idle ones make room
        world.pw->clients.conns.cap = WORLD_CLIENTS;
    upstreams_begin();
    clients_begin();
    sim_on_step(step, NULL);
}

// Ends the worker as a SIGTERM with an empty drain time would, wherever it is.
static void tear_down(void)
{
    struct worker *w = &world.pw->worker;
    world.closing = true;
    if (sim_chance(500)) {
        runtime_drain(&world.rt);
        sim_run(w, never, NULL, rng_below(sim_rng(), 2000) * NS_PER_US);
    }
    worker_request_stop(w);
    while (worker_turn(w))
        continue;
    worker_end(w);
    EXPECT(quiet());
    EXPECT_EQ(world.pw->clients.conns.in_use, 0);
    EXPECT_EQ(w->timers.armed, 0);
    runtime_reclaim(&world.rt);
    EXPECT_EQ(atomic_load(&world.rt.snapshots_alive), 1);
    clients_end();
    upstreams_end();
    runtime_stop(&world.rt);
    sim_end();
}

static bool run_seed(uint64_t seed)
{
    set_up(seed);
    uint32_t leave_at = world_chance_violent(150) ? 1 + rng_below(sim_rng(), 1000) : 0;
    bool ended = sim_run(&world.pw->worker, finished, &leave_at, 300 * NS_PER_S);
    if (!ended || world.wrong) {
        test_fail(__FILE__, __LINE__, "seed %llu (%s), job %d: %s", (unsigned long long)seed,
                  world.violent ? "violent" : "calm", (int)world.wrong_job,
                  world.wrong ? world.wrong : "stuck");
        return false;
    }
    tear_down();
    return true;
}

TEST(sim_proxy)
{
    log_set_level(LOG_LEVEL_OFF);
    sim_run_seeds(run_seed);
}
