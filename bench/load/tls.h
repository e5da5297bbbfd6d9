// TLS for the load programs: BoringSSL over memory, one version and one group, so that what is
// compared is the contenders' work and not their taste. Certificates are not verified, signatures
// are (BoringSSL always does).
#pragma once

#include <openssl/ssl.h>

#include "load.h"

struct tls {
    SSL *ssl;
    BIO *in, *out; // ciphertext from and to the peer
};

static inline SSL_CTX *tls_ctx(const SSL_METHOD *method)
{
    static const int groups[] = {NID_X25519};
    SSL_CTX *ctx = SSL_CTX_new(method);
    if (ctx == NULL || !SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) ||
        !SSL_CTX_set1_groups(ctx, groups, 1))
        die("TLS", ENOMEM);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    return ctx;
}

static inline SSL_CTX *tls_client_ctx(void)
{
    SSL_CTX *ctx = tls_ctx(TLS_client_method());
    SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    return ctx;
}

static inline SSL_CTX *tls_server_ctx(const char *certificate, const char *key)
{
    SSL_CTX *ctx = tls_ctx(TLS_server_method());
    if (!SSL_CTX_use_certificate_chain_file(ctx, certificate) ||
        !SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM))
        die("certificate or key", EINVAL);
    return ctx;
}

static inline struct tls tls_new(SSL_CTX *ctx, const char *server_name)
{
    struct tls t = {SSL_new(ctx), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem())};
    if (t.ssl == NULL || t.in == NULL || t.out == NULL)
        die("TLS", ENOMEM);
    BIO_set_mem_eof_return(t.in, -1);
    SSL_set_bio(t.ssl, t.in, t.out); // its owner now
    if (server_name == NULL)
        SSL_set_accept_state(t.ssl);
    else
        SSL_set_connect_state(t.ssl);
    if (server_name != NULL && !SSL_set_tlsext_host_name(t.ssl, server_name))
        die("server name", EINVAL);
    return t;
}

static inline void tls_free(struct tls *t)
{
    SSL_free(t->ssl);
    *t = (struct tls){NULL, NULL, NULL};
}

// Whether that result only means: more is to be read first.
static inline bool tls_waits(const struct tls *t, int result)
{
    return SSL_get_error(t->ssl, result) == SSL_ERROR_WANT_READ;
}

// Takes what is to be sent, as far as it fits; bytes.
static inline size_t tls_take(struct tls *t, char *to, size_t cap)
{
    int n = BIO_read(t->out, to, (int)cap);
    return n > 0 ? (size_t)n : 0;
}
