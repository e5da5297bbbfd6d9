// Reads a ClientHello (RFC 8446, 4.1.2) out of the first bytes of a connection, before any TLS
// object exists: the server name (RFC 6066, 3) by which a filter chain is chosen, and the
// application protocols (RFC 7301, 3.1).
//
// The bytes are pushed as they come, in pieces of any size; the message may be spread over several
// records. Nothing is allocated and no byte is looked at twice. The reader keeps what it
// found, not the bytes: whoever feeds it keeps them for whoever terminates or passes through.
#pragma once
#include "core/err.h"
#include "core/slice.h"

// Records' headers included. A hello of today is 0.3 to 2 KiB.
#define TLS_HELLO_MAX_BYTES (16u * 1024u)
#define TLS_HELLO_MAX_EXTENSIONS 64
#define TLS_HELLO_MAX_ALPN 256 // bytes of the list
#define TLS_SNI_MAX 255

// Why a hello was refused: what the caller counts.
enum tls_hello_fault {
    TLS_HELLO_FINE,
    TLS_HELLO_NOT_TLS,   // neither of the two below
    TLS_HELLO_HTTP,      // a request in clear text
    TLS_HELLO_SSLV2,     // an SSLv2 record
    TLS_HELLO_MALFORMED, // lengths that do not fit, an extension twice, …
    TLS_HELLO_TOO_LARGE,
    TLS_HELLO_BAD_NAME, // a server name that is no host name
};

struct tls_hello {
    // Results, of an OK:
    enum tls_hello_fault fault;
    bool sni_is_address; // an IP literal was sent (RFC 6066 forbids it): the same as no name
    uint16_t sni_len;    // 0 = none
    uint16_t alpn_len;   // 0 = none
    // Lower case, without a trailing dot; only letters, digits, '-', '_' and '.'.
    char sni[TLS_SNI_MAX + 1];
    // Protocol names, each behind its length; none is empty. While reading, of any extension.
    uint8_t alpn[TLS_HELLO_MAX_ALPN + 2];

    // Progress:
    uint8_t state;
    uint8_t header[5]; // of the record
    uint8_t header_len;
    uint8_t number_len; // bytes of `number` that have come
    uint16_t record_left;
    uint16_t kept; // bytes of the name's extension in sni_raw, or of the protocols' in alpn
    uint16_t extensions;
    uint16_t type; // of the extension being read
    bool done;
    uint32_t total;     // bytes fed
    uint32_t number;    // big-endian, being read
    uint32_t body_left; // of the message
    uint32_t left;      // of the part that is skipped or kept
    uint32_t list_left; // of the extensions
    uint8_t sni_raw[TLS_SNI_MAX + 6];
    uint16_t seen[TLS_HELLO_MAX_EXTENSIONS];
};

void tls_hello_init(struct tls_hello *h);
// OK when the message is complete (what follows it is not looked at), MORE, or an error, which
// then stays: ERR_SYNTAX, ERR_LIMIT, ERR_UNSUPPORTED for what is no TLS; `fault` says it finer.
enum err tls_hello_feed(struct tls_hello *h, struct slice bytes) must_use;

static inline struct slice tls_hello_sni(const struct tls_hello *h)
{
    return (struct slice){h->sni, h->sni_len};
}
// The next protocol of the list, in the client's order. *at starts as 0.
bool tls_hello_alpn(const struct tls_hello *h, uint32_t *at, struct slice *name);

// Brings a server name as sent into the form of tls_hello.sni. out holds TLS_SNI_MAX + 1.
// ERR_SYNTAX when it is no host name; an IP literal gives OK and *len 0.
enum err tls_sni_normalize(struct slice sent, char *out, uint16_t *len) must_use;
