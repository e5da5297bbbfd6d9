// Start-up self-check: what the machine offers and what it means, one line each, with the way to
// mend it. A must-have that is missing is a sentence and a refusal to start, not an errno.
// Start-up only, before any worker exists.
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum selfcheck_status {
    SELFCHECK_OK,
    SELFCHECK_NOTE,    // absent, and something is slower or smaller for it
    SELFCHECK_MISSING, // cannot run without
};

struct selfcheck_item {
    const char *name; // stable snake_case word
    enum selfcheck_status status;
    char text[400]; // one sentence or two, no line feed
};

#define SELFCHECK_MAX 12

struct selfcheck {
    struct selfcheck_item items[SELFCHECK_MAX];
    uint32_t count;
};

// Raises the soft limit on descriptors to the hard one on the way. `connections` is how many
// client connections all workers together are configured for.
void selfcheck_run(struct selfcheck *c, uint64_t connections);
bool selfcheck_passed(const struct selfcheck *c);           // no item is SELFCHECK_MISSING
void selfcheck_print(const struct selfcheck *c, FILE *out); // "status name: text" lines
void selfcheck_log(const struct selfcheck *c);              // event=selfcheck, notes as warnings
