// Certificates are made here, so that nothing expires.
#include "test.h"
#include "tls/cert.h"
#include <openssl/bio.h>
#include <openssl/ec_key.h>
#include <openssl/evp.h>
#include <openssl/mem.h>
#include <openssl/nid.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdlib.h>

#define FROM 1700000000  // 2023-11-14 22:13:20
#define UNTIL 1800000000 // 2027-01-15 08:00:00
#define NOW 1750000000

static EVP_PKEY *new_key(void)
{
    EVP_PKEY *k = EVP_PKEY_new();
    EC_KEY *e = EC_KEY_new_by_curve_name(NID_X9_62_prime256v1);
    EXPECT(k && e && EC_KEY_generate_key(e) && EVP_PKEY_assign_EC_KEY(k, e));
    return k;
}

static void name_it(X509 *x, const char *cn, const char *dns)
{
    X509_NAME *n = X509_get_subject_name(x);
    if (cn)
        EXPECT(X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_UTF8, (const uint8_t *)cn, -1, -1, 0));
    if (!dns)
        return;
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    GENERAL_NAME *g = GENERAL_NAME_new();
    ASN1_IA5STRING *s = ASN1_IA5STRING_new();
    EXPECT(ASN1_STRING_set(s, dns, -1));
    GENERAL_NAME_set0_value(g, GEN_DNS, s);
    sk_GENERAL_NAME_push(names, g);
    EXPECT(X509_add1_ext_i2d(x, NID_subject_alt_name, names, 0, 0));
    GENERAL_NAMES_free(names);
}

static void take(BIO *b, char *out, size_t cap)
{
    const uint8_t *text;
    size_t len;
    EXPECT(BIO_mem_contents(b, &text, &len) && len < cap);
    memcpy(out, text, len);
    out[len] = '\0';
    BIO_free(b);
}

static void make(EVP_PKEY *key, const char *cn, const char *dns, char *out, size_t cap)
{
    X509 *x = X509_new();
    BIO *b = BIO_new(BIO_s_mem());
    X509_set_version(x, X509_VERSION_3);
    name_it(x, cn, dns);
    EXPECT(ASN1_TIME_set_posix(X509_getm_notBefore(x), FROM) &&
           ASN1_TIME_set_posix(X509_getm_notAfter(x), UNTIL) && X509_set_pubkey(x, key) &&
           X509_sign(x, key, EVP_sha256()) && PEM_write_bio_X509(b, x));
    take(b, out, cap);
    X509_free(x);
}

static void print_key(EVP_PKEY *key, const EVP_CIPHER *cipher, char *out, size_t cap)
{
    BIO *b = BIO_new(BIO_s_mem());
    EXPECT(PEM_write_bio_PrivateKey(b, key, cipher, (uint8_t *)"x", cipher ? 1 : 0, NULL, NULL));
    take(b, out, cap);
}

static struct {
    char chain[2048], key[2048], other_key[2048], encrypted[2048], why[256];
} made;

static void setup(void)
{
    EVP_PKEY *mine = new_key(), *other = new_key();
    make(mine, "a.example", "b.example", made.chain, sizeof(made.chain));
    print_key(mine, NULL, made.key, sizeof(made.key));
    print_key(other, NULL, made.other_key, sizeof(made.other_key));
    print_key(mine, EVP_aes_128_cbc(), made.encrypted, sizeof(made.encrypted));
    EVP_PKEY_free(mine);
    EVP_PKEY_free(other);
    made.why[0] = '\0';
}

// The error of cert_parse; the reason is in made.why.
static enum err parse(const char *chain, const char *key)
{
    struct cert *c;
    enum err e = cert_parse(slice_of(chain), slice_of(key), &c, made.why, sizeof(made.why));
    EXPECT((e == OK) == (c != NULL));
    cert_destroy(c);
    return e;
}

static bool is_valid(const char *chain, const char *key, int64_t now)
{
    return cert_is_valid(slice_of(chain), slice_of(key), now, made.why, sizeof(made.why));
}

TEST(cert_says_its_subject_and_dates)
{
    struct cert *c;
    setup();
    REQUIRE(cert_parse(slice_of(made.chain), slice_of(made.key), &c, made.why, sizeof(made.why)) ==
            OK);
    EXPECT_STR(cert_subject(c), "CN=a.example");
    EXPECT_EQ(cert_count(c), 1);
    EXPECT_EQ(cert_not_before_s(c), FROM);
    EXPECT_EQ(cert_not_after_s(c), UNTIL);
    cert_destroy(c);
    cert_destroy(NULL);
}

