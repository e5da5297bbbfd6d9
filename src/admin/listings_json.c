// Listings as JSON: arrays of objects, one a line; keys in snake_case, times in ms. Reads a
// snapshot, owns nothing. Control thread.
#include "admin/json.h"
#include "admin/listings_internal.h"
#include "core/clock.h"
#include <inttypes.h>

// ---- members of an object

static void member_ms(struct text *out, const char *name, uint64_t ns)
{
    if (ns)
        json_member_u64(out, name, ns / NS_PER_MS);
}

static void member_limit(struct text *out, const char *name, uint32_t limit)
{
    if (limit != UINT32_MAX)
        json_member_u64(out, name, limit);
}

static void next_line(struct text *out, bool *first)
{
    text_puts(out, *first ? "\n" : ",\n");
    *first = false;
}

// ---- listeners

void listing_json_relay(struct text *out, const struct l4_rule *r)
{
    text_char(out, '{');
    json_member(out, "virtual_service", r->virtual_service);
    json_key(out, "targets");
    text_char(out, '[');
    for (uint32_t i = 0, before = 0; i < r->target_count; before = r->targets[i++].weight_end) {
        text_puts(out, i ? ",{" : "{");
        json_member(out, "cluster", r->targets[i].cluster_name);
        json_member_u64(out, "weight", r->targets[i].weight_end - before);
        json_key(out, "known");
        text_puts(out, r->targets[i].cluster ? "true}" : "false}");
    }
    text_puts(out, "]}");
}

static void json_chain(struct text *out, const struct filter_chain *c)
{
    text_char(out, '{');
    json_member(out, "name", c->name);
    json_member(out, "gateway", c->gateway);
    json_key(out, "server_names");
    text_char(out, '[');
    for (uint32_t i = 0; i < c->name_count; i++) {
        text_puts(out, i ? "," : "");
        text_json(out, c->names[i]);
    }
    text_char(out, ']');
    json_member_bool(out, "terminates_tls", c->terminates_tls);
    if (c->routes)
        json_member(out, "routes", c->routes->name);
    json_key(out, "rules");
    text_char(out, '[');
    for (uint32_t i = 0; i < c->rule_count; i++) {
        text_puts(out, i ? "," : "");
        listing_json_relay(out, &c->rules[i]);
    }
    text_puts(out, "]}");
}

static void json_chains(struct text *out, const struct listener_config *l)
{
    json_key(out, "filter_chains");
    text_char(out, '[');
    for (uint32_t i = 0; i < l->chain_count; i++) {
        text_puts(out, i ? "," : "");
        json_chain(out, l->chains[i]);
    }
    text_char(out, ']');
}

void listing_json_listeners(struct text *out, const struct snapshot *s)
{
    bool first = true;
    text_char(out, '[');
    for (uint32_t i = 0; s && i < s->routes.listener_count; i++) {
        const struct listener_config *l = s->routes.listeners[i];
        next_line(out, &first);
        text_char(out, '{');
        json_member(out, "name", l->name);
        json_member_addr(out, "address", &l->addr);
        json_member(out, "transport", l->udp ? SLICE("udp") : SLICE("tcp"));
        json_member_u64(out, "server_port", l->server_port);
        json_chains(out, l);
        json_member(out, "gateways", l->gateways);
        text_char(out, '}');
    }
    text_char(out, ']');
}

// ---- routes

static void json_target(struct text *out, const struct route_target *t)
{
    text_char(out, '{');
    json_member(out, "cluster", t->cluster_name);
    json_member_u64(out, "weight", t->weight);
    json_key(out, "known");
    text_puts(out, t->cluster ? "true}" : "false}");
}

static void json_forward(struct text *out, const struct route *r)
{
    json_key(out, "targets");
    text_char(out, '[');
    for (uint32_t i = 0; i < r->target_count; i++) {
        if (i)
            text_char(out, ',');
        json_target(out, &r->targets[i]);
    }
    text_char(out, ']');
    member_ms(out, "timeout_ms", r->timeout_ns);
    json_member_u64(out, "retries", r->retry.attempts);
    member_ms(out, "per_try_timeout_ms", r->retry.per_try_timeout_ns);
    if (r->rewrite_uri)
        json_member(out, r->rewrite_is_prefix ? "rewrite_prefix" : "rewrite_path",
                    r->rewrite_uri_text);
    if (r->rewrite_regex)
        json_member(out, "rewrite_regex", r->rewrite_regex_text);
    json_member_if(out, "rewrite_authority", r->rewrite_authority);
}

