// The generic reader: walks a YAML map along a message's table and fills the struct. Owns nothing;
// strings are copied to the model's arena. Recursion is as deep as the tables nest. Control thread.
#include "config/schema.h"
#include "config/text.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void read_field(struct reader *r, const struct field *f, const struct yaml_node *node,
                       const struct path *path, char *base);

struct pos schema_pos(const struct reader *r, struct pos pos)
{
    pos.file = r->file;
    return pos;
}

static size_t print_path(const struct path *p, char *out, size_t cap)
{
    if (!p || cap < 2)
        return 0;
    size_t n = print_path(p->up, out, cap);
    int more;
    if (p->name)
        more = snprintf(out + n, cap - n, "%s%s", n ? "." : "", p->name);
    else if (p->index >= 0)
        more = snprintf(out + n, cap - n, "[%lld]", (long long)p->index);
    else
        more = snprintf(out + n, cap - n, "[%.*s]", (int)(p->key.len < 64 ? p->key.len : 64),
                        p->key.ptr);
    n += more > 0 ? (size_t)more : 0;
    return n < cap ? n : cap - 1;
}

void schema_error(struct reader *r, struct pos pos, const struct path *path, const char *fmt, ...)
{
    char where[256] = "", what[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    size_t n = print_path(path, where, sizeof(where));
    finding_add(r->findings, SEVERITY_ERROR, NULL, schema_pos(r, pos), r->object, "%s%s%s", where,
                n ? ": " : "", what);
}

bool schema_expect(struct reader *r, const struct yaml_node *node, enum yaml_kind kind,
                   const struct path *path)
{
    static const char *const names[] = {"a string", "a list", "a map"};
    if (node->kind == kind)
        return true;
    schema_error(r, node->pos, path, "expected %s, found %s", names[kind], yaml_describe(node));
    return false;
}

// A field's name as written may be camelCase or the proto's snake_case.
static bool name_matches(const char *camel, struct slice written)
{
    size_t i = 0;
    for (; *camel; camel++, i++) {
        bool upper = *camel >= 'A' && *camel <= 'Z';
        if (upper && i < written.len && written.ptr[i] == '_' && i + 1 < written.len &&
            written.ptr[i + 1] == (*camel | 0x20)) {
            i++;
            continue;
        }
        if (i >= written.len || written.ptr[i] != *camel)
            return false;
    }
    return i == written.len;
}

static const struct field *find_field(const struct message *m, struct slice key)
{
    for (uint32_t i = 0; i < m->field_count; i++)
        if (name_matches(m->fields[i].name, key))
            return &m->fields[i];
    return NULL;
}

void schema_unknown(struct reader *r, const struct message *m, const struct yaml_pair *pair,
                    const struct path *path)
{
    char where[256] = "";
    size_t n = print_path(path, where, sizeof(where));
    struct nearest near = {.word = pair->key};
    for (uint32_t i = 0; i < m->field_count; i++)
        nearest_offer(&near, m->fields[i].name);
    finding_add(r->findings, SEVERITY_ERROR, NULL, schema_pos(r, pair->pos), r->object,
                "unknown field \"%.*s\" in %s%s%s%s%s%s%s", SLICE_FMT(pair->key), m->name,
                n ? " (" : "", where, n ? ")" : "", near.best ? ", did you mean \"" : "",
                near.best ? near.best : "", near.best ? "\"?" : "");
}

// ---- scalars

bool schema_read_string(struct reader *r, const struct yaml_node *node, const struct path *path,
                        struct slice *out)
{
    if (!schema_expect(r, node, YAML_SCALAR, path))
        return false;
    if (yaml_is_number(node) || yaml_is_true(node) || yaml_is_false(node)) {
        schema_error(r, node->pos, path, "expected a string, found %s %.*s: put it in quotes",
                     yaml_describe(node), SLICE_FMT(node->text));
        return false;
    }
    *out = arena_dup(r->arena, node->text);
    return true;
}

static bool read_number(struct reader *r, const struct yaml_node *node, const struct path *path,
                        double *out)
{
    char text[64];
    char *end = text;
    if (!schema_expect(r, node, YAML_SCALAR, path))
        return false;
    if (node->text.len < sizeof(text) && yaml_is_decimal(node->text)) {
        memcpy(text, node->text.ptr, node->text.len);
        text[node->text.len] = 0;
        *out = strtod(text, &end);
    }
    if (end == text || *end || !isfinite(*out)) {
        schema_error(r, node->pos, path, "expected a number, found \"%.*s\"",
                     (int)(node->text.len < 80 ? node->text.len : 80), node->text.ptr);
        return false;
    }
    return true;
}

bool schema_read_int(struct reader *r, const struct yaml_node *node, const struct path *path,
                     int64_t min, int64_t max, int64_t *out)
{
    double d = 0;
    if (!read_number(r, node, path, &d))
        return false;
    if (d != floor(d) || d < (double)min || d > (double)max) {
        schema_error(r, node->pos, path, "%.*s is not a whole number between %lld and %lld",
                     SLICE_FMT(node->text), (long long)min, (long long)max);
        return false;
    }
    *out = (int64_t)d;
    return true;
}

static bool read_bool(struct reader *r, const struct yaml_node *node, const struct path *path,
                      bool *out)
{
    *out = yaml_is_true(node);
    if (*out || yaml_is_false(node))
        return true;
    schema_error(r, node->pos, path, "expected true or false, found %s", yaml_describe(node));
    return false;
}

bool schema_read_enum(struct reader *r, const struct enum_type *type, const struct yaml_node *node,
                      const struct path *path, int32_t *out)
{
    if (!schema_expect(r, node, YAML_SCALAR, path))
        return false;
    struct nearest near = {.word = node->text};
    uint64_t number;
    bool is_number = slice_to_u64(node->text, &number);
    for (uint32_t i = 0; i < type->count; i++) {
        const struct enum_value *v = &type->values[i];
        if (slice_eq(node->text, slice_of(v->name)) ||
            (is_number && number == (uint64_t)v->value)) {
            *out = v->value;
            return true;
        }
        nearest_offer(&near, v->name);
    }
    schema_error(r, node->pos, path, "unknown value \"%.*s\" for enum %s%s%s%s",
                 (int)(node->text.len < 80 ? node->text.len : 80), node->text.ptr, type->name,
                 near.best ? ", did you mean \"" : "", near.best ? near.best : "",
                 near.best ? "\"?" : "");
    return false;
}

bool schema_read_duration(struct reader *r, const struct yaml_node *node, const struct path *path,
                          uint64_t *out_ns)
{
    if (!schema_expect(r, node, YAML_SCALAR, path))
        return false;
    if (duration_parse(node->text, out_ns))
        return true;
    schema_error(r, node->pos, path,
                 "\"%.*s\" is not a duration such as \"1.5s\", \"100ms\" or \"1h30m\"",
                 (int)(node->text.len < 80 ? node->text.len : 80), node->text.ptr);
    return false;
}

static void read_time(struct reader *r, const struct yaml_node *node, const struct path *path,
                      uint64_t *out)
{
    if (schema_expect(r, node, YAML_SCALAR, path) && !time_parse(node->text, out))
        schema_error(r, node->pos, path, "\"%.*s\" is not an RFC 3339 time",
                     (int)(node->text.len < 80 ? node->text.len : 80), node->text.ptr);
}

// ---- lists and maps

static void read_strings(struct reader *r, const struct yaml_node *node, const struct path *path,
                         struct string_list *out)
{
    if (!schema_expect(r, node, YAML_SEQUENCE, path))
        return;
    out->items = arena_array(r->arena, struct string_item, node->count);
    for (uint32_t i = 0; i < node->count; i++) {
        struct path at = {.up = path, .index = i};
        struct string_item *it = &out->items[out->count];
        it->pos = schema_pos(r, node->items[i]->pos);
        if (schema_read_string(r, node->items[i], &at, &it->text))
            out->count++;
    }
}

static void read_string_map(struct reader *r, const struct yaml_node *node, const struct path *path,
                            struct label_map *out)
{
    if (!schema_expect(r, node, YAML_MAPPING, path))
        return;
    out->items = arena_array(r->arena, struct label, node->count);
    for (uint32_t i = 0; i < node->count; i++) {
        const struct yaml_pair *p = &node->pairs[i];
        struct path at = {.up = path, .key = p->key, .index = -1};
        struct label *it = &out->items[out->count];
        it->key = arena_dup(r->arena, p->key);
        it->pos = schema_pos(r, p->pos);
        if (schema_read_string(r, p->value, &at, &it->value))
            out->count++;
    }
}

static void read_u32_list(struct reader *r, const struct yaml_node *node, const struct path *path,
                          uint32_t **items, uint32_t *count)
{
    if (!schema_expect(r, node, YAML_SEQUENCE, path))
        return;
    *items = arena_array(r->arena, uint32_t, node->count);
    for (uint32_t i = 0; i < node->count; i++) {
        struct path at = {.up = path, .index = i};
        int64_t v;
        if (schema_read_int(r, node->items[i], &at, 0, UINT32_MAX, &v))
            (*items)[(*count)++] = (uint32_t)v;
    }
}

static void read_messages(struct reader *r, const struct message *m, const struct yaml_node *node,
                          const struct path *path, void **items, uint32_t *count)
{
    if (!schema_expect(r, node, YAML_SEQUENCE, path))
        return;
    char *array = arena_alloc(r->arena, (size_t)m->size * node->count);
    *items = array;
    *count = node->count;
    for (uint32_t i = 0; i < node->count; i++) {
        struct path at = {.up = path, .index = i};
        schema_read(r, m, node->items[i], &at, array + (size_t)i * m->size);
    }
}

// ---- messages

// A duration or an optional number that is absent is told from 0.
static void set_defaults(const struct message *m, char *base)
{
    for (uint32_t i = 0; i < m->field_count; i++) {
        const struct field *f = &m->fields[i];
        void *at = base + f->offset;
        if (f->type == FIELD_DURATION)
            *(uint64_t *)at = DURATION_UNSET;
        else if (f->type == FIELD_TRISTATE)
            *(int8_t *)at = -1;
        else if (f->type == FIELD_I32_UNSET)
            *(int32_t *)at = -1;
        else if (f->type == FIELD_I64_UNSET)
            *(int64_t *)at = -1;
        else if (f->type == FIELD_INLINE)
            set_defaults(f->child, at);
    }
}

static void read_fields(struct reader *r, const struct message *m, const struct yaml_node *node,
                        const struct path *path, char *base)
{
    if (m->pos != NO_OFFSET)
        *(struct pos *)(base + m->pos) = schema_pos(r, node->pos);
    if (!schema_expect(r, node, YAML_MAPPING, path))
        return;
    for (uint32_t i = 0; i < node->count; i++) {
        const struct yaml_pair *p = &node->pairs[i];
        const struct field *f = find_field(m, p->key);
        if (!f && !m->open)
            schema_unknown(r, m, p, path);
        if (!f || yaml_is_null(p->value))
            continue;
        struct path at = {.up = path, .name = f->name, .index = -1};
        read_field(r, f, p->value, &at, base);
    }
}

void schema_read(struct reader *r, const struct message *m, const struct yaml_node *node,
                 const struct path *path, void *out)
{
    set_defaults(m, out);
    read_fields(r, m, node, path, out);
}

static void read_message(struct reader *r, const struct field *f, const struct yaml_node *node,
                         const struct path *path, void **at)
{
    const struct message *m = f->child;
    *at = arena_alloc(r->arena, m->size);
    schema_read(r, m, node, path, *at);
}

static void read_scalar(struct reader *r, const struct field *f, const struct yaml_node *node,
                        const struct path *path, void *at)
{
    int64_t v = 0;
    double d = 0;
    bool b = false;
    switch (f->type) {
    case FIELD_STRING:
        (void)schema_read_string(r, node, path, at);
        break;
    case FIELD_BOOL:
        (void)read_bool(r, node, path, at);
        break;
    case FIELD_TRISTATE:
        if (read_bool(r, node, path, &b))
            *(int8_t *)at = (int8_t)b;
        break;
    case FIELD_U32:
        if (schema_read_int(r, node, path, 0, UINT32_MAX, &v))
            *(uint32_t *)at = (uint32_t)v;
        break;
    case FIELD_I32:
    case FIELD_I32_UNSET:
        if (schema_read_int(r, node, path, INT32_MIN, INT32_MAX, &v))
            *(int32_t *)at = (int32_t)v;
        break;
    case FIELD_I64_UNSET:
        if (schema_read_int(r, node, path, 0, UINT32_MAX, &v))
            *(int64_t *)at = v;
        break;
    case FIELD_U64:
        if (schema_read_int(r, node, path, 0, (int64_t)1 << 53, &v))
            *(uint64_t *)at = (uint64_t)v;
        break;
    case FIELD_DOUBLE:
        if (read_number(r, node, path, &d))
            *(double *)at = d;
        break;
    default:
        break;
    }
}

static void read_field(struct reader *r, const struct field *f, const struct yaml_node *node,
                       const struct path *path, char *base)
{
    void *at = base + f->offset;
    if (f->pos != NO_OFFSET)
        *(struct pos *)(base + f->pos) = schema_pos(r, node->pos);
    if (f->given != NO_OFFSET)
        *(bool *)(base + f->given) = true;
    switch (f->type) {
    case FIELD_DURATION:
        (void)schema_read_duration(r, node, path, at);
        break;
    case FIELD_TIME:
        read_time(r, node, path, at);
        break;
    case FIELD_ENUM:
        (void)schema_read_enum(r, f->child, node, path, at);
        break;
    case FIELD_STRINGS:
        read_strings(r, node, path, at);
        break;
    case FIELD_STRING_MAP:
        read_string_map(r, node, path, at);
        break;
    case FIELD_U32_LIST:
        read_u32_list(r, node, path, at, (uint32_t *)(base + f->extra));
        break;
    case FIELD_MESSAGE:
        read_message(r, f, node, path, at);
        break;
    case FIELD_INLINE:
        read_fields(r, f->child, node, path, at);
        break;
    case FIELD_MESSAGES:
        read_messages(r, f->child, node, path, at, (uint32_t *)(base + f->extra));
        break;
    case FIELD_CUSTOM:
        ((const struct custom_field *)f->child)->read(r, node, path, base, f->offset);
        break;
    case FIELD_SKIPPED:
        break;
    default:
        read_scalar(r, f, node, path, at);
    }
}
