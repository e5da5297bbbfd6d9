// Random documents and requests: the compiled, indexed tables find what the reference finds. A
// failure prints the seed of the one table it happened in; SLUICE_TEST_SEED repeats that one first.
#include "core/check.h"
#include "generate.h"
#include "random.h"
#include "reference.h"
#include "test.h"

#define TABLES 400
#define REQUESTS 25

// "VS.NS RULE[.BLOCK]", as a compiled route names itself.
static const char *chosen_text(struct arena *a, const struct chosen *c)
{
    if (!c->vs)
        return "404";
    struct slice block = c->block ? c->block->name : SLICE("");
    return arena_printf(a, "%.*s.%.*s %.*s%s%.*s", SLICE_FMT(c->vs->meta.name),
                        SLICE_FMT(c->vs->meta.ns), SLICE_FMT(c->rule->name), block.len ? "." : "",
                        SLICE_FMT(block));
}

static const char *matched_text(struct arena *a, const struct route_config *rc, uint32_t number,
                                const struct route_request *rq)
{
    const struct listener_config *l = NULL;
    for (uint32_t i = 0; i < rc->listener_count; i++)
        if (rc->listeners[i]->server_port == number)
            l = rc->listeners[i];
    const struct virtual_host *vh = l ? route_find_host(l->any->routes, rq->authority) : NULL;
    const struct route *r = vh ? route_match(vh, rq) : NULL;
    return r ? arena_printf(a, "%.*s %.*s", SLICE_FMT(r->virtual_service), SLICE_FMT(r->name))
             : "404";
}

static void print_request(const struct route_request *rq, uint32_t number, const char *want,
                          const char *got)
{
    printf("  port %u, \"%.*s\" %.*s \"%.*s\" query \"%.*s\"", number, SLICE_FMT(rq->authority),
           SLICE_FMT(rq->method), SLICE_FMT(rq->path), SLICE_FMT(rq->query));
    for (uint32_t i = 0; i < rq->header_count; i++)
        printf(", %.*s: %.*s", SLICE_FMT(rq->headers[i].name), SLICE_FMT(rq->headers[i].value));
    printf("\n  is %s, should be %s\n", got, want);
}

static void print_match(const char *what, struct slice name, const struct string_match *m)
{
    static const char *const kinds[] = {"any", "exact", "prefix", "regex"};
    if (m)
        printf(" %s %.*s %s \"%.*s\",", what, SLICE_FMT(name), kinds[m->kind], SLICE_FMT(m->text));
}

static void print_block(const struct http_match *m)
{
    const struct slice none = SLICE("");
    printf("  its match:%s", m->ignore_uri_case ? " any case," : "");
    print_match("uri", none, m->uri);
    print_match("method", none, m->method);
    print_match("authority", none, m->authority);
    print_match("scheme", none, m->scheme);
    for (uint32_t i = 0; i < m->headers.count; i++)
        print_match("header", m->headers.items[i].name, &m->headers.items[i].match);
    for (uint32_t i = 0; i < m->without_headers.count; i++)
        print_match("without", m->without_headers.items[i].name,
                    &m->without_headers.items[i].match);
    for (uint32_t i = 0; i < m->query_params.count; i++)
        print_match("query", m->query_params.items[i].name, &m->query_params.items[i].match);
    putchar('\n');
}

static bool table_agrees(uint64_t seed, uint32_t *hits)
{
    struct arena a, out;
    struct findings findings;
    struct route_config config;
    struct model m = {0};
    const struct compile_options options = {0};
    bool ok = true;
    arena_init(&a, 0);
    arena_init(&out, 0);
    findings_init(&findings);
    rng_init(&test_rng, seed);
    generate_model(&m, &a);
    check(route_compile(&m, &options, &out, &findings, &config) == OK);
    for (uint32_t i = 0; i < REQUESTS && ok; i++) {
        struct route_request rq = generate_request(&a);
        uint32_t number = 80 + one_in(4);
        struct chosen want = reference_find(&a, &m, number, &rq);
        const char *expected = chosen_text(&a, &want);
        const char *got = matched_text(&a, &config, number, &rq);
        ok = strcmp(expected, got) == 0;
        *hits += want.vs != NULL;
        if (!ok)
            print_request(&rq, number, expected, got);
        if (!ok && want.block)
            print_block(want.block);
    }
    route_config_fini(&config);
    findings_fini(&findings);
    arena_fini(&out);
    arena_fini(&a);
    return ok;
}

TEST(routes_are_those_of_the_reference)
{
    uint64_t seed = test_seed();
    uint32_t hits = 0;
    for (uint32_t i = 0; i < TABLES; i++) {
        if (table_agrees(seed + i, &hits))
            continue;
        test_fail(__FILE__, __LINE__, "SLUICE_TEST_SEED=0x%llx", (unsigned long long)(seed + i));
        return;
    }
    EXPECT(hits > TABLES * REQUESTS / 10); // it is not all 404
    EXPECT(hits < TABLES * REQUESTS * 9 / 10);
}
