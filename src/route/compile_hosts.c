// Virtual hosts: the hosts of each server intersected with those of each VirtualService bound to
// its Gateway, and the routes of all VirtualServices that meet on one host, oldest first, with the
// catch-all routes last (Istio's buildGatewayHTTPRouteConfig). Control thread.
#include "config/names.h"
#include "route/compile_routes.h"
#include "route/host_index.h"
#include "route/server_hosts.h"
#include "route/virtual_host.h"
#include <stdio.h>
#include <stdlib.h>

#define DOMAIN_MAX 255

struct draft { // a virtual host while it is put together
    struct slice domain;
    uint32_t port;
    bool https_redirect;
    struct route_block **blocks;
    uint32_t count, cap;
    struct draft *next;
};

struct table { // a route table while it is put together
    struct compile *c;
    struct map drafts; // domain -> struct draft *
    struct map pairs;  // (draft, block) that met already; only where several servers share a port
    struct map sets;   // list of blocks -> struct rule_set *
    struct draft *first, **last;
    uint32_t count;
    bool shared;
};

// ---- VirtualServices by Gateway

static int vs_order(const void *a, const void *b)
{
    const struct metadata *x = &(*(const struct virtual_service *const *)a)->meta;
    const struct metadata *y = &(*(const struct virtual_service *const *)b)->meta;
    if (x->created_unix_s != y->created_unix_s)
        return x->created_unix_s < y->created_unix_s ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

static void bind_vs(struct compile *c, const struct virtual_service *vs, struct slice ref)
{
    struct slice ns, name;
    if (slice_eq(ref, SLICE("mesh")))
        return;
    gateway_ref_split(ref, vs->meta.ns, &ns, &name);
    struct slice key = compile_text(&c->scratch, "%.*s/%.*s", SLICE_FMT(ns), SLICE_FMT(name));
    struct vs_list *l = map_get(&c->gateway_services, key);
    if (!l) {
        l = arena_new(&c->scratch, struct vs_list);
        map_put(&c->gateway_services, key, l);
    }
    if (l->count && l->items[l->count - 1] == vs)
        return;
    if (l->count == l->cap) {
        uint32_t cap = l->cap ? l->cap * 2 : 8;
        const struct virtual_service **items =
            arena_array(&c->scratch, const struct virtual_service *, cap);
        if (l->count)
            memcpy(items, l->items, sizeof(*items) * l->count);
        l->items = items;
        l->cap = cap;
    }
    l->items[l->count++] = vs;
}

void compile_hosts_init(struct compile *c)
{
    uint32_t n = c->m->virtual_services_count;
    struct virtual_service **sorted = arena_array(&c->scratch, struct virtual_service *, n);
    if (n)
        memcpy(sorted, c->m->virtual_services, sizeof(*sorted) * n);
    qsort(sorted, n, sizeof(*sorted), vs_order);
    map_init(&c->gateway_services, &c->scratch, c->m->gateways_count);
    map_init(&c->blocks, &c->scratch, n);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < sorted[i]->gateways.count; k++)
            bind_vs(c, sorted[i], sorted[i]->gateways.items[k].text);
}

const struct vs_list *compile_gateway_services(const struct compile *c, const struct gateway *g)
{
    static const struct vs_list none;
    char key[600];
    int n = snprintf(key, sizeof(key), "%.*s/%.*s", SLICE_FMT(g->meta.ns), SLICE_FMT(g->meta.name));
    if (n < 0 || (size_t)n >= sizeof(key))
        return &none;
    const struct vs_list *l = map_get(&c->gateway_services, (struct slice){key, (size_t)n});
    return l ? l : &none;
}

bool compile_names_gateway(const struct string_list *gateways, const struct virtual_service *vs,
                           const struct gateway *g)
{
    for (uint32_t i = 0; i < gateways->count; i++) {
        struct slice ns, name;
        gateway_ref_split(gateways->items[i].text, vs->meta.ns, &ns, &name);
        if (slice_eq(ns, g->meta.ns) && slice_eq(name, g->meta.name))
            return true;
    }
    return false;
}

bool compile_vs_visible(const struct virtual_service *vs, struct slice gateway_ns)
{
    for (uint32_t i = 0; i < vs->export_to.count; i++) {
        struct slice to = vs->export_to.items[i].text;
        if (slice_eq(to, SLICE("*")) || slice_eq(to, gateway_ns) ||
            (slice_eq(to, SLICE(".")) && slice_eq(vs->meta.ns, gateway_ns)))
            return true;
    }
    return vs->export_to.count == 0;
}

// ---- drafts

static struct draft *draft_get(struct table *t, struct slice domain, uint32_t port)
{
    struct draft *d = map_get(&t->drafts, domain);
    if (d)
        return d;
    d = arena_new(&t->c->scratch, struct draft);
    d->domain = domain;
    d->port = port;
    map_put(&t->drafts, d->domain, d);
    *t->last = d;
    t->last = &d->next;
    t->count++;
    return d;
}

// Two Gateways on one port may bring the same VirtualService to a host twice.
static bool is_repeated(struct table *t, struct draft *d, struct route_block *b)
{
    if (d->count && d->blocks[d->count - 1] == b)
        return true;
    if (!t->shared)
        return false;
    const void **pair = arena_array(&t->c->scratch, const void *, 2);
    pair[0] = d;
    pair[1] = b;
    return map_put(&t->pairs, (struct slice){(const char *)pair, sizeof(*pair) * 2}, d) != NULL;
}

