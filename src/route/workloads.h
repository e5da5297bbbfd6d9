// Pods and WorkloadEntries by label, name and address, so that a selector is resolved without
// walking all of them. Lives in the compilation's scratch arena.
#pragma once
#include "config/model.h"
#include "core/map.h"

struct workload {
    struct slice ns, address, locality;
    const struct label_map *labels;
    uint32_t weight;            // 0 = not given
    const struct kube_pod *pod; // one of the two
    const struct workload_entry *entry;
};

struct workloads {
    struct arena *scratch;
    struct map by_label;   // "ns key=value" -> struct workload_list *
    struct map pods;       // "ns/name" -> struct workload *
    struct map by_address; // the first one wins
};

struct workload_list {
    struct workload **items;
    uint32_t count, cap;
};

void workloads_init(struct workloads *w, const struct model *m, struct arena *scratch);
// All whose labels hold the selector, in document order; an empty selector selects none.
void workloads_select(struct workloads *w, struct slice ns, const struct label_map *selector,
                      struct workload_list *out);
struct workload *workload_of_pod(const struct workloads *w, struct slice ns, struct slice name);
struct workload *workload_at(const struct workloads *w, struct slice address);
// The container port of that name, 0.
uint32_t workload_port(const struct workload *w, struct slice name);
