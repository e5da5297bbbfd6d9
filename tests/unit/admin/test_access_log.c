#include "admin/access_log.h"
#include "admin/access_log_format.h"
#include "core/clock.h"
#include "proxy/proxy.h"
#include "proto/downstream.h"
#include "proxy/flow_end.h"
#include "test.h"
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct exchange x;
static struct proxy_exchange px;
static struct cluster_config cluster;
static struct route route;
static struct downstream conn;

static void add_request(const char *name, const char *value)
{
    if (head_add_name(&x.request, slice_of(name), slice_of(value)) != OK)
        test_fail(__FILE__, __LINE__, "head_add_name");
}

static void make_exchange(void)
{
    memset(&x, 0, sizeof(x));
    memset(&px, 0, sizeof(px));
    x.proxy = &px;
    px.x = &x;
    head_reset(&x.request);
    head_reset(&x.response);
    x.request.method = SLICE("GET");
    x.request.scheme = SLICE("http");
    x.request.authority = SLICE("bookinfo.com");
    x.request.target = SLICE("/productpage?u=normal");
    x.request.path = SLICE("/productpage");
    x.request.query = SLICE("u=normal");
    add_request("user-agent", "curl/8");
    add_request("x-request-id", "id-1");
    if (head_add_name(&x.response, SLICE("x-envoy-upstream-service-time"), SLICE("7")) != OK ||
        addr_parse_port(SLICE("10.1.2.3:4567"), &conn.peer) != OK ||
        addr_parse_port(SLICE("[::1]:8080"), &conn.local) != OK)
        test_fail(__FILE__, __LINE__, "setting up");
    x.version = HTTP_1_1;
    x.start_ns = 5 * NS_PER_S;
    x.request_end_ns = x.start_ns + 2 * NS_PER_MS;
    x.upstream_start_ns = x.start_ns + 3 * NS_PER_MS;
    x.response_start_ns = x.start_ns + 10 * NS_PER_MS;
    x.end_ns = x.start_ns + 12 * NS_PER_MS + 999;
    x.request_body_bytes = 11;
    x.response_body_bytes = 4183;
    x.response_status = 200;
    x.details = "via_upstream";
    x.conn = &conn;
    cluster.name = SLICE("outbound|9080|v1|productpage.istio.svc.cluster.local");
    px.cluster = &cluster;
    route.name = SLICE("first");
    px.route = &route;
    px.endpoint_text = SLICE("10.0.0.1:9080");
    px.attempts = 2;
}

// 2026-11-23T10:20:30.456789012Z
#define START_NS (1795429230ull * NS_PER_S + 456789012ull)

static const char *written(const struct log_format *f)
{
    static char buf[64 << 10];
    struct text t;
    text_init_fixed(&t, buf, sizeof(buf) - 1);
    log_format_write(f, &x, START_NS, &t);
    buf[t.len] = '\0';
    return buf;
}

static const char *format(const char *text)
{
    static char error[256];
    struct log_format *f;
    if (log_format_compile(text, &f, error, sizeof(error)) != OK)
        return error;
    const char *line = written(f);
    log_format_destroy(f);
    return line;
}

TEST(access_log_default_line_is_istios)
{
    make_exchange();
    EXPECT_STR(format(access_log_istio_text),
               "[2026-11-23T10:20:30.456Z] \"GET /productpage?u=normal HTTP/1.1\" 200 - via_upstream - "
               "\"-\" 11 4183 12 7 \"-\" \"curl/8\" \"id-1\" \"bookinfo.com\" \"10.0.0.1:9080\" "
               "outbound|9080|v1|productpage.istio.svc.cluster.local - [::1]:8080 10.1.2.3:4567 - first\n");
}

static const char *written_flow(const char *text, const struct proxy_flow_end *flow)
{
    static char buf[64 << 10], error[256];
    struct log_format *f;
    struct text t;
    if (log_format_compile(text, &f, error, sizeof(error)) != OK)
        return error;
    text_init_fixed(&t, buf, sizeof(buf) - 1);
    log_format_write_flow(f, flow, START_NS, &t);
    buf[t.len] = '\0';
    log_format_destroy(f);
    return buf;
}

