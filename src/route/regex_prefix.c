// Reads an expression up to the first byte that is no literal. Pure; any thread.
//
// An alternative at the top level makes all of that void, so the rest is searched for one: what
// stands in groups, classes and escapes is skipped.
#include "route/regex_prefix.h"

static bool is_special(char c)
{
    return c && strchr("\\.+*?()|[]{}^$", c);
}

static bool is_alphanumeric(char c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

// The literal at *i, moved over; -1 when there is none. A letter behind a backslash is a class or
// an assertion, and what is not ASCII is more than one byte to a quantifier.
static int literal_at(struct slice p, size_t *i)
{
    char c = p.ptr[*i];
    if (c == '\\' && p.len - *i > 1) {
        char next = p.ptr[*i + 1];
        if (is_alphanumeric(next) || next <= 0x20 || next >= 0x7f)
            return -1;
        *i += 2;
        return next;
    }
    if (is_special(c) || (unsigned char)c >= 0x80)
        return -1;
    *i += 1;
    return c;
}

// Behind the class that begins at i; a `]` that comes first is one of its members.
static size_t class_end(struct slice p, size_t i)
{
    i++;
    if (i < p.len && p.ptr[i] == '^')
        i++;
    if (i < p.len && p.ptr[i] == ']')
        i++;
    while (i < p.len && p.ptr[i] != ']')
        i += p.ptr[i] == '\\' ? 2 : 1;
    return i + 1;
}

static bool has(struct slice p, char first, char second)
{
    for (size_t i = 0; i + 1 < p.len; i++)
        if (p.ptr[i] == first && p.ptr[i + 1] == second)
            return true;
    return false;
}

static bool has_alternative(struct slice p)
{
    uint32_t depth = 0;
    if (slice_find(p, '|') < 0)
        return false;
    if (has(p, '\\', 'Q') || has(p, '[', ':')) // not worth reading
        return true;
    for (size_t i = 0; i < p.len;) {
        char c = p.ptr[i];
        if (c == '|' && depth == 0)
            return true;
        depth += c == '(';
        depth -= c == ')' && depth > 0;
        i = c == '\\' ? i + 2 : c == '[' ? class_end(p, i) : i + 1;
    }
    return false;
}

// Is the literal before `rest` perhaps wanted no times at all? A quantifier says so, and one may
// follow what is nothing itself: `(?)`, `\Q\E`, `+`.
static bool may_quantify(struct slice rest)
{
    if (rest.len == 0)
        return false;
    char c = rest.ptr[0];
    return c == '*' || c == '?' || c == '+' || c == '{' || c == '\\' ||
           slice_has_prefix(rest, SLICE("(?"));
}

size_t regex_literal_prefix(struct slice pattern, char out[REGEX_PREFIX_MAX])
{
    size_t i = pattern.len && pattern.ptr[0] == '^', n = 0;
    while (i < pattern.len && n < REGEX_PREFIX_MAX) {
        int c = literal_at(pattern, &i);
        if (c < 0)
            break;
        out[n++] = (char)c;
    }
    if (n && may_quantify(slice_from(pattern, i)))
        n--;
    return n && has_alternative(pattern) ? 0 : n;
}
