// From the servers that share a port to one route table with its virtual hosts.
#pragma once
#include "route/compile.h"

struct server_ref { // a server of a Gateway, as one of those on its port
    const struct gateway *gateway;
    const struct server *server;
    const struct label_map *labels; // the node's, for sourceLabels
    struct server_ref *next;
};

void compile_hosts_init(struct compile *c); // which VirtualServices each Gateway has
struct route_table *compile_route_table(struct compile *c, struct slice name,
                                        const struct server_ref *servers, uint32_t server_count);
