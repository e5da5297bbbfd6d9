// First match over a rule set. Each part of the index proposes its earliest rule; the earliest of
// all wins, which is what trying them in order gives. The cheap parts go first, so that a regular
// expression runs only when its rule comes before everything found so far.
#include "route/rule_set.h"
#include "core/check.h"

#define CACHE_LINE ((uintptr_t)64)
_Static_assert(sizeof(struct rule_set) <= CACHE_LINE, "a rule set is one cache line");
#define INDEX_FROM 5 // fewer rules are faster tried in turn

struct rule_index {
    struct exact_table exact, exact_folded;
    struct prefix_tree prefix, prefix_folded, regex;
    struct rule_chains chains; // of all of them
};

// The set and its rules in one piece: a set of few rules is a line and the ones behind it.
static struct rule_set *allocate(struct arena *arena, uint32_t count)
{
    uintptr_t at =
        (uintptr_t)arena_alloc(arena, CACHE_LINE + sizeof(struct rule) * count + CACHE_LINE);
    at = (at + CACHE_LINE - 1) & ~(CACHE_LINE - 1);
    struct rule_set *s = (struct rule_set *)at;
    s->rules = (struct rule *)(at + CACHE_LINE);
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

// Calls visit for the first rule of each chain.
static void each_chain(struct rule_index *x, void (*visit)(void *arg, uint32_t first), void *arg)
{
    struct exact_table *const tables[] = {&x->exact, &x->exact_folded};
    struct prefix_tree *const trees[] = {&x->prefix, &x->prefix_folded, &x->regex};
    for (uint32_t i = 0; i < 2; i++)
        for (uint32_t k = 0; tables[i]->used && k <= tables[i]->mask; k++)
            if (tables[i]->slots[k].rule != RULE_NONE)
                visit(arg, tables[i]->slots[k].rule);
    for (uint32_t i = 0; i < 3; i++)
        for (uint32_t k = 0; k < trees[i]->count; k++)
            if (trees[i]->nodes[k].first_rule != RULE_NONE)
                visit(arg, trees[i]->nodes[k].first_rule);
}

struct splitting {
    struct arena *arena;
    struct rule *rules;
    struct rule_chains *chains;
    uint32_t long_ones;
};

static void count_chain(void *arg, uint32_t first)
{
    struct splitting *s = arg;
    s->long_ones += rule_chain_is_long(s->rules, first);
}

static void split_chain(void *arg, uint32_t first)
{
    struct splitting *s = arg;
    if (rule_chain_is_long(s->rules, first))
        rule_chain_split(s->chains, s->arena, s->rules, first);
}

static void split_chains(struct rule_index *x, struct arena *arena, struct rule *rules)
{
    struct splitting s = {arena, rules, &x->chains, 0};
    each_chain(x, count_chain, &s);
    rule_chains_init(&x->chains, arena, s.long_ones);
    each_chain(x, split_chain, &s);
    x->exact.chains = x->exact_folded.chains = &x->chains;
    x->prefix.chains = x->prefix_folded.chains = x->regex.chains = &x->chains;
}

static const struct rule_index *build_index(struct arena *arena, struct rule *rules, uint32_t count)
{
    struct rule_index *x = arena_new(arena, struct rule_index);
    exact_table_build(&x->exact, arena, rules, count, false);
    exact_table_build(&x->exact_folded, arena, rules, count, true);
    prefix_tree_build(&x->prefix, arena, rules, count, PATH_PREFIX, false);
    prefix_tree_build(&x->prefix_folded, arena, rules, count, PATH_PREFIX, true);
    prefix_tree_build(&x->regex, arena, rules, count, PATH_REGEX, false);
    split_chains(x, arena, rules);
    return x;
}

struct rule_set *rule_set_create(struct arena *arena, const struct rule *const *rules,
                                 uint32_t count)
{
    struct rule_set *s = allocate(arena, count);
    for (uint32_t i = 0; i < count; i++)
        copy_rule(&s->rules[i], rules[i]);
    if (count >= INDEX_FROM)
        s->index = build_index(arena, s->rules, count);
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
    return rule_chain_find(t->chains, s->rules, first, rq, best);
}

const struct rule *rule_set_find(const struct rule_set *s, const struct route_request *rq)
{
    const struct rule_index *x = s->index;
    if (!x)
        return rule_set_find_linear(s, rq);
    uint32_t best = find_exact(s, &x->exact, rq, s->count);
    best = find_exact(s, &x->exact_folded, rq, best);
    best = prefix_tree_find(&x->prefix, s->rules, rq, best);
    best = prefix_tree_find(&x->prefix_folded, s->rules, rq, best);
    best = prefix_tree_find(&x->regex, s->rules, rq, best);
    dcheck(best <= s->count);
    return best < s->count ? &s->rules[best] : NULL;
}
