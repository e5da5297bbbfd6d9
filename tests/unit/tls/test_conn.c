// Two connections in memory: handshakes, data, ends and failures, in pieces of all sizes.
#include "core/rng.h"
#include "pair.h"
#include "test.h"
#include "tls/record.h"
#include <malloc.h>
#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/x509.h>
#include <stdlib.h>

static struct pair pair;

static const uint16_t versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

static void fill(uint8_t *bytes, size_t len, uint64_t seed)
{
    struct rng rng;
    rng_init(&rng, seed);
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)rng_next(&rng);
}

static bool up(uint16_t version, size_t piece)
{
    if (!pair_connect(&pair, version))
        return false;
    pair_settle(&pair, piece);
    return pair_is_up(&pair);
}

TEST(conn_shakes_hands_however_the_bytes_are_cut)
{
    static const size_t pieces[] = {1, 2, 5, 6, 100, 1460, 100000};
    REQUIRE(pair_init(&pair, false));
    for (int v = 0; v < 2; v++) {
        for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
            struct tls_info s, c;
            REQUIRE(up(versions[v], pieces[i]));
            tls_conn_info(pair.server.conn, &s);
            tls_conn_info(pair.client.conn, &c);
            EXPECT_STR(s.version, v ? "TLSv1.3" : "TLSv1.2");
            EXPECT_STR(c.version, s.version);
            EXPECT_STR(s.cipher, c.cipher);
            EXPECT(slice_eq(s.sni, SLICE("server.example")));
            EXPECT(slice_eq(s.alpn, SLICE("http/1.1")) && slice_eq(c.alpn, s.alpn));
            EXPECT(s.server && !c.server && !s.resumed && !c.resumed);
            EXPECT(!tls_conn_peer_certificate(pair.server.conn).len &&
                   tls_conn_peer_certificate(pair.client.conn).len);
            if (v)
                EXPECT_STR(s.group, "X25519MLKEM768");
            EXPECT(side_write(&pair, &pair.client, "ping", 4, pieces[i]));
            EXPECT(side_write(&pair, &pair.server, "pong", 4, pieces[i]));
            EXPECT(pair.server.got_len == 4 && memcmp(pair.server.got, "ping", 4) == 0);
            EXPECT(pair.client.got_len == 4 && memcmp(pair.client.got, "pong", 4) == 0);
        }
    }
    pair_fini(&pair);
}

static void exchange(size_t len, size_t piece)
{
    uint8_t *down = malloc(len), *up_bytes = malloc(len);
    fill(down, len, 1);
    fill(up_bytes, len, 2);
    side_forget(&pair.client);
    side_forget(&pair.server);
    EXPECT(side_write(&pair, &pair.server, down, len, piece));
    EXPECT(side_write(&pair, &pair.client, up_bytes, len, piece));
    EXPECT(pair.client.got_len == len && memcmp(pair.client.got, down, len) == 0);
    EXPECT(pair.server.got_len == len && memcmp(pair.server.got, up_bytes, len) == 0);
    EXPECT_EQ(pair.pools.records.in_use, 0);
    free(down);
    free(up_bytes);
}

TEST(conn_carries_large_bodies_both_ways)
{
    static const size_t pieces[] = {997, 8192, 16384, 1000000};
    for (int ring = 0; ring < 2; ring++) {
        REQUIRE(pair_init(&pair, ring));
        for (int v = 0; v < 2; v++) {
            for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
                REQUIRE(up(versions[v], pieces[i]));
                exchange(1500000, pieces[i]);
            }
        }
        pair_fini(&pair);
    }
}

TEST(conn_carries_bodies_byte_by_byte)
{
    REQUIRE(pair_init(&pair, true));
    for (int v = 0; v < 2; v++) {
        REQUIRE(up(versions[v], 1));
        exchange(50000, 1);
    }
    pair_fini(&pair);
}

TEST(conn_opens_whole_records_in_place)
{
    REQUIRE(pair_init(&pair, false));
    REQUIRE(up(0, 100000));
    EXPECT(side_write(&pair, &pair.client, "whole", 5, 100000));
    EXPECT(pair.server.in_place == 1 && pair.server.copied == 0);
    EXPECT(side_write(&pair, &pair.client, "in two", 6, 20));
    EXPECT(pair.server.in_place == 1 && pair.server.copied == 1);
    EXPECT_EQ(pair.pools.records.in_use, 0);
    EXPECT(side_write(&pair, &pair.client, "whole", 5, 100000));
    EXPECT(pair.server.in_place == 2 && pair.server.copied == 1);
    side_feed(&pair.server, "\x17\x03\x03\x00\x80", 5); // a header alone takes no block
    EXPECT_EQ(pair.pools.records.in_use, 0);
    side_feed(&pair.server, "", 1);
    EXPECT_EQ(pair.pools.records.in_use, 1);
    pair_fini(&pair);
}

