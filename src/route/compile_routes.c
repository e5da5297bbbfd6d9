// Rules: one for each match block of each http route, as Istio's BuildHTTPRoutesForVirtualService
// and TranslateRouteMatch make them. Control thread.
//
// A block is made once for a VirtualService and a server number, and is shared by all virtual hosts
// it reaches; once more for each Gateway only where a match asks for gateways or source labels.
#include "route/compile_routes.h"
#include "route/compile_action.h"
#include "route/rule_text.h"
#include <stdlib.h>

#define CLAIMS SLICE("@request.auth.claims")

struct builder {
    struct compile *c;
    const struct virtual_service *vs;
    const struct server_ref *ref;
    struct slice vs_name; // "name.namespace", in `out`
    struct route_block *block;
    uint32_t cap;
};

// ---- does a match block concern this server?

// Where `gateways` is given, the source is not looked at (sourceMatchHTTP).
static bool concerns(const struct builder *b, const struct http_match *m)
{
    if (m->port && m->port != b->ref->server->port.number)
        return false;
    if (m->gateways.count)
        return compile_names_gateway(&m->gateways, b->vs, b->ref->gateway);
    return labels_subset(&m->source_labels, b->ref->labels) &&
           (m->source_namespace.len == 0 ||
            slice_eq(m->source_namespace, b->ref->gateway->meta.ns));
}

static bool depends_on_gateway(const struct virtual_service *vs)
{
    for (uint32_t i = 0; i < vs->http_count; i++) {
        for (uint32_t k = 0; k < vs->http[i].match_count; k++) {
            const struct http_match *m = &vs->http[i].matches[k];
            if (m->gateways.count || m->source_labels.count || m->source_namespace.len)
                return true;
        }
    }
    return false;
}

// ---- conditions

// `regex: "*"` is Istio's way to say "present", not an expression.
static bool means_present(const struct string_match *m)
{
    return m->kind == MATCH_ANY || (m->kind == MATCH_REGEX && slice_eq(m->text, SLICE("*")));
}

static bool set_test(struct builder *b, struct condition *to, const struct string_match *m,
                     const char *field)
{
    struct compile *c = b->c;
    if (means_present(m)) {
        to->test = TEST_PRESENT;
        return true;
    }
    to->text = arena_dup(c->out, m->text);
    to->test = m->kind == MATCH_EXACT    ? TEST_EXACT
               : m->kind == MATCH_PREFIX ? TEST_PREFIX
                                         : TEST_REGEX;
    if (m->kind != MATCH_REGEX)
        return true;
    to->regex = compile_regex(c, m->text, m->pos, &b->vs->meta, field);
    return to->regex != NULL;
}

// Pseudo-headers may be named as Envoy names them.
static enum condition_source source_of(struct slice name)
{
    if (slice_eq(name, SLICE(":authority")) || slice_eq(name, SLICE("host")))
        return CONDITION_AUTHORITY;
    if (slice_eq(name, SLICE(":method")))
        return CONDITION_METHOD;
    return slice_eq(name, SLICE(":scheme")) ? CONDITION_SCHEME : CONDITION_HEADER;
}

static bool add_header(struct builder *b, struct condition *to, const struct named_match *m,
                       bool invert)
{
    struct compile *c = b->c;
    if (slice_has_prefix(m->name, CLAIMS)) {
        finding_add(c->findings, SEVERITY_WARNING, NULL, m->pos, &b->vs->meta,
                    "matching JWT claims (%.*s) is not served: this match never holds",
                    SLICE_FMT(m->name));
        return false;
    }
    *to = (struct condition){.invert = invert, .name = compile_lower(c->out, m->name)};
    to->source = source_of(to->name);
    return set_test(b, to, &m->match, invert ? "withoutHeaders" : "headers");
}

static bool add_single(struct builder *b, struct condition **to, const struct string_match *m,
                       enum condition_source source, const char *field)
{
    if (!m)
        return true;
    **to = (struct condition){.source = source};
    return set_test(b, (*to)++, m, field);
}

// False: the block can never match (what is wrong was reported).
static bool fill_conditions(struct builder *b, struct rule *rule, const struct http_match *m)
{
    uint32_t most = m->headers.count + m->without_headers.count + m->query_params.count + 3;
    struct condition *list = arena_array(b->c->out, struct condition, most), *to = list;
    bool ok = add_single(b, &to, m->method, CONDITION_METHOD, "method") &&
              add_single(b, &to, m->authority, CONDITION_AUTHORITY, "authority") &&
              add_single(b, &to, m->scheme, CONDITION_SCHEME, "scheme");
    for (uint32_t i = 0; ok && i < m->headers.count; i++)
        ok = add_header(b, to++, &m->headers.items[i], false);
    for (uint32_t i = 0; ok && i < m->without_headers.count; i++)
        ok = add_header(b, to++, &m->without_headers.items[i], true);
    for (uint32_t i = 0; ok && i < m->query_params.count; i++) {
        *to = (struct condition){.source = CONDITION_QUERY,
                                 .name = arena_dup(b->c->out, m->query_params.items[i].name)};
        ok = set_test(b, to++, &m->query_params.items[i].match, "queryParams");
    }
    rule->conditions = list;
    rule->condition_count = (uint16_t)(to - list);
    return ok && to - list <= UINT16_MAX;
}

