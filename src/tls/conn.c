// Life cycle of a connection's TLS, its handshake and what can be asked of it; conn_rx.c and
// conn_tx.c move the data. Owns the SSL; the wire is the caller's.
//
// Invariants: BoringSSL reads from `input`, which is set during a call only, and never beyond the
// record it needs, so that after the handshake whole records are left to record_open; what it
// writes is on the wire or has failed the connection, never held back.
#include "core/check.h"
#include "tls/conn_parts.h"
#include "tls/ctx_internal.h"
#include <openssl/err.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <stdlib.h>

enum err tls_pools_init(struct tls_pools *p, uint32_t max_conns, uint32_t max_records)
{
    *p = (struct tls_pools){.gather = malloc(SSL3_RT_MAX_PLAIN_LENGTH)};
    if (!p->gather)
        return ERR_NOMEM;
    pool_init(&p->conns, "tls_connections", sizeof(struct tls_conn), max_conns);
    pool_init(&p->filters, "tls_filters", TLS_FILTER_BYTES, max_conns);
    pool_init(&p->records, "tls_records", RECORD_MAX_BYTES, max_records);
    return OK;
}

void tls_pools_fini(struct tls_pools *p)
{
    if (!p->gather)
        return;
    pool_fini(&p->conns);
    pool_fini(&p->filters);
    pool_fini(&p->records);
    free(p->gather);
    p->gather = NULL;
}

// --- the BIO: BoringSSL's view of input and wire ---

static int bio_read(BIO *bio, char *out, int len)
{
    struct tls_conn *c = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    size_t n = c->input.len < (size_t)len ? c->input.len : (size_t)len;
    if (n == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    memcpy(out, c->input.ptr, n);
    c->input = slice_from(c->input, n);
    return (int)n;
}

static int bio_write(BIO *bio, const char *bytes, size_t len, size_t *written)
{
    struct tls_conn *c = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    *written = len;
    if (c->kernel_tx) // sealed with keys and numbers that are the kernel's now
        return 1;
    if (!bufq_append(c->wire, (struct slice){bytes, len})) {
        c->wire_full = true;
        *written = 0;
        return 0;
    }
    return 1;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *method;

static void make_method(void)
{
    method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "tls_conn");
    check(method && BIO_meth_set_read(method, bio_read));
    check(BIO_meth_set_write_ex(method, bio_write) && BIO_meth_set_ctrl(method, bio_ctrl));
}

static BIO *make_bio(struct tls_conn *c)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, make_method);
    BIO *bio = BIO_new(method);
    if (!bio)
        return NULL;
    BIO_set_data(bio, c);
    BIO_set_init(bio, 1);
    return bio;
}

// --- life cycle ---

struct tls_conn *tls_conn_create_ssl(struct tls_pools *p, SSL *ssl, struct bufq *wire)
{
    struct tls_conn *c = ssl ? pool_get(&p->conns) : NULL;
    BIO *bio = NULL;
    if (c) {
        *c = (struct tls_conn){.pools = p, .ssl = ssl, .wire = wire};
        bio = make_bio(c);
    }
    if (!bio) {
        pool_put(&p->conns, c);
        SSL_free(ssl);
        return NULL;
    }
    SSL_set_bio(ssl, bio, bio);
    SSL_set_shed_handshake_config(ssl, 1);
    SSL_set_renegotiate_mode(ssl, ssl_renegotiate_never);
    SSL_set_early_data_enabled(ssl, 0);
    return c;
}

struct tls_conn *tls_conn_create_server(struct tls_pools *p, struct tls_ctx *ctx, struct bufq *wire)
{
    struct slice none = {NULL, 0};
    check(ctx->side == TLS_SIDE_SERVER);
    return tls_conn_create_ssl(p, tls_ctx_new_ssl(ctx, none, none), wire);
}

struct tls_conn *tls_conn_create_client(struct tls_pools *p, struct tls_ctx *ctx, struct slice host,
                                        struct slice alpn, struct bufq *wire)
{
    check(ctx->side == TLS_SIDE_CLIENT);
    return tls_conn_create_ssl(p, tls_ctx_new_ssl(ctx, host, alpn), wire);
}

void tls_conn_destroy(struct tls_conn *c)
{
    if (!c)
        return;
    SSL_free(c->ssl);
    pool_put(&c->pools->records, c->block);
    pool_put(&c->pools->conns, c);
}

SSL *tls_conn_ssl(const struct tls_conn *c)
{
    return c->ssl;
}