TEST(access_log_line_of_a_relayed_connection)
{
    make_exchange(); // for its addresses
    struct proxy_flow_end flow = {.conn = &conn,
                                  .start_ns = 5 * NS_PER_S,
                                  .end_ns = 7 * NS_PER_S,
                                  .bytes_received = 11,
                                  .bytes_sent = 12,
                                  .tries = 2,
                                  .cluster_name = SLICE("outbound|9000||tcp-echo.istio"),
                                  .upstream_host = SLICE("10.0.0.1:9000"),
                                  .server_name = SLICE("a.test")};
    EXPECT(addr_parse_port(SLICE("10.9.9.9:77"), &flow.upstream_local) == OK);
    EXPECT_STR(written_flow(access_log_istio_text, &flow),
               "[2026-11-23T10:20:30.456Z] \"- - -\" 0 - - - \"-\" 11 12 2000 - \"-\" \"-\" \"-\" \"-\" "
               "\"10.0.0.1:9000\" outbound|9000||tcp-echo.istio 10.9.9.9:77 [::1]:8080 10.1.2.3:4567 a.test -\n");
    EXPECT_STR(written_flow("%UPSTREAM_REQUEST_ATTEMPT_COUNT% %DOWNSTREAM_REMOTE_PORT% "
                            "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% %REQUEST_DURATION%", &flow),
               "2 4567 ::1 -\n");
    flow = (struct proxy_flow_end){.conn = &conn,
                                   .response_flags = FLAG_NO_ROUTE | FLAG_DURATION,
                                   .details = "filter_chain_not_found",
                                   .termination = "why"};
    EXPECT_STR(written_flow(access_log_istio_text, &flow),
               "[2026-11-23T10:20:30.456Z] \"- - -\" 0 NR,DT filter_chain_not_found why \"-\" 0 0 0 - "
               "\"-\" \"-\" \"-\" \"-\" \"-\" - - [::1]:8080 10.1.2.3:4567 - -\n");
}

TEST(access_log_json_has_istios_keys)
{
    make_exchange();
    struct log_format *f = log_format_istio_json();
    EXPECT_STR(written(f),
               "{\"start_time\":\"2026-11-23T10:20:30.456Z\",\"route_name\":\"first\",\"method\":\"GET\","
               "\"path\":\"/productpage?u=normal\",\"protocol\":\"HTTP/1.1\",\"response_code\":200,"
               "\"response_flags\":null,\"response_code_details\":\"via_upstream\","
               "\"connection_termination_details\":null,\"bytes_received\":11,\"bytes_sent\":4183,"
               "\"duration\":12,\"upstream_service_time\":\"7\",\"x_forwarded_for\":null,"
               "\"user_agent\":\"curl/8\",\"request_id\":\"id-1\",\"authority\":\"bookinfo.com\","
               "\"upstream_host\":\"10.0.0.1:9080\",\"upstream_transport_failure_reason\":null,"
               "\"upstream_cluster\":\"outbound|9080|v1|productpage.istio.svc.cluster.local\","
               "\"upstream_local_address\":null,\"downstream_local_address\":\"[::1]:8080\","
               "\"downstream_remote_address\":\"10.1.2.3:4567\",\"requested_server_name\":null}\n");
    log_format_destroy(f);
}

