// Bump allocator over malloc'ed blocks, for things that die together: the model, a snapshot, a
// parse. Single owner, no locking. Memory is zeroed. Growth past `limit` bytes fails with NULL;
// out of memory at start-up aborts the process (a snapshot that cannot be built keeps the old one:
// give it a limit).
#pragma once
#include "core/slice.h"
#include <stdarg.h>
#include <stddef.h>

struct arena_block;

struct arena {
    struct arena_block *blocks;
    char *cur, *end;
    size_t used_bytes;  // handed out, without block overhead
    size_t limit_bytes; // 0 = none
};

void arena_init(struct arena *a, size_t limit_bytes);
void arena_fini(struct arena *a);
void *arena_alloc(struct arena *a, size_t size);         // 16-byte aligned, zeroed
char *arena_strdup(struct arena *a, const char *s);      // NULL stays NULL
struct slice arena_dup(struct arena *a, struct slice s); // the copy is NUL-terminated too
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define arena_new(a, type) ((type *)arena_alloc((a), sizeof(type)))
#define arena_array(a, type, n) ((type *)arena_alloc((a), sizeof(type) * (n)))
