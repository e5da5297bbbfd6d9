// Actions of routes, as Istio's TranslateRoute, ApplyRedirect and ConvertPolicy make them. Control
// thread; everything is copied into the snapshot's arena.
#include "route/compile_action.h"
#include <stdlib.h>

#define DEFAULT_RETRIES 2
#define DEFAULT_BACKOFF_NS UINT64_C(25000000)
#define DEFAULT_RETRY_ON \
    (RETRY_CONNECT_FAILURE | RETRY_REFUSED_STREAM | RETRY_GRPC_UNAVAILABLE | RETRY_GRPC_CANCELLED)

static struct slice keep(struct compile *c, struct slice s)
{
    return s.len ? arena_dup(c->out, s) : (struct slice){NULL, 0};
}

// ---- headers

// `%%` stands for a percent sign; operators (%PROTOCOL%) stay as they are.
static struct slice keep_value(struct compile *c, struct slice s)
{
    if (slice_find(s, '%') < 0)
        return keep(c, s);
    char *to = arena_alloc(c->out, s.len + 1);
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        to[n++] = s.ptr[i];
        i += s.ptr[i] == '%' && i + 1 < s.len && s.ptr[i + 1] == '%';
    }
    return (struct slice){to, n};
}

static bool is_host(struct slice name)
{
    return slice_eq_nocase(name, SLICE("host")) || slice_eq_nocase(name, SLICE(":authority"));
}

static bool is_internal(struct slice name)
{
    return (name.len && name.ptr[0] == ':') || is_host(name);
}

static int header_order(const void *a, const void *b)
{
    const struct header_value *x = a, *y = b;
    return slice_cmp(x->name, y->name);
}

// Host is no header that is set: it becomes the authority of the request.
static uint32_t copy_values(struct compile *c, const struct label_map *in,
                            const struct header_value **out, struct slice *authority)
{
    struct header_value *to = arena_array(c->out, struct header_value, in->count);
    uint32_t n = 0;
    for (uint32_t i = 0; i < in->count; i++) {
        const struct label *l = &in->items[i];
        if (is_host(l->key) && authority)
            *authority = keep_value(c, l->value);
        if (!is_internal(l->key))
            to[n++] = (struct header_value){compile_lower(c->out, l->key), keep_value(c, l->value)};
    }
    qsort(to, n, sizeof(*to), header_order);
    *out = to;
    return n;
}

static bool copy_edit(struct compile *c, const struct header_operations *in,
                      struct header_edit *out, struct slice *authority)
{
    if (!in)
        return false;
    struct slice added = {NULL, 0};
    out->set_count = copy_values(c, &in->set, &out->set, authority);
    out->add_count = copy_values(c, &in->add, &out->add, &added);
    if (authority && authority->len == 0)
        *authority = added;
    struct slice *remove = arena_array(c->out, struct slice, in->remove.count);
    for (uint32_t i = 0; i < in->remove.count; i++)
        if (!is_internal(in->remove.items[i].text))
            remove[out->remove_count++] = compile_lower(c->out, in->remove.items[i].text);
    out->remove = remove;
    return out->set_count || out->add_count || out->remove_count;
}

static bool copy_headers(struct compile *c, const struct headers *in, struct header_edit *request,
                         struct header_edit *response, struct slice *authority)
{
    if (!in)
        return false;
    bool edits = copy_edit(c, in->request, request, authority);
    return copy_edit(c, in->response, response, NULL) || edits;
}

// ---- destinations

static void set_target(struct compile *c, struct route_target *t, const struct virtual_service *vs,
                       const struct http_route_destination *in, uint32_t listener_port)
{
    t->cluster = compile_destination(c, &in->destination, vs->meta.ns, listener_port, false,
                                     &t->cluster_name);
    t->has_edits = copy_headers(c, in->headers, &t->request, &t->response, &t->rewrite_authority);
}

