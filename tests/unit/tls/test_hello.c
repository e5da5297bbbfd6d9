// The ClientHello reader. Each hello is read whole, byte by byte and cut at every place: the
// answer must be the same.
#include "core/rng.h"
#include "hello_bytes.h"
#include "test.h"
#include "tls/hello.h"
#include <openssl/ssl.h>

static struct hello_bytes extensions, message, wire;

static enum err read_in(struct tls_hello *h, const struct hello_bytes *w, size_t piece)
{
    enum err e = MORE;
    tls_hello_init(h);
    for (size_t at = 0; at < w->len && e == MORE; at += piece) {
        size_t n = w->len - at < piece ? w->len - at : piece;
        e = tls_hello_feed(h, (struct slice){(const char *)w->bytes + at, n});
    }
    return e;
}

static bool same(const struct tls_hello *a, const struct tls_hello *b)
{
    return a->fault == b->fault && a->sni_len == b->sni_len && a->alpn_len == b->alpn_len &&
           strcmp(a->sni, b->sni) == 0 && memcmp(a->alpn, b->alpn, a->alpn_len) == 0 &&
           a->sni_is_address == b->sni_is_address;
}

// Reads `wire` in pieces of every size and of two unequal ones.
static enum err read_all_ways(struct tls_hello *h)
{
    static struct tls_hello other;
    enum err e = read_in(h, &wire, wire.len);
    for (size_t piece = 1; piece < 40; piece++) {
        EXPECT_EQ(read_in(&other, &wire, piece), e);
        EXPECT(same(h, &other));
    }
    for (size_t cut = 1; cut < wire.len; cut += 1 + wire.len / 512) {
        tls_hello_init(&other);
        enum err first = tls_hello_feed(&other, (struct slice){(const char *)wire.bytes, cut});
        struct slice rest = {(const char *)wire.bytes + cut, wire.len - cut};
        EXPECT_EQ(first == MORE ? tls_hello_feed(&other, rest) : first, e);
        EXPECT(same(h, &other));
    }
    return e;
}

static void begin(void)
{
    extensions.len = 0;
}

static enum err finish(struct tls_hello *h, size_t fragment)
{
    hello_message(&message, &extensions);
    hello_records(&wire, &message, fragment);
    return read_all_ways(h);
}

TEST(hello_gives_name_and_protocols)
{
    static const char *const names[] = {"h2", "http/1.1"};
    struct tls_hello h;
    struct slice name;
    uint32_t at = 0;
    begin();
    hello_put_extension(&extensions, 0x0a0a, "", 0); // GREASE
    hello_put_sni(&extensions, "Www.Example.COM", 15);
    hello_put_extension(&extensions, 23, "", 0);
    hello_put_alpn(&extensions, names, 2);
    hello_put_extension(&extensions, 0xfafa, "\0", 1);
    EXPECT_EQ(finish(&h, 16384), OK);
    EXPECT_STR(h.sni, "www.example.com");
    EXPECT_EQ(tls_hello_sni(&h).len, 15);
    EXPECT(tls_hello_alpn(&h, &at, &name) && slice_eq(name, SLICE("h2")));
    EXPECT(tls_hello_alpn(&h, &at, &name) && slice_eq(name, SLICE("http/1.1")));
    EXPECT(!tls_hello_alpn(&h, &at, &name));
}

TEST(hello_may_be_spread_over_records)
{
    static const size_t fragments[] = {1, 2, 3, 5, 50, 511};
    struct tls_hello h;
    for (size_t i = 0; i < sizeof(fragments) / sizeof(fragments[0]); i++) {
        begin();
        hello_put_sni(&extensions, "a.example", 9);
        EXPECT_EQ(finish(&h, fragments[i]), OK);
        EXPECT_STR(h.sni, "a.example");
    }
}

TEST(hello_without_extensions_has_no_name)
{
    struct tls_hello h;
    hello_message(&message, NULL);
    hello_records(&wire, &message, 16384);
    EXPECT_EQ(read_all_ways(&h), OK);
    EXPECT(h.sni_len == 0 && h.alpn_len == 0);
    begin();
    EXPECT_EQ(finish(&h, 16384), OK);
}

TEST(hello_is_complete_before_what_follows_it)
{
    struct tls_hello h;
    begin();
    hello_put_sni(&extensions, "a", 1);
    hello_message(&message, &extensions);
    hello_records(&wire, &message, 16384);
    hello_put(&wire, "garbage that is none of ours", 28);
    EXPECT_EQ(read_all_ways(&h), OK);
    EXPECT_STR(h.sni, "a");
}

