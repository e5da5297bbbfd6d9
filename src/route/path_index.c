// The exact hash table and the radix tree of prefixes. Built on the control thread, read by all
// workers. Invariants: a chain ascends; children of a node are adjacent and sorted; a node other
// than the root has a label of at least one byte; min_rule of a node is the least over its chain
// and its children.
#include "route/path_index.h"
#include "core/check.h"
#include "route/regex_prefix.h"
#include <stdlib.h>

// ---- exact paths

uint64_t exact_table_hash(const struct exact_table *t, struct slice path)
{
    return t->fold ? slice_hash_nocase(path) : slice_hash(path);
}

static bool path_equal(const struct exact_table *t, const struct rule *r, struct slice path)
{
    return t->fold ? slice_eq_nocase(rule_path(r), path) : slice_eq(rule_path(r), path);
}

// The slot of `path`, or the free one where it belongs.
static struct exact_slot *exact_slot(const struct exact_table *t, const struct rule *rules,
                                     struct slice path, uint64_t hash)
{
    for (uint32_t at = (uint32_t)hash & t->mask;; at = (at + 1) & t->mask) {
        struct exact_slot *s = &t->slots[at];
        if (s->rule == RULE_NONE || (s->hash == hash && path_equal(t, &rules[s->rule], path)))
            return s;
    }
}

uint32_t exact_table_find(const struct exact_table *t, const struct rule *rules, struct slice path,
                          uint64_t hash)
{
    return t->used ? exact_slot(t, rules, path, hash)->rule : RULE_NONE;
}

static uint32_t count_kind(const struct rule *rules, uint32_t count, enum path_match kind,
                           bool fold)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < count; i++)
        n += rules[i].kind == kind && rules[i].fold == fold;
    return n;
}

void exact_table_build(struct exact_table *t, struct arena *arena, struct rule *rules,
                       uint32_t count, bool fold)
{
    uint32_t n = count_kind(rules, count, PATH_EXACT, fold);
    *t = (struct exact_table){.fold = fold};
    if (n == 0)
        return;
    uint32_t cap = 4;
    while (cap < n * 2ull)
        cap *= 2;
    t->slots = arena_array(arena, struct exact_slot, cap);
    t->mask = cap - 1;
    t->used = true;
    for (uint32_t i = 0; i < cap; i++)
        t->slots[i].rule = RULE_NONE;
    for (uint32_t i = count; i-- > 0;) { // backwards, so that each chain begins with the earliest
        struct rule *r = &rules[i];
        if (r->kind != PATH_EXACT || r->fold != fold)
            continue;
        uint64_t hash = exact_table_hash(t, rule_path(r));
        struct exact_slot *s = exact_slot(t, rules, rule_path(r), hash);
        r->next = s->rule;
        *s = (struct exact_slot){hash, i};
    }
}

// ---- prefixes

struct key { // a prefix while the tree is built; its bytes stay where they are
    struct slice path;
    uint32_t rule;
};

struct pending {               // a node whose children are still to be laid out
    uint32_t node, begin, end; // its keys
    uint32_t depth;            // bytes consumed before its label
};

static int key_compare(const void *a, const void *b)
{
    const struct key *x = a, *y = b;
    int c = slice_cmp(x->path, y->path);
    return c ? c : (x->rule > y->rule) - (x->rule < y->rule);
}

// Fills the node's label and chain; returns where the keys of its children begin.
static uint32_t node_fill(struct prefix_tree *t, struct rule *rules, const struct key *keys,
                          const struct pending *p, uint32_t *label_end)
{
    struct prefix_node *node = &t->nodes[p->node];
    struct slice first = keys[p->begin].path, last = keys[p->end - 1].path;
    uint32_t end = p->depth, at = p->begin;
    while (end < first.len && end < last.len && first.ptr[end] == last.ptr[end])
        end++;
    node->label = first.ptr + p->depth;
    node->label_len = end - p->depth;
    node->first_rule = RULE_NONE;
    uint32_t *link = &node->first_rule;
    for (; at < p->end && keys[at].path.len == end; at++) { // sorted: by path, then by rule
        *link = keys[at].rule;
        link = &rules[keys[at].rule].next;
    }
    *link = RULE_NONE;
    node->min_rule = RULE_NONE;
    for (uint32_t i = p->begin; i < p->end; i++)
        if (keys[i].rule < node->min_rule)
            node->min_rule = keys[i].rule;
    *label_end = end;
    return at;
}

