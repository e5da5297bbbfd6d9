// EnvoyFilter: one shape is understood, the statsd sink merged into the bootstrap; anything else is
// refused, because it would change what Envoy does and cannot be passed over in silence. Control
// thread.
#include "config/kind.h"

#define UNSUPPORTED                                                                             \
    "EnvoyFilter: %.*s is not supported; the only patch that is: applyTo BOOTSTRAP, operation " \
    "MERGE, stats_sinks of envoy.stat_sinks.statsd"

struct envoy_filter {
    struct metadata meta;
    struct statsd_sink *sinks;
    uint32_t sink_count;
};

static void refuse(struct reader *r, struct pos pos, struct slice what)
{
    finding_add(r->findings, SEVERITY_ERROR, NULL, schema_pos(r, pos), r->object, UNSUPPORTED,
                SLICE_FMT(what));
}

static bool is_text(const struct yaml_node *n, const char *text)
{
    return n && n->kind == YAML_SCALAR && slice_eq(n->text, slice_of(text));
}

// One of the two spellings of a field.
static const struct yaml_node *get2(const struct yaml_node *n, const char *snake, const char *camel)
{
    const struct yaml_node *v = yaml_get(n, slice_of(snake));
    return v ? v : yaml_get(n, slice_of(camel));
}

// The only keys a map may have; the first other one is refused.
static bool only(struct reader *r, const struct yaml_node *n, const char *const *keys)
{
    if (!n || n->kind != YAML_MAPPING)
        return false;
    for (uint32_t i = 0; i < n->count; i++) {
        const char *const *k = keys;
        while (*k && !slice_eq(n->pairs[i].key, slice_of(*k)))
            k++;
        if (!*k) {
            refuse(r, n->pairs[i].pos, n->pairs[i].key);
            return false;
        }
    }
    return true;
}

static void read_address(struct reader *r, const struct yaml_node *config, const struct path *path,
                         struct statsd_sink *s)
{
    static const char *const keys[] = {"address",  "port_value",  "portValue",
                                       "protocol", "ipv4_compat", NULL};
    const struct yaml_node *address = yaml_get(config, SLICE("address"));
    const struct yaml_node *socket = get2(address, "socket_address", "socketAddress");
    const struct yaml_node *cluster = get2(config, "tcp_cluster_name", "tcpClusterName");
    int64_t port = 0;
    if (cluster && !socket) {
        (void)schema_read_string(r, cluster, path, &s->tcp_cluster);
        return;
    }
    if (!only(r, socket, keys)) {
        if (!socket)
            refuse(r, config->pos, SLICE("a statsd sink without socket_address"));
        return;
    }
    const struct yaml_node *host = yaml_get(socket, SLICE("address"));
    const struct yaml_node *number = get2(socket, "port_value", "portValue");
    if (host)
        (void)schema_read_string(r, host, path, &s->address);
    if (number && schema_read_int(r, number, path, 1, 65535, &port))
        s->port = (uint32_t)port;
    if (!s->address.len || !s->port)
        schema_error(r, socket->pos, path, "socket_address needs address and port_value");
}

static void read_sink(struct reader *r, const struct yaml_node *node, const struct path *path,
                      struct statsd_sink *s)
{
    static const char *const keys[] = {"name", "typed_config", "typedConfig", NULL};
    static const char *const config_keys[] = {"@type",  "address",        "tcp_cluster_name",
                                              "prefix", "tcpClusterName", NULL};
    if (!schema_expect(r, node, YAML_MAPPING, path) || !only(r, node, keys))
        return;
    const struct yaml_node *config = get2(node, "typed_config", "typedConfig");
    const struct yaml_node *prefix = yaml_get(config, SLICE("prefix"));
    if (!is_text(yaml_get(node, SLICE("name")), "envoy.stat_sinks.statsd") ||
        !is_text(yaml_get(config, SLICE("@type")),
                 "type.googleapis.com/envoy.config.metrics.v3.StatsdSink")) {
        refuse(r, node->pos, SLICE("a sink other than envoy.stat_sinks.statsd (v3.StatsdSink)"));
        return;
    }
    if (!only(r, config, config_keys))
        return;
    s->pos = schema_pos(r, node->pos);
    read_address(r, config, path, s);
    if (prefix)
        (void)schema_read_string(r, prefix, path, &s->prefix);
    if (!s->prefix.len)
        s->prefix = SLICE("envoy");
}

static void read_bootstrap(struct reader *r, const struct yaml_node *value, const struct path *path,
                           struct envoy_filter *f)
{
    static const char *const keys[] = {"stats_sinks", "statsSinks", NULL};
    if (!value || !only(r, value, keys))
        return;
    const struct yaml_node *sinks = get2(value, "stats_sinks", "statsSinks");
    if (!sinks || !schema_expect(r, sinks, YAML_SEQUENCE, path))
        return;
    struct statsd_sink *all =
        arena_array(r->arena, struct statsd_sink, f->sink_count + sinks->count);
    if (f->sink_count)
        memcpy(all, f->sinks, sizeof(*all) * f->sink_count);
    f->sinks = all;
    for (uint32_t i = 0; i < sinks->count; i++) {
        struct path at = {.up = path, .index = i};
        read_sink(r, sinks->items[i], &at, &all[f->sink_count++]);
    }
}

static void read_patches(struct reader *r, const struct yaml_node *node, const struct path *path,
                         void *base, uint32_t offset)
{
    (void)offset;
    if (!schema_expect(r, node, YAML_SEQUENCE, path))
        return;
    for (uint32_t i = 0; i < node->count; i++) {
        struct path at = {.up = path, .index = i};
        const struct yaml_node *item = node->items[i];
        const struct yaml_node *apply = get2(item, "applyTo", "apply_to");
        const struct yaml_node *patch = yaml_get(item, SLICE("patch"));
        if (!schema_expect(r, item, YAML_MAPPING, &at))
            continue;
        if (!is_text(apply, "BOOTSTRAP"))
            refuse(r, apply ? apply->pos : item->pos, apply ? apply->text : SLICE("no applyTo"));
        else if (!is_text(yaml_get(patch, SLICE("operation")), "MERGE"))
            refuse(r, item->pos, SLICE("an operation other than MERGE"));
        else
            read_bootstrap(r, yaml_get(patch, SLICE("value")), &at, base);
    }
}

static const struct field spec_fields[] = {
    F_CUSTOM("configPatches", struct envoy_filter, sinks, read_patches),
    F_SKIP("workloadSelector"),
    F_SKIP("targetRefs"),
    F_SKIP("priority"),
};
MESSAGE_NO_POS(spec, "istio.networking.v1alpha3.EnvoyFilter", struct envoy_filter, spec_fields);
ISTIO_DOCUMENT(document, "EnvoyFilter", struct envoy_filter, spec);

static void add(struct loading *l, struct reader *r, void *object)
{
    struct envoy_filter *f = object;
    (void)r;
    for (uint32_t i = 0; i < f->sink_count; i++) {
        f->sinks[i].meta = f->meta;
        model_list_add(l->model, &l->model->statsd_sinks, &f->sinks[i]);
    }
}

const struct kind kind_envoy_filter = {
    .name = "EnvoyFilter",
    .group = "networking.istio.io",
    .document = &document,
    .size = sizeof(struct envoy_filter),
    .add = add,
};
