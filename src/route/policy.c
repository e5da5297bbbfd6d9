// Istio's MergeTrafficPolicy (cluster_traffic_policy.go): a portLevelSettings entry replaces all of
// its level's settings but proxyProtocol, what it leaves out goes back to the default; then the
// subset's settings replace the rule's one by one. Control thread.
#include "route/policy.h"

#define SECOND UINT64_C(1000000000)
#define CONNECT_TIMEOUT_NS (10 * SECOND)
#define IDLE_TIMEOUT_NS (3600 * SECOND)

struct merged {
    const struct load_balancer *lb;
    const struct connection_pool *pool;
    const struct client_tls *tls;
    uint8_t proxy_protocol; // 0 = none
};

static const struct port_traffic_policy *of_port(const struct traffic_policy *t, uint32_t port)
{
    for (uint32_t i = 0; i < t->port_level_count; i++)
        if (t->port_level[i].port == port)
            return &t->port_level[i];
    return NULL;
}

static struct merged merge(struct merged m, const struct traffic_policy *t, uint32_t port)
{
    if (!t)
        return m;
    const struct port_traffic_policy *p = of_port(t, port);
    if (t->proxy_protocol >= 0) // not of those that a port replaces
        m.proxy_protocol = (uint8_t)(t->proxy_protocol + 1);
    if (p)
        return (struct merged){p->load_balancer, p->connection_pool, p->tls, m.proxy_protocol};
    if (t->load_balancer)
        m.lb = t->load_balancer;
    if (t->connection_pool)
        m.pool = t->connection_pool;
    if (t->tls)
        m.tls = t->tls;
    return m;
}

static uint32_t limit(int32_t value)
{
    return value > 0 ? (uint32_t)value : UINT32_MAX;
}

// The kernel counts in seconds: what is less becomes one.
static uint32_t whole_seconds(uint64_t ns)
{
    uint64_t s = ns == DURATION_UNSET ? 0 : (ns + SECOND - 1) / SECOND;
    return s < UINT32_MAX ? (uint32_t)s : UINT32_MAX;
}

static void apply_keepalive(struct cluster_config *c, const struct connection_pool *p)
{
    c->keepalive = true;
    c->keepalive_idle_s = whole_seconds(p->keepalive_time_ns);
    c->keepalive_interval_s = whole_seconds(p->keepalive_interval_ns);
    c->keepalive_probes = p->keepalive_probes;
}

static void apply_pool(struct cluster_config *c, const struct connection_pool *p)
{
    if (p->connect_timeout_ns != DURATION_UNSET && p->connect_timeout_ns)
        c->connect_timeout_ns = p->connect_timeout_ns;
    if (p->tcp_idle_timeout_ns != DURATION_UNSET)
        c->idle_timeout_ns = c->tcp_idle_timeout_ns = p->tcp_idle_timeout_ns;
    if (p->max_connection_duration_ns != DURATION_UNSET)
        c->max_connection_duration_ns = p->max_connection_duration_ns;
    if (p->http_idle_timeout_ns != DURATION_UNSET)
        c->idle_timeout_ns = p->http_idle_timeout_ns;
    if (p->keepalive)
        apply_keepalive(c, p);
    if (p->max_requests_per_connection > 0)
        c->max_requests_per_connection = (uint32_t)p->max_requests_per_connection;
    c->max_connections = limit(p->max_connections);
    c->max_pending_requests = limit(p->http1_max_pending_requests);
    c->max_requests = limit(p->http2_max_requests);
    c->max_retries = p->max_retries_given && p->max_retries == 0 ? 0 : limit(p->max_retries);
}

static enum lb_policy lb_of(const struct load_balancer *lb)
{
    if (lb && lb->simple_given && lb->simple == LB_ROUND_ROBIN)
        return LB_POLICY_ROUND_ROBIN;
    if (lb && lb->simple_given && lb->simple == LB_RANDOM)
        return LB_POLICY_RANDOM;
    return LB_POLICY_LEAST_REQUEST;
}

static void apply_tls(struct cluster_config *c, const struct compile_options *o,
                      const struct client_tls *t)
{
    c->tls_mode = t->mode;
    if (t->mode != CLIENT_TLS_DISABLE && o->client_tls)
        c->tls = o->client_tls(o->client_tls_arg, t);
}

// A context stays the same through reloads that change nothing about it, and no other can have its
// address while a worker serves this cluster.
static uint64_t hash_settings(const struct cluster_config *c)
{
    const uint64_t all[] = {
        c->lb,
        c->connect_timeout_ns,
        c->idle_timeout_ns,
        c->tcp_idle_timeout_ns,
        c->max_connection_duration_ns,
        c->keepalive,
        c->keepalive_idle_s,
        c->keepalive_interval_s,
        c->keepalive_probes,
        c->max_requests_per_connection,
        c->max_connections,
        c->max_pending_requests,
        c->max_requests,
        c->max_retries,
        c->proxy_protocol,
        c->tls_mode,
        (uintptr_t)c->tls,
    };
    return slice_hash((struct slice){(const char *)all, sizeof(all)});
}

void policy_apply(struct cluster_config *c, const struct compile_options *options,
                  const struct traffic_policy *top, const struct traffic_policy *subset)
{
    struct merged m = merge(merge((struct merged){0}, top, c->port), subset, c->port);
    c->lb = lb_of(m.lb);
    c->connect_timeout_ns = CONNECT_TIMEOUT_NS;
    c->idle_timeout_ns = IDLE_TIMEOUT_NS;
    c->tcp_idle_timeout_ns = c->udp ? 0 : IDLE_TIMEOUT_NS;
    c->max_connections = c->max_pending_requests = c->max_requests = c->max_retries = UINT32_MAX;
    c->proxy_protocol = m.proxy_protocol;
    if (m.pool)
        apply_pool(c, m.pool);
    if (m.tls)
        apply_tls(c, options, m.tls);
    c->settings_hash = hash_settings(c);
}
