// The gateway's clients in the simulator. A connection asks for its jobs one after the other or all
// at once, and checks each answer: whose it is, that it is whole, that the routes were those in
// force. In violent seeds a client may stall, not read, or leave in the middle.
#include "proxy_world.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define PATIENCE_NS (30 * NS_PER_S)

enum manner { POLITE, STALLING, DEAF, LEAVING };

struct client {
    int fd; // -1 = not open
    bool started, done, pipelined, in_body, close_told, fin_sent;
    bool other_port; // whose server comes and goes
    enum manner manner;
    uint32_t first, count; // its jobs
    uint32_t sent, answered;
    uint64_t stop_after; // bytes that a STALLING one sends
    uint64_t bytes_sent, started_ns;
    struct bytes out;
    size_t out_at;
    struct reader in;
    bool tunnel;
    uint64_t echo_len, echo_sent;
};

static struct client clients[WORLD_CLIENTS];
static uint32_t client_count;

static struct job *job_at(const struct client *c, uint32_t i)
{
    return &world.jobs[c->first + i];
}

static uint32_t draw_length(void)
{
    if (sim_chance(250))
        return 0;
    return rng_below(sim_rng(), sim_chance(15) ? 300000 : sim_chance(300) ? 20000 : 400);
}

static enum answer draw_answer(void)
{
    static const enum answer bad[] = {ANSWER_SILENCE, ANSWER_RESET,   ANSWER_RESET, ANSWER_END,
                                      ANSWER_END,     ANSWER_RUBBISH, ANSWER_503};
    return world_chance_violent(350) ? bad[rng_below(sim_rng(), 7)] : ANSWER_RIGHT;
}

static enum job_kind draw_kind(bool last)
{
    static const enum job_kind kinds[] = {
        JOB_GET,      JOB_GET,    JOB_GET,      JOB_HEAD,  JOB_POST,   JOB_POST,     JOB_POST,
        JOB_REDIRECT, JOB_DIRECT, JOB_NO_ROUTE, JOB_TIMED, JOB_TUNNEL, JOB_MALFORMED};
    return kinds[rng_below(sim_rng(), last ? 13 : sim_chance(300) ? 11 : 10)];
}

static void draw_job(bool last)
{
    struct job *j = &world.jobs[world.job_count];
    *j = (struct job){.id = world.job_count++, .kind = draw_kind(last)};
    if (j->kind == JOB_POST) {
        j->body_len = draw_length();
        j->chunked = sim_chance(500);
        // A longer one would end the connection instead of being read and dropped.
        j->early = j->body_len < 30000 && sim_chance(100);
    }
    j->trailers = sim_chance(200);
    j->reply_len = draw_length();
    j->framing = rng_below(sim_rng(), 3);
    j->reply_close = sim_chance(100);
    j->answer = draw_answer();
    j->cut = rng_below(sim_rng(), 1000);
    j->big_head = sim_chance(30);
    j->interim = sim_chance(50);
    j->http10 = last && j->kind == JOB_GET && sim_chance(200);
    if (j->kind == JOB_HEAD && j->framing == REPLY_TO_END)
        j->framing = REPLY_CHUNKED;
    if (j->kind == JOB_TIMED)
        j->answer = ANSWER_SILENCE;
    if (j->kind == JOB_TUNNEL) {
        j->interim = j->reply_close = false;
        j->framing = REPLY_LENGTH;
    }
}

void clients_begin(void)
{
    client_count = 1 + rng_below(sim_rng(), WORLD_CLIENTS);
    for (uint32_t i = 0; i < client_count; i++) {
        struct client *c = &clients[i];
        *c = (struct client){.fd = -1, .first = world.job_count, .pipelined = sim_chance(400)};
        c->count = 1 + rng_below(sim_rng(), sim_chance(200) ? 10 : 4);
        if (world_chance_violent(500))
            c->manner = (enum manner)(1 + rng_below(sim_rng(), 3));
        c->stop_after = rng_below(sim_rng(), 3000);
        for (uint32_t k = 0; k < c->count; k++)
            draw_job(k + 1 == c->count);
    }
}

