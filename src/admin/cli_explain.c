// `sluice explain`: walks one request through the compiled documents and says what happens at
// each step. Offline; the same functions as the gateway itself uses. Main thread.
#include "admin/cli.h"
#include "core/check.h"
#include "route/compile.h"
#include "route/regex.h"
#include "tls/cert.h"
#include <stdlib.h>

struct explain {
    const struct cli_options *o;
    struct route_config routes;
    struct route_request rq;
    struct arena arena;
    struct slice sni; // lower case
    char *path;       // normalised
    bool *led;        // the request meets a rule, a relay or a redirect
};

__attribute__((format(printf, 2, 3))) static void line(const char *what, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    printf("%-14s", what);
    vprintf(fmt, ap);
    putchar('\n');
    va_end(ap);
}

// ---- what a rule does

static void print_endpoints(const struct cluster_config *c)
{
    for (uint32_t i = 0; i < c->endpoint_count; i++)
        line(i ? "" : "endpoints", "%.*s", SLICE_FMT(c->endpoints[i].text));
}

static void print_target(const struct route *r, const struct route_target *t)
{
    char share[48] = "";
    if (r->target_count > 1)
        snprintf(share, sizeof(share), ", weight %u of %u", t->weight, r->total_weight);
    line("cluster", "%.*s%s", SLICE_FMT(t->cluster_name), share);
    if (!t->cluster)
        line("answer", "503: no Service or ServiceEntry has this host and port, or the subset is "
                       "unknown (flag NC)");
    else if (t->cluster->endpoint_count == 0)
        line("answer", "503: the cluster has no endpoint (flag UH)");
    else
        print_endpoints(t->cluster);
}

static void print_rewrite(const struct explain *e, const struct route *r)
{
    size_t len, cap = e->rq.path.len + e->rq.query.len + r->rewrite_uri_text.len + 8192;
    if (r->rewrite_authority.len)
        line("host sent", "%.*s", SLICE_FMT(r->rewrite_authority));
    if (!r->rewrite_uri && !r->rewrite_regex)
        return;
    char *out = malloc(cap);
    check(out);
    if (route_rewrite_path(r, &e->rq, out, cap, &len) == OK)
        line("path sent", "%.*s", (int)len, out);
    free(out);
}

static void print_forward(const struct explain *e, const struct route *r)
{
    print_rewrite(e, r);
    if (r->timeout_ns)
        line("timeout", "%g s", (double)r->timeout_ns / 1e9);
    line("retries", "%u", r->retry.attempts);
    for (uint32_t i = 0; i < r->target_count; i++)
        print_target(r, &r->targets[i]);
    if (r->target_count == 0)
        line("answer", "503: the rule has no destination");
}

static void print_redirect(const struct explain *e, const struct route *r, uint32_t server_port)
{
    char out[16384];
    size_t len;
    if (route_redirect_location(r, &e->rq, server_port, out, sizeof(out), &len) == OK)
        line("answer", "%u, location: %.*s", r->redirect.code ? r->redirect.code : 301u, (int)len,
             out);
    else
        line("answer", "431: the location is too long");
}

static void print_rule(const struct explain *e, const struct route *r, uint32_t server_port)
{
    line("rule", "%s:%u:%u  %.*s%s%.*s%s  match %.*s", r->pos.file ? r->pos.file : "-", r->pos.line,
         r->pos.column, SLICE_FMT(r->virtual_service), r->name.len ? " (" : "", SLICE_FMT(r->name),
         r->name.len ? ")" : "", SLICE_FMT(r->match_text));
    switch (r->action) {
    case ROUTE_FORWARD:
        print_forward(e, r);
        break;
    case ROUTE_REDIRECT:
        print_redirect(e, r, server_port);
        break;
    case ROUTE_DIRECT_RESPONSE:
        line("answer", "%u: the rule's directResponse, %zu bytes", r->direct_status,
             r->direct_body.len);
        break;
    default:
        line("answer", "404: the rule does nothing");
    }
}

// ---- the way to a rule

static void print_other_hosts(const struct route_table *t)
{
    uint32_t shown = t->host_count < 20 ? t->host_count : 20;
    for (uint32_t i = 0; i < shown; i++) {
        struct slice d = virtual_host_domain(t->hosts[i]);
        line(i ? "" : "hosts here", "%.*s", SLICE_FMT(d));
    }
    if (shown < t->host_count)
        line("", "… and %u more", t->host_count - shown);
}

static void print_rules(const struct virtual_host *vh)
{
    uint32_t n = virtual_host_route_count(vh), shown = n < 20 ? n : 20;
    for (uint32_t i = 0; i < shown; i++) {
        const struct route *r = virtual_host_route(vh, i);
        line(i ? "" : "rules here", "%s:%u:%u  %.*s", r->pos.file ? r->pos.file : "-", r->pos.line,
             r->pos.column, SLICE_FMT(r->match_text));
    }
    if (shown < n)
        line("", "… and %u more", n - shown);
}

static void explain_on(const struct explain *e, const struct listener_config *l,
                       const struct route_table *routes)
{
    const struct virtual_host *vh = route_find_host(routes, e->rq.authority);
    if (!vh) {
        line("answer", "404: no virtual host covers %s (flag NR)", e->o->host);
        print_other_hosts(routes);
        return;
    }
    struct slice name = virtual_host_name(vh), domain = virtual_host_domain(vh);
    line("virtual host", "%.*s (hosts: %.*s)", SLICE_FMT(name), SLICE_FMT(domain));
    if (virtual_host_https_redirect(vh)) {
        *e->led = true;
        line("answer", "301, location: https://%s%s (the server has httpsRedirect)", e->o->host,
             e->o->path);
        return;
    }
    const struct route *r = route_match(vh, &e->rq);
    if (r) {
        *e->led = true;
        print_rule(e, r, l->server_port);
        return;
    }
    line("answer", "404: no rule of this virtual host matches (flag NR)");
    print_rules(vh);
}

