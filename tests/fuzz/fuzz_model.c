// Any bytes as documents, from YAML to compiled tables: what is refused says so with a position, on
// one line each, in valid JSON; what is taken compiles; and the same text says the same again.
#include "config/load.h"
#include "core/check.h"
#include "route/compile.h"
#include "route/regex.h"
#include "tls/cert.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct result {
    char *text, *json;
    size_t text_len, json_len;
    uint32_t findings;
};

static void check_object(const struct metadata *m)
{
    check(m->name.len > 0 && m->ns.len > 0 && m->kind.len > 0 && m->pos.line > 0 && m->pos.file);
}

static void check_model(const struct model *m)
{
    for (uint32_t i = 0; i < m->gateways_count; i++) {
        check_object(&m->gateways[i]->meta);
        check(m->gateways[i]->server_count > 0); // a valid one has servers
        for (uint32_t k = 0; k < m->gateways[i]->server_count; k++)
            check(m->gateways[i]->servers[k].hosts.count > 0);
    }
    for (uint32_t i = 0; i < m->virtual_services_count; i++)
        check_object(&m->virtual_services[i]->meta);
    for (uint32_t i = 0; i < m->destination_rules_count; i++)
        check_object(&m->destination_rules[i]->meta);
    for (uint32_t i = 0; i < m->service_entries_count; i++) {
        check_object(&m->service_entries[i]->meta);
        check(m->service_entries[i]->hosts.count > 0);
    }
    for (uint32_t i = 0; i < m->endpoints_count; i++)
        check_object(&m->endpoints[i]->meta);
}

static void check_findings(const struct findings *f, enum err e)
{
    uint32_t errors = 0;
    for (uint32_t i = 0; i < f->count; i++) {
        const struct finding *it = &f->items[i];
        errors += it->severity == SEVERITY_ERROR;
        check(it->pos.file && it->pos.line > 0 && it->pos.column > 0 && it->message[0]);
    }
    check(errors == f->errors && f->document_errors <= f->errors);
    check((e == OK) == (f->document_errors == 0));
}

static void print(const struct findings *f, struct result *out)
{
    FILE *text = open_memstream(&out->text, &out->text_len);
    FILE *json = open_memstream(&out->json, &out->json_len);
    check(text && json);
    findings_print(f, text);
    findings_print_json(f, json);
    check(fclose(text) == 0 && fclose(json) == 0);
}

static struct result run(struct slice input, bool strict)
{
    const struct load_options options = {
        .strict = strict, .regex_is_valid = regex_is_valid, .credential_is_valid = cert_is_valid};
    const struct compile_options compile = {0};
    struct route_config routes = {0};
    struct result out = {0};
    struct findings findings;
    struct model *m = NULL;
    struct arena arena;
    findings_init(&findings);
    arena_init(&arena, 0);
    enum err e = load_text("f", "default", input, &options, &m, &findings);
    check(m);
    check_model(m);
    check_findings(&findings, e);
    enum err compiled = route_compile(m, &compile, &arena, &findings, &routes);
    check(compiled == OK || findings.errors > 0);
    findings_sort(&findings);
    out.findings = findings.count;
    print(&findings, &out);
    route_config_fini(&routes);
    arena_fini(&arena);
    model_destroy(m);
    findings_fini(&findings);
    return out;
}

// Well-formed and no control character: nothing in a document can fake a line of the log.
static void check_text(const char *p, size_t len, uint32_t lines)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)p[i];
        lines -= c == '\n';
        check(c == '\n' || (c >= 0x20 && c != 0x7f));
        int more = c < 0x80 ? 0 : c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : c >= 0xc0 ? 1 : -1;
        check(more >= 0 && i + (size_t)more < len);
        for (; more > 0; more--)
            check(((unsigned char)p[++i] & 0xc0) == 0x80);
    }
    check(lines == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice input = {(const char *)data, size};
    for (int strict = 0; strict < 2; strict++) {
        struct result a = run(input, strict), b = run(input, strict);
        check_text(a.text, a.text_len, a.findings);
        check_text(a.json, a.json_len, a.findings ? a.findings + 2 : 1);
        check(a.text_len == b.text_len && memcmp(a.text, b.text, a.text_len) == 0);
        check(a.json_len == b.json_len);
        free(a.text);
        free(a.json);
        free(b.text);
        free(b.json);
    }
    return 0;
}
