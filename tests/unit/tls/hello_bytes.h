// Builds ClientHellos byte by byte, right and wrong ones.
#pragma once
#include "core/slice.h"

#define HELLO_ROOM 40000

struct hello_bytes {
    uint8_t bytes[HELLO_ROOM];
    size_t len;
};

void hello_put(struct hello_bytes *b, const void *bytes, size_t len);
void hello_put_number(struct hello_bytes *b, uint32_t value, uint32_t bytes);
// An extension with this body.
void hello_put_extension(struct hello_bytes *b, uint16_t type, const void *body, size_t len);
void hello_put_sni(struct hello_bytes *b, const void *name, size_t len);
void hello_put_alpn(struct hello_bytes *b, const char *const *names, size_t count);
// The message around the extensions; NULL = without the extensions' block.
void hello_message(struct hello_bytes *out, const struct hello_bytes *extensions);
// The message in records of at most `fragment` bytes each.
void hello_records(struct hello_bytes *out, const struct hello_bytes *message, size_t fragment);
