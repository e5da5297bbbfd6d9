// What the admin ports answer. Owns the HTTP server; reads the runtime. Control thread, which is
// also the one that publishes snapshots, so the current one may be read without ceremony.
#include "admin/admin.h"
#include "admin/http_server.h"
#include "admin/listings.h"
#include "admin/metrics.h"
#include "core/check.h"
#include "core/listener.h"
#include "core/log.h"
#include <errno.h>
#include <stdlib.h>

enum site { SITE_ADMIN, SITE_STATUS, SITE_METRICS };
#define ON(site) (1u << (site))

struct admin {
    struct runtime *runtime;
    struct http_server *server;
    const struct access_log *access_log;
};

struct page {
    const char *path, *help;
    uint32_t sites;
    bool post; // changes something
    void (*write)(struct admin *a, const struct http_request *rq, struct http_reply *reply);
};

// ---- readiness

static void write_ready(struct admin *a, const struct http_request *rq, struct http_reply *reply)
{
    (void)rq;
    bool draining = atomic_load(&a->runtime->draining);
    bool ready = atomic_load(&a->runtime->ready) && !draining;
    reply->status = ready ? 200 : 503;
    text_puts(&reply->body, ready      ? "ready\n"
                            : draining ? "draining\n"
                            : atomic_load(&a->runtime->current)
                                ? "no listener: see nothing_served in the log\n"
                                : "starting\n");
}

static void write_live(struct admin *a, const struct http_request *rq, struct http_reply *reply)
{
    (void)a;
    (void)rq;
    text_puts(&reply->body, "live\n");
}

static void write_drain(struct admin *a, const struct http_request *rq, struct http_reply *reply)
{
    (void)rq;
    runtime_drain(a->runtime);
    log_info("drain", "reason=admin");
    text_puts(&reply->body, "draining\n");
}

// ---- listings

static void write_listing(struct admin *a, const struct http_request *rq, struct http_reply *reply)
{
    const struct snapshot *s = atomic_load(&a->runtime->current);
    struct slice name = slice_from(rq->path, 1);
    uint32_t i = 0;
    while (!slice_eq(name, slice_of(listing_names[i])))
        i++;
    if (slice_eq(http_query_value(rq->query, SLICE("format")), SLICE("text"))) {
        listing_write_table((enum listing)i, s, &reply->body);
        return;
    }
    reply->content_type = "application/json";
    listing_write_json((enum listing)i, s, &reply->body);
}

static void write_dump(struct admin *a, const struct http_request *rq, struct http_reply *reply)
{
    (void)rq;
    reply->content_type = "application/json";
    listing_write_dump(atomic_load(&a->runtime->current), &reply->body);
}

static void write_metrics(struct admin *a, const struct http_request *rq, struct http_reply *reply)
{
    (void)rq;
    struct metrics *m = calloc(1, sizeof(*m));
    check(m);
    m->runtime = a->runtime;
    m->access_log = a->access_log;
    reply->content_type = METRICS_CONTENT_TYPE;
    reply->more = metrics_more;
    reply->state = m;
}

static void write_index(struct admin *a, const struct http_request *rq, struct http_reply *reply);

static const struct page pages[] = {
    {"/", "this list", ON(SITE_ADMIN), false, write_index},
    {"/listeners", "what is bound (?format=text for a table)", ON(SITE_ADMIN), false,
     write_listing},
    {"/routes", "virtual hosts and routes", ON(SITE_ADMIN), false, write_listing},
    {"/clusters", "where requests can go", ON(SITE_ADMIN), false, write_listing},
    {"/endpoints", "addresses of each cluster", ON(SITE_ADMIN), false, write_listing},
    {"/secrets", "certificates", ON(SITE_ADMIN), false, write_listing},
    {"/config_dump", "all of these in one", ON(SITE_ADMIN), false, write_dump},
    {"/ready", "200 once a port is open for clients, 503 before and while draining", ON(SITE_ADMIN),
     false, write_ready},
    {"/drain", "POST: stop accepting, end keep-alive", ON(SITE_ADMIN), true, write_drain},
    {"/stats/prometheus", "metrics", ON(SITE_ADMIN) | ON(SITE_METRICS), false, write_metrics},
    {"/metrics", "metrics", ON(SITE_METRICS), false, write_metrics},
    {"/healthz/ready", "the same for probes", ON(SITE_ADMIN) | ON(SITE_STATUS), false, write_ready},
    {"/healthz/live", "200 while the process runs", ON(SITE_ADMIN) | ON(SITE_STATUS), false,
     write_live},
};
#define PAGES (sizeof(pages) / sizeof(pages[0]))

