// Rules and actions of VirtualServices: what matches, in which order, and what it leads to.
#include "fixture.h"
#include "test.h"

#define DOCS(http)                                                                                 \
    "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gw}\nspec:\n"             \
    "  selector: {istio: ingressgateway}\n  servers:\n"                                            \
    "  - port: {number: 80, name: http, protocol: HTTP}\n    hosts: ['*']\n"                       \
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: one}\n"                                  \
    "spec: {ports: [{name: http, port: 8000}]}\n"                                                  \
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: two}\n"                                  \
    "spec: {ports: [{name: http, port: 80}, {name: b, port: 81}]}\n"                               \
    "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: vs}\nspec:\n" \
    "  hosts: [a.com]\n  gateways: [gw]\n  http:\n" http
#define ROUTE(name, match) \
    "  - name: " name "\n    match:\n" match "    route: [{destination: {host: one}}]\n"

static const char *get(const struct compiled *c, const char *path)
{
    return compiled_answer(c, NULL, "a.com", path);
}

static const char *name_for(const struct compiled *c, const struct route_request *rq)
{
    const struct route *r = compiled_route(c, "a.com", rq);
    return r ? r->name.ptr : "404";
}

static const char *with_header(const struct compiled *c, const char *path, const char *name,
                               const char *value)
{
    struct route_request rq = compiled_request("a.com", path);
    const struct route_header headers[] = {{SLICE("accept"), SLICE("*/*")},
                                           {slice_of(name), slice_of(value)}};
    rq.headers = headers;
    rq.header_count = 2;
    return name_for(c, &rq);
}

TEST(route_uri_kinds)
{
    struct compiled c;
    compiled_init(&c,
                  DOCS(ROUTE("exact", "    - uri: {exact: /productpage}\n")
                           ROUTE("prefix", "    - uri: {prefix: /static}\n")
                               ROUTE("regex", "    - uri: {regex: '/api/v[0-9]+'}\n") ROUTE(
                                   "fold", "    - {uri: {exact: /Fold}, ignoreUriCase: true}\n"
                                           "    - {uri: {prefix: /Dolf/}, ignoreUriCase: true}\n")),
                  NULL);
    EXPECT_STR(get(&c, "/productpage"), "exact");
    EXPECT_STR(get(&c, "/productpage?u=1"), "exact");
    EXPECT_STR(get(&c, "/productpage/"), "404");
    EXPECT_STR(get(&c, "/Productpage"), "404");
    EXPECT_STR(get(&c, "/staticfoo"), "prefix"); // a string prefix
    EXPECT_STR(get(&c, "/stati"), "404");
    EXPECT_STR(get(&c, "/api/v12"), "regex");
    EXPECT_STR(get(&c, "/api/v12/x"), "404");
    EXPECT_STR(get(&c, "/fOLD"), "fold");
    EXPECT_STR(get(&c, "/dolf/x"), "fold");
    EXPECT_STR(get(&c, "/dolf"), "404");
    compiled_fini(&c);
}

TEST(route_first_match_wins_over_the_better_one)
{
    struct compiled c;
    compiled_init(&c,
                  DOCS(ROUTE("short", "    - uri: {prefix: /a}\n")
                           ROUTE("long", "    - uri: {prefix: /a/b}\n")
                               ROUTE("exact", "    - uri: {exact: /a/b/c}\n")
                                   ROUTE("regex", "    - uri: {regex: '/x/.*'}\n")
                                       ROUTE("late", "    - uri: {exact: /x/y}\n")
                                           ROUTE("last", "    - uri: {prefix: /}\n")
                                               ROUTE("never", "    - uri: {exact: /never}\n")),
                  NULL);
    EXPECT_STR(get(&c, "/a/b/c"), "short");
    EXPECT_STR(get(&c, "/x/y"), "regex");
    EXPECT_STR(get(&c, "/never"), "last"); // what follows a catch-all is dropped
    EXPECT_EQ(c.config.route_count, 6);
    compiled_fini(&c);
}