static const char *subject_of(const char *cn, const char *dns)
{
    static char out[64];
    char chain[2048];
    struct cert *c;
    EVP_PKEY *k = new_key();
    make(k, cn, dns, chain, sizeof(chain));
    EVP_PKEY_free(k);
    out[0] = '\0';
    if (cert_parse(slice_of(chain), SLICE(""), &c, made.why, sizeof(made.why)) == OK)
        snprintf(out, sizeof(out), "%s", cert_subject(c));
    cert_destroy(c);
    return out;
}

TEST(cert_subject_is_printable_and_never_empty)
{
    EXPECT_STR(subject_of(NULL, "b.example"), "b.example");
    EXPECT_STR(subject_of(NULL, "b\n\x1b[2J"), "b??[2J");
    EXPECT_STR(subject_of(NULL, NULL), "(no name)");
    EXPECT_STR(subject_of("a\nb, c", NULL), "CN=a\\0Ab\\, c");
}

TEST(cert_chain_has_all_its_certificates)
{
    char text[8192];
    struct cert *c;
    setup();
    snprintf(text, sizeof(text), "subject=a\r\n%s\nissuer:\n%s trailing words\n", made.chain,
             made.chain);
    REQUIRE(cert_parse(slice_of(text), slice_of(made.key), &c, made.why, sizeof(made.why)) == OK);
    EXPECT_EQ(cert_count(c), 2);
    cert_destroy(c);
}

TEST(cert_chain_has_a_limit)
{
    setup();
    size_t len = strlen(made.chain);
    char *text = malloc(len * 33 + 1);
    REQUIRE(text);
    for (int i = 0; i < 33; i++)
        memcpy(text + (size_t)i * len, made.chain, len + 1);
    EXPECT_EQ(parse(text, ""), ERR_LIMIT);
    text[len * 32] = '\0';
    EXPECT_EQ(parse(text, ""), OK);
    free(text);
}

TEST(cert_half_a_chain_is_none)
{
    char text[8192];
    setup();
    snprintf(text, sizeof(text), "%s%.*s", made.chain, 200, made.chain);
    EXPECT_EQ(parse(text, made.key), ERR_SYNTAX);
    EXPECT_STR(made.why, "certificate 2 of the chain cannot be read");
    snprintf(text, sizeof(text), "%s-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n",
             made.chain);
    EXPECT_EQ(parse(text, made.key), ERR_SYNTAX);
}

TEST(cert_of_nothing)
{
    setup();
    EXPECT_EQ(parse("", made.key), ERR_SYNTAX);
    EXPECT_STR(made.why, "no certificate in PEM");
    EXPECT_EQ(parse("hush hush hush\n", made.key), ERR_SYNTAX);
    EXPECT_EQ(parse(made.key, made.key), ERR_SYNTAX);
    EXPECT_STR(made.why, "no certificate in PEM");
}

TEST(cert_key_must_be_its_own)
{
    setup();
    EXPECT_EQ(parse(made.chain, made.other_key), ERR_INVALID);
    EXPECT_STR(made.why, "the private key is not that of the certificate CN=a.example");
    EXPECT_EQ(parse(made.chain, "secret secret\n"), ERR_SYNTAX);
    EXPECT_STR(made.why, "no private key in PEM");
    EXPECT_EQ(parse(made.chain, made.encrypted), ERR_SYNTAX);
    EXPECT_STR(made.why, "the private key is encrypted");
    EXPECT_EQ(parse(made.chain, made.key), OK); // nothing is left of the faults before
}

TEST(cert_dates_are_inclusive)
{
    setup();
    EXPECT(is_valid(made.chain, made.key, NOW));
    EXPECT(is_valid(made.chain, made.key, FROM));
    EXPECT(is_valid(made.chain, made.key, UNTIL));
    EXPECT(!is_valid(made.chain, made.key, FROM - 1));
    EXPECT_STR(made.why,
               "the certificate CN=a.example is not valid before 2023-11-14 22:13:20 UTC");
    EXPECT(!is_valid(made.chain, made.key, UNTIL + 1));
    EXPECT_STR(made.why, "the certificate CN=a.example expired at 2027-01-15 08:00:00 UTC");
    EXPECT(!is_valid(made.chain, made.other_key, NOW));
}
