// YAML reader over libyaml's events. Owns nothing beyond a call: nodes live in the caller's arena,
// the parser and its events end with the document. Invariants: a finished node's weight never
// exceeds YAML_MAX_NODES, so that walking a tree with aliases is bounded; an alias only
// ever names a finished node, so there are no cycles. Control thread.
#include "config/yaml.h"
#include "core/check.h"
#include "core/map.h"
#include <yaml.h>

struct anchor {
    struct anchor *next;
    struct slice name;
    const struct yaml_node *node; // NULL while it is still open
};

struct builder {
    yaml_parser_t parser;
    struct arena *arena;
    struct findings *findings;
    const char *file;
    uint32_t first_line; // of this document in the file
    uint32_t nodes, anchor_count;
    struct anchor *anchors;
};

static enum err read_node(struct builder *b, yaml_event_t *ev, uint32_t depth,
                          const struct yaml_node **out);

static struct pos pos_of(const struct builder *b, yaml_mark_t mark)
{
    return (struct pos){b->file, b->first_line + (uint32_t)mark.line, (uint32_t)mark.column + 1};
}

static enum err fail(struct builder *b, struct pos pos, const char *fmt, struct slice name)
{
    char text[160];
    snprintf(text, sizeof(text), fmt, (int)(name.len > 80 ? 80 : name.len),
             name.ptr ? name.ptr : "");
    finding_add(b->findings, SEVERITY_ERROR, NULL, pos, NULL, "%s", text);
    return ERR_SYNTAX;
}

static enum err fail_parser(struct builder *b)
{
    const yaml_parser_t *p = &b->parser;
    const char *problem = p->problem ? p->problem : "out of memory";
    if (p->error == YAML_READER_ERROR) { // its problem_offset counts bytes; the mark is near
        finding_add(b->findings, SEVERITY_ERROR, NULL, pos_of(b, p->mark), NULL,
                    "not YAML: %s (byte 0x%02x)", problem, (unsigned)p->problem_value & 0xff);
        return ERR_SYNTAX;
    }
    if (p->context && p->context_mark.line != p->problem_mark.line)
        finding_add(b->findings, SEVERITY_ERROR, NULL, pos_of(b, p->problem_mark), NULL,
                    "not YAML: %s, %s that began on line %u", problem, p->context,
                    pos_of(b, p->context_mark).line);
    else
        finding_add(b->findings, SEVERITY_ERROR, NULL, pos_of(b, p->problem_mark), NULL,
                    "not YAML: %s%s%s", problem, p->context ? ", " : "",
                    p->context ? p->context : "");
    return ERR_SYNTAX;
}

static enum err next_event(struct builder *b, yaml_event_t *ev)
{
    return yaml_parser_parse(&b->parser, ev) ? OK : fail_parser(b);
}

static struct slice copy(struct builder *b, const yaml_char_t *text, size_t len)
{
    return arena_dup(b->arena, (struct slice){(const char *)text, len});
}

static struct slice copy_cstr(struct builder *b, const yaml_char_t *text)
{
    return text ? copy(b, text, strlen((const char *)text)) : (struct slice){NULL, 0};
}

// Anchors are looked up in a list, hence the bound.
static struct anchor *anchor_open(struct builder *b, const yaml_char_t *name)
{
    if (!name || b->anchor_count++ >= YAML_MAX_ANCHORS)
        return NULL;
    struct anchor *a = arena_new(b->arena, struct anchor);
    *a = (struct anchor){b->anchors, copy_cstr(b, name), NULL};
    b->anchors = a;
    return a;
}

static enum err count_nodes(struct builder *b, uint32_t n, struct pos pos)
{
    if (n > YAML_MAX_NODES - b->nodes)
        return fail(b, pos, "this document is too large, or its aliases multiply%.*s",
                    (struct slice){NULL, 0});
    b->nodes += n;
    return OK;
}

static enum err read_alias(struct builder *b, const yaml_event_t *ev, const struct yaml_node **out)
{
    struct slice name = slice_of((const char *)ev->data.alias.anchor);
    for (const struct anchor *a = b->anchors; a; a = a->next) {
        if (!slice_eq(a->name, name))
            continue;
        if (!a->node)
            return fail(b, pos_of(b, ev->start_mark), "alias *%.*s stands inside its own anchor",
                        name);
        *out = a->node;
        return count_nodes(b, a->node->weight, pos_of(b, ev->start_mark));
    }
    return fail(b, pos_of(b, ev->start_mark), "alias *%.*s has no anchor", name);
}

