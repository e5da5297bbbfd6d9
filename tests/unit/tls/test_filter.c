// TLS between sockets and their owners: a worker driven in the test's thread, both ends of a pair
// of sockets, or one end and bytes of the test's own.
#include "certs.h"
#include "core/check.h"
#include "core/rng.h"
#include "test.h"
#include "tls/ctx.h"
#include "tls/filter.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct end {
    struct tcp *t;
    uint32_t connects, eofs, errors, closes, sents;
    int error;
    uint8_t *got;
    size_t got_len, got_cap;
    bool echo, close_on_data, close_on_connect;
    enum tls_failure failure; // at on_error
    uint32_t flags;           // at on_closed, where `t` ends
};

static struct worker w;
static struct tcp_pools pools;
static struct tls_pools tls;
static struct end server, client;
static struct tls_ctx *server_ctx, *client_ctx, *strict_ctx;
static struct timer tick;
static char why[256];

static struct end *end_of(struct tcp *t)
{
    return t->owner;
}

static void keep(struct end *e, struct slice bytes)
{
    if (e->got_len + bytes.len > e->got_cap) {
        e->got_cap = 2 * (e->got_len + bytes.len);
        e->got = realloc(e->got, e->got_cap);
        check(e->got);
    }
    memcpy(e->got + e->got_len, bytes.ptr, bytes.len);
    e->got_len += bytes.len;
}

static void on_data(struct tcp *t, const struct slice *data, const uint16_t *bids, uint32_t n)
{
    struct end *e = end_of(t);
    EXPECT_EQ(e->connects, 1);
    EXPECT_EQ(e->eofs, 0);
    for (uint32_t i = 0; i < n; i++) {
        keep(e, data[i]);
        if (e->echo)
            EXPECT(bufq_append_buffer(&t->out, data[i], bids[i]));
        else
            bufring_put(&w.bufs, bids[i]);
    }
    if (e->echo)
        tcp_flush(t);
    if (e->close_on_data)
        tcp_close(t);
}

static void on_eof(struct tcp *t)
{
    end_of(t)->eofs++;
    if (end_of(t)->echo)
        tcp_close_flush(t);
}

static void on_sent(struct tcp *t)
{
    end_of(t)->sents++;
}

static void on_error(struct tcp *t, int error)
{
    struct end *e = end_of(t);
    e->errors++;
    e->error = error;
    if (tls_filter_conn(t))
        e->failure = tls_conn_failure(tls_filter_conn(t));
    tcp_close(t);
}

static void on_connected(struct tcp *t)
{
    end_of(t)->connects++;
    if (end_of(t)->close_on_connect)
        tcp_close(t);
}

static void on_closed(struct tcp *t)
{
    struct end *e = end_of(t);
    e->closes++;
    e->flags = t->flags;
    e->t = NULL;
    tcp_destroy(t);
}

static bool truncated(const struct end *e)
{
    return (e->t ? e->t->flags : e->flags) & TCP_TRUNCATED;
}

static const struct tcp_events events = {.on_data = on_data,
                                         .on_eof = on_eof,
                                         .on_sent = on_sent,
                                         .on_error = on_error,
                                         .on_connected = on_connected,
                                         .on_closed = on_closed};

static void on_tick(struct timer *t, uint64_t now_ns)
{
    timer_arm(&w.timers, t, now_ns + 5 * NS_PER_MS);
}

static void make_contexts(void)
{
    const struct made *ca = made_cert(&(struct made_spec){.cn = "ca", .ca = true});
    const struct made *other = made_cert(&(struct made_spec){.cn = "other", .ca = true});
    const struct made *site =
        made_cert(&(struct made_spec){.cn = "site", .issuer = ca, .names = "DNS:a.example"});
    struct tls_server_settings s = {
        .name = SLICE("test"), .identity_count = 1, .alpn = SLICE("h2,http/1.1")};
    struct tls_client_settings c = {.check_host = true};
    struct cert *cert;
    struct tls_trust *trust, *wrong;
    check(cert_parse(site->pem, site->key_pem, &cert, why, sizeof(why)) == OK);
    check(tls_trust_create(ca->pem, SLICE(""), &trust, why, sizeof(why)) == OK);
    check(tls_trust_create(other->pem, SLICE(""), &wrong, why, sizeof(why)) == OK);
    s.identities[0].cert = cert;
    check(tls_ctx_create_server(&s, &server_ctx, why, sizeof(why)) == OK);
    c.peer.trust = trust;
    check(tls_ctx_create_client(&c, &client_ctx, why, sizeof(why)) == OK);
    c.peer.trust = wrong;
    check(tls_ctx_create_client(&c, &strict_ctx, why, sizeof(why)) == OK);
    cert_destroy(cert);
    tls_trust_put(trust);
    tls_trust_put(wrong);
}

