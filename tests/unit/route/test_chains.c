// Filter chains: which servers share a listener, which chain a server name gets, and the rules of
// relays.
#include "fixture.h"
#include "test.h"

#define GATEWAY(name, servers)                                                       \
    "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: " name \
    ", namespace: istio-system}\nspec:\n  selector: {istio: ingressgateway}\n  servers:\n" servers
#define SERVER(number, name, protocol, hosts, tls)                                              \
    "  - port: {number: " number ", name: " name ", protocol: " protocol "}\n    hosts: " hosts \
    "\n" tls
#define SIMPLE "    tls: {mode: SIMPLE, credentialName: cert}\n"
#define PASS "    tls: {mode: PASSTHROUGH}\n"
#define AUTO "    tls: {mode: AUTO_PASSTHROUGH}\n"
#define VS(name, hosts, body)                                                               \
    "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " name \
    ", namespace: default}\nspec:\n  hosts: " hosts "\n  gateways: [istio-system/gw]\n" body
#define SERVICE(name, port)                                                                \
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: " name ", namespace: default}\n" \
    "spec: {ports: [{port: " port ", name: tcp}]}\n"

static const struct filter_chain *chain_for(const struct compiled *c, const char *listener,
                                            const char *sni)
{
    const struct listener_config *l = compiled_listener(c, listener);
    return l ? chain_find(&l->by_name, l->any, slice_of(sni)) : NULL;
}

static bool covers(const struct compiled *c, const struct filter_chain *chain, struct slice host)
{
    const struct listener_config *l = compiled_listener(c, "0.0.0.0_443");
    return chain_covers(chain, &l->by_name, l->any, host);
}

// The first cluster of the chain that `sni` gets, "-" where there is none.
static const char *relayed_to(const struct compiled *c, const char *listener, const char *sni)
{
    const struct filter_chain *chain = chain_for(c, listener, sni);
    return chain && chain->rule_count ? chain->rules[0].targets[0].cluster_name.ptr : "-";
}

#define OUT(port, name) "outbound|" port "||" name ".default.svc.cluster.local"

TEST(chains_of_https_servers_by_server_name)
{
    struct compiled c;
    compiled_init(&c,
                  GATEWAY("gw", SERVER("443", "a", "HTTPS", "[a.com]", SIMPLE)
                                    SERVER("443", "wild", "HTTPS", "['*.a.com', b.com]", SIMPLE)
                                        SERVER("443", "rest", "HTTPS", "['*']", SIMPLE))
                      VS("vs", "['*']", "  http: [{route: [{destination: {host: x}}]}]\n"),
                  NULL);
    const struct listener_config *l = compiled_listener(&c, "0.0.0.0_443");
    REQUIRE(l && l->chain_count == 3);
    EXPECT(l->tls && !l->udp);
    EXPECT_STR(chain_for(&c, l->name.ptr, "a.com")->name.ptr, "https.443.a.gw.istio-system");
    EXPECT_STR(chain_for(&c, l->name.ptr, "x.y.a.com")->name.ptr, "https.443.wild.gw.istio-system");
    EXPECT_STR(chain_for(&c, l->name.ptr, "b.com")->name.ptr, "https.443.wild.gw.istio-system");
    EXPECT_STR(chain_for(&c, l->name.ptr, "c.org")->name.ptr, "https.443.rest.gw.istio-system");
    EXPECT_STR(chain_for(&c, l->name.ptr, "")->name.ptr, "https.443.rest.gw.istio-system");
    for (uint32_t i = 0; i < 3; i++) {
        EXPECT(l->chains[i]->terminates_tls && !l->chains[i]->tls); // no context was given
        EXPECT_STR(l->chains[i]->routes->name.ptr, l->chains[i]->name.ptr);
    }
    // The second server's table knows its own hosts only.
    EXPECT(!route_find_host(l->chains[1]->routes, SLICE("a.com")));
    EXPECT(route_find_host(l->chains[1]->routes, SLICE("b.com")) != NULL);
    compiled_fini(&c);
}

