// The simulated ring. Operations wait in a list; each look at it, in random order, completes those
// whose socket is ready, unless the seed says "later" or something worse. Completions are
// gathered by ring_wait and dispatched by ring_dispatch, as with the real one. Virtual time moves
// in ring_wait only, and jumps when nothing is ready.
#include "core/bufring_kernel.h"
#include "core/check.h"
#include "core/ring.h"
#include "sim_socket.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>

enum kind { ACCEPT, CONNECT, RECV, SEND, POLL, POLL_ONCE };

struct sim_op {
    struct list_node link;
    struct ring *ring;
    struct op *op;
    enum kind kind;
    int fd;
    bool cancelled, bundle;
    uint32_t events;              // POLL_ONCE
    uint32_t max;                 // RECV: 0 = a multishot one
    struct sockaddr_storage addr; // CONNECT
    socklen_t addr_len;
    const struct msghdr *msg; // SEND, or data and len
    const char *data;
    size_t len, done; // bytes
};

struct completion {
    struct list_node link;
    struct ring *ring;
    struct op *op;
    int32_t res;
    uint32_t flags;
    uint16_t bid;
};

struct sim_bufs {        // what the kernel knows of a buffer ring
    uint32_t head, tail; // positions consumed and published
    struct {
        char *memory;
        uint16_t bid;
    } entries[];
};

static struct list_node ops, completions; // of all rings
static struct bufring *buffers;           // the worker's only group
static uint32_t polls;

void sim_ring_forget(void)
{
    list_init(&ops);
    list_init(&completions);
    buffers = NULL;
    polls = 0;
}

bool sim_ring_idle(void)
{
    return list_empty(&ops) && list_empty(&completions);
}

static void *must(void *p)
{
    check(p != NULL);
    return p;
}

// --- Buffers ---------------------------------------------------------------------------------

int bufring_kernel_register(struct bufring *b)
{
    struct sim_bufs *s = must(calloc(1, sizeof(*s) + b->count * sizeof(s->entries[0])));
    b->ring_mem = s;
    buffers = b;
    return 0;
}

void bufring_kernel_unregister(struct bufring *b)
{
    free(b->ring_mem);
    b->ring_mem = NULL;
    buffers = NULL;
}

void bufring_kernel_give(struct bufring *b, uint32_t at, char *memory, uint16_t bid)
{
    struct sim_bufs *s = b->ring_mem;
    s->entries[at].memory = memory;
    s->entries[at].bid = bid;
}

void bufring_kernel_publish(struct bufring *b, uint32_t n)
{
    struct sim_bufs *s = b->ring_mem;
    s->tail += n;
    check(s->tail - s->head <= b->count); // a buffer given twice
}

uint32_t bufring_kernel_length(const struct bufring *b, uint32_t at)
{
    (void)at;
    return b->buffer_bytes;
}

// --- Completions -----------------------------------------------------------------------------

static void post(struct sim_op *o, int32_t res, uint32_t flags, uint16_t bid)
{
    struct completion *c = must(malloc(sizeof(*c)));
    *c = (struct completion){.ring = o->ring, .op = o->op, .res = res, .flags = flags, .bid = bid};
    list_insert_tail(&completions, &c->link);
    if (flags & OP_MORE)
        return;
    list_remove(&o->link);
    if (sim_is_socket(o->fd))
        sim_socket(o->fd)->ops--;
    free(o);
}

static uint32_t more_flag(void)
{
    return sim_chance(sim_faults.lost_more) ? 0 : OP_MORE;
}

// Fills one buffer, or a bundle of some; the amount is random up to what there is.
static void complete_recv(struct sim_op *o)
{
    struct sim_socket *s = sim_socket(o->fd);
    struct sim_bufs *k = buffers->ring_mem;
    uint32_t mask = buffers->count - 1;
    // A dry ring fails even when there is nothing to receive yet.
    if (k->head == k->tail || sim_chance(sim_faults.no_buffers)) {
        post(o, -ENOBUFS, 0, 0);
        return;
    }
    if (s->in_len == 0) {
        post(o, s->reset ? -ECONNRESET : 0, 0, 0);
        return;
    }
    uint32_t there = o->max && o->max < s->in_len ? o->max : s->in_len, got = 0;
    uint32_t want = sim_chance(500) ? there : 1 + rng_below(sim_rng(), there);
    uint16_t first = k->entries[k->head & mask].bid;
    do {
        uint32_t n = want - got < buffers->buffer_bytes ? want - got : buffers->buffer_bytes;
        sim_take(s, k->entries[k->head++ & mask].memory, n);
        got += n;
    } while (o->bundle && o->ring->bundles && got < want && k->head != k->tail);
    post(o, (int32_t)got, (o->max ? 0 : more_flag()) | OP_BUFFER, first);
}

