// Lint of rules that can never be reached (IST0130, 0131; analyzeUnreachableHTTPRules and its
// twins). Equal matches are found by their canonical text, overlapping prefixes by a walk over the
// sorted prefixes with a stack of what covers the current one: n log n. Control thread.
#include "config/analysis.h"
#include "core/check.h"
#include <stdlib.h>

// ---- canonical text of a match, in a buffer that grows

struct text {
    char *p;
    size_t len, cap;
};

static void append(struct text *t, struct slice s)
{
    if (t->cap - t->len < s.len + 16) {
        t->cap = t->cap * 2 + s.len + 256;
        char *grown = realloc(t->p, t->cap);
        if (!grown)
            abort();
        t->p = grown;
    }
    t->len += (size_t)sprintf(t->p + t->len, "%zu:", s.len); // lengths keep parts apart
    if (s.len)
        memcpy(t->p + t->len, s.ptr, s.len);
    t->len += s.len;
}

static void append_number(struct text *t, uint64_t v)
{
    char digits[24];
    append(t, (struct slice){digits, (size_t)sprintf(digits, "%llu", (unsigned long long)v)});
}

static void append_match(struct text *t, const struct string_match *m)
{
    append_number(t, m ? (uint64_t)m->kind + 1 : 0);
    if (m)
        append(t, m->text);
}

static int compare_named(const void *pa, const void *pb)
{
    return slice_cmp(((const struct named_match *)pa)->name,
                     ((const struct named_match *)pb)->name);
}

static void append_named(struct analysis *a, struct text *t, const struct named_match_list *l)
{
    struct named_match *sorted = arena_array(&a->scratch, struct named_match, l->count);
    append_number(t, l->count);
    if (!l->count)
        return;
    memcpy(sorted, l->items, sizeof(*sorted) * l->count);
    qsort(sorted, l->count, sizeof(*sorted), compare_named);
    for (uint32_t i = 0; i < l->count; i++) {
        append(t, sorted[i].name);
        append_match(t, &sorted[i].match);
    }
}

static void append_strings(struct text *t, const struct string_list *l)
{
    append_number(t, l->count);
    for (uint32_t i = 0; i < l->count; i++)
        append(t, l->items[i].text);
}

static struct slice http_text(struct analysis *a, struct text *t, const struct http_match *m)
{
    t->len = 0;
    append_match(t, m->uri);
    append_match(t, m->scheme);
    append_match(t, m->method);
    append_match(t, m->authority);
    append_named(a, t, &m->headers);
    append_named(a, t, &m->without_headers);
    append_named(a, t, &m->query_params);
    append_number(t, m->port);
    append(t, selector_text(a, &m->source_labels));
    append_strings(t, &m->gateways);
    append_number(t, m->ignore_uri_case);
    append(t, m->source_namespace);
    append(t, m->stat_prefix);
    return arena_dup(&a->scratch, (struct slice){t->p, t->len});
}

static struct slice l4_text(struct analysis *a, struct text *t, const struct l4_match *m)
{
    t->len = 0;
    append_strings(t, &m->sni_hosts);
    append_strings(t, &m->destination_subnets);
    append_strings(t, &m->gateways);
    append_number(t, m->port);
    append(t, m->source_subnet);
    append(t, m->source_namespace);
    append(t, selector_text(a, &m->source_labels));
    return arena_dup(&a->scratch, (struct slice){t->p, t->len});
}

// ---- rules and matches by number or name

struct rule { // of any of the three lists
    struct slice name;
    uint32_t index, match_count;
    struct pos pos;
    const struct http_match *http;
    const struct l4_match *l4;
};

static const char *label(struct analysis *a, struct slice name, uint32_t index)
{
    return name.len ? arena_printf(&a->scratch, "\"%.*s\"", SLICE_FMT(name))
                    : arena_printf(&a->scratch, "#%u", index);
}

static const char *match_label(struct analysis *a, const struct rule *r, uint32_t i)
{
    return label(a, r->http ? r->http[i].name : (struct slice){NULL, 0}, i);
}

