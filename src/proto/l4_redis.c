// Redis' protocol, RESP 2 and 3: requests are arrays of strings or plain lines, of which the first
// word is the command; of replies only errors are of interest, but all must be read through to know
// where the next one begins. Owns nothing.
#include "proto/l4_decode_internal.h"

#define ARGUMENTS_MAX (1024u * 1024u) // as Redis has them
#define STRING_MAX (512ull << 20)
#define NUMBER_MAX (1ull << 40)

enum state {
    BEGIN,     // of a request, or a reply
    WORD,      // of a request that is a plain line
    LINE,      // the rest of it, or of a simple reply
    ARGUMENTS, // how many
    MARK,      // of a string, before its length
    LENGTH,
    NAME, // the first of the strings
    ELEMENTS,
    PAIRS,
    ATTRIBUTES,
};

// ---- numbers

static void begin_number(struct l4_side *s, enum state state)
{
    s->redis.state = (uint8_t)state;
    s->redis.number = 0;
    s->redis.digits = s->redis.negative = s->redis.cr = false;
}

// Up to its LF: true, and the number is complete.
static bool read_number(struct l4_decoder *d, struct l4_side *s, struct slice *in)
{
    while (in->len > 0 && !d->stopped) {
        char c = in->ptr[0];
        *in = slice_from(*in, 1);
        if (c == '\n' && s->redis.cr)
            return true;
        bool digit = c >= '0' && c <= '9';
        if (c == '-' && !s->redis.digits && !s->redis.negative)
            s->redis.negative = true;
        else if (digit && !s->redis.cr && s->redis.number < NUMBER_MAX)
            s->redis.number = s->redis.number * 10 + (uint64_t)(c - '0');
        else if (c != '\r' || !s->redis.digits || s->redis.cr)
            l4_unreadable(d);
        s->redis.digits = s->redis.digits || digit;
        s->redis.cr = c == '\r';
    }
    return false;
}

// ---- requests

#define X(name) {#name, sizeof(#name) - 1},
static const struct slice names[] = {L4_REDIS_COMMANDS(X)}; // sorted, but for the first
#undef X

static enum l4_op op_of(struct slice name)
{
    size_t low = 1, high = sizeof(names) / sizeof(names[0]);
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = slice_cmp(name, names[middle]);
        if (order == 0)
            return (enum l4_op)(L4_OP_REDIS_other + (int)middle);
        *(order < 0 ? &high : &low) = order < 0 ? middle : middle + 1;
    }
    return L4_OP_REDIS_other;
}

static void add_to_name(struct l4_side *s, char c)
{
    if (s->redis.name_len < L4_REDIS_NAME_MAX)
        s->redis.name[s->redis.name_len] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
    if (s->redis.name_len <= L4_REDIS_NAME_MAX)
        s->redis.name_len++;
}

// What follows these is a replica's stream, and no protocol of requests and replies.
static void count_command(struct l4_decoder *d, struct l4_side *s)
{
    enum l4_op op = L4_OP_REDIS_other;
    if (s->redis.name_len <= L4_REDIS_NAME_MAX)
        op = op_of((struct slice){s->redis.name, s->redis.name_len});
    l4_count(d, op);
    d->stopped = op == L4_OP_REDIS_sync || op == L4_OP_REDIS_psync;
}

static void begin_request(struct l4_decoder *d, struct l4_side *s, struct slice *in)
{
    char c = in->ptr[0];
    s->redis.name_len = 0;
    if (c == '*') {
        *in = slice_from(*in, 1);
        begin_number(s, ARGUMENTS);
    } else if (c == '\r' || c == '\n') {
        *in = slice_from(*in, 1);
    } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') {
        s->redis.state = WORD;
    } else {
        l4_unreadable(d);
    }
}

static void read_word(struct l4_decoder *d, struct l4_side *s, struct slice *in)
{
    while (in->len > 0) {
        char c = in->ptr[0];
        if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
            s->redis.state = LINE;
            count_command(d, s);
            return;
        }
        add_to_name(s, c);
        *in = slice_from(*in, 1);
    }
}

static void next_argument(struct l4_side *s)
{
    s->redis.missing[0]--;
    s->redis.state = s->redis.missing[0] ? MARK : BEGIN;
}

static void end_arguments(struct l4_decoder *d, struct l4_side *s)
{
    bool none = s->redis.negative || s->redis.number == 0;
    s->redis.missing[0] = s->redis.number;
    s->redis.depth = 0; // no argument has come
    s->redis.state = none ? BEGIN : MARK;
    if (s->redis.number > ARGUMENTS_MAX)
        l4_unreadable(d);
}

static void end_length(struct l4_decoder *d, struct l4_side *s)
{
    if (s->redis.negative || s->redis.number > STRING_MAX) {
        l4_unreadable(d);
    } else if (s->redis.depth == 0) {
        s->redis.depth = 1;
        s->redis.state = NAME;
    } else {
        s->skip = s->redis.number + 2; // its CRLF
        next_argument(s);
    }
}

