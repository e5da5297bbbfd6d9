// Two connections joined: what one side sends the other gets, in order, with back-pressure. TCP,
// TLS passed through, and TLS that ends here (the connection's filter does that). Half-closes,
// resets and idleness of one side are the other's too. Worker's thread.
//
// Life: l4_relay_start takes the client's connection and does not read it -> the upstream connects
// -> bytes flow -> both are closed -> on_end, after which the relay is not touched.
#pragma once
#include "core/splice.h"
#include "proto/dial.h"

struct l4_relay;

enum l4_end {              // how it came to an end
    L4_END_CLOSED,         // both sides said FIN, or one did and the other had nothing more
    L4_END_CONNECT_FAILED, // no connection to the upstream: see l4_relay_try
    L4_END_CONNECT_TIMEOUT,
    L4_END_CLIENT_RESET,
    L4_END_UPSTREAM_RESET,
    L4_END_IDLE,
    L4_END_LOCAL, // l4_relay_close, or no memory was left
};

struct l4_relay_config {
    struct splice_limits splice; // of directions without TLS; after = 0: all bytes pass through
    uint64_t idle_timeout_ns;    // nothing moves either way; 0 = none
    uint64_t connect_timeout_ns;
    // The upstream is connected, or cannot be: l4_relay_try may be called again, else the client is
    // closed. May be NULL.
    void (*on_connect)(struct l4_relay *r, void *owner, bool connected);
    // Bytes came from one side for the other (they are in rx or tx). May be NULL.
    void (*on_bytes)(void *owner, bool from_client, uint64_t n);
    // Looks at what has come, in pieces and in order, and keeps nothing of it; for as long as
    // `watched`. May be NULL.
    void (*on_look)(void *owner, bool from_client, struct slice bytes);
    void (*on_end)(struct l4_relay *r, void *owner);
};

struct l4_relay {
    struct tcp *client, *upstream; // NULL when closed (upstream: or not tried yet)
    const struct l4_relay_config *cfg;
    void *owner;
    struct tcp_pools *tcp;
    struct timer timer; // connecting, then idle
    uint64_t start_ns, connected_ns, end_ns;
    uint64_t progress;             // bytes moved when the timer was armed
    const char *transport_failure; // why the upstream's TLS has failed, the last time; a constant
    uint64_t rx, tx;               // from and to the client, what was queued for it included
    enum l4_end end;
    struct bufq held;       // of the client, until the upstream is connected
    struct splice up, down; // from the client, to it; for as long as both are there
    bool connecting, connected, ended, client_eof, upstream_eof;
    bool watched; // by on_look, so that nothing is spliced; the owner may end it, not begin it
};

// Takes over an open, ready client connection. `first`: bytes of it that have been read already (a
// ClientHello), emptied; may be NULL. The relay's memory is the caller's, until on_end.
void l4_relay_start(struct l4_relay *r, struct tcp_pools *tcp, struct tcp *client,
                    struct bufq *first, const struct l4_relay_config *cfg, void *owner);
// Starts connecting; a TLS handshake is part of that. false: not even a socket could be had,
// nothing follows.
bool l4_relay_try(struct l4_relay *r, const struct dial *dial);
void l4_relay_close(struct l4_relay *r, enum l4_end why); // both sides; on_end follows
