// The ClientHello reader: two state machines, one inside the other. The outer one takes the bytes
// of handshake records out of the stream, the inner one walks the message's fields; both go on
// wherever a piece ended. One thread at a time, no memory but the struct.
//
// Invariant: a state's bytes are counted against what encloses them before they are looked at, so
// that no length that the client wrote reaches beyond its parent.
#include "tls/hello.h"
#include <arpa/inet.h>

#define RECORD_HANDSHAKE 22
#define MESSAGE_CLIENT_HELLO 1
#define EXTENSION_SERVER_NAME 0
#define EXTENSION_ALPN 16
#define RECORD_MAX 16384
#define VERSION_AND_RANDOM 34

enum state {
    MESSAGE_TYPE,
    MESSAGE_LENGTH,
    FIXED, // legacy_version, random
    SESSION_LENGTH,
    SESSION,
    CIPHERS_LENGTH,
    CIPHERS,
    COMPRESSIONS_LENGTH,
    COMPRESSIONS,
    EXTENSIONS_LENGTH,
    EXTENSION_TYPE,
    EXTENSION_LENGTH,
    EXTENSION,
};

// Bytes of the number that a state reads; 0: it skips or keeps `left` bytes.
static const uint8_t number_bytes[] = {
    [MESSAGE_TYPE] = 1,   [MESSAGE_LENGTH] = 3,      [SESSION_LENGTH] = 1,
    [CIPHERS_LENGTH] = 2, [COMPRESSIONS_LENGTH] = 1, [EXTENSIONS_LENGTH] = 2,
    [EXTENSION_TYPE] = 2, [EXTENSION_LENGTH] = 2,    [EXTENSION] = 0,
};

void tls_hello_init(struct tls_hello *h)
{
    *h = (struct tls_hello){.state = MESSAGE_TYPE};
}

static enum err fail(struct tls_hello *h, enum tls_hello_fault fault)
{
    static const enum err errors[] = {
        [TLS_HELLO_NOT_TLS] = ERR_UNSUPPORTED, [TLS_HELLO_HTTP] = ERR_UNSUPPORTED,
        [TLS_HELLO_SSLV2] = ERR_UNSUPPORTED,   [TLS_HELLO_MALFORMED] = ERR_SYNTAX,
        [TLS_HELLO_TOO_LARGE] = ERR_LIMIT,     [TLS_HELLO_BAD_NAME] = ERR_SYNTAX,
    };
    h->fault = fault;
    return errors[fault];
}

// --- the server name ---

static bool is_address(const char *name)
{
    struct in_addr v4;
    struct in6_addr v6;
    return inet_pton(AF_INET, name, &v4) == 1 || inet_pton(AF_INET6, name, &v6) == 1;
}

static bool in_name(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
}

enum err tls_sni_normalize(struct slice sent, char *out, uint16_t *len)
{
    *len = 0;
    out[0] = '\0';
    if (sent.len == 0 || sent.len > TLS_SNI_MAX || memchr(sent.ptr, '\0', sent.len))
        return ERR_SYNTAX;
    for (size_t i = 0; i < sent.len; i++) {
        char c = sent.ptr[i];
        out[i] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
    }
    out[sent.len] = '\0';
    if (is_address(out)) {
        out[0] = '\0';
        return OK;
    }
    size_t n = sent.len;
    if (out[n - 1] == '.')
        out[--n] = '\0';
    if (n == 0)
        return ERR_SYNTAX;
    for (size_t i = 0; i < n; i++) {
        bool empty_label = out[i] == '.' && (i == 0 || out[i - 1] == '.' || i + 1 == n);
        if (!in_name((unsigned char)out[i]) || empty_label)
            return ERR_SYNTAX;
    }
    *len = (uint16_t)n;
    return OK;
}

// ServerNameList: one name of type host_name. Others were never defined, and a list of several is
// read differently by different servers, so it is refused.
static enum err end_of_server_name(struct tls_hello *h)
{
    const uint8_t *p = h->sni_raw;
    if (h->kept < 5 || ((uint32_t)p[0] << 8 | p[1]) != h->kept - 2u)
        return fail(h, TLS_HELLO_MALFORMED);
    if (p[2] != 0 || ((uint32_t)p[3] << 8 | p[4]) != h->kept - 5u)
        return fail(h, TLS_HELLO_MALFORMED);
    struct slice name = {(const char *)p + 5, h->kept - 5u};
    if (tls_sni_normalize(name, h->sni, &h->sni_len) != OK)
        return fail(h, TLS_HELLO_BAD_NAME);
    h->sni_is_address = h->sni_len == 0;
    return MORE;
}

