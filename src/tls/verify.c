// Verification of peers' certificates. Owns the CAs, CRLs, names and pins it was made with;
// nothing changes after that. Any thread; X509_STORE's own lock guards its lookups.
#include "tls/verify.h"
#include "core/check.h"
#include "tls/cert_internal.h"
#include "tls/verify_internal.h"
#include <arpa/inet.h>
#include <openssl/asn1.h>
#include <openssl/base64.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/pem.h>
#include <openssl/sha2.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdatomic.h>
#include <stdlib.h>

#define AUTHORITIES_MAX 4096u // a system's bundle has about 150
#define PEER_CHAIN_MAX 16u    // certificates a peer may send

// ---- CAs and CRLs

static enum err add_authorities(struct tls_trust *t, struct slice ca, char *why, size_t cap)
{
    enum err e = cert_read_pem(ca, AUTHORITIES_MAX, "CA bundle", t->authorities, why, cap);
    for (size_t i = 0; e == OK && i < sk_X509_num(t->authorities); i++)
        check(X509_STORE_add_cert(t->store, sk_X509_value(t->authorities, i)));
    return e;
}

// Returns how many there were; a negative number when one cannot be read.
static int add_crls(struct tls_trust *t, struct slice text)
{
    BIO *b = cert_open_text(text);
    int n = 0;
    X509_CRL *crl;
    while (b && (crl = PEM_read_bio_X509_CRL(b, NULL, cert_no_password, NULL))) {
        check(X509_STORE_add_crl(t->store, crl));
        X509_CRL_free(crl);
        n++;
    }
    BIO_free(b);
    bool complete = cert_at_end_of_pem();
    ERR_clear_error();
    return complete ? n : -1;
}

