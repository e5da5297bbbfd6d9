// What the decoders of relayed connections count: each conversation is fed whole and cut into
// pieces of every small size, and the counts must be the same.
#include "proto/l4_decode.h"
#include "test.h"
#include <stdio.h>
#include <stdlib.h>

#define TURNS_MAX 64

static struct turn {
    bool client;
    uint8_t *bytes;
    size_t len;
} turns[TURNS_MAX];
static uint32_t turn_count;
static enum l4_protocol protocol;
static uint32_t counts[L4_OP_COUNT];
static bool stopped;

static void begin(enum l4_protocol p)
{
    protocol = p;
    for (uint32_t i = 0; i < turn_count; i++)
        free(turns[i].bytes);
    turn_count = 0;
}

static void say(bool client, const void *bytes, size_t len)
{
    struct turn *t = &turns[turn_count++];
    t->client = client;
    t->len = len;
    t->bytes = malloc(len + 1);
    memcpy(t->bytes, bytes, len);
}
#define CLIENT(lit) say(true, lit, sizeof(lit) - 1)
#define SERVER(lit) say(false, lit, sizeof(lit) - 1)

static void count(void *arg, enum l4_op op)
{
    (void)arg;
    counts[op]++;
}

static void play(size_t piece)
{
    struct l4_decoder d;
    memset(counts, 0, sizeof(counts));
    l4_decoder_init(&d, protocol, count, NULL);
    for (uint32_t i = 0; i < turn_count; i++) {
        struct slice rest = {(const char *)turns[i].bytes, turns[i].len};
        while (rest.len > 0) {
            struct slice some = {rest.ptr, rest.len < piece ? rest.len : piece};
            l4_decode(&d, turns[i].client, some);
            rest = slice_from(rest, some.len);
        }
    }
    stopped = d.stopped;
}

// "label=N label=N", in the table's order, the same however it is cut.
static const char *counted(void)
{
    static char text[1024], again[1024];
    char *to = text;
    for (size_t piece = 1 << 20; piece > 0; piece = piece > 40 ? 40 : piece - 1) {
        size_t len = 0;
        play(piece);
        to[0] = '\0';
        for (int i = 0; i < L4_OP_COUNT; i++)
            if (counts[i])
                len += (size_t)snprintf(to + len, sizeof(text) - len, "%s%s=%u", len ? " " : "",
                                        l4_ops[i].label[0] ? l4_ops[i].label : "error", counts[i]);
        if (to == again)
            EXPECT_STR(again, text);
        to = again;
    }
    return text;
}

// ---- MongoDB

static void message(bool client, uint32_t op, const void *body, uint32_t len)
{
    uint8_t bytes[4096] = {0};
    uint32_t fields[] = {16 + len, 7, 0, op};
    memcpy(bytes, fields, 16);
    memcpy(bytes + 16, body, len);
    say(client, bytes, 16 + len);
}

TEST(l4_mongo_counts_operations)
{
    uint8_t body[1000] = {0};
    begin(L4_MONGO);
    body[0] = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6;
    message(true, 2004, body, 1000);
    body[0] = 0;
    message(true, 2004, body, 4);
    body[0] = 2; // failure
    message(false, 1, body, 20);
    body[0] = 1;
    body[4] = 9; // no cursor, and one
    message(false, 1, body, 500);
    message(true, 2013, body, 300);
    message(true, 2013, body, 0);
    message(false, 2013, body, 40);
    message(true, 2012, body, 33);
    for (uint32_t op = 2001; op <= 2007; op++)
        if (op != 2003 && op != 2004)
            message(true, op, body, 24);
    message(true, 2010, body, 8);
    message(false, 2011, body, 8);
    EXPECT_STR(counted(), "query=2 query_tailable_cursor=1 query_no_cursor_timeout=1 "
                          "query_await_data=1 query_exhaust=1 insert=1 update=1 delete=1 "
                          "get_more=1 kill_cursors=1 command=1 command_reply=1 compressed=1 msg=2 "
                          "msg_reply=1 reply=2 reply_cursor_not_found=1 reply_query_failure=1 "
                          "reply_valid_cursor=1");
    EXPECT(!stopped);
}

TEST(l4_mongo_stops_at_what_it_cannot_read)
{
    static const uint32_t bad[][2] = {
        {16, 2003}, {15, 2013}, {19, 2004}, {27, 1}, {48000001, 2013}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint32_t head[8] = {bad[i][0], 1, 0, bad[i][1]};
        begin(L4_MONGO);
        message(true, 2013, "", 0);
        say(true, head, sizeof(head));
        message(true, 2013, "", 0); // is not looked at
        EXPECT_STR(counted(), "msg=1 mongo=1");
        EXPECT(stopped);
    }
}

// ---- MySQL