TEST(route_conditions_of_headers)
{
    struct compiled c;
    compiled_init(
        &c,
        DOCS(ROUTE("exact", "    - headers: {end-user: {exact: jason}}\n")
                 ROUTE("prefix", "    - headers: {End-User: {prefix: adm}}\n")
                     ROUTE("regex", "    - headers: {cookie: {regex: '^(.*?;)?(user=x)(;.*)?$'}}\n")
                         ROUTE("present", "    - headers: {x-present: {}}\n")
                             ROUTE("star", "    - headers: {x-star: {regex: '*'}}\n") ROUTE(
                                 "without",
                                 "    - {uri: {prefix: /w}, withoutHeaders: {x-no: {exact: a}}}\n")
                                 ROUTE("absent",
                                       "    - {uri: {prefix: /p}, withoutHeaders: {x-no: {}}}\n")),
        NULL);
    EXPECT_STR(with_header(&c, "/", "end-user", "jason"), "exact");
    EXPECT_STR(with_header(&c, "/", "end-user", "Jason"), "404");
    EXPECT_STR(with_header(&c, "/", "end-user", "admin"), "prefix");
    EXPECT_STR(with_header(&c, "/", "cookie", "a=b;user=x;c=d"), "regex");
    EXPECT_STR(with_header(&c, "/", "x-present", ""), "present");
    EXPECT_STR(with_header(&c, "/", "x-star", "any"), "star");
    EXPECT_STR(with_header(&c, "/w", "x-no", "a"), "404");
    EXPECT_STR(with_header(&c, "/w", "x-no", "b"), "without");
    EXPECT_STR(with_header(&c, "/w", "other", "b"), "without");
    EXPECT_STR(with_header(&c, "/p", "x-no", "b"), "404");
    EXPECT_STR(with_header(&c, "/p", "other", "b"), "absent");
    compiled_fini(&c);
}

TEST(route_repeated_headers_are_one_list)
{
    struct compiled c;
    compiled_init(&c, DOCS(ROUTE("both", "    - headers: {x: {exact: 'a,b'}}\n")), NULL);
    struct route_request rq = compiled_request("a.com", "/");
    const struct route_header headers[] = {{SLICE("x"), SLICE("a")}, {SLICE("x"), SLICE("b")}};
    rq.headers = headers;
    rq.header_count = 2;
    EXPECT(compiled_route(&c, "a.com", &rq) != NULL);
    rq.header_count = 1;
    EXPECT(compiled_route(&c, "a.com", &rq) == NULL);
    compiled_fini(&c);
}

TEST(route_empty_header_values_count_in_a_list)
{
    struct compiled c;
    compiled_init(&c,
                  DOCS(ROUTE("second", "    - headers: {x: {exact: a}}\n")
                           ROUTE("both", "    - headers: {x: {exact: ',a'}}\n")),
                  NULL);
    struct route_request rq = compiled_request("a.com", "/");
    const struct route_header headers[] = {{SLICE("x"), SLICE("")}, {SLICE("x"), SLICE("a")}};
    rq.headers = headers;
    rq.header_count = 2;
    EXPECT_STR(name_for(&c, &rq), "both");
    compiled_fini(&c);
}

TEST(route_conditions_of_method_scheme_authority_and_query)
{
    struct compiled c;
    compiled_init(&c,
                  DOCS(ROUTE("post", "    - method: {exact: POST}\n")
                           ROUTE("https", "    - scheme: {exact: https}\n")
                               ROUTE("authority", "    - authority: {prefix: 'a.com:80'}\n")
                                   ROUTE("query", "    - queryParams: {v: {exact: '1'}}\n")
                                       ROUTE("has", "    - queryParams: {flag: {}}\n") ROUTE(
                                           "re", "    - queryParams: {n: {regex: '[0-9]+'}}\n")),
                  NULL);
    struct route_request rq = compiled_request("a.com", "/");
    EXPECT(compiled_route(&c, "a.com", &rq) == NULL);
    rq.method = SLICE("POST");
    EXPECT_STR(name_for(&c, &rq), "post");
    rq.method = SLICE("GET");
    rq.scheme = SLICE("https");
    EXPECT_STR(name_for(&c, &rq), "https");
    EXPECT_STR(compiled_answer(&c, NULL, "a.com:8080", "/"), "authority");
    EXPECT_STR(get(&c, "/?a=b&v=1"), "query");
    EXPECT_STR(get(&c, "/?v=2&v=1"), "404"); // the first one counts
    EXPECT_STR(get(&c, "/?flag"), "has");
    EXPECT_STR(get(&c, "/?x&n=17"), "re");
    EXPECT_STR(get(&c, "/?x&n=17a"), "404");
    compiled_fini(&c);
}

