// PROXY headers: each is read whole, byte by byte and cut at every place, with something of the
// client's behind it; what is written is read back.
#include "proto/proxyproto.h"
#include "test.h"
#include <stdio.h>

#define BEHIND "GET / HTTP/1.1\r\n"
#define V2_SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

static char text[2 * ADDR_TEXT_MAX + 8];

// "SOURCE DESTINATION", "own" where none is given, or the error.
static const char *told(const struct proxyproto_reader *r, enum err e)
{
    char from[ADDR_TEXT_MAX] = "", to[ADDR_TEXT_MAX] = "";
    if (e != OK)
        return e == ERR_SYNTAX ? "syntax" : e == ERR_LIMIT ? "limit" : "more";
    if (!r->given)
        return "own";
    from[addr_format(&r->source, from, sizeof(from) - 1, true)] = '\0';
    to[addr_format(&r->destination, to, sizeof(to) - 1, true)] = '\0';
    snprintf(text, sizeof(text), "%s %s", from, to);
    return text;
}

static enum err feed_pieces(struct proxyproto_reader *r, const char *bytes, size_t len,
                            size_t piece, size_t *left)
{
    enum err e = MORE;
    proxyproto_reader_init(r);
    for (size_t at = 0; at < len && e == MORE;) {
        struct slice in = {bytes + at, len - at < piece ? len - at : piece};
        size_t had = in.len;
        e = proxyproto_feed(r, &in);
        at += had - in.len;
        *left = len - at;
        if (e == MORE)
            EXPECT_EQ(in.len, 0);
    }
    return e;
}

static const char *read_bytes(const char *header, size_t len)
{
    static char bytes[32 * 1024];
    static char first[sizeof(text)];
    struct proxyproto_reader r;
    size_t left = 0, total = len + sizeof(BEHIND) - 1;
    memcpy(bytes, header, len);
    memcpy(bytes + len, BEHIND, sizeof(BEHIND) - 1);
    enum err e = feed_pieces(&r, bytes, total, total, &left);
    snprintf(first, sizeof(first), "%s", told(&r, e));
    if (e == OK)
        EXPECT_EQ(left, sizeof(BEHIND) - 1);
    for (size_t piece = 1; piece < 20; piece++) {
        size_t other = 0;
        enum err again = feed_pieces(&r, bytes, total, piece, &other);
        EXPECT_STR(told(&r, again), first);
        if (e == OK)
            EXPECT_EQ(other, left);
    }
    return first;
}

static const char *read_line(const char *line)
{
    return read_bytes(line, strlen(line));
}

