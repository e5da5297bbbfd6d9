// How a destination is reached. Made anew for each connection; nothing of it is kept but `to`.
// Worker's thread.
#pragma once
#include "core/tcp.h"
#include "proto/proxyproto.h"
#include "tls/filter.h"

struct dial {
    const struct addr *to; // must live until the connection is made
    struct tls_target tls;
    struct tcp_keepalive keepalive;
    uint8_t header_len; // of a PROXY header, sent before anything else; 0 = none
    char header[PROXYPROTO_WRITE_MAX];
};

// tcp_connect with all that: what is connected has made its handshake. -EMFILE at a pool's cap,
// another -errno when there is no socket; then there is nothing left to do but tcp_destroy.
int dial_start(const struct dial *d, struct tcp *t);