static void print_chains(const struct listener_config *l)
{
    uint32_t shown = l->chain_count < 20 ? l->chain_count : 20;
    for (uint32_t i = 0; i < shown; i++) {
        const struct filter_chain *c = l->chains[i];
        line(i ? "" : "chains here", "%.*s: %.*s%s", SLICE_FMT(c->name),
             SLICE_FMT(c->name_count ? c->names[0] : SLICE("every name")),
             c->name_count > 1 ? ", …" : "");
    }
    if (shown < l->chain_count)
        line("", "… and %u more", l->chain_count - shown);
}

static void print_relay(const struct filter_chain *chain)
{
    for (uint32_t i = 0; i < chain->rule_count; i++) {
        const struct l4_rule *r = &chain->rules[i];
        line("relay", "%s:%u:%u  %.*s", r->pos.file ? r->pos.file : "-", r->pos.line, r->pos.column,
             SLICE_FMT(r->virtual_service));
        for (uint32_t k = 0, before = 0; k < r->target_count; before = r->targets[k++].weight_end) {
            const struct l4_target *t = &r->targets[k];
            line("cluster", "%.*s, weight %u of %u", SLICE_FMT(t->cluster_name),
                 t->weight_end - before, r->total_weight);
            if (!t->cluster)
                line("answer", "closed: no Service or ServiceEntry has this host and port, or the "
                               "subset is unknown (flag NC)");
            else if (t->cluster->endpoint_count == 0)
                line("answer", "closed: the cluster has no endpoint (flag UH)");
            else
                print_endpoints(t->cluster);
        }
    }
}

static void explain_chain(const struct explain *e, const struct listener_config *l)
{
    const struct filter_chain *chain = l->any;
    if (l->tls) {
        chain = chain_find(&l->by_name, l->any, e->sni);
        if (!chain) {
            line("answer", "closed: no filter chain is for the server name \"%.*s\"",
                 SLICE_FMT(e->sni));
            print_chains(l);
            return;
        }
        line("chain", "%.*s (server name \"%.*s\", TLS %s)", SLICE_FMT(chain->name),
             SLICE_FMT(e->sni), chain->terminates_tls ? "ends here" : "is passed through");
    }
    if (!chain->routes)
        *e->led = true;
    if (!chain->routes)
        print_relay(chain);
    else if (chain->terminates_tls && !chain_covers(chain, &l->by_name, l->any, e->rq.authority))
        line("answer", "421: the host is outside the server of this connection");
    else
        explain_on(e, l, chain->routes);
}

static bool asked_for(const struct cli_options *o, const struct listener_config *l)
{
    return !o->port || o->port == l->server_port || o->port == addr_port(&l->addr);
}

static void explain_all(const struct explain *e)
{
    char text[ADDR_TEXT_MAX];
    uint32_t seen = 0;
    for (uint32_t i = 0; i < e->routes.listener_count; i++) {
        const struct listener_config *l = e->routes.listeners[i];
        if (!asked_for(e->o, l))
            continue;
        if (seen++)
            putchar('\n');
        size_t n = addr_format(&l->addr, text, sizeof(text), true);
        line("listener", "%.*s%s (server port %u, gateways %.*s)", (int)n, text,
             l->udp ? " UDP" : "", l->server_port, SLICE_FMT(l->gateways));
        explain_chain(e, l);
    }
    if (seen)
        return;
    if (e->o->port)
        line("answer", "nothing listens on port %u", e->o->port);
    else
        line("answer",
             "nothing listens: the documents have no Gateway that this node serves (see --labels)");
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
    struct slice target = slice_of(o->path);
    size_t len, path_len;
    e->path = malloc(target.len + 1);
    check(e->path);
    e->rq = (struct route_request){
        .authority = slice_of(o->host),
        .method = slice_of(o->method),
        .scheme = SLICE("http"),
        .headers = o->headers,
        .header_count = o->header_count,
        .worker = REGEX_CONTROL,
    };
    if (route_normalize_path(target, e->path, &len, &path_len) != OK) {
        line("answer", "400: the path is not valid");
        return false;
    }
    e->rq.path = (struct slice){e->path, path_len};
    e->sni = server_name_of(e);
    if (len > path_len)
        e->rq.query = (struct slice){e->path + path_len + 1, len - path_len - 1};
    line("request", "%s %s%.*s", o->method, o->host, (int)len, e->path);
    return true;
}

int cli_explain(const struct cli_options *o)
{
    bool led = false;
    struct explain e = {.o = o, .led = &led};
    struct findings findings;
    struct model *m = NULL;
    struct load_options load = {.strict = o->strict,
                                .labels = o->labels,
                                .regex_is_valid = regex_is_valid,
                                .credential_is_valid = cert_is_valid};
    struct compile_options compile = {.labels = o->labels};
    int status = CLI_EXIT_FAILED;
    findings_init(&findings);
    arena_init(&e.arena, 0);
    if (load_documents(o->inputs, o->input_count, &load, &m, &findings) == OK &&
        route_compile(m, &compile, &e.arena, &findings, &e.routes) == OK) {
        if (make_request(&e))
            explain_all(&e);
        status = led ? CLI_EXIT_OK : CLI_EXIT_FAILED;
    } else {
        findings_sort(&findings);
        findings_print(&findings, stderr);
        fprintf(stderr, "sluice: nothing to explain: the documents have errors\n");
    }
    free(e.path);
    route_config_fini(&e.routes);
    arena_fini(&e.arena);
    model_destroy(m);
    findings_fini(&findings);
    return status;
}
