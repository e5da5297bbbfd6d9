// VirtualService: the tables of its messages. Control thread.
#include "config/istio_common.h"
#include "config/kind.h"
#include "config/rules.h"
#include "config/text.h"
#include "config/validate.h"

static const struct field header_operation_fields[] = {
    F("set", FIELD_STRING_MAP, struct header_operations, set),
    F("add", FIELD_STRING_MAP, struct header_operations, add),
    F("remove", FIELD_STRINGS, struct header_operations, remove),
};
MESSAGE_NO_POS(header_operations, "istio.networking.v1alpha3.Headers.HeaderOperations",
               struct header_operations, header_operation_fields);
static const struct field headers_fields[] = {
    F_CHILD("request", FIELD_MESSAGE, struct headers, request, header_operations),
    F_CHILD("response", FIELD_MESSAGE, struct headers, response, header_operations),
};
MESSAGE_NO_POS(headers, "istio.networking.v1alpha3.Headers", struct headers, headers_fields);

#define T struct http_match
static const struct field match_fields[] = {
    F("name", FIELD_STRING, T, name),
    F_CUSTOM_OF("uri", T, uri, read_string_match_field, &message_string_match, CUSTOM_ONE),
    F_CUSTOM_OF("scheme", T, scheme, read_string_match_field, &message_string_match, CUSTOM_ONE),
    F_CUSTOM_OF("method", T, method, read_string_match_field, &message_string_match, CUSTOM_ONE),
    F_CUSTOM_OF("authority", T, authority, read_string_match_field, &message_string_match,
                CUSTOM_ONE),
    F_CUSTOM_OF("headers", T, headers, read_named_matches, &message_string_match, CUSTOM_MAP),
    F("port", FIELD_U32, T, port),
    F("sourceLabels", FIELD_STRING_MAP, T, source_labels),
    F("gateways", FIELD_STRINGS, T, gateways),
    F_CUSTOM_OF("queryParams", T, query_params, read_named_matches, &message_string_match,
                CUSTOM_MAP),
    F("ignoreUriCase", FIELD_BOOL, T, ignore_uri_case),
    F_CUSTOM_OF("withoutHeaders", T, without_headers, read_named_matches, &message_string_match,
                CUSTOM_MAP),
    F("sourceNamespace", FIELD_STRING, T, source_namespace),
    F("statPrefix", FIELD_STRING, T, stat_prefix),
};
#undef T
MESSAGE(match, "istio.networking.v1alpha3.HTTPMatchRequest", struct http_match, match_fields, pos);

#define T struct http_route_destination
static const struct field route_fields[] = {
    F_INLINE_AT("destination", T, destination, message_destination),
    F_GIVEN("weight", FIELD_I32, T, weight, weight_given),
    F_CHILD("headers", FIELD_MESSAGE, T, headers, headers),
};
#undef T
MESSAGE(route_destination, "istio.networking.v1alpha3.HTTPRouteDestination",
        struct http_route_destination, route_fields, pos);

static void read_redirect_port(struct reader *r, const struct yaml_node *node,
                               const struct path *path, void *base, uint32_t offset)
{
    struct http_redirect *h = base;
    int64_t v;
    (void)offset;
    if (h->port_kind != REDIRECT_PORT_UNSET)
        schema_error(r, node->pos, path, "only one of port and derivePort may be given");
    h->port_kind = REDIRECT_PORT_NUMBER;
    if (schema_read_int(r, node, path, 0, UINT32_MAX, &v))
        h->port = (uint32_t)v;
}

static const struct enum_value derive_ports[] = {
    {"FROM_PROTOCOL_DEFAULT", 0},
    {"FROM_REQUEST_PORT", 1},
};
ENUM_TYPE(derive_port_type, "istio.networking.v1alpha3.HTTPRedirect.RedirectPortSelection",
          derive_ports);

