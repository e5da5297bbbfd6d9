// The routes of documents by their definition: loops over everything, no tables, no index, nothing
// of the code that is tested but slices. See reference.h.
#include "reference.h"
#include "core/check.h"
#include "generate.h"

// ---- hosts

static bool is_wild(struct slice name)
{
    return name.len && name.ptr[0] == '*';
}

static bool ends_with(struct slice s, struct slice end)
{
    return s.len >= end.len && memcmp(s.ptr + s.len - end.len, end.ptr, end.len) == 0;
}

// features.md 1.3: every name that `a` stands for is one that `b` stands for.
static bool within(struct slice a, struct slice b)
{
    if (!is_wild(b))
        return slice_eq(a, b);
    if (is_wild(a) && a.len < b.len)
        return false;
    return ends_with(is_wild(a) ? slice_from(a, 1) : a, slice_from(b, 1));
}

// "[ns/]name" of a server: its name, {NULL,0} when this namespace is not admitted.
static struct slice admitted(struct slice host, struct slice vs_ns, struct slice gateway_ns)
{
    ptrdiff_t slash = slice_find(host, '/');
    if (slash < 0)
        return host;
    struct slice ns = {host.ptr, (size_t)slash};
    if (slice_eq(ns, SLICE(".")))
        ns = gateway_ns;
    bool ok = slice_eq(ns, SLICE("*")) || slice_eq(ns, vs_ns);
    return ok ? slice_from(host, (size_t)slash + 1) : (struct slice){NULL, 0};
}

// Calls `visit` with each domain that this VirtualService has on this server.
static void each_domain(const struct gateway *g, const struct server *s,
                        const struct virtual_service *vs,
                        void (*visit)(struct slice domain, void *arg), void *arg)
{
    for (uint32_t i = 0; i < s->hosts.count; i++) {
        struct slice own = admitted(s->hosts.items[i].text, vs->meta.ns, g->meta.ns);
        for (uint32_t k = 0; own.ptr && k < vs->hosts.count; k++) {
            struct slice other = vs->hosts.items[k].text;
            if (within(own, other))
                visit(own, arg);
            else if (within(other, own))
                visit(other, arg);
        }
    }
}

// ---- rules

static bool condition_free(const struct http_match *m)
{
    return !m->headers.count && !m->without_headers.count && !m->query_params.count && !m->method &&
           !m->authority && !m->scheme;
}

static bool catches_all(const struct http_match *m)
{
    if (!m)
        return true;
    if (!condition_free(m))
        return false;
    return !m->uri || (m->uri->kind == MATCH_PREFIX && slice_eq(m->uri->text, SLICE("/"))) ||
           (m->uri->kind == MATCH_REGEX && slice_eq(m->uri->text, SLICE(".*")));
}

// Names are written in full here, so they are compared as they are.
static bool names(const struct string_list *gateways, const struct gateway *g)
{
    for (uint32_t i = 0; i < gateways->count; i++) {
        struct slice s = gateways->items[i].text;
        if (s.len == g->meta.ns.len + 1 + g->meta.name.len && slice_has_prefix(s, g->meta.ns) &&
            s.ptr[g->meta.ns.len] == '/' && ends_with(s, g->meta.name))
            return true;
    }
    return false;
}

static bool applies(const struct http_match *m, const struct gateway *g, const struct server *s)
{
    if (!m)
        return true;
    return (m->port == 0 || m->port == s->port.number) &&
           (m->gateways.count == 0 || names(&m->gateways, g));
}

static bool asks_for_presence(const struct string_match *m)
{
    return m->kind == MATCH_ANY || (m->kind == MATCH_REGEX && slice_eq(m->text, SLICE("*")));
}

static bool string_holds(const struct string_match *m, struct slice value)
{
    switch (m->kind) {
    case MATCH_EXACT:
        return slice_eq(m->text, value);
    case MATCH_PREFIX:
        return value.len >= m->text.len && memcmp(value.ptr, m->text.ptr, m->text.len) == 0;
    default:
        return expression_holds(m->text, value);
    }
}

