// A worker's own view of one cluster: its endpoints with their pools and loads. It outlives a
// reload when name and settings are unchanged; endpoints are matched by address, so that their
// connections are kept.
#pragma once
#include "core/rng.h"
#include "route/cluster_config.h"
#include "upstream/conn_pool.h"

struct upstream_cluster;
struct wrr;

struct endpoint {
    struct upstream_cluster *cluster;
    struct addr addr;
    char text[ADDR_TEXT_MAX];
    uint32_t text_len;
    uint32_t weight;
    uint32_t active;       // exchanges on it, for least request
    uint32_t connections;  // open, idle ones included
    uint32_t refs;         // exchanges and connections that point here
    uint32_t index;        // in the cluster's list; UINT32_MAX until it is there
    bool retired;          // no longer in the configuration
    struct list_node idle; // connections, most recently used first
};

struct upstream_cluster {
    struct conn_pool *pool;
    struct slice name; // own copy, as is what follows: connections outlive snapshots
    uint64_t settings_hash;
    enum lb_policy lb;
    uint64_t idle_timeout_ns, connect_timeout_ns, tcp_idle_timeout_ns, max_connection_duration_ns;
    uint32_t max_requests_per_connection;
    struct tcp_keepalive keepalive;
    enum proxyproto_version proxy_protocol;
    enum client_tls_mode tls_mode;
    struct tls_ctx *tls; // counted; may be NULL
    struct slice host, tls_name;
    struct endpoint **endpoints;
    uint32_t endpoint_count;
    uint64_t total_weight; // each is of 32 bits, their sum may be of more
    bool alike;            // all endpoints weigh the same
    uint64_t *weight_ends; // running totals
    struct wrr *wrr;       // round robin by weight; NULL where they are alike
    uint64_t rr_next;      // round robin where they are
    uint32_t connections;
    uint32_t refs;
};

struct upstream_cluster *cluster_create(struct conn_pool *p, const struct cluster_config *cfg);
// Takes over the settings and endpoints of a newer snapshot; pools of kept endpoints stay.
void cluster_update(struct upstream_cluster *c, const struct cluster_config *cfg);
void cluster_retire(
    struct upstream_cluster *c); // closes idle connections; freed with the last one in use
void cluster_hold(struct upstream_cluster *c); // its name and itself stay until cluster_put
void cluster_put(struct upstream_cluster *c);

// How it is connected to, for a request of that client (asked for where the destination is told who
// it is) to that host (without port; a relay's is empty: then it is the cluster's). ERR_NOT_FOUND:
// by TLS, and a credential of it is broken; ERR_INVALID: by TLS, and no certificate can be for such
// a host. While it is not retired.
enum err endpoint_dial(const struct endpoint *e, struct downstream *from, struct slice host,
                       struct dial *out) must_use;

// By the cluster's policy; one of `avoid`, endpoints tried already, is taken only if there is
// no other. NULL when there is none.
struct endpoint *cluster_choose(struct upstream_cluster *c, struct rng *rng,
                                const struct endpoint *const *avoid, uint32_t avoid_count);

void endpoint_begin(struct endpoint *e); // an exchange is using it: active, refs
void endpoint_end(struct endpoint *e);
void endpoint_put(struct endpoint *e); // one of refs