static enum err read_scalar(struct builder *b, const yaml_event_t *ev, struct yaml_node *n)
{
    n->text = copy(b, ev->data.scalar.value, ev->data.scalar.length);
    n->tag = copy_cstr(b, ev->data.scalar.tag);
    n->plain = ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && !n->tag.ptr;
    return OK;
}

// Children are gathered in a list that doubles; what it leaves behind dies with the arena.
static void *grow(struct builder *b, void *old, uint32_t count, uint32_t *cap, size_t size)
{
    if (count < *cap)
        return old;
    *cap = *cap ? *cap * 2 : 4;
    char *p = arena_alloc(b->arena, size * *cap);
    if (count)
        memcpy(p, old, size * count);
    return p;
}

static enum err read_sequence(struct builder *b, uint32_t depth, struct yaml_node *n)
{
    uint32_t cap = 0;
    for (;;) {
        yaml_event_t ev;
        enum err e = next_event(b, &ev);
        if (e != OK)
            return e;
        if (ev.type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&ev);
            return OK;
        }
        const struct yaml_node *child = NULL;
        e = read_node(b, &ev, depth + 1, &child);
        yaml_event_delete(&ev);
        if (e != OK)
            return e;
        n->items = grow(b, n->items, n->count, &cap, sizeof(*n->items));
        check(child);
        n->items[n->count++] = child;
        n->weight += child->weight;
    }
}

static enum err read_pair(struct builder *b, yaml_event_t *key_event, uint32_t depth,
                          struct yaml_pair *out)
{
    const struct yaml_node *key = NULL;
    enum err e = read_node(b, key_event, depth + 1, &key);
    if (e != OK)
        return e;
    out->pos = pos_of(b, key_event->start_mark);
    if (key->kind != YAML_SCALAR)
        return fail(b, out->pos, "a key must be a plain word%.*s", (struct slice){NULL, 0});
    out->key = key->text;
    yaml_event_t ev;
    e = next_event(b, &ev);
    if (e != OK)
        return e;
    e = read_node(b, &ev, depth + 1, &out->value);
    yaml_event_delete(&ev);
    return e;
}

// Up to 16 keys are compared with each other, more go through a hash map.
static enum err check_duplicates(struct builder *b, const struct yaml_node *n)
{
    struct map seen;
    bool hashed = n->count > 16;
    enum err e = OK;
    if (hashed)
        map_init(&seen, NULL, n->count);
    for (uint32_t i = 0; i < n->count && e == OK; i++) {
        const struct yaml_pair *p = &n->pairs[i];
        bool twice = hashed && map_put(&seen, p->key, n->pairs);
        for (uint32_t j = 0; !hashed && !twice && j < i; j++)
            twice = slice_eq(n->pairs[j].key, p->key);
        if (twice)
            e = fail(b, p->pos, "duplicate key \"%.*s\"", p->key);
    }
    if (hashed)
        map_fini(&seen);
    return e;
}

static bool has_key(const struct yaml_node *n, struct slice key)
{
    return yaml_get(n, key) != NULL;
}

static void merge_one(struct builder *b, struct yaml_node *n, const struct yaml_node *from,
                      uint32_t *cap)
{
    for (uint32_t i = 0; i < from->count; i++) {
        if (has_key(n, from->pairs[i].key) || n->count >= YAML_MAX_MERGED_KEYS)
            continue;
        n->pairs = grow(b, n->pairs, n->count, cap, sizeof(*n->pairs));
        n->pairs[n->count++] = from->pairs[i];
    }
}

static enum err merge_result(struct builder *b, const struct yaml_node *n, struct pos pos)
{
    return n->count < YAML_MAX_MERGED_KEYS
               ? OK
               : fail(b, pos, "`<<` makes this map too large%.*s", (struct slice){NULL, 0});
}

// `<<: *a` or `<<: [*a, *b]`: what the mapping has itself wins, then the earlier source.
static enum err merge(struct builder *b, struct yaml_node *n, uint32_t *cap)
{
    for (uint32_t i = 0; i < n->count; i++) {
        if (!slice_eq(n->pairs[i].key, SLICE("<<")))
            continue;
        struct yaml_pair source = n->pairs[i];
        memmove(&n->pairs[i], &n->pairs[i + 1], sizeof(*n->pairs) * (n->count - i - 1));
        n->count--;
        if (source.value->kind == YAML_MAPPING) {
            merge_one(b, n, source.value, cap);
            return merge_result(b, n, source.pos);
        }
        for (uint32_t k = 0; k < source.value->count; k++) {
            if (source.value->items[k]->kind != YAML_MAPPING)
                return fail(b, source.pos, "`<<` wants a map%.*s", (struct slice){NULL, 0});
            merge_one(b, n, source.value->items[k], cap);
        }
        if (source.value->kind == YAML_SCALAR)
            return fail(b, source.pos, "`<<` wants a map%.*s", (struct slice){NULL, 0});
        return merge_result(b, n, source.pos);
    }
    return OK;
}

