// ServiceEntry and WorkloadEntry: the tables of their messages. Control thread.
#include "config/istio_common.h"
#include "config/kind.h"
#include "config/validate.h"

static const struct enum_value locations[] = {{"MESH_EXTERNAL", 0}, {"MESH_INTERNAL", 1}};
ENUM_TYPE(location_type, "istio.networking.v1alpha3.ServiceEntry.Location", locations);

static const struct enum_value resolutions[] = {
    {"NONE", RESOLUTION_NONE},
    {"STATIC", RESOLUTION_STATIC},
    {"DNS", RESOLUTION_DNS},
    {"DNS_ROUND_ROBIN", RESOLUTION_DNS_ROUND_ROBIN},
    {"DYNAMIC_DNS", RESOLUTION_DYNAMIC_DNS},
};
ENUM_TYPE(resolution_type, "istio.networking.v1alpha3.ServiceEntry.Resolution", resolutions);

static void read_location(struct reader *r, const struct yaml_node *node, const struct path *path,
                          void *base, uint32_t offset)
{
    int32_t v = 0;
    (void)offset;
    if (schema_read_enum(r, &location_type, node, path, &v))
        ((struct service_entry *)base)->mesh_internal = v == 1;
}

static const struct field selector_fields[] = {
    F("labels", FIELD_STRING_MAP, struct service_entry, workload_selector)};
MESSAGE_NO_POS(selector, "istio.networking.v1alpha3.WorkloadSelector", struct service_entry,
               selector_fields);

static void read_selector(struct reader *r, const struct yaml_node *node, const struct path *path,
                          void *base, uint32_t offset)
{
    struct service_entry *s = base;
    s->has_workload_selector = true;
    s->workload_selector_pos = schema_pos(r, node->pos);
    (void)offset;
    schema_read(r, &selector, node, path, s);
}

#define T struct service_entry_port
static const struct field port_fields[] = {
    F("number", FIELD_U32, T, number),
    F("protocol", FIELD_STRING, T, protocol),
    F("name", FIELD_STRING, T, name),
    F("targetPort", FIELD_U32, T, target_port),
};
#undef T
MESSAGE(port, "istio.networking.v1alpha3.ServicePort", struct service_entry_port, port_fields, pos);

#define T struct service_entry
static const struct field spec_fields[] = {
    F("hosts", FIELD_STRINGS, T, hosts),
    F("addresses", FIELD_STRINGS, T, addresses),
    F_LIST("ports", T, ports, port_count, port),
    F_CUSTOM("location", T, mesh_internal, read_location),
    F_CHILD("resolution", FIELD_ENUM, T, resolution, resolution_type),
    F_LIST("endpoints", T, endpoints, endpoint_count, message_workload_entry),
    F_CUSTOM_OF("workloadSelector", T, workload_selector, read_selector, &selector, CUSTOM_ONE),
    F("exportTo", FIELD_STRINGS, T, export_to),
    F("subjectAltNames", FIELD_STRINGS, T, subject_alt_names),
};
#undef T
MESSAGE_NO_POS(spec, "istio.networking.v1alpha3.ServiceEntry", struct service_entry, spec_fields);
ISTIO_DOCUMENT(entry_document, "ServiceEntry", struct service_entry, spec);
ISTIO_DOCUMENT(workload_document, "WorkloadEntry", struct workload_entry, message_workload_entry);

const struct kind kind_service_entry = {
    .name = "ServiceEntry",
    .group = "networking.istio.io",
    .document = &entry_document,
    .size = sizeof(struct service_entry),
    .list = offsetof(struct model, service_entries),
    .validate = validate_service_entry,
};

const struct kind kind_workload_entry = {
    .name = "WorkloadEntry",
    .group = "networking.istio.io",
    .document = &workload_document,
    .size = sizeof(struct workload_entry),
    .list = offsetof(struct model, workload_entries),
    .validate = validate_workload_entry,
};
