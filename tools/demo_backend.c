// demo_backend: the bookinfo services behind `./dev run`, all in one small epoll server on
// loopback: productpage on --port, then details, ratings, reviews v1, v2 and v3 on the five ports
// after it. Each answer names who gave it (x-demo-backend). One thread. A connection has one fixed
// buffer for what comes in, and answers are small enough for the socket's own buffer: one that does
// not fit, like a request head that does not, ends the connection.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { IN_MAX = 16384, OUT_MAX = 65536, SERVICES = 6 };

struct request {
    const char *path;
    const char *fields; // header lines, each ended by CRLF, then a NUL
};

struct text {
    char data[OUT_MAX];
    size_t len;
};

struct service {
    const char *name, *stars;
    bool (*answer)(const struct service *s, const struct request *r, struct text *out);
};

struct connection {
    const struct service *service;
    bool listening;
    int fd;
    size_t len, skip; // bytes in `in`, bytes of a request body still to be thrown away
    char in[IN_MAX + 1];
};

__attribute__((format(printf, 2, 3))) static void put(struct text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(t->data + t->len, OUT_MAX - t->len, format, args);
    va_end(args);
    if (n > 0)
        t->len = t->len + (size_t)n < OUT_MAX ? t->len + (size_t)n : OUT_MAX - 1;
}

static void put_escaped(struct text *t, const char *p, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (p[i] == '<')
            put(t, "&lt;");
        else if (p[i] == '&')
            put(t, "&amp;");
        else
            put(t, "%c", p[i]);
    }
}

// --------------------------------------------------------------------------------------- answers

static const char style[] =
    "body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;"
    "color:#1d2733;background:#f6f8fa}h1{margin-bottom:0}h2{margin:2rem 0 .5rem}"
    "table{border-collapse:collapse;width:100%;background:#fff}td{padding:.25rem .6rem;border:1px "
    "solid #d5dde5;vertical-align:top;word-break:break-all}td:first-child{white-space:nowrap;"
    "font-family:monospace}.gw td:first-child{color:#00695c;font-weight:600}button{font:inherit;"
    "padding:.3rem 1rem}.v1{color:#667}.v2{color:#111}.v3{color:#c62828}#bars div{background:"
    "#26a69a;color:#fff;padding:.1rem .5rem;margin:.2rem 0;min-width:7rem;white-space:nowrap;"
    "box-sizing:border-box}";

static const char page_head[] =
    "<!doctype html><html lang=en><meta charset=utf-8><title>Bookinfo through Sluice</title>"
    "<link rel=stylesheet href=/static/style.css><h1>The Comedy of Errors</h1>"
    "<p>You see this page through the gateway: <code>/productpage</code> is routed to the service "
    "<code>productpage</code>, the style sheet came by the prefix <code>/static</code>.</p>"
    "<h2>Reviews</h2><p>The gateway splits <code>/reviews</code> by weight over three versions "
    "<button id=more>ask 100 times</button></p><div id=bars></div><p id=last></p>"
    "<h2>What the backend received</h2><p>Coloured lines were added by the gateway.</p><table>";

static const char page_tail[] =
    "</table><h2>What the browser received</h2><table id=got></table><script>"
    "const n={},$=i=>document.getElementById(i);async function ask(){"
    "const r=await fetch('/reviews/0'),j=await r.json();n[j.version]=(n[j.version]||0)+1;"
    "const sum=Object.values(n).reduce((a,b)=>a+b);$('bars').innerHTML=Object.keys(n).sort().map("
    "v=>`<div style=width:${100*n[v]/sum}%>${v}: ${n[v]}</div>`).join('');"
    "$('last').innerHTML=`<span class=${j.version}>${j.version}: \\u201c${j.text}\\u201d "
    "${j.stars}</span>`}"
    "$('more').onclick=async()=>{for(let i=0;i<100;i++)await ask()};ask();"
    "fetch(location).then(r=>$('got').innerHTML=[...r.headers].map(([k,v])=>"
    "`<tr class=${/^(server|x-envoy|x-demo$|date)/.test(k)?'gw':''}><td>${k}<td>${v}`).join(''))"
    "</script>";

