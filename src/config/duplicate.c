// Drops objects that a later document replaces, in linear time. Endpoints are left alone: one
// document makes several. Owns a map for the time of a call. Control thread.
#include "config/duplicate.h"
#include "config/schema.h"
#include "core/map.h"

struct object_list {
    struct metadata **items; // every struct of the model begins with its metadata
    uint32_t count;
};

static struct slice key_of(struct arena *a, const struct metadata *m)
{
    char *p = arena_printf(a, "%.*s/%.*s", SLICE_FMT(m->ns), SLICE_FMT(m->name));
    return slice_of(p);
}

static void drop_from(struct object_list *l, struct arena *scratch, struct findings *findings)
{
    struct map last;
    if (l->count < 2)
        return;
    map_init(&last, scratch, l->count);
    for (uint32_t i = 0; i < l->count; i++)
        (void)map_put(&last, key_of(scratch, l->items[i]), l->items[i]);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < l->count; i++) {
        const struct metadata *winner = map_get(&last, key_of(scratch, l->items[i]));
        if (winner == l->items[i])
            l->items[kept++] = l->items[i];
        else
            finding_add(findings, SEVERITY_WARNING, NULL, l->items[i]->pos, l->items[i],
                        "replaced by the document at %s:%u, as kubectl apply would",
                        winner->pos.file, winner->pos.line);
    }
    l->count = kept;
}

void duplicate_drop(struct model *m, struct findings *findings)
{
    static const size_t lists[] = {
        offsetof(struct model, gateways),
        offsetof(struct model, virtual_services),
        offsetof(struct model, destination_rules),
        offsetof(struct model, service_entries),
        offsetof(struct model, workload_entries),
        offsetof(struct model, services),
        offsetof(struct model, pods),
        offsetof(struct model, secrets),
        offsetof(struct model, configmaps),
        offsetof(struct model, namespaces),
    };
    struct arena scratch;
    arena_init(&scratch, 0);
    for (uint32_t i = 0; i < COUNT_OF(lists); i++)
        drop_from((void *)((char *)m + lists[i]), &scratch, findings);
    arena_fini(&scratch);
}
