// A client's HTTP/1.x connection: reads requests, one exchange at a time (pipelined ones wait, in
// order), writes responses. Life cycle in h1_server.c, receiving in h1_server_rx.c, sending in
// h1_server_tx.c.
#pragma once
#include "core/tcp.h"
#include "proto/downstream.h"
#include "proto/exchange.h"

// What the runtime sets (DESIGN.md section 5).
#define H1_SERVER_HEAD_TIMEOUT_NS (30 * NS_PER_S)
#define H1_SERVER_IDLE_TIMEOUT_NS (3600 * NS_PER_S)
#define H1_SERVER_STALL_TIMEOUT_NS (300 * NS_PER_S)
// Of what is queued for it a client takes this much in the stall timeout, or it is cut off.
#define H1_SERVER_STALL_BYTES (16u * 1024u)
// How long a connection that is to end waits for a request: one may be on its way already, and a
// client that is told by its response loses none.
#define H1_SERVER_DRAIN_GRACE_NS (1 * NS_PER_S)

struct h1_server_config {
    const struct exchange_handler *handler;
    size_t proxy_bytes;
    uint64_t idle_timeout_ns;  // between requests
    uint64_t head_timeout_ns;  // for a request head
    uint64_t stall_timeout_ns; // a body or a response that does not move
    // The listener is going: what it still accepts has H1_SERVER_DRAIN_GRACE_NS for a request and
    // carries one.
    bool draining;
};

struct h1_server_pools {
    struct pool conns;
    struct tcp_pools *tcp;
    struct exchange_pools *exchanges;
};

void h1_server_pools_init(struct h1_server_pools *p, uint32_t cap, struct tcp_pools *tcp,
                          struct exchange_pools *exchanges);
void h1_server_pools_fini(struct h1_server_pools *p);
// Goes on with a connection that is ready or not open yet. false at the cap: it is the caller's
// still. cfg must outlive the connection.
bool h1_server_start(struct h1_server_pools *p, const struct h1_server_config *cfg,
                     struct downstream *d) must_use;
