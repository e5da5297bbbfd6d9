// The documents as plain data: one struct per message of Istio's API (networking/v1) and of the
// Kubernetes kinds that bear on a gateway, field for field, with the position of what was written.
// Everything lives in one arena (struct model.arena) and is never written after loading.
//
// Conventions: a string that was not given is {NULL, 0}; a message that was not given is NULL; a
// list is pointer + count; a duration is nanoseconds, DURATION_UNSET when absent; enums have
// the value of the proto, *_UNSET (-1) where absence differs from the default.
#pragma once
#include "core/arena.h"
#include "core/slice.h"
#include <stdbool.h>
#include <stdint.h>

#define DURATION_UNSET UINT64_MAX

struct pos {
    const char *file;      // as given on the command line joined with the name in the folder
    uint32_t line, column; // 1-based; 0 = unknown
};

struct string_item { // an element of a repeated string
    struct slice text;
    struct pos pos;
};
struct string_list {
    struct string_item *items;
    uint32_t count;
};
struct label { // an entry of map<string, string>
    struct slice key, value;
    struct pos pos;
};
struct label_map {
    struct label *items;
    uint32_t count;
};

// ---- metadata, common to all kinds
struct metadata {
    struct slice name, ns; // ns is resolved: the document's, else -n, else "default"
    struct label_map labels, annotations;
    uint64_t created_unix_s; // creationTimestamp, 0 if absent
    uint32_t order;          // document order over all files, from 0
    struct slice api_version, kind;
    struct pos pos; // of the document
    struct pos name_pos;
    // Asks for what this version does not serve, where ignoring that would change who may connect
    // or what is sent (client TLS of a DestinationRule): what it governs answers 503. Refused
    // VirtualServices and ServiceEntries are not in the model at all.
    bool refused;
};

// ---- networking.istio.io: common messages
enum string_match_kind { MATCH_ANY, MATCH_EXACT, MATCH_PREFIX, MATCH_REGEX }; // ANY: `{}`
struct string_match {
    enum string_match_kind kind;
    struct slice text;
    struct pos pos;
};
struct named_match { // an entry of map<string, StringMatch>
    struct slice name;
    struct string_match match;
    struct pos pos;
};
struct named_match_list {
    struct named_match *items;
    uint32_t count;
};
struct destination {
    struct slice host, subset;
    uint32_t port; // 0 = not given
    struct pos pos, host_pos, subset_pos, port_pos;
};
struct header_operations {
    struct label_map set, add;
    struct string_list remove;
};
struct headers {
    struct header_operations *request, *response;
};
struct percent {
    double value;
    bool given;
};

// ---- Gateway
enum server_protocol {
    PROTO_UNKNOWN,
    PROTO_HTTP,
    PROTO_HTTP2,
    PROTO_GRPC,
    PROTO_GRPC_WEB,
    PROTO_HTTP_PROXY,
    PROTO_HTTPS,
    PROTO_TLS,
    PROTO_TCP,
    PROTO_UDP,
    PROTO_MONGO,
    PROTO_MYSQL,
    PROTO_REDIS,
};
enum server_tls_mode {
    TLS_PASSTHROUGH,
    TLS_SIMPLE,
    TLS_MUTUAL,
    TLS_AUTO_PASSTHROUGH,
    TLS_ISTIO_MUTUAL,
    TLS_OPTIONAL_MUTUAL
};
enum tls_protocol { TLS_PROTO_AUTO, TLS_PROTO_1_0, TLS_PROTO_1_1, TLS_PROTO_1_2, TLS_PROTO_1_3 };
struct tls_certificate {
    struct slice server_certificate, private_key, ca_certificates;
    struct pos pos;
};
struct server_tls {
    bool https_redirect;
    enum server_tls_mode mode;
    struct slice server_certificate, private_key, ca_certificates, ca_crl;
    struct slice credential_name, ca_cert_credential_name;
    struct string_list credential_names;
    struct tls_certificate *certificates;
    uint32_t certificate_count;
    struct string_list subject_alt_names, verify_certificate_spki, verify_certificate_hash;
    enum tls_protocol min_version, max_version;
    struct string_list cipher_suites, ecdh_curves;
    bool insecure_skip_verify;
    struct pos pos, mode_pos, credential_pos;
};
struct server_port {
    uint32_t number, target_port;
    struct slice protocol_text, name;
    enum server_protocol protocol;
    struct pos pos, number_pos, protocol_pos, name_pos, target_port_pos;
};
struct server {
    struct server_port port;
    struct slice bind, default_endpoint, name;
    struct string_list hosts; // "[ns/]dnsName", as written
    struct server_tls *tls;
    struct pos pos, bind_pos, name_pos;
};
struct gateway {
    struct metadata meta;
    struct label_map selector;
    struct server *servers;
    uint32_t server_count;
    struct pos selector_pos;
};

