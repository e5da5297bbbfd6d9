// Clusters: every TCP port of every service, and again for each subset of its DestinationRule; the
// UDP ports too where a Gateway has a server of UDP (Istio has none). Linear in the documents.
// Control thread; the result is immutable, in name order.
#include "config/names.h"
#include "route/policy.h"
#include "route/registry.h"
#include <stdlib.h>

struct cluster_list { // while they are collected
    struct cluster_config **items;
    uint32_t count, cap;
};

static void push(struct arena *a, struct cluster_list *l, struct cluster_config *one)
{
    if (l->count == l->cap) {
        uint32_t cap = l->cap ? l->cap * 2 : 64;
        struct cluster_config **items = arena_array(a, struct cluster_config *, cap);
        if (l->count)
            memcpy(items, l->items, sizeof(*items) * l->count);
        l->items = items;
        l->cap = cap;
    }
    l->items[l->count++] = one;
}

static const char *type_of(const struct service *s)
{
    if (s->kube)
        return s->kube->external_name.len ? "STRICT_DNS" : "EDS";
    switch (s->entry->resolution) {
    case RESOLUTION_STATIC:
        return "EDS";
    case RESOLUTION_DNS:
        return "STRICT_DNS";
    case RESOLUTION_DNS_ROUND_ROBIN:
        return "LOGICAL_DNS";
    default:
        return "ORIGINAL_DST";
    }
}

static void take_endpoints(struct compile *c, struct cluster_config *cluster,
                           const struct candidate_list *all, const struct label_map *labels)
{
    static const struct label_map none;
    cluster->endpoints = arena_array(c->out, struct endpoint_config, all->count);
    for (uint32_t i = 0; i < all->count; i++) {
        const struct candidate *e = &all->items[i];
        if (cluster->udp && e->endpoint.addr.sa.sa_family == AF_UNIX)
            continue;
        if (!labels || labels_subset(labels, e->labels ? e->labels : &none))
            cluster->endpoints[cluster->endpoint_count++] = e->endpoint;
    }
}

static struct slice cluster_name(struct arena *a, uint32_t port, bool udp, struct slice subset,
                                 struct slice host)
{
    return compile_text(a, "outbound|%u%s|%.*s|%.*s", port, udp ? "/UDP" : "", SLICE_FMT(subset),
                        SLICE_FMT(host));
}

static struct cluster_config *create(struct compile *c, const struct service *s, struct slice host,
                                     const struct service_port *port, const struct subset *subset,
                                     const struct destination_rule *rule,
                                     const struct traffic_policy *top)
{
    struct cluster_config *one = arena_new(c->out, struct cluster_config);
    struct slice subset_name = subset ? subset->name : (struct slice){"", 0};
    one->name = cluster_name(c->out, port->number, port->udp, subset_name, host);
    one->host = host;
    one->subset = subset ? arena_dup(c->out, subset->name) : subset_name;
    one->port = port->number;
    one->udp = port->udp;
    one->in_mesh = s->kube || s->entry->mesh_internal;
    one->type = type_of(s);
    if (rule)
        one->destination_rule =
            compile_text(c->out, "%.*s.%.*s", SLICE_FMT(rule->meta.name), SLICE_FMT(rule->meta.ns));
    policy_apply(one, c->options, top, subset ? subset->traffic_policy : NULL);
    if (one->tls_mode == CLIENT_TLS_ISTIO_MUTUAL) // Istio's BuildDNSSrvSubsetKey
        one->tls_name = compile_text(c->out, "outbound_.%u_.%.*s_.%.*s", port->number,
                                     SLICE_FMT(subset_name), SLICE_FMT(host));
    return one;
}