TEST(proxyproto_v1)
{
    EXPECT_STR(read_line("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n"),
               "192.0.2.1:56324 198.51.100.2:443");
    EXPECT_STR(read_line("PROXY TCP6 2001:db8::1 ::1 0 65535\r\n"), "[2001:db8::1]:0 [::1]:65535");
    EXPECT_STR(read_line("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
                         "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
               "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535 "
               "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
    EXPECT_STR(read_line("PROXY UNKNOWN\r\n"), "own");
    EXPECT_STR(read_line("PROXY UNKNOWN ffff:f:f::f what ever 65535\r\n"), "own");
}

TEST(proxyproto_v1_is_strict)
{
    static const char *const bad[] = {
        "GET / HTTP/1.1\r\n",
        "proxy TCP4 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY  TCP4 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY TCP4  192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 2\r \r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 2 3\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 65536\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 -1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100 1 2\r\n",
        "PROXY TCP4 192.0.2.256 198.51.100.2 1 2\r\n",
        "PROXY TCP4 a.test 198.51.100.2 1 2\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY TCP6 [::1] ::1 1 2\r\n",
        "PROXY TCP6 fe80::1%lo ::1 1 2\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY \r\n",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (strcmp(read_line(bad[i]), "syntax") != 0)
            test_fail(__FILE__, __LINE__, "%s: %s", bad[i], read_line(bad[i]));
    EXPECT_STR(read_bytes("PROXY UNKNOWN \0\r\n", 17), "syntax");
}

TEST(proxyproto_v1_has_an_end)
{
    char line[200];
    memset(line, 'x', sizeof(line));
    memcpy(line, "PROXY UNKNOWN ", 14);
    memcpy(line + PROXYPROTO_V1_MAX - 2, "\r\n", 2);
    EXPECT_STR(read_bytes(line, PROXYPROTO_V1_MAX), "own");
    memcpy(line + PROXYPROTO_V1_MAX - 2, "xx\r\n", 4);
    EXPECT_STR(read_bytes(line, PROXYPROTO_V1_MAX + 2), "limit");
}

static const char *read_v2(const char *rest, size_t len)
{
    char bytes[400] = V2_SIGNATURE;
    memcpy(bytes + 12, rest, len);
    return read_bytes(bytes, 12 + len);
}
#define V2(rest) read_v2(rest, sizeof(rest) - 1)
#define FOUR "\xc0\0\2\1\xc6\x33\x64\2\xdc\4\1\xbb" // of IPv4
#define ZEROS15 "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"

TEST(proxyproto_v2)
{
    EXPECT_STR(V2("\x21\x11\0\x0c" FOUR), "192.0.2.1:56324 198.51.100.2:443");
    EXPECT_STR(V2("\x21\x11\0\x13" FOUR "\x04\0\4abcd"), "192.0.2.1:56324 198.51.100.2:443");
    EXPECT_STR(V2("\x21\x21\0\x24" ZEROS15 "\1" ZEROS15 "\2\0\1\0\2"), "[::1]:1 [::2]:2");
    EXPECT_STR(V2("\x20\x11\0\x0c" FOUR), "own"); // LOCAL, whatever it says
    EXPECT_STR(V2("\x20\0\0\0"), "own");
    EXPECT_STR(V2("\x21\0\0\0"), "own");
    EXPECT_STR(V2("\x21\x12\0\x0c" FOUR), "own"); // UDP
    char unix_pair[4 + 216] = "\x21\x31\0\xd8";
    EXPECT_STR(read_v2(unix_pair, sizeof(unix_pair)), "own");
}

TEST(proxyproto_v2_is_strict)
{
    EXPECT_STR(V2("\x11\x11\0\x0c" FOUR), "syntax"); // version 1
    EXPECT_STR(V2("\x22\x11\0\x0c" FOUR), "syntax"); // no such command
    EXPECT_STR(V2("\x21\x41\0\x0c" FOUR), "syntax"); // family
    EXPECT_STR(V2("\x21\x13\0\x0c" FOUR), "syntax"); // transport
    EXPECT_STR(V2("\x21\x11\0\x0b" FOUR), "syntax"); // no room for the addresses
    EXPECT_STR(V2("\x21\x21\0\x23" ZEROS15 ZEROS15 "12345"), "syntax");
    EXPECT_STR(read_bytes("\r\n\r\n\0\r\nQUIT\r!", 13), "syntax");
}

TEST(proxyproto_v2_has_an_end)
{
    static char bytes[12 + 4 + PROXYPROTO_V2_MAX + 1] = V2_SIGNATURE "\x21\x11\x40\0" FOUR;
    EXPECT_STR(read_bytes(bytes, 16 + PROXYPROTO_V2_MAX), "192.0.2.1:56324 198.51.100.2:443");
    bytes[15] = 1;
    EXPECT_STR(read_bytes(bytes, 16 + PROXYPROTO_V2_MAX + 1), "limit");
}

TEST(proxyproto_errors_stay)
{
    struct proxyproto_reader r;
    struct slice bad = SLICE("PROXY!"), good = SLICE("PROXY UNKNOWN\r\n");
    proxyproto_reader_init(&r);
    EXPECT_EQ(proxyproto_feed(&r, &bad), ERR_SYNTAX);
    EXPECT_EQ(proxyproto_feed(&r, &good), ERR_SYNTAX);
}

// ---- writing

static const char *written(enum proxyproto_version v, const char *from, const char *to)
{
    char out[PROXYPROTO_WRITE_MAX];
    struct addr source = {0}, destination = {0};
    EXPECT(addr_parse_port(slice_of(from), &source) == OK ||
           addr_parse(slice_of(from), 0, &source) == OK);
    EXPECT(addr_parse_port(slice_of(to), &destination) == OK ||
           addr_parse(slice_of(to), 0, &destination) == OK);
    size_t len = proxyproto_write(v, &source, &destination, out);
    EXPECT(len <= sizeof(out));
    EXPECT_EQ(out[0], v == PROXYPROTO_V1 ? 'P' : '\r');
    return read_bytes(out, len);
}

TEST(proxyproto_writes_what_it_reads)
{
    for (enum proxyproto_version v = PROXYPROTO_V1; v <= PROXYPROTO_V2; v++) {
        EXPECT_STR(written(v, "192.0.2.1:1", "198.51.100.2:65535"),
                   "192.0.2.1:1 198.51.100.2:65535");
        EXPECT_STR(written(v, "[2001:db8:1234:5678:9abc:def0:1234:5678]:65535",
                           "[2001:db8:1234:5678:9abc:def0:1234:5678]:65535"),
                   "[2001:db8:1234:5678:9abc:def0:1234:5678]:65535 "
                   "[2001:db8:1234:5678:9abc:def0:1234:5678]:65535");
        EXPECT_STR(written(v, "192.0.2.1:1", "[::1]:2"), "own");
        EXPECT_STR(written(v, "unix:///a", "unix:///b"), "own");
    }
}