// The bytes from `done` on, as far as they are contiguous.
static struct slice next_piece(const struct sim_op *o)
{
    size_t skip = o->done;
    if (!o->msg)
        return (struct slice){o->data + skip, o->len - skip};
    for (size_t i = 0; i < o->msg->msg_iovlen; i++) {
        const struct iovec *v = &o->msg->msg_iov[i];
        if (skip < v->iov_len)
            return (struct slice){(char *)v->iov_base + skip, v->iov_len - skip};
        skip -= v->iov_len;
    }
    return (struct slice){NULL, 0};
}

// As much as fits, and now and then less.
static void complete_send(struct sim_op *o)
{
    ssize_t n = 0;
    while (o->done < o->len) {
        struct slice piece = next_piece(o);
        if (sim_chance(sim_faults.short_send))
            piece.len = 1 + rng_below(sim_rng(), (uint32_t)piece.len);
        n = sim_give(sim_socket(o->fd), piece.ptr, piece.len);
        if (n < 0)
            break;
        o->done += (size_t)n;
        if (sim_chance(sim_faults.short_send))
            break;
    }
    if (o->done > 0)
        post(o, (int32_t)o->done, 0, 0);
    else if (n != -EAGAIN)
        post(o, (int32_t)n, 0, 0);
}

static void complete_accept(struct sim_op *o)
{
    if (sim_chance(sim_faults.accept_fails)) {
        post(o, -EMFILE, 0, 0);
        return;
    }
    int fd = sim_accept(o->fd);
    post(o, fd, more_flag(), 0);
}

static void complete_connect(struct sim_op *o)
{
    int rc = sim_chance(sim_faults.connect_fails)
                 ? -ETIMEDOUT
                 : sim_socket_connect(o->fd, (struct sockaddr *)&o->addr, o->addr_len);
    post(o, rc, 0, 0);
}

static bool ready(const struct sim_op *o)
{
    struct pollfd p = {.fd = o->fd, .events = POLLIN};
    switch (o->kind) {
    case POLL: // a real descriptor, the mailbox's eventfd: asked seldom, it is a system call
        return (polls++ & 15) == 0 && poll(&p, 1, 0) > 0;
    case POLL_ONCE:
        return o->events == POLLIN ? sim_readable(sim_socket(o->fd))
                                   : sim_writable(sim_socket(o->fd));
    case ACCEPT:
    case RECV:
        return sim_readable(sim_socket(o->fd));
    case SEND:
        return sim_writable(sim_socket(o->fd));
    default:
        return true;
    }
}

static void complete(struct sim_op *o)
{
    switch (o->kind) {
    case POLL:
        post(o, POLLIN, OP_MORE, 0);
        break;
    case POLL_ONCE:
        post(o, (int32_t)o->events, 0, 0);
        break;
    case ACCEPT:
        complete_accept(o);
        break;
    case RECV:
        complete_recv(o);
        break;
    case SEND:
        complete_send(o);
        break;
    case CONNECT:
        complete_connect(o);
        break;
    }
}

static void visit(struct sim_op *o)
{
    if (o->cancelled) {
        if (sim_chance(sim_faults.late))
            return;
        if (ready(o) && sim_chance(sim_faults.cancel_lost))
            complete(o);
        else
            post(o, o->done ? (int32_t)o->done : -ECANCELED, 0, 0);
    } else if (ready(o) && !sim_chance(sim_faults.late)) {
        complete(o);
    }
}

// One look at every operation, from a random one on.
static void visit_all(void)
{
    struct sim_op *all[1024];
    uint32_t n = 0, start;
    list_for_each (node, &ops)
        if (n < 1024)
            all[n++] = container_of(node, struct sim_op, link);
    if (n == 0)
        return;
    start = rng_below(sim_rng(), n);
    for (uint32_t i = 0; i < n; i++)
        visit(all[(start + i) % n]);
}

static bool anything_ready(void)
{
    list_for_each (node, &ops) {
        struct sim_op *o = container_of(node, struct sim_op, link);
        if (o->cancelled || ready(o))
            return true;
    }
    return false;
}

// --- ring.h ----------------------------------------------------------------------------------

enum err ring_init(struct ring *r, uint32_t entries, uint32_t cq_entries)
{
    (void)entries;
    (void)cq_entries;
    *r = (struct ring){.impl = &ops, .bundles = sim_chance(700)};
    return OK;
}

enum err ring_enable(struct ring *r)
{
    (void)r;
    return OK;
}

void ring_disable(struct ring *r)
{
    (void)r;
}

void ring_fini(struct ring *r)
{
    r->impl = NULL;
}

void ring_probe(struct ring_features *out)
{
    *out = (struct ring_features){.single_issuer = true,
                                  .defer_taskrun = true,
                                  .buf_ring = true,
                                  .multishot_accept = true,
                                  .multishot_recv = true};
}

