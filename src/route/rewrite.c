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

// The path that begins at `start` gets the slash that a document left out, or that an expression
// took away: it would run into the host of a Location, and make no request line.
static void root_path(struct output *o, size_t start)
{
    if (!o->fits || (o->len > start && o->ptr[start] == '/'))
        return;
    if (o->len == o->cap) {
        o->fits = false;
        return;
    }
    memmove(o->ptr + start + 1, o->ptr + start, o->len - start);
    o->ptr[start] = '/';
    o->len++;
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
    root_path(&o, 0);
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

// An authority keeps its port, unless the redirect names one; the request's own also loses the
// default port of a scheme that is left.
static struct slice redirect_host(const struct route *r, const struct route_request *rq,
                                  struct slice scheme, uint32_t port)
{
    bool own = r->redirect.authority.len == 0;
    struct slice host = own ? rq->authority : r->redirect.authority;
    struct slice suffix = slice_from(host, port_start(host));
    bool https = slice_eq(rq->scheme, SLICE("https"));
    bool leaves = own && !slice_eq(scheme, rq->scheme);
    if (port || (leaves && slice_eq(suffix, https ? SLICE(":443") : SLICE(":80"))))
        host.len -= suffix.len;
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
    size_t start = o->len;
    if (r->redirect.prefix_given)
        put_replaced_path(o, r, rq, r->redirect.prefix_rewrite);
    else
        put(o, r->redirect.uri_given ? r->redirect.uri : rq->path);
    root_path(o, start);
    // A query of the redirect's own takes the place of the request's.
    if (!r->redirect.uri_given || slice_find(r->redirect.uri, '?') < 0)
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
