// Decoder of the chunked transfer coding, byte by byte around the sizes and in runs inside the
// chunks. Stricter than it must be: CRLF only, at most 15 hexadecimal digits, extensions bounded.
#include "proto/h1_parse.h"

enum {
    SIZE,
    PADDING, // white space behind the size or an extension
    EXT_START,
    EXT_NAME,
    EXT_NAME_END,
    EXT_EQUALS,
    EXT_TOKEN,
    EXT_QUOTED,
    EXT_ESCAPED,
    EXT_END, // behind a quoted value
    SIZE_LF,
    DATA,
    DATA_CR,
    DATA_LF,
    TRAILERS
};

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
        c->state = EXT_START;
    else if (ch == ' ' || ch == '\t')
        c->state = PADDING;
    else
        return false;
    return true;
}

// chunk-ext = *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] ) of RFC 9112
// section 7.1.1. What it says is ignored, but its form is checked: another parser might see the
// line end elsewhere. White space is allowed only where the grammar has it.
static const struct extension_rule {
    uint8_t token; // the state after a token character, 0 = none may stand here
    uint8_t blank; // after SP or HTAB
    uint8_t semicolon, equals, quote;
    bool may_end; // CR may follow
} extension_rules[] = {
    [PADDING] = {.blank = PADDING, .semicolon = EXT_START},
    [EXT_START] = {.token = EXT_NAME, .blank = EXT_START},
    [EXT_NAME] = {EXT_NAME, EXT_NAME_END, EXT_START, EXT_EQUALS, 0, true},
    [EXT_NAME_END] = {.blank = EXT_NAME_END, .semicolon = EXT_START, .equals = EXT_EQUALS},
    [EXT_EQUALS] = {.token = EXT_TOKEN, .blank = EXT_EQUALS, .quote = EXT_QUOTED},
    [EXT_TOKEN] = {.token = EXT_TOKEN, .blank = PADDING, .semicolon = EXT_START, .may_end = true},
    [EXT_END] = {.blank = PADDING, .semicolon = EXT_START, .may_end = true},
};

static uint8_t next_in_quotes(uint8_t state, char ch)
{
    if (((uint8_t)ch < 0x20 && ch != '\t') || ch == 0x7f)
        return 0;
    if (state == EXT_ESCAPED)
        return EXT_QUOTED;
    return ch == '"' ? EXT_END : ch == '\\' ? EXT_ESCAPED : EXT_QUOTED;
}

static bool extension_byte(struct h1_chunked *c, char ch)
{
    uint8_t next;
    if (c->state == EXT_QUOTED || c->state == EXT_ESCAPED) {
        next = next_in_quotes(c->state, ch);
    } else {
        const struct extension_rule *rule = &extension_rules[c->state];
        if (ch == '\r' && rule->may_end) {
            c->state = SIZE_LF;
            return true;
        }
        next = ch == ' ' || ch == '\t'   ? rule->blank
               : ch == ';'               ? rule->semicolon
               : ch == '='               ? rule->equals
               : ch == '"'               ? rule->quote
               : http_tchar((uint8_t)ch) ? rule->token
                                         : 0;
    }
    c->state = next;
    return next && c->extension_bytes++ < EXTENSION_MAX;
}

static bool framing_byte(struct h1_chunked *c, char ch)
{
    switch (c->state) {
    case SIZE:
        return size_byte(c, ch);
    case SIZE_LF:
        c->state = c->remaining ? DATA : TRAILERS;
        return ch == '\n';
    case DATA_CR:
        c->state = DATA_LF;
        return ch == '\r';
    case DATA_LF:
        h1_chunked_init(c);
        return ch == '\n';
    default:
        return extension_byte(c, ch);
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