static bool set_up(uint32_t buffers)
{
    struct worker_config cfg = {.cpu = -1, .recv_buffers = buffers, .recv_buffer_bytes = 8192};
    if (worker_init(&w, &cfg) != OK || worker_begin(&w) != OK)
        return false;
    timer_init(&tick, on_tick);
    timer_arm(&w.timers, &tick, w.now_ns);
    tcp_pools_init(&pools, 2, 4000);
    if (tls_pools_init(&tls, 8, 8) != OK)
        return false;
    if (!server_ctx)
        make_contexts();
    server = client = (struct end){0};
    server.t = tcp_create(&w, &pools, &events, &server);
    client.t = tcp_create(&w, &pools, &events, &client);
    return true;
}

#define UNTIL(cond)                                          \
    for (int tries_ = 0; tries_ < 4000 && !(cond); tries_++) \
    worker_turn(&w)

static void tear_down(void)
{
    if (server.t)
        tcp_close(server.t);
    if (client.t)
        tcp_close(client.t);
    UNTIL(server.closes && client.closes);
    EXPECT(server.closes == 1 && client.closes == 1);
    EXPECT_EQ(pools.chunks.in_use, 0);
    EXPECT_EQ(tls.conns.in_use, 0);
    EXPECT_EQ(tls.filters.in_use, 0);
    EXPECT_EQ(tls.records.in_use, 0);
    EXPECT_EQ(bufring_held(&w.bufs), 0);
    worker_request_stop(&w);
    while (worker_turn(&w))
        continue;
    worker_end(&w);
    tcp_pools_fini(&pools);
    tls_pools_fini(&tls);
    worker_fini(&w);
    free(server.got);
    free(client.got);
}

static uint64_t counted(enum counter_id id)
{
    return counter_read(&w.counters.c[id]);
}

static void open_server(int fd)
{
    struct tcp_filter *f = tls_filter_create_server(&tls, server_ctx, server.t);
    check(f);
    tcp_set_filter(server.t, f);
    tcp_open(server.t, fd);
}

static void open_client(int fd, struct tls_ctx *ctx, const char *host)
{
    struct tcp_filter *f =
        tls_filter_create_client(&tls, ctx, slice_of(host), SLICE("\x08http/1.1"), client.t);
    check(f);
    tcp_set_filter(client.t, f);
    tcp_open(client.t, fd);
}

static bool open_both(struct tls_ctx *ctx, const char *host)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
        return false;
    open_server(fds[0]);
    open_client(fds[1], ctx, host);
    UNTIL((server.connects && client.connects) || server.errors || client.errors);
    return server.connects == 1 && client.connects == 1;
}

// The server alone; the other end is the test's, blocking.
static int open_server_alone(void)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return -1;
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    open_server(fds[0]);
    return fds[1];
}

static uint8_t *random_bytes(size_t len)
{
    struct rng rng;
    uint8_t *bytes = malloc(len);
    check(bytes);
    rng_init(&rng, 20261125);
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)rng_next(&rng);
    return bytes;
}

