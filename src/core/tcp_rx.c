// Receiving half of a connection: one multishot receive, re-armed in tcp_recv_arm only. It is
// in the kernel, or the connection waits for buffers, or it must not receive (paused,
// end of stream, failed, closing). Worker's thread.
#include "core/tcp.h"
#include "core/tcp_parts.h"
#include <errno.h>

#define DELIVER_MAX 32 // slices handed over at once

void tcp_recv_arm(struct tcp *t)
{
    const uint32_t no = TCP_RECV_PAUSED | TCP_EOF | TCP_CLOSE_STARTED | TCP_ERROR | TCP_RECEIVING;
    if (t->recv.inflight || !(t->flags & TCP_OPEN) || (t->flags & no) ||
        list_linked(&t->starved.link))
        return;
    uint32_t most = 0;
    if (t->filter && t->filter->ops->receive)
        most = t->filter->ops->receive(t->filter);
    uint16_t group = t->worker->bufs.group_id;
    bool bundle = (t->flags & (TCP_BULK | TCP_PLAIN_RX)) == TCP_BULK;
    if (most > 0)
        ring_recv_some(&t->worker->ring, &t->recv, t->fd, group, most);
    else
        ring_recv_multishot(&t->worker->ring, &t->recv, t->fd, group, bundle);
}

void tcp_on_buffers(struct bufring_waiter *w)
{
    tcp_recv_arm(container_of(w, struct tcp, starved));
}

void tcp_pause(struct tcp *t)
{
    if (t->flags & (TCP_RECV_PAUSED | TCP_CLOSE_AFTER_FLUSH))
        return;
    t->flags |= TCP_RECV_PAUSED;
    bufring_unwait(&t->worker->bufs, &t->starved);
    if (t->recv.inflight && !(t->flags & TCP_CLOSE_STARTED))
        ring_cancel(&t->worker->ring, &t->recv);
}

// If the cancellation of a pause is still under way, its completion re-arms.
void tcp_resume(struct tcp *t)
{
    if (!(t->flags & TCP_RECV_PAUSED))
        return;
    t->flags &= ~TCP_RECV_PAUSED;
    tcp_recv_arm(t);
}

void tcp_receive_anew(struct tcp *t)
{
    if (t->recv.inflight && !(t->flags & (TCP_RECV_PAUSED | TCP_CLOSE_STARTED)))
        ring_cancel(&t->worker->ring, &t->recv);
}

static void drop(struct tcp *t, const uint16_t *bids, uint32_t n, uint32_t bytes)
{
    for (uint32_t i = 0; i < n; i++)
        bufring_put(&t->worker->bufs, bids[i]);
    if (t->flags & TCP_CLOSE_STARTED)
        return;
    // Until all is sent, what comes is bounded by how long the peer takes our output.
    if (!(t->flags & TCP_LINGERING))
        return;
    if (bytes >= t->linger_left)
        tcp_close(t);
    else
        t->linger_left -= bytes;
}

void tcp_deliver(struct tcp *t, const struct slice *data, const uint16_t *bids, uint32_t n)
{
    if (!tcp_silent(t)) {
        t->events->on_data(t, data, bids, n);
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        bufring_put(&t->worker->bufs, bids[i]);
}

// The owner may pause or close in on_data; what follows of a bundle then still arrives
// (paused) or is dropped (closed).
static void deliver(struct tcp *t, uint16_t bid, uint32_t len)
{
    struct bufring *b = &t->worker->bufs;
    struct slice data[DELIVER_MAX];
    uint16_t bids[DELIVER_MAX];
    t->rx_bytes += len;
    if (t->events->counted)
        counter_add(&t->worker->counters.c[t->events->rx_counter], len);
    while (len > 0) {
        uint32_t taken = 0;
        uint32_t n = bufring_take_some(b, bid, len, data, bids, DELIVER_MAX, &taken);
        bid = bufring_following(b, bids[n - 1]);
        len -= taken;
        if (tcp_silent(t) || (t->flags & TCP_BROKEN))
            drop(t, bids, n, taken);
        else if (t->filter && !(t->flags & TCP_PLAIN_RX))
            t->filter->ops->input(t->filter, data, bids, n);
        else
            t->events->on_data(t, data, bids, n);
    }
}

// Bundles cost a little on each receive of one buffer and save much where there are many. The
// cancelled receive's last completion arms the next.
static void note_bulk(struct tcp *t, uint32_t len)
{
    if (len < t->worker->bufs.buffer_bytes ||
        (t->flags & (TCP_BULK | TCP_CLOSE_STARTED | TCP_PLAIN_RX)) || !t->worker->ring.bundles)
        return;
    t->flags |= TCP_BULK;
    if (t->recv.inflight && !(t->flags & TCP_RECV_PAUSED))
        ring_cancel(&t->worker->ring, &t->recv);
}

static void end_of_stream(struct tcp *t)
{
    t->flags |= TCP_EOF;
    if (t->flags & TCP_CLOSE_STARTED)
        return;
    if (!tcp_silent(t) && !(t->flags & TCP_BROKEN))
        t->events->on_eof(t);
    else if (t->flags & TCP_LINGERING)
        tcp_close(t); // both directions have ended: nothing to linger for
}

// What comes behind the filter's end is not the owner's: the socket is not read any more.
void tcp_deliver_eof(struct tcp *t)
{
    if (!(t->flags & TCP_EOF))
        end_of_stream(t);
}

// FIN. With a filter it is no proper end: the peer's last bytes may have been cut off by anyone.
static void on_fin(struct tcp *t)
{
    if (t->flags & TCP_EOF)
        return;
    if (t->filter)
        t->flags |= TCP_TRUNCATED;
    if (t->filter && !(t->flags & (TCP_READY | TCP_BROKEN))) {
        t->flags |= TCP_EOF;
        tcp_fail(t, ECONNRESET);
    } else {
        end_of_stream(t);
    }
}

static void receive_failed(struct tcp *t, int error)
{
    if (!(t->flags & TCP_PLAIN_RX) || (t->flags & (TCP_CLOSE_STARTED | TCP_ERROR)) ||
        !t->filter->ops->receive_failed(t->filter, error))
        tcp_fail(t, error);
}

static void received(struct tcp *t, int32_t res, uint32_t flags, uint16_t bid)
{
    if (res > 0) {
        deliver(t, bid, (uint32_t)res);
        note_bulk(t, (uint32_t)res);
    } else if (res == 0) {
        if (flags & OP_BUFFER)
            bufring_take_empty(&t->worker->bufs, bid);
        on_fin(t);
    } else if (res == -ENOBUFS) {
        if (!(t->flags & (TCP_CLOSE_STARTED | TCP_RECV_PAUSED | TCP_ERROR)))
            bufring_wait(&t->worker->bufs, &t->starved);
    } else if (res != -ECANCELED && res != -EINTR && res != -EAGAIN) {
        receive_failed(t, -res);
    }
}

// An owner that resumes inside does not begin the next receive: what came with this one may not
// have been through the filter yet.
void tcp_on_recv(struct op *op, int32_t res, uint32_t flags, uint16_t bid)
{
    struct tcp *t = container_of(op, struct tcp, recv);
    t->flags |= TCP_RECEIVING;
    received(t, res, flags, bid);
    t->flags &= ~TCP_RECEIVING;
    if (flags & OP_MORE)
        return;
    if (t->flags & TCP_CLOSE_STARTED)
        tcp_finish_if_idle(t);
    else if (!(t->flags & TCP_RECV_PAUSED))
        tcp_recv_arm(t);
    else if (t->events->on_paused && !tcp_silent(t))
        t->events->on_paused(t);
}