static struct pos match_pos(const struct rule *r, uint32_t i)
{
    return r->http ? r->http[i].pos : r->l4[i].pos;
}

static void unreachable(struct analysis *a, const struct metadata *object, const struct rule *r,
                        const char *reason)
{
    finding_add(a->findings, SEVERITY_WARNING, "IST0130", r->pos, object,
                "VirtualService rule %s not used (%s).", label(a, r->name, r->index), reason);
}

static void ineffective(struct analysis *a, const struct metadata *object, const struct rule *r,
                        struct pos pos, const char *match, const char *other)
{
    finding_add(a->findings, SEVERITY_INFO, "IST0131", pos, object,
                "VirtualService rule %s match %s is not used (duplicate/overlapping match in rule "
                "%s).",
                label(a, r->name, r->index), match, other);
}

// Equal matches and rules behind one without matches.
static void check_equal(struct analysis *a, const struct metadata *object, const struct rule *rules,
                        uint32_t count)
{
    struct text t = {0};
    struct map seen;
    const struct rule *open = NULL; // the rule without matches
    map_init(&seen, &a->scratch, count);
    for (uint32_t i = 0; i < count; i++) {
        const struct rule *r = &rules[i];
        uint32_t duplicates = 0;
        if (open)
            unreachable(a, object, r,
                        r->match_count ? "route without matches defined before"
                                       : "only the last rule can have no matches");
        if (!r->match_count)
            open = r;
        for (uint32_t k = 0; !open && k < r->match_count; k++) {
            check(r->http || r->l4);
            struct slice text = r->http ? http_text(a, &t, &r->http[k]) : l4_text(a, &t, &r->l4[k]);
            const struct rule *before = map_get(&seen, text);
            if (!before) {
                (void)map_put(&seen, text, (void *)r);
                continue;
            }
            duplicates++;
            ineffective(a, object, r, match_pos(r, k), match_label(a, r, k),
                        label(a, before->name, before->index));
        }
        if (r->match_count && duplicates == r->match_count)
            unreachable(a, object, r, "all matches used by prior rules");
    }
    free(t.p);
}

// ---- a prefix that an earlier one covers

struct prefix_match {
    const struct rule *rule;
    const struct http_match *match;
    uint32_t order, index;
};

static int compare_prefixes(const void *pa, const void *pb)
{
    const struct prefix_match *a = pa, *b = pb;
    int c = slice_cmp(a->match->uri->text, b->match->uri->text);
    return c ? c : (a->order > b->order) - (a->order < b->order);
}

// Istio compares "exact:" + text and "prefix:" + text, GET where no method is given.
static bool covers(const struct string_match *a, const struct string_match *b, struct slice absent)
{
    bool given_a = a && a->text.len && a->kind != MATCH_REGEX;
    bool given_b = b && b->text.len && b->kind != MATCH_REGEX;
    struct slice ta = given_a ? a->text : absent, tb = given_b ? b->text : absent;
    bool prefix_a = given_a && a->kind == MATCH_PREFIX,
         prefix_b = given_b && b->kind == MATCH_PREFIX;
    if (!tb.len)
        return true;
    return ta.len && prefix_a == prefix_b && slice_has_prefix(ta, tb);
}

#define MOST_NAMED 256u // matches of one list that are compared with another's

static bool named_cover(const struct named_match_list *a, const struct named_match_list *b)
{
    if (a->count != b->count || a->count > MOST_NAMED)
        return false;
    for (uint32_t i = 0; i < a->count; i++) {
        const struct named_match *other = NULL;
        for (uint32_t k = 0; k < b->count && !other; k++)
            if (slice_eq(a->items[i].name, b->items[k].name))
                other = &b->items[k];
        if (!other || !covers(&a->items[i].match, &other->match, (struct slice){NULL, 0}))
            return false;
    }
    return true;
}

