// Pod, Secret, ConfigMap and Namespace: the tables. Control thread.
#include "config/kind.h"
#include "config/text.h"
#include "core/map.h"

// ---- Pod

struct container {
    struct container_port {
        struct slice name, protocol;
        uint32_t number;
    } *ports;
    uint32_t port_count;
};
struct condition {
    struct slice type, status;
};
struct pod_document {
    struct metadata meta;
    struct container *containers;
    uint32_t container_count;
    struct condition *conditions;
    uint32_t condition_count;
    struct slice ip, node_name, phase;
};

#define T struct container_port
static const struct field container_port_fields[] = {
    F("name", FIELD_STRING, T, name),
    F("protocol", FIELD_STRING, T, protocol),
    F("containerPort", FIELD_U32, T, number),
};
MESSAGE_OPEN(container_port, "v1.ContainerPort", T, container_port_fields);
#undef T
static const struct field container_fields[] = {
    F_LIST("ports", struct container, ports, port_count, container_port)};
MESSAGE_OPEN(container, "v1.Container", struct container, container_fields);
static const struct field pod_condition_fields[] = {
    F("type", FIELD_STRING, struct condition, type),
    F("status", FIELD_STRING, struct condition, status),
};
MESSAGE_OPEN(condition, "v1.PodCondition", struct condition, pod_condition_fields);

#define T struct pod_document
static const struct field pod_spec_fields[] = {
    F_LIST("containers", T, containers, container_count, container),
    F("nodeName", FIELD_STRING, T, node_name),
};
MESSAGE_OPEN(pod_spec, "v1.PodSpec", T, pod_spec_fields);
static const struct field pod_status_fields[] = {
    F("podIP", FIELD_STRING, T, ip),
    F("phase", FIELD_STRING, T, phase),
    F_LIST("conditions", T, conditions, condition_count, condition),
};
MESSAGE_OPEN(pod_status, "v1.PodStatus", T, pod_status_fields);
static const struct field pod_fields[] = {
    F_INLINE("spec", pod_spec),
    F_INLINE("status", pod_status),
};
MESSAGE_OPEN(pod, "v1.Pod", T, pod_fields);
#undef T

static bool pod_is_ready(const struct pod_document *d)
{
    if (slice_eq(d->phase, SLICE("Failed")) || slice_eq(d->phase, SLICE("Succeeded")))
        return false;
    for (uint32_t i = 0; i < d->condition_count; i++)
        if (slice_eq(d->conditions[i].type, SLICE("Ready")))
            return slice_eq(d->conditions[i].status, SLICE("True"));
    return true;
}

static void add_pod(struct loading *l, struct reader *r, void *object)
{
    const struct pod_document *d = object;
    struct kube_pod *p = arena_new(r->arena, struct kube_pod);
    uint32_t total = 0;
    p->meta = d->meta;
    p->ip = d->ip;
    p->node_name = d->node_name;
    p->ready = pod_is_ready(d);
    for (uint32_t i = 0; i < d->container_count; i++)
        total += d->containers[i].port_count;
    p->ports = arena_array(r->arena, struct kube_endpoint_port, total);
    for (uint32_t i = 0; i < d->container_count; i++) {
        for (uint32_t k = 0; k < d->containers[i].port_count; k++) {
            const struct container_port *from = &d->containers[i].ports[k];
            struct kube_endpoint_port *to = &p->ports[p->port_count++];
            to->name = from->name;
            to->protocol = from->protocol;
            to->port = from->number;
        }
    }
    model_list_add(l->model, &l->model->pods, p);
}

const struct kind kind_pod = {
    .name = "Pod",
    .group = "",
    .document = &pod,
    .size = sizeof(struct pod_document),
    .add = add_pod,
};

// ---- Secret, ConfigMap: data as strings, base64 decoded; stringData wins over data

static void extend(struct reader *r, struct label_map *map, uint32_t more)
{
    struct label *all = arena_array(r->arena, struct label, map->count + more);
    if (map->count)
        memcpy(all, map->items, sizeof(*all) * map->count);
    map->items = all;
}

