// Pipes for splice(2), a few for each worker: whoever moves bytes takes one, and gives it back as
// soon as it is empty. One thread.
#pragma once
#include <stdint.h>

#define PIPE_BYTES (256u * 1024u) // asked for
#define PIPE_BYTES_MIN 65536u     // less is of no use: a user's pages for pipes are used up
#define PIPE_KEPT 8u              // empty ones that are kept

struct pipe {
    int out, in; // read from, written to
    uint32_t bytes, capacity;
    struct pipe *next;
};

struct pipe_pool {
    struct pipe *kept;   // empty, the one used last first
    uint32_t open, idle; // pipes; of these, kept
    uint32_t cap;
    uint64_t refusals;
};

void pipe_pool_init(struct pipe_pool *p, uint32_t cap);
void pipe_pool_fini(struct pipe_pool *p);   // checks that none is in use
struct pipe *pipe_get(struct pipe_pool *p); // NULL: at the cap, or none is to be had; counted
void pipe_put(struct pipe_pool *p, struct pipe *pipe); // drops what is in it; NULL is fine