// Istio joins a lone destination's operations to its route's, and Envoy removes before it sets.
static void hoist_removals(struct compile *c, struct header_edit *route, struct header_edit *target)
{
    if (target->remove_count == 0)
        return;
    struct slice *all =
        arena_array(c->out, struct slice, route->remove_count + target->remove_count);
    uint32_t n = 0;
    for (uint32_t i = 0; i < route->remove_count; i++)
        all[n++] = route->remove[i];
    for (uint32_t i = 0; i < target->remove_count; i++)
        all[n++] = target->remove[i];
    route->remove = all;
    route->remove_count = n;
    target->remove_count = 0;
}

static void join_lone_target(struct compile *c, struct route *r)
{
    struct route_target *t = &r->targets[0];
    hoist_removals(c, &r->request, &t->request);
    hoist_removals(c, &r->response, &t->response);
    r->has_edits |= r->request.remove_count || r->response.remove_count;
    if (r->rewrite_authority.len == 0)
        r->rewrite_authority = t->rewrite_authority;
    t->rewrite_authority = (struct slice){NULL, 0};
}

static void set_targets(struct compile *c, struct route *r, const struct virtual_service *vs,
                        const struct http_route *in, uint32_t listener_port)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < in->route_count; i++)
        total += in->routes[i].weight > 0 ? (uint32_t)in->routes[i].weight : 0;
    r->targets = arena_array(c->out, struct route_target, in->route_count);
    for (uint32_t i = 0; i < in->route_count; i++) {
        uint32_t weight = compile_weight(in->routes[i].weight, in->route_count, total);
        if (weight == 0)
            continue;
        struct route_target *t = &r->targets[r->target_count++];
        set_target(c, t, vs, &in->routes[i], listener_port);
        t->weight = weight;
        r->total_weight += weight;
        t->weight_end = r->total_weight;
        // The route's own authority wins over the destination's, as Envoy applies it last.
        if (r->rewrite_authority.len)
            t->rewrite_authority = (struct slice){NULL, 0};
    }
    r->target_edits_first = in->route_count > 1;
    if (in->route_count == 1)
        join_lone_target(c, r);
}

// ---- retries

