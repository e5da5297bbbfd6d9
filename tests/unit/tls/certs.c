#include "certs.h"
#include "core/check.h"
#include <arpa/inet.h>
#include <openssl/base64.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/ec_key.h>
#include <openssl/evp.h>
#include <openssl/mem.h>
#include <openssl/nid.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/sha2.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define RSA_KEYS 4

// ---- what lives until the end

static struct kept {
    struct kept *next;
    struct made made;
    char *text;
} *all;
static EVP_PKEY *rsa_keys[RSA_KEYS];

__attribute__((destructor)) static void free_all(void)
{
    while (all) {
        struct kept *k = all;
        all = k->next;
        X509_free(k->made.x509);
        EVP_PKEY_free(k->made.key);
        free(k->text);
        free(k);
    }
    for (uint32_t i = 0; i < RSA_KEYS; i++)
        EVP_PKEY_free(rsa_keys[i]);
}

static struct kept *keep(void)
{
    struct kept *k = calloc(1, sizeof(*k));
    check(k);
    k->next = all;
    all = k;
    return k;
}

static struct slice keep_text(const void *bytes, size_t len)
{
    struct kept *k = keep();
    k->text = malloc(len + 1);
    check(k->text);
    memcpy(k->text, bytes, len);
    k->text[len] = '\0';
    return (struct slice){k->text, len};
}

static struct slice take(BIO *b)
{
    const uint8_t *text;
    size_t len;
    check(BIO_mem_contents(b, &text, &len));
    struct slice out = keep_text(text, len);
    BIO_free(b);
    return out;
}

// ---- keys

static EVP_PKEY *make_ec(int nid)
{
    EVP_PKEY *key = EVP_PKEY_new();
    EC_KEY *ec = EC_KEY_new_by_curve_name(nid);
    check(key && ec && EC_KEY_generate_key(ec) && EVP_PKEY_assign_EC_KEY(key, ec));
    return key;
}

static EVP_PKEY *make_rsa(int bits)
{
    EVP_PKEY *key = EVP_PKEY_new();
    RSA *rsa = RSA_new();
    BIGNUM *e = BN_new();
    check(key && rsa && e && BN_set_word(e, RSA_F4) && RSA_generate_key_ex(rsa, bits, e, NULL) &&
          EVP_PKEY_assign_RSA(key, rsa));
    BN_free(e);
    return key;
}

static EVP_PKEY *make_key(const struct made_spec *s)
{
    if (s->key == MADE_RSA1024)
        return make_rsa(1024);
    if (s->key != MADE_RSA2048)
        return make_ec(s->key == MADE_P256 ? NID_X9_62_prime256v1 : NID_secp224r1);
    check(s->key_number < RSA_KEYS);
    if (!rsa_keys[s->key_number])
        rsa_keys[s->key_number] = make_rsa(2048);
    EVP_PKEY_up_ref(rsa_keys[s->key_number]);
    return rsa_keys[s->key_number];
}

// ---- names and extensions

static ASN1_IA5STRING *string_of(struct slice text)
{
    char out[512];
    size_t n = 0;
    check(text.len < sizeof(out));
    for (size_t i = 0; i < text.len; i++) {
        bool nul = slice_has_prefix(slice_from(text, i), SLICE("%00"));
        out[n++] = (char)(nul ? '\0' : text.ptr[i]);
        i += nul ? 2 : 0;
    }
    ASN1_IA5STRING *s = ASN1_IA5STRING_new();
    check(s && ASN1_STRING_set(s, out, (ossl_ssize_t)n));
    return s;
}

static ASN1_OCTET_STRING *address_of(struct slice text)
{
    char copy[64];
    uint8_t raw[16];
    snprintf(copy, sizeof(copy), "%.*s", SLICE_FMT(text));
    int len = inet_pton(AF_INET, copy, raw) == 1 ? 4 : 16;
    check(len == 4 || inet_pton(AF_INET6, copy, raw) == 1);
    ASN1_OCTET_STRING *s = ASN1_OCTET_STRING_new();
    check(s && ASN1_STRING_set(s, raw, len));
    return s;
}

static void add_names(X509 *x, const char *text)
{
    static const struct {
        const char *prefix;
        int type;
    } kinds[] = {{"DNS:", GEN_DNS}, {"URI:", GEN_URI}, {"IP:", GEN_IPADD}, {"EMAIL:", GEN_EMAIL}};
    struct slice rest = slice_of(text), one;
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    check(names);
    while (slice_split(&rest, ',', &one)) {
        for (uint32_t i = 0; i < 4; i++) {
            if (!slice_has_prefix(one, slice_of(kinds[i].prefix)))
                continue;
            struct slice value = slice_from(one, strlen(kinds[i].prefix));
            GENERAL_NAME *g = GENERAL_NAME_new();
            check(g);
            GENERAL_NAME_set0_value(g, kinds[i].type,
                                    kinds[i].type == GEN_IPADD ? address_of(value)
                                                               : string_of(value));
            check(sk_GENERAL_NAME_push(names, g));
        }
    }
    check(X509_add1_ext_i2d(x, NID_subject_alt_name, names, 0, 0));
    GENERAL_NAMES_free(names);
}

static void add_ca(X509 *x)
{
    BASIC_CONSTRAINTS *b = BASIC_CONSTRAINTS_new();
    check(b);
    b->ca = ASN1_BOOLEAN_TRUE;
    check(X509_add1_ext_i2d(x, NID_basic_constraints, b, 1, 0));
    BASIC_CONSTRAINTS_free(b);
}

