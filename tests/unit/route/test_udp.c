// UDP servers: their listeners, rules and clusters, beside those of TCP.
#include "fixture.h"
#include "test.h"

#define GATEWAY(servers)                                                            \
    "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gw, " \
    "namespace: default}\nspec:\n  selector: {istio: ingressgateway}\n  servers:\n" servers
#define SERVER(number, name, protocol) \
    "  - port: {number: " number ", name: " name ", protocol: " protocol "}\n    hosts: ['*']\n"
#define AUTO                                                                                  \
    "  - port: {number: 15443, name: auto, protocol: TLS}\n    hosts: ['*.local']\n    tls: " \
    "{mode: AUTO_PASSTHROUGH}\n"
#define VS(routes)                                                                         \
    "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: vs, " \
    "namespace: default}\nspec:\n  hosts: ['*']\n  gateways: [gw]\n  tcp:\n" routes
#define TO(match, host) "  - {" match "route: [{destination: {host: " host "}}]}\n"
#define DNS                                                                                  \
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: dns, namespace: default}\nspec:\n" \
    "  selector: {app: dns}\n  ports:\n"                                                     \
    "  - {name: tcp, port: 53, targetPort: 1053}\n"                                          \
    "  - {name: udp, port: 53, targetPort: 2053, protocol: UDP}\n"                           \
    "---\napiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: default, "               \
    "labels: {app: dns}}\nspec: {containers: [{name: c, image: i}]}\n"                       \
    "status: {podIP: 10.0.0.1}\n"
#define ENTRY(name, ports, endpoint)                                                          \
    "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: " name     \
    ", namespace: default}\nspec:\n  hosts: [" name ".test]\n  resolution: STATIC\n  ports: " \
    "[" ports "]\n  endpoints: [" endpoint "]\n"
#define HOST "dns.default.svc.cluster.local"

static const char *first_cluster(const struct compiled *c, const char *listener)
{
    const struct listener_config *l = compiled_listener(c, listener);
    return l && l->any && l->any->rule_count ? l->any->rules[0].targets[0].cluster_name.ptr : "-";
}

TEST(udp_and_tcp_of_one_number_are_two_listeners_with_clusters_of_their_own)
{
    struct compiled c;
    compiled_init(&c,
                  GATEWAY(SERVER("53", "t", "TCP") SERVER("53", "u", "UDP"))
                      VS(TO("", "dns, port: {number: 53}")) DNS,
                  NULL);
    const struct listener_config *l = compiled_listener(&c, "udp_0.0.0.0_53");
    REQUIRE(l && l->udp && !l->tls);
    EXPECT_STR(l->any->name.ptr, "udp.53.u.gw.default");
    EXPECT(compiled_listener(&c, "0.0.0.0_53") && !compiled_listener(&c, "0.0.0.0_53")->udp);
    EXPECT_STR(first_cluster(&c, "udp_0.0.0.0_53"), "outbound|53/UDP||" HOST);
    EXPECT_STR(first_cluster(&c, "0.0.0.0_53"), "outbound|53||" HOST);
    EXPECT_STR(compiled_endpoints(&c, "outbound|53/UDP||" HOST), "10.0.0.1:2053");
    EXPECT_STR(compiled_endpoints(&c, "outbound|53||" HOST), "10.0.0.1:1053");
    EXPECT_EQ(c.findings.count, 0);
    // The process's idle time, not that of a TCP relay.
    EXPECT_EQ(compiled_cluster(&c, "outbound|53/UDP||" HOST)->tcp_idle_timeout_ns, 0);
    compiled_fini(&c);
}

TEST(udp_ports_are_no_clusters_without_a_server_of_udp)
{
    struct compiled c;
    compiled_init(&c, GATEWAY(SERVER("53", "t", "TCP")) VS(TO("", "dns")) DNS, NULL);
    EXPECT_EQ(c.config.clusters.count, 1);
    compiled_fini(&c);
}

TEST(udp_rules_by_port)
{
    struct compiled c;
    compiled_init(&c,
                  GATEWAY(SERVER("53", "u", "UDP") SERVER("54", "v", "UDP"))
                      VS(TO("match: [{port: 53}], ", "dns")) DNS,
                  NULL);
    EXPECT_EQ(c.config.listener_count, 1);
    EXPECT(compiled_listener(&c, "udp_0.0.0.0_53") != NULL);
    compiled_fini(&c);
}

TEST(udp_ports_of_a_service_entry)
{
    struct compiled c;
    compiled_init(&c,
                  GATEWAY(SERVER("53", "u", "UDP")) VS(TO("", "out.test"))
                      ENTRY("out",
                            "{number: 52, name: t, protocol: TCP}, "
                            "{number: 53, name: u, protocol: UDP}",
                            "{address: 10.0.0.9, ports: {t: 1, u: 2}}")
                          ENTRY("stream", "{number: 53, name: u, protocol: UDP}",
                                "{address: 'unix:///run/e'}"),
                  NULL);
    EXPECT_STR(first_cluster(&c, "udp_0.0.0.0_53"), "outbound|53/UDP||out.test");
    EXPECT_STR(compiled_endpoints(&c, "outbound|53/UDP||out.test"), "10.0.0.9:2");
    EXPECT_STR(compiled_endpoints(&c, "outbound|52||out.test"), "10.0.0.9:1");
    EXPECT_STR(compiled_endpoints(&c, "outbound|53/UDP||stream.test"), "");
    compiled_fini(&c);
}

TEST(udp_port_that_is_tcp_only_or_asks_for_tls_has_no_target)
{
    static const char tls[] = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
                              "metadata: {name: dr, namespace: default}\nspec:\n  host: dns\n"
                              "  trafficPolicy: {tls: {mode: SIMPLE}}\n";
    char docs[4096];
    struct compiled c;
    compiled_init(&c,
                  GATEWAY(SERVER("80", "u", "UDP"))
                      VS("  - route: [{destination: {host: web, port: {number: "
                         "80}}}]\n") "---\napiVersion: v1\nkind: "
                                     "Service\nmetadata: {name: web, "
                                     "namespace: default}\nspec: {ports: "
                                     "[{port: 80}]}\n",
                  NULL);
    EXPECT(compiled_has_finding(&c, "web has this port for TCP only: datagrams of server u (UDP) "
                                    "are dropped"));
    REQUIRE(compiled_listener(&c, "udp_0.0.0.0_80"));
    EXPECT(!compiled_listener(&c, "udp_0.0.0.0_80")->any->rules[0].targets[0].cluster);
    compiled_fini(&c);

    snprintf(docs, sizeof(docs), "%s%s", GATEWAY(SERVER("53", "u", "UDP")) VS(TO("", "dns")) DNS,
             tls);
    compiled_init(&c, docs, NULL);
    EXPECT(compiled_has_finding(&c, "asks for TLS to dns, which datagrams cannot have"));
    REQUIRE(compiled_listener(&c, "udp_0.0.0.0_53"));
    EXPECT(!compiled_listener(&c, "udp_0.0.0.0_53")->any->rules[0].targets[0].cluster);
    compiled_fini(&c);
}

TEST(udp_clusters_are_not_reached_by_server_name)
{
    struct compiled c;
    compiled_init(&c, GATEWAY(SERVER("53", "u", "UDP") AUTO) VS(TO("", "dns")) DNS, NULL);
    const struct listener_config *l = compiled_listener(&c, "0.0.0.0_15443");
    REQUIRE(l);
    EXPECT_EQ(l->chain_count, 1);
    compiled_fini(&c);
}
