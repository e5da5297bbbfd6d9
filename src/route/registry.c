// Builds the registry of services, their Endpoints and DestinationRules by name. Control thread.
// Of two documents that define one host, the older one stays (a Kubernetes Service before any
// ServiceEntry); ServiceEntries of one namespace add up, as in Istio.
#include "route/registry.h"
#include "config/names.h"
#include <stdlib.h>

#define CLUSTER_DOMAIN ".svc.cluster.local"

static bool is_tcp(struct slice protocol)
{
    return protocol.len == 0 || slice_eq_nocase(protocol, SLICE("TCP"));
}

static bool is_udp(struct slice protocol)
{
    return slice_eq_nocase(protocol, SLICE("UDP"));
}

static void append(struct registry *r, struct service *s)
{
    struct service *same = map_get(&r->services, s->host);
    if (!same) {
        map_put(&r->services, s->host, s);
        *r->last = s;
        r->last = &s->next;
        return;
    }
    if (same->kube || !slice_eq(same->ns, s->ns))
        return;
    *(same->last_same ? &same->last_same->next_same : &same->next_same) = s;
    same->last_same = s;
}

static void add_kube(struct compile *c, struct registry *r, const struct kube_service *k)
{
    struct service *s = arena_new(&c->scratch, struct service);
    struct slice host = compile_text(&c->scratch, "%.*s.%.*s" CLUSTER_DOMAIN,
                                     SLICE_FMT(k->meta.name), SLICE_FMT(k->meta.ns));
    *s = (struct service){.host = compile_lower(&c->scratch, host), .ns = k->meta.ns, .kube = k};
    s->ports = arena_array(&c->scratch, struct service_port, k->port_count);
    for (uint32_t i = 0; i < k->port_count; i++)
        if (is_tcp(k->ports[i].protocol))
            s->ports[s->port_count++] = (struct service_port){
                .number = k->ports[i].port, .name = k->ports[i].name, .kube = &k->ports[i]};
    for (uint32_t i = 0; i < k->port_count; i++)
        if (is_udp(k->ports[i].protocol))
            s->ports[s->port_count + s->udp_count++] =
                (struct service_port){.number = k->ports[i].port,
                                      .name = k->ports[i].name,
                                      .udp = true,
                                      .kube = &k->ports[i]};
    append(r, s);
}

static void add_entry(struct compile *c, struct registry *r, const struct service_entry *e)
{
    struct service_port *ports = arena_array(&c->scratch, struct service_port, e->port_count);
    uint32_t count = 0, udp_count = 0;
    for (uint32_t i = 0; i < e->port_count; i++)
        if (!is_udp(e->ports[i].protocol))
            ports[count++] = (struct service_port){
                .number = e->ports[i].number, .name = e->ports[i].name, .entry = &e->ports[i]};
    for (uint32_t i = 0; i < e->port_count; i++)
        if (is_udp(e->ports[i].protocol))
            ports[count + udp_count++] = (struct service_port){.number = e->ports[i].number,
                                                               .name = e->ports[i].name,
                                                               .udp = true,
                                                               .entry = &e->ports[i]};
    for (uint32_t h = 0; h < e->hosts.count; h++) {
        struct service *s = arena_new(&c->scratch, struct service);
        *s = (struct service){.host = compile_lower(&c->scratch, e->hosts.items[h].text),
                              .ns = e->meta.ns,
                              .entry = e,
                              .ports = ports,
                              .port_count = count,
                              .udp_count = udp_count};
        append(r, s);
    }
}

static void add_endpoints(struct compile *c, struct registry *r, const struct kube_endpoints *e)
{
    struct map *m = e->from_slice ? &r->slices : &r->endpoints;
    struct slice key =
        compile_text(&c->scratch, "%.*s/%.*s", SLICE_FMT(e->meta.ns), SLICE_FMT(e->service));
    struct endpoints_list *one = arena_new(&c->scratch, struct endpoints_list), *l;
    one->endpoints = e;
    l = map_get(m, key);
    if (!l) {
        map_put(m, key, one);
        return;
    }
    while (l->next)
        l = l->next;
    l->next = one;
}

