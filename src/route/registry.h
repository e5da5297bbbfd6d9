// The services that destinations may name: Kubernetes Services and the hosts of ServiceEntries,
// by fully qualified name. Lives in the compilation's scratch arena.
#pragma once
#include "route/compile.h"
#include "route/workloads.h"

struct service_port {
    uint32_t number;
    struct slice name;
    bool udp;
    const struct kube_service_port *kube; // one of the two
    const struct service_entry_port *entry;
};

struct service {
    struct slice host; // FQDN, lower case
    struct slice ns;
    const struct kube_service *kube; // one of the two
    const struct service_entry *entry;
    struct service *next_same, *last_same; // further ServiceEntries of this host and namespace
    // Those of TCP, then those of UDP.
    struct service_port *ports;
    uint32_t port_count, udp_count; // port_count: of TCP
    struct service *next;           // in document order, Services first
};

struct endpoints_list { // the Endpoints or EndpointSlices of a Service
    const struct kube_endpoints *endpoints;
    struct endpoints_list *next;
};

struct rule_list { // DestinationRules of one host, oldest first
    const struct destination_rule **items;
    uint32_t count, cap;
};

struct registry {
    struct map services; // host -> struct service *
    struct service *first, **last;
    struct workloads workloads;
    struct map slices, endpoints; // "ns/service" -> struct endpoints_list *
    struct map rules;             // host, lower case -> struct rule_list *
};

struct registry *registry_create(struct compile *c);
struct service *registry_service(const struct registry *r, struct slice host); // lower case

// One endpoint before it is divided into subsets.
struct candidate {
    struct endpoint_config endpoint;
    const struct label_map *labels; // NULL: none known
};
struct candidate_list {
    struct candidate *items;
    uint32_t count, cap;
};
// All endpoints of one port of a service.
void registry_endpoints(struct compile *c, const struct service *s, const struct service_port *port,
                        struct candidate_list *out);

// The DestinationRules that govern a service: all of one namespace, merged by the caller.
struct rule_choice {
    const struct destination_rule **items; // the first one's trafficPolicy counts
    uint32_t count;
};
struct rule_choice registry_rules(struct compile *c, const struct service *s);