static uint32_t retry_flag(struct slice name)
{
    static const struct {
        const char *name;
        uint32_t flag;
    } table[] = {
        {"5xx", RETRY_5XX},
        {"gateway-error", RETRY_GATEWAY_ERROR},
        {"reset", RETRY_RESET},
        {"connect-failure", RETRY_CONNECT_FAILURE},
        {"retriable-4xx", RETRY_RETRIABLE_4XX},
        {"refused-stream", RETRY_REFUSED_STREAM},
        {"cancelled", RETRY_GRPC_CANCELLED},
        {"deadline-exceeded", RETRY_GRPC_DEADLINE},
        {"resource-exhausted", RETRY_GRPC_EXHAUSTED},
        {"unavailable", RETRY_GRPC_UNAVAILABLE},
        {"internal", RETRY_GRPC_INTERNAL},
        {"reset-before-request", RETRY_RESET_BEFORE_REQUEST},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (slice_eq(name, slice_of(table[i].name)))
            return table[i].flag;
    return 0; // config says so when it is no condition at all
}

// Names and status codes, mixed, separated by commas.
static void set_retry_on(struct compile *c, struct retry_policy *p, struct slice text)
{
    uint16_t *codes = arena_array(c->out, uint16_t, text.len / 2 + 1);
    struct slice rest = text, part;
    p->on = 0;
    while (slice_split(&rest, ',', &part)) {
        uint64_t code;
        part = slice_trim(part);
        if (slice_to_u64(part, &code) && code >= 100 && code <= 599)
            codes[p->status_count++] = (uint16_t)code;
        else
            p->on |= retry_flag(part);
    }
    p->status_codes = codes;
}

static void set_retries(struct compile *c, struct retry_policy *p, const struct http_retry *in)
{
    *p = (struct retry_policy){.attempts = DEFAULT_RETRIES,
                               .backoff_ns = DEFAULT_BACKOFF_NS,
                               .on = DEFAULT_RETRY_ON,
                               .previous_host_avoided = true};
    if (!in)
        return;
    p->attempts = in->attempts > 0 ? (uint32_t)in->attempts : 0;
    if (in->retry_on.len)
        set_retry_on(c, p, in->retry_on);
    if (in->per_try_timeout_ns != DURATION_UNSET)
        p->per_try_timeout_ns = in->per_try_timeout_ns;
    if (in->backoff_ns != DURATION_UNSET && in->backoff_ns)
        p->backoff_ns = in->backoff_ns;
    p->previous_host_avoided = in->retry_ignore_previous_hosts != 0;
}

// ---- rewrite

static void set_rewrite(struct compile *c, struct route *r, const struct virtual_service *vs,
                        const struct http_rewrite *in)
{
    if (!in)
        return;
    if (in->authority.len)
        r->rewrite_authority = keep(c, in->authority);
    if (in->uri_regex) {
        const struct regex_rewrite *x = in->uri_regex;
        char error[256];
        r->rewrite_regex = compile_regex(c, x->match, x->pos, &vs->meta, "uriRegexRewrite");
        r->rewrite_regex_text = keep(c, x->rewrite);
        if (r->rewrite_regex &&
            !regex_rewrite_valid(r->rewrite_regex, x->rewrite, error, sizeof(error))) {
            finding_add(c->findings, SEVERITY_ERROR, "IST0106", x->pos, &vs->meta,
                        "\"uriRegexRewrite\": %s", error);
            r->rewrite_regex = NULL;
        }
    } else if (in->uri.len) {
        r->rewrite_uri = true;
        r->rewrite_uri_text = keep(c, slice_trim(in->uri)); // empty where it is blank
    }
}

static void set_forward(struct compile *c, struct route *r, const struct virtual_service *vs,
                        const struct http_route *in, uint32_t listener_port)
{
    r->action = ROUTE_FORWARD;
    r->timeout_ns = in->timeout_ns == DURATION_UNSET ? 0 : in->timeout_ns;
    set_rewrite(c, r, vs, in->rewrite);
    set_targets(c, r, vs, in, listener_port);
    set_retries(c, &r->retry, in->retries);
}

// ---- redirect, direct response

static void set_redirect(struct compile *c, struct route *r, const struct http_redirect *in)
{
    uint32_t code = in->code ? in->code : 301;
    if (code < 301 || code == 304 || code == 305 || code == 306 || code > 308) {
        r->action = ROUTE_NO_ACTION; // Istio leaves the action out
        return;
    }
    r->action = ROUTE_REDIRECT;
    r->redirect.uri = keep(c, in->uri);
    r->redirect.uri_given = in->uri.len > 0;
    r->redirect.authority = keep(c, in->authority);
    r->redirect.scheme = keep(c, in->scheme);
    r->redirect.prefix_rewrite = keep(c, in->prefix_rewrite);
    r->redirect.prefix_given = in->prefix_rewrite.len > 0;
    r->redirect.port = in->port_kind == REDIRECT_PORT_NUMBER ? in->port : 0;
    r->redirect.port_from_request = in->port_kind == REDIRECT_PORT_FROM_REQUEST;
    r->redirect.code = (uint16_t)code;
}

static void set_direct_response(struct compile *c, struct route *r,
                                const struct http_direct_response *in)
{
    r->action = ROUTE_DIRECT_RESPONSE;
    r->direct_status = (uint16_t)in->status;
    r->direct_body = keep(c, in->body);
}

void compile_action(struct compile *c, struct route *r, const struct virtual_service *vs,
                    const struct http_route *in, const struct rule *match, uint32_t listener_port)
{
    r->rewrite_is_prefix = match->kind == PATH_PREFIX;
    r->matched_prefix_len = match->kind == PATH_PREFIX ? match->path_len : 0;
    r->has_edits = copy_headers(c, in->headers, &r->request, &r->response, &r->rewrite_authority);
    if (in->redirect)
        set_redirect(c, r, in->redirect);
    else if (in->direct_response)
        set_direct_response(c, r, in->direct_response);
    else
        set_forward(c, r, vs, in, listener_port);
}