TEST(chains_no_name_no_chain)
{
    struct compiled c;
    compiled_init(&c, GATEWAY("gw", SERVER("443", "a", "HTTPS", "[a.com]", SIMPLE)), NULL);
    EXPECT(chain_for(&c, "0.0.0.0_443", "a.com") != NULL);
    EXPECT(!chain_for(&c, "0.0.0.0_443", "b.com"));
    EXPECT(!chain_for(&c, "0.0.0.0_443", ""));
    EXPECT(!chain_for(&c, "0.0.0.0_443", "x.a.com"));
    compiled_fini(&c);
}

TEST(chains_cover_the_hosts_of_their_server)
{
    struct compiled c;
    compiled_init(&c, GATEWAY("gw", SERVER("443", "a", "HTTPS", "[a.com, '*.b.com']", SIMPLE)),
                  NULL);
    const struct filter_chain *chain = chain_for(&c, "0.0.0.0_443", "a.com");
    REQUIRE(chain != NULL);
    EXPECT(covers(&c, chain, SLICE("a.com")));
    EXPECT(covers(&c, chain, SLICE("A.com:8443")));
    EXPECT(covers(&c, chain, SLICE("x.y.b.com")));
    EXPECT(!covers(&c, chain, SLICE("b.com")));
    EXPECT(!covers(&c, chain, SLICE("c.com")));
    EXPECT(!covers(&c, chain, SLICE("[::1]:443")));
    compiled_fini(&c);
}

// Else a client without certificate would reach what asks for one by way of a wider name.
TEST(chains_cover_no_host_of_a_narrower_server)
{
    struct compiled c;
    compiled_init(&c,
                  GATEWAY("gw", SERVER("443", "one", "HTTPS", "[a.b.com]", SIMPLE)
                                    SERVER("443", "wide", "HTTPS", "['*.b.com']", SIMPLE)
                                        SERVER("443", "rest", "HTTPS", "['*']", SIMPLE)),
                  NULL);
    const struct filter_chain *one = chain_for(&c, "0.0.0.0_443", "a.b.com"),
                              *wide = chain_for(&c, "0.0.0.0_443", "x.b.com"),
                              *rest = chain_for(&c, "0.0.0.0_443", "");
    REQUIRE(one && wide && rest && one != wide && wide != rest);
    EXPECT(covers(&c, one, SLICE("a.b.com")) && !covers(&c, one, SLICE("x.b.com")));
    EXPECT(covers(&c, wide, SLICE("X.B.com:443")) && !covers(&c, wide, SLICE("A.b.com")));
    EXPECT(covers(&c, rest, SLICE("[::1]:443")) && covers(&c, rest, SLICE("c.com")));
    EXPECT(!covers(&c, rest, SLICE("a.b.com")) && !covers(&c, rest, SLICE("q.b.com")));
    compiled_fini(&c);
}

TEST(chains_the_first_server_keeps_a_name)
{
    struct compiled c;
    compiled_init(&c,
                  GATEWAY("gw", SERVER("443", "one", "HTTPS", "[a.com]", SIMPLE)
                                    SERVER("443", "two", "HTTPS", "[a.com, b.com]", SIMPLE)),
                  NULL);
    EXPECT_STR(chain_for(&c, "0.0.0.0_443", "a.com")->name.ptr, "https.443.one.gw.istio-system");
    EXPECT_STR(chain_for(&c, "0.0.0.0_443", "b.com")->name.ptr, "https.443.two.gw.istio-system");
    EXPECT(compiled_has_finding(&c, "skipping server two for host a.com"));
    compiled_fini(&c);
}