static enum err end_of_alpn(struct tls_hello *h)
{
    uint32_t len = h->kept;
    if (len < 4 || ((uint32_t)h->alpn[0] << 8 | h->alpn[1]) != len - 2)
        return fail(h, TLS_HELLO_MALFORMED);
    for (uint32_t i = 2; i < len; i += 1u + h->alpn[i])
        if (h->alpn[i] == 0 || i + 1 + h->alpn[i] > len)
            return fail(h, TLS_HELLO_MALFORMED);
    memmove(h->alpn, h->alpn + 2, len - 2);
    h->alpn_len = (uint16_t)(len - 2);
    return MORE;
}

bool tls_hello_alpn(const struct tls_hello *h, uint32_t *at, struct slice *name)
{
    if (*at >= h->alpn_len)
        return false;
    *name = (struct slice){(const char *)h->alpn + *at + 1, h->alpn[*at]};
    *at += 1u + h->alpn[*at];
    return true;
}

// --- the message ---

// The next state; those without bytes are left at once. OK at the end of the message.
static enum err go(struct tls_hello *h, enum state next, uint32_t left)
{
    h->state = (uint8_t)next;
    h->left = left;
    h->number = 0;
    h->number_len = 0;
    return MORE;
}

static enum err end_of_extension(struct tls_hello *h)
{
    enum err e = MORE;
    if (h->type == EXTENSION_SERVER_NAME)
        e = end_of_server_name(h);
    else if (h->type == EXTENSION_ALPN)
        e = end_of_alpn(h);
    if (e != MORE)
        return e;
    return h->list_left > 0 ? go(h, EXTENSION_TYPE, 0) : OK;
}

static enum err end_of_part(struct tls_hello *h)
{
    switch ((enum state)h->state) {
    case FIXED:
        return go(h, SESSION_LENGTH, 0);
    case SESSION:
        return go(h, CIPHERS_LENGTH, 0);
    case CIPHERS:
        return go(h, COMPRESSIONS_LENGTH, 0);
    case COMPRESSIONS: // before TLS 1.3 a hello could end here
        return h->body_left > 0 ? go(h, EXTENSIONS_LENGTH, 0) : OK;
    default:
        return end_of_extension(h);
    }
}

static enum err begin_part(struct tls_hello *h, enum state part, uint32_t len, bool fits)
{
    if (!fits || len > h->body_left)
        return fail(h, TLS_HELLO_MALFORMED);
    (void)go(h, part, len);
    return len > 0 ? MORE : end_of_part(h);
}

// RFC 8446, 4.2: never two of a type.
static enum err begin_extension_type(struct tls_hello *h, uint16_t type)
{
    for (uint32_t i = 0; i < h->extensions; i++)
        if (h->seen[i] == type)
            return fail(h, TLS_HELLO_MALFORMED);
    if (h->extensions == TLS_HELLO_MAX_EXTENSIONS)
        return fail(h, TLS_HELLO_TOO_LARGE);
    h->seen[h->extensions++] = type;
    h->type = type;
    return go(h, EXTENSION_LENGTH, 0);
}

static enum err begin_extension(struct tls_hello *h, uint32_t len)
{
    if (len > h->list_left)
        return fail(h, TLS_HELLO_MALFORMED);
    if (h->type == EXTENSION_SERVER_NAME && len > sizeof(h->sni_raw))
        return fail(h, TLS_HELLO_BAD_NAME);
    if (h->type == EXTENSION_ALPN && len > sizeof(h->alpn))
        return fail(h, TLS_HELLO_TOO_LARGE);
    h->list_left -= len;
    h->kept = 0;
    return begin_part(h, EXTENSION, len, true);
}

// A number is complete.
static enum err take_number(struct tls_hello *h)
{
    uint32_t n = h->number;
    switch ((enum state)h->state) {
    case MESSAGE_TYPE:
        if (n != MESSAGE_CLIENT_HELLO)
            return fail(h, TLS_HELLO_MALFORMED);
        return go(h, MESSAGE_LENGTH, 0);
    case MESSAGE_LENGTH:
        if (n > TLS_HELLO_MAX_BYTES)
            return fail(h, TLS_HELLO_TOO_LARGE);
        h->body_left = n;
        return begin_part(h, FIXED, VERSION_AND_RANDOM, true);
    case SESSION_LENGTH:
        return begin_part(h, SESSION, n, n <= 32);
    case CIPHERS_LENGTH:
        return begin_part(h, CIPHERS, n, n >= 2 && n % 2 == 0);
    case COMPRESSIONS_LENGTH:
        return begin_part(h, COMPRESSIONS, n, n >= 1);
    case EXTENSIONS_LENGTH: // the last part: it must fill the message
        if (n != h->body_left)
            return fail(h, TLS_HELLO_MALFORMED);
        h->list_left = n;
        return n > 0 ? go(h, EXTENSION_TYPE, 0) : OK;
    case EXTENSION_TYPE:
        return begin_extension_type(h, (uint16_t)n);
    default:
        return begin_extension(h, n);
    }
}

