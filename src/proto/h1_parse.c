// Message heads of HTTP/1.x. One pass over a head that arrives whole; where it does not, each call
// only looks for the blank line, from where the last one stopped, before all is read once more.
// Field values are scanned sixteen bytes at a time for what ends or spoils them. No state, any
// thread.
#include "proto/h1_parse.h"
#if defined(__SSE2__) && !defined(H1_PLAIN)
#include <emmintrin.h>
#endif

static enum err bad(struct h1_message *m, enum h1_error error, const char *details)
{
    m->error = error;
    m->details = details;
    return ERR_SYNTAX;
}

const char *h1_find_head_end(const char *data, size_t len, size_t *scanned)
{
    const char *p = data + (*scanned > 3 ? *scanned - 3 : 0);
    const char *end = data + len;
    while ((p = memchr(p, '\n', (size_t)(end - p)))) {
        p++;
        if (p < end && *p == '\n')
            return p + 1; // a bare LF: the parse that follows refuses it
        if (end - p >= 2 && p[0] == '\r' && p[1] == '\n')
            return p + 2;
    }
    *scanned = len;
    return NULL;
}

// First byte that may not stand in a field value: a control other than HTAB, or DEL.
static char *scan_value(char *p, const char *end)
{
#if defined(__SSE2__) && !defined(H1_PLAIN)
    const __m128i space = _mm_set1_epi8(0x20), tab = _mm_set1_epi8('\t'), del = _mm_set1_epi8(0x7f);
    while (end - p >= 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        // unsigned v < 0x20  <=>  max(v, 0x20) != v
        __m128i ok = _mm_cmpeq_epi8(_mm_max_epu8(v, space), v);
        ok = _mm_or_si128(ok, _mm_cmpeq_epi8(v, tab));
        ok = _mm_andnot_si128(_mm_cmpeq_epi8(v, del), ok);
        unsigned mask = (unsigned)_mm_movemask_epi8(ok);
        if (mask != 0xffff)
            return p + __builtin_ctz(~mask);
        p += 16;
    }
#endif
    while (p < end && ((uint8_t)*p >= 0x20 || *p == '\t') && *p != 0x7f)
        p++;
    return p;
}

// First byte that may not stand in a request target: white space, a control, DEL or one above.
static char *scan_target(char *p, const char *end)
{
#if defined(__SSE2__) && !defined(H1_PLAIN)
    const __m128i space = _mm_set1_epi8(0x20), del = _mm_set1_epi8(0x7f);
    while (end - p >= 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i ok = _mm_andnot_si128(_mm_cmpeq_epi8(v, del), _mm_cmpgt_epi8(v, space));
        unsigned mask = (unsigned)_mm_movemask_epi8(ok);
        if (mask != 0xffff)
            return p + __builtin_ctz(~mask);
        p += 16;
    }
#endif
    while (p < end && (uint8_t)*p > 0x20 && (uint8_t)*p < 0x7f)
        p++;
    return p;
}

static bool is_crlf(const char *p, const char *end)
{
    return end - p >= 2 && p[0] == '\r' && p[1] == '\n';
}

// One field line at p; *next is behind its CRLF.
static enum err parse_field(char *p, char *end, struct head *h, struct h1_message *m, char **next)
{
    char *name = p;
    for (uint8_t lower; p < end && (lower = http_tchar((uint8_t)*p)); p++)
        *p = (char)lower;
    size_t name_len = (size_t)(p - name);
    if (p == end || *p != ':' || name_len == 0 || name_len > UINT16_MAX)
        return bad(m, H1_BAD_REQUEST, "http1.invalid_header_name");
    p++;
    while (p < end && (*p == ' ' || *p == '\t'))
        p++;
    char *value = p;
    p = scan_value(p, end);
    if (!is_crlf(p, end))
        return bad(m, H1_BAD_REQUEST, "http1.invalid_header_value");
    *next = p + 2;
    while (p > value && (p[-1] == ' ' || p[-1] == '\t'))
        p--;
    if (h->field_count == HEAD_MAX_FIELDS)
        return bad(m, H1_TOO_LARGE, "http1.too_many_headers");
    h->fields[h->field_count++] = (struct field){
        .name = name,
        .value = value,
        .value_len = (uint32_t)(p - value),
        .name_len = (uint16_t)name_len,
        .token = (uint16_t)http_field_of((struct slice){name, name_len}),
    };
    return OK;
}

// Field lines and the blank line; *rest is behind that.
static enum err parse_fields(char *p, char *end, struct head *h, struct h1_message *m, char **rest)
{
    size_t counted = 0;
    while (!is_crlf(p, end)) {
        char *next;
        if (parse_field(p, end, h, m, &next) != OK)
            return ERR_SYNTAX;
        const struct field *f = &h->fields[h->field_count - 1];
        counted += f->name_len + f->value_len + 32u;
        if (counted > HEAD_MAX_BYTES)
            return bad(m, H1_TOO_LARGE, "http1.headers_too_large");
        p = next;
    }
    *rest = p + 2;
    return OK;
}