static void packet(bool client, uint8_t number, const void *body, uint32_t len)
{
    static uint8_t bytes[(1u << 24) + 4];
    bytes[0] = (uint8_t)len;
    bytes[1] = (uint8_t)(len >> 8);
    bytes[2] = (uint8_t)(len >> 16);
    bytes[3] = number;
    if (body)
        memcpy(bytes + 4, body, len);
    say(client, bytes, len + 4);
}
#define PACKET(client, number, lit) packet(client, number, lit, sizeof(lit) - 1)
#define FLAGS(a, b) a b "\0\0" // CLIENT_PROTOCOL_41 and others
#define LOGIN FLAGS("\x85", "\xa2") "\0\0\0\1\x21root\0"
#define OK_PACKET "\0\0\0\2\0\0\0"

static void log_in(const char *login, uint32_t len)
{
    begin(L4_MYSQL);
    PACKET(false, 0,
           "\x0a"
           "5.5.5-10.11\0");
    packet(true, 1, login, len);
    PACKET(false, 2,
           "\xfe"
           "mysql_native_password\0");
    PACKET(true, 3, "\xfepassword"); // of its length, and no command
    PACKET(false, 4, OK_PACKET);
}

TEST(l4_mysql_counts_logins_and_commands)
{
    log_in(LOGIN, sizeof(LOGIN) - 1);
    PACKET(true, 0,
           "\x03"
           "select 1");
    PACKET(false, 1, "\1");
    PACKET(false, 2, "\3def");
    PACKET(false, 3, "\xfe\0\0\2\0");
    PACKET(false, 4, "\xfb"); // a row of NULL
    PACKET(false, 5, "\xfe\0\0\2\0");
    PACKET(true, 0,
           "\x03"
           "drop everything");
    PACKET(false, 1, "\xff\x28\4#42000no");
    PACKET(true, 0, "\x0e");
    PACKET(false, 1, OK_PACKET);
    PACKET(true, 0, "\x16select ?");
    PACKET(true, 0, "\xfa");
    PACKET(true, 0, "\x01");
    EXPECT_STR(counted(), "session=1 login_attempt=1 auth_switch_request=1 error=1 quit=1 query=2 "
                          "ping=1 stmt_prepare=1 stmt_bulk_execute=1");
    EXPECT(!stopped);
}

TEST(l4_mysql_failed_login_is_the_end)
{
    begin(L4_MYSQL);
    PACKET(false, 0,
           "\x0a"
           "8.0\0");
    PACKET(true, 1, LOGIN);
    PACKET(false, 2, "\xff\x15\4#28000denied");
    EXPECT_STR(counted(), "session=1 login_attempt=1 login_failure=1");
    EXPECT(stopped);
}

TEST(l4_mysql_ends_where_tls_begins)
{
    begin(L4_MYSQL);
    PACKET(false, 0,
           "\x0a"
           "8.0\0");
    PACKET(true, 1,
           FLAGS("\x85", "\xae") "\0\0\0\1\x21"
                                 "12345678901234567890123");
    CLIENT("\x16\3\1\2\0");
    EXPECT_STR(counted(), "session=1 upgraded_to_ssl=1");
    EXPECT(stopped);
}

TEST(l4_mysql_ends_where_compression_begins)
{
    static const char login[] = FLAGS("\xa5", "\xa2") "\0\0\0\1\x21root\0";
    log_in(login, sizeof(login) - 1);
    CLIENT("\x10\0\0\0\0\0\0");
    EXPECT_STR(counted(), "session=1 login_attempt=1 auth_switch_request=1");
    EXPECT(stopped);
}

// A query of 16 MiB comes in several packets, of which only the first has a command.
TEST(l4_mysql_long_commands_are_one)
{
    static uint8_t query[0xffffff] = {3};
    struct l4_decoder d;
    log_in(LOGIN, sizeof(LOGIN) - 1);
    packet(true, 0, query, sizeof(query));
    packet(true, 1, "\x0e", 1);
    PACKET(true, 0, "\x0e");
    (void)d;
    play(1 << 16);
    EXPECT_EQ(counts[L4_OP_MYSQL_QUERY], 1);
    EXPECT_EQ(counts[L4_OP_MYSQL_PING], 1);
    EXPECT(!stopped);
}

TEST(l4_mysql_files_are_no_commands)
{
    log_in(LOGIN, sizeof(LOGIN) - 1); // with CLIENT_LOCAL_FILES
    PACKET(true, 0, "\x03load data local infile 'x' into table t");
    PACKET(false, 1, "\xfb/x");
    for (int i = 0; i < 3; i++)
        PACKET(true, 0,
               "\x01"
               "a line"); // numbers wrap
    PACKET(true, 0, "");
    PACKET(false, 5, OK_PACKET);
    PACKET(true, 0, "\x01");
    EXPECT_STR(counted(), "session=1 login_attempt=1 auth_switch_request=1 quit=1 query=1");
}

