// Regular expressions with RE2's syntax, meaning and linear time (Istio's and Envoy's engine is
// RE2). A compiled expression is immutable and shared; each worker matches through its own
// instance (created on its first use), so that matching takes no contended lock.
#pragma once
#include "core/err.h"
#include "core/slice.h"
#include <stdbool.h>
#include <stdint.h>

struct regex;

#define REGEX_MAX_WORKERS 257 // workers plus the control thread (the last slot)
#define REGEX_CONTROL 256u

// NULL on a syntax error, with RE2's message in error (truncated to cap).
struct regex *regex_create(struct slice pattern, char *error, size_t cap);
void regex_destroy(struct regex *re);
// The hook of struct load_options.
bool regex_is_valid(struct slice pattern, char *why, size_t why_cap);
// A byte that is no UTF-8 is one character, U+FFFD: `.` and `[^a]` match it, as in Go's RE2. To
// Envoy's nothing matches it, so that a client passes by a rule that denies `.*admin.*` with one.
bool regex_full_match(struct regex *re, uint32_t worker, struct slice text);
// RE2's GlobalReplace with \1 … \9; the result is written to out, ERR_LIMIT when it does not fit.
enum err regex_replace_all(struct regex *re, uint32_t worker, struct slice text,
                           struct slice rewrite, char *out, size_t cap, size_t *len) must_use;
bool regex_rewrite_valid(struct regex *re, struct slice rewrite, char *error, size_t cap);