static void json_redirect(struct text *out, const struct route *r)
{
    json_member_u64(out, "code", r->redirect.code);
    json_member_if(out, "scheme", r->redirect.scheme);
    json_member_if(out, "authority", r->redirect.authority);
    if (r->redirect.uri_given)
        json_member(out, "uri", r->redirect.uri);
    if (r->redirect.prefix_given)
        json_member(out, "prefix_rewrite", r->redirect.prefix_rewrite);
    if (r->redirect.port)
        json_member_u64(out, "port", r->redirect.port);
}

static void json_position(struct text *out, const struct pos *p)
{
    if (!p->file)
        return;
    char buf[600];
    struct text t;
    text_init_fixed(&t, buf, sizeof(buf));
    text_printf(&t, "%s:%" PRIu32 ":%" PRIu32, p->file, p->line, p->column);
    json_member(out, "position", (struct slice){t.data, t.len});
}

void listing_json_route(struct text *out, const struct route *r)
{
    text_char(out, '{');
    json_member_if(out, "name", r->name);
    json_member(out, "match", r->match_text);
    json_member_if(out, "virtual_service", r->virtual_service);
    json_position(out, &r->pos);
    switch (r->action) {
    case ROUTE_FORWARD:
        json_member(out, "action", SLICE("forward"));
        json_forward(out, r);
        break;
    case ROUTE_REDIRECT:
        json_member(out, "action", SLICE("redirect"));
        json_redirect(out, r);
        break;
    case ROUTE_DIRECT_RESPONSE:
        json_member(out, "action", SLICE("direct_response"));
        json_member_u64(out, "code", r->direct_status);
        json_member_u64(out, "body_bytes", r->direct_body.len);
        break;
    default:
        json_member(out, "action", SLICE("none"));
    }
    text_char(out, '}');
}

static void json_virtual_host(struct text *out, const struct virtual_host *vh)
{
    bool first = true;
    text_char(out, '{');
    json_member(out, "name", virtual_host_name(vh));
    json_member(out, "domain", virtual_host_domain(vh));
    json_member_bool(out, "https_redirect", virtual_host_https_redirect(vh));
    json_key(out, "routes");
    text_char(out, '[');
    for (uint32_t i = 0; i < virtual_host_route_count(vh); i++) {
        next_line(out, &first);
        listing_json_route(out, virtual_host_route(vh, i));
    }
    text_puts(out, "]}");
}

static void json_table(struct text *out, const struct route_table *rt)
{
    bool first = true;
    text_char(out, '{');
    json_member(out, "name", rt->name);
    json_key(out, "virtual_hosts");
    text_char(out, '[');
    for (uint32_t h = 0; h < rt->host_count; h++) {
        next_line(out, &first);
        json_virtual_host(out, rt->hosts[h]);
    }
    text_puts(out, "]}");
}

void listing_json_routes(struct text *out, const struct snapshot *s)
{
    bool first = true;
    text_char(out, '[');
    for (uint32_t i = 0; s && i < s->routes.listener_count; i++) {
        const struct listener_config *l = s->routes.listeners[i];
        for (uint32_t k = 0; k < l->chain_count; k++) {
            if (!l->chains[k]->routes)
                continue;
            next_line(out, &first);
            json_table(out, l->chains[k]->routes);
        }
    }
    text_char(out, ']');
}

// ---- clusters and endpoints

static const char *policy_name(enum lb_policy p)
{
    static const char *const names[] = {[LB_POLICY_LEAST_REQUEST] = "LEAST_REQUEST",
                                        [LB_POLICY_ROUND_ROBIN] = "ROUND_ROBIN",
                                        [LB_POLICY_RANDOM] = "RANDOM"};
    return (size_t)p < sizeof(names) / sizeof(names[0]) ? names[p] : "UNKNOWN";
}

static const char *tls_name(enum client_tls_mode mode)
{
    static const char *const names[] = {[CLIENT_TLS_DISABLE] = "DISABLE",
                                        [CLIENT_TLS_SIMPLE] = "SIMPLE",
                                        [CLIENT_TLS_MUTUAL] = "MUTUAL",
                                        [CLIENT_TLS_ISTIO_MUTUAL] = "ISTIO_MUTUAL"};
    return (size_t)mode < sizeof(names) / sizeof(names[0]) ? names[mode] : "UNKNOWN";
}