static enum err read_mapping(struct builder *b, uint32_t depth, struct yaml_node *n)
{
    uint32_t cap = 0;
    for (;;) {
        yaml_event_t ev;
        enum err e = next_event(b, &ev);
        if (e != OK)
            return e;
        if (ev.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&ev);
            break;
        }
        struct yaml_pair pair = {0};
        e = read_pair(b, &ev, depth, &pair);
        yaml_event_delete(&ev);
        if (e != OK)
            return e;
        n->pairs = grow(b, n->pairs, n->count, &cap, sizeof(*n->pairs));
        check(pair.value);
        n->pairs[n->count++] = pair;
        n->weight += pair.value->weight;
    }
    enum err e = check_duplicates(b, n);
    return e == OK ? merge(b, n, &cap) : e;
}

static enum err read_node(struct builder *b, yaml_event_t *ev, uint32_t depth,
                          const struct yaml_node **out)
{
    struct pos pos = pos_of(b, ev->start_mark);
    if (ev->type == YAML_ALIAS_EVENT)
        return read_alias(b, ev, out);
    if (depth > YAML_MAX_DEPTH)
        return fail(b, pos, "nested too deeply%.*s", (struct slice){NULL, 0});
    enum err e = count_nodes(b, 1, pos);
    if (e != OK)
        return e;
    struct yaml_node *n = arena_new(b->arena, struct yaml_node);
    n->pos = pos;
    n->weight = 1;
    struct anchor *anchor = NULL;
    if (ev->type == YAML_SCALAR_EVENT) {
        anchor = anchor_open(b, ev->data.scalar.anchor);
        n->kind = YAML_SCALAR;
        e = read_scalar(b, ev, n);
    } else if (ev->type == YAML_SEQUENCE_START_EVENT) {
        anchor = anchor_open(b, ev->data.sequence_start.anchor);
        n->kind = YAML_SEQUENCE;
        e = read_sequence(b, depth, n);
    } else if (ev->type == YAML_MAPPING_START_EVENT) {
        anchor = anchor_open(b, ev->data.mapping_start.anchor);
        n->kind = YAML_MAPPING;
        e = read_mapping(b, depth, n);
    } else {
        return fail(b, pos, "not YAML: nothing stands here%.*s", (struct slice){NULL, 0});
    }
    if (anchor)
        anchor->node = n;
    *out = n;
    return e;
}

// The stream of one document: STREAM-START [DOCUMENT-START node DOCUMENT-END] STREAM-END.
static enum err read_document(struct builder *b, const struct yaml_node **out)
{
    *out = NULL;
    for (;;) {
        yaml_event_t ev;
        enum err e = next_event(b, &ev);
        if (e != OK)
            return e;
        yaml_event_type_t type = ev.type;
        if (type == YAML_SCALAR_EVENT || type == YAML_ALIAS_EVENT ||
            type == YAML_SEQUENCE_START_EVENT || type == YAML_MAPPING_START_EVENT) {
            if (*out)
                e = fail(b, pos_of(b, ev.start_mark),
                         "a second document stands here without `---` before it%.*s",
                         (struct slice){NULL, 0});
            else
                e = read_node(b, &ev, 1, out);
        }
        yaml_event_delete(&ev);
        if (e != OK || type == YAML_STREAM_END_EVENT)
            return e;
    }
}

static bool is_separator(struct slice line)
{
    return line.len >= 3 && memcmp(line.ptr, "---", 3) == 0 &&
           (line.len == 3 || line.ptr[3] == ' ' || line.ptr[3] == '\t' || line.ptr[3] == '\r');
}

static bool has_content(struct slice line)
{
    line = slice_trim(line);
    return line.len > 0 && line.ptr[0] != '#' && line.ptr[0] != '%' && line.ptr[0] != '\r' &&
           !slice_has_prefix(line, SLICE("---"));
}

