// The only door to io_uring. Owns one struct io_uring; its submission and completion queues are
// touched by the thread of ring_enable only (SINGLE_ISSUER), which with DEFER_TASKRUN also is
// the only place where the kernel does completion work: inside ring_wait.
//
// Invariants: op->inflight is set from queueing to the last completion; `inflight` counts them.
// user_data is the op's address; 0 is nobody's (cancellations).
#include "core/ring.h"
#include "core/check.h"
#include "core/ring_kernel.h"
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define DRAIN_BATCH 256
// One receive may take this much before other sockets have their turn (sqe->len of a multishot
// receive, kernel 6.17).
#define RECV_TURN_BYTES 65536

#define SETUP_FLAGS                                                                      \
    (IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_R_DISABLED | \
     IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP)

static int queue_init(struct io_uring *u, uint32_t entries, uint32_t cq_entries)
{
    struct io_uring_params p = {.flags = SETUP_FLAGS | IORING_SETUP_NO_SQARRAY,
                                .cq_entries = cq_entries};
    int rc = io_uring_queue_init_params(entries, u, &p);
    if (rc == -EINVAL) { // NO_SQARRAY came with 6.6
        p = (struct io_uring_params){.flags = SETUP_FLAGS, .cq_entries = cq_entries};
        rc = io_uring_queue_init_params(entries, u, &p);
    }
    return rc;
}

enum err ring_init(struct ring *r, uint32_t entries, uint32_t cq_entries)
{
    *r = (struct ring){0};
    struct ring_kernel *k = calloc(1, sizeof(*k));
    if (!k)
        return ERR_NOMEM;
    int rc = queue_init(&k->u, entries, cq_entries);
    if (rc < 0) {
        free(k);
        errno = -rc;
        return ERR_IO;
    }
    k->recv_turn_bytes = ring_probe_kernel(6, 17) ? RECV_TURN_BYTES : 0;
    r->impl = k;
    struct bundle_probe probe;
    ring_probe_bundles(&probe);
    r->bundles = (k->u.features & IORING_FEAT_RECVSEND_BUNDLE) && probe.works;
    r->bundle_eof_consumes = probe.eof_consumes;
    return OK;
}

// io-wq threads are for file and blocking work, of which there is none here; without a bound a
// burst could start as many as RLIMIT_NPROC allows (liburing issue 460).
static void bound_workers(struct io_uring *u)
{
    unsigned int bound[2] = {2, 2};
    io_uring_register_iowq_max_workers(u, bound);
}

enum err ring_enable(struct ring *r)
{
    struct ring_kernel *k = r->impl;
    int rc = io_uring_enable_rings(&k->u);
    if (rc < 0) {
        errno = -rc;
        return ERR_IO;
    }
    io_uring_register_ring_fd(&k->u); // saves a descriptor look-up in each enter; optional
    bound_workers(&k->u);
    return OK;
}

// The registered descriptor is the thread's: from another one the same index would be another ring.
void ring_disable(struct ring *r)
{
    io_uring_unregister_ring_fd(&((struct ring_kernel *)r->impl)->u);
}

void ring_fini(struct ring *r)
{
    struct ring_kernel *k = r->impl;
    if (!k)
        return;
    io_uring_queue_exit(&k->u);
    free(k);
    r->impl = NULL;
}

static struct io_uring *uring(struct ring *r)
{
    return &((struct ring_kernel *)r->impl)->u;
}

static void submit_now(struct ring *r)
{
    int rc = io_uring_submit(uring(r));
    r->enters++;
    if (rc > 0)
        r->submits += (uint64_t)rc;
    else if (rc == -EBUSY || rc == -EAGAIN)
        io_uring_get_events(uring(r)); // completions first: the kernel holds too many back
    else
        check(rc == 0 || rc == -EINTR);
}

static struct io_uring_sqe *sqe_get(struct ring *r)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(uring(r));
    for (int tries = 0; unlikely(!sqe); tries++) {
        check(tries < 1000);
        submit_now(r);
        sqe = io_uring_get_sqe(uring(r));
    }
    return sqe;
}

