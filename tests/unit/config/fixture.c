#include "fixture.h"
#include "core/check.h"
#include "route/regex.h"
#include "tls/cert.h"

void loaded_init_slice(struct loaded *l, struct slice text, const struct load_options *options)
{
    *l = (struct loaded){0};
    findings_init(&l->findings);
    l->e = load_text("t.yaml", "default", text, options, &l->m, &l->findings);
    findings_sort(&l->findings);
}

void loaded_init(struct loaded *l, const char *text)
{
    const struct load_options options = {.regex_is_valid = regex_is_valid,
                                         .credential_is_valid = cert_is_valid};
    loaded_init_slice(l, slice_of(text), &options);
}

void loaded_fini(struct loaded *l)
{
    model_destroy(l->m);
    findings_fini(&l->findings);
}

static const char *told(const char *text, bool errors_only)
{
    static const char *const names[] = {"info", "warning", "error"};
    static char out[16384];
    struct loaded l;
    size_t n = 0;
    loaded_init(&l, text);
    out[0] = '\0';
    for (uint32_t i = 0; i < l.findings.count && n < sizeof(out); i++) {
        const struct finding *f = &l.findings.items[i];
        if (errors_only && (f->severity != SEVERITY_ERROR || strstr(f->message, "not served by") ||
                            strncmp(f->message, "Referenced ", 11) == 0))
            continue;
        n += (size_t)snprintf(out + n, sizeof(out) - n, "%s%u:%u %s %s", n ? "\n" : "", f->pos.line,
                              f->pos.column, names[f->severity], f->message);
    }
    loaded_fini(&l);
    check(n < sizeof(out));
    return out;
}

const char *findings_of(const char *text)
{
    return told(text, false);
}

const char *errors_of(const char *text)
{
    return told(text, true);
}
