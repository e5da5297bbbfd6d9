#include "core/clock.h"
#include "core/list.h"
#include "core/ring.h"
#include "test.h"
#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct probe {
    struct op op;
    int32_t res[64];
    uint32_t flags[64], count;
    bool inflight_in_done;
};

static void record(struct op *op, int32_t res, uint32_t flags, uint16_t bid)
{
    struct probe *p = container_of(op, struct probe, op);
    (void)bid;
    p->inflight_in_done = op->inflight;
    if (p->count < 64) {
        p->res[p->count] = res;
        p->flags[p->count] = flags;
    }
    p->count++;
}

static struct ring ring;

static bool set_up(uint32_t entries)
{
    return ring_init(&ring, entries, 256) == OK && ring_enable(&ring) == OK;
}

static void until(const struct probe *p, uint32_t count)
{
    for (int i = 0; i < 200 && p->count < count; i++)
        ring_turn(&ring, 5 * NS_PER_MS);
}

TEST(ring_probe_finds_what_is_needed_here)
{
    struct ring_features f;
    ring_probe(&f);
    EXPECT_EQ(f.setup_errno, 0);
    EXPECT(f.missing == NULL);
    EXPECT(f.buf_ring);
}

TEST(ring_timeout_is_kept)
{
    REQUIRE(set_up(8));
    uint64_t before = clock_monotonic_ns();
    ring_turn(&ring, 20 * NS_PER_MS);
    uint64_t took = clock_monotonic_ns() - before;
    EXPECT(took >= 20 * NS_PER_MS && took < 2 * NS_PER_S);
    ring_fini(&ring);
}

TEST(ring_send_tells_what_fitted_and_waits_when_nothing_does)
{
    static char big[400000], in[65536];
    struct probe s = {.op.done = record};
    int fd[2];
    REQUIRE(set_up(8));
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd) == 0);
    size_t sent = 0, got = 0;
    uint32_t seen = 0;
    for (int i = 0; i < 10000 && got < sizeof(big); i++) {
        if (!s.op.inflight && sent < sizeof(big))
            ring_send(&ring, &s.op, fd[0], big + sent, sizeof(big) - sent, false);
        ring_turn(&ring, 0);
        for (; seen < s.count && seen < 64; seen++)
            sent += s.res[seen] > 0 ? (size_t)s.res[seen] : 0;
        if (s.op.inflight || sent == sizeof(big)) { // full, or all is there
            ssize_t n = read(fd[1], in, sizeof(in));
            got += n > 0 ? (size_t)n : 0;
        }
    }
    EXPECT_EQ(got, sizeof(big));
    EXPECT(s.count > 1 && s.count < 64);
    EXPECT(!s.op.inflight && !s.inflight_in_done);
    uint32_t before = s.count;
    close(fd[1]);
    ring_send(&ring, &s.op, fd[0], "x", 1, false);
    until(&s, before + 1);
    EXPECT_EQ(s.res[before], -EPIPE); // and no SIGPIPE
    EXPECT_EQ(ring.inflight, 0);
    close(fd[0]);
    ring_fini(&ring);
}

TEST(ring_cancel_ends_a_multishot_once)
{
    struct probe p = {.op.done = record};
    int fd = eventfd(0, EFD_NONBLOCK);
    uint64_t one = 1;
    REQUIRE(set_up(8));
    ring_poll_multishot(&ring, &p.op, fd, POLLIN);
    ring_turn(&ring, 0);
    EXPECT(write(fd, &one, sizeof(one)) == sizeof(one));
    until(&p, 1);
    EXPECT(p.res[0] > 0 && (p.flags[0] & OP_MORE) && p.op.inflight);
    ring_cancel(&ring, &p.op);
    until(&p, 2);
    EXPECT_EQ(p.res[1], -ECANCELED);
    EXPECT(!p.op.inflight);
    ring_cancel(&ring, &p.op); // of nothing: no completion for anybody
    ring_turn(&ring, NS_PER_MS);
    EXPECT_EQ(p.count, 2);
    close(fd);
    ring_fini(&ring);
}

TEST(ring_full_submission_queue_goes_on)
{
    enum { N = 100 };
    static struct probe p[N];
    int fd[2];
    REQUIRE(set_up(4));
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd) == 0);
    for (int i = 0; i < N; i++) {
        p[i] = (struct probe){.op.done = record};
        ring_send(&ring, &p[i].op, fd[0], "abc", 3, false);
    }
    for (int i = 0; i < N; i++) {
        until(&p[i], 1);
        EXPECT_EQ(p[i].res[0], 3);
    }
    EXPECT_EQ(ring.inflight, 0);
    close(fd[0]);
    close(fd[1]);
    ring_fini(&ring);
}
