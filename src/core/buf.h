// Output queue of a connection: bytes owned (copied into chunks from the worker's pool) and bytes
// borrowed (slices of receive buffers, released when sent), in order. Cut so that one event
// becomes one send: small things are copied behind one another into one chunk and go out as a
// plain send, large bodies stay where they were received and go out by sendmsg.
#pragma once
#include "core/list.h"
#include "core/pool.h"
#include "core/slice.h"
#include <sys/uio.h>

struct bufring;

#define BUF_CHUNK_BYTES 4096
// Borrowed slices up to this size are copied, so that their buffer returns at once.
#define BUF_COPY_MAX 2048

struct bufq {
    struct list_node chunks_used;
    size_t bytes;         // not yet sent
    struct pool *chunks;  // BUF_CHUNK_BYTES objects incl. header
    struct bufring *ring; // where borrowed buffers go back to
};

// A pool with objects of the right size for bufq.chunks.
void bufq_pool_init(struct pool *p, uint32_t cap);
void bufq_init(struct bufq *q, struct pool *chunks, struct bufring *ring);
void bufq_clear(struct bufq *q);                    // gives everything back
void bufq_move(struct bufq *to, struct bufq *from); // all of it; both of the same pools
// Contiguous room for `len` <= BUF_CHUNK_BYTES - 64 bytes at the tail; NULL when the pool is empty.
// Write, then bufq_commit what was used (at most `len`), with no other call in between.
char *bufq_reserve(struct bufq *q, size_t len);
void bufq_commit(struct bufq *q, size_t len);
// The appends are all or nothing: false when the pool has not enough chunks left.
bool bufq_append(struct bufq *q, struct slice bytes); // copies
// Takes over one reference of buffer `bid`, also when it fails. Small slices are copied and the
// buffer returns at once; so are all when receive buffers are scarce, lest slow readers hold them,
// and those of BUFRING_VOLATILE.
bool bufq_append_buffer(struct bufq *q, struct slice bytes, uint16_t bid);
uint32_t bufq_peek(const struct bufq *q, struct iovec *iov, uint32_t cap); // from the front
void bufq_consume(struct bufq *q, size_t bytes);                           // sent: release
