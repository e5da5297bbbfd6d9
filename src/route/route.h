// Routes as compiled from Gateways and VirtualServices, and matching. Pure: no I/O, no clock. A
// table is immutable once compiled and is read by all workers.
//
// Order is Istio's: the virtual host by exact name, then the longest `*.suffix`, then `*`; inside
// it the first rule that matches, while exact and prefix paths are indexed (see path_index.h).
#pragma once
#include "config/finding.h"
#include "config/model.h"
#include "core/err.h"
#include "core/map.h"
#include "route/chain.h"
#include "route/cluster_config.h"
#include "route/regex.h"

// ---- what a request looks like to the matcher
struct route_header {
    struct slice name; // lower case
    struct slice value;
};
struct route_request {
    struct slice authority;      // Host as received, port included
    struct slice path;           // normalised, without query and fragment
    struct slice query;          // after '?', empty if none
    struct slice method, scheme; // scheme "http" or "https"
    const struct route_header *headers;
    uint32_t header_count;
    uint32_t worker; // for regular expressions
};

// ---- what is done with it
enum route_action { ROUTE_FORWARD, ROUTE_REDIRECT, ROUTE_DIRECT_RESPONSE, ROUTE_NO_ACTION };

struct header_value {
    struct slice name;  // lower case
    struct slice value; // Envoy's %OPERATORS% as written, `%%` as one percent sign
};
// headers.request and headers.response, applied as Envoy does: remove, then set (overwrite), then
// add (append)
struct header_edit {
    const struct header_value *set, *add;
    const struct slice *remove;
    uint32_t set_count, add_count, remove_count;
};
struct route_target {                     // an entry of http[].route that has a weight
    const struct cluster_config *cluster; // NULL: unknown destination -> 503
    struct slice cluster_name;
    uint32_t weight, weight_end; // weight_end: running total
    struct header_edit request, response;
    bool has_edits;
    struct slice rewrite_authority; // Host set by the destination's headers; empty where the route
                                    // sets it
};
struct retry_policy {             // http[].retries
    uint32_t attempts;            // retries after the first try; default 2, 0 = none
    uint64_t per_try_timeout_ns;  // perTryTimeout, 0 = none
    uint64_t backoff_ns;          // backoff: the base, default 25 ms
    uint32_t on;                  // retryOn: RETRY_* below
    const uint16_t *status_codes; // retryOn: the numbers among it
    uint32_t status_count;
    bool previous_host_avoided; // retryIgnorePreviousHosts, default true
};
#define RETRY_5XX (1u << 0)
#define RETRY_GATEWAY_ERROR (1u << 1)
#define RETRY_RESET (1u << 2)
#define RETRY_CONNECT_FAILURE (1u << 3)
#define RETRY_RETRIABLE_4XX (1u << 4)
#define RETRY_REFUSED_STREAM (1u << 5)
#define RETRY_GRPC_CANCELLED (1u << 6)
#define RETRY_GRPC_DEADLINE (1u << 7)
#define RETRY_GRPC_EXHAUSTED (1u << 8)
#define RETRY_GRPC_UNAVAILABLE (1u << 9)
#define RETRY_GRPC_INTERNAL (1u << 10)
#define RETRY_RESET_BEFORE_REQUEST (1u << 11)

// One match block of one HTTPRoute (networking.istio.io VirtualService.http[]).
struct route {
    struct slice name;            // name(.match[].name), may be empty
    struct slice virtual_service; // "name.namespace"
    struct pos pos;               // of the rule in its document
    uint32_t stat_id;             // dense over the whole table
    enum route_action action;
    // route
    struct route_target *targets;
    uint32_t target_count, total_weight;
    struct header_edit request, response; // headers: the route's own
    bool has_edits;
    bool target_edits_first; // weighted: Envoy applies the target's before the route's, else after
    uint64_t timeout_ns;     // timeout, 0 = none
    struct retry_policy retry;
    // rewrite
    bool rewrite_uri; // uri: a prefix match replaces the matched prefix, others the whole path
    bool rewrite_is_prefix;
    uint32_t matched_prefix_len; // of this match when it is by prefix
    struct slice rewrite_uri_text;
    struct slice rewrite_authority;  // authority, or a Host among the headers; empty = as it came
    struct regex *rewrite_regex;     // uriRegexRewrite.match, borrowed from the config
    struct slice rewrite_regex_text; // uriRegexRewrite.rewrite
    // redirect
    struct {
        struct slice uri, authority, scheme;
        struct slice prefix_rewrite; // prefixRewrite: swaps the matched prefix
        bool uri_given, prefix_given;
        bool port_from_request; // derivePort: FROM_REQUEST_PORT
        uint32_t port;          // port, 0 = none
        uint16_t code;          // redirectCode, 301 by default
    } redirect;
    // directResponse
    uint16_t direct_status;
    struct slice direct_body;
    struct slice match_text; // for listings; rule_text.h
    struct slice stat_label; // for its statistics, where it has no name
};