// Plaintext in three pieces, of which one is empty, becomes one record.
TEST(conn_gathers_pieces_into_one_record)
{
    struct iovec iov[] = {{"head ", 5}, {"", 0}, {"body ", 5}, {"end", 3}};
    size_t taken, before;
    REQUIRE(pair_init(&pair, false));
    REQUIRE(up(0, 100000));
    side_forget(&pair.server);
    before = pair.client.wire.bytes;
    EXPECT_EQ(tls_conn_write(pair.client.conn, iov, 4, 1, 100000, &taken), OK);
    EXPECT_EQ(taken, 13);
    EXPECT_EQ(pair.client.wire.bytes - before, 13 + 5 + 17);
    pair_settle(&pair, 100000);
    EXPECT(pair.server.got_len == 13 && memcmp(pair.server.got, "head body end", 13) == 0);
    pair_fini(&pair);
}

// The plaintext lengths of the records on the wire.
static uint32_t record_lengths(const struct bufq *q, uint32_t *out, uint32_t cap)
{
    static uint8_t flat[200000];
    struct iovec iov[256];
    size_t len = 0;
    uint32_t pieces = bufq_peek(q, iov, 256), n = 0;
    for (uint32_t i = 0; i < pieces; len += iov[i++].iov_len)
        memcpy(flat + len, iov[i].iov_base, iov[i].iov_len);
    for (size_t at = 0; at < len && n < cap; at += 5 + (flat[at + 3] << 8 | flat[at + 4]))
        out[n++] = (uint32_t)(flat[at + 3] << 8 | flat[at + 4]) - 17;
    return n;
}

TEST(conn_begins_with_small_records_and_again_after_a_pause)
{
    static uint8_t body[120000];
    uint32_t lengths[64], n;
    size_t taken;
    struct iovec iov = {body, sizeof(body)};
    REQUIRE(pair_init(&pair, true));
    REQUIRE(up(TLS1_3_VERSION, 100000));
    EXPECT(side_write(&pair, &pair.server, "x", 1, 100000)); // with the tickets
    uint64_t later = 2 + 2 * TLS_RAMP_IDLE_NS;
    EXPECT_EQ(tls_conn_write(pair.server.conn, &iov, 1, later, 1000000, &taken), OK);
    n = record_lengths(&pair.server.wire, lengths, 64);
    REQUIRE(n > 16);
    for (uint32_t i = 0, sum = 0; i + 1 < n; sum += lengths[i++]) {
        if (lengths[i] != (sum < TLS_RAMP_BYTES ? TLS_SMALL_RECORD : 8192))
            test_fail(__FILE__, __LINE__, "record %u of %u bytes", i, lengths[i]);
    }
    pair_settle(&pair, 100000);
    EXPECT(pair.client.got_len >= sizeof(body));
    iov.iov_len = 8000;
    EXPECT_EQ(tls_conn_write(pair.server.conn, &iov, 1, later + 1, 1000000, &taken), OK);
    EXPECT(record_lengths(&pair.server.wire, lengths, 64) == 1);
    pair_settle(&pair, 100000);
    later += 2 + TLS_RAMP_IDLE_NS;
    EXPECT_EQ(tls_conn_write(pair.server.conn, &iov, 1, later, 1000000, &taken), OK);
    EXPECT(record_lengths(&pair.server.wire, lengths, 64) == 3);
    pair_settle(&pair, 100000);
    pair_fini(&pair);
}

