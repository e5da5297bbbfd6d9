// The kinds of documents, as a table: how each is read, checked and where it goes in the model.
#pragma once
#include "config/load.h"
#include "config/schema.h"

// What the reading of all documents shares.
struct loading {
    struct model *model;
    struct findings *findings;
    const struct load_options *options;
    struct policy_doc *policies; // AuthorizationPolicy and its like, judged when all is read
    struct skipped_kind *skipped;
    uint32_t order; // of the next document
    uint32_t depth; // of `kind: List`
};

struct kind {
    const char *name, *group;       // "Gateway", "networking.istio.io"; "" is the core group
    const struct message *document; // everything beside apiVersion, kind and metadata
    uint32_t size;                  // of the struct, which begins with its struct metadata
    uint16_t list;                  // offset of the MODEL_LIST, used when `add` is NULL
    void (*finish)(struct reader *r, void *object); // derives what the table cannot
    void (*validate)(struct reader *r, const struct load_options *options, const void *object);
    void (*add)(struct loading *l, struct reader *r, void *object); // another shape in the model
};

extern const struct kind kind_gateway, kind_virtual_service, kind_destination_rule,
    kind_service_entry, kind_workload_entry, kind_envoy_filter;
extern const struct kind kind_service, kind_endpoints, kind_endpoint_slice, kind_pod, kind_secret,
    kind_configmap, kind_namespace;

// Appends to a MODEL_LIST, whose array doubles at powers of two.
void model_list_add(struct model *m, void *list, void *object);

// The whole of an Istio document around its spec.
#define ISTIO_DOCUMENT(id, full_name, s, spec_message)                               \
    static const struct field id##_fields[] = {F_SKIP("apiVersion"), F_SKIP("kind"), \
                                               F_SKIP("metadata"), F_SKIP("status"), \
                                               F_INLINE("spec", spec_message)};      \
    MESSAGE_NO_POS(id, full_name, s, id##_fields)
