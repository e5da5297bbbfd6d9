// TLS of one connection, without I/O: received bytes in, the peer's plaintext out, plaintext in,
// records out into a bufq. Both sides, TLS 1.2 and 1.3 (RFC 5246, RFC 8446). Of one worker's
// thread.
//
// No byte is moved that need not be: a record that lies in one piece is opened where it was
// received, and records are sealed straight into the output queue. An idle connection holds no
// buffer. No renegotiation, no early data.
#pragma once
#include "core/buf.h"
#include "core/err.h"
#include "core/pool.h"
#include "core/slice.h"
#include <sys/uio.h>

struct tls_conn;
struct tls_ctx;

// Plaintext of a record while a connection is new or was idle, so that a browser can use the first
// bytes before a whole large record has come; after TLS_RAMP_BYTES as much as a borrowed
// buffer holds, at most 16 KiB, which costs half per byte.
#define TLS_SMALL_RECORD 3960u
#define TLS_RAMP_BYTES (32u * 1024u)
#define TLS_RAMP_IDLE_NS 1000000000ull

#define TLS_FILTER_BYTES 56 // of tls/filter, which has its objects here too

// What all connections of a worker share.
struct tls_pools {
    struct pool conns, filters;
    struct pool records; // records that came in pieces, while they are incomplete
    uint8_t *gather;     // plaintext in pieces, on its way into one record
    bool ktls;           // records are to be the kernel's, where it takes them
};
enum err tls_pools_init(struct tls_pools *p, uint32_t max_conns, uint32_t max_records) must_use;
void tls_pools_fini(struct tls_pools *p);

// Why a connection was lost, one counter each. X(NAME, text)
#define TLS_FAILURES(X)                                         \
    X(NONE, "none")                                             \
    X(HTTP, "the peer speaks HTTP in clear text")               \
    X(NOT_TLS, "the peer does not speak TLS")                   \
    X(VERSION, "no common version of TLS")                      \
    X(CIPHER, "no common cipher suite or group")                \
    X(ALPN, "no common application protocol")                   \
    X(NO_CERTIFICATE, "the peer has shown no certificate")      \
    X(CERTIFICATE, "the peer's certificate was refused")        \
    X(NAME, "the peer's certificate has none of the names")     \
    X(PIN, "the peer's certificate is not a pinned one")        \
    X(ALERT, "the peer has sent a fatal alert")                 \
    X(RECORD, "a record was tampered with")                     \
    X(FLOOD, "too many empty records, warnings or key updates") \
    X(RENEGOTIATION, "the peer wants to renegotiate")           \
    X(TRUNCATED, "the stream ended without close_notify")       \
    X(MEMORY, "a pool is exhausted")                            \
    X(KEY_CHANGE, "the kernel cannot follow a KeyUpdate")       \
    X(PROTOCOL, "the peer breaks the protocol")

enum tls_failure {
#define X(name, text) TLS_FAIL_##name,
    TLS_FAILURES(X)
#undef X
        TLS_FAIL_COUNT
};
const char *tls_failure_text(enum tls_failure f);

// NULL at the pool's cap or when out of memory. The context is held as long as the connection.
struct tls_conn *tls_conn_create_server(struct tls_pools *p, struct tls_ctx *ctx,
                                        struct bufq *wire);
// `host`: the name or address that is connected to (see tls_client_settings); `alpn`: names, each
// behind its length byte, empty = none.
struct tls_conn *tls_conn_create_client(struct tls_pools *p, struct tls_ctx *ctx, struct slice host,
                                        struct slice alpn, struct bufq *wire);
void tls_conn_destroy(struct tls_conn *c); // wire is left as it is
// Clients: the ClientHello. Servers: nothing.
enum err tls_conn_start(struct tls_conn *c) must_use;

enum tls_read {
    TLS_DATA,   // *plain is the next of the peer's bytes; call again, also when all input is used
    TLS_MORE,   // all input is used
    TLS_CLOSED, // close_notify: the peer's stream has ended properly
    TLS_FAILED, // dead: tls_conn_failure says why; an alert may be on the wire
};
struct tls_plain {
    struct slice bytes;
    bool in_place; // inside the input, which the caller owns; else valid until the next call
};
// Takes bytes off *in, which it overwrites, and may append to the wire. The handshake may end
// inside: see tls_conn_is_established.
enum tls_read tls_conn_read(struct tls_conn *c, struct slice *in, struct tls_plain *plain);
// The peer's FIN: OK after close_notify, else ERR_CLOSED and a failure TRUNCATED.
enum err tls_conn_eof(struct tls_conn *c) must_use;

// Seals plaintext into records on the wire, until all is taken or the wire holds `wire_max` bytes;
// *taken says how many bytes were. ERR_LIMIT when no output memory is left (what was taken is on
// the wire), ERR_CLOSED after a failure, tls_conn_close or before the handshake's end.
enum err tls_conn_write(struct tls_conn *c, const struct iovec *plain, uint32_t n, uint64_t now_ns,
                        size_t wire_max, size_t *taken) must_use;
// Appends close_notify, once. Nothing during a handshake or after a failure.
void tls_conn_close(struct tls_conn *c);

bool tls_conn_is_established(const struct tls_conn *c);
enum tls_failure tls_conn_failure(const struct tls_conn *c);
// For a log line: BoringSSL's reason, the alert's name or why the certificate was refused; a
// constant.
const char *tls_conn_failure_reason(const struct tls_conn *c);

struct tls_info { // of an established connection; the strings live as long as it or for ever
    const char *version, *cipher, *group;
    const char *openssl_cipher; // as Envoy logs it: "ECDHE-RSA-AES128-GCM-SHA256"
    struct slice sni;           // as tls_hello.sni; empty = none (clients: what was asked for)
    struct slice alpn;          // empty = none
    bool server, resumed;
};
void tls_conn_info(const struct tls_conn *c, struct tls_info *out);
// Clients: the name that was connected to, of the settings or of the caller, without a trailing
// dot. Lives as long as the connection.
struct slice tls_conn_host(const struct tls_conn *c);
// The leaf that the peer of an established connection has shown, in DER; empty = none. It lives as
// long as the connection.
struct slice tls_conn_peer_certificate(const struct tls_conn *c);