TEST(chains_of_passthrough_follow_tls_routes)
{
    struct compiled c;
    compiled_init(
        &c,
        GATEWAY("gw", SERVER("443", "tls", "TLS", "['*.com', '*.net']", PASS))
            SERVICE("one", "8443") SERVICE("two", "8443") SERVICE("four", "4")
                VS("vs", "['*.com']",
                   "  tls:\n"
                   "  - match: [{port: 444, sniHosts: [a.com]}]\n"
                   "    route: [{destination: {host: four}}]\n"
                   "  - match: [{port: 443, sniHosts: [A.com, b.com]}]\n"
                   "    route: [{destination: {host: one, port: {number: 8443}}}]\n"
                   "  - match: [{sniHosts: ['*.com']}]\n"
                   "    route: [{destination: {host: two}}]\n")
                    VS("tcp-only", "['x.net']", "  tcp: [{route: [{destination: {host: one}}]}]\n"),
        NULL);
    EXPECT_STR(relayed_to(&c, "0.0.0.0_443", "a.com"), OUT("8443", "one"));
    EXPECT_STR(relayed_to(&c, "0.0.0.0_443", "b.com"), OUT("8443", "one"));
    EXPECT_STR(relayed_to(&c, "0.0.0.0_443", "c.com"), OUT("8443", "two"));
    EXPECT_STR(relayed_to(&c, "0.0.0.0_443", "x.net"), "-"); // only `tls` routes count
    EXPECT_STR(relayed_to(&c, "0.0.0.0_443", ""), "-");
    EXPECT(!chain_for(&c, "0.0.0.0_443", "a.com")->terminates_tls);
    compiled_fini(&c);
}

TEST(chains_a_passthrough_server_with_tcp_routes_only_has_no_listener)
{
    struct compiled c;
    compiled_init(&c,
                  GATEWAY("gw", SERVER("443", "tls", "TLS", "['*']", PASS)) SERVICE("one", "80")
                      VS("vs", "['*']", "  tcp: [{route: [{destination: {host: one}}]}]\n"),
                  NULL);
    EXPECT(!compiled_listener(&c, "0.0.0.0_443"));
    compiled_fini(&c);
}

TEST(chains_of_terminated_tls_follow_tcp_routes)
{
    struct compiled c;
    compiled_init(&c,
                  GATEWAY("gw", SERVER("443", "tls", "TLS", "[a.com]", SIMPLE)) SERVICE("one", "80")
                      VS("vs", "[a.com]", "  tcp: [{route: [{destination: {host: one}}]}]\n"),
                  NULL);
    const struct filter_chain *chain = chain_for(&c, "0.0.0.0_443", "a.com");
    REQUIRE(chain != NULL);
    EXPECT(chain->terminates_tls && !chain->routes);
    EXPECT_STR(relayed_to(&c, "0.0.0.0_443", "a.com"), OUT("80", "one"));
    EXPECT_STR(chain->name.ptr, "tls.443.tls.gw.istio-system");
    compiled_fini(&c);
}

