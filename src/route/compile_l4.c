// L4 rules, as Istio's buildGatewayNetworkFiltersFromTCPRoutes and …FromTLSRoutes choose them: the
// VirtualServices of the Gateway whose hosts meet the server's, oldest first, and of their routes
// those with a match for this Gateway and port. Beyond Istio, destinationSubnets is looked at.
// Control thread.
#include "route/compile_l4.h"
#include "config/names.h"
#include "route/server_hosts.h"

// ---- which VirtualServices, which matches

static bool hosts_meet(struct compile *c, const struct virtual_service *vs,
                       const struct server_hosts *h)
{
    for (uint32_t i = 0; i < vs->hosts.count; i++) {
        struct slice host = host_fqdn(&c->scratch, vs->hosts.items[i].text, vs->meta.ns);
        host = compile_lower(&c->scratch, host);
        if (server_hosts_cover(h, host, vs->meta.ns))
            return true;
        uint32_t n = 0;
        const struct server_host *const *below = NULL;
        if (host.len && host.ptr[0] == '*')
            below = server_hosts_below(h, host, &n);
        for (uint32_t k = 0; k < n; k++)
            if (server_host_admits(below[k], vs->meta.ns))
                return true;
    }
    return false;
}

static bool concerns(const struct server_ref *ref, const struct virtual_service *vs,
                     const struct l4_match *m)
{
    if (m->port && m->port != ref->server->port.number)
        return false;
    if (m->gateways.count)
        return compile_names_gateway(&m->gateways, vs, ref->gateway);
    return labels_subset(&m->source_labels, ref->labels) &&
           (m->source_namespace.len == 0 || slice_eq(m->source_namespace, ref->gateway->meta.ns));
}

// ---- a rule

// What Istio, which has no UDP, has no words for.
static void explain_udp(struct compile *c, const struct virtual_service *vs,
                        const struct destination *d, const struct server_port *port,
                        const struct l4_target *t)
{
    struct slice text;
    if (t->cluster)
        finding_add(c->findings, SEVERITY_WARNING, NULL, d->host_pos, &vs->meta,
                    "a DestinationRule asks for %s to %.*s, which datagrams cannot have: those of "
                    "server %.*s are dropped",
                    t->cluster->proxy_protocol ? "proxyProtocol" : "TLS", SLICE_FMT(d->host),
                    SLICE_FMT(port->name));
    else if (compile_destination(c, d, vs->meta.ns, port->number, false, &text))
        finding_add(c->findings, SEVERITY_WARNING, NULL, d->host_pos, &vs->meta,
                    "%.*s has this port for TCP only: datagrams of server %.*s (UDP) are dropped",
                    SLICE_FMT(d->host), SLICE_FMT(port->name));
}

static void set_targets(struct compile *c, struct l4_rule *r, const struct virtual_service *vs,
                        const struct l4_route *in, const struct server_port *port)
{
    bool udp = port->protocol == PROTO_UDP;
    uint64_t total = 0;
    for (uint32_t i = 0; i < in->route_count; i++)
        total += in->routes[i].weight > 0 ? (uint32_t)in->routes[i].weight : 0;
    r->targets = arena_array(c->out, struct l4_target, in->route_count);
    for (uint32_t i = 0; i < in->route_count; i++) {
        uint32_t weight = compile_weight(in->routes[i].weight, in->route_count, total);
        if (weight == 0)
            continue;
        struct l4_target *t = &r->targets[r->target_count++];
        t->cluster = compile_destination(c, &in->routes[i].destination, vs->meta.ns, port->number,
                                         udp, &t->cluster_name);
        bool streams_only = t->cluster && (t->cluster->tls_mode != CLIENT_TLS_DISABLE ||
                                           t->cluster->proxy_protocol);
        if (udp && (streams_only || !t->cluster))
            explain_udp(c, vs, &in->routes[i].destination, port, t);
        if (udp && streams_only)
            t->cluster = NULL;
        r->total_weight += weight;
        t->weight_end = r->total_weight;
    }
}

static void set_subnets(struct compile *c, struct l4_rule *r, const struct string_list *in)
{
    struct addr_prefix *to = arena_array(c->out, struct addr_prefix, in->count);
    for (uint32_t i = 0; i < in->count; i++) // those that are none were reported
        if (addr_prefix_parse(in->items[i].text, &to[r->subnet_count]) == OK)
            r->subnet_count++;
    r->subnets = to;
}