static void start(struct ring *r, struct io_uring_sqe *sqe, struct op *op)
{
    check(!op->inflight);
    op->inflight = true;
    r->inflight++;
    io_uring_sqe_set_data(sqe, op);
}

void ring_wait(struct ring *r, uint64_t timeout_ns)
{
    struct io_uring *u = uring(r);
    struct io_uring_cqe *cqe;
    unsigned before = io_uring_sq_ready(u);
    if (timeout_ns == 0) {
        io_uring_submit_and_get_events(u);
    } else {
        struct __kernel_timespec ts = {.tv_sec = (long long)(timeout_ns / 1000000000ull),
                                       .tv_nsec = (long long)(timeout_ns % 1000000000ull)};
        io_uring_submit_and_wait_timeout(u, &cqe, 1, timeout_ns == UINT64_MAX ? NULL : &ts, NULL);
    }
    r->enters++;
    r->submits += before - io_uring_sq_ready(u);
    // Set while completions wait in the kernel because the queue was full.
    if (unlikely(IO_URING_READ_ONCE(*u->sq.kflags) & IORING_SQ_CQ_OVERFLOW))
        r->overflows++;
}

struct completion {
    uint64_t user_data;
    int32_t res;
    uint32_t flags;
};

static uint32_t op_flags(uint32_t cqe)
{
    return (cqe & IORING_CQE_F_MORE ? OP_MORE : 0) | (cqe & IORING_CQE_F_BUFFER ? OP_BUFFER : 0) |
           (cqe & IORING_CQE_F_NOTIF ? OP_NOTIF : 0) |
           (cqe & IORING_CQE_F_SOCK_NONEMPTY ? OP_SOCK_NONEMPTY : 0);
}

static void dispatch_one(struct ring *r, const struct completion *c)
{
    struct op *op = (struct op *)(uintptr_t)c->user_data;
    if (!op)
        return;
    if (!(c->flags & IORING_CQE_F_MORE)) {
        check(op->inflight);
        op->inflight = false;
        r->inflight--;
    }
    op->done(op, c->res, op_flags(c->flags), (uint16_t)(c->flags >> IORING_CQE_BUFFER_SHIFT));
}

static uint32_t drain(struct io_uring *u, struct completion *out, uint32_t cap)
{
    struct io_uring_cqe *cqe;
    unsigned head;
    uint32_t n = 0;
    io_uring_for_each_cqe(u, head, cqe)
    {
        if (n == cap)
            break;
        out[n++] = (struct completion){cqe->user_data, cqe->res, cqe->flags};
    }
    io_uring_cq_advance(u, n);
    return n;
}

// To the end of the queue: buffers may be given back to the kernel only when every completion
// that names them has been seen (bufring.c).
void ring_dispatch(struct ring *r)
{
    struct completion batch[DRAIN_BATCH];
    uint32_t n;
    while ((n = drain(uring(r), batch, DRAIN_BATCH)) > 0) {
        r->completions += n;
        for (uint32_t i = 0; i < n; i++)
            dispatch_one(r, &batch[i]);
    }
}

void ring_turn(struct ring *r, uint64_t timeout_ns)
{
    ring_wait(r, timeout_ns);
    ring_dispatch(r);
}

