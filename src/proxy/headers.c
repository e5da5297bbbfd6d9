// What the gateway adds to, takes from and changes in heads on their way: hop-by-hop fields
// (RFC 9110 section 7.6.1), Envoy's and the forwarding fields, and the VirtualService's header
// operations.
#include "proxy/proxy_internal.h"
#include <stdio.h>

// "close", "keep-alive" and "upgrade" name no field to drop that the writer would not drop anyway.
static bool trivial_options(struct slice v)
{
    return slice_eq_nocase(v, SLICE("keep-alive")) || slice_eq_nocase(v, SLICE("close")) ||
           slice_eq_nocase(v, SLICE("upgrade"));
}

// Fields that Connection cannot take away: they frame and address the message, or say where it came
// from, which is not this client's to hide.
static bool stays(const struct field *f)
{
    switch (f->token) {
    case FIELD_UPGRADE:
    case FIELD_CONTENT_LENGTH:
    case FIELD_TRANSFER_ENCODING:
    case FIELD_HOST:
    case FIELD_X_FORWARDED_FOR:
    case FIELD_X_FORWARDED_HOST:
        return true;
    default:
        return false;
    }
}

// The fields of a head by name, so that a Connection with thousands of options costs a look each.
#define NAME_BUCKETS 256u
struct by_name {
    uint8_t first[NAME_BUCKETS], next[HEAD_FIELD_SLOTS]; // field's number + 1; 0 = none
    bool drop[HEAD_FIELD_SLOTS];
};
_Static_assert(HEAD_FIELD_SLOTS < 255, "numbers of fields are bytes");

static void index_names(const struct head *h, struct by_name *n)
{
    *n = (struct by_name){0};
    for (uint32_t i = 0; i < h->field_count; i++) {
        uint8_t *bucket =
            &n->first[slice_hash_nocase(field_name(&h->fields[i])) & (NAME_BUCKETS - 1)];
        n->next[i] = *bucket;
        *bucket = (uint8_t)(i + 1);
    }
}

static void mark_named(const struct head *h, struct by_name *n, struct slice options)
{
    struct slice option;
    while (slice_split(&options, ',', &option)) {
        option = slice_trim(option);
        uint32_t at = n->first[slice_hash_nocase(option) & (NAME_BUCKETS - 1)];
        for (; at; at = n->next[at - 1])
            if (slice_eq_nocase(option, field_name(&h->fields[at - 1])))
                n->drop[at - 1] = !stays(&h->fields[at - 1]);
    }
}

void proxy_drop_connection_fields(struct head *h)
{
    struct by_name names;
    bool indexed = false;
    for (uint32_t i = 0; i < h->field_count; i++) {
        const struct field *f = &h->fields[i];
        if (f->token != FIELD_CONNECTION || trivial_options(field_value(f)))
            continue;
        if (!indexed)
            index_names(h, &names);
        indexed = true;
        mark_named(h, &names, field_value(f));
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; indexed && i < h->field_count; i++)
        if (!names.drop[i])
            h->fields[kept++] = h->fields[i];
    if (indexed)
        h->field_count = kept;
}

// Fields a client may not bring in: they steer Envoy-compatible upstreams or assert an identity.
static bool client_may_not_send(const struct field *f)
{
    switch (f->token) {
    case FIELD_X_FORWARDED_CLIENT_CERT:
    case FIELD_X_FORWARDED_PROTO:
    case FIELD_X_REQUEST_ID:
    case FIELD_X_ENVOY_EXTERNAL_ADDRESS:
    case FIELD_X_ENVOY_ATTEMPT_COUNT:
    case FIELD_X_ENVOY_ORIGINAL_PATH:
    case FIELD_X_ENVOY_ORIGINAL_HOST:
    case FIELD_KEEP_ALIVE:
    case FIELD_PROXY_CONNECTION:
    case FIELD_HTTP2_SETTINGS:
        return true;
    case FIELD_OTHER:
        return f->name_len > 8 && memcmp(f->name, "x-envoy-", 8) == 0;
    default:
        return false;
    }
}

