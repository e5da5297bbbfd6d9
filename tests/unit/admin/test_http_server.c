#include "admin/http_server.h"
#include "test.h"
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static struct http_server *server;
static uint32_t last_site;

static bool three_pieces(void *state, struct text *out)
{
    int *n = state;
    text_printf(out, "piece %d\n", ++*n);
    return *n < 3;
}

static void handle(void *arg, const struct http_request *rq, struct http_reply *reply)
{
    (void)arg;
    last_site = rq->site;
    if (slice_eq(rq->path, SLICE("/pieces"))) {
        reply->more = three_pieces;
        reply->state = calloc(1, sizeof(int));
    } else if (slice_eq(rq->path, SLICE("/big"))) {
        for (int i = 0; i < 400000; i++)
            text_puts(&reply->body, "0123456789");
    } else {
        text_printf(&reply->body, "%.*s %.*s %.*s%s", SLICE_FMT(rq->method), SLICE_FMT(rq->path),
                    SLICE_FMT(rq->query), rq->from_browser_page ? " page" : "");
    }
}

static void start(int timeout_ms)
{
    server = http_server_create(
        &(struct http_server_config){.handle = handle, .timeout_ms = timeout_ms});
}

static int client(uint32_t site)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
        return -1;
    http_server_adopt(server, site, fds[1]);
    return fds[0];
}

static bool readable(int fd)
{
    struct pollfd p = {fd, POLLIN, 0};
    return poll(&p, 1, 0) > 0;
}

// What the server answers until it closes, or until nothing has come for a while.
static char *answer(int fd, const char *request)
{
    static char buf[8 << 20];
    size_t n = 0;
    int quiet = 0;
    if (write(fd, request, strlen(request)) < 0)
        return NULL;
    while (quiet < 20) {
        http_server_poll(server, 5, NULL, 0);
        if (!readable(fd)) {
            quiet++;
            continue;
        }
        ssize_t got = read(fd, buf + n, sizeof(buf) - 1 - n);
        if (got <= 0)
            break;
        n += (size_t)got;
        quiet = 0;
    }
    buf[n] = '\0';
    return buf;
}

static bool starts(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

static bool ends(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);
    return n >= m && strcmp(s + n - m, suffix) == 0;
}

static const char *once(const char *request)
{
    int fd = client(0);
    const char *a = answer(fd, request);
    close(fd);
    return a;
}

TEST(http_server_answers_and_keeps_the_connection)
{
    start(0);
    int fd = client(2);
    const char *a = answer(fd, "GET /x?y=1 HTTP/1.1\r\nHost: h\r\n\r\n");
    EXPECT(starts(a, "HTTP/1.1 200 OK\r\n"));
    EXPECT(ends(a, "\r\n\r\nGET /x y=1"));
    EXPECT_EQ(last_site, 2);
    a = answer(fd, "POST /p HTTP/1.1\r\ncontent-length: 4\r\nOrigin: http://evil\r\n\r\nbodyGET /q HTTP/1.1\r\n\r\n");
    EXPECT(strstr(a, "POST /p  page") != NULL);
    EXPECT(ends(a, "GET /q "));
    a = answer(fd, "GET /end HTTP/1.1\r\nConnection: close\r\n\r\n");
    EXPECT(strstr(a, "connection: close") && ends(a, "GET /end "));
    char c;
    EXPECT_EQ(read(fd, &c, 1), 0); // it said so, and did
    close(fd);
    http_server_destroy(server);
}

TEST(http_server_refuses_what_is_no_request)
{
    start(0);
    static char huge[9000];
    memset(huge, 'a', sizeof(huge) - 1);
    memcpy(huge, "GET /", 5);
    EXPECT(starts(once("nonsense\r\n\r\n"), "HTTP/1.1 400 "));
    EXPECT(starts(once("\r\n\r\n"), "HTTP/1.1 400 "));
    EXPECT(starts(once("GET / HTTP/2.0\r\n\r\n"), "HTTP/1.1 505 "));
    EXPECT(starts(once("GET x HTTP/1.1\r\n\r\n"), "HTTP/1.1 400 "));
    EXPECT(starts(once("GET / HTTP/1.1\r\nno colon\r\n\r\n"), "HTTP/1.1 400 "));
    EXPECT(starts(once("GET / HTTP/1.1\r\ncontent-length: 1x\r\n\r\n"), "HTTP/1.1 400 "));
    EXPECT(starts(once("GET / HTTP/1.1\r\ncontent-length: 9000\r\n\r\n"), "HTTP/1.1 413 "));
    EXPECT(starts(once("GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"), "HTTP/1.1 411 "));
    EXPECT(starts(once(huge), "HTTP/1.1 431 "));
    http_server_destroy(server);
}

