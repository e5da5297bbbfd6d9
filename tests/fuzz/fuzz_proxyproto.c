// Any bytes as the beginning of a proxy's connection: the answer and where the header ends do not
// depend on how they are cut, no header is longer than it may be, and an address that was read is
// read again from what is written of it.
#include "core/check.h"
#include "proto/proxyproto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum err feed(struct proxyproto_reader *r, struct slice all, size_t piece, size_t *taken)
{
    enum err e = MORE;
    proxyproto_reader_init(r);
    *taken = 0;
    while (*taken < all.len && e == MORE) {
        struct slice rest = slice_from(all, *taken);
        struct slice some = {rest.ptr, rest.len < piece ? rest.len : piece};
        size_t had = some.len;
        e = proxyproto_feed(r, &some);
        check(e != MORE || some.len == 0);
        *taken += had - some.len;
    }
    return e;
}

static void write_and_read(const struct proxyproto_reader *from)
{
    for (enum proxyproto_version v = PROXYPROTO_V1; v <= PROXYPROTO_V2; v++) {
        char out[PROXYPROTO_WRITE_MAX];
        struct proxyproto_reader again;
        size_t taken, len = proxyproto_write(v, &from->source, &from->destination, out);
        check(len <= sizeof(out));
        check(feed(&again, (struct slice){out, len}, len, &taken) == OK && taken == len);
        check(again.given && addr_eq(&again.source, &from->source));
        check(addr_eq(&again.destination, &from->destination));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice all = {(const char *)data, size};
    struct proxyproto_reader whole, pieces;
    size_t end, other;
    enum err e = feed(&whole, all, size ? size : 1, &end);
    check(e != OK || end <= 16 + PROXYPROTO_V2_MAX);
    for (size_t piece = 1; piece < 30; piece += 4) {
        check(feed(&pieces, all, piece, &other) == e && pieces.given == whole.given);
        check(e != OK || other == end);
    }
    if (e == OK && whole.given)
        write_and_read(&whole);
    return 0;
}
