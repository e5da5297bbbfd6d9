// Small texts: durations, times, base64, and the nearest word for a suggestion. Pure functions.
#pragma once
#include "core/arena.h"

// Go's time.ParseDuration: "1h30m", "0.5s", "100ms", "0". False when it is none, is negative or
// does not fit.
bool duration_parse(struct slice text, uint64_t *out_ns);
// RFC 3339, "2021-09-07T05:30:44Z"; seconds since 1970.
bool time_parse(struct slice text, uint64_t *out_s);
// Standard base64 with padding, white space ignored. False when it is none.
bool base64_decode(struct arena *a, struct slice text, struct slice *out);

// The candidate nearest to `word` by edit distance, if near enough to be meant; else NULL.
struct nearest {
    struct slice word;
    const char *best;
    uint32_t distance;
};
void nearest_offer(struct nearest *n, const char *candidate);
