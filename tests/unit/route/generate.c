// Random documents over small alphabets, so that everything meets everything.
#include "generate.h"
#include "core/check.h"
#include "random.h"
#include <stdio.h>

struct rng test_rng;

#define PICK(list) ((list)[below(sizeof(list) / sizeof((list)[0]))])

// ---- alphabets

static const char *const namespaces[] = {"ns1", "ns2"};
static const char *const vs_hosts[] = {"*",       "*.com",     "*.a.com", "a.com",
                                       "x.a.com", "y.x.a.com", "b.com",   "*-b.com",
                                       "q-b.com", "*.x.a.com", "c.org"};
static const char *const server_hosts[] = {"*",       "*",       "*.com",     "*.a.com",
                                           "a.com",   "x.a.com", "ns1/*.com", "./a.com",
                                           "*/b.com", "ns2/*",   "*.x.a.com", "ns2/y.x.a.com"};
static const char *const authorities[] = {"a.com",     "b.com",   "x.a.com", "y.x.a.com",
                                          "z.a.com",   "q-b.com", "w.org",   "c.org",
                                          "p.q-b.com", "com",     ".com",    ""};
static const char *const ports[] = {"", "", ":80", ":8080", ":x", ":"};
static const char *const paths[] = {"/",      "/a",   "/A",  "/ab",  "/a/",  "/a/b",
                                    "/a/b/c", "/b",   "/b/", "/Ab/", "/abc", "/b/a/b",
                                    "/a/B",   "/aab", "/bb", "",     "b",    "/c"};
static const char *const values[] = {"", "a", "ab", "b", "1", "12", "a,b", "POST", "GET", "http"};
static const char *const header_names[] = {"x", "x", "Y", "z-long-name", ":method", ":authority"};
static const char *const query_names[] = {"q", "r"};

static bool starts_with_a(struct slice s)
{
    return s.len >= 2 && s.ptr[0] == '/' && s.ptr[1] == 'a';
}

static bool ends_in_b(struct slice s)
{
    return s.len && s.ptr[s.len - 1] == 'b';
}

static bool is_number(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return false;
    return s.len > 0;
}

static bool is_one_letter(struct slice s)
{
    return (s.len == 2 || (s.len == 3 && s.ptr[2] == '/')) && s.ptr[0] == '/' &&
           (s.ptr[1] == 'a' || s.ptr[1] == 'b');
}

static bool is_anything(struct slice s)
{
    return s.len || true;
}

static const struct expression {
    const char *text;
    bool (*holds)(struct slice); // what it means, without an engine
} expressions[] = {
    {"/a.*", starts_with_a},    {".*b", ends_in_b},  {"[0-9]+", is_number},
    {"/[ab]/?", is_one_letter}, {".*", is_anything},
};

bool expression_holds(struct slice expression, struct slice value)
{
    for (size_t i = 0; i < sizeof(expressions) / sizeof(expressions[0]); i++)
        if (slice_eq(slice_of(expressions[i].text), expression))
            return expressions[i].holds(value);
    check(false);
}

// ---- documents

static struct slice text_of(const char *const *list, uint32_t n)
{
    return slice_of(list[below(n)]);
}
#define TEXT(list) text_of((list), sizeof(list) / sizeof((list)[0]))

static struct string_list random_list(struct arena *a, const char *const *from, uint32_t n,
                                      uint32_t most)
{
    struct string_list out = {arena_array(a, struct string_item, most), 1 + below(most)};
    for (uint32_t i = 0; i < out.count; i++)
        out.items[i].text = text_of(from, n);
    return out;
}
#define LIST(a, list, most) random_list((a), (list), sizeof(list) / sizeof((list)[0]), (most))

static struct string_match random_match(void)
{
    struct string_match m = {.kind = (enum string_match_kind)below(4), .text = TEXT(values)};
    if (m.kind == MATCH_ANY)
        m.text = (struct slice){NULL, 0};
    if (m.kind == MATCH_PREFIX && m.text.len == 0)
        m.text = SLICE("a"); // an empty prefix is refused
    if (m.kind == MATCH_REGEX)
        m.text = one_in(4) ? SLICE("*") : slice_of(PICK(expressions).text);
    return m;
}

static struct string_match *maybe_match(struct arena *a, uint32_t one_of)
{
    struct string_match *m = arena_new(a, struct string_match);
    *m = random_match();
    return one_in(one_of) ? m : NULL;
}

static struct string_match *random_uri(struct arena *a)
{
    struct string_match *m = arena_new(a, struct string_match);
    m->kind = one_in(8) ? MATCH_REGEX : one_in(2) ? MATCH_EXACT : MATCH_PREFIX;
    m->text = m->kind == MATCH_REGEX ? slice_of(PICK(expressions).text) : TEXT(paths);
    return one_in(8) ? NULL : m;
}

static struct named_match_list random_named(struct arena *a, const char *const *names, uint32_t n,
                                            uint32_t one_of)
{
    struct named_match_list out = {arena_array(a, struct named_match, 2), 0};
    while (out.count < 2 && one_in(one_of)) {
        struct named_match *m = &out.items[out.count++];
        *m = (struct named_match){.name = text_of(names, n), .match = random_match()};
    }
    return out;
}
#define NAMED(a, names, one_of) \
    random_named((a), (names), sizeof(names) / sizeof((names)[0]), (one_of))

