// An exchange: one request and its response in flight, the same for every HTTP version. It sits
// between two streams (downstream: the client's, upstream: the endpoint's), each a codec's, and a
// handler (proxy/) that decides. Codecs report what arrived through exchange_handler; the handler
// answers through stream_ops. Everything runs on the worker that owns it.
//
// Ownership: the exchange comes from the worker's pool when the first byte of a request arrives
// and goes back when both sides are done with it. Bytes of heads live in its arena; bytes of bodies
// are borrowed receive buffers, each handed over with one reference.
#pragma once
#include "core/addr.h"
#include "core/buf.h"
#include "core/err.h"
#include "core/pool.h"
#include "core/timer.h"
#include "core/worker.h"
#include "proto/head.h"

struct downstream;
struct exchange;
struct stream;

// A piece of a body: a slice of a receive buffer with one reference, which whoever is given the
// chunk owns.
struct chunk {
    struct slice bytes;
    uint16_t bid;
};
#define CHUNK_VOLATILE 0xfffeu // valid during the call only: whoever keeps it copies it
#define CHUNK_EMPTY ((struct chunk){{NULL, 0}, CHUNK_VOLATILE}) // a message's end without bytes

enum reset_reason {
    RESET_LOCAL,   // the gateway gave up (timeout, other side gone, the drain time is over)
    RESET_STALL,   // the same, because nothing has moved for too long
    RESET_REMOTE,  // the peer reset or closed early
    RESET_UNSENT,  // it had closed before anything of the request was sent
    RESET_CONNECT, // no connection could be made
    RESET_CONNECT_TIMEOUT,
    RESET_PROTOCOL, // the peer broke the protocol
    RESET_OVERFLOW, // a limit of ours
};

// What a codec offers for one direction of one exchange.
struct stream_ops {
    // Request (upstream) or response (downstream) head; `end`: no body follows. A 1xx head does not
    // begin the response proper.
    void (*send_head)(struct stream *s, struct head *h, bool end);
    void (*send_data)(struct stream *s, struct chunk c, bool end);  // takes over the reference
    void (*send_trailers)(struct stream *s, struct head *trailers); // ends the message
    void (*reset)(struct stream *s, enum reset_reason why);         // no callback follows; detaches
    // Back-pressure: stop and go on reading this peer's body.
    void (*pause)(struct stream *s);
    void (*resume)(struct stream *s);
    bool (*writable)(const struct stream *s); // output is below the high-water mark
    // After a 101 or a 2xx to CONNECT: raw bytes both ways from here on.
    void (*tunnel)(struct stream *s);
};

struct stream {
    const struct stream_ops *ops;
    struct exchange *x; // NULL when detached
};

struct exchange_handler {
    void (*request_head)(struct exchange *x, bool end);
    // A request that could not be read (x->details, x->response_status say why): only to be
    // logged; nothing else is called for it.
    void (*request_refused)(struct exchange *x);
    void (*request_data)(struct exchange *x, struct chunk c, bool end);
    void (*request_trailers)(struct exchange *x);
    void (*request_reset)(struct exchange *x, enum reset_reason why); // the client is gone
    void (*downstream_writable)(struct exchange *x);
    void (*response_sent)(
        struct exchange *x); // the codec has handed the last byte to the socket queue
    // from the upstream stream
    void (*upstream_ready)(struct exchange *x);          // connected: send_head may be called
    void (*response_head)(struct exchange *x, bool end); // x->response is filled; may be 1xx
    void (*response_data)(struct exchange *x, struct chunk c, bool end);
    void (*response_trailers)(struct exchange *x);
    void (*upstream_reset)(struct exchange *x, enum reset_reason why); // detached already
    void (*upstream_writable)(struct exchange *x);
};

