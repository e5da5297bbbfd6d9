// Lint of what VirtualServices refer to (IST0101, 0112, 0132). A Gateway's hosts are indexed once,
// so that ten thousand VirtualServices on one Gateway of ten thousand hosts are looked up. Control
// thread.
#include "config/analysis.h"
#include "config/names.h"
#include "config/unserved.h"

// ---- destinations

static void not_found(struct analysis *a, const struct virtual_service *vs, struct pos pos,
                      const char *what, struct slice name, const char *elsewhere)
{
    finding_add(a->findings, SEVERITY_ERROR, "IST0101", pos, &vs->meta,
                "Referenced %s not found: \"%.*s\"%s", what, SLICE_FMT(name), elsewhere);
}

static uint32_t port_count_of(const struct host_entry *e)
{
    return e->service ? e->service->port_count : e->entry->port_count;
}

static uint32_t port_of(const struct host_entry *e, uint32_t i)
{
    return e->service ? e->service->ports[i].port : e->entry->ports[i].number;
}

static bool has_port(const struct host_entry *e, uint32_t port)
{
    for (; e; e = e->next)
        for (uint32_t i = 0; i < port_count_of(e); i++)
            if (port_of(e, i) == port)
                return true;
    return false;
}

static void check_port(struct analysis *a, const struct virtual_service *vs,
                       const struct destination *d, const struct host_entry *e)
{
    if (d->port) {
        if (!has_port(e, d->port))
            not_found(a, vs, d->port_pos, "host:port",
                      analysis_key(a, "%.*s:%u", SLICE_FMT(d->host), d->port), "");
        return;
    }
    if (port_count_of(e) < 2)
        return;
    char list[256];
    size_t n = 0;
    for (uint32_t i = 0; i < port_count_of(e) && n < sizeof(list) - 16; i++)
        n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%u", i ? " " : "", port_of(e, i));
    finding_add(
        a->findings, SEVERITY_ERROR, "IST0112", d->host_pos, &vs->meta,
        "This VirtualService routes to a service \"%.*s\" that exposes multiple ports [%s]. "
        "Specifying a port in the destination is required to disambiguate.",
        SLICE_FMT(d->host), list);
}

static void check_destination(struct analysis *a, const struct virtual_service *vs,
                              const struct destination *d, bool mirror)
{
    struct slice fqdn = host_fqdn(&a->scratch, d->host, vs->meta.ns);
    const struct host_entry *e = analysis_host(a, fqdn);
    if (!d->host.len || (!e && analysis_is_broken(a, "host %.*s", SLICE_FMT(fqdn))))
        return;
    if (!e)
        not_found(a, vs, d->host_pos, mirror ? "mirror host" : "host", d->host,
                  analysis_other_service(a, d->host, vs->meta.ns));
    else
        check_port(a, vs, d, e);
    if (d->subset.len && !analysis_is_broken(a, "subsets %.*s", SLICE_FMT(fqdn)) &&
        !map_get(&a->subsets, analysis_key(a, "%.*s+%.*s", SLICE_FMT(fqdn), SLICE_FMT(d->subset))))
        not_found(a, vs, d->subset_pos,
                  mirror ? "mirror+subset in destinationrule" : "host+subset in destinationrule",
                  analysis_key(a, "%.*s+%.*s", SLICE_FMT(d->host), SLICE_FMT(d->subset)), "");
}

// What an http route asks of the port that it leads to.
static void check_http_port(struct analysis *a, const struct virtual_service *vs,
                            const struct destination *d)
{
    const struct host_entry *e = analysis_host(a, host_fqdn(&a->scratch, d->host, vs->meta.ns));
    for (; e; e = e->next) {
        if (e->service)
            unserved_report_service_port(e->service, d->port, a->findings);
        else
            unserved_report_entry_port(e->entry, d->port, a->findings);
    }
}

static void check_l4_destinations(struct analysis *a, const struct virtual_service *vs,
                                  const struct l4_route *routes, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t k = 0; k < routes[i].route_count; k++)
            check_destination(a, vs, &routes[i].routes[k].destination, false);
}

static void check_destinations(struct analysis *a, const struct virtual_service *vs)
{
    check_l4_destinations(a, vs, vs->tcp, vs->tcp_count);
    check_l4_destinations(a, vs, vs->tls, vs->tls_count);
    for (uint32_t i = 0; i < vs->http_count; i++) {
        const struct http_route *h = &vs->http[i];
        for (uint32_t k = 0; k < h->route_count; k++) {
            check_destination(a, vs, &h->routes[k].destination, false);
            check_http_port(a, vs, &h->routes[k].destination);
        }
        for (uint32_t k = 0; k < h->mirror_count; k++)
            check_destination(a, vs, &h->mirrors[k].destination, true);
    }
}

// ---- which routes a server takes: tls ones where TLS passes through, tcp ones of what is left

