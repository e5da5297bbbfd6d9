// What tcp.c (life cycle), tcp_rx.c (receiving) and tcp_tx.c (sending) share; nobody else.
#pragma once
#include "core/tcp.h"

#define TCP_IOVECS 64
#define TCP_PIPES 64u // unless tcp_pools.pipes is told another number
#define TCP_LINGER_BYTES (64u * 1024u)
#define TCP_LINGER_NS (1 * NS_PER_S)
#define TCP_RESET_LOOK_NS (5 * NS_PER_MS) // whether the peer has what a reset would destroy
#define TCP_FLUSH_STALL_NS (10 * NS_PER_S)
#define TCP_FLUSH_STALL_BYTES (10u * 1024u)
#define TCP_FLUSH_MAX_NS (300 * NS_PER_S)
#define TCP_WIRE_MAX (64u * 1024u) // a filter is not asked for more while this waits to be sent

struct tcp_msg {          // of tcp_pools.msgs
    struct msghdr header; // first: struct tcp keeps its address
    struct iovec iov[TCP_IOVECS];
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(1)]; // with `record`
    struct tcp_record record;
};

// The owner hears of nothing any more but on_closed.
static inline bool tcp_silent(const struct tcp *t)
{
    return t->flags & (TCP_CLOSE_STARTED | TCP_CLOSE_AFTER_FLUSH);
}

// What is sent from.
static inline struct bufq *tcp_sendq(struct tcp *t)
{
    return t->filter && !(t->flags & TCP_PLAIN_TX) ? &t->wire : &t->out;
}

void tcp_fail(struct tcp *t, int error);
void tcp_finish_if_idle(struct tcp *t); // may call on_closed: touch t no more
void tcp_flushed(struct tcp *t);        // the output is empty and no send is in flight
void tcp_flush_watch(struct tcp *t);    // while a close waits for that: moves its end

void tcp_recv_arm(struct tcp *t); // the only place that arms; does nothing where it must not
void tcp_on_recv(struct op *op, int32_t res, uint32_t flags, uint16_t bid);
void tcp_on_buffers(struct bufring_waiter *w);

void tcp_on_send(struct op *op, int32_t res, uint32_t flags, uint16_t bid);
void tcp_send_next(struct tcp *t); // starts a send if there is output and none in flight
void tcp_msg_release(struct tcp *t);
