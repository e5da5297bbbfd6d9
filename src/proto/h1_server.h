// A client's HTTP/1.x connection: reads requests, one exchange at a time (pipelined ones wait, in
// order), writes responses. Life cycle in h1_server.c, receiving in h1_server_rx.c, sending in
// h1_server_tx.c.
#pragma once
#include "core/tcp.h"
#include "proto/exchange.h"

// What the runtime sets (DESIGN.md section 5).
#define H1_SERVER_HEAD_TIMEOUT_NS (30 * NS_PER_S)
#define H1_SERVER_IDLE_TIMEOUT_NS (3600 * NS_PER_S)
#define H1_SERVER_STALL_TIMEOUT_NS (300 * NS_PER_S)
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
    void *owner; // what accepted it (struct proxy_listener), for the handler
    void (*on_closed)(void *owner, struct worker *w); // connection is gone: counts
};

struct h1_server_pools {
    struct pool conns;
    struct tcp_pools *tcp;
    struct exchange_pools *exchanges;
    struct list_node all; // every open connection of the worker, for draining
};

void h1_server_pools_init(struct h1_server_pools *p, uint32_t cap, struct tcp_pools *tcp,
                          struct exchange_pools *exchanges);
void h1_server_pools_fini(struct h1_server_pools *p);
// Takes over fd. false at the cap (fd is closed then). cfg must outlive the connection.
bool h1_server_accept(struct worker *w, struct h1_server_pools *p,
                      const struct h1_server_config *cfg, int fd);
// Ends keep-alive, of the connections accepted with `cfg` or of all (NULL): idle ones close after
// grace_ns (those that do so now are counted in the result), the others after their response.
uint32_t h1_server_drain(struct h1_server_pools *p, const struct h1_server_config *cfg,
                         uint64_t grace_ns);
void h1_server_close_all(struct h1_server_pools *p, const struct h1_server_config *cfg); // at once
void *h1_server_owner(const struct exchange *x); // cfg->owner of x->down
