// The `hosts` of a Gateway's server, "[ns/]dnsName", and which names of a VirtualService meet them.
// Lives in the compilation's scratch arena. Control thread.
#pragma once
#include "route/compile_hosts.h"

struct server_host {
    struct slice ns;          // whose VirtualServices are admitted, empty = any
    struct slice name;        // lower case
    struct server_host *same; // another one with this name
};

struct server_hosts {
    struct server_host *items;
    uint32_t count;
    struct map by_name;                 // name -> struct server_host *
    const struct server_host **by_tail; // ordered by the reversed name
};

void server_hosts_init(struct compile *c, struct server_hosts *h, const struct server_ref *ref);
bool server_host_admits(const struct server_host *h, struct slice ns);
// Does one that admits `ns` stand for all that `name` (lower case, may be a wildcard) stands for?
bool server_hosts_cover(const struct server_hosts *h, struct slice name, struct slice ns);
// Those that a wildcard covers, whatever they admit: *count of them, adjacent in by_tail.
const struct server_host *const *server_hosts_below(const struct server_hosts *h,
                                                    struct slice wildcard, uint32_t *count);
