// Lint of Gateways (IST0101 selector and credential, 0138, 0145, 0161, 0162). Which workload a
// Gateway means is known from --labels, from Pods, and from Services that select what it selects;
// where none of these is given there is nothing to hold a selector against. Control thread.
#include "config/analysis.h"
#include <stdlib.h>

#define MOST_COMPARED 64u // gateways of one key that are compared with each other

struct gateway_node { // a gateway under a key, newest first
    struct gateway_node *next;
    const struct gateway *gateway;
    struct slice selector;
};

static void push(struct analysis *a, struct map *map, struct slice key, const struct gateway *g,
                 struct slice selector)
{
    struct gateway_node *n = arena_new(&a->scratch, struct gateway_node);
    *n = (struct gateway_node){map_get(map, key), g, selector};
    (void)map_put(map, key, n);
}

static void put(struct analysis *a, struct map *map, struct slice key, const struct gateway *g)
{
    const struct gateway_node *first = map_get(map, key);
    if (!first || first->gateway != g)
        push(a, map, key, g, SLICE(""));
}

// ---- IST0145: same port, bind and host in one workload

#define MOST_PAIRS 1024u // pairs of selectors that are held against every Pod

struct conflicts {
    struct map gateways;  // by selector, port, bind and host
    struct map selectors; // by port, bind and host: a gateway for each selector
    struct map pairs;     // of different selectors: whether one workload has both
};

static bool contains(struct slice text, struct slice part)
{
    return part.len == 0 || memmem(text.ptr, text.len, part.ptr, part.len) != NULL;
}

static struct slice listen_key(struct analysis *a, const struct server *s, struct slice host)
{
    return analysis_key(a, "%s%u~%.*s~%.*s", s->port.protocol == PROTO_UDP ? "udp " : "",
                        s->port.number, SLICE_FMT(s->bind), SLICE_FMT(host));
}

static struct slice selector_key(struct analysis *a, struct slice selector, struct slice listen)
{
    return analysis_key(a, "%.*s~%.*s", SLICE_FMT(selector), SLICE_FMT(listen));
}

static void add_listens(struct analysis *a, struct conflicts *c, const struct gateway *g,
                        struct slice selector, const struct server *s)
{
    for (uint32_t i = 0; i < s->hosts.count; i++) {
        struct slice listen = listen_key(a, s, s->hosts.items[i].text);
        struct slice key = selector_key(a, selector, listen);
        if (!map_get(&c->gateways, key))
            push(a, &c->selectors, listen, g, selector);
        put(a, &c->gateways, key, g);
    }
}

static int compare_names(const void *pa, const void *pb)
{
    const struct gateway *const *a = pa, *const *b = pb;
    int c = slice_cmp((*a)->meta.ns, (*b)->meta.ns);
    return c ? c : slice_cmp((*a)->meta.name, (*b)->meta.name);
}

static void report_conflict(struct analysis *a, const struct gateway *g, const struct server *s,
                            struct slice selector, const struct gateway **others, uint32_t count)
{
    const char *names = "", *hosts = "";
    qsort(others, count, sizeof(const struct gateway *), compare_names);
    for (uint32_t i = 0; i < count; i++)
        if (i == 0 || others[i] != others[i - 1])
            names = arena_printf(&a->scratch, "%s%s%.*s/%.*s", names, i ? "," : "",
                                 SLICE_FMT(others[i]->meta.ns), SLICE_FMT(others[i]->meta.name));
    for (uint32_t i = 0; i < s->hosts.count && i < 16; i++)
        hosts = arena_printf(&a->scratch, "%s%s%.*s", hosts, i ? "," : "",
                             SLICE_FMT(s->hosts.items[i].text));
    finding_add(a->findings, SEVERITY_ERROR, "IST0145", s->pos, &g->meta,
                "Conflict with gateways %s (workload selector %.*s, port %u, hosts %s).", names,
                SLICE_FMT(selector), s->port.number, hosts);
}

static bool one_workload_has_both(struct analysis *a, const struct gateway *g,
                                  const struct gateway *h)
{
    const struct label_map *own = &a->options->labels;
    bool both = labels_cover(&g->selector, own) && labels_cover(&h->selector, own);
    for (uint32_t i = 0; !both && i < a->m->pods_count; i++)
        both = labels_cover(&g->selector, &a->m->pods[i]->meta.labels) &&
               labels_cover(&h->selector, &a->m->pods[i]->meta.labels);
    return both;
}

