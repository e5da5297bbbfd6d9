// A request arrives: its snapshot is pinned, its target made canonical, its route found, its
// fields made ready; then it is answered here or handed to forward.c.
#include "core/check.h"
#include "proxy/accept.h"
#include "proxy/proxy_internal.h"

struct exchange_pools *proxy_pools(struct exchange *x)
{
    return &proxy_of(x)->pw->exchanges;
}

char *proxy_alloc(struct exchange *x, size_t len)
{
    return exchange_alloc(proxy_pools(x), x, len);
}

static void begin(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    const struct proxy_conn *conn = proxy_conn_of(x->conn);
    px->listener = conn->listener;
    px->pw = px->listener->pw;
    px->chain = conn->chain;
    px->snapshot = conn->last ? conn->last : proxy_listener_snapshot(px->listener);
    snapshot_pin(px->snapshot, px->pw->worker.cfg.id);
    worker_count(x->worker, snapshot_pins);
    bufq_init(&px->held, &px->pw->tcp.chunks, &x->worker->bufs);
    proxy_timers_init(x);
    proxy_try_init(x);
    px->original_path = x->request.target;
    px->original_authority = x->request.authority;
    px->listener_cfg = snapshot_listener(px->snapshot, px->listener->id);
    proxy_count_begin(x);
}

// absolute-form (RFC 9112 section 3.2.2): its authority replaces Host.
static enum err take_absolute_form(struct head *h, struct slice *target)
{
    bool http = slice_has_prefix_nocase(*target, SLICE("http://"));
    if (!http && !slice_has_prefix_nocase(*target, SLICE("https://")))
        return ERR_SYNTAX;
    if (!http && !slice_eq(h->scheme, SLICE("https")))
        return ERR_UNSUPPORTED;
    struct slice rest = slice_from(*target, http ? 7 : 8);
    size_t end = 0;
    while (end < rest.len && rest.ptr[end] != '/' && rest.ptr[end] != '?')
        end++;
    if (!http_is_authority((struct slice){rest.ptr, end}))
        return ERR_SYNTAX;
    h->authority = (struct slice){rest.ptr, end};
    *target = slice_from(rest, end);
    return OK;
}

static struct slice with_root(struct exchange *x, struct slice query)
{
    char *out = proxy_alloc(x, query.len + 1);
    if (!out)
        return (struct slice){NULL, 0};
    out[0] = '/';
    memcpy(out + 1, query.ptr, query.len);
    return (struct slice){out, query.len + 1};
}

static enum err canonical_target(struct exchange *x)
{
    struct head *h = &x->request;
    struct slice target = h->target;
    if (target.ptr[0] != '/') {
        enum err e = take_absolute_form(h, &target);
        if (e != OK)
            return e;
        if (target.len == 0 || target.ptr[0] != '/') // "http://host" or "http://host?query"
            target = with_root(x, target);
        if (!target.ptr)
            return ERR_LIMIT;
    }
    char *out = proxy_alloc(x, target.len + 1);
    size_t len, path_len;
    if (!out)
        return ERR_LIMIT;
    if (route_normalize_path(target, out, &len, &path_len) != OK)
        return ERR_SYNTAX;
    h->path = (struct slice){out, path_len};
    h->query = len > path_len ? (struct slice){out + path_len + 1, len - path_len - 1}
                              : (struct slice){NULL, 0};
    return OK;
}

static const struct route *find_route(struct exchange *x, const struct virtual_host *vh,
                                      struct route_request *rq)
{
    // Room for the matcher's view of the fields; one exchange is routed at a time on a worker.
    static _Thread_local struct route_header headers[HEAD_FIELD_SLOTS];
    struct head *h = &x->request;
    for (uint32_t i = 0; i < h->field_count; i++)
        headers[i] = (struct route_header){field_name(&h->fields[i]), field_value(&h->fields[i])};
    rq->headers = headers;
    rq->header_count = h->field_count;
    return route_match(vh, rq);
}

static struct route_request request_view(struct exchange *x)
{
    struct head *h = &x->request;
    return (struct route_request){
        .authority = h->authority,
        .path = h->path,
        .query = h->query,
        .method = h->method,
        .scheme = h->scheme,
        .worker = x->worker->cfg.id,
    };
}

// ---- rewriting

#define REWRITE_MAX 8192

static enum err rewrite_path(struct exchange *x, const struct route *r)
{
    struct head *h = &x->request;
    struct slice before = h->path;
    size_t len, cap = before.len + h->query.len + r->rewrite_uri_text.len + REWRITE_MAX;
    char stack[REWRITE_MAX * 2];
    struct route_request rq = request_view(x);
    if (cap > sizeof(stack))
        cap = sizeof(stack);
    if (route_rewrite_path(r, &rq, stack, cap, &len) != OK)
        return ERR_LIMIT;
    char *out = proxy_alloc(x, len ? len : 1);
    if (!out)
        return ERR_LIMIT;
    memcpy(out, stack, len);
    size_t path_len = len;
    const char *mark = h->query.ptr ? memchr(out, '?', len) : NULL;
    if (mark)
        path_len = (size_t)(mark - out);
    char *original = proxy_alloc(x, before.len + 1 + h->query.len);
    if (!original)
        return ERR_LIMIT;
    memcpy(original, before.ptr, before.len);
    size_t n = before.len;
    if (h->query.ptr) {
        original[n++] = '?';
        memcpy(original + n, h->query.ptr, h->query.len);
        n += h->query.len;
    }
    h->path = (struct slice){out, path_len};
    h->query = mark ? (struct slice){mark + 1, len - path_len - 1} : (struct slice){NULL, 0};
    return (enum err)head_add(h, FIELD_X_ENVOY_ORIGINAL_PATH, (struct slice){original, n});
}

