// The rules of a virtual host in their order, and the index that finds the first one that matches
// without trying them all. Shared by the virtual hosts that have the same rules. Immutable.
#pragma once
#include "route/path_index.h"

struct rule_index;

struct rule_set { // a cache line with the rules behind it
    struct rule *rules;
    uint32_t count;
    const struct rule_index *index; // NULL: so few that they are tried in turn
};

// Takes a copy of the rules (their `next` is set here); everything else stays borrowed.
struct rule_set *rule_set_create(struct arena *arena, const struct rule *const *rules,
                                 uint32_t count);
// The first rule that matches, NULL.
const struct rule *rule_set_find(const struct rule_set *s, const struct route_request *rq);
// The same without the index, for tests and for `sluice explain`.
const struct rule *rule_set_find_linear(const struct rule_set *s, const struct route_request *rq);
