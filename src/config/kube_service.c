// Service, Endpoints and EndpointSlice: the tables, and their one shape in the model. Kubernetes'
// messages are open: fields that do not bear on a gateway are passed over. Control thread.
#include "config/kind.h"

// ---- Service

static void read_target_port(struct reader *r, const struct yaml_node *node,
                             const struct path *path, void *base, uint32_t offset)
{
    struct kube_service_port *p = base;
    int64_t v;
    (void)offset;
    if (node->kind == YAML_SCALAR && !yaml_is_number(node))
        (void)schema_read_string(r, node, path, &p->target_port_name);
    else if (schema_read_int(r, node, path, 0, 65535, &v))
        p->target_port = (uint32_t)v;
}

#define T struct kube_service_port
static const struct field service_port_fields[] = {
    F("name", FIELD_STRING, T, name),
    F("protocol", FIELD_STRING, T, protocol),
    F("appProtocol", FIELD_STRING, T, app_protocol),
    F("port", FIELD_U32, T, port),
    F_CUSTOM("targetPort", T, target_port, read_target_port),
    F("nodePort", FIELD_U32, T, node_port),
};
#undef T
static const struct message service_port = {"v1.ServicePort",
                                            service_port_fields,
                                            COUNT_OF(service_port_fields),
                                            sizeof(struct kube_service_port),
                                            offsetof(struct kube_service_port, pos),
                                            true};

#define T struct kube_service
static const struct field service_spec_fields[] = {
    F("selector", FIELD_STRING_MAP, T, selector),
    F_LIST("ports", T, ports, port_count, service_port),
    F("type", FIELD_STRING, T, type),
    F("clusterIP", FIELD_STRING, T, cluster_ip),
    F("externalName", FIELD_STRING, T, external_name),
};
MESSAGE_OPEN(service_spec, "v1.ServiceSpec", T, service_spec_fields);
static const struct field service_fields[] = {F_INLINE("spec", service_spec)};
MESSAGE_OPEN(service, "v1.Service", T, service_fields);
#undef T

static void validate_service(struct reader *r, const struct load_options *options,
                             const void *object)
{
    const struct kube_service *s = object;
    (void)options;
    for (uint32_t i = 0; i < s->port_count; i++)
        if (s->ports[i].port < 1 || s->ports[i].port > 65535)
            finding_add(r->findings, SEVERITY_ERROR, NULL, s->ports[i].pos, r->object,
                        "spec.ports[%u].port: Invalid value: %u: must be between 1 and 65535, "
                        "inclusive",
                        i, s->ports[i].port);
}

const struct kind kind_service = {
    .name = "Service",
    .group = "",
    .document = &service,
    .size = sizeof(struct kube_service),
    .list = offsetof(struct model, services),
    .validate = validate_service,
};

// ---- Endpoints and EndpointSlice

struct reference {
    struct slice kind, name;
};
static const struct field reference_fields[] = {
    F("kind", FIELD_STRING, struct reference, kind),
    F("name", FIELD_STRING, struct reference, name),
};
MESSAGE_OPEN(reference, "v1.ObjectReference", struct reference, reference_fields);

static void read_target_ref(struct reader *r, const struct yaml_node *node, const struct path *path,
                            void *base, uint32_t offset)
{
    struct reference ref = {0};
    schema_read(r, &reference, node, path, &ref);
    if (slice_eq(ref.kind, SLICE("Pod")))
        *(struct slice *)(void *)((char *)base + offset) = ref.name;
}

#define T struct kube_endpoint_port
static const struct field endpoint_port_fields[] = {
    F("name", FIELD_STRING, T, name),
    F("protocol", FIELD_STRING, T, protocol),
    F("appProtocol", FIELD_STRING, T, app_protocol),
    F("port", FIELD_U32, T, port),
};
#undef T
MESSAGE_OPEN(endpoint_port, "v1.EndpointPort", struct kube_endpoint_port, endpoint_port_fields);

#define T struct kube_endpoint_address
static const struct field address_fields[] = {
    F("ip", FIELD_STRING, T, ip),
    F("nodeName", FIELD_STRING, T, node_name),
    F_CUSTOM("targetRef", T, target_pod, read_target_ref),
};
MESSAGE_OPEN(address, "v1.EndpointAddress", T, address_fields);

// An endpoint of a slice has several addresses of one backend; the first is used, as Kubernetes
// says.
struct slice_endpoint {
    struct kube_endpoint_address address; // first
    struct string_list addresses;
    int8_t ready;
};
#undef T
#define T struct slice_endpoint
static const struct field condition_fields[] = {F("ready", FIELD_TRISTATE, T, ready)};
MESSAGE_OPEN(conditions, "v1.EndpointConditions", T, condition_fields);
static const struct field slice_endpoint_fields[] = {
    F("addresses", FIELD_STRINGS, T, addresses),
    F_INLINE("conditions", conditions),
    F("nodeName", FIELD_STRING, T, address.node_name),
    F("zone", FIELD_STRING, T, address.zone),
    F_CUSTOM("targetRef", T, address.target_pod, read_target_ref),
};
MESSAGE_OPEN(slice_endpoint, "v1.Endpoint", T, slice_endpoint_fields);
#undef T

