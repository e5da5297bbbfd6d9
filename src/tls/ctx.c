// TLS contexts. Owns an SSL_CTX each, which counts the references and frees the rest with itself;
// nothing but the sessions of a destination changes after creation. Made on the control thread,
// used on all.
#include "tls/ctx.h"
#include "config/names.h"
#include "core/check.h"
#include "tls/cert_internal.h"
#include "tls/ctx_internal.h"
#include <arpa/inet.h>
#include <openssl/bytestring.h>
#include <openssl/ec.h>
#include <openssl/ec_key.h>
#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/nid.h>
#include <openssl/rsa.h>
#include <openssl/sha2.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdlib.h>

#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))
#define CA_NAMES_BYTES_MAX 16384u // of CertificateRequest; with more, none is named

// Envoy's default for a server.
static const char default_ciphers[] =
    "[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]:"
    "[ECDHE-RSA-AES128-GCM-SHA256|ECDHE-RSA-CHACHA20-POLY1305]:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384";
// Of Istio's ValidECDHCurves those that BoringSSL still has.
static const struct {
    const char *name;
    uint16_t group;
} curves[] = {
    {"X25519MLKEM768", SSL_GROUP_X25519_MLKEM768},
    {"X25519", SSL_GROUP_X25519},
    {"P-256", SSL_GROUP_SECP256R1},
    {"P-384", SSL_GROUP_SECP384R1},
    {"P-521", SSL_GROUP_SECP521R1},
};
#define DEFAULT_CURVES 4u // the first ones
static const uint16_t versions[] = {
    [TLS_PROTO_AUTO] = 0,
    [TLS_PROTO_1_0] = TLS1_VERSION,
    [TLS_PROTO_1_1] = TLS1_1_VERSION,
    [TLS_PROTO_1_2] = TLS1_2_VERSION,
    [TLS_PROTO_1_3] = TLS1_3_VERSION,
};

// ---- what hangs on an SSL_CTX and on an SSL

struct peer { // of a client's connection, and of a server's once its peer was refused
    enum tls_verdict verdict;
    const char *refusal; // static
    size_t host_len;
    char host[];
};

static int ctx_index, peer_index;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void free_ctx(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int index, long argl, void *argp)
{
    (void)parent, (void)ad, (void)index, (void)argl, (void)argp;
    struct tls_ctx *c = ptr;
    if (!c)
        return;
    session_cache_fini(&c->sessions);
    tls_peer_policy_fini(&c->peer);
    OPENSSL_free(c->own_uri);
    OPENSSL_free(c->sni);
    free(c);
}

static void free_peer(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int index, long argl, void *argp)
{
    (void)parent, (void)ad, (void)index, (void)argl, (void)argp;
    free(ptr);
}

static void make_indexes(void)
{
    ctx_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_ctx);
    peer_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, free_peer);
    check(ctx_index >= 0 && peer_index >= 0);
}

struct tls_ctx *tls_ctx_of(const SSL *ssl)
{
    return SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), ctx_index);
}

static struct peer *peer_of(SSL *ssl, struct slice host)
{
    struct peer *p = SSL_get_ex_data(ssl, peer_index);
    if (p)
        return p;
    p = calloc(1, sizeof(*p) + host.len);
    if (!p)
        return NULL;
    p->host_len = host.len;
    if (host.len)
        memcpy(p->host, host.ptr, host.len);
    if (SSL_set_ex_data(ssl, peer_index, p))
        return p;
    free(p);
    return NULL;
}

static struct tls_ctx *ctx_create(enum tls_side side)
{
    pthread_once(&once, make_indexes);
    struct tls_ctx *c = calloc(1, sizeof(*c));
    check(c);
    c->side = side;
    c->ssl = SSL_CTX_new(TLS_with_buffers_method());
    check(c->ssl && SSL_CTX_set_ex_data(c->ssl, ctx_index, c));
    SSL_CTX_set_options(c->ssl, SSL_OP_CIPHER_SERVER_PREFERENCE);
    return c;
}