// Istio's rule for selectors that differ: the text of one holds the other's, and a Pod matches
// both. Each pair of texts is held against the Pods once.
static bool selectors_meet(struct analysis *a, struct conflicts *c, const struct gateway *g,
                           struct slice selector, const struct gateway_node *n)
{
    static const char yes = 1, no = 0;
    struct slice other = n->selector;
    if (!contains(selector, other) && !contains(other, selector))
        return false;
    bool first = slice_cmp(selector, other) < 0;
    struct slice pair = analysis_key(a, "%.*s|%.*s", SLICE_FMT(first ? selector : other),
                                     SLICE_FMT(first ? other : selector));
    const char *known = map_get(&c->pairs, pair);
    if (!known && c->pairs.count < MOST_PAIRS) {
        known = one_workload_has_both(a, g, n->gateway) ? &yes : &no;
        (void)map_put(&c->pairs, pair, (void *)(uintptr_t)known);
    }
    return known == &yes;
}

struct others { // gateways that conflict with one server
    const struct gateway *items[MOST_COMPARED];
    uint32_t count;
};

static void add_others(struct analysis *a, struct conflicts *c, const struct gateway *g,
                       struct slice selector, struct slice listen, struct others *out)
{
    const struct gateway_node *s = map_get(&c->selectors, listen);
    for (uint32_t tried = 0; s && tried < MOST_COMPARED; s = s->next, tried++) {
        if (!slice_eq(s->selector, selector) && !selectors_meet(a, c, g, selector, s))
            continue;
        const struct gateway_node *n = map_get(&c->gateways, selector_key(a, s->selector, listen));
        for (; n && out->count < MOST_COMPARED; n = n->next)
            if (n->gateway != g)
                out->items[out->count++] = n->gateway;
    }
}

static void check_conflicts(struct analysis *a, struct conflicts *c, const struct gateway *g)
{
    struct slice selector = selector_text(a, &g->selector);
    for (uint32_t i = 0; i < g->server_count; i++) {
        const struct server *s = &g->servers[i];
        struct others others = {.count = 0};
        for (uint32_t k = 0; k < s->hosts.count; k++)
            add_others(a, c, g, selector, listen_key(a, s, s->hosts.items[k].text), &others);
        if (others.count)
            report_conflict(a, g, s, selector, others.items, others.count);
    }
}

// ---- IST0138: one certificate in two gateways of one workload

static struct slice certificate_key(struct analysis *a, const struct server_tls *t)
{
    if (!t || (!t->credential_name.len && (!t->server_certificate.len || !t->private_key.len)))
        return (struct slice){NULL, 0};
    if (t->credential_name.len)
        return analysis_key(a, "name:%.*s", SLICE_FMT(t->credential_name));
    return analysis_key(a, "file:%.*s:%.*s", SLICE_FMT(t->server_certificate),
                        SLICE_FMT(t->private_key));
}

static void check_certificates(struct analysis *a, const struct map *certificates,
                               const struct gateway *g)
{
    for (uint32_t i = 0; i < g->server_count; i++) {
        struct slice key = certificate_key(a, g->servers[i].tls);
        const struct gateway_node *n = key.ptr ? map_get(certificates, key) : NULL;
        for (uint32_t tried = 0; n && tried < MOST_COMPARED; n = n->next, tried++) {
            if (n->gateway == g || !labels_cover(&g->selector, &n->gateway->selector))
                continue;
            finding_add(
                a->findings, SEVERITY_WARNING, "IST0138", g->meta.name_pos, &g->meta,
                "Duplicate certificate in multiple gateways [%.*s/%.*s %.*s/%.*s] may cause "
                "404s if clients re-use HTTP2 connections.",
                SLICE_FMT(g->meta.ns), SLICE_FMT(g->meta.name), SLICE_FMT(n->gateway->meta.ns),
                SLICE_FMT(n->gateway->meta.name));
        }
    }
}

// ---- credentials

static struct slice data_of(const struct kube_secret *s, struct slice key)
{
    for (uint32_t i = 0; i < s->data.count; i++)
        if (slice_eq(s->data.items[i].key, key))
            return s->data.items[i].value;
    return SLICE("");
}

// NULL when it can be served, else why not. Istio takes the generic keys first.
static const char *judge(struct analysis *a, const struct kube_secret *s)
{
    static const char *const keys[][2] = {{"cert", "key"}, {"tls.crt", "tls.key"}};
    for (int i = 0; i < 2; i++) {
        struct slice chain = data_of(s, slice_of(keys[i][0]));
        struct slice key = data_of(s, slice_of(keys[i][1]));
        char why[512];
        if (!chain.len || !key.len)
            continue;
        if (!a->options->credential_is_valid ||
            a->options->credential_is_valid(chain, key, a->now_s, why, sizeof(why)))
            return NULL;
        return arena_printf(&a->scratch, "%s", why);
    }
    return "it has neither tls.crt and tls.key nor cert and key";
}

