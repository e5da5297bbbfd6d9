// Small things of HTTP that have no state.
#include "proto/http.h"
#include "test.h"

TEST(http_authority_host_leaves_port_and_brackets)
{
    static const struct {
        const char *authority, *host;
    } rows[] = {
        {"a.test", "a.test"},         {"a.test:80", "a.test"},
        {"a.test:", "a.test"},        {"10.0.0.1", "10.0.0.1"},
        {"10.0.0.1:1", "10.0.0.1"},   {"[::1]", "::1"},
        {"[fe80::1]:443", "fe80::1"}, {"", ""},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct slice host = http_authority_host(slice_of(rows[i].authority));
        EXPECT(slice_eq(host, slice_of(rows[i].host)));
    }
}

TEST(every_registered_status_has_its_reason)
{
    EXPECT(slice_eq(http_reason(200), SLICE("OK")));
    EXPECT(slice_eq(http_reason(418), SLICE("I'm a teapot")));
    EXPECT(slice_eq(http_reason(506), SLICE("Variant Also Negotiates")));
    EXPECT(slice_eq(http_reason(510), SLICE("Not Extended")));
    EXPECT_EQ(http_reason(299).len, 0);
}
