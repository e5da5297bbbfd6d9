// A virtual host: one domain of a route table and its rules. Immutable, in the snapshot's arena.
#pragma once
#include "route/rule_set.h"

// A cache line, like a rule: names that are not long are stored inline, so that a lookup costs a
// miss for the slot and one for the host.
#define VIRTUAL_HOST_INLINE 40

struct virtual_host {
    const struct rule_set *rules; // NULL: none (a host that is only redirected)
    const char *text;             // "bookinfo.com:80", inline_text or the arena
    uint16_t text_len, domain_len;
    uint8_t domain_at; // 1 where an IPv6 domain is bracketed in the name
    bool https_redirect;
    char inline_text[VIRTUAL_HOST_INLINE];
};
_Static_assert(sizeof(struct virtual_host) == 64, "a virtual host is one cache line");

// `count` of them, zeroed, each on a line of its own.
struct virtual_host *virtual_hosts_create(struct arena *arena, uint32_t count);
void virtual_host_set_domain(struct virtual_host *vh, struct arena *arena, struct slice domain,
                             uint32_t port); // domain: lower case, at most 255 bytes

static inline struct slice virtual_host_domain_of(const struct virtual_host *vh)
{
    return (struct slice){vh->text + vh->domain_at, vh->domain_len};
}