struct name_case {
    const char *sent;
    size_t len;
    enum err e;
    const char *name; // NULL: an address
};

TEST(hello_names)
{
    static const char label63[] = "a23456789012345678901234567890123456789012345678901234567890123";
    static char longest[300];
    for (int i = 0; i < 5; i++)
        snprintf(longest + i * 64, sizeof(longest) - (size_t)i * 64, "%s.", label63);
    static const struct name_case cases[] = {
        {"example.com", 11, OK, "example.com"},
        {"EXAMPLE.com", 11, OK, "example.com"},
        {"example.com.", 12, OK, "example.com"},
        {"_svc.example.com", 16, OK, "_svc.example.com"},
        {"xn--bcher-kva.example", 21, OK, "xn--bcher-kva.example"},
        {"outbound_.80_.v1_.a.b.svc.cluster.local", 39, OK,
         "outbound_.80_.v1_.a.b.svc.cluster.local"},
        {"localhost", 9, OK, "localhost"},
        {"192.0.2.7", 9, OK, NULL},
        {"2001:db8::1", 11, OK, NULL},
        {"1.2.3.example", 13, OK, "1.2.3.example"},
        {"", 0, ERR_SYNTAX, NULL},
        {".", 1, ERR_SYNTAX, NULL},
        {"example.com..", 13, ERR_SYNTAX, NULL},
        {".example.com", 12, ERR_SYNTAX, NULL},
        {"a..b", 4, ERR_SYNTAX, NULL},
        {"good.example\0.evil.example", 26, ERR_SYNTAX, NULL},
        {"a.example\0", 10, ERR_SYNTAX, NULL},
        {"*.example.com", 13, ERR_SYNTAX, NULL},
        {"a b", 3, ERR_SYNTAX, NULL},
        {"b\xc3\xbc"
         "cher.example",
         14, ERR_SYNTAX, NULL},
        {"[2001:db8::1]", 13, ERR_SYNTAX, NULL},
        {"a.example:443", 13, ERR_SYNTAX, NULL},
        {longest, 255, OK, NULL},
        {longest, 256, ERR_SYNTAX, NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct name_case *c = &cases[i];
        struct tls_hello h;
        begin();
        hello_put_sni(&extensions, c->sent, c->len);
        if (finish(&h, 16384) != c->e)
            test_fail(__FILE__, __LINE__, "%s: %s", c->sent, err_name(c->e));
        if (c->e != OK) {
            EXPECT_EQ(h.fault, TLS_HELLO_BAD_NAME);
            EXPECT_EQ(tls_hello_feed(&h, SLICE("x")), c->e); // an error stays
        } else if (c->sent == longest) {
            EXPECT_EQ(h.sni_len, 255);
        } else {
            EXPECT_STR(h.sni, c->name ? c->name : "");
            EXPECT_EQ(h.sni_is_address, !c->name);
        }
    }
}

TEST(hello_refuses_an_extension_twice)
{
    static const uint16_t types[] = {0, 16, 43, 0x0a0a};
    struct tls_hello h;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        begin();
        for (int twice = 0; twice < 2; twice++) {
            if (types[i] == 0)
                hello_put_sni(&extensions, "a.example", 9);
            else if (types[i] == 16)
                hello_put_alpn(&extensions, (const char *const[]){"h2"}, 1);
            else
                hello_put_extension(&extensions, types[i], "\0\0", 2);
        }
        EXPECT_EQ(finish(&h, 16384), ERR_SYNTAX);
        EXPECT_EQ(h.fault, TLS_HELLO_MALFORMED);
    }
}

TEST(hello_refuses_two_names_and_other_kinds)
{
    static const uint8_t two[] = {0, 8, 0, 0, 1, 'a', 0, 0, 1, 'b'};
    static const uint8_t kind[] = {0, 4, 1, 0, 1, 'a'};
    static const uint8_t short_list[] = {0, 3, 0, 0, 1, 'a'};
    static const uint8_t beyond[] = {0, 4, 0, 0, 2, 'a'};
    static const struct slice bodies[] = {{(const char *)two, sizeof(two)},
                                          {(const char *)kind, sizeof(kind)},
                                          {(const char *)short_list, sizeof(short_list)},
                                          {(const char *)beyond, sizeof(beyond)},
                                          {"", 0}};
    struct tls_hello h;
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        begin();
        hello_put_extension(&extensions, 0, bodies[i].ptr, bodies[i].len);
        EXPECT_EQ(finish(&h, 16384), ERR_SYNTAX);
        EXPECT_EQ(h.fault, TLS_HELLO_MALFORMED);
    }
}