static bool has_conditions(const struct http_match *m)
{
    return m->headers.count || m->without_headers.count || m->query_params.count || m->method ||
           m->authority || m->scheme;
}

// ---- the path

static void set_path(struct compile *c, struct rule *rule, struct slice text)
{
    rule->path_len = (uint32_t)text.len;
    if (text.len <= RULE_INLINE_PATH) {
        if (text.len)
            memcpy(rule->inline_path, text.ptr, text.len);
        rule->path = rule->inline_path;
    } else {
        rule->path = arena_dup(c->out, text).ptr;
    }
}

static bool fill_path(struct builder *b, struct rule *rule, const struct http_match *m)
{
    const struct string_match *uri = m ? m->uri : NULL;
    if (!uri || uri->kind == MATCH_ANY) {
        rule->kind = PATH_PREFIX;
        set_path(b->c, rule, SLICE("/"));
        return true;
    }
    rule->kind = uri->kind == MATCH_EXACT    ? PATH_EXACT
                 : uri->kind == MATCH_PREFIX ? PATH_PREFIX
                                             : PATH_REGEX;
    rule->fold = m->ignore_uri_case && uri->kind != MATCH_REGEX;
    struct slice text = uri->text;
    if (rule->fold)
        text = compile_lower(&b->c->scratch, text);
    set_path(b->c, rule, text);
    if (uri->kind != MATCH_REGEX)
        return true;
    rule->regex = compile_regex(b->c, uri->text, uri->pos, &b->vs->meta, "uri");
    return rule->regex != NULL;
}

// ---- rules

static struct slice route_name(struct compile *c, const struct http_route *in,
                               const struct http_match *m)
{
    if (!m || m->name.len == 0)
        return in->name.len ? arena_dup(c->out, in->name) : (struct slice){NULL, 0};
    return compile_text(c->out, "%.*s.%.*s", SLICE_FMT(in->name), SLICE_FMT(m->name));
}

static void push(struct builder *b, const struct rule *rule)
{
    struct route_block *block = b->block;
    if (block->count == b->cap) {
        uint32_t cap = b->cap ? b->cap * 2 : 4;
        const struct rule **rules = arena_array(&b->c->scratch, const struct rule *, cap);
        if (block->count)
            memcpy(rules, block->rules, sizeof(*rules) * block->count);
        block->rules = rules;
        b->cap = cap;
    }
    block->rules[block->count++] = rule;
}

// The rule for one match block (NULL: without one), NULL when it does not apply here.
static const struct rule *build_rule(struct builder *b, const struct http_route *in,
                                     const struct http_match *m)
{
    struct compile *c = b->c;
    struct rule *rule = arena_new(&c->scratch, struct rule);
    rule->next = RULE_NONE;
    if ((m && !concerns(b, m)) || !fill_path(b, rule, m))
        return NULL;
    if (m && has_conditions(m) && !fill_conditions(b, rule, m))
        return NULL;
    struct route *route = arena_new(c->out, struct route);
    route->name = route_name(c, in, m);
    route->virtual_service = b->vs_name;
    route->pos = compile_pos(c, in->pos);
    route->stat_id = c->rc->route_count++;
    route->match_text = rule_text(rule, c->out);
    route->stat_label = rule->condition_count ? rule_label(rule, c->out) : route->match_text;
    compile_action(c, route, b->vs, in, rule, b->ref->server->port.number);
    rule->route = route;
    return rule;
}

// Nothing is reached behind a catch-all, so the rest of the VirtualService is left out. True: stop.
static bool add_http(struct builder *b, const struct http_route *in)
{
    if (in->match_count == 0) {
        const struct rule *rule = build_rule(b, in, NULL);
        if (rule)
            push(b, rule);
        return true;
    }
    for (uint32_t i = 0; i < in->match_count; i++) {
        const struct rule *rule = build_rule(b, in, &in->matches[i]);
        if (!rule)
            continue;
        push(b, rule);
        if (rule_is_catch_all(rule))
            return true;
    }
    return false;
}

struct block_key {
    const struct virtual_service *vs;
    const struct gateway *gateway; // NULL: the same for all
    uint64_t port;
};

struct route_block *compile_block(struct compile *c, const struct virtual_service *vs,
                                  const struct server_ref *ref)
{
    struct block_key *key = arena_new(&c->scratch, struct block_key);
    *key = (struct block_key){vs, depends_on_gateway(vs) ? ref->gateway : NULL,
                              ref->server->port.number};
    struct slice bytes = {(const char *)key, sizeof(*key)};
    struct route_block *block = map_get(&c->blocks, bytes);
    if (block)
        return block;
    block = arena_new(&c->scratch, struct route_block);
    map_put(&c->blocks, bytes, block);
    struct builder b = {.c = c, .vs = vs, .ref = ref, .block = block};
    b.vs_name = compile_text(c->out, "%.*s.%.*s", SLICE_FMT(vs->meta.name), SLICE_FMT(vs->meta.ns));
    for (uint32_t i = 0; i < vs->http_count; i++)
        if (!vs->http[i].delegate && add_http(&b, &vs->http[i]))
            break;
    return block;
}
