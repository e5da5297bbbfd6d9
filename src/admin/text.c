// Output text. Owns its buffer unless that is fixed; one thread at a time.
#include "admin/text.h"
#include <stdio.h>
#include <stdlib.h>

void text_init(struct text *t, size_t limit_bytes)
{
    *t = (struct text){.limit = limit_bytes};
}

void text_init_fixed(struct text *t, char *buf, size_t cap)
{
    *t = (struct text){.data = buf, .cap = cap, .limit = cap, .fixed = true};
}

void text_fini(struct text *t)
{
    if (!t->fixed)
        free(t->data);
    *t = (struct text){0};
}

void text_clear(struct text *t)
{
    t->len = 0;
    t->overflow = false;
}

static bool reserve(struct text *t, size_t n)
{
    if (n > t->limit - t->len) {
        t->overflow = true;
        return false;
    }
    if (n <= t->cap - t->len)
        return true;
    size_t cap = t->cap ? t->cap * 2 : 1024;
    while (cap < t->len + n)
        cap *= 2;
    char *data = realloc(t->data, cap);
    if (!data) {
        t->overflow = true;
        return false;
    }
    t->data = data;
    t->cap = cap;
    return true;
}

void text_put_slow(struct text *t, struct slice s)
{
    if (!reserve(t, s.len))
        return;
    memcpy(t->data + t->len, s.ptr, s.len);
    t->len += s.len;
}

void text_puts(struct text *t, const char *s)
{
    text_put(t, slice_of(s));
}

void text_u64(struct text *t, uint64_t v)
{
    char buf[20];
    size_t at = sizeof(buf);
    do {
        buf[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    text_put(t, (struct slice){buf + at, sizeof(buf) - at});
}

void text_printf(struct text *t, const char *fmt, ...)
{
    char buf[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(buf, sizeof(buf), fmt, ap);
    va_end(ap);
    if (n < 0)
        return;
    if ((size_t)n < sizeof(buf)) {
        text_put(t, (struct slice){buf, (size_t)n});
        return;
    }
    if (!reserve(t, (size_t)n + 1))
        return;
    va_start(ap, fmt);
    vsnprintf(t->data + t->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    t->len += (size_t)n;
}

// Length of the UTF-8 sequence at the front (RFC 3629 section 4), 0 if it is none.
static size_t utf8_length(const unsigned char *p, size_t left)
{
    static const struct {
        unsigned char lead_min, lead_max, second_min, second_max, length;
    } forms[] = {
        {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
        {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
        {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        if (p[0] < forms[i].lead_min || p[0] > forms[i].lead_max)
            continue;
        if (left < forms[i].length || p[1] < forms[i].second_min || p[1] > forms[i].second_max)
            return 0;
        for (size_t k = 2; k < forms[i].length; k++)
            if (p[k] < 0x80 || p[k] > 0xbf)
                return 0;
        return forms[i].length;
    }
    return 0;
}

// Printable ASCII but for the quote and the backslash.
static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

#define EACH(byte) (0x0101010101010101ull * (byte))

// Whether one of eight bytes is not plain; may err on the side of yes ("Determine if a word has a
// byte …", S. E. Anderson, Bit Twiddling Hacks).
static bool any_special(uint64_t v)
{
    uint64_t quote = v ^ EACH('"'), backslash = v ^ EACH('\\'), del = v ^ EACH(0x7f);
    uint64_t zero = (quote - EACH(1)) | (backslash - EACH(1)) | (del - EACH(1));
    return ((v | zero | (v - EACH(0x20))) & EACH(0x80)) != 0;
}

// Where the run of plain bytes that begins at i ends.
static size_t plain_end(struct slice s, size_t i)
{
    for (uint64_t v; i + 8 <= s.len; i += 8) {
        memcpy(&v, s.ptr + i, 8);
        if (any_special(v))
            break;
    }
    while (i < s.len && is_plain((unsigned char)s.ptr[i]))
        i++;
    return i;
}

// What one byte (or sequence) that is not plain becomes; the number of bytes taken.
static size_t json_special(struct text *t, const unsigned char *p, size_t left)
{
    size_t n = p[0] >= 0x80 ? utf8_length(p, left) : 1;
    if (n == 0) {
        text_puts(t, "\\ufffd");
        return 1;
    }
    if (p[0] >= 0x80)
        text_put(t, (struct slice){(const char *)p, n});
    else if (p[0] == '"' || p[0] == '\\')
        text_put(t, (struct slice){(const char[]){'\\', (char)p[0]}, 2});
    else if (p[0] == '\n')
        text_puts(t, "\\n");
    else if (p[0] == '\t')
        text_puts(t, "\\t");
    else
        text_printf(t, "\\u%04x", p[0]);
    return n;
}

void text_json(struct text *t, struct slice s)
{
    const unsigned char *p = (const unsigned char *)s.ptr;
    text_char(t, '"');
    for (size_t i = 0; i < s.len;) {
        size_t start = i;
        i = plain_end(s, start);
        text_put(t, (struct slice){s.ptr + start, i - start});
        if (i < s.len)
            i += json_special(t, p + i, s.len - i);
    }
    text_char(t, '"');
}

void text_escaped(struct text *t, struct slice s)
{
    static const char hex[] = "0123456789abcdef";
    for (size_t i = 0; i < s.len;) {
        size_t start = i;
        i = plain_end(s, start);
        text_put(t, (struct slice){s.ptr + start, i - start});
        if (i == s.len)
            return;
        unsigned char c = (unsigned char)s.ptr[i++];
        if (c == '"' || c == '\\')
            text_put(t, (struct slice){(const char[]){'\\', (char)c}, 2});
        else
            text_put(t, (struct slice){(const char[]){'\\', 'x', hex[c >> 4], hex[c & 15]}, 4});
    }
}
