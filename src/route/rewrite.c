// What a route makes of the request's path and authority: rewrites and the Location of a
// redirect. Pure; any worker. Output goes to the caller's buffer, bounded.
#include "route/route.h"

// Appends to a bounded buffer; `fits` turns false once and stays so.
struct output {
    char *ptr;
    size_t len, cap;
    bool fits;
};

static void put(struct output *o, struct slice s)
{
    if (!o->fits || s.len > o->cap - o->len) {
        o->fits = false;
        return;
    }
    if (s.len)
        memcpy(o->ptr + o->len, s.ptr, s.len);
    o->len += s.len;
}

static void put_number(struct output *o, uint32_t n)
{
    char digits[10];
    size_t at = sizeof(digits);
    do {
        digits[--at] = (char)('0' + n % 10);
        n /= 10;
    } while (n);
    put(o, (struct slice){digits + at, sizeof(digits) - at});
}

static void put_query(struct output *o, const struct route_request *rq)
{
    if (!rq->query.ptr)
        return;
    put(o, SLICE("?"));
    put(o, rq->query);
}

// A prefix match keeps what follows the prefix; exact and regex matches replace the whole path.
static void put_replaced_path(struct output *o, const struct route *r,
                              const struct route_request *rq, struct slice by)
{
    put(o, by);
    if (r->rewrite_is_prefix && r->matched_prefix_len <= rq->path.len)
        put(o, slice_from(rq->path, r->matched_prefix_len));
}

static enum err finish(const struct output *o, size_t *len)
{
    *len = o->len;
    return o->fits ? OK : ERR_LIMIT;
}

enum err route_rewrite_path(const struct route *r, const struct route_request *rq, char *out,
                            size_t cap, size_t *len)
{
    struct output o = {out, 0, cap, true};
    if (r->rewrite_regex) {
        enum err e = regex_replace_all(r->rewrite_regex, rq->worker, rq->path,
                                       r->rewrite_regex_text, out, cap, &o.len);
        if (e != OK)
            return e;
    } else if (r->rewrite_uri) {
        put_replaced_path(&o, r, rq, r->rewrite_uri_text);
    } else {
        put(&o, rq->path);
    }
    put_query(&o, rq);
    return finish(&o, len);
}

// Where the `:port` of an authority begins, its length when there is none. IPv6 is bracketed.
static size_t port_start(struct slice authority)
{
    for (size_t i = authority.len; i > 0; i--) {
        if (authority.ptr[i - 1] == ']')
            break;
        if (authority.ptr[i - 1] == ':')
            return i - 1;
    }
    return authority.len;
}

// The request's own authority keeps its port, unless the redirect names one or the scheme
// changes away from the one the port is the default of.
static struct slice redirect_host(const struct route *r, const struct route_request *rq,
                                  struct slice scheme, uint32_t port)
{
    if (r->redirect.authority.len)
        return r->redirect.authority;
    struct slice host = rq->authority;
    size_t end = port_start(host);
    struct slice suffix = slice_from(host, end);
    bool drop = port != 0;
    if (!slice_eq(scheme, rq->scheme))
        drop = drop || slice_eq(suffix, slice_eq(rq->scheme, SLICE("https")) ? SLICE(":443")
                                                                             : SLICE(":80"));
    if (drop)
        host.len = end;
    return host;
}

static uint32_t redirect_port(const struct route *r, struct slice scheme, uint32_t server_port)
{
    uint32_t port = r->redirect.port_from_request ? server_port : r->redirect.port;
    bool is_default = (port == 80 && slice_eq(scheme, SLICE("http"))) ||
                      (port == 443 && slice_eq(scheme, SLICE("https")));
    return is_default ? 0 : port;
}

static void put_redirect_path(struct output *o, const struct route *r,
                              const struct route_request *rq)
{
    if (r->redirect.prefix_given) {
        put_replaced_path(o, r, rq, r->redirect.prefix_rewrite);
    } else if (r->redirect.uri_given) {
        put(o, r->redirect.uri);
        if (slice_find(r->redirect.uri, '?') >= 0)
            return; // its own query takes the place of the request's
    } else {
        put(o, rq->path);
    }
    put_query(o, rq);
}

enum err route_redirect_location(const struct route *r, const struct route_request *rq,
                                 uint32_t server_port, char *out, size_t cap, size_t *len)
{
    struct output o = {out, 0, cap, true};
    struct slice scheme = r->redirect.scheme.len ? r->redirect.scheme : rq->scheme;
    uint32_t port = redirect_port(r, scheme, server_port);
    put(&o, scheme);
    put(&o, SLICE("://"));
    put(&o, redirect_host(r, rq, scheme, port));
    if (port) {
        put(&o, SLICE(":"));
        put_number(&o, port);
    }
    put_redirect_path(&o, r, rq);
    return finish(&o, len);
}
