// The rules of a VirtualService (validation.go, ValidateVirtualService); those of one http route
// are in validate_http.c. Owns nothing. Control thread.
#include "config/names.h"
#include "config/rules.h"
#include "config/validate.h"
#include "config/validate_http.h"
#include <stdlib.h>

static bool binds_to_mesh(const struct virtual_service *vs)
{
    for (uint32_t i = 0; i < vs->gateways.count; i++)
        if (slice_eq(vs->gateways.items[i].text, SLICE("mesh")))
            return true;
    return vs->gateways.count == 0;
}

static bool has_sni_hosts(const struct virtual_service *vs)
{
    for (uint32_t i = 0; i < vs->tls_count; i++)
        for (uint32_t k = 0; k < vs->tls[i].match_count; k++)
            if (vs->tls[i].matches[k].sni_hosts.count)
                return true;
    return false;
}

// outbound_.<PORT>_._.<HOSTNAME>, the names that AUTO_PASSTHROUGH makes.
static const char *outbound_error(struct arena *a, struct slice name)
{
    struct slice rest = name, part;
    uint32_t parts = 0;
    while (slice_split(&rest, '_', &part))
        parts++;
    if (parts >= 4)
        return NULL;
    return arena_printf(a,
                        "domain name %.*s invalid, should follow 'outbound_.<PORT>_._.<HOSTNAME>' "
                        "format",
                        SLICE_FMT(name));
}

static const char *host_error(struct reader *r, bool sni, bool gateway, struct slice host)
{
    if (sni && gateway && slice_has_prefix(host, SLICE("outbound_")))
        return outbound_error(r->arena, host);
    return wildcard_domain_error(r->arena, host);
}

// ---- hosts that cover each other. Sorted by their reversed text without the `*`, what a wildcard
// covers stands behind it, so that a stack of wildcards finds every pair without comparing all.

#define MOST_DUPLICATES 100u // findings of one document about them

