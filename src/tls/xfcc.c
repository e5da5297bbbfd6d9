// The text of x-forwarded-client-cert. Owns nothing. Any thread.
#include "tls/xfcc.h"
#include "core/check.h"
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pool.h>
#include <openssl/sha2.h>
#include <openssl/x509.h>

struct writer {
    char *out;
    size_t len, cap; // len counts what does not fit too
};

static void put(struct writer *w, struct slice s)
{
    if (s.len && w->len <= w->cap && s.len <= w->cap - w->len)
        memcpy(w->out + w->len, s.ptr, s.len);
    w->len += s.len;
}

static void put_hash(struct writer *w, struct slice leaf)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t digest[SHA256_DIGEST_LENGTH];
    SHA256((const uint8_t *)leaf.ptr, leaf.len, digest);
    for (size_t i = 0; i < sizeof(digest); i++) {
        char pair[2] = {digits[digest[i] >> 4], digits[digest[i] & 15]};
        put(w, (struct slice){pair, 2});
    }
}

// Percent-encodes what of PEM a header or a reader of this one would stumble over.
static void put_pem(struct writer *w, struct slice pem)
{
    for (size_t i = 0; i < pem.len; i++) {
        switch (pem.ptr[i]) {
        case '\n':
            put(w, SLICE("%0A"));
            break;
        case ' ':
            put(w, SLICE("%20"));
            break;
        case '+':
            put(w, SLICE("%2B"));
            break;
        case '/':
            put(w, SLICE("%2F"));
            break;
        case '=':
            put(w, SLICE("%3D"));
            break;
        default:
            put(w, (struct slice){pem.ptr + i, 1});
        }
    }
}

static bool is_safe(struct slice name)
{
    for (size_t i = 0; i < name.len; i++)
        if (name.ptr[i] < ' ' || name.ptr[i] > '~')
            return false;
    return name.len > 0;
}

static void put_quoted(struct writer *w, struct slice text)
{
    put(w, SLICE("\""));
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '"' || text.ptr[i] == '\\')
            put(w, SLICE("\\"));
        put(w, (struct slice){text.ptr + i, 1});
    }
    put(w, SLICE("\""));
}

static void put_name(struct writer *w, struct slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        if (strchr(",;=\"", name.ptr[i])) {
            put_quoted(w, name);
            return;
        }
    }
    put(w, name);
}

static uint32_t put_names(struct writer *w, const GENERAL_NAMES *names, int type, struct slice key)
{
    uint32_t n = 0;
    for (size_t i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
        if (g->type != type)
            continue;
        struct slice name = {(const char *)ASN1_STRING_get0_data(g->d.ia5),
                             (size_t)ASN1_STRING_length(g->d.ia5)};
        if (!is_safe(name))
            continue;
        put(w, key);
        put_name(w, name);
        n++;
    }
    return n;
}

static struct slice contents(const BIO *b)
{
    const uint8_t *text = NULL;
    size_t len = 0;
    check(BIO_mem_contents(b, &text, &len));
    return (struct slice){(const char *)text, len};
}

static void put_cert(struct writer *w, X509 *leaf)
{
    BIO *b = BIO_new(BIO_s_mem());
    check(b && PEM_write_bio_X509(b, leaf));
    put(w, SLICE(";Cert=\""));
    put_pem(w, contents(b));
    put(w, SLICE("\""));
    BIO_free(b);
}

// RFC 2253 escapes quotes and backslashes itself, BoringSSL escapes controls and non-ASCII too.
static void put_subject(struct writer *w, const X509 *leaf)
{
    BIO *b = BIO_new(BIO_s_mem());
    check(b);
    if (X509_NAME_print_ex(b, X509_get_subject_name(leaf), 0, XN_FLAG_RFC2253) > 0 &&
        is_safe(contents(b)))
        put(w, contents(b));
    BIO_free(b);
}

static X509 *parse(struct slice leaf)
{
    const uint8_t *der = (const uint8_t *)leaf.ptr;
    return leaf.len ? d2i_X509(NULL, &der, (long)leaf.len) : NULL;
}

size_t xfcc_write(struct slice leaf, struct slice by, char *out, size_t cap)
{
    struct writer w = {.out = out, .cap = cap};
    X509 *x = parse(leaf);
    if (x) {
        GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
        if (is_safe(by)) {
            put(&w, SLICE("By="));
            put_name(&w, by);
            put(&w, SLICE(";"));
        }
        put(&w, SLICE("Hash="));
        put_hash(&w, leaf);
        put_cert(&w, x);
        put(&w, SLICE(";Subject=\""));
        put_subject(&w, x);
        put(&w, SLICE("\""));
        if (put_names(&w, names, GEN_URI, SLICE(";URI=")) == 0)
            put(&w, SLICE(";URI="));
        (void)put_names(&w, names, GEN_DNS, SLICE(";DNS="));
        GENERAL_NAMES_free(names);
    }
    X509_free(x);
    ERR_clear_error();
    return w.len;
}

size_t xfcc_write_subject(struct slice leaf, char *out, size_t cap)
{
    struct writer w = {.out = out, .cap = cap};
    X509 *x = parse(leaf);
    if (x)
        put_subject(&w, x);
    X509_free(x);
    ERR_clear_error();
    return w.len;
}

size_t xfcc_write_hash(struct slice leaf, char *out, size_t cap)
{
    struct writer w = {.out = out, .cap = cap};
    if (leaf.len)
        put_hash(&w, leaf);
    return w.len;
}
