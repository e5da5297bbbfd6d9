// Clusters: names, endpoints from every source, subsets, and the settings of DestinationRules.
#include "fixture.h"
#include "test.h"

#define SERVICE                                                                         \
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: ns}\nspec:\n" \
    "  selector: {app: web}\n  ports:\n"                                                \
    "  - {name: http, port: 80, targetPort: 8080}\n"                                    \
    "  - {name: named, port: 81, targetPort: admin}\n"                                  \
    "  - {name: dns, port: 53, protocol: UDP}\n"
#define POD(name, ip, version, extra)                                                        \
    "---\napiVersion: v1\nkind: Pod\nmetadata: {name: " name                                 \
    ", namespace: ns, labels: {app: web, "                                                   \
    "version: " version "}}\nspec: {containers: [{name: c, image: i, ports: [{name: admin, " \
    "containerPort: 9090}]}]}\nstatus: {podIP: " ip extra "}\n"
#define PODS POD("p1", "10.0.0.1", "v1", "") POD("p2", "10.0.0.2", "v2", "")
#define RULE(policy)                                                   \
    "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n" \
    "metadata: {name: dr, namespace: ns}\nspec:\n  host: web\n" policy
#define WEB "web.ns.svc.cluster.local"

TEST(clusters_of_a_service_from_its_pods)
{
    struct compiled c;
    compiled_init(&c,
                  SERVICE PODS POD("p3", "10.0.0.3", "v1", ", phase: Failed")
                      RULE("  subsets:\n  - {name: v1, labels: {version: v1}}\n"
                           "  - {name: v9, labels: {version: v9}}\n"),
                  NULL);
    EXPECT_STR(compiled_endpoints(&c, "outbound|80||" WEB), "10.0.0.1:8080 10.0.0.2:8080");
    EXPECT_STR(compiled_endpoints(&c, "outbound|81||" WEB), "10.0.0.1:9090 10.0.0.2:9090");
    EXPECT_STR(compiled_endpoints(&c, "outbound|80|v1|" WEB), "10.0.0.1:8080");
    EXPECT_STR(compiled_endpoints(&c, "outbound|80|v9|" WEB), "");
    EXPECT_STR(compiled_endpoints(&c, "outbound|53||" WEB), "no cluster");
    EXPECT_EQ(c.config.clusters.count, 6);
    for (uint32_t i = 0; i < c.config.clusters.count; i++) {
        EXPECT_EQ(c.config.clusters.clusters[i]->index, i);
        EXPECT(i == 0 || slice_cmp(c.config.clusters.clusters[i - 1]->name,
                                   c.config.clusters.clusters[i]->name) < 0);
    }
    const struct cluster_config *v1 = compiled_cluster(&c, "outbound|80|v1|" WEB);
    REQUIRE(v1 != NULL);
    EXPECT_STR(v1->host.ptr, WEB);
    EXPECT_STR(v1->subset.ptr, "v1");
    EXPECT_STR(v1->destination_rule.ptr, "dr.ns");
    EXPECT_STR(v1->type, "EDS");
    compiled_fini(&c);
}

TEST(clusters_prefer_slices_to_endpoints_to_pods)
{
    struct compiled c;
    compiled_init(
        &c,
        SERVICE PODS
        "---\napiVersion: v1\nkind: Endpoints\nmetadata: {name: web, namespace: ns}\n"
        "subsets: [{addresses: [{ip: 10.0.1.1}], ports: [{name: http, port: 8081}]}]\n"
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
        "metadata: {name: web-1, namespace: ns, labels: {kubernetes.io/service-name: web}}\n"
        "addressType: IPv4\nports: [{name: http, port: 8082}]\nendpoints:\n"
        "- {addresses: [10.0.0.2], conditions: {ready: true}}\n"
        "- {addresses: [10.9.9.9], targetRef: {kind: Pod, name: p1, namespace: ns}}\n"
        "- {addresses: [10.0.0.7], conditions: {ready: false}}\n" RULE(
            "  subsets:\n  - {name: v1, labels: {version: v1}}\n"
            "  - {name: v2, labels: {version: v2}}\n"),
        NULL);
    EXPECT_STR(compiled_endpoints(&c, "outbound|80||" WEB), "10.0.0.2:8082 10.9.9.9:8082");
    EXPECT_STR(compiled_endpoints(&c, "outbound|80|v1|" WEB), "10.9.9.9:8082");
    EXPECT_STR(compiled_endpoints(&c, "outbound|80|v2|" WEB), "10.0.0.2:8082");
    EXPECT_STR(compiled_endpoints(&c, "outbound|81||" WEB), "");
    compiled_fini(&c);
}

