// DestinationRule: the tables of its messages. Control thread.
#include "config/istio_common.h"
#include "config/kind.h"
#include "config/rules.h"
#include "config/validate.h"

#define API "istio.networking.v1alpha3."

static const struct enum_value lb_values[] = {
    {"UNSPECIFIED", LB_UNSPECIFIED}, {"LEAST_CONN", LB_LEAST_CONN},
    {"RANDOM", LB_RANDOM},           {"PASSTHROUGH", LB_PASSTHROUGH},
    {"ROUND_ROBIN", LB_ROUND_ROBIN}, {"LEAST_REQUEST", LB_LEAST_REQUEST},
};
ENUM_TYPE(lb_type, API "LoadBalancerSettings.SimpleLB", lb_values);

// ---- consistentHash: the key is one of four fields, the algorithm one of two

static struct consistent_hash *set_key(struct reader *r, const struct yaml_node *node,
                                       const struct path *path, void *base, enum hash_key key)
{
    struct consistent_hash *h = base;
    if (h->key != HASH_NONE)
        schema_error(r, node->pos, path, "only one hash key may be given");
    h->key = key;
    return h;
}

static void read_hash_header(struct reader *r, const struct yaml_node *node,
                             const struct path *path, void *base, uint32_t offset)
{
    (void)offset;
    (void)schema_read_string(r, node, path, &set_key(r, node, path, base, HASH_HEADER)->name);
}

static void read_hash_query(struct reader *r, const struct yaml_node *node, const struct path *path,
                            void *base, uint32_t offset)
{
    (void)offset;
    (void)schema_read_string(r, node, path, &set_key(r, node, path, base, HASH_QUERY)->name);
}

static void read_hash_source(struct reader *r, const struct yaml_node *node,
                             const struct path *path, void *base, uint32_t offset)
{
    (void)offset;
    if (yaml_is_true(node))
        (void)set_key(r, node, path, base, HASH_SOURCE_IP);
    else if (!yaml_is_false(node))
        schema_error(r, node->pos, path, "expected true or false, found %s", yaml_describe(node));
}

struct cookie_attribute {
    struct slice name, value;
    struct pos pos;
};
static const struct field attribute_fields[] = {
    F("name", FIELD_STRING, struct cookie_attribute, name),
    F("value", FIELD_STRING, struct cookie_attribute, value),
};
MESSAGE(attribute, API "LoadBalancerSettings.ConsistentHashLB.HTTPCookie.Attribute",
        struct cookie_attribute, attribute_fields, pos);

static void read_attributes(struct reader *r, const struct yaml_node *node, const struct path *path,
                            void *base, uint32_t offset)
{
    struct consistent_hash *h = base;
    (void)offset;
    if (!schema_expect(r, node, YAML_SEQUENCE, path))
        return;
    h->cookie_attributes.items = arena_array(r->arena, struct label, node->count);
    for (uint32_t i = 0; i < node->count; i++) {
        struct path at = {.up = path, .index = i};
        struct cookie_attribute a = {0};
        schema_read(r, &attribute, node->items[i], &at, &a);
        h->cookie_attributes.items[h->cookie_attributes.count++] =
            (struct label){a.name, a.value, a.pos};
    }
}

#define T struct consistent_hash
static const struct field cookie_fields[] = {
    F("name", FIELD_STRING, T, name),
    F("path", FIELD_STRING, T, cookie_path),
    F("ttl", FIELD_DURATION, T, cookie_ttl_ns),
    F_CUSTOM_OF("attributes", T, cookie_attributes, read_attributes, &attribute, CUSTOM_LIST),
};
MESSAGE_NO_POS(cookie, API "LoadBalancerSettings.ConsistentHashLB.HTTPCookie", T, cookie_fields);

static void read_hash_cookie(struct reader *r, const struct yaml_node *node,
                             const struct path *path, void *base, uint32_t offset)
{
    (void)offset;
    schema_read(r, &cookie, node, path, set_key(r, node, path, base, HASH_COOKIE));
}