static void read_derive_port(struct reader *r, const struct yaml_node *node,
                             const struct path *path, void *base, uint32_t offset)
{
    struct http_redirect *h = base;
    int32_t v = 0;
    (void)offset;
    if (h->port_kind != REDIRECT_PORT_UNSET)
        schema_error(r, node->pos, path, "only one of port and derivePort may be given");
    if (schema_read_enum(r, &derive_port_type, node, path, &v))
        h->port_kind = v ? REDIRECT_PORT_FROM_REQUEST : REDIRECT_PORT_FROM_PROTOCOL;
}

#define T struct http_redirect
static const struct field redirect_fields[] = {
    F_GIVEN("uri", FIELD_STRING, T, uri, uri_given),
    F("authority", FIELD_STRING, T, authority),
    F_CUSTOM("port", T, port, read_redirect_port),
    F_CUSTOM("derivePort", T, port_kind, read_derive_port),
    F("scheme", FIELD_STRING, T, scheme),
    F("redirectCode", FIELD_U32, T, code),
    F_GIVEN("prefixRewrite", FIELD_STRING, T, prefix_rewrite, prefix_rewrite_given),
};
#undef T
MESSAGE(redirect, "istio.networking.v1alpha3.HTTPRedirect", struct http_redirect, redirect_fields,
        pos);

static void read_body_bytes(struct reader *r, const struct yaml_node *node, const struct path *path,
                            void *base, uint32_t offset)
{
    struct http_direct_response *d = base;
    struct slice text;
    (void)offset;
    if (schema_read_string(r, node, path, &text) && !base64_decode(r->arena, text, &d->body))
        schema_error(r, node->pos, path, "not base64");
}

static const struct field body_fields[] = {
    F("string", FIELD_STRING, struct http_direct_response, body),
    F_CUSTOM("bytes", struct http_direct_response, body, read_body_bytes),
};
MESSAGE(body, "istio.networking.v1alpha3.HTTPBody", struct http_direct_response, body_fields,
        body_pos);

static const struct field direct_response_fields[] = {
    F("status", FIELD_U32, struct http_direct_response, status),
    F_INLINE("body", body),
};
MESSAGE(direct_response, "istio.networking.v1alpha3.HTTPDirectResponse",
        struct http_direct_response, direct_response_fields, pos);

static const struct field delegate_fields[] = {
    F("name", FIELD_STRING, struct delegate, name),
    F("namespace", FIELD_STRING, struct delegate, ns),
};
MESSAGE(delegate, "istio.networking.v1alpha3.Delegate", struct delegate, delegate_fields, pos);

static const struct field regex_rewrite_fields[] = {
    F("match", FIELD_STRING, struct regex_rewrite, match),
    F("rewrite", FIELD_STRING, struct regex_rewrite, rewrite),
};
MESSAGE(regex_rewrite, "istio.networking.v1alpha3.RegexRewrite", struct regex_rewrite,
        regex_rewrite_fields, pos);

static const struct field rewrite_fields[] = {
    F_GIVEN("uri", FIELD_STRING, struct http_rewrite, uri, uri_given),
    F("authority", FIELD_STRING, struct http_rewrite, authority),
    F_CHILD("uriRegexRewrite", FIELD_MESSAGE, struct http_rewrite, uri_regex, regex_rewrite),
};
MESSAGE(rewrite, "istio.networking.v1alpha3.HTTPRewrite", struct http_rewrite, rewrite_fields, pos);

#define T struct http_retry
static const struct field retry_fields[] = {
    F_GIVEN("attempts", FIELD_I32, T, attempts, attempts_given),
    F("perTryTimeout", FIELD_DURATION, T, per_try_timeout_ns),
    F("retryOn", FIELD_STRING, T, retry_on),
    F("retryRemoteLocalities", FIELD_TRISTATE, T, retry_remote_localities),
    F("retryIgnorePreviousHosts", FIELD_TRISTATE, T, retry_ignore_previous_hosts),
    F("backoff", FIELD_DURATION, T, backoff_ns),
};
#undef T
MESSAGE(retry, "istio.networking.v1alpha3.HTTPRetry", struct http_retry, retry_fields, pos);

