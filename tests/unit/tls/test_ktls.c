// What the kernel is given and what it gives back, without one: exported keys open what BoringSSL
// seals, and control records do what they would have done inside BoringSSL. End to end, in a kernel
// with kTLS: tests/e2e/test_ktls.py.
#include "pair.h"
#include "test.h"
#include "tls/ktls.h"
#include "tls/record.h"
#include <openssl/aead.h>
#include <openssl/mem.h>
#include <openssl/nid.h>

#define ALERT 21
#define HANDSHAKE 22
#define DATA 23

static struct pair pair;

static const struct suite {
    uint16_t version;
    const char *cipher; // of TLS 1.2
    enum ssl_compliance_policy_t policy;
    int nid;
} suites[] = {
    {TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256", 0, NID_aes_128_gcm},
    {TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384", 0, NID_aes_256_gcm},
    {TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305", 0, NID_chacha20_poly1305},
    {TLS1_3_VERSION, NULL, 0, NID_undef}, // what this machine is best at
    {TLS1_3_VERSION, NULL, ssl_compliance_policy_cnsa_202407, NID_aes_256_gcm},
};
#define SUITES (sizeof(suites) / sizeof(suites[0]))

static bool up(const struct suite *s)
{
    if (!pair_init(&pair, false))
        return false;
    if (s->cipher && !SSL_CTX_set_strict_cipher_list(pair.client_ctx, s->cipher))
        return false;
    if (s->policy && !SSL_CTX_set_compliance_policy(pair.server_ctx, s->policy))
        return false;
    if (!pair_connect(&pair, s->version))
        return false;
    pair_settle(&pair, 100000);
    return pair_is_up(&pair);
}

static const EVP_AEAD *aead_of(int nid)
{
    return nid == NID_aes_128_gcm   ? EVP_aead_aes_128_gcm()
           : nid == NID_aes_256_gcm ? EVP_aead_aes_256_gcm()
                                    : EVP_aead_chacha20_poly1305();
}

static void number(uint8_t out[8], uint64_t n)
{
    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)(n >> (56 - 8 * i));
}

// Opens one record as the kernel does. Its content's length, or 0.
static size_t open_record(const struct record_keys *k, uint64_t sequence, const uint8_t *record,
                          size_t len, uint8_t *out, uint8_t *type)
{
    bool tls13 = k->version == TLS1_3_VERSION;
    size_t explicit_len = !tls13 && k->cipher_nid != NID_chacha20_poly1305 ? 8 : 0;
    uint8_t nonce[12], extra[13];
    size_t extra_len = 5;
    memcpy(nonce, k->iv, sizeof(nonce));
    number(extra, sequence);
    if (explicit_len)
        memcpy(nonce + 4, record + 5, 8);
    for (int i = 0; i < 8 && !explicit_len; i++)
        nonce[4 + i] ^= extra[i];
    if (tls13) {
        memcpy(extra, record, 5);
    } else {
        size_t content = len - 5 - explicit_len - 16;
        memcpy(extra + 8, record, 3);
        extra[11] = (uint8_t)(content >> 8);
        extra[12] = (uint8_t)content;
        extra_len = 13;
    }
    const EVP_AEAD *aead = aead_of(k->cipher_nid);
    EVP_AEAD_CTX *ctx = EVP_AEAD_CTX_new(aead, k->key, EVP_AEAD_key_length(aead), 16);
    size_t n = 0;
    const uint8_t *sealed = record + 5 + explicit_len;
    if (!EVP_AEAD_CTX_open(ctx, out, &n, len, nonce, sizeof(nonce), sealed, len - 5 - explicit_len,
                           extra, extra_len))
        n = 0;
    EVP_AEAD_CTX_free(ctx);
    *type = record[0];
    if (tls13 && n > 0)
        *type = out[--n];
    return n;
}

// The wire's first record, taken off it; its length.
static size_t take_record(struct side *s, uint8_t *out, size_t cap)
{
    struct iovec iov[8];
    uint8_t all[4096];
    size_t have = 0;
    uint32_t n = bufq_peek(&s->wire, iov, 8);
    for (uint32_t i = 0; i < n && have + iov[i].iov_len <= sizeof(all); i++) {
        memcpy(all + have, iov[i].iov_base, iov[i].iov_len);
        have += iov[i].iov_len;
    }
    size_t len = have >= 5 ? 5 + (size_t)(all[3] << 8 | all[4]) : 0;
    if (len > have || len > cap)
        return 0;
    memcpy(out, all, len);
    bufq_consume(&s->wire, len);
    return len;
}

static bool put(struct side *s, const char *text)
{
    struct iovec iov = {(void *)(uintptr_t)text, strlen(text)};
    size_t taken;
    return tls_conn_write(s->conn, &iov, 1, 1, 100000, &taken) == OK && taken == iov.iov_len;
}

// What `from` seals is opened with the keys that either side exports.
static void check_direction(const struct suite *s, struct side *from, struct side *to)
{
    struct record_keys sealing, opening;
    uint8_t record[1024], plain[1024], type = 0;
    for (int i = 0; i < 3; i++) {
        REQUIRE(record_export(tls_conn_ssl(from->conn), true, &sealing));
        REQUIRE(record_export(tls_conn_ssl(to->conn), false, &opening));
        EXPECT_EQ(sealing.version, s->version);
        if (s->nid != NID_undef)
            EXPECT_EQ(sealing.cipher_nid, s->nid);
        EXPECT_EQ(sealing.sequence, opening.sequence);
        EXPECT(memcmp(&sealing, &opening, sizeof(sealing)) == 0);
        REQUIRE(put(from, "something"));
        size_t len = take_record(from, record, sizeof(record));
        REQUIRE(len > 0);
        EXPECT_EQ(open_record(&opening, opening.sequence + 1, record, len, plain, &type), 0);
        size_t n = open_record(&opening, opening.sequence, record, len, plain, &type);
        EXPECT(n == 9 && memcmp(plain, "something", 9) == 0 && type == DATA);
        side_feed(to, record, len);
    }
    EXPECT(to->got_len == 27);
}

TEST(ktls_exported_keys_open_what_is_sealed)
{
    for (size_t i = 0; i < SUITES; i++) {
        REQUIRE(up(&suites[i]));
        // Tickets first: they use up numbers.
        REQUIRE(tls_conn_flush_messages(pair.server.conn));
        pair_settle(&pair, 100000);
        check_direction(&suites[i], &pair.server, &pair.client);
        check_direction(&suites[i], &pair.client, &pair.server);
        pair_fini(&pair);
    }
}

TEST(ktls_no_keys_of_a_cipher_that_the_kernel_does_not_know)
{
    struct record_keys keys;
    static const struct suite cbc = {TLS1_2_VERSION, "ECDHE-ECDSA-AES128-SHA", 0, NID_undef};
    REQUIRE(up(&cbc));
    EXPECT(!ktls_may_take(pair.server.conn));
    EXPECT(!record_export(tls_conn_ssl(pair.server.conn), true, &keys));
    pair_fini(&pair);
}

// A socket that is none of TCP: the connection goes on as before, and nothing is held against
// the kernel.
TEST(ktls_refusal_changes_nothing)
{
    int fd = -1;
    REQUIRE(up(&suites[3]));
    EXPECT(ktls_may_take(pair.server.conn));
    EXPECT_EQ(ktls_take_receiving(pair.server.conn, fd), KTLS_REFUSED);
    EXPECT(ktls_may_take(pair.server.conn));
    EXPECT(side_write(&pair, &pair.client, "ping", 4, 100));
    EXPECT(side_write(&pair, &pair.server, "pong", 4, 100));
    EXPECT(pair.server.got_len == 4 && pair.client.got_len == 4);
    pair_fini(&pair);
}

TEST(ktls_what_is_missing_of_a_record)
{
    uint8_t record[1024];
    REQUIRE(up(&suites[3]));
    EXPECT_EQ(tls_conn_missing(pair.server.conn), 0);
    REQUIRE(put(&pair.client, "0123456789"));
    size_t len = take_record(&pair.client, record, sizeof(record));
    REQUIRE(len > 20);
    for (size_t have = 1; have < len; have++) {
        side_feed(&pair.server, record + have - 1, 1);
        EXPECT_EQ(tls_conn_missing(pair.server.conn), have < 5 ? 5 - have : len - have);
    }
    side_feed(&pair.server, record + len - 1, 1);
    EXPECT_EQ(tls_conn_missing(pair.server.conn), 0);
    EXPECT_EQ(pair.server.got_len, 10);
    pair_fini(&pair);
}

static enum tls_read control(struct side *s, uint8_t type, const void *bytes, size_t len)
{
    return ktls_control(s->conn, -1, type, (struct slice){bytes, len}, true);
}

// Tickets are read as BoringSSL reads them, also in pieces, and the session they are for resumes.
TEST(ktls_tickets_in_control_records)
{
    static const size_t pieces[] = {1, 4, 100, 100000};
    struct record_keys keys;
    uint8_t record[2048], plain[2048], type = 0;
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        REQUIRE(up(&suites[3]));
        EXPECT(pair.session == NULL);
        REQUIRE(record_export(tls_conn_ssl(pair.client.conn), false, &keys));
        REQUIRE(tls_conn_flush_messages(pair.server.conn));
        size_t len, tickets = 0;
        for (; (len = take_record(&pair.server, record, sizeof(record))) > 0; keys.sequence++) {
            size_t n = open_record(&keys, keys.sequence, record, len, plain, &type);
            REQUIRE(n > 0 && type == HANDSHAKE);
            for (size_t at = 0; at < n; at += pieces[i]) {
                size_t here = n - at < pieces[i] ? n - at : pieces[i];
                EXPECT_EQ(control(&pair.client, type, plain + at, here), TLS_MORE);
                if (at + here < 100) // a ticket is longer, and a record may hold several
                    EXPECT_EQ(tls_conn_missing(pair.client.conn), 5);
            }
            EXPECT_EQ(tls_conn_missing(pair.client.conn), 0);
            tickets++;
        }
        EXPECT(tickets > 0 && pair.session != NULL);
        pair.resume = true;
        REQUIRE(pair_connect(&pair, TLS1_3_VERSION));
        pair_settle(&pair, 100000);
        struct tls_info info;
        tls_conn_info(pair.client.conn, &info);
        EXPECT(info.resumed);
        pair_fini(&pair);
    }
}

TEST(ktls_alerts_in_control_records)
{
    static const struct {
        uint16_t version;
        uint8_t bytes[3], len;
        enum tls_read read;
        enum tls_failure failure;
    } cases[] = {
        {TLS1_2_VERSION, {1, 0}, 2, TLS_CLOSED, TLS_FAIL_NONE},
        {TLS1_3_VERSION, {1, 0}, 2, TLS_CLOSED, TLS_FAIL_NONE},
        {TLS1_2_VERSION, {1, 90}, 2, TLS_MORE, TLS_FAIL_NONE},
        {TLS1_3_VERSION, {1, 90}, 2, TLS_MORE, TLS_FAIL_NONE},
        {TLS1_2_VERSION, {2, 40}, 2, TLS_FAILED, TLS_FAIL_ALERT},
        {TLS1_3_VERSION, {2, 40}, 2, TLS_FAILED, TLS_FAIL_ALERT},
        {TLS1_3_VERSION, {1, 0, 1}, 3, TLS_FAILED, TLS_FAIL_PROTOCOL},
        {TLS1_3_VERSION, {1}, 1, TLS_FAILED, TLS_FAIL_PROTOCOL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        REQUIRE(up(&suites[cases[i].version == TLS1_2_VERSION ? 0 : 3]));
        EXPECT_EQ(control(&pair.server, ALERT, cases[i].bytes, cases[i].len), cases[i].read);
        EXPECT_EQ(tls_conn_failure(pair.server.conn), cases[i].failure);
        pair_fini(&pair);
    }
}

// Without data in between there is an end to warnings.
TEST(ktls_a_flood_of_warnings)
{
    static const uint8_t warning[] = {1, 90};
    for (int data = 0; data < 2; data++) {
        REQUIRE(up(&suites[0]));
        enum tls_read r = TLS_MORE;
        for (int i = 0; i < 10 && r == TLS_MORE; i++)
            r = ktls_control(pair.server.conn, -1, ALERT,
                             (struct slice){(const char *)warning, sizeof(warning)}, data);
        EXPECT_EQ(r, data ? TLS_MORE : TLS_FAILED);
        EXPECT_EQ(tls_conn_failure(pair.server.conn), data ? TLS_FAIL_NONE : TLS_FAIL_FLOOD);
        pair_fini(&pair);
    }
}

// No key of the old ones opens what comes behind a KeyUpdate; a kernel that takes no new ones
// cannot go on.
TEST(ktls_key_update_that_the_kernel_cannot_follow)
{
    static const uint8_t update[] = {24, 0, 0, 1, 0};
    struct record_keys before, after;
    uint8_t alert[2];
    REQUIRE(up(&suites[3]));
    REQUIRE(record_export(tls_conn_ssl(pair.server.conn), false, &before));
    EXPECT(!ktls_alert(pair.server.conn, alert));
    EXPECT_EQ(control(&pair.server, HANDSHAKE, update, sizeof(update)), TLS_FAILED);
    EXPECT_EQ(tls_conn_failure(pair.server.conn), TLS_FAIL_KEY_CHANGE);
    REQUIRE(record_export(tls_conn_ssl(pair.server.conn), false, &after));
    EXPECT(memcmp(before.key, after.key, 16) != 0 && after.sequence == 0);
    EXPECT(ktls_alert(pair.server.conn, alert));
    EXPECT(alert[0] == SSL3_AL_FATAL && alert[1] == SSL_AD_INTERNAL_ERROR);
    pair_fini(&pair);
}

TEST(ktls_messages_that_are_not_for_us)
{
    static const uint8_t hello[] = {1, 0, 0, 2, 3, 3}, finished[] = {20, 0, 0, 1, 7};
    static const struct {
        uint16_t version;
        uint8_t type;
        const uint8_t *bytes;
        uint8_t len, alert;
        enum tls_failure failure;
    } cases[] = {
        {TLS1_2_VERSION, HANDSHAKE, hello, sizeof(hello), SSL_AD_NO_RENEGOTIATION,
         TLS_FAIL_RENEGOTIATION},
        {TLS1_3_VERSION, HANDSHAKE, hello, sizeof(hello), SSL_AD_UNEXPECTED_MESSAGE,
         TLS_FAIL_PROTOCOL},
        {TLS1_3_VERSION, HANDSHAKE, finished, sizeof(finished), SSL_AD_UNEXPECTED_MESSAGE,
         TLS_FAIL_PROTOCOL},
        {TLS1_3_VERSION, HANDSHAKE, finished, 0, SSL_AD_UNEXPECTED_MESSAGE, TLS_FAIL_PROTOCOL},
        {TLS1_3_VERSION, 20, finished, 1, SSL_AD_UNEXPECTED_MESSAGE, TLS_FAIL_PROTOCOL},
    };
    uint8_t alert[2];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        REQUIRE(up(&suites[cases[i].version == TLS1_2_VERSION ? 0 : 3]));
        EXPECT_EQ(control(&pair.server, cases[i].type, cases[i].bytes, cases[i].len), TLS_FAILED);
        EXPECT_EQ(tls_conn_failure(pair.server.conn), cases[i].failure);
        EXPECT(ktls_alert(pair.server.conn, alert) && alert[1] == cases[i].alert);
        pair_fini(&pair);
    }
}