void ring_accept_multishot(struct ring *r, struct op *op, int listen_fd)
{
    struct io_uring_sqe *sqe = sqe_get(r);
    io_uring_prep_multishot_accept(sqe, listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    start(r, sqe, op);
}

void ring_connect(struct ring *r, struct op *op, int fd, const struct sockaddr *addr, socklen_t len)
{
    struct io_uring_sqe *sqe = sqe_get(r);
    io_uring_prep_connect(sqe, fd, addr, len);
    start(r, sqe, op);
}

void ring_recv_multishot(struct ring *r, struct op *op, int fd, uint16_t buf_group, bool bundle)
{
    struct ring_kernel *k = r->impl;
    struct io_uring_sqe *sqe = sqe_get(r);
    io_uring_prep_recv_multishot(sqe, fd, NULL, k->recv_turn_bytes, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = buf_group;
    if (bundle && r->bundles)
        sqe->ioprio |= IORING_RECVSEND_BUNDLE;
    start(r, sqe, op);
}

void ring_recv_some(struct ring *r, struct op *op, int fd, uint16_t buf_group, uint32_t max)
{
    struct io_uring_sqe *sqe = sqe_get(r);
    io_uring_prep_recv(sqe, fd, NULL, max, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = buf_group;
    start(r, sqe, op);
}

// Not MSG_WAITALL: it would hide that a slow reader takes something, until it has taken all, from
// whoever times stalled connections, and hold all its buffers until then (sim seed 1380).
static int send_flags(bool more)
{
    return MSG_NOSIGNAL | (more ? MSG_MORE : 0);
}

void ring_send(struct ring *r, struct op *op, int fd, const void *data, size_t len, bool more)
{
    struct io_uring_sqe *sqe = sqe_get(r);
    io_uring_prep_send(sqe, fd, data, len, send_flags(more));
    start(r, sqe, op);
}

void ring_sendmsg(struct ring *r, struct op *op, int fd, const struct msghdr *msg, bool more)
{
    struct io_uring_sqe *sqe = sqe_get(r);
    io_uring_prep_sendmsg(sqe, fd, msg, (unsigned)send_flags(more));
    start(r, sqe, op);
}

void ring_poll(struct ring *r, struct op *op, int fd, uint32_t events)
{
    struct io_uring_sqe *sqe = sqe_get(r);
    io_uring_prep_poll_add(sqe, fd, events);
    start(r, sqe, op);
}

void ring_send_datagram(struct ring *r, struct op *op, int fd, const struct msghdr *msg)
{
    struct io_uring_sqe *sqe = sqe_get(r);
    io_uring_prep_sendmsg(sqe, fd, msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    start(r, sqe, op);
}

void ring_recv_datagrams(struct ring *r, struct op *op, int fd, const struct msghdr *shape,
                         uint16_t buf_group)
{
    struct io_uring_sqe *sqe = sqe_get(r);
    check(shape->msg_namelen % 8 == 0);
    io_uring_prep_recvmsg_multishot(sqe, fd, (struct msghdr *)(uintptr_t)shape, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = buf_group;
    start(r, sqe, op);
}

bool ring_datagram_parse(struct slice filled, const struct msghdr *shape, struct ring_datagram *out)
{
    struct msghdr *m = (struct msghdr *)(uintptr_t)shape;
    void *start = (void *)(uintptr_t)filled.ptr;
    if (filled.len > INT32_MAX)
        return false;
    struct io_uring_recvmsg_out *o = io_uring_recvmsg_validate(start, (int)filled.len, m);
    if (!o)
        return false;
    const char *name = io_uring_recvmsg_name(o);
    *out = (struct ring_datagram){
        .from = (const struct sockaddr *)(const void *)name,
        .from_len = o->namelen < shape->msg_namelen ? o->namelen : shape->msg_namelen,
        .control = name + shape->msg_namelen,
        .control_len =
            o->controllen < shape->msg_controllen ? o->controllen : shape->msg_controllen,
        .payload = {io_uring_recvmsg_payload(o, m),
                    io_uring_recvmsg_payload_length(o, (int)filled.len, m)},
        .truncated = o->flags & (MSG_TRUNC | MSG_CTRUNC),
    };
    return true;
}

void ring_poll_multishot(struct ring *r, struct op *op, int fd, uint32_t events)
{
    struct io_uring_sqe *sqe = sqe_get(r);
    io_uring_prep_poll_multishot(sqe, fd, events);
    start(r, sqe, op);
}

// A target that has just completed is not found; that is no event, so the cancellation itself
// completes to nobody (and, when it succeeded, not at all).
void ring_cancel(struct ring *r, struct op *target)
{
    struct io_uring_sqe *sqe = sqe_get(r);
    io_uring_prep_cancel64(sqe, (uint64_t)(uintptr_t)target, 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe_set_data64(sqe, 0);
}
