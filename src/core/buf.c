// Output queue. Owns chunks of the worker's pool; in a chunk copied bytes grow from the front and
// entries (what to send, in order) from the back, so that heads, chunk frames and
// borrowed bodies alternate without a piece of memory for each. One thread.
//
// Invariants: the entries of all chunks in list order are the unsent bytes, `bytes` long; no entry
// is empty; no chunk without entries stays in the list, except between reserve and commit.
// Bytes that a send in flight points to do not move: appending only extends the last entry.
#include "core/buf.h"
#include "core/bufring.h"
#include "core/check.h"

enum entry_kind { ENTRY_OWN, ENTRY_BORROWED };

struct entry {
    const char *ptr;
    uint32_t len;
    uint16_t bid; // of ENTRY_BORROWED
    uint16_t kind;
};

struct chunk {
    struct list_node link;
    uint16_t fill;       // bytes copied into data
    uint16_t first, end; // entries first <= i < end are unsent
    char data[];
};

#define DATA_BYTES (BUF_CHUNK_BYTES - sizeof(struct chunk))

_Static_assert(DATA_BYTES % sizeof(struct entry) == 8, "entries end 8 bytes before the chunk does");
_Static_assert(DATA_BYTES - 2 * sizeof(struct entry) >= BUF_CHUNK_BYTES - 64, "reserve's promise");

static struct entry *entry_at(struct chunk *c, uint32_t i)
{
    struct entry *end = (struct entry *)((char *)c + BUF_CHUNK_BYTES);
    return end - 1 - i;
}

static size_t room(const struct chunk *c)
{
    return DATA_BYTES - c->fill - c->end * sizeof(struct entry);
}

static struct chunk *tail(const struct bufq *q)
{
    if (list_empty(&q->chunks_used))
        return NULL;
    return container_of(q->chunks_used.prev, struct chunk, link);
}

void bufq_pool_init(struct pool *p, uint32_t cap)
{
    pool_init(p, "output_chunks", BUF_CHUNK_BYTES, cap);
}

void bufq_init(struct bufq *q, struct pool *chunks, struct bufring *ring)
{
    *q = (struct bufq){.chunks = chunks, .ring = ring};
    list_init(&q->chunks_used);
}

static struct chunk *push_chunk(struct bufq *q)
{
    struct chunk *c = pool_get(q->chunks);
    if (!c)
        return NULL;
    c->fill = c->first = c->end = 0;
    list_insert_tail(&q->chunks_used, &c->link);
    return c;
}

static void drop_chunk(struct bufq *q, struct chunk *c)
{
    list_remove(&c->link);
    pool_put(q->chunks, c);
}

static void release_entry(struct bufq *q, struct entry *e)
{
    if (e->kind == ENTRY_BORROWED)
        bufring_put(q->ring, e->bid);
}

void bufq_clear(struct bufq *q)
{
    struct chunk *c;
    while ((c = tail(q))) {
        for (uint32_t i = c->first; i < c->end; i++)
            release_entry(q, entry_at(c, i));
        drop_chunk(q, c);
    }
    q->bytes = 0;
}

void bufq_move(struct bufq *to, struct bufq *from)
{
    struct list_node *n;
    check(to->chunks == from->chunks && to->ring == from->ring);
    while ((n = list_pop_head(&from->chunks_used)))
        list_insert_tail(&to->chunks_used, n);
    to->bytes += from->bytes;
    from->bytes = 0;
}

// A tail chunk with room for `len` bytes and one more entry.
static struct chunk *chunk_for(struct bufq *q, size_t len)
{
    struct chunk *c = tail(q);
    if (c && room(c) >= len + sizeof(struct entry))
        return c;
    return push_chunk(q);
}

char *bufq_reserve(struct bufq *q, size_t len)
{
    check(len <= BUF_CHUNK_BYTES - 64);
    struct chunk *c = chunk_for(q, len);
    return c ? c->data + c->fill : NULL;
}

