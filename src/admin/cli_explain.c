// `sluice explain`: walks one request through the compiled documents and notes what happens at
// each step. Offline; the same functions as the gateway itself uses. Main thread.
#include "admin/explain.h"
#include "route/compile.h"
#include "route/regex.h"
#include "tls/cert.h"

#define LOCATION_MAX 16384u

const char *explain_unreachable(const struct cluster_config *c)
{
    return !c ? "no Service or ServiceEntry has this host and port, or the subset is unknown "
                "(flag NC)"
           : c->endpoint_count == 0 ? "the cluster has no endpoint (flag UH)"
                                    : NULL;
}

static void answer(struct explain_verdict *v, uint32_t status, const char *why)
{
    v->status = status;
    v->answer = why;
}

// ---- what a rule does

static void note_rewrite(struct explain *e, struct explain_verdict *v)
{
    const struct route *r = v->route;
    size_t len, cap = e->rq.path.len + e->rq.query.len + r->rewrite_uri_text.len + 8192;
    if (r->rewrite_authority.len)
        v->host_sent = arena_printf(&e->arena, "%.*s", SLICE_FMT(r->rewrite_authority));
    if (!r->rewrite_uri && !r->rewrite_regex)
        return;
    char *out = arena_alloc(&e->arena, cap + 1);
    if (route_rewrite_path(r, &e->rq, out, cap, &len) != OK)
        return;
    out[len] = '\0';
    v->path_sent = out;
}

static void note_redirect(struct explain *e, struct explain_verdict *v)
{
    char *out = arena_alloc(&e->arena, LOCATION_MAX + 1);
    size_t len;
    uint16_t code = v->route->redirect.code;
    if (route_redirect_location(v->route, &e->rq, v->listener->server_port, out, LOCATION_MAX,
                                &len) != OK) {
        answer(v, 431, "the location is too long");
        return;
    }
    out[len] = '\0';
    v->location = out;
    v->status = code ? code : 301;
}

static void note_rule(struct explain *e, struct explain_verdict *v)
{
    const struct route *r = v->route;
    switch (r->action) {
    case ROUTE_FORWARD:
        note_rewrite(e, v);
        if (r->target_count == 0)
            answer(v, 503, "the rule has no destination");
        break;
    case ROUTE_REDIRECT:
        note_redirect(e, v);
        break;
    case ROUTE_DIRECT_RESPONSE:
        answer(v, r->direct_status,
               arena_printf(&e->arena, "the rule's directResponse, %zu bytes", r->direct_body.len));
        break;
    default:
        answer(v, 404, "the rule does nothing");
    }
}

// ---- the way to a rule

static void walk_routes(struct explain *e, struct explain_verdict *v)
{
    v->host = route_find_host(v->chain->routes, e->rq.authority);
    if (!v->host) {
        answer(v, 404, arena_printf(&e->arena, "no virtual host covers %s (flag NR)", e->o->host));
        return;
    }
    if (virtual_host_https_redirect(v->host)) {
        v->led = true;
        v->location = arena_printf(&e->arena, "https://%s%s", e->o->host, e->o->path);
        answer(v, 301, "the server has httpsRedirect");
        return;
    }
    v->route = route_match(v->host, &e->rq);
    v->led = v->route != NULL;
    if (v->route)
        note_rule(e, v);
    else
        answer(v, 404, "no rule of this virtual host matches (flag NR)");
}

static void walk(struct explain *e, struct explain_verdict *v)
{
    const struct listener_config *l = v->listener;
    v->chain = l->tls ? chain_find(&l->by_name, l->any, e->sni) : l->any;
    if (!v->chain)
        v->answer =
            arena_printf(&e->arena, "closed: no filter chain is for the server name \"%.*s\"",
                         SLICE_FMT(e->sni));
    else if (!v->chain->routes)
        v->led = true;
    else if (v->chain->terminates_tls &&
             !chain_covers(v->chain, &l->by_name, l->any, e->rq.authority))
        answer(v, 421, "the host is outside the server of this connection");
    else
        walk_routes(e, v);
}

static bool asked_for(const struct cli_options *o, const struct listener_config *l)
{
    return !o->port || o->port == l->server_port || o->port == addr_port(&l->addr);
}

static void walk_all(struct explain *e)
{
    e->verdicts = arena_array(&e->arena, struct explain_verdict, e->routes.listener_count);
    for (uint32_t i = 0; i < e->routes.listener_count; i++) {
        if (!asked_for(e->o, e->routes.listeners[i]))
            continue;
        struct explain_verdict *v = &e->verdicts[e->count++];
        *v = (struct explain_verdict){.listener = e->routes.listeners[i]};
        walk(e, v);
    }
    if (e->count == 0 && e->o->port)
        e->answer = arena_printf(&e->arena, "nothing listens on port %u", e->o->port);
    else if (e->count == 0)
        e->answer = "nothing listens: the documents have no Gateway that this node serves (see "
                    "--labels)";
}

// ---- the request

// What a client would name: --sni, else the host without its port; an address is no server name.
static struct slice server_name_of(struct explain *e)
{
    struct addr address;
    struct slice name = slice_of(e->o->sni ? e->o->sni : e->o->host);
    ptrdiff_t colon = slice_find(name, ':');
    if (!e->o->sni && colon >= 0)
        name.len = (size_t)colon;
    if (!e->o->sni && addr_parse(name, 0, &address) == OK)
        name.len = 0;
    return compile_lower(&e->arena, name);
}

static bool make_request(struct explain *e)
{
    const struct cli_options *o = e->o;
    size_t len, path_len;
    char *path = arena_alloc(&e->arena, strlen(o->path) + 1);
    e->target = slice_of(o->path);
    e->sni = server_name_of(e);
    e->rq = (struct route_request){
        .authority = slice_of(o->host),
        .method = slice_of(o->method),
        .scheme = SLICE("http"),
        .headers = o->headers,
        .header_count = o->header_count,
        .worker = REGEX_CONTROL,
    };
    if (route_normalize_path(e->target, path, &len, &path_len) != OK) {
        e->status = 400;
        e->answer = "the path is not valid";
        return false;
    }
    e->target = (struct slice){path, len};
    e->rq.path = (struct slice){path, path_len};
    if (len > path_len)
        e->rq.query = (struct slice){path + path_len + 1, len - path_len - 1};
    return true;
}

static bool is_led(const struct explain *e)
{
    for (uint32_t i = 0; i < e->count; i++)
        if (e->verdicts[i].led)
            return true;
    return false;
}

int cli_explain(const struct cli_options *o)
{
    struct explain e = {.o = o};
    struct findings findings;
    struct model *m = NULL;
    struct load_options load = {.strict = o->strict,
                                .labels = o->labels,
                                .regex_is_valid = regex_is_valid,
                                .credential_is_valid = cert_is_valid};
    struct compile_options compile = {.labels = o->labels};
    findings_init(&findings);
    arena_init(&e.arena, 0);
    if (load_documents(o->inputs, o->input_count, &load, &m, &findings) == OK &&
        route_compile(m, &compile, &e.arena, &findings, &e.routes) == OK) {
        if (make_request(&e))
            walk_all(&e);
        (o->json ? explain_print_json : explain_print)(&e);
    } else {
        findings_sort(&findings);
        findings_print(&findings, stderr);
        fprintf(stderr, "sluice: nothing to explain: the documents have errors\n");
    }
    int status = is_led(&e) ? CLI_EXIT_OK : CLI_EXIT_FAILED;
    route_config_fini(&e.routes);
    arena_fini(&e.arena);
    model_destroy(m);
    findings_fini(&findings);
    return status;
}