// Connection options, framing and Host (RFC 9112 sections 3.2, 6, 9.3), from the fields.
struct framing_fields {
    uint32_t content_lengths, transfer_encodings, hosts;
    struct slice length, coding, host;
    bool close, keep_alive, upgrade;
};

static void connection_options(struct slice value, struct framing_fields *ff)
{
    struct slice part;
    while (slice_split(&value, ',', &part)) {
        part = slice_trim(part);
        if (slice_eq_nocase(part, SLICE("close")))
            ff->close = true;
        else if (slice_eq_nocase(part, SLICE("keep-alive")))
            ff->keep_alive = true;
        else if (slice_eq_nocase(part, SLICE("upgrade")))
            ff->upgrade = true;
    }
}

static void collect_framing(const struct head *h, struct framing_fields *ff)
{
    for (uint32_t i = 0; i < h->field_count; i++) {
        const struct field *f = &h->fields[i];
        switch (f->token) {
        case FIELD_CONTENT_LENGTH:
            ff->content_lengths++;
            ff->length = field_value(f);
            break;
        case FIELD_TRANSFER_ENCODING:
            ff->transfer_encodings++;
            ff->coding = field_value(f);
            break;
        case FIELD_HOST:
            ff->hosts++;
            ff->host = field_value(f);
            break;
        case FIELD_CONNECTION:
            connection_options(field_value(f), ff);
            break;
        default:
            break;
        }
    }
}

static enum err apply_framing(struct head *h, const struct framing_fields *ff, struct h1_message *m)
{
    m->connection_upgrade = ff->upgrade;
    m->keep_alive = h->minor_version >= 1 ? !ff->close : (ff->keep_alive && !ff->close);
    if (ff->transfer_encodings > 0) {
        if (ff->content_lengths > 0)
            return bad(m, H1_BAD_REQUEST, "http1.content_length_and_transfer_encoding");
        if (h->minor_version == 0)
            return bad(m, H1_BAD_REQUEST, "http1.transfer_encoding_in_http10");
        if (ff->transfer_encodings > 1 || !slice_eq_nocase(ff->coding, SLICE("chunked")))
            return bad(m, H1_NOT_IMPLEMENTED, "http1.unsupported_transfer_encoding");
        m->framing = H1_BODY_CHUNKED;
    } else if (ff->content_lengths > 0) {
        if (ff->content_lengths > 1 || !slice_to_u64(ff->length, &m->content_length) ||
            m->content_length > INT64_MAX)
            return bad(m, H1_BAD_REQUEST, "http1.invalid_content_length");
        m->framing = H1_BODY_LENGTH;
        h->has_length = true;
        h->content_length = m->content_length;
    }
    return OK;
}

// "HTTP/1.x"; -1 when it is not.
static int parse_version(const char *p, size_t len)
{
    if (len != 8 || memcmp(p, "HTTP/", 5) != 0 || p[6] != '.')
        return -1;
    if (p[5] == '1' && (p[7] == '0' || p[7] == '1'))
        return p[7] - '0';
    return p[5] >= '0' && p[5] <= '9' && p[7] >= '0' && p[7] <= '9' ? -2 : -1;
}

// method SP request-target SP HTTP-version CRLF, single spaces only.
static enum err parse_request_line(char *p, char *end, struct head *h, struct h1_message *m,
                                   char **next)
{
    char *start = p;
    while (p < end && http_tchar((uint8_t)*p))
        p++;
    h->method = (struct slice){start, (size_t)(p - start)};
    if (h->method.len == 0 || p == end || *p != ' ')
        return bad(m, H1_BAD_REQUEST, "http1.invalid_method");
    char *target = ++p;
    p = scan_target(p, end);
    h->target = (struct slice){target, (size_t)(p - target)};
    if (h->target.len == 0 || p == end || *p != ' ')
        return bad(m, H1_BAD_REQUEST, "http1.invalid_target");
    char *version = ++p;
    while (p < end && *p != '\r' && *p != '\n')
        p++;
    int minor = parse_version(version, (size_t)(p - version));
    if (minor == -2)
        return bad(m, H1_VERSION, "http1.unsupported_version");
    if (minor < 0 || !is_crlf(p, end))
        return bad(m, H1_BAD_REQUEST, "http1.invalid_request_line");
    h->minor_version = (uint8_t)minor;
    *next = p + 2;
    return OK;
}

// A head that is not complete: what cannot become one (a TLS hello, say) is refused at its first
// byte rather than when its time is up.
static enum err incomplete(const char *line, size_t len, bool first, struct h1_message *m)
{
    bool hopeful = len == 0 || http_tchar((uint8_t)line[0]) || (first && len == 1 && *line == '\r');
    memset(m, 0, sizeof(*m));
    return hopeful ? MORE : bad(m, H1_BAD_REQUEST, "http1.invalid_method");
}

static enum err request_head(char *line, char *end, struct head *h, struct h1_message *m,
                             char **rest)
{
    char *p;
    head_reset(h);
    memset(m, 0, sizeof(*m));
    if (parse_request_line(line, end, h, m, &p) != OK)
        return ERR_SYNTAX;
    return parse_fields(p, end, h, m, rest);
}