TEST(conn_seals_what_was_received_in_one_piece_where_it_lies)
{
    static uint8_t body[TLS_RAMP_BYTES], pieces[4][8192];
    static const uint32_t expected[] = {8192, 8000, 8192, 8192};
    struct iovec iov[5] = {{body, sizeof(body)}};
    uint32_t lengths[64], n;
    size_t taken;
    REQUIRE(pair_init(&pair, true));
    REQUIRE(up(TLS1_3_VERSION, 100000));
    EXPECT_EQ(tls_conn_write(pair.server.conn, iov, 1, 1, 1000000, &taken), OK);
    pair_settle(&pair, 100000);
    for (int i = 0; i < 4; i++)
        iov[i] = (struct iovec){pieces[i], expected[i]};
    memset(pair.pools.gather, 7, 8192);
    EXPECT_EQ(tls_conn_write(pair.server.conn, iov, 4, 1, 1000000, &taken), OK);
    n = record_lengths(&pair.server.wire, lengths, 64);
    REQUIRE(n == 4);
    for (uint32_t i = 0; i < n; i++)
        EXPECT_EQ(lengths[i], expected[i]);
    for (uint32_t i = 0; i < 8192; i++)
        REQUIRE(((const uint8_t *)pair.pools.gather)[i] == 7); // nothing was copied together
    pair_settle(&pair, 100000);
    pair_fini(&pair);
}

TEST(conn_stops_where_the_wire_is_full)
{
    static uint8_t body[100000];
    size_t taken;
    struct iovec iov = {body, sizeof(body)};
    REQUIRE(pair_init(&pair, false));
    REQUIRE(up(0, 100000));
    EXPECT_EQ(tls_conn_write(pair.client.conn, &iov, 1, 1, 20000, &taken), OK);
    EXPECT(taken >= 16000 && taken < 24000);
    bufq_clear(&pair.client.wire);
    pair_fini(&pair);
}

TEST(conn_without_output_memory_goes_on_later)
{
    static uint8_t body[60000];
    size_t taken = 0, total = 0;
    REQUIRE(pair_init(&pair, false));
    REQUIRE(up(0, 100000));
    side_forget(&pair.server);
    fill(body, sizeof(body), 3);
    pair.chunks.cap = pair.chunks.in_use + 4;
    while (total < sizeof(body)) {
        struct iovec iov = {body + total, sizeof(body) - total};
        enum err e = tls_conn_write(pair.client.conn, &iov, 1, 1, 1000000, &taken);
        EXPECT(e == ERR_LIMIT || total + taken == sizeof(body));
        REQUIRE(taken > 0);
        total += taken;
        pair_settle(&pair, 100000);
    }
    EXPECT(pair.server.got_len == total && memcmp(pair.server.got, body, total) == 0);
    pair_fini(&pair);
}

TEST(conn_without_record_memory_fails)
{
    REQUIRE(pair_init(&pair, false));
    REQUIRE(up(0, 100000));
    pair.pools.records.cap = 0;
    size_t taken;
    struct iovec iov = {"hello", 5};
    EXPECT_EQ(tls_conn_write(pair.client.conn, &iov, 1, 1, 1000000, &taken), OK);
    pair_settle(&pair, 10);
    EXPECT_EQ(pair.server.last, TLS_FAILED);
    EXPECT_EQ(tls_conn_failure(pair.server.conn), TLS_FAIL_MEMORY);
    pair_fini(&pair);
}

TEST(conn_tells_a_proper_end_from_a_cut_one)
{
    REQUIRE(pair_init(&pair, false));
    for (int v = 0; v < 2; v++) {
        REQUIRE(up(versions[v], 100000));
        tls_conn_close(pair.client.conn);
        tls_conn_close(pair.client.conn); // once
        size_t taken;
        struct iovec iov = {"x", 1};
        EXPECT_EQ(tls_conn_write(pair.client.conn, &iov, 1, 1, 1000, &taken), ERR_CLOSED);
        pair_settle(&pair, 100000);
        EXPECT_EQ(pair.server.last, TLS_CLOSED);
        EXPECT_EQ(tls_conn_eof(pair.server.conn), OK);
        // The other direction is still open.
        EXPECT(side_write(&pair, &pair.server, "answer", 6, 100000));
        EXPECT_EQ(pair.client.got_len, 6);
        EXPECT_EQ(tls_conn_eof(pair.client.conn), ERR_CLOSED);
        EXPECT_EQ(tls_conn_failure(pair.client.conn), TLS_FAIL_TRUNCATED);
    }
    pair_fini(&pair);
}

TEST(conn_ignores_what_follows_close_notify)
{
    REQUIRE(pair_init(&pair, false));
    REQUIRE(up(0, 100000));
    tls_conn_close(pair.client.conn);
    pair_settle(&pair, 100000);
    side_feed(&pair.server, "anything", 8);
    EXPECT_EQ(pair.server.last, TLS_CLOSED);
    EXPECT_EQ(pair.server.got_len, 0);
    pair_fini(&pair);
}

