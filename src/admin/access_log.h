// Access log: one line for each exchange and each relayed connection, text (Envoy's default format
// by operators) or JSON. Workers format into a buffer of their own; a writer thread does the file
// I/O, so that a slow disk costs dropped (and counted) lines, never latency.
#pragma once
#include "core/err.h"
#include "proto/exchange.h"

struct access_log;
struct proxy_flow_end;

enum access_log_format { ACCESS_LOG_TEXT, ACCESS_LOG_JSON, ACCESS_LOG_CUSTOM };

struct access_log_config {
    const char *path; // "-" = standard output; NULL = off
    enum access_log_format format;
    const char *custom; // Envoy's format string with %OPERATORS%
    uint32_t workers;
};

// error: why not (a sentence), when ERR_INVALID or ERR_IO.
enum err access_log_create(const struct access_log_config *cfg, struct access_log **out,
                           char *error, size_t cap) must_use;
void access_log_destroy(struct access_log *l); // writes what is left
void access_log_exchange(void *access_log, uint32_t worker, const struct exchange *x);
void access_log_flow(void *access_log, uint32_t worker, const struct proxy_flow_end *f);
void access_log_reopen(struct access_log *l); // any thread
uint64_t access_log_dropped(const struct access_log *l);