static enum err prepare_forward(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    const struct route *r = px->route;
    struct head *h = &x->request;
    if ((r->rewrite_uri || r->rewrite_regex) && rewrite_path(x, r) != OK)
        return ERR_LIMIT;
    struct slice authority =
        r->rewrite_authority.len ? r->rewrite_authority : px->target->rewrite_authority;
    if (authority.len) {
        if (head_add(h, FIELD_X_ENVOY_ORIGINAL_HOST, h->authority) != OK)
            return ERR_LIMIT;
        h->authority = authority;
    }
    return (enum err)proxy_edit_request(x, h);
}

static void forward(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    const struct route *r = px->route;
    uint32_t draw = r->total_weight > 1 ? rng_below(&x->worker->rng, r->total_weight) : 0;
    px->target = route_pick(r, draw);
    if (!px->target || !px->target->cluster) {
        proxy_reply(x, 503, (struct slice){NULL, 0}, FLAG_NO_CLUSTER, "cluster_not_found");
        return;
    }
    px->cluster = px->target->cluster;
    proxy_count_forward(x);
    px->retries_left = r->retry.attempts;
    if (prepare_forward(x) != OK) {
        proxy_reply_too_large(x);
        return;
    }
    proxy_arm_timeouts(x);
    proxy_try(x);
}

// ---- dispatch

static void redirect_to_https(struct exchange *x)
{
    struct head *h = &x->request;
    size_t n = 0, cap = 9 + h->authority.len + h->path.len + h->query.len;
    char *out = proxy_alloc(x, cap);
    const struct slice parts[] = {SLICE("https://"), h->authority, h->path,
                                  h->query.ptr ? SLICE("?") : SLICE(""), h->query};
    if (!out) {
        x->down->ops->reset(x->down, RESET_OVERFLOW);
        return;
    }
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (parts[i].len)
            memcpy(out + n, parts[i].ptr, parts[i].len);
        n += parts[i].len;
    }
    proxy_reply_location(x, 301, (struct slice){out, n});
}

static void redirect(struct exchange *x, const struct route_request *rq)
{
    struct proxy_exchange *px = proxy_of(x);
    const struct route *r = px->route;
    char stack[REWRITE_MAX * 2];
    size_t len;
    if (route_redirect_location(r, rq, px->listener_cfg->server_port, stack, sizeof(stack), &len) !=
        OK) {
        proxy_reply(x, 431, (struct slice){NULL, 0}, 0, "redirect_too_long");
        return;
    }
    char *out = proxy_alloc(x, len ? len : 1);
    if (!out) {
        x->down->ops->reset(x->down, RESET_OVERFLOW);
        return;
    }
    memcpy(out, stack, len);
    proxy_reply_location(x, r->redirect.code ? r->redirect.code : 301, (struct slice){out, len});
}

static void act(struct exchange *x, const struct route_request *rq)
{
    struct proxy_exchange *px = proxy_of(x);
    switch (px->route->action) {
    case ROUTE_FORWARD:
        forward(x);
        break;
    case ROUTE_REDIRECT:
        redirect(x, rq);
        break;
    case ROUTE_DIRECT_RESPONSE:
        proxy_reply_direct(x);
        break;
    default:
        proxy_reply(x, 404, (struct slice){NULL, 0}, FLAG_NO_ROUTE, "route_not_found");
    }
}

static void route_request(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    struct route_request rq = request_view(x);
    const struct slice none = {NULL, 0};
    // RFC 9110 section 15.5.20: a host that another server's certificate and policy are for.
    const struct listener_config *lc = px->listener_cfg;
    if (px->chain->terminates_tls &&
        !chain_covers(px->chain, &lc->by_name, lc->any, x->request.authority)) {
        proxy_reply(x, 421, none, 0, "misdirected_request");
        return;
    }
    const struct virtual_host *vh = route_find_host(px->chain->routes, x->request.authority);
    if (vh && virtual_host_https_redirect(vh) && !x->conn->tls) {
        redirect_to_https(x);
        return;
    }
    px->route = vh ? find_route(x, vh, &rq) : NULL;
    if (px->route)
        act(x, &rq);
    else
        proxy_reply(x, 404, none, FLAG_NO_ROUTE, "route_not_found");
}

// Memory is short: the connection ends after this, at worst without the request being served.
static bool shed(struct exchange *x)
{
    x->drop_connection = true;
    if (proxy_of(x)->pw->shed < SHED_REQUESTS)
        return false;
    worker_count(x->worker, shed_rq);
    proxy_reply(x, 503, SLICE("overloaded"), FLAG_OVERLOAD, "overload_manager");
    return true;
}

void proxy_request_head(struct exchange *x, bool end)
{
    const struct slice none = {NULL, 0};
    begin(x);
    if (unlikely(proxy_of(x)->pw->shed != SHED_NOTHING) && shed(x))
        return;
    if (!end)
        x->upgrade = false; // an upgrade with a body is passed on as a plain request
    if (slice_eq(x->request.method, SLICE("CONNECT"))) {
        x->drop_connection = true;
        proxy_reply(x, 404, none, FLAG_NO_ROUTE, "route_not_found");
        return;
    }
    enum err e = canonical_target(x);
    if (e == OK && proxy_request_fields(x) != OK)
        e = ERR_LIMIT;
    if (e == OK) {
        route_request(x);
        return;
    }
    x->drop_connection = true;
    if (e == ERR_UNSUPPORTED)
        proxy_reply(x, 403, none, 0, "https_on_plaintext");
    else if (e == ERR_LIMIT)
        proxy_reply_too_large(x);
    else
        proxy_reply(x, 400, SLICE("Bad Request"), FLAG_DOWNSTREAM_PROTOCOL, "http1.invalid_target");
}
