#include "fixture.h"
#include "core/check.h"
#include <stdlib.h>

static struct label_map parse_labels(struct arena *a, const char *text)
{
    struct label_map out = {0};
    struct slice rest = slice_of(text), part;
    out.items = arena_array(a, struct label, 8);
    while (text && slice_split(&rest, ',', &part)) {
        ptrdiff_t eq = slice_find(part, '=');
        check(eq >= 0 && out.count < 8);
        out.items[out.count++] = (struct label){.key = {part.ptr, (size_t)eq},
                                                .value = slice_from(part, (size_t)eq + 1)};
    }
    return out;
}

// One for each sni, never looked into.
static struct tls_ctx *client_tls(void *arg, const struct client_tls *t)
{
    (void)arg;
    return slice_eq(t->sni, SLICE("broken")) ? NULL
                                             : (struct tls_ctx *)(uintptr_t)(64 + t->sni.len);
}

void compiled_init(struct compiled *c, const char *yaml, const char *labels)
{
    struct model *m = NULL;
    const struct load_options load = {0};
    arena_init(&c->arena, 0);
    findings_init(&c->findings);
    if (load_text("test.yaml", "default", slice_of(yaml), &load, &m, &c->findings) != OK)
        findings_print(&c->findings, stdout); // documents in error are left out
    struct compile_options options = {.labels = parse_labels(&c->arena, labels),
                                      .client_tls = client_tls};
    check(m && route_compile(m, &options, &c->arena, &c->findings, &c->config) == OK);
    model_destroy(m);
}

void compiled_fini(struct compiled *c)
{
    route_config_fini(&c->config);
    findings_fini(&c->findings);
    arena_fini(&c->arena);
}

const struct listener_config *compiled_listener(const struct compiled *c, const char *name)
{
    for (uint32_t i = 0; i < c->config.listener_count; i++)
        if (slice_eq(c->config.listeners[i]->name, slice_of(name ? name : "0.0.0.0_80")))
            return c->config.listeners[i];
    return NULL;
}

const struct cluster_config *compiled_cluster(const struct compiled *c, const char *name)
{
    return map_get(&c->config.clusters.by_name, slice_of(name));
}

const char *compiled_endpoints(const struct compiled *c, const char *name)
{
    static char out[512];
    size_t len = 0;
    const struct cluster_config *cluster = compiled_cluster(c, name);
    if (!cluster)
        return "no cluster";
    out[0] = '\0';
    for (uint32_t i = 0; i < cluster->endpoint_count; i++)
        len += (size_t)snprintf(out + len, sizeof(out) - len, "%s%.*s", i ? " " : "",
                                SLICE_FMT(cluster->endpoints[i].text));
    return out;
}

bool compiled_has_finding(const struct compiled *c, const char *part)
{
    for (uint32_t i = 0; i < c->findings.count; i++)
        if (strstr(c->findings.items[i].message, part))
            return true;
    return false;
}

struct route_request compiled_request(const char *host, const char *path)
{
    struct slice p = slice_of(path), q = {NULL, 0};
    ptrdiff_t mark = slice_find(p, '?');
    if (mark >= 0) {
        q = slice_from(p, (size_t)mark + 1);
        p.len = (size_t)mark;
    }
    return (struct route_request){.authority = slice_of(host),
                                  .path = p,
                                  .query = q,
                                  .method = SLICE("GET"),
                                  .scheme = SLICE("http"),
                                  .worker = REGEX_CONTROL};
}

const struct route *compiled_route(const struct compiled *c, const char *host,
                                   const struct route_request *rq)
{
    const struct listener_config *l = compiled_listener(c, NULL);
    const struct virtual_host *vh = l ? route_find_host(l->any->routes, slice_of(host)) : NULL;
    return vh ? route_match(vh, rq) : NULL;
}

const char *compiled_answer(const struct compiled *c, const char *listener, const char *host,
                            const char *path)
{
    const struct listener_config *l = compiled_listener(c, listener);
    struct route_request rq = compiled_request(host, path);
    if (!l)
        return "no listener";
    const struct virtual_host *vh = route_find_host(l->any->routes, rq.authority);
    if (vh && virtual_host_https_redirect(vh))
        return "https";
    const struct route *r = vh ? route_match(vh, &rq) : NULL;
    if (!r)
        return "404";
    if (r->name.len)
        return r->name.ptr;
    return r->target_count ? r->targets[0].cluster_name.ptr : "no target";
}
