// Invariants while a direction is on: from->recv and to->send are not core/tcp's but used for
// polls, at most one of them in flight: `from` is polled while the pipe is empty, `to` while it is
// not. So a direction that waits for bytes holds no pipe. An operation's `done` is put back when it
// completes, so that whatever else happens meanwhile (a close) finds the connection as it knows it.
// splice(2) is called from the loop, on sockets that do not block: IORING_OP_SPLICE always goes
// to a thread of io-wq.
#include "core/splice.h"
#include "core/check.h"
#include "core/tcp_parts.h"
#include <errno.h>
#include <poll.h>

#define SMALL_MAX 8u // small pieces in a row, after which it is no bulk any more

void splice_init(struct splice *s, struct tcp *from, struct tcp *to,
                 const struct splice_limits *limits,
                 void (*on_moved)(struct tcp *from, uint32_t bytes))
{
    *s = (struct splice){.from = from, .to = to, .limits = limits, .on_moved = on_moved};
}

static struct pipe_pool *pipes_of(const struct splice *s)
{
    return &container_of(s->from->out.chunks, struct tcp_pools, chunks)->pipes;
}

static bool take_pipe(struct splice *s)
{
    s->pipe = pipe_get(pipes_of(s));
    if (s->pipe)
        worker_count(s->from->worker, splice_pipes);
    else
        worker_count(s->from->worker, splice_pipe_overflow);
    return s->pipe;
}

static void drop_pipe(struct splice *s)
{
    if (s->pipe)
        worker_count_n(s->from->worker, splice_pipes, (uint64_t)-1);
    pipe_put(pipes_of(s), s->pipe);
    s->pipe = NULL;
}

static void set_off(struct splice *s)
{
    check(splice_active(s));
    s->state = SPLICE_OFF;
    s->run = s->small = 0;
    s->from->spliced_from = s->to->spliced_to = NULL;
    drop_pipe(s);
}

// Back to receiving and sending.
static void give_up(struct splice *s)
{
    set_off(s);
    tcp_resume(s->from);
}

void splice_stop(struct splice *s)
{
    if (!splice_active(s))
        return;
    bool on = s->state == SPLICE_ON;
    set_off(s);
    if (on && s->from->recv.inflight)
        ring_cancel(&s->from->worker->ring, &s->from->recv);
    if (on && s->to->send.inflight)
        ring_cancel(&s->to->worker->ring, &s->to->send);
}

// ---- waiting

static void drain(struct splice *s);
static void fill(struct splice *s);

static void on_readable(struct op *op, int32_t res, uint32_t flags, uint16_t bid)
{
    struct tcp *t = container_of(op, struct tcp, recv);
    (void)res; // what is wrong with it the splice will tell
    (void)flags;
    (void)bid;
    op->done = tcp_on_recv;
    if (t->flags & TCP_CLOSE_STARTED)
        tcp_finish_if_idle(t);
    else if (t->spliced_from)
        fill(t->spliced_from);
    else
        tcp_recv_arm(t);
}

static void on_writable(struct op *op, int32_t res, uint32_t flags, uint16_t bid)
{
    struct tcp *t = container_of(op, struct tcp, send);
    (void)res;
    (void)flags;
    (void)bid;
    op->done = tcp_on_send;
    if (t->flags & TCP_CLOSE_STARTED)
        tcp_finish_if_idle(t);
    else if (t->spliced_to)
        drain(t->spliced_to);
    else
        tcp_flush(t);
}

static void wait_readable(struct splice *s)
{
    struct tcp *t = s->from;
    t->recv.done = on_readable;
    ring_poll(&t->worker->ring, &t->recv, t->fd, POLLIN);
}

static void wait_writable(struct splice *s)
{
    struct tcp *t = s->to;
    t->send.done = on_writable;
    ring_poll(&t->worker->ring, &t->send, t->fd, POLLOUT);
}

// ---- moving

static void count_in(struct splice *s, uint32_t bytes)
{
    struct tcp *t = s->from;
    t->rx_bytes += bytes;
    if (t->events->counted)
        counter_add(&t->worker->counters.c[t->events->rx_counter], bytes);
    s->small = bytes < s->limits->large ? s->small + 1 : 0;
    s->on_moved(t, bytes);
}

static void count_out(struct splice *s, uint32_t bytes)
{
    struct tcp *t = s->to;
    t->tx_bytes += bytes;
    if (t->events->counted)
        counter_add(&t->worker->counters.c[t->events->tx_counter], bytes);
}

static bool again(ssize_t n)
{
    return n == -EAGAIN || n == -EINTR;
}

// What is in the pipe, to `to`; then on, or the end.
static void drain(struct splice *s)
{
    struct pipe *p = s->pipe;
    while (p->bytes > 0) {
        ssize_t n = ring_splice(p->out, s->to->fd, p->bytes);
        if (again(n)) {
            wait_writable(s);
            return;
        }
        if (n <= 0) {
            tcp_fail(s->to, n < 0 ? (int)-n : EPIPE);
            return;
        }
        p->bytes -= (uint32_t)n;
        count_out(s, (uint32_t)n);
    }
    drop_pipe(s);
    struct tcp *from = s->from;
    if (s->ended) {
        set_off(s);
        tcp_deliver_eof(from);
    } else if (s->small >= SMALL_MAX) {
        give_up(s);
    } else {
        wait_readable(s);
    }
}

// One pipe's worth, and on to `to`: the next comes in the next turn, after the others'.
static void fill(struct splice *s)
{
    if (!take_pipe(s)) {
        give_up(s);
        return;
    }
    ssize_t n = ring_splice(s->from->fd, s->pipe->in, s->pipe->capacity);
    if (again(n)) {
        drop_pipe(s);
        wait_readable(s);
        return;
    }
    if (n < 0) {
        tcp_fail(s->from, (int)-n);
        return;
    }
    s->ended = n == 0;
    s->pipe->bytes = (uint32_t)n;
    if (n > 0)
        count_in(s, (uint32_t)n);
    if (s->state == SPLICE_ON) // its owner may have closed
        drain(s);
}

// ---- starting

static bool possible(const struct tcp *t)
{
    const uint32_t no = TCP_CLOSE_STARTED | TCP_CLOSE_AFTER_FLUSH | TCP_ERROR | TCP_BROKEN;
    return (t->flags & TCP_OPEN) && !(t->flags & no) && !t->filter;
}

void splice_note(struct splice *s, uint64_t bytes)
{
    if (s->limits->after == 0 || splice_active(s))
        return;
    uint64_t run = bytes >= s->limits->large ? s->run + bytes : 0;
    s->run = run < UINT32_MAX ? (uint32_t)run : UINT32_MAX;
    if (s->run < s->limits->after || !possible(s->from) || !possible(s->to))
        return;
    s->state = SPLICE_STARTING;
    tcp_pause(s->from);
    splice_advance(s);
}

void splice_advance(struct splice *s)
{
    if (s->state != SPLICE_STARTING)
        return;
    if (s->from->flags & TCP_EOF) {
        s->state = SPLICE_OFF;
        return;
    }
    if (s->from->recv.inflight || s->to->send.inflight || s->to->out.bytes > 0)
        return;
    s->state = SPLICE_ON;
    s->from->spliced_from = s->to->spliced_to = s;
    worker_count(s->from->worker, splice_total);
    wait_readable(s);
}
