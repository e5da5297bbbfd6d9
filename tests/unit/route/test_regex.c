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

static bool matches(const char *pattern, struct slice text)
{
    struct regex *re = regex_create(slice_of(pattern), NULL, 0);
    bool does = re && regex_full_match(re, 0, text);
    regex_destroy(re);
    return does;
}

TEST(regex_takes_a_byte_that_is_no_utf8_for_a_character)
{
    for (int c = 0x80; c < 0x100; c++) {
        char text[] = {'x', (char)c, 'y'};
        EXPECT(matches("x.y", (struct slice){text, 3}));
        EXPECT(matches("x[^a]y", (struct slice){text, 3}));
        EXPECT(matches(".*y", (struct slice){text, 3}));
        EXPECT(matches("x.", (struct slice){text, 2}));
        EXPECT(!matches("x.+y", (struct slice){text, 2}));
        EXPECT(!matches("x[a-z]y", (struct slice){text, 3}));
        EXPECT(!matches("xy", (struct slice){text, 3}));
    }
    EXPECT(matches(".*admin.*", SLICE("\xc3(admin\xff\xfe")));
    EXPECT(matches("a..b", SLICE("a\xff\xe9" "b")));
    // Cut off, overlong, a surrogate, above U+10FFFF.
    EXPECT(matches("a..", SLICE("a\xe2\x82")));
    EXPECT(matches("a..b", SLICE("a\xc0\x80" "b")));
    EXPECT(matches("a...b", SLICE("a\xed\xa0\x80" "b")));
    EXPECT(matches("a....b", SLICE("a\xf4\x90\x80\x80" "b")));
}

TEST(regex_takes_utf8_for_the_characters_it_is)
{
    EXPECT(matches("Z.rich", SLICE("Z\xc3\xbcrich")));
    EXPECT(!matches("Z..rich", SLICE("Z\xc3\xbcrich")));
    EXPECT(matches("Z\xc3\xbc?rich", SLICE("Zrich")));
    EXPECT(!matches("Z\xc3\xbcrich", SLICE("Z\xfcrich")));
    EXPECT(matches("[\xc3\xa4-\xc3\xbc]\xf0\x9f\x98\x80.", SLICE("\xc3\xb6\xf0\x9f\x98\x80\xff")));
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
