// An access log line as a compiled list of pieces: Envoy's %OPERATORS%, written as text or as a
// JSON object. Compiled once, immutable, any number of threads may write with it.
#pragma once
#include "admin/text.h"
#include "core/err.h"
#include "proto/exchange.h"

struct log_format;
struct proxy_flow_end;

// What Istio's gateways log by default.
extern const char access_log_istio_text[];

// A format string. ERR_INVALID with a sentence that names the operator in question.
enum err log_format_compile(const char *format, struct log_format **out, char *error,
                            size_t cap) must_use;
struct log_format *log_format_istio_json(void); // Istio's keys, in Istio's order
void log_format_destroy(struct log_format *f);

#define LOG_VALUE_MAX 4096u // bytes of one value; longer ones are cut

// One line with its line feed. start_unix_ns: wall clock at x->start_ns.
void log_format_write(const struct log_format *f, const struct exchange *x, uint64_t start_unix_ns,
                      struct text *out);
// The same of a relayed connection: what only HTTP has is left out ("-").
void log_format_write_flow(const struct log_format *f, const struct proxy_flow_end *flow,
                           uint64_t start_unix_ns, struct text *out);
