// The admin side's HTTP server. Owns its listening sockets and at most HTTP_SERVER_SITES *
// HTTP_SERVER_CONNECTIONS connections; a site's connections never take the room of another's, so
// that a flood on the metrics port leaves readiness answered. Control thread.
//
// A connection is either taking in a request (in, in_len) or sending its reply (out, sent);
// `deadline_ms` moves with each. Bodies made in pieces are refilled when the piece before is sent.
#include "admin/http_server.h"
#include "core/check.h"
#include "core/clock.h"
#include "proto/http.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define SLOTS (HTTP_SERVER_SITES * HTTP_SERVER_CONNECTIONS)
#define PIECE_LIMIT_BYTES (1u << 20)
#define EXTRA_MAX 32u
#define ACCEPT_PAUSE_MS 100

struct connection {
    int fd; // -1 = free
    uint32_t site;
    uint64_t opened; // running number, to find the oldest
    uint64_t deadline_ms;
    bool sending, keep_alive, chunked, last_piece, half_closed;
    size_t in_len, request_len; // request_len: of the request being answered
    size_t sent;
    struct text out;
    struct text piece;
    bool (*more)(void *state, struct text *out);
    void *state;
    char in[HTTP_SERVER_REQUEST_BYTES];
};

struct http_server {
    struct http_server_config cfg;
    int listeners[HTTP_SERVER_SITES]; // -1 = none
    uint64_t accept_from_ms;          // after a lack of descriptors: not before
    uint64_t opened;
    struct connection slots[SLOTS];
};

static uint64_t now_ms(void)
{
    return clock_monotonic_ns() / NS_PER_MS;
}

struct http_server *http_server_create(const struct http_server_config *cfg)
{
    struct http_server *s = calloc(1, sizeof(*s));
    check(s);
    s->cfg = *cfg;
    if (!s->cfg.timeout_ms)
        s->cfg.timeout_ms = HTTP_SERVER_TIMEOUT_MS;
    for (uint32_t i = 0; i < HTTP_SERVER_SITES; i++)
        s->listeners[i] = -1;
    for (uint32_t i = 0; i < SLOTS; i++)
        s->slots[i].fd = -1;
    return s;
}

static void close_connection(struct connection *c)
{
    close(c->fd);
    c->fd = -1;
    text_fini(&c->out);
    text_fini(&c->piece);
    free(c->state);
    c->state = NULL;
}

void http_server_destroy(struct http_server *s)
{
    if (!s)
        return;
    for (uint32_t i = 0; i < SLOTS; i++)
        if (s->slots[i].fd >= 0)
            close_connection(&s->slots[i]);
    for (uint32_t i = 0; i < HTTP_SERVER_SITES; i++)
        if (s->listeners[i] >= 0)
            close(s->listeners[i]);
    free(s);
}

// A socket file that a process left behind when it ended: nobody answers there.
static void remove_stale(const struct addr *a)
{
    if (a->sa.sa_family != AF_UNIX || a->un.sun_path[0] == '\0')
        return;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (connect(fd, &a->sa, a->len) < 0 && errno == ECONNREFUSED)
        unlink(a->un.sun_path);
    close(fd);
}

enum err http_server_listen(struct http_server *s, uint32_t site, const struct addr *addr,
                            struct addr *bound)
{
    int one = 1;
    check(site < HTTP_SERVER_SITES && s->listeners[site] < 0);
    int fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return ERR_IO;
    remove_stale(addr);
    *bound = *addr;
    bound->len = sizeof(bound->un);
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
        bind(fd, &addr->sa, addr->len) < 0 || listen(fd, 64) < 0 ||
        getsockname(fd, &bound->sa, &bound->len) < 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return ERR_IO;
    }
    s->listeners[site] = fd;
    return OK;
}

// A free slot of the site's share; the oldest connection is closed when all are taken.
static struct connection *take_slot(struct http_server *s, uint32_t site)
{
    struct connection *oldest = NULL;
    for (uint32_t i = 0; i < HTTP_SERVER_CONNECTIONS; i++) {
        struct connection *c = &s->slots[site * HTTP_SERVER_CONNECTIONS + i];
        if (c->fd < 0)
            return c;
        if (!oldest || c->opened < oldest->opened)
            oldest = c;
    }
    close_connection(oldest);
    return oldest;
}