struct tls_ctx *tls_ctx_get(struct tls_ctx *c)
{
    SSL_CTX_up_ref(c->ssl);
    return c;
}

void tls_ctx_put(struct tls_ctx *c)
{
    if (c)
        SSL_CTX_free(c->ssl);
}

// ---- credentials

static bool is_ecdsa(const struct cert *c)
{
    return EVP_PKEY_id(c->key) == EVP_PKEY_EC;
}

// What Envoy takes.
static enum err check_key(const struct cert *c, char *why, size_t cap)
{
    if (!c->key)
        return cert_fail(ERR_INVALID, why, cap, "the certificate %s comes without a key",
                         c->subject);
    if (EVP_PKEY_id(c->key) == EVP_PKEY_RSA && EVP_PKEY_bits(c->key) < 2048)
        return cert_fail(ERR_UNSUPPORTED, why, cap,
                         "the RSA key of the certificate %s has %d bits, less than 2048",
                         c->subject, EVP_PKEY_bits(c->key));
    if (!is_ecdsa(c))
        return OK;
    int nid = EC_GROUP_get_curve_name(EC_KEY_get0_group(EVP_PKEY_get0_EC_KEY(c->key)));
    if (nid != NID_X9_62_prime256v1 && nid != NID_secp384r1 && nid != NID_secp521r1)
        return cert_fail(ERR_UNSUPPORTED, why, cap,
                         "the ECDSA key of the certificate %s is not on P-256, P-384 or P-521",
                         c->subject);
    return OK;
}

static CRYPTO_BUFFER *buffer_of(const X509 *x)
{
    uint8_t *der = NULL;
    int len = i2d_X509(x, &der);
    CRYPTO_BUFFER *b = len > 0 ? CRYPTO_BUFFER_new(der, (size_t)len, NULL) : NULL;
    check(b);
    OPENSSL_free(der);
    return b;
}

static void set_chain(SSL_CREDENTIAL *credential, const struct cert *c)
{
    CRYPTO_BUFFER *chain[CERT_CHAIN_MAX];
    size_t n = sk_X509_num(c->chain);
    check(n <= CERT_CHAIN_MAX);
    for (size_t i = 0; i < n; i++)
        chain[i] = buffer_of(sk_X509_value(c->chain, i));
    check(SSL_CREDENTIAL_set1_cert_chain(credential, chain, n));
    for (size_t i = 0; i < n; i++)
        CRYPTO_BUFFER_free(chain[i]);
}

// RFC 6960, 4.2.1: OCSPResponse with status `successful`.
static bool is_ocsp_response(struct slice der)
{
    CBS in, response, status;
    uint8_t value;
    CBS_init(&in, (const uint8_t *)der.ptr, der.len);
    return CBS_get_asn1(&in, &response, CBS_ASN1_SEQUENCE) && CBS_len(&in) == 0 &&
           CBS_get_asn1(&response, &status, CBS_ASN1_ENUMERATED) && CBS_get_u8(&status, &value) &&
           value == 0 && CBS_len(&status) == 0 && CBS_len(&response) > 0;
}

static enum err add_identity(struct tls_ctx *c, const struct tls_identity *id, char *why,
                             size_t cap)
{
    enum err e = check_key(id->cert, why, cap);
    if (e != OK)
        return e;
    if (id->ocsp.len && !is_ocsp_response(id->ocsp))
        return cert_fail(ERR_INVALID, why, cap,
                         "the OCSP staple of the certificate %s is no successful response in DER",
                         id->cert->subject);
    SSL_CREDENTIAL *credential = SSL_CREDENTIAL_new_x509();
    check(credential);
    set_chain(credential, id->cert);
    if (id->ocsp.len) {
        CRYPTO_BUFFER *b = CRYPTO_BUFFER_new((const uint8_t *)id->ocsp.ptr, id->ocsp.len, NULL);
        check(b && SSL_CREDENTIAL_set1_ocsp_response(credential, b));
        CRYPTO_BUFFER_free(b);
    }
    if (!SSL_CREDENTIAL_set1_private_key(credential, id->cert->key) ||
        !SSL_CTX_add1_credential(c->ssl, credential))
        e = cert_fail(ERR_INVALID, why, cap, "the certificate %s and its key cannot be used",
                      id->cert->subject);
    SSL_CREDENTIAL_free(credential);
    return e;
}

