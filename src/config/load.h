// From files to a model: reads every file and folder, parses all documents, validates each (Istio's
// rules, features.md section 1 and 2) and then all together (istioctl analyze's rules).
#pragma once
#include "config/finding.h"
#include "config/model.h"
#include "core/err.h"

struct load_input {   // one -f with the -n before it
    const char *ns;   // "default" when none was given
    const char *path; // a file or a folder (recursive, *.yaml *.yml *.json, sorted)
};

struct load_options {
    struct label_map labels; // --labels: which Gateways' selector this node serves; empty = all
    bool strict;             // refuse what today's Istio refuses and Sluice accepts
    // Whether RE2 takes a regular expression; `why` gets its words when not. NULL: any is taken. A
    // hook, because RE2 lives in the route room, to the right of this one.
    bool (*regex_is_valid)(struct slice regex, char *why, size_t why_cap);
    // Whether a Secret's certificate chain and key can be served at that time (seconds since the
    // epoch); `why` gets the reason when not. NULL: any can. A hook for the same cause: tls/cert.h.
    bool (*credential_is_valid)(struct slice chain, struct slice key, int64_t now_s, char *why,
                                size_t why_cap);
};

// Fills *model and adds to *findings. A document in error is left out of the model; ERR_INVALID
// when there was any error, OK otherwise. The model is to be freed with model_destroy in both
// cases.
enum err load_documents(const struct load_input *inputs, uint32_t input_count,
                        const struct load_options *options, struct model **model,
                        struct findings *findings) must_use;
// The same from memory, for tests and fuzzing.
enum err load_text(const char *file_name, const char *ns, struct slice text,
                   const struct load_options *options, struct model **model,
                   struct findings *findings) must_use;
void model_destroy(struct model *m);

// Lint across documents (IST codes, with istioctl analyze's severities, in linear time) and what
// this version does not serve (unserved.h). Called by load_documents; none of its errors makes that
// return ERR_INVALID: `run` serves what it can, an unknown destination answers 503.
void analyze_model(const struct model *m, const struct load_options *options,
                   struct findings *findings);
