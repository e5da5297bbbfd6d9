// Index over the paths of a rule set: exact paths in a hash table and prefixes in a radix tree,
// each once as written and once folded for ignoreUriCase, and regular expressions in a radix tree
// of the literal prefixes they demand, so that one runs only where it may match. Immutable once
// built, in the snapshot's arena; nothing is allocated while matching.
//
// Rules with the same path are chained by rule.next in ascending order, so whoever walks a chain
// sees them in the order of the documents and may stop at the first one that is too late. Long
// chains are split up afterwards (rule_chain.h).
#pragma once
#include "core/arena.h"
#include "route/rule_chain.h"

struct prefix_node {
    const char *label; // the bytes that lead here from the parent
    uint32_t label_len;
    uint32_t children;    // index of the first child; children are adjacent, ordered by first byte
    uint16_t child_count; // 0 … 256
    uint32_t first_rule;  // chain of the rules whose prefix ends here, RULE_NONE
    uint32_t min_rule;    // the earliest rule in this subtree: prunes a descent that cannot win
};

struct prefix_tree {
    struct prefix_node *nodes;  // breadth first, the root is 0
    unsigned char *first_bytes; // of each node's label, so that a child is found without its node
    uint32_t count;             // 0 = no prefixes
    bool fold;
    const struct rule_chains *chains;
};

struct exact_table {
    struct exact_slot {
        uint64_t hash;
        uint32_t rule; // head of the chain, RULE_NONE = free
    } *slots;
    uint32_t mask;
    bool used, fold;
    const struct rule_chains *chains;
};

// Builds over those rules whose kind and fold fit; sets their `next`.
void exact_table_build(struct exact_table *t, struct arena *arena, struct rule *rules,
                       uint32_t count, bool fold);
void prefix_tree_build(struct prefix_tree *t, struct arena *arena, struct rule *rules,
                       uint32_t count, enum path_match kind, bool fold);

// The head of the chain for `path`, RULE_NONE. `hash` is exact_table_hash(t, path).
uint64_t exact_table_hash(const struct exact_table *t, struct slice path);
uint32_t exact_table_find(const struct exact_table *t, const struct rule *rules, struct slice path,
                          uint64_t hash);

// The earliest rule below `best` that matches; `best` when there is none.
uint32_t prefix_tree_find(const struct prefix_tree *t, const struct rule *rules,
                          const struct route_request *rq, uint32_t best);
