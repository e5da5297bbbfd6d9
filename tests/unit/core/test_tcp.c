// Connections over real loopback sockets: a worker driven in the test's thread, blocking-free
// peers driven between its turns.
#include "core/listener.h"
#include "core/rng.h"
#include "core/tcp.h"
#include "test.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct conn {
    struct tcp *t;  // NULL once closed
    uint32_t flags; // at the close
    uint32_t data_calls, eofs, sents, errors, connects, closes;
    int error;
    size_t received;
    uint8_t expect; // next byte of the stream
    bool wrong, echo, close_on_data;
    bool filtered; // still, when it was closed
};

static struct worker w;
static struct tcp_pools pools;
static struct listener listener;
static struct conn server, client;

static struct conn *conn_of(struct tcp *t)
{
    return t->owner;
}

static void on_data(struct tcp *t, const struct slice *data, const uint16_t *bids, uint32_t n)
{
    struct conn *c = conn_of(t);
    c->data_calls++;
    for (uint32_t i = 0; i < n; i++) {
        for (size_t k = 0; k < data[i].len; k++)
            c->wrong |= (uint8_t)data[i].ptr[k] != c->expect++;
        c->received += data[i].len;
        if (c->echo)
            EXPECT(bufq_append_buffer(&t->out, data[i], bids[i]));
        else
            bufring_put(&w.bufs, bids[i]);
    }
    if (c->echo)
        tcp_flush(t);
    if (c->close_on_data)
        tcp_close(t);
}

static void on_eof(struct tcp *t)
{
    conn_of(t)->eofs++;
    if (conn_of(t)->echo)
        tcp_close_flush(t);
}

static void on_sent(struct tcp *t)
{
    conn_of(t)->sents++;
}

static void on_error(struct tcp *t, int error)
{
    conn_of(t)->errors++;
    conn_of(t)->error = error;
    tcp_close(t);
}

static void on_connected(struct tcp *t)
{
    conn_of(t)->connects++;
}

static void on_closed(struct tcp *t)
{
    conn_of(t)->closes++;
    conn_of(t)->flags = t->flags;
    conn_of(t)->filtered = t->filter != NULL;
    conn_of(t)->t = NULL;
    tcp_destroy(t);
}

static const struct tcp_events events = {.on_data = on_data,
                                         .on_eof = on_eof,
                                         .on_sent = on_sent,
                                         .on_error = on_error,
                                         .on_connected = on_connected,
                                         .on_closed = on_closed};

static void on_accept(struct listener *l, int fd)
{
    (void)l;
    tcp_open(server.t, fd);
}

static bool listener_closed;

static void on_listener_closed(struct listener *l)
{
    (void)l;
    listener_closed = true;
}

// Bounds every wait, so that a lost event is a failed check and not a hang.
static struct timer tick;

static void on_tick(struct timer *t, uint64_t now_ns)
{
    timer_arm(&w.timers, t, now_ns + 5 * NS_PER_MS);
}

static bool set_up(uint32_t buffers)
{
    struct worker_config cfg = {.cpu = -1, .recv_buffers = buffers, .recv_buffer_bytes = 4096};
    struct addr any;
    if (worker_init(&w, &cfg) != OK || worker_begin(&w) != OK)
        return false;
    timer_init(&tick, on_tick);
    timer_arm(&w.timers, &tick, w.now_ns);
    tcp_pools_init(&pools, 2, 1000);
    memset(&server, 0, sizeof(server));
    memset(&client, 0, sizeof(client));
    server.t = tcp_create(&w, &pools, &events, &server);
    client.t = tcp_create(&w, &pools, &events, &client);
    EXPECT(!tcp_create(&w, &pools, &events, NULL)); // the cap
    if (addr_parse(SLICE("127.0.0.1"), 0, &any) != OK)
        return false;
    int fd = listener_open(&any, 16);
    if (fd < 0)
        return false;
    memset(&listener, 0, sizeof(listener));
    listener.on_accept = on_accept;
    listener.on_closed = on_listener_closed;
    listener_closed = false;
    listener_start(&listener, &w, fd);
    return true;
}