// --- failures ---

struct cause {
    int reason;
    enum tls_failure failure;
};

static const struct cause causes[] = {
    {SSL_R_HTTP_REQUEST, TLS_FAIL_HTTP},
    {SSL_R_HTTPS_PROXY_REQUEST, TLS_FAIL_HTTP},
    {SSL_R_UNSUPPORTED_PROTOCOL, TLS_FAIL_VERSION},
    {SSL_R_UNKNOWN_PROTOCOL, TLS_FAIL_VERSION},
    {SSL_R_INAPPROPRIATE_FALLBACK, TLS_FAIL_VERSION},
    {SSL_R_NO_SHARED_CIPHER, TLS_FAIL_CIPHER},
    {SSL_R_NO_SHARED_GROUP, TLS_FAIL_CIPHER},
    {SSL_R_NO_COMMON_SIGNATURE_ALGORITHMS, TLS_FAIL_CIPHER},
    {SSL_R_NO_APPLICATION_PROTOCOL, TLS_FAIL_ALPN},
    {SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, TLS_FAIL_NO_CERTIFICATE},
    {SSL_R_CERTIFICATE_VERIFY_FAILED, TLS_FAIL_CERTIFICATE},
    {SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC, TLS_FAIL_RECORD},
    {SSL_R_TOO_MANY_EMPTY_FRAGMENTS, TLS_FAIL_FLOOD},
    {SSL_R_TOO_MANY_KEY_UPDATES, TLS_FAIL_FLOOD},
    {SSL_R_TOO_MANY_WARNING_ALERTS, TLS_FAIL_FLOOD},
    {SSL_R_NO_RENEGOTIATION, TLS_FAIL_RENEGOTIATION},
};

// What the first record's header tells: then it was no TLS at all.
static bool is_garbled(const struct tls_conn *c, int reason)
{
    if (c->established || c->received > RECORD_HEADER_BYTES)
        return false;
    return reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_UNEXPECTED_RECORD ||
           reason == SSL_R_ENCRYPTED_LENGTH_TOO_LONG;
}

static enum tls_failure cause_of(const struct tls_conn *c, uint32_t error)
{
    int reason = ERR_GET_REASON(error);
    if (ERR_GET_LIB(error) != ERR_LIB_SSL)
        return reason == ERR_R_MALLOC_FAILURE ? TLS_FAIL_MEMORY : TLS_FAIL_PROTOCOL;
    if (reason >= SSL_AD_REASON_OFFSET)
        return TLS_FAIL_ALERT;
    for (size_t i = 0; i < sizeof(causes) / sizeof(causes[0]); i++)
        if (causes[i].reason == reason)
            return causes[i].failure;
    return is_garbled(c, reason) ? TLS_FAIL_NOT_TLS : TLS_FAIL_PROTOCOL;
}

const char *tls_failure_text(enum tls_failure f)
{
    static const char *const texts[] = {
#define X(name, text) [TLS_FAIL_##name] = (text),
        TLS_FAILURES(X)
#undef X
    };
    check(f < TLS_FAIL_COUNT);
    return texts[f];
}

void tls_conn_fail(struct tls_conn *c, enum tls_failure f)
{
    if (c->failure != TLS_FAIL_NONE)
        return;
    c->failure = (uint8_t)f;
    tls_conn_release(c);
}

static enum tls_failure refused(struct tls_conn *c)
{
    enum tls_verdict verdict;
    const char *why = tls_ctx_refusal(c->ssl, &verdict);
    if (why)
        c->reason = why;
    if (verdict == TLS_VERDICT_NAME)
        return TLS_FAIL_NAME;
    return verdict == TLS_VERDICT_PIN ? TLS_FAIL_PIN : TLS_FAIL_CERTIFICATE;
}

// The queue begins with what happened deepest down; the first that has a name of ours is it.
enum tls_read tls_conn_fail_ssl(struct tls_conn *c)
{
    enum tls_failure failure = c->wire_full ? TLS_FAIL_MEMORY : TLS_FAIL_PROTOCOL;
    uint32_t error;
    while (failure == TLS_FAIL_PROTOCOL && (error = ERR_get_error()) != 0) {
        failure = cause_of(c, error);
        if (ERR_GET_LIB(error) == ERR_LIB_SSL)
            c->reason = ERR_reason_error_string(error);
    }
    ERR_clear_error();
    tls_conn_fail(c, failure == TLS_FAIL_CERTIFICATE ? refused(c) : failure);
    return TLS_FAILED;
}

