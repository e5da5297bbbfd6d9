// HTTP/1 heads and chunked bodies: no crash, no read past the input, and the same
// message, or none, when the input arrives in pieces.
#include "core/check.h"
#include "proto/h1_parse.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum kind { REQUEST, RESPONSE, TRAILERS, KINDS };

struct verdict {
    enum err e;
    struct h1_message m;
    uint64_t fields; // digest of all that was read
};

static uint64_t mix(uint64_t digest, struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        digest = (digest ^ (uint8_t)s.ptr[i]) * 1099511628211u;
    return (digest ^ s.len) * 1099511628211u;
}

static uint64_t digest(const struct head *h, const char *copy, size_t size)
{
    uint64_t d = mix(mix(h->status, h->method), h->target);
    for (uint32_t i = 0; i < h->field_count; i++) {
        const struct field *f = &h->fields[i];
        check(f->name >= copy && f->value + f->value_len <= copy + size);
        check(f->name_len > 0 && http_is_token(field_name(f)));
        for (uint32_t k = 0; k < f->value_len; k++)
            check(((uint8_t)f->value[k] >= 0x20 || f->value[k] == '\t') && f->value[k] != 0x7f);
        check(f->token == http_field_of(field_name(f)));
        d = mix(mix(d, field_name(f)), field_value(f));
    }
    return d;
}

static enum err parse_kind(enum kind kind, char *data, size_t len, size_t *scanned, struct head *h,
                           struct h1_message *m)
{
    if (kind == REQUEST)
        return h1_parse_request(data, len, scanned, h, m);
    if (kind == RESPONSE)
        return h1_parse_response(data, len, scanned, SLICE("GET"), h, m);
    return h1_parse_trailers(data, len, scanned, h, m);
}

// What is read of the first `step` bytes, then of so many more, until it is a message or none.
static struct verdict parse(enum kind kind, char *copy, size_t size, size_t step)
{
    static struct head h;
    struct verdict v = {.e = MORE};
    size_t scanned = 0;
    for (size_t len = step; v.e == MORE; len += step) {
        if (len > size)
            len = size;
        head_reset(&h);
        v.e = parse_kind(kind, copy, len, &scanned, &h, &v.m);
        if (len == size)
            break;
    }
    if (v.e == OK) {
        check(v.m.head_len > 0 && v.m.head_len <= size);
        v.fields = digest(&h, copy, v.m.head_len);
    }
    return v;
}

// Head parsing lower-cases names in place, so each run has its own copy.
static struct verdict run(enum kind kind, const uint8_t *data, size_t size, size_t step)
{
    char *copy = malloc(size ? size : 1);
    check(copy);
    memcpy(copy, data, size);
    struct verdict v = parse(kind, copy, size, step);
    free(copy);
    return v;
}

// One message, whole and in pieces.
static void compare(enum kind kind, const uint8_t *data, size_t size, size_t step)
{
    struct verdict whole = run(kind, data, size, size), pieces = run(kind, data, size, step);
    // Of a malformed head pieces may tell earlier, and of another of its faults, but not else.
    check(whole.e == pieces.e);
    check(whole.e == OK || whole.e == MORE || whole.e == ERR_SYNTAX);
    check(whole.e != ERR_SYNTAX || (whole.m.error && whole.m.details));
    if (whole.e != OK)
        return;
    check(whole.m.head_len == pieces.m.head_len && whole.fields == pieces.fields);
    check(whole.m.framing == pieces.m.framing);
    check(whole.m.content_length == pieces.m.content_length);
    check(whole.m.keep_alive == pieces.m.keep_alive);
}

static size_t chunked(const uint8_t *data, size_t size, size_t cut, bool *error)
{
    struct h1_chunked c;
    size_t body = 0;
    h1_chunked_init(&c);
    for (int round = 0; round < 2; round++) {
        struct slice in = round ? (struct slice){(const char *)data + cut, size - cut}
                                : (struct slice){(const char *)data, cut};
        struct slice piece;
        while (in.len > 0) {
            enum h1_chunk_event e = h1_chunked_next(&c, &in, &piece);
            if (e == H1_CHUNK_DATA)
                body += piece.len;
            *error = e == H1_CHUNK_ERROR;
            if (e == H1_CHUNK_ERROR || e == H1_CHUNK_TRAILERS)
                return body;
        }
    }
    return body;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t cut = size ? data[0] % (size + 1) : 0;
    for (enum kind kind = 0; kind < KINDS && size > 0; kind++) {
        compare(kind, data, size, cut ? cut : 1);
        compare(kind, data, size, size < 512 ? 1 : 61);
    }
    bool whole_error = false, cut_error = false;
    size_t whole = chunked(data, size, size, &whole_error),
           cut_len = chunked(data, size, cut, &cut_error);
    check(whole == cut_len && whole_error == cut_error);
    return 0;
}
