// The rules of ServiceEntry and WorkloadEntry (validation.go). Owns nothing. Control thread.
#include "config/names.h"
#include "config/rules.h"
#include "config/validate.h"
#include "core/map.h"

static const char *const resolution_names[] = {"NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN",
                                               "DYNAMIC_DNS"};

static bool is_named_port(const struct service_entry *s, struct slice name)
{
    for (uint32_t i = 0; i < s->port_count; i++)
        if (slice_eq(s->ports[i].name, name))
            return true;
    return false;
}

static void check_entry_ports(struct reader *r, const struct workload_entry *w,
                              const struct service_entry *of)
{
    for (uint32_t i = 0; i < w->port_count; i++) {
        if (of && !is_named_port(of, w->ports[i].name))
            rule_error(r, w->pos, "endpoint port %u is not defined by the service entry",
                       w->ports[i].number);
        if (!is_dns_label(w->ports[i].name))
            rule_error(r, w->pos, "invalid port name: %.*s", SLICE_FMT(w->ports[i].name));
        check_port(r, w->pos, w->ports[i].number);
    }
}

static void check_entry(struct reader *r, const struct workload_entry *w,
                        const struct service_entry *of)
{
    struct pos pos = w->pos.line ? w->pos : w->meta.pos;
    bool is_unix = has_unix_prefix(w->address);
    if (!w->address.len && !w->network.len) {
        rule_missing(r, pos, "address is required");
        return;
    }
    if (!w->address.len)
        rule_warning(r, pos, "address is unset with network \"%.*s\"", SLICE_FMT(w->network));
    if (is_unix) {
        check_unix_address(r, pos, slice_from(w->address, sizeof("unix://") - 1));
        if (w->port_count)
            rule_error(r, pos, "unix endpoint %.*s must not include ports", SLICE_FMT(w->address));
        if (of && of->port_count != 1)
            rule_missing(r, pos, "exactly 1 service port required for unix endpoints");
    } else if (w->address.len && !is_ip_address(w->address)) {
        if (of)
            rule_error(r, pos, "endpoint address \"%.*s\" is not a valid IP address",
                       SLICE_FMT(w->address));
        else if (fqdn_error(r->arena, w->address))
            rule_error(r, pos, "endpoint address \"%.*s\" is not a valid FQDN or an IP address",
                       SLICE_FMT(w->address));
    }
    check_entry_ports(r, w, of);
    check_labels(r, &w->labels);
}

void validate_workload_entry(struct reader *r, const struct load_options *options,
                             const void *object)
{
    (void)options;
    check_entry(r, object, NULL);
}

static void check_workloads(struct reader *r, const struct service_entry *s)
{
    if (!s->has_workload_selector)
        return;
    check_selector(r, s->workload_selector_pos, &s->workload_selector,
                   "service entry: workload selector specified without labels, will be applied to "
                   "all services in namespace");
    if (s->endpoint_count)
        rule_error(r, s->workload_selector_pos,
                   "only one of WorkloadSelector or Endpoints is allowed in Service Entry");
}

static void check_hosts(struct reader *r, const struct service_entry *s)
{
    if (!s->hosts.count)
        rule_missing(r, s->meta.pos, "service entry must have at least one host");
    for (uint32_t i = 0; i < s->hosts.count; i++) {
        const struct string_item *h = &s->hosts.items[i];
        const char *error = wildcard_domain_error(r->arena, h->text);
        if (slice_eq(h->text, SLICE("*")))
            rule_error(r, h->pos, "invalid host *");
        else if (error)
            rule_error(r, h->pos, "%s", error);
        else if (s->resolution != RESOLUTION_DYNAMIC_DNS)
            check_partial_wildcard(r, h->pos, h->text, false);
    }
}

static void check_addresses(struct reader *r, const struct service_entry *s)
{
    bool cidr = false;
    for (uint32_t i = 0; i < s->addresses.count; i++) {
        cidr = cidr || slice_find(s->addresses.items[i].text, '/') >= 0;
        check_subnet(r, &s->addresses.items[i]);
    }
    if (cidr && s->resolution != RESOLUTION_NONE && s->resolution != RESOLUTION_STATIC)
        rule_error(r, s->addresses.items[0].pos,
                   "CIDR addresses are allowed only for NONE/STATIC resolution types");
}

static void check_ports(struct reader *r, const struct service_entry *s)
{
    struct map names, numbers;
    map_init(&names, NULL, s->port_count);
    map_init(&numbers, NULL, s->port_count);
    for (uint32_t i = 0; i < s->port_count; i++) {
        const struct service_entry_port *p = &s->ports[i];
        if (map_put(&names, p->name, s->ports))
            rule_error(r, p->pos, "service entry port name \"%.*s\" already defined",
                       SLICE_FMT(p->name));
        if (map_put(&numbers, (struct slice){(const char *)&p->number, sizeof(p->number)},
                    s->ports))
            rule_error(r, p->pos, "service entry port %u already defined", p->number);
        if (p->target_port)
            check_port(r, p->pos, p->target_port);
        if (!is_dns_label(p->name))
            rule_error(r, p->pos, "invalid port name: %.*s", SLICE_FMT(p->name));
        if (p->protocol.len && server_protocol_parse(p->protocol) == PROTO_UNKNOWN)
            rule_error(r, p->pos, "unsupported protocol: %.*s", SLICE_FMT(p->protocol));
        check_port(r, p->pos, p->number);
    }
    map_fini(&names);
    map_fini(&numbers);
}

