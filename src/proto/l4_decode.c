// The table of what is counted, and which decoder is asked. Owns nothing.
#include "proto/l4_decode_internal.h"

const struct l4_op_info l4_ops[L4_OP_COUNT] = {
#define X(id, family, label) [L4_OP_##id] = {L4_FAMILY_##family, label},
    L4_MONGO_TABLE(X) L4_MYSQL_TABLE(X)
#undef X
#define X(name) [L4_OP_REDIS_##name] = {L4_FAMILY_REDIS_COMMAND, #name},
        L4_REDIS_COMMANDS(X)
#undef X
            [L4_OP_REDIS_ERROR] = {L4_FAMILY_REDIS_ERROR, ""},
    [L4_OP_UNREADABLE_MONGO] = {L4_FAMILY_UNREADABLE, "mongo"},
    [L4_OP_UNREADABLE_MYSQL] = {L4_FAMILY_UNREADABLE, "mysql"},
    [L4_OP_UNREADABLE_REDIS] = {L4_FAMILY_UNREADABLE, "redis"},
};

static const struct {
    const char *name;
    enum l4_op unreadable;
    void (*feed)(struct l4_decoder *d, bool from_client, struct slice in);
} protocols[L4_PROTOCOLS] = {
    [L4_PLAIN] = {"", L4_OP_COUNT, NULL},
    [L4_MONGO] = {"mongo", L4_OP_UNREADABLE_MONGO, l4_mongo_feed},
    [L4_MYSQL] = {"mysql", L4_OP_UNREADABLE_MYSQL, l4_mysql_feed},
    [L4_REDIS] = {"redis", L4_OP_UNREADABLE_REDIS, l4_redis_feed},
};

void l4_decoder_init(struct l4_decoder *d, enum l4_protocol protocol,
                     void (*count)(void *arg, enum l4_op op), void *arg)
{
    *d = (struct l4_decoder){
        .protocol = protocol, .stopped = protocol == L4_PLAIN, .count = count, .arg = arg};
}

void l4_unreadable(struct l4_decoder *d)
{
    l4_count(d, protocols[d->protocol].unreadable);
    d->stopped = true;
}

void l4_decode(struct l4_decoder *d, bool from_client, struct slice bytes)
{
    if (!d->stopped && bytes.len > 0)
        protocols[d->protocol].feed(d, from_client, bytes);
}

enum l4_protocol l4_protocol_parse(struct slice name)
{
    for (int i = L4_MONGO; i < L4_PROTOCOLS; i++)
        if (slice_eq(name, slice_of(protocols[i].name)))
            return (enum l4_protocol)i;
    return L4_PLAIN;
}
