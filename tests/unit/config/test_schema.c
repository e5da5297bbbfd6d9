// What the schema says: unknown fields with the nearest name, wrong types, enums, durations,
// numbers, and that rules neither repeat it nor complain about what was mistyped.
#include "core/check.h"
#include "fixture.h"
#include "test.h"

// A Gateway whose one server has this text as its body.
#define SERVER(body) HEAD("Gateway", "gw") "  selector: {istio: x}\n  servers:\n" body
#define PORT "    port: {number: 80, name: http, protocol: HTTP}\n"
#define RULE(body)                                                                         \
    HEAD("VirtualService", "vs")                                                           \
    "  hosts: [a.com]\n  gateways: [gw]\n  http:\n  - route: [{destination: {host: b}}]\n" \
    "    " body "\n"
#define POLICY(body) HEAD("DestinationRule", "dr") "  host: b\n  trafficPolicy: {" body "}\n"

TEST(schema_unknown_fields_get_the_nearest_name)
{
    EXPECT_STR(errors_of(SERVER("  - hsots: [a.com]\n" PORT)),
               "7:5 error unknown field \"hsots\" in istio.networking.v1alpha3.Server "
               "(spec.servers[0]), did you mean \"hosts\"?");
    EXPECT_STR(errors_of(SERVER("  - hosts: [a.com]\n" PORT "    xyz: 1\n")),
               "9:5 error unknown field \"xyz\" in istio.networking.v1alpha3.Server "
               "(spec.servers[0])");
    EXPECT_STR(errors_of("apiVersion: networking.istio.io/v1\nkind: Gateway\n"
                         "metadata: {name: gw}\nspce: {}\n"),
               "4:1 error unknown field \"spce\" in Gateway, did you mean \"spec\"?");
}

TEST(schema_takes_camel_and_snake_case)
{
    EXPECT_STR(errors_of(SERVER("  - hosts: [a.com]\n" PORT "    default_endpoint: 10.0.0.1:80\n")),
               "");
    EXPECT_STR(errors_of(POLICY("connection_pool: {http: {http1_max_pending_requests: 1}}")), "");
}

TEST(schema_wrong_types)
{
    EXPECT_STR(errors_of(SERVER("  - hosts: a.com\n" PORT)),
               "7:12 error spec.servers[0].hosts: expected a list, found a string");
    EXPECT_STR(errors_of(SERVER("  - hosts: [a.com, [b.com]]\n" PORT)),
               "7:20 error spec.servers[0].hosts[1]: expected a string, found a list");
    EXPECT_STR(errors_of(SERVER("  - hosts: [a.com]\n    port: 80\n")),
               "8:11 error spec.servers[0].port: expected a map, found a number");
    EXPECT_STR(errors_of(HEAD("Gateway", "gw") "  servers: {}\n"),
               "5:12 error spec.servers: expected a list, found a map");
    EXPECT_STR(errors_of(HEAD("Gateway", "gw") "  servers: [~]\n"),
               "5:13 error spec.servers[0]: expected a map, found null");
    EXPECT_STR(errors_of(HEAD("VirtualService", "vs") "  hosts: [1.5]\n  gateways: [a]\n"
                                                      "  http: [{route: [{destination: "
                                                      "{host: b}}]}]\n"),
               "5:11 error spec.hosts[0]: expected a string, found a number 1.5: put it in quotes");
    EXPECT_STR(errors_of(RULE("headers: {request: {set: {x: true}}}")),
               "9:34 error spec.http[0].headers.request.set[x]: expected a string, found a boolean "
               "true: put it in quotes");
}

TEST(schema_null_is_absent)
{
    EXPECT_STR(errors_of(RULE("timeout: ~")), "");
    EXPECT_STR(errors_of(RULE("retries:")), "");
    EXPECT_STR(errors_of(RULE("match: null")), "");
}

TEST(schema_enums)
{
#define TLS(mode)                                                                    \
    SERVER("  - hosts: [a.com]\n    port: {number: 443, name: h, protocol: HTTPS}\n" \
           "    tls: {mode: " mode ", credentialName: c}\n")
    EXPECT_STR(errors_of(TLS("SIMPEL")),
               "9:17 error spec.servers[0].tls.mode: unknown value \"SIMPEL\" for enum "
               "istio.networking.v1alpha3.ServerTLSSettings.TLSmode, did you mean \"SIMPLE\"?");
    EXPECT_STR(errors_of(TLS("simple")),
               "9:17 error spec.servers[0].tls.mode: unknown value \"simple\" for enum "
               "istio.networking.v1alpha3.ServerTLSSettings.TLSmode, did you mean \"SIMPLE\"?");
    EXPECT_STR(errors_of(TLS("ZZZ")),
               "9:17 error spec.servers[0].tls.mode: unknown value \"ZZZ\" for "
               "enum istio.networking.v1alpha3.ServerTLSSettings.TLSmode");
    struct loaded l; // protobuf's JSON takes the number too
    loaded_init(&l, TLS("1"));
    REQUIRE(l.m->gateways_count == 1 && l.m->gateways[0]->servers[0].tls);
    EXPECT_EQ(l.m->gateways[0]->servers[0].tls->mode, TLS_SIMPLE);
    loaded_fini(&l);
}