// allowOrigin (deprecated, strings) and allowOrigins (StringMatch) land in one list.
static void read_origins(struct reader *r, const struct yaml_node *node, const struct path *path,
                         void *base, uint32_t offset)
{
    struct cors_policy *c = base;
    (void)offset;
    if (!schema_expect(r, node, YAML_SEQUENCE, path))
        return;
    struct string_match *all =
        arena_array(r->arena, struct string_match, c->allow_origin_count + node->count);
    if (c->allow_origin_count)
        memcpy(all, c->allow_origins, sizeof(*all) * c->allow_origin_count);
    c->allow_origins = all;
    bool deprecated = slice_of(path->name).len == sizeof("allowOrigin") - 1;
    for (uint32_t i = 0; i < node->count; i++) {
        struct path at = {.up = path, .index = i};
        struct string_match *m = &all[c->allow_origin_count++];
        if (!deprecated) {
            read_string_match(r, node->items[i], &at, m);
            continue;
        }
        m->pos = schema_pos(r, node->items[i]->pos);
        m->kind = MATCH_EXACT;
        (void)schema_read_string(r, node->items[i], &at, &m->text);
    }
}

static const struct enum_value preflights[] = {
    {"UNSPECIFIED", PREFLIGHT_UNSPECIFIED},
    {"FORWARD", PREFLIGHT_FORWARD},
    {"IGNORE", PREFLIGHT_IGNORE},
};
ENUM_TYPE(preflight_type, "istio.networking.v1alpha3.CorsPolicy.UnmatchedPreflights", preflights);

#define T struct cors_policy
static const struct field cors_fields[] = {
    F_CUSTOM_OF("allowOrigin", T, allow_origins, read_origins, NULL, CUSTOM_LIST),
    F_CUSTOM_OF("allowOrigins", T, allow_origins, read_origins, &message_string_match, CUSTOM_LIST),
    F("allowMethods", FIELD_STRINGS, T, allow_methods),
    F("allowHeaders", FIELD_STRINGS, T, allow_headers),
    F("exposeHeaders", FIELD_STRINGS, T, expose_headers),
    F("maxAge", FIELD_DURATION, T, max_age_ns),
    F("allowCredentials", FIELD_TRISTATE, T, allow_credentials),
    F_CHILD("unmatchedPreflights", FIELD_ENUM, T, unmatched_preflights, preflight_type),
};
#undef T
MESSAGE(cors, "istio.networking.v1alpha3.CorsPolicy", struct cors_policy, cors_fields, pos);

// percent (deprecated, a whole number) is percentage.
static void read_whole_percent(struct reader *r, const struct yaml_node *node,
                               const struct path *path, void *base, uint32_t offset)
{
    struct percent *p = (void *)((char *)base + offset);
    int64_t v;
    if (!schema_read_int(r, node, path, INT32_MIN, INT32_MAX, &v) || p->given)
        return;
    p->value = (double)v;
    p->given = true;
}

static void read_exponential_delay(struct reader *r, const struct yaml_node *node,
                                   const struct path *path, void *base, uint32_t offset)
{
    uint64_t ns;
    (void)base, (void)offset;
    if (schema_read_duration(r, node, path, &ns))
        rule_error(r, node->pos, "exponentialDelay not supported yet");
}

#define T struct http_fault
static const struct field delay_fields[] = {
    F_CUSTOM_OF("percentage", T, delay_percentage, read_percent, &message_percent, CUSTOM_ONE),
    F_CUSTOM("percent", T, delay_percentage, read_whole_percent),
    F("fixedDelay", FIELD_DURATION, T, fixed_delay_ns),
    F_CUSTOM("exponentialDelay", T, fixed_delay_ns, read_exponential_delay),
};
MESSAGE_NO_POS(delay, "istio.networking.v1alpha3.HTTPFaultInjection.Delay", T, delay_fields);
static const struct field abort_fields[] = {
    F("httpStatus", FIELD_I32, T, abort_http_status),
    F("grpcStatus", FIELD_STRING, T, abort_grpc_status),
    F("http2Error", FIELD_STRING, T, abort_http2_error),
    F_CUSTOM_OF("percentage", T, abort_percentage, read_percent, &message_percent, CUSTOM_ONE),
};
MESSAGE_NO_POS(fault_abort, "istio.networking.v1alpha3.HTTPFaultInjection.Abort", T, abort_fields);
static const struct field fault_fields[] = {
    {"delay", FIELD_INLINE, 0, 0, NO_OFFSET, offsetof(T, has_delay), &delay},
    {"abort", FIELD_INLINE, 0, 0, NO_OFFSET, offsetof(T, has_abort), &fault_abort},
};
#undef T
MESSAGE(fault, "istio.networking.v1alpha3.HTTPFaultInjection", struct http_fault, fault_fields,
        pos);

