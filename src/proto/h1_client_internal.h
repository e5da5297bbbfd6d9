// What the three files of h1_client share. Not for anyone else.
#pragma once
#include "proto/h1_client.h"
#include "proto/h1_headbuf.h"
#include "proto/h1_parse.h"
#include "proto/h1_write.h"

enum h1_client_rx {
    CLIENT_RX_IDLE, // no response expected
    CLIENT_RX_HEAD,
    CLIENT_RX_BODY,
    CLIENT_RX_TRAILERS,
    CLIENT_RX_TUNNEL,
    CLIENT_RX_CLOSED,
};

enum h1_client_tx { CLIENT_TX_IDLE, CLIENT_TX_BODY, CLIENT_TX_DONE, CLIENT_TX_TUNNEL };

struct h1_client {
    struct tcp *tcp;
    struct stream stream;
    struct h1_client_pools *pools;
    const struct h1_client_events *events;
    void *owner;
    struct list_node pool_link, worker_link, client_link, ending_link;
    struct timer timer; // connect timeout, then idle timeout (the pool's)
    struct h1_headbuf headbuf;
    struct h1_message rs;
    struct h1_chunked chunked;
    uint64_t remaining;
    uint64_t queued_turn;    // of the worker's loop, when the request's head was queued
    const char *tls_version; // NULL: in clear text, or not connected yet
    uint32_t requests;
    uint64_t connected_ns; // since when it is
    uint32_t interim;      // 1xx heads of the response under way
    enum h1_client_rx rx;
    enum h1_client_tx tx;
    enum h1_framing tx_framing;
    bool connected, keep_alive, reused;
    bool more_slices; // on_data has more behind the one that is being fed
    bool tx_failed;   // output memory ran out: failed by the timer, not inside the call that sent
};

static inline struct h1_client *client_of_tcp(struct tcp *t)
{
    return t->owner;
}
static inline struct h1_client *client_of_stream(const struct stream *s)
{
    return container_of(s, struct h1_client, stream);
}

// Whether any of the request can have reached the upstream: not in the turn that queued it. It is
// sent at the end of that, and what comes before may still be among the turn's completions.
static inline bool h1_client_asked(const struct h1_client *c)
{
    return c->tx != CLIENT_TX_IDLE && c->queued_turn != worker_turns(c->tcp->worker);
}

extern const struct stream_ops h1_client_stream_ops;

// rx
void h1_client_on_data(struct tcp *t, const struct slice *data, const uint16_t *bids, uint32_t n);
void h1_client_on_eof(struct tcp *t);
// life cycle
struct exchange *h1_client_detach(struct h1_client *c); // the exchange, which has no upstream now
void h1_client_response_done(struct h1_client *c);      // detaches; the connection idles or ends
void h1_client_to_pool(struct h1_client *c);            // no exchange has it, and one may
void h1_client_fail(struct h1_client *c, enum reset_reason why); // exchange told, connection closed
void h1_client_shut(struct h1_client *c); // closes, tells nobody but the pool
void h1_client_end(struct h1_client *c);  // the same, after what is queued
void h1_client_cut(struct h1_client *c);  // likewise, by a reset
