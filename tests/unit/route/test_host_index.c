// Which virtual host an authority finds.
#include "route/host_index.h"
#include "route/virtual_host.h"
#include "test.h"

static const char *const domains[6] = {"bookinfo.com", "*.com", "*.bookinfo.com",
                                       "*",            "[::1]", "*-x.org"};

static const char *found(uint32_t count, const char *authority)
{
    static char out[64];
    struct arena a;
    arena_init(&a, 0);
    struct virtual_host *hosts = virtual_hosts_create(&a, count), *all[6];
    for (uint32_t i = 0; i < count; i++) {
        virtual_host_set_domain(&hosts[i], &a, slice_of(domains[i]), 80);
        all[i] = &hosts[i];
    }
    const struct host_index *x = host_index_create(&a, all, count);
    const struct virtual_host *vh = host_index_find(x, slice_of(authority));
    struct slice domain = vh ? virtual_host_domain(vh) : SLICE("none");
    snprintf(out, sizeof(out), "%.*s", SLICE_FMT(domain));
    arena_fini(&a);
    return out;
}

TEST(host_exact_then_longest_suffix_then_any)
{
    EXPECT_STR(found(6, "bookinfo.com"), "bookinfo.com");
    EXPECT_STR(found(6, "BookInfo.COM"), "bookinfo.com");
    EXPECT_STR(found(6, "a.bookinfo.com"), "*.bookinfo.com");
    EXPECT_STR(found(6, "a.b.bookinfo.com"), "*.bookinfo.com");
    EXPECT_STR(found(6, "other.COM"), "*.com");
    EXPECT_STR(found(6, "other.org"), "*");
    EXPECT_STR(found(6, "foo-x.org"), "*-x.org");
}

TEST(host_wildcard_part_is_never_empty)
{
    EXPECT_STR(found(3, ".bookinfo.com"), "*.com");
    EXPECT_STR(found(3, ".com"), "none");
    EXPECT_STR(found(3, "com"), "none");
}

TEST(host_port_is_ignored)
{
    EXPECT_STR(found(3, "bookinfo.com:31110"), "bookinfo.com");
    EXPECT_STR(found(3, "bookinfo.com:abc"), "bookinfo.com");
    EXPECT_STR(found(3, "x.com:31110"), "*.com");
    EXPECT_STR(found(6, "[::1]:80"), "[::1]");
    EXPECT_STR(found(6, "[::1]"), "[::1]");
}

TEST(host_trailing_dot_and_empty_find_nothing)
{
    EXPECT_STR(found(3, "bookinfo.com."), "none");
    EXPECT_STR(found(6, ""), "none");
    EXPECT_STR(found(1, "other.org"), "none");
}

TEST(host_names_long_and_bracketed)
{
    struct arena a;
    char longest[255];
    arena_init(&a, 0);
    memset(longest, 'a', sizeof(longest));
    struct virtual_host *vh = virtual_hosts_create(&a, 2), *all[2] = {vh, vh + 1};
    virtual_host_set_domain(vh, &a, (struct slice){longest, sizeof(longest)}, 65535);
    virtual_host_set_domain(vh + 1, &a, SLICE("::1"), 80);
    const struct host_index *x = host_index_create(&a, all, 2);
    EXPECT(host_index_find(x, (struct slice){longest, sizeof(longest)}) == vh);
    EXPECT_EQ(virtual_host_name(vh).len, 261);
    EXPECT(slice_eq(virtual_host_name(vh + 1), SLICE("[::1]:80")));
    EXPECT(slice_eq(virtual_host_domain(vh + 1), SLICE("::1")));
    arena_fini(&a);
}