static const struct field mirror_fields[] = {
    F_INLINE_AT("destination", struct http_mirror, destination, message_destination),
    F_CUSTOM_OF("percentage", struct http_mirror, percentage, read_percent, &message_percent,
                CUSTOM_ONE),
};
MESSAGE(mirror, "istio.networking.v1alpha3.HTTPMirrorPolicy", struct http_mirror, mirror_fields,
        pos);

// mirrorPercent, replaced by mirrorPercentage.
static void read_mirror_percent(struct reader *r, const struct yaml_node *node,
                                const struct path *path, void *base, uint32_t offset)
{
    struct percent *p = (void *)((char *)base + offset);
    read_whole_percent(r, node, path, base, offset);
    if (p->given && p->value > 100) {
        rule_error(r, node->pos, "mirror_percent must have a max value of 100 (it has %.0f)",
                   p->value);
        p->value = 100;
    }
    rule_warning(r, node->pos,
                 "using deprecated setting \"mirrorPercent\", use \"mirrorPercentage\" instead");
}

// What of the older mirror fields stands beside `mirrors`; folded into the list by finish().
struct http_route_raw {
    struct http_route route; // first
    struct destination *mirror;
    struct percent mirror_percentage;
};

#define T struct http_route_raw
static const struct field http_fields[] = {
    F_POS("name", FIELD_STRING, T, route.name, route.name_pos),
    F_LIST("match", T, route.matches, route.match_count, match),
    F_LIST("route", T, route.routes, route.route_count, route_destination),
    F_CHILD("redirect", FIELD_MESSAGE, T, route.redirect, redirect),
    F_CHILD("directResponse", FIELD_MESSAGE, T, route.direct_response, direct_response),
    F_CHILD("delegate", FIELD_MESSAGE, T, route.delegate, delegate),
    F_CHILD("rewrite", FIELD_MESSAGE, T, route.rewrite, rewrite),
    F_POS("timeout", FIELD_DURATION, T, route.timeout_ns, route.timeout_pos),
    F_CHILD("retries", FIELD_MESSAGE, T, route.retries, retry),
    F_CHILD("fault", FIELD_MESSAGE, T, route.fault, fault),
    F_CHILD("mirror", FIELD_MESSAGE, T, mirror, message_destination),
    F_LIST("mirrors", T, route.mirrors, route.mirror_count, mirror),
    F_CUSTOM("mirrorPercent", T, mirror_percentage, read_mirror_percent),
    F_CUSTOM_OF("mirrorPercentage", T, mirror_percentage, read_percent, &message_percent,
                CUSTOM_ONE),
    F_CHILD("corsPolicy", FIELD_MESSAGE, T, route.cors, cors),
    F_CHILD("headers", FIELD_MESSAGE, T, route.headers, headers),
};
#undef T
MESSAGE(http, "istio.networking.v1alpha3.HTTPRoute", struct http_route_raw, http_fields, route.pos);

static void fold_mirror(struct reader *r, struct http_route_raw *raw)
{
    if (!raw->mirror)
        return;
    if (raw->route.mirror_count) {
        rule_error(r, raw->route.pos, "HTTP route cannot contain both mirror and mirrors");
        return;
    }
    struct http_mirror *m = arena_new(r->arena, struct http_mirror);
    m->destination = *raw->mirror;
    m->percentage = raw->mirror_percentage;
    m->pos = raw->mirror->pos;
    raw->route.mirrors = m;
    raw->route.mirror_count = 1;
}

