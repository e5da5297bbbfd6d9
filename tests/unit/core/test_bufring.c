// With real sockets: what is taken is what the kernel wrote, whatever the order of return.
#include "core/bufring.h"
#include "core/ring.h"
#include "core/rng.h"
#include "test.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define CONNS 8

struct conn {
    struct op recv;
    struct bufring_waiter waiter;
    int fd[2]; // we receive on fd[0], the test writes into fd[1]
    uint64_t sent, got; // byte i of a stream is (i * 131 + id) & 0xff
    uint32_t id;
    uint32_t enobufs, bundles, eof;
    int error;
};

static struct ring ring;
static struct bufring bufs;
static struct conn conns[CONNS];
static struct {
    uint16_t bid;
} held[64];
static uint32_t held_count;
static struct rng rng;
static bool broken;

static uint8_t byte_of(const struct conn *c, uint64_t i)
{
    return (uint8_t)(i * 131 + (i >> 8) + c->id);
}

static void arm(struct conn *c)
{
    ring_recv_multishot(&ring, &c->recv, c->fd[0], bufs.group_id, true);
}

static void on_ready(struct bufring_waiter *w)
{
    arm(container_of(w, struct conn, waiter));
}

static void verify(struct conn *c, struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        broken |= (uint8_t)s.ptr[i] != byte_of(c, c->got + i);
    c->got += s.len;
}

// Some buffers are kept for a while and come back in another order.
static void keep_or_put(uint16_t bid)
{
    if (held_count < 40 && rng_below(&rng, 2)) {
        held[held_count++].bid = bid;
        return;
    }
    bufring_put(&bufs, bid);
}

static void put_some(uint32_t n)
{
    while (held_count > 0 && n-- > 0) {
        uint32_t i = rng_below(&rng, held_count);
        bufring_put(&bufs, held[i].bid);
        held[i] = held[--held_count];
    }
}

static void on_recv(struct op *op, int32_t res, uint32_t flags, uint16_t bid)
{
    struct conn *c = container_of(op, struct conn, recv);
    if (res > 0) {
        struct slice s[64];
        uint16_t bids[64];
        uint32_t n = bufring_take(&bufs, bid, (uint32_t)res, s, bids, 64);
        c->bundles += n > 1;
        for (uint32_t i = 0; i < n; i++) {
            verify(c, s[i]);
            keep_or_put(bids[i]);
        }
    } else if (res == 0) {
        c->eof++;
        if (flags & OP_BUFFER)
            bufring_take_empty(&bufs, bid);
        return;
    } else if (res == -ENOBUFS) {
        c->enobufs++;
        bufring_wait(&bufs, &c->waiter);
        return;
    } else {
        c->error = -res;
        return;
    }
    if (!(flags & OP_MORE))
        arm(c);
}

// TCP tells the kernel's receive how much is waiting, a Unix socket does not: both paths matter.
static bool use_tcp;

static int tcp_pair(int fd[2])
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int l = socket(AF_INET, SOCK_STREAM, 0);
    fd[1] = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(l, (struct sockaddr *)&a, len) < 0 || listen(l, 1) < 0 ||
        getsockname(l, (struct sockaddr *)&a, &len) < 0 ||
        connect(fd[1], (struct sockaddr *)&a, len) < 0)
        return -1;
    fd[0] = accept4(l, NULL, NULL, SOCK_NONBLOCK);
    close(l);
    fcntl(fd[1], F_SETFL, O_NONBLOCK);
    return fd[0] < 0 ? -1 : 0;
}

static bool set_up(uint32_t count, uint32_t bytes, bool bundles)
{
    broken = false;
    held_count = 0;
    rng_init(&rng, 5);
    if (ring_init(&ring, 64, 1024) != OK)
        return false;
    ring.bundles &= bundles;
    if (bufring_init(&bufs, &ring, 0, count, bytes) != OK || ring_enable(&ring) != OK)
        return false;
    for (uint32_t i = 0; i < CONNS; i++) {
        struct conn *c = &conns[i];
        *c = (struct conn){.id = i, .recv = {.done = on_recv}, .waiter = {.ready = on_ready}};
        list_init(&c->waiter.link);
        int rc = use_tcp ? tcp_pair(c->fd)
                         : socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, c->fd);
        if (rc < 0)
            return false;
        arm(c);
    }
    return true;
}

static void turn(uint64_t timeout_ns)
{
    ring_turn(&ring, timeout_ns);
    bufring_flush(&bufs);
}

static void tear_down(void)
{
    put_some(UINT32_MAX);
    for (uint32_t i = 0; i < CONNS; i++) {
        bufring_unwait(&bufs, &conns[i].waiter);
        if (conns[i].recv.inflight)
            ring_cancel(&ring, &conns[i].recv);
    }
    for (int i = 0; i < 100 && ring.inflight; i++)
        turn(1000000);
    EXPECT_EQ(ring.inflight, 0);
    for (uint32_t i = 0; i < CONNS; i++) {
        close(conns[i].fd[0]);
        close(conns[i].fd[1]);
    }
    EXPECT_EQ(bufs.out, 0);
    bufring_fini(&bufs, &ring);
    ring_fini(&ring);
}

static void write_some(struct conn *c, uint32_t len)
{
    static char text[65536];
    for (uint32_t i = 0; i < len; i++)
        text[i] = (char)byte_of(c, c->sent + i);
    ssize_t n = send(c->fd[1], text, len, MSG_NOSIGNAL);
    if (n > 0)
        c->sent += (uint64_t)n;
}

