// h1_dump: what the gateway's HTTP/1.1 parser makes of some bytes, as JSON, to be compared with
// other parsers. Cases on standard input, each a line `request|response SIZE CUTS` and then SIZE
// bytes; for each one line of JSON. The bytes are given to the parser whole, then again in pieces:
// CUTS `all` cuts them in two at each offset and byte by byte, `some` at a few offsets; `split` is
// the first offset where the result was another one, -1 where all were the same (byte by byte
// counts as offset 0).
#include "core/check.h"
#include "core/err.h"
#include "proto/h1_parse.h"
#include <stdio.h>
#include <stdlib.h>

struct text {
    char *data;
    size_t len, cap;
};

static void put(struct text *t, const char *data, size_t len)
{
    if (t->len + len > t->cap) {
        t->cap = 2 * (t->len + len);
        t->data = realloc(t->data, t->cap);
        check(t->data);
    }
    memcpy(t->data + t->len, data, len);
    t->len += len;
}

static void put_text(struct text *t, const char *s)
{
    put(t, s, strlen(s));
}

// Each byte as the character of its number, so that Python reads it back as latin-1.
static void put_bytes(struct text *t, struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        char escape[8];
        if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\')
            put(t, &s.ptr[i], 1);
        else
            put(t, escape, (size_t)snprintf(escape, sizeof(escape), "\\u%04x", c));
    }
}

static void put_member(struct text *t, const char *name, struct slice value)
{
    put_text(t, ",\"");
    put_text(t, name);
    put_text(t, "\":\"");
    put_bytes(t, value);
    put_text(t, "\"");
}

static void put_fields(struct text *t, const char *name, const struct head *h)
{
    put_text(t, ",\"");
    put_text(t, name);
    put_text(t, "\":[");
    for (uint32_t i = 0; i < h->field_count; i++) {
        put_text(t, i ? ",[\"" : "[\"");
        put_bytes(t, field_name(&h->fields[i]));
        put_text(t, "\",\"");
        put_bytes(t, field_value(&h->fields[i]));
        put_text(t, "\"]");
    }
    put_text(t, "]");
}

enum state { HEAD, BODY, TRAILERS, END };

// A connection as the gateway reads it: message after message, until one is refused or is the last.
struct reader {
    bool request;
    enum state state;
    char *data; // all that has arrived
    size_t len, at, scanned;
    struct head head;
    struct h1_message m;
    struct h1_chunked chunked;
    uint64_t remaining;
    uint32_t messages;
    const char *end; // why nothing more is read
    struct text out;
};

static void refuse(struct reader *r, const struct h1_message *m)
{
    char status[64];
    r->end = "error";
    r->m.details = m->details;
    r->m.error = m->error;
    if (r->state != HEAD)
        put_text(&r->out, "\",\"complete\":false}");
    snprintf(status, sizeof(status), "],\"status\":%d", m->error);
    put_text(&r->out, status);
    put_member(&r->out, "details", slice_of(m->details));
    r->state = END;
}

static void complete(struct reader *r, const struct head *trailers)
{
    put_text(&r->out, "\"");
    if (trailers)
        put_fields(&r->out, "trailers", trailers);
    put_text(&r->out, ",\"complete\":true}");
    r->state = HEAD;
    r->scanned = 0;
    if (r->m.connection_upgrade && head_find(&r->head, FIELD_UPGRADE))
        r->end = "upgrade";
    else if (!r->m.keep_alive)
        r->end = "close";
    else if (r->request && slice_eq(r->head.method, SLICE("CONNECT")))
        r->end = "upgrade";
    if (r->end)
        r->state = END;
}

static void begin_message(struct reader *r)
{
    static const char *const framings[] = {"none", "length", "chunked", "until_close"};
    char numbers[128];
    put_text(&r->out, r->messages++ ? ",{" : "{");
    snprintf(numbers, sizeof(numbers), "\"status\":%u,\"minor\":%u,\"keep_alive\":%s",
             r->head.status, r->head.minor_version, r->m.keep_alive ? "true" : "false");
    put_text(&r->out, numbers);
    put_member(&r->out, "method", r->head.method);
    put_member(&r->out, "target", r->head.target);
    put_member(&r->out, "framing", slice_of(framings[r->m.framing]));
    put_fields(&r->out, "fields", &r->head);
    put_text(&r->out, ",\"body\":\"");
    r->remaining = r->m.content_length;
    h1_chunked_init(&r->chunked);
    if (r->m.framing == H1_BODY_NONE || (r->m.framing == H1_BODY_LENGTH && r->remaining == 0))
        complete(r, NULL);
    else
        r->state = BODY;
}

