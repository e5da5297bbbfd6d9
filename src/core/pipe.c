// Pipes for splice(2). The pool owns all that are open; two descriptors each. A pipe that is given
// back with bytes in it is closed: they belong to nobody.
#include "core/pipe.h"
#include "core/check.h"
#include "core/ring.h"
#include <stdlib.h>

void pipe_pool_init(struct pipe_pool *p, uint32_t cap)
{
    *p = (struct pipe_pool){.cap = cap};
}

static void destroy(struct pipe_pool *p, struct pipe *pipe)
{
    ring_close(pipe->in);
    ring_close(pipe->out);
    free(pipe);
    p->open--;
}

void pipe_pool_fini(struct pipe_pool *p)
{
    while (p->kept) {
        struct pipe *pipe = p->kept;
        p->kept = pipe->next;
        destroy(p, pipe);
    }
    check(p->open == 0);
    p->idle = 0;
}

static struct pipe *create(struct pipe_pool *p)
{
    int fd[2], capacity = p->open < p->cap ? ring_pipe(fd, PIPE_BYTES) : -1;
    if (capacity < 0)
        return NULL;
    struct pipe *pipe = malloc(sizeof(*pipe));
    check(pipe);
    *pipe = (struct pipe){.out = fd[0], .in = fd[1], .capacity = (uint32_t)capacity};
    p->open++;
    if (pipe->capacity >= PIPE_BYTES_MIN)
        return pipe;
    destroy(p, pipe);
    return NULL;
}

struct pipe *pipe_get(struct pipe_pool *p)
{
    struct pipe *pipe = p->kept;
    if (pipe) {
        p->kept = pipe->next;
        p->idle--;
        return pipe;
    }
    pipe = create(p);
    p->refusals += !pipe;
    return pipe;
}

void pipe_put(struct pipe_pool *p, struct pipe *pipe)
{
    if (!pipe)
        return;
    if (pipe->bytes > 0 || p->idle == PIPE_KEPT) {
        destroy(p, pipe);
        return;
    }
    pipe->next = p->kept;
    p->kept = pipe;
    p->idle++;
}
