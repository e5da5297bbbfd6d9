// The rules of a relay: tcp[] and tls[] of the VirtualServices bound to a Gateway. Control thread;
// what is returned lives in the snapshot's arena.
#pragma once
#include "route/compile_hosts.h"

struct l4_chain_draft { // of a server that passes TLS through: the rules of one list of names
    struct slice *names;
    uint32_t name_count;
    struct l4_rule rule;
    struct l4_chain_draft *next;
};

// tcp[] of every VirtualService whose hosts meet the server's, in Istio's order.
struct l4_rule *compile_tcp_rules(struct compile *c, const struct server_ref *ref, uint32_t *count);
// tls[]: one draft for each match, NULL: none.
struct l4_chain_draft *compile_tls_rules(struct compile *c, const struct server_ref *ref);
// A rule with one cluster (AUTO_PASSTHROUGH).
struct l4_rule compile_cluster_rule(struct compile *c, const struct cluster_config *cluster);
