// The head of a request or response, the same for every HTTP version. The strings are borrowed:
// from the exchange's arena, or from the snapshot.
#pragma once
#include "core/slice.h"
#include "proto/http.h"

// Received at most this many fields (DESIGN.md section 5); the gateway may add a few of its own.
#define HEAD_MAX_FIELDS 100
#define HEAD_FIELD_SLOTS 160
#define HEAD_MAX_BYTES (60u * 1024u) // names, values and 32 a field

struct field {
    const char *name; // lower case
    const char *value;
    uint32_t value_len;
    uint16_t name_len;
    uint16_t token; // enum http_field
};

struct head {
    // request
    struct slice method, scheme, authority;
    struct slice target;      // as received (h1) or :path
    struct slice path, query; // normalised, split at '?'
    // response
    uint32_t status;
    uint8_t minor_version; // HTTP/1.x only
    // The body's length, where the message said one. Framing goes by this and never by the fields,
    // which a header operation may have changed.
    bool has_length;
    uint64_t content_length;
    uint32_t field_count;
    struct field fields[HEAD_FIELD_SLOTS];
};

static inline struct slice field_name(const struct field *f)
{
    return (struct slice){f->name, f->name_len};
}
static inline struct slice field_value(const struct field *f)
{
    return (struct slice){f->value, f->value_len};
}

void head_reset(struct head *h);
// The first field with this token, or NULL.
struct field *head_find(struct head *h, enum http_field token);
struct field *head_find_name(struct head *h, struct slice lower_name);
// ERR_LIMIT when all slots are taken. Name and value are borrowed; the name must be lower case.
int head_add(struct head *h, enum http_field token, struct slice value)
    __attribute__((warn_unused_result));
int head_add_name(struct head *h, struct slice lower_name, struct slice value)
    __attribute__((warn_unused_result));
int head_set(struct head *h, enum http_field token, struct slice value)
    __attribute__((warn_unused_result)); // replaces all
int head_set_name(struct head *h, struct slice lower_name, struct slice value)
    __attribute__((warn_unused_result));
void head_remove_name(struct head *h, struct slice lower_name);