static const char *fault_of(struct analysis *a, struct map *checked, const struct kube_secret *s)
{
    struct slice key = analysis_key(a, "%.*s/%.*s", SLICE_FMT(s->meta.ns), SLICE_FMT(s->meta.name));
    const char *known = map_get(checked, key);
    if (!known) {
        const char *fault = judge(a, s);
        known = fault ? fault : "";
        (void)map_put(checked, key, (void *)(uintptr_t)known);
    }
    return *known ? known : NULL;
}

static void check_credential(struct analysis *a, struct map *checked, const struct gateway *g,
                             struct slice name, struct pos pos)
{
    if (!name.len)
        return;
    const struct kube_secret *s = map_get(&a->secrets, name);
    if (!s && analysis_is_broken(a, "Secret %.*s", SLICE_FMT(name)))
        return;
    const char *fault = s ? fault_of(a, checked, s) : NULL;
    if (!s)
        finding_add(a->findings, SEVERITY_ERROR, "IST0101", pos, &g->meta,
                    "Referenced credentialName not found: \"%.*s\"", SLICE_FMT(name));
    else if (fault)
        finding_add(a->findings, SEVERITY_ERROR, "IST0161", pos, &g->meta,
                    "The credential referenced by the Gateway %.*s in namespace %.*s is invalid, "
                    "which can cause the traffic not to work as expected. Secret %.*s/%.*s: %s.",
                    SLICE_FMT(g->meta.name), SLICE_FMT(g->meta.ns), SLICE_FMT(s->meta.ns),
                    SLICE_FMT(s->meta.name), fault);
}

static void check_credentials(struct analysis *a, struct map *checked, const struct gateway *g)
{
    for (uint32_t i = 0; i < g->server_count; i++) {
        const struct server_tls *t = g->servers[i].tls;
        if (!t)
            continue;
        check_credential(a, checked, g, t->credential_name, t->credential_pos);
        for (uint32_t k = 0; k < t->credential_names.count; k++)
            check_credential(a, checked, g, t->credential_names.items[k].text,
                             t->credential_names.items[k].pos);
    }
}

// ---- the workload: selector and ports

struct workload_view { // of one selector text, shared by the gateways that have it
    bool found;        // a Pod, a Service or --labels
    bool has_service;
    struct map ports; // numbers that a Service exposes or targets, "udp 53" and "80"
};

static struct slice number_key(struct analysis *a, bool udp, uint32_t port)
{
    return analysis_key(a, "%s%u", udp ? "udp " : "", port);
}

static bool has_port(struct analysis *a, const struct workload_view *w, const struct server_port *p)
{
    return map_get(&w->ports, number_key(a, p->protocol == PROTO_UDP, p->number)) != NULL;
}

static void add_ports(struct analysis *a, struct workload_view *w,
                      const struct kube_service_port *p)
{
    bool udp = slice_eq_nocase(p->protocol, SLICE("UDP"));
    (void)map_put(&w->ports, number_key(a, udp, p->port), w);
    if (p->target_port)
        (void)map_put(&w->ports, number_key(a, udp, p->target_port), w);
}

static void view_services(struct analysis *a, struct workload_view *w,
                          const struct label_map *selector)
{
    for (uint32_t i = 0; i < a->m->services_count; i++) {
        const struct kube_service *s = a->m->services[i];
        if (!s->selector.count || !selector->count ||
            !(labels_cover(selector, &s->selector) || labels_cover(&s->selector, selector)))
            continue;
        w->has_service = w->found = true;
        for (uint32_t k = 0; k < s->port_count; k++)
            add_ports(a, w, &s->ports[k]);
    }
}

#define MOST_VIEWS 256u // distinct selectors that are held against every Pod and Service

static struct workload_view *view(struct analysis *a, struct map *views, const struct gateway *g)
{
    struct slice key = selector_text(a, &g->selector);
    struct workload_view *w = map_get(views, key);
    if (w || views->count >= MOST_VIEWS)
        return w;
    w = arena_new(&a->scratch, struct workload_view);
    map_init(&w->ports, &a->scratch, 8);
    w->found = labels_cover(&g->selector, &a->options->labels);
    for (uint32_t i = 0; i < a->m->pods_count && !w->found; i++)
        w->found = labels_cover(&g->selector, &a->m->pods[i]->meta.labels);
    view_services(a, w, &g->selector);
    (void)map_put(views, key, w);
    return w;
}

// ---- a Service that seems to be meant for a Gateway and selects nothing

struct service_node { // with a selector, by namespace and port
    struct service_node *next;
    const struct kube_service *service;
};

static struct slice port_key(struct analysis *a, struct slice ns, uint32_t port)
{
    return analysis_key(a, "%.*s~%u", SLICE_FMT(ns), port);
}

