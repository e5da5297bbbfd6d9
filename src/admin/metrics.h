// Prometheus text exposition (version 0.0.4) of everything that is counted, made in pieces so
// that a large table never holds up the control thread. Control thread.
#pragma once
#include "admin/text.h"
#include "proxy/runtime.h"

struct access_log;

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

struct metrics { // where the listing has got to; zero but for the first two at the start
    const struct runtime *runtime;
    const struct access_log *access_log; // may be NULL
    uint32_t family;                     // 0: what is not per name
    uint32_t index;                      // of the statistics' registry
    uint64_t epoch;                      // of the registry when the listing began
    bool described;
};

// Appends the next piece; false after the last one. `metrics` is a struct metrics.
bool metrics_more(void *metrics, struct text *out);
// A label value: backslash, double quote and line feed escaped.
void metrics_label_value(struct text *out, struct slice value);