TEST(access_log_operators)
{
    make_exchange();
    EXPECT_STR(format("%REQ(X-Nope?:METHOD)% %REQ(:SCHEME)% %REQ(user-agent):4% %RESP(:status)%"),
               "GET http curl 200\n");
    EXPECT_STR(format("%REQUEST_DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION% %DURATION%"), "2 10 2 12\n");
    EXPECT_STR(format("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%|%DOWNSTREAM_REMOTE_PORT%|"
                      "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%|%DOWNSTREAM_LOCAL_PORT%"),
               "10.1.2.3|4567|::1|8080\n");
    EXPECT_STR(format("%UPSTREAM_CLUSTER% %UPSTREAM_REQUEST_ATTEMPT_COUNT% 100%%\n"),
               "outbound|9080|v1|productpage.istio.svc.cluster.local 2 100%\n");
    EXPECT_STR(format("%START_TIME(%Y/%m/%d %H:%M:%S.%6f %s %%f)%"), "2026/11/23 10:20:30.456789 1795429230 %f\n");
    EXPECT_STR(format("plain"), "plain\n");
    EXPECT_STR(format(""), "");
    x.response_flags = FLAG_NO_HEALTHY | FLAG_RETRY_LIMIT;
    x.details = "two words";
    x.upstream_start_ns = 0;
    x.version = HTTP_1_0;
    x.request.path = x.request.query = (struct slice){NULL, 0};
    EXPECT_STR(format("%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %RESPONSE_DURATION% %PROTOCOL% %REQ(:PATH)%"),
               "UH,URX two_words - HTTP/1.0 /productpage?u=normal\n");
}

TEST(access_log_an_exchange_that_never_got_anywhere)
{
    make_exchange();
    static struct downstream nobody;
    struct exchange nothing = {.proxy = &px, .conn = &nobody};
    memset(&px, 0, sizeof(px));
    x = nothing;
    EXPECT_STR(format("%REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE% %DURATION% %UPSTREAM_HOST% "
                      "%UPSTREAM_CLUSTER% %ROUTE_NAME% %RESPONSE_CODE_DETAILS% %DOWNSTREAM_REMOTE_ADDRESS%"),
               "- - 0 - - - - - -\n");
}

TEST(access_log_refuses_bad_formats)
{
    EXPECT_STR(format("%NOPE%"), "access log format: unknown operator %NOPE%");
    EXPECT_STR(format("a %REQ"), "access log format: a % without its partner before 'REQ'");
    EXPECT_STR(format("%REQ%"), "access log format: %REQ% is not REQ(NAME)");
    EXPECT_STR(format("%REQ()%"), "access log format: %REQ()% is not REQ(NAME)");
    EXPECT_STR(format("%REQ(a):x%"), "access log format: %REQ(a):x% is not REQ(NAME)");
    EXPECT_STR(format("%PROTOCOL(x)%"), "access log format: %PROTOCOL(x)% is not PROTOCOL");
}

TEST(access_log_values_cannot_forge_lines)
{
    make_exchange();
    x.request.method = SLICE("G\"ET");
    add_request("referer", "a\"b\\c\r\n[forged] \x1b[2J\xff\xc3\xa9");
    EXPECT_STR(format("\"%REQ(:METHOD)%\" \"%REQ(REFERER)%\""),
               "\"G\\\"ET\" \"a\\\"b\\\\c\\x0d\\x0a[forged] \\x1b[2J\\xff\\xc3\\xa9\"\n");
    head_remove_name(&x.request, SLICE("user-agent"));
    add_request("user-agent", "a\"b\n\xff\xc3\xa9");
    struct log_format *f = log_format_istio_json();
    EXPECT(strstr(written(f), "\"user_agent\":\"a\\\"b\\n\\ufffd\xc3\xa9\"") != NULL);
    log_format_destroy(f);
}

TEST(access_log_long_values_are_cut)
{
    static char value[50000];
    make_exchange();
    memset(value, 'v', sizeof(value) - 1);
    add_request("x-long", value);
    EXPECT_EQ(strlen(format("%REQ(X-LONG)%")), LOG_VALUE_MAX + 1);
}

// ---- the file

static char path[64];

static struct access_log *open_log(const char *custom)
{
    char error[256];
    struct access_log *l;
    snprintf(path, sizeof(path), "/tmp/sluice-access-XXXXXX");
    int fd = mkstemp(path);
    if (fd >= 0)
        close(fd);
    struct access_log_config cfg = {path, ACCESS_LOG_CUSTOM, custom, 2};
    if (access_log_create(&cfg, &l, error, sizeof(error)) != OK) {
        test_fail(__FILE__, __LINE__, "%s", error);
        return NULL;
    }
    return l;
}