static const struct field ring_fields[] = {F("minimumRingSize", FIELD_U64, T, minimum_ring_size)};
MESSAGE_NO_POS(ring, API "LoadBalancerSettings.ConsistentHashLB.RingHash", T, ring_fields);
static const struct field maglev_fields[] = {F("tableSize", FIELD_U64, T, table_size)};
MESSAGE_NO_POS(maglev, API "LoadBalancerSettings.ConsistentHashLB.MagLev", T, maglev_fields);

static void set_algorithm(struct reader *r, const struct yaml_node *node, const struct path *path,
                          struct consistent_hash *h, enum hash_algorithm algorithm)
{
    if (h->algorithm != HASH_RING_DEFAULT)
        schema_error(r, node->pos, path, "only one of ringHash and maglev may be given");
    h->algorithm = algorithm;
    schema_read(r, algorithm == HASH_RING ? &ring : &maglev, node, path, h);
}

static void read_ring(struct reader *r, const struct yaml_node *node, const struct path *path,
                      void *base, uint32_t offset)
{
    (void)offset;
    set_algorithm(r, node, path, base, HASH_RING);
}

static void read_maglev(struct reader *r, const struct yaml_node *node, const struct path *path,
                        void *base, uint32_t offset)
{
    (void)offset;
    set_algorithm(r, node, path, base, HASH_MAGLEV);
}

// Beside the algorithm, from before there were two.
static void read_old_ring_size(struct reader *r, const struct yaml_node *node,
                               const struct path *path, void *base, uint32_t offset)
{
    struct consistent_hash *h = base;
    int64_t v;
    (void)offset;
    if (!schema_read_int(r, node, path, 0, (int64_t)1 << 53, &v))
        return;
    h->deprecated_ring_size = (uint64_t)v;
    if (h->algorithm == HASH_RING_DEFAULT)
        h->minimum_ring_size = (uint64_t)v;
}

static const struct field hash_fields[] = {
    F_CUSTOM("httpHeaderName", T, name, read_hash_header),
    F_CUSTOM_OF("httpCookie", T, name, read_hash_cookie, &cookie, CUSTOM_ONE),
    F_CUSTOM("useSourceIp", T, key, read_hash_source),
    F_CUSTOM("httpQueryParameterName", T, name, read_hash_query),
    F_CUSTOM_OF("ringHash", T, algorithm, read_ring, &ring, CUSTOM_ONE),
    F_CUSTOM_OF("maglev", T, algorithm, read_maglev, &maglev, CUSTOM_ONE),
    F_CUSTOM("minimumRingSize", T, deprecated_ring_size, read_old_ring_size),
};
#undef T
MESSAGE(hash, API "LoadBalancerSettings.ConsistentHashLB", struct consistent_hash, hash_fields,
        pos);

// ---- locality

static void read_distribute_to(struct reader *r, const struct yaml_node *node,
                               const struct path *path, void *base, uint32_t offset)
{
    struct locality_distribute *d = base;
    (void)offset;
    if (!schema_expect(r, node, YAML_MAPPING, path))
        return;
    d->to = arena_array(r->arena, struct locality_weight, node->count);
    for (uint32_t i = 0; i < node->count; i++) {
        struct path at = {.up = path, .key = node->pairs[i].key, .index = -1};
        int64_t v;
        if (!schema_read_int(r, node->pairs[i].value, &at, 0, UINT32_MAX, &v))
            continue;
        struct locality_weight *w = &d->to[d->to_count++];
        w->to = arena_dup(r->arena, node->pairs[i].key);
        w->weight = (uint32_t)v;
    }
}

static const struct field distribute_fields[] = {
    F("from", FIELD_STRING, struct locality_distribute, from),
    F_CUSTOM_OF("to", struct locality_distribute, to, read_distribute_to, NULL, CUSTOM_MAP),
};
MESSAGE(distribute, API "LocalityLoadBalancerSetting.Distribute", struct locality_distribute,
        distribute_fields, pos);