// Each returns false when it needs more bytes.
static bool read_head(struct reader *r)
{
    char *data = r->data + r->at;
    size_t len = r->len - r->at;
    struct slice get = SLICE("GET");
    head_reset(&r->head);
    enum err e = r->request ? h1_parse_request(data, len, &r->scanned, &r->head, &r->m)
                            : h1_parse_response(data, len, &r->scanned, get, &r->head, &r->m);
    if (e == MORE)
        return false;
    if (e != OK) {
        refuse(r, &r->m);
        return true;
    }
    r->at += r->m.head_len;
    begin_message(r);
    return true;
}

static bool read_chunked(struct reader *r)
{
    static const struct h1_message bad = {.error = H1_BAD_REQUEST,
                                          .details = "http1.invalid_chunk"};
    struct slice in = {r->data + r->at, r->len - r->at}, piece;
    enum h1_chunk_event e = h1_chunked_next(&r->chunked, &in, &piece);
    r->at = (size_t)(in.ptr - r->data);
    if (e == H1_CHUNK_DATA)
        put_bytes(&r->out, piece);
    else if (e == H1_CHUNK_ERROR)
        refuse(r, &bad);
    else if (e == H1_CHUNK_TRAILERS) {
        r->state = TRAILERS;
        r->scanned = 0;
    }
    return e != H1_CHUNK_MORE;
}

static bool read_body(struct reader *r)
{
    if (r->m.framing == H1_BODY_CHUNKED)
        return read_chunked(r);
    size_t n = r->len - r->at;
    if (r->m.framing == H1_BODY_LENGTH && n > r->remaining)
        n = (size_t)r->remaining;
    put_bytes(&r->out, (struct slice){r->data + r->at, n});
    r->at += n;
    r->remaining -= n;
    if (r->m.framing == H1_BODY_LENGTH && r->remaining == 0)
        complete(r, NULL);
    return n > 0;
}

static bool read_trailers(struct reader *r)
{
    static struct head trailers;
    struct h1_message m;
    head_reset(&trailers);
    enum err e = h1_parse_trailers(r->data + r->at, r->len - r->at, &r->scanned, &trailers, &m);
    if (e == MORE)
        return false;
    if (e != OK) {
        refuse(r, &m);
        return true;
    }
    r->at += m.head_len;
    complete(r, &trailers);
    return true;
}

static void feed(struct reader *r, const char *bytes, size_t len)
{
    bool more = true;
    memcpy(r->data + r->len, bytes, len);
    r->len += len;
    while (more && r->state != END && r->at < r->len)
        more = r->state == HEAD ? read_head(r) : r->state == BODY ? read_body(r) : read_trailers(r);
}

// The bytes in pieces of `piece`, after a first one of `first`.
static struct text run(bool request, const char *bytes, size_t size, size_t first, size_t piece)
{
    static struct reader r;
    memset(&r, 0, sizeof(r));
    r.request = request;
    r.data = malloc(size + 1);
    check(r.data);
    put_text(&r.out, "{\"messages\":[");
    for (size_t at = 0; at < size;) {
        size_t n = at == 0 ? first : piece;
        if (n > size - at)
            n = size - at;
        feed(&r, bytes + at, n);
        at += n;
    }
    if (r.state == BODY || r.state == TRAILERS)
        put_text(&r.out, "\",\"complete\":false}");
    if (!r.end || strcmp(r.end, "error") != 0)
        put_text(&r.out, "]");
    put_member(&r.out, "end", slice_of(r.end ? r.end : r.at == r.len ? "done" : "more"));
    free(r.data);
    return r.out;
}

static bool same(struct text whole, bool request, const char *bytes, size_t size, size_t first,
                 size_t piece)
{
    struct text cut = run(request, bytes, size, first, piece);
    bool equal = cut.len == whole.len && memcmp(cut.data, whole.data, cut.len) == 0;
    free(cut.data);
    return equal;
}

static long first_difference(struct text whole, bool request, const char *bytes, size_t size,
                             bool all)
{
    size_t step = all || size < 8 ? 1 : size / 8;
    for (size_t cut = 1; cut < size; cut += step)
        if (!same(whole, request, bytes, size, cut, size))
            return (long)cut;
    return size == 0 || same(whole, request, bytes, size, 1, 1) ? -1 : 0;
}

static bool one_case(void)
{
    char kind[16], cuts[16];
    size_t size;
    if (scanf("%15s %zu %15s", kind, &size, cuts) != 3 || getchar() != '\n' || size > 1u << 24)
        return false;
    char *bytes = malloc(size + 1);
    check(bytes);
    bool whole_case = fread(bytes, 1, size, stdin) == size, request = strcmp(kind, "request") == 0;
    if (whole_case) {
        struct text whole = run(request, bytes, size, size, size);
        long split = first_difference(whole, request, bytes, size, strcmp(cuts, "all") == 0);
        printf("%.*s,\"split\":%ld}\n", (int)whole.len, whole.data, split);
        free(whole.data);
    }
    free(bytes);
    return whole_case;
}

int main(void)
{
    while (one_case())
        continue;
    return feof(stdin) ? 0 : 1;
}
