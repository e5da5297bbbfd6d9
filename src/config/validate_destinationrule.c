// The rules of a DestinationRule (validation.go, ValidateDestinationRule). Owns nothing. Control
// thread.
#include "config/rules.h"
#include "config/validate.h"
#include "core/map.h"

static void check_percent(struct reader *r, struct pos pos, int32_t value)
{
    if (value != -1 && (value < 0 || value > 100))
        rule_error(r, pos, "percentage %d is not in range 0..100", value);
}

static void check_outlier(struct reader *r, const struct outlier_detection *o)
{
    if (!o)
        return;
    check_duration(r, o->pos, o->base_ejection_ns);
    check_duration(r, o->pos, o->interval_ns);
    if (!o->split_external_local_origin_errors && o->consecutive_local_origin > 0)
        rule_error(r, o->pos,
                   "outlier detection consecutive local origin failures is specified, but split "
                   "external local origin errors is set to false");
    check_percent(r, o->pos, o->max_ejection_percent);
    check_percent(r, o->pos, o->min_health_percent);
}

static void check_pool(struct reader *r, const struct connection_pool *p)
{
    if (!p)
        return;
    if (!p->given) {
        rule_missing(r, p->pos, "connection pool must have at least one field");
        return;
    }
    const struct {
        int32_t value;
        const char *name;
    } counts[] = {
        {p->http1_max_pending_requests, "http1 max pending requests"},
        {p->http2_max_requests, "http2 max requests"},
        {p->max_requests_per_connection, "max requests per connection"},
        {p->max_retries, "max retries"},
        {p->max_concurrent_streams, "max concurrent streams"},
        {p->max_connections, "max connections"},
    };
    for (uint32_t i = 0; i < COUNT_OF(counts); i++)
        if (counts[i].value < 0)
            rule_error(r, p->pos, "%s must be non-negative", counts[i].name);
    if (p->h2_upgrade == H2_UPGRADE_ALWAYS && p->use_client_protocol)
        rule_error(r, p->pos,
                   "use client protocol must not be true when H2UpgradePolicy is UPGRADE");
    bool interval = p->http2_keepalive_interval_ns != DURATION_UNSET;
    bool timeout = p->http2_keepalive_timeout_ns != DURATION_UNSET;
    if (timeout && !interval)
        rule_missing(r, p->pos, "http2 keepalive interval is required");
    if (interval && !timeout)
        rule_missing(r, p->pos, "http2 keepalive timeout is required");
    check_duration(r, p->pos, p->http_idle_timeout_ns);
    check_duration(r, p->pos, p->connect_timeout_ns);
    check_duration(r, p->pos, p->max_connection_duration_ns);
    if (p->tcp_idle_timeout_ns != 0) // 0s turns it off
        check_duration(r, p->pos, p->tcp_idle_timeout_ns);
    check_duration(r, p->pos, p->keepalive_time_ns);
    check_duration(r, p->pos, p->keepalive_interval_ns);
    check_duration(r, p->pos, p->http2_keepalive_interval_ns);
    check_duration(r, p->pos, p->http2_keepalive_timeout_ns);
}

// ---- load balancer

// As Envoy has it: 1 to 3 are prime.
static bool is_prime(uint64_t x)
{
    if (x != 0 && x < 4)
        return true;
    if ((x & 1) == 0)
        return false;
    for (uint64_t f = 3; f * f <= x; f += 2)
        if (x % f == 0)
            return false;
    return true;
}

static void check_cookie(struct reader *r, const struct consistent_hash *h)
{
    if (h->name.len == 0)
        rule_missing(r, h->pos, "name required for HttpCookie");
    for (uint32_t i = 0; i < h->cookie_attributes.count && i < 64; i++) {
        const struct label *a = &h->cookie_attributes.items[i];
        bool twice = false;
        for (uint32_t k = 0; k < i && !twice; k++)
            twice = slice_eq(h->cookie_attributes.items[k].key, a->key);
        if (a->key.len == 0)
            rule_error(r, a->pos, "cookie attribute name cannot be empty");
        else if (twice)
            rule_error(r, a->pos, "duplicate cookie attribute name: %.*s", SLICE_FMT(a->key));
    }
}

