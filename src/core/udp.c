// UDP sockets. Owns the descriptor and the operations on it; buffers are the worker's.
//
// Invariants: the descriptor is closed only when neither the receive nor a send is in flight;
// re-arming happens in recv_arm only. A turn receives no more than the worker has datagram buffers,
// because they go back to the kernel at a turn's end, and of one socket no more than the kernel
// does in one go: a flood waits in the sockets, and overflows there, while connections have their
// turn.
#include "core/udp.h"
#include "core/check.h"
#include "core/ring.h"
#include <errno.h>

#define SOCKET_BUFFER_BYTES (4 << 20) // the kernel gives what net.core.rmem_max allows
#define NAME_BYTES 32                 // a sockaddr_in6, rounded up
#define CONTROL_BYTES 192             // of all that configure() asks for
#define ECN_BITS 3

struct udp_send { // of udp.sends
    struct op op;
    struct udp *socket;
    struct msghdr msg;
    struct iovec iov;
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } to;
    uint16_t bid, segment_bytes;
    union { // aligned
        struct cmsghdr first;
        char bytes[CMSG_SPACE(sizeof(struct in6_pktinfo)) + CMSG_SPACE(sizeof(int)) +
                   CMSG_SPACE(sizeof(uint16_t))];
    } control;
};

static const struct msghdr shape = {.msg_namelen = NAME_BYTES, .msg_controllen = CONTROL_BYTES};

// ---- opening

static int set(int fd, int level, int name, int value)
{
    return ring_setsockopt(fd, level, name, &value, sizeof(value));
}

static bool is_wildcard(const struct addr *a)
{
    if (a->sa.sa_family == AF_INET)
        return a->in.sin_addr.s_addr == INADDR_ANY;
    return IN6_IS_ADDR_UNSPECIFIED(&a->in6.sin6_addr);
}

// What only makes it faster or tells more may be refused.
static void configure_common(int fd)
{
    (void)set(fd, IPPROTO_UDP, UDP_GRO, 1);
    (void)set(fd, SOL_SOCKET, SO_RXQ_OVFL, 1);
}

static int configure_server(int fd, const struct addr *addr)
{
    bool v6 = addr->sa.sa_family == AF_INET6;
    int rc = set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (rc == 0 && v6) // as listener.c
        rc = set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    if (rc == 0 && is_wildcard(addr))
        rc = v6 ? set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1) : set(fd, IPPROTO_IP, IP_PKTINFO, 1);
    if (rc == 0)
        rc = v6 ? set(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1) : set(fd, IPPROTO_IP, IP_RECVTOS, 1);
    (void)set(fd, SOL_SOCKET, SO_RCVBUF, SOCKET_BUFFER_BYTES);
    (void)set(fd, SOL_SOCKET, SO_SNDBUF, SOCKET_BUFFER_BYTES);
    configure_common(fd);
    return rc;
}

int udp_open(const struct addr *addr)
{
    int fd = ring_socket(addr->sa.sa_family, SOCK_DGRAM);
    if (fd < 0)
        return fd;
    int rc = configure_server(fd, addr);
    if (rc == 0)
        rc = ring_bind(fd, &addr->sa, addr->len);
    if (rc < 0) {
        ring_close(fd);
        return rc;
    }
    return fd;
}

int udp_probe(const struct addr *addr)
{
    int fd = ring_socket(addr->sa.sa_family, SOCK_DGRAM);
    if (fd < 0)
        return fd;
    int rc = addr->sa.sa_family == AF_INET6 ? set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1) : 0;
    if (rc == 0)
        rc = ring_bind(fd, &addr->sa, addr->len);
    ring_close(fd);
    return rc;
}

// ---- receiving

static void recv_arm(struct udp *u)
{
    if (!u->recv.inflight && !u->closing && !list_linked(&u->starved.link))
        ring_recv_datagrams(&u->worker->ring, &u->recv, u->fd, &shape,
                            u->worker->datagrams.group_id);
}

static void on_buffers(struct bufring_waiter *w)
{
    recv_arm(container_of(w, struct udp, starved));
}

struct told { // by control data
    struct addr local;
    uint32_t lost;
    uint16_t segment_bytes;
    uint8_t ecn;
};

