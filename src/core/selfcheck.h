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

enum ktls_mode { KTLS_AUTO, KTLS_ON, KTLS_OFF }; // --ktls

struct selfcheck_wants {
    uint64_t connections; // client connections that all workers together should carry
    uint32_t workers;     // 0 = not known
    enum ktls_mode ktls;  // KTLS_OFF: not asked about
    bool no_udp;          // neither is UDP
};

// Raises the soft limit on descriptors to the hard one on the way.
void selfcheck_run(struct selfcheck *c, const struct selfcheck_wants *wants);
// Descriptors that the limit on open files leaves for connections, of clients and to upstreams:
// all but some for listeners, rings, files and logs.
uint64_t selfcheck_connection_files(uint64_t open_files, uint32_t workers);
// Client connections that may have three quarters of those. Half of them can have a request in
// flight, and so an upstream connection, at the same time.
uint64_t selfcheck_connections(uint64_t open_files, uint32_t workers);
// A sentence for the error number with which a worker or its ring could not be made.
void selfcheck_explain_start(int error, char *out, size_t cap);
bool selfcheck_passed(const struct selfcheck *c);           // no item is SELFCHECK_MISSING
void selfcheck_print(const struct selfcheck *c, FILE *out); // "status name: text" lines
void selfcheck_log(const struct selfcheck *c);              // event=selfcheck, notes as warnings
