// What tls/conn and tls/ticket see of a context.
#pragma once
#include "tls/ctx.h"
#include "tls/session.h"
#include "tls/verify_internal.h"
#include <openssl/ssl.h>

// Lives as long as its SSL_CTX, which does the counting: every SSL made from it holds it.
struct tls_ctx {
    SSL_CTX *ssl;
    enum tls_side side;
    enum tls_client_auth client_auth;
    struct tls_peer_policy peer; // zero on servers that ask for no certificate
    uint8_t policy[32];
    uint8_t alpn[64]; // servers: in wire form
    uint32_t alpn_len;
    char *own_uri, *sni; // NULL = none
    bool check_host;
    struct session_cache sessions; // clients
};

struct tls_ctx *tls_ctx_of(const SSL *ssl);

// A connection's SSL without its BIO, in accept or connect state; NULL when out of memory. `host`
// (clients): the name or address that is connected to, without port and brackets; it becomes SNI
// unless the settings have one, is checked where they say so, and selects the session to resume.
// `alpn` (clients): wire form, empty = none.
SSL *tls_ctx_new_ssl(struct tls_ctx *c, struct slice host, struct slice alpn);
// The name that a client's connection was made for.
struct slice tls_ctx_host(const SSL *ssl);
// Servers, once a session was resumed: whether the client's certificate would be accepted today.
// false: *alert is what to tell it, tls_ctx_refusal why.
bool tls_ctx_reverify(SSL *ssl, uint8_t *alert);
// Why the peer's certificate was refused; NULL when it was not. Lives as long as the program.
const char *tls_ctx_refusal(const SSL *ssl, enum tls_verdict *verdict);
