// xoshiro256** (Blackman and Vigna 2018) with a splitmix64 seeding. Owned by one worker.
#include "core/rng.h"
#include <endian.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static uint64_t splitmix(uint64_t *x)
{
    uint64_t z = (*x += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

void rng_init(struct rng *r, uint64_t seed)
{
    if (seed == 0 && getrandom(&seed, sizeof(seed), 0) != (long)sizeof(seed)) {
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        seed = (uint64_t)ts.tv_nsec ^ (uint64_t)(uintptr_t)r;
    }
    for (int i = 0; i < 4; i++)
        r->s[i] = splitmix(&seed);
}

static inline uint64_t rotl(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

uint64_t rng_next(struct rng *r)
{
    uint64_t *s = r->s;
    uint64_t result = rotl(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

// Lemire 2019: multiply and shift, rejecting the few values that would favour small results.
uint32_t rng_below(struct rng *r, uint32_t n)
{
    uint64_t m = (uint64_t)(uint32_t)(rng_next(r) >> 32) * n;
    if ((uint32_t)m < n) {
        uint32_t floor = -n % n;
        while ((uint32_t)m < floor)
            m = (uint64_t)(uint32_t)(rng_next(r) >> 32) * n;
    }
    return (uint32_t)(m >> 32);
}

// The eight hexadecimal digits of x, as eight bytes in the order of memory.
static uint64_t hex_digits(uint32_t x)
{
    uint64_t v = x;
    v = (v | v << 16) & 0x0000ffff0000ffffull;
    v = (v | v << 8) & 0x00ff00ff00ff00ffull;
    v = (v | v << 4) & 0x0f0f0f0f0f0f0f0full;
    uint64_t letters = (v + 0x0606060606060606ull) >> 4 & 0x0101010101010101ull;
    v += 0x3030303030303030ull + letters * ('a' - '0' - 10);
    return htobe64(v);
}

void rng_uuid4(struct rng *r, char out[36])
{
    uint64_t w[2] = {rng_next(r), rng_next(r)};
    w[0] = (w[0] & ~0xf000ull) | 0x4000ull;       // version
    w[1] = (w[1] & ~(3ull << 62)) | (2ull << 62); // variant
    char text[32];
    for (int i = 0; i < 4; i++) {
        uint64_t eight = hex_digits((uint32_t)(w[i / 2] >> (i % 2 ? 0 : 32)));
        memcpy(text + 8 * i, &eight, 8);
    }
    static const uint8_t from[] = {0, 8, 12, 16, 20, 32};
    for (int i = 0; i < 5; i++) {
        memcpy(out, text + from[i], (size_t)(from[i + 1] - from[i]));
        out += from[i + 1] - from[i];
        if (i < 4)
            *out++ = '-';
    }
}
