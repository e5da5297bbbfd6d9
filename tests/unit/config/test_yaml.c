// The YAML reader: where nodes stand, anchors and merges, what is refused and where.
#include "config/yaml.h"
#include "core/check.h"
#include "fixture.h"
#include "test.h"
#include <stdlib.h>

// One text through yaml_next; each document as text, with positions of scalars where asked for.
struct reading {
    struct arena arena;
    struct findings findings;
    char out[8192];
    size_t len;
    uint32_t documents, broken;
};

__attribute__((format(printf, 2, 3))) static void put(struct reading *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(r->out + r->len, sizeof(r->out) - r->len, fmt, ap);
    va_end(ap);
    r->len += n > 0 ? (size_t)n : 0;
    check(r->len < sizeof(r->out));
}

static void put_node(struct reading *r, const struct yaml_node *n, bool positions)
{
    if (positions)
        put(r, "%u:%u", n->pos.line, n->pos.column);
    if (n->kind == YAML_SCALAR) {
        put(r, n->plain ? "%.*s" : "'%.*s'", SLICE_FMT(n->text));
        return;
    }
    put(r, n->kind == YAML_MAPPING ? "{" : "[");
    for (uint32_t i = 0; i < n->count; i++) {
        put(r, "%s", i ? " " : "");
        if (n->kind == YAML_MAPPING)
            put(r, "%.*s=", SLICE_FMT(n->pairs[i].key));
        put_node(r, n->kind == YAML_MAPPING ? n->pairs[i].value : n->items[i], positions);
    }
    put(r, n->kind == YAML_MAPPING ? "}" : "]");
}

static void read_all(struct reading *r, struct slice text, bool positions)
{
    uint32_t line = 1;
    *r = (struct reading){0};
    arena_init(&r->arena, 0);
    findings_init(&r->findings);
    for (;;) {
        const struct yaml_node *root;
        enum err e = yaml_next(&text, &line, "t.yaml", &r->arena, &r->findings, &root);
        if (e == ERR_NOT_FOUND)
            break;
        put(r, "%s", r->len ? " | " : "");
        r->broken += e != OK;
        r->documents += root != NULL;
        if (e != OK)
            put(r, "!");
        else if (root)
            put_node(r, root, positions);
    }
    for (uint32_t i = 0; i < r->findings.count; i++)
        put(r, " (%u:%u %s)", r->findings.items[i].pos.line, r->findings.items[i].pos.column,
            r->findings.items[i].message);
    findings_fini(&r->findings);
    arena_fini(&r->arena);
}

static const char *yaml(const char *text)
{
    static struct reading r;
    read_all(&r, slice_of(text), false);
    return r.out;
}

static const char *yaml_at(const char *text)
{
    static struct reading r;
    read_all(&r, slice_of(text), true);
    return r.out;
}

TEST(yaml_positions_are_of_the_value)
{
    EXPECT_STR(yaml_at("a: 1\nb:\n  - x\n  -   y\n"), "1:1{a=1:41 b=3:3[3:5x 4:7y]}");
    EXPECT_STR(yaml_at("{a: {b: [1, 'two']}}"), "1:1{a=1:5{b=1:9[1:101 1:13'two']}}");
    EXPECT_STR(yaml_at("a: |\n  text\n"), "1:1{a=1:4'text\n'}");
    EXPECT_STR(yaml_at("# c\n\n---\na: \"\xc3\xa4\"\nb: 2\n"), "4:1{a=4:4'\xc3\xa4' b=5:42}");
    EXPECT_STR(yaml_at("\xef\xbb\xbf"
                       "a: 1\n"),
               "1:1{a=1:41}");
}

TEST(yaml_lines_go_on_behind_a_separator)
{
    EXPECT_STR(yaml_at("a: 1\n---\nb: 2\n--- # third\nc: 3\n"),
               "1:1{a=1:41} | 3:1{b=3:42} | 5:1{c=5:43}");
    EXPECT_STR(yaml("---\n---\na: 1\n---\n"), "{a=1} | ");
    EXPECT_STR(yaml_at("a: 1\r\n---\r\nb: 2\r\n"), "1:1{a=1:41} | 3:1{b=3:42}");
    EXPECT_STR(yaml_at("--- {a: 1}\n--- {b: 2}\n"), "1:5{a=1:91} | 2:5{b=2:92}");
    EXPECT_STR(yaml("a: '---'\nb: a---\n"), "{a='---' b=a---}");
    EXPECT_STR(yaml("a: 1\n...\n---\nb: 1\n"), "{a=1} | {b=1}");
}