static const struct field failover_fields[] = {
    F("from", FIELD_STRING, struct locality_failover, from),
    F("to", FIELD_STRING, struct locality_failover, to),
};
MESSAGE(failover, API "LocalityLoadBalancerSetting.Failover", struct locality_failover,
        failover_fields, pos);

MESSAGE(zone_failover, API "ZoneAwareLoadBalancerSetting.Failover", struct locality_failover,
        failover_fields, pos);

#define T struct locality_lb
static const struct field locality_fields[] = {
    F_LIST("distribute", T, distribute, distribute_count, distribute),
    F_LIST("failover", T, failover, failover_count, failover),
    F("failoverPriority", FIELD_STRINGS, T, failover_priority),
    F("enabled", FIELD_TRISTATE, T, enabled),
};
MESSAGE(locality, API "LocalityLoadBalancerSetting", T, locality_fields, pos);
static const struct field zone_fields[] = {
    F_LIST("failover", T, failover, failover_count, zone_failover),
    F("failoverPriority", FIELD_STRINGS, T, failover_priority),
    F("enabled", FIELD_TRISTATE, T, enabled),
    F_SKIP("minClusterSize"),
};
#undef T
MESSAGE(zone, API "ZoneAwareLoadBalancerSetting", struct locality_lb, zone_fields, pos);

#define T struct load_balancer
static void read_zone_aware(struct reader *r, const struct yaml_node *node, const struct path *path,
                            void *base, uint32_t offset)
{
    struct load_balancer *lb = base;
    int64_t size = 0;
    (void)offset;
    lb->zone_aware = arena_new(r->arena, struct locality_lb);
    schema_read(r, &zone, node, path, lb->zone_aware);
    const struct yaml_node *min = yaml_get(node, SLICE("minClusterSize"));
    struct path at = {.up = path, .name = "minClusterSize", .index = -1};
    if (min && schema_read_int(r, min, &at, 0, (int64_t)1 << 53, &size))
        lb->zone_aware_min_cluster_size = (uint64_t)size;
}

static const struct field warmup_fields[] = {
    F("duration", FIELD_DURATION, T, warmup_duration_ns),
    F("minimumPercent", FIELD_DOUBLE, T, warmup_minimum_percent),
    F("aggression", FIELD_DOUBLE, T, warmup_aggression),
};
MESSAGE_NO_POS(warmup, API "WarmupConfiguration", T, warmup_fields);
static const struct field lb_fields[] = {
    {"simple", FIELD_ENUM, offsetof(T, simple), 0, NO_OFFSET, offsetof(T, simple_given), &lb_type},
    F_CHILD("consistentHash", FIELD_MESSAGE, T, consistent_hash, hash),
    F_CHILD("localityLbSetting", FIELD_MESSAGE, T, locality, locality),
    F_CUSTOM_OF("zoneAwareLbSetting", T, zone_aware, read_zone_aware, &zone, CUSTOM_ONE),
    F("warmupDurationSecs", FIELD_DURATION, T, warmup_duration_ns),
    F_INLINE("warmup", warmup),
};
#undef T
MESSAGE(load_balancer, API "LoadBalancerSettings", struct load_balancer, lb_fields, pos);

// ---- connectionPool

#define T struct connection_pool
static const struct field keepalive_fields[] = {
    F("probes", FIELD_U32, T, keepalive_probes),
    F("time", FIELD_DURATION, T, keepalive_time_ns),
    F("interval", FIELD_DURATION, T, keepalive_interval_ns),
};
MESSAGE_NO_POS(keepalive, API "ConnectionPoolSettings.TCPSettings.TcpKeepalive", T,
               keepalive_fields);
static const struct field pool_tcp_fields[] = {
    F_POS("maxConnections", FIELD_I32, T, max_connections, max_connections_pos),
    F("connectTimeout", FIELD_DURATION, T, connect_timeout_ns),
    {"tcpKeepalive", FIELD_INLINE, 0, 0, NO_OFFSET, offsetof(T, keepalive), &keepalive},
    F_POS("maxConnectionDuration", FIELD_DURATION, T, max_connection_duration_ns, max_duration_pos),
    F_POS("idleTimeout", FIELD_DURATION, T, tcp_idle_timeout_ns, tcp_idle_pos),
};
MESSAGE_NO_POS(pool_tcp, API "ConnectionPoolSettings.TCPSettings", T, pool_tcp_fields);