TEST(conn_notices_every_changed_byte)
{
    static uint8_t flat[200];
    REQUIRE(pair_init(&pair, false));
    for (int v = 0; v < 2; v++) {
        for (size_t at = 0; at < 40; at++) {
            struct iovec iov = {"some plaintext bytes", 20};
            size_t taken;
            REQUIRE(up(versions[v], 100000));
            EXPECT_EQ(tls_conn_write(pair.client.conn, &iov, 1, 1, 1000, &taken), OK);
            size_t len = pair.client.wire.bytes;
            REQUIRE(len < sizeof(flat) && bufq_peek(&pair.client.wire, &iov, 1) == 1);
            memcpy(flat, iov.iov_base, len);
            bufq_clear(&pair.client.wire);
            flat[at] ^= 0x04;
            flat[3] &= 0x7f;
            side_feed(&pair.server, flat, len);
            if (pair.server.last == TLS_MORE) // a longer record is awaited
                side_feed(&pair.server, (uint8_t[20000]){0}, 20000);
            EXPECT_EQ(pair.server.last, TLS_FAILED);
            if (at > 4)
                EXPECT_EQ(tls_conn_failure(pair.server.conn), TLS_FAIL_RECORD);
            EXPECT_EQ(pair.server.got_len, 0);
            pair_settle(&pair, 100000); // the alert
            EXPECT_EQ(tls_conn_failure(pair.client.conn), TLS_FAIL_ALERT);
            side_feed(&pair.server, "x", 1);
            EXPECT_EQ(pair.server.last, TLS_FAILED);
        }
    }
    pair_fini(&pair);
}

