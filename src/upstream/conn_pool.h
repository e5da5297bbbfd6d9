// A worker's connections to the endpoints of all its clusters: idle ones are kept for the next
// exchange, and given up, the one unused for longest first, whichever cluster it belongs to, when a
// new one cannot be had otherwise. One thread.
#pragma once
#include "proto/h1_client.h"

struct downstream;
struct endpoint;

struct conn_pool {
    struct worker *worker;
    struct h1_client_pools *clients;
    struct tls_pools *tls;    // of connections to clusters with TLS
    struct list_node idle;    // of all endpoints, most recently used first
    struct list_node waiting; // struct conn_waiter, first come first served
    uint32_t waiters;
    uint32_t closing; // connections that are no use any more and still hold a descriptor
    uint32_t room;    // have closed, and a waiter has not been told yet
    struct turn_task tell;
};

// Someone who waits until a connection has closed. Its owner embeds it.
struct conn_waiter {
    struct list_node link;
    void (*ready)(struct conn_waiter *w); // try again: there may be room now
};

void conn_pool_init(struct conn_pool *p, struct worker *w, struct h1_client_pools *clients,
                    struct tls_pools *tls);
// Closes up to `most` idle connections, those unused for longest first; how many there were.
uint32_t conn_pool_close_idle(struct conn_pool *p, uint32_t most);

void conn_waiter_init(struct conn_waiter *w, void (*ready)(struct conn_waiter *w));
void conn_waiter_cancel(struct conn_pool *p, struct conn_waiter *w); // fine if it does not wait

// An idle connection of the endpoint, else one that is connecting for nobody any more, else a new
// one (`fresh`: only that). The exchange holds it until the stream is reset or its response has
// ended.
//   MORE       descriptors or connections are used up, some are being closed: `ready` follows
//   ERR_LIMIT  they are used up, and none is idle
//   ERR_IO     there cannot be a connection to this address; errno
//   ERR_NOT_FOUND, ERR_INVALID  see endpoint_dial
// `host`: the request's, without port. Where TLS follows it, it is a connection to that host.
// `from`: whose request it is. Where the destination is told so (proxyProtocol), it is a connection
// of that client.
enum err endpoint_acquire(struct endpoint *e, struct downstream *from, struct slice host,
                          bool fresh, struct conn_waiter *w, struct h1_client **out) must_use;
// The client's connection ends, with all that is its own; no exchange of it is left.
void conn_pool_client_gone(struct downstream *from);
// Of one that goes out of the configuration.
void endpoint_close_idle(struct endpoint *e);
