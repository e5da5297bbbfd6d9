// Comparison and expansion of host names. Pure functions. Any thread.
#include "config/names.h"

#define CLUSTER_SUFFIX ".svc.cluster.local"

static bool is_wildcard(struct slice s)
{
    return s.len > 0 && s.ptr[0] == '*';
}

// pkg/config/host/name.go, Matches: the suffix of one covers the suffix of the other.
bool host_matches(struct slice a, struct slice b)
{
    bool wa = is_wildcard(a), wb = is_wildcard(b);
    if (wa && wb) {
        struct slice sa = slice_from(a, 1), sb = slice_from(b, 1);
        return sa.len > sb.len ? slice_has_suffix_nocase(sa, sb) : slice_has_suffix_nocase(sb, sa);
    }
    if (wa)
        return slice_has_suffix_nocase(b, slice_from(a, 1));
    if (wb)
        return slice_has_suffix_nocase(a, slice_from(b, 1));
    return slice_eq_nocase(a, b);
}

bool host_subset_of(struct slice a, struct slice b)
{
    bool wa = is_wildcard(a), wb = is_wildcard(b);
    if (wa && wb)
        return a.len >= b.len && slice_has_suffix_nocase(slice_from(a, 1), slice_from(b, 1));
    if (wa)
        return false;
    if (wb)
        return slice_has_suffix_nocase(a, slice_from(b, 1));
    return slice_eq_nocase(a, b);
}

struct slice host_intersect(struct slice a, struct slice b)
{
    if (host_subset_of(a, b))
        return a;
    if (host_subset_of(b, a))
        return b;
    return (struct slice){NULL, 0};
}

struct slice host_fqdn(struct arena *a, struct slice host, struct slice ns)
{
    if (host.len == 0 || is_wildcard(host) || slice_find(host, '.') >= 0 ||
        slice_find(host, ':') >= 0) // an IPv6 address
        return host;
    char *p = arena_printf(a, "%.*s.%.*s" CLUSTER_SUFFIX, SLICE_FMT(host), SLICE_FMT(ns));
    return slice_of(p);
}

// pilot/pkg/model/gateway.go, resolveGatewayName.
void gateway_ref_split(struct slice ref, struct slice vs_ns, struct slice *ns, struct slice *name)
{
    ptrdiff_t slash = slice_find(ref, '/');
    if (slash >= 0) {
        *ns = (struct slice){ref.ptr, (size_t)slash};
        *name = slice_from(ref, (size_t)slash + 1);
        if (slice_eq(*ns, SLICE(".")))
            *ns = vs_ns;
        return;
    }
    *ns = vs_ns;
    *name = ref;
    ptrdiff_t dot = slice_find(ref, '.');
    if (dot < 0)
        return;
    struct slice rest = slice_from(ref, (size_t)dot + 1);
    ptrdiff_t end = slice_find(rest, '.');
    *name = (struct slice){ref.ptr, (size_t)dot};
    *ns = end < 0 ? rest : (struct slice){rest.ptr, (size_t)end};
}

enum server_protocol server_protocol_parse(struct slice text)
{
    static const struct {
        const char *name;
        enum server_protocol protocol;
    } table[] = {
        {"http", PROTO_HTTP},         {"http2", PROTO_HTTP2}, {"grpc", PROTO_GRPC},
        {"grpc-web", PROTO_GRPC_WEB}, {"https", PROTO_HTTPS}, {"http_proxy", PROTO_HTTP_PROXY},
        {"tls", PROTO_TLS},           {"tcp", PROTO_TCP},     {"udp", PROTO_UDP},
        {"mongo", PROTO_MONGO},       {"mysql", PROTO_MYSQL}, {"redis", PROTO_REDIS},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (slice_eq_nocase(text, slice_of(table[i].name)))
            return table[i].protocol;
    return PROTO_UNKNOWN;
}

bool server_protocol_is_http(enum server_protocol p)
{
    return p == PROTO_HTTP || p == PROTO_HTTP2 || p == PROTO_GRPC || p == PROTO_GRPC_WEB ||
           p == PROTO_HTTP_PROXY;
}

bool cipher_suite_is_known(struct slice name)
{
    static const char *const names[CIPHER_SUITES] = {
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
        "ECDHE-ECDSA-AES128-SHA",
        "ECDHE-RSA-AES128-SHA",
        "ECDHE-ECDSA-AES256-SHA",
        "ECDHE-RSA-AES256-SHA",
        "AES128-GCM-SHA256",
        "AES256-GCM-SHA384",
        "AES128-SHA",
        "AES256-SHA",
        "DES-CBC3-SHA",
    };
    for (uint32_t i = 0; i < CIPHER_SUITES; i++)
        if (slice_eq(name, slice_of(names[i])))
            return true;
    return false;
}

bool string_list_repeats(const struct string_list *list, uint32_t i)
{
    for (uint32_t k = 0; k < i; k++)
        if (slice_eq(list->items[k].text, list->items[i].text))
            return true;
    return false;
}