TEST(yaml_a_broken_document_costs_no_other)
{
    EXPECT_STR(yaml("a: 1\n---\nb: [1\n---\nc: 3\n"),
               "{a=1} | ! | {c=3} (4:1 not YAML: did not find expected ',' or ']', while parsing a "
               "flow sequence that began on line 3)");
    EXPECT_STR(yaml("a: \"x\n---\nb: 1\n"),
               "! | {b=1} (2:1 not YAML: found unexpected end of stream, while scanning a quoted "
               "scalar that began on line 1)");
}

TEST(yaml_json_is_yaml)
{
    EXPECT_STR(yaml("{\"a\": [true, null, 1.5e3, \"\\u00e4\\n\"], \"b\": {}}"),
               "{a=[true null 1.5e3 '\xc3\xa4\n'] b={}}");
    EXPECT_STR(yaml("{\"a\":\t1}"), "{a=1}");
}

TEST(yaml_keys_are_unique)
{
    EXPECT_STR(yaml("a: 1\nb: 2\na: 3\n"), "! (3:1 duplicate key \"a\")");
    EXPECT_STR(yaml("x:\n  a: 1\n  \"a\": 2\n"), "! (3:3 duplicate key \"a\")");
    char text[4096];
    size_t n = 0; // more than are compared one by one
    for (int i = 0; i < 40; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "k%d: 1\n", i);
    snprintf(text + n, sizeof(text) - n, "k7: 2\n");
    EXPECT_STR(yaml(text), "! (41:1 duplicate key \"k7\")");
    EXPECT_STR(yaml("[a]: 1\n"), "! (1:1 a key must be a plain word)");
    EXPECT_STR(yaml("a: 1\n? {b: 1}\n: 2\n"), "! (2:3 a key must be a plain word)");
}

TEST(yaml_anchors_and_aliases)
{
    EXPECT_STR(yaml("a: &x {v: 1}\nb: *x\nc: [*x, *x]\n"), "{a={v=1} b={v=1} c=[{v=1} {v=1}]}");
    EXPECT_STR(yaml("a: &x 1\nb: &x 2\nc: *x\n"), "{a=1 b=2 c=2}"); // the latest counts
    EXPECT_STR(yaml("a: *none\n"), "! (1:4 alias *none has no anchor)");
    EXPECT_STR(yaml("a: &x [*x]\n"), "! (1:8 alias *x stands inside its own anchor)");
    EXPECT_STR(yaml("a: &x 1\n---\nb: *x\n"), "{a=1} | ! (3:4 alias *x has no anchor)");
    // an alias stands where its anchor does
    EXPECT_STR(yaml_at("a: &x\n  v: 1\nb: *x\n"), "1:1{a=1:4{v=2:61} b=1:4{v=2:61}}");
}

TEST(yaml_merge_keys)
{
    EXPECT_STR(yaml("d: &d {a: 1, b: 2}\nx: {<<: *d, b: 3}\n"), "{d={a=1 b=2} x={b=3 a=1}}");
    EXPECT_STR(yaml("d: &d {a: 1}\ne: &e {a: 2, c: 3}\nx: {<<: [*d, *e]}\n"),
               "{d={a=1} e={a=2 c=3} x={a=1 c=3}}");
    EXPECT_STR(yaml("x: {<<: 1}\n"), "! (1:5 `<<` wants a map)");
    EXPECT_STR(yaml("x: {<<: [1]}\n"), "! (1:5 `<<` wants a map)");
    EXPECT_STR(yaml("x: {<<: {a: 1}, <<: {b: 1}}\n"), "! (1:17 duplicate key \"<<\")");
}