TEST(route_empty_exact_asks_for_an_empty_value)
{
    struct compiled c;
    compiled_init(
        &c,
        DOCS(ROUTE("header", "    - headers: {x: {exact: ''}}\n")
                 ROUTE("query", "    - queryParams: {q: {exact: ''}}\n") ROUTE(
                     "without", "    - {uri: {exact: /w}, withoutHeaders: {y: {exact: ''}}}\n")),
        NULL);
    EXPECT_STR(with_header(&c, "/", "x", ""), "header");
    EXPECT_STR(with_header(&c, "/", "x", "1"), "404");
    EXPECT_STR(get(&c, "/"), "404");
    EXPECT_STR(get(&c, "/?q"), "query");
    EXPECT_STR(get(&c, "/?q=&q=1"), "query");
    EXPECT_STR(get(&c, "/?q=1"), "404");
    EXPECT_STR(get(&c, "/w"), "404"); // a missing field counts as an empty one
    EXPECT_STR(with_header(&c, "/w", "y", "1"), "without");
    compiled_fini(&c);
}

TEST(route_case_of_an_expression_is_its_own)
{
    struct compiled c;
    compiled_init(&c,
                  DOCS(ROUTE("re", "    - {uri: {regex: '/Case/.*'}, ignoreUriCase: true}\n")
                           ROUTE("any", "    - {uri: {regex: '(?i)/any'}}\n")),
                  NULL);
    EXPECT_STR(get(&c, "/Case/x"), "re");
    EXPECT_STR(get(&c, "/case/x"), "404");
    EXPECT_STR(get(&c, "/ANY"), "any");
    compiled_fini(&c);
}

TEST(route_match_blocks_are_alternatives_and_name_the_route)
{
    struct compiled c;
    compiled_init(
        &c, DOCS(ROUTE("r", "    - {name: m1, uri: {exact: /1}}\n    - uri: {exact: /2}\n")), NULL);
    EXPECT_STR(get(&c, "/1"), "r.m1");
    EXPECT_STR(get(&c, "/2"), "r");
    EXPECT_STR(get(&c, "/3"), "404");
    struct route_request rq = compiled_request("a.com", "/1");
    const struct route *r = compiled_route(&c, "a.com", &rq);
    REQUIRE(r != NULL);
    EXPECT_STR(r->virtual_service.ptr, "vs.default");
    EXPECT_STR(r->match_text.ptr, "/1");
    EXPECT_STR(r->pos.file, "test.yaml");
    EXPECT(r->pos.line > 0);
    compiled_fini(&c);
}

// A byte that is no UTF-8 leads past neither a rule that denies nor one that asks for an absence.
TEST(route_header_expressions_hold_for_any_byte)
{
    struct compiled c;
    compiled_init(&c,
                  DOCS(ROUTE("deny", "    - headers: {x-role: {regex: '.*admin.*'}}\n")
                           ROUTE("clean", "    - withoutHeaders: {x-tag: {regex: '.*bad.*'}}\n")
                               ROUTE("rest", "    - uri: {prefix: /}\n")),
                  NULL);
    EXPECT_STR(with_header(&c, "/", "x-role", "the admin"), "deny");
    EXPECT_STR(with_header(&c, "/", "x-role",
                           "\xff"
                           "admin"),
               "deny");
    EXPECT_STR(with_header(&c, "/", "x-role", "admin\x80\xc3"), "deny");
    EXPECT_STR(with_header(&c, "/", "x-role", "user\xff"), "clean");
    EXPECT_STR(with_header(&c, "/", "x-tag", "good\xff"), "clean");
    EXPECT_STR(with_header(&c, "/", "x-tag", "\xe9 bad"), "rest");
    compiled_fini(&c);
}

