// Parsers of small texts. Pure functions over what they are given. Any thread.
#include "config/text.h"

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static uint64_t take_unit(struct slice *s)
{
    static const struct {
        const char *name;
        uint64_t ns;
    } units[] = {
        {"ns", 1},       {"us", 1000},      {"\xc2\xb5s", 1000}, {"\xce\xbcs", 1000},
        {"ms", 1000000}, {"s", 1000000000}, {"m", 60000000000},  {"h", 3600000000000},
    };
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        struct slice name = slice_of(units[i].name);
        if (slice_has_prefix(*s, name)) {
            *s = slice_from(*s, name.len);
            return units[i].ns;
        }
    }
    return 0;
}

bool duration_parse(struct slice s, uint64_t *out_ns)
{
    double total = 0;
    if (slice_eq(s, SLICE("0"))) {
        *out_ns = 0;
        return true;
    }
    if (s.len && s.ptr[0] == '+')
        s = slice_from(s, 1);
    if (s.len == 0)
        return false;
    while (s.len) {
        double value = 0, scale = 1;
        bool dot = false, digits = false;
        for (; s.len && (is_digit(s.ptr[0]) || (s.ptr[0] == '.' && !dot)); s = slice_from(s, 1)) {
            if (s.ptr[0] == '.') {
                dot = true;
                continue;
            }
            digits = true;
            value = value * 10 + (s.ptr[0] - '0');
            scale *= dot ? 10 : 1;
        }
        uint64_t unit = take_unit(&s);
        if (!digits || !unit)
            return false;
        total += value / scale * (double)unit;
        if (!(total < 9.2e18)) // 292 years, Go's bound
            return false;
    }
    *out_ns = (uint64_t)(total + 0.5);
    return true;
}

static bool take_number(struct slice *s, size_t digits, int64_t *out)
{
    *out = 0;
    if (s->len < digits)
        return false;
    for (size_t i = 0; i < digits; i++) {
        if (!is_digit(s->ptr[i]))
            return false;
        *out = *out * 10 + (s->ptr[i] - '0');
    }
    *s = slice_from(*s, digits);
    return true;
}

static bool take_char(struct slice *s, char c)
{
    if (!s->len || s->ptr[0] != c)
        return false;
    *s = slice_from(*s, 1);
    return true;
}

// Howard Hinnant's days_from_civil.
static int64_t days_since_1970(int64_t y, int64_t m, int64_t d)
{
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t yoe = y - era * 400;
    int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    int64_t doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    return era * 146097 + doe - 719468;
}

bool time_parse(struct slice s, uint64_t *out_s)
{
    int64_t y, mo, d, h, mi, sec, zone_h = 0, zone_m = 0, sign = 0;
    if (!take_number(&s, 4, &y) || !take_char(&s, '-') || !take_number(&s, 2, &mo) ||
        !take_char(&s, '-') || !take_number(&s, 2, &d) ||
        !(take_char(&s, 'T') || take_char(&s, 't') || take_char(&s, ' ')) ||
        !take_number(&s, 2, &h) || !take_char(&s, ':') || !take_number(&s, 2, &mi) ||
        !take_char(&s, ':') || !take_number(&s, 2, &sec))
        return false;
    if (take_char(&s, '.'))
        while (s.len && is_digit(s.ptr[0]))
            s = slice_from(s, 1);
    if (take_char(&s, '+'))
        sign = 1;
    else if (take_char(&s, '-'))
        sign = -1;
    else if (!take_char(&s, 'Z') && !take_char(&s, 'z'))
        return false;
    if (sign &&
        (!take_number(&s, 2, &zone_h) || !take_char(&s, ':') || !take_number(&s, 2, &zone_m)))
        return false;
    if (s.len || mo < 1 || mo > 12 || d < 1 || d > 31 || h > 23 || mi > 59 || sec > 60)
        return false;
    int64_t t = days_since_1970(y, mo, d) * 86400 + h * 3600 + mi * 60 + sec -
                sign * (zone_h * 3600 + zone_m * 60);
    *out_s = t > 0 ? (uint64_t)t : 0;
    return true;
}

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (is_digit(c))
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool base64_decode(struct arena *a, struct slice text, struct slice *out)
{
    char *p = arena_alloc(a, text.len / 4 * 3 + 4);
    size_t n = 0, symbols = 0, padding = 0;
    uint32_t bits = 0;
    for (size_t i = 0; p && i < text.len; i++) {
        char c = text.ptr[i];
        if (c == '\n' || c == '\r' || c == ' ')
            continue;
        int v = c == '=' ? 0 : base64_value(c);
        if (v < 0 || (padding && c != '='))
            return false;
        padding += c == '=';
        bits = bits << 6 | (uint32_t)v;
        if (++symbols % 4 == 0) {
            p[n++] = (char)(bits >> 16);
            p[n++] = (char)(bits >> 8);
            p[n++] = (char)bits;
        }
    }
    if (!p || symbols % 4 || padding > 2)
        return false;
    n -= padding;
    p[n] = 0;
    *out = (struct slice){p, n};
    return true;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

#define LONGEST_WORD 48

// Damerau's distance with swapped neighbours, over words of at most LONGEST_WORD letters.
static uint32_t edit_distance(struct slice a, struct slice b)
{
    uint32_t row[3][LONGEST_WORD + 1];
    for (uint32_t j = 0; j <= b.len; j++)
        row[0][j] = j;
    for (uint32_t i = 1; i <= a.len; i++) {
        uint32_t *now = row[i % 3], *up = row[(i + 2) % 3], *above = row[(i + 1) % 3];
        now[0] = i;
        for (uint32_t j = 1; j <= b.len; j++) {
            bool same = lower(a.ptr[i - 1]) == lower(b.ptr[j - 1]);
            uint32_t best = up[j - 1] + !same;
            best = up[j] + 1 < best ? up[j] + 1 : best;
            best = now[j - 1] + 1 < best ? now[j - 1] + 1 : best;
            if (i > 1 && j > 1 && lower(a.ptr[i - 1]) == lower(b.ptr[j - 2]) &&
                lower(a.ptr[i - 2]) == lower(b.ptr[j - 1]) && above[j - 2] + 1 < best)
                best = above[j - 2] + 1;
            now[j] = best;
        }
    }
    return row[a.len % 3][b.len];
}

void nearest_offer(struct nearest *n, const char *candidate)
{
    struct slice c = slice_of(candidate);
    if (n->word.len > LONGEST_WORD || c.len > LONGEST_WORD || n->word.len == 0)
        return;
    uint32_t d = edit_distance(n->word, c);
    uint32_t allowed = 1 + (uint32_t)n->word.len / 4;
    if (d > allowed || (n->best && d >= n->distance))
        return;
    n->best = candidate;
    n->distance = d;
}
