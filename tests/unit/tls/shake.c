#include "shake.h"
#include "certs.h"
#include "core/check.h"
#include <openssl/err.h>

static enum ssl_verify_result_t accept_any(SSL *ssl, uint8_t *alert)
{
    (void)ssl, (void)alert;
    return ssl_verify_ok;
}

SSL *plain_client(const struct made *identity)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    check(ctx);
    SSL_CTX_set_custom_verify(ctx, SSL_VERIFY_PEER, accept_any);
    SSL_CTX_enable_ocsp_stapling(ctx);
    if (identity)
        check(SSL_CTX_use_certificate(ctx, identity->x509) &&
              SSL_CTX_use_PrivateKey(ctx, identity->key));
    SSL *ssl = SSL_new(ctx);
    check(ssl);
    SSL_set_connect_state(ssl);
    SSL_CTX_free(ctx);
    return ssl;
}

// One step of a side; the alert it received, if it did.
static int step(SSL *ssl)
{
    char byte;
    bool flush = !SSL_in_init(ssl) && SSL_is_server(ssl);
    if (flush)
        (void)SSL_write(ssl, "", 0); // tickets wait for this
    ERR_clear_error();
    int n = SSL_in_init(ssl) ? SSL_do_handshake(ssl) : SSL_read(ssl, &byte, 1);
    if (n > 0 || SSL_get_error(ssl, n) != SSL_ERROR_SSL)
        return 0;
    int reason = ERR_GET_REASON(ERR_peek_last_error());
    return reason > SSL_AD_REASON_OFFSET ? reason - SSL_AD_REASON_OFFSET : 0;
}

void shake(struct shaken *s, struct tls_ctx *server, SSL *client)
{
    BIO *a, *b;
    *s = (struct shaken){.client = client};
    s->server = tls_ctx_new_ssl(server, (struct slice){NULL, 0}, (struct slice){NULL, 0});
    check(s->client && s->server && BIO_new_bio_pair(&a, 0, &b, 0));
    SSL_set_bio(s->client, a, a);
    SSL_set_bio(s->server, b, b);
    for (int i = 0; i < 10; i++) {
        int alert = step(s->client);
        s->client_alert = s->client_alert ? s->client_alert : alert;
        alert = step(s->server);
        s->server_alert = s->server_alert ? s->server_alert : alert;
    }
    s->done =
        !SSL_in_init(s->client) && !SSL_in_init(s->server) && !s->client_alert && !s->server_alert;
    ERR_clear_error();
}

void shake_contexts(struct shaken *s, struct tls_ctx *server, struct tls_ctx *client,
                    const char *host)
{
    shake(s, server, tls_ctx_new_ssl(client, slice_of(host), (struct slice){NULL, 0}));
}

void shake_fini(struct shaken *s)
{
    SSL_free(s->client);
    SSL_free(s->server);
}
