// A connection to an endpoint that speaks HTTP/1.1: one exchange at a time, kept alive in a pool
// between them. Life cycle in h1_client.c, receiving in h1_client_rx.c, sending in h1_client_tx.c.
#pragma once
#include "core/tcp.h"
#include "proto/dial.h"
#include "proto/exchange.h"

struct h1_client;

struct h1_client_events { // to the pool that owns the connection
    // It may be used: its exchange is done, or went away before it used it. Maybe it is still
    // connecting; when it has connected and no exchange has been attached, this comes again.
    void (*idle)(struct h1_client *c, void *owner);
    void (*closing)(struct h1_client *c, void *owner); // no use any more; `closed` follows
    void (*closed)(void *owner);                       // gone: descriptor and memory are free again
};

struct h1_client_pools {
    struct pool conns;
    struct tcp_pools *tcp;
    struct exchange_pools *exchanges;
    struct list_node ending; // connections that have ended, with bytes still to send
};
void h1_client_pools_init(struct h1_client_pools *p, uint32_t cap, struct tcp_pools *tcp,
                          struct exchange_pools *exchanges);
void h1_client_pools_fini(struct h1_client_pools *p);

// Starts connecting; the timeout is for the TLS handshake too. Returns what dial_start does,
// -EMFILE also when the pool is exhausted.
int h1_client_connect(struct worker *w, struct h1_client_pools *p, const struct dial *dial,
                      uint64_t connect_timeout_ns, const struct h1_client_events *events,
                      void *owner, struct h1_client **out);
// Gives the connection to an exchange; x->up is set. If connected, upstream_ready is not called:
// send at once.
void h1_client_attach(struct h1_client *c, struct exchange *x);
bool h1_client_connected(const struct h1_client *c);
// It has been idle, so that the endpoint may have closed it meanwhile.
bool h1_client_reused(const struct h1_client *c);
// The name that its TLS was made for; empty: it is in clear text.
struct slice h1_client_tls_host(const struct h1_client *c);
uint32_t h1_client_requests(const struct h1_client *c);
uint64_t h1_client_connected_ns(const struct h1_client *c);   // worker clock; of a connected one
void h1_client_close(struct h1_client *c);                    // idle ones only, at once
void h1_client_part(struct h1_client *c);                     // idle ones only, see close_notify
void h1_client_close_ending(struct h1_client_pools *p);       // drops what they still have to send
struct list_node *h1_client_pool_link(struct h1_client *c);   // for its endpoint's idle list
struct list_node *h1_client_worker_link(struct h1_client *c); // for the worker's
struct list_node *h1_client_client_link(struct h1_client *c); // for downstream.own_upstreams
struct h1_client *h1_client_of_link(struct list_node *n);
struct h1_client *h1_client_of_worker_link(struct list_node *n);
struct h1_client *h1_client_of_client_link(struct list_node *n);
struct timer *h1_client_idle_timer(struct h1_client *c); // the pool's while connected and idle
struct h1_client *h1_client_of_timer(struct timer *t);
void *h1_client_owner(const struct h1_client *c);
