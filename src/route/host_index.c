// Virtual host lookup. Envoy's order: the exact name, the longest wildcard suffix (the part that
// `*` stands for is never empty, and spans any number of labels), then `*`. An empty authority
// finds nothing, not even `*`. Pure; any worker.
#include "route/host_index.h"

#define NAME_MAX_LEN 255

static void table_init(struct host_table *t, struct arena *arena, uint32_t expected)
{
    uint32_t cap = 4;
    while (cap < expected * 2ull)
        cap *= 2;
    t->slots = arena_array(arena, struct host_slot, cap);
    t->mask = cap - 1;
}

// The part of a domain that is compared: all of it, or what follows the `*`.
static struct slice fixed_part(const struct virtual_host *vh)
{
    struct slice domain = virtual_host_domain_of(vh);
    return domain.len && domain.ptr[0] == '*' ? slice_from(domain, 1) : domain;
}

static struct host_slot *slot_of(const struct host_table *t, struct slice name, uint64_t hash)
{
    for (uint32_t at = (uint32_t)hash & t->mask;; at = (at + 1) & t->mask) {
        struct host_slot *s = &t->slots[at];
        if (!s->host || (s->hash == hash && slice_eq_nocase(fixed_part(s->host), name)))
            return s;
    }
}

static void table_put(struct host_table *t, const struct virtual_host *vh)
{
    struct slice name = fixed_part(vh);
    uint64_t hash = slice_hash_nocase(name);
    struct host_slot *s = slot_of(t, name, hash);
    if (s->host)
        return;
    *s = (struct host_slot){hash, vh};
    t->count++;
}

static const struct virtual_host *table_get(const struct host_table *t, struct slice name)
{
    return t->count ? slot_of(t, name, slice_hash_nocase(name))->host : NULL;
}

static bool is_wildcard(const struct virtual_host *vh)
{
    return vh->domain_len > 0 && vh->text[vh->domain_at] == '*';
}

struct host_index *host_index_create(struct arena *arena, struct virtual_host *const *hosts,
                                     uint32_t count)
{
    struct host_index *x = arena_new(arena, struct host_index);
    uint32_t wildcards = 0;
    for (uint32_t i = 0; i < count; i++)
        wildcards += is_wildcard(hosts[i]);
    table_init(&x->exact, arena, count - wildcards);
    table_init(&x->suffix, arena, wildcards);
    for (uint32_t i = 0; i < count; i++) {
        const struct virtual_host *vh = hosts[i];
        if (!is_wildcard(vh)) {
            table_put(&x->exact, vh);
        } else if (vh->domain_len == 1) {
            x->any = x->any ? x->any : vh;
        } else {
            uint32_t len = vh->domain_len - 1u;
            table_put(&x->suffix, vh);
            x->suffix_lengths[len / 8] |= (uint8_t)(1u << len % 8);
        }
    }
    return x;
}

// Whatever follows the last colon is the port, digits or not, unless it lies inside brackets.
static struct slice without_port(struct slice authority)
{
    const char *end = authority.ptr + authority.len;
    const char *colon = authority.len ? memrchr(authority.ptr, ':', authority.len) : NULL;
    if (!colon || memchr(colon, ']', (size_t)(end - colon)))
        return authority;
    return (struct slice){authority.ptr, (size_t)(colon - authority.ptr)};
}

// Longest first: from the left. A wildcard's suffix begins where a label or, for `*-x.com`, a part
// of one ends.
static const struct virtual_host *find_suffix(const struct host_index *x, struct slice name)
{
    for (size_t i = 1; i < name.len; i++) {
        size_t len = name.len - i;
        if (name.ptr[i] != '.' && name.ptr[i] != '-')
            continue;
        if (len > NAME_MAX_LEN || !(x->suffix_lengths[len / 8] & (1u << len % 8)))
            continue;
        const struct virtual_host *vh = table_get(&x->suffix, slice_from(name, i));
        if (vh)
            return vh;
    }
    return NULL;
}

const struct virtual_host *host_index_find(const struct host_index *x, struct slice authority)
{
    struct slice name = without_port(authority);
    if (authority.len == 0)
        return NULL;
    const struct virtual_host *vh = name.len <= NAME_MAX_LEN ? table_get(&x->exact, name) : NULL;
    if (!vh && x->suffix.count)
        vh = find_suffix(x, name);
    return vh ? vh : x->any;
}