static const struct route *route_named(const struct compiled *c, const char *name)
{
    static const struct route none = {.match_text = SLICE("no such rule"),
                                      .stat_label = SLICE("no such rule")};
    const struct virtual_host *vh =
        route_find_host(compiled_listener(c, "0.0.0.0_80")->any->routes, SLICE("a.com"));
    for (uint32_t i = 0; vh && i < virtual_host_route_count(vh); i++)
        if (slice_eq(virtual_host_route(vh, i)->name, slice_of(name)))
            return virtual_host_route(vh, i);
    return &none;
}

// What `proxy-config routes` shows of the rule of that name.
static const char *text_of(const struct compiled *c, const char *name)
{
    return route_named(c, name)->match_text.ptr;
}

// What its statistics would be called without a name.
static const char *label_of(const struct compiled *c, const char *name)
{
    return route_named(c, name)->stat_label.ptr;
}

TEST(route_text_tells_rules_of_one_path_apart)
{
    struct compiled c;
    compiled_init(
        &c,
        DOCS(ROUTE("user", "    - uri: {prefix: /r}\n"
                           "      headers: {End-User: {exact: jason}, x-is: {}}\n")
                 ROUTE("kinds", "    - uri: {prefix: /r}\n"
                                "      headers: {x-id: {regex: '[0-9]+'}}\n"
                                "      queryParams: {v: {prefix: '2'}}\n")
                     ROUTE("post", "    - {uri: {prefix: /r}, method: {exact: POST}}\n")
                         ROUTE("without", "    - uri: {prefix: /r}\n"
                                          "      withoutHeaders: {x-bot: {}, x-a: {exact: b}}\n")
                             ROUTE("fold", "    - {uri: {exact: /R}, ignoreUriCase: true}\n") ROUTE(
                                 "regex", "    - {uri: {regex: '/r.*x'}, scheme: {exact: http}}\n")
                                 ROUTE("plain", "    - uri: {prefix: /r}\n")),
        NULL);
    EXPECT_STR(text_of(&c, "user"), "/r* header:end-user=jason header:x-is");
    EXPECT_STR(text_of(&c, "kinds"), "/r* header:x-id~[0-9]+ query:v=2*");
    EXPECT_STR(text_of(&c, "post"), "/r* method=POST");
    EXPECT_STR(text_of(&c, "without"), "/r* !header:x-bot !header:x-a=b");
    EXPECT_STR(text_of(&c, "fold"), "/r ignoreUriCase");
    EXPECT_STR(text_of(&c, "regex"), "regex /r.*x scheme=http");
    EXPECT_STR(text_of(&c, "plain"), "/r*");
    EXPECT_STR(label_of(&c, "user"), "/r* header:end-user= header:x-is"); // a value may be secret
    EXPECT_STR(label_of(&c, "kinds"), "/r* header:x-id~ query:v=*");
    EXPECT_STR(label_of(&c, "post"), "/r* method=POST");
    EXPECT_STR(label_of(&c, "plain"), "/r*");
    compiled_fini(&c);
}

TEST(route_match_of_port_gateway_and_source)
{
    static const char docs[] = DOCS(
        ROUTE("port", "    - {uri: {prefix: /a}, port: 81}\n")
            ROUTE("mesh", "    - {uri: {prefix: /a}, gateways: [mesh]}\n")
                ROUTE("source", "    - {uri: {prefix: /a}, sourceLabels: {app: client}}\n") ROUTE(
                    "gateway", "    - {uri: {prefix: /a}, gateways: [gw, mesh], port: 80}\n"));
    struct compiled c;
    compiled_init(&c, docs, NULL);
    EXPECT_STR(get(&c, "/a"), "gateway");
    compiled_fini(&c);
    compiled_init(&c, docs, "app=client,istio=ingressgateway");
    EXPECT_STR(get(&c, "/a"), "source");
    compiled_fini(&c);
}

