// Any bytes as YAML: every call takes something off the text, every node stands inside it, the
// promises of yaml.h hold for each tree, and a broken document says where.
#include "config/yaml.h"
#include "core/check.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct bounds {
    uint32_t first_line, last_line;
    uint32_t left; // of the nodes that may be walked
};

static void check_pos(const struct bounds *b, struct pos pos)
{
    check(pos.line >= 1 && pos.line <= b->last_line && pos.column >= 1);
}

static void check_keys(const struct yaml_node *n)
{
    for (uint32_t i = 0; i < n->count && i < 64; i++)
        for (uint32_t k = 0; k < i; k++)
            check(!slice_eq(n->pairs[i].key, n->pairs[k].key));
}

static uint32_t check_node(struct bounds *b, const struct yaml_node *n, uint32_t depth)
{
    uint32_t weight = 1;
    check(depth <= YAML_MAX_DEPTH * 2); // an alias may stand as deep as what it names is
    check_pos(b, n->pos);
    check(n->weight >= 1 && n->weight <= YAML_MAX_NODES);
    if (b->left == 0)
        return n->weight;
    b->left--;
    switch (n->kind) {
    case YAML_SCALAR:
        check(n->text.ptr && n->text.ptr[n->text.len] == '\0');
        (void)yaml_describe(n);
        return 1;
    case YAML_SEQUENCE:
        for (uint32_t i = 0; i < n->count; i++)
            weight += check_node(b, n->items[i], depth + 1);
        return weight;
    case YAML_MAPPING:
        check_keys(n);
        for (uint32_t i = 0; i < n->count; i++) {
            check_pos(b, n->pairs[i].pos);
            check(n->pairs[i].value && yaml_get(n, n->pairs[i].key) == n->pairs[i].value);
            weight += check_node(b, n->pairs[i].value, depth + 1);
        }
        return weight;
    }
    check(false);
    return 0;
}

static uint32_t count_lines(struct slice text)
{
    uint32_t lines = 1;
    for (size_t i = 0; i < text.len; i++)
        lines += text.ptr[i] == '\n' || text.ptr[i] == '\r' || (unsigned char)text.ptr[i] >= 0x80;
    return lines; // libyaml breaks lines at NEL, LS and PS too
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice rest = {(const char *)data, size};
    struct findings findings;
    uint32_t line = 1;
    struct bounds b = {1, count_lines(rest) + 1, 100000};
    findings_init(&findings);
    for (;;) {
        const struct yaml_node *root;
        size_t before = rest.len;
        uint32_t said = findings.count;
        struct arena arena;
        arena_init(&arena, 0);
        enum err e = yaml_next(&rest, &line, "f", &arena, &findings, &root);
        check(e == OK || e == ERR_SYNTAX || e == ERR_NOT_FOUND);
        check((e == ERR_SYNTAX) == (findings.count > said));
        if (e == OK && root)
            (void)check_node(&b, root, 1);
        arena_fini(&arena);
        if (e == ERR_NOT_FOUND)
            break;
        check(rest.len < before);
    }
    for (uint32_t i = 0; i < findings.count; i++)
        check_pos(&b, findings.items[i].pos);
    findings_fini(&findings);
    return 0;
}