struct taken {
    bool tls, tcp, terminated;
};

static struct taken routes_taken(const struct gateway *g)
{
    struct taken t = {0};
    for (uint32_t i = 0; i < g->server_count; i++) {
        const struct server *s = &g->servers[i];
        bool https = s->port.protocol == PROTO_HTTPS;
        bool tls = (https || s->port.protocol == PROTO_TLS) && s->tls;
        bool passes = tls && s->tls->mode == TLS_PASSTHROUGH;
        t.tls = t.tls || passes || (tls && s->tls->mode == TLS_AUTO_PASSTHROUGH);
        t.terminated = t.terminated || (tls && !passes);
        t.tcp =
            t.tcp || (!tls && !server_protocol_is_http(s->port.protocol)) ||
            (tls && !https && s->tls->mode >= TLS_SIMPLE && s->tls->mode != TLS_AUTO_PASSTHROUGH);
    }
    return t;
}

// ---- hosts of a Gateway. Keys are "ns/host", ns "*" where all may bind.

struct gateway_hosts {
    struct taken taken;
    struct map exact; // "bookinfo.com"
    struct map wild;  // ".com" of "*.com", "" of "*"
    struct map tails; // every part of a host behind a dot, with the dot: ".example.com", ".com"
};

static struct slice host_key(struct analysis *a, struct slice ns, struct slice host)
{
    struct slice key = analysis_key(a, "%.*s/%.*s", SLICE_FMT(ns), SLICE_FMT(host));
    char *p = (char *)key.ptr;
    for (size_t i = 0; i < key.len; i++)
        if (p[i] >= 'A' && p[i] <= 'Z')
            p[i] |= 0x20;
    return key;
}

static void add_gateway_host(struct analysis *a, struct gateway_hosts *h, struct slice ns,
                             struct slice host)
{
    bool wild = host.len && host.ptr[0] == '*';
    if (wild)
        host = slice_from(host, 1);
    (void)map_put(wild ? &h->wild : &h->exact, host_key(a, ns, host), h);
    for (size_t i = 0; i < host.len; i++)
        if (host.ptr[i] == '.')
            (void)map_put(&h->tails, host_key(a, ns, slice_from(host, i)), h);
    (void)map_put(&h->tails, host_key(a, ns, SLICE("")), h);
}

static struct gateway_hosts *index_gateway(struct analysis *a, const struct gateway *g)
{
    struct gateway_hosts *h = arena_new(&a->scratch, struct gateway_hosts);
    h->taken = routes_taken(g);
    map_init(&h->exact, &a->scratch, 8);
    map_init(&h->wild, &a->scratch, 8);
    map_init(&h->tails, &a->scratch, 8);
    for (uint32_t i = 0; i < g->server_count; i++) {
        for (uint32_t k = 0; k < g->servers[i].hosts.count; k++) {
            struct slice host = g->servers[i].hosts.items[k].text, ns = SLICE("*");
            ptrdiff_t slash = slice_find(host, '/');
            if (slash >= 0) {
                ns = (struct slice){host.ptr, (size_t)slash};
                host = slice_from(host, (size_t)slash + 1);
            }
            add_gateway_host(a, h, slice_eq(ns, SLICE(".")) ? g->meta.ns : ns, host);
        }
    }
    return h;
}

static bool host_in(struct analysis *a, const struct gateway_hosts *h, struct slice ns,
                    struct slice host)
{
    bool wild = host.len && host.ptr[0] == '*';
    struct slice tail = wild ? slice_from(host, 1) : host;
    if (wild && map_get(&h->tails, host_key(a, ns, tail)))
        return true;
    if (!wild && map_get(&h->exact, host_key(a, ns, host)))
        return true;
    for (size_t i = 0; i <= tail.len; i++)
        if ((i == tail.len || tail.ptr[i] == '.') &&
            map_get(&h->wild, host_key(a, ns, slice_from(tail, i))))
            return true;
    return false;
}

static bool any_host_in(struct analysis *a, const struct gateway_hosts *h,
                        const struct virtual_service *vs)
{
    for (uint32_t i = 0; i < vs->hosts.count; i++)
        if (host_in(a, h, SLICE("*"), vs->hosts.items[i].text) ||
            host_in(a, h, vs->meta.ns, vs->hosts.items[i].text))
            return true;
    return vs->hosts.count == 0; // a delegate
}

static const char *print_hosts(struct analysis *a, const struct string_list *hosts)
{
    char text[512];
    size_t n = 0;
    for (uint32_t i = 0; i < hosts->count && n < sizeof(text) - 1; i++) {
        int more = snprintf(text + n, sizeof(text) - n, "%s%.*s", i ? " " : "",
                            SLICE_FMT(hosts->items[i].text));
        n += more > 0 ? (size_t)more : 0;
    }
    return arena_printf(&a->scratch, "[%s]", hosts->count ? text : "");
}

