// Documents with as many routes as asked for, in several shapes: for measuring, and for a test that
// compiling takes time in proportion.
#pragma once
#include "config/model.h"

static inline struct slice many_text(struct arena *a, const char *format, uint32_t i)
{
    return slice_of(arena_printf(a, format, i));
}

// ---- documents: what all shapes have

static inline struct string_list many_one_string(struct arena *a, struct slice s)
{
    struct string_item *item = arena_new(a, struct string_item);
    item->text = s;
    return (struct string_list){item, 1};
}

static inline struct gateway *many_gateway(struct arena *a, struct slice name, uint32_t hosts)
{
    struct gateway *g = arena_new(a, struct gateway);
    struct server *server = arena_new(a, struct server);
    *server = (struct server){.port = {.number = 80, .protocol = PROTO_HTTP}};
    server->hosts = (struct string_list){arena_array(a, struct string_item, hosts), hosts};
    *g = (struct gateway){
        .meta = {.name = name, .ns = SLICE("ns")}, .servers = server, .server_count = 1};
    return g;
}

static inline void many_add_services(struct model *m, struct arena *a, uint32_t count)
{
    m->services = arena_array(a, struct kube_service *, count);
    m->pods = arena_array(a, struct kube_pod *, count);
    m->services_count = m->pods_count = count;
    for (uint32_t i = 0; i < count; i++) {
        struct kube_service *s = m->services[i] = arena_new(a, struct kube_service);
        struct kube_pod *p = m->pods[i] = arena_new(a, struct kube_pod);
        struct label *l = arena_new(a, struct label);
        s->meta.name = many_text(a, "svc%u", i);
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

static inline struct virtual_service *many_add_vs(struct model *m, struct arena *a,
                                                  struct slice host, uint32_t rules)
{
    struct virtual_service *vs = arena_new(a, struct virtual_service);
    uint32_t i = m->virtual_services_count++;
    m->virtual_services[i] = vs;
    vs->meta.name = many_text(a, "vs%u", i);
    vs->meta.ns = SLICE("ns");
    vs->meta.order = i;
    vs->hosts = many_one_string(a, host);
    vs->http = arena_array(a, struct http_route, rules);
    vs->http_count = rules;
    return vs;
}

static inline struct http_match *many_fill_rule(struct arena *a, struct http_route *r,
                                                uint32_t service)
{
    struct http_route_destination *to = arena_new(a, struct http_route_destination);
    struct http_match *match = arena_new(a, struct http_match);
    to->destination.host = many_text(a, "svc%u", service);
    *r = (struct http_route){.matches = match,
                             .match_count = 1,
                             .routes = to,
                             .route_count = 1,
                             .timeout_ns = DURATION_UNSET};
    return match;
}

static inline struct string_match *many_match_of(struct arena *a, enum string_match_kind kind,
                                                 struct slice s)
{
    struct string_match *m = arena_new(a, struct string_match);
    *m = (struct string_match){.kind = kind, .text = s};
    return m;
}

// ---- shapes

enum many_kind { MANY_HOSTS, MANY_RULES };
enum many_gateways { MANY_STAR, MANY_LISTED, MANY_EACH };

struct many {
    const char *name;
    enum many_kind kind;             // a VirtualService a route, or all in one
    uint32_t largest;                // 0 = any number
    const char *host, *request_host; // formats
    enum string_match_kind uri;
    const char *path, *request_path;
    bool mixed;                  // every other rule is exact
    bool by_header;              // told apart by a header instead
    bool by_services;            // each has a Service and a Pod of its own
    enum many_gateways gateways; // one of `*`, one that lists every host, one for each host
};

static const struct many many_shapes[] = {
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
    {.name = "listed wildcards",
     .host = "*.t%u.example.com",
     .request_host = "www.t%u.example.com",
     .uri = MATCH_PREFIX,
     .path = "/",
     .request_path = "/productpage",
     .gateways = MANY_LISTED},
    {.name = "a Gateway each",
     .host = "host%u.example.com",
     .request_host = "host%u.example.com",
     .uri = MATCH_PREFIX,
     .path = "/",
     .request_path = "/productpage",
     .gateways = MANY_EACH},
    {.name = "exact paths",
     .kind = MANY_RULES,
     .host = "*",
     .request_host = "example.com",
     .uri = MATCH_EXACT,
     .path = "/api/v1/item%u",
     .request_path = "/api/v1/item%u"},
    {.name = "prefixes",
     .kind = MANY_RULES,
     .host = "*",
     .request_host = "example.com",
     .uri = MATCH_PREFIX,
     .path = "/svc/%u/",
     .request_path = "/svc/%u/cart/checkout"},
    {.name = "exact and prefix",
     .kind = MANY_RULES,
     .host = "*",
     .request_host = "example.com",
     .uri = MATCH_PREFIX,
     .path = "/svc/%u/",
     .request_path = "/svc/%u/",
     .mixed = true},
    {.name = "one header each",
     .kind = MANY_RULES,
     .largest = 10000,
     .host = "*",
     .request_host = "example.com",
     .uri = MATCH_PREFIX,
     .path = "/",
     .request_path = "/cart",
     .by_header = true},
    {.name = "regular expressions",
     .kind = MANY_RULES,
     .largest = 10000,
     .host = "*",
     .request_host = "example.com",
     .uri = MATCH_REGEX,
     .path = "/svc/%u/[a-z]+(/.*)?",
     .request_path = "/svc/%u/cart/checkout"},
};

static inline void many_make_rule(struct arena *a, const struct many *s, struct http_route *r,
                                  uint32_t i)
{
    struct http_match *m = many_fill_rule(a, r, s->by_services ? i : 0);
    enum string_match_kind kind = s->mixed && i % 2 ? MATCH_EXACT : s->uri;
    m->uri = many_match_of(a, kind, many_text(a, s->path, i));
    if (!s->by_header)
        return;
    m->headers = (struct named_match_list){arena_new(a, struct named_match), 1};
    m->headers.items[0].name = SLICE("x-tenant");
    m->headers.items[0].match = *many_match_of(a, MATCH_EXACT, many_text(a, "tenant-%u", i));
}

static inline void many_add_gateways(struct model *m, struct arena *a, const struct many *s)
{
    uint32_t n = m->virtual_services_count;
    uint32_t count = s->gateways == MANY_EACH ? n : 1;
    uint32_t hosts = s->gateways == MANY_LISTED ? n : 1;
    m->gateways = arena_array(a, struct gateway *, count);
    m->gateways_count = count;
    for (uint32_t i = 0; i < count; i++)
        m->gateways[i] = many_gateway(a, many_text(a, "gw%u", i), hosts);
    for (uint32_t i = 0; i < n; i++) {
        struct virtual_service *vs = m->virtual_services[i];
        struct gateway *g = m->gateways[i % count];
        vs->gateways = many_one_string(a, g->meta.name);
        g->servers->hosts.items[i % hosts].text =
            s->gateways == MANY_STAR ? SLICE("*") : vs->hosts.items->text;
    }
}

static inline void many_make(struct model *m, struct arena *a, const struct many *s, uint32_t n)
{
    *m = (struct model){0};
    many_add_services(m, a, s->by_services ? n : 1);
    m->virtual_services = arena_array(a, struct virtual_service *, n);
    if (s->kind == MANY_RULES) {
        struct virtual_service *vs = many_add_vs(m, a, slice_of(s->host), n);
        for (uint32_t i = 0; i < n; i++)
            many_make_rule(a, s, &vs->http[i], i);
    } else {
        for (uint32_t i = 0; i < n; i++)
            many_make_rule(a, s, many_add_vs(m, a, many_text(a, s->host, i), 1)->http, i);
    }
    many_add_gateways(m, a, s);
}

#define MANY_SHAPES (sizeof(many_shapes) / sizeof(many_shapes[0]))