TEST(filter_carries_bytes_both_ways_and_ends)
{
    struct tls_info info;
    const size_t len = 3000000;
    REQUIRE(set_up(512));
    uint8_t *body = random_bytes(len);
    uint64_t resumed = counted(COUNTER_downstream_tls_resumed);
    REQUIRE(open_both(client_ctx, "a.example"));
    tls_conn_info(tls_filter_conn(server.t), &info);
    EXPECT(slice_eq(info.sni, SLICE("a.example")) && slice_eq(info.alpn, SLICE("http/1.1")));
    server.echo = true;
    for (size_t at = 0; at < len;) {
        size_t n = len - at < 100000 ? len - at : 100000;
        REQUIRE(bufq_append(&client.t->out, (struct slice){(const char *)body + at, n}));
        tcp_flush(client.t);
        at += n;
        UNTIL(client.got_len >= at);
    }
    EXPECT(server.got_len == len && memcmp(server.got, body, len) == 0);
    EXPECT(client.got_len == len && memcmp(client.got, body, len) == 0);
    tcp_close_flush(client.t);
    UNTIL(server.closes && client.closes);
    EXPECT_EQ(server.eofs, 1);
    EXPECT(!truncated(&server));
    EXPECT_EQ(counted(COUNTER_downstream_tls_handshakes), 1);
    EXPECT_EQ(counted(COUNTER_upstream_tls_handshakes), 1);
    EXPECT_EQ(counted(COUNTER_downstream_tls_resumed), resumed);
    tear_down();
    free(body);
}

TEST(filter_half_close_leaves_the_other_direction)
{
    REQUIRE(set_up(64));
    REQUIRE(open_both(client_ctx, "a.example"));
    REQUIRE(bufq_append(&client.t->out, SLICE("request")));
    tcp_shutdown(client.t);
    UNTIL(server.eofs);
    EXPECT(server.got_len == 7 && !truncated(&server));
    REQUIRE(bufq_append(&server.t->out, SLICE("answer")));
    tcp_flush(server.t);
    UNTIL(client.got_len == 6);
    EXPECT_EQ(client.got_len, 6);
    EXPECT_EQ(server.errors + client.errors, 0);
    tear_down();
}

TEST(filter_resumes_the_next_connection)
{
    for (int i = 0; i < 2; i++) {
        REQUIRE(set_up(64));
        REQUIRE(open_both(client_ctx, "a.example"));
        // Tickets come in front of the first answer.
        REQUIRE(bufq_append(&server.t->out, SLICE("hello")));
        tcp_flush(server.t);
        UNTIL(client.got_len == 5);
        if (i == 1) {
            EXPECT_EQ(counted(COUNTER_downstream_tls_resumed), 1);
            EXPECT_EQ(counted(COUNTER_upstream_tls_resumed), 1);
        }
        tear_down();
    }
}

TEST(filter_slow_reader_is_waited_for)
{
    const size_t len = 2000000;
    REQUIRE(set_up(512));
    uint8_t *body = random_bytes(len);
    REQUIRE(open_both(client_ctx, "a.example"));
    tcp_pause(server.t);
    REQUIRE(bufq_append(&client.t->out, (struct slice){(const char *)body, len}));
    tcp_flush(client.t);
    for (int i = 0; i < 50; i++)
        worker_turn(&w);
    EXPECT(client.t->wire.bytes <= 64 * 1024 + 8192); // and no more is sealed ahead
    EXPECT(client.t->out.bytes > len / 4);
    tcp_resume(server.t);
    UNTIL(server.got_len == len);
    EXPECT(server.got_len == len && memcmp(server.got, body, len) == 0);
    tear_down();
    free(body);
}

// Few receive buffers: records are sealed in chunks instead, and nothing stops.
TEST(filter_goes_on_without_buffers_to_borrow)
{
    const size_t len = 1000000;
    REQUIRE(set_up(16));
    uint8_t *body = random_bytes(len);
    REQUIRE(open_both(client_ctx, "a.example"));
    REQUIRE(bufq_append(&client.t->out, (struct slice){(const char *)body, len}));
    tcp_flush(client.t);
    UNTIL(server.got_len == len);
    EXPECT(server.got_len == len && memcmp(server.got, body, len) == 0);
    tear_down();
    free(body);
}

TEST(filter_tells_a_cut_stream)
{
    REQUIRE(set_up(64));
    REQUIRE(open_both(client_ctx, "a.example"));
    tcp_close(client.t); // FIN without close_notify
    UNTIL(server.eofs);
    EXPECT_EQ(server.eofs, 1);
    EXPECT(truncated(&server));
    tear_down();
}