TEST(l4_mysql_stops_at_what_it_cannot_read)
{
    begin(L4_MYSQL);
    CLIENT("GET / HTTP/1.1\r\n\r\n");
    EXPECT_STR(counted(), "mysql=1");
    begin(L4_MYSQL);
    SERVER("HTTP/1.1 200 OK\r\n\r\n");
    EXPECT_STR(counted(), "mysql=1");
    EXPECT(stopped);
    log_in(LOGIN, sizeof(LOGIN) - 1);
    PACKET(true, 0, "\x77");
    EXPECT_STR(counted(), "session=1 login_attempt=1 auth_switch_request=1 mysql=1");
    begin(L4_MYSQL);
    PACKET(false, 0, "\xff\x10\4too many");
    EXPECT_STR(counted(), "error=1");
    EXPECT(stopped);
}

// ---- Redis

TEST(l4_redis_counts_commands)
{
    begin(L4_REDIS);
    CLIENT("*2\r\n$3\r\nGET\r\n$1\r\na\r\n*3\r\n$3\r\nset\r\n$1\r\na\r\n$5\r\n*1\r\n$\r\n");
    CLIENT("PING\r\n\r\nget a\r\n*1\r\n$13\r\nzrangebyscore\r\n*1\r\n$4\r\nNOPE\r\n");
    CLIENT("*1\r\n$40\r\n0123456789012345678901234567890123456789\r\n*0\r\n*-1\r\n");
    CLIENT("*2\r\n$0\r\n\r\n$2\r\nab\r\n*1\r\n$8\r\nZREVRANK\r\n*1\r\n$5\r\nother\r\n");
    SERVER("$1\r\n*\r\n+OK\r\n+PONG\r\n$-1\r\n*3\r\n:1\r\n*2\r\n+a\r\n$2\r\n-b\r\n*0\r\n");
    SERVER(
        "-ERR unknown command\r\n*-1\r\n%2\r\n+a\r\n-in a map\r\n+b\r\n|1\r\n+c\r\n+d\r\n,1.5\r\n");
    SERVER("|1\r\n+ttl\r\n:3\r\n#t\r\n_\r\n~1\r\n(123\r\n=5\r\ntxt:a\r\n>2\r\n+x\r\n+y\r\n"
           "!3\r\nbad\r\n*1\r\n$1\r\n-\r\n:-5\r\n");
    EXPECT_STR(counted(), "other=5 get=2 ping=1 set=1 zrangebyscore=1 error=3");
    EXPECT(!stopped);
}

TEST(l4_redis_knows_all_its_names)
{
#define X(name) #name,
    static const char *const names[] = {L4_REDIS_COMMANDS(X)};
#undef X
    for (size_t i = 1; i < sizeof(names) / sizeof(names[0]); i++) {
        char line[64], want[64];
        EXPECT(strlen(names[i]) <= L4_REDIS_NAME_MAX);
        begin(L4_REDIS);
        int n = snprintf(line, sizeof(line), "*1\r\n$%zu\r\n%s\r\n", strlen(names[i]), names[i]);
        say(true, line, (size_t)n);
        snprintf(want, sizeof(want), "%s=1", names[i]);
        EXPECT_STR(counted(), want);
    }
}

TEST(l4_redis_ends_where_replication_begins)
{
    begin(L4_REDIS);
    CLIENT("*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n");
    SERVER("+FULLRESYNC x 0\r\n$9\r\nREDIS0011");
    EXPECT_STR(counted(), "psync=1");
    EXPECT(stopped);
}

TEST(l4_redis_stops_at_what_it_cannot_read)
{
    static const char *const requests[] = {
        "\x16\x03\x01",
        "*a\r\n",
        "*1\r\nPING\r\n",
        "*1\r\n$-1\r\n",
        "*2000000\r\n",
        "*1\r\n$600000000\r\n",
        "*-\r\n",
        "*1\r5\n",
        "*99999999999999999999\r\n",
        "*1\r\n$3\r\nGET\r\n$",
    };
    static const char *const replies[] = {
        "HTTP/1.1 400\r\n",
        "*?\r\n",
        "$1x\r\n",
        "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n+too deep\r\n",
    };
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        begin(L4_REDIS);
        say(true, requests[i], strlen(requests[i]));
        bool late = i + 1 == sizeof(requests) / sizeof(requests[0]);
        EXPECT_STR(counted(), late ? "get=1 redis=1" : "redis=1");
        EXPECT(stopped);
    }
    for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++) {
        begin(L4_REDIS);
        say(false, replies[i], strlen(replies[i]));
        EXPECT_STR(counted(), "redis=1");
        EXPECT(stopped);
    }
}

TEST(l4_protocols_have_names)
{
    EXPECT_EQ(l4_protocol_parse(SLICE("redis")), L4_REDIS);
    EXPECT_EQ(l4_protocol_parse(SLICE("")), L4_PLAIN);
    EXPECT_EQ(l4_protocol_parse(SLICE("http")), L4_PLAIN);
}