void bufq_commit(struct bufq *q, size_t len)
{
    struct chunk *c = tail(q);
    check(c && len <= room(c));
    if (len == 0) {
        if (c->first == c->end)
            drop_chunk(q, c);
        return;
    }
    struct entry *last = c->end > c->first ? entry_at(c, c->end - 1u) : NULL;
    const char *at = c->data + c->fill;
    if (last && last->kind == ENTRY_OWN && last->ptr + last->len == at) {
        last->len += (uint32_t)len;
    } else {
        check(len + sizeof(struct entry) <= room(c));
        // Entries grow down from the end of the block, beyond the struct:
        // NOLINTNEXTLINE(clang-analyzer-security.ArrayBound)
        *entry_at(c, c->end++) = (struct entry){at, (uint32_t)len, 0, ENTRY_OWN};
    }
    c->fill += (uint16_t)len;
    q->bytes += len;
}

// How many bytes a chunk takes when it holds them in one entry.
#define CHUNK_PAYLOAD (DATA_BYTES - sizeof(struct entry) - 8)

// Whether `len` bytes can be copied with what the tail has left and what the pool can give.
static bool can_append(const struct bufq *q, size_t len)
{
    const struct chunk *c = tail(q);
    size_t here = c && room(c) > sizeof(struct entry) ? room(c) - sizeof(struct entry) : 0;
    if (len <= here)
        return true;
    size_t chunks = (len - here + CHUNK_PAYLOAD - 1) / CHUNK_PAYLOAD;
    return chunks <= q->chunks->cap - q->chunks->in_use;
}

bool bufq_append(struct bufq *q, struct slice bytes)
{
    if (!can_append(q, bytes.len)) {
        q->chunks->refusals++;
        return false;
    }
    while (bytes.len > 0) {
        struct chunk *c = chunk_for(q, 1);
        if (!c)
            return false; // malloc failed below the cap: the connection is lost anyway
        size_t n = room(c) - sizeof(struct entry);
        if (n > bytes.len)
            n = bytes.len;
        memcpy(c->data + c->fill, bytes.ptr, n);
        bufq_commit(q, n);
        bytes = slice_from(bytes, n);
    }
    return true;
}

static bool borrow(struct bufq *q, struct slice bytes, uint16_t bid)
{
    check(bytes.len <= UINT32_MAX);
    struct chunk *c = chunk_for(q, 0);
    if (!c)
        return false;
    *entry_at(c, c->end++) = (struct entry){bytes.ptr, (uint32_t)bytes.len, bid, ENTRY_BORROWED};
    q->bytes += bytes.len;
    return true;
}

bool bufq_append_buffer(struct bufq *q, struct slice bytes, uint16_t bid)
{
    bool copy = bytes.len <= BUF_COPY_MAX || bid == BUFRING_VOLATILE ||
                (bufring_scarce(q->ring) && can_append(q, bytes.len));
    bool ok = copy ? bufq_append(q, bytes) : borrow(q, bytes, bid);
    if (copy || !ok)
        bufring_put(q->ring, bid);
    return ok;
}

uint32_t bufq_peek(const struct bufq *q, struct iovec *iov, uint32_t cap)
{
    uint32_t n = 0;
    list_for_each (node, (struct list_node *)&q->chunks_used) {
        struct chunk *c = container_of(node, struct chunk, link);
        for (uint32_t i = c->first; i < c->end; i++) {
            if (n == cap)
                return n;
            struct entry *e = entry_at(c, i);
            iov[n++] = (struct iovec){(void *)(uintptr_t)e->ptr, e->len};
        }
    }
    return n;
}

void bufq_consume(struct bufq *q, size_t bytes)
{
    check(bytes <= q->bytes);
    q->bytes -= bytes;
    while (bytes > 0) {
        struct chunk *c = container_of(q->chunks_used.next, struct chunk, link);
        struct entry *e = entry_at(c, c->first);
        if (bytes < e->len) {
            e->ptr += bytes;
            e->len -= (uint32_t)bytes;
            return;
        }
        bytes -= e->len;
        release_entry(q, e);
        if (++c->first == c->end)
            drop_chunk(q, c);
    }
}