TEST(route_destination_port_and_unknown_destinations)
{
    struct compiled c;
    compiled_init(
        &c,
        DOCS("  - match: [{uri: {exact: /one}}]\n    route: [{destination: {host: one}}]\n"
             "  - match: [{uri: {exact: /two}}]\n    route: [{destination: {host: two}}]\n"
             "  - match: [{uri: {exact: /port}}]\n"
             "    route: [{destination: {host: two, port: {number: 9}}}]\n"
             "  - match: [{uri: {exact: /subset}}]\n"
             "    route: [{destination: {host: one, subset: v9}}]\n"
             "  - match: [{uri: {exact: /fqdn}}]\n"
             "    route: [{destination: {host: ONE.default.svc.cluster.local}}]\n"
             "  - match: [{uri: {exact: /none}}]\n    route: [{destination: {host: none}}]\n"),
        NULL);
    struct route_request rq = compiled_request("a.com", "/one");
    const struct route *r = compiled_route(&c, "a.com", &rq);
    EXPECT(r && r->targets[0].cluster && r->total_weight == 1);
    EXPECT(r && route_pick(r, 0) == &r->targets[0]);
    EXPECT_STR(get(&c, "/one"), "outbound|8000||one.default.svc.cluster.local");
    EXPECT_STR(get(&c, "/two"), "outbound|80||two.default.svc.cluster.local");
    EXPECT_STR(get(&c, "/fqdn"), "outbound|8000||one.default.svc.cluster.local");
    EXPECT_STR(get(&c, "/port"), "outbound|9||two.default.svc.cluster.local");
    EXPECT_STR(get(&c, "/subset"), "outbound|8000|v9|one.default.svc.cluster.local");
    EXPECT_STR(get(&c, "/none"), "outbound|80||none.default.svc.cluster.local");
    rq = compiled_request("a.com", "/none");
    r = compiled_route(&c, "a.com", &rq);
    EXPECT(r && !r->targets[0].cluster);
    compiled_fini(&c);
}

TEST(route_weights)
{
    struct compiled c;
    compiled_init(&c,
                  DOCS("  - route:\n    - {destination: {host: one}, weight: 50}\n"
                       "    - {destination: {host: two}, weight: 0}\n"
                       "    - {destination: {host: none}, weight: 30}\n"),
                  NULL);
    struct route_request rq = compiled_request("a.com", "/");
    const struct route *r = compiled_route(&c, "a.com", &rq);
    REQUIRE(r && r->target_count == 2);
    EXPECT_EQ(r->total_weight, 80);
    EXPECT(route_pick(r, 0) == &r->targets[0]);
    EXPECT(route_pick(r, 49) == &r->targets[0]);
    EXPECT(route_pick(r, 50) == &r->targets[1]);
    EXPECT(route_pick(r, 79) == &r->targets[1]);
    compiled_fini(&c);
}

TEST(route_weights_beyond_32_bits_keep_their_ratio)
{
    struct compiled c;
    compiled_init(&c,
                  DOCS("  - route:\n    - {destination: {host: one}, weight: 2147483647}\n"
                       "    - {destination: {host: one}, weight: 2147483647}\n"
                       "    - {destination: {host: two}, weight: 2147483647}\n"
                       "    - {destination: {host: two}, weight: 1}\n"),
                  NULL);
    struct route_request rq = compiled_request("a.com", "/");
    const struct route *r = compiled_route(&c, "a.com", &rq);
    REQUIRE(r && r->target_count == 4);
    EXPECT_EQ(r->targets[0].weight, r->targets[2].weight);
    EXPECT(r->targets[0].weight_end < r->targets[1].weight_end);
    EXPECT(r->targets[1].weight_end < r->targets[2].weight_end);
    EXPECT_EQ(r->targets[3].weight, 1); // not lost
    EXPECT_EQ(r->targets[3].weight_end, r->total_weight);
    EXPECT(route_pick(r, r->total_weight - 1) == &r->targets[3]);
    compiled_fini(&c);
}

