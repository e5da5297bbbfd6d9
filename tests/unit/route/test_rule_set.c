// The index of a rule set against trying the rules in turn, on random tables; the host index
// against the definition of its order. A failure prints the seed; SLUICE_TEST_SEED repeats it.
#include "random.h"
#include "route/host_index.h"
#include "route/rule_set.h"
#include "route/virtual_host.h"
#include "test.h"

// A small alphabet, so that prefixes nest and paths collide.
static struct slice random_path(struct arena *a, uint32_t most)
{
    static const char letters[] = "/aAb";
    uint32_t len = 1 + below(most);
    char *p = arena_alloc(a, len);
    p[0] = '/';
    for (uint32_t i = 1; i < len; i++)
        p[i] = letters[below(sizeof(letters) - 1)];
    return (struct slice){p, len};
}

static struct slice lower(struct arena *a, struct slice s)
{
    char *p = arena_alloc(a, s.len);
    for (size_t i = 0; i < s.len; i++)
        p[i] = s.ptr[i] == 'A' ? 'a' : s.ptr[i];
    return (struct slice){p, s.len};
}

#define REGEXES 4
static struct regex *regexes[REGEXES];
static const char *const patterns[REGEXES] = {"/a.*", ".*b", "/(a|b)+/?", "/[Aa]{2}.*"};

static struct slice random_value(struct arena *a)
{
    char text[16];
    int n = snprintf(text, sizeof(text), "%u", below(below(2) ? 3 : 60));
    return arena_dup(a, (struct slice){text, (size_t)n});
}

static void add_conditions(struct arena *a, struct rule *r)
{
    uint32_t count = 1 + below(2);
    struct condition *c = arena_array(a, struct condition, count);
    for (uint32_t i = 0; i < count; i++) {
        c[i].source = below(5) ? CONDITION_HEADER : CONDITION_METHOD;
        c[i].name = below(4) ? SLICE("x") : SLICE("y");
        c[i].test = below(2) ? TEST_EXACT : (enum condition_test)below(3);
        c[i].text = random_value(a);
        c[i].invert = below(6) == 0;
    }
    r->conditions = c;
    r->condition_count = (uint16_t)count;
}

static struct rule *random_rule(struct arena *a)
{
    struct rule *r = arena_new(a, struct rule);
    uint32_t kind = below(20);
    r->kind = kind == 0 ? PATH_REGEX : kind < 10 ? PATH_EXACT : PATH_PREFIX;
    r->fold = r->kind != PATH_REGEX && below(4) == 0;
    struct slice path = random_path(a, below(2) ? 6 : 40);
    if (r->kind == PATH_REGEX) {
        uint32_t i = below(REGEXES);
        r->regex = regexes[i];
        path = slice_of(patterns[i]);
    }
    if (r->fold)
        path = lower(a, path);
    r->path = path.ptr;
    r->path_len = (uint32_t)path.len;
    r->next = RULE_NONE;
    if (below(3) != 0)
        add_conditions(a, r);
    return r;
}

static struct route_request random_request(struct arena *a, const struct rule *const *rules,
                                           uint32_t count, struct route_header *header)
{
    struct slice path = random_path(a, 10);
    if (below(2)) { // mostly near a rule
        struct slice near = rule_path(rules[below(count)]);
        struct slice tail = random_path(a, 4);
        char *p = arena_alloc(a, near.len + tail.len);
        memcpy(p, near.ptr, near.len);
        memcpy(p + near.len, tail.ptr, tail.len);
        path = (struct slice){p, near.len + (below(2) ? tail.len : 0)};
    }
    for (uint32_t i = 0; i < 3; i++) // the same name may come again
        header[i] = (struct route_header){below(3) ? SLICE("x") : SLICE("y"), random_value(a)};
    return (struct route_request){.path = path,
                                  .method = random_value(a),
                                  .headers = header,
                                  .header_count = below(4),
                                  .worker = REGEX_CONTROL};
}

static bool table_agrees(void)
{
    struct arena a;
    bool ok = true;
    arena_init(&a, 0);
    uint32_t count = 1 + below(below(2) ? 10 : 200);
    const struct rule **rules = arena_array(&a, const struct rule *, count);
    bool one_path = below(3) == 0; // told apart by what else they demand
    for (uint32_t i = 0; i < count; i++) {
        struct rule *r = random_rule(&a);
        if (one_path && r->kind != PATH_REGEX && below(8)) {
            r->path = "/a";
            r->path_len = 2;
        }
        rules[i] = r;
    }
    const struct rule_set *s = rule_set_create(&a, rules, count);
    for (uint32_t i = 0; i < 200 && ok; i++) {
        struct route_header headers[3];
        struct route_request rq = random_request(&a, rules, count, headers);
        ok = rule_set_find(s, &rq) == rule_set_find_linear(s, &rq);
        if (!ok)
            printf("path %.*s of %u rules\n", SLICE_FMT(rq.path), count);
    }
    arena_fini(&a);
    return ok;
}