enum err h1_parse_request(char *data, size_t len, size_t *scanned, struct head *h,
                          struct h1_message *m)
{
    // One empty line before the request line is skipped (RFC 9112 section 2.2).
    char *line = is_crlf(data, data + len) ? data + 2 : data, *end;
    // Most heads arrive whole. Where this one has not, or is malformed, its end is looked for
    // first.
    if (*scanned != 0 || request_head(line, data + len, h, m, &end) != OK) {
        const char *head_end = h1_find_head_end(data, len, scanned);
        if (!head_end) {
            head_reset(h);
            return incomplete(line, len - (size_t)(line - data), line == data, m);
        }
        if (request_head(line, data + (head_end - data), h, m, &end) != OK)
            return ERR_SYNTAX;
    }
    struct framing_fields ff = {0};
    m->head_len = (uint32_t)(end - data);
    collect_framing(h, &ff);
    if (ff.hosts > 1)
        return bad(m, H1_BAD_REQUEST, "http1.duplicate_host");
    if (ff.hosts == 0 && h->minor_version == 1)
        return bad(m, H1_BAD_REQUEST, "http1.missing_host");
    if (ff.host.len > 0 &&
        !http_is_authority(ff.host)) // an empty one names nobody, which is for routing
        return bad(m, H1_BAD_REQUEST, "http1.invalid_host");
    return apply_framing(h, &ff, m);
}

// HTTP-version SP status-code SP [reason] CRLF; a missing last space is tolerated as many origins
// leave it out.
static enum err parse_status_line(char *p, char *end, struct head *h, struct h1_message *m,
                                  char **next)
{
    int minor = end - p >= 13 ? parse_version(p, 8) : -1;
    if (minor < 0 || p[8] != ' ')
        return bad(m, H1_BAD_REQUEST, "http1.invalid_status_line");
    h->minor_version = (uint8_t)minor;
    for (int i = 9; i < 12; i++) {
        if (p[i] < '0' || p[i] > '9')
            return bad(m, H1_BAD_REQUEST, "http1.invalid_status_line");
        h->status = h->status * 10 + (uint32_t)(p[i] - '0');
    }
    p += 12;
    if (h->status < 100 || (*p != ' ' && *p != '\r'))
        return bad(m, H1_BAD_REQUEST, "http1.invalid_status_line");
    p = scan_value(p, end);
    if (!is_crlf(p, end))
        return bad(m, H1_BAD_REQUEST, "http1.invalid_status_line");
    *next = p + 2;
    return OK;
}

static enum err response_head(char *line, char *end, struct head *h, struct h1_message *m,
                              char **rest)
{
    char *p;
    head_reset(h);
    memset(m, 0, sizeof(*m));
    if (parse_status_line(line, end, h, m, &p) != OK)
        return ERR_SYNTAX;
    return parse_fields(p, end, h, m, rest);
}

enum err h1_parse_response(char *data, size_t len, size_t *scanned, struct slice request_method,
                           struct head *h, struct h1_message *m)
{
    char *end;
    if (*scanned != 0 || response_head(data, data + len, h, m, &end) != OK) {
        const char *head_end = h1_find_head_end(data, len, scanned);
        if (!head_end) { // another protocol's greeting is refused without waiting for a blank line
            head_reset(h);
            bool hopeful = memcmp(data, "HTTP/", len < 5 ? len : 5) == 0;
            return hopeful ? MORE : bad(m, H1_BAD_REQUEST, "http1.invalid_status_line");
        }
        if (response_head(data, data + (head_end - data), h, m, &end) != OK)
            return ERR_SYNTAX;
    }
    struct framing_fields ff = {0};
    m->head_len = (uint32_t)(end - data);
    collect_framing(h, &ff);
    if (apply_framing(h, &ff, m) != OK)
        return ERR_SYNTAX;
    if (h->status < 200 || h->status == 204 || h->status == 304 ||
        slice_eq(request_method, SLICE("HEAD")))
        m->framing = H1_BODY_NONE;
    else if (ff.transfer_encodings == 0 && ff.content_lengths == 0)
        m->framing = H1_BODY_UNTIL_CLOSE;
    return OK;
}

enum err h1_parse_trailers(char *data, size_t len, size_t *scanned, struct head *h,
                           struct h1_message *m)
{
    memset(m, 0, sizeof(*m));
    if (len >= 2 && data[0] == '\r' && data[1] == '\n') {
        m->head_len = 2;
        return OK;
    }
    if (len >= 1 && data[0] == '\n')
        return bad(m, H1_BAD_REQUEST, "http1.bare_line_feed");
    const char *end = h1_find_head_end(data, len, scanned);
    if (!end)
        return len > HEAD_MAX_BYTES ? bad(m, H1_TOO_LARGE, "http1.trailers_too_large") : MORE;
    m->head_len = (uint32_t)(end - data);
    if (m->head_len > HEAD_MAX_BYTES) // as above, wherever the input was cut
        return bad(m, H1_TOO_LARGE, "http1.trailers_too_large");
    char *rest;
    return parse_fields(data, data + m->head_len, h, m, &rest);
}
