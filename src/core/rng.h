// xoshiro256** per worker, seeded from getrandom (or from a fixed seed in tests). For load
// balancing, jitter and request IDs; never for secrets.
#pragma once
#include <stdint.h>

struct rng {
    uint64_t s[4];
};

void rng_init(struct rng *r, uint64_t seed); // 0 = from the kernel
uint64_t rng_next(struct rng *r);
uint32_t rng_below(struct rng *r, uint32_t n); // unbiased, n > 0
void rng_uuid4(struct rng *r, char out[36]);   // RFC 9562 text form, not NUL-terminated
