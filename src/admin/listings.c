// Listings as tables, and the table of listings. Reads a snapshot, owns nothing. Control thread.
#include "admin/listings_internal.h"
#include "admin/table.h"
#include "core/check.h"
#include <stdio.h>
#include <time.h>

const char *const listing_names[LISTING_COUNT] = {"listeners", "routes", "clusters", "endpoints",
                                                  "secrets"};

static void cell_number(struct table *t, uint32_t n)
{
    char buf[16];
    int len = snprintf(buf, sizeof(buf), "%u", n);
    table_cell(t, (struct slice){buf, (size_t)len});
}

static void cell_or_dash(struct table *t, struct slice s)
{
    table_cell(t, s.len ? s : SLICE("-"));
}

static void cells(struct table *t, const char *const *texts)
{
    for (uint32_t i = 0; i < t->columns; i++)
        table_cell(t, slice_of(texts[i]));
}

// ---- one function a listing: header and rows

static void cell_match(struct table *t, const struct listener_config *l,
                       const struct filter_chain *chain)
{
    char buf[1024];
    struct text text;
    text_init_fixed(&text, buf, sizeof(buf));
    text_puts(&text, l->udp ? "Trans: udp" : chain->name_count ? "SNI: " : "ALL");
    for (uint32_t i = 0; i < chain->name_count; i++)
        text_printf(&text, "%s%.*s", i ? "," : "", SLICE_FMT(chain->names[i]));
    table_cell(t, (struct slice){text.data, text.len});
}

static void put_rule(struct text *text, const struct l4_rule *r)
{
    text_puts(text, r->target_count > 1 ? "Clusters: " : "Cluster: ");
    for (uint32_t i = 0, before = 0; i < r->target_count; before = r->targets[i++].weight_end) {
        text_printf(text, "%s%.*s", i ? ", " : "", SLICE_FMT(r->targets[i].cluster_name));
        if (r->target_count > 1)
            text_printf(text, " (%u of %u)", r->targets[i].weight_end - before, r->total_weight);
    }
}

static void cell_destination(struct table *t, const struct filter_chain *chain)
{
    char buf[4096];
    struct text text;
    text_init_fixed(&text, buf, sizeof(buf));
    if (chain->routes)
        text_printf(&text, "Route: %.*s", SLICE_FMT(chain->routes->name));
    for (uint32_t i = 0; i < chain->rule_count; i++) {
        text_puts(&text, i ? "; " : "");
        put_rule(&text, &chain->rules[i]);
    }
    table_cell(t, (struct slice){text.data, text.len});
}

static void listener_rows(struct table *t, const struct snapshot *s)
{
    char buf[ADDR_TEXT_MAX];
    cells(t, (const char *const[]){"ADDRESSES", "PORT", "MATCH", "DESTINATION"});
    for (uint32_t i = 0; s && i < s->routes.listener_count; i++) {
        const struct listener_config *l = s->routes.listeners[i];
        for (uint32_t k = 0; k < l->chain_count; k++) {
            size_t n = addr_format(&l->addr, buf, sizeof(buf), false);
            table_cell(t, (struct slice){buf, n});
            cell_number(t, addr_port(&l->addr));
            cell_match(t, l, l->chains[k]);
            cell_destination(t, l->chains[k]);
        }
    }
}

static void table_routes(struct table *t, const struct route_table *rt)
{
    for (uint32_t h = 0; h < rt->host_count; h++) {
        const struct virtual_host *vh = rt->hosts[h];
        for (uint32_t i = 0; i < virtual_host_route_count(vh); i++) {
            const struct route *r = virtual_host_route(vh, i);
            table_cell(t, rt->name);
            table_cell(t, virtual_host_name(vh));
            table_cell(t, virtual_host_domain(vh));
            table_cell(t, r->match_text);
            cell_or_dash(t, r->virtual_service);
        }
    }
}

static void route_rows(struct table *t, const struct snapshot *s)
{
    cells(t, (const char *const[]){"NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE"});
    for (uint32_t i = 0; s && i < s->routes.listener_count; i++)
        for (uint32_t k = 0; k < s->routes.listeners[i]->chain_count; k++)
            if (s->routes.listeners[i]->chains[k]->routes)
                table_routes(t, s->routes.listeners[i]->chains[k]->routes);
}

static void cell_port(struct table *t, const struct cluster_config *c)
{
    char buf[16];
    int len = snprintf(buf, sizeof(buf), "%u%s", c->port, c->udp ? "/UDP" : "");
    table_cell(t, (struct slice){buf, (size_t)len});
}