static const struct enum_value upgrade_values[] = {
    {"DEFAULT", H2_UPGRADE_DEFAULT},
    {"DO_NOT_UPGRADE", H2_UPGRADE_NEVER},
    {"UPGRADE", H2_UPGRADE_ALWAYS},
};
ENUM_TYPE(upgrade_type, API "ConnectionPoolSettings.HTTPSettings.H2UpgradePolicy", upgrade_values);
static const struct field h2_keepalive_fields[] = {
    F("interval", FIELD_DURATION, T, http2_keepalive_interval_ns),
    F("timeout", FIELD_DURATION, T, http2_keepalive_timeout_ns),
};
MESSAGE_NO_POS(h2_keepalive, API "ConnectionPoolSettings.HTTPSettings.ConnectionKeepalive", T,
               h2_keepalive_fields);
static const struct field pool_http_fields[] = {
    F_POS("http1MaxPendingRequests", FIELD_I32, T, http1_max_pending_requests, http1_pending_pos),
    F_POS("http2MaxRequests", FIELD_I32, T, http2_max_requests, http2_requests_pos),
    F("maxRequestsPerConnection", FIELD_I32, T, max_requests_per_connection),
    {FIELD_("maxRetries", FIELD_I32, T, max_retries), .pos = offsetof(T, max_retries_pos),
     .given = offsetof(T, max_retries_given)},
    F("idleTimeout", FIELD_DURATION, T, http_idle_timeout_ns),
    {FIELD_("h2UpgradePolicy", FIELD_ENUM, T, h2_upgrade), .pos = offsetof(T, h2_upgrade_pos),
     .given = NO_OFFSET, .child = &upgrade_type},
    F_POS("useClientProtocol", FIELD_BOOL, T, use_client_protocol, client_protocol_pos),
    F_POS("maxConcurrentStreams", FIELD_I32, T, max_concurrent_streams, max_streams_pos),
    F_INLINE("http2KeepAlive", h2_keepalive),
};
MESSAGE_NO_POS(pool_http, API "ConnectionPoolSettings.HTTPSettings", T, pool_http_fields);
static const struct field pool_fields[] = {
    {"tcp", FIELD_INLINE, 0, 0, NO_OFFSET, offsetof(T, given), &pool_tcp},
    {"http", FIELD_INLINE, 0, 0, NO_OFFSET, offsetof(T, given), &pool_http},
};
#undef T
MESSAGE(pool, API "ConnectionPoolSettings", struct connection_pool, pool_fields, pos);

// ---- outlierDetection and tls

// Removed from Istio, of no effect.
static void read_consecutive_errors(struct reader *r, const struct yaml_node *node,
                                    const struct path *path, void *base, uint32_t offset)
{
    int64_t v;
    (void)base, (void)offset;
    if (schema_read_int(r, node, path, INT32_MIN, INT32_MAX, &v) && v != 0)
        rule_warning(r, node->pos,
                     "outlier detection consecutive errors is deprecated, use "
                     "consecutiveGatewayErrors or consecutive5xxErrors instead");
}

#define T struct outlier_detection
static const struct field outlier_fields[] = {
    F_CUSTOM("consecutiveErrors", T, consecutive_5xx, read_consecutive_errors),
    F("splitExternalLocalOriginErrors", FIELD_BOOL, T, split_external_local_origin_errors),
    F("consecutiveLocalOriginFailures", FIELD_I64_UNSET, T, consecutive_local_origin),
    F("consecutiveGatewayErrors", FIELD_I64_UNSET, T, consecutive_gateway),
    F("consecutive5xxErrors", FIELD_I64_UNSET, T, consecutive_5xx),
    F("interval", FIELD_DURATION, T, interval_ns),
    F("baseEjectionTime", FIELD_DURATION, T, base_ejection_ns),
    F("maxEjectionPercent", FIELD_I32_UNSET, T, max_ejection_percent),
    F("minHealthPercent", FIELD_I32_UNSET, T, min_health_percent),
    {"outlierDetectionHttpErrorCodes", FIELD_U32_LIST, offsetof(T, http_error_codes),
     offsetof(T, http_error_code_count), NO_OFFSET, NO_OFFSET, NULL},
};
#undef T
MESSAGE(outlier, API "OutlierDetection", struct outlier_detection, outlier_fields, pos);

