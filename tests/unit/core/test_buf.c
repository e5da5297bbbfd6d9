#include "core/buf.h"
#include "core/bufring.h"
#include "core/ring.h"
#include "core/rng.h"
#include "test.h"
#include <stdlib.h>

static struct ring ring;
static struct bufring bufs;
static struct pool chunks;
static struct bufq q;
static uint16_t next; // position of the next buffer; they come back in order

static bool set_up(uint32_t cap)
{
    if (ring_init(&ring, 8, 64) != OK || bufring_init(&bufs, &ring, 0, 16, 8192) != OK)
        return false;
    bufq_pool_init(&chunks, cap);
    bufq_init(&q, &chunks, &bufs);
    next = 0;
    return true;
}

static void tear_down(void)
{
    bufq_clear(&q);
    EXPECT_EQ(chunks.in_use, 0);
    bufring_flush(&bufs);
    EXPECT_EQ(bufs.out, 0);
    pool_fini(&chunks);
    bufring_fini(&bufs, &ring);
    ring_fini(&ring);
}

// Takes the next buffer as the kernel would and fills it.
static struct slice fill(uint32_t len, char first, uint16_t *bid)
{
    struct slice s;
    *bid = bufs.order[next++ % bufs.count];
    EXPECT_EQ(bufring_take(&bufs, *bid, len, &s, bid, 1), 1);
    for (uint32_t i = 0; i < len; i++)
        ((char *)(uintptr_t)s.ptr)[i] = (char)(first + i);
    return s;
}

TEST(bufq_small_writes_become_one_piece)
{
    struct iovec iov[4];
    REQUIRE(set_up(4));
    char *p = bufq_reserve(&q, 100);
    REQUIRE(p);
    memcpy(p, "head ", 5);
    bufq_commit(&q, 5);
    EXPECT(bufq_append(&q, SLICE("body ")));
    EXPECT(bufq_append(&q, SLICE("end")));
    EXPECT_EQ(bufq_peek(&q, iov, 4), 1);
    EXPECT(iov[0].iov_len == 13 && memcmp(iov[0].iov_base, "head body end", 13) == 0);
    bufq_consume(&q, 4);
    EXPECT(bufq_append(&q, SLICE("!")));
    EXPECT_EQ(bufq_peek(&q, iov, 4), 1);
    EXPECT(iov[0].iov_len == 10 && memcmp(iov[0].iov_base, " body end!", 10) == 0);
    bufq_consume(&q, 10);
    EXPECT_EQ(chunks.in_use, 0); // idle: no memory
    p = bufq_reserve(&q, 10);
    bufq_commit(&q, 0);
    EXPECT_EQ(chunks.in_use, 0);
    tear_down();
}

TEST(bufq_borrows_large_slices_and_returns_small_ones_at_once)
{
    struct iovec iov[8];
    uint16_t a, b;
    REQUIRE(set_up(4));
    struct slice big = fill(8000, 0, &a), small = fill(100, 7, &b);
    EXPECT(bufq_append(&q, SLICE("1f40\r\n")));
    EXPECT(bufq_append_buffer(&q, big, a));
    EXPECT(bufq_append(&q, SLICE("\r\n64\r\n")));
    EXPECT(bufq_append_buffer(&q, small, b));
    EXPECT_EQ(chunks.in_use, 1); // frames and entries share a chunk
    EXPECT_EQ(bufs.recycled_count, 1);
    EXPECT_EQ(bufq_peek(&q, iov, 8), 3);
    EXPECT(iov[1].iov_base == big.ptr && iov[1].iov_len == 8000);
    bufq_consume(&q, 6 + 7999);
    EXPECT_EQ(bufs.recycled_count, 1);
    bufq_consume(&q, 1);
    EXPECT_EQ(bufs.recycled_count, 2);
    EXPECT_EQ(q.bytes, 106);
    tear_down();
}

TEST(bufq_copies_when_buffers_are_scarce)
{
    uint16_t bid;
    REQUIRE(set_up(64));
    for (int i = 0; i < 13; i++) {
        struct slice s = fill(8192, 0, &bid);
        EXPECT(bufq_append_buffer(&q, s, bid));
    }
    EXPECT_EQ(bufs.recycled_count, 1); // the thirteenth of sixteen
    tear_down();
}

TEST(bufq_full_pool_refuses_whole_appends)
{
    static char big[20000];
    REQUIRE(set_up(3));
    EXPECT(bufq_append(&q, (struct slice){big, 5000}));
    EXPECT(!bufq_append(&q, (struct slice){big, 8000}));
    EXPECT_EQ(q.bytes, 5000);
    EXPECT(bufq_append(&q, (struct slice){big, 7000}));
    EXPECT(bufq_reserve(&q, 4000) == NULL);
    uint16_t bid;
    struct slice s = fill(200, 0, &bid);
    while (bufq_append(&q, SLICE("x")))
        continue;
    EXPECT(!bufq_append_buffer(&q, s, bid)); // and the buffer went back all the same
    EXPECT_EQ(bufs.recycled_count, 1);
    tear_down();
}

// Random appends of every kind against a flat copy; consumed in random amounts.
TEST(bufq_agrees_with_a_flat_buffer)
{
    static char model[1 << 22];
    size_t head = 0, end = 0;
    struct rng r;
    REQUIRE(set_up(2000));
    rng_init(&r, 3);
    for (int step = 0; step < 20000 && end < sizeof(model) - 20000; step++) {
        static char text[10000];
        size_t len = rng_below(&r, rng_below(&r, 4) ? 100 : 9000) + 1;
        for (size_t i = 0; i < len; i++)
            text[i] = (char)rng_next(&r);
        uint16_t bid;
        struct slice s = {text, len};
        if (rng_below(&r, 4) == 0 && bufs.out < 15 && len <= 8192) {
            s = fill((uint32_t)len, (char)step, &bid);
            memcpy(text, s.ptr, len);
            REQUIRE(bufq_append_buffer(&q, s, bid));
        } else {
            REQUIRE(bufq_append(&q, s));
        }
        memcpy(model + end, text, len);
        end += len;
        struct iovec iov[3];
        uint32_t n = bufq_peek(&q, iov, 3);
        size_t at = head;
        for (uint32_t i = 0; i < n; i++) {
            REQUIRE(memcmp(model + at, iov[i].iov_base, iov[i].iov_len) == 0);
            at += iov[i].iov_len;
        }
        size_t eat = rng_below(&r, (uint32_t)(q.bytes + 1));
        bufq_consume(&q, eat);
        head += eat;
        REQUIRE(q.bytes == end - head);
        if (bufs.recycled_count && rng_below(&r, 2))
            bufring_flush(&bufs);
    }
    tear_down();
}