static bool optional_holds(const struct string_match *m, struct slice value)
{
    return !m || asks_for_presence(m) || string_holds(m, value);
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static bool uri_holds(const struct http_match *m, struct slice path)
{
    if (!m->uri)
        return path.len && path.ptr[0] == '/';
    if (m->uri->kind == MATCH_REGEX)
        return expression_holds(m->uri->text, path);
    struct slice want = m->uri->text;
    if (path.len < want.len || (m->uri->kind == MATCH_EXACT && path.len != want.len))
        return false;
    for (size_t i = 0; i < want.len; i++)
        if (m->ignore_uri_case ? lower(path.ptr[i]) != lower(want.ptr[i])
                               : path.ptr[i] != want.ptr[i])
            return false;
    return true;
}

// All values of a field joined by commas; false when it is absent.
static bool field_value(const struct route_request *rq, struct slice name, char *out, size_t *len)
{
    bool found = false;
    *len = 0;
    for (uint32_t i = 0; i < rq->header_count; i++) {
        struct slice value = rq->headers[i].value;
        if (!slice_eq_nocase(rq->headers[i].name, name))
            continue;
        if (found)
            out[(*len)++] = ',';
        memcpy(out + *len, value.ptr, value.len);
        *len += value.len;
        found = true;
    }
    return found;
}

static bool header_present(const struct route_request *rq, struct slice name, char *buffer,
                           struct slice *value)
{
    *value = slice_eq(name, SLICE(":method"))      ? rq->method
             : slice_eq(name, SLICE(":authority")) ? rq->authority
                                                   : (struct slice){buffer, 0};
    return value->ptr != buffer || field_value(rq, name, buffer, &value->len);
}

static bool headers_hold(const struct http_match *m, const struct route_request *rq)
{
    char buffer[64];
    struct slice value;
    for (uint32_t i = 0; i < m->headers.count; i++) {
        const struct named_match *n = &m->headers.items[i];
        if (!header_present(rq, n->name, buffer, &value))
            return false;
        if (!asks_for_presence(&n->match) && !string_holds(&n->match, value))
            return false;
    }
    for (uint32_t i = 0; i < m->without_headers.count; i++) {
        const struct named_match *n = &m->without_headers.items[i];
        bool present = header_present(rq, n->name, buffer, &value);
        if (asks_for_presence(&n->match) ? present : string_holds(&n->match, value))
            return false; // a missing field counts as an empty one
    }
    return true;
}

// The first parameter of that name, undecoded; one without `=` is empty.
static bool query_holds(const struct named_match *n, struct slice query)
{
    for (size_t at = 0; query.ptr && at <= query.len;) {
        size_t end = at, eq;
        while (end < query.len && query.ptr[end] != '&')
            end++;
        for (eq = at; eq < end && query.ptr[eq] != '=';)
            eq++;
        struct slice key = {query.ptr + at, eq - at};
        struct slice value = {query.ptr + eq + (eq < end), end - eq - (eq < end)};
        if (slice_eq(key, n->name))
            return asks_for_presence(&n->match) || string_holds(&n->match, value);
        at = end + 1;
    }
    return false;
}

static bool block_holds(const struct http_match *m, const struct route_request *rq)
{
    if (!m)
        return rq->path.len && rq->path.ptr[0] == '/';
    for (uint32_t i = 0; i < m->query_params.count; i++)
        if (!query_holds(&m->query_params.items[i], rq->query))
            return false;
    return uri_holds(m, rq->path) && optional_holds(m->method, rq->method) &&
           optional_holds(m->authority, rq->authority) && optional_holds(m->scheme, rq->scheme) &&
           headers_hold(m, rq);
}

// ---- the whole

struct search {
    const struct model *m;
    const struct route_request *rq;
    uint32_t number;   // of the port
    struct slice name; // of the request: lower case, without port
    struct slice best; // the domain chosen
    bool has_best;     // does the VirtualService at hand have it?
    bool last;         // the second time round: the catch-alls
    struct chosen found;
};
typedef void visit_fn(struct search *s, const struct gateway *g, const struct server *server,
                      const struct virtual_service *vs);

static const struct virtual_service *oldest(const struct model *m, uint32_t *done)
{
    const struct virtual_service *best = NULL;
    for (uint32_t i = 0; i < m->virtual_services_count; i++) {
        const struct virtual_service *vs = m->virtual_services[i];
        if (!(*done >> i & 1) && (!best || vs->meta.created_unix_s < best->meta.created_unix_s))
            best = vs;
    }
    if (best)
        *done |= 1u << best->meta.order;
    return best;
}

// Every server on the port with every VirtualService bound to its Gateway, in the order that
// counts.
static void each_binding(struct search *s, visit_fn *visit)
{
    for (uint32_t i = 0; i < s->m->gateways_count; i++) {
        const struct gateway *g = s->m->gateways[i];
        for (uint32_t k = 0; k < g->server_count; k++) {
            uint32_t done = 0;
            if (g->servers[k].port.number != s->number)
                continue;
            for (const struct virtual_service *vs; (vs = oldest(s->m, &done));)
                if (names(&vs->gateways, g))
                    visit(s, g, &g->servers[k], vs);
        }
    }
}

#define RULES_MAX 64

// What one VirtualService contributes to a server: in order, up to its first catch-all.
static uint32_t rules_of(const struct gateway *g, const struct server *server,
                         const struct virtual_service *vs, struct chosen *out)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < vs->http_count; i++) {
        const struct http_route *r = &vs->http[i];
        for (uint32_t k = 0; k < r->match_count || k == 0; k++) {
            const struct http_match *m = r->match_count ? &r->matches[k] : NULL;
            if (!applies(m, g, server))
                continue;
            check(n < RULES_MAX);
            out[n++] = (struct chosen){vs, r, m};
            if (catches_all(m))
                return n;
        }
    }
    return n;
}