struct host_ref {
    struct slice text; // without the `*`
    bool wild;
    uint32_t index;
};

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static int compare_hosts(const void *pa, const void *pb)
{
    const struct host_ref *a = pa, *b = pb;
    size_t n = a->text.len < b->text.len ? a->text.len : b->text.len;
    for (size_t i = 1; i <= n; i++) {
        char ca = lower(a->text.ptr[a->text.len - i]), cb = lower(b->text.ptr[b->text.len - i]);
        if (ca != cb)
            return (unsigned char)ca < (unsigned char)cb ? -1 : 1;
    }
    if (a->text.len != b->text.len)
        return a->text.len < b->text.len ? -1 : 1;
    if (a->wild != b->wild)
        return a->wild ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

static void report_pair(struct reader *r, const struct virtual_service *vs,
                        const struct host_ref *a, const struct host_ref *b, uint32_t *found)
{
    bool ordered = a->index < b->index;
    const struct string_item *first = &vs->hosts.items[ordered ? a->index : b->index];
    const struct string_item *second = &vs->hosts.items[ordered ? b->index : a->index];
    if ((*found)++ < MOST_DUPLICATES)
        rule_error(r, second->pos, "duplicate hosts in virtual service: %.*s & %.*s",
                   SLICE_FMT(first->text), SLICE_FMT(second->text));
}

static void check_duplicate_hosts(struct reader *r, const struct virtual_service *vs)
{
    uint32_t n = vs->hosts.count, depth = 0, found = 0;
    struct host_ref *all = arena_array(r->arena, struct host_ref, n);
    const struct host_ref **stack = arena_array(r->arena, const struct host_ref *, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        struct slice text = vs->hosts.items[i].text;
        bool wild = text.len && text.ptr[0] == '*';
        all[i] = (struct host_ref){wild ? slice_from(text, 1) : text, wild, i};
    }
    qsort(all, n, sizeof(*all), compare_hosts);
    for (uint32_t i = 0; i < n && found < MOST_DUPLICATES; i++) {
        while (depth && !slice_has_suffix_nocase(all[i].text, stack[depth - 1]->text))
            depth--;
        for (uint32_t k = 0; k < depth && found < MOST_DUPLICATES; k++)
            report_pair(r, vs, stack[k], &all[i], &found);
        if (all[i].wild)
            stack[depth++] = &all[i];
        else if (i && !all[i - 1].wild && slice_eq_nocase(all[i - 1].text, all[i].text))
            report_pair(r, vs, &all[i - 1], &all[i], &found);
    }
}

static void check_hosts(struct reader *r, const struct virtual_service *vs)
{
    bool mesh = binds_to_mesh(vs), sni = has_sni_hosts(vs), valid = true;
    for (uint32_t i = 0; i < vs->hosts.count; i++) {
        const struct string_item *h = &vs->hosts.items[i];
        const char *error = host_error(r, sni, !mesh, h->text);
        if (error && !is_ip_address(h->text)) {
            rule_error(r, h->pos, "%s", error);
            valid = false;
        } else if (mesh && slice_eq(h->text, SLICE("*"))) {
            rule_error(r, h->pos,
                       "wildcard host * is not allowed for virtual services bound to the mesh "
                       "gateway");
            valid = false;
        }
    }
    if (valid)
        check_duplicate_hosts(r, vs);
}

static void check_delegate(struct reader *r, const struct virtual_service *vs)
{
    static const char fmt[] = "delegate virtual service must have no %s specified";
    if (vs->gateways.count)
        rule_error(r, vs->gateways.items[0].pos, fmt, "gateways");
    if (vs->tls_count)
        rule_error(r, vs->tls[0].pos, fmt, "tls route");
    if (vs->tcp_count)
        rule_error(r, vs->tcp[0].pos, fmt, "tcp route");
}

// ---- tls and tcp routes

static void check_l4_destinations(struct reader *r, const struct l4_route *route)
{
    int64_t total = 0;
    for (uint32_t i = 0; i < route->route_count; i++) {
        const struct route_destination *d = &route->routes[i];
        if (!d->destination.pos.line)
            rule_missing(r, d->pos, "destination is required");
        else
            check_destination(r, &d->destination);
        if (d->weight < 0)
            rule_error(r, d->pos, "weight %d < 0", d->weight);
        total += d->weight;
    }
    if (route->route_count > 1 && total == 0)
        rule_missing(r, route->pos, "total destination weight = 0");
}

static void check_l4_match(struct reader *r, const struct l4_match *m)
{
    for (uint32_t i = 0; i < m->destination_subnets.count; i++)
        check_subnet(r, &m->destination_subnets.items[i]);
    if (m->port)
        check_port(r, m->pos, m->port);
    check_labels(r, &m->source_labels);
    check_gateway_names(r, &m->gateways);
}

static const char *join(struct arena *a, const struct string_list *list, const char *between)
{
    const char *text = "";
    for (uint32_t i = 0; i < list->count && i < 16; i++)
        text = arena_printf(a, "%s%s%.*s", text, i ? between : "", SLICE_FMT(list->items[i].text));
    return text;
}

static void check_sni_host(struct reader *r, const struct virtual_service *vs,
                           const struct string_item *sni)
{
    const char *error = host_error(r, true, !binds_to_mesh(vs), sni->text);
    if (error && is_ip_address(sni->text)) {
        rule_warning(r, sni->pos,
                     "using an IP address (\"%.*s\") goes against SNI spec and most clients do not "
                     "support this",
                     SLICE_FMT(sni->text));
        return;
    }
    if (error) {
        rule_error(r, sni->pos, "%s", error);
        return;
    }
    for (uint32_t i = 0; i < vs->hosts.count; i++)
        if (host_subset_of(sni->text, vs->hosts.items[i].text))
            return;
    rule_error(r, sni->pos,
               "SNI host \"%.*s\" is not a compatible subset of any of the virtual service hosts: "
               "[%s]",
               SLICE_FMT(sni->text), join(r->arena, &vs->hosts, ", "));
}

static void check_tls_route(struct reader *r, const struct virtual_service *vs,
                            const struct l4_route *route)
{
    if (route->match_count == 0)
        rule_missing(r, route->pos, "TLS route must have at least one match condition");
    for (uint32_t i = 0; i < route->match_count; i++) {
        const struct l4_match *m = &route->matches[i];
        if (m->sni_hosts.count == 0)
            rule_missing(r, m->pos, "TLS match must have at least one SNI host");
        for (uint32_t k = 0; k < m->sni_hosts.count; k++)
            check_sni_host(r, vs, &m->sni_hosts.items[k]);
        check_l4_match(r, m);
    }
    if (route->route_count == 0)
        rule_missing(r, route->pos, "TLS route is required");
    check_l4_destinations(r, route);
}

static void check_tcp_route(struct reader *r, const struct l4_route *route)
{
    for (uint32_t i = 0; i < route->match_count; i++)
        check_l4_match(r, &route->matches[i]);
    if (route->route_count == 0)
        rule_missing(r, route->pos, "TCP route is required");
    check_l4_destinations(r, route);
}

void validate_virtual_service(struct reader *r, const struct load_options *options,
                              const void *object)
{
    const struct virtual_service *vs = object;
    if (vs->hosts.count == 0 && !r->partial)
        check_delegate(r, vs);
    check_gateway_names(r, &vs->gateways);
    check_hosts(r, vs);
    if (!vs->http_count && !vs->tls_count && !vs->tcp_count)
        rule_missing(r, vs->meta.pos, "http, tcp or tls must be provided in virtual service");
    const char *mesh = binds_to_mesh(vs) ? join(r->arena, &vs->gateways, " ") : NULL;
    for (uint32_t i = 0; i < vs->http_count; i++)
        validate_http_route(r, options, &vs->http[i], vs->hosts.count == 0, mesh);
    for (uint32_t i = 0; i < vs->tls_count; i++)
        check_tls_route(r, vs, &vs->tls[i]);
    for (uint32_t i = 0; i < vs->tcp_count; i++)
        check_tcp_route(r, &vs->tcp[i]);
    check_export_to(r, &vs->export_to, EXPORT_PLAIN);
}
