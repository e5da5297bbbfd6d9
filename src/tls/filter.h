// TLS between a socket and its owner: a struct tcp_filter (core/tcp.h) over tls/conn, so that
// codecs see a plain connection. on_connected comes after the handshake; a failure is on_error with
// EPROTO (ENOMEM where a pool is exhausted), and tcp_close then sends the alert first. Handshakes
// and failures are counted here, per side. Of the worker's thread.
#pragma once
#include "core/tcp.h"
#include "tls/conn.h"

// For tcp_set_filter, of that connection; then it is tcp's to destroy. NULL at a pool's cap or when
// out of memory. `host` and `alpn` as in tls_conn_create_client.
struct tcp_filter *tls_filter_create_server(struct tls_pools *p, struct tls_ctx *ctx,
                                            struct tcp *t);
struct tcp_filter *tls_filter_create_client(struct tls_pools *p, struct tls_ctx *ctx,
                                            struct slice host, struct slice alpn, struct tcp *t);
// How a destination is spoken to; made anew for each connection, nothing is kept of it.
struct tls_target {
    struct tls_pools *pools;
    struct tls_ctx *ctx; // NULL: in clear text
    struct slice host, alpn;
};
// tls_filter_create_client for what is about to connect; does nothing for clear text. false: a
// pool's cap, or out of memory.
bool tls_filter_connect(const struct tls_target *to, struct tcp *t);
// The TLS of a connection; NULL when it has none. Valid until on_closed.
const struct tls_conn *tls_filter_conn(const struct tcp *t);