// The exact name, then the longest wildcard, whose `*` stands for at least one byte.
static void consider(struct slice domain, void *arg)
{
    struct search *s = arg;
    bool fits = slice_eq(domain, SLICE("*")) || slice_eq(domain, s->name) ||
                (is_wild(domain) && s->name.len >= domain.len && within(s->name, domain));
    bool better =
        !s->best.ptr || (is_wild(s->best) && (!is_wild(domain) || domain.len > s->best.len));
    if (fits && better)
        s->best = domain;
}

static void visit_domains(struct search *s, const struct gateway *g, const struct server *server,
                          const struct virtual_service *vs)
{
    struct chosen rules[RULES_MAX];
    if (rules_of(g, server, vs, rules)) // without a rule it brings no host
        each_domain(g, server, vs, consider, s);
}

static void note_best(struct slice domain, void *arg)
{
    struct search *s = arg;
    s->has_best |= slice_eq(domain, s->best);
}

static void visit_rules(struct search *s, const struct gateway *g, const struct server *server,
                        const struct virtual_service *vs)
{
    struct chosen rules[RULES_MAX];
    uint32_t n = rules_of(g, server, vs, rules);
    s->has_best = false;
    each_domain(g, server, vs, note_best, s);
    for (uint32_t i = 0; s->has_best && !s->found.vs && i < n; i++)
        if (catches_all(rules[i].block) == s->last && block_holds(rules[i].block, s->rq))
            s->found = rules[i];
}

static struct slice name_of(struct arena *a, struct slice authority)
{
    size_t len = authority.len;
    char *p = arena_alloc(a, len + 1);
    for (size_t i = 0; i < authority.len; i++) {
        p[i] = lower(authority.ptr[i]);
        len = p[i] == ':' ? i : len; // no IPv6 here, one colon at most
    }
    return (struct slice){p, len};
}

struct chosen reference_find(struct arena *a, const struct model *m, uint32_t number,
                             const struct route_request *rq)
{
    struct search s = {.m = m, .rq = rq, .number = number, .name = name_of(a, rq->authority)};
    if (rq->authority.len)
        each_binding(&s, visit_domains);
    if (s.best.ptr)
        each_binding(&s, visit_rules);
    s.last = true;
    if (s.best.ptr && !s.found.vs)
        each_binding(&s, visit_rules);
    return s.found;
}
