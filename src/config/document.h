// One document into the model.
#pragma once
#include "config/kind.h"

struct input_file {
    const char *file; // in the model's arena
    const char *ns;   // -n
};

// A parsed document of any kind, or a List of them.
void document_read(struct loading *l, const struct yaml_node *doc, const struct input_file *in);
