// The table of what Istio knows and this version does not serve, and the walk over the model that
// asks it. A row says where it looks, what it finds, and whether that is refused or ignored;
// serving it means deleting the row and its function. Owns nothing. Control thread.
#include "config/unserved.h"
#include "config/names.h"
#include "config/rules.h"
#include "config/schema.h"
#include "config/validate_http.h"

enum scope {
    IN_SERVER,
    IN_HTTP_ROUTE,
    IN_POLICY,
    IN_RULE,
    IN_SERVICE_ENTRY,
    IN_SERVICE,
    IN_PORT,
    IN_SINK
};
enum action { IGNORED, REFUSED };

static const struct pos nowhere;

// ---- servers

static struct pos http2_server(const void *object)
{
    const struct server *s = object;
    bool http2 = s->port.protocol == PROTO_HTTP2 || s->port.protocol == PROTO_GRPC;
    return http2 ? s->port.protocol_pos : nowhere;
}

static struct pos grpc_web(const void *object)
{
    const struct server *s = object;
    return s->port.protocol == PROTO_GRPC_WEB ? s->port.protocol_pos : nowhere;
}

static struct pos default_endpoint(const void *object)
{
    const struct server *s = object;
    return s->default_endpoint.len ? s->pos : nowhere;
}

// ---- http routes

static struct pos cors(const void *object)
{
    const struct http_route *h = object;
    return h->cors ? h->cors->pos : nowhere;
}

static struct pos fault(const void *object)
{
    const struct http_route *h = object;
    return h->fault ? h->fault->pos : nowhere;
}

static struct pos mirror(const void *object)
{
    const struct http_route *h = object;
    return h->mirror_count ? h->mirrors[0].pos : nowhere;
}

static struct pos delegate(const void *object)
{
    const struct http_route *h = object;
    return h->delegate ? h->delegate->pos : nowhere;
}

static struct pos jwt_claims(const void *object)
{
    const struct http_route *h = object;
    for (uint32_t i = 0; i < h->match_count; i++) {
        const struct named_match_list *lists[] = {&h->matches[i].headers,
                                                  &h->matches[i].without_headers};
        for (uint32_t l = 0; l < COUNT_OF(lists); l++)
            for (uint32_t k = 0; k < lists[l]->count; k++)
                if (is_jwt_claim(lists[l]->items[k].name))
                    return lists[l]->items[k].pos;
    }
    return nowhere;
}

// `%VAR%` in a value; `%%` is a plain percent sign.
static bool has_operator(struct slice value)
{
    for (size_t i = 0; i < value.len; i++) {
        if (value.ptr[i] != '%')
            continue;
        if (i + 1 == value.len || value.ptr[i + 1] != '%')
            return true;
        i++;
    }
    return false;
}

static struct pos operator_in(const struct headers *h)
{
    const struct header_operations *both[] = {h ? h->request : NULL, h ? h->response : NULL};
    for (uint32_t i = 0; i < COUNT_OF(both); i++) {
        for (uint32_t k = 0; both[i] && k < both[i]->set.count; k++)
            if (has_operator(both[i]->set.items[k].value))
                return both[i]->set.items[k].pos;
        for (uint32_t k = 0; both[i] && k < both[i]->add.count; k++)
            if (has_operator(both[i]->add.items[k].value))
                return both[i]->add.items[k].pos;
    }
    return nowhere;
}

static struct pos header_operators(const void *object)
{
    const struct http_route *h = object;
    struct pos pos = operator_in(h->headers);
    for (uint32_t i = 0; i < h->route_count && !pos.line; i++)
        pos = operator_in(h->routes[i].headers);
    return pos;
}

// ---- traffic policies; a port's is seen through the same struct

static struct pos tunnel(const void *object)
{
    const struct traffic_policy *p = object;
    return p->tunnel.given ? p->pos : nowhere;
}

static struct pos outlier(const void *object)
{
    const struct traffic_policy *p = object;
    return p->outlier_detection ? p->outlier_detection->pos : nowhere;
}

static struct pos retry_budget(const void *object)
{
    const struct traffic_policy *p = object;
    return p->retry_budget.given ? p->pos : nowhere;
}

static struct pos consistent_hash(const void *object)
{
    const struct load_balancer *lb = ((const struct traffic_policy *)object)->load_balancer;
    return lb && lb->consistent_hash ? lb->consistent_hash->pos : nowhere;
}