static void check_hash(struct reader *r, const struct consistent_hash *h)
{
    if (!h)
        return;
    if (h->key == HASH_COOKIE)
        check_cookie(r, h);
    if (h->deprecated_ring_size)
        rule_warning(
            r, h->pos,
            "consistent hash MinimumRingSize is deprecated, use ConsistentHashLB's RingHash "
            "configuration instead");
    if (h->algorithm != HASH_RING_DEFAULT && h->deprecated_ring_size)
        rule_error(r, h->pos, "only one of MinimumRingSize or Maglev/Ringhash can be specified");
    if (h->algorithm != HASH_MAGLEV)
        return;
    if (h->table_size == 0)
        rule_missing(r, h->pos, "tableSize must be set for maglev");
    else if (h->table_size >= 5000011)
        rule_error(r, h->pos, "tableSize must be less than 5000011 for maglev");
    else if (!is_prime(h->table_size))
        rule_error(r, h->pos, "tableSize must be a prime number for maglev");
}

static bool is_topology_label(struct slice s)
{
    return slice_eq(s, SLICE("topology.kubernetes.io/region")) ||
           slice_eq(s, SLICE("topology.kubernetes.io/zone")) ||
           slice_eq(s, SLICE("topology.istio.io/subzone"));
}

// a region, region/zone or region/zone/subzone, `*` at the end only, no empty part.
static void check_locality(struct reader *r, struct pos pos, struct slice locality)
{
    struct slice rest = locality, part;
    ptrdiff_t star = slice_find(locality, '*');
    if (star >= 0 && (size_t)star + 1 != locality.len) {
        rule_error(r, pos,
                   "locality %.*s wildcard '*' number can not exceed 1 and must be in the end",
                   SLICE_FMT(locality));
        return;
    }
    while (slice_split(&rest, '/', &part))
        if (part.len == 0) {
            rule_error(r, pos, "locality %.*s must not contain empty region/zone/subzone info",
                       SLICE_FMT(locality));
            return;
        }
}

static void check_distribute(struct reader *r, const struct locality_distribute *d)
{
    uint64_t total = 0;
    check_locality(r, d->pos, d->from);
    for (uint32_t i = 0; i < d->to_count; i++) {
        check_locality(r, d->pos, d->to[i].to);
        if (d->to[i].weight < 1 || d->to[i].weight > 100) {
            rule_error(r, d->pos, "locality weight must be in range [1, 100]");
            return;
        }
        total += d->to[i].weight;
    }
    if (total != 100)
        rule_missing(r, d->pos, "total locality weight %llu != 100", (unsigned long long)total);
}

static void check_failover(struct reader *r, const struct locality_failover *f, const char *kind,
                           const char *only_region)
{
    if (slice_eq(f->from, f->to))
        rule_error(r, f->pos, "%s lb failover settings must specify different regions", kind);
    if (slice_find(f->from, '/') >= 0 || slice_find(f->to, '/') >= 0)
        rule_error(r, f->pos, "%s lb failover %s", kind, only_region);
    if (slice_find(f->from, '*') >= 0 || slice_find(f->to, '*') >= 0)
        rule_error(r, f->pos, "%s lb failover region should not contain '*' wildcard", kind);
}

static void check_failovers(struct reader *r, const struct locality_lb *l, bool outlier, bool zone)
{
    if ((l->failover_count || l->failover_priority.count) && !outlier)
        rule_warning(r, l->pos, "outlier detection policy must be provided for failover");
    for (uint32_t i = 0; i < l->failover_count; i++)
        check_failover(r, &l->failover[i], zone ? "zone aware" : "locality",
                       zone ? "only specifies region; zone and subzone failover are handled "
                              "automatically"
                            : "only specify region");
}

