// liburing as built, on the running kernel: a ring of the kind the workers use, and a no-op.
#include "test.h"
#include <liburing.h>

TEST(liburing_runs_a_nop)
{
    struct io_uring ring;
    struct io_uring_cqe *cqe;
    REQUIRE(io_uring_queue_init(8, &ring,
                                IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN) == 0);
    io_uring_prep_nop(io_uring_get_sqe(&ring));
    EXPECT_EQ(io_uring_submit_and_wait(&ring, 1), 1);
    REQUIRE(io_uring_peek_cqe(&ring, &cqe) == 0);
    EXPECT_EQ(cqe->res, 0);
    io_uring_cqe_seen(&ring, cqe);
    int ret;
    struct io_uring_buf_ring *br = io_uring_setup_buf_ring(&ring, 8, 1, 0, &ret);
    EXPECT(br != NULL);
    if (br)
        EXPECT_EQ(io_uring_free_buf_ring(&ring, br, 8, 1), 0);
    io_uring_queue_exit(&ring);
    EXPECT_EQ(io_uring_major_version(), 2);
    EXPECT_EQ(io_uring_minor_version(), 15);
}
