// Random draws that can be repeated: a test prints the seed it began with, and SLUICE_TEST_SEED
// makes it begin there again.
#pragma once
#include "core/rng.h"
#include "core/slice.h"
#include <stdlib.h>
#include <time.h>

extern struct rng test_rng; // in generate.c

static inline uint64_t test_seed(void)
{
    const char *given = getenv("SLUICE_TEST_SEED");
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)t.tv_nsec * 0x9e3779b97f4a7c15u;
    return seed ? seed : 1; // 0 would ask the kernel
}

static inline uint32_t below(uint32_t n)
{
    return rng_below(&test_rng, n);
}

static inline bool one_in(uint32_t n)
{
    return below(n) == 0;
}
