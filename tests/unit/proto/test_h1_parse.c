// h1_parse: what is taken, and that everything else is refused with the right status.
#include "proto/h1_parse.h"
#include "test.h"

struct outcome {
    enum err e;
    struct h1_message m;
    struct head h;
    char data[8192];
};

static struct outcome parse(const char *text)
{
    static struct outcome o;
    size_t scanned = 0;
    memset(&o, 0, sizeof(o));
    memcpy(o.data, text, strlen(text));
    o.e = h1_parse_request(o.data, strlen(text), &scanned, &o.h, &o.m);
    return o;
}

static struct outcome *keep(const char *text)
{
    static struct outcome o;
    size_t scanned = 0;
    memset(&o, 0, sizeof(o));
    memcpy(o.data, text, strlen(text));
    o.e = h1_parse_request(o.data, strlen(text), &scanned, &o.h, &o.m);
    return &o;
}

TEST(h1_parse_takes_a_plain_request)
{
    struct outcome *o = keep("GET /a?b=c HTTP/1.1\r\nHost: Example.com\r\nAccept: */*\r\n\r\nrest");
    EXPECT_EQ(o->e, OK);
    EXPECT(slice_eq(o->h.method, SLICE("GET")));
    EXPECT(slice_eq(o->h.target, SLICE("/a?b=c")));
    EXPECT_EQ(o->h.field_count, 2);
    EXPECT(slice_eq(field_name(&o->h.fields[0]), SLICE("host")));
    EXPECT(slice_eq(field_value(&o->h.fields[0]), SLICE("Example.com")));
    EXPECT_EQ(o->h.fields[0].token, FIELD_HOST);
    EXPECT_EQ(o->m.framing, H1_BODY_NONE);
    EXPECT(o->m.keep_alive);
    EXPECT_EQ(o->m.head_len,
              strlen("GET /a?b=c HTTP/1.1\r\nHost: Example.com\r\nAccept: */*\r\n\r\n"));
}

TEST(h1_parse_wants_more_at_every_cut)
{
    const char text[] = "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n";
    for (size_t n = 0; n < sizeof(text) - 1; n++) {
        char data[128];
        struct head h;
        struct h1_message m;
        size_t scanned = 0;
        memcpy(data, text, n);
        head_reset(&h);
        EXPECT_EQ(h1_parse_request(data, n, &scanned, &h, &m), MORE);
        memcpy(data, text, sizeof(text) - 1);
        head_reset(&h);
        EXPECT_EQ(h1_parse_request(data, sizeof(text) - 1, &scanned, &h, &m), OK);
        EXPECT_EQ(m.content_length, 3);
    }
}

TEST(h1_parse_knows_connection_and_framing)
{
    EXPECT(!parse("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").m.keep_alive);
    EXPECT(!parse("GET / HTTP/1.0\r\n\r\n").m.keep_alive);
    EXPECT(parse("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").m.keep_alive);
    EXPECT(
        parse("GET / HTTP/1.1\r\nhost: a\r\nconnection: x, Upgrade\r\n\r\n").m.connection_upgrade);
    EXPECT_EQ(parse("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: Chunked\r\n\r\n").m.framing,
              H1_BODY_CHUNKED);
}

static void refused(const char *text, int status)
{
    struct outcome o = parse(text);
    if (o.e != ERR_SYNTAX || (int)o.m.error != status)
        test_fail(__FILE__, __LINE__, "%s: err %d status %d, wanted %d", text, o.e, o.m.error,
                  status);
}

#define REQ(fields) "GET / HTTP/1.1\r\nHost: a\r\n" fields "\r\n"

