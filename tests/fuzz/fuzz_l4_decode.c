// Any bytes as a relayed conversation: what is counted does not depend on how they are cut, the
// decoder says at most once that it cannot read them, and then nothing more. The first byte says
// which protocol it is; of each piece the first byte says whose it is and how long.
#include "core/check.h"
#include "proto/l4_decode.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct counts {
    uint32_t of[L4_OP_COUNT];
};

static void count(void *arg, enum l4_op op)
{
    struct counts *c = arg;
    c->of[op]++;
}

static void feed(struct l4_decoder *d, bool client, struct slice bytes, size_t piece)
{
    while (bytes.len > 0) {
        struct slice some = {bytes.ptr, bytes.len < piece ? bytes.len : piece};
        l4_decode(d, client, some);
        bytes = slice_from(bytes, some.len);
    }
}

static void play(struct counts *c, const uint8_t *data, size_t size, size_t piece)
{
    struct l4_decoder d;
    memset(c, 0, sizeof(*c));
    l4_decoder_init(&d, (enum l4_protocol)(L4_MONGO + data[0] % (L4_PROTOCOLS - L4_MONGO)), count,
                    c);
    for (size_t at = 1; at < size;) {
        size_t len = data[at] >> 1;
        bool client = data[at] & 1;
        at++;
        len = len < size - at ? len : size - at;
        feed(&d, client, (struct slice){(const char *)data + at, len}, piece);
        at += len;
    }
    uint32_t unreadable = c->of[L4_OP_UNREADABLE_MONGO] + c->of[L4_OP_UNREADABLE_MYSQL] +
                          c->of[L4_OP_UNREADABLE_REDIS];
    check(unreadable <= 1 && (unreadable == 0 || d.stopped));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct counts whole, pieces;
    if (size == 0)
        return 0;
    play(&whole, data, size, 128);
    for (size_t piece = 1; piece < 12; piece += 3) {
        play(&pieces, data, size, piece);
        check(memcmp(&whole, &pieces, sizeof(whole)) == 0);
    }
    return 0;
}