static struct pos lb_passthrough(const void *object)
{
    const struct load_balancer *lb = ((const struct traffic_policy *)object)->load_balancer;
    return lb && lb->simple_given && lb->simple == LB_PASSTHROUGH ? lb->pos : nowhere;
}

static struct pos locality(const void *object)
{
    const struct load_balancer *lb = ((const struct traffic_policy *)object)->load_balancer;
    if (!lb || (!lb->locality && !lb->zone_aware))
        return nowhere;
    return lb->locality ? lb->locality->pos : lb->zone_aware->pos;
}

static struct pos warmup(const void *object)
{
    const struct load_balancer *lb = ((const struct traffic_policy *)object)->load_balancer;
    return lb && lb->warmup_duration_ns != DURATION_UNSET ? lb->pos : nowhere;
}

static const struct connection_pool *pool_of(const void *object)
{
    static const struct connection_pool none = {
        .http2_keepalive_interval_ns = DURATION_UNSET,
    };
    const struct connection_pool *p = ((const struct traffic_policy *)object)->connection_pool;
    return p ? p : &none;
}

// One function for each field, so that the field is named, where it stands.
#define POOL_FIELD(name, used, where)                      \
    static struct pos pool_##name(const void *object)      \
    {                                                      \
        const struct connection_pool *p = pool_of(object); \
        return (used) ? p->where : nowhere;                \
    }
POOL_FIELD(max_connections, p->max_connections, max_connections_pos)
POOL_FIELD(http1_pending, p->http1_max_pending_requests, http1_pending_pos)
POOL_FIELD(http2_requests, p->http2_max_requests, http2_requests_pos)
POOL_FIELD(max_retries, p->max_retries_given, max_retries_pos)
POOL_FIELD(max_streams, p->max_concurrent_streams, max_streams_pos)
POOL_FIELD(h2_upgrade, p->h2_upgrade == H2_UPGRADE_ALWAYS, h2_upgrade_pos)
POOL_FIELD(client_protocol, p->use_client_protocol, client_protocol_pos)
POOL_FIELD(http2_keepalive, p->http2_keepalive_interval_ns != DURATION_UNSET, pos)
#undef POOL_FIELD

static struct pos rule_selector(const void *object)
{
    const struct destination_rule *d = object;
    return d->workload_selector.count ? d->workload_selector.items[0].pos : nowhere;
}

// ---- services

// Endpoints that are given by address need no resolver, whatever the resolution.
static struct pos needs_dns(const void *object)
{
    const struct service_entry *s = object;
    bool named = s->endpoint_count == 0;
    if (s->resolution < RESOLUTION_DNS)
        return nowhere;
    for (uint32_t i = 0; i < s->endpoint_count && !named; i++)
        named = !is_ip_address(s->endpoints[i].address);
    return named || s->resolution == RESOLUTION_DYNAMIC_DNS ? s->meta.pos : nowhere;
}

static struct pos external_name(const void *object)
{
    const struct kube_service *s = object;
    return slice_eq(s->type, SLICE("ExternalName")) ? s->meta.pos : nowhere;
}

struct routed_port { // that http routes lead to
    enum server_protocol protocol;
    struct pos pos;
};

static struct pos http2_port(const void *object)
{
    const struct routed_port *p = object;
    bool http2 =
        p->protocol == PROTO_HTTP2 || p->protocol == PROTO_GRPC || p->protocol == PROTO_GRPC_WEB;
    return http2 ? p->pos : nowhere;
}

static struct pos any_sink(const void *object)
{
    return ((const struct statsd_sink *)object)->pos;
}

// ---- the table