TEST(conn_names_what_is_no_tls)
{
    static const struct {
        struct slice bytes;
        bool to_client;
        enum tls_failure failure;
    } cases[] = {
        {SLICE("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), false, TLS_FAIL_HTTP},
        {SLICE("POST / HTTP/1.1\r\nHost: a\r\n\r\n"), false, TLS_FAIL_HTTP},
        {SLICE("CONNECT a:443 HTTP/1.1\r\n\r\n"), false, TLS_FAIL_HTTP},
        {SLICE("SSH-2.0-OpenSSH_9\r\n"), false, TLS_FAIL_NOT_TLS},
        {SLICE("\0\0\0\0\0\0\0\0"), false, TLS_FAIL_NOT_TLS},
        {SLICE("HTTP/1.1 400 Bad Request\r\n\r\n"), true, TLS_FAIL_NOT_TLS},
        {SLICE("220 mail.example ESMTP\r\n"), true, TLS_FAIL_NOT_TLS},
    };
    REQUIRE(pair_init(&pair, false));
    for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
        struct slice bytes = cases[i / 2].bytes;
        REQUIRE(pair_connect(&pair, 0));
        struct side *to = cases[i / 2].to_client ? &pair.client : &pair.server;
        for (size_t at = 0; at < bytes.len; at += i % 2 ? 1 : bytes.len)
            side_feed(to, bytes.ptr + at, i % 2 ? 1 : bytes.len);
        EXPECT_EQ(to->last, TLS_FAILED);
        EXPECT_EQ(tls_conn_failure(to->conn), cases[i / 2].failure);
        EXPECT(!tls_conn_is_established(to->conn));
    }
    pair_fini(&pair);
}

static void expect_failures(enum tls_failure server, enum tls_failure client)
{
    pair_settle(&pair, 100000);
    EXPECT_EQ(tls_conn_failure(pair.server.conn), server);
    EXPECT_EQ(tls_conn_failure(pair.client.conn), client);
    EXPECT(tls_conn_failure_reason(pair.server.conn)[0] != '\0');
}

TEST(conn_without_common_ground_sends_an_alert)
{
    REQUIRE(pair_init(&pair, false));
    SSL_CTX_set_min_proto_version(pair.server_ctx, TLS1_3_VERSION);
    REQUIRE(pair_connect(&pair, TLS1_2_VERSION));
    expect_failures(TLS_FAIL_VERSION, TLS_FAIL_ALERT);
    SSL_CTX_set_min_proto_version(pair.server_ctx, TLS1_2_VERSION);

    REQUIRE(SSL_CTX_set_strict_cipher_list(pair.server_ctx, "ECDHE-ECDSA-AES256-GCM-SHA384"));
    REQUIRE(SSL_CTX_set_strict_cipher_list(pair.client_ctx, "ECDHE-ECDSA-AES128-GCM-SHA256"));
    REQUIRE(pair_connect(&pair, TLS1_2_VERSION));
    expect_failures(TLS_FAIL_CIPHER, TLS_FAIL_ALERT);

    REQUIRE(pair_connect(&pair, TLS1_3_VERSION));
    pair_settle(&pair, 100000);
    EXPECT(pair_is_up(&pair)); // those suites are of TLS 1.2
    pair_fini(&pair);
}

static enum ssl_verify_result_t refuse(SSL *ssl, uint8_t *alert)
{
    (void)ssl;
    *alert = SSL_AD_UNKNOWN_CA;
    return ssl_verify_invalid;
}

static enum ssl_verify_result_t accept_any(SSL *ssl, uint8_t *alert)
{
    (void)ssl;
    (void)alert;
    return ssl_verify_ok;
}

TEST(conn_client_certificates)
{
    const int required = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    struct tls_info info;
    EVP_PKEY *key = pair_make_key();
    X509 *cert = pair_make_certificate(key, "client.example");
    for (int v = 0; v < 2; v++) {
        REQUIRE(pair_init(&pair, false));
        SSL_CTX_set_custom_verify(pair.server_ctx, required, accept_any);
        REQUIRE(pair_connect(&pair, versions[v]));
        expect_failures(TLS_FAIL_NO_CERTIFICATE, TLS_FAIL_ALERT);

        REQUIRE(SSL_CTX_use_certificate(pair.client_ctx, cert));
        REQUIRE(SSL_CTX_use_PrivateKey(pair.client_ctx, key));
        REQUIRE(up(versions[v], 100000));
        tls_conn_info(pair.server.conn, &info);
        uint8_t *der = NULL;
        int len = i2d_X509(cert, &der);
        struct slice shown = tls_conn_peer_certificate(pair.server.conn);
        EXPECT(len > 0 && slice_eq(shown, (struct slice){(const char *)der, (size_t)len}));
        EXPECT_STR(info.openssl_cipher,
                   v ? "TLS_AES_128_GCM_SHA256" : "ECDHE-ECDSA-AES128-GCM-SHA256");
        OPENSSL_free(der);

        SSL_CTX_set_custom_verify(pair.server_ctx, required, refuse);
        REQUIRE(pair_connect(&pair, versions[v]));
        expect_failures(TLS_FAIL_CERTIFICATE, TLS_FAIL_ALERT);

        SSL_CTX_set_custom_verify(pair.server_ctx, required, accept_any);
        SSL_CTX_set_custom_verify(pair.client_ctx, SSL_VERIFY_PEER, refuse);
        REQUIRE(pair_connect(&pair, versions[v]));
        expect_failures(TLS_FAIL_ALERT, TLS_FAIL_CERTIFICATE);
        pair_fini(&pair);
    }
    X509_free(cert);
    EVP_PKEY_free(key);
}

TEST(conn_resumes_with_a_ticket)
{
    struct tls_info s, c;
    for (int v = 0; v < 2; v++) {
        REQUIRE(pair_init(&pair, false));
        REQUIRE(up(versions[v], 100000));
        // TLS 1.3's tickets go out in front of the first answer.
        EXPECT(side_write(&pair, &pair.server, "x", 1, 100000));
        REQUIRE(pair.session);
        pair.resume = true;
        for (size_t piece = 1; piece < 100000; piece *= 50) {
            REQUIRE(up(versions[v], piece));
            tls_conn_info(pair.server.conn, &s);
            tls_conn_info(pair.client.conn, &c);
            EXPECT(s.resumed && c.resumed);
            EXPECT(side_write(&pair, &pair.server, "again", 5, piece));
            EXPECT(pair.client.got_len == 5 && memcmp(pair.client.got, "again", 5) == 0);
        }
        pair_fini(&pair);
    }
}

TEST(conn_server_that_only_closes_still_gives_tickets)
{
    REQUIRE(pair_init(&pair, false));
    REQUIRE(up(TLS1_3_VERSION, 100000));
    EXPECT(!pair.session);
    tls_conn_close(pair.server.conn);
    pair_settle(&pair, 100000);
    EXPECT(pair.session != NULL);
    EXPECT_EQ(pair.client.last, TLS_CLOSED);
    pair_fini(&pair);
}

TEST(conn_follows_key_updates)
{
    REQUIRE(pair_init(&pair, true));
    REQUIRE(up(TLS1_3_VERSION, 100000));
    for (int i = 0; i < 100; i++) {
        struct side *from = i % 3 ? &pair.client : &pair.server;
        REQUIRE(SSL_key_update(tls_conn_ssl(from->conn),
                               i % 2 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED));
        exchange(100 + (size_t)i * 50, 1 + (size_t)i * 31);
    }
    pair_fini(&pair);
}

TEST(conn_ends_floods)
{
    REQUIRE(pair_init(&pair, false));
    REQUIRE(up(TLS1_3_VERSION, 100000)); // RFC 8446, 4.6.3 sets no limit; BoringSSL takes 32
    SSL *ssl = tls_conn_ssl(pair.client.conn);
    for (int i = 0; i < 40; i++) {
        EXPECT(SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED));
        (void)SSL_write(ssl, "", 0);
    }
    ERR_clear_error();
    (void)pair_move(&pair.client, &pair.server, 100000);
    EXPECT_EQ(tls_conn_failure(pair.server.conn), TLS_FAIL_FLOOD);
    EXPECT(pair.server.wire.bytes < 4096); // one answer at most

    for (int v = 0; v < 2; v++) {
        REQUIRE(up(versions[v], 100000));
        for (int i = 0; i < 40; i++) {
            uint8_t record[64];
            size_t n = record_seal(tls_conn_ssl(pair.client.conn), record, 64, record, 0);
            REQUIRE(n > 0);
            REQUIRE(bufq_append(&pair.client.wire, (struct slice){(char *)record, n}));
        }
        pair_settle(&pair, 100000);
        EXPECT_EQ(tls_conn_failure(pair.server.conn), TLS_FAIL_FLOOD);
    }
    pair_fini(&pair);
}

