// What one exchange adds to the statistics of its listener, its route and its cluster. Owns
// nothing; the worker's thread, each number in that worker's own table.
#include "proxy/proxy_internal.h"

static void record(struct stat_entry *e, const struct exchange *x)
{
    uint32_t status = x->response_status;
    counter_add(&e->rq_total, 1);
    if (status >= 100 && status < 600)
        counter_add(&e->rq_class[status / 100 - 1], 1);
    for (uint32_t flags = x->response_flags; flags; flags &= flags - 1)
        counter_add(&e->flag[__builtin_ctz(flags)], 1);
    counter_add(&e->request_bytes, x->request_body_bytes);
    counter_add(&e->response_bytes, x->response_body_bytes);
    histogram_record(&e->latency, x->end_ns > x->start_ns ? x->end_ns - x->start_ns : 0);
}

static struct stat_entry *listener_entry(const struct proxy_exchange *px)
{
    const struct listener_config *l = px->listener_cfg;
    if (!px->snapshot)
        return px->kept.listener;
    return l ? stat_get(px->pw->stats, px->snapshot->listener_stats[l->stat_id]) : NULL;
}

static struct stat_entry *cluster_entry(const struct proxy_exchange *px)
{
    const struct cluster_config *c = px->cluster;
    if (!px->snapshot)
        return px->kept.cluster;
    return c ? stat_get(px->pw->stats, px->snapshot->cluster_stats[c->index]) : NULL;
}

static struct stat_entry *route_entry(const struct proxy_exchange *px)
{
    const struct route *r = px->route;
    if (!px->snapshot)
        return px->kept.route;
    return r ? stat_get(px->pw->stats, px->snapshot->route_stats[r->stat_id]) : NULL;
}

void proxy_count_begin(struct exchange *x)
{
    struct stat_entry *e = listener_entry(proxy_of(x));
    worker_count(x->worker, downstream_rq_active);
    if (e)
        counter_add(&e->rq_active, 1);
}

void proxy_count_forward(struct exchange *x)
{
    struct stat_entry *e = cluster_entry(proxy_of(x));
    if (e)
        counter_add(&e->rq_active, 1);
}

static struct stat_entry *hold(struct stat_entry *e)
{
    if (e)
        stat_hold(e);
    return e;
}

void proxy_count_keep(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    px->kept.listener = hold(listener_entry(px));
    px->kept.route = hold(route_entry(px));
    px->kept.cluster = hold(cluster_entry(px));
}

static void let_go(struct proxy_kept *k)
{
    struct stat_entry *all[] = {k->listener, k->route, k->cluster};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (all[i])
            stat_release(all[i]);
}

void proxy_count_end(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    struct stat_entry *e = listener_entry(px);
    uint32_t retries = px->attempts > 1 ? px->attempts - 1 : 0;
    if (e) {
        record(e, x);
        counter_add(&e->rq_active, (uint64_t)-1);
    }
    if ((e = route_entry(px))) {
        record(e, x);
        counter_add(&e->rq_retry, retries);
    }
    if ((e = cluster_entry(px))) {
        record(e, x);
        counter_add(&e->rq_retry, retries);
        counter_add(&e->rq_active, (uint64_t)-1);
    }
    if (!px->snapshot)
        let_go(&px->kept);
    worker_count_n(x->worker, downstream_rq_active, (uint64_t)-1);
}

// It never had a head: all that is known of it is where it came in.
void proxy_count_refused(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    px->snapshot = proxy_listener_snapshot(px->listener);
    px->listener_cfg = snapshot_listener(px->snapshot, px->listener->id);
    worker_count(x->worker, downstream_rq_total);
    struct stat_entry *e = listener_entry(px);
    if (e)
        record(e, x);
}
