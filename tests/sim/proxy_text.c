// HTTP/1.1 for the gateway's peers in the simulator: composing, and a reader that takes bytes as
// they come and forgives nothing. Independent of the gateway's own parser.
#include "core/check.h"
#include "proxy_world.h"
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

void bytes_add(struct bytes *b, const void *p, size_t n)
{
    if (b->len + n > b->cap) {
        b->cap = (b->len + n) * 2;
        b->p = realloc(b->p, b->cap);
        check(b->p != NULL);
    }
    if (n > 0)
        memcpy(b->p + b->len, p, n);
    b->len += n;
}

void bytes_printf(struct bytes *b, const char *fmt, ...)
{
    char line[2048];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    check(n >= 0 && (size_t)n < sizeof(line));
    bytes_add(b, line, (size_t)n);
}

void bytes_drop(struct bytes *b, size_t n)
{
    check(n <= b->len);
    b->len -= n;
    if (b->len > 0)
        memmove(b->p, b->p + n, b->len);
}

void bytes_free(struct bytes *b)
{
    free(b->p);
    *b = (struct bytes){0};
}

uint8_t pattern_byte(uint32_t pattern, uint64_t i)
{
    return (uint8_t)('a' + (i * 7 + (i >> 8) * 3 + pattern * 11) % 26);
}

void pattern_add(struct bytes *b, uint32_t pattern, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++) {
        uint8_t c = pattern_byte(pattern, i);
        bytes_add(b, &c, 1);
    }
}

void body_add(struct bytes *b, uint32_t pattern, uint32_t len, bool chunked, bool trailers)
{
    struct bytes whole = {0};
    pattern_add(&whole, pattern, len);
    for (uint32_t at = 0; at < len && chunked;) {
        uint32_t n = 1 + rng_below(sim_rng(), sim_chance(100) ? 20 : 9000);
        if (n > len - at)
            n = len - at;
        bytes_printf(b, sim_chance(500) ? "%x\r\n" : "%X;x=y\r\n", n);
        bytes_add(b, whole.p + at, n);
        bytes_add(b, "\r\n", 2);
        at += n;
    }
    if (chunked)
        bytes_printf(b, "0\r\n%s\r\n", trailers ? "x-trailer: yes\r\n" : "");
    else
        bytes_add(b, whole.p, whole.len);
    bytes_free(&whole);
}

// --- Reading ---------------------------------------------------------------------------------

static bool is_field(const char *line, size_t len, const char *name, const char **value)
{
    size_t n = strlen(name);
    if (len <= n || strncasecmp(line, name, n) != 0 || line[n] != ':')
        return false;
    *value = line + n + 1 + (line[n + 1] == ' ');
    return true;
}

static bool value_is(const char *v, const char *what)
{
    size_t n = strlen(what);
    return strncasecmp(v, what, n) == 0 && v[n] == '\r';
}

static void take_field(struct peer_head *m, const char *line, size_t len)
{
    const char *v;
    if (is_field(line, len, "content-length", &v)) {
        m->has_length = true;
        m->length = strtoull(v, NULL, 10);
    } else if (is_field(line, len, "transfer-encoding", &v)) {
        m->chunked = value_is(v, "chunked");
    } else if (is_field(line, len, "upgrade", &v)) {
        m->upgrade = true;
    } else if (is_field(line, len, "connection", &v)) {
        m->close = value_is(v, "close");
    } else if (is_field(line, len, "x-id", &v)) {
        m->id = m->id < 0 ? strtoll(v, NULL, 10) : -2; // twice is wrong
    } else if (is_field(line, len, "x-version", &v)) {
        m->version = strtoll(v, NULL, 10);
    } else if (is_field(line, len, "location", &v)) {
        snprintf(m->location, sizeof(m->location), "%.*s", (int)(line + len - v), v);
    }
}

