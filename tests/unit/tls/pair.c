// A client and a server of tls/conn in memory, with keys and certificates made for the run.
#include "pair.h"
#include "core/check.h"
#include "test.h"
#include <openssl/ec.h>
#include <openssl/ec_key.h>
#include <openssl/evp.h>
#include <openssl/nid.h>
#include <openssl/x509.h>
#include <stdlib.h>

#define WIRE_MAX (64u * 1024u)

EVP_PKEY *pair_make_key(void)
{
    EC_KEY *ec = EC_KEY_new_by_curve_name(NID_X9_62_prime256v1);
    EVP_PKEY *key = EVP_PKEY_new();
    check(EC_KEY_generate_key(ec) && EVP_PKEY_assign_EC_KEY(key, ec));
    return key;
}

X509 *pair_make_certificate(EVP_PKEY *key, const char *common_name)
{
    X509 *cert = X509_new();
    X509_set_version(cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_NAME *name = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)common_name, -1, -1, 0);
    X509_set_issuer_name(cert, name);
    check(X509_sign(cert, key, EVP_sha256()));
    return cert;
}

static int take_session(SSL *ssl, SSL_SESSION *session)
{
    struct pair *p = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    SSL_SESSION_free(p->session);
    p->session = session;
    return 1;
}

static int choose_alpn(SSL *ssl, const uint8_t **out, uint8_t *out_len, const uint8_t *in,
                       unsigned len, void *arg)
{
    static const uint8_t ours[] = "\x02h2\x08http/1.1";
    (void)ssl;
    (void)arg;
    uint8_t *chosen;
    int r = SSL_select_next_proto(&chosen, out_len, ours, sizeof(ours) - 1, in, len);
    *out = chosen;
    return r == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static void make_contexts(struct pair *p)
{
    EVP_PKEY *key = pair_make_key();
    X509 *cert = pair_make_certificate(key, "server.example");
    p->server_ctx = SSL_CTX_new(TLS_method());
    p->client_ctx = SSL_CTX_new(TLS_method());
    check(SSL_CTX_use_certificate(p->server_ctx, cert));
    check(SSL_CTX_use_PrivateKey(p->server_ctx, key));
    SSL_CTX_set_alpn_select_cb(p->server_ctx, choose_alpn, NULL);
    SSL_CTX_set_session_cache_mode(p->client_ctx,
                                   SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(p->client_ctx, take_session);
    SSL_CTX_set_app_data(p->client_ctx, p);
    X509_free(cert);
    EVP_PKEY_free(key);
}

bool pair_init(struct pair *p, bool ring)
{
    *p = (struct pair){.with_ring = ring};
    if (ring &&
        (ring_init(&p->ring, 8, 64) != OK || bufring_init(&p->bufs, &p->ring, 0, 512, 8192) != OK))
        return false;
    bufq_pool_init(&p->chunks, 4096);
    if (tls_pools_init(&p->pools, 256, 64) != OK)
        return false;
    make_contexts(p);
    return true;
}

void pair_fini(struct pair *p)
{
    pair_disconnect(p);
    EXPECT_EQ(p->pools.records.in_use, 0);
    EXPECT_EQ(p->pools.conns.in_use, 0);
    EXPECT_EQ(p->chunks.in_use, 0);
    SSL_SESSION_free(p->session);
    SSL_CTX_free(p->server_ctx);
    SSL_CTX_free(p->client_ctx);
    tls_pools_fini(&p->pools);
    pool_fini(&p->chunks);
    if (!p->with_ring)
        return;
    bufring_flush(&p->bufs);
    EXPECT_EQ(bufring_held(&p->bufs), 0);
    bufring_fini(&p->bufs, &p->ring);
    ring_fini(&p->ring);
}

static void side_init(struct pair *p, struct side *s, SSL *ssl)
{
    *s = (struct side){.last = TLS_MORE};
    bufq_init(&s->wire, &p->chunks, p->with_ring ? &p->bufs : NULL);
    s->conn = tls_conn_create_ssl(&p->pools, ssl, &s->wire);
}

bool pair_connect(struct pair *p, uint16_t version)
{
    static const uint8_t protocols[] = "\x08http/1.1";
    pair_disconnect(p);
    SSL *server = SSL_new(p->server_ctx), *client = SSL_new(p->client_ctx);
    SSL_set_accept_state(server);
    SSL_set_connect_state(client);
    SSL_set_tlsext_host_name(client, "server.example");
    SSL_set_alpn_protos(client, protocols, sizeof(protocols) - 1);
    if (version != 0) {
        SSL_set_min_proto_version(client, version);
        SSL_set_max_proto_version(client, version);
    }
    if (p->resume)
        SSL_set_session(client, p->session);
    side_init(p, &p->server, server);
    side_init(p, &p->client, client);
    return p->server.conn && p->client.conn && tls_conn_start(p->server.conn) == OK &&
           tls_conn_start(p->client.conn) == OK;
}

static void side_fini(struct side *s)
{
    tls_conn_destroy(s->conn);
    if (s->wire.chunks)
        bufq_clear(&s->wire);
    free(s->got);
    *s = (struct side){0};
}

void pair_disconnect(struct pair *p)
{
    side_fini(&p->server);
    side_fini(&p->client);
}

static void keep(struct side *s, struct slice bytes)
{
    if (s->got_len + bytes.len > s->got_cap) {
        s->got_cap = 2 * (s->got_len + bytes.len);
        s->got = realloc(s->got, s->got_cap);
        check(s->got);
    }
    memcpy(s->got + s->got_len, bytes.ptr, bytes.len);
    s->got_len += bytes.len;
}

void side_feed(struct side *to, const void *bytes, size_t len)
{
    char *copy = malloc(len ? len : 1); // of exact size, so that a sanitizer sees an overread
    check(copy);
    memcpy(copy, bytes, len);
    struct slice in = {copy, len};
    for (;;) {
        struct tls_plain plain;
        to->last = tls_conn_read(to->conn, &in, &plain);
        if (to->last != TLS_DATA)
            break;
        bool inside = plain.bytes.ptr >= copy && plain.bytes.ptr < copy + len;
        EXPECT_EQ(plain.in_place, inside);
        inside ? to->in_place++ : to->copied++;
        keep(to, plain.bytes);
    }
    free(copy);
}

bool pair_move(struct side *from, struct side *to, size_t piece)
{
    struct iovec iov;
    bool moved = false;
    while (bufq_peek(&from->wire, &iov, 1) == 1) {
        size_t n = iov.iov_len < piece ? iov.iov_len : piece;
        side_feed(to, iov.iov_base, n);
        bufq_consume(&from->wire, n);
        moved = true;
    }
    return moved;
}

void pair_settle(struct pair *p, size_t piece)
{
    bool moved = true;
    while (moved) {
        moved = pair_move(&p->client, &p->server, piece);
        moved |= pair_move(&p->server, &p->client, piece);
    }
}

bool pair_is_up(const struct pair *p)
{
    return tls_conn_is_established(p->server.conn) && tls_conn_is_established(p->client.conn);
}

bool side_write(struct pair *p, struct side *from, const void *bytes, size_t len, size_t piece)
{
    struct iovec iov = {(void *)(uintptr_t)bytes, len};
    while (iov.iov_len > 0) {
        size_t taken = 0;
        if (tls_conn_write(from->conn, &iov, 1, 1, WIRE_MAX, &taken) != OK)
            return false;
        iov = (struct iovec){(char *)iov.iov_base + taken, iov.iov_len - taken};
        pair_settle(p, piece);
        if (p->with_ring)
            bufring_flush(&p->bufs);
    }
    return true;
}

void side_forget(struct side *s)
{
    s->got_len = 0;
    s->in_place = s->copied = 0;
}
