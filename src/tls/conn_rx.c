// Receiving half: finds records in the pieces that come and opens them, in place where a record
// lies in one piece, in a block of the pool where it does not. Thread of the connection.
//
// Invariant: `have` > 0 exactly while an incomplete record is held; with `have` up to the header's
// length it is in `head`, and no block is taken before more is known of it than that.
#include "tls/conn_parts.h"
#include <openssl/err.h>

void tls_conn_release(struct tls_conn *c)
{
    pool_put(&c->pools->records, c->block);
    c->block = NULL;
    c->have = 0;
}

// A post-handshake message is complete, or not yet: BoringSSL looks. It has nothing to read.
static enum tls_read handle_messages(struct tls_conn *c)
{
    ERR_clear_error();
    int r = SSL_peek(c->ssl, NULL, 0);
    if (r < 0 && !c->wire_full && SSL_get_error(c->ssl, r) == SSL_ERROR_WANT_READ)
        return TLS_MORE;
    return tls_conn_fail_ssl(c);
}

enum tls_read tls_conn_opened(struct tls_conn *c, enum record_result r, const struct record *record,
                              struct tls_plain *plain, bool in_place)
{
    switch (r) {
    case RECORD_DATA:
        plain->bytes = (struct slice){(const char *)record->bytes, record->len};
        plain->in_place = in_place;
        return TLS_DATA;
    case RECORD_AGAIN:
        return TLS_MORE;
    case RECORD_MESSAGE:
        return handle_messages(c);
    case RECORD_CLOSED:
        c->peer_closed = true;
        tls_conn_release(c);
        return TLS_CLOSED;
    default:
        return tls_conn_fail_ssl(c);
    }
}

static uint32_t record_bytes(const uint8_t *header)
{
    return RECORD_HEADER_BYTES + ((uint32_t)header[3] << 8 | header[4]);
}

size_t tls_conn_missing(const struct tls_conn *c)
{
    if (c->have == 0)
        return record_in_message(c->ssl) ? RECORD_HEADER_BYTES : 0;
    if (c->have < RECORD_HEADER_BYTES)
        return RECORD_HEADER_BYTES - c->have;
    return record_bytes(c->head) - c->have;
}

static void take(struct tls_conn *c, uint8_t *to, uint32_t upto, struct slice *in)
{
    size_t n = upto - c->have;
    if (n > in->len)
        n = in->len;
    memcpy(to + c->have, in->ptr, n);
    c->have += (uint16_t)n;
    *in = slice_from(*in, n);
}

// Goes on with an incomplete record. TLS_MORE with nothing left of *in: still incomplete.
static enum tls_read gather(struct tls_conn *c, struct slice *in, struct tls_plain *plain)
{
    struct record record;
    if (c->have < RECORD_HEADER_BYTES)
        take(c, c->head, RECORD_HEADER_BYTES, in);
    if (c->have < RECORD_HEADER_BYTES)
        return TLS_MORE;
    uint32_t need = record_bytes(c->head);
    // A record that is refused for its header needs no block: the header says all.
    if (need > RECORD_MAX_BYTES || need == RECORD_HEADER_BYTES) {
        enum record_result r = record_open(c->ssl, c->head, RECORD_HEADER_BYTES, &record);
        c->have = 0;
        return tls_conn_opened(c, r, &record, plain, false);
    }
    if (in->len == 0)
        return TLS_MORE;
    if (!c->block) {
        c->block = pool_get(&c->pools->records);
        if (!c->block) {
            tls_conn_fail(c, TLS_FAIL_MEMORY);
            return TLS_FAILED;
        }
        memcpy(c->block, c->head, RECORD_HEADER_BYTES);
    }
    take(c, c->block, need, in);
    if (c->have < need)
        return TLS_MORE;
    c->have = 0; // the block stays until the next call: the plaintext is in it
    return tls_conn_opened(c, record_open(c->ssl, c->block, need, &record), &record, plain, false);
}

// One record that begins in *in.
static enum tls_read read_record(struct tls_conn *c, struct slice *in, struct tls_plain *plain)
{
    struct record record;
    enum record_result r = record_open(c->ssl, (uint8_t *)(uintptr_t)in->ptr, in->len, &record);
    if (r == RECORD_PARTIAL)
        return gather(c, in, plain);
    if (r != RECORD_ERROR)
        *in = slice_from(*in, record.used);
    return tls_conn_opened(c, r, &record, plain, true);
}

static enum tls_read read_some(struct tls_conn *c, struct slice *in, struct tls_plain *plain)
{
    if (!c->established) {
        enum tls_read r = tls_conn_handshake(c, in);
        return r == TLS_DATA ? TLS_MORE : r;
    }
    if (c->have == 0 && c->block)
        tls_conn_release(c);
    return c->have > 0 ? gather(c, in, plain) : read_record(c, in, plain);
}

enum tls_read tls_conn_read(struct tls_conn *c, struct slice *in, struct tls_plain *plain)
{
    if (c->failure != TLS_FAIL_NONE)
        return TLS_FAILED;
    if (c->peer_closed)
        return TLS_CLOSED;
    if (c->have == 0 && c->block)
        tls_conn_release(c);
    enum tls_read r = TLS_MORE;
    while (in->len > 0 && r == TLS_MORE)
        r = read_some(c, in, plain);
    if (r == TLS_MORE && c->have == 0 && c->block)
        tls_conn_release(c);
    return r;
}