TEST(h1_parse_refuses_what_smugglers_use)
{
    refused(REQ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), 400);
    refused(REQ("Content-Length: 1\r\nContent-Length: 1\r\n"), 400);
    refused(REQ("Content-Length: 1, 1\r\n"), 400);
    refused(REQ("Content-Length: +1\r\n"), 400);
    refused(REQ("Content-Length: -1\r\n"), 400);
    refused(REQ("Content-Length: \r\n"), 400);
    refused(REQ("Content-Length: 0x1\r\n"), 400);
    refused(REQ("Content-Length: 99999999999999999999\r\n"), 400);
    refused(REQ("Transfer-Encoding: gzip, chunked\r\n"), 501);
    refused(REQ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 501);
    refused(REQ("Transfer-Encoding: xchunked\r\n"), 501);
    refused(REQ("Transfer-Encoding : chunked\r\n"), 400);
    refused(REQ(" folded: x\r\n"), 400);
    refused(REQ("A: b\r\n folded\r\n"), 400);
    refused(REQ("A: b\nC: d\r\n"), 400);
    refused(REQ("A: b\rC: d\r\n"), 400);
    refused(REQ("A: \x01\r\n"), 400);
    refused(REQ("A: \x7f\r\n"), 400);
    refused(REQ("A\x80: b\r\n"), 400);
    refused(REQ(": b\r\n"), 400);
    refused(REQ("no colon\r\n"), 400);
    refused("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400);
    refused("GET / HTTP/1.1\r\n\r\n", 400);
    refused("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    refused("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400);
    refused("GET /\r\nHost: a\r\n\r\n", 400);
    refused("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505);
    refused("GET / http/1.1\r\nHost: a\r\n\r\n", 400);
    refused("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    refused("GET / HTTP/1.1\nHost: a\n\n", 400);
    refused("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400);
}

TEST(h1_parse_skips_one_empty_line)
{
    struct outcome *o = keep("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT_EQ(o->e, OK);
    EXPECT(slice_eq(o->h.method, SLICE("GET")));
    EXPECT_EQ(o->m.head_len, strlen("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    EXPECT_EQ(parse("\r").e, MORE);
    EXPECT_EQ(parse("\r\n").e, MORE);
    refused("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    refused("\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    refused("\r\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400);
}

TEST(h1_parse_refuses_another_protocol_at_its_first_bytes)
{
    refused("\x16\x03\x01\x02", 400);
    refused(" GET", 400);
    refused("\r\n\r", 400);
    EXPECT_EQ(parse("PRI").e, MORE);
    char greeting[] = "SSH-2.0", start[] = "HTTP";
    struct head h;
    struct h1_message m;
    size_t scanned = 0;
    head_reset(&h);
    EXPECT_EQ(h1_parse_response(greeting, 7, &scanned, SLICE("GET"), &h, &m), ERR_SYNTAX);
    scanned = 0;
    EXPECT_EQ(h1_parse_response(start, 4, &scanned, SLICE("GET"), &h, &m), MORE);
}

TEST(h1_parse_counts_fields_and_bytes)
{
    static char text[70000];
    for (int fields = 99; fields <= 101; fields++) {
        size_t n = (size_t)sprintf(text, "GET / HTTP/1.1\r\nHost: a\r\n");
        for (int i = 1; i < fields; i++)
            n += (size_t)sprintf(text + n, "x: y\r\n");
        n += (size_t)sprintf(text + n, "\r\n");
        struct head h;
        struct h1_message m;
        size_t scanned = 0;
        head_reset(&h);
        enum err e = h1_parse_request(text, n, &scanned, &h, &m);
        EXPECT_EQ(e, fields <= 100 ? OK : ERR_SYNTAX);
        EXPECT_EQ(m.error, fields <= 100 ? 0 : 431);
    }
    struct head h;
    struct h1_message m;
    size_t scanned = 0, n = (size_t)sprintf(text, "GET / HTTP/1.1\r\nHost: a\r\nx: ");
    memset(text + n, 'v', 61440);
    memcpy(text + n + 61440, "\r\n\r\n", 4);
    head_reset(&h);
    EXPECT_EQ(h1_parse_request(text, n + 61444, &scanned, &h, &m), ERR_SYNTAX);
    EXPECT_EQ(m.error, 431);
}

static enum h1_framing response_framing(const char *text, const char *method)
{
    static char data[1024];
    struct head h;
    struct h1_message m;
    size_t scanned = 0;
    memcpy(data, text, strlen(text));
    head_reset(&h);
    enum err e = h1_parse_response(data, strlen(text), &scanned, slice_of(method), &h, &m);
    return e == OK ? m.framing : (enum h1_framing) - 1;
}

TEST(h1_parse_response_framing)
{
    EXPECT_EQ(response_framing("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", "GET"),
              H1_BODY_LENGTH);
    EXPECT_EQ(response_framing("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", "HEAD"),
              H1_BODY_NONE);
    EXPECT_EQ(response_framing("HTTP/1.1 204 No\r\n\r\n", "GET"), H1_BODY_NONE);
    EXPECT_EQ(response_framing("HTTP/1.1 304\r\n\r\n", "GET"), H1_BODY_NONE);
    EXPECT_EQ(response_framing("HTTP/1.1 200 OK\r\n\r\n", "GET"), H1_BODY_UNTIL_CLOSE);
    EXPECT_EQ(response_framing("HTTP/1.1 20 OK\r\n\r\n", "GET"), (enum h1_framing) - 1);
    EXPECT_EQ(
        response_framing(
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n", "GET"),
        (enum h1_framing) - 1);
}

enum kind { REQUEST, RESPONSE, TRAILERS };

static enum err parse_kind(enum kind kind, char *data, size_t len, size_t *scanned,
                           struct h1_message *m)
{
    static struct head h;
    head_reset(&h);
    if (kind == REQUEST)
        return h1_parse_request(data, len, scanned, &h, m);
    if (kind == RESPONSE)
        return h1_parse_response(data, len, scanned, SLICE("GET"), &h, m);
    return h1_parse_trailers(data, len, scanned, &h, m);
}

// Byte by byte; of what earlier calls have looked at, a whole message is made meanwhile, which a
// call that looks there again would take.
static void drip(enum kind kind, const char *text, const char *whole)
{
    char data[256];
    size_t scanned = 0, len = strlen(text);
    struct h1_message m;
    for (size_t n = 1; n < len; n++) {
        memcpy(data, text, n);
        if (n >= strlen(whole) + 4)
            memcpy(data, whole, strlen(whole));
        if (parse_kind(kind, data, n, &scanned, &m) != MORE) {
            test_fail(__FILE__, __LINE__, "%s: not MORE at %zu", text, n);
            return;
        }
        EXPECT_EQ(scanned, n);
    }
    memcpy(data, text, len);
    EXPECT_EQ(parse_kind(kind, data, len, &scanned, &m), OK);
    EXPECT_EQ(m.head_len, len);
}

TEST(h1_parse_looks_at_each_byte_once)
{
    drip(REQUEST, "GET /productpage HTTP/1.1\r\nHost: a\r\nx: 1\r\ny: 2\r\nz: 3\r\n\r\n",
         "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    drip(RESPONSE, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx: 1\r\n\r\n", "HTTP/1.1 200 \r\n\r\n");
    drip(TRAILERS, "x-checksum: 1\r\ny: 2\r\nz: 3\r\n\r\n", "a: b\r\n\r\n");
}