TEST(route_weight_of_a_lone_destination_does_not_matter)
{
    struct compiled c;
    compiled_init(&c, DOCS("  - route: [{destination: {host: one}, weight: 0}]\n"), NULL);
    struct route_request rq = compiled_request("a.com", "/");
    const struct route *r = compiled_route(&c, "a.com", &rq);
    REQUIRE(r && r->target_count == 1 && r->total_weight == 1);
    EXPECT(route_pick(r, 0) == &r->targets[0]);
    compiled_fini(&c);
}

TEST(route_retries_and_timeouts)
{
    struct compiled c;
    compiled_init(&c,
                  DOCS("  - match: [{uri: {exact: /default}}]\n"
                       "    route: [{destination: {host: one}}]\n"
                       "  - match: [{uri: {exact: /off}}]\n    retries: {attempts: 0}\n"
                       "    timeout: 2s\n    route: [{destination: {host: one}}]\n"
                       "  - match: [{uri: {exact: /own}}]\n"
                       "    retries: {attempts: 3, perTryTimeout: 500ms,\n"
                       "      retryOn: 'gateway-error,418,reset'}\n"
                       "    route: [{destination: {host: one}}]\n"),
                  NULL);
    struct route_request rq = compiled_request("a.com", "/default");
    const struct route *r = compiled_route(&c, "a.com", &rq);
    REQUIRE(r != NULL);
    EXPECT_EQ(r->retry.attempts, 2);
    EXPECT_EQ(r->retry.on, RETRY_CONNECT_FAILURE | RETRY_REFUSED_STREAM | RETRY_GRPC_UNAVAILABLE |
                               RETRY_GRPC_CANCELLED);
    EXPECT_EQ(r->retry.backoff_ns, 25000000);
    EXPECT(r->retry.previous_host_avoided && r->timeout_ns == 0);
    rq = compiled_request("a.com", "/off");
    r = compiled_route(&c, "a.com", &rq);
    EXPECT(r && r->retry.attempts == 0 && r->timeout_ns == 2000000000);
    rq = compiled_request("a.com", "/own");
    r = compiled_route(&c, "a.com", &rq);
    REQUIRE(r != NULL);
    EXPECT_EQ(r->retry.attempts, 3);
    EXPECT_EQ(r->retry.per_try_timeout_ns, 500000000);
    EXPECT_EQ(r->retry.on, RETRY_GATEWAY_ERROR | RETRY_RESET);
    REQUIRE(r->retry.status_count == 1);
    EXPECT_EQ(r->retry.status_codes[0], 418);
    compiled_fini(&c);
}

TEST(route_header_edits_and_authority)
{
    struct compiled c;
    compiled_init(&c,
                  DOCS("  - headers:\n"
                       "      request: {set: {X-B: b, X-A: a}, add: {X-C: c}, remove: [X-D]}\n"
                       "      response: {add: {X-R: r}}\n"
                       "    route:\n    - destination: {host: one}\n      weight: 1\n"
                       "      headers: {request: {set: {Host: one.com, x-t: t}}}\n"
                       "    - {destination: {host: two}, weight: 1}\n"),
                  NULL);
    struct route_request rq = compiled_request("a.com", "/");
    const struct route *r = compiled_route(&c, "a.com", &rq);
    REQUIRE(r && r->has_edits && r->target_count == 2);
    REQUIRE(r->request.set_count == 2);
    EXPECT_STR(r->request.set[0].name.ptr, "x-a");
    EXPECT_STR(r->request.set[1].value.ptr, "b");
    EXPECT_STR(r->request.add[0].name.ptr, "x-c");
    EXPECT_STR(r->request.remove[0].ptr, "x-d");
    EXPECT_STR(r->response.add[0].name.ptr, "x-r");
    EXPECT(r->rewrite_authority.len == 0);
    EXPECT(r->targets[0].has_edits && !r->targets[1].has_edits);
    EXPECT_EQ(r->targets[0].request.set_count, 1);
    EXPECT_STR(r->targets[0].rewrite_authority.ptr, "one.com");
    compiled_fini(&c);
}

