#include "admin/metrics.h"
#include "core/clock.h"
#include "test.h"
#include <stdlib.h>

static struct runtime *rt;
static uint32_t ids[3];

static void make_runtime(void)
{
    rt = aligned_alloc(64, (sizeof(*rt) + 63u) & ~(size_t)63u);
    memset(rt, 0, sizeof(*rt));
    stat_registry_init(&rt->stats);
    rt->worker_count = 2;
    rt->workers = calloc(2, sizeof(*rt->workers));
    for (int i = 0; i < 2; i++) {
        rt->workers[i] = aligned_alloc(64, (sizeof(struct proxy_worker) + 63u) & ~(size_t)63u);
        memset(rt->workers[i], 0, sizeof(struct proxy_worker));
        rt->workers[i]->stats = stat_table_create();
    }
    ids[0] = stat_register(&rt->stats, STAT_LISTENER, SLICE("0.0.0.0_8080"));
    ids[1] = stat_register(&rt->stats, STAT_ROUTE, SLICE("vs/\"h\\\n\"/x"));
    ids[2] = stat_register(&rt->stats, STAT_CLUSTER, SLICE("never|touched"));
}

static void destroy_runtime(void)
{
    for (int i = 0; i < 2; i++) {
        stat_table_destroy(rt->workers[i]->stats);
        free(rt->workers[i]);
    }
    free(rt->workers);
    stat_registry_fini(&rt->stats);
    free(rt);
}

static void record(int worker, uint32_t id, int class, uint64_t ns)
{
    struct stat_entry *e = stat_get(rt->workers[worker]->stats, id);
    counter_add(&e->rq_total, 1);
    if (class)
        counter_add(&e->rq_class[class - 1], 1);
    histogram_record(&e->latency, ns);
}

// The whole listing, its pieces joined.
static char *listing(void)
{
    struct metrics m = {.runtime = rt};
    struct text t, all;
    text_init(&t, 1 << 20);
    text_init(&all, 64 << 20);
    bool more;
    do {
        text_clear(&t);
        more = metrics_more(&m, &t);
        text_put(&all, (struct slice){t.data, t.len});
        if (t.len > 200000)
            test_fail(__FILE__, __LINE__, "a piece of %zu bytes", t.len);
    } while (more);
    text_char(&all, '\0');
    text_fini(&t);
    return all.data;
}

static bool has_line(const char *text, const char *line)
{
    size_t n = strlen(line);
    for (const char *at = text; (at = strstr(at, line)); at++)
        if ((at == text || at[-1] == '\n') && at[n] == '\n')
            return true;
    printf("  missing: %s\n", line);
    return false;
}

TEST(metrics_sums_over_workers)
{
    make_runtime();
    counter_add(&rt->workers[0]->worker.counters.c[COUNTER_downstream_rq_total], 3);
    counter_add(&rt->workers[1]->worker.counters.c[COUNTER_downstream_rq_total], 4);
    counter_add(&rt->workers[1]->worker.counters.c[COUNTER_loop_turns], 9);
    atomic_store(&rt->reload_failures, 2);
    char *text = listing();
    EXPECT(has_line(text, "# HELP sluice_downstream_rq_total requests received"));
    EXPECT(has_line(text, "# TYPE sluice_downstream_rq_total counter"));
    EXPECT(has_line(text, "sluice_downstream_rq_total 7"));
    EXPECT(has_line(text, "# TYPE sluice_downstream_cx_active gauge"));
    EXPECT(has_line(text, "sluice_loop_turns_total{worker=\"0\"} 0"));
    EXPECT(has_line(text, "sluice_loop_turns_total{worker=\"1\"} 9"));
    EXPECT(has_line(text, "sluice_config_reload_failures_total 2"));
    EXPECT(has_line(text, "sluice_workers 2"));
    free(text);
    destroy_runtime();
}

TEST(metrics_counters_and_nothing_else_end_in_total)
{
    static const char type[] = "# TYPE ";
    uint32_t counters = 0;
    make_runtime();
    record(0, ids[0], 2, 400000);
    char *text = listing();
    for (const char *at = text; (at = strstr(at, type)); at++) {
        struct slice line = {at + strlen(type), strcspn(at + strlen(type), "\n")}, name;
        REQUIRE(slice_split(&line, ' ', &name));
        bool counter = slice_eq(line, SLICE("counter"));
        if (counter != slice_has_suffix(name, SLICE("_total")))
            test_fail(__FILE__, __LINE__, "%.*s is a %.*s", SLICE_FMT(name), SLICE_FMT(line));
        counters += counter;
    }
    EXPECT(counters > 60);
    free(text);
    destroy_runtime();
}