static const struct enum_value client_modes[] = {
    {"DISABLE", CLIENT_TLS_DISABLE},
    {"SIMPLE", CLIENT_TLS_SIMPLE},
    {"MUTUAL", CLIENT_TLS_MUTUAL},
    {"ISTIO_MUTUAL", CLIENT_TLS_ISTIO_MUTUAL},
};
ENUM_TYPE(client_mode_type, API "ClientTLSSettings.TLSmode", client_modes);

#define T struct client_tls
static const struct field client_tls_fields[] = {
    F_CHILD("mode", FIELD_ENUM, T, mode, client_mode_type),
    F("clientCertificate", FIELD_STRING, T, client_certificate),
    F("privateKey", FIELD_STRING, T, private_key),
    F("caCertificates", FIELD_STRING, T, ca_certificates),
    F("credentialName", FIELD_STRING, T, credential_name),
    F("subjectAltNames", FIELD_STRINGS, T, subject_alt_names),
    F("sni", FIELD_STRING, T, sni),
    F("insecureSkipVerify", FIELD_TRISTATE, T, insecure_skip_verify),
    F("caCrl", FIELD_STRING, T, ca_crl),
};
#undef T
MESSAGE(client_tls, API "ClientTLSSettings", struct client_tls, client_tls_fields, pos);

// ---- trafficPolicy

#define T struct port_traffic_policy
static const struct field port_policy_fields[] = {
    F_CUSTOM_OF("port", T, port, read_port_selector, &message_port_selector, CUSTOM_ONE),
    F_CHILD("loadBalancer", FIELD_MESSAGE, T, load_balancer, load_balancer),
    F_CHILD("connectionPool", FIELD_MESSAGE, T, connection_pool, pool),
    F_CHILD("outlierDetection", FIELD_MESSAGE, T, outlier_detection, outlier),
    F_CHILD("tls", FIELD_MESSAGE, T, tls, client_tls),
};
#undef T
MESSAGE(port_policy, API "TrafficPolicy.PortTrafficPolicy", struct port_traffic_policy,
        port_policy_fields, pos);

#define T struct traffic_policy
static const struct field tunnel_fields[] = {
    F("protocol", FIELD_STRING, T, tunnel.protocol),
    F("targetHost", FIELD_STRING, T, tunnel.target_host),
    F("targetPort", FIELD_U32, T, tunnel.target_port),
};
MESSAGE_NO_POS(tunnel, API "TrafficPolicy.TunnelSettings", T, tunnel_fields);
static const struct field budget_fields[] = {
    F("percent", FIELD_DOUBLE, T, retry_budget.percent),
    F("minRetryConcurrency", FIELD_U32, T, retry_budget.min_retry_concurrency),
    F("budgetInterval", FIELD_DURATION, T, retry_budget.interval_ns),
};
MESSAGE_NO_POS(budget, API "TrafficPolicy.RetryBudget", T, budget_fields);

static void read_budget(struct reader *r, const struct yaml_node *node, const struct path *path,
                        void *base, uint32_t offset)
{
    struct traffic_policy *p = base;
    (void)offset;
    p->retry_budget.given = true;
    p->retry_budget.percent = -1;
    schema_read(r, &budget, node, path, p);
}

static const struct enum_value proxy_versions[] = {{"V1", 0}, {"V2", 1}};
ENUM_TYPE(proxy_version_type, API "TrafficPolicy.ProxyProtocol.VERSION", proxy_versions);
struct proxy_protocol {
    int32_t version;
};
static const struct field proxy_fields[] = {
    F_CHILD("version", FIELD_ENUM, struct proxy_protocol, version, proxy_version_type)};