static void turn(void)
{
    worker_turn(&w);
}

#define UNTIL(cond)                                          \
    for (int tries_ = 0; tries_ < 2000 && !(cond); tries_++) \
    turn()

static void tear_down(void)
{
    if (server.t)
        tcp_close(server.t);
    if (client.t)
        tcp_close(client.t);
    listener_close(&listener, 0);
    UNTIL(listener_closed && server.closes && client.closes);
    EXPECT(listener_closed);
    EXPECT_EQ(server.closes, 1);
    EXPECT_EQ(client.closes, 1);
    EXPECT_EQ(pools.chunks.in_use, 0);
    EXPECT_EQ(pools.msgs.in_use, 0);
    EXPECT_EQ(w.bufs.out, 0);
    EXPECT_EQ(w.timers.armed, 1); // the tick of this test
    worker_request_stop(&w);
    while (worker_turn(&w))
        continue;
    worker_end(&w);
    tcp_pools_fini(&pools);
    worker_fini(&w);
}

static int peer_connect(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, &listener.addr.sa, listener.addr.len) < 0)
        return -1;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    UNTIL(server.t->fd >= 0);
    return fd;
}

static void no_client(void)
{
    tcp_close(client.t); // never opened: closes all the same
}

static void fill(char *buf, size_t len, uint8_t first)
{
    for (size_t i = 0; i < len; i++)
        buf[i] = (char)(first + i);
}

TEST(tcp_size_of_a_connection)
{
    printf("  sizeof(struct tcp) = %zu, struct worker = %zu\n", sizeof(struct tcp),
           sizeof(struct worker));
    EXPECT(sizeof(struct tcp) <= 320);
}

TEST(tcp_connects_and_echoes_megabytes)
{
    static char out[65536];
    const size_t total = 8 << 20;
    REQUIRE(set_up(64));
    server.echo = true;
    EXPECT(bufq_append(&client.t->out, SLICE("\0\1\2"))); // before on_connected
    EXPECT_EQ(tcp_connect(client.t, &listener.addr), 0);
    UNTIL(client.connects);
    EXPECT_EQ(client.connects, 1);
    size_t queued = 3;
    for (int i = 0; i < 200000 && client.received < total && !client.errors; i++) {
        while (queued < total && client.t->out.bytes < TCP_HIGH_WATER) {
            size_t n = total - queued < sizeof(out) ? total - queued : sizeof(out);
            fill(out, n, (uint8_t)queued);
            REQUIRE(bufq_append(&client.t->out, (struct slice){out, n}));
            queued += n;
            tcp_flush(client.t);
        }
        turn();
    }
    EXPECT_EQ(client.received, total);
    EXPECT(!client.wrong && !server.wrong);
    tcp_shutdown(client.t);
    UNTIL(server.closes && client.eofs);
    EXPECT_EQ(server.eofs, 1);
    EXPECT_EQ(client.eofs, 1);
    EXPECT(client.sents > 0);
    EXPECT_EQ(client.t->rx_bytes, total);
    EXPECT_EQ(client.t->tx_bytes, total);
    tear_down();
}

TEST(tcp_connect_refused_is_an_error)
{
    struct addr nobody;
    REQUIRE(set_up(16));
    int fd = socket(AF_INET, SOCK_STREAM, 0); // bound, not listening
    socklen_t len = sizeof(nobody.in);
    nobody = listener.addr;
    nobody.in.sin_port = 0;
    REQUIRE(bind(fd, &nobody.sa, nobody.len) == 0 && getsockname(fd, &nobody.sa, &len) == 0);
    EXPECT_EQ(tcp_connect(client.t, &nobody), 0);
    UNTIL(client.closes);
    EXPECT_EQ(client.error, ECONNREFUSED);
    EXPECT_EQ(client.errors, 1);
    EXPECT_EQ(client.connects, 0);
    close(fd);
    tear_down();
}

static int option(const struct tcp *t, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof(value);
    (void)getsockopt(t->fd, level, name, &value, &len);
    return value;
}