static void random_block(struct arena *a, struct http_match *m, uint32_t number)
{
    static const char *const gateways[] = {"mesh", "gwns/g0", "gwns/g1"};
    m->name = slice_of(arena_printf(a, "m%u", number));
    m->uri = random_uri(a);
    m->ignore_uri_case = one_in(4);
    m->method = maybe_match(a, 10);
    m->authority = maybe_match(a, 20);
    m->scheme = maybe_match(a, 20);
    m->headers = NAMED(a, header_names, 5);
    m->without_headers = NAMED(a, header_names, 8);
    m->query_params = NAMED(a, query_names, 8);
    m->port = one_in(8) ? 80 + below(2) : 0;
    if (one_in(8))
        m->gateways = LIST(a, gateways, 2);
}

static void random_rule(struct arena *a, struct http_route *r, uint32_t number)
{
    struct http_direct_response *answer = arena_new(a, struct http_direct_response);
    answer->status = 200;
    *r = (struct http_route){.direct_response = answer, .timeout_ns = DURATION_UNSET};
    r->name = slice_of(arena_printf(a, "r%u", number));
    r->match_count = one_in(12) ? 0 : 1 + below(3);
    r->matches = arena_array(a, struct http_match, 3);
    for (uint32_t i = 0; i < r->match_count; i++)
        random_block(a, &r->matches[i], i);
}

static struct virtual_service *random_service(struct arena *a, uint32_t order)
{
    static const char *const gateways[] = {"gwns/g0", "gwns/g1", "mesh", "gwns/none"};
    struct virtual_service *vs = arena_new(a, struct virtual_service);
    vs->meta.name = slice_of(arena_printf(a, "vs%u", order));
    vs->meta.ns = TEXT(namespaces);
    vs->meta.order = order;
    vs->meta.created_unix_s = below(3);
    vs->hosts = LIST(a, vs_hosts, 4);
    vs->gateways = LIST(a, gateways, 3);
    vs->http_count = 1 + below(one_in(3) ? 12 : 4);
    vs->http = arena_array(a, struct http_route, 12);
    for (uint32_t i = 0; i < vs->http_count; i++)
        random_rule(a, &vs->http[i], i);
    return vs;
}

static struct gateway *random_gateway(struct arena *a, uint32_t order)
{
    struct gateway *g = arena_new(a, struct gateway);
    g->meta.name = slice_of(arena_printf(a, "g%u", order));
    g->meta.ns = SLICE("gwns");
    g->meta.order = order;
    g->server_count = 1 + below(2);
    g->servers = arena_array(a, struct server, 2);
    for (uint32_t i = 0; i < g->server_count; i++)
        g->servers[i] = (struct server){.port = {.number = 80 + i, .protocol = PROTO_HTTP},
                                        .hosts = LIST(a, server_hosts, 4)};
    return g;
}

void generate_model(struct model *m, struct arena *a)
{
    m->gateways_count = 1 + below(2);
    m->virtual_services_count = 1 + below(6);
    m->gateways = arena_array(a, struct gateway *, 2);
    m->virtual_services = arena_array(a, struct virtual_service *, 6);
    for (uint32_t i = 0; i < m->gateways_count; i++)
        m->gateways[i] = random_gateway(a, i);
    for (uint32_t i = 0; i < m->virtual_services_count; i++)
        m->virtual_services[i] = random_service(a, i);
}

// ---- requests

static struct slice mixed_case(struct arena *a, struct slice s)
{
    char *p = arena_alloc(a, s.len + 1);
    for (size_t i = 0; i < s.len; i++)
        p[i] = s.ptr[i] >= 'a' && s.ptr[i] <= 'z' && one_in(6) ? (char)(s.ptr[i] - 32) : s.ptr[i];
    return (struct slice){p, s.len};
}

static struct slice random_query(struct arena *a)
{
    char text[64] = "";
    size_t n = 0;
    if (one_in(3))
        return (struct slice){NULL, 0};
    for (uint32_t i = 0, count = below(4); i < count; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s%s%s", i ? "&" : "",
                              PICK(query_names), one_in(4) ? "" : "=", PICK(values));
    return arena_dup(a, (struct slice){text, n});
}

struct route_request generate_request(struct arena *a)
{
    static const char *const methods[] = {"GET", "POST"}, *const schemes[] = {"http", "https"};
    static const char *const names[] = {"x", "x", "y", "z-long-name", "other"}; // lower case
    struct route_header *headers = arena_array(a, struct route_header, 4);
    const char *authority = arena_printf(a, "%s%s", PICK(authorities), PICK(ports));
    uint32_t count = below(5);
    for (uint32_t i = 0; i < count; i++)
        headers[i] = (struct route_header){TEXT(names), TEXT(values)};
    return (struct route_request){.authority = mixed_case(a, slice_of(authority)),
                                  .path = TEXT(paths),
                                  .query = random_query(a),
                                  .method = TEXT(methods),
                                  .scheme = TEXT(schemes),
                                  .headers = headers,
                                  .header_count = count,
                                  .worker = REGEX_CONTROL};
}