static size_t read_file(const char *name, char *buf, size_t cap)
{
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, buf, cap - 1);
    if (fd >= 0)
        close(fd);
    buf[n < 0 ? 0 : n] = '\0';
    return n < 0 ? 0 : (size_t)n;
}

// Waits until the file is as long as expected; the writer works on a thread of its own.
static bool grows_to(const char *name, off_t size)
{
    for (int i = 0; i < 2000; i++) {
        struct stat st;
        if (stat(name, &st) == 0 && st.st_size == size)
            return true;
        poll(NULL, 0, 2);
    }
    return false;
}

TEST(access_log_writes_what_every_worker_says)
{
    char buf[256];
    make_exchange();
    struct access_log *l = open_log("%RESPONSE_CODE%");
    REQUIRE(l);
    access_log_exchange(l, 0, &x);
    EXPECT(grows_to(path, 4));
    x.response_status = 404;
    access_log_exchange(l, 1, &x);
    access_log_destroy(l); // writes what is left
    read_file(path, buf, sizeof(buf));
    EXPECT_STR(buf, "200\n404\n");
    unlink(path);
}

TEST(access_log_is_reopened_after_rotation)
{
    char rotated[80], buf[256];
    make_exchange();
    struct access_log *l = open_log("%RESPONSE_CODE%");
    REQUIRE(l);
    access_log_exchange(l, 0, &x);
    EXPECT(grows_to(path, 4));
    snprintf(rotated, sizeof(rotated), "%s.1", path);
    REQUIRE(rename(path, rotated) == 0);
    access_log_reopen(l);
    EXPECT(grows_to(path, 0)); // it is there again
    access_log_exchange(l, 0, &x);
    EXPECT(grows_to(path, 4));
    access_log_destroy(l);
    read_file(rotated, buf, sizeof(buf));
    EXPECT_STR(buf, "200\n");
    unlink(path);
    unlink(rotated);
}

TEST(access_log_drops_and_counts_when_nobody_reads)
{
    make_exchange();
    snprintf(path, sizeof(path), "/tmp/sluice-access-fifo-%d", (int)getpid());
    REQUIRE(mkfifo(path, 0600) == 0);
    int reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    char error[256];
    struct access_log *l;
    struct access_log_config cfg = {path, ACCESS_LOG_TEXT, NULL, 1};
    REQUIRE(access_log_create(&cfg, &l, error, sizeof(error)) == OK);
    uint64_t lines = 0;
    while (access_log_dropped(l) == 0 && lines < 100000) {
        access_log_exchange(l, 0, &x);
        lines++;
    }
    EXPECT(access_log_dropped(l) > 0); // and the caller was never held up
    static char buf[65536];
    uint64_t read_lines = 0;
    close(open(path, O_WRONLY | O_CLOEXEC)); // the writer is the last one when it ends
    for (int quiet = 0; quiet < 100;) {
        ssize_t n = read(reader, buf, sizeof(buf));
        if (n <= 0) {
            poll(NULL, 0, 2);
            quiet++;
            continue;
        }
        quiet = 0;
        for (ssize_t i = 0; i < n; i++)
            read_lines += buf[i] == '\n';
    }
    EXPECT_EQ(read_lines + access_log_dropped(l), lines);
    access_log_destroy(l);
    close(reader);
    unlink(path);
}

TEST(access_log_says_why_it_cannot_be_opened)
{
    char error[256];
    struct access_log *l;
    struct access_log_config cfg = {"/no/such/folder/log", ACCESS_LOG_JSON, NULL, 1};
    EXPECT_EQ(access_log_create(&cfg, &l, error, sizeof(error)), ERR_IO);
    EXPECT_STR(error, "the access log /no/such/folder/log cannot be opened: No such file or directory");
    EXPECT(l == NULL);
}
