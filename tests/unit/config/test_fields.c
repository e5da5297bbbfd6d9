// Every field of Istio's networking API is known here, and none besides: the schema tables of each
// kind are walked, message by message, and held against the API (istio/api, networking/v1alpha3,
// of July 2026). `x` is a scalar, `x[]` a list, `x{}` a map, `x=Message` of messages.
#include "config/kind.h"
#include "core/check.h"
#include "test.h"

// clang-format off
static const struct api_message {
    const char *name, *fields;
} api[] = {
    {"Gateway",
     "servers[]=Server selector{}"},
    {"Server",
     "port=Port bind hosts[] tls=ServerTLSSettings defaultEndpoint name"},
    {"Port",
     "number protocol name targetPort"},
    {"ServerTLSSettings",
     "httpsRedirect mode serverCertificate privateKey caCertificates caCrl credentialName "
     "credentialNames[] caCertCredentialName "
     "tlsCertificates[]=ServerTLSSettings.TLSCertificate subjectAltNames[] "
     "verifyCertificateSpki[] verifyCertificateHash[] minProtocolVersion "
     "maxProtocolVersion cipherSuites[] insecureSkipVerify"},
    {"ServerTLSSettings.TLSCertificate",
     "serverCertificate privateKey caCertificates"},
    {"VirtualService",
     "hosts[] gateways[] http[]=HTTPRoute tls[]=TLSRoute tcp[]=TCPRoute exportTo[]"},
    {"HTTPRoute",
     "name match[]=HTTPMatchRequest route[]=HTTPRouteDestination redirect=HTTPRedirect "
     "directResponse=HTTPDirectResponse delegate=Delegate rewrite=HTTPRewrite timeout "
     "retries=HTTPRetry fault=HTTPFaultInjection mirror=Destination "
     "mirrors[]=HTTPMirrorPolicy mirrorPercent mirrorPercentage=Percent "
     "corsPolicy=CorsPolicy headers=Headers"},
    {"HTTPMatchRequest",
     "name uri=StringMatch scheme=StringMatch method=StringMatch authority=StringMatch "
     "headers{}=StringMatch port sourceLabels{} gateways[] queryParams{}=StringMatch "
     "ignoreUriCase withoutHeaders{}=StringMatch sourceNamespace statPrefix"},
    {"StringMatch",
     "exact prefix regex"},
    {"HTTPRouteDestination",
     "destination=Destination weight headers=Headers"},
    {"Destination",
     "host subset port=PortSelector"},
    {"PortSelector",
     "number number"},
    {"Headers",
     "request=Headers.HeaderOperations response=Headers.HeaderOperations"},
    {"Headers.HeaderOperations",
     "set{} add{} remove[]"},
    {"HTTPRedirect",
     "uri authority port derivePort scheme redirectCode prefixRewrite"},
    {"HTTPDirectResponse",
     "status body=HTTPBody"},
    {"HTTPBody",
     "string bytes"},
    {"Delegate",
     "name namespace"},
    {"HTTPRewrite",
     "uri authority uriRegexRewrite=RegexRewrite"},
    {"RegexRewrite",
     "match rewrite"},
    {"HTTPRetry",
     "attempts perTryTimeout retryOn retryRemoteLocalities retryIgnorePreviousHosts "
     "backoff"},
    {"HTTPFaultInjection",
     "delay=HTTPFaultInjection.Delay abort=HTTPFaultInjection.Abort"},
    {"HTTPFaultInjection.Delay",
     "percent fixedDelay exponentialDelay percentage=Percent"},
    {"Percent",
     "value"},
    {"HTTPFaultInjection.Abort",
     "httpStatus grpcStatus http2Error percentage=Percent"},
    {"HTTPMirrorPolicy",
     "destination=Destination percentage=Percent"},
    {"CorsPolicy",
     "allowOrigin[] allowOrigins[]=StringMatch allowMethods[] allowHeaders[] "
     "exposeHeaders[] maxAge allowCredentials unmatchedPreflights"},
    {"TLSRoute",
     "match[]=TLSMatchAttributes route[]=RouteDestination"},
    {"TLSMatchAttributes",
     "sniHosts[] destinationSubnets[] port sourceLabels{} gateways[] sourceNamespace"},
    {"RouteDestination",
     "destination=Destination weight"},
    {"TCPRoute",
     "match[]=L4MatchAttributes route[]=RouteDestination"},
    {"L4MatchAttributes",
     "destinationSubnets[] port sourceSubnet sourceLabels{} gateways[] sourceNamespace"},
    {"DestinationRule",
     "host trafficPolicy=TrafficPolicy subsets[]=Subset exportTo[] "
     "workloadSelector=type.WorkloadSelector"},
    {"TrafficPolicy",
     "loadBalancer=LoadBalancerSettings connectionPool=ConnectionPoolSettings "
     "outlierDetection=OutlierDetection tls=ClientTLSSettings "
     "portLevelSettings[]=TrafficPolicy.PortTrafficPolicy "
     "tunnel=TrafficPolicy.TunnelSettings proxyProtocol=TrafficPolicy.ProxyProtocol "
     "retryBudget=TrafficPolicy.RetryBudget"},
    {"LoadBalancerSettings",
     "simple consistentHash=LoadBalancerSettings.ConsistentHashLB "
     "localityLbSetting=LocalityLoadBalancerSetting "
     "zoneAwareLbSetting=ZoneAwareLoadBalancerSetting warmupDurationSecs "
     "warmup=WarmupConfiguration"},
    {"LoadBalancerSettings.ConsistentHashLB",
     "httpHeaderName httpCookie=LoadBalancerSettings.ConsistentHashLB.HTTPCookie "
     "useSourceIp httpQueryParameterName "
     "ringHash=LoadBalancerSettings.ConsistentHashLB.RingHash "
     "maglev=LoadBalancerSettings.ConsistentHashLB.MagLev minimumRingSize"},
    {"LoadBalancerSettings.ConsistentHashLB.HTTPCookie",
     "name path ttl "
     "attributes[]=LoadBalancerSettings.ConsistentHashLB.HTTPCookie.Attribute"},
    {"LoadBalancerSettings.ConsistentHashLB.HTTPCookie.Attribute",
     "name value"},
    {"LoadBalancerSettings.ConsistentHashLB.RingHash",
     "minimumRingSize"},
    {"LoadBalancerSettings.ConsistentHashLB.MagLev",
     "tableSize"},
    {"LocalityLoadBalancerSetting",
     "distribute[]=LocalityLoadBalancerSetting.Distribute "
     "failover[]=LocalityLoadBalancerSetting.Failover failoverPriority[] enabled"},
    {"LocalityLoadBalancerSetting.Distribute",
     "from to{}"},
    {"LocalityLoadBalancerSetting.Failover",
     "from to"},
    {"ZoneAwareLoadBalancerSetting",
     "enabled failover[]=ZoneAwareLoadBalancerSetting.Failover failoverPriority[] "
     "minClusterSize"},
    {"ZoneAwareLoadBalancerSetting.Failover",
     "from to"},
    {"WarmupConfiguration",
     "duration minimumPercent aggression"},
    {"ConnectionPoolSettings",
     "tcp=ConnectionPoolSettings.TCPSettings http=ConnectionPoolSettings.HTTPSettings"},
    {"ConnectionPoolSettings.TCPSettings",
     "maxConnections connectTimeout "
     "tcpKeepalive=ConnectionPoolSettings.TCPSettings.TcpKeepalive maxConnectionDuration "
     "idleTimeout"},
    {"ConnectionPoolSettings.TCPSettings.TcpKeepalive",
     "probes time interval"},
    {"ConnectionPoolSettings.HTTPSettings",
     "http1MaxPendingRequests http2MaxRequests maxRequestsPerConnection maxRetries "
     "idleTimeout h2UpgradePolicy useClientProtocol maxConcurrentStreams "
     "http2KeepAlive=ConnectionPoolSettings.HTTPSettings.ConnectionKeepalive"},
    {"ConnectionPoolSettings.HTTPSettings.ConnectionKeepalive",
     "interval timeout"},
    {"OutlierDetection",
     "consecutiveErrors splitExternalLocalOriginErrors consecutiveLocalOriginFailures "
     "consecutiveGatewayErrors consecutive5xxErrors interval baseEjectionTime "
     "maxEjectionPercent minHealthPercent outlierDetectionHttpErrorCodes[]"},
    {"ClientTLSSettings",
     "mode clientCertificate privateKey caCertificates credentialName subjectAltNames[] "
     "sni insecureSkipVerify caCrl"},
    {"TrafficPolicy.PortTrafficPolicy",
     "port=PortSelector loadBalancer=LoadBalancerSettings "
     "connectionPool=ConnectionPoolSettings outlierDetection=OutlierDetection "
     "tls=ClientTLSSettings"},
    {"TrafficPolicy.TunnelSettings",
     "protocol targetHost targetPort"},
    {"TrafficPolicy.ProxyProtocol",
     "version"},
    {"TrafficPolicy.RetryBudget",
     "percent minRetryConcurrency budgetInterval"},
    {"Subset",
     "name labels{} trafficPolicy=TrafficPolicy"},
    {"type.WorkloadSelector",
     "matchLabels{}"},
    {"ServiceEntry",
     "hosts[] addresses[] ports[]=ServicePort location resolution "
     "endpoints[]=WorkloadEntry workloadSelector=WorkloadSelector exportTo[] "
     "subjectAltNames[]"},
    {"ServicePort",
     "number protocol name targetPort"},
    {"WorkloadEntry",
     "address ports{} labels{} network locality weight serviceAccount"},
    {"WorkloadSelector",
     "labels{}"},
};
// clang-format on
#define API_COUNT (sizeof(api) / sizeof(api[0]))

