// The running process: workers, the published snapshot, statistics. Made by main, driven by the
// control thread (control.c); workers see it through struct proxy_worker.
#pragma once
#include "config/load.h"
#include "core/memory.h"
#include "core/rcu.h"
#include "core/worker.h"
#include "proto/h1_server.h"
#include "proto/http.h"
#include "proto/l4_decode.h"
#include "proxy/snapshot.h"
#include "proxy/stats.h"
#include "tls/conn.h"
#include "tls/ticket.h"
#include "upstream/cluster.h"

struct exchange;
struct runtime;

struct proxy_flow_end;

struct runtime_config {
    const struct load_input *inputs;
    uint32_t input_count;
    struct load_options load;
    struct label_map labels;
    bool any_alpn;        // compile_options
    const char *identity; // tls_store_options
    bool ktls;            // the kernel is asked to take TLS records
    uint32_t workers;
    uint64_t drain_time_ns;
    uint64_t head_timeout_ns, idle_timeout_ns, stall_timeout_ns;
    // Whose connections begin with a PROXY header, and no others.
    const struct addr_prefix *proxy_sources;
    uint32_t proxy_source_count;
    bool look_at[L4_PROTOCOLS];   // whose relays are looked into and counted
    uint32_t max_connections;     // of clients, all workers together; 0 = by RLIMIT_NOFILE
    uint64_t udp_idle_timeout_ns; // of a session
    uint32_t max_udp_sessions;    // all workers together; 0 = half of max_connections
    uint32_t connection_files;    // for connections of clients and to upstreams; 0 = likewise
    bool (*disturbed)(void *arg); // asked once the documents are read; may be NULL
    void *disturbed_arg;
    // Called on the worker when an exchange or a relayed connection has ended (access log); may be
    // NULL.
    void (*on_exchange_end)(void *arg, uint32_t worker, const struct exchange *x);
    void (*on_flow_end)(void *arg, uint32_t worker, const struct proxy_flow_end *f);
    void *on_end_arg;
};

struct proxy_listener;

enum shed { SHED_NOTHING, SHED_CONNECTIONS, SHED_REQUESTS }; // see shed.c

// Listeners with a count of connections of their own; one with a higher number has only the limit
// of all.
#define RUNTIME_COUNTED_LISTENERS 1024u

struct proxy_worker { // what proxy/ keeps for each worker
    struct worker worker;
    struct runtime *runtime;
    struct tcp_pools tcp;
    struct exchange_pools exchanges;
    struct h1_server_pools servers;
    struct h1_client_pools clients;
    struct conn_pool upstreams;
    struct pool conns, hellos, relays;   // see accept.h, l4.h
    struct pool proxied, decoders;       // see proxied.h, l4.h
    struct pool udp_sessions, udp_sends; // see udp.h
    struct list_node all_conns;          // struct proxy_conn: every client's connection
    struct tls_pools tls;
    struct stat_table *stats;
    const struct snapshot *adopted;     // the snapshot that `clusters` and `listeners` belong to
    struct upstream_cluster **clusters; // by cluster index of `adopted`, filled on first use
    struct map clusters_by_name;        // all of this worker
    struct map departed; // by name: of no snapshot any more, for what is served by one of before
    struct list_node listeners; // struct proxy_listener
    bool draining, stopping;
    enum shed shed;
    _Atomic uint64_t reserve_bytes; // free in this worker's pools, where memory is limited
    uint64_t date_unix_s;           // what `date` says
    char date[HTTP_DATE_BYTES];
};

struct listener_record { // control thread, but for `holders`
    struct addr addr;
    bool udp;
    struct slice name; // own copy
    bool used, seen;
    // Workers that have its socket or a connection accepted by it. Its number, by which those find
    // their routes, is given to another listener only when there is none.
    _Atomic uint32_t holders;
};

struct runtime {
    struct runtime_config cfg;
    struct rcu rcu;
    _Atomic(struct snapshot *) current; // NULL until the first one
    struct snapshot *retired;           // waiting for readers and pins
    uint32_t reclaim_wait_ms;           // until the next look at them, longer each time
    struct stat_registry stats;
    struct tls_tickets *tickets;
    uint64_t tickets_turned_ns; // control thread
    struct proxy_worker **workers;
    uint32_t worker_count;
    uint64_t generation;
    struct listener_record **listeners; // index = listener number
    uint32_t listener_count;
    // For listings and metrics: written by the control thread.
    _Atomic uint64_t reload_successes, reload_failures, last_reload_unix_s, snapshots_alive;
    _Atomic uint64_t config_findings[SEVERITY_ERROR + 1]; // of the last load, served or refused
    _Atomic bool ready, draining; // ready: the configuration in service opens a port
    // Client connections open, in all and by listener number: written by the worker that accepts or
    // closes one, with read-modify-write, because the limits are for all workers together.
    _Atomic uint32_t udp_sessions; // of those connections
    _Atomic uint32_t connections, listener_connections[RUNTIME_COUNTED_LISTENERS];
    // How many of them one listener may have, of TCP and of UDP.
    _Atomic uint32_t listener_share, udp_share;
    _Atomic uint32_t shed; // enum shed
    _Atomic uint64_t memory_limit_bytes;
    struct memory_cgroup cgroup; // control thread
    bool cgroup_asked;
    uint64_t start_unix_s;
};

// Allocates workers and starts their threads; no listener yet. ERR_IO with a logged sentence.
enum err runtime_start(struct runtime *rt, const struct runtime_config *cfg) must_use;
// Reads the documents, compiles, publishes. ERR_INVALID keeps what was; `out` is sorted. MORE
// keeps it too: cfg.disturbed says that the documents were written while they were read.
enum err runtime_load(struct runtime *rt, struct findings *out) must_use;
void runtime_reclaim(struct runtime *rt); // frees snapshots nobody reads any more; call regularly
void runtime_turn_tickets(struct runtime *rt);  // when it is time; call regularly
void runtime_watch_memory(struct runtime *rt);  // measures, sheds load; some times a second
void runtime_drain(struct runtime *rt);         // stops accepting, ends keep-alive
bool runtime_drained(const struct runtime *rt); // no listener and no client connection is left
void runtime_stop(struct runtime *rt);          // stops and joins the workers, frees everything

// The sum over all workers; any thread.
uint64_t runtime_counter(const struct runtime *rt, enum counter_id id);