// ---- VirtualService
struct http_match {
    struct slice name, stat_prefix, source_namespace;
    struct string_match *uri, *scheme, *method, *authority;
    struct named_match_list headers, without_headers, query_params;
    uint32_t port; // 0 = not given
    struct label_map source_labels;
    struct string_list gateways;
    bool ignore_uri_case;
    struct pos pos;
};
struct http_route_destination {
    struct destination destination;
    int32_t weight;
    bool weight_given;
    struct headers *headers;
    struct pos pos;
};
enum redirect_port {
    REDIRECT_PORT_UNSET,
    REDIRECT_PORT_NUMBER,
    REDIRECT_PORT_FROM_PROTOCOL,
    REDIRECT_PORT_FROM_REQUEST
};
struct http_redirect {
    struct slice uri, authority, scheme, prefix_rewrite;
    bool uri_given, prefix_rewrite_given;
    enum redirect_port port_kind;
    uint32_t port;
    uint32_t code; // 0 = not given (301)
    struct pos pos;
};
struct http_direct_response {
    uint32_t status;
    struct slice body; // decoded when given as bytes
    struct pos pos, body_pos;
};
struct delegate {
    struct slice name, ns;
    struct pos pos;
};
struct regex_rewrite {
    struct slice match, rewrite;
    struct pos pos;
};
struct http_rewrite {
    struct slice uri, authority;
    bool uri_given;
    struct regex_rewrite *uri_regex;
    struct pos pos;
};
struct http_retry {
    int32_t attempts;
    bool attempts_given;
    uint64_t per_try_timeout_ns, backoff_ns;
    struct slice retry_on;
    int8_t retry_remote_localities, retry_ignore_previous_hosts; // -1 unset, 0, 1
    struct pos pos;
};
struct cors_policy {
    struct string_match *allow_origins; // allow_origin (deprecated) lands here as MATCH_EXACT
    uint32_t allow_origin_count;
    struct string_list allow_methods, allow_headers, expose_headers;
    uint64_t max_age_ns;
    int8_t allow_credentials; // -1 unset
    enum { PREFLIGHT_UNSPECIFIED, PREFLIGHT_FORWARD, PREFLIGHT_IGNORE } unmatched_preflights;
    struct pos pos;
};
struct http_fault {
    bool has_delay, has_abort;
    uint64_t fixed_delay_ns;
    struct percent delay_percentage, abort_percentage;
    int32_t abort_http_status; // 0 = not given
    struct slice abort_grpc_status, abort_http2_error;
    struct pos pos;
};
struct http_mirror {
    struct destination destination;
    struct percent percentage;
    struct pos pos;
};
struct http_route {
    struct slice name;
    struct http_match *matches;
    uint32_t match_count;
    struct http_route_destination *routes;
    uint32_t route_count;
    struct http_redirect *redirect;
    struct http_direct_response *direct_response;
    struct delegate *delegate;
    struct http_rewrite *rewrite;
    uint64_t timeout_ns; // DURATION_UNSET; 0 = none
    struct http_retry *retries;
    struct http_fault *fault;
    struct http_mirror *mirrors; // `mirror` + `mirrorPercentage` land here too
    uint32_t mirror_count;
    struct cors_policy *cors;
    struct headers *headers;
    struct pos pos, name_pos, timeout_pos;
};
struct l4_match { // L4MatchAttributes and TLSMatchAttributes
    struct string_list sni_hosts, destination_subnets, gateways;
    uint32_t port;
    struct slice source_subnet, source_namespace;
    struct label_map source_labels;
    struct pos pos;
};
struct route_destination {
    struct destination destination;
    int32_t weight;
    bool weight_given;
    struct pos pos;
};
struct l4_route { // TLSRoute and TCPRoute
    struct l4_match *matches;
    uint32_t match_count;
    struct route_destination *routes;
    uint32_t route_count;
    struct pos pos;
};
struct virtual_service {
    struct metadata meta;
    struct string_list hosts, gateways, export_to;
    struct http_route *http;
    uint32_t http_count;
    struct l4_route *tls, *tcp;
    uint32_t tls_count, tcp_count;
};