static void draft_add(struct table *t, struct draft *d, struct route_block *b)
{
    if (is_repeated(t, d, b))
        return;
    if (d->count == d->cap) {
        uint32_t cap = d->cap ? d->cap * 2 : 2;
        struct route_block **blocks = arena_array(&t->c->scratch, struct route_block *, cap);
        if (d->count)
            memcpy(blocks, d->blocks, sizeof(*blocks) * d->count);
        d->blocks = blocks;
        d->cap = cap;
    }
    d->blocks[d->count++] = b;
}

// `b` is NULL for a host that is only redirected.
static void add_host(struct table *t, const struct server_ref *ref, struct slice domain,
                     struct route_block *b)
{
    if (domain.len == 0 || domain.len > DOMAIN_MAX)
        return; // no request can name it
    struct draft *d = draft_get(t, domain, ref->server->port.number);
    d->https_redirect |= ref->server->tls && ref->server->tls->https_redirect;
    if (b)
        draft_add(t, d, b);
}

// The more specific name of each pair that meets: this host where a server's covers it, and the
// server's where this is a wildcard that covers them.
static void add_vs_host(struct table *t, const struct server_ref *ref, const struct server_hosts *h,
                        const struct virtual_service *vs, struct slice host, struct route_block *b)
{
    uint32_t count = 0;
    host = host_fqdn(&t->c->scratch, host, vs->meta.ns);
    host = compile_lower(&t->c->scratch, host);
    if (server_hosts_cover(h, host, vs->meta.ns))
        add_host(t, ref, host, b);
    if (host.len == 0 || host.ptr[0] != '*')
        return;
    const struct server_host *const *below = server_hosts_below(h, host, &count);
    for (uint32_t i = 0; i < count; i++)
        if (server_host_admits(below[i], vs->meta.ns))
            add_host(t, ref, below[i]->name, b);
}

static void add_vs(struct table *t, const struct server_ref *ref, const struct server_hosts *h,
                   const struct virtual_service *vs)
{
    if (vs->http_count == 0 || !compile_vs_visible(vs, ref->gateway->meta.ns))
        return;
    struct route_block *b = compile_block(t->c, vs, ref);
    for (uint32_t i = 0; b->count && i < vs->hosts.count; i++)
        add_vs_host(t, ref, h, vs, vs->hosts.items[i].text, b);
}

static void add_server(struct table *t, const struct server_ref *ref)
{
    struct compile *c = t->c;
    struct server_hosts hosts;
    server_hosts_init(c, &hosts, ref);
    const struct vs_list *l = compile_gateway_services(c, ref->gateway);
    for (uint32_t i = 0; i < l->count; i++)
        add_vs(t, ref, &hosts, l->items[i]);
    if (!ref->server->tls || !ref->server->tls->https_redirect)
        return;
    for (uint32_t i = 0; i < hosts.count; i++)
        add_host(t, ref, hosts.items[i].name, NULL);
}

// ---- rule sets

static const struct rule_set *combine(struct table *t, const struct draft *d)
{
    uint32_t count = 0, n = 0;
    for (uint32_t i = 0; i < d->count; i++)
        count += d->blocks[i]->count;
    const struct rule **rules = arena_array(&t->c->scratch, const struct rule *, count);
    for (int last = 0; last <= 1; last++) // first the others, then the catch-alls
        for (uint32_t i = 0; i < d->count; i++)
            for (uint32_t k = 0; k < d->blocks[i]->count; k++)
                if (rule_is_catch_all(d->blocks[i]->rules[k]) == (last == 1))
                    rules[n++] = d->blocks[i]->rules[k];
    return rule_set_create(t->c->out, rules, count);
}

// Hosts with the same blocks share one set: a VirtualService with many hosts is indexed once.
static const struct rule_set *set_of(struct table *t, const struct draft *d)
{
    if (d->count == 0)
        return NULL;
    if (d->count == 1) {
        struct route_block *b = d->blocks[0];
        if (!b->set)
            b->set = combine(t, d);
        return b->set;
    }
    struct slice key = {(const char *)d->blocks, sizeof(*d->blocks) * d->count};
    struct rule_set *set = map_get(&t->sets, key);
    if (!set) {
        set = (struct rule_set *)combine(t, d);
        map_put(&t->sets, key, set);
    }
    return set;
}

// ---- the table

static int host_order(const void *a, const void *b)
{
    const struct virtual_host *x = *(const struct virtual_host *const *)a;
    const struct virtual_host *y = *(const struct virtual_host *const *)b;
    return slice_cmp(virtual_host_name(x), virtual_host_name(y));
}

static void finish(struct table *t, struct route_table *out)
{
    struct virtual_host *vh = virtual_hosts_create(t->c->out, t->count);
    out->hosts = arena_array(t->c->out, struct virtual_host *, t->count);
    for (const struct draft *d = t->first; d; d = d->next, vh++) {
        virtual_host_set_domain(vh, t->c->out, d->domain, d->port);
        vh->https_redirect = d->https_redirect;
        vh->rules = set_of(t, d);
        out->hosts[out->host_count++] = vh;
    }
    qsort(out->hosts, out->host_count, sizeof(struct virtual_host *), host_order);
    if (out->host_count)
        out->index = host_index_create(t->c->out, out->hosts, out->host_count);
}

struct route_table *compile_route_table(struct compile *c, struct slice name,
                                        const struct server_ref *servers, uint32_t server_count)
{
    struct route_table *out = arena_new(c->out, struct route_table);
    struct table t = {.c = c, .shared = server_count > 1};
    t.last = &t.first;
    map_init(&t.drafts, &c->scratch, 64);
    map_init(&t.pairs, &c->scratch, 8);
    map_init(&t.sets, &c->scratch, 8);
    out->name = name;
    for (const struct server_ref *r = servers; r; r = r->next)
        add_server(&t, r);
    finish(&t, out);
    return out;
}
