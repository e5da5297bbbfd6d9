// A growing run of output text with a limit: listings, metrics, log lines. Writing never fails at
// the call; what does not fit sets `overflow` and is left out.
#pragma once
#include "core/slice.h"
#include <stdarg.h>

struct text {
    char *data;
    size_t len, cap, limit;
    bool fixed; // `data` is the caller's and never grows
    bool overflow;
};

void text_init(struct text *t, size_t limit_bytes);
void text_init_fixed(struct text *t, char *buf, size_t cap);
void text_fini(struct text *t);
void text_clear(struct text *t);                    // empty again, memory kept
void text_put_slow(struct text *t, struct slice s); // grows, or notes that it must not
static inline void text_put(struct text *t, struct slice s)
{
    if (s.len > t->cap - t->len || s.len > t->limit - t->len) {
        text_put_slow(t, s);
    } else if (s.len) {
        memcpy(t->data + t->len, s.ptr, s.len);
        t->len += s.len;
    }
}
static inline void text_char(struct text *t, char c)
{
    text_put(t, (struct slice){&c, 1});
}
void text_puts(struct text *t, const char *s);
void text_u64(struct text *t, uint64_t v);
void text_printf(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// With quotes; RFC 8259 section 7. A byte that is no UTF-8 becomes U+FFFD.
void text_json(struct text *t, struct slice s);
// For a log line: quotes, backslashes, control characters and bytes above 126 become \" \\ \xHH.
void text_escaped(struct text *t, struct slice s);