struct virtual_host; // opaque; see virtual_host_* below

struct route_table {   // one per HTTP listener or HTTPS server
    struct slice name; // "http.8080"
    struct virtual_host **hosts;
    uint32_t host_count;
    void *index; // host index, opaque
};

struct listener_config {
    struct slice name;    // "0.0.0.0_8080"
    struct addr addr;     // what is bound: the Service's targetPort where one maps it
    uint32_t server_port; // Gateway's server.port.number
    enum server_protocol protocol;
    bool tls; // the chain is chosen by the ClientHello's server name
    bool udp;
    struct filter_chain **chains; // one or more
    uint32_t chain_count;
    struct map by_name;             // server name -> struct filter_chain *
    const struct filter_chain *any; // for connections that no name is for; may be NULL
    struct slice gateways;          // "istio-system/bookinfo-gateway,…" for listings
    struct pos pos;                 // of the port in the first server that asks for it
    uint32_t stat_id;               // dense over listeners
};

struct route_config { // everything compiled
    struct listener_config **listeners;
    uint32_t listener_count;
    struct cluster_table clusters;
    uint32_t route_count; // stat_ids of routes are below this
    // destroyed with the config
    struct regex **regexes;
    uint32_t regex_count;
};

struct compile_options {
    struct label_map labels; // --labels; empty = serve every Gateway
    bool any_alpn;           // AUTO_PASSTHROUGH for clients of any protocol
    // What a server that terminates TLS does it with; NULL: its connections are closed. The context
    // must outlive what is compiled.
    struct tls_ctx *(*server_tls)(void *arg, const struct gateway *g, const struct server *s);
    void *server_tls_arg;
    // What a destination is connected to with, of a mode other than DISABLE; NULL: it cannot be.
    struct tls_ctx *(*client_tls)(void *arg, const struct client_tls *t);
    void *client_tls_arg;
};

// Compiles everything into *out, allocated from `arena` (strings of the model are copied, so the
// model may be freed). Findings: what was left out and why (TCP+HTTP on one port, duplicate hosts,
// …).
enum err route_compile(const struct model *m, const struct compile_options *options,
                       struct arena *arena, struct findings *findings,
                       struct route_config *out) must_use;
void route_config_fini(struct route_config *rc); // regular expressions; memory is the arena's

// The virtual host for an authority (its port is ignored), NULL = none (404).
const struct virtual_host *route_find_host(const struct route_table *t, struct slice authority);
// The first rule that matches, NULL = none (404).
const struct route *route_match(const struct virtual_host *vh, const struct route_request *rq);
// Which target by weight: `draw` is uniform below route->total_weight.
const struct route_target *route_pick(const struct route *r, uint32_t draw);
// httpsRedirect of a plaintext server applies to the whole host before any route.
bool virtual_host_https_redirect(const struct virtual_host *vh);
struct slice virtual_host_name(const struct virtual_host *vh);   // "bookinfo.com:80"
struct slice virtual_host_domain(const struct virtual_host *vh); // "bookinfo.com"
uint32_t virtual_host_route_count(const struct virtual_host *vh);
const struct route *virtual_host_route(const struct virtual_host *vh, uint32_t i); // in order

// Path and query after rewriting, into out; the query is kept. ERR_LIMIT when it does not fit.
enum err route_rewrite_path(const struct route *r, const struct route_request *rq, char *out,
                            size_t cap, size_t *len) must_use;
// The Location of a redirect. `server_port`: the listener's server number; scheme of the request.
enum err route_redirect_location(const struct route *r, const struct route_request *rq,
                                 uint32_t server_port, char *out, size_t cap, size_t *len) must_use;

// RFC 3986 path normalisation as Istio's gateway does it (measured: features.md 2.5,
// istio-measured.md "Paths"): dot segments removed, %41 -> A for unreserved bytes, %2e handled,
// backslash -> slash, fragment dropped, `//` and %2F kept. ERR_SYNTAX: answer 400 (NUL, %00, no
// leading slash, raw non-ASCII or control). `target` is origin-form; out needs target.len bytes.
// *path_len: where the query begins.
enum err route_normalize_path(struct slice target, char *out, size_t *out_len,
                              size_t *path_len) must_use;
