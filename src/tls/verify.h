// What is asked of the peer's certificate, on both sides of the gateway. Everything here is
// immutable once made and used by all workers at once.
//
// A certificate is accepted when all of these hold:
//   chain   it leads to one of the CAs (any of them is an anchor, also an intermediate), its dates
//           and purposes are in order, and, where there are CRLs, none revokes a certificate of the
//           chain; a CA without a CRL is then an error, as in Envoy
//   names   where subjectAltNames are given, one of them is one of the certificate's: a DNS name
//           (without case; `*.` of the certificate stands for one label), a URI or an e-mail
//           address byte for byte, an address by value. Never the subject's CN.
//   host    (to destinations, where no subjectAltNames are given) the name that was connected to is
//           a DNS name or an address of the certificate
//   pins    where verifyCertificateSpki or verifyCertificateHash are given, one of them is its
// A name with a NUL or another control character in it matches nothing.
//
// Stricter than Istio: pins hold whatever the certificate's source and also with
// insecureSkipVerify; a destination's `sni` without subjectAltNames is also the name its
// certificate must have (Istio then looks at the chain alone); `*.com` covers nothing.
#pragma once
#include "config/model.h"
#include "core/err.h"
#include "core/slice.h"

// CAs and their CRLs. Counted: made with one reference. Any thread.
struct tls_trust;
// PEM texts; `crl` may be empty (no revocation) and CRLs may also stand in `ca`, as Envoy has it.
// ERR_SYNTAX or ERR_LIMIT with the reason in `why`.
enum err tls_trust_create(struct slice ca, struct slice crl, struct tls_trust **out, char *why,
                          size_t why_cap) must_use;
struct tls_trust *tls_trust_get(struct tls_trust *t);
void tls_trust_put(struct tls_trust *t);
uint32_t tls_trust_count(const struct tls_trust *t); // CAs
// Of the first CA, for listings.
const char *tls_trust_serial(const struct tls_trust *t);
int64_t tls_trust_not_after_s(const struct tls_trust *t);
int64_t tls_trust_not_before_s(const struct tls_trust *t);

struct tls_peer_settings {        // borrowed for the call that takes them, except `trust`, which is
                                  // counted
    struct tls_trust *trust;      // NULL only with insecure_skip_verify
    struct string_list names;     // subjectAltNames
    struct string_list spki_pins; // base64 of the SHA-256 of the public key (SPKI)
    struct string_list hash_pins; // hexadecimal SHA-256 of the certificate, also with colons
    bool insecure_skip_verify;    // neither chain nor names: whoever it is passes (pins still hold)
};

// Whether a pin is one; the text is what `why` is to say of it.
bool tls_spki_pin_parse(struct slice text, uint8_t out[32]);
bool tls_hash_pin_parse(struct slice text, uint8_t out[32]);

// RFC 6125, 6.4.3: whether `pattern` of a certificate covers `name`. Both are ASCII.
bool tls_dns_name_matches(struct slice pattern, struct slice name);