TEST(metrics_families_by_name)
{
    make_runtime();
    record(0, ids[0], 2, 400000); // 0.4 ms
    record(1, ids[0], 2, 3 * NS_PER_MS);
    record(1, ids[0], 5, 7 * NS_PER_S);
    record(1, ids[0], 0, 1);
    record(0, ids[1], 4, 1);
    char *text = listing();
    EXPECT(has_line(text, "# TYPE sluice_listener_rq_total counter"));
    EXPECT(has_line(text, "sluice_listener_rq_total{listener=\"0.0.0.0_8080\",code_class=\"2xx\"} 2"));
    EXPECT(has_line(text, "sluice_listener_rq_total{listener=\"0.0.0.0_8080\",code_class=\"5xx\"} 1"));
    EXPECT(has_line(text, "sluice_listener_rq_total{listener=\"0.0.0.0_8080\",code_class=\"none\"} 1"));
    EXPECT(has_line(text, "# TYPE sluice_listener_rq_duration_seconds histogram"));
    EXPECT(has_line(text, "sluice_listener_rq_duration_seconds_bucket{listener=\"0.0.0.0_8080\",le=\"0.0005\"} 2"));
    EXPECT(has_line(text, "sluice_listener_rq_duration_seconds_bucket{listener=\"0.0.0.0_8080\",le=\"0.005\"} 3"));
    EXPECT(has_line(text, "sluice_listener_rq_duration_seconds_bucket{listener=\"0.0.0.0_8080\",le=\"5\"} 3"));
    EXPECT(has_line(text, "sluice_listener_rq_duration_seconds_bucket{listener=\"0.0.0.0_8080\",le=\"3600\"} 4"));
    EXPECT(has_line(text, "sluice_listener_rq_duration_seconds_bucket{listener=\"0.0.0.0_8080\",le=\"+Inf\"} 4"));
    EXPECT(has_line(text, "sluice_listener_rq_duration_seconds_sum{listener=\"0.0.0.0_8080\"} 7.003400001"));
    EXPECT(has_line(text, "sluice_listener_rq_duration_seconds_count{listener=\"0.0.0.0_8080\"} 4"));
    EXPECT(has_line(text, "sluice_route_rq_total{route=\"vs/\\\"h\\\\\\n\\\"/x\",code_class=\"4xx\"} 1"));
    EXPECT(strstr(text, "never|touched") == NULL);
    EXPECT(strstr(text, "sluice_cluster_rq_total") == NULL); // not even its HELP
    free(text);
    destroy_runtime();
}

TEST(metrics_of_what_relays_were_asked_for)
{
    make_runtime();
    for (int w = 0; w < 2; w++) {
        struct stat_ops *o = stat_ops_get(rt->workers[w]->stats, ids[0]);
        counter_add(&o->c[L4_OP_MONGO_QUERY], 2);
        counter_add(&o->c[L4_OP_REDIS_get], 3);
        counter_add(&o->c[L4_OP_REDIS_ERROR], 1);
    }
    char *text = listing();
    EXPECT(has_line(text, "# TYPE sluice_listener_mongo_ops_total counter"));
    EXPECT(has_line(text, "sluice_listener_mongo_ops_total{listener=\"0.0.0.0_8080\",op=\"query\"} 4"));
    EXPECT(has_line(text, "sluice_listener_redis_commands_total{listener=\"0.0.0.0_8080\",command=\"get\"} 6"));
    EXPECT(has_line(text, "sluice_listener_redis_errors_total{listener=\"0.0.0.0_8080\"} 2"));
    EXPECT(strstr(text, "mysql") == NULL); // not even its HELP
    EXPECT(strstr(text, "sluice_cluster_") == NULL);
    free(text);
    for (int w = 0; w < 2; w++)
        stat_clear(rt->workers[w]->stats, ids[0]);
    text = listing();
    EXPECT(strstr(text, "redis") == NULL);
    free(text);
    destroy_runtime();
}

static bool name_char(char c, bool first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == ':' || (!first && c >= '0' && c <= '9');
}

// NAME{LABEL="…",…} VALUE, as Prometheus reads it.
static bool well_formed(const char *line, size_t len)
{
    const char *p = line, *end = line + len;
    if (*p == '#')
        return len > 7 && (memcmp(p, "# HELP ", 7) == 0 || memcmp(p, "# TYPE ", 7) == 0);
    for (bool first = true; p < end && name_char(*p, first); p++)
        first = false;
    if (p == line)
        return false;
    for (char sep = '{'; p < end && *p == sep; sep = ',') {
        for (p++; p < end && name_char(*p, false); p++)
            ;
        if (end - p < 3 || *p++ != '=' || *p++ != '"')
            return false;
        for (; p < end && *p != '"'; p++)
            p += *p == '\\';
        if (++p < end && *p == '}') {
            p++;
            break;
        }
    }
    char *rest;
    if (p >= end || *p++ != ' ')
        return false;
    strtod(p, &rest);
    return rest == end;
}

TEST(metrics_many_names_come_in_pieces_and_are_well_formed)
{
    char name[64];
    make_runtime();
    for (int i = 0; i < 3000; i++) {
        int n = snprintf(name, sizeof(name), "route \"%d\" \\ é", i);
        record(i % 2, stat_register(&rt->stats, STAT_ROUTE, (struct slice){name, (size_t)n}), 2, 1000);
    }
    char *text = listing();
    unsigned lines = 0, help = 0;
    for (const char *p = text; *p; lines++) {
        size_t len = strcspn(p, "\n");
        if (!well_formed(p, len))
            test_fail(__FILE__, __LINE__, "%.*s", (int)len, p);
        help += strncmp(p, "# HELP sluice_route_", 20) == 0;
        p += len + 1;
    }
    EXPECT(lines > 3000 * 23);
    EXPECT_EQ(help, 6); // each family of routes is described once
    free(text);
    destroy_runtime();
}
