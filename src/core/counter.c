// Names of the fixed counters and the latency histogram. Owns only constant tables; a block is
// written by its worker and read by any thread.
#include "core/counter.h"
#include "core/check.h"

static const struct {
    const char *name, *help;
    char kind;
} table[COUNTER_COUNT] = {
#define X(name, kind, help) [COUNTER_##name] = {#name, help, #kind[0]},
    COUNTER_TABLE(X)
#undef X
};

const char *counter_name(enum counter_id id)
{
    check(id < COUNTER_COUNT);
    return table[id].name;
}

const char *counter_help(enum counter_id id)
{
    check(id < COUNTER_COUNT);
    return table[id].help;
}

char counter_kind(enum counter_id id)
{
    check(id < COUNTER_COUNT);
    return table[id].kind;
}

const double histogram_bounds_ms[HISTOGRAM_BUCKETS - 1] = {
    0.5,  1,    5,     10,    25,    50,     100,    250,     500,    1000,
    2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000};

// A bound is inclusive, as in Envoy and Prometheus ("le").
void histogram_record(struct histogram *h, uint64_t ns)
{
    double ms = (double)ns / 1e6;
    uint32_t i = 0;
    while (i < HISTOGRAM_BUCKETS - 1 && ms > histogram_bounds_ms[i])
        i++;
    counter_add(&h->bucket[i], 1);
    counter_add(&h->sum_ns, ns);
}
