// First match over a rule set. Each part of the index proposes its earliest rule; the earliest of
// all wins, which is what trying them in order gives. The cheap parts go first, so that a regular
// expression runs only when its rule comes before everything found so far.
#include "route/rule_set.h"
#include "core/check.h"

#define CACHE_LINE ((uintptr_t)64)
#define INDEX_FROM 5 // fewer rules are faster tried in turn

// The set and its rules in one piece: a set of few rules is a line and the ones behind it.
static struct rule_set *allocate(struct arena *arena, uint32_t count)
{
    size_t head = (sizeof(struct rule_set) + CACHE_LINE - 1) & ~(CACHE_LINE - 1);
    uintptr_t at = (uintptr_t)arena_alloc(arena, head + sizeof(struct rule) * count + CACHE_LINE);
    at = (at + CACHE_LINE - 1) & ~(CACHE_LINE - 1);
    struct rule_set *s = (struct rule_set *)at;
    s->rules = (struct rule *)(at + head);
    s->count = count;
    return s;
}

static void copy_rule(struct rule *to, const struct rule *from)
{
    *to = *from;
    to->next = RULE_NONE;
    if (from->path == from->inline_path)
        to->path = to->inline_path;
}

static void index_regexes(struct rule_set *s, struct arena *arena)
{
    for (uint32_t i = 0; i < s->count; i++)
        s->regex_count += s->rules[i].kind == PATH_REGEX;
    s->regexes = arena_array(arena, uint32_t, s->regex_count);
    for (uint32_t i = 0, n = 0; i < s->count; i++)
        if (s->rules[i].kind == PATH_REGEX)
            s->regexes[n++] = i;
}

struct rule_set *rule_set_create(struct arena *arena, const struct rule *const *rules,
                                 uint32_t count)
{
    struct rule_set *s = allocate(arena, count);
    for (uint32_t i = 0; i < count; i++)
        copy_rule(&s->rules[i], rules[i]);
    if (count < INDEX_FROM)
        return s;
    exact_table_build(&s->exact, arena, s->rules, count, false);
    exact_table_build(&s->exact_folded, arena, s->rules, count, true);
    prefix_tree_build(&s->prefix, arena, s->rules, count, false);
    prefix_tree_build(&s->prefix_folded, arena, s->rules, count, true);
    index_regexes(s, arena);
    return s;
}

const struct rule *rule_set_find_linear(const struct rule_set *s, const struct route_request *rq)
{
    for (uint32_t i = 0; i < s->count; i++)
        if (rule_path_matches(&s->rules[i], rq) && rule_conditions_match(&s->rules[i], rq))
            return &s->rules[i];
    return NULL;
}

static uint32_t find_exact(const struct rule_set *s, const struct exact_table *t,
                           const struct route_request *rq, uint32_t best)
{
    if (!t->used)
        return best;
    uint32_t first = exact_table_find(t, s->rules, rq->path, exact_table_hash(t, rq->path));
    return rule_chain_find(s->rules, first, rq, best);
}

static uint32_t find_regex(const struct rule_set *s, const struct route_request *rq, uint32_t best)
{
    for (uint32_t i = 0; i < s->regex_count && s->regexes[i] < best; i++) {
        const struct rule *r = &s->rules[s->regexes[i]];
        if (rule_conditions_match(r, rq) && rule_path_matches(r, rq))
            return s->regexes[i];
    }
    return best;
}

const struct rule *rule_set_find(const struct rule_set *s, const struct route_request *rq)
{
    if (s->count < INDEX_FROM)
        return rule_set_find_linear(s, rq);
    uint32_t best = find_exact(s, &s->exact, rq, s->count);
    best = find_exact(s, &s->exact_folded, rq, best);
    best = prefix_tree_find(&s->prefix, s->rules, rq, best);
    best = prefix_tree_find(&s->prefix_folded, s->rules, rq, best);
    best = find_regex(s, rq, best);
    dcheck(best <= s->count);
    return best < s->count ? &s->rules[best] : NULL;
}
