// What the lint across documents shares: indexes over the model, built once, so that each
// question is a lookup. Internal to analyze_*.c.
#pragma once
#include "config/load.h"
#include "core/map.h"

struct host_entry {          // one source of a host: a Service or a ServiceEntry
    struct host_entry *next; // another source of the same host
    const struct kube_service *service;
    const struct service_entry *entry;
};

struct analysis {
    const struct model *m;
    const struct load_options *options;
    struct findings *findings;
    int64_t now_s; // since the epoch: what certificates' dates are held against
    struct arena scratch;
    struct map gateways; // "ns/name" -> struct gateway
    struct map gateway_names,
        service_names; // "name" -> struct metadata of the first, of any namespace
    struct map hosts;  // "name.ns.svc.cluster.local" or a ServiceEntry's host -> struct host_entry
    struct map wildcard_hosts; // of ServiceEntries, without the `*`
    struct map subsets;        // "fqdn+subset" -> struct subset
    struct map secrets;        // "name" -> struct kube_secret, of any namespace
    struct map endpoints;      // "ns/service" -> struct kube_endpoints, the last of it
    struct map workloads;      // by label pair, see analysis.c
    struct map broken; // "Gateway ns/name", "Secret name", "host fqdn", "subsets fqdn": in error
};

// Fills the indexes from `m`; `scratch` holds them.
void analysis_index(struct analysis *a);
// An entry that serves `host` (resolved), or NULL.
const struct host_entry *analysis_host(const struct analysis *a, struct slice fqdn);
// Whether a document in error would be what is looked for: then that error is enough.
bool analysis_is_broken(struct analysis *a, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
// Behind a sentence on what was not found: where there is one in another namespace, "" if nowhere.
const char *analysis_other_gateway(struct analysis *a, struct slice name);
const char *analysis_other_service(struct analysis *a, struct slice host, struct slice ns);
struct slice analysis_key(struct analysis *a, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
bool labels_cover(const struct label_map *selector,
                  const struct label_map *labels); // selector in labels
// Whether a Pod or another workload among the documents has all of them.
bool analysis_has_workload(struct analysis *a, const struct label_map *labels);
// As k8s.io/apimachinery prints it: "a=1,b=2", sorted.
struct slice selector_text(struct analysis *a, const struct label_map *selector);

void analyze_gateways(struct analysis *a); // IST0101 selector, credential; 0138, 0145, 0161, 0162
void analyze_virtual_services(struct analysis *a);  // IST0101, 0112, 0132
void analyze_dead_rules(struct analysis *a);        // IST0130, 0131
void analyze_destination_rules(struct analysis *a); // IST0128, 0129, 0173, 0174
void analyze_services(struct analysis *a);          // IST0118
