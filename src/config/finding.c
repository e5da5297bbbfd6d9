// The list of findings. Owns every string in it (arena), so that it outlives the model and the
// files. Control thread.
#include "config/finding.h"
#include <stdlib.h>

void findings_init(struct findings *f)
{
    *f = (struct findings){0};
    arena_init(&f->arena, 0);
}

void findings_fini(struct findings *f)
{
    free(f->items);
    arena_fini(&f->arena);
    *f = (struct findings){0};
}

static struct finding *append(struct findings *f)
{
    if (f->count == f->cap) {
        uint32_t cap = f->cap ? f->cap * 2 : 16;
        struct finding *p = realloc(f->items, sizeof(*p) * cap);
        if (!p)
            abort(); // the control thread, out of memory for a line of text
        f->items = p;
        f->cap = cap;
    }
    return &f->items[f->count++];
}

// ---- texts come from documents: nothing in them may break a line, move a cursor or end in the
// middle of a character

// Bytes of the well-formed UTF-8 character at p, 0 for a control character or what is none.
static size_t printable_at(const char *p)
{
    const unsigned char *u = (const unsigned char *)p;
    if (u[0] < 0x80)
        return u[0] >= 0x20 && u[0] != 0x7f;
    size_t len = u[0] >= 0xf0 ? 4 : u[0] >= 0xe0 ? 3 : u[0] >= 0xc2 ? 2 : 0;
    for (size_t i = 1; i < len; i++)
        if ((u[i] & 0xc0) != 0x80)
            return 0;
    return len == 2 && u[0] == 0xc2 && u[1] < 0xa0 ? 0 : len; // C1 controls
}

// Control characters and broken UTF-8 as \n and \xNN; the text itself where there are none.
static const char *printable(struct findings *f, const char *text)
{
    size_t bad = 0, len = 0, n;
    for (const char *p = text; *p; p += n ? n : 1) {
        n = printable_at(p);
        bad += !n;
        len += n ? n : 1;
    }
    if (!bad)
        return text;
    char *out = arena_alloc(&f->arena, len + bad * 3 + 1), *to = out;
    for (const char *p = text; *p; p += n ? n : 1) {
        n = printable_at(p);
        if (n) {
            memcpy(to, p, n);
            to += n;
        } else {
            to += *p == '\n' ? sprintf(to, "\\n") : sprintf(to, "\\x%02x", (unsigned char)*p);
        }
    }
    return out;
}

// The file names of neighbouring findings are mostly the same: one copy serves them.
static const char *keep_file(struct findings *f, const char *file)
{
    if (!file)
        return NULL;
    const char *last = f->count ? f->items[f->count - 1].pos.file : NULL;
    return last && strcmp(last, file) == 0 ? last : printable(f, arena_strdup(&f->arena, file));
}

static const char *object_name(struct findings *f, const struct metadata *m)
{
    if (!m || m->kind.len == 0)
        return "";
    if (m->name.len == 0)
        return arena_printf(&f->arena, "%.*s", SLICE_FMT(m->kind));
    if (m->ns.len == 0)
        return arena_printf(&f->arena, "%.*s %.*s", SLICE_FMT(m->kind), SLICE_FMT(m->name));
    return arena_printf(&f->arena, "%.*s %.*s/%.*s", SLICE_FMT(m->kind), SLICE_FMT(m->ns),
                        SLICE_FMT(m->name));
}

__attribute__((format(printf, 2, 0))) static const char *format(struct findings *f, const char *fmt,
                                                                va_list ap)
{
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    char *p = arena_alloc(&f->arena, (size_t)(n < 0 ? 0 : n) + 1);
    if (n > 0)
        vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    return p;
}

void finding_vadd(struct findings *f, enum severity severity, const char *code, struct pos pos,
                  const struct metadata *object, const char *fmt, va_list ap)
{
    struct finding it = {.severity = severity, .code = code, .pos = pos};
    it.message = printable(f, format(f, fmt, ap));
    it.pos.file = keep_file(f, pos.file);
    it.object = printable(f, object_name(f, object));
    *append(f) = it;
    f->errors += severity == SEVERITY_ERROR;
    f->warnings += severity == SEVERITY_WARNING;
}

void finding_add(struct findings *f, enum severity severity, const char *code, struct pos pos,
                 const struct metadata *object, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    finding_vadd(f, severity, code, pos, object, fmt, ap);
    va_end(ap);
}

static int compare_text(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "");
}

static int compare_number(uint32_t a, uint32_t b)
{
    return (a > b) - (a < b);
}

static int compare(const void *pa, const void *pb)
{
    const struct finding *a = pa, *b = pb;
    int c = compare_text(a->pos.file, b->pos.file);
    if (c == 0)
        c = compare_number(a->pos.line, b->pos.line);
    if (c == 0)
        c = compare_number(a->pos.column, b->pos.column);
    if (c == 0)
        c = compare_text(a->object, b->object);
    if (c == 0)
        c = compare_number((uint32_t)b->severity, (uint32_t)a->severity); // errors first
    if (c == 0)
        c = compare_text(a->code, b->code);
    return c ? c : compare_text(a->message, b->message);
}

void findings_sort(struct findings *f)
{
    if (f->count == 0)
        return;
    qsort(f->items, f->count, sizeof(*f->items), compare);
    uint32_t kept = 1;
    for (uint32_t i = 1; i < f->count; i++) {
        if (compare(&f->items[kept - 1], &f->items[i]) == 0) {
            f->errors -= f->items[i].severity == SEVERITY_ERROR;
            f->warnings -= f->items[i].severity == SEVERITY_WARNING;
            continue;
        }
        f->items[kept++] = f->items[i];
    }
    f->count = kept;
    if (f->document_errors > f->errors)
        f->document_errors = f->errors;
}

const char *const severity_names[] = {"info", "warning", "error"};

static void print_position(const struct pos *pos, FILE *out)
{
    if (!pos->file)
        return;
    fputs(pos->file, out);
    if (pos->line)
        fprintf(out, ":%u:%u", pos->line, pos->column);
    fputs(": ", out);
}

void findings_print(const struct findings *f, FILE *out)
{
    for (uint32_t i = 0; i < f->count; i++) {
        const struct finding *it = &f->items[i];
        print_position(&it->pos, out);
        fprintf(out, "%s: ", severity_names[it->severity]);
        if (it->object[0])
            fprintf(out, "%s: ", it->object);
        fputs(it->message, out);
        if (it->code)
            fprintf(out, " [%s]", it->code);
        fputc('\n', out);
    }
}

static void print_json_string(const char *s, FILE *out)
{
    fputc('"', out);
    for (; s && *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c < 0x20)
            fprintf(out, "\\u%04x", c);
        else
            fputc(c, out);
    }
    fputc('"', out);
}

void findings_print_json(const struct findings *f, FILE *out)
{
    fputs("[", out);
    for (uint32_t i = 0; i < f->count; i++) {
        const struct finding *it = &f->items[i];
        fprintf(out, "%s\n  {\"severity\": \"%s\", \"code\": ", i ? "," : "",
                severity_names[it->severity]);
        print_json_string(it->code, out);
        fputs(", \"file\": ", out);
        print_json_string(it->pos.file, out);
        fprintf(out, ", \"line\": %u, \"column\": %u, \"object\": ", it->pos.line, it->pos.column);
        print_json_string(it->object, out);
        fputs(", \"message\": ", out);
        print_json_string(it->message, out);
        fputs("}", out);
    }
    fputs(f->count ? "\n]\n" : "]\n", out);
}
