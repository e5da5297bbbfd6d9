// Members of a JSON object that is being written into a text: each puts its own comma. Control
// thread.
#pragma once
#include "admin/text.h"
#include "core/addr.h"
#include <stdint.h>

void json_key(struct text *out, const char *name); // the value is the caller's to write
void json_member(struct text *out, const char *name, struct slice value);
void json_member_if(struct text *out, const char *name, struct slice value); // unless it is empty
void json_member_u64(struct text *out, const char *name, uint64_t value);
void json_member_bool(struct text *out, const char *name, bool value);
void json_member_addr(struct text *out, const char *name, const struct addr *a);
