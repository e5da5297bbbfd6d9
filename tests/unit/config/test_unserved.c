// What Istio knows and this version does not serve is told: one document for each row of the table.
// A row that is deleted, because what it is about is served now, makes its document pass without.
#include "config/unserved.h"
#include "fixture.h"
#include "test.h"

#define SERVER(protocol, more)                                                                \
    HEAD("Gateway", "gw")                                                                     \
    "  servers:\n  - hosts: [a.com]\n    port: {number: 80, name: p, protocol: " protocol "}" \
    "\n" more
#define FOUND_AS(port)                                                                       \
    "---\n" HEAD(                                                                            \
        "Gateway",                                                                           \
        "gw") "  servers: [{hosts: [a.com], port: {number: 80, name: p, protocol: HTTP}}]\n" \
              "---\napiVersion: v1\nkind: Service\nmetadata: {name: b}\nspec: {ports: "      \
              "[{name: " port ", port: 80}]}\n"
#define FOUND FOUND_AS("http")
#define TO_PORT(routes, port) \
    HEAD("VirtualService", "vs") "  hosts: [a.com]\n  gateways: [gw]\n" routes FOUND_AS(port)
#define VS(routes) HEAD("VirtualService", "vs") "  hosts: [a.com]\n  gateways: [gw]\n" routes FOUND
#define HTTP(more) VS("  http:\n  - route: [{destination: {host: b}}]\n    " more "\n")
#define TO_B "route: [{destination: {host: b}}]"
#define RULE(more) HEAD("DestinationRule", "dr") "  host: b\n  " more "\n" FOUND
#define POLICY(more) RULE("trafficPolicy: {" more "}")
#define ENTRY(more)            \
    HEAD("ServiceEntry", "se") \
    "  hosts: [a.com]\n  ports: [{number: 80, name: http, protocol: HTTP}]\n  " more "\n"

enum gone { NOTHING_GONE, VIRTUAL_SERVICE_GONE, RULE_REFUSED, ENTRY_GONE };

// clang-format off
static const struct row {
    const char *field, *where, *text;
    enum gone gone; // out of the model, or marked there
} table[] = {
    {"gRPC-Web translation", "7:43 warning", SERVER("GRPC-WEB", ""), 0},
    {"HTTP/2 (protocol HTTP2 or GRPC)", "7:43 warning", SERVER("GRPC", ""), 0},
    {"defaultEndpoint", "6:5 warning", SERVER("HTTP", "    defaultEndpoint: 127.0.0.1:80\n"), 0},
    {"corsPolicy", "9:17 error", HTTP("corsPolicy: {allowOrigins: [{exact: a}]}"), VIRTUAL_SERVICE_GONE},
    {"fault", "9:12 error", HTTP("fault: {abort: {httpStatus: 500}}"), VIRTUAL_SERVICE_GONE},
    {"delegate", "8:15 error", VS("  http:\n  - delegate: {name: other}\n"), VIRTUAL_SERVICE_GONE},
    {"matching JWT claims (@request.auth.claims)", "9:24 error",
     HTTP("match: [{headers: {'@request.auth.claims.a': {exact: b}}}]"), VIRTUAL_SERVICE_GONE},
    {"mirror", "9:13 warning", HTTP("mirror: {host: b}"), 0},
    {"an operator in a header's value (%VAR%)", "9:31 warning",
     HTTP("headers: {request: {set: {a: '%%%PROTOCOL%'}}}"), 0},
    {"tunnel", "6:18 error", POLICY("tunnel: {protocol: CONNECT, targetHost: a.com, targetPort: 1}"), RULE_REFUSED},
    {"outlierDetection", "6:37 warning", POLICY("outlierDetection: {consecutive5xxErrors: 1}"), 0},
    {"retryBudget", "6:18 warning", POLICY("retryBudget: {percent: 20}"), 0},
    {"consistentHash", "6:50 warning", POLICY("loadBalancer: {consistentHash: {useSourceIp: true}}"), 0},
    {"simple: PASSTHROUGH", "6:33 warning", POLICY("loadBalancer: {simple: PASSTHROUGH}"), 0},
    {"localityLbSetting or zoneAwareLbSetting", "6:54 warning",
     POLICY("loadBalancer: {zoneAwareLbSetting: {enabled: true}}"), 0},
    {"warmup", "6:33 warning", POLICY("loadBalancer: {warmup: {duration: 1s}}"), 0},
    {"connectionPool.tcp.maxConnections", "6:58 warning",
     POLICY("connectionPool: {tcp: {maxConnections: 1}}"), 0},
    {"connectionPool.http.http1MaxPendingRequests", "6:68 warning",
     POLICY("connectionPool: {http: {http1MaxPendingRequests: 1}}"), 0},
    {"connectionPool.http.http2MaxRequests", "6:61 warning",
     POLICY("connectionPool: {http: {http2MaxRequests: 1}}"), 0},
    {"connectionPool.http.maxRetries", "6:55 warning",
     POLICY("connectionPool: {http: {maxRetries: 0}}"), 0},
    {"connectionPool.http.maxConcurrentStreams", "6:65 warning",
     POLICY("connectionPool: {http: {maxConcurrentStreams: 1}}"), 0},
    {"connectionPool.http.h2UpgradePolicy: UPGRADE", "6:60 warning",
     POLICY("connectionPool: {http: {h2UpgradePolicy: UPGRADE}}"), 0},
    {"connectionPool.http.useClientProtocol", "6:62 warning",
     POLICY("connectionPool: {http: {useClientProtocol: true}}"), 0},
    {"connectionPool.http.http2KeepAlive", "6:35 warning",
     POLICY("connectionPool: {http: {http2KeepAlive: {interval: 2s, timeout: 1s}}}"), 0},
    {"workloadSelector", "6:36 warning", RULE("workloadSelector: {matchLabels: {a: b}}"), 0},
    {"resolution DNS, DNS_ROUND_ROBIN or DYNAMIC_DNS", "1:1 error", ENTRY("resolution: DNS"), ENTRY_GONE},
    {"type: ExternalName", "1:1 warning",
     "apiVersion: v1\nkind: Service\nmetadata: {name: b}\nspec: {type: ExternalName, externalName: c}\n", 0},
    {"HTTP/2 towards a port named http2 or grpc", "19:16 warning",
     TO_PORT("  http:\n  - " TO_B "\n", "grpc-api"), 0},
    {"the statsd sink", "9:29 warning",
     HEAD("EnvoyFilter", "ef") "  configPatches:\n  - applyTo: BOOTSTRAP\n    patch:\n      operation: MERGE\n"
     "      value: {stats_sinks: [{name: envoy.stat_sinks.statsd, typed_config: {'@type': "
     "type.googleapis.com/envoy.config.metrics.v3.StatsdSink, address: {socket_address: "
     "{address: 127.0.0.1, port_value: 8125, protocol: UDP}}}}]}\n", 0},
};
// clang-format on