static void add_server_only(X509 *x)
{
    EXTENDED_KEY_USAGE *e = EXTENDED_KEY_USAGE_new();
    check(e && sk_ASN1_OBJECT_push(e, OBJ_nid2obj(NID_server_auth)));
    check(X509_add1_ext_i2d(x, NID_ext_key_usage, e, 0, 0));
    EXTENDED_KEY_USAGE_free(e);
}

static void add_entry(X509_NAME *n, const char *field, const char *value)
{
    if (value)
        check(
            X509_NAME_add_entry_by_txt(n, field, MBSTRING_UTF8, (const uint8_t *)value, -1, -1, 0));
}

static void fill(X509 *x, const struct made_spec *s)
{
    static uint64_t serial = 0xa100;
    int64_t now = time(NULL);
    bool dated = s->from_s || s->until_s;
    check(X509_set_version(x, X509_VERSION_3) &&
          ASN1_INTEGER_set_uint64(X509_get_serialNumber(x), serial++));
    // RFC 2253 prints the last one first.
    add_entry(X509_get_subject_name(x), "O", s->org);
    add_entry(X509_get_subject_name(x), "CN", s->cn);
    check(ASN1_TIME_set_posix(X509_getm_notBefore(x), now + (dated ? s->from_s : -3600)) &&
          ASN1_TIME_set_posix(X509_getm_notAfter(x), now + (dated ? s->until_s : 86400)));
    if (s->ca)
        add_ca(x);
    if (s->server_only)
        add_server_only(x);
    if (s->names)
        add_names(x, s->names);
}

static struct slice print_key(EVP_PKEY *key, const EVP_CIPHER *cipher)
{
    BIO *b = BIO_new(BIO_s_mem());
    check(b && PEM_write_bio_PrivateKey(b, key, cipher, (const uint8_t *)"x", cipher ? 1 : 0, NULL,
                                        NULL));
    return take(b);
}

const struct made *made_cert(const struct made_spec *s)
{
    struct kept *k = keep();
    struct made *m = &k->made;
    m->x509 = X509_new();
    m->key = make_key(s);
    BIO *b = BIO_new(BIO_s_mem());
    check(m->x509 && b);
    fill(m->x509, s);
    const struct made *issuer = s->issuer ? s->issuer : m;
    check(X509_set_issuer_name(m->x509, X509_get_subject_name(issuer->x509)) &&
          X509_set_pubkey(m->x509, m->key) && X509_sign(m->x509, issuer->key, EVP_sha256()) &&
          PEM_write_bio_X509(b, m->x509));
    m->pem = take(b);
    m->key_pem = print_key(m->key, NULL);
    return m;
}

struct slice made_chain(const struct made *leaf, const struct made *intermediate)
{
    char both[8192];
    int n = snprintf(both, sizeof(both), "%s%s", leaf->pem.ptr, intermediate->pem.ptr);
    check(n > 0 && (size_t)n < sizeof(both));
    return keep_text(both, (size_t)n);
}

struct slice made_encrypted_key(const struct made *m)
{
    return print_key(m->key, EVP_aes_128_cbc());
}

struct slice made_crl(const struct made *issuer, const struct made *const *revoked, uint32_t count,
                      bool expired)
{
    X509_CRL *crl = X509_CRL_new();
    ASN1_TIME *at = ASN1_TIME_new();
    BIO *b = BIO_new(BIO_s_mem());
    int64_t now = time(NULL);
    check(crl && at && b && X509_CRL_set_version(crl, X509_CRL_VERSION_2) &&
          X509_CRL_set_issuer_name(crl, X509_get_subject_name(issuer->x509)));
    check(ASN1_TIME_set_posix(at, now - 7200) && X509_CRL_set1_lastUpdate(crl, at));
    for (uint32_t i = 0; i < count; i++) {
        X509_REVOKED *r = X509_REVOKED_new();
        check(r && X509_REVOKED_set_serialNumber(r, X509_get_serialNumber(revoked[i]->x509)) &&
              X509_REVOKED_set_revocationDate(r, at) && X509_CRL_add0_revoked(crl, r));
    }
    check(ASN1_TIME_set_posix(at, now + (expired ? -3600 : 86400)) &&
          X509_CRL_set1_nextUpdate(crl, at));
    check(X509_CRL_sign(crl, issuer->key, EVP_sha256()) && PEM_write_bio_X509_CRL(b, crl));
    X509_CRL_free(crl);
    ASN1_TIME_free(at);
    return take(b);
}

struct slice made_ocsp(void)
{
    static const uint8_t der[] = {0x30, 0x07, 0x0a, 0x01, 0x00, 0xa0, 0x02, 0x30, 0x00};
    return (struct slice){(const char *)der, sizeof(der)};
}

struct slice made_spki_pin(const struct made *m)
{
    uint8_t *spki = NULL, digest[32], text[64];
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(m->x509), &spki);
    check(len > 0);
    SHA256(spki, (size_t)len, digest);
    OPENSSL_free(spki);
    return keep_text(text, EVP_EncodeBlock(text, digest, sizeof(digest)));
}

struct slice made_hash_pin(const struct made *m)
{
    uint8_t digest[32];
    char text[65];
    check(X509_digest(m->x509, EVP_sha256(), digest, NULL));
    for (uint32_t i = 0; i < sizeof(digest); i++)
        snprintf(text + (size_t)i * 2, 3, "%02X", digest[i]);
    return keep_text(text, 64);
}
