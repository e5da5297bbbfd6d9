// HTTP/1 heads and chunked bodies: no crash, no read past the input, and the same verdict when the
// input arrives in two pieces.
#include "core/check.h"
#include "proto/h1_parse.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct verdict {
    enum err e;
    struct h1_message m;
    uint32_t fields;
};

static struct verdict parse(char *copy, size_t size, size_t cut, bool request)
{
    static struct head h;
    struct verdict v = {0};
    size_t scanned = 0;
    for (int round = 0; round < 2; round++) {
        size_t len = round ? size : cut;
        head_reset(&h);
        v.e = request ? h1_parse_request(copy, len, &scanned, &h, &v.m)
                      : h1_parse_response(copy, len, &scanned, SLICE("GET"), &h, &v.m);
        v.fields = h.field_count;
        if (v.e != MORE)
            break;
    }
    for (uint32_t i = 0; v.e == OK && i < h.field_count; i++) {
        const struct field *f = &h.fields[i];
        check(f->name >= copy && f->value + f->value_len <= copy + size);
        check(!memchr(f->value, '\r', f->value_len) && !memchr(f->value, '\n', f->value_len));
    }
    return v;
}

// Head parsing lower-cases names in place, so each run has its own copy.
static struct verdict run(const uint8_t *data, size_t size, size_t cut, bool request)
{
    char *copy = malloc(size + 1);
    check(copy);
    memcpy(copy, data, size);
    struct verdict v = parse(copy, size, cut, request);
    free(copy);
    return v;
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
    for (int request = 0; request < 2; request++) {
        struct verdict whole = run(data, size, size, request),
                       pieces = run(data, size, cut, request);
        // A refusal may come earlier than the end; what is taken must be the same.
        if (whole.e == OK && pieces.e == OK) {
            check(whole.m.head_len == pieces.m.head_len && whole.fields == pieces.fields);
            check(whole.m.framing == pieces.m.framing);
        }
        check((whole.e == MORE) == (pieces.e == MORE));
    }
    bool whole_error = false, cut_error = false;
    size_t whole = chunked(data, size, size, &whole_error),
           cut_len = chunked(data, size, cut, &cut_error);
    check(whole == cut_len && whole_error == cut_error);
    return 0;
}
