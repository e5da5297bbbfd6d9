// What `sluice explain` finds out about one request, and its two ways of saying so. Plain data;
// main thread.
#pragma once
#include "admin/cli.h"

struct explain_verdict { // on one listener
    const struct listener_config *listener;
    const struct filter_chain *chain;  // NULL: none is for the server name
    const struct virtual_host *host;   // NULL: none is for the host, or the chain is no HTTP
    const struct route *route;         // NULL: none matches, or it did not come so far
    bool led;                          // the request meets a rule, a relay or a redirect
    uint32_t status;                   // that the gateway answers by itself; 0 = it does not
    const char *answer, *location;     // the reason, and of a redirect; NULL = none
    const char *path_sent, *host_sent; // where they are rewritten
};

struct explain {
    const struct cli_options *o;
    struct route_config routes;
    struct route_request rq;
    struct arena arena;  // of all that is here
    struct slice sni;    // lower case
    struct slice target; // normalised; as sent where it is not valid
    struct explain_verdict *verdicts;
    uint32_t count;
    uint32_t status;    // where no listener was asked
    const char *answer; // and why
};

// Why nobody can be reached there; NULL when somebody can.
const char *explain_unreachable(const struct cluster_config *c);

void explain_print(const struct explain *e); // to standard output
void explain_print_json(const struct explain *e);