static void write_index(struct admin *a, const struct http_request *rq, struct http_reply *reply)
{
    (void)a;
    for (size_t i = 0; i < PAGES; i++)
        if (pages[i].sites & ON(rq->site))
            text_printf(&reply->body, "%-20s %s\n", pages[i].path, pages[i].help);
}

static void refuse(struct http_reply *reply, uint32_t status, const char *why)
{
    reply->status = status;
    text_puts(&reply->body, why);
}

static void handle(void *arg, const struct http_request *rq, struct http_reply *reply)
{
    const struct page *p = NULL;
    for (size_t i = 0; i < PAGES && !p; i++)
        if ((pages[i].sites & ON(rq->site)) && slice_eq(rq->path, slice_of(pages[i].path)))
            p = &pages[i];
    if (!p)
        refuse(reply, 404,
               rq->site == SITE_METRICS  ? "no such page: metrics are at /stats/prometheus\n"
               : rq->site == SITE_STATUS ? "no such page: there is /healthz/ready\n"
                                         : "no such page: / lists all\n");
    else if (!slice_eq(rq->method, p->post ? SLICE("POST") : SLICE("GET")))
        refuse(reply, 405, p->post ? "use POST\n" : "use GET\n");
    else if (p->post && rq->from_browser_page) // a page somewhere must not drain a local gateway
        refuse(reply, 403, "not from a web page\n");
    else
        p->write(arg, rq, reply);
}

// ---- life

static void cannot_listen(const char *flag, const struct addr *addr, int error,
                          struct findings *findings)
{
    char text[LISTENER_EXPLAIN_MAX], elsewhere[64];
    struct pos nowhere = {NULL, 0, 0};
    snprintf(elsewhere, sizeof(elsewhere), "choose another with %s", flag);
    listener_explain(addr, error, elsewhere, text);
    finding_add(findings, SEVERITY_ERROR, NULL, nowhere, NULL, "cannot listen on %s", text);
}

static enum err listen_on(struct admin *a, enum site site, const char *name, const char *flag,
                          const struct addr *addr, struct findings *findings)
{
    char text[ADDR_TEXT_MAX];
    struct addr bound;
    if (addr->len == 0)
        return OK;
    if (http_server_listen(a->server, site, addr, &bound) != OK) {
        cannot_listen(flag, addr, errno, findings);
        return ERR_IO;
    }
    size_t n = addr_format(&bound, text, sizeof(text), true);
    log_info("listening", "name=%s addr=%.*s", name, (int)n, text);
    if (site == SITE_ADMIN && !addr_is_loopback(&bound) && bound.sa.sa_family != AF_UNIX)
        log_warn("admin_exposed", "addr=%.*s text=\"the admin port has no authentication\"", (int)n,
                 text);
    return OK;
}

uint32_t admin_create(struct runtime *rt, const struct admin_config *cfg, struct findings *findings,
                      struct admin **out)
{
    struct admin *a = calloc(1, sizeof(*a));
    check(a);
    a->runtime = rt;
    a->access_log = cfg->access_log;
    a->server = http_server_create(&(struct http_server_config){.handle = handle, .arg = a});
    // Each is tried, so that all that cannot be had are told in one go.
    uint32_t failed = listen_on(a, SITE_ADMIN, "admin", "--admin", &cfg->admin, findings) != OK;
    failed += listen_on(a, SITE_STATUS, "status", "--status-port", &cfg->status, findings) != OK;
    failed +=
        listen_on(a, SITE_METRICS, "metrics", "--metrics-port", &cfg->metrics, findings) != OK;
    if (failed) {
        admin_destroy(a);
        a = NULL;
    }
    *out = a;
    return failed;
}

void admin_destroy(struct admin *a)
{
    if (!a)
        return;
    http_server_destroy(a->server);
    free(a);
}

uint32_t admin_poll(struct admin *a, int timeout_ms, const int *extra_fds, uint32_t extra_count)
{
    return http_server_poll(a->server, timeout_ms, extra_fds, extra_count);
}
