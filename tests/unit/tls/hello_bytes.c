// Builds ClientHellos byte by byte, right and wrong ones.
#include "hello_bytes.h"
#include "core/check.h"

void hello_put(struct hello_bytes *b, const void *bytes, size_t len)
{
    check(len <= HELLO_ROOM - b->len);
    if (len > 0)
        memcpy(b->bytes + b->len, bytes, len);
    b->len += len;
}

void hello_put_number(struct hello_bytes *b, uint32_t value, uint32_t bytes)
{
    while (bytes-- > 0) {
        uint8_t octet = (uint8_t)(value >> (8 * bytes));
        hello_put(b, &octet, 1);
    }
}

void hello_put_extension(struct hello_bytes *b, uint16_t type, const void *body, size_t len)
{
    hello_put_number(b, type, 2);
    hello_put_number(b, (uint32_t)len, 2);
    hello_put(b, body, len);
}

void hello_put_sni(struct hello_bytes *b, const void *name, size_t len)
{
    hello_put_number(b, 0, 2);
    hello_put_number(b, (uint32_t)len + 5, 2);
    hello_put_number(b, (uint32_t)len + 3, 2);
    hello_put_number(b, 0, 1);
    hello_put_number(b, (uint32_t)len, 2);
    hello_put(b, name, len);
}

void hello_put_alpn(struct hello_bytes *b, const char *const *names, size_t count)
{
    uint32_t list = 0;
    for (size_t i = 0; i < count; i++)
        list += 1 + (uint32_t)strlen(names[i]);
    hello_put_number(b, 16, 2);
    hello_put_number(b, list + 2, 2);
    hello_put_number(b, list, 2);
    for (size_t i = 0; i < count; i++) {
        hello_put_number(b, (uint32_t)strlen(names[i]), 1);
        hello_put(b, names[i], strlen(names[i]));
    }
}

void hello_message(struct hello_bytes *out, const struct hello_bytes *extensions)
{
    static const uint8_t random[32] = {7};
    uint32_t body = 2 + 32 + 1 + 32 + 2 + 4 + 1 + 1;
    if (extensions)
        body += 2 + (uint32_t)extensions->len;
    out->len = 0;
    hello_put_number(out, 1, 1);
    hello_put_number(out, body, 3);
    hello_put_number(out, 0x0303, 2);
    hello_put(out, random, 32);
    hello_put_number(out, 32, 1); // legacy session
    hello_put(out, random, 32);
    hello_put_number(out, 4, 2); // cipher suites: GREASE and TLS_AES_128_GCM_SHA256
    hello_put_number(out, 0x0a0a1301, 4);
    hello_put_number(out, 0x0100, 2); // compressions: none
    if (!extensions)
        return;
    hello_put_number(out, (uint32_t)extensions->len, 2);
    hello_put(out, extensions->bytes, extensions->len);
}

void hello_records(struct hello_bytes *out, const struct hello_bytes *message, size_t fragment)
{
    out->len = 0;
    for (size_t at = 0; at < message->len; at += fragment) {
        size_t n = message->len - at < fragment ? message->len - at : fragment;
        hello_put_number(out, 0x160301, 3);
        hello_put_number(out, (uint32_t)n, 2);
        hello_put(out, message->bytes + at, n);
    }
}
