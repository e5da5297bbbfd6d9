// RFC 3986 normalisation of a request target, as Istio's gateway answers it (BASE: unreserved
// escapes decoded, dot segments removed; `//`, %2F and %5C untouched). Pure; any thread.
//
// Done in one pass over the segments: the output never grows beyond the input, because an escape
// becomes one byte or stays as it is and a dot segment only removes. Normalising once more changes
// nothing: a `%` that is no escape must not become one by what is decoded behind it, or an upstream
// would see another path than the one that was routed.
#include "route/route.h"

static int hex(unsigned char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_unreserved(unsigned char c)
{
    unsigned char l = c | 0x20;
    return (l >= 'a' && l <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' ||
           c == '~';
}

// The value of an escape at s[i], -1 when it is none (a lone `%` is passed through).
static int escape_at(struct slice s, size_t i)
{
    if (s.ptr[i] != '%' || s.len - i < 3)
        return -1;
    int high = hex((unsigned char)s.ptr[i + 1]), low = hex((unsigned char)s.ptr[i + 2]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

static bool is_raw_invalid(unsigned char c)
{
    return c <= 0x20 || c >= 0x7f;
}

// `%%32%65` would turn into `%2e`: the `%` at `lone` is escaped itself. There is room, because one
// of the two digits came from three bytes.
static size_t keep_lone(char *out, size_t lone, size_t n)
{
    bool made =
        n - lone == 3 && hex((unsigned char)out[n - 2]) >= 0 && hex((unsigned char)out[n - 1]) >= 0;
    if (!made)
        return n;
    memmove(out + lone + 3, out + lone + 1, 2);
    memcpy(out + lone + 1, "25", 2);
    return n + 2;
}

// Copies the segment that begins at *i, decoding, up to a slash or the end; false: answer 400.
static bool copy_segment(struct slice s, size_t *i, char *out, size_t *n)
{
    size_t lone = SIZE_MAX; // the last `%` in out that is no escape
    while (*i < s.len && s.ptr[*i] != '/' && s.ptr[*i] != '\\') {
        unsigned char c = (unsigned char)s.ptr[*i];
        int value = escape_at(s, *i);
        if (value == 0 || is_raw_invalid(c))
            return false;
        if (value >= 0 && !is_unreserved((unsigned char)value)) {
            memmove(out + *n, s.ptr + *i, 3);
            *n += 3;
            *i += 3;
            continue;
        }
        if (value < 0 && c == '%')
            lone = *n;
        out[(*n)++] = value < 0 ? (char)c : (char)value;
        *i += value < 0 ? 1 : 3;
        if (lone != SIZE_MAX)
            *n = keep_lone(out, lone, *n);
    }
    return true;
}

// Applies a dot segment that lies at out[start..n): returns where the output ends now, which is
// behind a slash. `..` at the root stays there.
static size_t resolve_dots(const char *out, size_t start, size_t n)
{
    if (n - start == 1 && out[start] == '.')
        return start;
    if (n - start != 2 || out[start] != '.' || out[start + 1] != '.')
        return n;
    if (start <= 1)
        return start;
    size_t back = start - 1; // the slash before the dots
    while (back > 0 && out[back - 1] != '/')
        back--;
    return back ? back : 1;
}

static bool normalize_segments(struct slice path, char *out, size_t *len)
{
    size_t i = 1, n = 1;
    out[0] = '/';
    while (true) {
        size_t start = n;
        if (!copy_segment(path, &i, out, &n))
            return false;
        size_t end = resolve_dots(out, start, n);
        bool dots = end != n;
        n = end;
        if (i >= path.len)
            break;
        i++;
        if (!dots) // a dot segment takes its slash with it
            out[n++] = '/';
    }
    *len = n;
    return true;
}

static bool query_is_valid(struct slice query)
{
    for (size_t i = 0; i < query.len; i++)
        if (is_raw_invalid((unsigned char)query.ptr[i]))
            return false;
    return true;
}

enum err route_normalize_path(struct slice target, char *out, size_t *out_len, size_t *path_len)
{
    if (target.len == 0 || (target.ptr[0] != '/' && target.ptr[0] != '\\'))
        return ERR_SYNTAX;
    ptrdiff_t hash = slice_find(target, '#');
    struct slice fragment = {NULL, 0};
    if (hash >= 0) {
        fragment = slice_from(target, (size_t)hash);
        target.len = (size_t)hash;
    }
    ptrdiff_t mark = slice_find(target, '?');
    struct slice path = {target.ptr, mark < 0 ? target.len : (size_t)mark};
    struct slice query = slice_from(target, path.len);
    if (!query_is_valid(query) || !query_is_valid(fragment) ||
        !normalize_segments(path, out, path_len))
        return ERR_SYNTAX;
    if (query.len)
        memmove(out + *path_len, query.ptr, query.len);
    *out_len = *path_len + query.len;
    return OK;
}