static enum err read_trust(struct tls_trust *t, struct slice ca, struct slice crl, char *why,
                           size_t cap)
{
    enum err e = add_authorities(t, ca, why, cap);
    if (e != OK)
        return e;
    int in_ca = add_crls(t, ca);
    int given = crl.len ? add_crls(t, crl) : 0;
    if (in_ca < 0 || given < 0)
        return cert_fail(ERR_SYNTAX, why, cap, "a CRL cannot be read");
    if (crl.len && !given)
        return cert_fail(ERR_SYNTAX, why, cap, "no CRL in PEM");
    t->has_crl = in_ca + given > 0;
    X509_STORE_set_flags(t->store, X509_V_FLAG_PARTIAL_CHAIN);
    if (t->has_crl)
        X509_STORE_set_flags(t->store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    return OK;
}

static void describe(struct tls_trust *t)
{
    const X509 *first = sk_X509_value(t->authorities, 0);
    BIGNUM *n = ASN1_INTEGER_to_BN(X509_get0_serialNumber(first), NULL);
    t->serial = n ? BN_bn2hex(n) : NULL;
    BN_free(n);
    for (char *p = t->serial; p && *p; p++)
        *p = (char)OPENSSL_tolower((unsigned char)*p);
    (void)ASN1_TIME_to_posix(X509_get0_notBefore(first), &t->not_before_s);
    (void)ASN1_TIME_to_posix(X509_get0_notAfter(first), &t->not_after_s);
    ERR_clear_error();
}

enum err tls_trust_create(struct slice ca, struct slice crl, struct tls_trust **out, char *why,
                          size_t why_cap)
{
    struct tls_trust *t = calloc(1, sizeof(*t));
    check(t);
    t->references = 1;
    t->store = X509_STORE_new();
    t->authorities = sk_X509_new_null();
    check(t->store && t->authorities);
    enum err e = read_trust(t, ca, crl, why, why_cap);
    if (e == OK) {
        SHA256_CTX sha;
        uint64_t len = ca.len; // so that the border between the two counts
        SHA256_Init(&sha);
        SHA256_Update(&sha, &len, sizeof(len));
        SHA256_Update(&sha, ca.ptr, ca.len);
        SHA256_Update(&sha, crl.ptr, crl.len);
        SHA256_Final(t->digest, &sha);
        describe(t);
    } else {
        tls_trust_put(t);
        t = NULL;
    }
    *out = t;
    return e;
}

struct tls_trust *tls_trust_get(struct tls_trust *t)
{
    atomic_fetch_add_explicit(&t->references, 1, memory_order_relaxed);
    return t;
}

void tls_trust_put(struct tls_trust *t)
{
    if (!t || atomic_fetch_sub_explicit(&t->references, 1, memory_order_acq_rel) > 1)
        return;
    X509_STORE_free(t->store);
    sk_X509_pop_free(t->authorities, X509_free);
    OPENSSL_free(t->serial);
    free(t);
}

uint32_t tls_trust_count(const struct tls_trust *t)
{
    return (uint32_t)sk_X509_num(t->authorities);
}

const char *tls_trust_serial(const struct tls_trust *t)
{
    return t->serial ? t->serial : "";
}

int64_t tls_trust_not_before_s(const struct tls_trust *t)
{
    return t->not_before_s;
}

int64_t tls_trust_not_after_s(const struct tls_trust *t)
{
    return t->not_after_s;
}

// ---- names

static bool is_plain(struct slice name)
{
    for (size_t i = 0; i < name.len; i++)
        if (name.ptr[i] <= ' ' || name.ptr[i] > '~')
            return false;
    return name.len > 0;
}

bool tls_dns_name_matches(struct slice pattern, struct slice name)
{
    if (!is_plain(pattern) || !is_plain(name))
        return false;
    if (slice_eq_nocase(pattern, name))
        return true;
    if (pattern.len < 2 || pattern.ptr[0] != '*' || pattern.ptr[1] != '.')
        return false;
    struct slice suffix = slice_from(pattern, 1);
    ptrdiff_t label = slice_find(name, '.');
    return label > 0 && slice_find(slice_from(suffix, 1), '.') > 0 &&
           slice_eq_nocase(slice_from(name, (size_t)label), suffix);
}

static uint32_t parse_address(const char *text, uint8_t out[16])
{
    if (inet_pton(AF_INET, text, out) == 1)
        return 4;
    return inet_pton(AF_INET6, text, out) == 1 ? 16 : 0;
}

static void name_init(struct tls_peer_name *n, struct slice text)
{
    n->text = OPENSSL_strndup(text.len ? text.ptr : "", text.len);
    check(n->text);
    n->len = strlen(n->text);
    n->address_len = n->len == text.len ? parse_address(n->text, n->address) : 0;
}

static struct slice text_of(const ASN1_STRING *s)
{
    return (struct slice){(const char *)ASN1_STRING_get0_data(s), (size_t)ASN1_STRING_length(s)};
}

static bool general_name_is(const GENERAL_NAME *g, const struct tls_peer_name *n, bool host_only)
{
    struct slice wanted = {n->text, n->len};
    switch (g->type) {
    case GEN_DNS:
        return !(host_only && n->address_len) &&
               tls_dns_name_matches(text_of(g->d.dNSName), wanted);
    case GEN_URI:
    case GEN_EMAIL:
        return !host_only && is_plain(wanted) && slice_eq(text_of(g->d.ia5), wanted);
    case GEN_IPADD:
        return n->address_len && slice_eq(text_of(g->d.iPAddress),
                                          (struct slice){(const char *)n->address, n->address_len});
    default:
        return false;
    }
}

static bool has_name(const X509 *leaf, const struct tls_peer_name *wanted, uint32_t count,
                     bool host_only)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    bool found = false;
    for (size_t i = 0; names && i < sk_GENERAL_NAME_num(names) && !found; i++)
        for (uint32_t k = 0; k < count && !found; k++)
            found = general_name_is(sk_GENERAL_NAME_value(names, i), &wanted[k], host_only);
    GENERAL_NAMES_free(names);
    return found;
}

static bool has_host(const X509 *leaf, struct slice host)
{
    struct tls_peer_name n = {0};
    name_init(&n, host);
    bool found = has_name(leaf, &n, 1, true);
    OPENSSL_free(n.text);
    return found;
}

