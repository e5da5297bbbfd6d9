// The gateway's upstreams in the simulator. A connection reads one request at a time, checks every
// byte of it, and answers as the request's job says. Whatever it does itself, it must never
// get bytes behind a request that it has not answered, nor a body that is not the job's.
#include "core/check.h"
#include "proxy_world.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct upstream {
    int fd; // -1 = free
    struct reader in;
    enum { READING_HEAD, READING_BODY, READ, TUNNEL } state;
    struct job *job; // being answered
    struct bytes out;
    size_t out_at, stop_at; // a reply that is cut ends at stop_at
    bool replying, end_seen;
    uint64_t not_before_ns;
};

static struct upstream upstreams[WORLD_UPSTREAMS];
static int highest; // entries from here on have never been used
static int listeners[2];
static struct addr addresses[2];

void upstreams_begin(void)
{
    highest = 0;
    for (int i = 0; i < 2; i++) {
        (void)!addr_parse(i ? SLICE("10.0.0.3") : SLICE("10.0.0.2"), 81, &addresses[i]);
        listeners[i] = sim_listen(&addresses[i]);
    }
}

static void finish(struct upstream *u, bool reset)
{
    reset ? sim_reset(u->fd) : sim_close(u->fd);
    bytes_free(&u->in.in);
    bytes_free(&u->out);
    *u = (struct upstream){.fd = -1};
}

void upstreams_end(void)
{
    for (int i = 0; i < highest; i++)
        if (upstreams[i].fd >= 0)
            finish(&upstreams[i], false);
    for (int i = 0; i < 2; i++)
        sim_close(listeners[i]);
}

// --- Answers ---------------------------------------------------------------------------------

static void compose_right(struct bytes *b, const struct job *j)
{
    if (j->interim)
        bytes_printf(b, "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n");
    if (j->kind == JOB_TUNNEL) {
        bytes_printf(b,
                     "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\n"
                     "upgrade: websocket\r\nx-id: %u\r\n\r\n",
                     j->id);
        return;
    }
    bytes_printf(b, "HTTP/1.1 200 OK\r\nx-id: %u\r\n", j->id);
    if (j->framing == REPLY_LENGTH)
        bytes_printf(b, "content-length: %u\r\n", j->reply_len);
    else if (j->framing == REPLY_CHUNKED)
        bytes_printf(b, "transfer-encoding: chunked\r\n");
    bytes_printf(b, "%s\r\n", j->reply_close ? "connection: close\r\n" : "");
    if (j->kind != JOB_HEAD)
        body_add(b, j->id * 2 + 1, j->reply_len, j->framing == REPLY_CHUNKED, j->trailers);
}

static void reply(struct upstream *u)
{
    const struct job *j = u->job;
    size_t before = u->out.len;
    u->replying = true;
    switch (j->answer) {
    case ANSWER_SILENCE:
        u->stop_at = SIZE_MAX;
        u->not_before_ns = UINT64_MAX;
        return;
    case ANSWER_RUBBISH:
        bytes_printf(&u->out, "%s",
                     sim_chance(500) ? "\x16\x03\x01 who are you\r\n\r\n"
                                     : "HTTP/1.1 2OO OK\r\n\r\n");
        break;
    case ANSWER_503:
        bytes_printf(&u->out, "HTTP/1.1 503 Busy\r\nx-id: %u\r\ncontent-length: 0\r\n\r\n", j->id);
        break;
    default:
        compose_right(&u->out, j);
    }
    u->stop_at = SIZE_MAX;
    if (j->answer == ANSWER_RESET || j->answer == ANSWER_END)
        u->stop_at = before + (u->out.len - before) * j->cut / 1000;
    u->not_before_ns = sim_now_ns() + (sim_chance(100) ? rng_below(sim_rng(), 50 * NS_PER_MS) : 0);
}

// True when the connection is gone.
static bool write_reply(struct upstream *u)
{
    size_t end = u->stop_at < u->out.len ? u->stop_at : u->out.len;
    if (sim_now_ns() < u->not_before_ns)
        return false;
    if (u->out_at < end) {
        size_t n = 1 + rng_below(sim_rng(), (uint32_t)(end - u->out_at));
        ssize_t sent = sim_write(u->fd, u->out.p + u->out_at, n);
        if (sent == -EAGAIN)
            return false;
        if (sent < 0) { // the gateway has given up
            finish(u, true);
            return true;
        }
        u->out_at += (size_t)sent;
    }
    if (u->stop_at != SIZE_MAX && u->out_at == u->stop_at) {
        finish(u, u->job->answer == ANSWER_RESET);
        return true;
    }
    return false;
}

