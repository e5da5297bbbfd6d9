// The expression engine: RE2's syntax, full matches, an instance for each worker.
#include "route/regex.h"
#include "test.h"

TEST(regex_matches_in_full)
{
    struct regex *re = regex_create(SLICE("/api/v[0-9]+"), NULL, 0);
    REQUIRE(re != NULL);
    EXPECT(regex_full_match(re, 0, SLICE("/api/v12")));
    EXPECT(!regex_full_match(re, 0, SLICE("/api/v12/x")));
    EXPECT(!regex_full_match(re, 3, SLICE("x/api/v1")));
    EXPECT(!regex_full_match(re, 255, (struct slice){NULL, 0}));
    EXPECT(regex_full_match(re, REGEX_CONTROL, SLICE("/api/v1")));
    regex_destroy(re);
    regex_destroy(NULL);
}

TEST(regex_reports_syntax_errors)
{
    char error[64] = "";
    EXPECT(regex_create(SLICE("a(b"), error, sizeof(error)) == NULL);
    EXPECT_STR(error, "missing ): a(b");
    EXPECT(regex_create(SLICE("*"), error, sizeof(error)) == NULL);
    EXPECT(regex_create(SLICE("(?=x)"), error, 4) == NULL); // no look-ahead in RE2
    EXPECT_EQ(strlen(error), 3);
}

TEST(regex_replaces_with_groups)
{
    struct regex *re = regex_create(SLICE("/(a+)"), NULL, 0);
    REQUIRE(re != NULL);
    char out[16], error[64];
    size_t len;
    EXPECT_EQ(regex_replace_all(re, 0, SLICE("/a/aa"), SLICE("\\1-"), out, sizeof(out), &len), OK);
    EXPECT_EQ(len, 5);
    EXPECT(memcmp(out, "a-aa-", 5) == 0);
    EXPECT_EQ(regex_replace_all(re, 0, SLICE("/a/aa"), SLICE("\\1-"), out, 4, &len), ERR_LIMIT);
    EXPECT(regex_rewrite_valid(re, SLICE("\\1"), error, sizeof(error)));
    EXPECT(!regex_rewrite_valid(re, SLICE("\\2"), error, sizeof(error)));
    regex_destroy(re);
}
