// The literal beginning of a regular expression, by which an index finds it without running it.
#pragma once
#include "core/slice.h"

#define REGEX_PREFIX_MAX 64

// Bytes that every text which `pattern` (RE2's syntax, known to be valid) matches in full begins
// with; returns how many were written to out. Where that takes more than reading, 0: the prefix
// may be shorter than it could be, never longer.
size_t regex_literal_prefix(struct slice pattern, char out[REGEX_PREFIX_MAX]);
