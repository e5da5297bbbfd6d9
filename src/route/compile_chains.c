// Filter chains, as Istio's gateway listeners have them: one for all plaintext HTTP servers of a
// port; one for each server that terminates TLS, by its hosts; for one that passes TLS through, one
// for each name of its `tls` routes (AUTO_PASSTHROUGH: of its services). Control thread.
#include "route/compile_chains.h"
#include "route/compile_l4.h"
#include "route/server_hosts.h"

struct chains { // while a listener's are put together
    struct compile *c;
    struct listener_config *l;
    uint32_t cap;
    const struct server_ref *ref; // the server whose chains are added
    uint32_t first_of_ref;        // the number of its first chain
};

enum server_family compile_family(const struct server *s)
{
    switch (s->port.protocol) {
    case PROTO_HTTPS:
    case PROTO_TLS:
        return FAMILY_TLS;
    case PROTO_UDP:
        return FAMILY_UDP;
    case PROTO_TCP:
    case PROTO_MONGO:
    case PROTO_MYSQL:
    case PROTO_REDIS:
        return FAMILY_TCP;
    default:
        return FAMILY_HTTP;
    }
}

// ---- chains and their names

static struct filter_chain *chain_create(struct chains *s, struct slice name)
{
    struct compile *c = s->c;
    struct listener_config *l = s->l;
    const struct metadata *g = &s->ref->gateway->meta;
    struct filter_chain *chain = arena_new(c->out, struct filter_chain);
    chain->name = name;
    chain->gateway = compile_text(c->out, "%.*s/%.*s", SLICE_FMT(g->ns), SLICE_FMT(g->name));
    if (l->chain_count == s->cap) {
        uint32_t cap = s->cap ? s->cap * 2 : 4;
        struct filter_chain **items = arena_array(c->out, struct filter_chain *, cap);
        if (l->chain_count)
            memcpy(items, l->chains, sizeof(*items) * l->chain_count);
        l->chains = items;
        s->cap = cap;
    }
    l->chains[l->chain_count++] = chain;
    return chain;
}

// Istio's mergeGateways: the first server that has a name keeps it.
static void skip_name(struct chains *s, struct slice name)
{
    const struct server *server = s->ref->server;
    finding_add(s->c->findings, SEVERITY_WARNING, "IST0145", server->pos, &s->ref->gateway->meta,
                "skipping server %.*s for host %.*s: it is served on port %u already",
                SLICE_FMT(server->port.name), SLICE_FMT(name.len ? name : SLICE("*")),
                server->port.number);
}

// NULL: nobody has the name (empty: every connection that no other name is for) yet.
static struct filter_chain *holder(const struct chains *s, struct slice name)
{
    return name.len ? map_get(&s->l->by_name, name) : (struct filter_chain *)(uintptr_t)s->l->any;
}

static void hold(struct chains *s, struct slice name, struct filter_chain *chain)
{
    if (name.len)
        (void)map_put(&s->l->by_name, name, chain);
    else
        s->l->any = chain;
}

static bool of_this_server(const struct chains *s, const struct filter_chain *chain)
{
    for (uint32_t i = s->first_of_ref; i < s->l->chain_count; i++)
        if (s->l->chains[i] == chain)
            return true;
    return false;
}

static struct slice server_text(struct chains *s, const char *kind)
{
    const struct server *server = s->ref->server;
    const struct metadata *g = &s->ref->gateway->meta;
    return compile_text(s->c->out, "%s.%u.%.*s.%.*s.%.*s%s%.*s", kind, server->port.number,
                        SLICE_FMT(server->port.name), SLICE_FMT(g->name), SLICE_FMT(g->ns),
                        server->bind.len ? "." : "", SLICE_FMT(server->bind));
}

// ---- servers that terminate TLS

// Gives the chain the server's hosts that are still free; false: none is.
static bool take_hosts(struct chains *s, struct filter_chain *chain)
{
    struct server_hosts hosts;
    bool every = false;
    server_hosts_init(s->c, &hosts, s->ref);
    chain->names = arena_array(s->c->out, struct slice, hosts.count);
    for (uint32_t i = 0; i < hosts.count; i++) {
        struct slice name = hosts.items[i].name;
        if (slice_eq(name, SLICE("*")))
            name = (struct slice){NULL, 0};
        else
            name = arena_dup(s->c->out, name);
        struct filter_chain *other = holder(s, name);
        if (other && other != chain)
            skip_name(s, name);
        if (other)
            continue;
        hold(s, name, chain);
        every = every || name.len == 0;
        if (name.len)
            chain->names[chain->name_count++] = name;
    }
    bool any = every || chain->name_count > 0;
    if (every) // its other names are held all the same
        chain->name_count = 0;
    return any;
}

static void add_terminating(struct chains *s)
{
    struct compile *c = s->c;
    const struct server_ref *ref = s->ref;
    bool https = ref->server->port.protocol == PROTO_HTTPS;
    uint32_t rule_count = 0;
    struct l4_rule *rules = NULL;
    if (!https) {
        rules = compile_tcp_rules(c, ref, &rule_count);
        if (rule_count == 0)
            return;
    }
    struct filter_chain *chain = chain_create(s, server_text(s, https ? "https" : "tls"));
    if (!take_hosts(s, chain)) {
        s->l->chain_count--;
        return;
    }
    chain->terminates_tls = true;
    if (c->options->server_tls)
        chain->tls = c->options->server_tls(c->options->server_tls_arg, ref->gateway, ref->server);
    chain->rules = rules;
    chain->rule_count = rule_count;
    if (https) {
        struct server_ref alone = *ref;
        alone.next = NULL;
        chain->routes = compile_route_table(c, chain->name, &alone, 1);
    }
}

