// The endpoints of one port of a service. A Service's come from its EndpointSlices, else its
// Endpoints, else the ready Pods that its selector matches, and from WorkloadEntries in any case; a
// ServiceEntry's from its own list or its workloadSelector. Names are not resolved here: an
// address that is not an IP literal or a unix path is no endpoint. Control thread.
#include "route/registry.h"

#define UNMAPPED_MANY 32 // above this many, duplicates are looked for in a map

struct gather {
    struct compile *c;
    struct candidate_list *list;
    struct map seen;
    bool mapped;
};

static bool is_seen(struct gather *g, struct slice text)
{
    struct candidate_list *l = g->list;
    if (!g->mapped && l->count < UNMAPPED_MANY) {
        for (uint32_t i = 0; i < l->count; i++)
            if (slice_eq(l->items[i].endpoint.text, text))
                return true;
        return false;
    }
    if (!g->mapped) {
        map_init(&g->seen, &g->c->scratch, UNMAPPED_MANY * 4);
        for (uint32_t i = 0; i < l->count; i++)
            map_put(&g->seen, l->items[i].endpoint.text, l);
        g->mapped = true;
    }
    return map_get(&g->seen, text) != NULL;
}

static void grow(struct gather *g)
{
    struct candidate_list *l = g->list;
    uint32_t cap = l->cap ? l->cap * 2 : 4;
    struct candidate *items = arena_array(&g->c->scratch, struct candidate, cap);
    if (l->count)
        memcpy(items, l->items, sizeof(*items) * l->count);
    l->items = items;
    l->cap = cap;
}

static void add(struct gather *g, struct slice address, uint32_t port, uint32_t weight,
                struct slice locality, const struct label_map *labels)
{
    struct addr addr;
    char text[ADDR_TEXT_MAX];
    bool is_unix = slice_has_prefix(address, SLICE("unix://"));
    if ((port == 0 && !is_unix) || port > UINT16_MAX ||
        addr_parse(address, (uint16_t)port, &addr) != OK)
        return;
    struct slice shown = {text, addr_format(&addr, text, sizeof(text), !is_unix)};
    if (is_seen(g, shown))
        return;
    if (g->list->count == g->list->cap)
        grow(g);
    shown = arena_dup(g->c->out, shown);
    g->list->items[g->list->count++] = (struct candidate){
        .endpoint = {.addr = addr,
                     .weight = weight ? weight : 1,
                     .locality = locality.len ? arena_dup(g->c->out, locality) : locality,
                     .text = shown},
        .labels = labels,
    };
    if (g->mapped)
        map_put(&g->seen, shown, g->list);
}

// ---- Service

static uint32_t endpoints_port(const struct kube_endpoints *e, const struct service *s,
                               const struct service_port *port)
{
    for (uint32_t i = 0; i < e->port_count; i++)
        if (slice_eq(e->ports[i].name, port->name))
            return e->ports[i].port;
    // Written by hand, the only port is often left without the name that the Service gives it.
    return e->port_count == 1 && s->kube->port_count == 1 ? e->ports[0].port : 0;
}

static void add_addresses(struct gather *g, const struct service *s,
                          const struct service_port *port, const struct kube_endpoints *e)
{
    const struct workloads *w = &g->c->registry->workloads;
    uint32_t number = endpoints_port(e, s, port);
    for (uint32_t i = 0; i < e->address_count; i++) {
        const struct kube_endpoint_address *a = &e->addresses[i];
        const struct workload *at = workload_of_pod(w, s->ns, a->target_pod);
        struct slice locality = {NULL, 0};
        if (!a->ready)
            continue;
        if (!at)
            at = workload_at(w, a->ip);
        if (a->zone.len)
            locality = compile_text(&g->c->scratch, "/%.*s", SLICE_FMT(a->zone));
        add(g, a->ip, number, 0, locality, at ? at->labels : NULL);
    }
}