TEST(conn_refuses_a_handshake_that_starts_over)
{
    REQUIRE(pair_init(&pair, false));
    REQUIRE(up(TLS1_2_VERSION, 100000));
    side_feed(&pair.server, "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", 10);
    EXPECT_EQ(pair.server.last, TLS_FAILED);
    pair_settle(&pair, 100000);
    EXPECT_EQ(tls_conn_failure(pair.client.conn), TLS_FAIL_ALERT);
    pair_fini(&pair);
}

TEST(conn_cut_in_the_handshake_is_truncated)
{
    REQUIRE(pair_init(&pair, false));
    REQUIRE(pair_connect(&pair, 0));
    (void)pair_move(&pair.client, &pair.server, 100000);
    EXPECT_EQ(tls_conn_eof(pair.server.conn), ERR_CLOSED);
    EXPECT_EQ(tls_conn_failure(pair.server.conn), TLS_FAIL_TRUNCATED);
    tls_conn_close(pair.server.conn); // says nothing
    pair_fini(&pair);
}

// --- memory of an idle connection ---

static size_t allocated;

void *OPENSSL_memory_alloc(size_t size);
void OPENSSL_memory_free(void *p);
size_t OPENSSL_memory_get_size(void *p);

void *OPENSSL_memory_alloc(size_t size)
{
    void *p = malloc(size ? size : 1); // BoringSSL copies the usable size, and TSan says 1 of 0
    if (p)
        __atomic_add_fetch(&allocated, malloc_usable_size(p) + 16, __ATOMIC_RELAXED);
    return p;
}

void OPENSSL_memory_free(void *p)
{
    __atomic_sub_fetch(&allocated, malloc_usable_size(p) + 16, __ATOMIC_RELAXED);
    free(p);
}

size_t OPENSSL_memory_get_size(void *p)
{
    return malloc_usable_size(p);
}

// How much a side's end frees: what it had held.
static size_t freed_by(struct side *s)
{
    size_t before = allocated;
    tls_conn_destroy(s->conn);
    s->conn = NULL;
    return before - allocated + pair.pools.conns.object_bytes;
}

TEST(conn_idle_takes_little_memory)
{
    REQUIRE(pair_init(&pair, false));
    for (int v = 0; v < 2; v++) {
        REQUIRE(up(versions[v], 100000));
        exchange(100000, 8192);
        EXPECT_EQ(pair.pools.records.in_use, 0);
        size_t server = freed_by(&pair.server), client = freed_by(&pair.client);
        printf("  idle %s: server %zu bytes, client %zu bytes\n", v ? "TLS 1.3" : "TLS 1.2", server,
               client);
        EXPECT(server <= 4096 && server > 1000);
        EXPECT(client <= 4096 && client > 1000);
    }
    pair_fini(&pair);
}