TEST(http_server_sends_bodies_in_pieces)
{
    start(0);
    EXPECT(ends(once("GET /pieces HTTP/1.1\r\n\r\n"),
                "transfer-encoding: chunked\r\n\r\n8\r\npiece 1\n\r\n8\r\npiece 2\n\r\n"
                "8\r\npiece 3\n\r\n0\r\n\r\n"));
    EXPECT(ends(once("GET /pieces HTTP/1.0\r\n\r\n"),
                "connection: close\r\n\r\npiece 1\npiece 2\npiece 3\n"));
    const char *a = once("HEAD /pieces HTTP/1.1\r\n\r\n");
    EXPECT(ends(a, "\r\n\r\n"));
    a = once("HEAD /x HTTP/1.1\r\n\r\n");
    EXPECT(strstr(a, "content-length: 7\r\n") && ends(a, "\r\n\r\n"));
    a = once("GET /big HTTP/1.1\r\n\r\n"); // more than a socket buffer holds
    EXPECT(strstr(a, "content-length: 4000000\r\n") && ends(a, "0123456789"));
    http_server_destroy(server);
}

TEST(http_server_takes_requests_byte_by_byte)
{
    start(0);
    int fd = client(0);
    const char *request = "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n";
    for (const char *p = request; p[1]; p++) {
        REQUIRE(write(fd, p, 1) == 1);
        http_server_poll(server, 0, NULL, 0);
        REQUIRE(!readable(fd));
    }
    EXPECT(ends(answer(fd, "\n"), "GET /slow "));
    close(fd);
    http_server_destroy(server);
}

TEST(http_server_closes_what_takes_too_long)
{
    start(30);
    int fd = client(0);
    REQUIRE(write(fd, "GET /", 5) == 5);
    struct pollfd p = {fd, POLLIN, 0};
    for (int i = 0; i < 1000 && poll(&p, 1, 0) == 0; i++)
        http_server_poll(server, 10, NULL, 0);
    char c;
    EXPECT_EQ(read(fd, &c, 1), 0);
    close(fd);
    http_server_destroy(server);
}

TEST(http_server_flood_on_one_site_leaves_the_others)
{
    start(0);
    int fds[HTTP_SERVER_CONNECTIONS + 5];
    int probe = client(1);
    for (uint32_t i = 0; i < HTTP_SERVER_CONNECTIONS + 5; i++)
        fds[i] = client(2);
    char c;
    EXPECT_EQ(read(fds[0], &c, 1), 0); // the oldest gave way
    EXPECT(read(fds[6], &c, 1) < 0); // this one is still there
    EXPECT(ends(answer(probe, "GET /ok HTTP/1.1\r\n\r\n"), "GET /ok "));
    for (uint32_t i = 0; i < HTTP_SERVER_CONNECTIONS + 5; i++)
        close(fds[i]);
    close(probe);
    http_server_destroy(server);
}

TEST(http_server_listens_and_reports_other_descriptors)
{
    start(0);
    struct addr any, bound;
    int pipe_fds[2], fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(addr_parse_port(SLICE("127.0.0.1:0"), &any) == OK);
    REQUIRE(http_server_listen(server, 1, &any, &bound) == OK);
    EXPECT(addr_port(&bound) != 0);
    REQUIRE(connect(fd, &bound.sa, bound.len) == 0);
    EXPECT(ends(answer(fd, "GET /tcp HTTP/1.1\r\n\r\n"), "GET /tcp "));
    EXPECT_EQ(last_site, 1);
    REQUIRE(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) == 0);
    int extra[2] = {-1, pipe_fds[0]};
    EXPECT_EQ(http_server_poll(server, 0, extra, 2), 0);
    REQUIRE(write(pipe_fds[1], "x", 1) == 1);
    EXPECT_EQ(http_server_poll(server, 0, extra, 2), 2);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    close(fd);
    http_server_destroy(server);
}

TEST(http_query_value_finds_its_key)
{
    struct slice q = SLICE("a=1&format=text&b=");
    EXPECT(slice_eq(http_query_value(q, SLICE("format")), SLICE("text")));
    EXPECT(slice_eq(http_query_value(q, SLICE("b")), SLICE("")));
    EXPECT(http_query_value(q, SLICE("form")).ptr == NULL);
}
