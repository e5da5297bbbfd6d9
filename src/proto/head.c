// Field list of a message head: a flat array in order of arrival. Lookups are linear: a request
// has about ten fields and the token comparison is one load each.
#include "proto/head.h"
#include "core/check.h"
#include "core/err.h"

void head_reset(struct head *h)
{
    memset(h, 0, offsetof(struct head, fields)); // the slots are written before they are read
}

struct field *head_find(struct head *h, enum http_field token)
{
    dcheck(token != FIELD_OTHER);
    for (uint32_t i = 0; i < h->field_count; i++)
        if (h->fields[i].token == token)
            return &h->fields[i];
    return NULL;
}

struct field *head_find_name(struct head *h, struct slice name)
{
    for (uint32_t i = 0; i < h->field_count; i++)
        if (slice_eq(field_name(&h->fields[i]), name))
            return &h->fields[i];
    return NULL;
}

static int append(struct head *h, enum http_field token, struct slice name, struct slice value)
{
    if (h->field_count == HEAD_FIELD_SLOTS)
        return ERR_LIMIT;
    h->fields[h->field_count++] = (struct field){
        .name = name.ptr,
        .value = value.ptr,
        .value_len = (uint32_t)value.len,
        .name_len = (uint16_t)name.len,
        .token = (uint16_t)token,
    };
    return OK;
}

int head_add(struct head *h, enum http_field token, struct slice value)
{
    return append(h, token, http_field_name(token), value);
}

int head_add_name(struct head *h, struct slice name, struct slice value)
{
    return append(h, http_field_of(name), name, value);
}

static void remove_from(struct head *h, uint32_t first, enum http_field token, struct slice name)
{
    uint32_t kept = first;
    for (uint32_t i = first; i < h->field_count; i++) {
        struct field *f = &h->fields[i];
        bool match = token != FIELD_OTHER ? f->token == token : slice_eq(field_name(f), name);
        if (!match)
            h->fields[kept++] = *f;
    }
    h->field_count = kept;
}

static int set(struct head *h, enum http_field token, struct slice name, struct slice value)
{
    struct field *f = token != FIELD_OTHER ? head_find(h, token) : head_find_name(h, name);
    if (!f)
        return append(h, token, name, value);
    f->value = value.ptr;
    f->value_len = (uint32_t)value.len;
    remove_from(h, (uint32_t)(f - h->fields) + 1, token, name);
    return OK;
}

int head_set(struct head *h, enum http_field token, struct slice value)
{
    return set(h, token, http_field_name(token), value);
}

int head_set_name(struct head *h, struct slice name, struct slice value)
{
    return set(h, http_field_of(name), name, value);
}

void head_remove_name(struct head *h, struct slice name)
{
    remove_from(h, 0, http_field_of(name), name);
}
