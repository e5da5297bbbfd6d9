// Operations on borrowed bytes, and the process-wide keyed hash. The key is drawn before main
// and never changes afterwards, so that a client cannot choose colliding keys; everything
// else is pure. Any thread.
#include "core/slice.h"
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

static uint64_t hash_key = 0x9e3779b97f4a7c15ull;

__attribute__((constructor)) static void hash_key_draw(void)
{
    uint64_t k;
    if (getrandom(&k, sizeof(k), GRND_NONBLOCK) == (ssize_t)sizeof(k))
        hash_key = k;
    else
        hash_key ^= (uint64_t)time(NULL) * 0xd6e8feb86659fd93ull ^ (uint64_t)(uintptr_t)&k;
}

void slice_hash_seed(uint64_t seed)
{
    hash_key = seed;
}

static inline unsigned char lower(unsigned char c)
{
    return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

// Eight bytes to lower case at once: a byte is a letter if adding sets its top bit, by the
// usual bound trick on bytes below 0x80.
static inline uint64_t lower8(uint64_t w)
{
    uint64_t heptets = w & 0x7f7f7f7f7f7f7f7full;
    uint64_t above_z = heptets + 0x2525252525252525ull; // 0x7f - 'Z'
    uint64_t from_a = heptets + 0x3f3f3f3f3f3f3f3full;  // 0x80 - 'A'
    uint64_t is_upper = ~w & (from_a ^ above_z) & 0x8080808080808080ull;
    return w | (is_upper >> 2);
}

static inline uint64_t load8(const char *p)
{
    uint64_t w;
    memcpy(&w, p, sizeof(w));
    return w;
}

static inline uint32_t load4(const char *p)
{
    uint32_t w;
    memcpy(&w, p, sizeof(w));
    return w;
}

// The last word overlaps the one before it.
static bool eq_nocase(const char *a, const char *b, size_t len)
{
    if (len < 8) {
        for (size_t i = 0; i < len; i++)
            if (lower((unsigned char)a[i]) != lower((unsigned char)b[i]))
                return false;
        return true;
    }
    for (size_t i = 0; i < len - 8; i += 8)
        if (lower8(load8(a + i)) != lower8(load8(b + i)))
            return false;
    return lower8(load8(a + len - 8)) == lower8(load8(b + len - 8));
}

bool slice_eq_nocase(struct slice a, struct slice b)
{
    return a.len == b.len && eq_nocase(a.ptr, b.ptr, a.len);
}

bool slice_has_prefix_nocase(struct slice s, struct slice prefix)
{
    return s.len >= prefix.len && eq_nocase(s.ptr, prefix.ptr, prefix.len);
}

bool slice_has_suffix_nocase(struct slice s, struct slice suffix)
{
    return s.len >= suffix.len &&
           (suffix.len == 0 || eq_nocase(s.ptr + (s.len - suffix.len), suffix.ptr, suffix.len));
}

int slice_cmp(struct slice a, struct slice b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int c = n ? memcmp(a.ptr, b.ptr, n) : 0;
    if (c)
        return c;
    return a.len < b.len ? -1 : a.len > b.len;
}

ptrdiff_t slice_find(struct slice s, char c)
{
    const char *p = s.len ? memchr(s.ptr, c, s.len) : NULL;
    return p ? p - s.ptr : -1;
}

struct slice slice_trim(struct slice s)
{
    while (s.len && (s.ptr[0] == ' ' || s.ptr[0] == '\t')) {
        s.ptr++;
        s.len--;
    }
    while (s.len && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
        s.len--;
    return s;
}

// An exhausted rest has a NULL pointer: "a," has two parts, the second one empty.
bool slice_split(struct slice *rest, char sep, struct slice *part)
{
    if (rest->ptr == NULL)
        return false;
    ptrdiff_t at = slice_find(*rest, sep);
    if (at < 0) {
        *part = *rest;
        *rest = (struct slice){NULL, 0};
        return true;
    }
    *part = (struct slice){rest->ptr, (size_t)at};
    *rest = slice_from(*rest, (size_t)at + 1);
    return true;
}

bool slice_to_u64(struct slice s, uint64_t *out)
{
    uint64_t v = 0;
    if (s.len == 0)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        unsigned d = (unsigned)(unsigned char)s.ptr[i] - '0';
        if (d > 9 || __builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, d, &v))
            return false;
    }
    *out = v;
    return true;
}

// The hash: wyhash's scheme (Wang Yi, final version 4, public domain): 128-bit multiplications
// folded to 64, two words a round. Keys are short (host names, field names), so there is no
// wide loop for long inputs.
static const uint64_t secret[3] = {0x2d358dccaa6c78a5ull, 0x8bb84b93962eacc9ull,
                                   0x4b33a62ed433d4a3ull};

static inline uint64_t mix(uint64_t a, uint64_t b)
{
    __uint128_t r = (__uint128_t)a * b;
    return (uint64_t)r ^ (uint64_t)(r >> 64);
}

static inline uint64_t folded(uint64_t w, bool fold)
{
    return fold ? lower8(w) : w;
}

// At most 16 bytes as two words, which overlap where there are fewer.
static inline void load_short(const char *p, size_t len, uint64_t *a, uint64_t *b)
{
    if (len >= 8) {
        *a = load8(p);
        *b = load8(p + len - 8);
    } else if (len >= 4) {
        *a = load4(p);
        *b = load4(p + len - 4);
    } else if (len) {
        *a = (uint64_t)(unsigned char)p[0] << 16 | (uint64_t)(unsigned char)p[len / 2] << 8 |
             (unsigned char)p[len - 1];
    }
}

static inline uint64_t hash(struct slice s, bool fold)
{
    uint64_t h = hash_key ^ mix(hash_key ^ secret[0], secret[1]);
    const char *p = s.ptr;
    size_t left = s.len;
    for (; left > 16; left -= 16, p += 16)
        h = mix(folded(load8(p), fold) ^ secret[1], folded(load8(p + 8), fold) ^ h);
    uint64_t a = 0, b = 0;
    load_short(p, left, &a, &b);
    __uint128_t r = (__uint128_t)(folded(a, fold) ^ secret[1]) * (folded(b, fold) ^ h);
    return mix((uint64_t)r ^ secret[0] ^ s.len, (uint64_t)(r >> 64) ^ secret[2]);
}

uint64_t slice_hash(struct slice s)
{
    return hash(s, false);
}

uint64_t slice_hash_nocase(struct slice s)
{
    return hash(s, true);
}
