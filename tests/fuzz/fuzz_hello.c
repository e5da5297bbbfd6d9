// Any bytes as the beginning of a connection: the reader's answer does not depend on how they are
// cut, and what it promises of names and protocols holds.
#include "core/check.h"
#include "tls/hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum err feed(struct tls_hello *h, struct slice bytes, size_t piece)
{
    enum err e = MORE;
    tls_hello_init(h);
    while (bytes.len > 0 && e == MORE) {
        struct slice some = {bytes.ptr, bytes.len < piece ? bytes.len : piece};
        e = tls_hello_feed(h, some);
        bytes = slice_from(bytes, some.len);
    }
    return e;
}

static void check_name(const struct tls_hello *h)
{
    char again[TLS_SNI_MAX + 1];
    uint16_t len;
    struct slice sni = tls_hello_sni(h);
    check(h->sni[sni.len] == '\0' && strlen(h->sni) == sni.len);
    if (sni.len == 0)
        return;
    check(tls_sni_normalize(sni, again, &len) == OK && len == sni.len);
    check(memcmp(again, sni.ptr, len) == 0);
}

static void check_protocols(const struct tls_hello *h)
{
    struct slice name;
    uint32_t at = 0, total = 0;
    while (tls_hello_alpn(h, &at, &name)) {
        check(name.len > 0);
        total += 1 + (uint32_t)name.len;
    }
    check(total == h->alpn_len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tls_hello whole, pieces;
    struct slice all = {(const char *)data, size};
    enum err e = feed(&whole, all, size ? size : 1);
    check((e < 0) == (whole.fault != TLS_HELLO_FINE));
    check(size <= TLS_HELLO_MAX_BYTES || e != MORE);
    for (size_t piece = 1; piece < 8; piece += 2) {
        check(feed(&pieces, all, piece) == e && pieces.fault == whole.fault);
        check(strcmp(pieces.sni, whole.sni) == 0 && pieces.alpn_len == whole.alpn_len);
    }
    if (e == OK) {
        check_name(&whole);
        check_protocols(&whole);
    }
    return 0;
}
