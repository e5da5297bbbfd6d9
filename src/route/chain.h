// What a listener does with a connection. A filter chain (Envoy's term) is chosen by the server
// name in the ClientHello, or is the only one; it ends TLS or not, and leads to HTTP routes or to
// the rules of an L4 relay. Immutable once compiled, read by all workers.
#pragma once
#include "config/model.h"
#include "core/addr.h"
#include "core/map.h"
#include "route/cluster_config.h"

struct route_table;
struct tls_ctx;

struct l4_target { // an entry of tcp[].route or tls[].route that has a weight
    const struct cluster_config *cluster; // NULL: unknown destination, the connection is closed
    struct slice cluster_name;
    uint32_t weight_end; // running total
};
struct l4_rule {                   // networking.istio.io VirtualService.tcp[] or tls[]
    struct slice virtual_service;  // "name.namespace"; empty for AUTO_PASSTHROUGH
    enum server_protocol protocol; // of the server
    struct slice stat_prefix;      // the cluster of a lone destination, else the VirtualService
    struct pos pos;
    const struct addr_prefix *subnets; // match[].destinationSubnets; none: any address
    uint32_t subnet_count;
    struct l4_target *targets;
    uint32_t target_count, total_weight;
};

struct filter_chain {
    struct slice name;    // "https.443.https.gw.ns": the same for the same server
    struct slice gateway; // "ns/name"
    struct slice *names;  // server names, lower case, "*.suffix" too; none: every connection
    uint32_t name_count;
    bool terminates_tls;
    bool istio_alpn_only; // AUTO_PASSTHROUGH: only clients that offer one of Istio's protocols
    struct tls_ctx *tls;  // with terminates_tls; NULL: no credential, connections are closed
    struct route_table *routes; // HTTP; NULL: L4, by `rules`, the first that matches
    struct l4_rule *rules;
    uint32_t rule_count;
};

// By the longest name: exact, "*.suffix", then the chain without names. NULL: none is for `sni`
// (lower case, may be empty).
const struct filter_chain *chain_find(const struct map *by_name, const struct filter_chain *any,
                                      struct slice sni);
// Whether a request for `authority` (its port is ignored) may use a connection of chain `c`; if not
// it is misdirected (RFC 9110 section 15.5.20). It may when that chain is the one the name chooses:
// what a wider name covers may be another server's, which asks more of its clients.
bool chain_covers(const struct filter_chain *c, const struct map *by_name,
                  const struct filter_chain *any, struct slice authority);
// The rule for a connection to `local`, NULL: none.
const struct l4_rule *chain_rule(const struct filter_chain *c, const struct addr *local);
// Which target by weight: `draw` is uniform below rule->total_weight.
const struct l4_target *l4_pick(const struct l4_rule *r, uint32_t draw);
