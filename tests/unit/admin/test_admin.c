// The admin ports and the listings, on a snapshot compiled from real documents.
#include "admin/admin.h"
#include "admin/listings.h"
#include "config/load.h"
#include "core/log.h"
#include "test.h"
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

static const char documents[] =
    "apiVersion: networking.istio.io/v1\n"
    "kind: Gateway\n"
    "metadata: {name: gw}\n"
    "spec:\n"
    "  selector: {istio: ingressgateway}\n"
    "  servers:\n"
    "  - port: {number: 8080, name: http, protocol: HTTP}\n"
    "    hosts: [\"*\"]\n"
    "---\n"
    "apiVersion: networking.istio.io/v1\n"
    "kind: VirtualService\n"
    "metadata: {name: shop}\n"
    "spec:\n"
    "  hosts: [shop.test]\n"
    "  gateways: [gw]\n"
    "  http:\n"
    "  - name: cart\n"
    "    match: [{uri: {prefix: /cart}}]\n"
    "    route: [{destination: {host: web}}]\n"
    "  - redirect: {uri: /cart}\n"
    "---\n"
    "apiVersion: v1\n"
    "kind: Service\n"
    "metadata: {name: web}\n"
    "spec: {selector: {app: web}, ports: [{port: 80, name: http}]}\n"
    "---\n"
    "apiVersion: v1\n"
    "kind: Pod\n"
    "metadata: {name: web-1, labels: {app: web}}\n"
    "spec: {}\n"
    "status: {podIP: 10.0.0.7}\n";

static struct snapshot *snapshot;
static struct runtime *rt;

static void set_up(void)
{
    struct findings findings;
    struct model *m = NULL;
    const struct load_options load = {0};
    const struct compile_options compile = {0};
    log_set_level(LOG_LEVEL_OFF);
    rt = aligned_alloc(64, (sizeof(*rt) + 63u) & ~(size_t)63u);
    snapshot = aligned_alloc(64, (sizeof(*snapshot) + 63u) & ~(size_t)63u);
    memset(rt, 0, sizeof(*rt));
    memset(snapshot, 0, sizeof(*snapshot));
    stat_registry_init(&rt->stats);
    arena_init(&snapshot->arena, 0);
    snapshot->generation = 7;
    findings_init(&findings);
    enum err e = load_text("docs.yaml", "default", slice_of(documents), &load, &m, &findings);
    if (e != OK ||
        route_compile(m, &compile, &snapshot->arena, &findings, &snapshot->routes) != OK) {
        findings_print(&findings, stdout);
        test_fail(__FILE__, __LINE__, "the documents do not compile");
    }
    const struct tls_store_options tls = {.now_s = 0};
    snapshot->tls = tls_store_load(NULL, m, &tls, &findings);
    model_destroy(m);
    findings_fini(&findings);
}

static void tear_down(void)
{
    tls_store_destroy(snapshot->tls);
    route_config_fini(&snapshot->routes);
    arena_fini(&snapshot->arena);
    free(snapshot);
    log_set_level(LOG_LEVEL_INFO);
    stat_registry_fini(&rt->stats);
    free(rt);
}

static const char *listed(enum listing which, bool json)
{
    static char buf[16384];
    struct text t;
    text_init_fixed(&t, buf, sizeof(buf) - 1);
    (json ? listing_write_json : listing_write_table)(which, snapshot, &t);
    buf[t.len] = '\0';
    return buf;
}