TEST(clusters_of_service_entries)
{
    struct compiled c;
    compiled_init(
        &c,
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: s}\nspec:\n"
        "  hosts: [static.example]\n  resolution: STATIC\n"
        "  ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, "
        "protocol: TLS, targetPort: 8443}]\n  endpoints:\n"
        "  - {address: 10.2.0.1, labels: {v: a}, weight: 3, ports: {http: 8001}}\n"
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: u}\nspec:\n"
        "  hosts: [unix.example]\n  resolution: STATIC\n"
        "  ports: [{number: 80, name: http, protocol: HTTP}]\n"
        "  endpoints: [{address: 'unix:///run/x.sock'}]\n"
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: w}\nspec:\n"
        "  hosts: [vm.example]\n  resolution: STATIC\n  workloadSelector: {labels: {app: vm}}\n"
        "  ports: [{number: 80, name: http, protocol: HTTP}]\n"
        "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: vm1}\n"
        "spec: {address: 10.3.0.1, labels: {app: vm, v: b}, locality: r/z/s}\n"
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: d}\nspec:\n"
        "  hosts: [dns.example]\n  resolution: DNS\n"
        "  ports: [{number: 80, name: http, protocol: HTTP}]\n"
        "  endpoints: [{address: 10.4.0.1}]\n"
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: dr}\n"
        "spec: {host: static.example, subsets: [{name: a, labels: {v: a}}]}\n",
        NULL);
    EXPECT_STR(compiled_endpoints(&c, "outbound|80||static.example"), "10.2.0.1:8001");
    EXPECT_STR(compiled_endpoints(&c, "outbound|80||unix.example"), "unix:///run/x.sock");
    EXPECT_STR(compiled_endpoints(&c, "outbound|443|a|static.example"), "10.2.0.1:8443");
    EXPECT_STR(compiled_endpoints(&c, "outbound|80||vm.example"), "10.3.0.1:80");
    EXPECT_STR(compiled_endpoints(&c, "outbound|80||dns.example"), "10.4.0.1:80");
    const struct cluster_config *s = compiled_cluster(&c, "outbound|80||static.example");
    const struct cluster_config *w = compiled_cluster(&c, "outbound|80||vm.example");
    REQUIRE(s && w && s->endpoint_count && w->endpoint_count);
    EXPECT_EQ(s->endpoints[0].weight, 3);
    EXPECT_EQ(w->endpoints[0].weight, 1);
    EXPECT_STR(w->endpoints[0].locality.ptr, "r/z/s");
    EXPECT_STR(compiled_cluster(&c, "outbound|80||dns.example")->type, "STRICT_DNS");
    compiled_fini(&c);
}

TEST(clusters_policy_defaults)
{
    struct compiled c;
    compiled_init(&c, SERVICE, NULL);
    const struct cluster_config *d = compiled_cluster(&c, "outbound|80||" WEB);
    REQUIRE(d != NULL);
    EXPECT_EQ(d->lb, LB_POLICY_LEAST_REQUEST);
    EXPECT_EQ(d->connect_timeout_ns, 10000000000);
    EXPECT_EQ(d->idle_timeout_ns, 3600000000000);
    EXPECT_EQ(d->tcp_idle_timeout_ns, 3600000000000);
    EXPECT_EQ(d->max_connection_duration_ns, 0);
    EXPECT_EQ(d->max_connections, UINT32_MAX);
    EXPECT_EQ(d->max_retries, UINT32_MAX);
    EXPECT_EQ(d->max_requests_per_connection, 0);
    EXPECT_EQ(d->destination_rule.len, 0);
    EXPECT_EQ(d->settings_hash, compiled_cluster(&c, "outbound|81||" WEB)->settings_hash);
    compiled_fini(&c);
}