// Why a reply is not the upstream's: Envoy's response flags (access log %RESPONSE_FLAGS%).
// X(bit, "flag")
#define RESPONSE_FLAG_TABLE(X)      \
    X(NO_ROUTE, "NR")               \
    X(NO_CLUSTER, "NC")             \
    X(NO_HEALTHY, "UH")             \
    X(CONNECT_FAILURE, "UF")        \
    X(UPSTREAM_TERMINATION, "UC")   \
    X(UPSTREAM_RESET, "UR")         \
    X(UPSTREAM_PROTOCOL, "UPE")     \
    X(TIMEOUT, "UT")                \
    X(RETRY_LIMIT, "URX")           \
    X(OVERFLOW, "UO")               \
    X(DOWNSTREAM_TERMINATION, "DC") \
    X(DOWNSTREAM_PROTOCOL, "DPE")   \
    X(LOCAL_RESET, "LR")            \
    X(STREAM_IDLE, "SI")            \
    X(OVERLOAD, "OM")               \
    X(DURATION, "DT")

enum response_flag_bit {
#define X(bit, flag) RESPONSE_FLAG_BIT_##bit,
    RESPONSE_FLAG_TABLE(X)
#undef X
        RESPONSE_FLAG_COUNT
};
enum response_flag {
#define X(bit, flag) FLAG_##bit = 1u << RESPONSE_FLAG_BIT_##bit,
    RESPONSE_FLAG_TABLE(X)
#undef X
};

enum http_version { HTTP_1_0, HTTP_1_1, HTTP_2, HTTP_3 };

#define EXCHANGE_BLOCK_BYTES (16u * 1024u)

struct exchange {
    struct worker *worker;
    const struct exchange_handler *handler;
    struct stream *down, *up; // up: NULL until an endpoint is chosen, and between tries
    struct head request, response;
    enum http_version version; // the client's
    // Times (worker clock, ns); 0 = not yet.
    uint64_t start_ns; // first byte of the request
    uint64_t request_end_ns, upstream_start_ns, response_start_ns, end_ns;
    uint64_t request_body_bytes, response_body_bytes;
    uint32_t response_flags;
    uint32_t response_status; // as sent to the client
    const char *details;      // of the program or of the arena, Envoy's RESPONSE_CODE_DETAILS
    // Of the try in flight or the last one; NULL: none. Both live as long as the program.
    const char *transport_failure; // why its TLS has failed
    const char *upstream_tls_version;
    struct downstream *conn; // the client's connection
    bool request_ended, response_ended, response_started;
    bool starved; // the pool of big heads had none left: a lack of ours, not the client's fault
    bool upgrade; // the request asks for an upgrade that is passed on (WebSocket)
    bool tunnel;
    struct head *request_trailers, *response_trailers; // during the callback of that name only
    bool drop_connection;                              // the client's connection must not be kept
    // Set by proxy/: see proxy.h. One allocation together with the exchange.
    void *proxy;
    // Arena for heads.
    char *arena_cur, *arena_end;
    void *big; // a HEAD-sized block of the second pool, for heads that outgrow the inline arena
    char *big_cur, *big_end;
};

struct exchange_pools {
    struct pool exchanges; // EXCHANGE_BLOCK_BYTES
    struct pool big;       // 2 * HEAD_MAX_BYTES + slack
};
void exchange_pools_init(struct exchange_pools *p, uint32_t cap);
void exchange_pools_fini(struct exchange_pools *p);

// proxy_bytes are reserved behind the exchange for its handler. NULL at the pool's cap.
struct exchange *exchange_create(struct worker *w, struct exchange_pools *p,
                                 const struct exchange_handler *handler, size_t proxy_bytes);
void exchange_destroy(struct exchange_pools *p, struct exchange *x);
// Bytes that live as long as the exchange; NULL when it has had its share.
char *exchange_alloc(struct exchange_pools *p, struct exchange *x, size_t len);
void chunk_release(struct worker *w, struct chunk c);
// Queues the chunk, taking over its reference; false when the output pool is empty (released then).
bool chunk_queue(struct bufq *q, struct chunk c);
