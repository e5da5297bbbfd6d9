// Giving a connection's records to the kernel, and what is left to do then: control records that
// come, alerts that go. Owns nothing. Worker's thread.
//
// The order: the handshake ends -> the receive in flight is ended -> once nothing is held in part,
// receiving goes to the kernel and tickets to the wire -> the first output that finds the wire
// empty takes sending there too. Until then all goes on in user space, so no request waits for it.
#include "tls/conn_internal.h"
#include "tls/filter_parts.h"
#include "tls/ktls.h"
#include <errno.h>

#define CONTROL_BYTES 4096 // read of a control record together

#define ALERT_CLOSE_NOTIFY 0
#define LEVEL_WARNING 1
#define RECORD_ALERT 21
#define RECORD_HANDSHAKE 22

static void refused(struct tls_filter *f)
{
    f->kernel = KERNEL_NOTHING;
    tls_filter_count(f, DOWN(ktls_fallback), UP(ktls_fallback));
}

void tls_filter_ask_kernel(struct tls_filter *f)
{
    if (!f->pools->ktls)
        return;
    if (!ktls_may_take(f->conn)) {
        refused(f);
        return;
    }
    f->kernel = KERNEL_ASKED;
    tcp_receive_anew(f->base.tcp);
}

uint32_t tls_filter_receive(struct tcp_filter *base)
{
    struct tls_filter *f = tls_filter_of(base);
    struct tcp *t = base->tcp;
    if (f->kernel != KERNEL_ASKED || (t->flags & OVER))
        return 0;
    size_t missing = tls_conn_missing(f->conn);
    if (missing > 0)
        return (uint32_t)missing;
    if (ktls_take_receiving(f->conn, t->fd) != KTLS_TAKEN) {
        refused(f);
        return 0;
    }
    f->kernel = KERNEL_RECEIVES;
    t->flags |= TCP_PLAIN_RX;
    (void)tls_conn_flush_messages(f->conn); // a failure is found again by the next output
    tcp_flush(t);
    return 0;
}

bool tls_filter_give_sending(struct tls_filter *f)
{
    struct tcp *t = f->base.tcp;
    if (f->kernel != KERNEL_RECEIVES || !tls_conn_flush_messages(f->conn))
        return false;
    if (t->wire.bytes > 0)
        return true;
    if (ktls_take_sending(f->conn, t->fd) != KTLS_TAKEN) {
        // Half is no worse than nothing: what BoringSSL writes it still seals.
        f->kernel = KERNEL_NOTHING;
        tls_filter_count(f, DOWN(ktls_fallback), UP(ktls_fallback));
        return false;
    }
    f->kernel = KERNEL_BOTH;
    t->flags |= TCP_PLAIN_TX;
    tls_filter_count(f, DOWN(ktls), UP(ktls));
    return true;
}

// --- what comes ---

static void act_on(struct tls_filter *f, enum tls_read r)
{
    struct tcp *t = f->base.tcp;
    static const struct tcp_record key_update = {RECORD_HANDSHAKE, 5, {24, 0, 0, 1, 0}};
    if (r == TLS_CLOSED)
        tcp_deliver_eof(t);
    else if (r == TLS_FAILED)
        tls_filter_fail(f);
    else if (ktls_key_answer(f->conn))
        tcp_send_record(t, key_update);
}

// After a close only its own end is of interest.
static void take_control(struct tls_filter *f, uint8_t type, struct slice bytes)
{
    struct tcp *t = f->base.tcp;
    bool data_came = t->rx_bytes != f->rx_bytes;
    f->rx_bytes = t->rx_bytes;
    if (!(t->flags & OVER))
        act_on(f, ktls_control(f->conn, t->fd, type, bytes, data_came));
    else if (type == RECORD_ALERT && bytes.len == 2 && bytes.ptr[1] == ALERT_CLOSE_NOTIFY)
        tcp_deliver_eof(t);
}

// One record; another one makes the next receive fail likewise. 0 or errno.
static int read_control(struct tls_filter *f)
{
    uint8_t buf[CONTROL_BYTES], type;
    int n = ring_recv_record(f->base.tcp->fd, &type, buf, sizeof(buf));
    if (n >= 0)
        take_control(f, type, (struct slice){(const char *)buf, (size_t)n});
    return n < 0 ? -n : 0;
}

// A fault stays: nothing can be received any more.
bool tls_filter_receive_failed(struct tcp_filter *base, int error)
{
    struct tls_filter *f = tls_filter_of(base);
    if (error == EIO)
        error = read_control(f);
    if (error == 0)
        return true;
    if (base->tcp->flags & OVER)
        tcp_deliver_eof(base->tcp);
    else if (ktls_receive_failed(f->conn, error))
        tls_filter_fail(f);
    else
        return false;
    return true;
}

// --- what goes ---

void tls_filter_record_sent(struct tcp_filter *base)
{
    struct tls_filter *f = tls_filter_of(base);
    if (!ktls_record_sent(f->conn, base->tcp->fd))
        tcp_filter_fail(base->tcp, EPROTO);
}

void tls_filter_close_notify(struct tls_filter *f)
{
    static const struct tcp_record r = {RECORD_ALERT, 2, {LEVEL_WARNING, ALERT_CLOSE_NOTIFY}};
    tcp_send_record(f->base.tcp, r);
}

// Nothing more can be received where the kernel has found the fault.
void tls_filter_say_why(struct tls_filter *f)
{
    struct tcp *t = f->base.tcp;
    struct tcp_record r = {RECORD_ALERT, 2, {0}};
    if (t->flags & TCP_PLAIN_RX)
        t->flags |= TCP_EOF;
    if ((t->flags & TCP_PLAIN_TX) && !(t->flags & OVER) && ktls_alert(f->conn, r.bytes))
        tcp_send_record(t, r);
}
