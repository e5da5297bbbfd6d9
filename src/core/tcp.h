// One TCP (or Unix stream) connection of a worker: multishot receive into the worker's buffer
// ring, one send in flight, an output queue that is flushed once at the end of the turn.
//
// Life: tcp_open (an accepted or connected descriptor) or tcp_connect -> receive and send ->
// tcp_close -> on_closed, where the owner destroys it. tcp_close cancels, waits for zero in
// flight, closes the descriptor. Callbacks come from completions and timers, never from inside a
// tcp_* call; after tcp_close only on_closed comes.
#pragma once
#include "core/addr.h"
#include "core/buf.h"
#include "core/op.h"
#include "core/pipe.h"
#include "core/worker.h"

struct tcp;

struct tcp_events {
    // Bytes that came, in order. Each slice holds one reference of its buffer: the receiver calls
    // bufring_put (or passes the reference on) for each.
    void (*on_data)(struct tcp *t, const struct slice *data, const uint16_t *bids, uint32_t n);
    void (*on_eof)(struct tcp *t);  // the peer sent FIN; sending is still possible
    void (*on_sent)(struct tcp *t); // output fell below the low-water mark or became empty
    void (*on_error)(struct tcp *t, int error); // errno; the connection is dead: call tcp_close
    void (*on_connected)(struct tcp *t);        // after tcp_connect
    void (*on_paused)(struct tcp *t); // tcp_pause has come to effect: nothing arrives. May be NULL
    // Nothing in flight any more, fd closed: tcp_destroy. The filter is still there.
    void (*on_closed)(struct tcp *t);
    // Where the worker counts these connections' bytes, as they move.
    bool counted;
    enum counter_id rx_counter, tx_counter;
};

struct tcp_filter;
struct splice;

// What stands between a socket and a connection's owner when the bytes on the wire are not the
// owner's (TLS): received bytes go through `input`, what the owner appends to t->out is moved by
// `output` to t->wire, which is what is sent. Called from completions and deferred tasks.
struct tcp_filter_ops {
    void (*start)(struct tcp_filter *f); // the socket is connected: may append to wire
    // Takes over the references. Answers with tcp_ready, tcp_deliver, tcp_deliver_eof,
    // tcp_filter_fail and by appending to wire (tcp_flush sends it).
    void (*input)(struct tcp_filter *f, const struct slice *data, const uint16_t *bids, uint32_t n);
    void (*output)(struct tcp_filter *f); // some of t->out to t->wire; only after tcp_ready
    void (*finish)(struct tcp_filter *f); // t->out is empty and stays so: the last words to wire
    void (*destroy)(struct tcp_filter *f);

    // The rest is of filters that leave a direction to the socket (kTLS); NULL for others.
    // Receiving is about to begin again, and all that came has been through `input`: from here on
    // it may set TCP_PLAIN_RX. Answers how much may come at a time, 0 = no limit. Calls nothing but
    // tcp_flush.
    uint32_t (*receive)(struct tcp_filter *f);
    // With TCP_PLAIN_RX a receive has failed. False: it is as if there were no filter.
    bool (*receive_failed)(struct tcp_filter *f, int error);
    void (*record_sent)(struct tcp_filter *f); // of tcp_send_record, and nothing has been since
};
struct tcp_filter {
    const struct tcp_filter_ops *ops;
    struct tcp *tcp;
};

// A record that the socket is to send with a type of its own (kTLS).
struct tcp_record {
    uint8_t type, len; // 0 = none
    uint8_t bytes[6];
};

struct tcp {
    struct worker *worker;
    const struct tcp_events *events;
    void *owner; // whom the events are for
    int fd;
    uint32_t flags; // TCP_* below
    struct op recv, send, connect;
    struct turn_task flush;
    struct bufring_waiter starved;
    struct bufq out;
    struct tcp_filter *filter;                // NULL: out is what is sent
    struct bufq wire;                         // with a filter: what is sent
    struct splice *spliced_from, *spliced_to; // this one's bytes, or to it; NULL: by recv and send
    struct msghdr *msg; // in flight by sendmsg (from a worker pool), NULL otherwise
    uint64_t rx_bytes, tx_bytes;
    struct tcp_record record; // waits to be sent
    uint32_t linger_left;     // bytes a lingering close still reads and drops
    struct timer linger;
    uint64_t flush_from, flush_end_ns; // of tcp_close_flush: tx_bytes at the last look; the limit
};

