// `sluice explain -o json`: one object, with the request and what each listener makes of it; rules
// and relays are written as proxy-config writes them. Owns its text only. Main thread.
#include "admin/explain.h"
#include "admin/json.h"
#include "admin/listings_internal.h"
#include "admin/text.h"

#define REPORT_BYTES (64u << 20)

static void member_text(struct text *out, const char *name, const char *value)
{
    json_member_if(out, name, slice_of(value));
}

static void member_status(struct text *out, uint32_t status)
{
    if (status)
        json_member_u64(out, "status", status);
}

static void put_cluster(struct text *out, struct slice name, const struct cluster_config *c,
                        uint32_t status, uint32_t *index)
{
    const char *unreachable = explain_unreachable(c);
    text_puts(out, (*index)++ ? ",{" : "{");
    json_member(out, "cluster", name);
    json_key(out, "endpoints");
    text_char(out, '[');
    for (uint32_t i = 0; !unreachable && i < c->endpoint_count; i++) {
        text_puts(out, i ? "," : "");
        text_json(out, c->endpoints[i].text);
    }
    text_char(out, ']');
    if (unreachable)
        member_status(out, status);
    member_text(out, "answer", unreachable);
    text_char(out, '}');
}

// Of all destinations that the request may get to.
static void put_clusters(struct text *out, const struct explain_verdict *v)
{
    const struct filter_chain *chain = v->chain;
    uint32_t index = 0;
    json_key(out, "clusters");
    text_char(out, '[');
    for (uint32_t i = 0; v->route && i < v->route->target_count; i++)
        put_cluster(out, v->route->targets[i].cluster_name, v->route->targets[i].cluster, 503,
                    &index);
    for (uint32_t i = 0; chain && !chain->routes && i < chain->rule_count; i++)
        for (uint32_t k = 0; k < chain->rules[i].target_count; k++)
            put_cluster(out, chain->rules[i].targets[k].cluster_name,
                        chain->rules[i].targets[k].cluster, 0, &index);
    text_char(out, ']');
}

static void put_chain(struct text *out, const struct filter_chain *c)
{
    json_member(out, "chain", c->name);
    json_member_bool(out, "terminates_tls", c->terminates_tls);
    if (c->routes)
        return;
    json_key(out, "relays");
    text_char(out, '[');
    for (uint32_t i = 0; i < c->rule_count; i++) {
        text_puts(out, i ? "," : "");
        listing_json_relay(out, &c->rules[i]);
    }
    text_char(out, ']');
}

static void put_verdict(struct text *out, const struct explain_verdict *v)
{
    text_char(out, '{');
    json_member_addr(out, "address", &v->listener->addr);
    json_member_bool(out, "udp", v->listener->udp);
    json_member_u64(out, "server_port", v->listener->server_port);
    json_member(out, "gateways", v->listener->gateways);
    if (v->chain)
        put_chain(out, v->chain);
    if (v->host) {
        json_member(out, "virtual_host", virtual_host_name(v->host));
        json_member(out, "domain", virtual_host_domain(v->host));
    }
    if (v->route) {
        json_key(out, "rule");
        listing_json_route(out, v->route);
    }
    put_clusters(out, v);
    member_text(out, "host_sent", v->host_sent);
    member_text(out, "path_sent", v->path_sent);
    member_status(out, v->status);
    member_text(out, "location", v->location);
    member_text(out, "answer", v->answer);
    json_member_bool(out, "matched", v->led);
    text_char(out, '}');
}

void explain_print_json(const struct explain *e)
{
    struct text out;
    text_init(&out, REPORT_BYTES);
    text_puts(&out, "{\"request\":{");
    member_text(&out, "method", e->o->method);
    member_text(&out, "host", e->o->host);
    json_member(&out, "path", e->target);
    json_member(&out, "server_name", e->sni);
    text_puts(&out, "},\"listeners\":[");
    for (uint32_t i = 0; i < e->count; i++) {
        text_puts(&out, i ? ",\n" : "\n");
        put_verdict(&out, &e->verdicts[i]);
    }
    text_char(&out, ']');
    member_status(&out, e->status);
    member_text(&out, "answer", e->answer);
    text_puts(&out, "}\n");
    fwrite(out.data, 1, out.len, stdout);
    text_fini(&out);
}
