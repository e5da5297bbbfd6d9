// The simulated network: sockets as byte queues in memory, plus the plain system calls of ring.h.
// What one side writes is in the other's queue at once; the window (in_cap) is drawn per socket.
#include "sim_socket.h"
#include "core/check.h"
#include "core/ring.h"
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>

static struct sim_socket sockets[SIM_SOCKETS];
static uint16_t next_port;

void sim_socket_reset_all(void);

void sim_socket_reset_all(void)
{
    for (int i = 0; i < SIM_SOCKETS; i++) {
        free(sockets[i].in);
        sockets[i] = (struct sim_socket){.peer = -1};
    }
    next_port = 20000;
}

bool sim_is_socket(int fd)
{
    return fd >= SIM_FD_BASE && fd < SIM_FD_BASE + SIM_SOCKETS;
}

struct sim_socket *sim_socket(int fd)
{
    check(sim_is_socket(fd) && sockets[fd - SIM_FD_BASE].used);
    return &sockets[fd - SIM_FD_BASE];
}

static int fd_of(const struct sim_socket *s)
{
    return SIM_FD_BASE + (int)(s - sockets);
}

static struct sim_socket *peer_of(const struct sim_socket *s)
{
    return s->peer < 0 ? NULL : &sockets[s->peer];
}

uint32_t sim_open_sockets(void)
{
    uint32_t n = 0;
    for (int i = 0; i < SIM_SOCKETS; i++)
        n += sockets[i].used;
    return n;
}

int sim_socket_new(void)
{
    for (int i = 0; i < SIM_SOCKETS; i++) {
        struct sim_socket *s = &sockets[i];
        if (s->used)
            continue;
        free(s->in);
        *s = (struct sim_socket){.used = true, .peer = -1};
        s->in_cap = 1 + rng_below(sim_rng(), sim_chance(500) ? 512 : SIM_PIPE_MAX);
        s->in = malloc(SIM_PIPE_MAX);
        check(s->in != NULL);
        return SIM_FD_BASE + i;
    }
    return -EMFILE;
}

static void join(struct sim_socket *a, struct sim_socket *b)
{
    a->peer = (int)(b - sockets);
    b->peer = (int)(a - sockets);
    a->connected = b->connected = true;
    a->peer_addr = b->addr;
    b->peer_addr = a->addr;
}

void sim_pair(int fd[2])
{
    fd[0] = sim_socket_new();
    fd[1] = sim_socket_new();
    join(sim_socket(fd[0]), sim_socket(fd[1]));
}

bool sim_readable(const struct sim_socket *s)
{
    if (s->listening)
        return s->backlog_len > 0;
    return s->in_len > 0 || s->fin_in || s->reset;
}

bool sim_writable(const struct sim_socket *s)
{
    const struct sim_socket *p = peer_of(s);
    return s->reset || s->fin_out || !p || p->in_len < p->in_cap;
}

ssize_t sim_take(struct sim_socket *s, void *buf, size_t cap)
{
    if (s->in_len == 0)
        return s->reset ? -ECONNRESET : s->fin_in ? 0 : -EAGAIN;
    size_t n = s->in_len < cap ? s->in_len : cap;
    memcpy(buf, s->in + s->in_start, n);
    s->in_len -= (uint32_t)n;
    s->in_start = s->in_len ? s->in_start + (uint32_t)n : 0;
    return (ssize_t)n;
}

ssize_t sim_give(struct sim_socket *s, const void *buf, size_t len)
{
    struct sim_socket *p = peer_of(s);
    if (s->reset)
        return -ECONNRESET;
    if (s->fin_out)
        return -EPIPE;
    if (!p) { // the peer has closed: its kernel answers with a reset
        s->reset = true;
        return -EPIPE;
    }
    size_t room = p->in_len < p->in_cap ? p->in_cap - p->in_len : 0;
    if (room == 0)
        return -EAGAIN;
    size_t n = len < room ? len : room;
    if (p->in_start + p->in_len + n > SIM_PIPE_MAX) {
        memmove(p->in, p->in + p->in_start, p->in_len);
        p->in_start = 0;
    }
    memcpy(p->in + p->in_start + p->in_len, buf, n);
    p->in_len += (uint32_t)n;
    return (ssize_t)n;
}

static void reset_peer(struct sim_socket *s)
{
    struct sim_socket *p = peer_of(s);
    if (!p)
        return;
    p->reset = true;
    if (sim_chance(sim_faults.reset_drops))
        p->in_len = 0;
}

static void close_socket(struct sim_socket *s, bool hard)
{
    struct sim_socket *p = peer_of(s);
    check(s->ops == 0); // ring_close: only with no operation in flight on it
    while (s->backlog_len > 0) {
        int fd = s->backlog[--s->backlog_len];
        close_socket(sim_socket(fd), true);
    }
    if (hard || s->in_len > 0)
        reset_peer(s);
    if (p) {
        p->fin_in = true;
        p->peer = -1;
    }
    s->used = false;
}

void sim_shutdown(int fd)
{
    struct sim_socket *s = sim_socket(fd), *p = peer_of(s);
    s->fin_out = true;
    if (p)
        p->fin_in = true;
}

void sim_close(int fd)
{
    struct sim_socket *s = sim_socket(fd);
    close_socket(s, s->hard_close);
}

