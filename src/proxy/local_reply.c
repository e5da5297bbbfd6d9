// Answers of the gateway's own: errors, redirects, direct responses. When one of these returns
// the exchange may be over and freed, so it is always the caller's last act.
#include "proxy/proxy_internal.h"

static void send_reply(struct exchange *x, struct slice body, struct slice content_type)
{
    struct head *h = &x->response;
    h->has_length = h->status >= 200 && h->status != 204 && h->status != 304;
    h->content_length = body.len;
    if ((body.len && head_add(h, FIELD_CONTENT_TYPE, content_type) != OK) ||
        proxy_response_fields(x, h) != OK) {
        x->down->ops->reset(x->down, RESET_OVERFLOW);
        return;
    }
    bool no_body = body.len == 0 || !h->has_length || slice_eq(x->request.method, SLICE("HEAD"));
    x->response_start_ns = x->worker->now_ns;
    x->down->ops->send_head(x->down, h, no_body);
    // Copied: the exchange, and with it its snapshot, may end before the body is sent.
    if (!no_body)
        x->down->ops->send_data(x->down, (struct chunk){body, CHUNK_VOLATILE}, true);
}

// No try may be in flight any more and none is timed in any way.
static void begin(struct exchange *x, uint32_t status)
{
    proxy_timers_cancel(x);
    proxy_release_upstream(x);
    head_reset(&x->response);
    x->response.status = status;
    x->upstream_start_ns = 0;
}

void proxy_reply(struct exchange *x, uint32_t status, struct slice body, uint32_t flag,
                 const char *details)
{
    begin(x, status);
    x->response_flags |= flag;
    x->details = details;
    send_reply(x, body, SLICE("text/plain"));
}

void proxy_reply_location(struct exchange *x, uint32_t status, struct slice location)
{
    begin(x, status);
    x->details = "direct_response";
    if (head_add(&x->response, FIELD_LOCATION, location) != OK) {
        x->down->ops->reset(x->down, RESET_OVERFLOW);
        return;
    }
    send_reply(x, (struct slice){NULL, 0}, SLICE(""));
}

void proxy_reply_direct(struct exchange *x)
{
    const struct route *r = proxy_of(x)->route;
    begin(x, r->direct_status);
    x->details = "direct_response";
    send_reply(x, r->direct_body, SLICE("text/plain"));
}

void proxy_reply_too_large(struct exchange *x)
{
    if (x->starved) {
        worker_count(x->worker, downstream_rq_rejected_memory);
        proxy_reply(x, 503, SLICE("overloaded"), FLAG_OVERLOAD, "overload_manager");
    } else {
        proxy_reply(x, 431, SLICE("Request Header Fields Too Large"), FLAG_DOWNSTREAM_PROTOCOL,
                    "request_headers_too_large");
    }
}
