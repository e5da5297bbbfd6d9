// What routing costs by the number of routes: the time of a match (authority to virtual host to
// route), the time to compile, and the memory a route takes. Documents of several shapes are
// compiled as they would be on a reload; requests are drawn at random, so that large tables miss
// the cache as they would in service. Times are of this process's CPU.
//   micro-route_match [LARGEST [SHAPE]]
#include "core/check.h"
#include "route/many.h"
#include "route/route.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define REQUESTS 65536u // different requests, visited in order; drawn at random beforehand
#define ROUND_NS 20000000u
#define ROUNDS 8u

static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint32_t draw(uint32_t n)
{
    static uint64_t state = 42;
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)((state >> 33) % n);
}

static struct route_request *make_requests(struct arena *a, const struct many *s, uint32_t n)
{
    struct route_request *rq = arena_array(a, struct route_request, REQUESTS);
    for (uint32_t i = 0; i < REQUESTS; i++) {
        uint32_t k = draw(n);
        rq[i] = (struct route_request){.authority = many_text(a, s->request_host, k),
                                       .path = many_text(a, s->request_path, k),
                                       .method = SLICE("GET"),
                                       .scheme = SLICE("http"),
                                       .worker = REGEX_CONTROL};
        if (!s->by_header)
            continue;
        struct route_header *h = arena_new(a, struct route_header);
        *h = (struct route_header){SLICE("x-tenant"), many_text(a, "tenant-%u", k)};
        rq[i].headers = h;
        rq[i].header_count = 1;
    }
    return rq;
}

// ---- measuring

struct result {
    double ns, compile_ms, bytes;
};

// The best round: the machine may be shared, and the table is what is measured.
static double time_matches(const struct route_config *config, const struct route_request *rq)
{
    const struct route_table *t = config->listeners[0]->any->routes;
    double best = 1e18;
    uint32_t at = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint64_t begin = cpu_ns(), end = begin, count = 0;
        while (end - begin < ROUND_NS) {
            for (uint32_t i = 0; i < 256; i++, at = (at + 1) % REQUESTS) {
                const struct virtual_host *vh = route_find_host(t, rq[at].authority);
                check(vh && route_match(vh, &rq[at]));
            }
            count += 256;
            end = cpu_ns();
        }
        double ns = (double)(end - begin) / (double)count;
        best = ns < best ? ns : best;
    }
    return best;
}

static struct result measure(const struct many *s, uint32_t n)
{
    struct result out;
    struct model m;
    struct arena documents, compiled, requests;
    struct findings findings;
    struct route_config config;
    const struct compile_options options = {0};
    arena_init(&documents, 0);
    arena_init(&compiled, 0);
    arena_init(&requests, 0);
    findings_init(&findings);
    many_make(&m, &documents, s, n);
    uint64_t begin = cpu_ns();
    check(route_compile(&m, &options, &compiled, &findings, &config) == OK);
    out.compile_ms = (double)(cpu_ns() - begin) / 1e6;
    out.bytes = (double)compiled.used_bytes / n;
    check(config.route_count == n && findings.count == 0);
    arena_fini(&documents);
    out.ns = time_matches(&config, make_requests(&requests, s, n));
    route_config_fini(&config);
    findings_fini(&findings);
    arena_fini(&compiled);
    arena_fini(&requests);
    return out;
}

int main(int argc, char **argv)
{
    static const uint32_t sizes[] = {1, 100, 10000, 1000000};
    uint32_t largest = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1000000;
    const char *wanted = argc > 2 ? argv[2] : "";
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("%-22s %9s %11s %12s %13s\n", "", "routes", "ns a match", "ms to compile",
           "bytes a route");
    for (size_t i = 0; i < MANY_SHAPES; i++) {
        const struct many *s = &many_shapes[i];
        for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]) && sizes[k] <= largest; k++) {
            if (!strstr(s->name, wanted) || (s->largest && sizes[k] > s->largest))
                continue;
            struct result r = measure(s, sizes[k]);
            printf("%-22s %9u %11.1f %13.1f %13.0f\n", s->name, sizes[k], r.ns, r.compile_ms,
                   r.bytes);
        }
    }
    return 0;
}
