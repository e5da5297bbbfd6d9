// What the three files of h1_server share. Not for anyone else.
#pragma once
#include "proto/h1_headbuf.h"
#include "proto/h1_parse.h"
#include "proto/h1_server.h"
#include "proto/h1_write.h"

enum h1_server_rx {
    SERVER_RX_IDLE, // between requests
    SERVER_RX_HEAD,
    SERVER_RX_BODY,
    SERVER_RX_TRAILERS,
    SERVER_RX_DONE, // request complete, response under way: what comes now is the next request
    SERVER_RX_TUNNEL,
    SERVER_RX_CLOSED,
};

enum h1_server_tx {
    SERVER_TX_IDLE, // no response head sent
    SERVER_TX_BODY,
    SERVER_TX_DONE,
    SERVER_TX_TUNNEL,
};

// Why a client is not read. It is read again when no reason is left.
enum h1_server_pause {
    SERVER_PAUSE_NEXT = 1 << 0,    // enough of its requests wait
    SERVER_PAUSE_UNSENT = 1 << 1,  // it takes too little of its responses: no request begins either
    SERVER_PAUSE_HANDLER = 1 << 2, // back-pressure on the request's body
};

struct h1_server {
    struct tcp *tcp;
    struct downstream *down;
    struct stream stream;
    struct h1_server_pools *pools;
    const struct h1_server_config *cfg;
    struct timer timer;
    struct bufq next; // bytes of requests that wait for their turn
    struct h1_headbuf headbuf;
    struct h1_message rq;
    struct h1_chunked chunked;
    uint64_t remaining;  // of a body with a length
    uint64_t progress;   // bytes moved when the timer was last armed
    uint64_t quiet_ns;   // when an exchange, output or a tunnel's bytes last came to an end
    size_t unsent;       // bytes of output at that time
    uint32_t drain_left; // body bytes still read and dropped after an early response
    enum h1_server_rx rx;
    enum h1_server_tx tx;
    enum h1_framing tx_framing;
    uint8_t paused; // enum h1_server_pause
    bool keep_alive, draining;
    bool feeding;    // bytes are being fed: what a request that ends inside leaves is fed next
    bool asked;      // a request has begun, ever
    bool first;      // it is the one that is read
    bool expects;    // the request came with Expect, whatever becomes of the field
    bool empty_line; // one has been skipped before the next request
    bool tx_failed;  // output memory ran out: aborted by the timer, not inside the call that sent
};

static inline struct h1_server *server_of_tcp(struct tcp *t)
{
    return t->owner;
}
static inline struct h1_server *server_of_stream(const struct stream *s)
{
    return container_of(s, struct h1_server, stream);
}

// A response is under way whose end is the connection's: any other orderly end would make a
// whole message of a part.
static inline bool h1_server_end_is_meant(const struct h1_server *s)
{
    return s->tx == SERVER_TX_BODY && s->tx_framing == H1_BODY_UNTIL_CLOSE;
}

extern const struct stream_ops h1_server_stream_ops;

// rx
void h1_server_on_data(struct tcp *t, const struct slice *data, const uint16_t *bids, uint32_t n);
void h1_server_next_request(struct h1_server *s); // what waits in `next`, once the exchange is over
void h1_server_pause(struct h1_server *s, enum h1_server_pause why);
void h1_server_resume(struct h1_server *s, enum h1_server_pause why);
// tx
void h1_server_refuse(struct h1_server *s, enum h1_error error, const char *details);
void h1_server_refuse_http2(struct h1_server *s); // which the client has begun with
// life cycle
void h1_server_set_rx(struct h1_server *s, enum h1_server_rx to);
void h1_server_finish_if_done(struct h1_server *s);               // both directions complete
void h1_server_abort(struct h1_server *s, enum reset_reason why); // exchange and connection
void h1_server_close_soon(struct h1_server *s);                   // after what is queued
void h1_server_cut(struct h1_server *s);                          // likewise, by a reset
void h1_server_arm(struct h1_server *s, uint64_t timeout_ns);
void h1_server_note_quiet(struct h1_server *s); // from now on, as far as is known
