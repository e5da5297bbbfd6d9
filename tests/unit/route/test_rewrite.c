// Rewrites and redirect locations, as measured at Istio's gateway and in Envoy's sources.
#include "route/route.h"
#include "test.h"

static struct route_request request(const char *authority, const char *path, const char *query)
{
    return (struct route_request){.authority = slice_of(authority),
                                  .path = slice_of(path),
                                  .query = slice_of(query),
                                  .scheme = SLICE("http"),
                                  .method = SLICE("GET"),
                                  .worker = REGEX_CONTROL};
}

static const char *rewritten(const struct route *r, const char *path, const char *query)
{
    static char out[128];
    size_t len = 0;
    struct route_request rq = request("a.com", path, query);
    if (route_rewrite_path(r, &rq, out, sizeof(out) - 1, &len) != OK)
        return "limit";
    out[len] = '\0';
    return out;
}

static const char *location(const struct route *r, struct route_request rq)
{
    static char out[128];
    size_t len = 0;
    if (route_redirect_location(r, &rq, 8080, out, sizeof(out) - 1, &len) != OK)
        return "limit";
    out[len] = '\0';
    return out;
}

TEST(rewrite_prefix_replaces_the_prefix)
{
    struct route r = {.rewrite_uri = true,
                      .rewrite_is_prefix = true,
                      .matched_prefix_len = 6,
                      .rewrite_uri_text = SLICE("/")};
    EXPECT_STR(rewritten(&r, "/slash/abc", NULL), "//abc");
    EXPECT_STR(rewritten(&r, "/slash", "q=1"), "/?q=1");
    EXPECT_STR(rewritten(&r, "/slash", ""), "/?");
}

TEST(rewrite_to_nothing_takes_the_prefix_away)
{
    struct route r = {.rewrite_uri = true, .rewrite_is_prefix = true, .matched_prefix_len = 4};
    EXPECT_STR(rewritten(&r, "/api/users", NULL), "/users");
    EXPECT_STR(rewritten(&r, "/api", "q=1"), "/?q=1");
    r.matched_prefix_len = 5; // "/api/"
    EXPECT_STR(rewritten(&r, "/api/users", "q"), "/users?q");
    EXPECT_STR(rewritten(&r, "/api/", NULL), "/");
    r.rewrite_is_prefix = false;
    EXPECT_STR(rewritten(&r, "/api", NULL), "/");
}

TEST(rewrite_of_the_root_prefix_keeps_the_rest)
{
    struct route r = {.rewrite_uri = true,
                      .rewrite_is_prefix = true,
                      .matched_prefix_len = 1,
                      .rewrite_uri_text = SLICE("/new/")};
    EXPECT_STR(rewritten(&r, "/", NULL), "/new/");
    EXPECT_STR(rewritten(&r, "/a/b", "q"), "/new/a/b?q");
    r.rewrite_uri_text = SLICE("/new");
    EXPECT_STR(rewritten(&r, "/a/b", NULL), "/newa/b");
    r.rewrite_uri_text = SLICE("/");
    EXPECT_STR(rewritten(&r, "/a/b", NULL), "/a/b");
}

TEST(rewrite_always_gives_a_path)
{
    struct route r = {.rewrite_uri = true, .rewrite_uri_text = SLICE("new")};
    EXPECT_STR(rewritten(&r, "/old", "q"), "/new?q");
    r.rewrite_regex = regex_create(SLICE("^/old(.*)$"), NULL, 0);
    r.rewrite_regex_text = SLICE("\\1");
    EXPECT_STR(rewritten(&r, "/old", "q"), "/?q");
    EXPECT_STR(rewritten(&r, "/olden", NULL), "/en");
    regex_destroy(r.rewrite_regex);
    struct route_request rq = request("a.com", "/old", NULL);
    struct route three = {.rewrite_uri = true, .rewrite_uri_text = SLICE("new")};
    char out[4];
    size_t len;
    EXPECT_EQ(route_rewrite_path(&three, &rq, out, 4, &len), OK);
    EXPECT_EQ(route_rewrite_path(&three, &rq, out, 3, &len), ERR_LIMIT);
}

TEST(redirect_path_never_joins_the_host)
{
    struct route r = {.redirect = {.uri = SLICE("new"), .uri_given = true}};
    EXPECT_STR(location(&r, request("a.com", "/old", "q=1")), "http://a.com/new?q=1");
    r.redirect.uri = SLICE("?x");
    EXPECT_STR(location(&r, request("a.com", "/old", "q=1")), "http://a.com/?x");
}

