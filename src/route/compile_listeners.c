// Listeners: which Gateways this node serves, which port each server is bound to, and which servers
// share one. Control thread.
//
// Istio's mergeGateways: the first server on a port and bind decides what it speaks; HTTP-family
// servers that follow are merged into it, a server of another family is skipped.
#include "route/compile_chains.h"
#include "route/registry.h"
#include <stdio.h>
#include <stdlib.h>

#define NO_TRANSLATION SLICE("experimental.istio.io/disable-gateway-port-translation")

struct bound {         // one port and bind
    struct slice bind; // as written, empty = every address
    uint32_t port;
    bool is_unix;
    enum server_family family;
    struct server_ref *servers, **last;
    uint32_t server_count;
    const struct server *first;
    struct bound *next;
};

struct bounds {
    struct map by_key; // "port bind" -> struct bound *
    struct bound *first, **last;
    uint32_t count;
    struct map services; // first label of the selector, "key=value" -> struct service_list *
};

struct service_list { // Services with a selector, by its first label
    const struct kube_service *service;
    struct service_list *next;
};

// ---- which Gateways, in which order

static int gateway_order(const void *a, const void *b)
{
    const struct metadata *x = &(*(const struct gateway *const *)a)->meta;
    const struct metadata *y = &(*(const struct gateway *const *)b)->meta;
    if (x->created_unix_s != y->created_unix_s)
        return x->created_unix_s < y->created_unix_s ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

static bool is_served(const struct compile *c, const struct gateway *g)
{
    const struct label_map *labels = &c->options->labels;
    return labels->count == 0 || labels_subset(&g->selector, labels);
}

// ---- which port

static struct slice label_text(struct arena *a, const struct label *l)
{
    return compile_text(a, "%.*s=%.*s", SLICE_FMT(l->key), SLICE_FMT(l->value));
}

static bool translates(const struct kube_service *s)
{
    for (uint32_t i = 0; i < s->meta.labels.count; i++)
        if (slice_eq(s->meta.labels.items[i].key, NO_TRANSLATION))
            return false;
    return s->selector.count > 0;
}

static void index_services(struct compile *c, struct bounds *b)
{
    map_init(&b->services, &c->scratch, c->m->services_count);
    for (uint32_t i = c->m->services_count; i-- > 0;) { // backwards: each list in document order
        const struct kube_service *s = c->m->services[i];
        if (!translates(s))
            continue;
        struct slice key = label_text(&c->scratch, &s->selector.items[0]);
        struct service_list *one = arena_new(&c->scratch, struct service_list);
        *one = (struct service_list){s, map_get(&b->services, key)};
        map_put(&b->services, key, one);
    }
}

static uint32_t named_target(struct compile *c, const struct kube_service *s, struct slice name)
{
    struct workload_list selected;
    workloads_select(&c->registry->workloads, s->meta.ns, &s->selector, &selected);
    for (uint32_t i = 0; i < selected.count; i++) {
        uint32_t port = selected.items[i]->pod ? workload_port(selected.items[i], name) : 0;
        if (port)
            return port;
    }
    return 0;
}

static uint32_t target_of(struct compile *c, const struct kube_service *s, uint32_t number,
                          bool udp)
{
    for (uint32_t i = 0; i < s->port_count; i++) {
        const struct kube_service_port *p = &s->ports[i];
        struct slice protocol = p->protocol.len ? p->protocol : SLICE("TCP");
        if (p->port != number || !slice_eq_nocase(protocol, udp ? SLICE("UDP") : SLICE("TCP")))
            continue;
        if (p->target_port)
            return p->target_port;
        if (!p->target_port_name.len)
            return p->port;
        return named_target(c, s, p->target_port_name);
    }
    return 0;
}

// The node's labels, or what the Gateway asks of them when the node was given none.
static const struct label_map *node_labels(const struct compile *c, const struct gateway *g)
{
    return c->options->labels.count ? &c->options->labels : &g->selector;
}

static uint32_t resolve_port(struct compile *c, struct bounds *b, const struct gateway *g,
                             uint32_t number, bool udp)
{
    const struct label_map *labels = node_labels(c, g);
    for (uint32_t i = 0; i < labels->count; i++) {
        struct slice key = label_text(&c->scratch, &labels->items[i]);
        for (const struct service_list *l = map_get(&b->services, key); l; l = l->next) {
            uint32_t target = labels_subset(&l->service->selector, labels)
                                  ? target_of(c, l->service, number, udp)
                                  : 0;
            if (target)
                return target;
        }
    }
    return number;
}

// ---- who shares a port

static struct bound *bound_get(struct compile *c, struct bounds *b, const struct server *s,
                               uint32_t port, bool *is_new)
{
    bool udp = compile_family(s) == FAMILY_UDP;
    struct slice key =
        compile_text(&c->scratch, "%s%u %.*s", udp ? "udp " : "", port, SLICE_FMT(s->bind));
    struct bound *one = map_get(&b->by_key, key);
    *is_new = !one;
    if (one)
        return one;
    one = arena_new(&c->scratch, struct bound);
    one->bind = s->bind;
    one->port = port;
    one->is_unix = slice_has_prefix(s->bind, SLICE("unix://"));
    one->first = s;
    one->last = &one->servers;
    one->family = compile_family(s);
    map_put(&b->by_key, key, one);
    *b->last = one;
    b->last = &one->next;
    b->count++;
    return one;
}

static void add_server(struct compile *c, struct bounds *b, const struct gateway *g,
                       const struct server *s)
{
    bool is_unix = slice_has_prefix(s->bind, SLICE("unix://"));
    enum server_family family = compile_family(s);
    uint32_t port = is_unix ? 0 : resolve_port(c, b, g, s->port.number, family == FAMILY_UDP);
    bool is_new;
    struct bound *one = bound_get(c, b, s, port, &is_new);
    if (!is_new && one->family != family) {
        finding_add(c->findings, SEVERITY_WARNING, NULL, s->port.pos, &g->meta,
                    "skipping server on port %.*s.%u.%.*s: conflict with existing server %u.%.*s",
                    SLICE_FMT(s->port.name), port, SLICE_FMT(s->port.protocol_text), port,
                    SLICE_FMT(one->first->port.protocol_text));
        return;
    }
    struct server_ref *ref = arena_new(&c->scratch, struct server_ref);
    *ref = (struct server_ref){.gateway = g, .server = s, .labels = node_labels(c, g)};
    *one->last = ref;
    one->last = &ref->next;
    one->server_count++;
}

static void collect(struct compile *c, struct bounds *b)
{
    uint32_t n = c->m->gateways_count;
    struct gateway **sorted = arena_array(&c->scratch, struct gateway *, n);
    if (n)
        memcpy(sorted, c->m->gateways, sizeof(*sorted) * n);
    qsort(sorted, n, sizeof(*sorted), gateway_order);
    *b = (struct bounds){0};
    b->last = &b->first;
    map_init(&b->by_key, &c->scratch, n);
    index_services(c, b);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; is_served(c, sorted[i]) && k < sorted[i]->server_count; k++)
            add_server(c, b, sorted[i], &sorted[i]->servers[k]);
}

