// From the servers that share a port to one route table with its virtual hosts.
#pragma once
#include "route/compile.h"

struct server_ref { // a server of a Gateway, as one of those on its port
    const struct gateway *gateway;
    const struct server *server;
    const struct label_map *labels; // the node's, for sourceLabels
    struct server_ref *next;
};

struct vs_list { // the VirtualServices of one Gateway, oldest first
    const struct virtual_service **items;
    uint32_t count, cap;
};
const struct vs_list *compile_gateway_services(const struct compile *c, const struct gateway *g);
// Whether a VirtualService may be used by a Gateway of that namespace (exportTo).
bool compile_vs_visible(const struct virtual_service *vs, struct slice gateway_ns);
// Whether matches that name gateways mean this one.
bool compile_names_gateway(const struct string_list *gateways, const struct virtual_service *vs,
                           const struct gateway *g);
void compile_hosts_init(struct compile *c); // which VirtualServices each Gateway has
struct route_table *compile_route_table(struct compile *c, struct slice name,
                                        const struct server_ref *servers, uint32_t server_count);