TEST(listings_as_istioctl_prints_them)
{
    set_up();
    EXPECT_STR(listed(LISTING_LISTENERS, false), "ADDRESSES     PORT     MATCH     DESTINATION\n"
                                                 "0.0.0.0       8080     ALL       Route: http.8080\n");
    EXPECT_STR(listed(LISTING_ROUTES, false),
               "NAME          VHOST NAME         DOMAINS       MATCH      VIRTUAL SERVICE\n"
               "http.8080     shop.test:8080     shop.test     /cart*     shop.default\n"
               "http.8080     shop.test:8080     shop.test     /*         shop.default\n");
    EXPECT_STR(listed(LISTING_CLUSTERS, false),
               "SERVICE FQDN                      PORT     SUBSET     DIRECTION     TYPE     "
               "DESTINATION RULE\n"
               "web.default.svc.cluster.local     80       -          outbound      EDS      \n");
    EXPECT_STR(listed(LISTING_ENDPOINTS, false),
               "ENDPOINT        STATUS      OUTLIER CHECK     CLUSTER\n"
               "10.0.0.7:80     HEALTHY     -                 "
               "outbound|80||web.default.svc.cluster.local\n");
    tear_down();
}

TEST(listings_as_json)
{
    set_up();
    EXPECT_STR(listed(LISTING_LISTENERS, true),
               "[\n{\"name\":\"0.0.0.0_8080\",\"address\":\"0.0.0.0:8080\",\"transport\":\"tcp\",\"server_port\":8080,"
               "\"filter_chains\":[{\"name\":\"http.8080\",\"gateway\":\"default/gw\",\"server_names\":[],"
               "\"terminates_tls\":false,\"routes\":\"http.8080\",\"rules\":[]}],"
               "\"gateways\":\"default/gw\"}]\n");
    const char *routes = listed(LISTING_ROUTES, true);
    EXPECT(strstr(routes, "{\"name\":\"cart\",\"match\":\"/cart*\","
                          "\"virtual_service\":\"shop.default\",\"position\":\"docs.yaml:17:"));
    EXPECT(strstr(routes, "\"action\":\"redirect\",\"code\":301,\"uri\":\"/cart\""));
    EXPECT(strstr(listed(LISTING_ENDPOINTS, true),
                  "{\"endpoint\":\"10.0.0.7:80\",\"status\":\"HEALTHY\",\"outlier_check\":\"-\","
                  "\"cluster\":\"outbound|80||web.default.svc.cluster.local\",\"weight\":1}"));
    EXPECT_STR(listed(LISTING_SECRETS, true), "[]\n");
    tear_down();
}

TEST(listings_before_anything_is_published)
{
    struct text t;
    text_init(&t, 4096);
    listing_write_dump(NULL, &t);
    text_char(&t, '\0');
    EXPECT_STR(t.data, "{\"generation\":0,\"build_ms\":0.000,\n\"listeners\":[],\n\"routes\":[],\n"
                       "\"clusters\":[],\n\"endpoints\":[],\n\"secrets\":[]}\n");
    text_fini(&t);
}

// ---- over a socket of the file system, so that no port can be taken

static struct admin *admin;
static char folder[64];

static struct addr socket_addr(const char *name)
{
    char text[128];
    struct addr a;
    int n = snprintf(text, sizeof(text), "unix://%s/%s", folder, name);
    if (addr_parse((struct slice){text, (size_t)n}, 0, &a) != OK)
        test_fail(__FILE__, __LINE__, "%s", text);
    return a;
}

static bool open_admin(void)
{
    struct admin_config cfg = {socket_addr("admin"), socket_addr("status"), socket_addr("metrics"),
                               NULL};
    struct findings findings;
    findings_init(&findings);
    bool ok = admin_create(rt, &cfg, &findings, &admin) == 0;
    findings_fini(&findings);
    return ok;
}

static bool start_admin(void)
{
    snprintf(folder, sizeof(folder), "/tmp/sluice-admin-XXXXXX");
    return mkdtemp(folder) && open_admin();
}

