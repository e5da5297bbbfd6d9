// Listeners and virtual hosts: which Gateways are served, where they are bound, which hosts meet.
#include "fixture.h"
#include "test.h"

#define GATEWAY(name, extra, servers)                                                              \
    "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: " name               \
    ", namespace: istio-system}\nspec:\n  selector: {istio: ingressgateway}\n" extra               \
    "  servers:\n" servers
#define HTTP(number, hosts)                                                                        \
    "  - port: {number: " number ", name: http-" number ", protocol: HTTP}\n    hosts: " hosts "\n"
#define VS(name, ns, hosts, body)                                                                  \
    "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " name        \
    ", namespace: " ns "}\nspec:\n  hosts: " hosts "\n  gateways: [istio-system/gw]\n" body
#define TO(host) "  http:\n  - route: [{destination: {host: " host ", port: {number: 80}}}]\n"

TEST(hosts_intersect_and_the_more_specific_name_stays)
{
    struct compiled c;
    compiled_init(&c,
                  GATEWAY("gw", "", HTTP("80", "['*.com', 'exact.org', 'wide.net']"))
                  VS("a", "default", "[bookinfo.com, exact.org, bookinfo.demo]", TO("a"))
                  VS("b", "default", "['*.net']", TO("b")),
                  NULL);
    EXPECT_STR(compiled_answer(&c, NULL, "bookinfo.com", "/"),
               "outbound|80||a.default.svc.cluster.local");
    EXPECT_STR(compiled_answer(&c, NULL, "BOOKINFO.com:8080", "/"),
               "outbound|80||a.default.svc.cluster.local");
    EXPECT_STR(compiled_answer(&c, NULL, "exact.org", "/"),
               "outbound|80||a.default.svc.cluster.local");
    EXPECT_STR(compiled_answer(&c, NULL, "wide.net", "/"),
               "outbound|80||b.default.svc.cluster.local");
    EXPECT_STR(compiled_answer(&c, NULL, "other.net", "/"), "404");
    EXPECT_STR(compiled_answer(&c, NULL, "bookinfo.demo", "/"), "404");
    EXPECT_STR(compiled_answer(&c, NULL, "other.com", "/"), "404");
    const struct listener_config *l = compiled_listener(&c, NULL);
    REQUIRE(l && l->any->routes->host_count == 3);
    EXPECT_STR(virtual_host_name(l->any->routes->hosts[0]).ptr, "bookinfo.com:80");
    EXPECT_STR(l->any->routes->name.ptr, "http.80");
    EXPECT_STR(l->gateways.ptr, "istio-system/gw");
    compiled_fini(&c);
}

TEST(hosts_of_a_namespace_admit_only_its_virtual_services)
{
    struct compiled c;
    compiled_init(&c,
                  GATEWAY("gw", "", HTTP("80", "[istio/a.com, ./b.com, '*/c.com']"))
                  VS("one", "istio", "[a.com, b.com, c.com]", TO("one"))
                  VS("two", "istio-system", "[a.com, b.com]", TO("two")),
                  NULL);
    EXPECT_STR(compiled_answer(&c, NULL, "a.com", "/"),
               "outbound|80||one.istio.svc.cluster.local");
    EXPECT_STR(compiled_answer(&c, NULL, "b.com", "/"),
               "outbound|80||two.istio-system.svc.cluster.local");
    EXPECT_STR(compiled_answer(&c, NULL, "c.com", "/"),
               "outbound|80||one.istio.svc.cluster.local");
    compiled_fini(&c);
}

TEST(hosts_short_name_is_of_its_namespace)
{
    struct compiled c;
    compiled_init(&c, GATEWAY("gw", "", HTTP("80", "['*']")) VS("a", "ns", "[web]", TO("web")),
                  NULL);
    EXPECT_STR(compiled_answer(&c, NULL, "web.ns.svc.cluster.local", "/"),
               "outbound|80||web.ns.svc.cluster.local");
    EXPECT_STR(compiled_answer(&c, NULL, "web", "/"), "404");
    compiled_fini(&c);
}

TEST(hosts_without_a_rule_for_this_port_are_not_there)
{
    struct compiled c;
    compiled_init(&c,
                  GATEWAY("gw", "", HTTP("80", "['*']") HTTP("81", "['*']"))
                  VS("a", "ns", "[a.com]",
                     "  http:\n  - match: [{port: 81}]\n    route: [{destination: {host: a}}]\n")
                  VS("b", "ns", "['*.com']", TO("b")),
                  NULL);
    EXPECT_STR(compiled_answer(&c, NULL, "a.com", "/"), "outbound|80||b.ns.svc.cluster.local");
    EXPECT_STR(compiled_answer(&c, "0.0.0.0_81", "a.com", "/"),
               "outbound|81||a.ns.svc.cluster.local");
    compiled_fini(&c);
}