// The reply has been written and the request read, and the connection may go on.
static bool may_turn_over(const struct upstream *u)
{
    const struct job *j = u->job;
    return u->state == READ && u->replying && u->out_at == u->out.len && u->stop_at == SIZE_MAX &&
           u->not_before_ns != UINT64_MAX && !j->reply_close && j->framing != REPLY_TO_END &&
           j->answer != ANSWER_RUBBISH;
}

static void turn_over(struct upstream *u)
{
    u->out.len = u->out_at = 0;
    u->replying = false;
    u->job = NULL;
    u->state = READING_HEAD;
}

// --- Requests --------------------------------------------------------------------------------

static struct job *job_of(const struct peer_head *m)
{
    const char *at = strstr(m->line, "/j");
    uint32_t id = at ? (uint32_t)strtoul(at + 2, NULL, 10) : UINT32_MAX;
    if (id >= world.job_count || m->id != (int64_t)id) {
        world_wrong(NULL, "an upstream got a request that nobody has sent");
        return NULL;
    }
    return &world.jobs[id];
}

static void begin_request(struct upstream *u)
{
    struct job *j = job_of(&u->in.m);
    if (!j)
        return;
    u->job = j;
    u->state = READING_BODY;
    if (++j->seen > 1 && !world.violent)
        world_wrong(j, "a request was sent twice");
    if (u->in.m.upgrade != (j->kind == JOB_TUNNEL))
        world_wrong(j, "an upgrade that was not asked for");
    reader_body_begin(&u->in, j->id * 2, false, false);
    if (j->early)
        reply(u);
}

static void end_request(struct upstream *u)
{
    const struct job *j = u->job;
    if (u->in.got != j->body_len)
        world_wrong(j, "a request's body has another length");
    u->state = READ;
    if (!u->replying)
        reply(u);
    if (j->kind == JOB_TUNNEL && j->answer == ANSWER_RIGHT)
        u->state = TUNNEL;
}

static void take_input(struct upstream *u)
{
    enum progress p = PROGRESS_MORE;
    if (u->state == READING_HEAD && (p = reader_head(&u->in)) == PROGRESS_DONE)
        begin_request(u);
    if (u->state == READING_BODY && (p = reader_body(&u->in)) == PROGRESS_DONE)
        end_request(u);
    if (p == PROGRESS_BAD)
        world_wrong(u->job, "an upstream got a malformed request");
    if (may_turn_over(u)) {
        turn_over(u);
        take_input(u);
        return;
    }
    if (u->state == READ && u->in.in.len > 0)
        world_wrong(u->job, "bytes behind a request that is not answered");
    if (u->state == TUNNEL) {
        bytes_add(&u->out, u->in.in.p, u->in.in.len);
        u->in.in.len = 0;
    }
}

// True when the connection is gone.
static bool read_some(struct upstream *u)
{
    char buf[4096];
    ssize_t n = sim_read(u->fd, buf, 1 + rng_below(sim_rng(), sizeof(buf)));
    if (n > 0) {
        bytes_add(&u->in.in, buf, (size_t)n);
        take_input(u);
        return false;
    }
    if (n == -EAGAIN)
        return false;
    u->end_seen = true;
    if (u->state == TUNNEL && n == 0)
        return false; // what is left of the echo first
    if (!world.violent && !world.closing && u->job && !u->job->early && u->job->kind != JOB_TIMED &&
        u->state != TUNNEL)
        world_wrong(u->job, "the gateway gave a request up in a calm seed");
    finish(u, n < 0 || sim_chance(500));
    return true;
}

static void step_one(struct upstream *u)
{
    bool idle = u->state == READING_HEAD && u->in.in.len == 0;
    if (world_chance_violent(idle ? 3 : 1)) {
        finish(u, sim_chance(500));
        return;
    }
    if (!u->end_seen && sim_chance(500) && read_some(u))
        return;
    if (u->job && u->replying && sim_chance(500) && write_reply(u))
        return;
    bool said = u->replying && u->out_at == u->out.len && u->not_before_ns != UINT64_MAX;
    if (may_turn_over(u))
        turn_over(u);
    else if (said && (u->state == READ || (u->state == TUNNEL && u->end_seen)))
        finish(u, false); // its end is the end of the reply
}

static void accept_some(int listener)
{
    int fd = sim_accept(listener), i = 0;
    if (fd < 0)
        return;
    while (i < highest && upstreams[i].fd >= 0)
        i++;
    check(i < WORLD_UPSTREAMS);
    if (i == highest)
        highest++;
    upstreams[i] = (struct upstream){.fd = fd, .stop_at = SIZE_MAX};
}

void upstreams_step(void)
{
    for (int i = 0; i < highest; i++)
        if (upstreams[i].fd >= 0)
            step_one(&upstreams[i]);
    for (int i = 0; i < 2; i++)
        accept_some(listeners[i]);
}