TEST(chains_of_tcp_servers)
{
    struct addr here, there;
    struct compiled c;
    compiled_init(&c,
                  GATEWAY("gw", SERVER("6379", "redis", "REDIS", "['*']", "")
                                    SERVER("3306", "mysql", "MYSQL", "['*']", "")
                                        SERVER("9", "none", "TCP", "['*']", ""))
                      SERVICE("one", "80") SERVICE("two", "80")
                          VS("vs", "['*']",
                             "  tcp:\n"
                             "  - match: [{port: 6379, destinationSubnets: [10.0.0.0/8]}]\n"
                             "    route: [{destination: {host: one}}]\n"
                             "  - match: [{port: 6379}]\n"
                             "    route:\n"
                             "    - {destination: {host: one}, weight: 30}\n"
                             "    - {destination: {host: two}, weight: 70}\n"
                             "    - {destination: {host: gone}, weight: 0}\n"
                             "  - match: [{port: 3306, gateways: [istio-system/other]}]\n"
                             "    route: [{destination: {host: two}}]\n"),
                  NULL);
    const struct filter_chain *chain = chain_for(&c, "0.0.0.0_6379", "");
    REQUIRE(chain && chain->rule_count == 2);
    EXPECT(addr_parse(SLICE("10.1.2.3"), 6379, &here) == OK);
    EXPECT(addr_parse(SLICE("192.168.0.1"), 6379, &there) == OK);
    EXPECT(chain_rule(chain, &here) == &chain->rules[0]);
    EXPECT(chain_rule(chain, &there) == &chain->rules[1]);
    const struct l4_rule *weighted = &chain->rules[1];
    REQUIRE(weighted->target_count == 2);
    EXPECT_EQ(weighted->total_weight, 100);
    EXPECT_STR(l4_pick(weighted, 29)->cluster_name.ptr, OUT("80", "one"));
    EXPECT_STR(l4_pick(weighted, 30)->cluster_name.ptr, OUT("80", "two"));
    EXPECT_STR(l4_pick(weighted, 99)->cluster_name.ptr, OUT("80", "two"));
    EXPECT_STR(weighted->stat_prefix.ptr, "vs.default");
    EXPECT_STR(chain->rules[0].stat_prefix.ptr, OUT("80", "one"));
    EXPECT(!compiled_listener(&c, "0.0.0.0_3306")); // its route is for another Gateway
    EXPECT(!compiled_listener(&c, "0.0.0.0_9"));    // no route
    compiled_fini(&c);
}

TEST(chains_auto_passthrough_by_the_name_of_a_service)
{
    struct compiled c;
    compiled_init(
        &c,
        GATEWAY("gw", SERVER("15443", "tls", "TLS", "['*.local']", AUTO)) SERVICE(
            "one",
            "8000") "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
                    "metadata: {name: one, namespace: default}\n"
                    "spec: {host: one, subsets: [{name: v1, labels: {v: v1}}]}\n"
                    "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
                    "metadata: {name: out, namespace: default}\nspec:\n  hosts: [out.local]\n"
                    "  location: MESH_EXTERNAL\n  resolution: STATIC\n"
                    "  ports: [{number: 80, name: http, protocol: HTTP}]\n"
                    "  endpoints: [{address: 10.0.0.9}]\n",
        NULL);
    EXPECT_STR(relayed_to(&c, "0.0.0.0_15443", "outbound_.8000_._.one.default.svc.cluster.local"),
               OUT("8000", "one"));
    EXPECT_STR(relayed_to(&c, "0.0.0.0_15443", "outbound_.8000_.v1_.one.default.svc.cluster.local"),
               "outbound|8000|v1|one.default.svc.cluster.local");
    EXPECT_STR(relayed_to(&c, "0.0.0.0_15443", "outbound_.80_._.out.local"), "-");
    EXPECT_STR(relayed_to(&c, "0.0.0.0_15443", "one.default.svc.cluster.local"), "-");
    const struct filter_chain *chain =
        chain_for(&c, "0.0.0.0_15443", "outbound_.8000_._.one.default.svc.cluster.local");
    EXPECT(chain && chain->istio_alpn_only && !chain->terminates_tls);
    compiled_fini(&c);
}

TEST(chains_servers_of_another_kind_on_a_port_are_skipped)
{
    struct compiled c;
    compiled_init(&c,
                  GATEWAY("gw", SERVER("80", "http", "HTTP", "['*']", "")
                                    SERVER("80", "tcp", "TCP", "['*']", "")
                                        SERVER("80", "https", "HTTPS", "['*']", SIMPLE))
                      SERVICE("one", "80")
                          VS("vs", "['*']", "  tcp: [{route: [{destination: {host: one}}]}]\n"),
                  NULL);
    const struct listener_config *l = compiled_listener(&c, NULL);
    REQUIRE(l && l->chain_count == 1);
    EXPECT(l->any->routes && !l->tls);
    EXPECT(compiled_has_finding(&c, "skipping server on port tcp.80.TCP"));
    EXPECT(compiled_has_finding(&c, "skipping server on port https.80.HTTPS"));
    compiled_fini(&c);
}