// ECDSA first: a signature costs a thirtieth of RSA's, and who knows RSA alone skips it.
static enum err add_identities(struct tls_ctx *c, const struct tls_server_settings *s, char *why,
                               size_t cap)
{
    enum err e = OK;
    if (s->identity_count == 0 || s->identity_count > TLS_IDENTITIES_MAX)
        return cert_fail(ERR_INVALID, why, cap, "%u certificates, 1 or 2 are possible",
                         s->identity_count);
    for (uint32_t i = 0; e == OK && i < s->identity_count; i++)
        e = check_key(s->identities[i].cert, why, cap);
    for (uint32_t rsa = 0; e == OK && rsa < 2; rsa++)
        for (uint32_t i = 0; e == OK && i < s->identity_count; i++)
            if (is_ecdsa(s->identities[i].cert) == !rsa)
                e = add_identity(c, &s->identities[i], why, cap);
    return e;
}

static char *first_uri(const struct cert *c)
{
    GENERAL_NAMES *names =
        X509_get_ext_d2i(sk_X509_value(c->chain, 0), NID_subject_alt_name, NULL, NULL);
    char *out = NULL;
    for (size_t i = 0; names && !out && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
        if (g->type == GEN_URI)
            out =
                OPENSSL_strndup((const char *)ASN1_STRING_get0_data(g->d.uniformResourceIdentifier),
                                (size_t)ASN1_STRING_length(g->d.uniformResourceIdentifier));
    }
    GENERAL_NAMES_free(names);
    ERR_clear_error();
    return out;
}

// ---- versions, ciphers, groups

static uint16_t group_of(struct slice name)
{
    for (uint32_t i = 0; i < COUNT_OF(curves); i++)
        if (slice_eq(name, slice_of(curves[i].name)))
            return curves[i].group;
    return 0;
}

bool tls_curve_is_known(struct slice name)
{
    return group_of(name) != 0;
}

static void set_ciphers(struct tls_ctx *c, const struct string_list *list)
{
    char text[CIPHER_SUITES * 32] = "";
    size_t n = 0;
    for (uint32_t i = 0; i < list->count; i++) {
        struct slice name = list->items[i].text;
        if (!cipher_suite_is_known(name) || string_list_repeats(list, i))
            continue;
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%.*s", n ? ":" : "", SLICE_FMT(name));
        check(n < sizeof(text));
    }
    check(SSL_CTX_set_strict_cipher_list(c->ssl, n ? text : default_ciphers));
}

static void set_groups(struct tls_ctx *c, const struct string_list *list)
{
    uint16_t groups[COUNT_OF(curves)];
    size_t n = 0;
    for (uint32_t i = 0; i < list->count; i++) {
        uint16_t group = group_of(list->items[i].text);
        if (group && !string_list_repeats(list, i))
            groups[n++] = group;
    }
    for (uint32_t i = 0; list->count == 0 && i < DEFAULT_CURVES; i++)
        groups[n++] = curves[i].group;
    check(n <= COUNT_OF(curves));
    if (n == 0) // nothing of what was asked for is there
        set_groups(c, &(struct string_list){0});
    else
        check(SSL_CTX_set1_group_ids(c->ssl, groups, n));
}

static enum err set_versions(struct tls_ctx *c, enum tls_protocol min, enum tls_protocol max,
                             char *why, size_t cap)
{
    uint16_t low = min == TLS_PROTO_AUTO ? TLS1_2_VERSION : versions[min];
    uint16_t high = max == TLS_PROTO_AUTO ? TLS1_3_VERSION : versions[max];
    if (min == TLS_PROTO_AUTO && high < low)
        low = high; // maxProtocolVersion alone says what is wanted
    if (low > high)
        return cert_fail(ERR_INVALID, why, cap, "minProtocolVersion is above maxProtocolVersion");
    check(SSL_CTX_set_min_proto_version(c->ssl, low) &&
          SSL_CTX_set_max_proto_version(c->ssl, high));
    return OK;
}