MESSAGE_NO_POS(proxy, API "TrafficPolicy.ProxyProtocol", struct proxy_protocol, proxy_fields);

static void read_proxy_protocol(struct reader *r, const struct yaml_node *node,
                                const struct path *path, void *base, uint32_t offset)
{
    struct traffic_policy *p = base;
    struct proxy_protocol v = {0};
    (void)offset;
    schema_read(r, &proxy, node, path, &v);
    p->proxy_protocol = (int8_t)(v.version + 1); // finish() takes the one off again
}

static const struct field policy_fields[] = {
    F_CHILD("loadBalancer", FIELD_MESSAGE, T, load_balancer, load_balancer),
    F_CHILD("connectionPool", FIELD_MESSAGE, T, connection_pool, pool),
    F_CHILD("outlierDetection", FIELD_MESSAGE, T, outlier_detection, outlier),
    F_CHILD("tls", FIELD_MESSAGE, T, tls, client_tls),
    F_LIST("portLevelSettings", T, port_level, port_level_count, port_policy),
    {"tunnel", FIELD_INLINE, 0, 0, NO_OFFSET, offsetof(T, tunnel.given), &tunnel},
    F_CUSTOM_OF("proxyProtocol", T, proxy_protocol, read_proxy_protocol, &proxy, CUSTOM_ONE),
    F_CUSTOM_OF("retryBudget", T, retry_budget, read_budget, &budget, CUSTOM_ONE),
};
#undef T
MESSAGE(policy, API "TrafficPolicy", struct traffic_policy, policy_fields, pos);

#define T struct subset
static const struct field subset_fields[] = {
    F("name", FIELD_STRING, T, name),
    F("labels", FIELD_STRING_MAP, T, labels),
    F_CHILD("trafficPolicy", FIELD_MESSAGE, T, traffic_policy, policy),
};
#undef T
MESSAGE(subset, API "Subset", struct subset, subset_fields, pos);

static const struct field selector_fields[] = {
    F("matchLabels", FIELD_STRING_MAP, struct destination_rule, workload_selector)};
MESSAGE_NO_POS(selector, "istio.type.v1beta1.WorkloadSelector", struct destination_rule,
               selector_fields);

static void read_selector(struct reader *r, const struct yaml_node *node, const struct path *path,
                          void *base, uint32_t offset)
{
    struct destination_rule *d = base;
    (void)offset;
    d->workload_selector_pos = schema_pos(r, node->pos);
    schema_read(r, &selector, node, path, d);
}

#define T struct destination_rule
static const struct field spec_fields[] = {
    F_POS("host", FIELD_STRING, T, host, host_pos),
    F_CHILD("trafficPolicy", FIELD_MESSAGE, T, traffic_policy, policy),
    F_LIST("subsets", T, subsets, subset_count, subset),
    F("exportTo", FIELD_STRINGS, T, export_to),
    F_CUSTOM_OF("workloadSelector", T, workload_selector, read_selector, &selector, CUSTOM_ONE),
};
#undef T
MESSAGE_NO_POS(spec, API "DestinationRule", struct destination_rule, spec_fields);
ISTIO_DOCUMENT(document, "DestinationRule", struct destination_rule, spec);

static void finish_policy(struct traffic_policy *p)
{
    if (p)
        p->proxy_protocol--;
}

static void finish(struct reader *r, void *object)
{
    struct destination_rule *d = object;
    (void)r;
    finish_policy(d->traffic_policy);
    for (uint32_t i = 0; i < d->subset_count; i++)
        finish_policy(d->subsets[i].traffic_policy);
}

const struct kind kind_destination_rule = {
    .name = "DestinationRule",
    .group = "networking.istio.io",
    .document = &document,
    .size = sizeof(struct destination_rule),
    .list = offsetof(struct model, destination_rules),
    .finish = finish,
    .validate = validate_destination_rule,
};