static uint32_t target_port(const struct workload *w, const struct kube_service_port *p)
{
    if (w->entry) { // a WorkloadEntry maps the Service's port by its name
        uint32_t mapped = p->name.len ? workload_port(w, p->name) : 0;
        if (mapped)
            return mapped;
    }
    if (p->target_port_name.len && p->target_port == 0)
        return workload_port(w, p->target_port_name);
    return p->target_port ? p->target_port : p->port;
}

static void add_selected(struct gather *g, const struct service *s, const struct service_port *port,
                         bool pods)
{
    struct workload_list selected;
    workloads_select(&g->c->registry->workloads, s->ns, &s->kube->selector, &selected);
    for (uint32_t i = 0; i < selected.count; i++) {
        const struct workload *w = selected.items[i];
        if (w->pod && (!pods || !w->pod->ready))
            continue;
        add(g, w->address, target_port(w, port->kube), w->weight, w->locality, w->labels);
    }
}

static void add_kube(struct gather *g, const struct service *s, const struct service_port *port)
{
    const struct registry *r = g->c->registry;
    struct slice key =
        compile_text(&g->c->scratch, "%.*s/%.*s", SLICE_FMT(s->ns), SLICE_FMT(s->kube->meta.name));
    const struct endpoints_list *l = map_get(&r->slices, key);
    if (!l)
        l = map_get(&r->endpoints, key);
    bool listed = l != NULL;
    for (; l; l = l->next)
        add_addresses(g, s, port, l->endpoints);
    add_selected(g, s, port, !listed);
    if (s->kube->external_name.len)
        add(g, s->kube->external_name, port->number, 0, (struct slice){NULL, 0}, NULL);
}

// ---- ServiceEntry

static uint32_t entry_port(const struct port_entry *ports, uint32_t count,
                           const struct service_entry_port *p)
{
    for (uint32_t i = 0; i < count; i++)
        if (slice_eq(ports[i].name, p->name))
            return ports[i].number;
    return p->target_port ? p->target_port : p->number;
}

static void add_workloads(struct gather *g, const struct service_entry *e,
                          const struct service_entry_port *p)
{
    struct workload_list selected;
    workloads_select(&g->c->registry->workloads, e->meta.ns, &e->workload_selector, &selected);
    for (uint32_t i = 0; i < selected.count; i++) {
        const struct workload *w = selected.items[i];
        if (w->pod && !w->pod->ready)
            continue;
        uint32_t port = w->entry ? entry_port(w->entry->ports, w->entry->port_count, p)
                                 : entry_port(NULL, 0, p);
        add(g, w->address, port, w->weight, w->locality, w->labels);
    }
}

static void add_entry(struct gather *g, const struct service *s, const struct service_port *port)
{
    const struct service_entry *e = s->entry;
    if (e->resolution == RESOLUTION_NONE)
        return; // the original destination, which a gateway does not have
    for (uint32_t i = 0; i < e->endpoint_count; i++) {
        const struct workload_entry *w = &e->endpoints[i];
        add(g, w->address, entry_port(w->ports, w->port_count, port->entry), w->weight, w->locality,
            &w->labels);
    }
    if (e->has_workload_selector)
        add_workloads(g, e, port->entry);
    else if (e->endpoint_count == 0 && e->resolution != RESOLUTION_STATIC)
        add(g, s->host, entry_port(NULL, 0, port->entry), 0, (struct slice){NULL, 0}, NULL);
}

static const struct service_port *same_port(const struct service *s, const struct service_port *p)
{
    for (uint32_t i = 0; i < s->port_count + s->udp_count; i++)
        if (s->ports[i].number == p->number && s->ports[i].udp == p->udp)
            return &s->ports[i];
    return NULL;
}

void registry_endpoints(struct compile *c, const struct service *s, const struct service_port *port,
                        struct candidate_list *out)
{
    struct gather g = {.c = c, .list = out};
    out->count = 0;
    if (s->kube) {
        add_kube(&g, s, port);
        return;
    }
    for (; s; s = s->next_same) {
        const struct service_port *p = same_port(s, port);
        if (p)
            add_entry(&g, s, p);
    }
}