TEST(tcp_keepalive_as_asked_for)
{
    REQUIRE(set_up(16));
    EXPECT_EQ(tcp_connect(client.t, &listener.addr), 0);
    int idle = option(client.t, IPPROTO_TCP, TCP_KEEPIDLE);
    tcp_set_keepalive(client.t, &(struct tcp_keepalive){.on = false, .idle_s = 5});
    EXPECT_EQ(option(client.t, SOL_SOCKET, SO_KEEPALIVE), 0);
    EXPECT_EQ(option(client.t, IPPROTO_TCP, TCP_KEEPIDLE), idle);
    tcp_set_keepalive(client.t, &(struct tcp_keepalive){.on = true, .interval_s = 7, .probes = 3});
    EXPECT_EQ(option(client.t, SOL_SOCKET, SO_KEEPALIVE), 1);
    EXPECT_EQ(option(client.t, IPPROTO_TCP, TCP_KEEPIDLE), idle); // the system's
    EXPECT_EQ(option(client.t, IPPROTO_TCP, TCP_KEEPINTVL), 7);
    EXPECT_EQ(option(client.t, IPPROTO_TCP, TCP_KEEPCNT), 3);
    const struct tcp_keepalive most = {true, UINT32_MAX, UINT32_MAX, UINT32_MAX};
    tcp_set_keepalive(client.t, &most); // what is too much is not lost
    EXPECT_EQ(option(client.t, IPPROTO_TCP, TCP_KEEPIDLE), 32767);
    EXPECT_EQ(option(client.t, IPPROTO_TCP, TCP_KEEPINTVL), 32767);
    EXPECT_EQ(option(client.t, IPPROTO_TCP, TCP_KEEPCNT), 127);
    tcp_close(client.t);
    UNTIL(client.closes);
    UNTIL(!server.t || server.eofs || server.errors);
    tear_down();
}

TEST(tcp_close_while_connecting)
{
    REQUIRE(set_up(16));
    EXPECT_EQ(tcp_connect(client.t, &listener.addr), 0);
    tcp_close(client.t);
    EXPECT_EQ(client.closes, 0); // never from inside the call
    UNTIL(client.closes);
    EXPECT_EQ(client.errors + client.connects, 0);
    UNTIL(!server.t || server.eofs || server.errors);
    tear_down();
}

TEST(tcp_reset_by_the_peer_is_one_error)
{
    struct linger hard = {1, 0};
    REQUIRE(set_up(16));
    int fd = peer_connect();
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    EXPECT(bufq_append(&server.t->out, SLICE("hello")));
    tcp_flush(server.t);
    close(fd);
    UNTIL(server.closes);
    EXPECT_EQ(server.errors, 1);
    EXPECT(server.error == ECONNRESET || server.error == EPIPE);
    no_client();
    tear_down();
}

TEST(tcp_close_in_on_data_drops_the_rest)
{
    static char out[30000];
    REQUIRE(set_up(16));
    int fd = peer_connect();
    fill(out, sizeof(out), 0);
    EXPECT(send(fd, out, sizeof(out), 0) == (ssize_t)sizeof(out));
    server.close_on_data = true;
    UNTIL(server.closes);
    EXPECT_EQ(server.data_calls, 1);
    EXPECT_EQ(server.closes, 1);
    close(fd);
    no_client();
    tear_down();
}

