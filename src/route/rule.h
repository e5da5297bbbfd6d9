// One compiled match block: what a request must look like for its route to be taken. Immutable,
// in the snapshot's arena; read by all workers.
#pragma once
#include "route/route.h"

enum path_match { PATH_PREFIX, PATH_EXACT, PATH_REGEX };

enum condition_source {
    CONDITION_HEADER,
    CONDITION_QUERY,
    CONDITION_METHOD,
    CONDITION_AUTHORITY,
    CONDITION_SCHEME,
};
enum condition_test { TEST_PRESENT, TEST_EXACT, TEST_PREFIX, TEST_REGEX };

struct condition { // everything but the path
    enum condition_source source;
    enum condition_test test;
    bool invert;       // withoutHeaders; a missing field then counts as an empty one
    struct slice name; // of a header (lower case) or query parameter
    struct slice text;
    struct regex *regex;
};

// The hot part of a rule is one cache line: short paths are stored inline, so that an indexed
// match costs a miss for the slot and one for the rule.
#define RULE_INLINE_PATH 20

struct rule {
    const char *path; // folded to lower case when `fold`, the pattern of PATH_REGEX; inline_path
                      // or the arena
    const struct route *route;
    const struct condition *conditions;
    struct regex *regex; // PATH_REGEX
    uint32_t path_len;
    uint32_t
        next; // the next rule of this set with the same path, RULE_NONE at the end; rule_chain.h
    uint16_t condition_count;
    uint8_t kind; // enum path_match
    bool fold;    // ignoreUriCase
    char inline_path[RULE_INLINE_PATH];
};
_Static_assert(sizeof(struct rule) == 64, "a rule is one cache line");

#define RULE_NONE UINT32_MAX

static inline struct slice rule_path(const struct rule *r)
{
    return (struct slice){r->path, r->path_len};
}

// Any path, no condition: `prefix: /` or the regex `.*`, as Istio's IsCatchAllRoute.
bool rule_is_catch_all(const struct rule *r);
bool rule_path_matches(const struct rule *r, const struct route_request *rq);
// The field that a condition is about; false where the request has none.
bool rule_field_value(const struct condition *c, const struct route_request *rq, struct slice *out);
bool rule_conditions_match(const struct rule *r, const struct route_request *rq);