TEST(route_header_value_with_percent_signs)
{
    struct compiled c;
    compiled_init(&c,
                  DOCS("  - headers: {request: {set: {a: '100%%', b: '%%%%x', c: '%PROTOCOL%', "
                       "host: 'a%%b.com'}}}\n"
                       "    route: [{destination: {host: one}}]\n"),
                  NULL);
    struct route_request rq = compiled_request("a.com", "/");
    const struct route *r = compiled_route(&c, "a.com", &rq);
    REQUIRE(r && r->request.set_count == 3);
    EXPECT(slice_eq(r->request.set[0].value, SLICE("100%")));
    EXPECT(slice_eq(r->request.set[1].value, SLICE("%%x")));
    EXPECT(slice_eq(r->request.set[2].value, SLICE("%PROTOCOL%")));
    EXPECT(slice_eq(r->rewrite_authority, SLICE("a%b.com")));
    EXPECT(compiled_has_finding(&c, "an operator in a header's value (%VAR%) is not served"));
    compiled_fini(&c);
}

TEST(route_edits_of_a_lone_destination_join_the_routes)
{
    struct compiled c;
    compiled_init(&c,
                  DOCS("  - headers: {request: {add: {a: '1'}, remove: [b]}}\n"
                       "    route:\n    - destination: {host: one}\n      headers:\n"
                       "        request: {set: {Host: one.com, c: '2'}, remove: [a]}\n"
                       "        response: {remove: [d]}\n"),
                  NULL);
    struct route_request rq = compiled_request("a.com", "/");
    const struct route *r = compiled_route(&c, "a.com", &rq);
    REQUIRE(r && r->target_count == 1 && r->has_edits && r->targets[0].has_edits);
    EXPECT(!r->target_edits_first);
    REQUIRE(r->request.remove_count == 2 && r->response.remove_count == 1);
    EXPECT_STR(r->request.remove[0].ptr, "b");
    EXPECT_STR(r->request.remove[1].ptr, "a"); // before the route adds it, so it stays
    EXPECT_STR(r->response.remove[0].ptr, "d");
    EXPECT_EQ(r->targets[0].request.remove_count, 0);
    EXPECT_EQ(r->targets[0].request.set_count, 1);
    EXPECT_STR(r->rewrite_authority.ptr, "one.com");
    compiled_fini(&c);
}

TEST(route_edits_of_weighted_destinations_stay_apart)
{
    struct compiled c;
    compiled_init(
        &c,
        DOCS("  - match: [{uri: {exact: /own}}]\n    rewrite: {authority: route.com}\n"
             "    route:\n"
             "    - {destination: {host: one}, weight: 1, headers: {request: {set: {host: h}}}}\n"
             "    - {destination: {host: two}, weight: 1}\n"
             "  - route:\n"
             "    - {destination: {host: one}, weight: 1, headers: {request: {add: {host: h}}}}\n"
             "    - {destination: {host: two}, weight: 0}\n"),
        NULL);
    struct route_request rq = compiled_request("a.com", "/own");
    const struct route *r = compiled_route(&c, "a.com", &rq);
    REQUIRE(r && r->target_count == 2);
    EXPECT(r->target_edits_first && r->targets[0].rewrite_authority.len == 0);
    EXPECT_STR(r->rewrite_authority.ptr, "route.com");
    rq = compiled_request("a.com", "/");
    r = compiled_route(&c, "a.com", &rq);
    REQUIRE(r && r->target_count == 1); // the other one weighs nothing
    EXPECT(r->target_edits_first && r->rewrite_authority.len == 0);
    EXPECT_STR(r->targets[0].rewrite_authority.ptr, "h");
    compiled_fini(&c);
}

