// The descriptor ring (struct io_uring_buf_ring) that the kernel takes buffers from. Owns its
// memory. One thread, except that the registration may happen before the ring has a thread.
#include "core/bufring_kernel.h"
#include "core/ring.h"
#include "core/ring_kernel.h"
#include <errno.h>
#include <sys/mman.h>

static struct io_uring *uring(struct bufring *b)
{
    return &((struct ring_kernel *)b->ring->impl)->u;
}

static size_t ring_bytes(const struct bufring *b)
{
    return b->count * sizeof(struct io_uring_buf);
}

int bufring_kernel_register(struct bufring *b)
{
    void *p = mmap(NULL, ring_bytes(b), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return -ENOMEM;
    io_uring_buf_ring_init(p);
    struct io_uring_buf_reg reg = {
        .ring_addr = (uint64_t)(uintptr_t)p, .ring_entries = b->count, .bgid = b->group_id};
    int rc = io_uring_register_buf_ring(uring(b), &reg, 0);
    if (rc < 0) {
        munmap(p, ring_bytes(b));
        return rc;
    }
    b->ring_mem = p;
    return 0;
}

// Another thread than the ring's owner may not unregister; then the ring's end does it, and the
// kernel holds its own references on the pages until that.
void bufring_kernel_unregister(struct bufring *b)
{
    if (b->ring->impl)
        io_uring_unregister_buf_ring(uring(b), b->group_id);
    munmap(b->ring_mem, ring_bytes(b));
    b->ring_mem = NULL;
}

// Not io_uring_buf_ring_add: that counts from the tail, here the position is given. The entry's
// reserved word is left alone, in the first entry it is the tail.
void bufring_kernel_give(struct bufring *b, uint32_t at, char *memory, uint16_t bid)
{
    struct io_uring_buf *d = &((struct io_uring_buf_ring *)b->ring_mem)->bufs[at];
    d->addr = (uint64_t)(uintptr_t)memory;
    d->len = b->buffer_bytes;
    d->bid = bid;
}

void bufring_kernel_publish(struct bufring *b, uint32_t n)
{
    io_uring_buf_ring_advance(b->ring_mem, (int)n);
}

uint32_t bufring_kernel_length(const struct bufring *b, uint32_t at)
{
    uint32_t len = ((const struct io_uring_buf_ring *)b->ring_mem)->bufs[at].len;
    return len < b->buffer_bytes ? len : b->buffer_bytes;
}
