// Life cycle of a connection: open, connect, shut down, close. The connection belongs to its
// worker's thread.
//
// Invariants: the descriptor is closed, and the memory handed back by on_closed, only when recv,
// send and connect all are out of the kernel; CLOSE_STARTED and ERROR are never cleared; on_error
// comes at most once; callbacks come from completions, timers and deferred tasks only, which is
// why tcp_close finishes in the flush task even when nothing is in flight. With a filter every send
// is from `wire`, so `out` may be cleared at any time; with TCP_PLAIN_TX only while none is in
// flight.
#include "core/tcp.h"
#include "core/check.h"
#include "core/tcp_parts.h"
#include <errno.h>
#include <netinet/tcp.h>

#define KEEPALIVE_MAX_S 32767u // the kernel's MAX_TCP_KEEPIDLE, -INTVL and -CNT
#define KEEPALIVE_MAX_PROBES 127u

void tcp_pools_init(struct tcp_pools *p, uint32_t max_conns, uint32_t max_chunks)
{
    pool_init(&p->conns, "tcp", sizeof(struct tcp), max_conns);
    bufq_pool_init(&p->chunks, max_chunks);
    pool_init(&p->msgs, "send_messages", sizeof(struct tcp_msg), max_chunks);
    pipe_pool_init(&p->pipes, TCP_PIPES);
}

void tcp_pools_fini(struct tcp_pools *p)
{
    pool_fini(&p->conns);
    pool_fini(&p->chunks);
    pool_fini(&p->msgs);
    pipe_pool_fini(&p->pipes);
}

static bool op_in_flight(const struct tcp *t)
{
    return t->recv.inflight || t->send.inflight || t->connect.inflight;
}

void tcp_finish_if_idle(struct tcp *t)
{
    if (!(t->flags & TCP_CLOSE_STARTED) || op_in_flight(t))
        return;
    turn_task_cancel(&t->flush);
    tcp_msg_release(t);
    bufq_clear(&t->out);
    bufq_clear(&t->wire);
    if (t->fd >= 0)
        ring_close(t->fd);
    t->fd = -1;
    t->events->on_closed(t);
}

static void run_flush(struct turn_task *task, struct worker *w)
{
    struct tcp *t = container_of(task, struct tcp, flush);
    (void)w;
    if (t->flags & TCP_CLOSE_STARTED)
        tcp_finish_if_idle(t);
    else
        tcp_send_next(t);
}

static void on_connect(struct op *op, int32_t res, uint32_t flags, uint16_t bid)
{
    struct tcp *t = container_of(op, struct tcp, connect);
    (void)flags;
    (void)bid;
    t->flags &= ~TCP_CONNECTING;
    if (t->flags & TCP_CLOSE_STARTED) {
        tcp_finish_if_idle(t);
        return;
    }
    if (res < 0) {
        tcp_fail(t, -res);
        return;
    }
    t->flags |= TCP_OPEN;
    tcp_recv_arm(t);
    tcp_flush(t);
    if (tcp_silent(t))
        return;
    if (t->filter)
        t->filter->ops->start(t->filter);
    else
        t->events->on_connected(t);
}

static void on_linger_end(struct timer *timer, uint64_t now_ns)
{
    struct tcp *t = container_of(timer, struct tcp, linger);
    const uint32_t waits = TCP_RESET_AFTER_FLUSH | TCP_LINGERING;
    if ((t->flags & waits) == waits && now_ns < t->flush_end_ns && ring_unsent(t->fd) > 0)
        timer_arm(&t->worker->timers, timer, now_ns + TCP_RESET_LOOK_NS);
    else
        tcp_close(t);
}

struct tcp *tcp_create(struct worker *w, struct tcp_pools *pools, const struct tcp_events *events,
                       void *owner)
{
    struct tcp *t = pool_get(&pools->conns);
    if (!t)
        return NULL;
    *t = (struct tcp){.worker = w, .events = events, .owner = owner, .fd = -1};
    t->recv.done = tcp_on_recv;
    t->send.done = tcp_on_send;
    t->connect.done = on_connect;
    turn_task_init(&t->flush, run_flush);
    list_init(&t->starved.link);
    t->starved.ready = tcp_on_buffers;
    timer_init(&t->linger, on_linger_end);
    bufq_init(&t->out, &pools->chunks, &w->bufs);
    bufq_init(&t->wire, &pools->chunks, &w->bufs);
    return t;
}

