#include "core/rng.h"
#include "test.h"

TEST(rng_is_reproducible_and_even)
{
    struct rng a, b;
    unsigned count[7] = {0};
    rng_init(&a, 42);
    rng_init(&b, 42);
    for (int i = 0; i < 70000; i++) {
        uint32_t v = rng_below(&a, 7);
        REQUIRE(v < 7 && v == rng_below(&b, 7));
        count[v]++;
    }
    for (int i = 0; i < 7; i++) // mean 10,000, standard deviation 93
        EXPECT(count[i] > 9500 && count[i] < 10500);
    EXPECT_EQ(rng_below(&a, 1), 0);
}

TEST(rng_uuid_has_the_version_and_the_variant)
{
    struct rng r;
    char u[37] = {0};
    rng_init(&r, 0);
    for (int i = 0; i < 100; i++) {
        rng_uuid4(&r, u);
        EXPECT(u[8] == '-' && u[13] == '-' && u[18] == '-' && u[23] == '-');
        EXPECT(u[14] == '4');
        EXPECT(strchr("89ab", u[19]) != NULL);
        EXPECT_EQ(strspn(u, "0123456789abcdef-"), 36);
    }
}
