// What a request gets, found by walking the documents as Istio words it:
//  - hosts of a server and of a VirtualService bound to its Gateway intersect, and the more
//  specific
//    name of a compatible pair stays; a VirtualService without a rule for the server brings none;
//  - of these domains the exact one is taken, else the longest wildcard, else `*`;
//  - the rules of all VirtualServices on it are tried oldest first, each one's up to its first
//    catch-all, and the catch-alls of all come last;
//  - the first rule that holds is taken.
#pragma once
#include "config/model.h"
#include "route/route.h"

struct chosen {                       // a rule of the documents
    const struct virtual_service *vs; // NULL: none, 404
    const struct http_route *rule;
    const struct http_match *block; // NULL: the rule has no match
};

// `number`: of the server's port.
struct chosen reference_find(struct arena *a, const struct model *m, uint32_t number,
                             const struct route_request *rq);