static void stop_admin(void)
{
    static const char *const names[] = {"admin", "status", "metrics"};
    char path[128];
    admin_destroy(admin);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

// The status of the answer; its text in `body`.
static int ask(const char *site, const char *method, const char *path, const char *fields,
               char *body, size_t cap)
{
    char request[256], answer[65536];
    struct addr a = socket_addr(site);
    size_t n = 0;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int len = snprintf(request, sizeof(request), "%s %s HTTP/1.0\r\n%s\r\n", method, path, fields);
    if (connect(fd, &a.sa, a.len) != 0 || write(fd, request, (size_t)len) != len)
        test_fail(__FILE__, __LINE__, "cannot ask %s", site);
    for (int i = 0; i < 1000; i++) {
        struct pollfd p = {fd, POLLIN, 0};
        admin_poll(admin, 1, NULL, 0);
        if (poll(&p, 1, 0) <= 0)
            continue;
        ssize_t got = read(fd, answer + n, sizeof(answer) - 1 - n);
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    close(fd);
    answer[n] = '\0';
    const char *end = strstr(answer, "\r\n\r\n");
    snprintf(body, cap, "%s", end ? end + 4 : "");
    return n > 12 ? atoi(answer + 9) : 0;
}

TEST(admin_readiness_follows_the_gateway)
{
    char body[256];
    set_up();
    REQUIRE(start_admin());
    EXPECT_EQ(ask("status", "GET", "/healthz/ready", "", body, sizeof(body)), 503);
    EXPECT_STR(body, "starting\n");
    EXPECT_EQ(ask("status", "GET", "/healthz/live", "", body, sizeof(body)), 200);
    atomic_store(&rt->ready, true);
    EXPECT_EQ(ask("status", "GET", "/healthz/ready", "", body, sizeof(body)), 200);
    EXPECT_EQ(ask("admin", "GET", "/ready", "", body, sizeof(body)), 200);
    EXPECT_EQ(ask("admin", "GET", "/drain", "", body, sizeof(body)), 405);
    EXPECT_EQ(ask("admin", "POST", "/drain", "Origin: http://x\r\n", body, sizeof(body)), 403);
    EXPECT(!atomic_load(&rt->draining));
    EXPECT_EQ(ask("admin", "POST", "/drain", "", body, sizeof(body)), 200);
    EXPECT(atomic_load(&rt->draining));
    EXPECT_EQ(ask("status", "GET", "/healthz/ready", "", body, sizeof(body)), 503);
    EXPECT_STR(body, "draining\n");
    EXPECT_EQ(ask("status", "GET", "/healthz/live", "", body, sizeof(body)), 200);
    stop_admin();
    tear_down();
}

TEST(admin_pages_are_where_they_belong)
{
    static char body[65536];
    set_up();
    atomic_store(&rt->current, snapshot);
    REQUIRE(start_admin());
    EXPECT_EQ(ask("admin", "GET", "/listeners?format=text", "", body, sizeof(body)), 200);
    EXPECT(strstr(body, "0.0.0.0       8080     ALL       Route: http.8080\n"));
    EXPECT_EQ(ask("admin", "GET", "/config_dump", "", body, sizeof(body)), 200);
    EXPECT(strstr(body, "{\"generation\":7,") == body);
    EXPECT_EQ(ask("metrics", "GET", "/stats/prometheus", "", body, sizeof(body)), 200);
    EXPECT(strstr(body, "\nsluice_config_listeners 1\n"));
    EXPECT_EQ(ask("metrics", "GET", "/metrics", "", body, sizeof(body)), 200);
    EXPECT_EQ(ask("admin", "GET", "/", "", body, sizeof(body)), 200);
    EXPECT(strstr(body, "/drain "));
    // What changes or tells a lot is on the admin port alone.
    EXPECT_EQ(ask("status", "GET", "/config_dump", "", body, sizeof(body)), 404);
    EXPECT_EQ(ask("status", "POST", "/drain", "", body, sizeof(body)), 404);
    EXPECT_EQ(ask("metrics", "GET", "/", "", body, sizeof(body)), 404);
    EXPECT_EQ(ask("metrics", "POST", "/metrics", "", body, sizeof(body)), 405);
    // The socket files are still there: a gateway that starts anew takes them over.
    admin_destroy(admin);
    REQUIRE(open_admin());
    EXPECT_EQ(ask("admin", "GET", "/clusters", "", body, sizeof(body)), 200);
    stop_admin();
    tear_down();
}