void ring_wait(struct ring *r, uint64_t timeout_ns)
{
    uint64_t end = timeout_ns == UINT64_MAX ? UINT64_MAX : sim_now_ns() + timeout_ns;
    r->enters++;
    sim_time_pass(1000 + rng_below(sim_rng(), 20000));
    for (;;) {
        sim_step();
        visit_all();
        if (!list_empty(&completions) || sim_now_ns() >= end)
            return;
        // The outside world acts in steps, so idle time passes in small ones, growing.
        uint64_t hop = anything_ready() ? 10 * NS_PER_US : NS_PER_MS;
        if (end == UINT64_MAX || end - sim_now_ns() > hop)
            sim_time_pass(hop);
        else
            sim_time_pass(end - sim_now_ns());
        if (sim_chance(end == UINT64_MAX ? 20 : 5))
            return; // a spurious return is allowed, and lets sim_run look at its condition
    }
}

void ring_dispatch(struct ring *r)
{
    struct list_node *n;
    while ((n = list_pop_head(&completions))) {
        struct completion c = *container_of(n, struct completion, link);
        free(container_of(n, struct completion, link));
        r->completions++;
        if (!(c.flags & OP_MORE)) {
            check(c.op->inflight);
            c.op->inflight = false;
            c.ring->inflight--;
        }
        c.op->done(c.op, c.res, c.flags, c.bid);
    }
}

void ring_turn(struct ring *r, uint64_t timeout_ns)
{
    ring_wait(r, timeout_ns);
    ring_dispatch(r);
}

static struct sim_op *start(struct ring *r, struct op *op, enum kind kind, int fd)
{
    struct sim_op *o = must(calloc(1, sizeof(*o)));
    check(!op->inflight);
    op->inflight = true;
    r->inflight++;
    r->submits++;
    *o = (struct sim_op){.ring = r, .op = op, .kind = kind, .fd = fd};
    if (sim_is_socket(fd))
        sim_socket(fd)->ops++;
    list_insert_tail(&ops, &o->link);
    return o;
}

void ring_accept_multishot(struct ring *r, struct op *op, int listen_fd)
{
    start(r, op, ACCEPT, listen_fd);
}

void ring_connect(struct ring *r, struct op *op, int fd, const struct sockaddr *addr, socklen_t len)
{
    struct sim_op *o = start(r, op, CONNECT, fd);
    memcpy(&o->addr, addr, len);
    o->addr_len = len;
}

void ring_recv_multishot(struct ring *r, struct op *op, int fd, uint16_t buf_group, bool bundle)
{
    check(buffers && buffers->group_id == buf_group);
    start(r, op, RECV, fd)->bundle = bundle;
}

void ring_recv_some(struct ring *r, struct op *op, int fd, uint16_t buf_group, uint32_t max)
{
    check(buffers && buffers->group_id == buf_group && max > 0);
    start(r, op, RECV, fd)->max = max;
}

void ring_send(struct ring *r, struct op *op, int fd, const void *data, size_t len, bool more)
{
    struct sim_op *o = start(r, op, SEND, fd);
    (void)more;
    check(len > 0);
    o->data = data;
    o->len = len;
}

void ring_sendmsg(struct ring *r, struct op *op, int fd, const struct msghdr *msg, bool more)
{
    struct sim_op *o = start(r, op, SEND, fd);
    (void)more;
    o->msg = msg;
    for (size_t i = 0; i < msg->msg_iovlen; i++)
        o->len += msg->msg_iov[i].iov_len;
    check(o->len > 0);
}

void ring_poll(struct ring *r, struct op *op, int fd, uint32_t events)
{
    start(r, op, POLL_ONCE, fd)->events = events;
}

// The simulated network has streams only: what a kernel without the operation answers.
void ring_send_datagram(struct ring *r, struct op *op, int fd, const struct msghdr *msg)
{
    (void)msg;
    post(start(r, op, POLL, fd), -EOPNOTSUPP, 0, 0);
}

void ring_recv_datagrams(struct ring *r, struct op *op, int fd, const struct msghdr *shape,
                         uint16_t buf_group)
{
    (void)shape;
    (void)buf_group;
    post(start(r, op, POLL, fd), -EOPNOTSUPP, 0, 0);
}

bool ring_datagram_parse(struct slice filled, const struct msghdr *shape, struct ring_datagram *out)
{
    (void)filled;
    (void)shape;
    (void)out;
    return false;
}

void ring_poll_multishot(struct ring *r, struct op *op, int fd, uint32_t events)
{
    check(events == POLLIN);
    start(r, op, POLL, fd);
}

// What has completed already and only waits for dispatch is not found, as in the kernel.
void ring_cancel(struct ring *r, struct op *target)
{
    (void)r;
    list_for_each (node, &ops) {
        struct sim_op *o = container_of(node, struct sim_op, link);
        if (o->op == target)
            o->cancelled = true;
    }
}
