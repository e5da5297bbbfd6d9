// What is read off an expression, and that no text it matches begins otherwise.
#include "random.h"
#include "route/regex.h"
#include "route/regex_prefix.h"
#include "test.h"

static const char *prefix(const char *pattern)
{
    static char out[REGEX_PREFIX_MAX + 1];
    out[regex_literal_prefix(slice_of(pattern), out)] = '\0';
    return out;
}

TEST(regex_prefix_ends_at_the_first_special_byte)
{
    EXPECT_STR(prefix("/svc/1/[a-z]+(/.*)?"), "/svc/1/");
    EXPECT_STR(prefix("/productpage"), "/productpage");
    EXPECT_STR(prefix("^/a/.*$"), "/a/");
    EXPECT_STR(prefix("/v1\\.2\\/x\\d"), "/v1.2/");
    EXPECT_STR(prefix(".*"), "");
    EXPECT_STR(prefix("(?i)/a"), "");
    EXPECT_STR(prefix("(/a)?/b"), "");
    EXPECT_STR(prefix(""), "");
    EXPECT_STR(prefix("/\xc3\xa9?"), "/");
}

TEST(regex_prefix_without_what_may_be_missing)
{
    EXPECT_STR(prefix("/ab*"), "/a");
    EXPECT_STR(prefix("/ab?c"), "/a");
    EXPECT_STR(prefix("/ab{0,2}"), "/a");
    EXPECT_STR(prefix("/ab+"), "/a");    // `/ab+(?)*` would mean nought or more
    EXPECT_STR(prefix("/ab(?)?"), "/a"); // the quantifier is b's
    EXPECT_STR(prefix("/ab(?i)c"), "/a");
    EXPECT_STR(prefix("/ab\\Q\\E*"), "/a");
    EXPECT_STR(prefix("/ab.*"), "/ab");
    EXPECT_STR(prefix("/ab(c)?"), "/ab");
    EXPECT_STR(prefix("/a\\.?"), "/a");
}

TEST(regex_prefix_not_of_one_alternative)
{
    EXPECT_STR(prefix("/a|/b"), "");
    EXPECT_STR(prefix("/a/(b|c)"), "/a/");
    EXPECT_STR(prefix("/a/[|(]|/b"), "");
    EXPECT_STR(prefix("/a/[|(]"), "/a/");
    EXPECT_STR(prefix("/a/[](]|/b"), "");
    EXPECT_STR(prefix("/a\\(|b"), "");
    EXPECT_STR(prefix("/a/\\Q(\\E|b"), "");
    EXPECT_STR(prefix("/a/[[:alpha:](]|b"), "");
}

TEST(regex_prefix_is_bounded)
{
    char pattern[200];
    char out[REGEX_PREFIX_MAX];
    memset(pattern, 'a', sizeof(pattern));
    EXPECT_EQ(regex_literal_prefix((struct slice){pattern, 200}, out), REGEX_PREFIX_MAX);
}

static uint32_t random_text(char *out, uint32_t most, const char *from)
{
    uint32_t len = below(most + 1);
    for (uint32_t i = 0; i < len; i++)
        out[i] = from[below((uint32_t)strlen(from))];
    return len;
}

// RE2 is the judge: patterns and texts over a few bytes, so that many of both are valid and meet.
TEST(regex_prefix_begins_all_that_is_matched)
{
    uint64_t seed = test_seed();
    uint32_t matches = 0;
    rng_init(&test_rng, seed);
    for (uint32_t i = 0; i < 20000; i++) {
        char pattern[10], text[5], begin[REGEX_PREFIX_MAX];
        struct slice p = {pattern, random_text(pattern, sizeof(pattern), "aab(|)[]^*?+.\\{2}$QE")};
        struct regex *re = regex_create(p, NULL, 0);
        struct slice known = {begin, regex_literal_prefix(p, begin)};
        for (uint32_t k = 0; re && known.len && k < 20; k++) {
            struct slice t = {text, random_text(text, sizeof(text), "aab(|)[")};
            bool matched = regex_full_match(re, REGEX_CONTROL, t);
            matches += matched;
            if (matched && !slice_has_prefix(t, known))
                test_fail(__FILE__, __LINE__, "SLUICE_TEST_SEED=0x%llx \"%.*s\" matches \"%.*s\"",
                          (unsigned long long)seed, SLICE_FMT(p), SLICE_FMT(t));
        }
        regex_destroy(re);
    }
    EXPECT(matches > 100);
}
