// `sluice explain` for a reader: a line for each step. Owns nothing. Main thread.
#include "admin/explain.h"

#define SHOWN_MAX 20u

__attribute__((format(printf, 2, 3))) static void line(const char *what, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    printf("%-14s", what);
    vprintf(fmt, ap);
    putchar('\n');
    va_end(ap);
}

static void print_more(uint32_t count)
{
    if (count > SHOWN_MAX)
        line("", "… and %u more", count - SHOWN_MAX);
}

// ---- where it goes

static void print_cluster(const struct cluster_config *c, const char *answer)
{
    const char *unreachable = explain_unreachable(c);
    if (unreachable)
        line("answer", "%s: %s", answer, unreachable);
    for (uint32_t i = 0; !unreachable && i < c->endpoint_count; i++)
        line(i ? "" : "endpoints", "%.*s", SLICE_FMT(c->endpoints[i].text));
}

static void print_target(const struct route *r, const struct route_target *t)
{
    char share[48] = "";
    if (r->target_count > 1)
        snprintf(share, sizeof(share), ", weight %u of %u", t->weight, r->total_weight);
    line("cluster", "%.*s%s", SLICE_FMT(t->cluster_name), share);
    print_cluster(t->cluster, "503");
}

static void print_forward(const struct explain_verdict *v)
{
    const struct route *r = v->route;
    if (v->host_sent)
        line("host sent", "%s", v->host_sent);
    if (v->path_sent)
        line("path sent", "%s", v->path_sent);
    if (r->timeout_ns)
        line("timeout", "%g s", (double)r->timeout_ns / 1e9);
    line("retries", "%u", r->retry.attempts);
    for (uint32_t i = 0; i < r->target_count; i++)
        print_target(r, &r->targets[i]);
}

static void print_position(const char *what, const struct pos *pos, const char *rest)
{
    line(what, "%s:%u:%u  %s", pos->file ? pos->file : "-", pos->line, pos->column, rest);
}

static void print_rule(const struct route *r)
{
    line("rule", "%s:%u:%u  %.*s%s%.*s%s  match %.*s", r->pos.file ? r->pos.file : "-", r->pos.line,
         r->pos.column, SLICE_FMT(r->virtual_service), r->name.len ? " (" : "", SLICE_FMT(r->name),
         r->name.len ? ")" : "", SLICE_FMT(r->match_text));
}

static void print_relay(const struct filter_chain *chain, bool udp)
{
    for (uint32_t i = 0; i < chain->rule_count; i++) {
        const struct l4_rule *r = &chain->rules[i];
        print_position("relay", &r->pos, r->virtual_service.ptr);
        for (uint32_t k = 0, before = 0; k < r->target_count; before = r->targets[k++].weight_end) {
            const struct l4_target *t = &r->targets[k];
            line("cluster", "%.*s, weight %u of %u", SLICE_FMT(t->cluster_name),
                 t->weight_end - before, r->total_weight);
            print_cluster(t->cluster, udp ? "dropped" : "closed");
        }
    }
}

// ---- what there is instead

static void print_chains(const struct listener_config *l)
{
    for (uint32_t i = 0; i < l->chain_count && i < SHOWN_MAX; i++) {
        const struct filter_chain *c = l->chains[i];
        line(i ? "" : "chains here", "%.*s: %.*s%s", SLICE_FMT(c->name),
             SLICE_FMT(c->name_count ? c->names[0] : SLICE("every name")),
             c->name_count > 1 ? ", …" : "");
    }
    print_more(l->chain_count);
}

static void print_hosts(const struct route_table *t)
{
    for (uint32_t i = 0; i < t->host_count && i < SHOWN_MAX; i++) {
        struct slice d = virtual_host_domain(t->hosts[i]);
        line(i ? "" : "hosts here", "%.*s", SLICE_FMT(d));
    }
    print_more(t->host_count);
}

static void print_rules(const struct virtual_host *vh)
{
    uint32_t n = virtual_host_route_count(vh);
    for (uint32_t i = 0; i < n && i < SHOWN_MAX; i++) {
        const struct route *r = virtual_host_route(vh, i);
        print_position(i ? "" : "rules here", &r->pos, r->match_text.ptr);
    }
    print_more(n);
}

// ---- a listener

static void print_answer(const struct explain_verdict *v)
{
    if (v->location)
        line("answer", "%u, location: %s%s%s%s", v->status, v->location, v->answer ? " (" : "",
             v->answer ? v->answer : "", v->answer ? ")" : "");
    else if (v->status)
        line("answer", "%u: %s", v->status, v->answer);
    else if (v->answer)
        line("answer", "%s", v->answer);
}

static void print_way(const struct explain *e, const struct explain_verdict *v)
{
    struct slice name, domain;
    if (v->chain && v->listener->tls)
        line("chain", "%.*s (server name \"%.*s\", TLS %s)", SLICE_FMT(v->chain->name),
             SLICE_FMT(e->sni), v->chain->terminates_tls ? "ends here" : "is passed through");
    if (v->host) {
        name = virtual_host_name(v->host);
        domain = virtual_host_domain(v->host);
        line("virtual host", "%.*s (hosts: %.*s)", SLICE_FMT(name), SLICE_FMT(domain));
    }
    if (v->route)
        print_rule(v->route);
    if (v->route && v->route->action == ROUTE_FORWARD)
        print_forward(v);
    if (v->chain && !v->chain->routes)
        print_relay(v->chain, v->listener->udp);
}

static void print_verdict(const struct explain *e, const struct explain_verdict *v)
{
    char text[ADDR_TEXT_MAX];
    const struct listener_config *l = v->listener;
    size_t n = addr_format(&l->addr, text, sizeof(text), true);
    line("listener", "%.*s%s (server port %u, gateways %.*s)", (int)n, text, l->udp ? " UDP" : "",
         l->server_port, SLICE_FMT(l->gateways));
    print_way(e, v);
    print_answer(v);
    if (!v->chain)
        print_chains(l);
    else if (v->status == 404 && !v->host)
        print_hosts(v->chain->routes);
    else if (v->status == 404 && !v->route)
        print_rules(v->host);
}

void explain_print(const struct explain *e)
{
    if (e->status != 400)
        line("request", "%s %s%.*s", e->o->method, e->o->host, SLICE_FMT(e->target));
    for (uint32_t i = 0; i < e->count; i++) {
        if (i)
            putchar('\n');
        print_verdict(e, &e->verdicts[i]);
    }
    if (e->status)
        line("answer", "%u: %s", e->status, e->answer);
    else if (e->answer)
        line("answer", "%s", e->answer);
}