void http_server_adopt(struct http_server *s, uint32_t site, int fd)
{
    struct connection *c = take_slot(s, site);
    memset(c, 0, offsetof(struct connection, in));
    c->fd = fd;
    c->site = site;
    c->opened = ++s->opened;
    c->deadline_ms = now_ms() + (uint64_t)s->cfg.timeout_ms;
    text_init(&c->out, SIZE_MAX);
    text_init(&c->piece, PIECE_LIMIT_BYTES);
}

static void accept_some(struct http_server *s, uint32_t site)
{
    for (uint32_t i = 0; i < HTTP_SERVER_CONNECTIONS; i++) {
        int fd = accept4(s->listeners[site], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
                s->accept_from_ms = now_ms() + ACCEPT_PAUSE_MS;
            return;
        }
        http_server_adopt(s, site, fd);
    }
}

// ---- reading a request

struct parsed {
    struct http_request rq;
    size_t len; // of head and body
    bool keep_alive, http11;
    uint64_t body_bytes;
};

// 0 = good, else the status to refuse with.
static uint32_t parse_request_line(struct slice line, struct parsed *p)
{
    struct slice rest = line, version, target;
    if (!slice_split(&rest, ' ', &p->rq.method) || !slice_split(&rest, ' ', &target) ||
        !slice_split(&rest, ' ', &version) || rest.ptr || !http_is_token(p->rq.method))
        return 400;
    p->http11 = slice_eq(version, SLICE("HTTP/1.1"));
    if (!p->http11 && !slice_eq(version, SLICE("HTTP/1.0")))
        return 505;
    if (target.len == 0 || target.ptr[0] != '/')
        return 400;
    ptrdiff_t mark = slice_find(target, '?');
    p->rq.path = mark < 0 ? target : (struct slice){target.ptr, (size_t)mark};
    p->rq.query = mark < 0 ? (struct slice){"", 0} : slice_from(target, (size_t)mark + 1);
    p->keep_alive = p->http11;
    return 0;
}

static uint32_t parse_field(struct slice line, struct parsed *p)
{
    ptrdiff_t colon = slice_find(line, ':');
    if (colon <= 0)
        return 400;
    struct slice name = {line.ptr, (size_t)colon};
    struct slice value = slice_trim(slice_from(line, (size_t)colon + 1));
    if (!http_is_token(name))
        return 400;
    if (slice_eq_nocase(name, SLICE("connection")) && slice_eq_nocase(value, SLICE("close")))
        p->keep_alive = false;
    else if (slice_eq_nocase(name, SLICE("content-length")) &&
             (p->body_bytes || !slice_to_u64(value, &p->body_bytes)))
        return 400;
    else if (slice_eq_nocase(name, SLICE("transfer-encoding")))
        return 411;
    else if (slice_eq_nocase(name, SLICE("origin")))
        p->rq.from_browser_page = true;
    return 0;
}

// The head ends at `len` (after the blank line). Lines end with CR LF or LF.
static uint32_t parse_head(struct slice head, struct parsed *p)
{
    struct slice line;
    bool first = true;
    if (memchr(head.ptr, '\0', head.len))
        return 400;
    while (slice_split(&head, '\n', &line)) {
        if (line.len && line.ptr[line.len - 1] == '\r')
            line.len--;
        if (line.len == 0)
            return first ? 400 : 0;
        uint32_t refused = first ? parse_request_line(line, p) : parse_field(line, p);
        if (refused)
            return refused;
        first = false;
    }
    return 0;
}

// Where the head ends (after its blank line), 0 if that has not come.
static size_t head_length(const char *in, size_t len)
{
    for (size_t i = 0; i + 1 < len; i++) {
        if (in[i] != '\n')
            continue;
        if (in[i + 1] == '\n')
            return i + 2;
        if (in[i + 1] == '\r' && i + 2 < len && in[i + 2] == '\n')
            return i + 3;
    }
    return 0;
}

// ---- replying

static void put_reply_head(struct connection *c, const struct http_reply *reply, size_t length)
{
    struct slice reason = http_reason(reply->status);
    text_printf(&c->out, "HTTP/1.1 %u %.*s\r\ncontent-type: %s\r\ncache-control: no-store\r\n",
                reply->status, SLICE_FMT(reason),
                reply->content_type ? reply->content_type : "text/plain; charset=utf-8");
    if (c->chunked)
        text_puts(&c->out, "transfer-encoding: chunked\r\n");
    else if (!reply->more)
        text_printf(&c->out, "content-length: %zu\r\n", length);
    text_puts(&c->out, c->keep_alive ? "\r\n" : "connection: close\r\n\r\n");
}

