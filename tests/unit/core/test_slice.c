#include "core/slice.h"
#include "test.h"
#include <stdlib.h>

TEST(slice_compares_without_case)
{
    EXPECT(slice_eq_nocase(SLICE("Host"), SLICE("hOST")));
    EXPECT(!slice_eq_nocase(SLICE("a["), SLICE("a{"))); // differ by 0x20, but are no letters
    EXPECT(!slice_eq_nocase(SLICE("@"), SLICE("`")));
    EXPECT(slice_has_prefix_nocase(SLICE("Bearer x"), SLICE("bearer ")));
    EXPECT(!slice_has_prefix_nocase(SLICE("Be"), SLICE("bearer ")));
    EXPECT(slice_has_suffix_nocase(SLICE("a.Example.COM"), SLICE(".example.com")));
    EXPECT(!slice_has_suffix_nocase(SLICE("com"), SLICE(".example.com")));
    EXPECT(slice_has_suffix_nocase(SLICE("x"), SLICE("")));
}

TEST(slice_orders_shorter_first)
{
    EXPECT(slice_cmp(SLICE("ab"), SLICE("abc")) < 0);
    EXPECT(slice_cmp(SLICE("b"), SLICE("abc")) > 0);
    EXPECT(slice_cmp(SLICE("\xff"), SLICE("a")) > 0);
    EXPECT_EQ(slice_cmp(SLICE(""), SLICE("")), 0);
}

TEST(slice_trims_and_finds)
{
    EXPECT(slice_eq(slice_trim(SLICE(" \t a b\t ")), SLICE("a b")));
    EXPECT_EQ(slice_trim(SLICE(" \t ")).len, 0);
    EXPECT_EQ(slice_find(SLICE("abc"), 'c'), 2);
    EXPECT_EQ(slice_find(SLICE("abc"), 'x'), -1);
    EXPECT_EQ(slice_find((struct slice){NULL, 0}, 'x'), -1);
}

TEST(slice_splits_with_empty_parts)
{
    struct slice rest = SLICE("a,,b,"), part;
    const char *want[] = {"a", "", "b", ""};
    for (int i = 0; i < 4; i++) {
        REQUIRE(slice_split(&rest, ',', &part));
        EXPECT(slice_eq(part, slice_of(want[i])));
    }
    EXPECT(!slice_split(&rest, ',', &part));
    EXPECT(!slice_split(&rest, ',', &part));
}

TEST(slice_reads_numbers)
{
    uint64_t v = 7;
    EXPECT(slice_to_u64(SLICE("18446744073709551615"), &v));
    EXPECT(v == UINT64_MAX);
    EXPECT(!slice_to_u64(SLICE("18446744073709551616"), &v));
    EXPECT(!slice_to_u64(SLICE("99999999999999999999"), &v));
    EXPECT(!slice_to_u64(SLICE(""), &v));
    EXPECT(!slice_to_u64(SLICE("+1"), &v));
    EXPECT(!slice_to_u64(SLICE("1 "), &v));
    EXPECT(slice_to_u64(SLICE("007"), &v));
    EXPECT_EQ(v, 7);
}

// Every byte at every length up to three rounds: the folded hash agrees with the comparison.
TEST(slice_hash_nocase_agrees_with_eq_nocase)
{
    char a[48], b[48];
    for (unsigned c = 0; c < 256; c++) {
        for (size_t len = 1; len <= sizeof(a); len += 5) {
            memset(a, 'q', len);
            memset(b, 'Q', len);
            a[len / 2] = (char)c;
            b[len / 2] = (char)(c ^ 0x20);
            struct slice x = {a, len}, y = {b, len};
            EXPECT_EQ(slice_hash_nocase(x) == slice_hash_nocase(y), slice_eq_nocase(x, y));
        }
    }
}

TEST(slice_hash_spreads)
{
    enum { BUCKETS = 1024, KEYS = 64 * BUCKETS };
    static unsigned count[BUCKETS];
    char key[24];
    memset(count, 0, sizeof(count));
    for (int i = 0; i < KEYS; i++) {
        int n = snprintf(key, sizeof(key), "h%d.example.com", i);
        count[slice_hash((struct slice){key, (size_t)n}) % BUCKETS]++;
    }
    for (int i = 0; i < BUCKETS; i++) // mean 64, standard deviation 8
        EXPECT(count[i] > 16 && count[i] < 128);
    EXPECT(slice_hash(SLICE("a")) != slice_hash((struct slice){"a\0", 2}));
    EXPECT(slice_hash(SLICE("")) == slice_hash((struct slice){NULL, 0}));
}