static const struct row {
    enum scope scope;
    enum action action;
    struct pos (*find)(const void *object); // line 0: not used
    const char *field, *consequence;
} rows[] = {
    {IN_SERVER, IGNORED, grpc_web, "gRPC-Web translation", "requests are forwarded as they are"},
    {IN_SERVER, IGNORED, http2_server, "HTTP/2 (protocol HTTP2 or GRPC)",
     "HTTP/1.1 is served on this port, HTTP/2 is answered 505"},
    {IN_SERVER, IGNORED, default_endpoint, "defaultEndpoint", "it is ignored, as by Istio"},
    {IN_HTTP_ROUTE, REFUSED, cors, "corsPolicy", "this VirtualService is left out"},
    {IN_HTTP_ROUTE, REFUSED, fault, "fault", "this VirtualService is left out"},
    {IN_HTTP_ROUTE, REFUSED, delegate, "delegate", "this VirtualService is left out"},
    {IN_HTTP_ROUTE, REFUSED, jwt_claims, "matching JWT claims (@request.auth.claims)",
     "this VirtualService is left out"},
    {IN_HTTP_ROUTE, IGNORED, mirror, "mirror", "requests are not mirrored"},
    {IN_HTTP_ROUTE, IGNORED, header_operators, "an operator in a header's value (%VAR%)",
     "it is sent as written"},
    {IN_POLICY, REFUSED, tunnel, "tunnel", "requests for this host are answered 503"},
    {IN_POLICY, IGNORED, outlier, "outlierDetection", "no endpoint is ejected"},
    {IN_POLICY, IGNORED, retry_budget, "retryBudget", "retries are not budgeted"},
    {IN_POLICY, IGNORED, consistent_hash, "consistentHash", "LEAST_REQUEST is used"},
    {IN_POLICY, IGNORED, lb_passthrough, "simple: PASSTHROUGH", "LEAST_REQUEST is used"},
    {IN_POLICY, IGNORED, locality, "localityLbSetting or zoneAwareLbSetting",
     "endpoints are chosen whatever their locality"},
    {IN_POLICY, IGNORED, warmup, "warmup", "new endpoints get their full share at once"},
    {IN_POLICY, IGNORED, pool_max_connections, "connectionPool.tcp.maxConnections",
     "connections are not limited"},
    {IN_POLICY, IGNORED, pool_http1_pending, "connectionPool.http.http1MaxPendingRequests",
     "waiting requests are not limited"},
    {IN_POLICY, IGNORED, pool_http2_requests, "connectionPool.http.http2MaxRequests",
     "requests are not limited"},
    {IN_POLICY, IGNORED, pool_max_retries, "connectionPool.http.maxRetries",
     "retries are limited by their route only"},
    {IN_POLICY, IGNORED, pool_max_streams, "connectionPool.http.maxConcurrentStreams",
     "HTTP/1.1 is spoken to the destination"},
    {IN_POLICY, IGNORED, pool_h2_upgrade, "connectionPool.http.h2UpgradePolicy: UPGRADE",
     "HTTP/1.1 is spoken to the destination"},
    {IN_POLICY, IGNORED, pool_client_protocol, "connectionPool.http.useClientProtocol",
     "HTTP/1.1 is spoken to the destination"},
    {IN_POLICY, IGNORED, pool_http2_keepalive, "connectionPool.http.http2KeepAlive",
     "HTTP/1.1 is spoken to the destination"},
    {IN_RULE, IGNORED, rule_selector, "workloadSelector",
     "this DestinationRule applies everywhere"},
    {IN_SERVICE_ENTRY, REFUSED, needs_dns, "resolution DNS, DNS_ROUND_ROBIN or DYNAMIC_DNS",
     "requests for these hosts are answered 503"},
    {IN_SERVICE, IGNORED, external_name, "type: ExternalName",
     "requests for this Service are answered 503"},
    {IN_PORT, IGNORED, http2_port, "HTTP/2 towards a port named http2 or grpc",
     "HTTP/1.1 is spoken to it"},
    {IN_SINK, IGNORED, any_sink, "the statsd sink", "no statistics are sent"},
};

const char *unserved_field(uint32_t row)
{
    return row < COUNT_OF(rows) ? rows[row].field : NULL;
}

// Adds a finding for each row of the scope that applies; true when one of them refuses. Without
// findings it only tells.
static bool ask(enum scope scope, const void *object, const struct metadata *meta,
                struct findings *findings)
{
    bool refused = false;
    for (uint32_t i = 0; i < COUNT_OF(rows); i++) {
        const struct row *row = &rows[i];
        struct pos pos = row->scope == scope ? row->find(object) : nowhere;
        if (!pos.line)
            continue;
        refused = refused || row->action == REFUSED;
        if (findings)
            finding_add(findings, row->action == REFUSED ? SEVERITY_ERROR : SEVERITY_WARNING,
                        "UNSERVED", pos, meta, "%s is not served by this version: %s", row->field,
                        row->consequence);
    }
    return refused;
}

static bool ask_http_routes(const struct virtual_service *vs, struct findings *findings)
{
    bool refused = false;
    for (uint32_t i = 0; i < vs->http_count; i++)
        refused = ask(IN_HTTP_ROUTE, &vs->http[i], &vs->meta, findings) || refused;
    return refused;
}