static bool added_by_gateway(const char *field)
{
    static const char *const prefixes[] = {"x-forwarded-", "x-request-id", "x-envoy-",
                                           "x-demo-route", "via:",         "forwarded:"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (strncasecmp(field, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return false;
}

static void put_page(struct text *out, const char *fields)
{
    put(out, "%s", page_head);
    for (const char *p = fields, *next; (next = strstr(p, "\r\n")) != NULL; p = next + 2) {
        const char *colon = memchr(p, ':', (size_t)(next - p));
        if (colon == NULL)
            continue;
        put(out, "<tr%s><td>", added_by_gateway(p) ? " class=gw" : "");
        put_escaped(out, p, (size_t)(colon - p));
        put(out, "<td>");
        put_escaped(out, colon + 1, (size_t)(next - colon - 1));
    }
    put(out, "%s", page_tail);
}

static bool starts(const char *path, const char *prefix)
{
    return strncmp(path, prefix, strlen(prefix)) == 0;
}

static bool productpage(const struct service *s, const struct request *r, struct text *out)
{
    (void)s;
    if (strcmp(r->path, "/productpage") == 0)
        put_page(out, r->fields);
    else if (starts(r->path, "/static/style.css"))
        put(out, "%s", style);
    else if (starts(r->path, "/login") || starts(r->path, "/logout"))
        put(out, "there are no accounts here\n");
    else if (strcmp(r->path, "/api/v1/products") == 0)
        put(out, "[{\"id\": 0, \"title\": \"The Comedy of Errors\"}]\n");
    else if (starts(r->path, "/api/v1/products/0"))
        put(out, "{\"id\": 0, \"title\": \"The Comedy of Errors\", \"asked_for\": \"%s\"}\n",
            r->path);
    else
        return false;
    return true;
}

static bool details(const struct service *s, const struct request *r, struct text *out)
{
    (void)s;
    put(out, "{\"id\": 0, \"author\": \"William Shakespeare\", \"year\": 1595, \"pages\": 200}\n");
    return starts(r->path, "/details");
}

static bool ratings(const struct service *s, const struct request *r, struct text *out)
{
    (void)s;
    put(out, "{\"id\": 0, \"ratings\": {\"Reviewer1\": 5, \"Reviewer2\": 4}}\n");
    return starts(r->path, "/ratings");
}

static bool reviews(const struct service *s, const struct request *r, struct text *out)
{
    put(out,
        "{\"id\": 0, \"version\": \"%s\", \"text\": \"An extremely entertaining play.\", "
        "\"stars\": \"%s\"}\n",
        s->name + strlen("reviews-"), s->stars);
    return starts(r->path, "/reviews");
}

static const struct service services[SERVICES] = {
    {"productpage-v1", "", productpage},
    {"details-v1", "", details},
    {"ratings-v1", "", ratings},
    {"reviews-v1", "", reviews},
    {"reviews-v2", "\u2605\u2605\u2605\u2605\u2605 (black)", reviews},
    {"reviews-v3", "\u2605\u2605\u2605\u2605\u2605 (red)", reviews},
};

static const char *media_type(const struct text *body)
{
    if (body->data[0] == '<')
        return "text/html; charset=utf-8";
    if (body->data[0] == '{' || body->data[0] == '[')
        return "application/json";
    return starts(body->data, "body{") ? "text/css" : "text/plain";
}

// ------------------------------------------------------------------------------------ HTTP/1.1

static bool respond(struct connection *c, const struct request *r, bool head_only)
{
    static struct text body, all;
    body.len = all.len = 0;
    bool found = c->service->answer(c->service, r, &body);
    if (!found) {
        body.len = 0;
        put(&body, "{\"error\": \"%s has nothing at %s\"}\n", c->service->name, r->path);
    }
    put(&all,
        "HTTP/1.1 %s\r\ncontent-type: %s\r\ncontent-length: %zu\r\nx-demo-backend: %s\r\n\r\n",
        found ? "200 OK" : "404 Not Found", media_type(&body), body.len, c->service->name);
    if (!head_only) {
        memcpy(all.data + all.len, body.data, body.len < OUT_MAX - all.len ? body.len : 0);
        all.len += body.len;
    }
    return all.len < OUT_MAX && send(c->fd, all.data, all.len, MSG_NOSIGNAL) == (ssize_t)all.len;
}

// Value of a header field, or NULL. `fields` starts with a field name.
static const char *field(const char *fields, const char *name)
{
    size_t len = strlen(name);
    for (const char *p = fields; p != NULL && *p != '\0'; p = strstr(p, "\r\n")) {
        p += p[0] == '\r' ? 2 : 0;
        if (strncasecmp(p, name, len) == 0 && p[len] == ':')
            return p + len + 1;
    }
    return NULL;
}

// Answers the request whose head is in[0..len): false if the connection is to end.
static bool serve_one(struct connection *c, size_t len)
{
    c->in[len - 2] = '\0'; // keeps the CRLF of the last field
    char *line_end = strstr(c->in, "\r\n"), *path = strchr(c->in, ' ');
    if (line_end == NULL || path == NULL || path > line_end)
        return false;
    *line_end = '\0';
    char *path_end = strchr(++path, ' ');
    if (path_end == NULL)
        return false;
    *path_end = '\0';
    struct request r = {.path = path, .fields = line_end + 2};
    const char *length = field(r.fields, "content-length");
    path[strcspn(path, "?\"\\<")] = '\0';
    c->skip = length == NULL ? 0 : strtoul(length, NULL, 10);
    return respond(c, &r, starts(c->in, "HEAD ")) && field(r.fields, "transfer-encoding") == NULL;
}

static void drop_front(struct connection *c, size_t n)
{
    c->len -= n;
    memmove(c->in, c->in + n, c->len);
}

// Takes what has come in: false if the connection is to end.
static bool serve(struct connection *c)
{
    for (;;) {
        size_t skip = c->skip < c->len ? c->skip : c->len;
        drop_front(c, skip);
        c->skip -= skip;
        char *end = memmem(c->in, c->len, "\r\n\r\n", 4);
        if (end == NULL)
            return c->len < IN_MAX;
        size_t head = (size_t)(end - c->in) + 4;
        if (!serve_one(c, head))
            return false;
        drop_front(c, head);
    }
}

// ---------------------------------------------------------------------------------------- sockets

static int poller;

static void watch(int fd, const struct service *s, bool listening)
{
    struct connection *c = calloc(1, sizeof *c);
    if (c == NULL) {
        close(fd);
        return;
    }
    c->fd = fd;
    c->service = s;
    c->listening = listening;
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
}

static void on_ready(struct connection *c)
{
    if (c->listening) {
        int fd = accept4(c->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
            watch(fd, c->service, false);
        return;
    }
    ssize_t n = recv(c->fd, c->in + c->len, IN_MAX - c->len, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0) {
        c->len += (size_t)n;
        if (serve(c))
            return;
    }
    close(c->fd);
    free(c);
}

static void listen_on(unsigned port, const struct service *s)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 128) < 0) {
        fprintf(stderr, "demo_backend: 127.0.0.1:%u: %s\n", port, strerror(errno));
        exit(1);
    }
    watch(fd, s, true);
}

int main(int argc, char **argv)
{
    unsigned port = 9080;
    if (argc == 3 && strcmp(argv[1], "--port") == 0) {
        port = (unsigned)atoi(argv[2]);
    } else if (argc != 1) {
        fprintf(stderr, "usage: demo_backend [--port FIRST]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    poller = epoll_create1(EPOLL_CLOEXEC);
    for (unsigned i = 0; i < SERVICES; i++)
        listen_on(port + i, &services[i]);
    printf("demo_backend: ready on 127.0.0.1:%u-%u\n", port, port + SERVICES - 1);
    fflush(stdout);
    for (;;) {
        struct epoll_event events[64];
        int n = epoll_wait(poller, events, 64, -1);
        for (int i = 0; i < n; i++)
            on_ready(events[i].data.ptr);
    }
}