// ---- DestinationRule
enum lb_simple {
    LB_UNSPECIFIED,
    LB_LEAST_CONN,
    LB_RANDOM,
    LB_PASSTHROUGH,
    LB_ROUND_ROBIN,
    LB_LEAST_REQUEST
};
enum hash_key { HASH_NONE, HASH_HEADER, HASH_COOKIE, HASH_SOURCE_IP, HASH_QUERY };
enum hash_algorithm { HASH_RING_DEFAULT, HASH_RING, HASH_MAGLEV };
struct consistent_hash {
    enum hash_key key;
    struct slice name; // header, cookie or query parameter
    struct slice cookie_path;
    uint64_t cookie_ttl_ns;
    struct label_map cookie_attributes;
    enum hash_algorithm algorithm;
    uint64_t minimum_ring_size, table_size;
    uint64_t deprecated_ring_size; // minimumRingSize beside the algorithm
    struct pos pos;
};
struct locality_distribute {
    struct slice from;
    struct locality_weight {
        struct slice to;
        uint32_t weight;
    } *to;
    uint32_t to_count;
    struct pos pos;
};
struct locality_failover {
    struct slice from, to;
    struct pos pos;
};
struct locality_lb {
    struct locality_distribute *distribute;
    uint32_t distribute_count;
    struct locality_failover *failover;
    uint32_t failover_count;
    struct string_list failover_priority;
    int8_t enabled;
    struct pos pos;
};
struct load_balancer {
    bool simple_given;
    enum lb_simple simple;
    struct consistent_hash *consistent_hash;
    struct locality_lb *locality;
    struct locality_lb *zone_aware; // failover, failover_priority, enabled
    uint64_t zone_aware_min_cluster_size;
    uint64_t warmup_duration_ns;
    double warmup_minimum_percent, warmup_aggression; // 0 = not given
    struct pos pos;
};
struct connection_pool {
    bool given; // tcp or http
    // tcp
    int32_t max_connections; // 0 = not given
    uint64_t connect_timeout_ns, tcp_idle_timeout_ns, max_connection_duration_ns;
    bool keepalive;
    uint32_t keepalive_probes;
    uint64_t keepalive_time_ns, keepalive_interval_ns;
    // http
    int32_t http1_max_pending_requests, http2_max_requests, max_requests_per_connection,
        max_retries, max_concurrent_streams;
    bool max_retries_given;
    uint64_t http_idle_timeout_ns;
    enum { H2_UPGRADE_DEFAULT, H2_UPGRADE_NEVER, H2_UPGRADE_ALWAYS } h2_upgrade;
    bool use_client_protocol;
    uint64_t http2_keepalive_interval_ns, http2_keepalive_timeout_ns;
    struct pos pos, max_connections_pos, max_duration_pos, tcp_idle_pos, http1_pending_pos,
        http2_requests_pos, max_retries_pos, max_streams_pos, h2_upgrade_pos, client_protocol_pos;
};
struct outlier_detection {
    bool split_external_local_origin_errors;
    int64_t consecutive_5xx, consecutive_gateway, consecutive_local_origin; // -1 = not given
    uint64_t interval_ns, base_ejection_ns;
    int32_t max_ejection_percent, min_health_percent; // -1 = not given
    uint32_t *http_error_codes;
    uint32_t http_error_code_count;
    struct pos pos;
};
enum client_tls_mode {
    CLIENT_TLS_DISABLE,
    CLIENT_TLS_SIMPLE,
    CLIENT_TLS_MUTUAL,
    CLIENT_TLS_ISTIO_MUTUAL
};
struct client_tls {
    enum client_tls_mode mode;
    struct slice client_certificate, private_key, ca_certificates, ca_crl, credential_name, sni;
    struct string_list subject_alt_names;
    int8_t insecure_skip_verify; // -1 = not given
    struct pos pos;
};
struct port_traffic_policy;
struct traffic_policy {
    struct load_balancer *load_balancer;
    struct connection_pool *connection_pool;
    struct outlier_detection *outlier_detection;
    struct client_tls *tls;
    struct port_traffic_policy *port_level;
    uint32_t port_level_count;
    struct {
        bool given;
        struct slice protocol, target_host;
        uint32_t target_port;
    } tunnel;
    int8_t proxy_protocol; // -1 none, 0 V1, 1 V2
    struct {
        bool given;
        double percent; // <0 = not given
        uint32_t min_retry_concurrency;
        uint64_t interval_ns;
    } retry_budget;
    struct pos pos;
};
struct port_traffic_policy {
    uint32_t port;
    struct load_balancer *load_balancer;
    struct connection_pool *connection_pool;
    struct outlier_detection *outlier_detection;
    struct client_tls *tls;
    struct pos pos;
};
struct subset {
    struct slice name;
    struct label_map labels;
    struct traffic_policy *traffic_policy;
    struct pos pos;
};
struct destination_rule {
    struct metadata meta;
    struct slice host;
    struct pos host_pos;
    struct traffic_policy *traffic_policy;
    struct subset *subsets;
    uint32_t subset_count;
    struct string_list export_to;
    struct label_map workload_selector;
    struct pos workload_selector_pos; // line 0: not given
};

