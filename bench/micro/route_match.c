// How long a match takes: tables of 1 … 1,000,000 routes, as many hosts with one path each and as
// many paths in one host (exact, prefix, and half of each), requests drawn at random so that large
// tables miss the cache as they would in service. Also the time to compile a table of 10,000.
//   route_match [LARGEST]
#include "route/host_index.h"
#include "route/rule_set.h"
#include "route/virtual_host.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define REQUESTS 65536u // different requests, visited in order; drawn at random beforehand
#define ROUNDS 16u

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint32_t draw(uint32_t n)
{
    static uint64_t state = 42;
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)((state >> 33) % n);
}

static struct slice text(struct arena *a, const char *format, uint32_t i)
{
    return slice_of(arena_printf(a, format, i));
}

// The best round: the machine may be shared, and the table is what is measured.
static void report(const char *what, uint32_t n, uint64_t best_ns, uint32_t found)
{
    printf("%-28s %9u routes %7.1f ns a match%s\n", what, n, (double)best_ns / REQUESTS,
           found == REQUESTS * ROUNDS ? "" : "  (WRONG)");
}

static struct rule *make_rule(struct arena *a, struct slice path, enum path_match kind)
{
    struct rule *r = arena_new(a, struct rule);
    struct route *route = arena_new(a, struct route);
    r->kind = (uint8_t)kind;
    r->next = RULE_NONE;
    r->path_len = (uint32_t)path.len;
    r->path = path.len <= RULE_INLINE_PATH ? r->inline_path : path.ptr;
    if (path.len <= RULE_INLINE_PATH)
        memcpy(r->inline_path, path.ptr, path.len);
    r->route = route;
    return r;
}

enum shape { EXACT, PREFIX, MIXED };

static struct rule_set *make_set(struct arena *a, uint32_t n, enum shape shape)
{
    const struct rule **rules = arena_array(a, const struct rule *, n);
    for (uint32_t i = 0; i < n; i++) {
        bool exact = shape == EXACT || (shape == MIXED && i % 2 == 0);
        struct slice path = text(a, exact ? "/api/v1/item%u" : "/svc/%u/", i);
        rules[i] = make_rule(a, path, exact ? PATH_EXACT : PATH_PREFIX);
    }
    return rule_set_create(a, rules, n);
}

static void bench_paths(uint32_t n, enum shape shape, const char *what)
{
    struct arena a;
    arena_init(&a, 0);
    const struct rule_set *set = make_set(&a, n, shape);
    struct virtual_host vh = {.rules = set};
    struct route_request *rq = arena_array(&a, struct route_request, REQUESTS);
    for (uint32_t i = 0; i < REQUESTS; i++) {
        uint32_t k = draw(n);
        bool exact = shape == EXACT || (shape == MIXED && k % 2 == 0);
        rq[i].path = text(&a, exact ? "/api/v1/item%u" : "/svc/%u/cart/checkout", k);
    }
    uint32_t found = 0;
    uint64_t best = UINT64_MAX;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint64_t begin = now_ns();
        for (uint32_t i = 0; i < REQUESTS; i++)
            found += route_match(&vh, &rq[i]) != NULL;
        best = least(best, now_ns() - begin);
    }
    report(what, n, best, found);
    arena_fini(&a);
}

static void bench_hosts(uint32_t n, const char *format, const char *request, const char *what)
{
    struct arena a;
    arena_init(&a, 0);
    struct virtual_host *hosts = virtual_hosts_create(&a, n);
    struct virtual_host **list = arena_array(&a, struct virtual_host *, n);
    for (uint32_t i = 0; i < n; i++) {
        const struct rule *rule = make_rule(&a, SLICE("/"), PATH_PREFIX);
        virtual_host_set_domain(&hosts[i], &a, text(&a, format, i), 80);
        hosts[i].rules = rule_set_create(&a, &rule, 1);
        list[i] = &hosts[i];
    }
    struct route_table table = {.index = host_index_create(&a, list, n)};
    struct route_request *rq = arena_array(&a, struct route_request, REQUESTS);
    for (uint32_t i = 0; i < REQUESTS; i++)
        rq[i] = (struct route_request){.authority = text(&a, request, draw(n)),
                                       .path = SLICE("/productpage")};
    uint32_t found = 0;
    uint64_t best = UINT64_MAX;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint64_t begin = now_ns();
        for (uint32_t i = 0; i < REQUESTS; i++) {
            const struct virtual_host *vh = route_find_host(&table, rq[i].authority);
            found += vh && route_match(vh, &rq[i]) != NULL;
        }
        best = least(best, now_ns() - begin);
    }
    report(what, n, best, found);
    arena_fini(&a);
}

