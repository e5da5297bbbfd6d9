// Writes a rule in words: measured first, then written. Owns nothing. Control thread.
#include "route/rule_text.h"
#include "core/check.h"

struct writing {
    char *out; // NULL while measuring
    size_t len;
    bool names_only;
};

static void put(struct writing *w, struct slice s)
{
    if (w->out && s.len)
        memcpy(w->out + w->len, s.ptr, s.len);
    w->len += s.len;
}

static struct slice source_text(enum condition_source source)
{
    static const char *const texts[] = {[CONDITION_HEADER] = "header:",
                                        [CONDITION_QUERY] = "query:",
                                        [CONDITION_METHOD] = "method",
                                        [CONDITION_AUTHORITY] = "authority",
                                        [CONDITION_SCHEME] = "scheme"};
    return slice_of(texts[source]);
}

static void put_condition(struct writing *w, const struct condition *c)
{
    bool named = c->source == CONDITION_HEADER || c->source == CONDITION_QUERY;
    put(w, c->invert ? SLICE(" !") : SLICE(" "));
    put(w, source_text(c->source));
    if (named)
        put(w, c->name);
    if (c->test == TEST_PRESENT)
        return;
    put(w, c->test == TEST_REGEX ? SLICE("~") : SLICE("="));
    if (!named || !w->names_only)
        put(w, c->text);
    if (c->test == TEST_PREFIX)
        put(w, SLICE("*"));
}

static void put_rule(struct writing *w, const struct rule *r)
{
    if (r->kind == PATH_REGEX)
        put(w, SLICE("regex "));
    put(w, rule_path(r));
    if (r->kind == PATH_PREFIX)
        put(w, SLICE("*"));
    if (r->fold)
        put(w, SLICE(" ignoreUriCase"));
    for (uint32_t i = 0; i < r->condition_count; i++)
        put_condition(w, &r->conditions[i]);
}

static struct slice write_rule(const struct rule *r, bool names_only, struct arena *arena)
{
    struct writing w = {NULL, 0, names_only};
    put_rule(&w, r);
    size_t len = w.len;
    w = (struct writing){arena_alloc(arena, len + 1), 0, names_only};
    put_rule(&w, r);
    check(w.len == len);
    w.out[len] = '\0';
    return (struct slice){w.out, len};
}

struct slice rule_text(const struct rule *r, struct arena *arena)
{
    return write_rule(r, false, arena);
}

struct slice rule_label(const struct rule *r, struct arena *arena)
{
    return write_rule(r, true, arena);
}
