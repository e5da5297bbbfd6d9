// What the load programs share: a ring, a ring of provided buffers, loopback sockets, a clock.
// They are single-threaded and live for one measurement: whatever fails at start ends the program,
// and memory is never given back.
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static inline _Noreturn void die(const char *what, int error)
{
    fprintf(stderr, "%s: %s\n", what, strerror(error));
    exit(1);
}

static inline void *must_calloc(size_t n, size_t size)
{
    void *p = calloc(n, size);
    if (p == NULL)
        die("calloc", ENOMEM);
    return p;
}

static inline uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

// --cpu: -1 leaves the affinity alone.
static inline void pin_cpu(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (cpu < 0)
        return;
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) < 0)
        die("sched_setaffinity", errno);
}

// A number from the command line within [low, high].
static inline long number(const char *text, long low, long high)
{
    char *end;
    errno = 0;
    long n = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || n < low || n > high) {
        fprintf(stderr, "'%s' is not a number from %ld to %ld\n", text, low, high);
        exit(2);
    }
    return n;
}

static inline struct sockaddr_in loopback(unsigned port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
}

// As many descriptors as the hard limit allows; returns that limit.
static inline size_t raise_nofile(void)
{
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) < 0)
        die("getrlimit", errno);
    l.rlim_cur = l.rlim_max;
    setrlimit(RLIMIT_NOFILE, &l);
    return l.rlim_cur < 1u << 20 ? l.rlim_cur : 1u << 20;
}

static inline void set_nodelay(int fd)
{
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

// A listening socket on loopback whose connections inherit TCP_NODELAY; prints its port.
static inline int listen_and_tell(unsigned port)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = loopback(port);
    socklen_t len = sizeof a;
    if (fd < 0)
        die("socket", errno);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    set_nodelay(fd);
    if (bind(fd, (struct sockaddr *)&a, len) < 0 || listen(fd, 4096) < 0)
        die("bind", errno);
    if (getsockname(fd, (struct sockaddr *)&a, &len) < 0)
        die("getsockname", errno);
    printf("%u\n", ntohs(a.sin_port));
    fflush(stdout);
    return fd;
}

static inline void ring_init(struct io_uring *ring)
{
    struct io_uring_params p = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE,
        .cq_entries = 32768,
    };
    int err = io_uring_queue_init_params(4096, ring, &p);
    if (err < 0)
        die("io_uring_setup", -err);
    io_uring_register_ring_fd(ring);
}

static inline struct io_uring_sqe *ring_sqe(struct io_uring *ring)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    if (sqe == NULL) {
        io_uring_submit(ring);
        sqe = io_uring_get_sqe(ring);
    }
    if (sqe == NULL)
        die("submission queue", EBUSY);
    return sqe;
}

// What every body consists of, so that a gateway which mixes up bytes or answers is noticed.
static inline char *body_new(size_t bytes)
{
    char *body = must_calloc(1, bytes + 1);
    for (size_t i = 0; i < bytes; i++)
        body[i] = (char)('a' + i % 26);
    return body;
}

// Provided buffers, group 0.
struct buffers {
    struct io_uring_buf_ring *ring;
    char *base;
    unsigned count, size;
};

static inline char *buffer_at(const struct buffers *b, unsigned id)
{
    return b->base + (size_t)id * b->size;
}

static inline void buffers_give(struct buffers *b, unsigned id)
{
    io_uring_buf_ring_add(b->ring, buffer_at(b, id), b->size, (unsigned short)id, (int)b->count - 1,
                          0);
    io_uring_buf_ring_advance(b->ring, 1);
}

// At least `wanted` buffers (the count becomes a power of two, 32768 at most).
static inline void buffers_init(struct buffers *b, struct io_uring *ring, unsigned wanted,
                                unsigned size)
{
    int err = 0;
    for (b->count = 64; b->count < wanted && b->count < 32768; b->count *= 2)
        ;
    b->size = size;
    b->base = mmap(NULL, (size_t)b->count * size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (b->base == MAP_FAILED)
        die("mmap", errno);
    b->ring = io_uring_setup_buf_ring(ring, b->count, 0, 0, &err);
    if (b->ring == NULL)
        die("buffer ring", -err);
    for (unsigned i = 0; i < b->count; i++)
        buffers_give(b, i);
}

static inline void arm_recv(struct io_uring *ring, int fd, bool multishot, uint64_t data)
{
    struct io_uring_sqe *sqe = ring_sqe(ring);
    if (multishot)
        io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
    else
        io_uring_prep_recv(sqe, fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    io_uring_sqe_set_data64(sqe, data);
}
