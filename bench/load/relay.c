// bench-relay: the bare limit. Pairs every client connection with an upstream connection of its
// own and passes bytes both ways without looking at them: multishot receives into provided
// buffers, one send a buffer, one io_uring_enter a turn. What a gateway needs beyond this is its
// own.
//
// Each pair has two legs; a buffer received on one waits in the queue of the other until sent.
// A pair is closed when neither leg has an operation in flight.
#include <getopt.h>

#include "load.h"

enum { OP_ACCEPT, OP_CONNECT, OP_RECV, OP_SEND, OP_MASK = 7 };
enum { NONE = -1 };

struct leg {
    struct leg *other;
    struct leg *next_starved;
    int fd;
    int first, last; // queue of buffers to send
    bool receiving, sending, ended, starved;
};

static struct io_uring ring;
static struct buffers buffers;
static struct {
    int next;
    unsigned len;
} *queued;                  // by buffer
static struct leg *starved; // found no buffer; fed when one has come back
static bool buffer_back;
static struct sockaddr_in upstream;

static void submit(struct io_uring_sqe *sqe, struct leg *l, int op)
{
    io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)l | (uint64_t)op);
}

static void recv_start(struct leg *l)
{
    arm_recv(&ring, l->fd, true, (uint64_t)(uintptr_t)l | OP_RECV);
    l->receiving = true;
}

static void send_start(struct leg *l)
{
    struct io_uring_sqe *sqe = ring_sqe(&ring);
    io_uring_prep_send(sqe, l->fd, buffer_at(&buffers, (unsigned)l->first), queued[l->first].len,
                       MSG_WAITALL | MSG_NOSIGNAL);
    submit(sqe, l, OP_SEND);
    l->sending = true;
}

static void drop_queue(struct leg *l)
{
    for (; l->first != NONE; l->first = queued[l->first].next)
        buffers_give(&buffers, (unsigned)l->first);
    buffer_back = true;
}

// Ends both legs; their receives complete and the pair goes with the last operation.
static void cut(struct leg *l)
{
    l->ended = l->other->ended = true;
    shutdown(l->fd, SHUT_RDWR);
    shutdown(l->other->fd, SHUT_RDWR);
}

static bool leg_idle(const struct leg *l)
{
    return !l->receiving && !l->sending && !l->starved;
}

static void close_if_done(struct leg *l)
{
    struct leg *o = l->other;
    if (!leg_idle(l) || !leg_idle(o) || !l->ended || !o->ended)
        return;
    drop_queue(l);
    drop_queue(o);
    close(l->fd);
    close(o->fd);
    free(l < o ? l : o);
}

static void on_accept(int fd)
{
    struct leg *pair = must_calloc(2, sizeof *pair);
    pair[0] = (struct leg){.other = &pair[1], .fd = fd, .first = NONE};
    pair[1] = (struct leg){.other = &pair[0], .first = NONE};
    pair[1].fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (pair[1].fd < 0)
        die("socket", errno);
    set_nodelay(pair[1].fd);
    struct io_uring_sqe *sqe = ring_sqe(&ring);
    io_uring_prep_connect(sqe, pair[1].fd, (struct sockaddr *)&upstream, sizeof upstream);
    submit(sqe, &pair[1], OP_CONNECT);
}

static void on_connect(struct leg *l, int res)
{
    if (res < 0) {
        cut(l);
        close_if_done(l);
        return;
    }
    recv_start(l->other);
    recv_start(l);
}

static void on_data(struct leg *l, unsigned id, unsigned len)
{
    struct leg *o = l->other;
    queued[id].len = len;
    queued[id].next = NONE;
    if (o->first == NONE)
        o->first = (int)id;
    else
        queued[o->last].next = (int)id;
    o->last = (int)id;
    if (!o->sending)
        send_start(o);
}

static void on_end(struct leg *l, int res)
{
    l->ended = true;
    if (res < 0)
        cut(l);
    else if (l->other->first == NONE)
        shutdown(l->other->fd, SHUT_WR);
}

static void on_recv(struct leg *l, const struct io_uring_cqe *cqe)
{
    if (!(cqe->flags & IORING_CQE_F_MORE))
        l->receiving = false;
    if (cqe->res > 0) {
        on_data(l, cqe->flags >> IORING_CQE_BUFFER_SHIFT, (unsigned)cqe->res);
        if (!l->receiving)
            recv_start(l);
    } else if (cqe->res == -ENOBUFS) {
        l->starved = true;
        l->next_starved = starved;
        starved = l;
    } else {
        on_end(l, cqe->res);
    }
    close_if_done(l);
}

static void on_send(struct leg *l, int res)
{
    int id = l->first;
    l->first = queued[id].next;
    l->sending = false;
    buffers_give(&buffers, (unsigned)id);
    buffer_back = true;
    if (res < 0)
        cut(l);
    else if (l->first != NONE)
        send_start(l);
    else if (l->other->ended)
        shutdown(l->fd, SHUT_WR);
    close_if_done(l);
}

static void feed_starved(void)
{
    struct leg *l = starved;
    starved = NULL;
    buffer_back = false;
    while (l != NULL) {
        struct leg *next = l->next_starved;
        l->starved = false;
        if (l->ended)
            close_if_done(l);
        else
            recv_start(l);
        l = next;
    }
}

static void dispatch(const struct io_uring_cqe *cqe)
{
    struct leg *l = (struct leg *)(uintptr_t)(cqe->user_data & ~(uint64_t)OP_MASK);
    int op = (int)(cqe->user_data & OP_MASK);
    if (op == OP_RECV)
        on_recv(l, cqe);
    else if (op == OP_SEND)
        on_send(l, cqe->res);
    else if (op == OP_CONNECT)
        on_connect(l, cqe->res);
    else if (cqe->res >= 0)
        on_accept(cqe->res);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"port", 1, NULL, 'p'},
                                            {"upstream", 1, NULL, 'u'},
                                            {"buffer", 1, NULL, 'b'},
                                            {"cpu", 1, NULL, 'c'},
                                            {0}};
    unsigned port = 0, size = 4096, target = 0;
    int cpu = -1;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == 'p')
            port = (unsigned)number(optarg, 0, 65535);
        else if (o == 'u')
            target = (unsigned)number(optarg, 1, 65535);
        else if (o == 'b')
            size = (unsigned)number(optarg, 512, 1 << 20);
        else if (o == 'c')
            cpu = (int)number(optarg, 0, CPU_SETSIZE - 1);
        else
            return 2;
    }
    upstream = loopback(target);
    pin_cpu(cpu);
    raise_nofile();
    ring_init(&ring);
    buffers_init(&buffers, &ring, 256, size);
    queued = must_calloc(buffers.count, sizeof *queued);
    struct io_uring_sqe *sqe = ring_sqe(&ring);
    io_uring_prep_multishot_accept(sqe, listen_and_tell(port), NULL, NULL, SOCK_CLOEXEC);
    submit(sqe, NULL, OP_ACCEPT);
    for (;;) {
        struct io_uring_cqe *cqe;
        unsigned head, n = 0;
        io_uring_submit_and_wait(&ring, 1);
        io_uring_for_each_cqe(&ring, head, cqe)
        {
            dispatch(cqe);
            n++;
        }
        io_uring_cq_advance(&ring, n);
        if (starved != NULL && buffer_back)
            feed_starved();
    }
}
