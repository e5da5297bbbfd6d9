// Does a request satisfy one rule? Envoy's meaning of each condition. Pure; any worker. The only
// state is a thread's scratch for a header that came several times.
#include "route/rule.h"

// A head is at most 60 KiB, so the values of one name with their commas fit.
#define JOINED_MAX ((size_t)64 * 1024)

bool rule_is_catch_all(const struct rule *r)
{
    if (r->condition_count)
        return false;
    if (r->kind == PATH_PREFIX)
        return slice_eq(rule_path(r), SLICE("/"));
    return r->kind == PATH_REGEX && slice_eq(rule_path(r), SLICE(".*"));
}

bool rule_path_matches(const struct rule *r, const struct route_request *rq)
{
    struct slice want = rule_path(r);
    switch (r->kind) {
    case PATH_EXACT:
        return r->fold ? slice_eq_nocase(rq->path, want) : slice_eq(rq->path, want);
    case PATH_PREFIX:
        return r->fold ? slice_has_prefix_nocase(rq->path, want) : slice_has_prefix(rq->path, want);
    default:
        return regex_full_match(r->regex, rq->worker, rq->path);
    }
}

static struct slice join(const struct route_request *rq, struct slice name, uint32_t first)
{
    static _Thread_local char joined[JOINED_MAX];
    size_t len = 0;
    for (uint32_t i = first; i < rq->header_count; i++) {
        const struct route_header *h = &rq->headers[i];
        if (!slice_eq(h->name, name) || h->value.len + 1 > JOINED_MAX - len)
            continue;
        if (i != first) // also after an empty value
            joined[len++] = ',';
        if (h->value.len)
            memcpy(joined + len, h->value.ptr, h->value.len);
        len += h->value.len;
    }
    return (struct slice){joined, len};
}

// Several fields of one name are one list, as Envoy's getAllOfHeaderAsString.
static bool header_value(const struct route_request *rq, struct slice name, struct slice *out)
{
    uint32_t first = rq->header_count;
    for (uint32_t i = 0; i < rq->header_count; i++) {
        if (!slice_eq(rq->headers[i].name, name))
            continue;
        if (first != rq->header_count) {
            *out = join(rq, name, first);
            return true;
        }
        first = i;
        *out = rq->headers[i].value;
    }
    return first != rq->header_count;
}

// The first parameter of that name, raw: Envoy does not decode either.
static bool query_value(struct slice query, struct slice name, struct slice *out)
{
    struct slice rest = query, part;
    while (slice_split(&rest, '&', &part)) {
        ptrdiff_t eq = slice_find(part, '=');
        struct slice key = {part.ptr, eq < 0 ? part.len : (size_t)eq};
        if (!slice_eq(key, name))
            continue;
        *out = eq < 0 ? (struct slice){NULL, 0} : slice_from(part, (size_t)eq + 1);
        return true;
    }
    return false;
}

bool rule_field_value(const struct condition *c, const struct route_request *rq, struct slice *out)
{
    switch (c->source) {
    case CONDITION_HEADER:
        return header_value(rq, c->name, out);
    case CONDITION_QUERY:
        return query_value(rq->query, c->name, out);
    case CONDITION_METHOD:
        *out = rq->method;
        break;
    case CONDITION_AUTHORITY:
        *out = rq->authority;
        break;
    case CONDITION_SCHEME:
        *out = rq->scheme;
        break;
    }
    return out->ptr != NULL;
}

static bool condition_holds(const struct condition *c, const struct route_request *rq)
{
    struct slice value = {NULL, 0};
    bool present = rule_field_value(c, rq, &value);
    if (c->test == TEST_PRESENT)
        return present != c->invert;
    if (!present && !c->invert)
        return false;
    bool holds = false;
    if (c->test == TEST_EXACT)
        holds = slice_eq(value, c->text);
    else if (c->test == TEST_PREFIX)
        holds = slice_has_prefix(value, c->text);
    else
        holds = regex_full_match(c->regex, rq->worker, value);
    return holds != c->invert;
}

bool rule_conditions_match(const struct rule *r, const struct route_request *rq)
{
    for (uint32_t i = 0; i < r->condition_count; i++)
        if (!condition_holds(&r->conditions[i], rq))
            return false;
    return true;
}
