// The value of x-forwarded-client-cert as Envoy writes it for an Istio gateway (SANITIZE_SET with
// subject, cert, DNS, URI): `By=…;Hash=…;Cert="…";Subject="…";URI=…;DNS=…`. Pure; any thread.
#pragma once
#include "core/slice.h"

// `leaf`: the client's certificate in DER. `by`: the URI name of our own certificate, empty = none,
// then the part is left out. Hash is the SHA-256 of the certificate in hexadecimal, Cert its PEM,
// percent-encoded, Subject as RFC 2253 has it. URI is there even when empty, each further URI and
// each DNS name is a part of its own. A name with `,`, `;`, `=` or `"` in it is quoted; one with a
// control character or a non-ASCII byte is left out, for it would break the header or mean another
// to who reads it.
// Returns the length of the value; it is in `out` (not NUL-terminated) when that is at most `cap`.
// 0 when `leaf` is no certificate.
size_t xfcc_write(struct slice leaf, struct slice by, char *out, size_t cap);
// Of the same certificate, in the same way: its subject, and its SHA-256 in hexadecimal (64 bytes).
size_t xfcc_write_subject(struct slice leaf, char *out, size_t cap);
size_t xfcc_write_hash(struct slice leaf, char *out, size_t cap);
