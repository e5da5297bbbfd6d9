// Choosing a filter chain and, on it, the rule and the target of a relay. Any thread; nothing is
// written.
#include "route/chain.h"

#define NAME_MAX_BYTES 255 // of a DNS name

// "a.b.c" -> "*.b.c", "*.c"
static const struct filter_chain *find_wildcard(const struct map *by_name, struct slice sni)
{
    char pattern[NAME_MAX_BYTES + 2];
    for (size_t i = 0; i < sni.len; i++) {
        size_t len = sni.len - i;
        if (sni.ptr[i] != '.' || i == 0)
            continue;
        pattern[0] = '*';
        memcpy(pattern + 1, sni.ptr + i, len);
        const struct filter_chain *c = map_get(by_name, (struct slice){pattern, len + 1});
        if (c)
            return c;
    }
    return NULL;
}

const struct filter_chain *chain_find(const struct map *by_name, const struct filter_chain *any,
                                      struct slice sni)
{
    if (sni.len == 0 || sni.len > NAME_MAX_BYTES)
        return any;
    const struct filter_chain *c = map_get(by_name, sni);
    if (!c)
        c = find_wildcard(by_name, sni);
    return c ? c : any;
}

static struct slice without_port(struct slice authority)
{
    if (authority.len && authority.ptr[0] == '[') {
        ptrdiff_t end = slice_find(authority, ']');
        return end < 0 ? authority : (struct slice){authority.ptr, (size_t)end + 1};
    }
    ptrdiff_t colon = slice_find(authority, ':');
    return colon < 0 ? authority : (struct slice){authority.ptr, (size_t)colon};
}

bool chain_covers(const struct filter_chain *c, const struct map *by_name,
                  const struct filter_chain *any, struct slice authority)
{
    char lower[NAME_MAX_BYTES];
    struct slice host = without_port(authority);
    if (by_name->count == 0)
        return true; // there is but one
    for (uint32_t i = 0; i < c->name_count; i++)
        if (slice_eq_nocase(c->names[i], host))
            return true;
    if (host.len > sizeof(lower))
        return c == any;
    for (size_t i = 0; i < host.len; i++)
        lower[i] =
            (char)(host.ptr[i] >= 'A' && host.ptr[i] <= 'Z' ? host.ptr[i] | 0x20 : host.ptr[i]);
    return chain_find(by_name, any, (struct slice){lower, host.len}) == c;
}

const struct l4_rule *chain_rule(const struct filter_chain *c, const struct addr *local)
{
    for (uint32_t i = 0; i < c->rule_count; i++) {
        const struct l4_rule *r = &c->rules[i];
        for (uint32_t k = 0; k < r->subnet_count; k++)
            if (addr_prefix_contains(&r->subnets[k], local))
                return r;
        if (r->subnet_count == 0)
            return r;
    }
    return NULL;
}

const struct l4_target *l4_pick(const struct l4_rule *r, uint32_t draw)
{
    uint32_t i = 0;
    while (i + 1 < r->target_count && draw >= r->targets[i].weight_end)
        i++;
    return &r->targets[i];
}
