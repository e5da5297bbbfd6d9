// Receive buffers that the kernel picks from (provided-buffer ring, io_uring_buf_ring), one
// ring per worker, so that an idle connection holds none. A receive with bundles may fill
// several buffers in ring order with one completion.
// A filled buffer is borrowed from the ring: bufring_put gives it back. Buffers are counted, so
// that several slices of one buffer can be held at the same time.
// When the ring runs dry a receive ends with -ENOBUFS: its owner waits on `starved` (a
// list of struct bufring_waiter) and is called once buffers came back. One thread.
#pragma once
#include "core/list.h"
#include "core/slice.h"
#include <stdint.h>

struct ring;

// Instead of a buffer's number: bytes that are valid during the call only. There is no reference to
// take or give back; whoever keeps such bytes copies them (bufq_append_buffer does).
#define BUFRING_VOLATILE 0xfffeu

struct bufring_waiter {
    struct list_node link;
    void (*ready)(struct bufring_waiter *w);
};

// Bytes behind each buffer that nothing is received into: for what a record adds to a receive's
// bytes that are sealed into a borrowed buffer.
#define BUFRING_TAIL 128u

struct bufring {
    struct ring *ring;
    void *ring_mem; // kernel-visible ring of descriptors
    char *base;     // count * (buffer_bytes + BUFRING_TAIL), one mapping
    uint16_t *refs; // references held per buffer; 0 = owned by the kernel
    uint16_t group_id;
    uint32_t count;        // a power of two
    uint32_t buffer_bytes; // of one receive
    uint32_t out;          // buffers not in the kernel's hands
    uint32_t tail;         // entries ever given to the kernel
    uint16_t *order; // by ring position: the bid there, so that a bundle's following bids are known
    uint16_t *position; // by bid: the ring position at which it was given to the kernel last
    uint16_t *recycled; // bids in nobody's hands, a stack: those used last are in the CPU's cache
    uint32_t recycled_count;
    uint32_t posted_target; // bufring_flush leaves the kernel as many, if there are as many
    uint32_t quiet_flushes; // in a row that used few of them
    struct list_node starved;
    uint64_t enobufs; // times the ring was found dry
};

// ERR_IO with errno set when the kernel refuses; the ring must exist.
int bufring_init(struct bufring *b, struct ring *r, uint16_t group_id, uint32_t count,
                 uint32_t buffer_bytes);
void bufring_fini(struct bufring *b, struct ring *r); // checks that nothing is out

// Accounts for a completion of `len` bytes that began in buffer `bid` and fills iov[] with the
// slices, one for each buffer used (1 without a bundle), each holding one reference.
// Returns how many; `cap` must be enough for len / buffer_bytes + 1.
uint32_t bufring_take(struct bufring *b, uint16_t bid, uint32_t len, struct slice *iov,
                      uint16_t *bids, uint32_t cap);
// The same for at most `cap` buffers: *taken tells how many of the bytes they hold. The rest
// begins in bufring_following of the last one.
uint32_t bufring_take_some(struct bufring *b, uint16_t bid, uint32_t len, struct slice *iov,
                           uint16_t *bids, uint32_t cap, uint32_t *taken);
// A buffer of buffer_bytes + BUFRING_TAIL for the owner's own bytes, with one reference; NULL when
// all are in use. It is given back like a filled one.
char *bufring_borrow(struct bufring *b, uint16_t *bid);
void bufring_get(struct bufring *b, uint16_t bid); // one more reference
void bufring_put(struct bufring *b, uint16_t bid); // the last one recycles the buffer
// The buffer that follows `bid` in a bundle. Valid until the next bufring_flush.
uint16_t bufring_following(const struct bufring *b, uint16_t bid);
// A completion without bytes (end of stream) that names a buffer: gives it back if it was taken.
void bufring_take_empty(struct bufring *b, uint16_t bid);
// Waits for buffers after -ENOBUFS (counted); `w` is called by a bufring_flush, once. Again while
// waiting is fine. bufring_unwait of one that is not waiting too.
void bufring_wait(struct bufring *b, struct bufring_waiter *w);
void bufring_unwait(struct bufring *b, struct bufring_waiter *w);
// Buffers that somebody holds a reference of.
static inline uint32_t bufring_held(const struct bufring *b)
{
    return b->out - b->recycled_count;
}
// True when few buffers are left: holders copy what they hold instead of borrowing it.
static inline bool bufring_scarce(const struct bufring *b)
{
    return bufring_held(b) > b->count - b->count / 4;
}
// Gives the kernel recycled buffers and wakes starved receivers; once per turn of the loop.
void bufring_flush(struct bufring *b);
