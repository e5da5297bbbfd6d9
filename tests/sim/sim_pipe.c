// Pipes of the simulated kernel, and splice(2) between them and its sockets: amounts are random, as
// a pipe's are, whose room counts pieces and not bytes.
#include "core/check.h"
#include "core/ring.h"
#include "sim_socket.h"
#include <errno.h>
#include <stdlib.h>

#define PIPES 64

static struct sim_pipe {
    char *bytes; // NULL: not in use
    uint32_t len, cap;
    bool open[2];
} pipes[PIPES];

void sim_pipe_reset_all(void)
{
    for (int i = 0; i < PIPES; i++) {
        free(pipes[i].bytes);
        pipes[i] = (struct sim_pipe){0};
    }
}

bool sim_is_pipe(int fd)
{
    return fd >= SIM_PIPE_BASE && fd < SIM_PIPE_BASE + 2 * PIPES;
}

uint32_t sim_open_pipes(void)
{
    uint32_t n = 0;
    for (int i = 0; i < PIPES; i++)
        n += pipes[i].bytes != NULL;
    return n;
}

static struct sim_pipe *pipe_of(int fd, int end)
{
    struct sim_pipe *p = &pipes[(fd - SIM_PIPE_BASE) / 2];
    check(sim_is_pipe(fd) && (fd & 1) == end && p->open[end]);
    return p;
}

int ring_pipe(int fd[2], uint32_t bytes)
{
    for (int i = 0; i < PIPES && !sim_chance(sim_faults.pipe_fails); i++) {
        struct sim_pipe *p = &pipes[i];
        if (p->bytes)
            continue;
        *p = (struct sim_pipe){.open = {true, true}, .bytes = malloc(bytes)};
        check(p->bytes);
        p->cap = 1 + rng_below(sim_rng(), bytes);
        fd[0] = SIM_PIPE_BASE + 2 * i;
        fd[1] = fd[0] + 1;
        return (int)bytes;
    }
    return -EMFILE;
}

void sim_pipe_close(int fd)
{
    struct sim_pipe *p = pipe_of(fd, fd & 1);
    p->open[fd & 1] = false;
    if (p->open[0] || p->open[1])
        return;
    free(p->bytes);
    p->bytes = NULL;
}

static ssize_t into_pipe(struct sim_socket *s, struct sim_pipe *p, size_t most)
{
    size_t room = p->cap - p->len < most ? p->cap - p->len : most;
    if (room == 0)
        return -EAGAIN;
    ssize_t n = sim_take(s, p->bytes + p->len, 1 + rng_below(sim_rng(), (uint32_t)room));
    if (n > 0)
        p->len += (uint32_t)n;
    return n;
}

static ssize_t out_of_pipe(struct sim_pipe *p, struct sim_socket *s, size_t most)
{
    size_t len = p->len < most ? p->len : most;
    check(len > 0);
    ssize_t n = sim_give(s, p->bytes, 1 + rng_below(sim_rng(), (uint32_t)len));
    if (n > 0) {
        p->len -= (uint32_t)n;
        memmove(p->bytes, p->bytes + n, p->len);
    }
    return n;
}

ssize_t ring_splice(int from, int to, size_t most)
{
    check(most > 0);
    if (sim_is_pipe(from))
        return out_of_pipe(pipe_of(from, 0), sim_socket(to), most);
    return into_pipe(sim_socket(from), pipe_of(to, 1), most);
}
