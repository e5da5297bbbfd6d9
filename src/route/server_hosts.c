// Looking up the hosts of a server both ways without walking them: what covers a name is found by
// the name's own suffixes, what a wildcard covers lies together when names are read from the end.
#include "route/server_hosts.h"
#include <stdlib.h>

static void split(struct compile *c, struct slice text, struct slice gateway_ns,
                  struct server_host *out)
{
    ptrdiff_t slash = slice_find(text, '/');
    *out = (struct server_host){.name = text};
    if (slash >= 0) {
        out->ns = (struct slice){text.ptr, (size_t)slash};
        out->name = slice_from(text, (size_t)slash + 1);
    }
    if (slice_eq(out->ns, SLICE(".")))
        out->ns = gateway_ns;
    else if (slice_eq(out->ns, SLICE("*")))
        out->ns = (struct slice){NULL, 0};
    out->name = compile_lower(&c->scratch, out->name);
}

// As slice_cmp of the reversed names.
static int tail_cmp(struct slice a, struct slice b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    for (size_t i = 1; i <= n; i++) {
        unsigned char x = (unsigned char)a.ptr[a.len - i], y = (unsigned char)b.ptr[b.len - i];
        if (x != y)
            return x < y ? -1 : 1;
    }
    return (a.len > b.len) - (a.len < b.len);
}

static int by_tail(const void *a, const void *b)
{
    const struct server_host *x = *(const struct server_host *const *)a;
    const struct server_host *y = *(const struct server_host *const *)b;
    return tail_cmp(x->name, y->name);
}

void server_hosts_init(struct compile *c, struct server_hosts *h, const struct server_ref *ref)
{
    const struct string_list *hosts = &ref->server->hosts;
    h->count = hosts->count;
    h->items = arena_array(&c->scratch, struct server_host, hosts->count);
    h->by_tail = arena_array(&c->scratch, const struct server_host *, hosts->count);
    map_init(&h->by_name, &c->scratch, hosts->count);
    for (uint32_t i = 0; i < hosts->count; i++) {
        split(c, hosts->items[i].text, ref->gateway->meta.ns, &h->items[i]);
        h->items[i].same = map_put(&h->by_name, h->items[i].name, &h->items[i]);
        h->by_tail[i] = &h->items[i];
    }
    qsort(h->by_tail, h->count, sizeof(h->by_tail[0]), by_tail);
}

bool server_host_admits(const struct server_host *h, struct slice ns)
{
    return h->ns.len == 0 || slice_eq(h->ns, ns);
}

static bool any_admits(const struct server_host *h, struct slice ns)
{
    for (; h; h = h->same)
        if (server_host_admits(h, ns))
            return true;
    return false;
}

// A wildcard's suffix begins where a label or, for `*-x.com`, a part of one ends.
bool server_hosts_cover(const struct server_hosts *h, struct slice name, struct slice ns)
{
    char pattern[256];
    if (any_admits(map_get(&h->by_name, name), ns) ||
        any_admits(map_get(&h->by_name, SLICE("*")), ns))
        return true;
    for (size_t i = 0; i < name.len; i++) {
        size_t len = name.len - i;
        if ((name.ptr[i] != '.' && name.ptr[i] != '-') || len + 1 > sizeof(pattern))
            continue;
        pattern[0] = '*';
        memcpy(pattern + 1, name.ptr + i, len);
        if (any_admits(map_get(&h->by_name, (struct slice){pattern, len + 1}), ns))
            return true;
    }
    return false;
}

const struct server_host *const *server_hosts_below(const struct server_hosts *h,
                                                    struct slice wildcard, uint32_t *count)
{
    struct slice tail = slice_from(wildcard, 1);
    uint32_t first = 0, end = h->count;
    while (first < end) {
        uint32_t middle = first + (end - first) / 2;
        if (tail_cmp(h->by_tail[middle]->name, tail) < 0)
            first = middle + 1;
        else
            end = middle;
    }
    for (end = first; end < h->count; end++)
        if (!slice_has_suffix_nocase(h->by_tail[end]->name, tail))
            break;
    *count = end - first;
    return h->by_tail + first;
}