// ---- by resolution

static void check_none(struct reader *r, const struct service_entry *s)
{
    if (s->endpoint_count)
        rule_error(r, s->endpoints[0].pos,
                   "no endpoints should be provided for resolution type none");
    if (s->has_workload_selector)
        rule_warning(r, s->workload_selector_pos,
                     "workloadSelector should not be set when resolution mode is NONE");
}

static bool is_tcp(enum server_protocol p)
{
    return p == PROTO_TCP || p == PROTO_HTTPS || p == PROTO_TLS || p == PROTO_MONGO ||
           p == PROTO_REDIS || p == PROTO_MYSQL;
}

static void check_addressed_tcp(struct reader *r, const struct service_entry *s)
{
    if (!s->addresses.count || s->hosts.count < 2)
        return;
    for (uint32_t i = 0; i < s->port_count; i++) {
        if (!is_tcp(server_protocol_parse(s->ports[i].protocol)))
            continue;
        rule_warning(r, s->ports[i].pos,
                     "service entry can not have more than one host specified simultaneously with "
                     "address and tcp port");
        return;
    }
}

static void check_dns(struct reader *r, const struct service_entry *s)
{
    const char *name = resolution_names[s->resolution];
    for (uint32_t i = 0; !s->endpoint_count && i < s->hosts.count; i++) {
        const char *error = fqdn_error(r->arena, s->hosts.items[i].text);
        if (!error)
            continue;
        rule_error(
            r, s->hosts.items[i].pos,
            "hosts must be FQDN or contain only prefix wildcards if no endpoints are provided "
            "for resolution mode %s, %s",
            name, error);
        break;
    }
    if (s->resolution == RESOLUTION_DNS_ROUND_ROBIN && s->endpoint_count > 1)
        rule_error(r, s->endpoints[1].pos,
                   "there must only be 0 or 1 endpoint for resolution mode %s", name);
    for (uint32_t i = 0; i < s->endpoint_count; i++) {
        const struct workload_entry *w = &s->endpoints[i];
        if (!is_ip_address(w->address) && fqdn_error(r->arena, w->address))
            rule_error(r, w->pos, "endpoint address \"%.*s\" is not a valid FQDN or an IP address",
                       SLICE_FMT(w->address));
        check_labels(r, &w->labels);
        check_entry_ports(r, w, s);
    }
    check_addressed_tcp(r, s);
}

static void check_dynamic(struct reader *r, const struct service_entry *s)
{
    const char *name = resolution_names[s->resolution];
    if (!s->hosts.count)
        rule_missing(r, s->meta.pos,
                     "at least one wildcard host must be provided for resolution type %s", name);
    for (uint32_t i = 0; i < s->hosts.count; i++)
        if (!s->hosts.items[i].text.len || s->hosts.items[i].text.ptr[0] != '*')
            rule_error(r, s->hosts.items[i].pos, "host must be wildcarded for resolution mode %s",
                       name);
    if (s->addresses.count)
        rule_error(
            r, s->addresses.items[0].pos,
            "addresses cannot be set for resolution type %s. HTTP route domains will only be "
            "generated from the hosts field values",
            name);
    if (s->endpoint_count)
        rule_error(r, s->endpoints[0].pos,
                   "endpoints cannot be set for resolution type %s. Destination IP address "
                   "determined from hosts field values",
                   name);
    for (uint32_t i = 0; i < s->port_count; i++) {
        enum server_protocol p = server_protocol_parse(s->ports[i].protocol);
        if (p != PROTO_HTTP && p != PROTO_TLS && p != PROTO_GRPC && p != PROTO_HTTP2)
            rule_error(
                r, s->ports[i].pos,
                "only HTTP, TLS, GRPC, and HTTP2 protocols are supported for resolution type "
                "%s",
                name);
    }
}

static void check_resolution(struct reader *r, const struct service_entry *s)
{
    switch (s->resolution) {
    case RESOLUTION_NONE:
        check_none(r, s);
        break;
    case RESOLUTION_STATIC:
        for (uint32_t i = 0; i < s->endpoint_count; i++)
            check_entry(r, &s->endpoints[i], s);
        break;
    case RESOLUTION_DNS:
    case RESOLUTION_DNS_ROUND_ROBIN:
        check_dns(r, s);
        break;
    case RESOLUTION_DYNAMIC_DNS:
        check_dynamic(r, s);
        break;
    }
}

// By name or SNI several hosts of one port are told apart; plain TCP has neither.
static void check_several_hosts(struct reader *r, const struct service_entry *s)
{
    for (uint32_t i = 0; s->hosts.count > 1 && i < s->port_count; i++) {
        enum server_protocol p = server_protocol_parse(s->ports[i].protocol);
        if (server_protocol_is_http(p) || p == PROTO_HTTPS || p == PROTO_TLS)
            continue;
        rule_error(r, s->ports[i].pos, "multiple hosts provided with non-HTTP, non-TLS ports");
        return;
    }
}

void validate_service_entry(struct reader *r, const struct load_options *options,
                            const void *object)
{
    const struct service_entry *s = object;
    (void)options;
    check_workloads(r, s);
    check_hosts(r, s);
    check_addresses(r, s);
    check_ports(r, s);
    check_resolution(r, s);
    if (s->resolution != RESOLUTION_NONE)
        check_several_hosts(r, s);
    check_export_to(r, &s->export_to, EXPORT_SERVICE_ENTRY);
}
