#include "core/map.h"
#include "core/rng.h"
#include "test.h"
#include <stdlib.h>

#define KEYS 4000

static char names[KEYS][12];

static struct slice key(uint32_t i)
{
    snprintf(names[i], sizeof(names[i]), "key-%u", i);
    return slice_of(names[i]);
}

// Against an array: random puts, removals and look-ups, with growth from the smallest size.
TEST(map_agrees_with_an_array)
{
    static uintptr_t model[KEYS];
    struct map m;
    struct rng r;
    uint32_t count = 0;
    memset(model, 0, sizeof(model));
    map_init(&m, NULL, 0);
    rng_init(&r, 7);
    for (int step = 0; step < 100000; step++) {
        uint32_t i = rng_below(&r, KEYS);
        struct slice k = key(i);
        uintptr_t v = (uintptr_t)step + 1;
        switch (rng_below(&r, 3)) {
        case 0:
            count += model[i] == 0;
            REQUIRE((uintptr_t)map_put(&m, k, (void *)v) == model[i]);
            model[i] = v;
            break;
        case 1:
            count -= model[i] != 0;
            REQUIRE((uintptr_t)map_remove(&m, k) == model[i]);
            model[i] = 0;
            break;
        default:
            REQUIRE((uintptr_t)map_get(&m, k) == model[i]);
        }
        REQUIRE(m.count == count);
    }
    struct map_entry *e;
    uint32_t seen = 0;
    for (uint32_t i = 0; map_next(&m, &i, &e); seen++)
        EXPECT(e->value != NULL);
    EXPECT_EQ(seen, count);
    map_fini(&m);
}

TEST(map_in_an_arena_with_empty_and_binary_keys)
{
    struct arena a;
    struct map m;
    int x, y, z;
    arena_init(&a, 0);
    map_init(&m, &a, 3);
    EXPECT(map_get(&m, SLICE("")) == NULL);
    EXPECT(map_put(&m, (struct slice){NULL, 0}, &x) == NULL);
    EXPECT(map_get(&m, SLICE("")) == &x);
    EXPECT(map_put(&m, (struct slice){"a\0b", 3}, &y) == NULL);
    EXPECT(map_put(&m, (struct slice){"a\0c", 3}, &z) == NULL);
    EXPECT(map_get(&m, (struct slice){"a\0b", 3}) == &y);
    EXPECT(map_get(&m, (struct slice){"a", 1}) == NULL);
    map_fini(&m);
    arena_fini(&a);
}