// `open` COUNT times, then `close` COUNT times.
static const char *nested(const char *open, const char *close, int count)
{
    static char text[65536];
    size_t n = 0;
    for (int i = 0; i < count; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s", open);
    for (int i = 0; i < count; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s", close);
    check(n < sizeof(text));
    return yaml(text);
}

TEST(yaml_depth_is_limited)
{
    EXPECT(strchr(nested("[", "]", (int)YAML_MAX_DEPTH), '!') == NULL);
    EXPECT_STR(nested("[", "]", (int)YAML_MAX_DEPTH + 1), "! (1:65 nested too deeply)");
    EXPECT_STR(nested("[", "]", 20000), "! (1:65 nested too deeply)");
    EXPECT_STR(nested("{a: ", "}", (int)YAML_MAX_DEPTH + 1), "! (1:254 nested too deeply)");
    EXPECT(strstr(nested("- ", "", 5000), "nested too deeply") != NULL);
}

TEST(yaml_aliases_do_not_multiply)
{
    char text[4096];
    size_t n = (size_t)snprintf(text, sizeof(text), "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for (int i = 1; i < 12; i++)
        n += (size_t)snprintf(
            text + n, sizeof(text) - n,
            "a%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n", i, i, i - 1,
            i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
    const char *said = yaml(text);
    EXPECT(said[0] == '!' && strstr(said, "this document is too large, or its aliases multiply"));
}

TEST(yaml_anchors_are_limited)
{
    static char text[65536];
    size_t n = 0;
    for (uint32_t i = 0; i < YAML_MAX_ANCHORS + 1; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "- &a%u x\n", i);
    size_t within = n;
    snprintf(text + n, sizeof(text) - n, "- *a%u\n", YAML_MAX_ANCHORS); // the one too many
    EXPECT(strstr(yaml(text), "alias *a1000 has no anchor") != NULL);
    snprintf(text + within, sizeof(text) - within, "- *a%u\n", YAML_MAX_ANCHORS - 1);
    EXPECT(strstr(yaml(text), "!") == NULL);
}

TEST(yaml_merged_maps_are_limited)
{
    static char text[65536];
    size_t n = (size_t)snprintf(text, sizeof(text), "d: &d\n");
    for (uint32_t i = 0; i < YAML_MAX_MERGED_KEYS; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "  k%u: 1\n", i);
    snprintf(text + n, sizeof(text) - n, "x: {<<: *d, y: 1}\n");
    EXPECT_STR(yaml(text), "! (1002:5 `<<` makes this map too large)");
}

TEST(yaml_words)
{
    struct word {
        const char *text, *described;
    } words[] = {
        {"true", "a boolean"},   {"No", "a boolean"},  {"off", "a boolean"},
        {"'true'", "a string"},  {"~", "null"},        {"", "null"},
        {"\"\"", "a string"},    {"null", "null"},     {"1", "a number"},
        {"-1.5e+3", "a number"}, {"1e", "a string"},   {"0x10", "a string"},
        {"1.2.3", "a string"},   {"1:30", "a string"}, {"[]", "a list"},
        {"{}", "a map"},         {"+", "a string"},    {".", "a string"},
        {"!!str 1", "a string"}, {"nO", "a string"},
    };
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        struct arena arena;
        struct findings findings;
        char text[64];
        uint32_t line = 1;
        const struct yaml_node *root;
        snprintf(text, sizeof(text), "- %s\n", words[i].text);
        struct slice rest = slice_of(text);
        arena_init(&arena, 0);
        findings_init(&findings);
        REQUIRE(yaml_next(&rest, &line, "t", &arena, &findings, &root) == OK && root->count == 1);
        EXPECT_STR(yaml_describe(root->items[0]), words[i].described);
        findings_fini(&findings);
        arena_fini(&arena);
    }
}

TEST(yaml_bytes_that_are_no_text)
{
    EXPECT_STR(yaml("a: \xff\n"), "! (1:1 not YAML: invalid leading UTF-8 octet (byte 0xff))");
    EXPECT(strstr(yaml("a: \x01\n"), "control characters are not allowed") != NULL);
    struct reading *r = calloc(1, sizeof(*r));
    REQUIRE(r);
    read_all(r, (struct slice){"a: 1\0b", 6}, false);
    EXPECT(r->broken == 1);
    read_all(r, (struct slice){"", 0}, false);
    EXPECT(r->broken == 0 && r->documents == 0);
    free(r);
}
