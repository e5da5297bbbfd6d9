// YAML text to a tree of nodes that know where they stand. JSON is read as YAML. Text is cut into
// documents at `---` lines before it is parsed, so that a syntax error costs one document only.
#pragma once
#include "config/finding.h"
#include "core/err.h"

#define YAML_MAX_FILE_BYTES ((size_t)64 * 1024 * 1024)
#define YAML_MAX_DEPTH 64u
#define YAML_MAX_NODES 1000000u    // a document's, every use of an alias counted in full
#define YAML_MAX_ANCHORS 1000u     // a document's
#define YAML_MAX_MERGED_KEYS 1000u // of a map with `<<`

enum yaml_kind { YAML_SCALAR, YAML_SEQUENCE, YAML_MAPPING };

struct yaml_pair {
    struct slice key;
    struct pos pos; // of the key
    const struct yaml_node *value;
};

struct yaml_node {
    enum yaml_kind kind;
    bool plain; // a scalar without quotes, that may mean a number, a boolean or null
    struct pos pos;
    struct slice text; // of a scalar, UTF-8
    struct slice tag;  // as written and resolved ("tag:yaml.org,2002:binary"), {NULL, 0} if none
    union {
        const struct yaml_node **items;
        struct yaml_pair *pairs; // keys are scalars and unique, `<<` is merged already
    };
    uint32_t count;
    uint32_t weight; // nodes in this subtree, aliases counted in full
};

// Takes the next document off *rest (whose first line has the number *line) and puts its root, in
// `arena`, into *root: NULL for an empty one. ERR_SYNTAX when it was broken: the finding is
// added and the next call goes on behind it. ERR_NOT_FOUND at the end of the text.
enum err yaml_next(struct slice *rest, uint32_t *line, const char *file, struct arena *arena,
                   struct findings *findings, const struct yaml_node **root) must_use;

// The value of a key, NULL if absent.
const struct yaml_node *yaml_get(const struct yaml_node *mapping, struct slice key);
bool yaml_is_null(const struct yaml_node *n); // absent, empty, `~` or null
bool yaml_is_true(const struct yaml_node *n); // YAML 1.1: true, yes, on
bool yaml_is_false(const struct yaml_node *n);
bool yaml_is_number(const struct yaml_node *n);
bool yaml_is_decimal(struct slice text);
// "a string", "a number", "a boolean", "null", "a list" or "a map".
const char *yaml_describe(const struct yaml_node *n);
