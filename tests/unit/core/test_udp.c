// UDP sockets over real loopback: a worker driven in the test's thread, its peers driven between
// its turns.
#include "core/ring.h"
#include "core/udp.h"
#include "test.h"
#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

#define SENDS 200

struct heard { // by a socket of ours
    struct udp u;
    uint32_t datagrams, trains, errors, closes;
    size_t bytes, last_len;
    uint16_t segment_bytes;
    int error;
    uint8_t ecn, reply_ecn;
    struct addr peer, local;
    char last[65536];
    bool echo, hold, close_on_error;
    uint16_t held[1024];
    uint32_t held_count;
};

static struct worker w;
static struct pool sends;
static struct heard server, client;
static struct timer tick;

static void on_tick(struct timer *t, uint64_t now_ns)
{
    timer_arm(&w.timers, t, now_ns + 5 * NS_PER_MS);
}

static void on_datagram(struct udp *u, const struct udp_datagram *d)
{
    struct heard *h = u->owner;
    h->datagrams += udp_segments(d);
    h->trains += d->segment_bytes > 0;
    h->segment_bytes = d->segment_bytes;
    h->bytes += d->data.len;
    h->last_len = d->data.len;
    memcpy(h->last, d->data.ptr, d->data.len);
    h->ecn = d->ecn;
    h->peer = *d->peer;
    h->local = *d->local;
    if (h->hold) {
        h->held[h->held_count++] = d->bid;
        return;
    }
    if (!h->echo) {
        bufring_put(&w.datagrams, d->bid);
        return;
    }
    struct udp_datagram back = *d;
    back.ecn = h->reply_ecn;
    if (u->connected)
        back.peer = back.local = NULL;
    udp_send(u, &back);
}

static void on_error(struct udp *u, int error)
{
    struct heard *h = u->owner;
    h->errors++;
    h->error = error;
    if (h->close_on_error)
        udp_close(u);
}

static void on_closed(struct udp *u)
{
    ((struct heard *)u->owner)->closes++;
}

static const struct udp_events events = {on_datagram, on_error, on_closed};

static bool set_up(uint32_t cap)
{
    struct worker_config cfg = {.cpu = -1};
    if (worker_init(&w, &cfg) != OK || worker_begin(&w) != OK)
        return false;
    timer_init(&tick, on_tick);
    timer_arm(&w.timers, &tick, w.now_ns);
    udp_sends_init(&sends, cap);
    memset(&server, 0, sizeof(server));
    memset(&client, 0, sizeof(client));
    server.u.fd = client.u.fd = -1;
    return true;
}

static bool serve(const char *ip)
{
    struct addr any;
    int fd = addr_parse(slice_of(ip), 0, &any) == OK ? udp_open(&any) : -1;
    return fd >= 0 && udp_start(&server.u, &w, &sends, &events, &server, fd) == OK;
}