static int int_of(const struct cmsghdr *c)
{
    int v = 0; // a TOS is one byte
    size_t len = c->cmsg_len - CMSG_LEN(0);
    memcpy(&v, CMSG_DATA(c), len < sizeof(v) ? len : sizeof(v));
    return v;
}

static void read_ip(const struct udp *u, const struct cmsghdr *c, struct told *t)
{
    struct in_pktinfo info;
    if (c->cmsg_type == IP_TOS) {
        t->ecn = (uint8_t)(int_of(c) & ECN_BITS);
    } else if (c->cmsg_type == IP_PKTINFO && c->cmsg_len >= CMSG_LEN(sizeof(info))) {
        memcpy(&info, CMSG_DATA(c), sizeof(info));
        t->local.in = u->local.in;
        t->local.in.sin_addr = info.ipi_addr;
        t->local.len = sizeof(t->local.in);
    }
}

static void read_ip6(const struct udp *u, const struct cmsghdr *c, struct told *t)
{
    struct in6_pktinfo info;
    if (c->cmsg_type == IPV6_TCLASS) {
        t->ecn = (uint8_t)(int_of(c) & ECN_BITS);
    } else if (c->cmsg_type == IPV6_PKTINFO && c->cmsg_len >= CMSG_LEN(sizeof(info))) {
        memcpy(&info, CMSG_DATA(c), sizeof(info));
        t->local.in6 = u->local.in6;
        t->local.in6.sin6_addr = info.ipi6_addr;
        if (IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr))
            t->local.in6.sin6_scope_id = info.ipi6_ifindex;
        t->local.len = sizeof(t->local.in6);
    }
}

static void read_control(const struct udp *u, const struct ring_datagram *d, struct told *t)
{
    struct msghdr m = {.msg_control = (void *)(uintptr_t)d->control,
                       .msg_controllen = d->control_len};
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        if (c->cmsg_level == IPPROTO_IP)
            read_ip(u, c, t);
        else if (c->cmsg_level == IPPROTO_IPV6)
            read_ip6(u, c, t);
        else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO)
            t->segment_bytes = (uint16_t)int_of(c);
        else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL)
            t->lost = (uint32_t)int_of(c);
    }
}

static void take_peer(struct addr *to, const struct ring_datagram *d)
{
    to->len = 0;
    if (d->from_len == 0 || d->from_len > sizeof(to->in6))
        return;
    memcpy(&to->sa, d->from, d->from_len);
    to->len = d->from_len;
}

static void deliver(struct udp *u, uint16_t bid, const struct ring_datagram *d)
{
    struct addr peer;
    struct told told;
    told.local.len = 0;
    told.segment_bytes = told.ecn = 0;
    told.lost = u->lost;
    read_control(u, d, &told);
    worker_count_n(u->worker, udp_rx_overflow, told.lost - u->lost);
    u->lost = told.lost;
    take_peer(&peer, d);
    if (!peer.len && !u->connected) { // nobody who could be answered
        bufring_put(&u->worker->datagrams, bid);
        return;
    }
    const struct udp_datagram datagram = {
        .peer = &peer,
        .local = told.local.len ? &told.local : &u->local,
        .data = d->payload,
        .bid = bid,
        .segment_bytes = told.segment_bytes < d->payload.len ? told.segment_bytes : 0,
        .ecn = told.ecn,
    };
    u->events->on_datagram(u, &datagram);
}

static void on_filled(struct udp *u, uint16_t bid, uint32_t len)
{
    struct bufring *b = &u->worker->datagrams;
    struct ring_datagram d;
    struct slice filled;
    (void)bufring_take(b, bid, len, &filled, &bid, 1);
    if (u->closing || !ring_datagram_parse(filled, &shape, &d)) {
        bufring_put(b, bid);
    } else if (d.truncated) {
        worker_count(u->worker, udp_rx_truncated);
        bufring_put(b, bid);
    } else {
        deliver(u, bid, &d);
    }
}

// ---- the end

static void end_if_idle(struct turn_task *task, struct worker *w)
{
    struct udp *u = container_of(task, struct udp, end);
    (void)w;
    if (!u->closing || u->recv.inflight || u->sending > 0 || u->fd < 0)
        return;
    ring_close(u->fd);
    u->fd = -1;
    u->events->on_closed(u);
}