TEST(hello_refuses_broken_protocol_lists)
{
    static const uint8_t empty_name[] = {0, 1, 0};
    static const uint8_t beyond[] = {0, 3, 3, 'h', '2'};
    static const uint8_t wrong_list[] = {0, 4, 2, 'h', '2'};
    static const uint8_t empty_list[] = {0, 0};
    static const struct slice bodies[] = {{(const char *)empty_name, sizeof(empty_name)},
                                          {(const char *)beyond, sizeof(beyond)},
                                          {(const char *)wrong_list, sizeof(wrong_list)},
                                          {(const char *)empty_list, sizeof(empty_list)},
                                          {"", 0}};
    static uint8_t long_list[400];
    struct tls_hello h;
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        begin();
        hello_put_extension(&extensions, 16, bodies[i].ptr, bodies[i].len);
        EXPECT_EQ(finish(&h, 16384), ERR_SYNTAX);
    }
    begin();
    hello_put_extension(&extensions, 16, long_list, sizeof(long_list));
    EXPECT_EQ(finish(&h, 16384), ERR_LIMIT);
}

TEST(hello_refuses_lengths_that_do_not_fit)
{
    struct tls_hello h;
    begin();
    hello_put_sni(&extensions, "a.example", 9);
    hello_message(&message, &extensions);
    // Each length of the message one too large and one too small: none is taken for whole.
    static const size_t lengths[] = {38, 72, 77, 80, 84, 86, 89};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        for (int by = -1; by <= 1; by += 2) {
            struct hello_bytes broken = message;
            broken.bytes[lengths[i]] = (uint8_t)(broken.bytes[lengths[i]] + by);
            hello_records(&wire, &broken, 16384);
            if (read_all_ways(&h) != ERR_SYNTAX)
                test_fail(__FILE__, __LINE__, "length at %zu %+d", lengths[i], by);
        }
    }
}

TEST(hello_that_ends_too_early_is_refused_at_once)
{
    struct tls_hello h;
    begin();
    hello_put_sni(&extensions, "a.example", 9);
    hello_message(&message, &extensions);
    uint32_t whole = (uint32_t)message.len - 4;
    for (uint32_t body = 0; body < whole; body++) {
        message.bytes[2] = (uint8_t)(body >> 8);
        message.bytes[3] = (uint8_t)body;
        message.len = 4 + body;
        hello_records(&wire, &message, 16384);
        bool may_end_here = body == 2 + 32 + 1 + 32 + 2 + 4 + 1 + 1;
        EXPECT_EQ(read_in(&h, &wire, wire.len), may_end_here ? OK : ERR_SYNTAX);
        hello_message(&message, &extensions);
    }
}

TEST(hello_that_is_cut_wants_more)
{
    struct tls_hello h;
    begin();
    hello_put_sni(&extensions, "a.example", 9);
    hello_message(&message, &extensions);
    hello_records(&wire, &message, 40);
    size_t whole = wire.len;
    for (wire.len = 0; wire.len < whole; wire.len++)
        EXPECT_EQ(read_in(&h, &wire, wire.len ? wire.len : 1), MORE);
}

TEST(hello_sizes_are_limited)
{
    static uint8_t big[20000];
    struct tls_hello h;
    begin(); // the message's length alone says it
    hello_put_extension(&extensions, 21, big, 16400);
    EXPECT_EQ(finish(&h, 16384), ERR_LIMIT);
    begin(); // records of one byte: their headers count
    hello_put_extension(&extensions, 21, big, 4000);
    EXPECT_EQ(finish(&h, 1), ERR_LIMIT);
    EXPECT_EQ(h.fault, TLS_HELLO_TOO_LARGE);
    begin();
    for (uint16_t i = 0; i <= TLS_HELLO_MAX_EXTENSIONS; i++)
        hello_put_extension(&extensions, (uint16_t)(1000 + i), "", 0);
    EXPECT_EQ(finish(&h, 16384), ERR_LIMIT);
    begin();
    hello_put_extension(&extensions, 21, big, 14000);
    hello_put_sni(&extensions, "last.example", 12);
    EXPECT_EQ(finish(&h, 16384), OK);
    EXPECT_STR(h.sni, "last.example");
}