enum tls_failure tls_conn_failure(const struct tls_conn *c)
{
    return (enum tls_failure)c->failure;
}

const char *tls_conn_failure_reason(const struct tls_conn *c)
{
    return c->reason ? c->reason : tls_failure_text(tls_conn_failure(c));
}

// --- the handshake ---

// BoringSSL does not look again at the certificate of a client whose session is resumed, and that
// one may have expired, or a list of revoked ones, since the ticket was issued.
static bool is_still_trusted(struct tls_conn *c)
{
    uint8_t alert = SSL_AD_CERTIFICATE_UNKNOWN;
    if (!SSL_is_server(c->ssl) || !SSL_session_reused(c->ssl) || tls_ctx_reverify(c->ssl, &alert))
        return true;
    (void)SSL_send_fatal_alert(c->ssl, alert);
    ERR_clear_error();
    tls_conn_fail(c, refused(c));
    return false;
}

// One step: TLS_DATA stands for "it is done".
enum tls_read tls_conn_handshake(struct tls_conn *c, struct slice *in)
{
    size_t before = in->len;
    c->input = *in;
    ERR_clear_error();
    int r = SSL_do_handshake(c->ssl);
    *in = c->input;
    c->input = (struct slice){NULL, 0};
    c->received += (uint32_t)(before - in->len);
    if (r == 1 && !is_still_trusted(c))
        return TLS_FAILED;
    if (r == 1 && record_begin(c->ssl)) {
        c->established = true;
        return TLS_DATA;
    }
    // A private key that answers later (SSL_PRIVATE_KEY_METHOD) would be one more case here.
    if (r != 1 && !c->wire_full && SSL_get_error(c->ssl, r) == SSL_ERROR_WANT_READ) {
        check(in->len == 0);
        return TLS_MORE;
    }
    return tls_conn_fail_ssl(c);
}

enum err tls_conn_start(struct tls_conn *c)
{
    struct slice none = {NULL, 0};
    if (SSL_is_server(c->ssl))
        return OK;
    return tls_conn_handshake(c, &none) == TLS_MORE ? OK : ERR_CLOSED;
}

bool tls_conn_is_established(const struct tls_conn *c)
{
    return c->established;
}

void tls_conn_close(struct tls_conn *c)
{
    if (!c->established || c->failure != TLS_FAIL_NONE || c->closed)
        return;
    c->closed = true;
    (void)SSL_shutdown(c->ssl); // with tickets that were not sent yet
    ERR_clear_error();
}

enum err tls_conn_eof(struct tls_conn *c)
{
    if (c->peer_closed)
        return OK;
    tls_conn_fail(c, TLS_FAIL_TRUNCATED);
    return ERR_CLOSED;
}

// --- what can be asked ---

struct slice tls_conn_host(const struct tls_conn *c)
{
    return tls_ctx_host(c->ssl);
}

struct slice tls_conn_peer_certificate(const struct tls_conn *c)
{
    check(c->established);
    const STACK_OF(CRYPTO_BUFFER) *chain = SSL_get0_peer_certificates(c->ssl);
    if (!chain || sk_CRYPTO_BUFFER_num(chain) == 0)
        return (struct slice){NULL, 0};
    const CRYPTO_BUFFER *leaf = sk_CRYPTO_BUFFER_value(chain, 0);
    return (struct slice){(const char *)CRYPTO_BUFFER_data(leaf), CRYPTO_BUFFER_len(leaf)};
}

static const char *or_empty(const char *s)
{
    return s ? s : "";
}

void tls_conn_info(const struct tls_conn *c, struct tls_info *out)
{
    const uint8_t *alpn;
    unsigned alpn_len;
    check(c->established);
    SSL_get0_alpn_selected(c->ssl, &alpn, &alpn_len);
    const SSL_CIPHER *cipher = SSL_get_current_cipher(c->ssl);
    *out = (struct tls_info){
        .version = SSL_get_version(c->ssl),
        .cipher = cipher ? SSL_CIPHER_standard_name(cipher) : "",
        .openssl_cipher = cipher ? SSL_CIPHER_get_name(cipher) : "",
        .group = or_empty(SSL_get_group_name(SSL_get_group_id(c->ssl))),
        .sni = slice_of(SSL_get_servername(c->ssl, TLSEXT_NAMETYPE_host_name)),
        .alpn = {(const char *)alpn, alpn_len},
        .server = SSL_is_server(c->ssl),
        .resumed = SSL_session_reused(c->ssl),
    };
}
