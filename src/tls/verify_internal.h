// Verification on BoringSSL's objects, for the other files of this room.
#pragma once
#include "tls/verify.h"
#include <openssl/pool.h>
#include <openssl/x509.h>

enum tls_side { TLS_SIDE_SERVER, TLS_SIDE_CLIENT }; // which we are

struct tls_trust {
    _Atomic uint32_t references;
    X509_STORE *store;
    STACK_OF(X509) * authorities;
    bool has_crl;
    uint8_t digest[32]; // SHA-256 of both texts
    int64_t not_before_s, not_after_s;
    char *serial; // BoringSSL's
};

struct tls_peer_policy {
    struct tls_trust *trust;
    struct tls_peer_name {
        char *text; // owned
        size_t len;
        uint8_t address[16]; // where it is one: 4 or 16 bytes
        uint32_t address_len;
    } *names;
    uint32_t name_count;
    uint8_t (*spki_pins)[32], (*hash_pins)[32];
    uint32_t spki_pin_count, hash_pin_count;
    bool insecure_skip_verify;
};

// ERR_INVALID with the reason when a pin is none or nothing is trusted.
enum err tls_peer_policy_init(struct tls_peer_policy *p, const struct tls_peer_settings *s,
                              char *why, size_t cap) must_use;
void tls_peer_policy_fini(struct tls_peer_policy *p);

enum tls_verdict {
    TLS_VERDICT_OK,
    TLS_VERDICT_CHAIN, // and dates, purposes, revocation
    TLS_VERDICT_NAME,
    TLS_VERDICT_PIN,
};
// `chain` is what the peer sent, leaf first. `host`: the name or address that was connected to, to
// be checked where the policy has no names; empty = not checked. On anything but OK *alert is what
// Envoy would send and *why says what was wrong (static).
enum tls_verdict tls_peer_verify(const struct tls_peer_policy *p,
                                 const STACK_OF(CRYPTO_BUFFER) * chain, enum tls_side side,
                                 struct slice host, uint8_t *alert, const char **why);