// ---- ALPN (RFC 7301)

static int select_alpn(SSL *ssl, const uint8_t **out, uint8_t *out_len, const uint8_t *in,
                       unsigned in_len, void *arg)
{
    (void)arg;
    const struct tls_ctx *c = tls_ctx_of(ssl);
    for (uint32_t i = 0; i < c->alpn_len; i += 1u + c->alpn[i]) {
        for (unsigned k = 0; k < in_len; k += 1u + in[k]) {
            if (in[k] != c->alpn[i] || memcmp(&in[k + 1], &c->alpn[i + 1], in[k]) != 0)
                continue;
            *out = &c->alpn[i + 1];
            *out_len = c->alpn[i];
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_NOACK;
}

static void set_alpn(struct tls_ctx *c, struct slice list)
{
    struct slice rest = list, name;
    while (list.len && slice_split(&rest, ',', &name)) {
        check(name.len && name.len < sizeof(c->alpn) - c->alpn_len);
        c->alpn[c->alpn_len] = (uint8_t)name.len;
        memcpy(&c->alpn[c->alpn_len + 1], name.ptr, name.len);
        c->alpn_len += 1u + (uint32_t)name.len;
    }
    if (c->alpn_len)
        SSL_CTX_set_alpn_select_cb(c->ssl, select_alpn, NULL);
}

// ---- the peer's certificate

static enum ssl_verify_result_t verify_peer(SSL *ssl, uint8_t *alert)
{
    const struct tls_ctx *c = tls_ctx_of(ssl);
    const struct peer *known = SSL_get_ex_data(ssl, peer_index);
    struct slice host = {NULL, 0};
    if (known && c->check_host)
        host = (struct slice){known->host, known->host_len};
    if (c->check_host && !c->peer.name_count && !c->peer.insecure_skip_verify && !host.len) {
        *alert = SSL_AD_INTERNAL_ERROR; // a name has to be checked, and nobody said which
        return ssl_verify_invalid;
    }
    const char *why = NULL;
    enum tls_verdict verdict =
        tls_peer_verify(&c->peer, SSL_get0_peer_certificates(ssl), c->side, host, alert, &why);
    if (verdict == TLS_VERDICT_OK)
        return ssl_verify_ok;
    struct peer *p = peer_of(ssl, (struct slice){NULL, 0});
    if (p) {
        p->verdict = verdict;
        p->refusal = why;
    }
    return ssl_verify_invalid;
}

struct slice tls_ctx_host(const SSL *ssl)
{
    const struct peer *p = SSL_get_ex_data(ssl, peer_index);
    return p ? (struct slice){p->host, p->host_len} : (struct slice){NULL, 0};
}

bool tls_ctx_reverify(SSL *ssl, uint8_t *alert)
{
    const struct tls_ctx *c = tls_ctx_of(ssl);
    if (!c) // an SSL_CTX that was not made here asks what it asks itself
        return true;
    bool asks = c->side == TLS_SIDE_SERVER && c->client_auth != TLS_CLIENT_AUTH_NONE;
    bool may_lack = c->client_auth == TLS_CLIENT_AUTH_OPTIONAL;
    if (!asks || (may_lack && !SSL_get0_peer_certificates(ssl)))
        return true;
    return verify_peer(ssl, alert) == ssl_verify_ok;
}

const char *tls_ctx_refusal(const SSL *ssl, enum tls_verdict *verdict)
{
    const struct peer *p = SSL_get_ex_data(ssl, peer_index);
    *verdict = p ? p->verdict : TLS_VERDICT_OK;
    return p ? p->refusal : NULL;
}

// Names of the CAs for CertificateRequest, so that a client with several certificates knows which.
static void name_authorities(struct tls_ctx *c)
{
    STACK_OF(CRYPTO_BUFFER) *names = sk_CRYPTO_BUFFER_new_null();
    const struct tls_trust *t = c->peer.trust;
    size_t total = 0;
    check(names);
    for (size_t i = 0; t && i < sk_X509_num(t->authorities); i++) {
        const uint8_t *der;
        size_t len;
        X509_NAME *subject = X509_get_subject_name(sk_X509_value(t->authorities, i));
        if (!X509_NAME_get0_der(subject, &der, &len) || (total += len + 2) > CA_NAMES_BYTES_MAX)
            break;
        CRYPTO_BUFFER *b = CRYPTO_BUFFER_new(der, len, NULL);
        check(b && sk_CRYPTO_BUFFER_push(names, b));
    }
    if (total > CA_NAMES_BYTES_MAX) {
        sk_CRYPTO_BUFFER_pop_free(names, CRYPTO_BUFFER_free);
        return;
    }
    SSL_CTX_set0_client_CAs(c->ssl, names);
}

static enum err set_client_auth(struct tls_ctx *c, const struct tls_server_settings *s, char *why,
                                size_t cap)
{
    static const int modes[] = {
        [TLS_CLIENT_AUTH_NONE] = SSL_VERIFY_NONE,
        [TLS_CLIENT_AUTH_OPTIONAL] = SSL_VERIFY_PEER,
        [TLS_CLIENT_AUTH_REQUIRED] = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
    };
    c->client_auth = s->client_auth;
    if (s->client_auth == TLS_CLIENT_AUTH_NONE)
        return OK;
    enum err e = tls_peer_policy_init(&c->peer, &s->peer, why, cap);
    if (e != OK)
        return e;
    SSL_CTX_set_custom_verify(c->ssl, modes[s->client_auth], verify_peer);
    name_authorities(c);
    return OK;
}

// ---- the policy's digest

static void hash_text(SHA256_CTX *sha, const void *text, size_t len)
{
    uint64_t n = len; // first, so that no two lists of texts look alike
    SHA256_Update(sha, &n, sizeof(n));
    SHA256_Update(sha, text, len);
}

static void hash_peer(SHA256_CTX *sha, const struct tls_peer_policy *p)
{
    uint8_t flags[2] = {p->insecure_skip_verify, p->trust != NULL};
    hash_text(sha, flags, sizeof(flags));
    if (p->trust)
        hash_text(sha, p->trust->digest, sizeof(p->trust->digest));
    for (uint32_t i = 0; i < p->name_count; i++)
        hash_text(sha, p->names[i].text, p->names[i].len);
    hash_text(sha, p->spki_pins, (size_t)p->spki_pin_count * 32);
    hash_text(sha, p->hash_pins, (size_t)p->hash_pin_count * 32);
}

static void set_policy(struct tls_ctx *c, const struct tls_server_settings *s)
{
    SHA256_CTX sha;
    uint8_t auth = (uint8_t)c->client_auth;
    SHA256_Init(&sha);
    hash_text(&sha, s->name.ptr, s->name.len);
    hash_text(&sha, &auth, 1);
    hash_peer(&sha, &c->peer);
    SHA256_Final(c->policy, &sha);
    check(SSL_CTX_set_session_id_context(c->ssl, c->policy, sizeof(c->policy)));
}

// ---- servers

enum err tls_ctx_create_server(const struct tls_server_settings *s, struct tls_ctx **out, char *why,
                               size_t why_cap)
{
    struct tls_ctx *c = ctx_create(TLS_SIDE_SERVER);
    enum err e = set_versions(c, s->min_version, s->max_version, why, why_cap);
    if (e == OK)
        e = add_identities(c, s, why, why_cap);
    if (e == OK)
        e = set_client_auth(c, s, why, why_cap);
    if (e != OK) {
        tls_ctx_put(c);
        *out = NULL;
        return e;
    }
    set_ciphers(c, &s->cipher_suites);
    set_groups(c, &s->ecdh_curves);
    set_alpn(c, s->alpn);
    set_policy(c, s);
    check(s->identity_count <= TLS_IDENTITIES_MAX); // add_identities saw to it
    for (uint32_t i = 0; i < s->identity_count && !c->own_uri; i++)
        c->own_uri = first_uri(s->identities[i].cert);
    SSL_CTX_set_session_cache_mode(c->ssl, SSL_SESS_CACHE_OFF); // tickets only (tls/ticket)
    *out = c;
    return OK;
}

// ---- destinations

static int keep_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls_ctx *c = tls_ctx_of(ssl);
    const struct peer *p = SSL_get_ex_data(ssl, peer_index);
    if (!p)
        return 0;
    session_cache_put(&c->sessions, (struct slice){p->host, p->host_len}, session);
    return 1;
}

enum err tls_ctx_create_client(const struct tls_client_settings *s, struct tls_ctx **out, char *why,
                               size_t why_cap)
{
    struct tls_ctx *c = ctx_create(TLS_SIDE_CLIENT);
    enum err e = set_versions(c, TLS_PROTO_AUTO, TLS_PROTO_AUTO, why, why_cap);
    if (e == OK && s->identity.cert)
        e = add_identity(c, &s->identity, why, why_cap);
    if (e == OK)
        e = tls_peer_policy_init(&c->peer, &s->peer, why, why_cap);
    if (e != OK) {
        tls_ctx_put(c);
        *out = NULL;
        return e;
    }
    c->check_host = s->check_host;
    if (s->sni.len) {
        c->sni = OPENSSL_strndup(s->sni.ptr, s->sni.len);
        check(c->sni);
    }
    set_ciphers(c, &(struct string_list){0});
    set_groups(c, &(struct string_list){0});
    SSL_CTX_set_custom_verify(c->ssl, SSL_VERIFY_PEER, verify_peer);
    SSL_CTX_set_reverify_on_resume(c->ssl, 1); // its certificate may have expired since
    SSL_CTX_set_session_cache_mode(c->ssl, SSL_SESS_CACHE_CLIENT);
    SSL_CTX_sess_set_new_cb(c->ssl, keep_session);
    *out = c;
    return OK;
}

static bool is_address(const char *text)
{
    uint8_t out[16];
    return inet_pton(AF_INET, text, out) == 1 || inet_pton(AF_INET6, text, out) == 1;
}

static bool prepare_client(struct tls_ctx *c, SSL *ssl, struct slice host, struct slice alpn)
{
    char name[256];
    if (c->sni)
        host = slice_of(c->sni);
    if (host.len && host.ptr[host.len - 1] == '.')
        host.len--; // RFC 6066, 3: without a trailing dot
    if (host.len >= sizeof(name) || !peer_of(ssl, host))
        return false;
    snprintf(name, sizeof(name), "%.*s", SLICE_FMT(host));
    if (host.len && !is_address(name) && !SSL_set_tlsext_host_name(ssl, name))
        return false;
    if (alpn.len && SSL_set_alpn_protos(ssl, (const uint8_t *)alpn.ptr, alpn.len) != 0)
        return false;
    SSL_SESSION *session = session_cache_take(&c->sessions, host);
    if (session) {
        (void)SSL_set_session(ssl, session);
        SSL_SESSION_free(session);
    }
    SSL_set_connect_state(ssl);
    return true;
}

SSL *tls_ctx_new_ssl(struct tls_ctx *c, struct slice host, struct slice alpn)
{
    SSL *ssl = SSL_new(c->ssl);
    if (ssl && c->side == TLS_SIDE_SERVER) {
        SSL_set_accept_state(ssl);
    } else if (ssl && !prepare_client(c, ssl, host, alpn)) {
        SSL_free(ssl);
        ssl = NULL;
    }
    if (!ssl)
        ERR_clear_error();
    return ssl;
}

// ---- what others ask

const uint8_t *tls_ctx_policy(const struct tls_ctx *c)
{
    return c->policy;
}

enum tls_client_auth tls_ctx_client_auth(const struct tls_ctx *c)
{
    return c->client_auth;
}

struct slice tls_ctx_own_uri(const struct tls_ctx *c)
{
    return slice_of(c->own_uri);
}

bool tls_ctx_follows_host(const struct tls_ctx *c)
{
    return c->side == TLS_SIDE_CLIENT && !c->sni;
}
