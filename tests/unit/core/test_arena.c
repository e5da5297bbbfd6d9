#include "core/arena.h"
#include "core/rng.h"
#include "test.h"

TEST(arena_is_aligned_zeroed_and_disjoint)
{
    struct arena a;
    struct rng r;
    char *prev = NULL;
    size_t prev_len = 0;
    arena_init(&a, 0);
    rng_init(&r, 1);
    for (int i = 0; i < 5000; i++) {
        size_t len = rng_below(&r, i % 50 ? 200 : 20000) + 1;
        char *p = arena_alloc(&a, len);
        REQUIRE(p);
        EXPECT_EQ((uintptr_t)p % 16, 0);
        for (size_t k = 0; k < len; k++)
            REQUIRE(p[k] == 0);
        memset(p, 0xab, len);
        if (prev)
            EXPECT(prev + prev_len <= p || p + len <= prev);
        prev = p;
        prev_len = len;
    }
    arena_fini(&a);
    arena_fini(&a); // again is fine
}

TEST(arena_limit_is_a_refusal)
{
    struct arena a;
    arena_init(&a, 1000);
    EXPECT(arena_alloc(&a, 900) != NULL);
    EXPECT(arena_alloc(&a, 200) == NULL);
    EXPECT(arena_alloc(&a, SIZE_MAX) == NULL);
    EXPECT(arena_alloc(&a, 16) != NULL);
    EXPECT_EQ(a.used_bytes, 928);
    arena_fini(&a);
}

TEST(arena_copies_text)
{
    struct arena a;
    arena_init(&a, 0);
    EXPECT(arena_strdup(&a, NULL) == NULL);
    EXPECT_STR(arena_strdup(&a, "abc"), "abc");
    EXPECT_STR(arena_printf(&a, "%s-%d", "x", 42), "x-42");
    struct slice s = arena_dup(&a, (struct slice){"abcdef", 3});
    EXPECT_EQ(s.len, 3);
    EXPECT_STR(s.ptr, "abc");
    EXPECT(arena_alloc(&a, 0) != arena_alloc(&a, 0));
    arena_fini(&a);
}