// A plain socket, connected to the server at `ip`, which takes a second to answer at most.
static int peer(const char *ip)
{
    struct addr to;
    struct timeval limit = {.tv_sec = 1};
    if (addr_parse(slice_of(ip), addr_port(&server.u.local), &to) != OK)
        return -1;
    int fd = socket(to.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    return connect(fd, &to.sa, to.len) == 0 ? fd : -1;
}

#define TURNS_UNTIL(cond)                            \
    do {                                             \
        for (int turn_ = 0; turn_ < 400 && !(cond);) \
            turn_ += worker_turn(&w) ? 1 : 400;      \
        EXPECT(cond);                                \
    } while (0)

static void tear_down(void)
{
    if (server.u.fd >= 0)
        udp_close(&server.u);
    if (client.u.fd >= 0)
        udp_close(&client.u);
    TURNS_UNTIL(server.u.fd < 0 && client.u.fd < 0);
    EXPECT_EQ(bufring_held(&w.datagrams), 0);
    timer_cancel(&w.timers, &tick);
    worker_request_stop(&w);
    while (worker_turn(&w))
        continue;
    worker_end(&w);
    EXPECT_EQ(sends.in_use, 0);
    pool_fini(&sends);
    worker_fini(&w);
}

static void echo_at(const char *bound, const char *ip, const char *shown)
{
    char text[ADDR_TEXT_MAX], got[8];
    REQUIRE(set_up(SENDS) && serve(bound));
    server.echo = true;
    int fd = peer(ip);
    REQUIRE(fd >= 0 && send(fd, "ping", 4, 0) == 4);
    TURNS_UNTIL(server.datagrams == 1);
    addr_format(&server.local, text, sizeof(text), false);
    EXPECT_STR(text, shown);
    EXPECT_EQ(addr_port(&server.local), addr_port(&server.u.local));
    TURNS_UNTIL(server.u.sending == 0);
    EXPECT_EQ(recv(fd, got, sizeof(got), 0), 4); // the kernel takes it from no other address
    close(fd);
    tear_down();
}

TEST(udp_answers_from_the_address_it_was_asked_at)
{
    echo_at("0.0.0.0", "127.0.0.9", "127.0.0.9");
    echo_at("127.0.0.1", "127.0.0.1", "127.0.0.1");
    echo_at("::", "::1", "::1");
    echo_at("::1", "::1", "::1");
}

TEST(udp_carries_every_size)
{
    static char out[UDP_PAYLOAD_MAX], in[65536];
    const size_t sizes[] = {0, 1, 1400, 9000, 40000, UDP_PAYLOAD_MAX};
    REQUIRE(set_up(SENDS) && serve("127.0.0.1"));
    server.echo = true;
    int fd = peer("127.0.0.1"), room = 1 << 20;
    REQUIRE(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
    for (size_t i = 0; i < sizeof(out); i++)
        out[i] = (char)(i * 7);
    for (uint32_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        REQUIRE(send(fd, out, sizes[i], 0) == (ssize_t)sizes[i]);
        TURNS_UNTIL(server.datagrams == i + 1);
        EXPECT_EQ(server.last_len, sizes[i]);
        TURNS_UNTIL(server.u.sending == 0);
        EXPECT_EQ(recv(fd, in, sizeof(in), 0), sizes[i]);
        EXPECT(memcmp(in, out, sizes[i]) == 0);
    }
    close(fd);
    tear_down();
}

// A train sent at once arrives as one, and goes back as one, which a peer without receive offload
// sees as the datagrams it is.
TEST(udp_keeps_trains_together)
{
    char out[2500], in[4096];
    int fd, size = 1000;
    REQUIRE(set_up(SENDS) && serve("127.0.0.1"));
    server.echo = true;
    fd = peer("127.0.0.1");
    REQUIRE(fd >= 0 && setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size)) == 0);
    memset(out, 'x', sizeof(out));
    REQUIRE(send(fd, out, sizeof(out), 0) == sizeof(out));
    TURNS_UNTIL(server.datagrams == 3);
    EXPECT_EQ(server.trains, 1);
    EXPECT_EQ(server.segment_bytes, 1000);
    TURNS_UNTIL(server.u.sending == 0);
    EXPECT_EQ(recv(fd, in, sizeof(in), 0), 1000);
    EXPECT_EQ(recv(fd, in, sizeof(in), 0), 1000);
    EXPECT_EQ(recv(fd, in, sizeof(in), 0), 500);
    close(fd);
    tear_down();
}

// More segments than the kernel takes in one train: they are sent all the same.
TEST(udp_sends_one_by_one_what_is_no_train)
{
    char in[64];
    uint16_t bid;
    REQUIRE(set_up(SENDS) && serve("127.0.0.1"));
    int fd = peer("127.0.0.1");
    REQUIRE(fd >= 0 && send(fd, "?", 1, 0) == 1);
    TURNS_UNTIL(server.datagrams == 1);
    char *data = bufring_borrow(&w.datagrams, &bid);
    REQUIRE(data);
    memset(data, 'y', 150);
    udp_send(&server.u, &(struct udp_datagram){.peer = &server.peer,
                                               .local = &server.local,
                                               .data = {data, 150},
                                               .bid = bid,
                                               .segment_bytes = 1,
                                               .ecn = 2});
    TURNS_UNTIL(server.u.sending == 0);
    for (int i = 0; i < 150; i++)
        REQUIRE(recv(fd, in, sizeof(in), 0) == 1);
    EXPECT_EQ(counter_read(&w.counters.c[COUNTER_udp_tx_dropped]), 0);
    close(fd);
    tear_down();
}