static bool ask_policy(const struct traffic_policy *p, const struct metadata *meta,
                       struct findings *findings)
{
    bool refused = p && ask(IN_POLICY, p, meta, findings);
    for (uint32_t i = 0; p && i < p->port_level_count; i++) {
        const struct port_traffic_policy *port = &p->port_level[i];
        struct traffic_policy same = {.load_balancer = port->load_balancer,
                                      .connection_pool = port->connection_pool,
                                      .outlier_detection = port->outlier_detection,
                                      .pos = port->pos};
        refused = ask(IN_POLICY, &same, meta, findings) || refused;
    }
    return refused;
}

static bool ask_rule(const struct destination_rule *d, struct findings *findings)
{
    bool refused = ask(IN_RULE, d, &d->meta, findings);
    refused = ask_policy(d->traffic_policy, &d->meta, findings) || refused;
    for (uint32_t i = 0; i < d->subset_count; i++)
        refused = ask_policy(d->subsets[i].traffic_policy, &d->meta, findings) || refused;
    return refused;
}

void unserved_report(const struct model *m, struct findings *findings)
{
    for (uint32_t i = 0; i < m->gateways_count; i++)
        for (uint32_t k = 0; k < m->gateways[i]->server_count; k++)
            (void)ask(IN_SERVER, &m->gateways[i]->servers[k], &m->gateways[i]->meta, findings);
    for (uint32_t i = 0; i < m->virtual_services_count; i++) {
        const struct virtual_service *vs = m->virtual_services[i];
        (void)ask_http_routes(vs, findings);
    }
    for (uint32_t i = 0; i < m->destination_rules_count; i++)
        (void)ask_rule(m->destination_rules[i], findings);
    for (uint32_t i = 0; i < m->service_entries_count; i++)
        (void)ask(IN_SERVICE_ENTRY, m->service_entries[i], &m->service_entries[i]->meta, findings);
    for (uint32_t i = 0; i < m->services_count; i++)
        (void)ask(IN_SERVICE, m->services[i], &m->services[i]->meta, findings);
    for (uint32_t i = 0; i < m->statsd_sinks_count; i++)
        (void)ask(IN_SINK, m->statsd_sinks[i], &m->statsd_sinks[i]->meta, findings);
}

// Named <protocol>[-suffix], or by appProtocol, which goes first.
static enum server_protocol protocol_of(const struct kube_service_port *p)
{
    struct slice name = p->app_protocol.len ? p->app_protocol : p->name;
    if (slice_eq(name, SLICE("kubernetes.io/h2c")))
        return PROTO_HTTP2;
    if (slice_has_prefix_nocase(name, SLICE("grpc-web")))
        return PROTO_GRPC_WEB;
    ptrdiff_t dash = slice_find(name, '-');
    if (dash >= 0)
        name.len = (size_t)dash;
    return server_protocol_parse(name);
}

void unserved_report_service_port(const struct kube_service *s, uint32_t port,
                                  struct findings *findings)
{
    for (uint32_t i = 0; i < s->port_count; i++) {
        struct routed_port routed = {protocol_of(&s->ports[i]), s->ports[i].pos};
        if (!port || s->ports[i].port == port)
            (void)ask(IN_PORT, &routed, &s->meta, findings);
    }
}

void unserved_report_entry_port(const struct service_entry *s, uint32_t port,
                                struct findings *findings)
{
    for (uint32_t i = 0; i < s->port_count; i++) {
        struct routed_port routed = {server_protocol_parse(s->ports[i].protocol), s->ports[i].pos};
        if (!port || s->ports[i].number == port)
            (void)ask(IN_PORT, &routed, &s->meta, findings);
    }
}

// ---- taking it out

void unserved_prune(struct model *m)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < m->virtual_services_count; i++) {
        if (!ask_http_routes(m->virtual_services[i], NULL))
            m->virtual_services[kept++] = m->virtual_services[i];
    }
    m->virtual_services_count = kept;
    kept = 0;
    for (uint32_t i = 0; i < m->service_entries_count; i++)
        if (!ask(IN_SERVICE_ENTRY, m->service_entries[i], &m->service_entries[i]->meta, NULL))
            m->service_entries[kept++] = m->service_entries[i];
    m->service_entries_count = kept;
    for (uint32_t i = 0; i < m->destination_rules_count; i++)
        m->destination_rules[i]->meta.refused = ask_rule(m->destination_rules[i], NULL);
}