static void read_name(struct l4_decoder *d, struct l4_side *s, struct slice *in)
{
    for (; s->redis.number > 0 && in->len > 0; s->redis.number--) {
        if (s->redis.name_len > L4_REDIS_NAME_MAX) { // whatever it is
            s->skip = s->redis.number;
            s->redis.number = 0;
            break;
        }
        add_to_name(s, in->ptr[0]);
        *in = slice_from(*in, 1);
    }
    if (s->redis.number > 0)
        return;
    s->skip += 2;
    count_command(d, s);
    next_argument(s);
}

static void read_mark(struct l4_decoder *d, struct l4_side *s, struct slice *in)
{
    if (in->ptr[0] != '$')
        l4_unreadable(d);
    *in = slice_from(*in, 1);
    begin_number(s, LENGTH);
}

static void read_line(struct l4_side *s, struct slice *in, bool *ended)
{
    ptrdiff_t at = slice_find(*in, '\n');
    *ended = at >= 0;
    *in = at < 0 ? (struct slice){in->ptr + in->len, 0} : slice_from(*in, (size_t)at + 1);
    if (*ended)
        s->redis.state = BEGIN;
}

static void read_request(struct l4_decoder *d, struct l4_side *s, struct slice *in)
{
    bool ended;
    switch (s->redis.state) {
    case BEGIN:
        begin_request(d, s, in);
        break;
    case WORD:
        read_word(d, s, in);
        break;
    case LINE:
        read_line(s, in, &ended);
        break;
    case ARGUMENTS:
        if (read_number(d, s, in))
            end_arguments(d, s);
        break;
    case MARK:
        read_mark(d, s, in);
        break;
    case LENGTH:
        if (read_number(d, s, in))
            end_length(d, s);
        break;
    default:
        read_name(d, s, in);
        break;
    }
}

// ---- replies

// One value is complete, and with it those that it was the last element of.
static void end_value(struct l4_side *s)
{
    s->redis.state = BEGIN;
    while (s->redis.depth > 0 && --s->redis.missing[s->redis.depth - 1] == 0)
        s->redis.depth--;
}

static void end_count(struct l4_decoder *d, struct l4_side *s, uint64_t each)
{
    enum state kind = (enum state)s->redis.state;
    uint64_t n = s->redis.negative ? 0 : s->redis.number * each;
    s->redis.state = BEGIN;
    // Attributes stand in front of a value and are none.
    if (kind == ATTRIBUTES && n > 0 && s->redis.depth > 0)
        s->redis.missing[s->redis.depth - 1]++;
    if (n == 0 && kind != ATTRIBUTES)
        end_value(s);
    else if (n > 0 && s->redis.depth == L4_REDIS_DEPTH)
        l4_unreadable(d);
    else if (n > 0)
        s->redis.missing[s->redis.depth++] = n;
}

static void end_string(struct l4_side *s)
{
    s->skip = s->redis.negative ? 0 : s->redis.number + 2;
    end_value(s);
}

static void begin_reply(struct l4_decoder *d, struct l4_side *s, struct slice *in)
{
    char c = in->ptr[0];
    *in = slice_from(*in, 1);
    if (c == '-' || c == '!')
        l4_count(d, L4_OP_REDIS_ERROR);
    if (c == '+' || c == '-' || c == ':' || c == '_' || c == '#' || c == ',' || c == '(')
        s->redis.state = LINE;
    else if (c == '$' || c == '!' || c == '=')
        begin_number(s, LENGTH);
    else if (c == '*' || c == '~' || c == '>')
        begin_number(s, ELEMENTS);
    else if (c == '%' || c == '|')
        begin_number(s, c == '%' ? PAIRS : ATTRIBUTES);
    else
        l4_unreadable(d);
}

static void read_reply(struct l4_decoder *d, struct l4_side *s, struct slice *in)
{
    bool ended = false;
    switch (s->redis.state) {
    case BEGIN:
        begin_reply(d, s, in);
        break;
    case LINE:
        read_line(s, in, &ended);
        if (ended)
            end_value(s);
        break;
    case LENGTH:
        if (read_number(d, s, in))
            end_string(s);
        break;
    default:
        if (read_number(d, s, in))
            end_count(d, s, s->redis.state == ELEMENTS ? 1 : 2);
        break;
    }
}

void l4_redis_feed(struct l4_decoder *d, bool from_client, struct slice in)
{
    struct l4_side *s = l4_side_of(d, from_client);
    while (in.len > 0 && !d->stopped) {
        l4_skip(s, &in);
        if (in.len == 0)
            return;
        if (from_client)
            read_request(d, s, &in);
        else
            read_reply(d, s, &in);
    }
}