struct endpoints_subset {
    struct kube_endpoint_address *ready, *not_ready;
    uint32_t ready_count, not_ready_count;
    struct kube_endpoint_port *ports;
    uint32_t port_count;
};
struct endpoints_document {
    struct metadata meta;
    struct endpoints_subset *subsets;
    uint32_t subset_count;
};
#define T struct endpoints_subset
static const struct field subset_fields[] = {
    F_LIST("addresses", T, ready, ready_count, address),
    F_LIST("notReadyAddresses", T, not_ready, not_ready_count, address),
    F_LIST("ports", T, ports, port_count, endpoint_port),
};
MESSAGE_OPEN(subset, "v1.EndpointSubset", T, subset_fields);
#undef T
static const struct field endpoints_fields[] = {
    F_LIST("subsets", struct endpoints_document, subsets, subset_count, subset)};
MESSAGE_OPEN(endpoints, "v1.Endpoints", struct endpoints_document, endpoints_fields);

static void add_endpoints(struct loading *l, struct reader *r, void *object)
{
    const struct endpoints_document *d = object;
    for (uint32_t i = 0; i < d->subset_count; i++) {
        const struct endpoints_subset *s = &d->subsets[i];
        struct kube_endpoints *e = arena_new(r->arena, struct kube_endpoints);
        e->meta = d->meta;
        e->service = d->meta.name;
        e->ports = s->ports;
        e->port_count = s->port_count;
        e->addresses = arena_array(r->arena, struct kube_endpoint_address,
                                   s->ready_count + s->not_ready_count);
        for (uint32_t k = 0; k < s->ready_count; k++) {
            e->addresses[e->address_count] = s->ready[k];
            e->addresses[e->address_count++].ready = true;
        }
        for (uint32_t k = 0; k < s->not_ready_count; k++)
            e->addresses[e->address_count++] = s->not_ready[k];
        model_list_add(l->model, &l->model->endpoints, e);
    }
}

const struct kind kind_endpoints = {
    .name = "Endpoints",
    .group = "",
    .document = &endpoints,
    .size = sizeof(struct endpoints_document),
    .add = add_endpoints,
};

struct slice_document {
    struct metadata meta;
    struct slice_endpoint *endpoints;
    uint32_t endpoint_count;
    struct kube_endpoint_port *ports;
    uint32_t port_count;
    struct slice address_type;
};
#define T struct slice_document
static const struct field slice_fields[] = {
    F_LIST("endpoints", T, endpoints, endpoint_count, slice_endpoint),
    F_LIST("ports", T, ports, port_count, endpoint_port),
    F("addressType", FIELD_STRING, T, address_type),
};
#undef T
MESSAGE_OPEN(endpoint_slice, "discovery.k8s.io/v1.EndpointSlice", struct slice_document,
             slice_fields);

static struct slice service_of(const struct metadata *m)
{
    for (uint32_t i = 0; i < m->labels.count; i++)
        if (slice_eq(m->labels.items[i].key, SLICE("kubernetes.io/service-name")))
            return m->labels.items[i].value;
    return (struct slice){NULL, 0};
}

static void validate_slice(struct reader *r, const struct load_options *options, const void *object)
{
    const struct slice_document *d = object;
    (void)options;
    if (!service_of(&d->meta).len)
        finding_add(r->findings, SEVERITY_WARNING, NULL, d->meta.pos, r->object,
                    "without the label kubernetes.io/service-name these endpoints belong to no "
                    "Service");
    if (slice_eq(d->address_type, SLICE("FQDN")))
        finding_add(r->findings, SEVERITY_WARNING, NULL, d->meta.pos, r->object,
                    "addressType FQDN is not supported; these endpoints are not used");
}

static void add_slice(struct loading *l, struct reader *r, void *object)
{
    const struct slice_document *d = object;
    if (!service_of(&d->meta).len || slice_eq(d->address_type, SLICE("FQDN")))
        return;
    struct kube_endpoints *e = arena_new(r->arena, struct kube_endpoints);
    e->meta = d->meta;
    e->service = service_of(&d->meta);
    e->from_slice = true;
    e->ports = d->ports;
    e->port_count = d->port_count;
    e->addresses = arena_array(r->arena, struct kube_endpoint_address, d->endpoint_count);
    for (uint32_t i = 0; i < d->endpoint_count; i++) {
        const struct slice_endpoint *s = &d->endpoints[i];
        if (!s->addresses.count)
            continue;
        struct kube_endpoint_address *a = &e->addresses[e->address_count++];
        *a = s->address;
        a->ip = s->addresses.items[0].text;
        a->ready = s->ready != 0;
    }
    model_list_add(l->model, &l->model->endpoints, e);
}

const struct kind kind_endpoint_slice = {
    .name = "EndpointSlice",
    .group = "discovery.k8s.io",
    .document = &endpoint_slice,
    .size = sizeof(struct slice_document),
    .validate = validate_slice,
    .add = add_slice,
};
