// A borrowed run of bytes: pointer and length, never NUL-terminated, never owning.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const char *ptr;
    size_t len;
};

#define SLICE(lit) ((struct slice){(lit), sizeof(lit) - 1})
#define SLICE_FMT(s) (int)(s).len, (s).ptr // for "%.*s"

static inline struct slice slice_of(const char *cstr)
{
    return (struct slice){cstr, cstr ? strlen(cstr) : 0};
}

static inline bool slice_eq(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline struct slice slice_from(struct slice s, size_t start)
{
    return (struct slice){s.ptr + start, s.len - start};
}

static inline bool slice_has_prefix(struct slice s, struct slice prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}

static inline bool slice_has_suffix(struct slice s, struct slice suffix)
{
    return s.len >= suffix.len && slice_eq(slice_from(s, s.len - suffix.len), suffix);
}

// ASCII case-insensitive; locale never matters.
bool slice_eq_nocase(struct slice a, struct slice b);
bool slice_has_prefix_nocase(struct slice s, struct slice prefix);
bool slice_has_suffix_nocase(struct slice s, struct slice suffix);

// <0, 0, >0 like memcmp, shorter first on a tie.
int slice_cmp(struct slice a, struct slice b);

// First index of `c`, or -1.
ptrdiff_t slice_find(struct slice s, char c);

struct slice slice_trim(struct slice s); // leading and trailing SP and HTAB

// Splits off the part before the first `sep`; *rest becomes what follows, with a NULL ptr after
// the last part ("a," has two). Returns false once *rest is exhausted (ptr NULL).
bool slice_split(struct slice *rest, char sep, struct slice *part);

// Decimal, no sign, no spaces; false on overflow or any other byte.
bool slice_to_u64(struct slice s, uint64_t *out);

uint64_t slice_hash(struct slice s); // wyhash-style, keyed once per process
uint64_t slice_hash_nocase(struct slice s);
void slice_hash_seed(uint64_t seed); // tests only: a fixed key, before anything was hashed