static void begin_sending(struct connection *c, struct http_reply *reply, bool head_only)
{
    if (!reply->status)
        reply->status = 200;
    if (reply->body.overflow) { // a listing beyond its limit: say so instead of cutting it
        text_clear(&reply->body);
        text_puts(&reply->body, "the answer is too large\n");
        reply->status = 507;
        reply->content_type = NULL;
    }
    text_clear(&c->out);
    put_reply_head(c, reply, reply->body.len);
    if (!head_only)
        text_put(&c->out, (struct slice){reply->body.data, reply->body.len});
    c->sent = 0;
    c->sending = true;
    c->more = head_only ? NULL : reply->more;
    c->last_piece = !c->more;
    free(c->state);
    c->state = reply->state;
    text_fini(&reply->body);
}

static void refuse(struct connection *c, uint32_t status)
{
    struct http_reply reply = {.status = status};
    text_init(&reply.body, 256);
    struct slice reason = http_reason(status);
    text_printf(&reply.body, "%.*s\n", SLICE_FMT(reason));
    c->keep_alive = c->chunked = false;
    c->request_len = c->in_len;
    begin_sending(c, &reply, false);
}

static void answer(struct http_server *s, struct connection *c, struct parsed *p)
{
    struct http_reply reply = {0};
    bool head_only = slice_eq(p->rq.method, SLICE("HEAD"));
    if (head_only)
        p->rq.method = SLICE("GET");
    p->rq.site = c->site;
    text_init(&reply.body, 256u << 20);
    s->cfg.handle(s->cfg.arg, &p->rq, &reply);
    c->request_len = p->len;
    c->chunked = reply.more && p->http11;
    c->keep_alive = p->keep_alive && (c->chunked || !reply.more);
    begin_sending(c, &reply, head_only);
}

// Looks whether a whole request is in the buffer, and answers it. False: not yet.
static bool try_request(struct http_server *s, struct connection *c)
{
    struct parsed p = {0};
    size_t head = head_length(c->in, c->in_len);
    if (head == 0) {
        if (c->in_len == sizeof(c->in))
            refuse(c, 431);
        return c->sending;
    }
    uint32_t refused = parse_head((struct slice){c->in, head}, &p);
    if (!refused && p.body_bytes > sizeof(c->in) - head)
        refused = 413;
    if (refused) {
        refuse(c, refused);
        return true;
    }
    p.len = head + (size_t)p.body_bytes;
    if (c->in_len < p.len)
        return false;
    answer(s, c, &p);
    return true;
}

// The next piece of a body that is made as it is sent.
static void refill(struct connection *c)
{
    text_clear(&c->out);
    text_clear(&c->piece);
    c->sent = 0;
    c->last_piece = !c->more(c->state, &c->piece);
    if (c->chunked && c->piece.len)
        text_printf(&c->out, "%zx\r\n", c->piece.len);
    text_put(&c->out, (struct slice){c->piece.data, c->piece.len});
    if (c->chunked && c->piece.len)
        text_puts(&c->out, "\r\n");
    if (c->chunked && c->last_piece)
        text_puts(&c->out, "0\r\n\r\n");
}

// After the last byte: the next request, or an orderly end (the client closes first, so that
// what it has sent and nobody read does not reset what it has not read).
static void finish_reply(struct connection *c)
{
    c->sending = false;
    memmove(c->in, c->in + c->request_len, c->in_len - c->request_len);
    c->in_len -= c->request_len;
    if (c->keep_alive)
        return;
    shutdown(c->fd, SHUT_WR);
    c->half_closed = true;
}