TEST(tcp_close_with_a_send_in_flight)
{
    static char out[100000];
    REQUIRE(set_up(16));
    int fd = peer_connect(), small = 65536;
    setsockopt(server.t->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    for (int i = 0; i < 30; i++)
        EXPECT(bufq_append(&server.t->out, (struct slice){out, sizeof(out)})); // nobody reads it
    tcp_flush(server.t);
    for (int i = 0; i < 20; i++)
        turn();
    EXPECT(server.t->send.inflight);
    EXPECT(server.t->msg != NULL);
    tcp_close(server.t);
    UNTIL(server.closes);
    EXPECT_EQ(server.closes, 1);
    EXPECT_EQ(pools.msgs.in_use, 0);
    close(fd);
    no_client();
    tear_down();
}

TEST(tcp_pause_stops_and_resume_goes_on)
{
    static char out[1000];
    ssize_t n;
    size_t sent = 0;
    REQUIRE(set_up(16));
    int fd = peer_connect();
    tcp_pause(server.t);
    UNTIL(!server.t->recv.inflight);
    fill(out, sizeof(out), 0);
    EXPECT((n = send(fd, out, sizeof(out), 0)) > 0);
    sent += (size_t)n;
    for (int i = 0; i < 10; i++)
        turn();
    EXPECT_EQ(server.received, 0);
    tcp_resume(server.t);
    tcp_pause(server.t);  // while the receive is queued
    tcp_resume(server.t); // and while its cancellation is
    UNTIL(server.received == sent);
    EXPECT_EQ(server.received, sent);
    EXPECT(!server.wrong);
    close(fd);
    no_client();
    tear_down();
}

TEST(tcp_high_water_tells_when_it_fell)
{
    static char out[100000], in[65536];
    REQUIRE(set_up(16));
    int fd = peer_connect();
    int small = 65536;
    setsockopt(server.t->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    for (int i = 0; i < 12; i++)
        EXPECT(bufq_append(&server.t->out, (struct slice){out, sizeof(out)}));
    tcp_flush(server.t);
    size_t got = 0, at_first_call = 0;
    for (int i = 0; i < 20000 && got < 1200000; i++) {
        ssize_t n = recv(fd, in, sizeof(in), 0);
        got += n > 0 ? (size_t)n : 0;
        turn();
        if (server.sents == 1 && !at_first_call) {
            at_first_call = 1;
            EXPECT(server.t->out.bytes < TCP_LOW_WATER);
        }
    }
    EXPECT_EQ(got, 1200000);
    UNTIL(server.t->out.bytes == 0);
    EXPECT(server.sents >= 1 && server.sents <= 2);
    close(fd);
    no_client();
    tear_down();
}

// The peer sends more than we read, we answer and close: the answer must arrive whole.
TEST(tcp_close_flush_lingers_so_that_the_answer_arrives)
{
    static char out[20000], in[8192];
    REQUIRE(set_up(16));
    int fd = peer_connect();
    EXPECT(send(fd, out, sizeof(out), 0) > 0);
    for (int i = 0; i < 5; i++)
        EXPECT(bufq_append(&server.t->out, (struct slice){out, 20000}));
    tcp_close_flush(server.t);
    size_t got = 0;
    ssize_t n = -1;
    for (int i = 0; i < 2000 && n != 0; i++) {
        n = recv(fd, in, sizeof(in), 0);
        got += n > 0 ? (size_t)n : 0;
        if (n < 0 && errno != EAGAIN)
            break;
        turn();
    }
    EXPECT_EQ(got, 100000);
    EXPECT_EQ(n, 0);             // FIN, no RST
    EXPECT_EQ(server.closes, 0); // lingers
    close(fd);
    UNTIL(server.closes);
    EXPECT_EQ(server.closes, 1);
    EXPECT_EQ(server.data_calls + server.errors + server.eofs + server.sents, 0);
    no_client();
    tear_down();
}

// After a FIN of its own and the peer's there is nothing to linger for.
// What was queued arrives, though a reset by itself would destroy what the kernel still holds.
TEST(tcp_reset_flush_is_a_reset_behind_the_last_byte)
{
    static uint8_t bytes[1 << 20];
    REQUIRE(set_up(16));
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)i;
    EXPECT_EQ(tcp_connect(client.t, &listener.addr), 0);
    UNTIL(client.connects);
    EXPECT(bufq_append(&client.t->out, (struct slice){(char *)bytes, sizeof(bytes)}));
    tcp_reset_flush(client.t);
    EXPECT_EQ(client.closes, 0); // never from inside the call
    UNTIL(client.closes && server.closes);
    EXPECT_EQ(server.received, sizeof(bytes));
    EXPECT(!server.wrong);
    EXPECT_EQ(server.eofs, 0);
    EXPECT_EQ(server.errors, 1);
    EXPECT_EQ(server.error, ECONNRESET);
    EXPECT_EQ(client.errors + client.eofs, 0);
    tear_down();
}

TEST(tcp_close_flush_after_both_ends_said_fin_is_prompt)
{
    REQUIRE(set_up(16));
    int fd = peer_connect();
    tcp_shutdown(server.t);
    UNTIL(server.t->flags & TCP_SHUT);
    shutdown(fd, SHUT_WR);
    UNTIL(server.eofs);
    uint64_t before = w.now_ns;
    tcp_close_flush(server.t);
    UNTIL(server.closes);
    EXPECT_EQ(server.closes, 1);
    EXPECT(w.now_ns - before < NS_PER_S / 2);
    close(fd);
    no_client();
    tear_down();
}

TEST(tcp_starved_connections_go_on_when_buffers_return)
{
    static char out[4096 * 8];
    REQUIRE(set_up(2));
    int fd = peer_connect();
    server.echo = true; // holds the buffers until they are sent back
    size_t sent = 0, got = 0;
    for (int i = 0; i < 20000 && got < (1 << 20); i++) {
        if (sent < 1 << 20) {
            fill(out, sizeof(out), (uint8_t)sent);
            ssize_t n = send(fd, out, sizeof(out), MSG_DONTWAIT);
            sent += n > 0 ? (size_t)n : 0;
        }
        static char in[65536];
        ssize_t n = recv(fd, in, sizeof(in), 0);
        got += n > 0 ? (size_t)n : 0;
        turn();
    }
    EXPECT(got >= 1 << 20);
    EXPECT(w.bufs.enobufs > 0);
    EXPECT(counter_read(&w.counters.c[COUNTER_buffer_starved]) > 0);
    EXPECT(!server.wrong);
    close(fd);
    UNTIL(server.closes);
    no_client();
    tear_down();
}

TEST(listener_pauses_and_resumes)
{
    REQUIRE(set_up(16));
    EXPECT(addr_port(&listener.addr) != 0);
    listener_pause(&listener);
    UNTIL(!listener.accept.inflight);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    EXPECT(connect(fd, &listener.addr.sa, listener.addr.len) == 0); // waits in the kernel's queue
    for (int i = 0; i < 5; i++)
        turn();
    EXPECT(server.t->fd < 0);
    listener_resume(&listener);
    UNTIL(server.t->fd >= 0);
    EXPECT(server.t->fd >= 0);
    close(fd);
    no_client();
    tear_down();
}

TEST(listener_that_closes_accepts_what_waits)
{
    REQUIRE(set_up(16));
    listener_pause(&listener);
    UNTIL(!listener.accept.inflight);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    EXPECT(connect(fd, &listener.addr.sa, listener.addr.len) == 0); // waits in the kernel's queue
    listener_close(&listener, 0);
    UNTIL(listener_closed);
    EXPECT(server.t->fd >= 0);
    close(fd);
    no_client();
    tear_down();
}

TEST(listener_that_lingers_begins_no_connection)
{
    REQUIRE(set_up(16));
    listener_close(&listener, 3600 * NS_PER_S);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    EXPECT(connect(fd, &listener.addr.sa, listener.addr.len) < 0 && errno == EINPROGRESS);
    for (int i = 0; i < 5; i++)
        turn();
    struct tcp_info info;
    socklen_t len = sizeof(info);
    EXPECT(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
           info.tcpi_state == TCP_SYN_SENT);
    EXPECT(!listener_closed && server.t->fd < 0);
    listener_close(&listener, 0); // the wait is cut short
    UNTIL(listener_closed);
    EXPECT(listener_closed);
    close(fd);
    no_client();
    tear_down();
}

// Its close waits for a timer then, which a pause must not take away.
TEST(listener_paused_again_while_it_closes_still_closes)
{
    REQUIRE(set_up(16));
    listener_pause(&listener);
    UNTIL(!listener.accept.inflight);
    listener_close(&listener, 0);
    listener_pause(&listener);
    UNTIL(listener_closed);
    EXPECT(listener_closed);
    no_client();
    tear_down();
}

// ---- a filter: greets with "hi!", then every message is its length in two bytes and its bytes
// turned over; length 0 ends the stream. A wrong greeting is answered with "no".

#define MASK_MESSAGE_MAX 1000u

struct mask {
    struct tcp_filter f;
    char in[2 + MASK_MESSAGE_MAX];
    size_t have;
    uint32_t destroyed;
    bool greeted, mute;
};

static struct mask server_mask, client_mask;

static void mask_start(struct tcp_filter *f)
{
    struct mask *m = container_of(f, struct mask, f);
    if (!m->mute)
        EXPECT(bufq_append(&f->tcp->wire, SLICE("hi!")));
    tcp_flush(f->tcp);
}

static void mask_message(struct mask *m, size_t len)
{
    struct worker *worker = m->f.tcp->worker;
    struct slice plain = {m->in + 2, len};
    uint16_t bid = BUFRING_VOLATILE;
    char *lent = bufring_borrow(&worker->bufs, &bid);
    for (size_t i = 0; i < len; i++)
        m->in[2 + i] = (char)~m->in[2 + i];
    if (lent) {
        memcpy(lent, m->in + 2, len);
        plain.ptr = lent;
    }
    m->have = 0;
    if (len == 0) {
        bufring_put(&worker->bufs, bid);
        tcp_deliver_eof(m->f.tcp);
    } else {
        tcp_deliver(m->f.tcp, &plain, &bid, 1);
    }
}

static void mask_byte(struct mask *m, char byte)
{
    m->in[m->have++] = byte;
    if (!m->greeted) {
        if (m->have < 3)
            return;
        if (memcmp(m->in, "hi!", 3) != 0) {
            EXPECT(bufq_append(&m->f.tcp->wire, SLICE("no")));
            tcp_filter_fail(m->f.tcp, EPROTO);
            return;
        }
        m->have = 0;
        m->greeted = true;
        tcp_ready(m->f.tcp);
    } else if (m->have >= 2) {
        size_t len = (uint8_t)m->in[0] << 8 | (uint8_t)m->in[1];
        EXPECT(len <= MASK_MESSAGE_MAX);
        if (m->have == 2 + len)
            mask_message(m, len);
    }
}

static void mask_input(struct tcp_filter *f, const struct slice *data, const uint16_t *bids,
                       uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        for (size_t k = 0; k < data[i].len && !(f->tcp->flags & (TCP_BROKEN | TCP_CLOSE_STARTED));
             k++)
            mask_byte(container_of(f, struct mask, f), data[i].ptr[k]);
        bufring_put(&f->tcp->worker->bufs, bids[i]);
    }
}

