// Compiles documents written in a test, and asks the result what a request would get. The model is
// freed before anything is asked, so that a borrowed string shows under a sanitizer.
#pragma once
#include "config/load.h"
#include "route/route.h"

struct compiled {
    struct arena arena;
    struct findings findings;
    struct route_config config;
};

// `labels`: "k=v,k=v" or NULL. TLS to destinations has contexts where its sni is not "broken".
void compiled_init(struct compiled *c, const char *yaml, const char *labels);
void compiled_fini(struct compiled *c);

const struct listener_config *compiled_listener(const struct compiled *c, const char *name);
const struct cluster_config *compiled_cluster(const struct compiled *c, const char *name);
// "10.0.0.1:80 10.0.0.2:80" of a cluster, "no cluster" without one.
const char *compiled_endpoints(const struct compiled *c, const char *name);
bool compiled_has_finding(const struct compiled *c, const char *part);

// What "GET http://HOST/PATH" gets on a listener ("0.0.0.0_80" when NULL): "404", "https" (is
// redirected), or the name of the route's first cluster, or the route's name where it has one.
const char *compiled_answer(const struct compiled *c, const char *listener, const char *host,
                            const char *path);
const struct route *compiled_route(const struct compiled *c, const char *host,
                                   const struct route_request *rq);
// A request for http://HOST/PATH?QUERY without headers.
struct route_request compiled_request(const char *host, const char *path);