TEST(hosts_of_a_virtual_service_bound_to_several_gateways)
{
    struct compiled c;
    compiled_init(&c,
                  GATEWAY("gw", "", HTTP("80", "[a.com, c.com]"))
                  GATEWAY("two", "", HTTP("81", "[b.com, c.com]"))
                  "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"
                  "metadata: {name: vs, namespace: istio-system}\nspec:\n"
                  "  hosts: [a.com, b.com, c.com]\n  gateways: [gw, ./two, mesh, gone]\n  http:\n"
                  "  - {name: second, match: [{gateways: [two]}], route: [{destination: {host: x}}]}\n"
                  "  - {name: any, route: [{destination: {host: x}}]}\n",
                  NULL);
    EXPECT_STR(compiled_answer(&c, NULL, "a.com", "/"), "any");
    EXPECT_STR(compiled_answer(&c, NULL, "b.com", "/"), "404");
    EXPECT_STR(compiled_answer(&c, NULL, "c.com", "/"), "any");
    EXPECT_STR(compiled_answer(&c, "0.0.0.0_81", "a.com", "/"), "404");
    EXPECT_STR(compiled_answer(&c, "0.0.0.0_81", "b.com", "/"), "second");
    EXPECT_STR(compiled_answer(&c, "0.0.0.0_81", "c.com", "/"), "second");
    compiled_fini(&c);
}

TEST(hosts_mesh_only_and_unexported_virtual_services_do_not_apply)
{
    struct compiled c;
    compiled_init(&c,
                  GATEWAY("gw", "", HTTP("80", "['*']"))
                  VS("private", "default", "[p.com]", "  exportTo: ['.']\n" TO("p"))
                  VS("named", "default", "[n.com]", "  exportTo: [istio-system]\n" TO("n"))
                  "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"
                  "metadata: {name: mesh}\nspec:\n  hosts: [m.com]\n" TO("m"),
                  NULL);
    EXPECT_STR(compiled_answer(&c, NULL, "p.com", "/"), "404");
    EXPECT_STR(compiled_answer(&c, NULL, "m.com", "/"), "404");
    EXPECT_STR(compiled_answer(&c, NULL, "n.com", "/"),
               "outbound|80||n.default.svc.cluster.local");
    compiled_fini(&c);
}

TEST(hosts_routes_of_several_virtual_services_are_concatenated_oldest_first)
{
    struct compiled c;
    compiled_init(
        &c,
        GATEWAY("gw", "", HTTP("80", "['*']"))
        VS("young", "default", "[a.com]",
           "  http:\n  - name: young\n    match: [{uri: {prefix: /x}}]\n"
           "    route: [{destination: {host: young}}]\n")
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"
        "metadata: {name: old, creationTimestamp: '2001-01-01T00:00:00Z'}\n"
        "spec:\n  hosts: [a.com]\n  gateways: [istio-system/gw]\n"
        "  http:\n  - name: old\n    route: [{destination: {host: old}}]\n"
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"
        "metadata: {name: older, creationTimestamp: '2000-01-01T00:00:00Z'}\n"
        "spec:\n  hosts: [a.com]\n  gateways: [istio-system/gw]\n"
        "  http:\n  - name: older\n    match: [{uri: {prefix: /x/y}}]\n"
        "    route: [{destination: {host: older}}]\n",
        NULL);
    EXPECT_STR(compiled_answer(&c, NULL, "a.com", "/x"), "young"); // the catch-all goes last
    EXPECT_STR(compiled_answer(&c, NULL, "a.com", "/x/y"), "young"); // no timestamp counts as oldest
    EXPECT_STR(compiled_answer(&c, NULL, "a.com", "/z"), "old");
    compiled_fini(&c);
}

TEST(hosts_https_redirect_needs_no_virtual_service)
{
    struct compiled c;
    compiled_init(&c,
                  GATEWAY("gw", "",
                          "  - port: {number: 80, name: http, protocol: HTTP}\n"
                          "    hosts: [a.com, '*.b.com']\n    tls: {httpsRedirect: true}\n")
                  VS("a", "default", "[a.com, x.b.com]", TO("a")),
                  NULL);
    EXPECT_STR(compiled_answer(&c, NULL, "a.com", "/"), "https");
    EXPECT_STR(compiled_answer(&c, NULL, "x.b.com", "/"), "https");
    EXPECT_STR(compiled_answer(&c, NULL, "y.b.com", "/"), "https");
    EXPECT_STR(compiled_answer(&c, NULL, "c.com", "/"), "404");
    compiled_fini(&c);
}

TEST(listener_without_virtual_services_is_up_and_knows_no_host)
{
    struct compiled c;
    compiled_init(&c, GATEWAY("gw", "", HTTP("80", "['*']")), NULL);
    REQUIRE(compiled_listener(&c, NULL) != NULL);
    EXPECT_STR(compiled_answer(&c, NULL, "a.com", "/"), "404");
    EXPECT_EQ(compiled_listener(&c, NULL)->any->routes->host_count, 0);
    compiled_fini(&c);
}

