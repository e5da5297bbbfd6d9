// Members of JSON objects. Owns nothing. Control thread.
#include "admin/json.h"

void json_key(struct text *out, const char *name)
{
    if (out->len && out->data[out->len - 1] != '{')
        text_char(out, ',');
    text_printf(out, "\"%s\":", name);
}

void json_member(struct text *out, const char *name, struct slice value)
{
    json_key(out, name);
    text_json(out, value);
}

void json_member_if(struct text *out, const char *name, struct slice value)
{
    if (value.len)
        json_member(out, name, value);
}

void json_member_u64(struct text *out, const char *name, uint64_t value)
{
    json_key(out, name);
    text_u64(out, value);
}

void json_member_bool(struct text *out, const char *name, bool value)
{
    json_key(out, name);
    text_puts(out, value ? "true" : "false");
}

void json_member_addr(struct text *out, const char *name, const struct addr *a)
{
    char buf[ADDR_TEXT_MAX];
    size_t n = addr_format(a, buf, sizeof(buf), true);
    json_member(out, name, (struct slice){buf, n});
}