static void check_locality_lb(struct reader *r, const struct locality_lb *l, bool outlier)
{
    if (!l)
        return;
    if (l->distribute_count && l->failover_count) {
        rule_error(r, l->pos, "can not simultaneously specify 'distribute' and 'failover'");
        return;
    }
    for (uint32_t i = 0; l->failover_count && i < l->failover_priority.count; i++)
        if (is_topology_label(l->failover_priority.items[i].text))
            rule_error(r, l->failover_priority.items[i].pos,
                       "can not simultaneously set 'failover' and topology label '%.*s' in "
                       "'failover_priority'",
                       SLICE_FMT(l->failover_priority.items[i].text));
    for (uint32_t i = 0; i < l->distribute_count; i++)
        check_distribute(r, &l->distribute[i]);
    check_failovers(r, l, outlier, false);
}

static void check_zone_lb(struct reader *r, const struct locality_lb *l, bool outlier)
{
    if (!l)
        return;
    for (uint32_t i = 0; i < l->failover_priority.count; i++)
        if (is_topology_label(l->failover_priority.items[i].text))
            rule_error(r, l->failover_priority.items[i].pos,
                       "'failover_priority' for zone aware lb must not use topology label '%.*s'; "
                       "region- and zone-level routing are handled automatically",
                       SLICE_FMT(l->failover_priority.items[i].text));
    check_failovers(r, l, outlier, true);
}

static void check_load_balancer(struct reader *r, const struct load_balancer *lb, bool outlier)
{
    if (!lb)
        return;
    if (lb->simple_given && lb->consistent_hash)
        rule_error(r, lb->pos, "only one of simple and consistentHash may be given");
    check_hash(r, lb->consistent_hash);
    if (lb->locality && lb->zone_aware)
        rule_error(r, lb->pos, "only one of localityLbSetting and zoneAwareLbSetting can be set");
    check_locality_lb(r, lb->locality, outlier);
    check_zone_lb(r, lb->zone_aware, outlier);
    check_duration(r, lb->pos, lb->warmup_duration_ns);
    if (lb->warmup_minimum_percent > 100)
        rule_error(r, lb->pos, "minimumPercent value should be less than or equal to 100");
    if (lb->warmup_aggression < 0)
        rule_error(r, lb->pos, "aggression should be greater than 0");
    if (lb->warmup_duration_ns == DURATION_UNSET &&
        (lb->warmup_minimum_percent > 0 || lb->warmup_aggression > 0))
        rule_missing(r, lb->pos, "duration is required");
}

// ---- tls, tunnel

static void check_client_tls(struct reader *r, const struct client_tls *t)
{
    if (!t)
        return;
    bool sans = t->subject_alt_names.count > 0, simple = t->mode == CLIENT_TLS_SIMPLE;
    bool mutual = t->mode == CLIENT_TLS_MUTUAL;
    if (t->insecure_skip_verify == 1 && simple &&
        (t->ca_certificates.len || t->credential_name.len || sans))
        rule_error(r, t->pos,
                   "cannot specify CaCertificates or CredentialName or SubjectAltNames when "
                   "InsecureSkipVerify is set true");
    if (t->insecure_skip_verify == 1 && mutual && (t->ca_certificates.len || sans))
        rule_error(
            r, t->pos,
            "cannot specify CaCertificates or SubjectAltNames when InsecureSkipVerify is set "
            "true");
    if ((simple || mutual) && t->credential_name.len) {
        if (t->client_certificate.len || t->ca_certificates.len || t->private_key.len ||
            t->ca_crl.len)
            rule_error(r, t->pos,
                       "cannot specify client certificates or CA certificate or CA CRL If "
                       "credentialName is set");
        return;
    }
    if (mutual && !t->client_certificate.len)
        rule_missing(r, t->pos, "client certificate required for mutual tls");
    if (mutual && !t->private_key.len)
        rule_missing(r, t->pos, "private key required for mutual tls");
}

