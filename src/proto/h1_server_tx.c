// Sending side of h1_server: response heads, bodies, trailers, refusals; the stream_ops of a
// client's connection.
#include "core/check.h"
#include "proto/h1_server_internal.h"

// Never ends the exchange inside the call that sends: its handler still uses it.
static void tx_failed(struct h1_server *s)
{
    worker_count(s->tcp->worker, downstream_rq_rejected_memory);
    s->tx_failed = true;
    h1_server_arm(s, 0);
}

static bool body_allowed(const struct exchange *x, uint32_t status)
{
    return status >= 200 && status != 204 && status != 304 &&
           !slice_eq(x->request.method, SLICE("HEAD"));
}

// How this response is delimited towards this client (RFC 9112 section 6).
static enum h1_framing choose_framing(const struct h1_server *s, const struct head *h, bool end)
{
    const struct exchange *x = s->stream.x;
    if (h->status < 200 || h->status == 204)
        return H1_BODY_NONE;
    if (h->has_length)
        return H1_BODY_LENGTH;
    if (!body_allowed(x, h->status))
        return H1_BODY_NONE;
    if (end)
        return H1_BODY_LENGTH; // of 0
    return x->version == HTTP_1_0 ? H1_BODY_UNTIL_CLOSE : H1_BODY_CHUNKED;
}

static void response_done(struct h1_server *s)
{
    struct exchange *x = s->stream.x;
    s->tx = SERVER_TX_DONE;
    x->response_ended = true;
    x->end_ns = s->tcp->worker->now_ns;
    tcp_flush(s->tcp);
    h1_server_finish_if_done(s);
}

// Whether the client must be cut off because of what it still has to send: more than is worth
// reading, or perhaps nothing at all after an unanswered Expect (RFC 9110 section 10.1.1).
static bool body_will_not_come(const struct h1_server *s)
{
    if (s->rx == SERVER_RX_DONE)
        return false;
    if (s->stream.x->request_body_bytes == 0 && s->expects)
        return true;
    return s->rq.framing == H1_BODY_LENGTH && s->remaining > s->drain_left;
}

static void send_head(struct stream *st, struct head *h, bool end)
{
    struct h1_server *s = server_of_stream(st);
    struct exchange *x = st->x;
    enum h1_framing framing = choose_framing(s, h, end);
    bool final = h->status >= 200 || h->status == 101;
    if (s->tx_failed)
        return;
    check(s->tx == SERVER_TX_IDLE);
    if (final) {
        if (body_will_not_come(s) || framing == H1_BODY_UNTIL_CLOSE || s->draining ||
            x->drop_connection)
            s->keep_alive = false;
        x->response_status = h->status;
        x->response_started = true;
        s->tx = SERVER_TX_BODY;
        s->tx_framing = framing;
    } else if (x->version == HTTP_1_0) {
        return; // RFC 9110 section 15.2: no 1xx to an HTTP/1.0 client
    }
    if (!h1_write_response(&s->tcp->out, h, framing, h->content_length,
                           final ? s->keep_alive : true, h->status == 101,
                           x->version == HTTP_1_0 ? 0 : 1)) {
        tx_failed(s);
        return;
    }
    tcp_flush(s->tcp);
    if (final && end)
        response_done(s);
}

static void send_data(struct stream *st, struct chunk c, bool end)
{
    struct h1_server *s = server_of_stream(st);
    struct bufq *out = &s->tcp->out;
    if (s->tx_failed) {
        chunk_release(s->tcp->worker, c);
        return;
    }
    check(s->tx == SERVER_TX_BODY || s->tx == SERVER_TX_TUNNEL);
    st->x->response_body_bytes += c.bytes.len;
    bool chunked = s->tx == SERVER_TX_BODY && s->tx_framing == H1_BODY_CHUNKED;
    bool ok = true;
    if (c.bytes.len > 0) {
        ok = !chunked || h1_write_chunk_start(out, c.bytes.len);
        ok = chunk_queue(out, c) && ok;
        ok = ok && (!chunked || h1_write_chunk_end(out));
    } else {
        chunk_release(s->tcp->worker, c);
    }
    if (ok && end && chunked)
        ok = h1_write_last_chunk(out, NULL);
    if (!ok) {
        tx_failed(s);
        return;
    }
    if (end && s->tx == SERVER_TX_TUNNEL) {
        s->keep_alive = false;
        tcp_shutdown(s->tcp);
        s->stream.x->response_ended = true;
        return;
    }
    tcp_flush(s->tcp);
    if (end)
        response_done(s);
}

static void send_trailers(struct stream *st, struct head *trailers)
{
    struct h1_server *s = server_of_stream(st);
    if (s->tx_failed)
        return;
    check(s->tx == SERVER_TX_BODY);
    if (s->tx_framing == H1_BODY_CHUNKED && !h1_write_last_chunk(&s->tcp->out, trailers)) {
        tx_failed(s);
        return;
    }
    response_done(s);
}

// The gateway gives the response up (its upstream died half-way, or it is over its time): what is
// queued still goes out, the end of the message does not.
static void reset(struct stream *st, enum reset_reason why)
{
    struct h1_server *s = server_of_stream(st);
    struct exchange *x = st->x;
    x->end_ns = s->tcp->worker->now_ns;
    x->handler->response_sent(x);
    st->x = NULL;
    x->down = NULL;
    exchange_destroy(s->pools->exchanges, x);
    if (h1_server_end_is_meant(s))
        h1_server_abort(s, why);
    else if (s->tx == SERVER_TX_TUNNEL && why == RESET_REMOTE)
        h1_server_cut(s);
    else
        h1_server_close_soon(s);
}

