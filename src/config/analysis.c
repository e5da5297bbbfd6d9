// The indexes of the lint across documents, and the questions put to them. The model is only read.
// Control thread.
#include "config/analysis.h"
#include "config/names.h"
#include <stdio.h>
#include <stdlib.h>

static struct slice print_key(char *text, size_t cap, const char *fmt, va_list ap)
    __attribute__((format(printf, 3, 0)));
static struct slice print_key(char *text, size_t cap, const char *fmt, va_list ap)
{
    int n = vsnprintf(text, cap, fmt, ap);
    return (struct slice){text, n < 0 ? 0 : (size_t)n < cap ? (size_t)n : cap - 1};
}

struct slice analysis_key(struct analysis *a, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    struct slice key = print_key(text, sizeof(text), fmt, ap);
    va_end(ap);
    return arena_dup(&a->scratch, key);
}

bool analysis_is_broken(struct analysis *a, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    struct slice key = print_key(text, sizeof(text), fmt, ap);
    va_end(ap);
    return map_get(&a->broken, key) != NULL;
}

static struct slice lower_copy(struct analysis *a, struct slice s)
{
    struct slice copy = arena_dup(&a->scratch, s);
    char *p = (char *)copy.ptr;
    for (size_t i = 0; i < copy.len; i++)
        if (p[i] >= 'A' && p[i] <= 'Z')
            p[i] |= 0x20;
    return copy;
}

static void add_host(struct analysis *a, struct slice host, const struct kube_service *service,
                     const struct service_entry *entry)
{
    struct host_entry *e = arena_new(&a->scratch, struct host_entry);
    bool wildcard = host.len && host.ptr[0] == '*';
    struct map *map = wildcard ? &a->wildcard_hosts : &a->hosts;
    struct slice key = wildcard ? slice_from(host, 1) : host;
    *e = (struct host_entry){NULL, service, entry};
    e->next = map_put(map, key, e);
}

static void index_hosts(struct analysis *a)
{
    const struct model *m = a->m;
    map_init(&a->hosts, &a->scratch, m->services_count + m->service_entries_count);
    map_init(&a->wildcard_hosts, &a->scratch, 8);
    for (uint32_t i = 0; i < m->services_count; i++) {
        const struct metadata *meta = &m->services[i]->meta;
        add_host(a, lower_copy(a, host_fqdn(&a->scratch, meta->name, meta->ns)), m->services[i],
                 NULL);
    }
    for (uint32_t i = 0; i < m->service_entries_count; i++) {
        const struct service_entry *s = m->service_entries[i];
        for (uint32_t k = 0; k < s->hosts.count; k++) {
            struct slice host = host_fqdn(&a->scratch, s->hosts.items[k].text, s->meta.ns);
            add_host(a, lower_copy(a, host), NULL, s);
        }
    }
}

static void index_subsets(struct analysis *a)
{
    const struct model *m = a->m;
    map_init(&a->subsets, &a->scratch, m->destination_rules_count);
    for (uint32_t i = 0; i < m->destination_rules_count; i++) {
        const struct destination_rule *d = m->destination_rules[i];
        struct slice fqdn = host_fqdn(&a->scratch, d->host, d->meta.ns);
        for (uint32_t k = 0; k < d->subset_count; k++)
            (void)map_put(
                &a->subsets,
                analysis_key(a, "%.*s+%.*s", SLICE_FMT(fqdn), SLICE_FMT(d->subsets[k].name)),
                &d->subsets[k]);
    }
}

static void add_name(struct map *names, const struct metadata *meta)
{
    if (!map_get(names, meta->name))
        (void)map_put(names, meta->name, (void *)(uintptr_t)meta);
}