#define TCP_CONNECTING (1u << 0)
#define TCP_RECV_PAUSED (1u << 1) // wanted by the owner: back-pressure
#define TCP_EOF (1u << 2)         // received
#define TCP_SHUT_AFTER_FLUSH (1u << 3)
#define TCP_CLOSE_STARTED (1u << 4)
#define TCP_ERROR (1u << 5)
#define TCP_CLOSE_AFTER_FLUSH (1u << 6)
#define TCP_ABOVE_HIGH (1u << 7) // on_sent is owed when output falls below the low-water mark
#define TCP_SHUT (1u << 8)       // FIN was sent
#define TCP_OPEN (1u << 9)       // connected: output can be sent
#define TCP_LINGERING (1u << 10) // of tcp_close_flush: all is sent, waiting for the peer
#define TCP_BULK (1u << 11)      // has filled a buffer: receives several at a time (a bundle)
#define TCP_READY (1u << 12)     // the filter is through with its handshake
#define TCP_FINISHED (1u << 13)  // the filter has said its last words
#define TCP_BROKEN (1u << 14)    // the filter has failed: what is on the wire is still sent
#define TCP_TRUNCATED (1u << 15) // the stream ended without the filter's end (no close_notify)
#define TCP_PLAIN_RX (1u << 16)  // what comes is the owner's: it does not go through the filter
#define TCP_PLAIN_TX (1u << 17)  // out is what is sent, and wire stays empty
#define TCP_RECEIVING (1u << 18) // a receive's completion is being dealt with
#define TCP_RECORD (1u << 19)    // what is being sent was `record`
#define TCP_RESET_AFTER_FLUSH (1u << 20)

// Output at which the other side is told to stop reading, and to go on again.
#define TCP_HIGH_WATER (256u * 1024u)
#define TCP_LOW_WATER (64u * 1024u)

struct tcp_keepalive { // probes of an idle connection; 0 = as the system has it
    bool on;
    uint32_t idle_s, interval_s, probes;
};

// What all connections of a worker share: the connections themselves, output chunks, msghdr+iovec
// blocks.
struct tcp_pools {
    struct pool conns;
    struct pool chunks;
    struct pool msgs;
    struct pipe_pool pipes; // for splice.h
};
void tcp_pools_init(struct tcp_pools *p, uint32_t max_conns, uint32_t max_chunks);
void tcp_pools_fini(struct tcp_pools *p);

// NULL at the cap.
struct tcp *tcp_create(struct worker *w, struct tcp_pools *pools, const struct tcp_events *events,
                       void *owner);
void tcp_destroy(struct tcp *t); // from on_closed on, or if it was never opened
// Another owner goes on with the connection, as soon as the callback it is in returns.
void tcp_hand_over(struct tcp *t, const struct tcp_events *events, void *owner);
// The filter is the connection's from then on. Of an open one nothing may have been sent, and what
// was received is fed to the filter by whoever read it. on_connected comes when it is ready, also
// for an accepted connection.
void tcp_set_filter(struct tcp *t, struct tcp_filter *f);
void tcp_open(struct tcp *t, int fd); // takes over fd (TCP_NODELAY is set), starts receiving
// on_connected or on_error follows. -errno when not even a socket could be had.
int tcp_connect(struct tcp *t, const struct addr *to); // `to` must live until then
// Output may be appended before on_connected; it is sent then.
// Of a connection that has a descriptor; what the kernel has no room for is cut to its most, and
// Unix sockets have no probes.
void tcp_set_keepalive(struct tcp *t, const struct tcp_keepalive *k);
void tcp_pause(struct tcp *t);    // stop receiving; bytes already in flight still arrive
void tcp_resume(struct tcp *t);   // either does nothing the second time
void tcp_flush(struct tcp *t);    // output was appended to t->out: send at the end of this turn
void tcp_shutdown(struct tcp *t); // FIN after what is queued
void tcp_close(struct tcp *t);    // drops what is queued
// Bytes that wait for the peer to take them.
static inline size_t tcp_unsent(const struct tcp *t)
{
    return t->out.bytes + t->wire.bytes + t->record.len + (t->flags & TCP_RECORD ? 1 : 0);
}
// Sends what is queued, then closes: a lingering close (FIN, then reads and drops up to 64 KiB or
// 1 s, so that the reply is not lost to a RST). Only on_closed follows. A peer that takes less than
// 10 KiB in 10 s, or has not taken all after 5 min, is cut off, by a reset.
void tcp_close_flush(struct tcp *t);
void tcp_reset(struct tcp *t); // SO_LINGER 0, then close
// Sends what is queued and, without a last word of the filter, resets once the peer's kernel has it
// (1 s at most): for a stream whose source has broken off. Only on_closed follows.
void tcp_reset_flush(struct tcp *t);

// ---- for filters

void tcp_ready(struct tcp *t); // the handshake is done: on_connected, output begins
// The owner's bytes, as tcp_events.on_data; takes over the references. The owner may close inside.
void tcp_deliver(struct tcp *t, const struct slice *data, const uint16_t *bids, uint32_t n);
void tcp_deliver_eof(struct tcp *t); // the peer ended the stream inside the filter (close_notify)
// Broken: on_error. tcp_close then sends what is on the wire (an alert) before it closes.
void tcp_filter_fail(struct tcp *t, int error);
// The receive in flight ends, so that `receive` is asked before the next.
void tcp_receive_anew(struct tcp *t);
// With TCP_PLAIN_TX: goes out before what is still in t->out, instead of one that waits.
void tcp_send_record(struct tcp *t, struct tcp_record r);