// The text up to the next `---` line that has something before it. `---` in the first column ends
// a document whatever it stands in (YAML 1.2, 9.1.2), so this needs no parser.
// *first becomes its first line's number.
static struct slice cut_document(struct slice *rest, uint32_t *line, uint32_t *first)
{
    const char *begin = rest->ptr, *end = begin + rest->len, *at = begin;
    bool content = false, opened = false;
    *first = *line;
    while (at < end) {
        const char *nl = memchr(at, '\n', (size_t)(end - at));
        struct slice text = {at, (size_t)((nl ? nl : end) - at)};
        bool separator = is_separator(text);
        if (separator && content)
            break;
        if (separator && opened) { // the document before this line is empty
            begin = at;
            *first = *line;
        }
        opened = opened || separator;
        content = content || has_content(text) || (separator && text.len > 4);
        *line += 1;
        at = nl ? nl + 1 : end;
    }
    *rest = (struct slice){at, (size_t)(end - at)};
    return (struct slice){begin, (size_t)(at - begin)};
}

enum err yaml_next(struct slice *rest, uint32_t *line, const char *file, struct arena *arena,
                   struct findings *findings, const struct yaml_node **root)
{
    *root = NULL;
    if (rest->len == 0)
        return ERR_NOT_FOUND;
    if (slice_has_prefix(*rest, SLICE("\xef\xbb\xbf"))) // the mark would count as a column
        *rest = slice_from(*rest, 3);
    struct builder b = {.arena = arena, .findings = findings, .file = file};
    struct slice text = cut_document(rest, line, &b.first_line);
    if (!yaml_parser_initialize(&b.parser))
        return ERR_NOMEM;
    yaml_parser_set_encoding(&b.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&b.parser, (const unsigned char *)text.ptr, text.len);
    enum err e = read_document(&b, root);
    yaml_parser_delete(&b.parser);
    return e;
}

const struct yaml_node *yaml_get(const struct yaml_node *mapping, struct slice key)
{
    if (!mapping || mapping->kind != YAML_MAPPING)
        return NULL;
    for (uint32_t i = 0; i < mapping->count; i++)
        if (slice_eq(mapping->pairs[i].key, key))
            return mapping->pairs[i].value;
    return NULL;
}

static bool is_word(const struct yaml_node *n, const char *const *words)
{
    for (; n && n->kind == YAML_SCALAR && n->plain && *words; words++)
        if (slice_eq(n->text, slice_of(*words)))
            return true;
    return false;
}

bool yaml_is_null(const struct yaml_node *n)
{
    static const char *const words[] = {"", "~", "null", "Null", "NULL", NULL};
    return !n || is_word(n, words);
}

bool yaml_is_true(const struct yaml_node *n)
{
    static const char *const words[] = {"true", "True", "TRUE", "yes", "Yes",
                                        "YES",  "on",   "On",   "ON",  NULL};
    return is_word(n, words);
}

bool yaml_is_false(const struct yaml_node *n)
{
    static const char *const words[] = {"false", "False", "FALSE", "no",  "No",
                                        "NO",    "off",   "Off",   "OFF", NULL};
    return is_word(n, words);
}

// Digits with an optional sign, fraction and exponent. Octal, hex and sexagesimal of YAML 1.1 are
// strings here: nobody means them.
bool yaml_is_decimal(struct slice text)
{
    const char *p = text.ptr, *end = p + text.len;
    bool digits = false, dot = false, exponent = false;
    if (p < end && (*p == '-' || *p == '+'))
        p++;
    for (; p < end; p++) {
        if (*p >= '0' && *p <= '9') {
            digits = true;
        } else if (*p == '.' && !dot && !exponent) {
            dot = true;
        } else if ((*p == 'e' || *p == 'E') && digits && !exponent) {
            exponent = true;
            digits = false;
            if (p + 1 < end && (p[1] == '-' || p[1] == '+'))
                p++;
        } else {
            return false;
        }
    }
    return digits;
}

bool yaml_is_number(const struct yaml_node *n)
{
    return n && n->kind == YAML_SCALAR && n->plain && yaml_is_decimal(n->text);
}

const char *yaml_describe(const struct yaml_node *n)
{
    if (n && n->kind == YAML_MAPPING)
        return "a map";
    if (n && n->kind == YAML_SEQUENCE)
        return "a list";
    if (yaml_is_null(n))
        return "null";
    if (yaml_is_true(n) || yaml_is_false(n))
        return "a boolean";
    return yaml_is_number(n) ? "a number" : "a string";
}
