// h1_headbuf: a head in one piece or in two, and what follows it.
#include "proto/h1_headbuf.h"
#include "proto/h1_parse.h"
#include "test.h"

#define HEAD_TEXT "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"

static const char text[] = HEAD_TEXT "body";
static const size_t head_len = sizeof(HEAD_TEXT) - 1;

static struct exchange *exchange_with(size_t room)
{
    static char arena[4096];
    static struct exchange x;
    x.arena_cur = arena;
    x.arena_end = arena + room;
    return &x;
}

static enum err parse(struct h1_headbuf *b, struct h1_message *m)
{
    static struct head h;
    head_reset(&h);
    return h1_parse_request(b->base, b->len, &b->scanned, &h, m);
}

TEST(h1_headbuf_takes_a_whole_head_and_nothing_behind_it)
{
    struct exchange *x = exchange_with(4096);
    struct h1_headbuf b = {0};
    struct h1_message m;
    EXPECT_EQ(h1_headbuf_fill(&b, NULL, x, (struct slice){text, sizeof(text) - 1}), head_len);
    EXPECT_EQ(b.scanned, 0); // for the parser to read in one pass
    EXPECT_EQ(parse(&b, &m), OK);
    h1_headbuf_keep(&b, x, m.head_len);
    EXPECT(x->arena_cur - (x->arena_end - 4096) < (ptrdiff_t)head_len + 16);
}

TEST(h1_headbuf_of_two_pieces)
{
    for (size_t cut = 1; cut < head_len; cut++) {
        struct exchange *x = exchange_with(4096);
        struct h1_headbuf b = {0};
        struct h1_message m;
        EXPECT_EQ(h1_headbuf_fill(&b, NULL, x, (struct slice){text, cut}), cut);
        EXPECT_EQ(b.scanned, cut); // the parser does not try what cannot be whole
        EXPECT_EQ(parse(&b, &m), MORE);
        size_t rest = sizeof(text) - 1 - cut;
        EXPECT_EQ(h1_headbuf_fill(&b, NULL, x, (struct slice){text + cut, rest}), rest);
        EXPECT_EQ(parse(&b, &m), OK);
        EXPECT_EQ(m.head_len, head_len);
    }
}

TEST(h1_headbuf_knows_what_it_has_copied)
{
    struct exchange_pools pools;
    exchange_pools_init(&pools, 1);
    for (size_t room = 1; room < head_len; room++) {
        struct exchange *x = exchange_with(1024 + room);
        struct h1_headbuf b = {0};
        struct h1_message m;
        struct slice in = {text, sizeof(text) - 1};
        EXPECT_EQ(h1_headbuf_fill(&b, &pools, x, in), room);
        EXPECT(b.scanned <= room);
        EXPECT_EQ(parse(&b, &m), MORE);
        in = slice_from(in, room);
        EXPECT_EQ(h1_headbuf_fill(&b, &pools, x, in), in.len);
        EXPECT_EQ(parse(&b, &m), OK);
        EXPECT_EQ(m.head_len, head_len);
        pool_put(&pools.big, x->big);
        x->big = NULL;
    }
    exchange_pools_fini(&pools);
}