static bool visited[API_COUNT];

// Newer than that state of the API: in Istio's master since.
static bool is_newer(const char *message, const char *field)
{
    return strcmp(message, "ServerTLSSettings") == 0 && strcmp(field, "ecdhCurves[]") == 0;
}

static const char *short_name(const struct message *m)
{
    const char *prefix = "istio.networking.v1alpha3.";
    if (strcmp(m->name, "istio.type.v1beta1.WorkloadSelector") == 0)
        return "type.WorkloadSelector";
    return strncmp(m->name, prefix, strlen(prefix)) == 0 ? m->name + strlen(prefix) : m->name;
}

static const char *field_marks(const struct field *f)
{
    if (f->type == FIELD_STRINGS || f->type == FIELD_U32_LIST || f->type == FIELD_MESSAGES)
        return "[]";
    if (f->type == FIELD_STRING_MAP)
        return "{}";
    if (f->type != FIELD_CUSTOM)
        return "";
    enum custom_shape shape = ((const struct custom_field *)f->child)->shape;
    return shape == CUSTOM_LIST ? "[]" : shape == CUSTOM_MAP ? "{}" : "";
}

static const struct message *field_message(const struct field *f)
{
    if (f->type == FIELD_MESSAGE || f->type == FIELD_MESSAGES || f->type == FIELD_INLINE)
        return f->child;
    return f->type == FIELD_CUSTOM ? ((const struct custom_field *)f->child)->message : NULL;
}