// Of equal keys the last one stays, in the place of the first.
static void keep_last(struct label_map *map)
{
    struct map seen;
    uint32_t kept = 0;
    map_init(&seen, NULL, map->count);
    for (uint32_t i = 0; i < map->count; i++) {
        struct label *before = map_get(&seen, map->items[i].key);
        if (before) {
            *before = map->items[i];
            continue;
        }
        map->items[kept] = map->items[i];
        (void)map_put(&seen, map->items[kept].key, &map->items[kept]);
        kept++;
    }
    map->count = kept;
    map_fini(&seen);
}

static void read_entries(struct reader *r, const struct yaml_node *node, const struct path *path,
                         struct label_map *out, bool base64)
{
    if (!schema_expect(r, node, YAML_MAPPING, path))
        return;
    extend(r, out, node->count);
    for (uint32_t i = 0; i < node->count; i++) {
        const struct yaml_pair *p = &node->pairs[i];
        struct path at = {.up = path, .key = p->key, .index = -1};
        struct label entry = {.key = arena_dup(r->arena, p->key), .pos = schema_pos(r, p->pos)};
        if (!yaml_is_null(p->value) && !schema_read_string(r, p->value, &at, &entry.value))
            continue;
        if (base64 && entry.value.len && !base64_decode(r->arena, entry.value, &entry.value)) {
            schema_error(r, p->value->pos, &at, "not base64 (stringData takes plain text)");
            continue;
        }
        out->items[out->count++] = entry;
    }
}

static void read_base64(struct reader *r, const struct yaml_node *node, const struct path *path,
                        void *base, uint32_t offset)
{
    read_entries(r, node, path, (void *)((char *)base + offset), true);
}

static void read_plain(struct reader *r, const struct yaml_node *node, const struct path *path,
                       void *base, uint32_t offset)
{
    read_entries(r, node, path, (void *)((char *)base + offset), false);
}

struct secret_document {
    struct kube_secret secret; // first
    struct label_map string_data;
};
static const struct field secret_fields[] = {
    F("type", FIELD_STRING, struct secret_document, secret.type),
    F_CUSTOM("data", struct secret_document, secret.data, read_base64),
    F_CUSTOM("stringData", struct secret_document, string_data, read_plain),
};
MESSAGE_OPEN(secret, "v1.Secret", struct secret_document, secret_fields);

static void finish_secret(struct reader *r, void *object)
{
    struct secret_document *d = object;
    struct label_map *data = &d->secret.data;
    if (!d->string_data.count)
        return;
    extend(r, data, d->string_data.count);
    memcpy(&data->items[data->count], d->string_data.items,
           sizeof(*data->items) * d->string_data.count);
    data->count += d->string_data.count;
    keep_last(data);
}

const struct kind kind_secret = {
    .name = "Secret",
    .group = "",
    .document = &secret,
    .size = sizeof(struct secret_document),
    .list = offsetof(struct model, secrets),
    .finish = finish_secret,
};

static const struct field configmap_fields[] = {
    F_CUSTOM("data", struct kube_configmap, data, read_plain),
    F_CUSTOM("binaryData", struct kube_configmap, data, read_base64),
};
MESSAGE_OPEN(configmap, "v1.ConfigMap", struct kube_configmap, configmap_fields);

static void finish_configmap(struct reader *r, void *object)
{
    (void)r;
    keep_last(&((struct kube_configmap *)object)->data);
}

const struct kind kind_configmap = {
    .name = "ConfigMap",
    .group = "",
    .document = &configmap,
    .size = sizeof(struct kube_configmap),
    .list = offsetof(struct model, configmaps),
    .finish = finish_configmap,
};

static const struct field namespace_fields[] = {F_SKIP("spec")};
MESSAGE_OPEN(namespace_, "v1.Namespace", struct kube_namespace, namespace_fields);

const struct kind kind_namespace = {
    .name = "Namespace",
    .group = "",
    .document = &namespace_,
    .size = sizeof(struct kube_namespace),
    .list = offsetof(struct model, namespaces),
};
