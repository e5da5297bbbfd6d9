// MongoDB's wire protocol: messages with their length and operation in front. Of their bodies only
// the flags of OP_QUERY and OP_REPLY are looked at. Owns nothing.
#include "proto/l4_decode_internal.h"

#define HEAD 16u
#define MESSAGE_MAX 48000000u // what servers take (maxMessageSizeBytes)
#define QUERY_BYTES 20u       // up to its flags
#define REPLY_BYTES 28u       // up to its cursor

enum opcode {
    OP_REPLY = 1,
    OP_UPDATE = 2001,
    OP_INSERT = 2002,
    OP_QUERY = 2004,
    OP_GET_MORE = 2005,
    OP_DELETE = 2006,
    OP_KILL_CURSORS = 2007,
    OP_COMMAND = 2010,
    OP_COMMAND_REPLY = 2011,
    OP_COMPRESSED = 2012,
    OP_MSG = 2013,
};

static uint32_t number(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void count_query(const struct l4_decoder *d, uint32_t flags)
{
    static const struct {
        uint32_t flag;
        enum l4_op op;
    } known[] = {{1u << 1, L4_OP_MONGO_QUERY_TAILABLE},
                 {1u << 4, L4_OP_MONGO_QUERY_NO_TIMEOUT},
                 {1u << 5, L4_OP_MONGO_QUERY_AWAIT},
                 {1u << 6, L4_OP_MONGO_QUERY_EXHAUST}};
    l4_count(d, L4_OP_MONGO_QUERY);
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (flags & known[i].flag)
            l4_count(d, known[i].op);
}

static void count_reply(const struct l4_decoder *d, const uint8_t *body)
{
    uint32_t flags = number(body);
    l4_count(d, L4_OP_MONGO_REPLY);
    if (flags & 1)
        l4_count(d, L4_OP_MONGO_REPLY_NO_CURSOR);
    if (flags & 2)
        l4_count(d, L4_OP_MONGO_REPLY_FAILURE);
    if (number(body + 4) || number(body + 8))
        l4_count(d, L4_OP_MONGO_REPLY_CURSOR);
}

// How many bytes of such a message are looked at; 0: there is no such one.
static uint32_t interest(uint32_t opcode)
{
    switch (opcode) {
    case OP_QUERY:
        return QUERY_BYTES;
    case OP_REPLY:
        return REPLY_BYTES;
    case OP_UPDATE:
    case OP_INSERT:
    case OP_GET_MORE:
    case OP_DELETE:
    case OP_KILL_CURSORS:
    case OP_COMMAND:
    case OP_COMMAND_REPLY:
    case OP_COMPRESSED:
    case OP_MSG:
        return HEAD;
    default:
        return 0;
    }
}

static void count_message(const struct l4_decoder *d, bool from_client, const uint8_t *bytes)
{
    switch (number(bytes + 12)) {
    case OP_QUERY:
        count_query(d, number(bytes + HEAD));
        break;
    case OP_REPLY:
        count_reply(d, bytes + HEAD);
        break;
    case OP_UPDATE:
        l4_count(d, L4_OP_MONGO_UPDATE);
        break;
    case OP_INSERT:
        l4_count(d, L4_OP_MONGO_INSERT);
        break;
    case OP_GET_MORE:
        l4_count(d, L4_OP_MONGO_GET_MORE);
        break;
    case OP_DELETE:
        l4_count(d, L4_OP_MONGO_DELETE);
        break;
    case OP_KILL_CURSORS:
        l4_count(d, L4_OP_MONGO_KILL_CURSORS);
        break;
    case OP_COMMAND:
        l4_count(d, L4_OP_MONGO_COMMAND);
        break;
    case OP_COMMAND_REPLY:
        l4_count(d, L4_OP_MONGO_COMMAND_REPLY);
        break;
    case OP_COMPRESSED: // of either side
        l4_count(d, L4_OP_MONGO_COMPRESSED);
        break;
    default:
        l4_count(d, from_client ? L4_OP_MONGO_MSG : L4_OP_MONGO_MSG_REPLY);
        break;
    }
}

void l4_mongo_feed(struct l4_decoder *d, bool from_client, struct slice in)
{
    struct l4_side *s = l4_side_of(d, from_client);
    uint8_t *bytes = s->mongo.bytes;
    while (in.len > 0 && !d->stopped) {
        l4_skip(s, &in);
        if (!l4_gather(bytes, &s->mongo.len, HEAD, &in))
            return;
        uint32_t len = number(bytes), wanted = interest(number(bytes + 12));
        if (wanted == 0 || len < wanted || len > MESSAGE_MAX) {
            l4_unreadable(d);
        } else if (l4_gather(bytes, &s->mongo.len, wanted, &in)) {
            count_message(d, from_client, bytes);
            s->skip = len - wanted;
            s->mongo.len = 0;
        }
    }
}
