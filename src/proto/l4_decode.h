// Looks at the bytes of a relayed connection as they pass by, and counts what they ask for and are
// answered: MongoDB's wire protocol, MySQL's client/server protocol, Redis' RESP 2 and 3. Nothing
// is kept but a few bytes of the message at hand, nothing is held back, changed or required: what
// cannot be read is counted once and not looked at any more. Without I/O; one thread.
#pragma once
#include "core/slice.h"
#include <stdint.h>

enum l4_protocol { L4_PLAIN, L4_MONGO, L4_MYSQL, L4_REDIS, L4_PROTOCOLS };

enum l4_family { // a metric of each
    L4_FAMILY_MONGO,
    L4_FAMILY_MYSQL_EVENT,
    L4_FAMILY_MYSQL_COMMAND,
    L4_FAMILY_REDIS_COMMAND,
    L4_FAMILY_REDIS_ERROR,
    L4_FAMILY_UNREADABLE,
    L4_FAMILIES
};

// What is counted. X(id, family, label); "" has no label. MongoDB's are those of Envoy's
// mongo_proxy (op_…), and msg and compressed, which it does not know; MySQL's events those of its
// mysql_proxy.
#define L4_MONGO_TABLE(X)                                       \
    X(MONGO_QUERY, MONGO, "query")                              \
    X(MONGO_QUERY_TAILABLE, MONGO, "query_tailable_cursor")     \
    X(MONGO_QUERY_NO_TIMEOUT, MONGO, "query_no_cursor_timeout") \
    X(MONGO_QUERY_AWAIT, MONGO, "query_await_data")             \
    X(MONGO_QUERY_EXHAUST, MONGO, "query_exhaust")              \
    X(MONGO_INSERT, MONGO, "insert")                            \
    X(MONGO_UPDATE, MONGO, "update")                            \
    X(MONGO_DELETE, MONGO, "delete")                            \
    X(MONGO_GET_MORE, MONGO, "get_more")                        \
    X(MONGO_KILL_CURSORS, MONGO, "kill_cursors")                \
    X(MONGO_COMMAND, MONGO, "command")                          \
    X(MONGO_COMMAND_REPLY, MONGO, "command_reply")              \
    X(MONGO_COMPRESSED, MONGO, "compressed")                    \
    X(MONGO_MSG, MONGO, "msg")                                  \
    X(MONGO_MSG_REPLY, MONGO, "msg_reply")                      \
    X(MONGO_REPLY, MONGO, "reply")                              \
    X(MONGO_REPLY_NO_CURSOR, MONGO, "reply_cursor_not_found")   \
    X(MONGO_REPLY_FAILURE, MONGO, "reply_query_failure")        \
    X(MONGO_REPLY_CURSOR, MONGO, "reply_valid_cursor")

#define L4_MYSQL_TABLE(X)                                              \
    X(MYSQL_SESSION, MYSQL_EVENT, "session")                           \
    X(MYSQL_LOGIN, MYSQL_EVENT, "login_attempt")                       \
    X(MYSQL_LOGIN_FAILURE, MYSQL_EVENT, "login_failure")               \
    X(MYSQL_AUTH_SWITCH, MYSQL_EVENT, "auth_switch_request")           \
    X(MYSQL_TLS, MYSQL_EVENT, "upgraded_to_ssl")                       \
    X(MYSQL_ERROR, MYSQL_EVENT, "error")                               \
    X(MYSQL_SLEEP, MYSQL_COMMAND, "sleep")                             \
    X(MYSQL_QUIT, MYSQL_COMMAND, "quit")                               \
    X(MYSQL_INIT_DB, MYSQL_COMMAND, "init_db")                         \
    X(MYSQL_QUERY, MYSQL_COMMAND, "query")                             \
    X(MYSQL_FIELD_LIST, MYSQL_COMMAND, "field_list")                   \
    X(MYSQL_CREATE_DB, MYSQL_COMMAND, "create_db")                     \
    X(MYSQL_DROP_DB, MYSQL_COMMAND, "drop_db")                         \
    X(MYSQL_REFRESH, MYSQL_COMMAND, "refresh")                         \
    X(MYSQL_SHUTDOWN, MYSQL_COMMAND, "shutdown")                       \
    X(MYSQL_STATISTICS, MYSQL_COMMAND, "statistics")                   \
    X(MYSQL_PROCESS_INFO, MYSQL_COMMAND, "process_info")               \
    X(MYSQL_CONNECT, MYSQL_COMMAND, "connect")                         \
    X(MYSQL_PROCESS_KILL, MYSQL_COMMAND, "process_kill")               \
    X(MYSQL_DEBUG, MYSQL_COMMAND, "debug")                             \
    X(MYSQL_PING, MYSQL_COMMAND, "ping")                               \
    X(MYSQL_TIME, MYSQL_COMMAND, "time")                               \
    X(MYSQL_DELAYED_INSERT, MYSQL_COMMAND, "delayed_insert")           \
    X(MYSQL_CHANGE_USER, MYSQL_COMMAND, "change_user")                 \
    X(MYSQL_BINLOG_DUMP, MYSQL_COMMAND, "binlog_dump")                 \
    X(MYSQL_TABLE_DUMP, MYSQL_COMMAND, "table_dump")                   \
    X(MYSQL_CONNECT_OUT, MYSQL_COMMAND, "connect_out")                 \
    X(MYSQL_REGISTER_SLAVE, MYSQL_COMMAND, "register_slave")           \
    X(MYSQL_STMT_PREPARE, MYSQL_COMMAND, "stmt_prepare")               \
    X(MYSQL_STMT_EXECUTE, MYSQL_COMMAND, "stmt_execute")               \
    X(MYSQL_STMT_SEND_LONG_DATA, MYSQL_COMMAND, "stmt_send_long_data") \
    X(MYSQL_STMT_CLOSE, MYSQL_COMMAND, "stmt_close")                   \
    X(MYSQL_STMT_RESET, MYSQL_COMMAND, "stmt_reset")                   \
    X(MYSQL_SET_OPTION, MYSQL_COMMAND, "set_option")                   \
    X(MYSQL_STMT_FETCH, MYSQL_COMMAND, "stmt_fetch")                   \
    X(MYSQL_DAEMON, MYSQL_COMMAND, "daemon")                           \
    X(MYSQL_BINLOG_DUMP_GTID, MYSQL_COMMAND, "binlog_dump_gtid")       \
    X(MYSQL_RESET_CONNECTION, MYSQL_COMMAND, "reset_connection")       \
    X(MYSQL_CLONE, MYSQL_COMMAND, "clone")                             \
    X(MYSQL_STMT_BULK_EXECUTE, MYSQL_COMMAND, "stmt_bulk_execute")