TEST(hello_tells_what_else_was_sent)
{
    static const struct {
        struct slice bytes;
        enum tls_hello_fault fault;
    } cases[] = {
        {{"GET / HTTP/1.1\r\n", 16}, TLS_HELLO_HTTP},
        {{"OPTIONS * HTTP/1.1\r\n", 20}, TLS_HELLO_HTTP},
        {{"PRI * HTTP/2.0\r\n", 16}, TLS_HELLO_HTTP},
        {{"PUT /x", 6}, TLS_HELLO_HTTP},
        {{"SSH-2.0-x\r\n", 11}, TLS_HELLO_NOT_TLS},
        {{"\0\0\0\0\0\0", 6}, TLS_HELLO_NOT_TLS},
        {{"\x80\x2e\x01\x03\x01\x00\x15", 7}, TLS_HELLO_SSLV2},
        {{"\x80\x2e\x01\x00\x02\x00\x15", 7}, TLS_HELLO_NOT_TLS},
        {{"\x15\x03\x01\x00\x02\x02\x28", 7}, TLS_HELLO_NOT_TLS},           // an alert
        {{"\x16\x03\x01\x00\x00", 5}, TLS_HELLO_MALFORMED},                 // an empty fragment
        {{"\x16\x03\x01\x40\x01", 5}, TLS_HELLO_MALFORMED},                 // more than 2^14
        {{"\x16\x03\x01\x00\x04\x02\x00\x00\x00", 9}, TLS_HELLO_MALFORMED}, // a ServerHello
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tls_hello h;
        wire.len = 0;
        hello_put(&wire, cases[i].bytes.ptr, cases[i].bytes.len);
        EXPECT(read_all_ways(&h) < 0);
        if (h.fault != cases[i].fault)
            test_fail(__FILE__, __LINE__, "case %zu: fault %d", i, h.fault);
    }
    struct tls_hello h; // another record between two handshake fragments
    begin();
    hello_message(&message, &extensions);
    hello_records(&wire, &message, 40);
    wire.bytes[45] = 23;
    EXPECT_EQ(read_all_ways(&h), ERR_SYNTAX);
}

// What BoringSSL's client sends, with the hybrid group's key share of 1.2 KB.
TEST(hello_of_a_real_client)
{
    static const uint8_t protocols[] = "\x02h2\x08http/1.1";
    static const uint16_t groups[] = {SSL_GROUP_X25519_MLKEM768, SSL_GROUP_X25519};
    struct tls_hello h;
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    SSL_CTX_set_grease_enabled(ctx, 1);
    REQUIRE(SSL_CTX_set1_group_ids(ctx, groups, 2));
    SSL *ssl = SSL_new(ctx);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl, in, out);
    SSL_set_connect_state(ssl);
    EXPECT(SSL_set_tlsext_host_name(ssl, "shop.example"));
    EXPECT_EQ(SSL_set_alpn_protos(ssl, protocols, sizeof(protocols) - 1), 0);
    EXPECT_EQ(SSL_do_handshake(ssl), -1);
    const uint8_t *bytes;
    size_t len;
    REQUIRE(BIO_mem_contents(out, &bytes, &len));
    EXPECT(len > 1400 && len < 2000);
    wire.len = 0;
    hello_put(&wire, bytes, len);
    EXPECT_EQ(read_all_ways(&h), OK);
    EXPECT_STR(h.sni, "shop.example");
    EXPECT_EQ(h.alpn_len, sizeof(protocols) - 1);
    hello_put(&message, "", 0);
    message.len = 0; // and cut into records of 500 bytes
    hello_put(&message, bytes + 5, len - 5);
    hello_records(&wire, &message, 500);
    EXPECT_EQ(read_all_ways(&h), OK);
    EXPECT_STR(h.sni, "shop.example");
    SSL_free(ssl);
    SSL_CTX_free(ctx);
}

TEST(hello_random_changes_never_break_the_reader)
{
    struct rng rng;
    struct tls_hello whole, pieces;
    rng_init(&rng, 20261125);
    begin();
    hello_put_sni(&extensions, "a.example", 9);
    hello_put_alpn(&extensions, (const char *const[]){"h2", "http/1.1"}, 2);
    hello_put_extension(&extensions, 43, "\2\3\4", 3);
    hello_message(&message, &extensions);
    for (int i = 0; i < 20000; i++) {
        hello_records(&wire, &message, 1 + rng_below(&rng, 200));
        for (uint64_t n = rng_below(&rng, 4); n > 0; n--)
            wire.bytes[rng_below(&rng, (uint32_t)wire.len)] = (uint8_t)rng_next(&rng);
        enum err e = read_in(&whole, &wire, wire.len);
        EXPECT_EQ(read_in(&pieces, &wire, 1 + rng_below(&rng, 30)), e);
        EXPECT(same(&whole, &pieces));
    }
}