static void index_service_ports(struct analysis *a, struct map *ports)
{
    map_init(ports, &a->scratch, a->m->services_count);
    for (uint32_t i = 0; i < a->m->services_count; i++) {
        const struct kube_service *s = a->m->services[i];
        for (uint32_t k = 0; s->selector.count && k < s->port_count; k++) {
            struct service_node *n = arena_new(&a->scratch, struct service_node);
            n->service = s;
            n->next = map_put(ports, port_key(a, s->meta.ns, s->ports[k].port), n);
        }
    }
}

static bool selects_nothing(struct analysis *a, const struct kube_service *s)
{
    return !analysis_has_workload(a, &s->selector) &&
           !map_get(&a->endpoints,
                    analysis_key(a, "%.*s/%.*s", SLICE_FMT(s->meta.ns), SLICE_FMT(s->meta.name)));
}

static void check_selectors(struct analysis *a, const struct map *ports, const struct gateway *g,
                            const struct workload_view *w)
{
    for (uint32_t i = 0; i < g->server_count; i++) {
        const struct server_port *p = &g->servers[i].port;
        if (has_port(a, w, p))
            continue;
        const struct service_node *n = map_get(ports, port_key(a, g->meta.ns, p->number));
        for (uint32_t tried = 0; n && tried < MOST_COMPARED; n = n->next, tried++)
            if (selects_nothing(a, n->service))
                finding_add(a->findings, SEVERITY_INFO, NULL, n->service->meta.pos,
                            &n->service->meta,
                            "it selects nothing: neither a Pod nor what Gateway %.*s/%.*s selects "
                            "(%.*s); port %u is bound as it is",
                            SLICE_FMT(g->meta.ns), SLICE_FMT(g->meta.name),
                            SLICE_FMT(selector_text(a, &g->selector)), p->number);
    }
}

static void check_workload(struct analysis *a, const struct gateway *g,
                           const struct workload_view *w, bool workloads_known)
{
    struct slice text = selector_text(a, &g->selector);
    if (!w->found) {
        if (workloads_known)
            finding_add(a->findings, SEVERITY_ERROR, "IST0101", g->selector_pos, &g->meta,
                        "Referenced selector not found: \"%.*s\"", SLICE_FMT(text));
        return;
    }
    for (uint32_t i = 0; w->has_service && i < g->server_count; i++) {
        const struct server_port *p = &g->servers[i].port;
        if (p->number && !has_port(a, w, p))
            finding_add(
                a->findings, SEVERITY_WARNING, "IST0162", p->number_pos, &g->meta,
                "The gateway is listening on a target port (port %u) that is not defined in "
                "the Service associated with its workload instances (Pod selector %.*s). If "
                "you need to access the gateway port through the gateway Service, it will "
                "not be available. Port %u is bound as it is.",
                p->number, SLICE_FMT(text), p->number);
    }
}

static void check_workloads(struct analysis *a)
{
    struct map views, ports;
    bool known = a->options->labels.count > 0;
    map_init(&views, &a->scratch, 8);
    index_service_ports(a, &ports);
    for (uint32_t i = 0; i < a->m->gateways_count; i++) {
        const struct gateway *g = a->m->gateways[i];
        const struct workload_view *w = view(a, &views, g);
        known = known || (w && w->found && g->selector.count > 0);
    }
    for (uint32_t i = 0; i < a->m->gateways_count; i++) {
        const struct workload_view *w = view(a, &views, a->m->gateways[i]);
        if (!w)
            continue;
        check_workload(a, a->m->gateways[i], w, known);
        check_selectors(a, &ports, a->m->gateways[i], w);
    }
}

void analyze_gateways(struct analysis *a)
{
    const struct model *m = a->m;
    struct conflicts conflicts;
    struct map certificates, checked;
    map_init(&conflicts.gateways, &a->scratch, m->gateways_count);
    map_init(&conflicts.selectors, &a->scratch, m->gateways_count);
    map_init(&conflicts.pairs, &a->scratch, 8);
    map_init(&checked, &a->scratch, m->secrets_count);
    map_init(&certificates, &a->scratch, m->gateways_count);
    for (uint32_t i = 0; i < m->gateways_count; i++) {
        const struct gateway *g = m->gateways[i];
        struct slice selector = selector_text(a, &g->selector);
        for (uint32_t k = 0; k < g->server_count; k++) {
            const struct server *s = &g->servers[k];
            struct slice key = certificate_key(a, s->tls);
            if (key.ptr)
                put(a, &certificates, key, g);
            add_listens(a, &conflicts, g, selector, s);
        }
    }
    for (uint32_t i = 0; i < m->gateways_count; i++) {
        check_conflicts(a, &conflicts, m->gateways[i]);
        check_certificates(a, &certificates, m->gateways[i]);
        check_credentials(a, &checked, m->gateways[i]);
    }
    check_workloads(a);
}
