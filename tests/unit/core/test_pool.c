#include "core/pool.h"
#include "test.h"

TEST(pool_refuses_at_the_cap_and_counts_it)
{
    struct pool p;
    void *o[10];
    pool_init(&p, "test", 40, 10);
    for (int i = 0; i < 10; i++) {
        o[i] = pool_get(&p);
        REQUIRE(o[i]);
        EXPECT_EQ((uintptr_t)o[i] % 16, 0);
        memset(o[i], i, 40);
    }
    EXPECT(pool_get(&p) == NULL);
    EXPECT_EQ(p.refusals, 1);
    EXPECT_EQ(p.in_use, 10);
    for (int i = 0; i < 10; i++)
        EXPECT_EQ(((char *)o[i])[39], i); // nobody shares
    for (int i = 0; i < 10; i++)
        pool_put(&p, o[i]);
    pool_put(&p, NULL);
    EXPECT(pool_get(&p) == o[9]); // last in, first out
    pool_put(&p, o[9]);
    EXPECT_EQ(p.peak, 10);
    pool_fini(&p);
}

TEST(pool_of_objects_larger_than_a_slab)
{
    struct pool p;
    pool_init(&p, "test", 100000, 2);
    void *a = pool_get(&p), *b = pool_get(&p);
    REQUIRE(a && b);
    memset(a, 1, 100000);
    memset(b, 2, 100000);
    EXPECT(pool_get(&p) == NULL);
    pool_put(&p, a);
    pool_put(&p, b);
    pool_fini(&p);
}