static void index_objects(struct analysis *a)
{
    const struct model *m = a->m;
    map_init(&a->gateway_names, &a->scratch, m->gateways_count);
    map_init(&a->service_names, &a->scratch, m->services_count);
    for (uint32_t i = 0; i < m->gateways_count; i++)
        add_name(&a->gateway_names, &m->gateways[i]->meta);
    for (uint32_t i = 0; i < m->services_count; i++)
        add_name(&a->service_names, &m->services[i]->meta);
    map_init(&a->gateways, &a->scratch, m->gateways_count);
    map_init(&a->secrets, &a->scratch, m->secrets_count);
    for (uint32_t i = 0; i < m->gateways_count; i++) {
        const struct metadata *meta = &m->gateways[i]->meta;
        (void)map_put(&a->gateways,
                      analysis_key(a, "%.*s/%.*s", SLICE_FMT(meta->ns), SLICE_FMT(meta->name)),
                      m->gateways[i]);
    }
    map_init(&a->endpoints, &a->scratch, m->endpoints_count);
    for (uint32_t i = 0; i < m->endpoints_count; i++)
        (void)map_put(&a->endpoints,
                      analysis_key(a, "%.*s/%.*s", SLICE_FMT(m->endpoints[i]->meta.ns),
                                   SLICE_FMT(m->endpoints[i]->service)),
                      m->endpoints[i]);
    for (uint32_t i = 0; i < m->secrets_count; i++)
        (void)map_put(&a->secrets, m->secrets[i]->meta.name, m->secrets[i]);
}

static void index_broken_object(struct analysis *a, const struct metadata *m)
{
    void *object = (void *)m;
    if (slice_eq(m->kind, SLICE("Gateway"))) {
        (void)map_put(&a->broken,
                      analysis_key(a, "Gateway %.*s/%.*s", SLICE_FMT(m->ns), SLICE_FMT(m->name)),
                      object);
    } else if (slice_eq(m->kind, SLICE("Secret"))) {
        (void)map_put(&a->broken, analysis_key(a, "Secret %.*s", SLICE_FMT(m->name)), object);
    } else if (slice_eq(m->kind, SLICE("Service"))) {
        struct slice fqdn = host_fqdn(&a->scratch, m->name, m->ns);
        (void)map_put(&a->broken, analysis_key(a, "host %.*s", SLICE_FMT(fqdn)), object);
    } else if (slice_eq(m->kind, SLICE("DestinationRule"))) {
        const struct destination_rule *d = object;
        struct slice fqdn = host_fqdn(&a->scratch, d->host, m->ns);
        (void)map_put(&a->broken, analysis_key(a, "subsets %.*s", SLICE_FMT(fqdn)), object);
    } else if (slice_eq(m->kind, SLICE("ServiceEntry"))) {
        const struct service_entry *s = object;
        for (uint32_t i = 0; i < s->hosts.count; i++)
            (void)map_put(&a->broken,
                          analysis_key(a, "host %.*s", SLICE_FMT(s->hosts.items[i].text)), object);
    }
}

static void index_broken(struct analysis *a)
{
    map_init(&a->broken, &a->scratch, a->m->broken_count);
    for (uint32_t i = 0; i < a->m->broken_count; i++)
        index_broken_object(a, a->m->broken[i]);
}

// Workloads are marked by label pair, so that a selector is looked up, not searched for.
struct workload {
    const struct label_map *labels;
    struct workload *next; // with the same pair
    uint32_t count;        // of this and those behind
};

static void mark(struct analysis *a, struct map *pairs, const struct label_map *labels)
{
    for (uint32_t i = 0; i < labels->count; i++) {
        struct workload *w = arena_new(&a->scratch, struct workload);
        w->labels = labels;
        w->next = map_put(pairs,
                          analysis_key(a, "%.*s=%.*s", SLICE_FMT(labels->items[i].key),
                                       SLICE_FMT(labels->items[i].value)),
                          w);
        w->count = w->next ? w->next->count + 1 : 1;
    }
}

static void index_workloads(struct analysis *a)
{
    const struct model *m = a->m;
    struct map *pairs = &a->workloads;
    map_init(pairs, &a->scratch, m->pods_count * 2);
    for (uint32_t i = 0; i < m->pods_count; i++)
        mark(a, pairs, &m->pods[i]->meta.labels);
    for (uint32_t i = 0; i < m->workload_entries_count; i++) {
        mark(a, pairs, &m->workload_entries[i]->labels);
        mark(a, pairs, &m->workload_entries[i]->meta.labels);
    }
    for (uint32_t i = 0; i < m->service_entries_count; i++)
        for (uint32_t k = 0; k < m->service_entries[i]->endpoint_count; k++)
            mark(a, pairs, &m->service_entries[i]->endpoints[k].labels);
}

void analysis_index(struct analysis *a)
{
    index_hosts(a);
    index_subsets(a);
    index_objects(a);
    index_broken(a);
    index_workloads(a);
}