// One child for each distinct next byte; they are appended to the queue, hence adjacent.
static void node_split(struct prefix_tree *t, const struct key *keys, const struct pending *p,
                       uint32_t begin, uint32_t depth, struct pending *queue, uint32_t *queued)
{
    struct prefix_node *node = &t->nodes[p->node];
    node->children = *queued;
    for (uint32_t at = begin; at < p->end;) {
        char byte = keys[at].path.ptr[depth];
        uint32_t end = at + 1;
        while (end < p->end && keys[end].path.ptr[depth] == byte)
            end++;
        t->first_bytes[*queued] = (unsigned char)byte;
        // NOLINTNEXTLINE(clang-analyzer-security.ArrayBound): see prefix_tree_build for the bound
        queue[*queued] = (struct pending){*queued, at, end, depth};
        (*queued)++;
        node->child_count++;
        at = end;
    }
}

static struct slice prefix_of(const struct rule *r, struct arena *arena)
{
    char text[REGEX_PREFIX_MAX];
    if (r->kind != PATH_REGEX)
        return rule_path(r);
    return arena_dup(arena, (struct slice){text, regex_literal_prefix(rule_path(r), text)});
}

static struct key *sorted_keys(struct arena *arena, const struct rule *rules, uint32_t count,
                               uint32_t n, enum path_match kind, bool fold)
{
    struct key *keys = malloc(sizeof(*keys) * n);
    check(keys); // control thread, while a snapshot is built
    uint32_t k = 0;
    for (uint32_t i = 0; i < count; i++)
        if (rules[i].kind == kind && rules[i].fold == fold)
            keys[k++] = (struct key){prefix_of(&rules[i], arena), i};
    qsort(keys, n, sizeof(*keys), key_compare);
    return keys;
}

void prefix_tree_build(struct prefix_tree *t, struct arena *arena, struct rule *rules,
                       uint32_t count, enum path_match kind, bool fold)
{
    uint32_t n = count_kind(rules, count, kind, fold);
    *t = (struct prefix_tree){.fold = fold};
    if (n == 0)
        return;
    struct key *keys = sorted_keys(arena, rules, count, n, kind, fold);
    // n leaves and at most n - 1 branches, and the root.
    struct pending *queue = malloc(sizeof(*queue) * 2 * n);
    check(queue);
    t->nodes = arena_array(arena, struct prefix_node, 2u * n);
    t->first_bytes = arena_alloc(arena, 2u * n);
    uint32_t queued = 1;
    queue[0] = (struct pending){0, 0, n, 0};
    for (uint32_t i = 0; i < queued; i++) {
        uint32_t depth, rest = node_fill(t, rules, keys, &queue[i], &depth);
        node_split(t, keys, &queue[i], rest, depth, queue, &queued);
    }
    t->count = queued;
    free(queue);
    free(keys);
}

static inline unsigned char fold_byte(unsigned char c)
{
    return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

static bool label_matches(const struct prefix_tree *t, const struct prefix_node *node,
                          struct slice rest)
{
    struct slice label = {node->label, node->label_len};
    return t->fold ? slice_has_prefix_nocase(rest, label) : slice_has_prefix(rest, label);
}

static const struct prefix_node *child_of(const struct prefix_tree *t,
                                          const struct prefix_node *node, unsigned char byte)
{
    if (t->fold)
        byte = fold_byte(byte);
    const unsigned char *first = t->first_bytes + node->children;
    const unsigned char *hit = node->child_count ? memchr(first, byte, node->child_count) : NULL;
    return hit ? &t->nodes[node->children + (size_t)(hit - first)] : NULL;
}

uint32_t prefix_tree_find(const struct prefix_tree *t, const struct rule *rules,
                          const struct route_request *rq, uint32_t best)
{
    if (t->count == 0)
        return best;
    struct slice rest = rq->path;
    for (const struct prefix_node *node = &t->nodes[0]; node;) {
        if (node->min_rule >= best || !label_matches(t, node, rest))
            return best;
        rest = slice_from(rest, node->label_len);
        best = rule_chain_find(t->chains, rules, node->first_rule, rq, best);
        node = rest.len ? child_of(t, node, (unsigned char)rest.ptr[0]) : NULL;
    }
    return best;
}
