// What is not read. A policy that says who may connect is refused where it may bear on a gateway:
// when it selects everything, names a Gateway, or shares a label with what a Gateway selects. Owns
// its lists in the model's arena. Control thread.
#include "config/policy.h"

struct policy_doc {
    struct policy_doc *next;
    struct metadata meta;
    struct label_map selector;
    bool targets_gateway;
};

struct skipped_kind {
    struct skipped_kind *next;
    struct slice kind;
    struct pos pos; // of the first
    uint32_t count;
};

struct policy_spec {
    struct label_map selector;
    struct target {
        struct slice kind;
    } *targets, target;
    uint32_t target_count;
};

static const struct field selector_fields[] = {
    F("matchLabels", FIELD_STRING_MAP, struct policy_spec, selector)};
MESSAGE_OPEN(selector, "istio.type.v1beta1.WorkloadSelector", struct policy_spec, selector_fields);
static const struct field target_fields[] = {F("kind", FIELD_STRING, struct target, kind)};
MESSAGE_OPEN(target, "istio.type.v1beta1.PolicyTargetReference", struct target, target_fields);
static const struct field spec_fields[] = {
    F_INLINE("selector", selector),
    F_LIST("targetRefs", struct policy_spec, targets, target_count, target),
    F_INLINE_AT("targetRef", struct policy_spec, target, target),
};
MESSAGE_OPEN(spec, "istio.security.v1.Policy", struct policy_spec, spec_fields);

static bool says_who_may_connect(struct slice group, struct slice kind)
{
    return slice_eq(group, SLICE("security.istio.io")) &&
           (slice_eq(kind, SLICE("AuthorizationPolicy")) ||
            slice_eq(kind, SLICE("RequestAuthentication")));
}

void policy_read(struct loading *l, struct reader *r, const struct yaml_node *doc,
                 const struct metadata *meta, struct slice group)
{
    if (!says_who_may_connect(group, meta->kind)) {
        finding_add(l->findings, SEVERITY_WARNING, NULL, meta->pos, meta,
                    "%.*s is not supported and is skipped", SLICE_FMT(meta->kind));
        l->model->skipped_count++;
        return;
    }
    struct policy_spec s = {0};
    const struct yaml_node *node = yaml_get(doc, SLICE("spec"));
    struct path at = {.name = "spec", .index = -1};
    if (node && !yaml_is_null(node))
        schema_read(r, &spec, node, &at, &s);
    struct policy_doc *p = arena_new(&l->model->arena, struct policy_doc);
    p->meta = *meta;
    p->selector = s.selector;
    p->targets_gateway = slice_eq(s.target.kind, SLICE("Gateway"));
    for (uint32_t i = 0; i < s.target_count; i++)
        p->targets_gateway |= slice_eq(s.targets[i].kind, SLICE("Gateway"));
    p->next = l->policies;
    l->policies = p;
}

void policy_skip(struct loading *l, const struct metadata *meta)
{
    l->model->skipped_count++;
    struct skipped_kind **at = &l->skipped;
    uint32_t kinds = 0;
    for (; *at; at = &(*at)->next, kinds++) {
        if (slice_eq((*at)->kind, meta->kind) || kinds >= 32) {
            (*at)->count++;
            return;
        }
    }
    *at = arena_new(&l->model->arena, struct skipped_kind);
    **at = (struct skipped_kind){NULL, meta->kind, meta->pos, 1};
}

static bool shares_label(const struct label_map *a, const struct label_map *b)
{
    for (uint32_t i = 0; i < a->count; i++)
        for (uint32_t k = 0; k < b->count; k++)
            if (slice_eq(a->items[i].key, b->items[k].key) &&
                slice_eq(a->items[i].value, b->items[k].value))
                return true;
    return false;
}

static bool bears_on_gateway(const struct model *m, const struct policy_doc *p)
{
    bool bears = p->selector.count == 0 || p->targets_gateway;
    for (uint32_t i = 0; !bears && i < m->gateways_count; i++)
        bears = shares_label(&p->selector, &m->gateways[i]->selector);
    return bears;
}

static void add_notice(struct loading *l)
{
    char text[512];
    size_t n = 0;
    uint32_t total = 0;
    for (const struct skipped_kind *s = l->skipped; s; s = s->next) {
        int more = n < sizeof(text) - 1
                       ? snprintf(text + n, sizeof(text) - n, "%s%.*s (%u)", n ? ", " : "",
                                  (int)(s->kind.len < 64 ? s->kind.len : 64), s->kind.ptr, s->count)
                       : 0;
        n += more > 0 ? (size_t)more : 0;
        total += s->count;
    }
    if (total)
        finding_add(l->findings, SEVERITY_INFO, NULL, l->skipped->pos, NULL,
                    "%u document%s of kinds that are not supported skipped: %s", total,
                    total == 1 ? "" : "s", text);
}

void policy_finish(struct loading *l)
{
    for (const struct policy_doc *p = l->policies; p; p = p->next) {
        l->model->skipped_count++;
        if (bears_on_gateway(l->model, p))
            finding_add(l->findings, SEVERITY_ERROR, NULL, p->meta.pos, &p->meta,
                        "%.*s is not supported, and this one may be for a gateway: take it out, or "
                        "who may connect is not what it says",
                        SLICE_FMT(p->meta.kind));
        else
            finding_add(l->findings, SEVERITY_WARNING, NULL, p->meta.pos, &p->meta,
                        "%.*s is not supported and is skipped: its selector shares no label with "
                        "a Gateway's",
                        SLICE_FMT(p->meta.kind));
    }
    add_notice(l);
}
