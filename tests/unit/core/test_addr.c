#include "core/addr.h"
#include "test.h"

static const char *round_trip(const char *text)
{
    static char buf[ADDR_TEXT_MAX];
    struct addr a;
    if (addr_parse_port(slice_of(text), &a) != OK)
        return "refused";
    addr_format(&a, buf, sizeof(buf), true);
    return buf;
}

TEST(addr_round_trips)
{
    EXPECT_STR(round_trip("127.0.0.1:80"), "127.0.0.1:80");
    EXPECT_STR(round_trip("[::1]:8443"), "[::1]:8443");
    EXPECT_STR(round_trip("[2001:DB8:0:0::1]:1"), "[2001:db8::1]:1");
    EXPECT_STR(round_trip("unix:///run/x.sock"), "unix:///run/x.sock");
    EXPECT_STR(round_trip("unix://@abstract"), "unix://@abstract");
}

TEST(addr_refuses_what_is_no_address)
{
    const char *bad[] = {"",          "1.2.3.4",      ":80",        "1.2.3.4:",       "1.2.3.4:65536",
                         "1.2.3:80",  "::1:80",       "[::1]",      "[1.2.3.4]:80",   "example.com:80",
                         "[::1:80",   "1.2.3.4:+1",   "unix://",    "unix://@",       "01.2.3.4.5:1",
                         "[]:80",     " 1.2.3.4:80"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        EXPECT_STR(round_trip(bad[i]), "refused");
    struct addr a;
    char path[200];
    memset(path, 'a', sizeof(path));
    memcpy(path, "unix://", 7);
    EXPECT(addr_parse((struct slice){path, 7 + 108}, 0, &a) != OK); // sun_path holds 107
    EXPECT(addr_parse((struct slice){path, 7 + 107}, 0, &a) == OK);
    EXPECT(addr_parse((struct slice){"1.2.3.4\0", 8}, 0, &a) != OK);
}

TEST(addr_equality_and_loopback)
{
    struct addr a, b;
    EXPECT_EQ(addr_parse(SLICE("127.0.0.9"), 1, &a), OK);
    EXPECT_EQ(addr_parse(SLICE("127.0.0.9"), 2, &b), OK);
    EXPECT(addr_is_loopback(&a));
    EXPECT(!addr_eq(&a, &b));
    b.in.sin_port = a.in.sin_port;
    EXPECT(addr_eq(&a, &b));
    EXPECT_EQ(addr_parse(SLICE("::ffff:127.0.0.1"), 1, &a), OK);
    EXPECT(addr_is_loopback(&a));
    EXPECT_EQ(addr_parse(SLICE("10.0.0.1"), 77, &a), OK);
    EXPECT(!addr_is_loopback(&a));
    EXPECT_EQ(addr_port(&a), 77);
}

static bool in_prefix(const char *prefix, const char *ip)
{
    struct addr_prefix p;
    struct addr a;
    return addr_prefix_parse(slice_of(prefix), &p) == OK && addr_parse(slice_of(ip), 0, &a) == OK &&
           addr_prefix_contains(&p, &a);
}

TEST(addr_prefixes)
{
    EXPECT(in_prefix("10.0.0.0/8", "10.255.1.2"));
    EXPECT(!in_prefix("10.0.0.0/8", "11.0.0.0"));
    EXPECT(in_prefix("192.168.1.128/25", "192.168.1.200"));
    EXPECT(!in_prefix("192.168.1.128/25", "192.168.1.127"));
    EXPECT(in_prefix("0.0.0.0/0", "1.2.3.4"));
    EXPECT(!in_prefix("0.0.0.0/0", "::1"));
    EXPECT(in_prefix("1.2.3.4", "1.2.3.4"));
    EXPECT(in_prefix("2001:db8::/33", "2001:db8:7fff::1"));
    EXPECT(!in_prefix("2001:db8::/33", "2001:db8:8000::1"));
    EXPECT(in_prefix("10.0.0.0/8", "::ffff:10.1.1.1")); // a dual-stack socket's view
    EXPECT(in_prefix("::ffff:10.0.0.0/104", "10.1.1.1"));
    struct addr_prefix p;
    EXPECT(addr_prefix_parse(SLICE("10.0.0.0/33"), &p) != OK);
    EXPECT(addr_prefix_parse(SLICE("10.0.0.0/"), &p) != OK);
    EXPECT(addr_prefix_parse(SLICE("unix:///x"), &p) != OK);
}