static bool send_some(struct http_server *s, struct connection *c)
{
    while (c->sent < c->out.len) {
        ssize_t n = send(c->fd, c->out.data + c->sent, c->out.len - c->sent, MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        c->sent += (size_t)n;
        c->deadline_ms = now_ms() + (uint64_t)s->cfg.timeout_ms;
    }
    if (!c->last_piece)
        refill(c); // one piece a turn: the control loop has other things to do
    else
        finish_reply(c);
    return true;
}

// False: the connection is over.
static bool receive(struct http_server *s, struct connection *c)
{
    if (c->half_closed)
        c->in_len = 0;
    ssize_t n = recv(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len, 0);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    if (n == 0)
        return false;
    if (c->half_closed)
        return true;
    c->in_len += (size_t)n;
    try_request(s, c);
    return true;
}

static bool serve(struct http_server *s, struct connection *c, short events)
{
    bool ok = true;
    if (!c->sending && (events & (POLLIN | POLLHUP | POLLERR)))
        ok = receive(s, c);
    else if (c->sending && (events & (POLLHUP | POLLERR)))
        ok = false;
    // Each reply is sent as far as it goes at once; pipelined requests follow in the same turn.
    for (int i = 0; ok && c->sending && i < 16; i++) {
        ok = send_some(s, c);
        if (c->sending)
            break;
        if (!c->half_closed && c->in_len) {
            c->deadline_ms = now_ms() + (uint64_t)s->cfg.timeout_ms;
            try_request(s, c);
        }
    }
    return ok;
}

// ---- the poll step

struct poll_set {
    struct pollfd fds[HTTP_SERVER_SITES + SLOTS + EXTRA_MAX];
    struct connection *connections[SLOTS];
    uint32_t connection_count, count;
};

static void add_fd(struct poll_set *ps, int fd, short events)
{
    ps->fds[ps->count++] = (struct pollfd){fd, events, 0};
}

static void fill(struct http_server *s, struct poll_set *ps, const int *extra, uint32_t extras)
{
    ps->count = ps->connection_count = 0;
    for (uint32_t i = 0; i < extras; i++)
        add_fd(ps, extra[i], POLLIN);
    for (uint32_t i = 0; i < HTTP_SERVER_SITES; i++)
        add_fd(ps, now_ms() < s->accept_from_ms ? -1 : s->listeners[i], POLLIN); // -1: ignored
    for (uint32_t i = 0; i < SLOTS; i++) {
        struct connection *c = &s->slots[i];
        if (c->fd < 0)
            continue;
        ps->connections[ps->connection_count++] = c;
        add_fd(ps, c->fd, c->sending ? POLLOUT : POLLIN);
    }
}

// Not beyond the next deadline of a connection.
static int bounded_wait(const struct http_server *s, const struct poll_set *ps, int timeout_ms)
{
    uint64_t now = now_ms();
    if (s->accept_from_ms > now && (timeout_ms < 0 || timeout_ms > ACCEPT_PAUSE_MS))
        timeout_ms = ACCEPT_PAUSE_MS;
    for (uint32_t i = 0; i < ps->connection_count; i++) {
        uint64_t at = ps->connections[i]->deadline_ms;
        int left = at > now ? (int)(at - now) : 0;
        if (timeout_ms < 0 || left < timeout_ms)
            timeout_ms = left;
    }
    return timeout_ms;
}

uint32_t http_server_poll(struct http_server *s, int timeout_ms, const int *extra_fds,
                          uint32_t extra_count)
{
    struct poll_set ps;
    uint32_t readable = 0;
    check(extra_count <= EXTRA_MAX);
    fill(s, &ps, extra_fds, extra_count);
    if (poll(ps.fds, ps.count, bounded_wait(s, &ps, timeout_ms)) < 0)
        return 0;
    for (uint32_t i = 0; i < extra_count; i++)
        if (ps.fds[i].revents)
            readable |= 1u << i;
    const struct pollfd *at = ps.fds + extra_count + HTTP_SERVER_SITES;
    uint64_t now = now_ms();
    for (uint32_t i = 0; i < ps.connection_count; i++) {
        struct connection *c = ps.connections[i];
        if (at[i].revents ? !serve(s, c, at[i].revents) : c->deadline_ms <= now)
            close_connection(c);
    }
    for (uint32_t i = 0; i < HTTP_SERVER_SITES; i++)
        if (ps.fds[extra_count + i].revents & POLLIN)
            accept_some(s, i);
    return readable;
}

struct slice http_query_value(struct slice query, struct slice key)
{
    struct slice rest = query, part;
    while (slice_split(&rest, '&', &part)) {
        ptrdiff_t eq = slice_find(part, '=');
        if (eq >= 0 && slice_eq((struct slice){part.ptr, (size_t)eq}, key))
            return slice_from(part, (size_t)eq + 1);
    }
    return (struct slice){NULL, 0};
}
