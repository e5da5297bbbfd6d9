// Clusters as compiled from Services, ServiceEntries and DestinationRules: one for each service,
// port and subset, named as Istio names them, with their endpoints resolved. Immutable, in the
// snapshot's arena.
#pragma once
#include "config/model.h"
#include "core/addr.h"
#include "core/map.h"

enum lb_policy { LB_POLICY_LEAST_REQUEST, LB_POLICY_ROUND_ROBIN, LB_POLICY_RANDOM };

struct tls_ctx;

struct endpoint_config {
    struct addr addr;
    uint32_t weight;       // 1 by default
    struct slice locality; // region/zone/subzone, may be empty
    struct slice text;     // "10.0.0.1:9080", for listings and logs
};

struct cluster_config {
    // "outbound|9080|v1|productpage.istio.svc.cluster.local"; a port of UDP is "53/UDP"
    struct slice name;
    struct slice host;   // the FQDN
    struct slice subset; // may be empty
    uint32_t port;
    bool udp;
    bool in_mesh;   // a Service, or a ServiceEntry of location MESH_INTERNAL
    uint32_t index; // in cluster_table.clusters
    struct endpoint_config *endpoints;
    uint32_t endpoint_count;
    // From the DestinationRule's trafficPolicy (see policy.h)
    enum lb_policy lb;           // loadBalancer.simple
    uint64_t connect_timeout_ns; // connectionPool.tcp.connectTimeout, default 10 s
    // Of a pooled connection: http.idleTimeout, else tcp's; default 1 h, 0 = none.
    uint64_t idle_timeout_ns;
    // tcp.idleTimeout of a relay, likewise; of UDP: 0 = the process's.
    uint64_t tcp_idle_timeout_ns;
    uint64_t max_connection_duration_ns; // tcp.maxConnectionDuration, 0 = no limit
    bool keepalive;                      // tcp.tcpKeepalive; its numbers: 0 = the system's
    uint32_t keepalive_idle_s, keepalive_interval_s, keepalive_probes;
    uint32_t max_requests_per_connection; // http.maxRequestsPerConnection, 0 = no limit
    // tcp.maxConnections, http.http1MaxPendingRequests, http2MaxRequests, maxRetries; UINT32_MAX =
    // no limit
    uint32_t max_connections, max_pending_requests, max_requests, max_retries;
    uint8_t proxy_protocol;        // proxyProtocol: its version, 0 = none
    enum client_tls_mode tls_mode; // tls.mode, default DISABLE
    struct tls_ctx *tls;   // borrowed; NULL with another mode: a credential is broken, so that
                           // there can be no connection
    struct slice tls_name; // sent as SNI where tls.sni is empty; empty = each request's host
    struct slice destination_rule; // "name.namespace" for listings, may be empty
    const char *type;              // "EDS", "STATIC", "STRICT_DNS", as in proxy-config clusters
    // Hash of all settings except the endpoints: equal hash and name means that pools and counters
    // of the previous snapshot are kept.
    uint64_t settings_hash;
};

struct cluster_table {
    struct cluster_config **clusters; // in name order
    uint32_t count;
    struct map by_name; // name -> struct cluster_config *
};