static void field_text(const struct field *f, char *out, size_t cap)
{
    const struct message *m = field_message(f);
    snprintf(out, cap, "%s%s%s%s", f->name, field_marks(f), m ? "=" : "", m ? short_name(m) : "");
}

static bool is_in(const char *words, const char *word)
{
    struct slice rest = slice_of(words), part;
    while (slice_split(&rest, ' ', &part))
        if (slice_eq(part, slice_of(word)))
            return true;
    return false;
}

static void compare_fields(const struct message *m, const char *wanted)
{
    char text[128], have[2048] = "";
    for (uint32_t i = 0; i < m->field_count; i++) {
        field_text(&m->fields[i], text, sizeof(text));
        if (!is_in(wanted, text) && !is_newer(short_name(m), text))
            test_fail(__FILE__, __LINE__, "%s.%s is not in Istio's API", short_name(m), text);
        check(strlen(have) + strlen(text) + 2 < sizeof(have));
        strcat(strcat(have, text), " ");
    }
    struct slice rest = slice_of(wanted), part;
    while (slice_split(&rest, ' ', &part)) {
        snprintf(text, sizeof(text), "%.*s", SLICE_FMT(part));
        if (!is_in(have, text))
            test_fail(__FILE__, __LINE__, "%s.%s of Istio's API is not known", short_name(m), text);
    }
}

static void walk(const struct message *m)
{
    for (size_t i = 0; i < API_COUNT; i++) {
        if (strcmp(api[i].name, short_name(m)) != 0)
            continue;
        if (visited[i])
            return;
        visited[i] = true;
        compare_fields(m, api[i].fields);
        for (uint32_t k = 0; k < m->field_count; k++)
            if (field_message(&m->fields[k]))
                walk(field_message(&m->fields[k]));
        return;
    }
    test_fail(__FILE__, __LINE__, "%s is no message of Istio's API", m->name);
}

static const struct message *spec_of(const struct kind *k)
{
    for (uint32_t i = 0; i < k->document->field_count; i++)
        if (strcmp(k->document->fields[i].name, "spec") == 0)
            return k->document->fields[i].child;
    return NULL;
}

TEST(fields_are_those_of_istio)
{
    const struct kind *kinds[] = {&kind_gateway, &kind_virtual_service, &kind_destination_rule,
                                  &kind_service_entry, &kind_workload_entry};
    memset(visited, 0, sizeof(visited));
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        REQUIRE(spec_of(kinds[i]));
        walk(spec_of(kinds[i]));
    }
    for (size_t i = 0; i < API_COUNT; i++)
        if (!visited[i])
            test_fail(__FILE__, __LINE__, "no table for %s", api[i].name);
    EXPECT(API_COUNT > 60);
}
