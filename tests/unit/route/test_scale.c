// Compiling takes time in proportion to the documents, whatever their shape: ten times the routes
// may take thirty times as long (caches are smaller than tables), never the hundred times of
// something that looks at every pair. Measured in this process's CPU time, the best of a few.
#include "config/finding.h"
#include "core/check.h"
#include "many.h"
#include "route/route.h"
#include "test.h"
#include <time.h>

#define FEW 1000u
#define MANY 10000u
#define MOST_TIMES 40
#define SMALLEST_NS 10000000u // below, what else a machine does decides

static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t compile_once(const struct model *m, uint32_t routes)
{
    struct arena out;
    struct findings findings;
    struct route_config config;
    const struct compile_options options = {0};
    arena_init(&out, 0);
    findings_init(&findings);
    uint64_t begin = cpu_ns();
    check(route_compile(m, &options, &out, &findings, &config) == OK);
    uint64_t took = cpu_ns() - begin;
    EXPECT_EQ(config.route_count, routes);
    EXPECT_EQ(findings.count, 0);
    route_config_fini(&config);
    findings_fini(&findings);
    arena_fini(&out);
    return took;
}

static uint64_t compile_ns(const struct many *shape, uint32_t routes, uint32_t tries)
{
    struct model m;
    struct arena a;
    uint64_t best = UINT64_MAX;
    arena_init(&a, 0);
    many_make(&m, &a, shape, routes);
    for (uint32_t i = 0; i < tries; i++) {
        uint64_t took = compile_once(&m, routes);
        best = took < best ? took : best;
    }
    arena_fini(&a);
    return best;
}

TEST(compiling_takes_time_in_proportion)
{
    for (size_t i = 0; i < MANY_SHAPES; i++) {
        uint64_t few = compile_ns(&many_shapes[i], FEW, 3);
        uint64_t many = compile_ns(&many_shapes[i], MANY, 3);
        uint64_t most = (few < SMALLEST_NS ? SMALLEST_NS : few) * MOST_TIMES;
        if (many > most)
            test_fail(__FILE__, __LINE__, "%s: %u take %.1f ms, %u take %.1f ms",
                      many_shapes[i].name, FEW, (double)few / 1e6, MANY, (double)many / 1e6);
    }
}
