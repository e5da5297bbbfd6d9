// Kinds that Sluice does not read: Istio's policies, that may not be passed over in silence, and
// everything else, which one notice names.
#pragma once
#include "config/kind.h"

// A document of an *.istio.io group without a table.
void policy_read(struct loading *l, struct reader *r, const struct yaml_node *doc,
                 const struct metadata *meta, struct slice group);
void policy_skip(struct loading *l, const struct metadata *meta);
// When all documents are read: refuses the policies that bear on a gateway, and adds the notice.
void policy_finish(struct loading *l);