void udp_close(struct udp *u)
{
    if (u->closing)
        return;
    u->closing = true;
    bufring_unwait(&u->worker->datagrams, &u->starved);
    if (u->recv.inflight)
        ring_cancel(&u->worker->ring, &u->recv);
    worker_defer(u->worker, &u->end);
}

// Without a datagram. Errors of the network end a multishot receive like any other.
static void on_failed(struct udp *u, int error)
{
    if (error == ENOBUFS)
        bufring_wait(&u->worker->datagrams, &u->starved);
    else if (u->connected && error != EINTR && error != EAGAIN && error != ECANCELED)
        u->events->on_error(u, error);
}

static void on_recv(struct op *op, int32_t res, uint32_t flags, uint16_t bid)
{
    struct udp *u = container_of(op, struct udp, recv);
    if (res > 0 && (flags & OP_BUFFER))
        on_filled(u, bid, (uint32_t)res);
    else if (res < 0 && !u->closing)
        on_failed(u, -res);
    if (flags & OP_MORE)
        return;
    if (u->closing)
        worker_defer(u->worker, &u->end);
    else
        recv_arm(u);
}

static enum err start(struct udp *u, struct worker *w, struct pool *sends,
                      const struct udp_events *events, void *owner, int fd)
{
    if (!worker_datagrams(w)) {
        ring_close(fd);
        return ERR_NOMEM;
    }
    *u = (struct udp){.worker = w, .sends = sends, .events = events, .owner = owner, .fd = fd};
    u->recv.done = on_recv;
    u->starved.ready = on_buffers;
    list_init(&u->starved.link);
    turn_task_init(&u->end, end_if_idle);
    return OK;
}

enum err udp_start(struct udp *u, struct worker *w, struct pool *sends,
                   const struct udp_events *events, void *owner, int fd)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    if (start(u, w, sends, events, owner, fd) != OK)
        return ERR_NOMEM;
    if (ring_getsockname(fd, &ss, &len) == 0 && len <= sizeof(u->local.in6)) {
        memcpy(&u->local.sa, &ss, len);
        u->local.len = len;
    }
    recv_arm(u);
    return OK;
}

int udp_connect(struct udp *u, struct worker *w, struct pool *sends,
                const struct udp_events *events, void *owner, const struct addr *to)
{
    int fd = ring_socket(to->sa.sa_family, SOCK_DGRAM);
    if (fd < 0)
        return fd;
    configure_common(fd);
    int rc = ring_connect_datagrams(fd, &to->sa, to->len);
    if (rc < 0) {
        ring_close(fd);
        return rc;
    }
    if (start(u, w, sends, events, owner, fd) != OK)
        return -ENOMEM;
    u->connected = true;
    u->local.sa.sa_family = to->sa.sa_family;
    recv_arm(u);
    return 0;
}

// ---- sending

void udp_sends_init(struct pool *p, uint32_t cap)
{
    pool_init(p, "udp_sends", sizeof(struct udp_send), cap);
}

static void send_gone(struct udp_send *s)
{
    struct udp *u = s->socket;
    bufring_put(&u->worker->datagrams, s->bid);
    pool_put(u->sends, s);
    if (--u->sending == 0 && u->closing)
        worker_defer(u->worker, &u->end);
}

static void on_sent(struct op *op, int32_t res, uint32_t flags, uint16_t bid);

static struct udp_send *send_create(struct udp *u, struct slice data, uint16_t bid)
{
    struct udp_send *s = pool_get(u->sends);
    if (!s)
        return NULL;
    s->op = (struct op){.done = on_sent};
    s->socket = u;
    s->iov = (struct iovec){(void *)(uintptr_t)data.ptr, data.len};
    s->msg = (struct msghdr){.msg_iov = &s->iov, .msg_iovlen = 1};
    s->bid = bid;
    s->segment_bytes = 0;
    u->sending++;
    return s;
}

static void add_control(struct udp_send *s, int level, int type, const void *value, size_t len)
{
    struct cmsghdr *c = (struct cmsghdr *)(void *)(s->control.bytes + s->msg.msg_controllen);
    s->msg.msg_control = s->control.bytes;
    s->msg.msg_controllen += CMSG_SPACE(len);
    check(s->msg.msg_controllen <= sizeof(s->control));
    memset(c, 0, CMSG_SPACE(len));
    c->cmsg_level = level;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(len);
    memcpy(CMSG_DATA(c), value, len);
}

