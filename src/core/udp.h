// A UDP socket of one worker, for servers (unconnected, one of a SO_REUSEPORT group) and towards
// one peer (connected): multishot receive into the worker's datagram buffers, sends that are in
// flight for a turn. What the kernel can hand over or take at once as a train of datagrams of one
// size (UDP_GRO, UDP_SEGMENT) stays one.
//
// Life: udp_open, udp_start or udp_connect -> datagrams and sends -> udp_close -> on_closed.
// Callbacks come from completions and deferred tasks, never from inside a udp_* call; after
// udp_close only on_closed comes. One thread, but for udp_open and udp_probe.
#pragma once
#include "core/addr.h"
#include "core/bufring.h"
#include "core/op.h"
#include "core/worker.h"
#include <netinet/udp.h>

// Where the C library is older than they are.
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

struct udp;

#define UDP_PAYLOAD_MAX 65507u // RFC 768 in an IPv4 packet without options

struct udp_datagram {        // or a train
    const struct addr *peer; // whom it is from, or goes to; NULL when sent on a connected socket
    // Our own end: where it was sent to, or what it is sent from (NULL, or len 0: the kernel's
    // choice). Of a connected socket it is not told.
    const struct addr *local;
    struct slice data;
    uint16_t bid;           // its buffer, of worker_datagrams: one reference goes along
    uint16_t segment_bytes; // of each but the last one of a train; 0: it is one datagram
    uint8_t ecn;            // RFC 3168, the two bits
};
// How many datagrams it is.
static inline uint32_t udp_segments(const struct udp_datagram *d)
{
    size_t each = d->segment_bytes;
    return each && d->data.len > each ? (uint32_t)((d->data.len + each - 1) / each) : 1;
}

struct udp_events {
    // The reference is the receiver's; addresses are valid during the call.
    void (*on_datagram)(struct udp *u, const struct udp_datagram *d);
    // errno, of a connected socket: what the network has said of an earlier datagram (ECONNREFUSED:
    // nobody is there). It goes on.
    void (*on_error)(struct udp *u, int error);
    void (*on_closed)(struct udp *u); // nothing in flight any more, the descriptor is closed
};

struct udp {
    struct worker *worker;
    struct pool *sends;
    const struct udp_events *events;
    void *owner;
    int fd; // -1 = closed
    struct op recv;
    struct bufring_waiter starved;
    struct turn_task end;
    uint32_t sending; // in flight
    uint32_t lost;    // SO_RXQ_OVFL, as told last
    bool connected, closing;
    struct addr local; // as bound; of a connected socket only its family
};

// What is being sent. Its cap bounds what all sockets of a worker have in flight.
void udp_sends_init(struct pool *p, uint32_t cap);

// Opens and binds with SO_REUSEPORT: the kernel spreads clients over the sockets of an address by
// their own, each to one of them for as long as there are the same sockets. -errno.
int udp_open(const struct addr *addr);
// Whether somebody is there already, also one who would share the port. 0, or -errno.
int udp_probe(const struct addr *addr);
// Takes over fd and receives. ERR_NOMEM: there are no buffers, and fd is closed.
enum err udp_start(struct udp *u, struct worker *w, struct pool *sends,
                   const struct udp_events *events, void *owner, int fd) must_use;
// A socket of its own to that peer, receiving. -errno.
int udp_connect(struct udp *u, struct worker *w, struct pool *sends,
                const struct udp_events *events, void *owner, const struct addr *to);
// Sends once, in this turn, or drops (udp_tx_dropped): datagrams do not queue. Takes over the
// reference in any case; the addresses are copied.
void udp_send(struct udp *u, const struct udp_datagram *d);
// Drops what waits in the socket.
void udp_close(struct udp *u);