TEST(udp_tells_and_sets_ecn)
{
    char in[8], control[64];
    struct iovec iov = {in, sizeof(in)};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control,
                       .msg_controllen = sizeof(control)};
    int tos = 1, one = 1;
    REQUIRE(set_up(SENDS) && serve("0.0.0.0"));
    server.echo = true;
    server.reply_ecn = 3;
    int fd = peer("127.0.0.1");
    setsockopt(fd, IPPROTO_IP, IP_TOS, &tos, sizeof(tos));
    setsockopt(fd, IPPROTO_IP, IP_RECVTOS, &one, sizeof(one));
    REQUIRE(fd >= 0 && send(fd, "?", 1, 0) == 1);
    TURNS_UNTIL(server.datagrams == 1);
    EXPECT_EQ(server.ecn, 1);
    TURNS_UNTIL(server.u.sending == 0);
    REQUIRE(recvmsg(fd, &m, 0) == 1);
    REQUIRE(CMSG_FIRSTHDR(&m));
    EXPECT_EQ(*CMSG_DATA(CMSG_FIRSTHDR(&m)) & 3, 3);
    close(fd);
    tear_down();
}

TEST(udp_connected_socket_hears_that_nobody_is_there)
{
    REQUIRE(set_up(SENDS) && serve("127.0.0.1"));
    struct addr gone = server.u.local;
    udp_close(&server.u);
    TURNS_UNTIL(server.closes == 1);
    REQUIRE(udp_connect(&client.u, &w, &sends, &events, &client, &gone) == 0);
    client.close_on_error = true;
    REQUIRE(worker_turn(&w));
    REQUIRE(send(client.u.fd, "?", 1, 0) == 1);
    TURNS_UNTIL(client.errors == 1);
    EXPECT_EQ(client.error, ECONNREFUSED);
    TURNS_UNTIL(client.closes == 1);
    tear_down();
}

TEST(udp_connected_socket_answers_its_peer)
{
    struct sockaddr_in me = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct addr to = {.len = sizeof(to.in)};
    struct sockaddr_storage from;
    socklen_t len = sizeof(to.in), from_len = sizeof(from);
    char in[8];
    REQUIRE(set_up(SENDS));
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    REQUIRE(bind(fd, (struct sockaddr *)&me, sizeof(me)) == 0 &&
            getsockname(fd, &to.sa, &len) == 0);
    REQUIRE(udp_connect(&client.u, &w, &sends, &events, &client, &to) == 0);
    client.echo = true;
    REQUIRE(getsockname(client.u.fd, (struct sockaddr *)&from, &from_len) == 0);
    REQUIRE(sendto(fd, "abc", 3, 0, (struct sockaddr *)&from, from_len) == 3);
    TURNS_UNTIL(client.datagrams == 1 && client.u.sending == 0);
    EXPECT_EQ(client.local.len, 0);
    EXPECT_EQ(recv(fd, in, sizeof(in), 0), 3);
    close(fd);
    tear_down();
}

// A flood longer than the buffers are: all of what the socket held arrives, but not in one turn.
TEST(udp_turn_is_bounded)
{
    enum { FLOOD = 400 };
    uint32_t before = 0, most = 0;
    REQUIRE(set_up(SENDS) && serve("127.0.0.1"));
    int fd = peer("127.0.0.1");
    REQUIRE(fd >= 0 && worker_turn(&w));
    for (int i = 0; i < FLOOD; i++)
        REQUIRE(send(fd, "f", 1, 0) == 1);
    for (int turn = 0; turn < 400 && server.datagrams < FLOOD; turn++) {
        REQUIRE(worker_turn(&w));
        most = server.datagrams - before > most ? server.datagrams - before : most;
        before = server.datagrams;
    }
    EXPECT_EQ(server.datagrams, FLOOD);
    EXPECT(most <= w.datagrams.count);
    EXPECT(most < FLOOD && most <= w.datagrams.count);
    close(fd);
    tear_down();
}