static void mask_output(struct tcp_filter *f)
{
    char message[2 + MASK_MESSAGE_MAX];
    struct iovec iov;
    while (f->tcp->wire.bytes < 20000 && bufq_peek(&f->tcp->out, &iov, 1) == 1) {
        size_t len = iov.iov_len < MASK_MESSAGE_MAX ? iov.iov_len : MASK_MESSAGE_MAX;
        message[0] = (char)(len >> 8);
        message[1] = (char)len;
        for (size_t i = 0; i < len; i++)
            message[2 + i] = (char)~((char *)iov.iov_base)[i];
        bufq_consume(&f->tcp->out, len);
        EXPECT(bufq_append(&f->tcp->wire, (struct slice){message, 2 + len}));
    }
}

static void mask_finish(struct tcp_filter *f)
{
    EXPECT(bufq_append(&f->tcp->wire, (struct slice){"\0\0", 2}));
}

static void mask_destroy(struct tcp_filter *f)
{
    container_of(f, struct mask, f)->destroyed++;
}

static const struct tcp_filter_ops mask_ops = {.start = mask_start,
                                               .input = mask_input,
                                               .output = mask_output,
                                               .finish = mask_finish,
                                               .destroy = mask_destroy};

static bool set_up_masked(uint32_t buffers)
{
    if (!set_up(buffers))
        return false;
    server_mask = client_mask = (struct mask){.f.ops = &mask_ops};
    tcp_set_filter(server.t, &server_mask.f);
    return true;
}

