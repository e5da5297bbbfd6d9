// What routing costs by the number of routes: the time of a match (authority to virtual host to
// route), the time to compile, and the memory a route takes. Documents of several shapes are
// compiled as they would be on a reload; requests are drawn at random, so that large tables miss
// the cache as they would in service. Times are of this process's CPU.
//   micro-route_match [LARGEST [SHAPE]]
#include "core/check.h"
#include "route/route.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define REQUESTS 65536u // different requests, visited in order; drawn at random beforehand
#define ROUND_NS 20000000u
#define ROUNDS 8u

static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
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

// ---- documents: what all shapes have

static struct string_list one_string(struct arena *a, struct slice s)
{
    struct string_item *item = arena_new(a, struct string_item);
    item->text = s;
    return (struct string_list){item, 1};
}

static void add_gateway(struct model *m, struct arena *a)
{
    struct server *server = arena_new(a, struct server);
    *server = (struct server){.port = {.number = 80, .protocol = PROTO_HTTP},
                              .hosts = one_string(a, SLICE("*"))};
    m->gateways = arena_new(a, struct gateway *);
    m->gateways[0] = arena_new(a, struct gateway);
    *m->gateways[0] = (struct gateway){
        .meta = {.name = SLICE("gw"), .ns = SLICE("ns")}, .servers = server, .server_count = 1};
    m->gateways_count = 1;
}

static void add_services(struct model *m, struct arena *a, uint32_t count)
{
    m->services = arena_array(a, struct kube_service *, count);
    m->pods = arena_array(a, struct kube_pod *, count);
    m->services_count = m->pods_count = count;
    for (uint32_t i = 0; i < count; i++) {
        struct kube_service *s = m->services[i] = arena_new(a, struct kube_service);
        struct kube_pod *p = m->pods[i] = arena_new(a, struct kube_pod);
        struct label *l = arena_new(a, struct label);
        s->meta.name = text(a, "svc%u", i);
        s->meta.ns = p->meta.ns = SLICE("ns");
        *l = (struct label){.key = SLICE("app"), .value = s->meta.name};
        s->selector = p->meta.labels = (struct label_map){l, 1};
        s->ports = arena_new(a, struct kube_service_port);
        s->ports->port = 80;
        s->port_count = 1;
        p->meta.name = s->meta.name;
        p->ip = slice_of(arena_printf(a, "10.%u.%u.%u", i >> 16 & 255, i >> 8 & 255, i & 255));
        p->ready = true;
    }
}

static struct virtual_service *add_vs(struct model *m, struct arena *a, struct slice host,
                                      uint32_t rules)
{
    struct virtual_service *vs = arena_new(a, struct virtual_service);
    uint32_t i = m->virtual_services_count++;
    m->virtual_services[i] = vs;
    vs->meta.name = text(a, "vs%u", i);
    vs->meta.ns = SLICE("ns");
    vs->meta.order = i;
    vs->hosts = one_string(a, host);
    vs->gateways = one_string(a, SLICE("gw"));
    vs->http = arena_array(a, struct http_route, rules);
    vs->http_count = rules;
    return vs;
}

static struct http_match *fill_rule(struct arena *a, struct http_route *r, uint32_t service)
{
    struct http_route_destination *to = arena_new(a, struct http_route_destination);
    struct http_match *match = arena_new(a, struct http_match);
    to->destination.host = text(a, "svc%u", service);
    *r = (struct http_route){.matches = match,
                             .match_count = 1,
                             .routes = to,
                             .route_count = 1,
                             .timeout_ns = DURATION_UNSET};
    return match;
}

static struct string_match *match_of(struct arena *a, enum string_match_kind kind, struct slice s)
{
    struct string_match *m = arena_new(a, struct string_match);
    *m = (struct string_match){.kind = kind, .text = s};
    return m;
}

// ---- shapes

enum kind { HOSTS, RULES };

struct shape {
    const char *name;
    enum kind kind;                  // a VirtualService a route, or all in one
    uint32_t largest;                // 0 = any number
    const char *host, *request_host; // formats
    enum string_match_kind uri;
    const char *path, *request_path;
    bool mixed;       // every other rule is exact
    bool by_header;   // told apart by a header instead
    bool by_services; // each has a Service and a Pod of its own
};

static const struct shape shapes[] = {
    {.name = "exact hosts",
     .host = "host%u.example.com",
     .request_host = "host%u.example.com:8080",
     .uri = MATCH_PREFIX,
     .path = "/",
     .request_path = "/productpage"},
    {.name = "hosts with services",
     .host = "host%u.example.com",
     .request_host = "host%u.example.com",
     .uri = MATCH_PREFIX,
     .path = "/svc",
     .request_path = "/svc/cart",
     .by_services = true},
    {.name = "wildcard hosts",
     .host = "*.t%u.example.com",
     .request_host = "www.t%u.example.com",
     .uri = MATCH_PREFIX,
     .path = "/",
     .request_path = "/productpage"},
    {.name = "exact paths",
     .kind = RULES,
     .host = "*",
     .request_host = "example.com",
     .uri = MATCH_EXACT,
     .path = "/api/v1/item%u",
     .request_path = "/api/v1/item%u"},
    {.name = "prefixes",
     .kind = RULES,
     .host = "*",
     .request_host = "example.com",
     .uri = MATCH_PREFIX,
     .path = "/svc/%u/",
     .request_path = "/svc/%u/cart/checkout"},
    {.name = "exact and prefix",
     .kind = RULES,
     .host = "*",
     .request_host = "example.com",
     .uri = MATCH_PREFIX,
     .path = "/svc/%u/",
     .request_path = "/svc/%u/",
     .mixed = true},
    {.name = "one header each",
     .kind = RULES,
     .largest = 10000,
     .host = "*",
     .request_host = "example.com",
     .uri = MATCH_PREFIX,
     .path = "/",
     .request_path = "/cart",
     .by_header = true},
    {.name = "regular expressions",
     .kind = RULES,
     .largest = 10000,
     .host = "*",
     .request_host = "example.com",
     .uri = MATCH_REGEX,
     .path = "/svc/%u/[a-z]+(/.*)?",
     .request_path = "/svc/%u/cart/checkout"},
};