static void pause(struct stream *st)
{
    h1_server_pause(server_of_stream(st), SERVER_PAUSE_HANDLER);
}

static void resume(struct stream *st)
{
    h1_server_resume(server_of_stream(st), SERVER_PAUSE_HANDLER);
}

static bool writable(const struct stream *st)
{
    return server_of_stream(st)->tcp->out.bytes < TCP_HIGH_WATER;
}

// The 101 has been sent: what the client has sent after its request goes through now.
static void tunnel(struct stream *st)
{
    struct h1_server *s = server_of_stream(st);
    if (s->tx_failed) // without its 101; the timer stands for the end
        return;
    h1_server_set_rx(s, SERVER_RX_TUNNEL);
    s->tx = SERVER_TX_TUNNEL;
    s->keep_alive = false;
    h1_server_note_quiet(s);
    h1_server_arm(s, s->cfg->idle_timeout_ns);
    resume(st);
    if (s->next.bytes > 0)
        h1_server_next_request(s);
}

const struct stream_ops h1_server_stream_ops = {
    .send_head = send_head,
    .send_data = send_data,
    .send_trailers = send_trailers,
    .reset = reset,
    .pause = pause,
    .resume = resume,
    .writable = writable,
    .tunnel = tunnel,
};

static void count_refusal(struct worker *w, struct exchange *x, enum h1_error error)
{
    bool slow = error == H1_TIMEOUT || error == H1_GATEWAY_TIMEOUT;
    if (error == H1_UNAVAILABLE)
        worker_count(w, downstream_rq_rejected_memory);
    else if (error == H1_TOO_LARGE)
        worker_count(w, downstream_rq_head_too_large);
    else if (!slow)
        worker_count(w, downstream_rq_malformed);
    if (x && error == H1_UNAVAILABLE)
        x->response_flags |= FLAG_OVERLOAD;
    else if (x && !slow)
        x->response_flags |= FLAG_DOWNSTREAM_PROTOCOL;
}

static void send_refusal(struct h1_server *s, enum h1_error error, bool with_body)
{
    static _Thread_local struct head h;
    char date[HTTP_DATE_BYTES];
    struct slice reason = http_reason((uint32_t)error);
    head_reset(&h);
    h.status = (uint32_t)error;
    http_date(s->tcp->worker->now_unix_s, date);
    if (head_add(&h, FIELD_CONTENT_TYPE, SLICE("text/plain")) == OK &&
        head_add(&h, FIELD_SERVER, SLICE("sluice")) == OK &&
        head_add(&h, FIELD_DATE, (struct slice){date, sizeof(date)}) == OK &&
        h1_write_response(&s->tcp->out, &h, H1_BODY_LENGTH, reason.len, false, false, 1) &&
        with_body)
        (void)!bufq_append(&s->tcp->out, reason);
}

// If the handler knows of the exchange it is told.
static void end_exchange(struct h1_server *s, const char *details, uint32_t status)
{
    struct exchange *x = s->stream.x;
    x->details = details;
    x->response_status = status;
    x->end_ns = s->tcp->worker->now_ns;
    if (x->request.method.ptr)
        x->handler->request_reset(x, RESET_PROTOCOL);
    else
        x->handler->request_refused(x);
    s->stream.x = NULL;
    x->down = NULL;
    exchange_destroy(s->pools->exchanges, x);
}

// A request that cannot be served because of how it is written, or how slowly it moves: a reply
// whose body is the reason phrase, and the connection ends.
void h1_server_refuse(struct h1_server *s, enum h1_error error, const char *details)
{
    struct exchange *x = s->stream.x;
    bool known = x && x->request.method.ptr;
    bool started = x && x->response_started;
    bool with_body = !known || !slice_eq(x->request.method, SLICE("HEAD"));
    count_refusal(s->tcp->worker, x, error);
    if (x)
        end_exchange(s, details, started ? x->response_status : (uint32_t)error);
    if (!started)
        send_refusal(s, error, with_body);
    h1_server_close_soon(s);
}

// A client that begins with HTTP/2 reads nothing but frames: an answer in text would be reported as
// a broken peer. So it is told in its own language (RFC 9113: 3.4, a server's first frame is
// SETTINGS; 6.8, GOAWAY; 7, HTTP_1_1_REQUIRED) what a client that can do both acts upon.
void h1_server_refuse_http2(struct h1_server *s)
{
#define WHY "HTTP/2 is not served here"
    static const char settings[] = "\0\0\0\4\0\0\0\0\0";
    static const char go_away[] = {0, 0, 8 + sizeof(WHY) - 1, 7, 0, 0, 0, 0, 0};
    static const char last_stream_0_http_1_1_required[] = "\0\0\0\0\0\0\0\15" WHY;
#undef WHY
    const struct slice frames[] = {
        SLICE(settings),
        {go_away, sizeof(go_away)},
        SLICE(last_stream_0_http_1_1_required),
    };
    count_refusal(s->tcp->worker, s->stream.x, H1_VERSION);
    end_exchange(s, "http1.http2_preface", 0);
    for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++)
        if (!bufq_append(&s->tcp->out, frames[i]))
            break;
    h1_server_close_soon(s);
}
