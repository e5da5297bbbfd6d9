// MySQL's client/server protocol: packets with their length and number in front. The server greets,
// the client logs in (or asks for TLS: the rest is not for us), then it sends commands, one byte
// each that says which. Owns nothing.
#include "proto/l4_decode_internal.h"

#define HEAD 4u
#define FULL 0xffffffu // of a packet that another goes on with
#define SSL_REQUEST_MAX 32u
#define CLIENT_COMPRESS (1u << 5)
#define CLIENT_LOCAL_FILES (1u << 7)
#define CLIENT_SSL (1u << 11)
#define CLIENT_ZSTD (1u << 26)
#define OK_PACKET 0x00
#define AUTH_SWITCH 0xfe
#define ERROR_PACKET 0xff
#define INFILE_REQUEST 0xfb

enum phase { GREETING, LOGIN, AUTHENTICATION, COMMANDS };

static const uint8_t commands[256] = {
    // 0: there is no such one
    [0x00] = L4_OP_MYSQL_SLEEP,
    [0x01] = L4_OP_MYSQL_QUIT,
    [0x02] = L4_OP_MYSQL_INIT_DB,
    [0x03] = L4_OP_MYSQL_QUERY,
    [0x04] = L4_OP_MYSQL_FIELD_LIST,
    [0x05] = L4_OP_MYSQL_CREATE_DB,
    [0x06] = L4_OP_MYSQL_DROP_DB,
    [0x07] = L4_OP_MYSQL_REFRESH,
    [0x08] = L4_OP_MYSQL_SHUTDOWN,
    [0x09] = L4_OP_MYSQL_STATISTICS,
    [0x0a] = L4_OP_MYSQL_PROCESS_INFO,
    [0x0b] = L4_OP_MYSQL_CONNECT,
    [0x0c] = L4_OP_MYSQL_PROCESS_KILL,
    [0x0d] = L4_OP_MYSQL_DEBUG,
    [0x0e] = L4_OP_MYSQL_PING,
    [0x0f] = L4_OP_MYSQL_TIME,
    [0x10] = L4_OP_MYSQL_DELAYED_INSERT,
    [0x11] = L4_OP_MYSQL_CHANGE_USER,
    [0x12] = L4_OP_MYSQL_BINLOG_DUMP,
    [0x13] = L4_OP_MYSQL_TABLE_DUMP,
    [0x14] = L4_OP_MYSQL_CONNECT_OUT,
    [0x15] = L4_OP_MYSQL_REGISTER_SLAVE,
    [0x16] = L4_OP_MYSQL_STMT_PREPARE,
    [0x17] = L4_OP_MYSQL_STMT_EXECUTE,
    [0x18] = L4_OP_MYSQL_STMT_SEND_LONG_DATA,
    [0x19] = L4_OP_MYSQL_STMT_CLOSE,
    [0x1a] = L4_OP_MYSQL_STMT_RESET,
    [0x1b] = L4_OP_MYSQL_SET_OPTION,
    [0x1c] = L4_OP_MYSQL_STMT_FETCH,
    [0x1d] = L4_OP_MYSQL_DAEMON,
    [0x1e] = L4_OP_MYSQL_BINLOG_DUMP_GTID,
    [0x1f] = L4_OP_MYSQL_RESET_CONNECTION,
    [0x20] = L4_OP_MYSQL_CLONE,
    [0xfa] = L4_OP_MYSQL_STMT_BULK_EXECUTE,
};
_Static_assert(L4_OP_MYSQL_SLEEP > 0 && L4_OP_MYSQL_STMT_BULK_EXECUTE < 256, "as bytes");

struct packet { // the beginning of one
    uint32_t len;
    uint8_t number;
    const uint8_t *body; // up to four bytes
};

// ---- the server's

static void greeting(struct l4_decoder *d, const struct packet *p)
{
    uint8_t version = p->len ? p->body[0] : 0;
    if (version == ERROR_PACKET) { // too many connections
        l4_count(d, L4_OP_MYSQL_ERROR);
        d->stopped = true;
    } else if (version != 9 && version != 10) {
        l4_unreadable(d);
    } else {
        l4_count(d, L4_OP_MYSQL_SESSION);
        d->mysql.phase = LOGIN;
    }
}

