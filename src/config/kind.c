// One document: which kind it is, its metadata, and through its kind's table into the model. Owns
// nothing: everything is in the model's arena. Invariant: what is appended to the model had no
// error. Control thread.
#include "config/kind.h"
#include "config/document.h"
#include "config/policy.h"
#include "config/text.h"

#define MOST_NESTED_LISTS 4u

static const struct kind *const kinds[] = {
    &kind_gateway,       &kind_virtual_service, &kind_destination_rule,
    &kind_service_entry, &kind_workload_entry,  &kind_envoy_filter,
    &kind_service,       &kind_endpoints,       &kind_endpoint_slice,
    &kind_pod,           &kind_secret,          &kind_configmap,
    &kind_namespace,
};

struct group {
    struct slice name, version;
};

static const struct field metadata_fields[] = {
    F_POS("name", FIELD_STRING, struct metadata, name, name_pos),
    F("namespace", FIELD_STRING, struct metadata, ns),
    F("labels", FIELD_STRING_MAP, struct metadata, labels),
    F("annotations", FIELD_STRING_MAP, struct metadata, annotations),
    F("creationTimestamp", FIELD_TIME, struct metadata, created_unix_s),
};
MESSAGE_OPEN(metadata, "meta/v1.ObjectMeta", struct metadata, metadata_fields);

void model_list_add(struct model *m, void *list, void *object)
{
    struct untyped_list {
        void **items;
        uint32_t count;
    } *l = list;
    if ((l->count & (l->count - 1)) == 0) { // 0, 1, 2, 4 …
        void **grown = arena_array(&m->arena, void *, l->count ? (size_t)l->count * 2 : 1);
        if (l->count)
            memcpy(grown, l->items, sizeof(*grown) * l->count);
        l->items = grown;
    }
    l->items[l->count++] = object;
}

static struct group split_version(struct slice api_version)
{
    ptrdiff_t slash = slice_find(api_version, '/');
    if (slash < 0)
        return (struct group){SLICE(""), api_version};
    return (struct group){{api_version.ptr, (size_t)slash},
                          slice_from(api_version, (size_t)slash + 1)};
}

static const struct kind *find_kind(struct slice group, struct slice name)
{
    for (uint32_t i = 0; i < COUNT_OF(kinds); i++)
        if (slice_eq(group, slice_of(kinds[i]->group)) && slice_eq(name, slice_of(kinds[i]->name)))
            return kinds[i];
    return NULL;
}

static bool version_is_known(struct group g)
{
    static const char *const istio[] = {"v1", "v1beta1", "v1alpha3"};
    if (slice_eq(g.name, SLICE("networking.istio.io"))) {
        for (uint32_t i = 0; i < COUNT_OF(istio); i++)
            if (slice_eq(g.version, slice_of(istio[i])))
                return true;
        return false;
    }
    return slice_eq(g.version, SLICE("v1")) ||
           (slice_eq(g.name, SLICE("discovery.k8s.io")) && slice_eq(g.version, SLICE("v1beta1")));
}

// "Gateway" of v1 or of extensions/v1: a mistyped group is told, not skipped.
static const struct kind *same_name(struct slice name)
{
    struct nearest near = {.word = name};
    for (uint32_t i = 0; i < COUNT_OF(kinds); i++)
        nearest_offer(&near, kinds[i]->name);
    if (near.distance * 4 > name.len)
        return NULL; // a Node is no mistyped Pod
    for (uint32_t i = 0; near.best && i < COUNT_OF(kinds); i++)
        if (kinds[i]->name == near.best)
            return kinds[i];
    return NULL;
}

static void read_metadata(struct reader *r, const struct yaml_node *doc, const char *ns,
                          struct metadata *meta)
{
    const struct yaml_node *node = yaml_get(doc, SLICE("metadata"));
    struct path at = {.name = "metadata", .index = -1};
    if (node && !yaml_is_null(node))
        schema_read(r, &metadata, node, &at, meta);
    if (!meta->ns.len)
        meta->ns = arena_dup(r->arena, slice_of(ns));
    if (!meta->name.len)
        finding_add(r->findings, SEVERITY_ERROR, NULL, meta->pos, meta, "metadata.name is missing");
}

static void read_object(struct loading *l, struct reader *r, const struct kind *k,
                        const struct yaml_node *doc, const struct metadata *meta)
{
    uint32_t errors = l->findings->errors;
    r->first_finding = l->findings->count;
    void *object = arena_alloc(r->arena, k->size);
    memcpy(object, meta, sizeof(*meta));
    schema_read(r, k->document, doc, NULL, object);
    r->partial = l->findings->errors != errors;
    if (k->finish)
        k->finish(r, object);
    if (k->validate)
        k->validate(r, l->options, object);
    if (!meta->name.len)
        return;
    if (l->findings->errors != errors) {
        model_list_add(l->model, &l->model->broken, object);
        return;
    }
    if (k->add)
        k->add(l, r, object);
    else
        model_list_add(l->model, (char *)l->model + k->list, object);
}