TEST(route_redirect_codes_and_ports)
{
    struct compiled c;
    compiled_init(
        &c,
        DOCS("  - match: [{uri: {exact: /304}}]\n    redirect: {uri: /x, redirectCode: 304}\n"
             "  - match: [{uri: {exact: /308}}]\n    redirect: {uri: /x, redirectCode: 308}\n"
             "  - match: [{uri: {exact: /request}}]\n"
             "    redirect: {derivePort: FROM_REQUEST_PORT}\n"
             "  - match: [{uri: {exact: /protocol}}]\n"
             "    redirect: {derivePort: FROM_PROTOCOL_DEFAULT, scheme: https}\n"),
        NULL);
    struct route_request rq = compiled_request("a.com", "/304");
    const struct route *r = compiled_route(&c, "a.com", &rq);
    EXPECT(r && r->action == ROUTE_NO_ACTION);
    rq = compiled_request("a.com", "/308");
    r = compiled_route(&c, "a.com", &rq);
    EXPECT(r && r->action == ROUTE_REDIRECT && r->redirect.code == 308);
    rq = compiled_request("a.com", "/request");
    r = compiled_route(&c, "a.com", &rq);
    EXPECT(r && r->redirect.port_from_request && r->redirect.port == 0);
    rq = compiled_request("a.com", "/protocol");
    r = compiled_route(&c, "a.com", &rq);
    EXPECT(r && !r->redirect.port_from_request && r->redirect.port == 0);
    compiled_fini(&c);
}

TEST(route_rewrite_redirect_and_direct_response)
{
    struct compiled c;
    compiled_init(
        &c,
        DOCS("  - match: [{uri: {prefix: /api/}}]\n    rewrite: {uri: /, authority: b.c}\n"
             "    route: [{destination: {host: one}}]\n"
             "  - match: [{uri: {exact: /re}}]\n"
             "    rewrite: {uriRegexRewrite: {match: '/(.)e', rewrite: '/\\1'}}\n"
             "    route: [{destination: {host: one}}]\n"
             "  - match: [{uri: {exact: /old}}]\n    redirect: {uri: /new}\n"
             "  - match: [{uri: {exact: /direct}}]\n"
             "    directResponse: {status: 503, body: {string: sorry}}\n"),
        NULL);
    char out[64];
    size_t len = 0;
    struct route_request rq = compiled_request("a.com", "/api/x?q");
    const struct route *r = compiled_route(&c, "a.com", &rq);
    REQUIRE(r && route_rewrite_path(r, &rq, out, sizeof(out), &len) == OK);
    EXPECT(slice_eq((struct slice){out, len}, SLICE("/x?q")));
    EXPECT_STR(r->rewrite_authority.ptr, "b.c");
    rq = compiled_request("a.com", "/re");
    r = compiled_route(&c, "a.com", &rq);
    REQUIRE(r && r->rewrite_regex && route_rewrite_path(r, &rq, out, sizeof(out), &len) == OK);
    EXPECT(slice_eq((struct slice){out, len}, SLICE("/r")));
    rq = compiled_request("a.com", "/old");
    r = compiled_route(&c, "a.com", &rq);
    EXPECT(r && r->action == ROUTE_REDIRECT && r->redirect.code == 301 && r->redirect.uri_given);
    rq = compiled_request("a.com", "/direct");
    r = compiled_route(&c, "a.com", &rq);
    EXPECT(r && r->action == ROUTE_DIRECT_RESPONSE && r->direct_status == 503);
    EXPECT(r && slice_eq(r->direct_body, SLICE("sorry")));
    compiled_fini(&c);
}

TEST(route_bad_expressions_are_findings)
{
    struct compiled c;
    compiled_init(
        &c,
        DOCS(ROUTE("bad", "    - uri: {regex: '/(a'}\n") ROUTE("good", "    - uri: {prefix: /}\n")),
        NULL);
    EXPECT(compiled_has_finding(&c, "missing )"));
    EXPECT_STR(get(&c, "/a"), "good");
    compiled_fini(&c);
}