// What else there is belongs to the method of authentication.
static void authentication(struct l4_decoder *d, const struct packet *p)
{
    uint8_t first = p->len ? p->body[0] : 0x01;
    if (first == OK_PACKET) {
        d->mysql.phase = COMMANDS;
        d->stopped = d->mysql.compressed; // packets in packets from here on
    } else if (first == ERROR_PACKET) {
        l4_count(d, L4_OP_MYSQL_LOGIN_FAILURE);
        d->stopped = true;
    } else if (first == AUTH_SWITCH) {
        l4_count(d, L4_OP_MYSQL_AUTH_SWITCH);
    }
}

// No row and no definition of a column begins with the byte of an error.
static void answer(struct l4_decoder *d, const struct packet *p)
{
    if (p->len && p->body[0] == ERROR_PACKET)
        l4_count(d, L4_OP_MYSQL_ERROR);
    else if (p->len && p->body[0] == INFILE_REQUEST && p->number == 1 && d->mysql.asked)
        d->mysql.infile = d->mysql.local_files;
    d->mysql.asked = false;
}

static void from_server(struct l4_decoder *d, const struct packet *p)
{
    switch (d->mysql.phase) {
    case GREETING:
        greeting(d, p);
        break;
    case LOGIN: // a server that gives up on a silent client says why
        if (p->len && p->body[0] == ERROR_PACKET)
            l4_count(d, L4_OP_MYSQL_ERROR);
        else
            l4_unreadable(d);
        d->stopped = true;
        break;
    case AUTHENTICATION:
        authentication(d, p);
        break;
    default:
        answer(d, p);
        break;
    }
}

// ---- the client's

static void login(struct l4_decoder *d, const struct packet *p)
{
    uint32_t flags = p->body[0] | (uint32_t)p->body[1] << 8 | (uint32_t)p->body[2] << 16 |
                     (uint32_t)p->body[3] << 24;
    if (p->len < 4) {
        l4_unreadable(d);
    } else if ((flags & CLIENT_SSL) && p->len <= SSL_REQUEST_MAX) {
        l4_count(d, L4_OP_MYSQL_TLS);
        d->stopped = true;
    } else {
        l4_count(d, L4_OP_MYSQL_LOGIN);
        d->mysql.compressed = flags & (CLIENT_COMPRESS | CLIENT_ZSTD);
        d->mysql.local_files = flags & CLIENT_LOCAL_FILES;
        d->mysql.phase = AUTHENTICATION;
    }
}

static void command(struct l4_decoder *d, const struct packet *p)
{
    if (d->mysql.infile) { // a file, up to an empty packet
        d->mysql.infile = p->len > 0;
        return;
    }
    if (p->number != 0) // of a new authentication
        return;
    uint8_t op = p->len ? commands[p->body[0]] : 0;
    if (op == 0) {
        l4_unreadable(d);
        return;
    }
    l4_count(d, (enum l4_op)op);
    d->mysql.asked = op == L4_OP_MYSQL_QUERY;
}

static void from_client_packet(struct l4_decoder *d, const struct packet *p)
{
    switch (d->mysql.phase) {
    case GREETING: // the server speaks first
        l4_unreadable(d);
        break;
    case LOGIN:
        login(d, p);
        break;
    case COMMANDS:
        command(d, p);
        break;
    default:
        break;
    }
}

void l4_mysql_feed(struct l4_decoder *d, bool from_client, struct slice in)
{
    struct l4_side *s = l4_side_of(d, from_client);
    uint8_t *bytes = s->mysql.bytes;
    while (in.len > 0 && !d->stopped) {
        l4_skip(s, &in);
        if (!l4_gather(bytes, &s->mysql.len, HEAD, &in))
            return;
        struct packet p = {.len = bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16,
                           .number = bytes[3],
                           .body = bytes + HEAD};
        uint32_t kept = p.len < 4 ? p.len : 4;
        if (!l4_gather(bytes, &s->mysql.len, HEAD + kept, &in))
            return;
        bool more = s->mysql.continued;
        s->mysql.continued = p.len == FULL;
        s->mysql.len = 0;
        s->skip = p.len - kept;
        if (!more && from_client)
            from_client_packet(d, &p);
        else if (!more)
            from_server(d, &p);
    }
}
