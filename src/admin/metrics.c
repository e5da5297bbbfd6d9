// Metrics. Sums what each worker counts for itself; a value may be a moment older than the one
// next to it, never torn. Owns nothing. Control thread, which is the registry's only writer.
#include "admin/metrics.h"
#include "admin/access_log.h"
#include "core/clock.h"
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#ifndef SLUICE_VERSION
#define SLUICE_VERSION "dev"
#endif

#define PIECE_BYTES (64u * 1024u)

void metrics_label_value(struct text *out, struct slice value)
{
    for (size_t i = 0; i < value.len; i++) {
        char c = value.ptr[i];
        if (c == '\n')
            text_puts(out, "\\n");
        else if (c == '"' || c == '\\')
            text_put(out, (struct slice){(const char[]){'\\', c}, 2});
        else
            text_char(out, c);
    }
}

// ---- what is not per name

static void describe(struct text *out, const char *name, const char *type, const char *help)
{
    text_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void one(struct text *out, const char *name, const char *type, const char *help,
                uint64_t value)
{
    describe(out, name, type, help);
    text_printf(out, "%s %" PRIu64 "\n", name, value);
}

static void worker_counters(struct text *out, const struct runtime *rt)
{
    char name[128];
    for (uint32_t i = 0; i < COUNTER_COUNT; i++) {
        enum counter_id id = (enum counter_id)i;
        snprintf(name, sizeof(name), "sluice_%s", counter_name(id));
        const char *type = counter_kind(id) == 'G' ? "gauge" : "counter";
        if (id != COUNTER_loop_turns) {
            one(out, name, type, counter_help(id), runtime_counter(rt, id));
            continue;
        }
        describe(out, name, type, counter_help(id));
        for (uint32_t w = 0; w < rt->worker_count; w++)
            text_printf(out, "%s{worker=\"%u\"} %" PRIu64 "\n", name, w,
                        counter_read(&rt->workers[w]->worker.counters.c[id]));
    }
}

static void configuration(struct text *out, const struct runtime *rt)
{
    one(out, "sluice_config_reload_successes", "counter", "configurations put into service",
        atomic_load(&rt->reload_successes));
    one(out, "sluice_config_reload_failures", "counter", "configurations refused, the old one kept",
        atomic_load(&rt->reload_failures));
    one(out, "sluice_config_last_reload_timestamp_seconds", "gauge",
        "when the configuration in service was published", atomic_load(&rt->last_reload_unix_s));
    one(out, "sluice_config_findings", "gauge", "errors, warnings and notices of the last load",
        atomic_load(&rt->config_findings));
    one(out, "sluice_snapshots_alive", "gauge",
        "configurations in memory, old ones in use included", atomic_load(&rt->snapshots_alive));
    const struct snapshot *s = atomic_load(&rt->current);
    one(out, "sluice_config_generation", "gauge", "number of the configuration in service",
        s ? s->generation : 0);
    one(out, "sluice_config_listeners", "gauge", "listeners of the configuration in service",
        s ? s->routes.listener_count : 0);
    one(out, "sluice_config_routes", "gauge", "routes of the configuration in service",
        s ? s->routes.route_count : 0);
    one(out, "sluice_config_clusters", "gauge", "clusters of the configuration in service",
        s ? s->routes.clusters.count : 0);
}

static uint64_t resident_bytes(void)
{
    unsigned long long total = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return 0;
    if (fscanf(f, "%llu %llu", &total, &resident) != 2)
        resident = 0;
    fclose(f);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void process(struct text *out, const struct metrics *m)
{
    const struct runtime *rt = m->runtime;
    struct rusage u;
    describe(out, "sluice_build_info", "gauge", "always 1; the version is in the label");
    text_puts(out, "sluice_build_info{version=\"" SLUICE_VERSION "\"} 1\n");
    one(out, "sluice_workers", "gauge", "worker threads", rt->worker_count);
    one(out, "sluice_ready", "gauge", "1 while /healthz/ready answers 200",
        atomic_load(&rt->ready) && !atomic_load(&rt->draining));
    one(out, "sluice_draining", "gauge", "1 once draining has begun", atomic_load(&rt->draining));
    one(out, "sluice_access_log_dropped", "counter",
        "access log lines lost to a slow disk or reader",
        m->access_log ? access_log_dropped(m->access_log) : 0);
    one(out, "process_start_time_seconds", "gauge", "start of the process, unix time",
        rt->start_unix_s);
    one(out, "process_resident_memory_bytes", "gauge", "resident memory", resident_bytes());
    if (getrusage(RUSAGE_SELF, &u) < 0)
        return;
    describe(out, "process_cpu_seconds_total", "counter", "user and system time");
    text_printf(out, "process_cpu_seconds_total %.6f\n",
                (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
                    (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6);
}

// ---- listeners, routes, clusters

struct sum { // over the workers
    uint64_t total, classes[5], buckets[HISTOGRAM_BUCKETS], sum_ns;
};

// False when no worker has ever touched it.
static bool sum_up(const struct runtime *rt, uint32_t id, struct sum *out)
{
    memset(out, 0, sizeof(*out));
    for (uint32_t w = 0; w < rt->worker_count; w++) {
        const struct stat_entry *e = stat_peek(rt->workers[w]->stats, id);
        if (!e)
            continue;
        out->total += counter_read(&e->rq_total);
        out->sum_ns += counter_read(&e->latency.sum_ns);
        for (uint32_t i = 0; i < 5; i++)
            out->classes[i] += counter_read(&e->rq_class[i]);
        for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
            out->buckets[i] += counter_read(&e->latency.bucket[i]);
    }
    return out->total > 0;
}

static void labels(struct text *out, const char *metric, const char *kind, struct slice name)
{
    text_printf(out, "%s{%s=\"", metric, kind);
    metrics_label_value(out, name);
    text_char(out, '"');
}

static void write_requests(struct text *out, const char *metric, const char *kind,
                           struct slice name, const struct sum *s)
{
    uint64_t rest = s->total;
    for (uint32_t i = 0; i < 5; i++) {
        rest -= s->classes[i] < rest ? s->classes[i] : rest;
        if (!s->classes[i])
            continue;
        labels(out, metric, kind, name);
        text_printf(out, ",code_class=\"%uxx\"} %" PRIu64 "\n", i + 1, s->classes[i]);
    }
    if (rest) { // the client was gone before there was a status
        labels(out, metric, kind, name);
        text_printf(out, ",code_class=\"none\"} %" PRIu64 "\n", rest);
    }
}

static void write_histogram(struct text *out, const char *metric, const char *kind,
                            struct slice name, const struct sum *s)
{
    char part[160];
    uint64_t below = 0;
    snprintf(part, sizeof(part), "%s_bucket", metric);
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        below += s->buckets[i];
        labels(out, part, kind, name);
        if (i < HISTOGRAM_BUCKETS - 1)
            text_printf(out, ",le=\"%g\"} %" PRIu64 "\n", histogram_bounds_ms[i] / 1e3, below);
        else
            text_printf(out, ",le=\"+Inf\"} %" PRIu64 "\n", below);
    }
    snprintf(part, sizeof(part), "%s_sum", metric);
    labels(out, part, kind, name);
    text_printf(out, "} %.9f\n", (double)s->sum_ns / 1e9);
    snprintf(part, sizeof(part), "%s_count", metric);
    labels(out, part, kind, name);
    text_printf(out, "} %" PRIu64 "\n", below);
}

// Prometheus wants all series of a name together, so each family is one walk over the registry.
static const struct family {
    enum stat_kind kind;
    const char *label, *name, *type, *help;
    void (*write)(struct text *out, const char *metric, const char *kind, struct slice name,
                  const struct sum *s);
} families[] = {
    {STAT_LISTENER, "listener", "sluice_listener_rq_total", "counter",
     "requests by listener and class of status", write_requests},
    {STAT_LISTENER, "listener", "sluice_listener_rq_duration_seconds", "histogram",
     "first byte of the request to last byte of the response", write_histogram},
    {STAT_ROUTE, "route", "sluice_route_rq_total", "counter",
     "requests by route (virtual service/virtual host/name or match)", write_requests},
    {STAT_ROUTE, "route", "sluice_route_rq_duration_seconds", "histogram",
     "first byte of the request to last byte of the response", write_histogram},
    {STAT_CLUSTER, "cluster", "sluice_cluster_rq_total", "counter",
     "requests by cluster and class of status", write_requests},
    {STAT_CLUSTER, "cluster", "sluice_cluster_rq_duration_seconds", "histogram",
     "first byte of the request to last byte of the response", write_histogram},
};
#define FAMILIES (sizeof(families) / sizeof(families[0]))

static void write_entry(struct metrics *m, const struct family *f, struct text *out)
{
    struct sum s;
    const struct stat_name *n = &m->runtime->stats.names[m->index];
    if (n->kind != f->kind || !sum_up(m->runtime, m->index, &s))
        return;
    if (!m->described)
        describe(out, f->name, f->type, f->help);
    m->described = true;
    f->write(out, f->name, f->label, n->name, &s);
}

bool metrics_more(void *metrics, struct text *out)
{
    struct metrics *m = metrics;
    if (m->family == 0) {
        process(out, m);
        configuration(out, m->runtime);
        worker_counters(out, m->runtime);
        m->family = 1;
        return true;
    }
    while (m->family <= FAMILIES && out->len < PIECE_BYTES) {
        if (m->index < m->runtime->stats.count) {
            write_entry(m, &families[m->family - 1], out);
            m->index++;
            continue;
        }
        m->family++;
        m->index = 0;
        m->described = false;
    }
    return m->family <= FAMILIES;
}
