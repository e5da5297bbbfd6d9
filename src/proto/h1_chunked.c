// Decoder of the chunked transfer coding, byte by byte around the sizes and in runs inside the
// chunks. Stricter than it must be: CRLF only, at most 16 hexadecimal digits, extensions bounded.
#include "proto/h1_parse.h"

enum { SIZE, PADDING, EXTENSION, SIZE_LF, DATA, DATA_CR, DATA_LF, TRAILERS };

#define EXTENSION_MAX 64

void h1_chunked_init(struct h1_chunked *c)
{
    *c = (struct h1_chunked){.state = SIZE};
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

// A byte of the size line; false when it is malformed.
static bool size_byte(struct h1_chunked *c, char ch)
{
    int digit = hex(ch);
    if (digit >= 0) {
        if (c->digits++ == 15)
            return false;
        c->remaining = c->remaining << 4 | (uint64_t)digit;
        return true;
    }
    if (c->digits == 0)
        return false;
    if (ch == '\r')
        c->state = SIZE_LF;
    else if (ch == ';')
        c->state = EXTENSION;
    else if (ch == ' ' || ch == '\t')
        c->state = PADDING;
    else
        return false;
    return true;
}

// White space after the size is allowed only before an extension (RFC 9112 section 7.1.1).
static bool padding_byte(struct h1_chunked *c, char ch)
{
    if (ch == ';')
        c->state = EXTENSION;
    else if (ch != ' ' && ch != '\t')
        return false;
    return c->extension_bytes++ < EXTENSION_MAX;
}

static bool extension_byte(struct h1_chunked *c, char ch)
{
    if (ch == '\r') {
        c->state = SIZE_LF;
        return true;
    }
    return ((uint8_t)ch >= 0x20 || ch == '\t') && ch != 0x7f &&
           c->extension_bytes++ < EXTENSION_MAX;
}

static bool framing_byte(struct h1_chunked *c, char ch)
{
    switch (c->state) {
    case SIZE:
        return size_byte(c, ch);
    case PADDING:
        return padding_byte(c, ch);
    case EXTENSION:
        return extension_byte(c, ch);
    case SIZE_LF:
        c->state = c->remaining ? DATA : TRAILERS;
        return ch == '\n';
    case DATA_CR:
        c->state = DATA_LF;
        return ch == '\r';
    default: // DATA_LF
        h1_chunked_init(c);
        return ch == '\n';
    }
}

enum h1_chunk_event h1_chunked_next(struct h1_chunked *c, struct slice *in, struct slice *data)
{
    while (c->state != TRAILERS && in->len > 0) {
        if (c->state == DATA) {
            *data = *in;
            if (data->len > c->remaining)
                data->len = (size_t)c->remaining;
            *in = slice_from(*in, data->len);
            c->remaining -= data->len;
            if (c->remaining == 0)
                c->state = DATA_CR;
            return H1_CHUNK_DATA;
        }
        if (!framing_byte(c, in->ptr[0]))
            return H1_CHUNK_ERROR;
        *in = slice_from(*in, 1);
    }
    return c->state == TRAILERS ? H1_CHUNK_TRAILERS : H1_CHUNK_MORE;
}
