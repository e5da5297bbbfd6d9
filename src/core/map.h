// Open-addressing hash map from byte strings to pointers; keys are borrowed and must outlive the
// map. Robin Hood probing, at most 7/8 full. One thread while it is written; any number of
// readers once it is not.
#pragma once
#include "core/arena.h"
#include "core/slice.h"

struct map_entry {
    uint64_t hash;
    struct slice key;
    void *value;
};

struct map {
    struct map_entry *slots;
    uint32_t count, mask;
    struct arena *arena; // NULL = malloc
};

void map_init(struct map *m, struct arena *arena, uint32_t expected);
void map_fini(struct map *m);                                // no-op with an arena
void *map_get(const struct map *m, struct slice key);        // NULL if absent
void *map_put(struct map *m, struct slice key, void *value); // the value replaced, or NULL
void *map_remove(struct map *m, struct slice key); // the value removed, or NULL; ends an iteration
// for (uint32_t i = 0; map_next(m, &i, &e);) ...
bool map_next(const struct map *m, uint32_t *i, struct map_entry **out);