TEST(listener_gateways_on_one_port_merge)
{
    struct compiled c;
    compiled_init(&c,
                  GATEWAY("gw", "", HTTP("80", "[a.com]"))
                  GATEWAY("other", "", HTTP("80", "[b.com]"))
                  VS("a", "default", "[a.com, b.com]", TO("a"))
                  "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"
                  "metadata: {name: b}\nspec:\n  hosts: [b.com]\n"
                  "  gateways: [istio-system/other, istio-system/gw]\n" TO("b"),
                  NULL);
    EXPECT_EQ(c.config.listener_count, 1);
    EXPECT_STR(compiled_answer(&c, NULL, "a.com", "/"),
               "outbound|80||a.default.svc.cluster.local");
    EXPECT_STR(compiled_answer(&c, NULL, "b.com", "/"),
               "outbound|80||b.default.svc.cluster.local");
    EXPECT_STR(compiled_listener(&c, NULL)->gateways.ptr, "istio-system/gw,istio-system/other");
    compiled_fini(&c);
}

TEST(listener_of_another_family_on_the_same_port_and_bind_is_skipped)
{
    struct compiled c;
    compiled_init(&c,
                  GATEWAY("first", "",
                          "  - port: {number: 9000, name: tcp, protocol: TCP}\n    hosts: ['*']\n")
                  GATEWAY("second", "", HTTP("9000", "['*']"))
                  GATEWAY("third", "",
                          "  - port: {number: 9000, name: http, protocol: HTTP}\n"
                          "    bind: 127.0.0.2\n    hosts: ['*']\n"),
                  NULL);
    EXPECT_EQ(c.config.listener_count, 1);
    EXPECT(compiled_listener(&c, "127.0.0.2_9000") != NULL);
    EXPECT(compiled_has_finding(&c, "conflict with existing server 9000.TCP"));
    REQUIRE(c.config.listener_count == 1);
    EXPECT_STR(c.config.listeners[0]->any->routes->name.ptr, "http.9000.127.0.0.2");
    compiled_fini(&c);
}

TEST(listener_port_is_the_target_port_of_the_selected_service)
{
    static const char yaml[] =
        GATEWAY("gw", "", HTTP("80", "['*']") HTTP("81", "['*']") HTTP("8090", "['*']"))
        VS("a", "default", "[a.com]", TO("a"))
        "---\napiVersion: v1\nkind: Service\nmetadata: {name: ingress, namespace: istio-system}\n"
        "spec:\n  selector: {istio: ingressgateway, app: gw}\n  ports:\n"
        "  - {name: http, port: 80, targetPort: 8080}\n"
        "  - {name: named, port: 81, targetPort: web}\n"
        "  - {name: udp, port: 8090, protocol: UDP, targetPort: 1}\n"
        "---\napiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: istio-system,\n"
        "  labels: {istio: ingressgateway, app: gw}}\n"
        "spec: {containers: [{name: c, image: i, ports: [{name: web, containerPort: 8081}]}]}\n"
        "status: {podIP: 10.1.0.1}\n";
    struct compiled c;
    compiled_init(&c, yaml, "istio=ingressgateway,app=gw");
    EXPECT(compiled_listener(&c, "0.0.0.0_8080") != NULL);
    EXPECT(compiled_listener(&c, "0.0.0.0_8081") != NULL);
    EXPECT(compiled_listener(&c, "0.0.0.0_8090") != NULL);
    REQUIRE(compiled_listener(&c, "0.0.0.0_8080") != NULL);
    EXPECT_EQ(compiled_listener(&c, "0.0.0.0_8080")->server_port, 80);
    EXPECT_STR(compiled_listener(&c, "0.0.0.0_8080")->any->routes->name.ptr, "http.8080");
    compiled_fini(&c);

    // Without the node's labels the Gateway's selector stands for them: app=gw is not known.
    compiled_init(&c, yaml, NULL);
    EXPECT(compiled_listener(&c, "0.0.0.0_80") != NULL);
    compiled_fini(&c);
}

TEST(listener_only_of_gateways_that_select_this_node)
{
    struct compiled c;
    compiled_init(&c, GATEWAY("gw", "", HTTP("80", "['*']")), "istio=other");
    EXPECT_EQ(c.config.listener_count, 0);
    compiled_fini(&c);
    compiled_init(&c, GATEWAY("gw", "", HTTP("80", "['*']")), "istio=ingressgateway,a=b");
    EXPECT_EQ(c.config.listener_count, 1);
    compiled_fini(&c);
}

TEST(listener_binds_unix_paths_and_ipv6)
{
    struct compiled c;
    compiled_init(&c,
                  GATEWAY("gw", "",
                          "  - port: {number: 0, name: u, protocol: HTTP}\n"
                          "    bind: unix:///run/gw.sock\n    hosts: ['*']\n"
                          "  - port: {number: 80, name: six, protocol: HTTP}\n"
                          "    bind: '::1'\n    hosts: ['*']\n"),
                  NULL);
    const struct listener_config *u = compiled_listener(&c, "unix:///run/gw.sock");
    const struct listener_config *six = compiled_listener(&c, "::1_80");
    EXPECT(u && u->addr.sa.sa_family == AF_UNIX);
    EXPECT(six && six->addr.sa.sa_family == AF_INET6 && addr_port(&six->addr) == 80);
    compiled_fini(&c);
}
