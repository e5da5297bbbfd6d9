// Metrics. Sums what each worker counts for itself; a value may be a moment older than the one
// next to it, never torn. Owns nothing. Control thread, which is the registry's only writer.
#include "admin/metrics.h"
#include "admin/access_log.h"
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
//
// Every counter ends in _total and nothing else does, as Prometheus and OpenMetrics would have it
// and Istio's own metrics do. Envoy's have it only where the statistic's own name has.

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
        bool gauge = counter_kind(id) == 'G';
        bool suffix = !gauge && !slice_has_suffix(slice_of(counter_name(id)), SLICE("_total"));
        snprintf(name, sizeof(name), "sluice_%s%s", counter_name(id), suffix ? "_total" : "");
        const char *type = gauge ? "gauge" : "counter";
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
    one(out, "sluice_config_reload_successes_total", "counter", "configurations put into service",
        atomic_load(&rt->reload_successes));
    one(out, "sluice_config_reload_failures_total", "counter",
        "configurations refused, the old one kept", atomic_load(&rt->reload_failures));
    one(out, "sluice_config_last_reload_timestamp_seconds", "gauge",
        "when the configuration in service was published", atomic_load(&rt->last_reload_unix_s));
    describe(out, "sluice_config_findings", "gauge",
             "what the last load found in the documents, served or refused");
    for (uint32_t i = 0; i <= SEVERITY_ERROR; i++)
        text_printf(out, "sluice_config_findings{severity=\"%s\"} %" PRIu64 "\n", severity_names[i],
                    (uint64_t)atomic_load(&rt->config_findings[i]));
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
    one(out, "sluice_downstream_cx_limit", "gauge", "client connections allowed at a time",
        rt->cfg.max_connections);
    one(out, "sluice_memory_limit_bytes", "gauge",
        "the control group's limit or RLIMIT_AS, whichever is tighter; 0 = none",
        atomic_load(&rt->memory_limit_bytes));
    one(out, "sluice_memory_shed", "gauge",
        "0 nothing, 1 connections are shed (95 % of the limit), 2 requests are (98 %)",
        atomic_load(&rt->shed));
    one(out, "sluice_access_log_dropped_total", "counter",
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
    uint64_t total, active, retries, request_bytes, response_bytes, sum_ns;
    uint64_t cx_total, cx_active, cx_connect_fail, rx_bytes, tx_bytes;
    uint64_t classes[5], flags[RESPONSE_FLAG_COUNT], buckets[HISTOGRAM_BUCKETS];
};

static void add_entry(struct sum *s, const struct stat_entry *e)
{
    s->total += counter_read(&e->rq_total);
    s->active += counter_read(&e->rq_active);
    s->retries += counter_read(&e->rq_retry);
    s->request_bytes += counter_read(&e->request_bytes);
    s->response_bytes += counter_read(&e->response_bytes);
    s->sum_ns += counter_read(&e->latency.sum_ns);
    s->cx_total += counter_read(&e->cx_total);
    s->cx_active += counter_read(&e->cx_active);
    s->cx_connect_fail += counter_read(&e->cx_connect_fail);
    s->rx_bytes += counter_read(&e->rx_bytes);
    s->tx_bytes += counter_read(&e->tx_bytes);
    for (uint32_t i = 0; i < 5; i++)
        s->classes[i] += counter_read(&e->rq_class[i]);
    for (uint32_t i = 0; i < RESPONSE_FLAG_COUNT; i++)
        s->flags[i] += counter_read(&e->flag[i]);
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        s->buckets[i] += counter_read(&e->latency.bucket[i]);
}

static void sum_up(const struct runtime *rt, uint32_t id, struct sum *out)
{
    memset(out, 0, sizeof(*out));
    for (uint32_t w = 0; w < rt->worker_count; w++) {
        const struct stat_entry *e = stat_peek(rt->workers[w]->stats, id);
        if (e)
            add_entry(out, e);
    }
}

// What the relays of a name were asked for; false: nothing of that family.
static bool sum_ops(const struct runtime *rt, uint32_t id, enum l4_family family, uint64_t *out)
{
    bool any = false;
    for (uint32_t op = 0; op < L4_OP_COUNT; op++) {
        out[op] = 0;
        for (uint32_t w = 0; w < rt->worker_count && l4_ops[op].family == family; w++) {
            const struct stat_ops *o = stat_ops_peek(rt->workers[w]->stats, id);
            out[op] += o ? counter_read(&o->c[op]) : 0;
        }
        any = any || out[op] > 0;
    }
    return any;
}

