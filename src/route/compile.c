// route_compile: the stages in order, and the small things they share. Control thread. Nothing in
// the result points into the model.
#include "route/compile.h"
#include <stdio.h>

struct slice compile_lower(struct arena *a, struct slice s)
{
    char *p = arena_alloc(a, s.len + 1);
    for (size_t i = 0; i < s.len; i++)
        p[i] = s.ptr[i] >= 'A' && s.ptr[i] <= 'Z' ? (char)(s.ptr[i] | 0x20) : s.ptr[i];
    return (struct slice){p, s.len};
}

struct slice compile_text(struct arena *a, const char *fmt, ...)
{
    char stack[512];
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(stack, sizeof(stack), fmt, ap);
    size_t len = n > 0 ? (size_t)n : 0;
    char *p = arena_alloc(a, len + 1);
    if (len < sizeof(stack))
        memcpy(p, stack, len);
    else
        vsnprintf(p, len + 1, fmt, again);
    va_end(again);
    va_end(ap);
    return (struct slice){p, len};
}

struct pos compile_pos(struct compile *c, struct pos pos)
{
    if (pos.file && pos.file != c->file.from) {
        c->file.from = pos.file;
        c->file.copy = arena_strdup(c->out, pos.file);
    }
    pos.file = pos.file ? c->file.copy : NULL;
    return pos;
}

static bool label_holds(const struct label *want, const struct label_map *of)
{
    for (uint32_t i = 0; i < of->count; i++)
        if (slice_eq(of->items[i].key, want->key))
            return slice_eq(of->items[i].value, want->value);
    return false;
}

bool labels_subset(const struct label_map *labels, const struct label_map *of)
{
    for (uint32_t i = 0; i < labels->count; i++)
        if (!label_holds(&labels->items[i], of))
            return false;
    return true;
}

uint32_t compile_weight(int32_t weight, uint32_t count, uint64_t total)
{
    uint32_t shift = 0, given = weight > 0 ? (uint32_t)weight : 0;
    if (count == 1)
        return 1;
    while ((total >> shift) + count > UINT32_MAX)
        shift++;
    return given && !(given >> shift) ? 1 : given >> shift;
}

struct regex *compile_regex(struct compile *c, struct slice pattern, struct pos pos,
                            const struct metadata *object, const char *field)
{
    struct regex_entry *e = map_get(&c->regexes, pattern);
    if (e && e->regex)
        return e->regex;
    char error[256] = "";
    if (!e) {
        e = arena_new(&c->scratch, struct regex_entry);
        map_put(&c->regexes, pattern, e);
        e->next = c->regex_list;
        c->regex_list = e;
    }
    e->regex = regex_create(pattern, error, sizeof(error));
    if (!e->regex)
        finding_add(c->findings, SEVERITY_ERROR, "IST0106", pos, object,
                    "\"%s\": %s; Istio uses RE2 style regex-based match "
                    "(https://github.com/google/re2/wiki/Syntax)",
                    field, error);
    return e->regex;
}

static void keep_regexes(struct compile *c)
{
    uint32_t n = 0;
    for (struct regex_entry *e = c->regex_list; e; e = e->next)
        n += e->regex != NULL;
    c->rc->regexes = arena_array(c->out, struct regex *, n);
    for (struct regex_entry *e = c->regex_list; e; e = e->next)
        if (e->regex)
            c->rc->regexes[c->rc->regex_count++] = e->regex;
}

enum err route_compile(const struct model *m, const struct compile_options *options,
                       struct arena *arena, struct findings *findings, struct route_config *out)
{
    struct compile c = {.m = m, .options = options, .out = arena, .findings = findings, .rc = out};
    *out = (struct route_config){0};
    arena_init(&c.scratch, 0);
    map_init(&c.regexes, &c.scratch, 16);
    compile_clusters(&c);
    compile_listeners(&c);
    keep_regexes(&c);
    arena_fini(&c.scratch);
    return OK;
}

void route_config_fini(struct route_config *rc)
{
    for (uint32_t i = 0; i < rc->regex_count; i++)
        regex_destroy(rc->regexes[i]);
    rc->regex_count = 0;
}