TEST(tcp_filter_carries_megabytes_and_the_end)
{
    static char out[10000];
    const size_t total = 4 << 20;
    REQUIRE(set_up_masked(64));
    tcp_set_filter(client.t, &client_mask.f);
    server.echo = true;
    EXPECT(bufq_append(&client.t->out, SLICE("\0\1\2"))); // before it is ready
    EXPECT_EQ(tcp_connect(client.t, &listener.addr), 0);
    UNTIL(client.connects && server.connects);
    EXPECT_EQ(client.connects, 1);
    EXPECT_EQ(server.connects, 1); // an accepted one hears when the handshake is done
    size_t queued = 3;
    for (int i = 0; i < 200000 && client.received < total && !client.errors; i++) {
        while (queued < total && client.t->out.bytes < TCP_HIGH_WATER) {
            size_t n = total - queued < sizeof(out) ? total - queued : sizeof(out);
            fill(out, n, (uint8_t)queued);
            REQUIRE(bufq_append(&client.t->out, (struct slice){out, n}));
            queued += n;
            tcp_flush(client.t);
        }
        turn();
        EXPECT(client.t->wire.bytes <= 65536 + 20000);
    }
    EXPECT_EQ(client.received, total);
    EXPECT(!client.wrong && !server.wrong);
    tcp_shutdown(client.t);
    UNTIL(server.closes && client.eofs);
    EXPECT_EQ(server.eofs, 1);
    EXPECT_EQ(client.eofs, 1);
    EXPECT(!(server.flags & TCP_TRUNCATED) && !(client.t->flags & TCP_TRUNCATED));
    tear_down();
    EXPECT(server_mask.destroyed && client_mask.destroyed);
}

