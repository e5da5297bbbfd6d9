// A text as one file of documents, and what was said about it.
#pragma once
#include "config/load.h"

struct loaded {
    struct model *m;
    struct findings findings;
    enum err e;
};

void loaded_init(struct loaded *l, const char *text);
void loaded_init_slice(struct loaded *l, struct slice text, const struct load_options *options);
void loaded_fini(struct loaded *l);
// All findings of a text as `LINE:COL severity message`, one a line; a static buffer.
const char *findings_of(const char *text);
// The same of its errors alone, without what this version does not serve
// and what another document would have to give.
const char *errors_of(const char *text);

#define HEAD(kind, name) \
    "apiVersion: networking.istio.io/v1\nkind: " kind "\nmetadata: {name: " name "}\nspec:\n"
