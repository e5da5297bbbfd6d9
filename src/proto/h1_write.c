// Serialisation of HTTP/1.1 heads and chunks. A head is measured first and then written in one
// piece where it fits a chunk of the output queue, so that a small response leaves in one send.
#include "proto/h1_write.h"
#include "core/check.h"

// Names and values are short: two overlapping moves instead of a call.
static inline char *put(char *p, struct slice s)
{
    size_t n = s.len;
    if (n > 32) {
        memcpy(p, s.ptr, n);
    } else if (n >= 16) {
        memcpy(p, s.ptr, 16);
        memcpy(p + n - 16, s.ptr + n - 16, 16);
    } else if (n >= 8) {
        memcpy(p, s.ptr, 8);
        memcpy(p + n - 8, s.ptr + n - 8, 8);
    } else if (n >= 4) {
        memcpy(p, s.ptr, 4);
        memcpy(p + n - 4, s.ptr + n - 4, 4);
    } else if (n > 0) {
        p[0] = s.ptr[0];
        p[n / 2] = s.ptr[n / 2];
        p[n - 1] = s.ptr[n - 1];
    }
    return p + n;
}

static char *put_u64(char *p, uint64_t v)
{
    char text[20];
    int n = 0;
    do
        text[n++] = (char)('0' + v % 10);
    while (v /= 10);
    while (n > 0)
        *p++ = text[--n];
    return p;
}

// Fields whose meaning ends at this hop, or which the writer gives anew.
static bool hop_by_hop(const struct field *f)
{
    switch (f->token) {
    case FIELD_CONNECTION:
    case FIELD_KEEP_ALIVE:
    case FIELD_PROXY_CONNECTION:
    case FIELD_TRANSFER_ENCODING:
    case FIELD_CONTENT_LENGTH:
    case FIELD_UPGRADE:
    case FIELD_HTTP2_SETTINGS:
        return true;
    default:
        return false;
    }
}

// Room for status or request line and for the framing fields, in bytes.
#define LINE_SLACK 192u

static size_t head_bytes(const struct head *h)
{
    size_t n = LINE_SLACK;
    for (uint32_t i = 0; i < h->field_count; i++)
        n += h->fields[i].name_len + h->fields[i].value_len + 4u;
    return n;
}

// A writer into reserved room, or piecewise where the head is larger than a chunk.
struct writer {
    struct bufq *out;
    char *p, *start;
    bool failed;
};

static void begin(struct writer *w, struct bufq *out, size_t bytes)
{
    *w = (struct writer){.out = out};
    if (bytes <= BUF_CHUNK_BYTES - 64u)
        w->start = w->p = bufq_reserve(out, bytes);
    w->failed = bytes <= BUF_CHUNK_BYTES - 64u && !w->start;
}

static inline void emit(struct writer *w, struct slice s)
{
    if (likely(w->p != NULL))
        w->p = put(w->p, s);
    else if (!w->failed)
        w->failed = !bufq_append(w->out, s);
}

static void emit_u64(struct writer *w, uint64_t v)
{
    char text[20];
    emit(w, (struct slice){text, (size_t)(put_u64(text, v) - text)});
}

static bool finish(struct writer *w)
{
    if (w->p)
        bufq_commit(w->out, (size_t)(w->p - w->start));
    return !w->failed;
}

static void emit_field(struct writer *w, struct slice name, struct slice value)
{
    emit(w, name);
    emit(w, SLICE(": "));
    emit(w, value);
    emit(w, SLICE("\r\n"));
}

// A request's Host is written from its authority, so the field itself is left out there.
static void emit_fields(struct writer *w, const struct head *h, bool request)
{
    for (uint32_t i = 0; i < h->field_count; i++) {
        const struct field *f = &h->fields[i];
        if (!hop_by_hop(f) && !(request && f->token == FIELD_HOST))
            emit_field(w, field_name(f), field_value(f));
    }
}

static void emit_framing(struct writer *w, enum h1_framing framing, uint64_t content_length)
{
    if (framing == H1_BODY_CHUNKED) {
        emit(w, SLICE("transfer-encoding: chunked\r\n"));
    } else if (framing == H1_BODY_LENGTH) {
        emit(w, SLICE("content-length: "));
        emit_u64(w, content_length);
        emit(w, SLICE("\r\n"));
    }
}

// Of all upgrades only this one is passed on, in either direction.
static void emit_upgrade(struct writer *w)
{
    emit(w, SLICE("connection: upgrade\r\nupgrade: websocket\r\n"));
}

bool h1_write_request(struct bufq *out, const struct head *h, enum h1_framing framing,
                      uint64_t content_length, bool upgrade)
{
    struct writer w;
    begin(&w, out, head_bytes(h) + h->method.len + h->path.len + h->query.len + h->authority.len);
    emit(&w, h->method);
    emit(&w, SLICE(" "));
    emit(&w, h->path);
    if (h->query.ptr) {
        emit(&w, SLICE("?"));
        emit(&w, h->query);
    }
    emit(&w, SLICE(" HTTP/1.1\r\n"));
    emit_field(&w, SLICE("host"), h->authority);
    emit_fields(&w, h, true);
    emit_framing(&w, framing, content_length);
    if (upgrade)
        emit_upgrade(&w);
    emit(&w, SLICE("\r\n"));
    return finish(&w);
}

static void emit_status_line(struct writer *w, const struct head *h)
{
    if (likely(h->status == 200)) {
        emit(w, SLICE("HTTP/1.1 200 OK\r\n"));
        return;
    }
    emit(w, SLICE("HTTP/1.1 "));
    emit_u64(w, h->status);
    emit(w, SLICE(" "));
    emit(w, http_reason(h->status));
    emit(w, SLICE("\r\n"));
}

bool h1_write_response(struct bufq *out, const struct head *h, enum h1_framing framing,
                       uint64_t content_length, bool keep_alive, bool upgrade,
                       uint8_t minor_version)
{
    struct writer w;
    begin(&w, out, head_bytes(h));
    emit_status_line(&w, h);
    emit_fields(&w, h, false);
    emit_framing(&w, framing, content_length);
    if (upgrade)
        emit_upgrade(&w);
    else if (!keep_alive)
        emit(&w, SLICE("connection: close\r\n"));
    else if (minor_version == 0)
        emit(&w, SLICE("connection: keep-alive\r\n"));
    emit(&w, SLICE("\r\n"));
    return finish(&w);
}

bool h1_write_chunk_start(struct bufq *out, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    char text[18];
    int at = sizeof(text);
    text[--at] = '\n';
    text[--at] = '\r';
    do
        text[--at] = digits[len & 15];
    while (len >>= 4);
    return bufq_append(out, (struct slice){text + at, sizeof(text) - (size_t)at});
}

bool h1_write_chunk_end(struct bufq *out)
{
    return bufq_append(out, SLICE("\r\n"));
}

bool h1_write_last_chunk(struct bufq *out, struct head *trailers)
{
    if (!trailers || trailers->field_count == 0)
        return bufq_append(out, SLICE("0\r\n\r\n"));
    struct writer w;
    begin(&w, out, head_bytes(trailers));
    emit(&w, SLICE("0\r\n"));
    for (uint32_t i = 0; i < trailers->field_count; i++) {
        const struct field *f = &trailers->fields[i];
        if (!hop_by_hop(f) && f->token != FIELD_HOST)
            emit_field(&w, field_name(f), field_value(f));
    }
    emit(&w, SLICE("\r\n"));
    return finish(&w);
}
