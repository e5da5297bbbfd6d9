// The chunked decoder: the same result wherever the input is cut, and nothing malformed passes.
#include "proto/h1_parse.h"
#include "test.h"

// Decodes `text` in pieces of `step` bytes; -1 on an error, else the length of the body.
static int decode(const char *text, size_t step, char *body, size_t *rest)
{
    struct h1_chunked c;
    struct slice data;
    size_t n = 0, len = strlen(text), at = 0;
    h1_chunked_init(&c);
    while (at < len) {
        struct slice in = {text + at, len - at < step ? len - at : step};
        at += in.len;
        while (in.len > 0) {
            enum h1_chunk_event e = h1_chunked_next(&c, &in, &data);
            if (e == H1_CHUNK_ERROR)
                return -1;
            if (e == H1_CHUNK_TRAILERS) {
                *rest = len - at + in.len;
                return (int)n;
            }
            if (e == H1_CHUNK_DATA) {
                memcpy(body + n, data.ptr, data.len);
                n += data.len;
            }
        }
    }
    *rest = len; // the end was not seen
    return (int)n;
}

TEST(h1_chunked_decodes_at_every_cut)
{
    const char text[] = "5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\n\r\nnext";
    for (size_t step = 1; step < sizeof(text); step++) {
        char body[64] = {0};
        size_t rest = 0;
        EXPECT_EQ(decode(text, step, body, &rest), 11);
        EXPECT_STR(body, "hello world");
        // What follows the last chunk's line is left alone, up to the piece it came in.
        EXPECT_EQ(rest, 6);
    }
}

static void refused(const char *text)
{
    char body[256];
    size_t rest;
    int n = decode(text, strlen(text), body, &rest);
    if (n != -1)
        test_fail(__FILE__, __LINE__, "\"%s\" was taken", text);
}

TEST(h1_chunked_refuses_malformed_sizes)
{
    refused("\r\n");
    refused("0x5\r\nhello\r\n");
    refused("-5\r\nhello\r\n");
    refused(" 5\r\nhello\r\n");
    refused("5 5\r\nhello\r\n");
    refused("5 \r\nhello\r\n");
    refused("5\nhello\r\n");
    refused("5\r\nhello\n");
    refused("5\r\nhelloX\r\n");
    refused("5\rhello\r\n");
    refused("11111111111111111\r\n");
    refused("5;a\nb\r\nhello\r\n");
    refused(
        "5;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nhello\r\n");
}

TEST(h1_chunked_checks_the_form_of_extensions)
{
    static const char *const good[] = {
        "5;a\r\nhello\r\n0\r\n\r\n",         "5;a=b;c\r\nhello\r\n0;d=e\r\n\r\n",
        "5 ; a = b\r\nhello\r\n0\r\n\r\n",   "5;a=\"b;c\\\" d\"\r\nhello\r\n0\r\n\r\n",
        "5\t;\ta\t;b\r\nhello\r\n0\r\n\r\n", "5;a=\"\" ;c\r\nhello\r\n0\r\n\r\n"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        char body[64] = {0};
        size_t rest;
        if (decode(good[i], 1, body, &rest) != 5)
            test_fail(__FILE__, __LINE__, "\"%s\" was refused", good[i]);
    }
    refused("5;\r\nhello\r\n");
    refused("5;a=\r\nhello\r\n");
    refused("5;a b\r\nhello\r\n");
    refused("5;a \r\nhello\r\n");
    refused("5;a=b c\r\nhello\r\n");
    refused("5;a=\"b\r\nhello\r\n");
    refused("5;a=\"b\"c\r\nhello\r\n");
    refused("5;a=\"\\\r\nhello\r\n");
    refused("5;a=b=c\r\nhello\r\n");
    refused("5;=b\r\nhello\r\n");
    refused("5;;a\r\nhello\r\n");
    refused("5;a/b\r\nhello\r\n");
    refused("5;\x80\r\nhello\r\n");
}