static bool match_covers(const struct http_match *a, const struct http_match *b)
{
    return a->port == b->port && covers(a->method, b->method, SLICE("GET")) &&
           covers(a->authority, b->authority, (struct slice){NULL, 0}) &&
           named_cover(&a->headers, &b->headers) &&
           named_cover(&a->query_params, &b->query_params) &&
           named_cover(&a->without_headers, &b->without_headers);
}

static void report_covered(struct analysis *a, const struct metadata *object,
                           const struct prefix_match *by, const struct prefix_match *p)
{
    const char *match =
        arena_printf(&a->scratch, "%s of prefix %.*s", match_label(a, p->rule, p->index),
                     SLICE_FMT(p->match->uri->text));
    const char *other =
        arena_printf(&a->scratch, "%s of prefix %.*s on %s", match_label(a, by->rule, by->index),
                     SLICE_FMT(by->match->uri->text), label(a, by->rule->name, by->rule->index));
    ineffective(a, object, p->rule, p->match->pos, match, other);
}

#define DEEPEST_STACK 64u // prefixes of a prefix that are compared with it

static void check_prefixes(struct analysis *a, const struct metadata *object,
                           struct prefix_match *all, uint32_t count)
{
    const struct prefix_match *stack[DEEPEST_STACK];
    uint32_t depth = 0;
    qsort(all, count, sizeof(*all), compare_prefixes);
    for (uint32_t i = 0; i < count; i++) {
        const struct prefix_match *p = &all[i];
        struct slice text = p->match->uri->text;
        while (depth && !slice_has_prefix(text, stack[depth - 1]->match->uri->text))
            depth--;
        for (uint32_t k = 0; k < depth; k++)
            if (stack[k]->order < p->order && stack[k]->match->uri->text.len != text.len &&
                match_covers(stack[k]->match, p->match))
                report_covered(a, object, stack[k], p);
        if (depth < DEEPEST_STACK)
            stack[depth++] = p;
    }
}

static void check_overlaps(struct analysis *a, const struct metadata *object,
                           const struct rule *rules, uint32_t count)
{
    uint32_t total = 0, n = 0;
    for (uint32_t i = 0; i < count; i++)
        total += rules[i].match_count;
    struct prefix_match *all = arena_array(&a->scratch, struct prefix_match, total);
    for (uint32_t i = 0; i < count && rules[i].match_count; i++) {
        for (uint32_t k = 0; k < rules[i].match_count; k++) {
            const struct http_match *m = &rules[i].http[k];
            if (!m->uri || m->uri->kind != MATCH_PREFIX || !m->uri->text.len)
                continue;
            all[n] = (struct prefix_match){&rules[i], m, n, k};
            n++;
        }
    }
    check_prefixes(a, object, all, n);
}

static void check_http(struct analysis *a, const struct virtual_service *vs)
{
    struct rule *rules = arena_array(&a->scratch, struct rule, vs->http_count);
    for (uint32_t i = 0; i < vs->http_count; i++) {
        const struct http_route *h = &vs->http[i];
        rules[i] = (struct rule){h->name, i, h->match_count, h->pos, h->matches, NULL};
    }
    check_equal(a, &vs->meta, rules, vs->http_count);
    check_overlaps(a, &vs->meta, rules, vs->http_count);
}

static void check_l4(struct analysis *a, const struct metadata *object,
                     const struct l4_route *routes, uint32_t count)
{
    struct rule *rules = arena_array(&a->scratch, struct rule, count);
    for (uint32_t i = 0; i < count; i++)
        rules[i] = (struct rule){{NULL, 0},     i,    routes[i].match_count,
                                 routes[i].pos, NULL, routes[i].matches};
    check_equal(a, object, rules, count);
}

void analyze_dead_rules(struct analysis *a)
{
    for (uint32_t i = 0; i < a->m->virtual_services_count; i++) {
        const struct virtual_service *vs = a->m->virtual_services[i];
        check_http(a, vs);
        check_l4(a, &vs->meta, vs->tls, vs->tls_count);
        check_l4(a, &vs->meta, vs->tcp, vs->tcp_count);
    }
}
