// The label index over Pods and WorkloadEntries. A selector is looked up by the one of its labels
// that the fewest workloads have, and the rest is checked on those. Control thread.
#include "route/workloads.h"
#include "route/compile.h"

static void push(struct arena *a, struct workload_list *l, struct workload *w)
{
    if (l->count == l->cap) {
        uint32_t cap = l->cap ? l->cap * 2 : 4;
        struct workload **items = arena_array(a, struct workload *, cap);
        if (l->count)
            memcpy(items, l->items, sizeof(*items) * l->count);
        l->items = items;
        l->cap = cap;
    }
    l->items[l->count++] = w;
}

static struct slice label_key(struct arena *a, struct slice ns, const struct label *l)
{
    return compile_text(a, "%.*s %.*s=%.*s", SLICE_FMT(ns), SLICE_FMT(l->key), SLICE_FMT(l->value));
}

static void index_workload(struct workloads *w, struct workload *one)
{
    for (uint32_t i = 0; i < one->labels->count; i++) {
        struct slice key = label_key(w->scratch, one->ns, &one->labels->items[i]);
        struct workload_list *l = map_get(&w->by_label, key);
        if (!l) {
            l = arena_new(w->scratch, struct workload_list);
            map_put(&w->by_label, key, l);
        }
        push(w->scratch, l, one);
    }
    if (one->address.len && !map_get(&w->by_address, one->address))
        map_put(&w->by_address, one->address, one);
}

static void add_pod(struct workloads *w, const struct kube_pod *pod)
{
    struct workload *one = arena_new(w->scratch, struct workload);
    *one = (struct workload){
        .ns = pod->meta.ns, .address = pod->ip, .labels = &pod->meta.labels, .pod = pod};
    struct slice key =
        compile_text(w->scratch, "%.*s/%.*s", SLICE_FMT(pod->meta.ns), SLICE_FMT(pod->meta.name));
    map_put(&w->pods, key, one);
    index_workload(w, one);
}

static void add_entry(struct workloads *w, const struct workload_entry *e)
{
    struct workload *one = arena_new(w->scratch, struct workload);
    *one = (struct workload){.ns = e->meta.ns,
                             .address = e->address,
                             .locality = e->locality,
                             .labels = &e->labels,
                             .weight = e->weight,
                             .entry = e};
    index_workload(w, one);
}

void workloads_init(struct workloads *w, const struct model *m, struct arena *scratch)
{
    *w = (struct workloads){.scratch = scratch};
    map_init(&w->by_label, scratch, m->pods_count + m->workload_entries_count);
    map_init(&w->pods, scratch, m->pods_count);
    map_init(&w->by_address, scratch, m->pods_count + m->workload_entries_count);
    for (uint32_t i = 0; i < m->pods_count; i++)
        add_pod(w, m->pods[i]);
    for (uint32_t i = 0; i < m->workload_entries_count; i++)
        add_entry(w, m->workload_entries[i]);
}

void workloads_select(struct workloads *w, struct slice ns, const struct label_map *selector,
                      struct workload_list *out)
{
    const struct workload_list *best = NULL;
    *out = (struct workload_list){0};
    for (uint32_t i = 0; i < selector->count; i++) {
        struct slice key = label_key(w->scratch, ns, &selector->items[i]);
        const struct workload_list *l = map_get(&w->by_label, key);
        if (!l)
            return;
        if (!best || l->count < best->count)
            best = l;
    }
    for (uint32_t i = 0; best && i < best->count; i++)
        if (labels_subset(selector, best->items[i]->labels))
            push(w->scratch, out, best->items[i]);
}

struct workload *workload_of_pod(const struct workloads *w, struct slice ns, struct slice name)
{
    if (name.len == 0)
        return NULL;
    return map_get(&w->pods, compile_text(w->scratch, "%.*s/%.*s", SLICE_FMT(ns), SLICE_FMT(name)));
}

struct workload *workload_at(const struct workloads *w, struct slice address)
{
    return address.len ? map_get(&w->by_address, address) : NULL;
}

uint32_t workload_port(const struct workload *w, struct slice name)
{
    if (w->pod) {
        for (uint32_t i = 0; i < w->pod->port_count; i++)
            if (slice_eq(w->pod->ports[i].name, name))
                return w->pod->ports[i].port;
        return 0;
    }
    for (uint32_t i = 0; i < w->entry->port_count; i++)
        if (slice_eq(w->entry->ports[i].name, name))
            return w->entry->ports[i].number;
    return 0;
}