// ---- pins

static int nibble(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool tls_hash_pin_parse(struct slice text, uint8_t out[32])
{
    size_t step = text.len == 95 ? 3 : 2;
    if (text.len != 64 && text.len != 95)
        return false;
    for (size_t i = 0; i < 32; i++) {
        int high = nibble(text.ptr[i * step]), low = nibble(text.ptr[i * step + 1]);
        if (high < 0 || low < 0 || (step == 3 && i < 31 && text.ptr[i * step + 2] != ':'))
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

bool tls_spki_pin_parse(struct slice text, uint8_t out[32])
{
    uint8_t raw[33];
    size_t len;
    if (text.len != 44 ||
        !EVP_DecodeBase64(raw, &len, sizeof(raw), (const uint8_t *)text.ptr, text.len) || len != 32)
        return false;
    memcpy(out, raw, 32);
    return true;
}

static bool has_digest(const uint8_t (*pins)[32], uint32_t count, const uint8_t digest[32])
{
    for (uint32_t i = 0; i < count; i++)
        if (memcmp(pins[i], digest, 32) == 0)
            return true;
    return false;
}

static bool is_pinned(const struct tls_peer_policy *p, const X509 *leaf)
{
    uint8_t digest[32];
    uint8_t *spki = NULL;
    if (p->hash_pin_count && X509_digest(leaf, EVP_sha256(), digest, NULL) &&
        has_digest(p->hash_pins, p->hash_pin_count, digest))
        return true;
    int len = p->spki_pin_count ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(leaf), &spki) : -1;
    if (len < 0)
        return false;
    SHA256(spki, (size_t)len, digest);
    OPENSSL_free(spki);
    return has_digest(p->spki_pins, p->spki_pin_count, digest);
}

// ---- the policy

static enum err read_pins(const struct string_list *list, const char *field,
                          bool (*parse)(struct slice, uint8_t *), uint8_t (**out)[32],
                          uint32_t *count, char *why, size_t cap)
{
    *out = calloc(list->count ? list->count : 1, 32);
    check(*out);
    for (uint32_t i = 0; i < list->count; i++)
        if (!parse(list->items[i].text, (*out)[(*count)++]))
            return cert_fail(ERR_INVALID, why, cap, "%s: \"%.*s\" is no SHA-256", field,
                             SLICE_FMT(list->items[i].text));
    return OK;
}

enum err tls_peer_policy_init(struct tls_peer_policy *p, const struct tls_peer_settings *s,
                              char *why, size_t cap)
{
    *p = (struct tls_peer_policy){.insecure_skip_verify = s->insecure_skip_verify};
    p->trust = s->trust ? tls_trust_get(s->trust) : NULL;
    p->names = calloc(s->names.count ? s->names.count : 1, sizeof(*p->names));
    check(p->names);
    for (uint32_t i = 0; i < s->names.count; i++)
        name_init(&p->names[p->name_count++], s->names.items[i].text);
    enum err e = read_pins(&s->spki_pins, "verifyCertificateSpki", tls_spki_pin_parse,
                           &p->spki_pins, &p->spki_pin_count, why, cap);
    if (e == OK)
        e = read_pins(&s->hash_pins, "verifyCertificateHash", tls_hash_pin_parse, &p->hash_pins,
                      &p->hash_pin_count, why, cap);
    if (e == OK && !p->trust && !p->insecure_skip_verify)
        e = cert_fail(ERR_INVALID, why, cap, "no CA to verify the peer's certificate with");
    if (e != OK)
        tls_peer_policy_fini(p);
    return e;
}

void tls_peer_policy_fini(struct tls_peer_policy *p)
{
    for (uint32_t i = 0; i < p->name_count; i++)
        OPENSSL_free(p->names[i].text);
    free(p->names);
    free(p->spki_pins);
    free(p->hash_pins);
    tls_trust_put(p->trust);
    *p = (struct tls_peer_policy){0};
}

// ---- verification

static enum tls_verdict refuse(enum tls_verdict v, int with, const char *reason, uint8_t *alert,
                               const char **why)
{
    *alert = (uint8_t)with;
    *why = reason;
    ERR_clear_error();
    return v;
}

static STACK_OF(X509) * parse_chain(const STACK_OF(CRYPTO_BUFFER) * chain)
{
    STACK_OF(X509) *out = sk_X509_new_null();
    check(out);
    for (size_t i = 0; chain && i < sk_CRYPTO_BUFFER_num(chain); i++) {
        X509 *x = X509_parse_from_buffer(sk_CRYPTO_BUFFER_value(chain, i));
        if (!x || sk_X509_num(out) == PEER_CHAIN_MAX) {
            X509_free(x);
            sk_X509_pop_free(out, X509_free);
            return NULL;
        }
        check(sk_X509_push(out, x));
    }
    return out;
}

// X509_V_OK, or what is wrong.
static int verify_chain(const struct tls_trust *t, STACK_OF(X509) * chain, enum tls_side side)
{
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    int error = X509_V_ERR_OUT_OF_MEM;
    if (ctx && X509_STORE_CTX_init(ctx, t->store, sk_X509_value(chain, 0), chain) &&
        X509_STORE_CTX_set_default(ctx, side == TLS_SIDE_SERVER ? "ssl_client" : "ssl_server")) {
        error = X509_V_ERR_UNSPECIFIED;
        if (X509_verify_cert(ctx) == 1)
            error = X509_V_OK;
        else if (X509_STORE_CTX_get_error(ctx) != X509_V_OK)
            error = X509_STORE_CTX_get_error(ctx);
    }
    X509_STORE_CTX_free(ctx);
    return error;
}

static enum tls_verdict verify_leaf(const struct tls_peer_policy *p, const X509 *leaf,
                                    struct slice host, uint8_t *alert, const char **why)
{
    bool named = p->insecure_skip_verify || p->name_count == 0 ||
                 has_name(leaf, p->names, p->name_count, false);
    if (!named)
        return refuse(TLS_VERDICT_NAME, SSL_AD_CERTIFICATE_UNKNOWN,
                      "none of subjectAltNames is in the certificate", alert, why);
    if (!p->insecure_skip_verify && !p->name_count && host.len && !has_host(leaf, host))
        return refuse(TLS_VERDICT_NAME, SSL_AD_CERTIFICATE_UNKNOWN,
                      "the certificate is not for this host", alert, why);
    if ((p->spki_pin_count || p->hash_pin_count) && !is_pinned(p, leaf))
        return refuse(TLS_VERDICT_PIN, SSL_AD_BAD_CERTIFICATE_HASH_VALUE,
                      "the certificate is not one of those pinned", alert, why);
    ERR_clear_error();
    return TLS_VERDICT_OK;
}

enum tls_verdict tls_peer_verify(const struct tls_peer_policy *p,
                                 const STACK_OF(CRYPTO_BUFFER) * chain, enum tls_side side,
                                 struct slice host, uint8_t *alert, const char **why)
{
    STACK_OF(X509) *parsed = parse_chain(chain);
    enum tls_verdict v = TLS_VERDICT_OK;
    if (!parsed || sk_X509_num(parsed) == 0) {
        v = refuse(TLS_VERDICT_CHAIN, SSL_AD_BAD_CERTIFICATE, "the chain cannot be read", alert,
                   why);
    } else if (!p->insecure_skip_verify) {
        int error = verify_chain(p->trust, parsed, side);
        if (error != X509_V_OK)
            v = refuse(TLS_VERDICT_CHAIN, SSL_alert_from_verify_result(error),
                       X509_verify_cert_error_string(error), alert, why);
    }
    if (v == TLS_VERDICT_OK)
        v = verify_leaf(p, sk_X509_value(parsed, 0), host, alert, why);
    sk_X509_pop_free(parsed, X509_free);
    return v;
}