TEST(schema_durations)
{
    static const struct {
        const char *text;
        uint64_t ns;
    } good[] = {
        {"1s", 1000000000},
        {"1.5s", 1500000000},
        {"100ms", 100000000},
        {"1h", 3600000000000},
        {"1m30s", 90000000000},
        {"0.005s", 5000000},
        {"'1s'", 1000000000},
        {"2000us", 2000000},
        {"5000000ns", 5000000},
        {"0s", 0},
        {"'0'", 0},
        {"+1s", 1000000000},
        {"1\xc2\xb5s999us", 1000000},
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        char text[512];
        struct loaded l;
        snprintf(text, sizeof(text), RULE("timeout: %s"), good[i].text);
        loaded_init(&l, text);
        EXPECT_EQ(l.m->virtual_services_count, 1);
        if (l.m->virtual_services_count)
            EXPECT_EQ(l.m->virtual_services[0]->http[0].timeout_ns, good[i].ns);
        loaded_fini(&l);
    }
    static const char *const bad[] = {"1", "s", "1d", "1s s", "-1s", "1.2.3s", "1 s", "99999999h"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char text[512], want[256];
        snprintf(text, sizeof(text), RULE("timeout: '%s'"), bad[i]);
        snprintf(want, sizeof(want),
                 "9:14 error spec.http[0].timeout: \"%s\" is not a duration such as \"1.5s\", "
                 "\"100ms\" or \"1h30m\"",
                 bad[i]);
        EXPECT_STR(errors_of(text), want);
    }
}

TEST(schema_numbers)
{
    EXPECT_STR(errors_of(RULE("retries: {attempts: 1.5}")),
               "9:25 error spec.http[0].retries.attempts: 1.5 is not a whole number between "
               "-2147483648 and 2147483647");
    EXPECT_STR(errors_of(RULE("retries: {attempts: 3000000000}")),
               "9:25 error spec.http[0].retries.attempts: 3000000000 is not a whole number between "
               "-2147483648 and 2147483647");
    EXPECT_STR(errors_of(RULE("retries: {attempts: many}")),
               "9:25 error spec.http[0].retries.attempts: expected a number, found \"many\"");
    EXPECT_STR(errors_of(RULE("retries: {attempts: .nan}")),
               "9:25 error spec.http[0].retries.attempts: expected a number, found \".nan\"");
    EXPECT_STR(errors_of(RULE("retries: {attempts: '3'}")), ""); // as protobuf's JSON
    EXPECT_STR(errors_of(RULE("retries: {attempts: 0x10}")),
               "9:25 error spec.http[0].retries.attempts: expected a number, found \"0x10\"");
}

TEST(schema_oneofs)
{
    EXPECT_STR(errors_of(RULE("match: [{uri: {exact: /a, prefix: /b}}]")),
               "9:31 error spec.http[0].match[0].uri: only one of exact, prefix and regex may be "
               "given");
    EXPECT_STR(errors_of(POLICY("loadBalancer: {consistentHash: {useSourceIp: true, maglev: "
                                "{tableSize: 5}, ringHash: {}}}")),
               "6:104 error spec.trafficPolicy.loadBalancer.consistentHash.ringHash: only one of "
               "ringHash and maglev may be given");
}

TEST(schema_and_rules_speak_once)
{
    // The port is no number: nothing about its range. The action is mistyped: nothing is missing.
    EXPECT_STR(
        errors_of(SERVER("  - hosts: [a.com]\n    port: {number: x, name: h, protocol: HTTP}\n")),
        "8:20 error spec.servers[0].port.number: expected a number, found \"x\"");
    EXPECT_STR(errors_of(HEAD("VirtualService", "vs") "  hosts: [a.com]\n  gateways: [gw]\n"
                                                      "  http: [{rout: []}]\n"),
               "7:11 error unknown field \"rout\" in istio.networking.v1alpha3.HTTPRoute "
               "(spec.http[0]), did you mean \"route\"?");
    // But what can be judged is judged in the same run.
    EXPECT_STR(errors_of(HEAD("VirtualService", "vs") "  hosts: [x_y.com]\n  gateways: [gw]\n"
                                                      "  http: [{rout: []}]\n"),
               "5:11 error domain name \"x_y.com\" invalid (label \"x_y\" invalid)\n"
               "7:11 error unknown field \"rout\" in istio.networking.v1alpha3.HTTPRoute "
               "(spec.http[0]), did you mean \"route\"?");
}

TEST(schema_a_document_in_error_is_left_out)
{
    struct loaded l;
    loaded_init(&l, SERVER("  - hosts: [a.com]\n" PORT) "---\n" HEAD(
                        "Gateway", "other") "  servers: [{hosts: [a.com], port: {}}]\n");
    EXPECT_EQ(l.e, ERR_INVALID);
    EXPECT_EQ(l.m->gateways_count, 1);
    EXPECT_EQ(l.m->document_count, 2);
    EXPECT(l.findings.document_errors > 0);
    loaded_fini(&l);
}