static void check_route_kinds(struct analysis *a, const struct virtual_service *vs,
                              const struct gateway *g, struct taken t)
{
    if (vs->tcp_count && !vs->tls_count && t.tls && !t.tcp)
        finding_add(a->findings, SEVERITY_ERROR, NULL, vs->tcp[0].pos, &vs->meta,
                    "a tcp route is not used by the PASSTHROUGH server of Gateway %.*s/%.*s: only "
                    "tls routes (match sniHosts) are",
                    SLICE_FMT(g->meta.ns), SLICE_FMT(g->meta.name));
    if (vs->tls_count && !t.tls && t.terminated)
        finding_add(a->findings, SEVERITY_ERROR, NULL, vs->tls[0].pos, &vs->meta,
                    "a tls route is not used by Gateway %.*s/%.*s, which terminates TLS: only tcp "
                    "routes (protocol TLS) or http routes (HTTPS) are",
                    SLICE_FMT(g->meta.ns), SLICE_FMT(g->meta.name));
}

static void check_gateways(struct analysis *a, struct map *indexed,
                           const struct virtual_service *vs)
{
    for (uint32_t i = 0; i < vs->gateways.count; i++) {
        const struct string_item *ref = &vs->gateways.items[i];
        struct slice ns, name;
        if (slice_eq(ref->text, SLICE("mesh")))
            continue;
        gateway_ref_split(ref->text, vs->meta.ns, &ns, &name);
        struct slice key = analysis_key(a, "%.*s/%.*s", SLICE_FMT(ns), SLICE_FMT(name));
        const struct gateway *g = map_get(&a->gateways, key);
        if (!g && analysis_is_broken(a, "Gateway %.*s", SLICE_FMT(key)))
            continue;
        if (!g) {
            not_found(a, vs, ref->pos, "gateway", ref->text, analysis_other_gateway(a, name));
            continue;
        }
        struct gateway_hosts *h = map_get(indexed, key);
        if (!h) {
            h = index_gateway(a, g);
            (void)map_put(indexed, key, h);
        }
        check_route_kinds(a, vs, g, h->taken);
        if (!any_host_in(a, h, vs))
            finding_add(a->findings, SEVERITY_WARNING, "IST0132", ref->pos, &vs->meta,
                        "one or more host %s defined in VirtualService %.*s/%.*s not found in "
                        "Gateway %.*s.",
                        print_hosts(a, &vs->hosts), SLICE_FMT(vs->meta.ns),
                        SLICE_FMT(vs->meta.name), SLICE_FMT(key));
    }
}

static void check_bound(struct analysis *a, const struct virtual_service *vs)
{
    for (uint32_t i = 0; i < vs->gateways.count; i++)
        if (!slice_eq(vs->gateways.items[i].text, SLICE("mesh")))
            return;
    if (vs->hosts.count)
        finding_add(a->findings, SEVERITY_INFO, NULL, vs->meta.pos, &vs->meta,
                    "binds to no Gateway: without `gateways` it applies to the mesh only");
}

static bool needs_route(const struct server *s)
{
    bool redirects = s->tls && s->tls->https_redirect;
    bool by_name = s->tls && s->tls->mode == TLS_AUTO_PASSTHROUGH;
    return !redirects && !by_name;
}

// `named`: the Gateways that VirtualServices refer to. One in error may be what is missing.
static void check_unused(struct analysis *a, const struct map *named)
{
    const struct label_map *labels = &a->options->labels;
    for (uint32_t i = 0; i < a->m->broken_count; i++)
        if (slice_eq(a->m->broken[i]->kind, SLICE("VirtualService")))
            return;
    for (uint32_t i = 0; i < a->m->gateways_count; i++) {
        const struct gateway *g = a->m->gateways[i];
        bool needed = false;
        for (uint32_t k = 0; k < g->server_count; k++)
            needed = needed || needs_route(&g->servers[k]);
        if (needed && (!labels->count || labels_cover(&g->selector, labels)) &&
            !map_get(named,
                     analysis_key(a, "%.*s/%.*s", SLICE_FMT(g->meta.ns), SLICE_FMT(g->meta.name))))
            finding_add(a->findings, SEVERITY_WARNING, NULL, g->meta.pos, &g->meta,
                        "no VirtualService names this Gateway: requests are answered 404, other "
                        "connections are closed");
    }
}

void analyze_virtual_services(struct analysis *a)
{
    struct map indexed;
    map_init(&indexed, &a->scratch, a->m->gateways_count);
    for (uint32_t i = 0; i < a->m->virtual_services_count; i++) {
        const struct virtual_service *vs = a->m->virtual_services[i];
        check_destinations(a, vs);
        check_gateways(a, &indexed, vs);
        check_bound(a, vs);
    }
    check_unused(a, &indexed);
}
