// State changes only, rate-limited, `key=value`, to standard error; one line per event with an
// RFC 3339 time and a level. Safe from any thread. Not for the data path;
// log_allow bounds what one place may print.
#pragma once
#include "core/err.h"
#include "core/slice.h"
#include <stdbool.h>

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR, LOG_LEVEL_OFF };

void log_set_level(enum log_level level);
enum err log_parse_level(struct slice text, enum log_level *out) must_use;
bool log_enabled(enum log_level level);
// event is a stable snake_case word; fmt gives the key=value pairs.
void log_event(enum log_level level, const char *event, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
#define log_debug(...) log_event(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...) log_event(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warn(...) log_event(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_error(...) log_event(LOG_LEVEL_ERROR, __VA_ARGS__)

// At most `burst` lines a second from this place; the rest are counted into the next line.
struct log_limit {
    uint64_t window_ns;
    uint32_t count, suppressed;
};
bool log_allow(struct log_limit *l, uint64_t now_ns, uint32_t burst);