static void read_list(struct loading *l, const struct yaml_node *doc, const struct input_file *in)
{
    const struct yaml_node *items = yaml_get(doc, SLICE("items"));
    struct pos pos = {in->file, doc->pos.line, doc->pos.column};
    if (l->depth >= MOST_NESTED_LISTS) {
        finding_add(l->findings, SEVERITY_ERROR, NULL, pos, NULL, "Lists are nested too deeply");
        return;
    }
    l->depth++;
    for (uint32_t i = 0; items && items->kind == YAML_SEQUENCE && i < items->count; i++)
        document_read(l, items->items[i], in);
    l->depth--;
}

static void read_other(struct loading *l, struct reader *r, const struct yaml_node *doc,
                       const struct metadata *meta, struct group g)
{
    bool istio = slice_has_suffix_nocase(g.name, SLICE(".istio.io"));
    bool core = g.name.len == 0 || slice_eq(g.name, SLICE("networking.istio.io"));
    const struct kind *near = core ? same_name(meta->kind) : NULL;
    if (near && slice_eq(slice_of(near->name), meta->kind))
        finding_add(r->findings, SEVERITY_ERROR, NULL, meta->pos, meta,
                    "no kind \"%.*s\" in \"%.*s\", it is in \"%s%sv1\"", SLICE_FMT(meta->kind),
                    SLICE_FMT(meta->api_version), near->group, near->group[0] ? "/" : "");
    else if (near && slice_eq(slice_of(near->group), g.name))
        finding_add(r->findings, SEVERITY_ERROR, NULL, meta->pos, meta,
                    "no kind \"%.*s\" in \"%.*s\", did you mean \"%s\"?", SLICE_FMT(meta->kind),
                    SLICE_FMT(meta->api_version), near->name);
    else if (istio)
        policy_read(l, r, doc, meta, g.name);
    else
        policy_skip(l, meta);
}

static bool read_header(struct loading *l, const struct yaml_node *doc, const struct input_file *in,
                        struct metadata *meta)
{
    const struct yaml_node *version = yaml_get(doc, SLICE("apiVersion"));
    const struct yaml_node *kind = yaml_get(doc, SLICE("kind"));
    meta->pos = (struct pos){in->file, doc->pos.line, doc->pos.column};
    const char *missing = NULL;
    if (doc->kind != YAML_MAPPING)
        missing = "a document must be a map with apiVersion, kind and metadata";
    else if (!kind || kind->kind != YAML_SCALAR || yaml_is_null(kind))
        missing = "Object 'Kind' is missing";
    else if (!version || version->kind != YAML_SCALAR || yaml_is_null(version))
        missing = "Object 'apiVersion' is missing";
    if (missing) {
        finding_add(l->findings, SEVERITY_ERROR, NULL, meta->pos, NULL, "%s", missing);
        return false;
    }
    meta->kind = arena_dup(&l->model->arena, kind->text);
    meta->api_version = arena_dup(&l->model->arena, version->text);
    return true;
}

void document_read(struct loading *l, const struct yaml_node *doc, const struct input_file *in)
{
    struct metadata meta = {0};
    struct reader r = {
        .arena = &l->model->arena, .findings = l->findings, .object = &meta, .file = in->file};
    if (!read_header(l, doc, in, &meta))
        return;
    struct group g = split_version(meta.api_version);
    if (g.name.len == 0 && slice_eq(meta.kind, SLICE("List"))) {
        read_list(l, doc, in);
        return;
    }
    meta.order = l->order++;
    l->model->document_count++;
    const struct kind *k = find_kind(g.name, meta.kind);
    if (!k) {
        struct findings unheard; // the metadata of what is skipped need not be right
        findings_init(&unheard);
        r.findings = &unheard;
        read_metadata(&r, doc, in->ns, &meta);
        r.findings = l->findings;
        findings_fini(&unheard);
        read_other(l, &r, doc, &meta, g);
        return;
    }
    read_metadata(&r, doc, in->ns, &meta);
    if (version_is_known(g))
        read_object(l, &r, k, doc, &meta);
    else
        finding_add(l->findings, SEVERITY_ERROR, NULL, meta.pos, &meta,
                    "no version \"%.*s\" of %s, it is \"%s%sv1\"", SLICE_FMT(meta.api_version),
                    k->name, k->group, k->group[0] ? "/" : "");
}
