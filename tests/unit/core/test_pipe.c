#include "core/pipe.h"
#include "core/ring.h"
#include "test.h"
#include <errno.h>

TEST(pipes_are_reused_when_empty)
{
    struct pipe_pool pool;
    pipe_pool_init(&pool, 2);
    struct pipe *p = pipe_get(&pool);
    EXPECT(p && p->capacity >= PIPE_BYTES_MIN);
    pipe_put(&pool, p);
    EXPECT_EQ(pool.idle, 1);
    EXPECT(pipe_get(&pool) == p);
    pipe_put(&pool, p);
    pipe_pool_fini(&pool);
    EXPECT_EQ(pool.open, 0);
}

TEST(pipes_have_a_cap)
{
    struct pipe_pool pool;
    pipe_pool_init(&pool, 2);
    struct pipe *a = pipe_get(&pool), *b = pipe_get(&pool);
    EXPECT(a && b && a != b);
    EXPECT(!pipe_get(&pool));
    EXPECT_EQ(pool.refusals, 1);
    pipe_put(&pool, a);
    pipe_put(&pool, b);
    pipe_pool_fini(&pool);
}

TEST(a_pipe_with_bytes_in_it_is_not_reused)
{
    struct pipe_pool pool;
    pipe_pool_init(&pool, 1);
    struct pipe *p = pipe_get(&pool);
    p->bytes = 1;
    pipe_put(&pool, p);
    EXPECT_EQ(pool.open, 0);
    p = pipe_get(&pool);
    EXPECT(p && p->bytes == 0); // there is room for another
    pipe_put(&pool, p);
    pipe_pool_fini(&pool);
}

TEST(few_empty_pipes_are_kept)
{
    struct pipe_pool pool;
    struct pipe *all[PIPE_KEPT + 2];
    pipe_pool_init(&pool, PIPE_KEPT + 2);
    for (uint32_t i = 0; i < PIPE_KEPT + 2; i++)
        all[i] = pipe_get(&pool);
    for (uint32_t i = 0; i < PIPE_KEPT + 2; i++)
        pipe_put(&pool, all[i]);
    EXPECT_EQ(pool.open, PIPE_KEPT);
    EXPECT_EQ(pool.idle, PIPE_KEPT);
    pipe_pool_fini(&pool);
    EXPECT_EQ(pool.open, 0);
}

TEST(splice_moves_what_there_is)
{
    int fd[2], pair[2];
    char out[8];
    EXPECT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
    EXPECT(ring_pipe(fd, PIPE_BYTES) >= (int)PIPE_BYTES_MIN);
    EXPECT_EQ(ring_splice(pair[0], fd[1], 100), -EAGAIN);
    EXPECT_EQ(send(pair[1], "hello", 5, 0), 5);
    EXPECT_EQ(ring_splice(pair[0], fd[1], 100), 5);
    EXPECT_EQ(ring_splice(fd[0], pair[0], 5), 5);
    EXPECT_EQ(recv(pair[1], out, sizeof(out), 0), 5);
    shutdown(pair[1], SHUT_WR);
    EXPECT_EQ(ring_splice(pair[0], fd[1], 100), 0);
    for (int i = 0; i < 2; i++) {
        ring_close(fd[i]);
        ring_close(pair[i]);
    }
}
