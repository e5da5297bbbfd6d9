// A certificate chain and its key as a Secret or two files hold them: PEM, leaf first. Immutable
// once parsed; any thread.
#pragma once
#include "core/err.h"
#include "core/slice.h"

struct cert;

// Reads all certificates of `chain` and, unless it is empty, the private key of `key`, which must
// be the leaf's. Text around the blocks is passed over; an encrypted key is none. ERR_SYNTAX (not
// PEM, not DER) or ERR_INVALID (the key is another certificate's), with the reason in `why`,
// truncated to `why_cap`. What is returned in *out is the caller's, for cert_destroy.
enum err cert_parse(struct slice chain, struct slice key, struct cert **out, char *why,
                    size_t why_cap) must_use;
void cert_destroy(struct cert *c);

// Certificates in the chain, the leaf included; at least 1.
uint32_t cert_count(const struct cert *c);
// The leaf's subject as RFC 4514 prints it ("CN=a.example,O=Acme"), or its first DNS name where the
// subject is empty. Lives as long as the certificate; printable ASCII, NUL-terminated.
const char *cert_subject(const struct cert *c);
// The leaf's serial number in hexadecimal, lower case. Lives as long as the certificate.
const char *cert_serial(const struct cert *c);
// The leaf's validity (RFC 5280, 4.1.2.5), inclusive, in seconds since the epoch.
int64_t cert_not_before_s(const struct cert *c);
int64_t cert_not_after_s(const struct cert *c);

// Whether the leaf is valid at that time; `why` says what is wrong when not.
bool cert_covers(const struct cert *c, int64_t now_s, char *why, size_t why_cap);

// The hook of struct load_options: whether the credential can be served at that time. The leaf's
// dates count, as for Istio: a chain may carry an expired cross-signed root and still be trusted.
bool cert_is_valid(struct slice chain, struct slice key, int64_t now_s, char *why, size_t why_cap);
