// Round robin by weight: the order is known, and at no moment is anyone more than one turn away
// from its share.
#include "core/rng.h"
#include "test.h"
#include "upstream/wrr.h"
#include <stdlib.h>

static struct wrr *make(const uint32_t *weights, uint32_t count)
{
    struct wrr *w = wrr_create(count);
    for (uint32_t i = 0; i < count; i++)
        w->items[i].weight = weights[i];
    wrr_start(w, NULL, NULL);
    return w;
}

static void expect_order(const uint32_t *weights, uint32_t count, const char *order)
{
    char got[64] = "";
    struct wrr *w = make(weights, count);
    for (size_t i = 0; i < strlen(order); i++)
        got[i] = (char)('a' + wrr_next(w));
    EXPECT_STR(got, order);
    wrr_destroy(w);
}

TEST(wrr_order)
{
    expect_order((const uint32_t[]){5, 1, 1}, 3, "abaacaaabaacaa");
    expect_order((const uint32_t[]){1, 1, 1}, 3, "abcabc");
    expect_order((const uint32_t[]){2, 1}, 2, "abaaba");
    expect_order((const uint32_t[]){1, 4}, 2, "babbbbabbb");
    expect_order((const uint32_t[]){9}, 1, "aaa");
}

// |picks * total - n * weight| <= total, after each of the n.
static void expect_shares(const uint32_t *weights, uint32_t count, uint32_t picks)
{
    uint32_t *had = calloc(count, sizeof(*had));
    struct wrr *w = make(weights, count);
    for (uint32_t n = 1; had && n <= picks; n++) {
        uint32_t at = wrr_next(w);
        had[at]++;
        for (uint32_t i = 0; i < count; i++) {
            double off = (double)had[i] - (double)n * weights[i] / (double)w->total;
            if (off > 1.001 || off < -1.001) {
                test_fail(__FILE__, __LINE__, "%u of weight %u is %.3f off after %u picks", i,
                          weights[i], off, n);
                n = picks;
                break;
            }
        }
    }
    free(had);
    wrr_destroy(w);
}

TEST(wrr_shares_hold_at_every_moment)
{
    struct rng rng;
    rng_init(&rng, 7);
    for (int round = 0; round < 200; round++) {
        uint32_t weights[40], count = 1 + rng_below(&rng, 40);
        uint32_t most = round % 4 == 0 ? UINT32_MAX : round % 4 == 1 ? 1000 : 5;
        for (uint32_t i = 0; i < count; i++)
            weights[i] = 1 + rng_below(&rng, most);
        expect_shares(weights, count, 500);
    }
}

TEST(wrr_order_repeats)
{
    const uint32_t weights[] = {3, 7, 5, 11, 1};
    struct wrr *w = make(weights, 5);
    uint8_t first[27];
    for (int i = 0; i < 27; i++)
        first[i] = (uint8_t)wrr_next(w);
    for (int i = 0; i < 27 * 10000; i++) {
        if (wrr_next(w) != first[i % 27]) {
            test_fail(__FILE__, __LINE__, "another order after %d picks", i);
            break;
        }
    }
    wrr_destroy(w);
}