// "x_forwarded_for" is X-Forwarded-For to whatever reads CGI variables (WSGI, PHP and others): what
// is taken from a client, or frames a message, is taken in this spelling too.
static bool imitates(const struct field *f)
{
    char dashed[32];
    size_t len = f->name_len < sizeof(dashed) ? f->name_len : sizeof(dashed);
    if (f->token != FIELD_OTHER || !memchr(f->name, '_', len))
        return false;
    for (size_t i = 0; i < len; i++)
        dashed[i] = f->name[i] == '_' ? '-' : f->name[i];
    struct slice name = {dashed, len};
    struct field other = {.name = dashed, .name_len = (uint16_t)len};
    other.token = (uint16_t)http_field_of(name);
    return client_may_not_send(&other) || stays(&other);
}

// A receiver may merge trailers into the fields (RFC 9110 section 6.5.1): what frames, routes or
// identifies a message is not taken from there, on either way.
static bool unsafe_trailer(const struct field *f)
{
    switch (f->token) {
    case FIELD_HOST:
    case FIELD_CONTENT_LENGTH:
    case FIELD_TRANSFER_ENCODING:
    case FIELD_CONNECTION:
    case FIELD_TE:
    case FIELD_TRAILER:
    case FIELD_UPGRADE:
    case FIELD_EXPECT:
    case FIELD_COOKIE:
    case FIELD_LOCATION:
    case FIELD_X_FORWARDED_FOR:
    case FIELD_X_FORWARDED_HOST:
        return true;
    case FIELD_OTHER:
        return client_may_not_send(f) || slice_eq(field_name(f), SLICE("authorization")) ||
               slice_eq(field_name(f), SLICE("set-cookie"));
    default:
        return client_may_not_send(f);
    }
}

void proxy_drop_unsafe_trailers(struct head *h)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < h->field_count; i++)
        if (!unsafe_trailer(&h->fields[i]) && !imitates(&h->fields[i]))
            h->fields[kept++] = h->fields[i];
    h->field_count = kept;
}

// Drops them and finds x-forwarded-for in the same pass; TE survives only as "trailers".
static struct field *filter_client_fields(struct head *h)
{
    struct field *xff = NULL;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < h->field_count; i++) {
        struct field *f = &h->fields[i];
        if (client_may_not_send(f) || imitates(f) ||
            (f->token == FIELD_TE && !slice_eq_nocase(field_value(f), SLICE("trailers"))))
            continue;
        if (kept != i)
            h->fields[kept] = *f;
        if (f->token == FIELD_X_FORWARDED_FOR)
            xff = &h->fields[kept];
        kept++;
    }
    h->field_count = kept;
    return xff;
}

static int append_forwarded_for(struct exchange *x, struct field *xff)
{
    struct slice ip = downstream_ip(x->conn);
    if (!xff)
        return head_add(&x->request, FIELD_X_FORWARDED_FOR, ip);
    struct slice old = field_value(xff);
    char *text = proxy_alloc(x, old.len + 1 + ip.len);
    if (!text)
        return ERR_LIMIT;
    memcpy(text, old.ptr, old.len);
    text[old.len] = ',';
    memcpy(text + old.len + 1, ip.ptr, ip.len);
    xff->value = text;
    xff->value_len = (uint32_t)(old.len + 1 + ip.len);
    return OK;
}

static int add_request_id(struct exchange *x)
{
    struct proxy_exchange *px = proxy_of(x);
    char *id = proxy_alloc(x, 36);
    if (!id)
        return ERR_LIMIT;
    rng_uuid4(&x->worker->rng, id);
    px->request_id = (struct slice){id, 36};
    return head_add(&x->request, FIELD_X_REQUEST_ID, px->request_id);
}

