// What happens to one exchange: route, choose, try, retry, answer. proxy_handler is what every
// codec reports to.
#pragma once
#include "core/listener.h"
#include "proto/exchange.h"
#include "proxy/runtime.h"

// What a tunnel has left of its snapshot (tunnel.c).
struct proxy_kept {
    struct stat_entry *listener, *route, *cluster; // held; NULL: none
    struct slice cluster_name, route_name;
};

#define PROXY_TRIED_MAX 8u

struct proxy_exchange { // behind the exchange, in its block
    struct exchange *x;
    struct proxy_worker *pw;
    struct proxy_listener *listener;
    // Pinned. NULL once a tunnel has let it go, and with it what points into it.
    struct snapshot *snapshot;
    const struct listener_config *listener_cfg;
    const struct filter_chain *chain;
    const struct route *route; // NULL: none matched
    const struct route_target *target;
    const struct cluster_config *cluster; // of the snapshot
    struct endpoint *endpoint;            // of the try in flight; may be freed once it has ended
    // Those tried in vain, the latest ones; only compared, never followed.
    const struct endpoint *tried[PROXY_TRIED_MAX];
    uint32_t tried_count;       // may be more than there is room for
    struct slice endpoint_text; // "127.0.0.1:9080", for the log
    struct bufq held;           // request body while no connection is ready
    struct timer route_timeout, try_timeout, backoff;
    struct conn_waiter waiter; // while there is no room for a connection
    uint32_t attempts;         // tries begun
    uint32_t retries_left;
    struct bufq replay; // of the request's body, what this try was sent; see replay.c
    uint64_t head_turn; // of the worker, when the head was sent
    bool body_lost;     // part of it was sent and is not kept: no further try
    bool held_end;
    const struct field *held_trailers; // they came before the head could be sent; NULL = none
    uint32_t held_trailer_count;
    bool head_sent;
    bool pool_retried, on_endpoint, on_reused;
    bool fresh; // the next try wants a connection that has not been idle
    bool down_paused, up_paused;
    struct slice original_path, original_authority; // for the access log: as received
    struct slice request_id;
    struct proxy_kept kept;
};

struct proxy_listener { // of one worker
    struct list_node link;
    struct listener listener; // not of UDP
    struct proxy_udp *udp;    // the socket and sessions of UDP; NULL: of TCP, or closed
    struct proxy_worker *pw;
    uint32_t id;                    // snapshot.listener_by_id
    uint32_t connections;           // and sessions
    struct listener_record *record; // one of its holders
    // Once it is not in the configuration any more: the last snapshot that had it, pinned, by which
    // the connections it has left are served.
    struct snapshot *last;
    struct timer drain_end;
    struct h1_server_config server_cfg;
};

extern const struct exchange_handler proxy_handler;

struct snapshot *proxy_listener_snapshot(const struct proxy_listener *l);
// NULL: not configured any more, and never was on this worker.
const struct listener_config *proxy_listener_config(const struct proxy_listener *l);
void proxy_listener_conn_closed(struct proxy_listener *l); // one of those it admitted
// A session of UDP counts as a connection, and has a limit besides. false: there is no room.
bool proxy_listener_admit_session(struct proxy_listener *l);
void proxy_listener_session_closed(struct proxy_listener *l);
void proxy_listener_closed(struct proxy_listener *l); // its socket is

static inline struct proxy_exchange *proxy_of(const struct exchange *x)
{
    return (struct proxy_exchange *)x->proxy;
}
