// Certificates as documents hold them. Owns BoringSSL's objects of one chain and its key; nothing
// changes after cert_parse. Any thread.
#include "tls/cert.h"
#include "core/check.h"
#include "tls/cert_internal.h"
#include <limits.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum err cert_fail(enum err e, char *why, size_t cap, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, cap, fmt, ap);
    va_end(ap);
    ERR_clear_error();
    return e;
}

// BoringSSL would take the argument for the password.
int cert_no_password(char *buf, int size, int writing, void *arg)
{
    (void)buf, (void)size, (void)writing, (void)arg;
    return 0;
}

BIO *cert_open_text(struct slice text)
{
    BIO *b = text.len <= INT_MAX ? BIO_new_mem_buf(text.ptr, (ossl_ssize_t)text.len) : NULL;
    ERR_clear_error();
    return b;
}

bool cert_at_end_of_pem(void)
{
    uint32_t e = ERR_peek_last_error();
    return ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE;
}

enum err cert_read_pem(struct slice text, uint32_t max, const char *what, STACK_OF(X509) * out,
                       char *why, size_t cap)
{
    BIO *b = cert_open_text(text);
    X509 *x = NULL;
    while (b && sk_X509_num(out) <= max && (x = PEM_read_bio_X509(b, NULL, cert_no_password, NULL)))
        check(sk_X509_push(out, x));
    BIO_free(b);
    size_t n = sk_X509_num(out);
    if (x)
        return cert_fail(ERR_LIMIT, why, cap, "more than %u certificates in the %s", max, what);
    if (!cert_at_end_of_pem())
        return cert_fail(ERR_SYNTAX, why, cap, "certificate %zu of the %s cannot be read", n + 1,
                         what);
    if (n == 0)
        return cert_fail(ERR_SYNTAX, why, cap, "no certificate in PEM");
    ERR_clear_error();
    return OK;
}

static enum err read_chain(struct cert *c, struct slice text, char *why, size_t cap)
{
    c->chain = sk_X509_new_null();
    check(c->chain);
    return cert_read_pem(text, CERT_CHAIN_MAX, "chain", c->chain, why, cap);
}

static bool is_encrypted(struct slice text)
{
    return memmem(text.ptr, text.len, "ENCRYPTED", 9) != NULL; // PKCS#8's label, PEM's Proc-Type
}

static enum err read_key(struct cert *c, struct slice text, char *why, size_t cap)
{
    BIO *b = cert_open_text(text);
    c->key = b ? PEM_read_bio_PrivateKey(b, NULL, cert_no_password, NULL) : NULL;
    BIO_free(b);
    if (!c->key)
        return cert_fail(ERR_SYNTAX, why, cap, "%s",
                         is_encrypted(text)     ? "the private key is encrypted"
                         : cert_at_end_of_pem() ? "no private key in PEM"
                                                : "the private key cannot be read");
    if (!X509_check_private_key(sk_X509_value(c->chain, 0), c->key))
        return cert_fail(ERR_INVALID, why, cap, "the private key is not that of the certificate %s",
                         c->subject);
    return OK;
}

static char *first_dns_name(const X509 *leaf)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    char *out = NULL;
    for (size_t i = 0; names && !out && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *n = sk_GENERAL_NAME_value(names, i);
        if (n->type == GEN_DNS)
            out = OPENSSL_strndup((const char *)ASN1_STRING_get0_data(n->d.dNSName),
                                  (size_t)ASN1_STRING_length(n->d.dNSName));
    }
    GENERAL_NAMES_free(names);
    return out;
}

static char *print_subject(const X509 *leaf)
{
    BIO *b = BIO_new(BIO_s_mem());
    const uint8_t *text;
    size_t len;
    char *out = NULL;
    check(b);
    if (X509_NAME_print_ex(b, X509_get_subject_name(leaf), 0, XN_FLAG_RFC2253) >= 0 &&
        BIO_mem_contents(b, &text, &len) && len > 0)
        out = OPENSSL_strndup((const char *)text, len);
    BIO_free(b);
    out = out ? out : first_dns_name(leaf);
    out = out ? out : OPENSSL_strdup("(no name)");
    check(out);
    for (char *p = out; *p; p++) // a DNS name is whatever its issuer wrote
        if (*p < ' ' || *p > '~')
            *p = '?';
    return out;
}

static char *print_serial(const X509 *leaf)
{
    BIGNUM *n = ASN1_INTEGER_to_BN(X509_get0_serialNumber(leaf), NULL);
    char *out = n ? BN_bn2hex(n) : NULL;
    BN_free(n);
    out = out ? out : OPENSSL_strdup("");
    check(out);
    for (char *p = out; *p; p++)
        *p = (char)OPENSSL_tolower((unsigned char)*p);
    return out;
}

static enum err read_leaf(struct cert *c, char *why, size_t cap)
{
    const X509 *leaf = sk_X509_value(c->chain, 0);
    c->subject = print_subject(leaf);
    c->serial = print_serial(leaf);
    if (!ASN1_TIME_to_posix(X509_get0_notBefore(leaf), &c->not_before_s) ||
        !ASN1_TIME_to_posix(X509_get0_notAfter(leaf), &c->not_after_s))
        return cert_fail(ERR_SYNTAX, why, cap, "the dates of the certificate %s cannot be read",
                         c->subject);
    ERR_clear_error();
    return OK;
}

enum err cert_parse(struct slice chain, struct slice key, struct cert **out, char *why,
                    size_t why_cap)
{
    struct cert *c = calloc(1, sizeof(*c));
    check(c);
    enum err e = read_chain(c, chain, why, why_cap);
    if (e == OK)
        e = read_leaf(c, why, why_cap);
    if (e == OK && key.len)
        e = read_key(c, key, why, why_cap);
    if (e != OK) {
        cert_destroy(c);
        c = NULL;
    }
    *out = c;
    return e;
}

void cert_destroy(struct cert *c)
{
    if (!c)
        return;
    sk_X509_pop_free(c->chain, X509_free);
    EVP_PKEY_free(c->key);
    OPENSSL_free(c->subject);
    OPENSSL_free(c->serial);
    free(c);
}

uint32_t cert_count(const struct cert *c)
{
    return (uint32_t)sk_X509_num(c->chain);
}

const char *cert_subject(const struct cert *c)
{
    return c->subject;
}

const char *cert_serial(const struct cert *c)
{
    return c->serial;
}

int64_t cert_not_before_s(const struct cert *c)
{
    return c->not_before_s;
}

int64_t cert_not_after_s(const struct cert *c)
{
    return c->not_after_s;
}

bool cert_covers(const struct cert *c, int64_t now_s, char *why, size_t why_cap)
{
    bool early = now_s < c->not_before_s;
    if (!early && now_s <= c->not_after_s)
        return true;
    time_t at = early ? c->not_before_s : c->not_after_s;
    struct tm tm;
    char text[32];
    check(gmtime_r(&at, &tm) && strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC", &tm));
    snprintf(why, why_cap, "the certificate %s %s %s", c->subject,
             early ? "is not valid before" : "expired at", text);
    return false;
}

bool cert_is_valid(struct slice chain, struct slice key, int64_t now_s, char *why, size_t why_cap)
{
    struct cert *c;
    bool good =
        cert_parse(chain, key, &c, why, why_cap) == OK && cert_covers(c, now_s, why, why_cap);
    cert_destroy(c);
    return good;
}