static void check_tunnel(struct reader *r, const struct traffic_policy *p)
{
    if (!p->tunnel.given)
        return;
    if (p->tunnel.protocol.len && !slice_eq(p->tunnel.protocol, SLICE("CONNECT")) &&
        !slice_eq(p->tunnel.protocol, SLICE("POST")))
        rule_error(r, p->pos, "tunnel protocol must be \"CONNECT\" or \"POST\"");
    const char *error = fqdn_error(r->arena, p->tunnel.target_host);
    if (error && !is_ip_address(p->tunnel.target_host))
        rule_error(r, p->pos,
                   "tunnel target host must be valid FQDN or IP address: %s; %.*s is not a "
                   "valid IP",
                   error, SLICE_FMT(p->tunnel.target_host));
    if (p->tunnel.target_port < 1 || p->tunnel.target_port > 65535)
        rule_error(r, p->pos,
                   "tunnel target port is invalid: port number %u must be in the range 1..65535",
                   p->tunnel.target_port);
}

// ---- the policy

static void check_port_policy(struct reader *r, const struct port_traffic_policy *p)
{
    if (p->port == 0)
        rule_missing(r, p->pos, "portTrafficPolicy must have valid port");
    if (!p->outlier_detection && !p->connection_pool && !p->load_balancer && !p->tls) {
        rule_missing(r, p->pos, "port traffic policy must have at least one field");
        return;
    }
    check_outlier(r, p->outlier_detection);
    check_pool(r, p->connection_pool);
    check_load_balancer(r, p->load_balancer, p->outlier_detection != NULL);
    check_client_tls(r, p->tls);
}

static void check_policy(struct reader *r, const struct traffic_policy *p)
{
    if (!p)
        return;
    if (!p->outlier_detection && !p->connection_pool && !p->load_balancer && !p->tls &&
        !p->port_level_count && !p->tunnel.given && p->proxy_protocol < 0 &&
        !p->retry_budget.given) {
        rule_missing(r, p->pos, "traffic policy must have at least one field");
        return;
    }
    if (p->tunnel.given && p->proxy_protocol >= 0) {
        rule_error(r, p->pos, "tunnel and proxyProtocol must not be set together");
        return;
    }
    check_outlier(r, p->outlier_detection);
    check_pool(r, p->connection_pool);
    check_load_balancer(r, p->load_balancer, p->outlier_detection != NULL);
    check_client_tls(r, p->tls);
    for (uint32_t i = 0; i < p->port_level_count; i++)
        check_port_policy(r, &p->port_level[i]);
    check_tunnel(r, p);
}

static void check_subsets(struct reader *r, const struct destination_rule *d)
{
    struct map seen;
    map_init(&seen, NULL, d->subset_count);
    for (uint32_t i = 0; i < d->subset_count; i++) {
        const struct subset *s = &d->subsets[i];
        if (map_put(&seen, s->name, d->subsets))
            rule_error(r, s->pos, "duplicate subset names: %.*s", SLICE_FMT(s->name));
        if (s->name.len == 0)
            rule_missing(r, s->pos, "subset name cannot be empty");
        else if (!is_dns_label(s->name))
            rule_error(r, s->pos, "subset name is invalid: %.*s", SLICE_FMT(s->name));
        check_labels(r, &s->labels);
        check_policy(r, s->traffic_policy);
    }
    map_fini(&seen);
}

void validate_destination_rule(struct reader *r, const struct load_options *options,
                               const void *object)
{
    const struct destination_rule *d = object;
    const char *error = wildcard_domain_error(r->arena, d->host);
    (void)options;
    if (error && !d->host.len)
        rule_missing(r, d->meta.pos, "%s", error);
    else if (error)
        rule_error(r, d->host_pos, "%s", error);
    check_policy(r, d->traffic_policy);
    check_subsets(r, d);
    check_export_to(r, &d->export_to,
                    d->workload_selector_pos.line ? EXPORT_RULE_WITH_SELECTOR : EXPORT_PLAIN);
    if (d->workload_selector_pos.line)
        check_selector(r, d->workload_selector_pos, &d->workload_selector,
                       "workload selector specified without labels");
}