// ---- servers that pass TLS through

static void append_rule(struct chains *s, struct filter_chain *chain, const struct l4_rule *rule)
{
    struct l4_rule *rules = arena_array(s->c->out, struct l4_rule, chain->rule_count + 1u);
    if (chain->rule_count)
        memcpy(rules, chain->rules, sizeof(*rules) * chain->rule_count);
    rules[chain->rule_count++] = *rule;
    chain->rules = rules;
}

// A second route for a name counts where the first one's destinationSubnets leave room for it.
static void pass_name(struct chains *s, struct slice name, const struct l4_rule *rule)
{
    struct filter_chain *chain = holder(s, name);
    if (chain && !of_this_server(s, chain)) {
        skip_name(s, name);
        return;
    }
    if (!chain) {
        chain = chain_create(s, server_text(s, "passthrough"));
        chain->names = arena_new(s->c->out, struct slice);
        chain->names[0] = name;
        chain->name_count = name.len > 0;
        hold(s, name, chain);
    }
    append_rule(s, chain, rule);
}

static void add_passthrough(struct chains *s)
{
    for (const struct l4_chain_draft *d = compile_tls_rules(s->c, s->ref); d; d = d->next) {
        for (uint32_t i = 0; i < d->name_count; i++)
            pass_name(s, d->names[i], &d->rule);
        if (d->name_count == 0)
            pass_name(s, (struct slice){NULL, 0}, &d->rule);
    }
}

// AUTO_PASSTHROUGH: the server name says which service, port and subset (Istio's
// BuildDNSSrvSubsetKey), "outbound_.8000_.v1_.httpbin.istio.svc.cluster.local".
static void add_auto_passthrough(struct chains *s)
{
    struct compile *c = s->c;
    const struct cluster_table *clusters = &c->rc->clusters;
    struct server_hosts hosts;
    server_hosts_init(c, &hosts, s->ref);
    for (uint32_t i = 0; i < clusters->count; i++) {
        const struct cluster_config *cluster = clusters->clusters[i];
        if (!cluster->in_mesh || cluster->udp ||
            !server_hosts_cover(&hosts, cluster->host, s->ref->gateway->meta.ns))
            continue;
        struct slice name = compile_text(c->out, "outbound_.%u_.%.*s_.%.*s", cluster->port,
                                         SLICE_FMT(cluster->subset), SLICE_FMT(cluster->host));
        struct l4_rule rule = compile_cluster_rule(c, cluster);
        pass_name(s, name, &rule);
        struct filter_chain *chain = holder(s, name);
        if (chain && of_this_server(s, chain))
            chain->istio_alpn_only = !c->options->any_alpn;
    }
}

static void add_tls_server(struct chains *s)
{
    const struct server_tls *tls = s->ref->server->tls;
    if (!tls)
        return; // refused when it was read
    if (tls->mode == TLS_PASSTHROUGH)
        add_passthrough(s);
    else if (tls->mode == TLS_AUTO_PASSTHROUGH)
        add_auto_passthrough(s);
    else
        add_terminating(s);
}

// ---- the rest

static void add_l4_server(struct chains *s, const char *kind)
{
    uint32_t count;
    struct l4_rule *rules = compile_tcp_rules(s->c, s->ref, &count);
    for (uint32_t i = 0; i < count; i++) {
        struct filter_chain *chain = holder(s, (struct slice){NULL, 0});
        if (!chain) {
            chain = chain_create(s, server_text(s, kind));
            hold(s, (struct slice){NULL, 0}, chain);
        }
        append_rule(s, chain, &rules[i]);
    }
}

static void add_http(struct chains *s, const struct server_ref *servers, uint32_t server_count,
                     uint32_t port, struct slice bind)
{
    struct slice name =
        compile_text(s->c->out, "http.%u%s%.*s", port, bind.len ? "." : "", SLICE_FMT(bind));
    s->ref = servers;
    struct filter_chain *chain = chain_create(s, name);
    chain->routes = compile_route_table(s->c, name, servers, server_count);
    hold(s, (struct slice){NULL, 0}, chain);
}

bool compile_chains(struct compile *c, struct listener_config *l, enum server_family family,
                    const struct server_ref *servers, uint32_t server_count, uint32_t port,
                    struct slice bind)
{
    struct chains s = {.c = c, .l = l};
    map_init(&l->by_name, c->out, 4);
    l->tls = family == FAMILY_TLS;
    l->udp = family == FAMILY_UDP;
    if (family == FAMILY_HTTP)
        add_http(&s, servers, server_count, port, bind);
    for (const struct server_ref *r = servers; r && family != FAMILY_HTTP; r = r->next) {
        s.ref = r;
        s.first_of_ref = l->chain_count;
        if (family == FAMILY_TLS)
            add_tls_server(&s);
        else
            add_l4_server(&s, l->udp ? "udp" : "tcp");
    }
    return l->chain_count > 0;
}
