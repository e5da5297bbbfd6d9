// Sending half: cuts plaintext into records and seals each where it is sent from: small ones behind
// one another in a chunk, large ones in a buffer borrowed from the receive ring. Thread of the
// connection.
//
// Invariant: nothing is sealed before handshake messages that wait (tickets, KeyUpdate) are on
// the wire, because they are sealed with the keys and numbers before.
#include "core/bufring.h"
#include "tls/conn_parts.h"
#include <openssl/err.h>

#define CHUNK_ROOM (BUF_CHUNK_BYTES - 64u)

#define MAX_SEAL_OVERHEAD 72 // of CBC with SHA-256, the largest

_Static_assert(TLS_SMALL_RECORD + MAX_SEAL_OVERHEAD <= CHUNK_ROOM, "a small record fits a chunk");
_Static_assert(MAX_SEAL_OVERHEAD <= BUFRING_TAIL, "a receive's bytes fit a buffer, sealed");

struct source {
    const struct iovec *iov;
    uint32_t count;
    size_t offset; // into the first piece
    size_t left;   // of all
};

// `len` plaintext bytes in one piece, copied only where they are not.
static const uint8_t *contiguous(const struct source *s, size_t len, uint8_t *room)
{
    const uint8_t *first = (const uint8_t *)s->iov->iov_base + s->offset;
    size_t here = s->iov->iov_len - s->offset;
    if (here >= len)
        return first;
    memcpy(room, first, here);
    const struct iovec *next = s->iov + 1;
    for (size_t have = here; have < len; next++) {
        size_t n = next->iov_len < len - have ? next->iov_len : len - have;
        memcpy(room + have, next->iov_base, n);
        have += n;
    }
    return room;
}

static void advance(struct source *s, size_t n)
{
    s->left -= n;
    s->offset += n;
    while (s->count > 0 && s->offset >= s->iov->iov_len) {
        s->offset -= s->iov->iov_len;
        s->iov++;
        s->count--;
    }
}

static bool ramping(struct tls_conn *c, uint64_t now_ns)
{
    if (now_ns - c->last_write_ns > TLS_RAMP_IDLE_NS)
        c->written = 0;
    c->last_write_ns = now_ns;
    return c->written < TLS_RAMP_BYTES;
}

// In a chunk of the wire. False when there is none.
static bool seal_small(struct tls_conn *c, struct source *s, size_t len)
{
    size_t cap = len + SSL_max_seal_overhead(c->ssl);
    char *out = bufq_reserve(c->wire, cap);
    if (!out)
        return false;
    const uint8_t *in = contiguous(s, len, c->pools->gather);
    size_t n = record_seal(c->ssl, (uint8_t *)out, cap, in, len);
    bufq_commit(c->wire, n);
    if (n == 0)
        (void)tls_conn_fail_ssl(c);
    return n > 0;
}

static bool seal_borrowed(struct tls_conn *c, struct source *s, size_t len, char *out, uint16_t bid)
{
    const uint8_t *in = contiguous(s, len, c->pools->gather);
    size_t n = record_seal(c->ssl, (uint8_t *)out, len + SSL_max_seal_overhead(c->ssl), in, len);
    if (n == 0) {
        bufring_put(c->wire->ring, bid);
        (void)tls_conn_fail_ssl(c);
        return false;
    }
    if (bufq_append_buffer(c->wire, (struct slice){out, n}, bid))
        return true;
    tls_conn_fail(c, TLS_FAIL_MEMORY); // a number is used up: the stream cannot go on without it
    return false;
}

// How much of the plaintext is sealed into a borrowed buffer: a piece as it was received, so that
// it is not copied, if that is no small one; 0 = none is to be borrowed.
static size_t large_record(const struct tls_conn *c, const struct source *s)
{
    const struct bufring *ring = c->wire->ring;
    size_t here = s->iov->iov_len - s->offset;
    if (!ring || ring->buffer_bytes <= TLS_SMALL_RECORD)
        return 0;
    size_t n = here > TLS_SMALL_RECORD && here < ring->buffer_bytes ? here : ring->buffer_bytes;
    return n < SSL3_RT_MAX_PLAIN_LENGTH ? n : SSL3_RT_MAX_PLAIN_LENGTH;
}

// One record; its length, or 0.
static size_t seal_one(struct tls_conn *c, struct source *s, bool small)
{
    uint16_t bid;
    char *out = NULL;
    size_t large = large_record(c, s);
    if (!small && s->left > TLS_SMALL_RECORD && large > 0)
        out = bufring_borrow(c->wire->ring, &bid);
    size_t len = out ? large : TLS_SMALL_RECORD;
    if (len > s->left)
        len = s->left;
    bool ok = out ? seal_borrowed(c, s, len, out, bid) : seal_small(c, s, len);
    return ok ? len : 0;
}

// Tickets and answers to KeyUpdates go out in front of the first data after them.
bool tls_conn_flush_messages(struct tls_conn *c)
{
    if (!record_must_flush(c->ssl))
        return true;
    ERR_clear_error();
    (void)SSL_write(c->ssl, "", 0); // answers with an error also when all went well
    if (record_must_flush(c->ssl)) {
        (void)tls_conn_fail_ssl(c);
        return false;
    }
    ERR_clear_error();
    return true;
}

enum err tls_conn_write(struct tls_conn *c, const struct iovec *plain, uint32_t n, uint64_t now_ns,
                        size_t wire_max, size_t *taken)
{
    struct source s = {.iov = plain, .count = n};
    for (uint32_t i = 0; i < n; i++)
        s.left += plain[i].iov_len;
    advance(&s, 0); // past empty pieces
    *taken = 0;
    if (!c->established || c->closed || c->failure != TLS_FAIL_NONE || !tls_conn_flush_messages(c))
        return ERR_CLOSED;
    bool small = ramping(c, now_ns);
    while (s.left > 0 && c->wire->bytes < wire_max) {
        size_t len = seal_one(c, &s, small);
        if (len == 0)
            return c->failure != TLS_FAIL_NONE ? ERR_CLOSED : ERR_LIMIT;
        advance(&s, len);
        *taken += len;
        c->written += c->written < TLS_RAMP_BYTES ? (uint32_t)len : 0;
        small = c->written < TLS_RAMP_BYTES;
    }
    return OK;
}
