// Certificates made while the tests run, so that none is in the repository and none expires.
// Everything lives until the program ends.
#pragma once
#include "core/slice.h"
#include <openssl/base.h>

enum made_key { MADE_P256, MADE_RSA2048, MADE_P224, MADE_RSA1024 };

struct made { // a certificate and its key
    X509 *x509;
    EVP_PKEY *key;
    struct slice pem, key_pem; // NUL-terminated
};

struct made_spec {
    const char *cn, *org; // NULL = not there
    enum made_key key;    // RSA keys are generated once for each `key_number`
    uint32_t key_number;
    const struct made *issuer; // NULL = signs itself
    bool ca;
    bool server_only; // extended key usage serverAuth alone
    // "DNS:a.example,URI:spiffe://a/b,IP:127.0.0.1,EMAIL:a@b"; `%00` stands for a NUL.
    const char *names;
    int64_t from_s, until_s; // relative to now; both 0 = since an hour, for a day
};

const struct made *made_cert(const struct made_spec *spec);
struct slice made_chain(const struct made *leaf, const struct made *intermediate); // PEM
struct slice made_encrypted_key(const struct made *m);
// A CRL of `issuer` in PEM, valid now, or until an hour ago.
struct slice made_crl(const struct made *issuer, const struct made *const *revoked, uint32_t count,
                      bool expired);
// DER of an OCSPResponse that says `successful` with a body of no meaning.
struct slice made_ocsp(void);
struct slice made_spki_pin(const struct made *m); // base64
struct slice made_hash_pin(const struct made *m); // hexadecimal