struct series { // one name's samples of one metric
    const char *metric, *kind;
    struct slice name;
    const struct sum *sum;
};

// Begins `METRIC_SUFFIX{KIND="NAME"`: the caller adds labels, "} " and the value.
static void labels(struct text *out, const struct series *s, const char *suffix)
{
    text_printf(out, "%s%s{%s=\"", s->metric, suffix, s->kind);
    metrics_label_value(out, s->name);
    text_char(out, '"');
}

static void write_value(struct text *out, const struct series *s, uint64_t value)
{
    labels(out, s, "");
    text_printf(out, "} %" PRIu64 "\n", value);
}

static void write_requests(struct text *out, const struct series *s)
{
    uint64_t rest = s->sum->total;
    for (uint32_t i = 0; i < 5; i++) {
        uint64_t n = s->sum->classes[i];
        rest -= n < rest ? n : rest;
        if (!n)
            continue;
        labels(out, s, "");
        text_printf(out, ",code_class=\"%uxx\"} %" PRIu64 "\n", i + 1, n);
    }
    if (rest) { // the client was gone before there was a status
        labels(out, s, "");
        text_printf(out, ",code_class=\"none\"} %" PRIu64 "\n", rest);
    }
}

static void write_flags(struct text *out, const struct series *s)
{
    static const char *const names[] = {
#define X(bit, flag) flag,
        RESPONSE_FLAG_TABLE(X)
#undef X
    };
    for (uint32_t i = 0; i < RESPONSE_FLAG_COUNT; i++) {
        if (!s->sum->flags[i])
            continue;
        labels(out, s, "");
        text_printf(out, ",flag=\"%s\"} %" PRIu64 "\n", names[i], s->sum->flags[i]);
    }
}

static void write_active(struct text *out, const struct series *s)
{
    write_value(out, s, s->sum->active);
}

static void write_retries(struct text *out, const struct series *s)
{
    write_value(out, s, s->sum->retries);
}

static void write_request_bytes(struct text *out, const struct series *s)
{
    write_value(out, s, s->sum->request_bytes);
}

static void write_response_bytes(struct text *out, const struct series *s)
{
    write_value(out, s, s->sum->response_bytes);
}

static void write_cx_total(struct text *out, const struct series *s)
{
    write_value(out, s, s->sum->cx_total);
}

static void write_cx_active(struct text *out, const struct series *s)
{
    write_value(out, s, s->sum->cx_active);
}

static void write_cx_connect_fail(struct text *out, const struct series *s)
{
    write_value(out, s, s->sum->cx_connect_fail);
}

static void write_rx_bytes(struct text *out, const struct series *s)
{
    write_value(out, s, s->sum->rx_bytes);
}

static void write_tx_bytes(struct text *out, const struct series *s)
{
    write_value(out, s, s->sum->tx_bytes);
}

static void write_histogram(struct text *out, const struct series *s)
{
    uint64_t below = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        below += s->sum->buckets[i];
        labels(out, s, "_bucket");
        if (i < HISTOGRAM_BUCKETS - 1)
            text_printf(out, ",le=\"%g\"} %" PRIu64 "\n", histogram_bounds_ms[i] / 1e3, below);
        else
            text_printf(out, ",le=\"+Inf\"} %" PRIu64 "\n", below);
    }
    labels(out, s, "_sum");
    text_printf(out, "} %.9f\n", (double)s->sum->sum_ns / 1e9);
    labels(out, s, "_count");
    text_printf(out, "} %" PRIu64 "\n", below);
}

static const char *const kind_names[] = {
    [STAT_LISTENER] = "listener", [STAT_ROUTE] = "route", [STAT_CLUSTER] = "cluster"};
#define KINDS (sizeof(kind_names) / sizeof(kind_names[0]))
#define LISTENERS (1u << STAT_LISTENER)
#define ROUTES (1u << STAT_ROUTE)
#define CLUSTERS (1u << STAT_CLUSTER)
// Only of those that relay connections, or that have sessions of UDP; else of those with requests.
#define RELAYS (1u << 31)
#define SESSIONS (1u << 30)

