// Event log on standard error: one write(2) a line, so that lines of several threads do not mix.
// Owns the level, set at start or by the admin side; any thread.
#include "core/log.h"
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048

static _Atomic int current_level = LOG_LEVEL_INFO;
static const char *const level_names[] = {"debug", "info", "warn", "error", "off"};

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&current_level, (int)level, memory_order_relaxed);
}

enum err log_parse_level(struct slice text, enum log_level *out)
{
    if (slice_eq_nocase(text, SLICE("warning"))) { // Envoy's spelling
        *out = LOG_LEVEL_WARN;
        return OK;
    }
    for (int i = LOG_LEVEL_DEBUG; i <= LOG_LEVEL_OFF; i++) {
        if (slice_eq_nocase(text, slice_of(level_names[i]))) {
            *out = (enum log_level)i;
            return OK;
        }
    }
    return ERR_SYNTAX;
}

bool log_enabled(enum log_level level)
{
    return (int)level >= atomic_load_explicit(&current_level, memory_order_relaxed) &&
           level < LOG_LEVEL_OFF;
}

static size_t put_prefix(char *line, size_t cap, enum log_level level, const char *event)
{
    struct timespec ts;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    size_t n = strftime(line, cap, "%Y-%m-%dT%H:%M:%S", &tm);
    int m = snprintf(line + n, cap - n, ".%03dZ level=%s event=%s", (int)(ts.tv_nsec / 1000000),
                     level_names[level], event);
    return n + (m > 0 ? (size_t)m : 0);
}

// Values may carry bytes from outside: a line feed in one must not forge a second line.
static void blank_controls(char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            text[i] = ' ';
}

void log_event(enum log_level level, const char *event, const char *fmt, ...)
{
    if (!log_enabled(level))
        return;
    char line[LINE_MAX_BYTES];
    size_t n = put_prefix(line, sizeof(line) - 2, level, event);
    if (n > sizeof(line) - 2)
        n = sizeof(line) - 2;
    if (fmt && fmt[0] && n < sizeof(line) - 3) {
        line[n++] = ' ';
        va_list ap;
        va_start(ap, fmt);
        int m = vsnprintf(line + n, sizeof(line) - 1 - n, fmt, ap);
        va_end(ap);
        size_t room = sizeof(line) - 2 - n;
        n += m < 0 ? 0 : (size_t)m > room ? room : (size_t)m;
    }
    blank_controls(line, n);
    line[n++] = '\n';
    if (write(STDERR_FILENO, line, n) < 0)
        return; // nowhere left to say it
}

bool log_allow(struct log_limit *l, uint64_t now_ns, uint32_t burst)
{
    if (l->count == 0 || now_ns - l->window_ns >= 1000000000ull) {
        l->window_ns = now_ns;
        l->count = 0;
    }
    if (l->count >= burst) {
        l->suppressed++;
        return false;
    }
    l->count++;
    return true;
}