void sim_reset(int fd)
{
    close_socket(sim_socket(fd), true);
}

ssize_t sim_read(int fd, void *buf, size_t cap)
{
    return sim_take(sim_socket(fd), buf, cap);
}

ssize_t sim_write(int fd, const void *buf, size_t len)
{
    return sim_give(sim_socket(fd), buf, len);
}

static void pick_port(struct addr *a)
{
    if (a->sa.sa_family == AF_INET && a->in.sin_port == 0)
        a->in.sin_port = htons(next_port++);
    else if (a->sa.sa_family == AF_INET6 && a->in6.sin6_port == 0)
        a->in6.sin6_port = htons(next_port++);
}

int ring_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
    (void)fd, (void)addr, (void)len;
    return 0;
}

int ring_bind_listen(int fd, const struct sockaddr *addr, socklen_t len, int backlog)
{
    struct sim_socket *s = sim_socket(fd);
    (void)backlog;
    memcpy(&s->addr.sa, addr, len);
    s->addr.len = len;
    pick_port(&s->addr);
    s->listening = true;
    return 0;
}

int sim_listen(const struct addr *at)
{
    int fd = sim_socket_new();
    ring_bind_listen(fd, &at->sa, at->len, 16);
    return fd;
}

void sim_address(int fd, struct addr *out)
{
    *out = sim_socket(fd)->addr;
}

// Several listeners on one address share its connections, as with SO_REUSEPORT.
static struct sim_socket *find_listener(const struct addr *to)
{
    uint32_t start = rng_below(sim_rng(), SIM_SOCKETS);
    for (uint32_t i = 0; i < SIM_SOCKETS; i++) {
        struct sim_socket *s = &sockets[(start + i) % SIM_SOCKETS];
        if (s->used && s->listening && !s->deaf && addr_eq(&s->addr, to))
            return s;
    }
    return NULL;
}

int sim_socket_connect(int fd, const struct sockaddr *to, socklen_t len)
{
    struct addr a = {.len = len};
    memcpy(&a.sa, to, len);
    struct sim_socket *s = sim_socket(fd), *l = find_listener(&a);
    if (!l)
        return -ECONNREFUSED;
    if (l->backlog_len == SIM_BACKLOG)
        return -ETIMEDOUT;
    if (s->addr.len == 0) {
        s->addr = l->addr;
        s->addr.in.sin_port = 0;
        pick_port(&s->addr);
    }
    struct sim_socket *other = sim_socket(sim_socket_new());
    other->addr = l->addr;
    join(s, other);
    l->backlog[l->backlog_len++] = fd_of(other);
    return 0;
}

int sim_connect(const struct addr *to)
{
    int fd = sim_socket_new(), rc = sim_socket_connect(fd, &to->sa, to->len);
    if (rc == 0)
        return fd;
    sim_close(fd);
    return rc;
}

int sim_accept(int fd)
{
    struct sim_socket *s = sim_socket(fd);
    if (s->backlog_len == 0)
        return -EAGAIN;
    int first = s->backlog[0];
    memmove(s->backlog, s->backlog + 1, --s->backlog_len * sizeof(int));
    return first;
}

int ring_socket(int family, int type)
{
    (void)family;
    (void)type;
    return sim_chance(sim_faults.socket_fails) ? -EMFILE : sim_socket_new();
}

int ring_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    (void)len;
    if (level == IPPROTO_TCP && name == TCP_ULP)
        return -ENOENT; // a kernel without kTLS
    if (level == SOL_SOCKET && name == SO_LINGER)
        sim_socket(fd)->hard_close = ((const struct linger *)value)->l_onoff;
    if (level == SOL_SOCKET && name == SO_ATTACH_FILTER)
        sim_socket(fd)->deaf = true;
    return 0;
}

int ring_unsent(int fd)
{
    (void)fd; // what was sent is the peer's
    return 0;
}

static int name_out(const struct addr *a, struct sockaddr_storage *out, socklen_t *len)
{
    if (a->len == 0)
        return -ENOTCONN;
    memcpy(out, &a->sa, a->len);
    *len = a->len;
    return 0;
}

int ring_connect_datagrams(int fd, const struct sockaddr *addr, socklen_t len)
{
    (void)fd;
    (void)addr;
    (void)len;
    return -EOPNOTSUPP;
}

int ring_getsockname(int fd, struct sockaddr_storage *addr, socklen_t *len)
{
    return name_out(&sim_socket(fd)->addr, addr, len);
}

int ring_getpeername(int fd, struct sockaddr_storage *addr, socklen_t *len)
{
    return name_out(&sim_socket(fd)->peer_addr, addr, len);
}

int ring_accept(int listen_fd)
{
    return sim_accept(listen_fd);
}

int ring_recv_record(int fd, uint8_t *type, void *buf, size_t cap)
{
    (void)fd;
    (void)type;
    (void)buf;
    (void)cap;
    return -EAGAIN;
}

void ring_shutdown(int fd, int how)
{
    if (how != SHUT_RD)
        sim_shutdown(fd);
}

void ring_close(int fd)
{
    if (sim_is_pipe(fd))
        sim_pipe_close(fd);
    else
        sim_close(fd);
}