int proxy_request_fields(struct exchange *x)
{
    struct head *h = &x->request;
    proxy_drop_connection_fields(h);
    struct field *xff = filter_client_fields(h);
    if (append_forwarded_for(x, xff) != OK ||
        head_add(h, FIELD_X_FORWARDED_PROTO, h->scheme) != OK ||
        head_add(h, FIELD_X_ENVOY_EXTERNAL_ADDRESS, downstream_ip(x->conn)) != OK)
        return ERR_LIMIT;
    // SANITIZE_SET, as at Istio's gateways: what a client says of itself was dropped above.
    if (x->conn->client_cert.len &&
        head_add(h, FIELD_X_FORWARDED_CLIENT_CERT, x->conn->client_cert) != OK)
        return ERR_LIMIT;
    return add_request_id(x);
}

// ---- header operations

// Host is none of them: it was compiled into rewrite_authority.
static int edit_head(struct head *h, const struct header_edit *e)
{
    for (uint32_t i = 0; i < e->remove_count; i++)
        head_remove_name(h, e->remove[i]);
    for (uint32_t i = 0; i < e->set_count; i++)
        if (head_set_name(h, e->set[i].name, e->set[i].value) != OK)
            return ERR_LIMIT;
    for (uint32_t i = 0; i < e->add_count; i++)
        if (head_add_name(h, e->add[i].name, e->add[i].value) != OK)
            return ERR_LIMIT;
    return OK;
}

// The route's operations and the target's (none without one), in the order the route asks for.
static int edit_both(struct head *h, const struct route *r, const struct header_edit *of_route,
                     const struct header_edit *of_target)
{
    bool target_first = of_target && r->target_edits_first;
    if (target_first && edit_head(h, of_target) != OK)
        return ERR_LIMIT;
    if (edit_head(h, of_route) != OK)
        return ERR_LIMIT;
    return of_target && !target_first ? edit_head(h, of_target) : OK;
}

int proxy_edit_request(struct exchange *x, struct head *h)
{
    const struct proxy_exchange *px = proxy_of(x);
    if (!px->route->has_edits && !px->target->has_edits)
        return OK;
    return edit_both(h, px->route, &px->route->request, &px->target->request);
}

static int edit_response(struct exchange *x, struct head *h)
{
    const struct proxy_exchange *px = proxy_of(x);
    const struct route_target *t = px->target;
    if (!px->route->has_edits && (!t || !t->has_edits))
        return OK;
    return edit_both(h, px->route, &px->route->response, t ? &t->response : NULL);
}

// ---- response

static struct slice date_of(struct proxy_worker *pw)
{
    if (pw->date_unix_s != pw->worker.now_unix_s) {
        pw->date_unix_s = pw->worker.now_unix_s;
        http_date(pw->date_unix_s, pw->date);
    }
    return (struct slice){pw->date, HTTP_DATE_BYTES};
}

static int add_service_time(struct exchange *x, struct head *h)
{
    char *text = proxy_alloc(x, 20);
    if (!text)
        return ERR_LIMIT;
    uint64_t ms = (x->worker->now_ns - x->upstream_start_ns) / NS_PER_MS;
    int n = ms < 10 ? (text[0] = (char)('0' + ms), 1)
                    : snprintf(text, 20, "%llu", (unsigned long long)ms);
    return head_set(h, FIELD_X_ENVOY_UPSTREAM_SERVICE_TIME, (struct slice){text, (size_t)n});
}

int proxy_response_fields(struct exchange *x, struct head *h)
{
    struct proxy_exchange *px = proxy_of(x);
    if (x->upstream_start_ns && add_service_time(x, h) != OK)
        return ERR_LIMIT;
    if (head_set(h, FIELD_SERVER, SLICE("sluice")) != OK)
        return ERR_LIMIT;
    if (!head_find(h, FIELD_DATE) && head_add(h, FIELD_DATE, date_of(px->pw)) != OK)
        return ERR_LIMIT;
    return px->route ? edit_response(x, h) : OK;
}