static void finish(struct client *c)
{
    if (c->fd >= 0)
        world.violent &&sim_chance(300) ? sim_reset(c->fd) : sim_close(c->fd);
    bytes_free(&c->out);
    bytes_free(&c->in.in);
    c->fd = -1;
    c->done = true;
}

void clients_end(void)
{
    for (uint32_t i = 0; i < client_count; i++)
        finish(&clients[i]);
}

bool clients_done(void)
{
    for (uint32_t i = 0; i < client_count; i++)
        if (!clients[i].done)
            return false;
    return true;
}

// --- Requests --------------------------------------------------------------------------------

static const char *const paths[] = {
    [JOB_GET] = "GET /app",      [JOB_HEAD] = "HEAD /app",     [JOB_POST] = "POST /app",
    [JOB_REDIRECT] = "GET /old", [JOB_DIRECT] = "GET /direct", [JOB_NO_ROUTE] = "GET /none",
    [JOB_TIMED] = "GET /timed",  [JOB_TUNNEL] = "GET /app",
};

static void compose_malformed(struct bytes *b)
{
    static const char *const bad[] = {
        "GET / HTTP/1.1\r\n\r\n",
        "\x16\x03\x01\x02\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    };
    bytes_printf(b, "%s", bad[rng_below(sim_rng(), 4)]);
}

static void compose(struct bytes *b, const struct job *j)
{
    if (j->kind == JOB_MALFORMED) {
        compose_malformed(b);
        return;
    }
    bytes_printf(b, "%s/j%u HTTP/1.%d\r\nhost: j%u.test\r\nx-id: %u\r\n", paths[j->kind], j->id,
                 j->http10 ? 0 : 1, j->id, j->id);
    for (int i = 0; i < 40 && j->big_head; i++)
        bytes_printf(b, "x-large-%d: %0900d\r\n", i, i);
    if (j->kind == JOB_TUNNEL)
        bytes_printf(b, "connection: Upgrade\r\nupgrade: websocket\r\n");
    if (j->kind == JOB_POST && j->chunked)
        bytes_printf(b, "transfer-encoding: chunked\r\n\r\n");
    else if (j->kind == JOB_POST)
        bytes_printf(b, "content-length: %u\r\n\r\n", j->body_len);
    else
        bytes_add(b, "\r\n", 2);
    if (j->kind == JOB_POST)
        body_add(b, j->id * 2, j->body_len, j->chunked, j->chunked && j->trailers);
}

static void next_request(struct client *c)
{
    if (c->sent == c->count || c->close_told || (!c->pipelined && c->sent > c->answered))
        return;
    struct job *j = job_at(c, c->sent++);
    j->generation = world.pw->adopted ? world.pw->adopted->generation : 1;
    c->out.len = c->out_at = 0;
    compose(&c->out, j);
}

static void write_some(struct client *c)
{
    if (c->tunnel && c->out_at == c->out.len && c->echo_sent < c->echo_len) {
        c->out.len = c->out_at = 0;
        for (int i = 0; i < 500 && c->echo_sent < c->echo_len; i++) {
            uint8_t byte = pattern_byte(c->in.pattern, c->echo_sent++);
            bytes_add(&c->out, &byte, 1);
        }
    }
    if (c->out_at == c->out.len && !c->tunnel)
        next_request(c);
    if (c->out_at == c->out.len) {
        if (c->tunnel && c->echo_sent == c->echo_len && !c->fin_sent) {
            sim_shutdown(c->fd);
            c->fin_sent = true;
        }
        return;
    }
    if (c->manner == STALLING && c->bytes_sent >= c->stop_after)
        return;
    size_t n = 1 + rng_below(sim_rng(), (uint32_t)(c->out.len - c->out_at));
    ssize_t sent = sim_write(c->fd, c->out.p + c->out_at, n);
    if (sent > 0) {
        c->out_at += (size_t)sent;
        c->bytes_sent += (uint64_t)sent;
    }
}

// --- Answers ---------------------------------------------------------------------------------

static bool version_in_force(const struct job *j, int64_t version)
{
    for (uint64_t g = j->generation; g <= world.rt.generation; g++)
        if (world.version_of[g] == version)
            return true;
    return false;
}

// A listener that is gone serves what it has left by its own routes, whatever is in force.
static void check_upstream_answer(const struct client *c, const struct job *j)
{
    const struct peer_head *m = &c->in.m;
    if (m->id != (int64_t)j->id)
        world_wrong(j, "an answer to another request");
    else if (m->status != 503 && !(c->other_port ? m->version == WORLD_VERSION_OF_8081
                                                 : version_in_force(j, m->version)))
        world_wrong(j, "an answer by routes that were not in force");
}

static uint32_t expected_status(const struct job *j)
{
    static const uint32_t status[] = {
        [JOB_REDIRECT] = 301, [JOB_NO_ROUTE] = 404,  [JOB_TIMED] = 504,
        [JOB_TUNNEL] = 101,   [JOB_MALFORMED] = 400, [JOB_DIRECT] = 200,
    };
    return status[j->kind] ? status[j->kind] : 200;
}

// Only where something has gone wrong on purpose.
static bool failure_allowed(const struct client *c, const struct job *j, uint32_t status)
{
    if (!world.violent)
        return false;
    if (status == 408)
        return j->seen == 0 || j->kind == JOB_POST; // its head or its body stood still
    if (status == 431)
        return j->big_head;
    if (status == 404)
        return c->other_port;
    return status >= 502 && status <= 504;
}

static void check_head(struct client *c, const struct job *j)
{
    const struct peer_head *m = &c->in.m;
    char here[40];
    snprintf(here, sizeof(here), "//j%u.test/", j->id);
    if (m->status != expected_status(j)) {
        if (!failure_allowed(c, j, m->status))
            world_wrong(j, "an unexpected status");
        if (m->id >= 0 && m->id != (int64_t)j->id)
            world_wrong(j, "an error of another request");
    } else if (j->kind == JOB_REDIRECT) {
        if (!strstr(m->location, here))
            world_wrong(j, "another request's redirect");
    } else if (m->status == 200 && j->kind != JOB_DIRECT) {
        check_upstream_answer(c, j);
    } else if (m->status == 101) {
        check_upstream_answer(c, j);
        c->tunnel = true;
        c->echo_len = draw_length();
    }
}

// A body of the gateway's own is not a pattern: it is let pass by its length.
static bool own_words(const struct client *c, const struct job *j)
{
    return c->in.m.id < 0 || c->in.m.status != 200 || j->kind == JOB_DIRECT;
}

static enum progress skip_body(struct client *c)
{
    struct reader *r = &c->in;
    size_t n = r->in.len < r->left ? r->in.len : (size_t)r->left;
    bytes_drop(&r->in, n);
    r->left -= n;
    return r->left ? PROGRESS_MORE : PROGRESS_DONE;
}

static void answered(struct client *c, const struct job *j)
{
    c->in_body = false;
    c->answered++;
    c->close_told = c->close_told || c->in.m.close;
    // Where the upstream's closing is the end of a body, nobody can tell that it was early.
    bool may_be_short = world.violent && j->framing == REPLY_TO_END && c->in.got < j->reply_len;
    if (j->kind != JOB_HEAD && !own_words(c, j) && c->in.got != j->reply_len && !may_be_short)
        world_wrong(j, "an answer's body has another length");
}

static enum progress take_head(struct client *c)
{
    enum progress p = reader_head(&c->in);
    if (p != PROGRESS_DONE)
        return p;
    uint32_t status = c->in.m.status;
    if (c->answered == c->sent) {
        world_wrong(NULL, "an answer to nothing");
        return PROGRESS_MORE;
    }
    const struct job *j = job_at(c, c->answered);
    if (status >= 100 && status < 200 && status != 101) {
        if (status != 103 || !j->interim)
            world_wrong(j, "an interim response that nobody has sent");
        return PROGRESS_DONE;
    }
    check_head(c, j);
    bool none = j->kind == JOB_HEAD || status == 204 || status == 304;
    reader_body_begin(&c->in, j->id * 2 + 1, none, j->http10);
    c->in_body = true;
    return PROGRESS_DONE;
}

static void take_echo(struct client *c)
{
    struct reader *r = &c->in;
    for (size_t i = 0; i < r->in.len; i++)
        if ((uint8_t)r->in.p[i] != pattern_byte(r->pattern, r->got++) || r->got > c->echo_sent)
            world_wrong(job_at(c, c->count - 1), "another tunnel's bytes");
    r->in.len = 0;
}

static void take_input(struct client *c)
{
    enum progress p = PROGRESS_DONE;
    while (p == PROGRESS_DONE && !world.wrong) {
        if (c->tunnel) {
            take_echo(c);
            return;
        }
        if (!c->in_body) {
            p = take_head(c);
            continue;
        }
        const struct job *j = job_at(c, c->answered);
        p = own_words(c, j) && c->in.part == PART_SIZED ? skip_body(c) : reader_body(&c->in);
        if (p == PROGRESS_DONE)
            answered(c, j);
    }
    if (p == PROGRESS_BAD)
        world_wrong(job_at(c, c->answered < c->count ? c->answered : 0), "a malformed answer");
}

// The gateway has ended the connection: in a calm seed only when all was said.
static void ended(struct client *c, bool reset)
{
    const struct job *last = job_at(c, c->count - 1);
    if (!reset && c->in_body && c->in.part == PART_TO_END)
        answered(c, last);
    bool whole = c->tunnel ? c->in.got == c->echo_len : c->answered == c->count;
    if (!world.violent && !world.closing && (!whole || reset))
        world_wrong(c->answered < c->count ? job_at(c, c->answered) : last,
                    reset ? "a reset in a calm seed" : "an early end in a calm seed");
    finish(c);
}

static void read_some(struct client *c)
{
    char buf[8192];
    ssize_t n = sim_read(c->fd, buf, 1 + rng_below(sim_rng(), sizeof(buf)));
    if (n > 0) {
        bytes_add(&c->in.in, buf, (size_t)n);
        take_input(c);
    } else if (n != -EAGAIN) {
        ended(c, n < 0);
    }
}

static void start(struct client *c)
{
    struct addr to;
    c->other_port = world_chance_violent(100);
    (void)!addr_parse(SLICE("0.0.0.0"), c->other_port ? 8081 : 80, &to);
    c->started = true;
    c->started_ns = sim_now_ns();
    c->fd = sim_connect(&to);
    if (c->fd >= 0)
        return;
    if (!world.violent)
        world_wrong(NULL, "the gateway does not listen");
    c->done = true;
}

static void step_one(struct client *c)
{
    if (!c->started) {
        if (sim_chance(50))
            start(c);
        return;
    }
    if (c->done)
        return;
    if (c->manner == LEAVING && sim_chance(4)) {
        finish(c);
        return;
    }
    if (sim_chance(500))
        write_some(c);
    bool deaf = c->manner == DEAF && sim_now_ns() - c->started_ns < PATIENCE_NS / 3;
    if (!deaf && sim_chance(500))
        read_some(c);
    if (c->done || c->tunnel)
        return;
    // Served: most leave, the others wait for the idle timeout.
    if (c->answered == c->count && sim_chance(world.violent ? 100 : 500))
        finish(c);
}

void clients_step(void)
{
    for (uint32_t i = 0; i < client_count; i++)
        step_one(&clients[i]);
}
