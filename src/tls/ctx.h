// One server's or one destination's TLS: settings and credentials, ready for handshakes. Made on
// the control thread, immutable, counted, used by all workers at once. A connection holds what it
// was made from, so the last put may come while handshakes are still going on.
#pragma once
#include "config/model.h"
#include "core/err.h"
#include "tls/cert.h"
#include "tls/verify.h"

struct tls_ctx;

#define TLS_IDENTITIES_MAX 2 // one RSA, one ECDSA

struct tls_identity {
    const struct cert *cert; // with its key; borrowed for the call that takes it
    struct slice ocsp;       // DER of an OCSP response to staple; empty = none
};

enum tls_client_auth { TLS_CLIENT_AUTH_NONE, TLS_CLIENT_AUTH_OPTIONAL, TLS_CLIENT_AUTH_REQUIRED };

// Everything is borrowed for the call, except `peer.trust`, which is counted.
struct tls_server_settings {
    struct slice
        name; // of the chain, e.g. "istio/gw/https-443": a ticket of one is none of another
    struct tls_identity identities[TLS_IDENTITIES_MAX]; // chosen by the client's algorithms, ECDSA
                                                        // first
    uint32_t identity_count;
    enum tls_protocol min_version, max_version; // AUTO: 1.2 and 1.3
    struct string_list
        cipher_suites;              // of TLS 1.2 and below, by OpenSSL's names; unknown and second
                                    // ones are passed over, Envoy's default when none is left
    struct string_list ecdh_curves; // unknown ones are passed over; default
                                    // X25519MLKEM768, X25519, P-256, P-384
    struct slice
        alpn; // "h2,http/1.1": ours in order of preference; empty = the client's is not
              // answered. A client that offers none of them is served without, as by Envoy.
    enum tls_client_auth client_auth;
    struct tls_peer_settings peer; // of clients; unused with TLS_CLIENT_AUTH_NONE
};

struct tls_client_settings {
    struct tls_identity identity; // cert NULL = none is shown
    struct slice sni; // what is sent and checked; empty = the name the caller connects to
    bool check_host;  // where peer.names is empty: the certificate must be for that name
    struct tls_peer_settings peer; // of the destination
};

// ERR_INVALID or ERR_UNSUPPORTED with a sentence for a finding in `why`; *out is then NULL. One
// reference is the caller's.
enum err tls_ctx_create_server(const struct tls_server_settings *s, struct tls_ctx **out, char *why,
                               size_t why_cap) must_use;
enum err tls_ctx_create_client(const struct tls_client_settings *s, struct tls_ctx **out, char *why,
                               size_t why_cap) must_use;
struct tls_ctx *tls_ctx_get(struct tls_ctx *c);
void tls_ctx_put(struct tls_ctx *c);

// A digest of who may connect and to what: the server's name, client authentication, CAs, CRLs,
// names and pins. Sessions do not resume across two digests, and connections do not outlive one.
// Our own certificate is no part of it: one that is renewed, with other names too, keeps both.
const uint8_t *tls_ctx_policy(const struct tls_ctx *c); // 32 bytes
enum tls_client_auth tls_ctx_client_auth(const struct tls_ctx *c);
// The first URI name of our own certificate (`By=` of x-forwarded-client-cert); empty = none.
struct slice tls_ctx_own_uri(const struct tls_ctx *c);
// Clients: whether the SNI is that of each request's host, so that a pooled connection may only
// carry requests to the host it was opened for.
bool tls_ctx_follows_host(const struct tls_ctx *c);

bool tls_curve_is_known(struct slice name);
