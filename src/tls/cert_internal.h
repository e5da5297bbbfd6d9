// A parsed certificate chain as BoringSSL's objects, for the other files of this room.
#pragma once
#include "tls/cert.h"
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdarg.h>

#define CERT_CHAIN_MAX 32u // certificates; a server sends all of them in each full handshake

struct cert {
    STACK_OF(X509) * chain;
    EVP_PKEY *key; // NULL = none was given
    int64_t not_before_s, not_after_s;
    char *subject; // BoringSSL's
    char *serial;  // BoringSSL's
};

// Writes the reason, clears BoringSSL's error queue and returns `e`.
enum err cert_fail(enum err e, char *why, size_t cap, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
// The certificates of a PEM text, at most `max`, appended to `out`, which takes what it is given;
// `what` names one in messages. ERR_SYNTAX when there is none or one of them cannot be read.
enum err cert_read_pem(struct slice text, uint32_t max, const char *what, STACK_OF(X509) * out,
                       char *why, size_t cap) must_use;
// Whether PEM ended where the last reader stopped, rather than being broken there.
bool cert_at_end_of_pem(void);
BIO *cert_open_text(struct slice text); // NULL when it is too long; clears the error queue
int cert_no_password(char *buf, int size, int writing, void *arg);