// Prometheus wants all series of a name together, so each metric of each kind is one walk over the
// registry: sluice_KIND_NAME{KIND="…"}.
static const struct metric {
    const char *name, *type, *help;
    uint32_t kinds;
    void (*write)(struct text *out, const struct series *s);
} per_name[] = {
    {"rq_total", "counter", "requests that have ended, by class of status",
     LISTENERS | ROUTES | CLUSTERS, write_requests},
    {"rq_duration_seconds", "histogram", "first byte of the request to last byte of the response",
     LISTENERS | ROUTES | CLUSTERS, write_histogram},
    {"rq_active", "gauge", "requests in flight", LISTENERS | CLUSTERS, write_active},
    {"rq_retries_total", "counter", "tries after the first one", ROUTES | CLUSTERS, write_retries},
    {"response_flags_total", "counter",
     "requests, relayed connections, UDP sessions and what was dropped of it, by response flag "
     "(Envoy's)",
     LISTENERS | ROUTES | CLUSTERS, write_flags},
    {"request_body_bytes_total", "counter", "bytes of request bodies from clients",
     LISTENERS | ROUTES | CLUSTERS, write_request_bytes},
    {"response_body_bytes_total", "counter", "bytes of response bodies to clients",
     LISTENERS | ROUTES | CLUSTERS, write_response_bytes},
    {"tcp_cx_total", "counter",
     "connections relayed, or refused because no chain or rule is for "
     "them",
     RELAYS | LISTENERS | CLUSTERS, write_cx_total},
    {"tcp_cx_active", "gauge", "relayed connections open", RELAYS | LISTENERS | CLUSTERS,
     write_cx_active},
    {"tcp_cx_connect_fail_total", "counter", "attempts to connect a relay that failed",
     RELAYS | CLUSTERS, write_cx_connect_fail},
    {"tcp_rx_bytes_total", "counter", "bytes relayed from clients", RELAYS | LISTENERS | CLUSTERS,
     write_rx_bytes},
    {"tcp_tx_bytes_total", "counter", "bytes relayed to clients", RELAYS | LISTENERS | CLUSTERS,
     write_tx_bytes},
    {"udp_sess_total", "counter", "UDP sessions begun", SESSIONS | LISTENERS | CLUSTERS,
     write_cx_total},
    {"udp_sess_active", "gauge", "UDP sessions open", SESSIONS | LISTENERS | CLUSTERS,
     write_cx_active},
    {"udp_sess_connect_fail_total", "counter", "UDP sessions whose endpoint was not there",
     SESSIONS | CLUSTERS, write_cx_connect_fail},
    {"udp_rx_bytes_total", "counter", "bytes of datagrams from clients",
     SESSIONS | LISTENERS | CLUSTERS, write_rx_bytes},
    {"udp_tx_bytes_total", "counter", "bytes of datagrams to clients",
     SESSIONS | LISTENERS | CLUSTERS, write_tx_bytes},
};
#define METRICS (sizeof(per_name) / sizeof(per_name[0]))
#define FAMILIES (KINDS * (METRICS + L4_FAMILIES))

// sluice_KIND_NAME{KIND="…",LABEL="…"}: of what is seen in the bytes of relays.
static const struct op_metric {
    const char *name, *help;
    const char *label; // NULL: there is one series
} per_op[L4_FAMILIES] = {
    [L4_FAMILY_MONGO] = {"mongo_ops_total",
                         "messages of MongoDB's protocol by operation, as Envoy counts them", "op"},
    [L4_FAMILY_MYSQL_EVENT] = {"mysql_events_total",
                               "MySQL's sessions, logins and errors, as Envoy counts them",
                               "event"},
    [L4_FAMILY_MYSQL_COMMAND] = {"mysql_commands_total", "commands to MySQL servers", "command"},
    [L4_FAMILY_REDIS_COMMAND] = {"redis_commands_total", "commands to Redis servers", "command"},
    [L4_FAMILY_REDIS_ERROR] = {"redis_errors_total", "errors that Redis servers have answered",
                               NULL},
    [L4_FAMILY_UNREADABLE] = {"decoding_errors_total",
                              "relayed connections that do not speak their server's protocol; "
                              "they are not looked at any more",
                              "protocol"},
};