const struct host_entry *analysis_host(const struct analysis *a, struct slice fqdn)
{
    const struct host_entry *e = map_get(&a->hosts, fqdn);
    if (e || !a->wildcard_hosts.count)
        return e;
    if (fqdn.len && fqdn.ptr[0] == '*')
        fqdn = slice_from(fqdn, 1);
    for (size_t i = 0; !e && i < fqdn.len; i++)
        e = map_get(&a->wildcard_hosts, slice_from(fqdn, i));
    return e;
}

const char *analysis_other_gateway(struct analysis *a, struct slice name)
{
    const struct metadata *m = map_get(&a->gateway_names, name);
    return m ? arena_printf(&a->scratch, "; there is %.*s/%.*s (%s:%u): was -n %.*s meant?",
                            SLICE_FMT(m->ns), SLICE_FMT(m->name), m->pos.file, m->pos.line,
                            SLICE_FMT(m->ns))
             : "";
}

// Only for a name alone, or one in full: others are of no Service.
const char *analysis_other_service(struct analysis *a, struct slice host, struct slice ns)
{
    struct slice fqdn = host_fqdn(&a->scratch, host, ns);
    ptrdiff_t dot = slice_find(fqdn, '.');
    if (dot < 0 || !slice_has_suffix_nocase(fqdn, SLICE(".svc.cluster.local")))
        return "";
    struct slice name = {fqdn.ptr, (size_t)dot};
    const struct metadata *m = map_get(&a->service_names, name);
    return m ? arena_printf(&a->scratch,
                            "; there is Service %.*s/%.*s (%s:%u): was -n %.*s or the host "
                            "%.*s.%.*s.svc.cluster.local meant?",
                            SLICE_FMT(m->ns), SLICE_FMT(m->name), m->pos.file, m->pos.line,
                            SLICE_FMT(m->ns), SLICE_FMT(m->name), SLICE_FMT(m->ns))
             : "";
}

bool labels_cover(const struct label_map *selector, const struct label_map *labels)
{
    for (uint32_t i = 0; i < selector->count; i++) {
        bool found = false;
        for (uint32_t k = 0; k < labels->count && !found; k++)
            found = slice_eq(selector->items[i].key, labels->items[k].key) &&
                    slice_eq(selector->items[i].value, labels->items[k].value);
        if (!found)
            return false;
    }
    return true;
}

#define MOST_TRIED 4096u // workloads of one label pair that are compared with a subset

bool analysis_has_workload(struct analysis *a, const struct label_map *labels)
{
    uint32_t tried = 0;
    if (!labels->count)
        return a->workloads.count > 0;
    const struct workload *w = NULL; // of the rarest pair
    for (uint32_t i = 0; i < labels->count; i++) {
        const struct label *l = &labels->items[i];
        const struct workload *with = map_get(
            &a->workloads, analysis_key(a, "%.*s=%.*s", SLICE_FMT(l->key), SLICE_FMT(l->value)));
        if (!with)
            return false;
        if (!w || with->count < w->count)
            w = with;
    }
    for (; w; w = w->next)
        if (labels_cover(labels, w->labels) || ++tried >= MOST_TRIED)
            return true;
    return false;
}

static int compare_labels(const void *pa, const void *pb)
{
    return slice_cmp(((const struct label *)pa)->key, ((const struct label *)pb)->key);
}

struct slice selector_text(struct analysis *a, const struct label_map *selector)
{
    struct label *sorted = arena_array(&a->scratch, struct label, selector->count);
    size_t len = 0;
    if (!selector->count)
        return SLICE("");
    memcpy(sorted, selector->items, sizeof(*sorted) * selector->count);
    qsort(sorted, selector->count, sizeof(*sorted), compare_labels);
    for (uint32_t i = 0; i < selector->count; i++)
        len += sorted[i].key.len + sorted[i].value.len + 2;
    char *text = arena_alloc(&a->scratch, len + 1), *p = text;
    for (uint32_t i = 0; i < selector->count; i++)
        p += sprintf(p, "%s%.*s=%.*s", i ? "," : "", SLICE_FMT(sorted[i].key),
                     SLICE_FMT(sorted[i].value));
    return (struct slice){text, (size_t)(p - text)};
}