// Counts `n` bytes of the message against what encloses them.
static bool enclose(struct tls_hello *h, uint32_t n)
{
    if (h->state <= MESSAGE_LENGTH)
        return true;
    if (n > h->body_left)
        return false;
    h->body_left -= n;
    if (h->state != EXTENSION_TYPE && h->state != EXTENSION_LENGTH)
        return true;
    if (n > h->list_left)
        return false;
    h->list_left -= n;
    return true;
}

static void keep(struct tls_hello *h, const uint8_t *p, uint32_t n)
{
    if (h->state != EXTENSION)
        return;
    if (h->type == EXTENSION_SERVER_NAME)
        memcpy(h->sni_raw + h->kept, p, n);
    else if (h->type == EXTENSION_ALPN)
        memcpy(h->alpn + h->kept, p, n);
    else
        return;
    h->kept += (uint16_t)n;
}

static enum err feed_message(struct tls_hello *h, const uint8_t *p, uint32_t len)
{
    enum err e = MORE;
    while (len > 0 && e == MORE) {
        uint32_t n = 1;
        if (number_bytes[h->state] == 0)
            n = len < h->left ? len : h->left;
        if (!enclose(h, n))
            return fail(h, TLS_HELLO_MALFORMED);
        if (number_bytes[h->state] == 0) {
            keep(h, p, n);
            h->left -= n;
            if (h->left == 0)
                e = end_of_part(h);
        } else {
            h->number = h->number << 8 | *p;
            if (++h->number_len == number_bytes[h->state])
                e = take_number(h);
        }
        p += n;
        len -= n;
        // A part is still to come, but the message is at its end.
        if (e == MORE && h->state > MESSAGE_LENGTH && h->body_left == 0)
            return fail(h, TLS_HELLO_MALFORMED);
    }
    return e;
}

// --- records ---

static bool is_http(const uint8_t *p)
{
    static const char *const methods[] = {"GET ",  "HEAD ", "POST ",   "PUT ",  "DELETE ",
                                          "OPTIO", "PATCH", "CONNECT", "TRACE", "PRI *"};
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        size_t n = strlen(methods[i]) < 5 ? strlen(methods[i]) : 5;
        if (memcmp(p, methods[i], n) == 0)
            return true;
    }
    return false;
}

// The record's header is complete, or its first byte is none of TLS's.
static enum err check_header(struct tls_hello *h)
{
    const uint8_t *p = h->header;
    bool first = h->state == MESSAGE_TYPE && h->total <= sizeof(h->header);
    uint32_t len = (uint32_t)p[3] << 8 | p[4];
    if (p[0] != RECORD_HANDSHAKE || p[1] != 3) {
        if (!first)
            return fail(h, TLS_HELLO_MALFORMED);
        if (is_http(p))
            return fail(h, TLS_HELLO_HTTP);
        bool sslv2 = (p[0] & 0x80) && p[2] == MESSAGE_CLIENT_HELLO && (p[3] == 2 || p[3] == 3);
        return fail(h, sslv2 ? TLS_HELLO_SSLV2 : TLS_HELLO_NOT_TLS);
    }
    // RFC 8446, 5.1: no empty fragments of handshake messages.
    if (len == 0 || len > RECORD_MAX)
        return fail(h, TLS_HELLO_MALFORMED);
    h->record_left = (uint16_t)len;
    h->header_len = 0;
    return MORE;
}

static enum err feed_header(struct tls_hello *h, const uint8_t *p, size_t len, size_t *used)
{
    size_t n = sizeof(h->header) - h->header_len;
    if (n > len)
        n = len;
    memcpy(h->header + h->header_len, p, n);
    h->header_len += (uint8_t)n;
    *used = n;
    h->total += (uint32_t)n;
    return h->header_len == sizeof(h->header) ? check_header(h) : MORE;
}

static enum err feed_some(struct tls_hello *h, const uint8_t *p, size_t len, size_t *used)
{
    if (h->record_left == 0)
        return feed_header(h, p, len, used);
    uint32_t n = len < h->record_left ? (uint32_t)len : h->record_left;
    *used = n;
    h->total += n;
    h->record_left -= (uint16_t)n;
    return feed_message(h, p, n);
}

enum err tls_hello_feed(struct tls_hello *h, struct slice bytes)
{
    if (h->fault != TLS_HELLO_FINE)
        return fail(h, h->fault);
    const uint8_t *p = (const uint8_t *)bytes.ptr;
    size_t left = bytes.len;
    while (left > 0 && !h->done) {
        if (h->total >= TLS_HELLO_MAX_BYTES)
            return fail(h, TLS_HELLO_TOO_LARGE);
        size_t used = 0;
        size_t room = TLS_HELLO_MAX_BYTES - h->total;
        enum err e = feed_some(h, p, left < room ? left : room, &used);
        if (e < 0)
            return e;
        h->done = e == OK;
        p += used;
        left -= used;
    }
    return h->done ? OK : MORE;
}