TEST(filter_refuses_a_certificate_and_says_so)
{
    REQUIRE(set_up(64));
    EXPECT(!open_both(strict_ctx, "a.example"));
    UNTIL(server.errors && client.errors);
    EXPECT(client.error == EPROTO && client.failure == TLS_FAIL_CERTIFICATE);
    EXPECT(server.error == EPROTO && server.failure == TLS_FAIL_ALERT);
    UNTIL(server.closes && client.closes);
    EXPECT_EQ(counted(COUNTER_upstream_tls_fail_certificate), 1);
    EXPECT_EQ(counted(COUNTER_downstream_tls_fail_alert), 1);
    EXPECT_EQ(counted(COUNTER_upstream_tls_handshakes), 0);
    tear_down();
}

TEST(filter_refuses_another_hosts_certificate)
{
    REQUIRE(set_up(64));
    EXPECT(!open_both(client_ctx, "b.example"));
    UNTIL(server.errors && client.errors);
    EXPECT_EQ(client.failure, TLS_FAIL_NAME);
    UNTIL(server.closes && client.closes);
    EXPECT_EQ(counted(COUNTER_upstream_tls_fail_name), 1);
    tear_down();
}

static void expect_refused(struct slice bytes, enum counter_id id)
{
    char answer[64];
    REQUIRE(set_up(64));
    int fd = open_server_alone();
    REQUIRE(fd >= 0);
    EXPECT_EQ(write(fd, bytes.ptr, bytes.len), bytes.len);
    UNTIL(server.errors);
    EXPECT_EQ(server.error, EPROTO);
    shutdown(fd, SHUT_WR);
    UNTIL(server.closes);
    EXPECT_EQ(counted(id), 1);
    // An alert where TLS was spoken, else nothing: the connection has ended.
    ssize_t n = read(fd, answer, sizeof(answer));
    EXPECT(n == 0 || (n == 7 && answer[0] == 21));
    close(fd);
    tear_down();
}

TEST(filter_counts_what_is_no_tls)
{
    expect_refused(SLICE("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), COUNTER_downstream_tls_fail_http);
    expect_refused(SLICE("SSH-2.0-OpenSSH_9.2\r\n"), COUNTER_downstream_tls_fail_not_tls);
}

TEST(filter_counts_who_leaves_in_the_handshake)
{
    REQUIRE(set_up(64));
    int fd = open_server_alone();
    REQUIRE(fd >= 0);
    EXPECT_EQ(write(fd, "\x16\x03\x01\x02", 4), 4);
    close(fd);
    UNTIL(server.errors);
    EXPECT_EQ(server.error, ECONNRESET);
    UNTIL(server.closes);
    EXPECT_EQ(counted(COUNTER_downstream_tls_fail_aborted), 1);
    tear_down();
}

// The owner closes inside the callbacks that come from the filter.
TEST(filter_owner_may_close_at_any_time)
{
    REQUIRE(set_up(64));
    server.close_on_connect = true;
    (void)open_both(client_ctx, "a.example");
    UNTIL(server.closes);
    EXPECT(server.closes == 1 && server.connects == 1);
    tear_down();

    REQUIRE(set_up(64));
    REQUIRE(open_both(client_ctx, "a.example"));
    server.close_on_data = true;
    for (int i = 0; i < 40; i++)
        REQUIRE(bufq_append(&client.t->out, SLICE("some bytes of many records")));
    tcp_flush(client.t);
    UNTIL(server.closes);
    EXPECT(server.got_len > 0);
    tear_down();
}

TEST(filter_is_none_at_the_cap)
{
    REQUIRE(set_up(64));
    tls.conns.cap = 0;
    EXPECT(!tls_filter_create_server(&tls, server_ctx, server.t));
    tls.conns.cap = 8;
    tls.filters.cap = 0;
    EXPECT(!tls_filter_create_server(&tls, server_ctx, server.t));
    EXPECT(tls_filter_conn(server.t) == NULL);
    tear_down();
}