TEST(rewrite_of_an_exact_match_replaces_the_path)
{
    struct route r = {.rewrite_uri = true, .rewrite_uri_text = SLICE("/new")};
    EXPECT_STR(rewritten(&r, "/old/path", "q=1"), "/new?q=1");
}

TEST(rewrite_regex_replaces_every_match_in_the_path)
{
    struct route r = {.rewrite_regex_text = SLICE("/v2/\\2")};
    r.rewrite_regex = regex_create(SLICE("^/(api)/(.*)$"), NULL, 0);
    REQUIRE(r.rewrite_regex != NULL);
    EXPECT_STR(rewritten(&r, "/api/x", "/api/y"), "/v2/x?/api/y");
    EXPECT_STR(rewritten(&r, "/other", NULL), "/other");
    regex_destroy(r.rewrite_regex);
}

TEST(rewrite_reports_what_does_not_fit)
{
    struct route r = {.rewrite_uri = true, .rewrite_uri_text = SLICE("/new")};
    struct route_request rq = request("a.com", "/", "q=1");
    char out[8];
    size_t len;
    EXPECT_EQ(route_rewrite_path(&r, &rq, out, 8, &len), OK);
    EXPECT_EQ(route_rewrite_path(&r, &rq, out, 7, &len), ERR_LIMIT);
    EXPECT_EQ(route_redirect_location(&r, &rq, 80, out, 7, &len), ERR_LIMIT);
}

TEST(redirect_keeps_query_and_port)
{
    struct route r = {.redirect = {.uri = SLICE("/new"), .uri_given = true}};
    EXPECT_STR(location(&r, request("a.com:31110", "/old", "q=1")), "http://a.com:31110/new?q=1");
    struct route same = {.redirect = {.scheme = SLICE("https")}};
    EXPECT_STR(location(&same, request("a.com:31110", "/old", NULL)), "https://a.com:31110/old");
    EXPECT_STR(location(&same, request("a.com:80", "/old", NULL)), "https://a.com/old");
    EXPECT_STR(location(&same, request("[::1]:80", "/", NULL)), "https://[::1]/");
    EXPECT_STR(location(&same, request("[::1]", "/", NULL)), "https://[::1]/");
}

TEST(redirect_uri_with_a_query_of_its_own_replaces_the_query)
{
    struct route r = {.redirect = {.uri = SLICE("/new?x=1"), .uri_given = true}};
    EXPECT_STR(location(&r, request("a.com", "/old", "q=1")), "http://a.com/new?x=1");
}

TEST(redirect_authority_drops_the_port)
{
    struct route r = {.redirect = {.authority = SLICE("b.com")}};
    EXPECT_STR(location(&r, request("a.com:31110", "/x", NULL)), "http://b.com/x");
}

TEST(redirect_port_is_elided_for_its_scheme)
{
    struct route r = {.redirect = {.scheme = SLICE("https"), .port = 443}};
    EXPECT_STR(location(&r, request("a.com:80", "/x", NULL)), "https://a.com/x");
    r.redirect.port = 8443;
    EXPECT_STR(location(&r, request("a.com:80", "/x", NULL)), "https://a.com:8443/x");
    r.redirect.port = 80;
    EXPECT_STR(location(&r, request("a.com:8080", "/x", NULL)), "https://a.com:80/x");
    r.redirect.port = 0;
    r.redirect.port_from_request = true;
    EXPECT_STR(location(&r, request("a.com", "/x", NULL)), "https://a.com:8080/x");
    struct route plain = {.redirect = {.port = 80}};
    EXPECT_STR(location(&plain, request("a.com:8080", "/x", NULL)), "http://a.com:8080/x");
    plain.redirect.authority = SLICE("b.com:81");
    plain.redirect.port = 8443;
    EXPECT_STR(location(&plain, request("a.com:8080", "/x", NULL)), "http://b.com:8443/x");
    plain.redirect.port = 80;
    EXPECT_STR(location(&plain, request("a.com:8080", "/x", NULL)), "http://b.com:81/x");
}

TEST(redirect_prefix_swaps_the_prefix)
{
    struct route r = {.rewrite_is_prefix = true,
                      .matched_prefix_len = 4,
                      .redirect = {.prefix_rewrite = SLICE("/"), .prefix_given = true}};
    EXPECT_STR(location(&r, request("a.com", "/foo/baz", "q")), "http://a.com//baz?q");
}