TEST(clusters_tcp_times)
{
    struct compiled c;
    compiled_init(
        &c,
        SERVICE RULE("  trafficPolicy:\n    connectionPool:\n"
                     "      tcp: {idleTimeout: 5s, maxConnectionDuration: 7s}\n"
                     "  subsets:\n  - name: own\n    labels: {v: a}\n    trafficPolicy:\n"
                     "      connectionPool: {tcp: {idleTimeout: 0s}, http: {idleTimeout: 2s}}\n"),
        NULL);
    const struct cluster_config *top = compiled_cluster(&c, "outbound|80||" WEB);
    const struct cluster_config *own = compiled_cluster(&c, "outbound|80|own|" WEB);
    REQUIRE(top && own);
    EXPECT_EQ(top->tcp_idle_timeout_ns, 5000000000);
    EXPECT_EQ(top->idle_timeout_ns, 5000000000); // HTTP has none of its own
    EXPECT_EQ(top->max_connection_duration_ns, 7000000000);
    EXPECT_EQ(own->tcp_idle_timeout_ns, 0);
    EXPECT_EQ(own->idle_timeout_ns, 2000000000);
    EXPECT_EQ(own->max_connection_duration_ns, 0);
    EXPECT(top->settings_hash != own->settings_hash);
    compiled_fini(&c);
}

TEST(clusters_keepalive)
{
    struct compiled c;
    compiled_init(
        &c,
        SERVICE RULE("  trafficPolicy:\n    connectionPool:\n"
                     "      tcp: {tcpKeepalive: {time: 7200.5s, interval: 5ms, probes: 3}}\n"
                     "  subsets:\n  - name: own\n    labels: {v: a}\n    trafficPolicy:\n"
                     "      connectionPool: {tcp: {tcpKeepalive: {}}}\n"
                     "  - name: none\n    labels: {v: a}\n    trafficPolicy:\n"
                     "      connectionPool: {tcp: {maxConnections: 1}}\n"),
        NULL);
    const struct cluster_config *top = compiled_cluster(&c, "outbound|80||" WEB);
    const struct cluster_config *own = compiled_cluster(&c, "outbound|80|own|" WEB);
    const struct cluster_config *none = compiled_cluster(&c, "outbound|80|none|" WEB);
    REQUIRE(top && own && none);
    EXPECT(top->keepalive && own->keepalive && !none->keepalive);
    EXPECT_EQ(top->keepalive_idle_s, 7201);
    EXPECT_EQ(top->keepalive_interval_s, 1);
    EXPECT_EQ(top->keepalive_probes, 3);
    EXPECT_EQ(own->keepalive_idle_s + own->keepalive_interval_s + own->keepalive_probes, 0);
    EXPECT(top->settings_hash != own->settings_hash);
    compiled_fini(&c);
}

// A port's settings leave it as it is (Istio's MergeTrafficPolicy replaces four other fields).
TEST(clusters_proxy_protocol)
{
    struct compiled c;
    compiled_init(&c,
                  SERVICE RULE("  trafficPolicy:\n    proxyProtocol: {version: V2}\n"
                               "    portLevelSettings:\n    - port: {number: 81}\n"
                               "      loadBalancer: {simple: ROUND_ROBIN}\n"
                               "  subsets:\n  - name: one\n    labels: {v: a}\n"
                               "    trafficPolicy: {proxyProtocol: {}}\n"
                               "  - name: same\n    labels: {v: a}\n"
                               "    trafficPolicy: {loadBalancer: {simple: RANDOM}}\n"),
                  NULL);
    const struct cluster_config *top = compiled_cluster(&c, "outbound|80||" WEB);
    const struct cluster_config *port = compiled_cluster(&c, "outbound|81||" WEB);
    const struct cluster_config *one = compiled_cluster(&c, "outbound|80|one|" WEB);
    const struct cluster_config *same = compiled_cluster(&c, "outbound|80|same|" WEB);
    REQUIRE(top && port && one && same);
    EXPECT_EQ(top->proxy_protocol, 2);
    EXPECT_EQ(port->proxy_protocol, 2);
    EXPECT_EQ(one->proxy_protocol, 1);
    EXPECT_EQ(same->proxy_protocol, 2);
    EXPECT(top->settings_hash != one->settings_hash);
    compiled_fini(&c);
    compiled_init(&c, SERVICE, NULL);
    EXPECT_EQ(compiled_cluster(&c, "outbound|80||" WEB)->proxy_protocol, 0);
    compiled_fini(&c);
}

