// Tables for the terminal. Owns nothing; one thread.
#include "admin/table.h"
#include "core/check.h"

void table_init(struct table *t, uint32_t columns, uint32_t gap)
{
    check(columns <= TABLE_COLUMNS);
    *t = (struct table){.columns = columns, .gap = gap};
}

void table_begin_writing(struct table *t, struct text *out)
{
    check(t->column == 0);
    t->out = out;
}

void table_cell(struct table *t, struct slice text)
{
    uint32_t i = t->column;
    bool last = i + 1 == t->columns;
    t->column = last ? 0 : i + 1;
    if (!t->out) {
        if (text.len > t->width[i])
            t->width[i] = text.len;
        return;
    }
    text_put(t->out, text);
    for (size_t n = text.len; !last && n < t->width[i] + t->gap; n++)
        text_char(t->out, ' ');
    if (last)
        text_char(t->out, '\n');
}
