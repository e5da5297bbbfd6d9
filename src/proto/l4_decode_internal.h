// What the decoders of the protocols share. Not for anyone else.
#pragma once
#include "proto/l4_decode.h"
#include <string.h>

// Each takes bytes off `in` until it has none or the decoder has stopped.
void l4_mongo_feed(struct l4_decoder *d, bool from_client, struct slice in);
void l4_mysql_feed(struct l4_decoder *d, bool from_client, struct slice in);
void l4_redis_feed(struct l4_decoder *d, bool from_client, struct slice in);

static inline struct l4_side *l4_side_of(struct l4_decoder *d, bool from_client)
{
    return from_client ? &d->client : &d->server;
}

static inline void l4_count(const struct l4_decoder *d, enum l4_op op)
{
    d->count(d->arg, op);
}

// Whatever this is, it is not the protocol.
void l4_unreadable(struct l4_decoder *d);

// Passes over what is of no interest.
static inline void l4_skip(struct l4_side *s, struct slice *in)
{
    uint64_t n = s->skip < in->len ? s->skip : in->len;
    *in = slice_from(*in, (size_t)n);
    s->skip -= n;
}

// Keeps bytes until there are `want` of them; false: more must come.
static inline bool l4_gather(uint8_t *to, uint8_t *len, uint32_t want, struct slice *in)
{
    while (*len < want && in->len > 0) {
        to[(*len)++] = (uint8_t)in->ptr[0];
        *in = slice_from(*in, 1);
    }
    return *len >= want;
}