static void read_http(struct reader *r, const struct yaml_node *node, const struct path *path,
                      void *base, uint32_t offset)
{
    struct virtual_service *vs = base;
    (void)offset;
    if (!schema_expect(r, node, YAML_SEQUENCE, path))
        return;
    vs->http = arena_array(r->arena, struct http_route, node->count);
    vs->http_count = node->count;
    for (uint32_t i = 0; i < node->count; i++) {
        struct path at = {.up = path, .index = i};
        struct http_route_raw raw = {0};
        schema_read(r, &http, node->items[i], &at, &raw);
        fold_mirror(r, &raw);
        vs->http[i] = raw.route;
    }
}

static const struct field l4_route_destination_fields[] = {
    F_INLINE_AT("destination", struct route_destination, destination, message_destination),
    F_GIVEN("weight", FIELD_I32, struct route_destination, weight, weight_given),
};
MESSAGE(l4_destination, "istio.networking.v1alpha3.RouteDestination", struct route_destination,
        l4_route_destination_fields, pos);

#define T struct l4_match
static const struct field tls_match_fields[] = {
    F("sniHosts", FIELD_STRINGS, T, sni_hosts),
    F("destinationSubnets", FIELD_STRINGS, T, destination_subnets),
    F("port", FIELD_U32, T, port),
    F("sourceLabels", FIELD_STRING_MAP, T, source_labels),
    F("gateways", FIELD_STRINGS, T, gateways),
    F("sourceNamespace", FIELD_STRING, T, source_namespace),
};
MESSAGE(tls_match, "istio.networking.v1alpha3.TLSMatchAttributes", T, tls_match_fields, pos);
static const struct field tcp_match_fields[] = {
    F("destinationSubnets", FIELD_STRINGS, T, destination_subnets),
    F("port", FIELD_U32, T, port),
    F("sourceSubnet", FIELD_STRING, T, source_subnet),
    F("sourceLabels", FIELD_STRING_MAP, T, source_labels),
    F("gateways", FIELD_STRINGS, T, gateways),
    F("sourceNamespace", FIELD_STRING, T, source_namespace),
};
MESSAGE(tcp_match, "istio.networking.v1alpha3.L4MatchAttributes", T, tcp_match_fields, pos);
#undef T

static const struct field tls_fields[] = {
    F_LIST("match", struct l4_route, matches, match_count, tls_match),
    F_LIST("route", struct l4_route, routes, route_count, l4_destination),
};
MESSAGE(tls_route, "istio.networking.v1alpha3.TLSRoute", struct l4_route, tls_fields, pos);
static const struct field tcp_fields[] = {
    F_LIST("match", struct l4_route, matches, match_count, tcp_match),
    F_LIST("route", struct l4_route, routes, route_count, l4_destination),
};
MESSAGE(tcp_route, "istio.networking.v1alpha3.TCPRoute", struct l4_route, tcp_fields, pos);

#define T struct virtual_service
static const struct field spec_fields[] = {
    F("hosts", FIELD_STRINGS, T, hosts),
    F("gateways", FIELD_STRINGS, T, gateways),
    F_CUSTOM_OF("http", T, http, read_http, &http, CUSTOM_LIST),
    F_LIST("tls", T, tls, tls_count, tls_route),
    F_LIST("tcp", T, tcp, tcp_count, tcp_route),
    F("exportTo", FIELD_STRINGS, T, export_to),
};
#undef T
MESSAGE_NO_POS(spec, "istio.networking.v1alpha3.VirtualService", struct virtual_service,
               spec_fields);
ISTIO_DOCUMENT(document, "VirtualService", struct virtual_service, spec);

const struct kind kind_virtual_service = {
    .name = "VirtualService",
    .group = "networking.istio.io",
    .document = &document,
    .size = sizeof(struct virtual_service),
    .list = offsetof(struct model, virtual_services),
    .validate = validate_virtual_service,
};
