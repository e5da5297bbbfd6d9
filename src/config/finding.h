// What is wrong with the documents: errors, warnings and notices with a position, collected, never
// thrown. One list holds the findings of a whole run, so that all of them are reported at once.
#pragma once
#include "config/model.h"
#include <stdarg.h>
#include <stdio.h>

enum severity { SEVERITY_INFO, SEVERITY_WARNING, SEVERITY_ERROR };

extern const char *const severity_names[]; // as printed; by enum severity

struct finding {
    enum severity severity;
    const char *code; // "IST0101", "UNSERVED" for what this version does not serve, or NULL
    struct pos pos;
    const char *object; // "VirtualService istio/bookinfo", "" where there is none
    const char *message;
};

struct findings {
    struct arena arena;
    struct finding *items;
    uint32_t count, cap;
    uint32_t errors, warnings;
    // Of `errors` those that are a document's own (syntax, schema, validation): with one of these a
    // configuration is not taken. The others are istioctl analyze's (a destination that is not
    // there answers 503) and what this version does not serve (only that part is closed).
    uint32_t document_errors;
};

void findings_init(struct findings *f);
void findings_fini(struct findings *f);
void finding_add(struct findings *f, enum severity severity, const char *code, struct pos pos,
                 const struct metadata *object, const char *fmt, ...)
    __attribute__((format(printf, 6, 7)));
void finding_vadd(struct findings *f, enum severity severity, const char *code, struct pos pos,
                  const struct metadata *object, const char *fmt, va_list ap)
    __attribute__((format(printf, 6, 0)));
void findings_sort(struct findings *f); // by file, line, column; equal ones are merged
// FILE:LINE:COL: error: VirtualService istio/bookinfo: MESSAGE [IST0101]
void findings_print(const struct findings *f, FILE *out);
void findings_print_json(const struct findings *f, FILE *out);