// ---- listeners

// "ns/name,ns/name": of each Gateway once, in order.
static struct slice gateway_names(struct compile *c, const struct bound *b)
{
    const struct gateway *before = NULL;
    size_t len = 0;
    for (const struct server_ref *r = b->servers; r; before = r->gateway, r = r->next)
        if (r->gateway != before)
            len += r->gateway->meta.ns.len + r->gateway->meta.name.len + 2;
    char *text = arena_alloc(c->out, len + 1), *to = text;
    before = NULL;
    for (const struct server_ref *r = b->servers; r; before = r->gateway, r = r->next)
        if (r->gateway != before)
            to += snprintf(to, len + 1 - (size_t)(to - text), "%s%.*s/%.*s", to == text ? "" : ",",
                           SLICE_FMT(r->gateway->meta.ns), SLICE_FMT(r->gateway->meta.name));
    return (struct slice){text, (size_t)(to - text)};
}

static struct listener_config *build(struct compile *c, const struct bound *b)
{
    struct listener_config *l = arena_new(c->out, struct listener_config);
    struct slice ip = b->bind.len ? b->bind : SLICE("0.0.0.0");
    if (b->port > UINT16_MAX || addr_parse(ip, (uint16_t)b->port, &l->addr) != OK) {
        finding_add(c->findings, SEVERITY_ERROR, NULL, b->first->bind_pos,
                    &b->servers->gateway->meta, "%.*s:%u is not an address to bind to",
                    SLICE_FMT(ip), b->port);
        return NULL;
    }
    bool udp = b->family == FAMILY_UDP;
    l->name = b->is_unix
                  ? arena_dup(c->out, b->bind)
                  : compile_text(c->out, "%s%.*s_%u", udp ? "udp_" : "", SLICE_FMT(ip), b->port);
    l->server_port = b->first->port.number;
    l->protocol = b->first->port.protocol;
    l->gateways = gateway_names(c, b);
    l->pos = b->first->port.pos;
    l->pos.file = l->pos.file ? arena_strdup(c->out, l->pos.file) : NULL;
    return compile_chains(c, l, b->family, b->servers, b->server_count, b->port, b->bind) ? l
                                                                                          : NULL;
}

static int listener_order(const void *a, const void *b)
{
    const struct listener_config *x = *(const struct listener_config *const *)a;
    const struct listener_config *y = *(const struct listener_config *const *)b;
    uint16_t px = addr_port(&x->addr), py = addr_port(&y->addr);
    return px != py ? (px > py) - (px < py) : slice_cmp(x->name, y->name);
}

void compile_listeners(struct compile *c)
{
    struct bounds b;
    struct route_config *rc = c->rc;
    collect(c, &b);
    compile_hosts_init(c);
    rc->listeners = arena_array(c->out, struct listener_config *, b.count);
    for (const struct bound *one = b.first; one; one = one->next) {
        struct listener_config *l = build(c, one);
        if (l)
            rc->listeners[rc->listener_count++] = l;
    }
    qsort(rc->listeners, rc->listener_count, sizeof(struct listener_config *), listener_order);
    for (uint32_t i = 0; i < rc->listener_count; i++)
        rc->listeners[i]->stat_id = i;
}