static bool in_table(const char *field)
{
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (strcmp(table[i].field, field) == 0)
            return true;
    return false;
}

static bool still_unserved(const char *field)
{
    for (uint32_t i = 0; unserved_field(i); i++)
        if (strcmp(unserved_field(i), field) == 0)
            return true;
    return false;
}

TEST(unserved_rows_have_a_document_each)
{
    for (uint32_t i = 0; unserved_field(i); i++)
        if (!in_table(unserved_field(i)))
            test_fail(__FILE__, __LINE__, "no document uses %s", unserved_field(i));
}

static void check_gone(const struct row *row, const struct model *m, bool unserved)
{
    switch (row->gone) {
    case NOTHING_GONE:
        break;
    case VIRTUAL_SERVICE_GONE:
        EXPECT_EQ(m->virtual_services_count, !unserved);
        break;
    case RULE_REFUSED:
        EXPECT(m->destination_rules_count == 1 &&
               m->destination_rules[0]->meta.refused == unserved);
        break;
    case ENTRY_GONE:
        EXPECT_EQ(m->service_entries_count, !unserved);
        break;
    }
}

TEST(unserved_fields_are_told_where_they_stand)
{
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char want[512];
        const struct row *row = &table[i];
        bool unserved = still_unserved(row->field);
        snprintf(want, sizeof(want), "%s %s is not served by this version: ", row->where,
                 row->field);
        const char *all = findings_of(row->text);
        const char *found = strstr(all, want);
        if (unserved != (found != NULL))
            test_fail(__FILE__, __LINE__, "%s: wanted%s \"%s\", found:\n%s", row->field,
                      unserved ? "" : " no", want, all);
        if (unserved) // and nothing else but what that is
            EXPECT(!strstr(all, "unknown field") && !strstr(all, "expected"));
        struct loaded l;
        loaded_init(&l, row->text);
        EXPECT_EQ(l.e, OK); // never a reason to refuse the configuration
        check_gone(row, l.m, unserved);
        loaded_fini(&l);
    }
}

// The gateway's own Service, whose port 80 is named http2 in Istio's charts, leads nowhere.
TEST(ports_that_no_http_route_leads_to_are_not_told)
{
    EXPECT_STR(findings_of(TO_PORT("  http:\n  - directResponse: {status: 200}\n", "http2")), "");
}

TEST(unserved_servers_keep_their_port)
{
    struct loaded l;
    loaded_init(&l, SERVER("REDIS", ""));
    REQUIRE(l.m->gateways_count == 1);
    EXPECT_EQ(l.m->gateways[0]->server_count, 1);
    loaded_fini(&l);
}

TEST(dns_entries_given_by_address_are_served)
{
    EXPECT_STR(findings_of(ENTRY("resolution: DNS\n  endpoints: [{address: 10.0.0.1}]")), "");
    if (still_unserved("resolution DNS, DNS_ROUND_ROBIN or DYNAMIC_DNS"))
        EXPECT(strstr(findings_of(ENTRY("resolution: DNS\n  endpoints: [{address: 10.0.0.1}, "
                                        "{address: b.com}]")),
                      "is not served") != NULL);
}
