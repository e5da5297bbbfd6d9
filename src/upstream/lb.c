// Choosing an endpoint: least request by the power of two choices (Mitzenmacher 2001; Envoy's
// default), round robin, random; all weighted. Per worker, no shared state.
#include "core/check.h"
#include "upstream/cluster.h"
#include "upstream/wrr.h"

static struct endpoint *by_weight(const struct upstream_cluster *c, uint64_t draw)
{
    uint32_t low = 0, high = c->endpoint_count - 1;
    while (low < high) { // the first whose running total is above the draw
        uint32_t middle = low + (high - low) / 2;
        if (draw < c->weight_ends[middle])
            high = middle;
        else
            low = middle + 1;
    }
    return c->endpoints[low];
}

static struct endpoint *random_one(const struct upstream_cluster *c, struct rng *rng)
{
    if (c->alike)
        return c->endpoints[rng_below(rng, c->endpoint_count)];
    if (likely(c->total_weight <= UINT32_MAX))
        return by_weight(c, rng_below(rng, (uint32_t)c->total_weight));
    return by_weight(c, rng_next(rng) % c->total_weight); // the remainder's bias is below 2^-20
}

static struct endpoint *round_robin(struct upstream_cluster *c)
{
    return c->endpoints[c->wrr ? wrr_next(c->wrr) : c->rr_next++ % c->endpoint_count];
}

// The less loaded of two, load measured against weight. The draw has kept the weights: it stands
// where both are as busy, above all where nothing is to be done.
static struct endpoint *least_request(const struct upstream_cluster *c, struct rng *rng)
{
    struct endpoint *a = random_one(c, rng), *b = random_one(c, rng);
    uint64_t load_a = (uint64_t)a->active * b->weight;
    uint64_t load_b = (uint64_t)b->active * a->weight;
    return load_b < load_a ? b : a;
}

static struct endpoint *pick(struct upstream_cluster *c, struct rng *rng)
{
    switch (c->lb) {
    case LB_POLICY_ROUND_ROBIN:
        return round_robin(c);
    case LB_POLICY_RANDOM:
        return random_one(c, rng);
    default:
        return least_request(c, rng);
    }
}

static bool is_one_of(const struct endpoint *e, const struct endpoint *const *list, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (list[i] == e)
            return true;
    return false;
}

// Any other than those tried, whatever the policy would rather have; NULL: all were.
static struct endpoint *untried(struct upstream_cluster *c, struct rng *rng,
                                const struct endpoint *const *tried, uint32_t count)
{
    uint32_t at = rng_below(rng, c->endpoint_count);
    for (uint32_t i = 0; i < c->endpoint_count; i++, at++) {
        struct endpoint *e = c->endpoints[at % c->endpoint_count];
        if (!is_one_of(e, tried, count))
            return e;
    }
    return NULL;
}

struct endpoint *cluster_choose(struct upstream_cluster *c, struct rng *rng,
                                const struct endpoint *const *avoid, uint32_t avoid_count)
{
    if (c->endpoint_count == 0)
        return NULL;
    if (c->endpoint_count == 1)
        return c->endpoints[0];
    struct endpoint *e = pick(c, rng);
    // Envoy's host selection retry: a few more draws for another endpoint than those tried. Beyond
    // Envoy, one that is there is then found.
    for (int tries = 0; tries < 5 && is_one_of(e, avoid, avoid_count); tries++)
        e = pick(c, rng);
    struct endpoint *other =
        is_one_of(e, avoid, avoid_count) ? untried(c, rng, avoid, avoid_count) : NULL;
    return other ? other : e;
}
