// Sending half of a connection: one send in flight, taken from the front of the output queue;
// what it points to stays there until it completes. Worker's thread.
#include "core/check.h"
#include "core/tcp.h"
#include "core/tcp_parts.h"
#include <errno.h>
#include <linux/tls.h>

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

void tcp_flush(struct tcp *t)
{
    if (t->out.bytes > TCP_HIGH_WATER)
        t->flags |= TCP_ABOVE_HIGH;
    worker_defer(t->worker, &t->flush);
}

void tcp_msg_release(struct tcp *t)
{
    if (!t->msg)
        return;
    struct tcp_pools *pools = container_of(t->out.chunks, struct tcp_pools, chunks);
    pool_put(&pools->msgs, t->msg);
    t->msg = NULL;
}

static void send_one(struct tcp *t, const struct iovec *piece)
{
    bool more = piece->iov_len < tcp_sendq(t)->bytes;
    ring_send(&t->worker->ring, &t->send, t->fd, piece->iov_base, piece->iov_len, more);
}

// Asks the filter for what is to be sent. The owner may have closed the connection afterwards.
static void fill_wire(struct tcp *t)
{
    const uint32_t ending = TCP_CLOSE_AFTER_FLUSH | TCP_SHUT_AFTER_FLUSH;
    if (t->flags & TCP_BROKEN)
        bufq_clear(&t->out); // nothing of it can be sent any more
    if (!(t->flags & TCP_READY) || (t->flags & TCP_BROKEN))
        return;
    if (t->out.bytes > 0 && t->wire.bytes < TCP_WIRE_MAX && !(t->flags & TCP_PLAIN_TX))
        t->filter->ops->output(t->filter);
    const uint32_t no_end = TCP_FINISHED | TCP_BROKEN | TCP_RESET_AFTER_FLUSH;
    if (t->out.bytes == 0 && (t->flags & ending) && !(t->flags & no_end)) {
        t->flags |= TCP_FINISHED;
        t->filter->ops->finish(t->filter);
    }
}

static bool may_send(const struct tcp *t)
{
    return !t->send.inflight && (t->flags & TCP_OPEN) &&
           !(t->flags & (TCP_CLOSE_STARTED | TCP_ERROR));
}

void tcp_send_record(struct tcp *t, struct tcp_record r)
{
    check((t->flags & TCP_PLAIN_TX) && r.len <= sizeof(r.bytes));
    t->record = r;
    tcp_flush(t);
}

static void send_record(struct tcp *t)
{
    struct tcp_pools *pools = container_of(t->out.chunks, struct tcp_pools, chunks);
    struct tcp_msg *m = pool_get(&pools->msgs);
    if (!m) { // what it says cannot be left out
        tcp_fail(t, ENOMEM);
        return;
    }
    m->record = t->record;
    t->record.len = 0;
    m->iov[0] = (struct iovec){m->record.bytes, m->record.len};
    m->header = (struct msghdr){.msg_iov = m->iov,
                                .msg_iovlen = 1,
                                .msg_control = m->control,
                                .msg_controllen = CMSG_LEN(1)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m->header);
    *c = (struct cmsghdr){
        .cmsg_level = SOL_TLS, .cmsg_type = TLS_SET_RECORD_TYPE, .cmsg_len = CMSG_LEN(1)};
    *CMSG_DATA(c) = m->record.type;
    t->msg = &m->header;
    t->flags |= TCP_RECORD;
    ring_sendmsg(&t->worker->ring, &t->send, t->fd, t->msg, false);
}

void tcp_send_next(struct tcp *t)
{
    if (!may_send(t))
        return;
    if (t->filter)
        fill_wire(t);
    struct bufq *q = tcp_sendq(t);
    if (!may_send(t))
        return;
    if (t->record.len > 0) {
        send_record(t);
        return;
    }
    if (q->bytes == 0) {
        if (t->out.bytes == 0)
            tcp_flushed(t);
        return;
    }
    struct tcp_pools *pools = container_of(q->chunks, struct tcp_pools, chunks);
    struct iovec first[2];
    struct tcp_msg *m = bufq_peek(q, first, 2) > 1 ? pool_get(&pools->msgs) : NULL;
    if (!m) { // one piece, or no message block left: piece by piece is slower, but goes on
        send_one(t, &first[0]);
        return;
    }
    uint32_t n = bufq_peek(q, m->iov, TCP_IOVECS);
    size_t bytes = 0;
    for (uint32_t i = 0; i < n; i++)
        bytes += m->iov[i].iov_len;
    m->header = (struct msghdr){.msg_iov = m->iov, .msg_iovlen = n};
    t->msg = &m->header;
    ring_sendmsg(&t->worker->ring, &t->send, t->fd, t->msg, bytes < q->bytes);
}

// Whether the owner is owed on_sent for what has just been sent.
static bool drained(struct tcp *t)
{
    if (t->out.bytes > 0 && !((t->flags & TCP_ABOVE_HIGH) && t->out.bytes < TCP_LOW_WATER))
        return false;
    t->flags &= ~TCP_ABOVE_HIGH;
    return true;
}

static void sent(struct tcp *t, size_t bytes)
{
    t->tx_bytes += bytes;
    if (t->events->counted)
        counter_add(&t->worker->counters.c[t->events->tx_counter], bytes);
    if (t->out.bytes > TCP_HIGH_WATER) // appended without tcp_flush while the send was in flight
        t->flags |= TCP_ABOVE_HIGH;
    bufq_consume(tcp_sendq(t), bytes);
    if ((t->flags & TCP_CLOSE_AFTER_FLUSH) && t->tx_bytes - t->flush_from >= TCP_FLUSH_STALL_BYTES)
        tcp_flush_watch(t);
    bool owed = drained(t);
    // The owner may have more to say before the FIN or the close that waits for the end.
    if (t->out.bytes > 0 || t->wire.bytes > 0)
        tcp_send_next(t);
    else
        worker_defer(t->worker, &t->flush);
    if (owed && !tcp_silent(t))
        t->events->on_sent(t);
}

static void record_sent(struct tcp *t)
{
    t->flags &= ~TCP_RECORD;
    t->filter->ops->record_sent(t->filter);
    worker_defer(t->worker, &t->flush);
}

void tcp_on_send(struct op *op, int32_t res, uint32_t flags, uint16_t bid)
{
    struct tcp *t = container_of(op, struct tcp, send);
    (void)bid;
    check(!(flags & OP_MORE));
    tcp_msg_release(t);
    if (t->flags & TCP_CLOSE_STARTED)
        tcp_finish_if_idle(t);
    else if (t->flags & TCP_ERROR)
        return; // the other half failed; the owner knows
    else if (res >= 0 && (t->flags & TCP_RECORD))
        record_sent(t);
    else if (res >= 0)
        sent(t, (size_t)res);
    else if (res == -EINTR || res == -EAGAIN)
        tcp_send_next(t);
    else
        tcp_fail(t, -res);
}
