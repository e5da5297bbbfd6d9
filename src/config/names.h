// Host names as Istio compares them (pkg/config/host/names.go) and the names of services.
#pragma once
#include "config/model.h"

// A name is a DNS name, "*" or "*.suffix"; comparison folds ASCII case.
bool host_matches(struct slice a, struct slice b);   // one covers the other
bool host_subset_of(struct slice a, struct slice b); // a is covered by b
// The more specific one of a compatible pair; {NULL,0} when the two do not meet.
struct slice host_intersect(struct slice a, struct slice b);
// A short host of a VirtualService or of its destinations belongs to its namespace: "productpage"
// -> "productpage.<ns>.svc.cluster.local"; one with a dot, a wildcard and an address stay as they
// are.
struct slice host_fqdn(struct arena *a, struct slice host, struct slice ns);

// What today's Istio calls "bind a VirtualService to a Gateway": name, ns/name, ./name and the
// legacy name.ns[.svc...].
void gateway_ref_split(struct slice ref, struct slice vs_ns, struct slice *ns, struct slice *name);
enum server_protocol server_protocol_parse(struct slice text);
bool server_protocol_is_http(enum server_protocol p); // HTTP family without TLS

// Istio's ValidCipherSuites, by OpenSSL's names.
#define CIPHER_SUITES 15u
bool cipher_suite_is_known(struct slice name);
bool string_list_repeats(const struct string_list *list, uint32_t i); // one before it is the same
