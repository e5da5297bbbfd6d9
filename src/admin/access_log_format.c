// Compiling and writing access log lines. A format owns its pieces and one copy of the format
// string, into which they point. Immutable once compiled; any thread.
//
// Values come from clients and upstreams: in a text line quotes, backslashes, controls and bytes
// above 126 are escaped, in JSON they are a JSON string, so that no value can end its field or its
// line.
#include "admin/access_log_format.h"
#include "admin/access_log_value.h"
#include "core/check.h"
#include <stdio.h>
#include <stdlib.h>

const char access_log_istio_text[] =
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" "
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
    "\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" "
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% "
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% "
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

static const char *const istio_json[][2] = {
    {"start_time", "%START_TIME%"},
    {"route_name", "%ROUTE_NAME%"},
    {"method", "%REQ(:METHOD)%"},
    {"path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"},
    {"protocol", "%PROTOCOL%"},
    {"response_code", "%RESPONSE_CODE%"},
    {"response_flags", "%RESPONSE_FLAGS%"},
    {"response_code_details", "%RESPONSE_CODE_DETAILS%"},
    {"connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"},
    {"bytes_received", "%BYTES_RECEIVED%"},
    {"bytes_sent", "%BYTES_SENT%"},
    {"duration", "%DURATION%"},
    {"upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"},
    {"x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"},
    {"user_agent", "%REQ(USER-AGENT)%"},
    {"request_id", "%REQ(X-REQUEST-ID)%"},
    {"authority", "%REQ(:AUTHORITY)%"},
    {"upstream_host", "%UPSTREAM_HOST%"},
    {"upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"},
    {"upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"},
    {"upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"},
    {"downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"},
    {"downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"},
    {"requested_server_name", "%REQUESTED_SERVER_NAME%"},
};
#define ISTIO_JSON_KEYS (sizeof(istio_json) / sizeof(istio_json[0]))

struct piece {
    struct slice literal; // before the value: the format's text, or `,"key":`
    bool has_value;
    struct log_value value;
};

struct log_format {
    bool json;
    char *copy; // of the format string; names in it are lower-cased in place
    struct piece *pieces;
    uint32_t count;
};

// ---- compiling

static struct piece *add_piece(struct log_format *f)
{
    f->pieces = realloc(f->pieces, (f->count + 1) * sizeof(*f->pieces));
    check(f->pieces);
    f->pieces[f->count] = (struct piece){0};
    return &f->pieces[f->count++];
}

// Where the operator that begins after '%' ends: its closing '%', one inside (…) not counted.
static char *operator_end(char *at)
{
    int depth = 0;
    for (; *at; at++) {
        if (*at == '(')
            depth++;
        else if (*at == ')' && depth > 0)
            depth--;
        else if (*at == '%' && depth == 0)
            return at;
    }
    return NULL;
}

static enum err compile_pieces(struct log_format *f, char *error, size_t cap)
{
    char *at = f->copy;
    while (*at) {
        struct piece *p = add_piece(f);
        p->literal = (struct slice){at, strcspn(at, "%")};
        at += p->literal.len;
        if (!*at)
            break;
        char *end = operator_end(++at);
        if (!end) {
            snprintf(error, cap, "access log format: a %% without its partner before '%.40s'", at);
            return ERR_INVALID;
        }
        if (end == at) {      // %%
            p->literal.len++; // the first of the two, which lies right behind the text
        } else {
            if (!log_value_parse(at, (size_t)(end - at), &p->value, error, cap))
                return ERR_INVALID;
            p->has_value = true;
        }
        at = end + 1;
    }
    return OK;
}

enum err log_format_compile(const char *format, struct log_format **out, char *error, size_t cap)
{
    struct log_format *f = calloc(1, sizeof(*f));
    check(f);
    f->copy = strdup(format);
    check(f->copy);
    enum err e = compile_pieces(f, error, cap);
    if (e != OK) {
        log_format_destroy(f);
        f = NULL;
    }
    *out = f;
    return e;
}

struct log_format *log_format_istio_json(void)
{
    char error[128];
    struct log_format *f = calloc(1, sizeof(*f));
    size_t cap = 1;
    check(f);
    for (size_t i = 0; i < ISTIO_JSON_KEYS; i++)
        cap += strlen(istio_json[i][0]) + 4 + strlen(istio_json[i][1]);
    f->json = true;
    f->copy = malloc(cap);
    check(f->copy);
    char *at = f->copy;
    for (size_t i = 0; i < ISTIO_JSON_KEYS; i++) {
        struct piece *p = add_piece(f);
        size_t n = strlen(istio_json[i][1]);
        int key = sprintf(at, "%c\"%s\":", i ? ',' : '{', istio_json[i][0]);
        p->literal = (struct slice){at, (size_t)key};
        memcpy(at + key, istio_json[i][1], n);
        p->has_value = log_value_parse(at + key + 1, n - 2, &p->value, error, sizeof(error));
        check(p->has_value);
        at += (size_t)key + n;
    }
    return f;
}

void log_format_destroy(struct log_format *f)
{
    if (!f)
        return;
    free(f->pieces);
    free(f->copy);
    free(f);
}

// ---- writing

static void write_value_text(const struct log_result *r, struct text *out)
{
    if (r->number)
        text_u64(out, r->u64);
    else if (r->text.ptr)
        text_escaped(out, r->text);
    else
        text_char(out, '-');
}

static void write_value_json(const struct log_result *r, struct text *out)
{
    if (r->number)
        text_u64(out, r->u64);
    else if (r->text.ptr)
        text_json(out, r->text);
    else
        text_puts(out, "null");
}

// One of the two is given.
static void write_line(const struct log_format *f, const struct exchange *x,
                       const struct proxy_flow_end *flow, uint64_t start_unix_ns, struct text *out)
{
    char scratch[LOG_VALUE_MAX];
    for (uint32_t i = 0; i < f->count; i++) {
        const struct piece *p = &f->pieces[i];
        struct log_result r = {.scratch = scratch, .start_unix_ns = start_unix_ns};
        text_put(out, p->literal);
        if (!p->has_value)
            continue;
        if (x)
            log_value_read(&p->value, x, &r);
        else
            log_value_read_flow(&p->value, flow, &r);
        (f->json ? write_value_json : write_value_text)(&r, out);
    }
    if (f->json)
        text_char(out, '}');
    if (out->len && out->data[out->len - 1] != '\n')
        text_char(out, '\n');
}

void log_format_write(const struct log_format *f, const struct exchange *x, uint64_t start_unix_ns,
                      struct text *out)
{
    write_line(f, x, NULL, start_unix_ns, out);
}

void log_format_write_flow(const struct log_format *f, const struct proxy_flow_end *flow,
                           uint64_t start_unix_ns, struct text *out)
{
    write_line(f, NULL, flow, start_unix_ns, out);
}