TEST(tcp_filter_tells_a_cut_stream_from_its_end)
{
    REQUIRE(set_up_masked(16));
    int fd = peer_connect();
    EXPECT_EQ(write(fd, "hi!\0\1\xff", 6), 6); // byte 0, then FIN without the end
    shutdown(fd, SHUT_WR);
    UNTIL(server.eofs);
    EXPECT_EQ(server.received, 1);
    EXPECT(!server.wrong);
    EXPECT(server.t->flags & TCP_TRUNCATED);
    close(fd);
    no_client();
    tear_down();
}

TEST(tcp_filter_failure_is_one_error_and_its_last_words_are_sent)
{
    char got[16];
    ssize_t n = 0, len = 0;
    REQUIRE(set_up_masked(16));
    int fd = peer_connect();
    EXPECT(bufq_append(&server.t->out, SLICE("never sent")));
    EXPECT_EQ(write(fd, "ho!", 3), 3);
    for (int i = 0; i < 2000 && (n = read(fd, got + len, sizeof(got) - (size_t)len)) != 0; i++) {
        len += n > 0 ? n : 0;
        turn();
    }
    EXPECT_EQ(n, 0); // FIN, not a reset
    EXPECT_EQ(len, 5);
    EXPECT(memcmp(got, "hi!no", 5) == 0);
    EXPECT_EQ(server.errors, 1);
    EXPECT_EQ(server.error, EPROTO);
    EXPECT_EQ(server.connects, 0);
    close(fd);
    no_client();
    tear_down();
}

TEST(tcp_filter_closed_or_left_during_its_handshake)
{
    for (int leave = 0; leave < 2; leave++) {
        REQUIRE(set_up_masked(16));
        server_mask.mute = true;
        int fd = peer_connect();
        EXPECT(bufq_append(&server.t->out, SLICE("never sent")));
        EXPECT_EQ(write(fd, "h", 1), 1);
        UNTIL(server_mask.have == 1);
        if (leave)
            shutdown(fd, SHUT_WR);
        else
            tcp_close_flush(server.t); // nothing can be flushed yet
        UNTIL(server.closes);
        EXPECT_EQ(server.closes, 1);
        EXPECT_EQ(server.errors, leave); // the peer's leaving is an error, not an end
        EXPECT_EQ(server.eofs, 0);
        close(fd);
        no_client();
        tear_down();
    }
}

TEST(tcp_filter_lives_as_long_as_its_connection)
{
    REQUIRE(set_up_masked(16));
    int fd = peer_connect();
    tcp_close(server.t);
    UNTIL(server.closes);
    EXPECT(server.filtered);
    EXPECT_EQ(server_mask.destroyed, 1);
    close(fd);
    no_client();
    tear_down();
}
