// What the running kernel offers: asked once, by trying. Owns nothing that outlives a call,
// except the remembered answer about bundles. Any thread.
#include "core/ring.h"
#include "core/ring_kernel.h"
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#define PROBE_BUFFERS 4u
#define PROBE_BUFFER_BYTES 64u

struct bundle_try {
    struct io_uring u;
    struct io_uring_buf_ring *bufs;
    char memory[PROBE_BUFFERS * PROBE_BUFFER_BYTES];
    int fd[2];
};

static bool try_setup(struct bundle_try *t)
{
    int rc;
    if (io_uring_queue_init(8, &t->u, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN) < 0)
        return false;
    t->bufs = io_uring_setup_buf_ring(&t->u, PROBE_BUFFERS, 0, 0, &rc);
    if (!t->bufs)
        return false;
    for (unsigned i = 0; i < PROBE_BUFFERS; i++)
        io_uring_buf_ring_add(t->bufs, t->memory + i * PROBE_BUFFER_BYTES, PROBE_BUFFER_BYTES,
                              (unsigned short)i, io_uring_buf_ring_mask(PROBE_BUFFERS), (int)i);
    io_uring_buf_ring_advance(t->bufs, PROBE_BUFFERS);
    return socketpair(AF_UNIX, SOCK_STREAM, 0, t->fd) == 0;
}

// The next completion, or -ETIME.
static int try_next(struct bundle_try *t, struct io_uring_cqe *out)
{
    struct __kernel_timespec ts = {.tv_sec = 1};
    struct io_uring_cqe *cqe;
    int rc = io_uring_submit_and_wait_timeout(&t->u, &cqe, 1, &ts, NULL);
    if (rc < 0)
        return rc;
    *out = *cqe;
    io_uring_cqe_seen(&t->u, cqe);
    return 0;
}

// One and a half buffers arrive as one completion; then the stream ends.
static void try_run(struct bundle_try *t, struct bundle_probe *out)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&t->u);
    struct io_uring_cqe cqe;
    char bytes[PROBE_BUFFER_BYTES * 3 / 2];
    uint16_t before, after;
    memset(bytes, 'x', sizeof(bytes));
    if (send(t->fd[1], bytes, sizeof(bytes), MSG_NOSIGNAL) != (ssize_t)sizeof(bytes))
        return;
    io_uring_prep_recv_multishot(sqe, t->fd[0], NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->ioprio |= IORING_RECVSEND_BUNDLE;
    if (try_next(t, &cqe) < 0 || cqe.res != (int)sizeof(bytes))
        return;
    if (io_uring_buf_ring_head(&t->u, 0, &before) < 0)
        return;
    shutdown(t->fd[1], SHUT_WR);
    if (try_next(t, &cqe) < 0 || cqe.res != 0 || io_uring_buf_ring_head(&t->u, 0, &after) < 0)
        return;
    out->works = before == 2;
    out->eof_consumes = after != before;
}

static struct bundle_probe bundles;

static void probe_once(void)
{
    struct bundle_try *t = calloc(1, sizeof(*t));
    if (!t)
        return;
    t->u.ring_fd = t->fd[0] = t->fd[1] = -1;
    if (try_setup(t))
        try_run(t, &bundles);
    if (t->fd[0] >= 0) {
        close(t->fd[0]);
        close(t->fd[1]);
    }
    if (t->bufs)
        io_uring_free_buf_ring(&t->u, t->bufs, PROBE_BUFFERS, 0);
    if (t->u.ring_fd >= 0)
        io_uring_queue_exit(&t->u);
    free(t);
}

void ring_probe_bundles(struct bundle_probe *out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, probe_once);
    *out = bundles;
}

bool ring_probe_kernel(unsigned major, unsigned minor)
{
    struct utsname u;
    unsigned a = 0, b = 0;
    if (uname(&u) < 0 || sscanf(u.release, "%u.%u", &a, &b) != 2)
        return false;
    return a > major || (a == major && b >= minor);
}

static bool forbidden(int rc)
{
    return rc == -EPERM || rc == -EACCES || rc == -ENOSYS;
}

static bool has_buf_ring(struct io_uring *u, int *denied)
{
    int rc = 0;
    struct io_uring_buf_ring *b = io_uring_setup_buf_ring(u, 4, 0, 0, &rc);
    if (b)
        io_uring_free_buf_ring(u, b, 4, 0);
    else if (forbidden(rc)) // a seccomp filter that lets setup pass and nothing else
        *denied = -rc;
    return b != NULL;
}

// An operation that does nothing, there and back.
static int try_enter(struct io_uring *u)
{
    struct io_uring_cqe *cqe;
    io_uring_prep_nop(io_uring_get_sqe(u));
    int rc = io_uring_submit_and_wait(u, 1);
    if (rc < 0)
        return -rc;
    if (io_uring_peek_cqe(u, &cqe) == 0)
        io_uring_cqe_seen(u, cqe);
    return 0;
}

static void probe_ops(struct io_uring *u, struct ring_features *out)
{
    struct io_uring_probe *p = io_uring_get_probe_ring(u);
    out->send_zc = p && io_uring_opcode_supported(p, IORING_OP_SEND_ZC);
    // Multishot accept came with 5.19 and is told apart by nothing; SEND_ZC (6.0) is younger
    // and as old as multishot receive.
    out->multishot_accept = out->multishot_recv = out->send_zc;
    io_uring_free_probe(p);
}

static const char *missing_of(const struct ring_features *f)
{
    if (!f->single_issuer)
        return "SINGLE_ISSUER rings (Linux 6.0)";
    if (!f->defer_taskrun)
        return "DEFER_TASKRUN rings (Linux 6.1)";
    if (!f->buf_ring)
        return "provided-buffer rings (Linux 5.19)";
    if (!f->multishot_accept || !f->multishot_recv)
        return "multishot accept and receive (Linux 6.0)";
    return NULL;
}

void ring_probe(struct ring_features *out)
{
    struct io_uring u;
    struct bundle_probe b;
    *out = (struct ring_features){0};
    int rc = io_uring_queue_init(8, &u, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
    out->single_issuer = out->defer_taskrun = rc == 0;
    if (rc == -EINVAL) {
        rc = io_uring_queue_init(8, &u, IORING_SETUP_SINGLE_ISSUER);
        out->single_issuer = rc == 0;
        if (rc == -EINVAL)
            rc = io_uring_queue_init(8, &u, 0);
    }
    if (rc < 0) {
        out->setup_errno = -rc;
        out->missing = "io_uring itself";
        return;
    }
    out->setup_errno = try_enter(&u);
    out->buf_ring = has_buf_ring(&u, &out->setup_errno);
    probe_ops(&u, out);
    io_uring_queue_exit(&u);
    ring_probe_bundles(&b);
    out->recv_bundle = b.works;
    out->multishot_recv_limit = ring_probe_kernel(6, 17);
    out->missing = missing_of(out);
}
