// Rules that share one path, in their order. Most of a long chain tends to demand different values
// of one field (a header, a query parameter), so the rules behind its first one are found by the
// value that the request has; those that demand nothing exact of that field are tried in turn, as
// short chains are. Immutable once built, in the snapshot's arena.
#pragma once
#include "core/arena.h"
#include "core/map.h"
#include "route/rule.h"

// rule.next of a chain's first rule may be the number of a rule_chain with this bit instead.
#define RULE_CHAIN_BIT 0x80000000u

struct rule_chain {
    struct condition field; // whose source and name say which field
    struct map by_value;    // -> 1 + the first of the rules that demand exactly this value
    uint32_t others;        // the first of the others, RULE_NONE
};

struct rule_chains {
    struct rule_chain *items;
    uint32_t count, cap;
};

// Room for `cap` of them.
void rule_chains_init(struct rule_chains *c, struct arena *arena, uint32_t cap);
// Whether the chain is worth a rule_chain.
bool rule_chain_is_long(const struct rule *rules, uint32_t first);
// Splits up a long chain by the field with the most values, when there is one.
void rule_chain_split(struct rule_chains *c, struct arena *arena, struct rule *rules,
                      uint32_t first);

// What the index of paths has not decided yet.
static inline bool rule_rest_matches(const struct rule *r, const struct route_request *rq)
{
    return (r->condition_count == 0 || rule_conditions_match(r, rq)) &&
           (r->kind != PATH_REGEX || regex_full_match(r->regex, rq->worker, rq->path));
}

uint32_t rule_chain_find_by_value(const struct rule_chain *c, const struct rule *rules,
                                  const struct route_request *rq, uint32_t best);

// The earliest rule of a chain below `best` that matches, else `best`.
static inline uint32_t rule_chain_find(const struct rule_chains *c, const struct rule *rules,
                                       uint32_t first, const struct route_request *rq,
                                       uint32_t best)
{
    uint32_t i = first;
    for (; i < best; i = rules[i].next)
        if (rule_rest_matches(&rules[i], rq))
            return i;
    if (i < RULE_CHAIN_BIT || i == RULE_NONE)
        return best;
    return rule_chain_find_by_value(&c->items[i & ~RULE_CHAIN_BIT], rules, rq, best);
}