static bool build_rule(struct compile *c, struct l4_rule *r, const struct server_ref *ref,
                       const struct virtual_service *vs, const struct l4_route *in,
                       const struct l4_match *m)
{
    *r = (struct l4_rule){.pos = compile_pos(c, in->pos), .protocol = ref->server->port.protocol};
    if (m && m->destination_subnets.count) {
        set_subnets(c, r, &m->destination_subnets);
        if (r->subnet_count == 0)
            return false;
    }
    set_targets(c, r, vs, in, &ref->server->port);
    r->virtual_service =
        compile_text(c->out, "%.*s.%.*s", SLICE_FMT(vs->meta.name), SLICE_FMT(vs->meta.ns));
    r->stat_prefix = r->target_count == 1 ? r->targets[0].cluster_name : r->virtual_service;
    return r->target_count > 0;
}

struct l4_rule compile_cluster_rule(struct compile *c, const struct cluster_config *cluster)
{
    struct l4_rule r = {
        .protocol = PROTO_TLS, .stat_prefix = cluster->name, .target_count = 1, .total_weight = 1};
    r.targets = arena_new(c->out, struct l4_target);
    *r.targets = (struct l4_target){cluster, cluster->name, 1};
    return r;
}

// ---- tcp

struct rules {
    struct l4_rule *items;
    uint32_t count, cap;
};

static struct l4_rule *push(struct compile *c, struct rules *rules)
{
    if (rules->count == rules->cap) {
        uint32_t cap = rules->cap ? rules->cap * 2 : 4;
        struct l4_rule *items = arena_array(c->out, struct l4_rule, cap);
        if (rules->count)
            memcpy(items, rules->items, sizeof(*items) * rules->count);
        rules->items = items;
        rules->cap = cap;
    }
    return &rules->items[rules->count];
}

static void add_tcp(struct compile *c, struct rules *rules, const struct server_ref *ref,
                    const struct virtual_service *vs, const struct l4_route *in)
{
    for (uint32_t i = 0; i < in->match_count; i++)
        if (concerns(ref, vs, &in->matches[i]) &&
            build_rule(c, push(c, rules), ref, vs, in, &in->matches[i]))
            rules->count++;
    if (in->match_count == 0 && build_rule(c, push(c, rules), ref, vs, in, NULL))
        rules->count++;
}

struct l4_rule *compile_tcp_rules(struct compile *c, const struct server_ref *ref, uint32_t *count)
{
    struct rules rules = {0};
    struct server_hosts hosts;
    server_hosts_init(c, &hosts, ref);
    const struct vs_list *l = compile_gateway_services(c, ref->gateway);
    for (uint32_t i = 0; i < l->count; i++) {
        const struct virtual_service *vs = l->items[i];
        if (vs->tcp_count == 0 || !compile_vs_visible(vs, ref->gateway->meta.ns) ||
            !hosts_meet(c, vs, &hosts))
            continue;
        for (uint32_t k = 0; k < vs->tcp_count; k++)
            add_tcp(c, &rules, ref, vs, &vs->tcp[k]);
    }
    *count = rules.count;
    return rules.items;
}

// ---- tls

static struct slice *lower_names(struct compile *c, const struct string_list *in, uint32_t *count)
{
    struct slice *names = arena_array(c->out, struct slice, in->count);
    *count = 0;
    for (uint32_t i = 0; i < in->count; i++) {
        if (slice_eq(in->items[i].text, SLICE("*"))) { // every name
            *count = 0;
            return names;
        }
        names[(*count)++] = compile_lower(c->out, in->items[i].text);
    }
    return names;
}

static void add_tls(struct compile *c, struct l4_chain_draft ***last, const struct server_ref *ref,
                    const struct virtual_service *vs, const struct l4_route *in)
{
    for (uint32_t i = 0; i < in->match_count; i++) {
        const struct l4_match *m = &in->matches[i];
        struct l4_chain_draft *d = arena_new(&c->scratch, struct l4_chain_draft);
        if (!concerns(ref, vs, m) || !build_rule(c, &d->rule, ref, vs, in, m))
            continue;
        d->names = lower_names(c, &m->sni_hosts, &d->name_count);
        **last = d;
        *last = &d->next;
    }
}

struct l4_chain_draft *compile_tls_rules(struct compile *c, const struct server_ref *ref)
{
    struct l4_chain_draft *first = NULL, **last = &first;
    struct server_hosts hosts;
    server_hosts_init(c, &hosts, ref);
    const struct vs_list *l = compile_gateway_services(c, ref->gateway);
    for (uint32_t i = 0; i < l->count; i++) {
        const struct virtual_service *vs = l->items[i];
        if (vs->tls_count == 0 || !compile_vs_visible(vs, ref->gateway->meta.ns) ||
            !hosts_meet(c, vs, &hosts))
            continue;
        for (uint32_t k = 0; k < vs->tls_count; k++)
            add_tls(c, &last, ref, vs, &vs->tls[k]);
    }
    return first;
}