static void cluster_rows(struct table *t, const struct snapshot *s)
{
    cells(t, (const char *const[]){"SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE",
                                   "DESTINATION RULE"});
    for (uint32_t i = 0; s && i < s->routes.clusters.count; i++) {
        const struct cluster_config *c = s->routes.clusters.clusters[i];
        table_cell(t, c->host);
        cell_port(t, c);
        cell_or_dash(t, c->subset);
        table_cell(t, SLICE("outbound"));
        table_cell(t, slice_of(c->type));
        table_cell(t, c->destination_rule);
    }
}

static void endpoint_rows(struct table *t, const struct snapshot *s)
{
    cells(t, (const char *const[]){"ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER"});
    for (uint32_t i = 0; s && i < s->routes.clusters.count; i++) {
        const struct cluster_config *c = s->routes.clusters.clusters[i];
        if (c->endpoint_count == 0) {
            table_cell(t, SLICE("-"));
            table_cell(t, SLICE("NONE"));
            table_cell(t, SLICE("-"));
            table_cell(t, c->name);
        }
        for (uint32_t e = 0; e < c->endpoint_count; e++) {
            table_cell(t, c->endpoints[e].text);
            table_cell(t, SLICE("HEALTHY"));
            table_cell(t, SLICE("-")); // outlierDetection is not served
            table_cell(t, c->name);
        }
    }
}

// As istioctl names them: a Secret is asked for until it has been sent.
const char *listing_secret_type(const struct tls_store_row *r)
{
    return r->is_ca ? "CA" : "Cert Chain";
}

const char *listing_secret_status(const struct tls_store_row *r)
{
    return r->loaded ? "ACTIVE" : "WARMING";
}

size_t listing_secret_time(int64_t at_s, char out[LISTING_TIME_MAX])
{
    time_t at = at_s;
    struct tm tm;
    return gmtime_r(&at, &tm) ? strftime(out, LISTING_TIME_MAX, "%Y-%m-%dT%H:%M:%SZ", &tm) : 0;
}

static void cell_time(struct table *t, const struct tls_store_row *r, int64_t at_s)
{
    char buf[LISTING_TIME_MAX];
    table_cell(t, (struct slice){buf, r->loaded ? listing_secret_time(at_s, buf) : 0});
}

static void secret_rows(struct table *t, const struct snapshot *s)
{
    cells(t, (const char *const[]){"RESOURCE NAME", "TYPE", "STATUS", "VALID CERT", "SERIAL NUMBER",
                                   "NOT AFTER", "NOT BEFORE"});
    for (uint32_t i = 0; s && i < tls_store_row_count(s->tls); i++) {
        const struct tls_store_row *r = tls_store_row(s->tls, i);
        table_cell(t, slice_of(r->name));
        table_cell(t, slice_of(listing_secret_type(r)));
        table_cell(t, slice_of(listing_secret_status(r)));
        table_cell(t, r->loaded && r->valid ? SLICE("true") : SLICE("false"));
        table_cell(t, slice_of(r->serial));
        cell_time(t, r, r->not_after_s);
        cell_time(t, r, r->not_before_s);
    }
}

static const struct {
    void (*rows)(struct table *t, const struct snapshot *s);
    void (*json)(struct text *out, const struct snapshot *s);
    uint32_t columns, gap; // istioctl's, where the gap is 1 for listeners
} kinds[LISTING_COUNT] = {
    [LISTING_LISTENERS] = {listener_rows, listing_json_listeners, 4, 5},
    [LISTING_ROUTES] = {route_rows, listing_json_routes, 5, 5},
    [LISTING_CLUSTERS] = {cluster_rows, listing_json_clusters, 6, 5},
    [LISTING_ENDPOINTS] = {endpoint_rows, listing_json_endpoints, 4, 5},
    [LISTING_SECRETS] = {secret_rows, listing_json_secrets, 7, 5},
};

void listing_write_table(enum listing which, const struct snapshot *s, struct text *out)
{
    struct table t;
    check(which < LISTING_COUNT);
    table_init(&t, kinds[which].columns, kinds[which].gap);
    kinds[which].rows(&t, s);
    table_begin_writing(&t, out);
    kinds[which].rows(&t, s);
}

void listing_write_json(enum listing which, const struct snapshot *s, struct text *out)
{
    check(which < LISTING_COUNT);
    kinds[which].json(out, s);
    text_char(out, '\n');
}

void listing_write_dump(const struct snapshot *s, struct text *out)
{
    text_printf(out, "{\"generation\":%llu,\"build_ms\":%.3f",
                (unsigned long long)(s ? s->generation : 0), s ? (double)s->built_ns / 1e6 : 0.0);
    for (uint32_t i = 0; i < LISTING_COUNT; i++) {
        text_printf(out, ",\n\"%s\":", listing_names[i]);
        kinds[i].json(out, s);
    }
    text_puts(out, "}\n");
}
