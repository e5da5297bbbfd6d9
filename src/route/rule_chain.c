// Chains of rules with one path. Built on the control thread, read by all workers. Invariant: the
// rules behind the first one are each in exactly one ascending list, that of their value or that
// of the others, and all of them have a higher number than the first.
#include "route/rule_chain.h"
#include "core/check.h"
#include <stdlib.h>

#define LONG_CHAIN 8u // behind the first; fewer are faster tried in turn

void rule_chains_init(struct rule_chains *c, struct arena *arena, uint32_t cap)
{
    *c = (struct rule_chains){.cap = cap};
    if (cap)
        c->items = arena_array(arena, struct rule_chain, cap);
}

bool rule_chain_is_long(const struct rule *rules, uint32_t first)
{
    uint32_t n = 0;
    for (uint32_t i = rules[first].next; i != RULE_NONE && n < LONG_CHAIN; i = rules[i].next)
        n++;
    return n == LONG_CHAIN;
}

static bool is_exact(const struct condition *c)
{
    return c->test == TEST_EXACT && !c->invert;
}

static struct slice field_key(struct arena *arena, const struct condition *c)
{
    return slice_of(arena_printf(arena, "%u %.*s", (unsigned)c->source, SLICE_FMT(c->name)));
}

struct candidate {
    const struct condition *field;
    uint32_t values; // different ones
};

static struct candidate *candidate_of(struct arena *scratch, struct map *fields,
                                      const struct condition *c)
{
    struct slice key = field_key(scratch, c);
    struct candidate *known = map_get(fields, key);
    if (!known) {
        known = arena_new(scratch, struct candidate);
        known->field = c;
        (void)map_put(fields, key, known);
    }
    return known;
}

// The field of which most different values are demanded; NULL when none has enough of them.
static const struct condition *best_field(struct arena *scratch, const struct rule *rules,
                                          uint32_t from)
{
    struct map fields, seen;
    struct candidate none = {NULL, LONG_CHAIN - 1}, *best = &none;
    map_init(&fields, scratch, 8);
    map_init(&seen, scratch, 64);
    for (uint32_t i = from; i != RULE_NONE; i = rules[i].next) {
        for (uint32_t k = 0; k < rules[i].condition_count; k++) {
            const struct condition *c = &rules[i].conditions[k];
            if (!is_exact(c))
                continue;
            struct candidate *f = candidate_of(scratch, &fields, c);
            struct slice value = slice_of(
                arena_printf(scratch, "%p %.*s", (const void *)f->field, SLICE_FMT(c->text)));
            f->values += map_put(&seen, value, f) == NULL;
            if (f->values > best->values)
                best = f;
        }
    }
    return best->field;
}

// The condition by which the rule is found; NULL for one of the others.
static const struct condition *demand(const struct rule *r, const struct condition *field)
{
    for (uint32_t k = 0; k < r->condition_count; k++) {
        const struct condition *c = &r->conditions[k];
        if (is_exact(c) && c->source == field->source && slice_eq(c->name, field->name))
            return c;
    }
    return NULL;
}

static uint32_t first_of(const struct map *by_value, struct slice value)
{
    uintptr_t n = (uintptr_t)map_get(by_value, value);
    return n ? (uint32_t)n - 1 : RULE_NONE;
}

static uint32_t *numbers_of(const struct rule *rules, uint32_t from, uint32_t *count)
{
    uint32_t n = 0;
    for (uint32_t i = from; i != RULE_NONE; i = rules[i].next)
        n++;
    uint32_t *out = malloc(sizeof(*out) * n);
    check(out); // control thread, while a snapshot is built
    *count = n;
    n = 0;
    for (uint32_t i = from; i != RULE_NONE; i = rules[i].next)
        out[n++] = i;
    return out;
}

void rule_chain_split(struct rule_chains *c, struct arena *arena, struct rule *rules,
                      uint32_t first)
{
    struct arena scratch;
    arena_init(&scratch, 0);
    uint32_t from = rules[first].next, count;
    const struct condition *field = best_field(&scratch, rules, from);
    arena_fini(&scratch);
    if (!field)
        return;
    check(c->count < c->cap);
    struct rule_chain *chain = &c->items[c->count];
    *chain = (struct rule_chain){.field = *field, .others = RULE_NONE};
    uint32_t *numbers = numbers_of(rules, from, &count);
    map_init(&chain->by_value, arena, count);
    while (count-- > 0) { // backwards, so that each list begins with the earliest
        uint32_t i = numbers[count];
        const struct condition *own = demand(&rules[i], field);
        rules[i].next = own ? first_of(&chain->by_value, own->text) : chain->others;
        if (own)
            (void)map_put(&chain->by_value, own->text, (void *)(uintptr_t)(i + 1u));
        else
            chain->others = i;
    }
    free(numbers);
    rules[first].next = RULE_CHAIN_BIT | c->count++;
}

static uint32_t find_in_turn(const struct rule *rules, uint32_t first,
                             const struct route_request *rq, uint32_t best)
{
    for (uint32_t i = first; i < best; i = rules[i].next)
        if (rule_rest_matches(&rules[i], rq))
            return i;
    return best;
}

uint32_t rule_chain_find_by_value(const struct rule_chain *c, const struct rule *rules,
                                  const struct route_request *rq, uint32_t best)
{
    struct slice value = {NULL, 0};
    if (rule_field_value(&c->field, rq, &value))
        best = find_in_turn(rules, first_of(&c->by_value, value), rq, best);
    return find_in_turn(rules, c->others, rq, best);
}
