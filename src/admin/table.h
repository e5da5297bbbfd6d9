// A table of text as istioctl prints it: columns as wide as their widest cell plus a gap. It is
// emitted twice, once to measure and once to write.
#pragma once
#include "admin/text.h"

#define TABLE_COLUMNS 7

struct table {
    struct text *out; // NULL while measuring
    uint32_t columns, column, gap;
    size_t width[TABLE_COLUMNS];
};

void table_init(struct table *t, uint32_t columns, uint32_t gap);
void table_begin_writing(struct table *t, struct text *out);
void table_cell(struct table *t, struct slice text); // after the last column the row ends