// ---- compiling

static struct string_list one_string(struct arena *a, struct slice s)
{
    struct string_item *item = arena_new(a, struct string_item);
    item->text = s;
    return (struct string_list){item, 1};
}

static struct virtual_service *make_vs(struct arena *a, uint32_t i)
{
    struct virtual_service *vs = arena_new(a, struct virtual_service);
    struct http_route *http = arena_new(a, struct http_route);
    struct http_route_destination *to = arena_new(a, struct http_route_destination);
    struct http_match *match = arena_new(a, struct http_match);
    vs->meta.name = text(a, "vs%u", i);
    vs->meta.ns = SLICE("default");
    vs->meta.order = i;
    vs->hosts = one_string(a, text(a, "host%u.example.com", i));
    vs->gateways = one_string(a, SLICE("gw"));
    match->uri = arena_new(a, struct string_match);
    *match->uri = (struct string_match){.kind = MATCH_PREFIX, .text = text(a, "/svc/%u", i)};
    to->destination.host = text(a, "svc%u", i);
    *http = (struct http_route){.matches = match, .match_count = 1, .routes = to, .route_count = 1,
                                .timeout_ns = DURATION_UNSET};
    vs->http = http;
    vs->http_count = 1;
    return vs;
}

static struct kube_service *make_service(struct arena *a, uint32_t i)
{
    struct kube_service *s = arena_new(a, struct kube_service);
    struct label *l = arena_new(a, struct label);
    s->meta.name = text(a, "svc%u", i);
    s->meta.ns = SLICE("default");
    *l = (struct label){.key = SLICE("app"), .value = s->meta.name};
    s->selector = (struct label_map){l, 1};
    s->ports = arena_new(a, struct kube_service_port);
    s->ports->port = 80;
    s->port_count = 1;
    return s;
}

static struct kube_pod *make_pod(struct arena *a, uint32_t i, const struct kube_service *s)
{
    struct kube_pod *p = arena_new(a, struct kube_pod);
    p->meta.name = s->meta.name;
    p->meta.ns = s->meta.ns;
    p->meta.labels = s->selector;
    p->ip = slice_of(arena_printf(a, "10.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255));
    p->ready = true;
    return p;
}

static void bench_compile(uint32_t n)
{
    struct model m = {0};
    struct arena a, out;
    struct findings findings;
    arena_init(&a, 0);
    arena_init(&out, 0);
    findings_init(&findings);
    struct gateway *g = arena_new(&a, struct gateway);
    struct server *server = arena_new(&a, struct server);
    *server = (struct server){.port = {.number = 80, .protocol = PROTO_HTTP},
                              .hosts = one_string(&a, SLICE("*"))};
    *g = (struct gateway){.meta = {.name = SLICE("gw"), .ns = SLICE("default")},
                          .servers = server, .server_count = 1};
    m.gateways = &g;
    m.gateways_count = 1;
    m.virtual_services = arena_array(&a, struct virtual_service *, n);
    m.services = arena_array(&a, struct kube_service *, n);
    m.pods = arena_array(&a, struct kube_pod *, n);
    m.virtual_services_count = m.services_count = m.pods_count = n;
    for (uint32_t i = 0; i < n; i++) {
        m.virtual_services[i] = make_vs(&a, i);
        m.services[i] = make_service(&a, i);
        m.pods[i] = make_pod(&a, i, m.services[i]);
    }
    struct route_config config;
    struct compile_options options = {0};
    uint64_t begin = now_ns();
    enum err e = route_compile(&m, &options, &out, &findings, &config);
    printf("compile: %u hosts, services and pods %7.1f ms, %.1f MiB%s\n", n,
           (double)(now_ns() - begin) / 1e6, (double)out.used_bytes / 1048576.0,
           e == OK && config.route_count == n && config.clusters.count == n ? "" : "  (WRONG)");
    route_config_fini(&config);
    findings_fini(&findings);
    arena_fini(&out);
    arena_fini(&a);
}

int main(int argc, char **argv)
{
    static const uint32_t sizes[] = {1, 100, 10000, 1000000};
    uint32_t largest = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1000000;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]) && sizes[i] <= largest; i++) {
        bench_hosts(sizes[i], "host%u.example.com", "host%u.example.com:8080", "exact hosts");
        bench_hosts(sizes[i], "*.t%u.example.com", "www.t%u.example.com", "wildcard hosts");
        bench_paths(sizes[i], EXACT, "exact paths");
        bench_paths(sizes[i], PREFIX, "prefixes");
        bench_paths(sizes[i], MIXED, "half exact, half prefixes");
    }
    bench_compile(1000);
    bench_compile(10000);
    return 0;
}