static int rule_order(const void *a, const void *b)
{
    const struct metadata *x = &(*(const struct destination_rule *const *)a)->meta;
    const struct metadata *y = &(*(const struct destination_rule *const *)b)->meta;
    if (x->created_unix_s != y->created_unix_s)
        return x->created_unix_s < y->created_unix_s ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

static void add_rule(struct compile *c, struct registry *r, const struct destination_rule *dr)
{
    if (dr->workload_selector.count && !labels_subset(&dr->workload_selector, &c->options->labels))
        return; // for other workloads than this one
    struct slice host = host_fqdn(&c->scratch, dr->host, dr->meta.ns);
    host = compile_lower(&c->scratch, host);
    struct rule_list *l = map_get(&r->rules, host);
    if (!l) {
        l = arena_new(&c->scratch, struct rule_list);
        map_put(&r->rules, host, l);
    }
    if (l->count == l->cap) {
        uint32_t cap = l->cap ? l->cap * 2 : 2;
        const struct destination_rule **items =
            arena_array(&c->scratch, const struct destination_rule *, cap);
        if (l->count)
            memcpy(items, l->items, sizeof(*items) * l->count);
        l->items = items;
        l->cap = cap;
    }
    l->items[l->count++] = dr;
}

static void add_rules(struct compile *c, struct registry *r)
{
    uint32_t n = c->m->destination_rules_count;
    struct destination_rule **sorted = arena_array(&c->scratch, struct destination_rule *, n);
    if (n)
        memcpy(sorted, c->m->destination_rules, sizeof(*sorted) * n);
    qsort(sorted, n, sizeof(*sorted), rule_order);
    for (uint32_t i = 0; i < n; i++)
        add_rule(c, r, sorted[i]);
}

struct registry *registry_create(struct compile *c)
{
    const struct model *m = c->m;
    struct registry *r = arena_new(&c->scratch, struct registry);
    r->last = &r->first;
    map_init(&r->services, &c->scratch, m->services_count + m->service_entries_count);
    map_init(&r->slices, &c->scratch, m->endpoints_count);
    map_init(&r->endpoints, &c->scratch, 8);
    map_init(&r->rules, &c->scratch, m->destination_rules_count);
    workloads_init(&r->workloads, m, &c->scratch);
    for (uint32_t i = 0; i < m->services_count; i++)
        add_kube(c, r, m->services[i]);
    for (uint32_t i = 0; i < m->service_entries_count; i++)
        add_entry(c, r, m->service_entries[i]);
    for (uint32_t i = 0; i < m->endpoints_count; i++)
        add_endpoints(c, r, m->endpoints[i]);
    add_rules(c, r);
    return r;
}

struct service *registry_service(const struct registry *r, struct slice host)
{
    return map_get(&r->services, host);
}

// The rules of the namespace that comes first: the service's own, else the oldest rule's.
static struct rule_choice choose(struct compile *c, const struct rule_list *l, struct slice ns)
{
    struct slice chosen = l->items[0]->meta.ns;
    for (uint32_t i = 0; i < l->count; i++)
        if (slice_eq(l->items[i]->meta.ns, ns))
            chosen = ns;
    struct rule_choice out = {0};
    out.items = arena_array(&c->scratch, const struct destination_rule *, l->count);
    for (uint32_t i = 0; i < l->count; i++)
        if (slice_eq(l->items[i]->meta.ns, chosen))
            out.items[out.count++] = l->items[i];
    return out;
}

struct rule_choice registry_rules(struct compile *c, const struct service *s)
{
    const struct registry *r = c->registry;
    if (r->rules.count == 0)
        return (struct rule_choice){0};
    const struct rule_list *l = map_get(&r->rules, s->host);
    // A wildcard rule: the longest one first.
    char pattern[256];
    for (size_t i = 0; !l && i < s->host.len && s->host.len - i + 1 < sizeof(pattern); i++) {
        if (s->host.ptr[i] != '.')
            continue;
        size_t len = s->host.len - i;
        pattern[0] = '*';
        memcpy(pattern + 1, s->host.ptr + i, len);
        l = map_get(&r->rules, (struct slice){pattern, len + 1});
    }
    if (!l)
        l = map_get(&r->rules, SLICE("*"));
    return l ? choose(c, l, s->ns) : (struct rule_choice){0};
}
