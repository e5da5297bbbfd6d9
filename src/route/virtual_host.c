// Building virtual hosts, and what listings ask of them. Control thread builds, anyone reads.
#include "route/virtual_host.h"
#include "core/check.h"
#include <stdio.h>

struct virtual_host *virtual_hosts_create(struct arena *arena, uint32_t count)
{
    uintptr_t at = (uintptr_t)arena_alloc(arena, sizeof(struct virtual_host) * count + 64);
    return (struct virtual_host *)((at + 63) & ~(uintptr_t)63);
}

void virtual_host_set_domain(struct virtual_host *vh, struct arena *arena, struct slice domain,
                             uint32_t port)
{
    char text[300];
    bool v6 = slice_find(domain, ':') >= 0 && domain.ptr[0] != '[';
    int n = snprintf(text, sizeof(text), v6 ? "[%.*s]:%u" : "%.*s:%u", SLICE_FMT(domain), port);
    check(n > 0 && (size_t)n < sizeof(text)); // the domain was bounded by the caller
    vh->text_len = (uint16_t)n;
    vh->domain_len = (uint16_t)domain.len;
    vh->domain_at = v6;
    if (n <= VIRTUAL_HOST_INLINE) {
        memcpy(vh->inline_text, text, (size_t)n);
        vh->text = vh->inline_text;
    } else {
        vh->text = arena_dup(arena, (struct slice){text, (size_t)n}).ptr;
    }
}

bool virtual_host_https_redirect(const struct virtual_host *vh)
{
    return vh->https_redirect;
}

struct slice virtual_host_name(const struct virtual_host *vh)
{
    return (struct slice){vh->text, vh->text_len};
}

struct slice virtual_host_domain(const struct virtual_host *vh)
{
    return virtual_host_domain_of(vh);
}

uint32_t virtual_host_route_count(const struct virtual_host *vh)
{
    return vh->rules ? vh->rules->count : 0;
}

const struct route *virtual_host_route(const struct virtual_host *vh, uint32_t i)
{
    return i < virtual_host_route_count(vh) ? vh->rules->rules[i].route : NULL;
}