// Takes a head off the front of what was received.
enum progress reader_head(struct reader *r)
{
    const char *p = r->in.p, *end = p ? memmem(p, r->in.len, "\r\n\r\n", 4) : NULL;
    struct peer_head *m = &r->m;
    if (!end)
        return r->in.len > 65536 ? PROGRESS_BAD : PROGRESS_MORE;
    *m = (struct peer_head){.id = -1, .version = -1};
    const char *line_end = memmem(p, r->in.len, "\r\n", 2);
    snprintf(m->line, sizeof(m->line), "%.*s", (int)(line_end - p), p);
    if (strncmp(m->line, "HTTP/1.1 ", 9) == 0)
        m->status = (uint32_t)strtoul(m->line + 9, NULL, 10);
    while (line_end < end) {
        const char *line = line_end + 2;
        line_end = memmem(line, (size_t)(end + 2 - line), "\r\n", 2);
        take_field(m, line, (size_t)(line_end - line));
    }
    bytes_drop(&r->in, (size_t)(end + 4 - p));
    return m->chunked && m->has_length ? PROGRESS_BAD : PROGRESS_DONE;
}

void reader_body_begin(struct reader *r, uint32_t pattern, bool no_body, bool to_end)
{
    r->pattern = pattern;
    r->got = 0;
    r->left = no_body || !r->m.has_length ? 0 : r->m.length;
    r->part = PART_SIZED;
    if (!no_body && r->m.chunked)
        r->part = PART_CHUNK_SIZE;
    else if (!no_body && !r->m.has_length && to_end)
        r->part = PART_TO_END;
}

// Body bytes from the front, at most `left`.
static bool take_body(struct reader *r)
{
    size_t n = r->part == PART_TO_END || r->in.len < r->left ? r->in.len : (size_t)r->left;
    for (size_t i = 0; i < n; i++)
        if ((uint8_t)r->in.p[i] != pattern_byte(r->pattern, r->got + i))
            return false;
    r->got += n;
    r->left -= r->part == PART_TO_END ? 0 : n;
    bytes_drop(&r->in, n);
    return true;
}

// One line off the front, without its end; false while there is none.
static bool take_line(struct reader *r, char *out, size_t cap)
{
    const char *end = r->in.len ? memmem(r->in.p, r->in.len, "\r\n", 2) : NULL;
    if (!end)
        return false;
    snprintf(out, cap, "%.*s", (int)(end - r->in.p), r->in.p);
    bytes_drop(&r->in, (size_t)(end + 2 - r->in.p));
    return true;
}

static enum progress next_chunk(struct reader *r)
{
    char line[300];
    if (!take_line(r, line, sizeof(line)))
        return r->in.len > 300 ? PROGRESS_BAD : PROGRESS_MORE;
    if (!isxdigit((unsigned char)line[0]))
        return PROGRESS_BAD;
    r->left = strtoull(line, NULL, 16);
    r->part = r->left ? PART_CHUNK_END : PART_TRAILERS;
    return PROGRESS_DONE;
}

static enum progress end_of_chunk(struct reader *r)
{
    if (!take_body(r))
        return PROGRESS_BAD;
    if (r->left > 0 || r->in.len < 2)
        return PROGRESS_MORE;
    if (memcmp(r->in.p, "\r\n", 2) != 0)
        return PROGRESS_BAD;
    bytes_drop(&r->in, 2);
    r->part = PART_CHUNK_SIZE;
    return PROGRESS_DONE;
}

enum progress reader_body(struct reader *r)
{
    char line[300];
    enum progress p;
    for (;;) {
        switch (r->part) {
        case PART_CHUNK_SIZE:
            if ((p = next_chunk(r)) != PROGRESS_DONE)
                return p;
            break;
        case PART_CHUNK_END:
            if ((p = end_of_chunk(r)) != PROGRESS_DONE)
                return p;
            break;
        case PART_TRAILERS:
            if (!take_line(r, line, sizeof(line)))
                return PROGRESS_MORE;
            if (line[0] == '\0')
                return PROGRESS_DONE;
            break;
        default:
            if (!take_body(r))
                return PROGRESS_BAD;
            return r->part == PART_SIZED && r->left == 0 ? PROGRESS_DONE : PROGRESS_MORE;
        }
    }
}
