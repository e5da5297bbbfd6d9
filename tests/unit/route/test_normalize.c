// Path normalisation: each row is what Istio's gateway answered, or RFC 3986 5.2.4.
#include "route/route.h"
#include "test.h"
#include <stdlib.h>

static const char *normalized(const char *target)
{
    static char out[256];
    size_t len, path_len;
    size_t n = strlen(target);
    char *exact = malloc(n ? n : 1); // exact sizes, so that a sanitizer sees what is too much
    char *to = malloc(n ? n : 1);
    memcpy(exact, target, n);
    enum err e = route_normalize_path((struct slice){exact, n}, to, &len, &path_len);
    if (e == OK) {
        memcpy(out, to, len);
        out[len] = '\0';
    }
    free(exact);
    free(to);
    return e == OK ? out : "400";
}

TEST(normalize_makes_no_escape_of_what_was_none)
{
    EXPECT_STR(normalized("/a/%%32%65%%32%65/b"), "/a/%252e%252e/b");
    EXPECT_STR(normalized("/%%34%31"), "/%2541");
    EXPECT_STR(normalized("/%4%31"), "/%2541");
    EXPECT_STR(normalized("/%%341"), "/%2541");
    EXPECT_STR(normalized("/%%%34%31"), "/%%2541");
    EXPECT_STR(normalized("/%%2F%4"), "/%%2F%4");
    EXPECT_STR(normalized("/%%7a1"), "/%z1");
    EXPECT_STR(normalized("/%/%34%31"), "/%/41");
}

TEST(normalize_removes_dot_segments)
{
    EXPECT_STR(normalized("/"), "/");
    EXPECT_STR(normalized("/a/../b"), "/b");
    EXPECT_STR(normalized("/a/./b"), "/a/b");
    EXPECT_STR(normalized("/a/b/.."), "/a/");
    EXPECT_STR(normalized("/a/."), "/a/");
    EXPECT_STR(normalized("/.."), "/");
    EXPECT_STR(normalized("/../../etc/passwd"), "/etc/passwd");
    EXPECT_STR(normalized("/a/b/../../../c"), "/c");
    EXPECT_STR(normalized("/..a/...b/c."), "/..a/...b/c.");
    EXPECT_STR(normalized("/a//../b"), "/a/b");
    EXPECT_STR(normalized("//../b"), "/b");
}

TEST(normalize_decodes_unreserved_only)
{
    EXPECT_STR(normalized("/%41%7e%2D"), "/A~-");
    EXPECT_STR(normalized("/a/%2e%2E/b"), "/b");
    EXPECT_STR(normalized("/a/.%2e/b"), "/b");
    EXPECT_STR(normalized("/a%2Fb%5Cc%20"), "/a%2Fb%5Cc%20");
    EXPECT_STR(normalized("/%252e%252e/x"), "/%252e%252e/x");
    EXPECT_STR(normalized("/100%"), "/100%");
    EXPECT_STR(normalized("/a%zz%4"), "/a%zz%4");
}

TEST(normalize_keeps_slashes_and_turns_backslashes)
{
    EXPECT_STR(normalized("/a//b"), "/a//b");
    EXPECT_STR(normalized("/a\\b"), "/a/b");
    EXPECT_STR(normalized("/a\\..\\b"), "/b");
    EXPECT_STR(normalized("\\a"), "/a");
}

TEST(normalize_keeps_the_query_and_drops_the_fragment)
{
    EXPECT_STR(normalized("/a/../b?x=/../%41\\"), "/b?x=/../%41\\");
    EXPECT_STR(normalized("/a?"), "/a?");
    EXPECT_STR(normalized("/a#frag?x"), "/a");
    EXPECT_STR(normalized("/a?x#frag"), "/a?x");
    size_t len, path_len;
    char out[16];
    EXPECT_EQ(route_normalize_path(SLICE("/./a?q=1"), out, &len, &path_len), OK);
    EXPECT_EQ(path_len, 2);
    EXPECT_EQ(len, 6);
}

TEST(normalize_refuses)
{
    EXPECT_STR(normalized(""), "400");
    EXPECT_STR(normalized("*"), "400");
    EXPECT_STR(normalized("a/b"), "400");
    EXPECT_STR(normalized("/a%00b"), "400");
    EXPECT_STR(normalized("/a b"), "400");
    EXPECT_STR(normalized("/caf\xc3\xa9"), "400");
    EXPECT_STR(normalized("/a\x01"), "400");
    EXPECT_STR(normalized("/a?\x7f"), "400");
    EXPECT_STR(normalized("/a#\xff"), "400");
}