static uint64_t missing_bytes(void)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < CONNS; i++)
        n += conns[i].sent - conns[i].got;
    return n;
}

static void soak(uint32_t count, uint32_t bytes, bool bundles, int steps)
{
    REQUIRE(set_up(count, bytes, bundles));
    for (int step = 0; step < steps && !broken; step++) {
        for (uint32_t i = 0; i < CONNS; i++)
            if (rng_below(&rng, 3) == 0)
                write_some(&conns[i], rng_below(&rng, rng_below(&rng, 2) ? 200 : 60000) + 1);
        turn(0);
        put_some(rng_below(&rng, 12));
    }
    // Waited for, not polled: TCP may have to probe a window that was closed.
    for (int i = 0; i < 20000 && missing_bytes(); i++) {
        turn(1000000);
        put_some(UINT32_MAX);
    }
    EXPECT(!broken);
    EXPECT_EQ(missing_bytes(), 0);
    uint32_t enobufs = 0, several = 0;
    for (uint32_t i = 0; i < CONNS; i++) {
        enobufs += conns[i].enobufs;
        several += conns[i].bundles;
        EXPECT_EQ(conns[i].error, 0);
    }
    EXPECT(enobufs > 0 || count > 64); // or the test is too gentle
    EXPECT((several > 0) == (bundles && ring.bundles));
    tear_down();
}

TEST(bufring_streams_arrive_in_order_with_bundles)
{
    soak(64, 512, true, 3000);
    soak(16, 4096, true, 3000);
}

TEST(bufring_tcp_streams_arrive_in_order_with_bundles)
{
    use_tcp = true;
    soak(64, 512, true, 3000);
    soak(16, 4096, true, 3000);
    soak(128, 8192, true, 1000);
    use_tcp = false;
}

TEST(bufring_streams_arrive_in_order_without_bundles)
{
    soak(64, 512, false, 3000);
}

// A dry ring ends the receive; giving one buffer back wakes one waiter, not all.
TEST(bufring_starved_receivers_wake_when_buffers_return)
{
    REQUIRE(set_up(2, 64, true));
    write_some(&conns[0], 128);
    rng_init(&rng, 5);
    for (int i = 0; i < 100 && conns[0].got < 128; i++)
        ring_turn(&ring, 1000000); // no flush: both buffers stay out
    EXPECT_EQ(bufs.out, 2);
    for (uint32_t i = 1; i < CONNS; i++)
        write_some(&conns[i], 10);
    for (int i = 0; i < 20; i++)
        ring_turn(&ring, 1000000);
    uint32_t waiting = 0;
    for (uint32_t i = 0; i < CONNS; i++)
        waiting += list_linked(&conns[i].waiter.link);
    EXPECT(waiting >= CONNS - 1);
    bufring_flush(&bufs); // what was put without being held is back now
    uint32_t still = 0;
    for (uint32_t i = 0; i < CONNS; i++)
        still += list_linked(&conns[i].waiter.link);
    EXPECT_EQ(waiting - still, bufs.count - bufs.out);
    for (int i = 0; i < 1000 && missing_bytes(); i++) {
        put_some(UINT32_MAX);
        turn(0);
    }
    EXPECT_EQ(missing_bytes(), 0);
    EXPECT(!broken);
    tear_down();
}

TEST(bufring_end_of_stream_keeps_the_books)
{
    for (int bundles = 0; bundles < 2; bundles++) {
        REQUIRE(set_up(4, 64, bundles));
        for (uint32_t i = 0; i < CONNS - 1; i++) {
            write_some(&conns[i], 10);
            for (int k = 0; k < 100 && missing_bytes(); k++) {
                turn(1000000);
                put_some(UINT32_MAX);
            }
            shutdown(conns[i].fd[1], SHUT_WR);
            for (int k = 0; k < 100 && !conns[i].eof; k++)
                turn(1000000);
            EXPECT_EQ(conns[i].eof, 1);
            EXPECT_EQ(bufs.out, 0);
        }
        // All buffers are still usable, and are what we think they are.
        for (int k = 0; k < 50; k++) {
            write_some(&conns[CONNS - 1], 250);
            for (int j = 0; j < 100 && missing_bytes(); j++) {
                turn(1000000);
                put_some(UINT32_MAX);
            }
        }
        EXPECT_EQ(missing_bytes(), 0);
        EXPECT(!broken);
        tear_down();
    }
}

TEST(bufring_counts_references)
{
    REQUIRE(set_up(4, 64, true));
    struct slice s;
    uint16_t bid;
    write_some(&conns[0], 10);
    conns[0].recv.done = on_recv;
    turn(1000000);
    put_some(UINT32_MAX);
    bufring_flush(&bufs);
    EXPECT_EQ(bufs.out, 0);
    bid = bufs.order[1];
    EXPECT_EQ(bufring_take(&bufs, bid, 5, &s, &bid, 1), 1);
    bufring_get(&bufs, bid);
    bufring_put(&bufs, bid);
    EXPECT_EQ(bufs.recycled_count, 0);
    bufring_put(&bufs, bid);
    EXPECT_EQ(bufs.recycled_count, 1);
    bufs.recycled_count = 0; // the kernel never gave it out
    bufs.out = 0;
    tear_down();
}
