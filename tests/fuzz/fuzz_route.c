// Any authority, target and header against one table that has every kind of rule: the index must
// answer what trying the hosts and rules in turn answers, a normalised path must have no dot
// segment left and stay as it is when normalised again, and rewriting must stay inside its buffer.
//
// Input: lines "authority", "target", "method", then "name: value" headers.
#include "config/load.h"
#include "core/check.h"
#include "route/virtual_host.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MATCH(match) "  - match: [{" match "}]\n    route: [{destination: {host: one}}]\n"

// clang-format off
// Hosts of one VirtualService must not overlap: each host has its own, with the same rules.
#define RULES \
    MATCH("uri: {exact: /a}, headers: {x: {exact: '1'}}") \
    MATCH("uri: {exact: /a}") \
    MATCH("uri: {prefix: /a/b}, withoutHeaders: {x: {prefix: '2'}}") \
    "  - match: [{uri: {prefix: /a/}}]\n    rewrite: {uri: /}\n" \
    "    route: [{destination: {host: one}}]\n" \
    "  - match: [{uri: {regex: '/r/[a-z]+(/.*)?'}}]\n" \
    "    rewrite: {uriRegexRewrite: {match: '/([a-z])', rewrite: '/\\1\\1'}}\n" \
    "    route: [{destination: {host: one}}]\n" \
    MATCH("uri: {exact: /r/abc}") \
    MATCH("uri: {regex: '/r/[0-9]+'}, headers: {x: {regex: 'v[0-9]|'}}") \
    "  - match: [{uri: {regex: '^/s/(a|b)\\.(png|gif)$'}}, {uri: {regex: '/s/x?'}}]\n" \
    "    rewrite: {uriRegexRewrite: {match: '^/s(.*)$', rewrite: '\\1'}}\n" \
    "    route: [{destination: {host: one}}]\n" \
    MATCH("uri: {regex: '/t/1|/t/2'}") \
    MATCH("uri: {regex: '(?i)/CASE/.*'}") \
    MATCH("uri: {prefix: /Fold}, ignoreUriCase: true") \
    MATCH("uri: {exact: /eXact}, ignoreUriCase: true") \
    MATCH("queryParams: {q: {regex: 'a+'}}") \
    MATCH("queryParams: {p: {}}, uri: {prefix: /q}") \
    MATCH("queryParams: {p: {exact: ''}, r: {prefix: '%20'}}") \
    MATCH("authority: {regex: '.*:8[0-9]*'}, uri: {exact: /port}") \
    "  - match: [{uri: {exact: /weights}}]\n    rewrite: {uri: relative}\n" \
    "    route: [{destination: {host: one}, weight: 3}, {destination: {host: two}, weight: 1}]\n" \
    MATCH("method: {exact: POST}") \
    MATCH("headers: {y: {}}") \
    MATCH("withoutHeaders: {x: {regex: '.*,.*'}}, headers: {z: {prefix: z}}") \
    "  - match: [{uri: {exact: /older}}]\n    redirect: {uri: relative, authority: 'b.com:1'}\n" \
    "  - match: [{uri: {prefix: /old}}]\n    redirect: {prefixRewrite: /new, scheme: https}\n"
#define VIRTUAL_SERVICE(name, host) \
    "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " name "}\n" \
    "spec:\n  hosts: ['" host "']\n  gateways: [gw]\n  http:\n" RULES

static const char table[] =
    "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gw}\nspec:\n"
    "  selector: {istio: ingressgateway}\n  servers:\n"
    "  - port: {number: 80, name: http, protocol: HTTP}\n    hosts: ['*']\n"
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: one}\n"
    "spec: {ports: [{name: http, port: 8000}]}\n"
    VIRTUAL_SERVICE("any", "*")
    VIRTUAL_SERVICE("com", "*.com")
    VIRTUAL_SERVICE("a", "*.a.com")
    VIRTUAL_SERVICE("dash", "*-b.org")
    VIRTUAL_SERVICE("exact", "a.com");
// clang-format on

static struct route_config config;

static void prepare(void)
{
    static struct arena arena;
    static bool done;
    struct findings findings;
    struct model *m = NULL;
    const struct load_options load = {0};
    const struct compile_options options = {0};
    if (done)
        return;
    findings_init(&findings);
    arena_init(&arena, 0);
    enum err e = load_text("table.yaml", "default", SLICE(table), &load, &m, &findings);
    if (e != OK)
        findings_print(&findings, stderr);
    check(e == OK && route_compile(m, &options, &arena, &findings, &config) == OK);
    check(config.listener_count == 1 && config.listeners[0]->any->routes->host_count == 5);
    model_destroy(m);
    findings_fini(&findings);
    done = true;
}