static void set_source(struct udp_send *s, const struct addr *local)
{
    if (local->sa.sa_family == AF_INET) {
        struct in_pktinfo info = {.ipi_spec_dst = local->in.sin_addr};
        add_control(s, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
    } else {
        struct in6_pktinfo info = {.ipi6_addr = local->in6.sin6_addr,
                                   .ipi6_ifindex = local->in6.sin6_scope_id};
        add_control(s, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
    }
}

static void set_ecn(struct udp_send *s, int family, int ecn)
{
    if (family == AF_INET6)
        add_control(s, IPPROTO_IPV6, IPV6_TCLASS, &ecn, sizeof(ecn));
    else
        add_control(s, IPPROTO_IP, IP_TOS, &ecn, sizeof(ecn));
}

static void submit(struct udp_send *s)
{
    ring_send_datagram(&s->socket->worker->ring, &s->op, s->socket->fd, &s->msg);
}

static void drop(struct udp *u, uint32_t datagrams)
{
    worker_count_n(u->worker, udp_tx_dropped, datagrams);
}

// Its peer's path, or its device, does not take trains: one by one, of the same buffer.
static void send_one_by_one(struct udp_send *train)
{
    struct udp *u = train->socket;
    struct slice rest = {train->iov.iov_base, train->iov.iov_len};
    while (rest.len > 0) {
        size_t len = rest.len < train->segment_bytes ? rest.len : train->segment_bytes;
        struct udp_send *s = u->closing ? NULL : send_create(u, (struct slice){rest.ptr, len}, 0);
        rest = slice_from(rest, len);
        if (!s) {
            drop(u, 1);
            continue;
        }
        s->bid = train->bid;
        bufring_get(&u->worker->datagrams, s->bid);
        s->to = train->to;
        s->msg.msg_name = train->msg.msg_name ? &s->to : NULL;
        s->msg.msg_namelen = train->msg.msg_namelen;
        s->control = train->control;
        s->msg.msg_control = s->control.bytes;
        // The size of a train's segments is the last of it.
        s->msg.msg_controllen = train->msg.msg_controllen - CMSG_SPACE(sizeof(uint16_t));
        submit(s);
    }
}

static uint32_t segments_of(const struct udp_send *s)
{
    return udp_segments(&(struct udp_datagram){.data = {s->iov.iov_base, s->iov.iov_len},
                                               .segment_bytes = s->segment_bytes});
}

static void on_sent(struct op *op, int32_t res, uint32_t flags, uint16_t bid)
{
    struct udp_send *s = container_of(op, struct udp_send, op);
    struct udp *u = s->socket;
    (void)flags;
    (void)bid;
    bool no_train = s->segment_bytes && (res == -EINVAL || res == -EIO || res == -EMSGSIZE);
    if (no_train)
        send_one_by_one(s);
    else if (res < 0)
        drop(u, segments_of(s));
    bool told = res < 0 && res != -EAGAIN && res != -ENOBUFS && res != -EMSGSIZE && !no_train;
    if (told && u->connected && !u->closing)
        u->events->on_error(u, -res);
    send_gone(s);
}

void udp_send(struct udp *u, const struct udp_datagram *d)
{
    struct udp_send *s = u->closing ? NULL : send_create(u, d->data, d->bid);
    if (!s) {
        drop(u, udp_segments(d));
        bufring_put(&u->worker->datagrams, d->bid);
        return;
    }
    if (d->peer) {
        memcpy(&s->to, &d->peer->sa, d->peer->len);
        s->msg.msg_name = &s->to;
        s->msg.msg_namelen = d->peer->len;
    }
    if (d->local && d->local->len)
        set_source(s, d->local);
    if (d->ecn)
        set_ecn(s, u->local.sa.sa_family, d->ecn);
    if (d->segment_bytes && d->segment_bytes < d->data.len) {
        s->segment_bytes = d->segment_bytes;
        add_control(s, IPPROTO_UDP, UDP_SEGMENT, &s->segment_bytes, sizeof(s->segment_bytes));
    }
    submit(s);
}
