// Messages that several Istio kinds share, and the shapes that a table cannot say: oneofs and
// maps of messages. Owns nothing. Control thread.
#include "config/istio_common.h"

static void *member(void *base, uint32_t offset)
{
    return (char *)base + offset;
}

// A oneof: read by name, in this order.
static const struct field string_match_fields[] = {F_SKIP("exact"), F_SKIP("prefix"),
                                                   F_SKIP("regex")};
const struct message message_string_match = {"istio.networking.v1alpha3.StringMatch",
                                             string_match_fields,
                                             COUNT_OF(string_match_fields),
                                             sizeof(struct string_match),
                                             NO_OFFSET,
                                             false};

void read_string_match(struct reader *r, const struct yaml_node *node, const struct path *path,
                       struct string_match *out)
{
    static const enum string_match_kind kinds[] = {MATCH_EXACT, MATCH_PREFIX, MATCH_REGEX};
    uint32_t given = 0;
    out->pos = schema_pos(r, node->pos);
    if (!schema_expect(r, node, YAML_MAPPING, path))
        return;
    for (uint32_t i = 0; i < node->count; i++) {
        const struct yaml_pair *p = &node->pairs[i];
        uint32_t k = 0;
        while (k < COUNT_OF(kinds) && !slice_eq(p->key, slice_of(string_match_fields[k].name)))
            k++;
        if (k == COUNT_OF(kinds)) {
            schema_unknown(r, &message_string_match, p, path);
            continue;
        }
        if (yaml_is_null(p->value))
            continue;
        struct path at = {.up = path, .name = string_match_fields[k].name, .index = -1};
        if (given++)
            schema_error(r, p->pos, path, "only one of exact, prefix and regex may be given");
        else if (schema_read_string(r, p->value, &at, &out->text))
            out->kind = kinds[k];
    }
}

void read_string_match_field(struct reader *r, const struct yaml_node *node,
                             const struct path *path, void *base, uint32_t offset)
{
    struct string_match *m = arena_new(r->arena, struct string_match);
    read_string_match(r, node, path, m);
    *(struct string_match **)member(base, offset) = m;
}

void read_named_matches(struct reader *r, const struct yaml_node *node, const struct path *path,
                        void *base, uint32_t offset)
{
    struct named_match_list *out = member(base, offset);
    if (!schema_expect(r, node, YAML_MAPPING, path))
        return;
    out->items = arena_array(r->arena, struct named_match, node->count);
    for (uint32_t i = 0; i < node->count; i++) {
        const struct yaml_pair *p = &node->pairs[i];
        struct path at = {.up = path, .key = p->key, .index = -1};
        struct named_match *it = &out->items[out->count++];
        it->name = arena_dup(r->arena, p->key);
        it->pos = schema_pos(r, p->pos);
        if (yaml_is_null(p->value))
            schema_error(r, p->pos, path, "header match %.*s cannot be null", SLICE_FMT(p->key));
        else
            read_string_match(r, p->value, &at, &it->match);
    }
}

struct one_number {
    uint32_t number;
};
static const struct field port_selector_fields[] = {
    F("number", FIELD_U32, struct one_number, number)};
const struct message message_port_selector = {"istio.networking.v1alpha3.PortSelector",
                                              port_selector_fields,
                                              COUNT_OF(port_selector_fields),
                                              sizeof(struct one_number),
                                              NO_OFFSET,
                                              false};

void read_port_selector(struct reader *r, const struct yaml_node *node, const struct path *path,
                        void *base, uint32_t offset)
{
    struct one_number n = {0};
    schema_read(r, &message_port_selector, node, path, &n);
    *(uint32_t *)member(base, offset) = n.number;
}

static const struct field percent_fields[] = {F("value", FIELD_DOUBLE, struct percent, value)};
const struct message message_percent = {"istio.networking.v1alpha3.Percent",
                                        percent_fields,
                                        COUNT_OF(percent_fields),
                                        sizeof(struct percent),
                                        NO_OFFSET,
                                        false};

void read_percent(struct reader *r, const struct yaml_node *node, const struct path *path,
                  void *base, uint32_t offset)
{
    struct percent *p = member(base, offset);
    schema_read(r, &message_percent, node, path, p);
    p->given = true;
}

// The position of a port is the selector's, {number: 9080}.
static void read_destination_port(struct reader *r, const struct yaml_node *node,
                                  const struct path *path, void *base, uint32_t offset)
{
    struct destination *d = base;
    d->port_pos = schema_pos(r, node->pos);
    read_port_selector(r, node, path, base, offset);
}

static const struct field destination_fields[] = {
    F_POS("host", FIELD_STRING, struct destination, host, host_pos),
    F_POS("subset", FIELD_STRING, struct destination, subset, subset_pos),
    F_CUSTOM_OF("port", struct destination, port, read_destination_port, &message_port_selector,
                CUSTOM_ONE),
};
const struct message message_destination = {"istio.networking.v1alpha3.Destination",
                                            destination_fields,
                                            COUNT_OF(destination_fields),
                                            sizeof(struct destination),
                                            offsetof(struct destination, pos),
                                            false};

static void read_entry_ports(struct reader *r, const struct yaml_node *node,
                             const struct path *path, void *base, uint32_t offset)
{
    struct workload_entry *w = base;
    (void)offset;
    if (!schema_expect(r, node, YAML_MAPPING, path))
        return;
    w->ports = arena_array(r->arena, struct port_entry, node->count);
    for (uint32_t i = 0; i < node->count; i++) {
        struct path at = {.up = path, .key = node->pairs[i].key, .index = -1};
        int64_t v = 0;
        if (!schema_read_int(r, node->pairs[i].value, &at, 0, UINT32_MAX, &v))
            continue;
        struct port_entry *p = &w->ports[w->port_count++];
        p->name = arena_dup(r->arena, node->pairs[i].key);
        p->number = (uint32_t)v;
    }
}

static const struct field workload_entry_fields[] = {
    F("address", FIELD_STRING, struct workload_entry, address),
    F_CUSTOM_OF("ports", struct workload_entry, ports, read_entry_ports, NULL, CUSTOM_MAP),
    F("labels", FIELD_STRING_MAP, struct workload_entry, labels),
    F("network", FIELD_STRING, struct workload_entry, network),
    F("locality", FIELD_STRING, struct workload_entry, locality),
    F("weight", FIELD_U32, struct workload_entry, weight),
    F("serviceAccount", FIELD_STRING, struct workload_entry, service_account),
};
const struct message message_workload_entry = {
    "istio.networking.v1alpha3.WorkloadEntry", workload_entry_fields,
    COUNT_OF(workload_entry_fields),           sizeof(struct workload_entry),
    offsetof(struct workload_entry, pos),      false};