// ---- the definitions

static struct slice without_port(struct slice authority)
{
    for (size_t i = authority.len; i > 0 && authority.ptr[i - 1] != ']'; i--)
        if (authority.ptr[i - 1] == ':')
            return (struct slice){authority.ptr, i - 1};
    return authority;
}

static const struct virtual_host *find_host_naive(struct slice authority)
{
    const struct route_table *t = config.listeners[0]->any->routes;
    const struct virtual_host *best = NULL;
    struct slice name = without_port(authority);
    size_t best_len = 0;
    for (uint32_t i = 0; authority.len && i < t->host_count; i++) {
        struct slice d = virtual_host_domain(t->hosts[i]);
        if (d.ptr[0] != '*' && slice_eq_nocase(d, name))
            return t->hosts[i];
        if (d.ptr[0] != '*' || d.len <= best_len)
            continue;
        if (d.len > 1 && (name.len < d.len || !slice_has_suffix_nocase(name, slice_from(d, 1))))
            continue;
        best = t->hosts[i];
        best_len = d.len;
    }
    return best;
}

static bool has_dot_segment(struct slice path)
{
    struct slice rest = path, part;
    while (slice_split(&rest, '/', &part))
        if (slice_eq(part, SLICE(".")) || slice_eq(part, SLICE("..")))
            return true;
    return false;
}

static void check_normal(const char *path, size_t path_len)
{
    char *again = malloc(path_len);
    size_t len, again_len;
    check(again);
    check(route_normalize_path((struct slice){path, path_len}, again, &len, &again_len) == OK);
    check(len == again_len && slice_eq((struct slice){path, path_len}, (struct slice){again, len}));
    free(again);
}

// ---- one input

static bool next_line(struct slice *rest, struct slice *line)
{
    *line = (struct slice){"", 0};
    return slice_split(rest, '\n', line);
}

static void check_route(const struct route *r, const struct route_request *rq)
{
    size_t len = 0, cap = rq->path.len + rq->authority.len; // too little, at times
    char *exact = malloc(cap ? cap : 1);
    check(exact);
    if (route_rewrite_path(r, rq, exact, cap, &len) == OK)
        check(len > 0 && len <= cap && exact[0] == '/');
    if (route_redirect_location(r, rq, 80, exact, cap, &len) == OK)
        check(len <= cap && slice_has_prefix((struct slice){exact, len}, SLICE("http")));
    free(exact);
    check(route_pick(r, 0) != NULL || r->action != ROUTE_FORWARD);
}

static void check_match(const struct route_request *rq)
{
    const struct virtual_host *vh = route_find_host(config.listeners[0]->any->routes, rq->authority);
    check(vh == find_host_naive(rq->authority));
    if (!vh)
        return;
    const struct rule *want = rule_set_find_linear(vh->rules, rq);
    const struct route *got = route_match(vh, rq);
    check(got == (want ? want->route : NULL));
    if (got)
        check_route(got, rq);
}

static struct route_request parse(struct slice input, struct slice *target,
                                  struct route_header *headers, uint32_t most)
{
    struct route_request rq = {.scheme = SLICE("http"), .worker = REGEX_CONTROL};
    struct slice line;
    next_line(&input, &rq.authority);
    next_line(&input, target);
    next_line(&input, &rq.method);
    while (rq.header_count < most && next_line(&input, &line)) {
        ptrdiff_t colon = slice_find(line, ':');
        struct slice name = {line.ptr, colon < 0 ? line.len : (size_t)colon};
        struct slice value =
            colon < 0 ? SLICE("") : slice_trim(slice_from(line, (size_t)colon + 1));
        headers[rq.header_count++] = (struct route_header){name, value};
    }
    rq.headers = headers;
    return rq;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct route_header headers[16];
    struct slice target;
    prepare();
    struct route_request rq = parse((struct slice){(const char *)data, size}, &target, headers, 16);
    char *out = malloc(target.len ? target.len : 1);
    size_t len, path_len;
    check(out);
    if (route_normalize_path(target, out, &len, &path_len) == OK) {
        check(len <= target.len && path_len <= len && out[0] == '/');
        rq.path = (struct slice){out, path_len};
        check(!has_dot_segment(rq.path));
        check_normal(out, path_len);
        if (path_len < len)
            rq.query = (struct slice){out + path_len + 1, len - path_len - 1};
    } else {
        rq.path = target; // the matcher itself takes anything
    }
    if (rq.path.len)
        check_match(&rq);
    free(out);
    return 0;
}