// The first one stands for all that are not named, which follow in their order.
// clang-format off
#define L4_REDIS_COMMANDS(X) \
    X(other) X(append) X(auth) X(blpop) X(brpop) X(bzpopmin) X(client) X(cluster) \
    X(command) X(config) X(dbsize) X(decr) X(decrby) X(del) X(discard) X(echo) X(eval) \
    X(evalsha) X(exec) X(exists) X(expire) X(expireat) X(flushall) X(flushdb) X(geoadd) \
    X(get) X(getdel) X(getex) X(getrange) X(getset) X(hdel) X(hello) X(hexists) X(hget) \
    X(hgetall) X(hincrby) X(hkeys) X(hlen) X(hmget) X(hmset) X(hscan) X(hset) X(hvals) \
    X(incr) X(incrby) X(info) X(keys) X(lindex) X(llen) X(lpop) X(lpush) X(lrange) \
    X(lrem) X(ltrim) X(mget) X(monitor) X(mset) X(multi) X(object) X(persist) X(pexpire) \
    X(ping) X(psetex) X(psubscribe) X(psync) X(pttl) X(publish) X(quit) X(rename) \
    X(rpop) X(rpush) X(sadd) X(scan) X(scard) X(script) X(select) X(set) X(setex) \
    X(setnx) X(setrange) X(sismember) X(smembers) X(spop) X(srem) X(sscan) X(strlen) \
    X(subscribe) X(sync) X(ttl) X(type) X(unlink) X(unsubscribe) X(unwatch) X(wait) \
    X(watch) X(xack) X(xadd) X(xlen) X(xrange) X(xread) X(xreadgroup) X(zadd) X(zcard) \
    X(zincrby) X(zrange) X(zrangebyscore) X(zrank) X(zrem) X(zrevrange) X(zscan) \
    X(zscore)
// clang-format on

enum l4_op {
#define X(id, family, label) L4_OP_##id,
    L4_MONGO_TABLE(X) L4_MYSQL_TABLE(X)
#undef X
#define X(name) L4_OP_REDIS_##name,
        L4_REDIS_COMMANDS(X)
#undef X
            L4_OP_REDIS_ERROR,
    L4_OP_UNREADABLE_MONGO,
    L4_OP_UNREADABLE_MYSQL,
    L4_OP_UNREADABLE_REDIS,
    L4_OP_COUNT
};
extern const struct l4_op_info {
    enum l4_family family;
    const char *label; // its value; "": there is but one of the family
} l4_ops[L4_OP_COUNT];

#define L4_REDIS_NAME_MAX 16u // longer ones are not in the table
#define L4_REDIS_DEPTH 8u     // of replies in replies

struct l4_side { // of one direction
    union {
        struct {
            uint8_t bytes[28]; // of the message's beginning
            uint8_t len;
        } mongo;
        struct {
            uint8_t bytes[8]; // the header, and what follows it
            uint8_t len;
            bool continued; // the packet before it was full: this is more of the same
        } mysql;
        struct {
            char name[L4_REDIS_NAME_MAX]; // of the command
            uint8_t name_len, state, depth;
            bool negative, digits, cr;
            uint64_t number;                  // being read
            uint64_t missing[L4_REDIS_DEPTH]; // elements of each reply that is open
        } redis;
    };
    uint64_t skip; // bytes of no interest that come next
};

struct l4_decoder {
    enum l4_protocol protocol;
    bool stopped; // it need not be fed any more
    void (*count)(void *arg, enum l4_op op);
    void *arg;
    struct l4_side client, server;
    struct {
        uint8_t phase;
        bool compressed, local_files, asked, infile;
    } mysql;
};

void l4_decoder_init(struct l4_decoder *d, enum l4_protocol protocol,
                     void (*count)(void *arg, enum l4_op op), void *arg);
// The next bytes of one side, in pieces of any size.
void l4_decode(struct l4_decoder *d, bool from_client, struct slice bytes);
// "mongo", "mysql", "redis"; L4_PLAIN for any other name.
enum l4_protocol l4_protocol_parse(struct slice name);