TEST(rule_set_index_agrees_with_trying_in_turn)
{
    uint64_t seed = test_seed();
    for (uint32_t i = 0; i < REGEXES; i++)
        regexes[i] = regex_create(slice_of(patterns[i]), NULL, 0);
    rng_init(&test_rng, seed);
    bool ok = true;
    for (uint32_t i = 0; i < 500 && ok; i++)
        ok = table_agrees();
    if (!ok)
        test_fail(__FILE__, __LINE__, "seed 0x%llx", (unsigned long long)seed);
    for (uint32_t i = 0; i < REGEXES; i++)
        regex_destroy(regexes[i]);
}

TEST(rule_set_with_every_first_byte)
{
    struct arena a;
    const struct rule *rules[256];
    arena_init(&a, 0);
    for (uint32_t i = 0; i < 256; i++) {
        struct rule *r = arena_new(&a, struct rule);
        r->inline_path[0] = (char)i;
        *r = (struct rule){
            .path = r->inline_path, .path_len = 1, .kind = PATH_PREFIX, .inline_path = {(char)i}};
        rules[i] = r;
    }
    const struct rule_set *s = rule_set_create(&a, rules, 256);
    for (uint32_t i = 0; i < 256; i++) {
        char path[2] = {(char)i, 'x'};
        struct route_request rq = {.path = {path, 2}};
        EXPECT(rule_set_find(s, &rq) == &s->rules[i]);
    }
    struct route_request none = {.path = {"", 0}};
    EXPECT(rule_set_find(s, &none) == NULL);
    arena_fini(&a);
}

// ---- hosts

static bool covers(struct slice domain, struct slice name)
{
    if (domain.ptr[0] != '*')
        return slice_eq_nocase(domain, name);
    if (domain.len == 1)
        return true;
    return name.len > domain.len - 1 && slice_has_suffix_nocase(name, slice_from(domain, 1));
}

// Exact before wildcards, longer wildcards before shorter ones, of equals the first.
static const struct virtual_host *find_naive(const struct virtual_host *hosts, uint32_t count,
                                             struct slice name)
{
    const struct virtual_host *best = NULL;
    for (uint32_t i = 0; i < count; i++) {
        struct slice domain = virtual_host_domain(&hosts[i]);
        if (!covers(domain, name))
            continue;
        if (domain.ptr[0] != '*')
            return &hosts[i];
        if (!best || domain.len > virtual_host_domain(best).len)
            best = &hosts[i];
    }
    return best;
}

static struct slice random_name(struct arena *a, bool wildcard)
{
    static const char *const labels[] = {"a", "B", "a-b", "com", "x"};
    char text[64];
    size_t n = 0;
    if (wildcard && below(8) == 0)
        return SLICE("*");
    for (uint32_t i = 0, count = 1 + below(4); i < count; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s", i ? "." : "",
                              wildcard && i == 0 ? (below(4) ? "*" : "*-b") : labels[below(5)]);
    if (wildcard && n == 1)
        return SLICE("*");
    return arena_dup(a, (struct slice){text, n});
}

static bool hosts_agree(void)
{
    struct arena a;
    bool ok = true;
    arena_init(&a, 0);
    uint32_t count = 1 + below(30);
    struct virtual_host *hosts = virtual_hosts_create(&a, count);
    struct virtual_host **list = arena_array(&a, struct virtual_host *, count);
    for (uint32_t i = 0; i < count; i++) {
        virtual_host_set_domain(&hosts[i], &a, random_name(&a, below(2)), 80);
        list[i] = &hosts[i];
    }
    const struct host_index *x = host_index_create(&a, list, count);
    for (uint32_t i = 0; i < 100 && ok; i++) {
        struct slice name = random_name(&a, false);
        const struct virtual_host *got = host_index_find(x, name);
        const struct virtual_host *want = find_naive(hosts, count, name);
        ok = (!got && !want) ||
             (got && want && slice_eq_nocase(virtual_host_domain(got), virtual_host_domain(want)));
        if (!ok)
            printf("host %.*s of %u\n", SLICE_FMT(name), count);
    }
    arena_fini(&a);
    return ok;
}

TEST(host_index_agrees_with_its_definition)
{
    uint64_t seed = test_seed();
    bool ok = true;
    rng_init(&test_rng, seed);
    for (uint32_t i = 0; i < 500 && ok; i++)
        ok = hosts_agree();
    if (!ok)
        test_fail(__FILE__, __LINE__, "seed 0x%llx", (unsigned long long)seed);
}