static void json_cluster(struct text *out, const struct cluster_config *c)
{
    text_char(out, '{');
    json_member(out, "name", c->name);
    json_member(out, "host", c->host);
    json_member_u64(out, "port", c->port);
    json_member(out, "transport", c->udp ? SLICE("udp") : SLICE("tcp"));
    json_member_if(out, "subset", c->subset);
    json_member(out, "direction", SLICE("outbound"));
    json_member(out, "type", slice_of(c->type));
    json_member_if(out, "destination_rule", c->destination_rule);
    json_member(out, "load_balancer", slice_of(policy_name(c->lb)));
    json_member(out, "tls", slice_of(tls_name(c->tls_mode)));
    json_member_if(out, "tls_name", c->tls_name);
    json_member_u64(out, "endpoint_count", c->endpoint_count);
    member_ms(out, "connect_timeout_ms", c->connect_timeout_ns);
    member_ms(out, "idle_timeout_ms", c->idle_timeout_ns);
    member_ms(out, "tcp_idle_timeout_ms", c->tcp_idle_timeout_ns);
    if (c->max_connection_duration_ns)
        member_ms(out, "max_connection_duration_ms", c->max_connection_duration_ns);
    if (c->max_requests_per_connection)
        json_member_u64(out, "max_requests_per_connection", c->max_requests_per_connection);
    member_limit(out, "max_connections", c->max_connections);
    member_limit(out, "max_pending_requests", c->max_pending_requests);
    member_limit(out, "max_requests", c->max_requests);
    member_limit(out, "max_retries", c->max_retries);
    text_char(out, '}');
}

void listing_json_clusters(struct text *out, const struct snapshot *s)
{
    bool first = true;
    text_char(out, '[');
    for (uint32_t i = 0; s && i < s->routes.clusters.count; i++) {
        next_line(out, &first);
        json_cluster(out, s->routes.clusters.clusters[i]);
    }
    text_char(out, ']');
}

static void json_endpoint(struct text *out, const struct endpoint_config *e,
                          const struct cluster_config *c)
{
    text_char(out, '{');
    json_member(out, "endpoint", e->text);
    json_member(out, "status", SLICE("HEALTHY"));
    json_member(out, "outlier_check", SLICE("-")); // outlierDetection is not served
    json_member(out, "cluster", c->name);
    json_member_u64(out, "weight", e->weight);
    json_member_if(out, "locality", e->locality);
    text_char(out, '}');
}

void listing_json_endpoints(struct text *out, const struct snapshot *s)
{
    bool first = true;
    text_char(out, '[');
    for (uint32_t i = 0; s && i < s->routes.clusters.count; i++) {
        const struct cluster_config *c = s->routes.clusters.clusters[i];
        for (uint32_t e = 0; e < c->endpoint_count; e++) {
            next_line(out, &first);
            json_endpoint(out, &c->endpoints[e], c);
        }
    }
    text_char(out, ']');
}

// ---- secrets

static void member_time(struct text *out, const char *name, int64_t at_s)
{
    char buf[LISTING_TIME_MAX];
    json_member(out, name, (struct slice){buf, listing_secret_time(at_s, buf)});
}

static void json_secret(struct text *out, const struct tls_store_row *r)
{
    text_char(out, '{');
    json_member(out, "name", slice_of(r->name));
    json_member(out, "type", slice_of(listing_secret_type(r)));
    json_member(out, "status", slice_of(listing_secret_status(r)));
    if (r->loaded) {
        json_member_bool(out, "valid", r->valid);
        json_member(out, "serial_number", slice_of(r->serial));
        member_time(out, "not_after", r->not_after_s);
        member_time(out, "not_before", r->not_before_s);
    }
    text_char(out, '}');
}

void listing_json_secrets(struct text *out, const struct snapshot *s)
{
    bool first = true;
    text_char(out, '[');
    for (uint32_t i = 0; s && i < tls_store_row_count(s->tls); i++) {
        next_line(out, &first);
        json_secret(out, tls_store_row(s->tls, i));
    }
    text_char(out, ']');
}
