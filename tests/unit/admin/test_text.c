#include "admin/table.h"
#include "admin/text.h"
#include "core/rng.h"
#include "test.h"

static const char *finish(struct text *t)
{
    text_char(t, '\0');
    return t->data;
}

static const char *json(struct text *t, const char *bytes, size_t len)
{
    text_clear(t);
    text_json(t, (struct slice){bytes, len});
    return finish(t);
}

TEST(text_json_is_always_valid_json)
{
    struct text t;
    text_init(&t, 4096);
    EXPECT_STR(json(&t, "plain", 5), "\"plain\"");
    EXPECT_STR(json(&t, "a\"b\\c", 5), "\"a\\\"b\\\\c\"");
    EXPECT_STR(json(&t, "\n\t\r\0\x7f", 5), "\"\\n\\t\\u000d\\u0000\\u007f\"");
    EXPECT_STR(json(&t, "\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80", 9),
               "\"\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80\"");
    // overlong, surrogate, beyond U+10FFFF, cut short, stray continuation
    EXPECT_STR(json(&t, "\xc0\xaf", 2), "\"\\ufffd\\ufffd\"");
    EXPECT_STR(json(&t, "\xed\xa0\x80", 3), "\"\\ufffd\\ufffd\\ufffd\"");
    EXPECT_STR(json(&t, "\xf4\x90\x80\x80", 4), "\"\\ufffd\\ufffd\\ufffd\\ufffd\"");
    EXPECT_STR(json(&t, "x\xe4\xb8", 3), "\"x\\ufffd\\ufffd\"");
    EXPECT_STR(json(&t, "\x80z", 2), "\"\\ufffdz\"");
    text_fini(&t);
}

TEST(text_escaped_keeps_a_line_a_line)
{
    struct text t;
    text_init(&t, 4096);
    text_escaped(&t, SLICE("a\r\nb\"c\\d\x1b[31m\xff"));
    EXPECT_STR(finish(&t), "a\\x0d\\x0ab\\\"c\\\\d\\x1b[31m\\xff");
    text_fini(&t);
}

TEST(text_limits_are_kept)
{
    struct text t;
    char buf[8];
    text_init_fixed(&t, buf, sizeof(buf));
    text_puts(&t, "12345678");
    EXPECT(!t.overflow);
    text_puts(&t, "9");
    EXPECT(t.overflow);
    EXPECT_EQ(t.len, 8);
    text_init(&t, 2000);
    for (int i = 0; i < 300; i++)
        text_u64(&t, 1234567890);
    EXPECT(t.overflow);
    EXPECT_EQ(t.len, 2000);
    text_clear(&t);
    text_printf(&t, "%s-%0600d", "long", 7);
    EXPECT_EQ(t.len, 605);
    EXPECT(!t.overflow);
    text_fini(&t);
}

TEST(table_columns_are_as_wide_as_their_widest_cell)
{
    struct table table;
    struct text t;
    text_init(&t, 4096);
    table_init(&table, 3, 2);
    for (int pass = 0; pass < 2; pass++) {
        const char *cells[] = {"A", "BB", "C", "long", "", "x"};
        for (int i = 0; i < 6; i++)
            table_cell(&table, slice_of(cells[i]));
        if (pass == 0)
            table_begin_writing(&table, &t);
    }
    EXPECT_STR(finish(&t), "A     BB  C\nlong      x\n");
    text_fini(&t);
}

TEST(text_escaping_does_not_depend_on_position)
{
    struct text whole, single;
    struct rng r;
    char bytes[64];
    rng_init(&r, 7);
    text_init(&whole, 4096);
    text_init(&single, 4096);
    for (int i = 0; i < 20000; i++) {
        size_t n = rng_below(&r, sizeof(bytes));
        for (size_t k = 0; k < n; k++) // mostly plain, so that runs are long
            bytes[k] = (char)(rng_below(&r, 12) ? 'a' + rng_below(&r, 26) : rng_below(&r, 256));
        text_clear(&whole);
        text_clear(&single);
        text_escaped(&whole, (struct slice){bytes, n});
        for (size_t k = 0; k < n; k++)
            text_escaped(&single, (struct slice){bytes + k, 1});
        REQUIRE(whole.len == single.len && (n == 0 || memcmp(whole.data, single.data, whole.len) == 0));
    }
    text_fini(&whole);
    text_fini(&single);
}
