// What Istio knows and this version does not serve, as one table: deleting a row is what a later
// version does when it serves it.
#pragma once
#include "config/finding.h"

// One finding for each use: an error where ignoring it would change what a request gets or who may
// connect, a warning otherwise. Marks nothing.
void unserved_report(const struct model *m, struct findings *findings);
// The same of a port that an http route leads to; port 0: of each.
void unserved_report_service_port(const struct kube_service *s, uint32_t port,
                                  struct findings *findings);
void unserved_report_entry_port(const struct service_entry *s, uint32_t port,
                                struct findings *findings);
// The fields of the table, as the findings name them, in order; NULL behind the last.
const char *unserved_field(uint32_t row);
// Takes what is refused out of the model: VirtualServices, ServiceEntries, tls and tcp routes; sets
// metadata.refused on DestinationRules. Servers stay: the route room opens no listener for what it
// does not know, but their port is taken, and another family may not have it.
void unserved_prune(struct model *m);