// ---- ServiceEntry, WorkloadEntry
struct port_entry { // an entry of map<string, uint32>
    struct slice name;
    uint32_t number;
};
struct workload_entry {
    struct metadata meta; // only of a document of its own, else zero
    struct slice address, network, locality, service_account;
    struct port_entry *ports;
    uint32_t port_count;
    struct label_map labels;
    uint32_t weight; // 0 = not given
    struct pos pos;
};
enum service_resolution {
    RESOLUTION_NONE,
    RESOLUTION_STATIC,
    RESOLUTION_DNS,
    RESOLUTION_DNS_ROUND_ROBIN,
    RESOLUTION_DYNAMIC_DNS
};
struct service_entry_port {
    uint32_t number, target_port;
    struct slice protocol, name;
    struct pos pos;
};
struct service_entry {
    struct metadata meta;
    struct string_list hosts, addresses, export_to, subject_alt_names;
    struct service_entry_port *ports;
    uint32_t port_count;
    bool mesh_internal;
    enum service_resolution resolution;
    struct workload_entry *endpoints;
    uint32_t endpoint_count;
    struct label_map workload_selector;
    bool has_workload_selector;
    struct pos workload_selector_pos;
};

// ---- EnvoyFilter: only the statsd sink
struct statsd_sink {
    struct metadata meta;
    struct slice address, prefix; // UDP; prefix is "envoy" where none is given
    struct slice tcp_cluster;     // instead of address and port
    uint32_t port;
    struct pos pos;
};

// ---- Kubernetes kinds
struct kube_service_port {
    struct slice name, protocol, app_protocol; // protocol: TCP (default), UDP, SCTP
    uint32_t port, target_port, node_port; // target_port 0: by name, or equal to port if no name
    struct slice target_port_name;
    struct pos pos;
};
struct kube_service {
    struct metadata meta;
    struct label_map selector;
    struct kube_service_port *ports;
    uint32_t port_count;
    struct slice type, cluster_ip, external_name;
};
struct kube_endpoint_port {
    struct slice name, protocol, app_protocol;
    uint32_t port;
};
struct kube_endpoint_address {
    struct slice ip, node_name, zone;
    struct slice target_pod; // targetRef.name when its kind is Pod
    bool ready;
};
struct kube_endpoints { // one subset of an Endpoints, or an EndpointSlice
    struct metadata meta;
    struct slice service; // name of the Service
    struct kube_endpoint_address *addresses;
    uint32_t address_count;
    struct kube_endpoint_port *ports;
    uint32_t port_count;
    bool from_slice;
};
struct kube_pod {
    struct metadata meta;
    struct slice ip, node_name;
    bool ready; // no Ready condition counts as ready; phase Failed or Succeeded does not
    struct kube_endpoint_port *ports; // containerPort by name, for a named targetPort
    uint32_t port_count;
};
struct kube_secret {
    struct metadata meta;
    struct slice type;
    struct label_map data; // decoded
};
struct kube_configmap {
    struct metadata meta;
    struct label_map data;
};
struct kube_namespace {
    struct metadata meta;
};

// ---- all of them
#define MODEL_LIST(type, name)                  \
    struct type **name; /* in document order */ \
    uint32_t name##_count

struct model {
    struct arena arena;
    MODEL_LIST(gateway, gateways);
    MODEL_LIST(virtual_service, virtual_services);
    MODEL_LIST(destination_rule, destination_rules);
    MODEL_LIST(service_entry, service_entries);
    MODEL_LIST(workload_entry, workload_entries);
    MODEL_LIST(statsd_sink, statsd_sinks);
    MODEL_LIST(kube_service, services);
    MODEL_LIST(kube_endpoints, endpoints);
    MODEL_LIST(kube_pod, pods);
    MODEL_LIST(kube_secret, secrets);
    MODEL_LIST(kube_configmap, configmaps);
    MODEL_LIST(kube_namespace, namespaces);
    // Objects of documents in error, as far as they could be read; by kind, each begins with its
    // metadata. Only the lint looks at them: what refers to one is not lost, it is broken.
    MODEL_LIST(metadata, broken);
    uint32_t document_count, skipped_count;
};