TEST(clusters_policy_precedence)
{
    struct compiled c;
    compiled_init(
        &c,
        SERVICE RULE("  trafficPolicy:\n    loadBalancer: {simple: RANDOM}\n"
                     "    connectionPool: {tcp: {maxConnections: 7, connectTimeout: 3s}}\n"
                     "    portLevelSettings:\n    - port: {number: 81}\n"
                     "      loadBalancer: {simple: ROUND_ROBIN}\n"
                     "  subsets:\n  - name: plain\n    labels: {v: a}\n"
                     "  - name: own\n    labels: {v: a}\n    trafficPolicy:\n"
                     "      connectionPool: {http: {maxRetries: 4}}\n"
                     "      portLevelSettings:\n      - port: {number: 81}\n"
                     "        loadBalancer: {simple: LEAST_REQUEST}\n"),
        NULL);
    const struct cluster_config *top = compiled_cluster(&c, "outbound|80||" WEB);
    const struct cluster_config *port = compiled_cluster(&c, "outbound|81||" WEB);
    const struct cluster_config *plain = compiled_cluster(&c, "outbound|81|plain|" WEB);
    const struct cluster_config *own = compiled_cluster(&c, "outbound|80|own|" WEB);
    const struct cluster_config *both = compiled_cluster(&c, "outbound|81|own|" WEB);
    REQUIRE(top && port && plain && own && both);
    EXPECT_EQ(top->lb, LB_POLICY_RANDOM);
    EXPECT_EQ(top->max_connections, 7);
    EXPECT_EQ(top->connect_timeout_ns, 3000000000);
    EXPECT_EQ(port->lb, LB_POLICY_ROUND_ROBIN);
    EXPECT_EQ(port->max_connections, UINT32_MAX); // portLevelSettings do not inherit
    EXPECT_EQ(plain->lb, LB_POLICY_ROUND_ROBIN);
    EXPECT_EQ(own->lb, LB_POLICY_RANDOM);
    EXPECT_EQ(own->max_connections, UINT32_MAX);
    EXPECT_EQ(own->max_retries, 4);
    EXPECT_EQ(both->lb, LB_POLICY_LEAST_REQUEST);
    EXPECT(top->settings_hash != own->settings_hash);
    compiled_fini(&c);
}