static void add_port(struct compile *c, struct cluster_list *list, const struct service *s,
                     struct slice host, const struct service_port *port,
                     const struct rule_choice *rules, struct candidate_list *endpoints)
{
    const struct traffic_policy *top = rules->count ? rules->items[0]->traffic_policy : NULL;
    const struct destination_rule *first = rules->count ? rules->items[0] : NULL;
    // What a rule asks for and is not served would be left out: its clusters have nobody.
    static const struct candidate_list nobody;
    bool refused = first && first->meta.refused;
    registry_endpoints(c, s, port, endpoints);
    struct cluster_config *one = create(c, s, host, port, NULL, first, top);
    take_endpoints(c, one, refused ? &nobody : endpoints, NULL);
    push(&c->scratch, list, one);
    for (uint32_t r = 0; r < rules->count; r++) {
        for (uint32_t i = 0; i < rules->items[r]->subset_count; i++) {
            const struct subset *subset = &rules->items[r]->subsets[i];
            one = create(c, s, host, port, subset, rules->items[r], top);
            bool none = refused || rules->items[r]->meta.refused;
            take_endpoints(c, one, none ? &nobody : endpoints, &subset->labels);
            push(&c->scratch, list, one);
        }
    }
}

static bool serves_udp(const struct compile *c)
{
    for (uint32_t i = 0; i < c->m->gateways_count; i++)
        for (uint32_t k = 0; k < c->m->gateways[i]->server_count; k++)
            if (c->m->gateways[i]->servers[k].port.protocol == PROTO_UDP)
                return true;
    return false;
}

static void add_service(struct compile *c, struct cluster_list *list, const struct service *s,
                        bool udp, struct candidate_list *endpoints)
{
    struct rule_choice rules = registry_rules(c, s);
    struct slice host = arena_dup(c->out, s->host);
    for (const struct service *one = s; one; one = one->next_same)
        for (uint32_t i = 0; i < one->port_count + (udp ? one->udp_count : 0); i++)
            add_port(c, list, s, host, &one->ports[i], &rules, endpoints);
}

static int by_name(const void *a, const void *b)
{
    const struct cluster_config *x = *(const struct cluster_config *const *)a;
    const struct cluster_config *y = *(const struct cluster_config *const *)b;
    return slice_cmp(x->name, y->name);
}

// Two ServiceEntries of one host and port, or two subsets of one name, make one cluster: the first.
static void publish(struct compile *c, struct cluster_list *list)
{
    struct cluster_table *t = &c->rc->clusters;
    t->clusters = arena_array(c->out, struct cluster_config *, list->count);
    map_init(&t->by_name, c->out, list->count);
    for (uint32_t i = 0; i < list->count; i++) {
        struct cluster_config *one = list->items[i];
        if (map_get(&t->by_name, one->name))
            continue;
        map_put(&t->by_name, one->name, one);
        t->clusters[t->count++] = one;
    }
    qsort(t->clusters, t->count, sizeof(*t->clusters), by_name);
    for (uint32_t i = 0; i < t->count; i++)
        t->clusters[i]->index = i;
}

void compile_clusters(struct compile *c)
{
    struct cluster_list list = {0};
    struct candidate_list endpoints = {0};
    bool udp = serves_udp(c);
    c->registry = registry_create(c);
    for (const struct service *s = c->registry->first; s; s = s->next)
        add_service(c, &list, s, udp, &endpoints);
    publish(c, &list);
}

// Where a destination names no port: the only one there is.
static uint32_t only_port(const struct service *s, bool udp)
{
    uint32_t count = s ? (udp ? s->udp_count : s->port_count) : 0;
    return count == 1 && !s->next_same ? s->ports[udp ? s->port_count : 0].number : 0;
}

const struct cluster_config *compile_destination(struct compile *c, const struct destination *d,
                                                 struct slice ns, uint32_t listener_port, bool udp,
                                                 struct slice *name)
{
    struct slice host = host_fqdn(&c->scratch, d->host, ns);
    host = compile_lower(&c->scratch, host);
    uint32_t port = d->port;
    if (port == 0)
        port = only_port(registry_service(c->registry, host), udp);
    if (port == 0)
        port = listener_port;
    struct slice text = cluster_name(&c->scratch, port, udp, d->subset, host);
    const struct cluster_config *cluster = map_get(&c->rc->clusters.by_name, text);
    *name = cluster ? cluster->name : arena_dup(c->out, text);
    return cluster;
}