static void make_rule(struct arena *a, const struct shape *s, struct http_route *r, uint32_t i)
{
    struct http_match *m = fill_rule(a, r, s->by_services ? i : 0);
    enum string_match_kind kind = s->mixed && i % 2 ? MATCH_EXACT : s->uri;
    m->uri = match_of(a, kind, text(a, s->path, i));
    if (!s->by_header)
        return;
    m->headers = (struct named_match_list){arena_new(a, struct named_match), 1};
    m->headers.items[0].name = SLICE("x-tenant");
    m->headers.items[0].match = *match_of(a, MATCH_EXACT, text(a, "tenant-%u", i));
}

static void make_model(struct model *m, struct arena *a, const struct shape *s, uint32_t n)
{
    *m = (struct model){0};
    add_gateway(m, a);
    add_services(m, a, s->by_services ? n : 1);
    m->virtual_services = arena_array(a, struct virtual_service *, n);
    if (s->kind == RULES) {
        struct virtual_service *vs = add_vs(m, a, slice_of(s->host), n);
        for (uint32_t i = 0; i < n; i++)
            make_rule(a, s, &vs->http[i], i);
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        make_rule(a, s, add_vs(m, a, text(a, s->host, i), 1)->http, i);
}

static struct route_request *make_requests(struct arena *a, const struct shape *s, uint32_t n)
{
    struct route_request *rq = arena_array(a, struct route_request, REQUESTS);
    for (uint32_t i = 0; i < REQUESTS; i++) {
        uint32_t k = draw(n);
        rq[i] = (struct route_request){.authority = text(a, s->request_host, k),
                                       .path = text(a, s->request_path, k),
                                       .method = SLICE("GET"),
                                       .scheme = SLICE("http"),
                                       .worker = REGEX_CONTROL};
        if (!s->by_header)
            continue;
        struct route_header *h = arena_new(a, struct route_header);
        *h = (struct route_header){SLICE("x-tenant"), text(a, "tenant-%u", k)};
        rq[i].headers = h;
        rq[i].header_count = 1;
    }
    return rq;
}

// ---- measuring

struct result {
    double ns, compile_ms, bytes;
};

// The best round: the machine may be shared, and the table is what is measured.
static double time_matches(const struct route_config *config, const struct route_request *rq)
{
    const struct route_table *t = config->listeners[0]->routes;
    double best = 1e18;
    uint32_t at = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint64_t begin = cpu_ns(), end = begin, count = 0;
        while (end - begin < ROUND_NS) {
            for (uint32_t i = 0; i < 256; i++, at = (at + 1) % REQUESTS) {
                const struct virtual_host *vh = route_find_host(t, rq[at].authority);
                check(vh && route_match(vh, &rq[at]));
            }
            count += 256;
            end = cpu_ns();
        }
        double ns = (double)(end - begin) / (double)count;
        best = ns < best ? ns : best;
    }
    return best;
}

static struct result measure(const struct shape *s, uint32_t n)
{
    struct result out;
    struct model m;
    struct arena documents, compiled, requests;
    struct findings findings;
    struct route_config config;
    const struct compile_options options = {0};
    arena_init(&documents, 0);
    arena_init(&compiled, 0);
    arena_init(&requests, 0);
    findings_init(&findings);
    make_model(&m, &documents, s, n);
    uint64_t begin = cpu_ns();
    check(route_compile(&m, &options, &compiled, &findings, &config) == OK);
    out.compile_ms = (double)(cpu_ns() - begin) / 1e6;
    out.bytes = (double)compiled.used_bytes / n;
    check(config.route_count == n && findings.count == 0);
    arena_fini(&documents);
    out.ns = time_matches(&config, make_requests(&requests, s, n));
    route_config_fini(&config);
    findings_fini(&findings);
    arena_fini(&compiled);
    arena_fini(&requests);
    return out;
}

int main(int argc, char **argv)
{
    static const uint32_t sizes[] = {1, 100, 10000, 1000000};
    uint32_t largest = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1000000;
    const char *wanted = argc > 2 ? argv[2] : "";
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("%-22s %9s %11s %12s %13s\n", "", "routes", "ns a match", "ms to compile",
           "bytes a route");
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        const struct shape *s = &shapes[i];
        for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]) && sizes[k] <= largest; k++) {
            if (!strstr(s->name, wanted) || (s->largest && sizes[k] > s->largest))
                continue;
            struct result r = measure(s, sizes[k]);
            printf("%-22s %9u %11.1f %13.1f %13.0f\n", s->name, sizes[k], r.ns, r.compile_ms,
                   r.bytes);
        }
    }
    return 0;
}
