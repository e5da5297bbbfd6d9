// What a DestinationRule says about one port of a service or subset.
#pragma once
#include "route/route.h"

// Fills the settings of a cluster, but for tls_name: Envoy's defaults as Istio sets them, then the
// policies. `top` and `subset` may be NULL. settings_hash too.
void policy_apply(struct cluster_config *cluster, const struct compile_options *options,
                  const struct traffic_policy *top, const struct traffic_policy *subset);