// As the other settings: a port's entry replaces all of its level, a subset's settings the rule's.
TEST(clusters_tls_precedence)
{
    static const struct {
        const char *name;
        enum client_tls_mode mode;
    } want[] = {
        {"outbound|80||" WEB, CLIENT_TLS_SIMPLE},
        {"outbound|81||" WEB, CLIENT_TLS_DISABLE}, // nothing is inherited
        {"outbound|80|plain|" WEB, CLIENT_TLS_SIMPLE},
        {"outbound|81|plain|" WEB, CLIENT_TLS_DISABLE},
        {"outbound|80|clear|" WEB, CLIENT_TLS_DISABLE},
        {"outbound|80|own|" WEB, CLIENT_TLS_SIMPLE},
        {"outbound|81|own|" WEB, CLIENT_TLS_ISTIO_MUTUAL},
    };
    struct compiled c;
    compiled_init(&c,
                  SERVICE RULE("  trafficPolicy:\n    tls: {mode: SIMPLE, sni: a}\n"
                               "    portLevelSettings:\n    - port: {number: 81}\n"
                               "      loadBalancer: {simple: RANDOM}\n"
                               "  subsets:\n  - name: plain\n    labels: {v: a}\n"
                               "  - name: clear\n    labels: {v: a}\n"
                               "    trafficPolicy: {tls: {mode: DISABLE}}\n"
                               "  - name: own\n    labels: {v: a}\n    trafficPolicy:\n"
                               "      tls: {mode: SIMPLE, sni: bb}\n"
                               "      portLevelSettings:\n      - port: {number: 81}\n"
                               "        tls: {mode: ISTIO_MUTUAL}\n"),
                  NULL);
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        const struct cluster_config *one = compiled_cluster(&c, want[i].name);
        REQUIRE(one);
        EXPECT_EQ(one->tls_mode, want[i].mode);
        EXPECT_EQ(one->tls != NULL, want[i].mode != CLIENT_TLS_DISABLE);
    }
    const struct cluster_config *istio = compiled_cluster(&c, want[6].name);
    EXPECT_STR(istio->tls_name.ptr, "outbound_.81_.own_." WEB);
    EXPECT_EQ(compiled_cluster(&c, want[5].name)->tls_name.len, 0);
    compiled_fini(&c);
}

// Connections of one policy are not those of another.
TEST(clusters_settings_differ_by_tls)
{
    static const char *const policies[] = {
        "{loadBalancer: {simple: RANDOM}}",
        "{loadBalancer: {simple: RANDOM}, tls: {mode: SIMPLE, sni: a}}",
        "{loadBalancer: {simple: RANDOM}, tls: {mode: SIMPLE, sni: bb}}",
        "{loadBalancer: {simple: RANDOM}, tls: {mode: ISTIO_MUTUAL, sni: bb}}",
        "{loadBalancer: {simple: RANDOM}, tls: {mode: SIMPLE, sni: broken}}",
    };
    uint64_t seen[sizeof(policies) / sizeof(policies[0])];
    for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++) {
        char text[1024];
        struct compiled c;
        snprintf(text, sizeof(text), "%s  trafficPolicy: %s\n", SERVICE RULE(""), policies[i]);
        compiled_init(&c, text, NULL);
        const struct cluster_config *one = compiled_cluster(&c, "outbound|80||" WEB);
        REQUIRE(one);
        seen[i] = one->settings_hash;
        for (size_t k = 0; k < i; k++)
            EXPECT(seen[k] != seen[i]);
        compiled_fini(&c);
    }
}

// What asks for something that is not served would be sent without it.
TEST(clusters_of_a_refused_rule_have_no_endpoints)
{
    struct compiled c;
    compiled_init(&c,
                  SERVICE PODS RULE("  trafficPolicy: {tunnel: {protocol: CONNECT, "
                                    "targetHost: a.com, targetPort: 1}}\n"
                                    "  subsets: [{name: a, labels: {version: v1}}]\n"),
                  NULL);
    EXPECT(compiled_has_finding(&c, "tunnel is not served by this version"));
    EXPECT_STR(compiled_endpoints(&c, "outbound|80||" WEB), "");
    EXPECT_STR(compiled_endpoints(&c, "outbound|80|a|" WEB), "");
    compiled_fini(&c);
    compiled_init(&c, SERVICE PODS, NULL);
    EXPECT(compiled_endpoints(&c, "outbound|80||" WEB)[0] != '\0');
    compiled_fini(&c);
}

TEST(clusters_wildcard_rules_apply_where_no_closer_one_does)
{
    struct compiled c;
    compiled_init(&c,
                  SERVICE
                  "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
                  "metadata: {name: wide, namespace: istio-system}\n"
                  "spec: {host: '*.local', trafficPolicy: {loadBalancer: {simple: RANDOM}}}\n",
                  NULL);
    const struct cluster_config *d = compiled_cluster(&c, "outbound|80||" WEB);
    REQUIRE(d != NULL);
    EXPECT_EQ(d->lb, LB_POLICY_RANDOM);
    EXPECT_STR(d->destination_rule.ptr, "wide.istio-system");
    compiled_fini(&c);
}
