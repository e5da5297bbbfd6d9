// A tunnel may last for days: it does not keep the configuration it began with in memory. What is
// still asked of that at its end is noted here, strings of the heads included (the access log
// prints them), then the snapshot is let go. Where there is no room for the notes, the snapshot
// stays.
#include "proxy/proxy_internal.h"

static bool within(const char *p, const char *from, const char *to)
{
    return from && (uintptr_t)p >= (uintptr_t)from && (uintptr_t)p < (uintptr_t)to;
}

static bool keep(struct exchange *x, struct slice *s)
{
    if (s->len == 0 || within(s->ptr, (const char *)x, x->arena_end) ||
        within(s->ptr, x->big, x->big_end))
        return true;
    char *copy = proxy_alloc(x, s->len);
    if (!copy)
        return false;
    memcpy(copy, s->ptr, s->len);
    s->ptr = copy;
    return true;
}

static bool keep_fields(struct exchange *x, struct head *h)
{
    for (uint32_t i = 0; i < h->field_count; i++) {
        struct field *f = &h->fields[i];
        struct slice name = field_name(f), value = field_value(f);
        if (!keep(x, &name) || !keep(x, &value))
            return false;
        f->name = name.ptr;
        f->value = value.ptr;
    }
    return true;
}

static bool keep_strings(struct exchange *x, struct proxy_kept *k)
{
    struct head *h = &x->request;
    return keep(x, &k->cluster_name) && keep(x, &k->route_name) && keep(x, &h->method) &&
           keep(x, &h->scheme) && keep(x, &h->authority) && keep(x, &h->target) &&
           keep(x, &h->path) && keep(x, &h->query) && keep_fields(x, h) &&
           keep_fields(x, &x->response);
}

void proxy_tunnel_let_go(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    px->kept =
        (struct proxy_kept){.cluster_name = px->cluster->name, .route_name = px->route->name};
    if (!keep_strings(x, &px->kept))
        return;
    proxy_count_keep(x);
    proxy_release_snapshot(x);
    px->listener_cfg = NULL;
    px->route = NULL;
    px->target = NULL;
    px->cluster = NULL;
}