// Of those that no worker has ever touched nothing is said.
static bool has_values(const struct metric *m, const struct sum *s)
{
    uint64_t flags = 0;
    if (m->kinds & (RELAYS | SESSIONS))
        return s->cx_total > 0;
    for (uint32_t i = 0; m->write == write_flags && i < RESPONSE_FLAG_COUNT; i++)
        flags += s->flags[i];
    return s->total > 0 || s->active > 0 || flags > 0;
}

// A listener or cluster is of TCP or of UDP, and its name says so.
static bool is_of(const struct metric *m, const struct stat_name *n)
{
    bool udp = n->kind == STAT_LISTENER ? slice_has_prefix(n->name, SLICE("udp_"))
                                        : memmem(n->name.ptr, n->name.len, "/UDP|", 5) != NULL &&
                                              n->kind == STAT_CLUSTER;
    if (m->kinds & RELAYS)
        return !udp;
    return udp || !(m->kinds & SESSIONS);
}

// Its full name is in `name`.
static void begin_metric(struct metrics *m, struct text *out, struct series *s, char *name,
                         size_t cap, const char *last, const char *type, const char *help)
{
    snprintf(name, cap, "sluice_%s_%s", s->kind, last);
    s->metric = name;
    if (!m->described)
        describe(out, name, type, help);
    m->described = true;
}

static void write_counts(struct metrics *m, const struct metric *metric, struct text *out,
                         struct series *s)
{
    struct sum sum;
    char name[96];
    sum_up(m->runtime, m->index, &sum);
    if (!has_values(metric, &sum))
        return;
    s->sum = &sum;
    begin_metric(m, out, s, name, sizeof(name), metric->name, metric->type, metric->help);
    metric->write(out, s);
}

static void write_ops(struct metrics *m, enum l4_family family, struct text *out, struct series *s)
{
    const struct op_metric *metric = &per_op[family];
    uint64_t counts[L4_OP_COUNT];
    char name[96];
    if (!sum_ops(m->runtime, m->index, family, counts))
        return;
    begin_metric(m, out, s, name, sizeof(name), metric->name, "counter", metric->help);
    for (uint32_t op = 0; op < L4_OP_COUNT; op++) {
        if (counts[op] == 0)
            continue;
        labels(out, s, "");
        if (metric->label)
            text_printf(out, ",%s=\"%s\"", metric->label, l4_ops[op].label);
        text_printf(out, "} %" PRIu64 "\n", counts[op]);
    }
}

static void write_entry(struct metrics *m, uint32_t family, struct text *out)
{
    enum stat_kind kind = (enum stat_kind)(family % KINDS);
    const struct stat_registry *stats = &m->runtime->stats;
    const struct stat_name *n = &stats->names[m->index];
    uint32_t which = family / KINDS;
    // A name that came while this listing was being made may have had another number before.
    if (!stat_current(stats, m->index) || n->born > m->epoch || n->kind != kind)
        return;
    struct series s = {.kind = kind_names[kind], .name = n->name};
    if (which < METRICS && is_of(&per_name[which], n))
        write_counts(m, &per_name[which], out, &s);
    else if (which >= METRICS)
        write_ops(m, (enum l4_family)(which - METRICS), out, &s);
}

static bool is_of_kind(uint32_t family)
{
    uint32_t which = family / KINDS;
    uint32_t kinds = which < METRICS ? per_name[which].kinds : LISTENERS | CLUSTERS;
    return kinds & 1u << family % KINDS;
}

bool metrics_more(void *metrics, struct text *out)
{
    struct metrics *m = metrics;
    if (m->family == 0) {
        process(out, m);
        configuration(out, m->runtime);
        worker_counters(out, m->runtime);
        m->epoch = m->runtime->stats.epoch;
        m->family = 1;
        return true;
    }
    while (m->family <= FAMILIES && out->len < PIECE_BYTES) {
        uint32_t family = m->family - 1;
        if (is_of_kind(family) && m->index < m->runtime->stats.count) {
            write_entry(m, family, out);
            m->index++;
            continue;
        }
        m->family++;
        m->index = 0;
        m->described = false;
    }
    return m->family <= FAMILIES;
}