void tcp_destroy(struct tcp *t)
{
    check(t->fd < 0 && !op_in_flight(t));
    if (t->filter)
        t->filter->ops->destroy(t->filter);
    pool_put(&container_of(t->out.chunks, struct tcp_pools, chunks)->conns, t);
}

void tcp_hand_over(struct tcp *t, const struct tcp_events *events, void *owner)
{
    check(!tcp_silent(t));
    t->events = events;
    t->owner = owner;
}

void tcp_set_filter(struct tcp *t, struct tcp_filter *f)
{
    check(!t->filter && t->out.bytes == 0 && !t->send.inflight);
    t->filter = f;
    f->tcp = t;
    if (t->flags & TCP_OPEN)
        f->ops->start(f);
}

static void set_nodelay(int fd)
{
    int one = 1;
    (void)ring_setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); // not for Unix sockets
}

static void set_up_to(int fd, int name, uint32_t value, uint32_t most)
{
    int cut = (int)(value < most ? value : most);
    if (value)
        (void)ring_setsockopt(fd, IPPROTO_TCP, name, &cut, sizeof(cut));
}

void tcp_set_keepalive(struct tcp *t, const struct tcp_keepalive *k)
{
    int one = 1;
    check(t->fd >= 0);
    if (!k->on)
        return;
    (void)ring_setsockopt(t->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    set_up_to(t->fd, TCP_KEEPIDLE, k->idle_s, KEEPALIVE_MAX_S);
    set_up_to(t->fd, TCP_KEEPINTVL, k->interval_s, KEEPALIVE_MAX_S);
    set_up_to(t->fd, TCP_KEEPCNT, k->probes, KEEPALIVE_MAX_PROBES);
}

void tcp_open(struct tcp *t, int fd)
{
    check(t->fd < 0 && fd >= 0);
    t->fd = fd;
    t->flags |= TCP_OPEN;
    set_nodelay(fd);
    tcp_recv_arm(t);
    if (t->filter)
        t->filter->ops->start(t->filter);
}

int tcp_connect(struct tcp *t, const struct addr *to)
{
    check(t->fd < 0);
    int fd = ring_socket(to->sa.sa_family, SOCK_STREAM);
    if (fd < 0)
        return fd;
    t->fd = fd;
    t->flags |= TCP_CONNECTING;
    if (to->sa.sa_family != AF_UNIX)
        set_nodelay(fd);
    ring_connect(&t->worker->ring, &t->connect, fd, &to->sa, to->len);
    return 0;
}

void tcp_fail(struct tcp *t, int error)
{
    if (t->flags & (TCP_CLOSE_STARTED | TCP_ERROR))
        return;
    t->flags |= TCP_ERROR;
    if (t->flags & TCP_CLOSE_AFTER_FLUSH)
        tcp_close(t);
    else
        t->events->on_error(t, error);
}

void tcp_ready(struct tcp *t)
{
    check(t->filter && !(t->flags & TCP_READY));
    t->flags |= TCP_READY;
    tcp_flush(t);
    if (!tcp_silent(t))
        t->events->on_connected(t);
}

void tcp_filter_fail(struct tcp *t, int error)
{
    check(t->filter);
    if (t->flags & (TCP_CLOSE_STARTED | TCP_ERROR | TCP_BROKEN))
        return;
    t->flags |= TCP_BROKEN;
    if (!(t->flags & TCP_PLAIN_TX) || !t->send.inflight)
        bufq_clear(&t->out); // or else when that send is done
    tcp_flush(t);
    if (!(t->flags & TCP_CLOSE_AFTER_FLUSH))
        t->events->on_error(t, error);
}

void tcp_shutdown(struct tcp *t)
{
    t->flags |= TCP_SHUT_AFTER_FLUSH;
    tcp_flush(t);
}

static void send_fin(struct tcp *t)
{
    if (t->flags & TCP_SHUT)
        return;
    t->flags |= TCP_SHUT;
    ring_shutdown(t->fd, SHUT_WR);
}

// RFC 9112, 9.6: closing with unread bytes in the socket sends a RST, which may destroy the
// response at the client before it was read. So: FIN, read on for a while, close.
static void linger_begin(struct tcp *t)
{
    t->flags |= TCP_LINGERING;
    if (t->flags & TCP_RESET_AFTER_FLUSH) {
        t->flush_end_ns = t->worker->now_ns + TCP_LINGER_NS;
        on_linger_end(&t->linger, t->worker->now_ns);
        return;
    }
    send_fin(t);
    if (t->flags & TCP_EOF) {
        tcp_close(t);
        return;
    }
    timer_arm(&t->worker->timers, &t->linger, t->worker->now_ns + TCP_LINGER_NS);
    tcp_recv_arm(t);
}

void tcp_flushed(struct tcp *t)
{
    if (t->flags & TCP_CLOSE_AFTER_FLUSH) {
        if (!(t->flags & TCP_LINGERING))
            linger_begin(t);
    } else if (t->flags & TCP_SHUT_AFTER_FLUSH) {
        send_fin(t);
    }
}

void tcp_flush_watch(struct tcp *t)
{
    uint64_t at = t->worker->now_ns + TCP_FLUSH_STALL_NS;
    t->flush_from = t->tx_bytes;
    timer_arm(&t->worker->timers, &t->linger, at < t->flush_end_ns ? at : t->flush_end_ns);
}

static void close_after_flush(struct tcp *t)
{
    t->flags |= TCP_CLOSE_AFTER_FLUSH;
    t->flags &= ~TCP_RECV_PAUSED; // what still comes is dropped
    t->linger_left = TCP_LINGER_BYTES;
    t->flush_end_ns = t->worker->now_ns + TCP_FLUSH_MAX_NS;
    tcp_flush_watch(t);
    tcp_recv_arm(t);
    tcp_flush(t);
}

// Whether what is queued can be sent at all.
static bool can_flush(const struct tcp *t)
{
    return (t->flags & TCP_OPEN) && !(t->flags & TCP_ERROR) &&
           (!t->filter || (t->flags & (TCP_READY | TCP_BROKEN)));
}

void tcp_close_flush(struct tcp *t)
{
    if (tcp_silent(t))
        return;
    if (can_flush(t))
        close_after_flush(t);
    else
        tcp_close(t);
}

static void cancel(struct tcp *t, struct op *op)
{
    if (op->inflight)
        ring_cancel(&t->worker->ring, op);
}

static void end_by_reset(struct tcp *t)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    if (t->fd >= 0)
        (void)ring_setsockopt(t->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
}

void tcp_close(struct tcp *t)
{
    if (t->flags & TCP_CLOSE_STARTED)
        return;
    bool last_words = t->wire.bytes > 0 || t->record.len > 0 || (t->flags & TCP_RECORD);
    if ((t->flags & TCP_BROKEN) && last_words && !tcp_silent(t) && can_flush(t)) {
        close_after_flush(t);
        return;
    }
    // What was to be sent is not: a FIN could be taken for its end.
    if ((t->flags & TCP_RESET_AFTER_FLUSH) || ((t->flags & TCP_CLOSE_AFTER_FLUSH) && tcp_unsent(t)))
        end_by_reset(t);
    t->flags |= TCP_CLOSE_STARTED;
    timer_cancel(&t->worker->timers, &t->linger);
    bufring_unwait(&t->worker->bufs, &t->starved);
    cancel(t, &t->recv);
    cancel(t, &t->send);
    cancel(t, &t->connect);
    worker_defer(t->worker, &t->flush);
}

void tcp_reset(struct tcp *t)
{
    end_by_reset(t);
    tcp_close(t);
}

void tcp_reset_flush(struct tcp *t)
{
    if (tcp_silent(t))
        return;
    t->flags |= TCP_RESET_AFTER_FLUSH;
    if (can_flush(t))
        close_after_flush(t);
    else
        tcp_close(t);
}
