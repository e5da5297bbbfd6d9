// From an accepted socket to a codec: which filter chain the connection gets, TLS if that ends
// here, then HTTP or a relay. Worker's thread.
#pragma once
#include "proto/downstream.h"
#include "proxy/proxy.h"

struct accept_tls;
struct proxied;

struct proxy_conn { // a client's connection from accept to close
    struct downstream d;
    struct proxy_listener *listener;
    // Of the newest snapshot this worker has, or of `last`, or of the listener's last one. NULL:
    // not chosen yet, or not needed any more (a relay).
    const struct filter_chain *chain;
    struct snapshot *last;    // pinned: where the chain was when it went away; NULL: it has not
    struct proxied *proxied;  // while a proxy's header is read
    struct accept_tls *hello; // while it is read
    struct timer timer;       // for the handshake
};

static inline struct proxy_conn *proxy_conn_of(struct downstream *d)
{
    return container_of(d, struct proxy_conn, d);
}

void proxy_accept_pools_init(struct proxy_worker *pw, uint32_t cap);
void proxy_accept_pools_fini(struct proxy_worker *pw);
// How long what stands in front of a connection's first byte may take.
uint64_t proxy_accept_timeout_ns(const struct proxy_listener *l);
// The connection of a proxy says whose it is: it goes on with what came behind that, emptied.
void proxy_accept_go_on(struct proxy_conn *c, struct bufq *first);
void proxy_accept_gone(struct tcp *t); // tcp_events.on_closed, while no codec has it
// Takes over fd, which is counted already. false: no memory, and fd is closed.
bool proxy_accept(struct proxy_listener *l, int fd);
// A newer snapshot, adopted from `old`: a connection whose chain is gone, or asks something else of
// clients now, ends as when its listener goes.
void proxy_conns_adopt(struct proxy_worker *pw, struct snapshot *old, const struct snapshot *now);
// Those of a listener, or all (NULL): see struct downstream_ops. How many close now.
uint32_t proxy_conns_drain(struct proxy_worker *pw, const struct proxy_listener *l,
                           uint64_t grace_ns);
void proxy_conns_close(struct proxy_worker *pw, const struct proxy_listener *l);
