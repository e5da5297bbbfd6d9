// `sluice analyze`: reads and compiles the documents, prints every finding. Main thread.
#include "admin/cli.h"
#include "route/regex.h"
#include "tls/cert.h"
#include <stdlib.h>

static void summarise(const struct findings *f, uint32_t documents)
{
    const char *s = documents == 1 ? "" : "s";
    if (f->count && f->errors + f->warnings == 0)
        fprintf(stderr, "no errors or warnings in %u document%s\n", documents, s);
    else if (f->count == 0)
        fprintf(stderr, "no problems found in %u document%s\n", documents, s);
    else
        fprintf(stderr, "%u error%s, %u warning%s in %u document%s\n", f->errors,
                f->errors == 1 ? "" : "s", f->warnings, f->warnings == 1 ? "" : "s", documents, s);
}

int cli_analyze(const struct cli_options *o)
{
    struct findings findings;
    struct model *m = NULL;
    struct arena arena;
    struct route_config routes = {0};
    struct load_options load = {.strict = o->strict,
                                .labels = o->labels,
                                .regex_is_valid = regex_is_valid,
                                .credential_is_valid = cert_is_valid};
    struct compile_options compile = {.labels = o->labels};
    findings_init(&findings);
    arena_init(&arena, 0);
    enum err e = load_documents(o->inputs, o->input_count, &load, &m, &findings);
    // Also what only shows when everything is put together; a document in error is left out.
    if (m && route_compile(m, &compile, &arena, &findings, &routes) != OK)
        e = ERR_INVALID;
    findings_sort(&findings);
    if (o->json)
        findings_print_json(&findings, stdout);
    else
        findings_print(&findings, stdout);
    fflush(stdout);
    summarise(&findings, m ? m->document_count : 0);
    int status = e != OK || findings.errors ? CLI_EXIT_FAILED : CLI_EXIT_OK;
    route_config_fini(&routes);
    arena_fini(&arena);
    model_destroy(m);
    findings_fini(&findings);
    return status;
}