TEST(udp_goes_on_when_buffers_return)
{
    uint32_t all;
    REQUIRE(set_up(SENDS) && serve("127.0.0.1"));
    server.hold = true;
    int fd = peer("127.0.0.1");
    REQUIRE(fd >= 0 && worker_turn(&w));
    all = w.datagrams.count;
    for (uint32_t i = 0; i < all + 2; i++)
        REQUIRE(send(fd, "f", 1, 0) == 1);
    TURNS_UNTIL(server.datagrams == all && counter_read(&w.counters.c[COUNTER_buffer_starved]));
    EXPECT_EQ(server.datagrams, all);
    while (server.held_count > 0)
        bufring_put(&w.datagrams, server.held[--server.held_count]);
    server.hold = false;
    TURNS_UNTIL(server.datagrams == all + 2);
    close(fd);
    tear_down();
}

TEST(udp_drops_at_the_cap_of_sends)
{
    REQUIRE(set_up(1) && serve("127.0.0.1"));
    server.echo = true;
    int fd = peer("127.0.0.1");
    REQUIRE(fd >= 0 && worker_turn(&w));
    for (int i = 0; i < 3; i++)
        REQUIRE(send(fd, "f", 1, 0) == 1);
    TURNS_UNTIL(server.datagrams == 3 && server.u.sending == 0);
    EXPECT(counter_read(&w.counters.c[COUNTER_udp_tx_dropped]) > 0);
    EXPECT_EQ(counter_read(&w.counters.c[COUNTER_udp_tx_dropped]), sends.refusals);
    close(fd);
    tear_down();
}

TEST(udp_counts_what_the_kernel_drops)
{
    static char big[60000];
    REQUIRE(set_up(SENDS) && serve("127.0.0.1"));
    int fd = peer("127.0.0.1"), small = 1;
    REQUIRE(fd >= 0 && worker_turn(&w));
    setsockopt(server.u.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    for (int i = 0; i < 20; i++)
        REQUIRE(send(fd, big, 100, 0) == 100);
    TURNS_UNTIL(server.datagrams > 0);
    REQUIRE(send(fd, big, 1, 0) == 1);
    TURNS_UNTIL(server.last_len == 1);
    uint64_t lost = counter_read(&w.counters.c[COUNTER_udp_rx_overflow]);
    EXPECT(lost > 0);
    EXPECT_EQ(server.datagrams + lost, 21);
    close(fd);
    tear_down();
}

TEST(udp_closed_with_sends_in_flight)
{
    REQUIRE(set_up(SENDS) && serve("127.0.0.1"));
    server.echo = true;
    int fd = peer("127.0.0.1");
    REQUIRE(fd >= 0 && send(fd, "f", 1, 0) == 1);
    TURNS_UNTIL(server.u.sending == 1);
    udp_close(&server.u);
    udp_close(&server.u);
    EXPECT_EQ(server.closes, 0);
    TURNS_UNTIL(server.closes == 1);
    EXPECT_EQ(server.u.fd, -1);
    close(fd);
    tear_down();
}

TEST(udp_sockets_of_one_address_share_it_and_a_stranger_is_noticed)
{
    struct addr at;
    REQUIRE(addr_parse(SLICE("127.0.0.1"), 0, &at) == OK);
    int one = udp_open(&at);
    socklen_t len = sizeof(at.in);
    REQUIRE(one >= 0 && getsockname(one, &at.sa, &len) == 0);
    int two = udp_open(&at);
    EXPECT(two >= 0);
    EXPECT_EQ(udp_probe(&at), -EADDRINUSE);
    close(one);
    close(two);
    EXPECT_EQ(udp_probe(&at), 0);
}
