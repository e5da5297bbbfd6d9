// Envoy's access log operators, by one table. Pure; any thread.
#include "admin/access_log_value.h"
#include "admin/access_log_format.h"
#include "core/clock.h"
#include "proto/downstream.h"
#include "proxy/flow_end.h"
#include "proxy/proxy.h"
#include "tls/conn.h"
#include "tls/xfcc.h"
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static void number(struct log_result *r, uint64_t v)
{
    r->number = true;
    r->u64 = v;
}

static void words(struct log_result *r, struct slice s)
{
    if (s.len)
        r->text = s;
}

// Milliseconds since the request began; no value when `at_ns` has not come.
static void since_start(struct log_result *r, const struct exchange *x, uint64_t at_ns)
{
    if (at_ns >= x->start_ns && at_ns)
        number(r, (at_ns - x->start_ns) / NS_PER_MS);
}

// ---- time

// strftime with Envoy's %3f, %6f, %9f (and %f) for the fraction of the second.
static size_t expand_fraction(struct slice format, uint64_t ns, char *out, size_t cap)
{
    char digits[10];
    size_t n = 0;
    snprintf(digits, sizeof(digits), "%09u", (unsigned)ns);
    for (size_t i = 0; i < format.len && n + 12 < cap; i++) {
        const char *p = format.ptr + i;
        size_t left = format.len - i;
        bool sized = left > 2 && p[0] == '%' && p[1] >= '1' && p[1] <= '9' && p[2] == 'f';
        if (!sized && !(left > 1 && p[0] == '%' && p[1] == 'f')) {
            out[n++] = *p;
            if (*p == '%' && left > 1) // a pair stays a pair: "%%f" is no fraction
                out[n++] = format.ptr[++i];
            continue;
        }
        size_t width = sized ? (size_t)(p[1] - '0') : 9;
        memcpy(out + n, digits, width);
        n += width;
        i += sized ? 2 : 1;
    }
    out[n] = '\0';
    return n;
}

static void put_digits(char *at, unsigned v, int width)
{
    while (width-- > 0) {
        at[width] = (char)('0' + v % 10);
        v /= 10;
    }
}

// 2026-11-23T10:00:00.123Z; the seconds are kept from line to line.
static void read_default_time(struct log_result *r, time_t s, uint64_t fraction_ns)
{
    static _Thread_local time_t kept_s = -1;
    static _Thread_local char kept[32];
    if (s != kept_s) {
        struct tm tm;
        gmtime_r(&s, &tm);
        strftime(kept, sizeof(kept), "%Y-%m-%dT%H:%M:%S.000Z", &tm);
        kept_s = s;
    }
    memcpy(r->scratch, kept, 24);
    put_digits(r->scratch + 20, (unsigned)(fraction_ns / NS_PER_MS), 3);
    r->text = (struct slice){r->scratch, 24};
}

static void start_time(const struct log_value *v, struct log_result *r)
{
    time_t s = (time_t)(r->start_unix_ns / NS_PER_S);
    uint64_t fraction = r->start_unix_ns % NS_PER_S;
    struct tm tm;
    char format[512];
    if (v->name.len == 0) {
        read_default_time(r, s, fraction);
        return;
    }
    gmtime_r(&s, &tm);
    expand_fraction(v->name, fraction, format, sizeof(format));
    size_t n = strftime(r->scratch, LOG_VALUE_MAX, format, &tm);
    words(r, (struct slice){r->scratch, n});
}

static void read_start_time(const struct log_value *v, const struct exchange *x,
                            struct log_result *r)
{
    (void)x;
    start_time(v, r);
}

static void read_duration(const struct log_value *v, const struct exchange *x, struct log_result *r)
{
    (void)v;
    since_start(r, x, x->end_ns);
}

static void read_request_duration(const struct log_value *v, const struct exchange *x,
                                  struct log_result *r)
{
    (void)v;
    since_start(r, x, x->request_end_ns);
}

static void read_response_duration(const struct log_value *v, const struct exchange *x,
                                   struct log_result *r)
{
    (void)v;
    if (x->upstream_start_ns) // a reply of our own has no upstream's first byte
        since_start(r, x, x->response_start_ns);
}

static void read_response_tx_duration(const struct log_value *v, const struct exchange *x,
                                      struct log_result *r)
{
    (void)v;
    if (x->upstream_start_ns && x->response_start_ns && x->end_ns >= x->response_start_ns)
        number(r, (x->end_ns - x->response_start_ns) / NS_PER_MS);
}

// ---- heads

static struct slice whole_path(const struct exchange *x, char *scratch)
{
    const struct head *h = &x->request;
    if (h->path.len == 0)
        return h->target;
    if (!h->query.ptr)
        return h->path;
    struct text t;
    text_init_fixed(&t, scratch, LOG_VALUE_MAX);
    text_put(&t, h->path);
    text_char(&t, '?');
    text_put(&t, h->query);
    return t.overflow ? h->path : (struct slice){t.data, t.len};
}

static struct slice field_of(const struct head *h, struct slice name)
{
    for (uint32_t i = 0; i < h->field_count; i++)
        if (slice_eq(field_name(&h->fields[i]), name))
            return field_value(&h->fields[i]);
    return (struct slice){NULL, 0};
}

static struct slice request_field(const struct exchange *x, struct slice name, char *scratch)
{
    if (name.len == 0 || name.ptr[0] != ':')
        return field_of(&x->request, name);
    if (slice_eq(name, SLICE(":method")))
        return x->request.method;
    if (slice_eq(name, SLICE(":path")))
        return whole_path(x, scratch);
    if (slice_eq(name, SLICE(":authority")))
        return x->request.authority;
    if (slice_eq(name, SLICE(":scheme")))
        return x->request.scheme;
    return (struct slice){NULL, 0};
}

static void read_req(const struct log_value *v, const struct exchange *x, struct log_result *r)
{
    struct slice s = request_field(x, v->name, r->scratch);
    words(r, s.len ? s : request_field(x, v->fallback, r->scratch));
}

static struct slice response_field(const struct exchange *x, struct slice name, char *scratch)
{
    if (!slice_eq(name, SLICE(":status")))
        return field_of(&x->response, name);
    struct text t;
    text_init_fixed(&t, scratch, LOG_VALUE_MAX);
    text_u64(&t, x->response_status);
    return (struct slice){t.data, t.len};
}

static void read_resp(const struct log_value *v, const struct exchange *x, struct log_result *r)
{
    struct slice s = response_field(x, v->name, r->scratch);
    words(r, s.len ? s : response_field(x, v->fallback, r->scratch));
}

static void read_protocol(const struct log_value *v, const struct exchange *x, struct log_result *r)
{
    static const char *const names[] = {
        [HTTP_1_0] = "HTTP/1.0", [HTTP_1_1] = "HTTP/1.1", [HTTP_2] = "HTTP/2", [HTTP_3] = "HTTP/3"};
    (void)v;
    r->text = slice_of(names[x->version]);
}

// ---- outcome

static void read_response_code(const struct log_value *v, const struct exchange *x,
                               struct log_result *r)
{
    (void)v;
    number(r, x->response_status);
}

static void flags(struct log_result *r, uint32_t set)
{
    static const char *const names[] = {
#define X(bit, flag) flag,
        RESPONSE_FLAG_TABLE(X)
#undef X
    };
    size_t n = 0;
    for (uint32_t i = 0; i < RESPONSE_FLAG_COUNT; i++) {
        if (!(set & (1u << i)))
            continue;
        if (n)
            r->scratch[n++] = ',';
        size_t len = strlen(names[i]);
        memcpy(r->scratch + n, names[i], len);
        n += len;
    }
    words(r, (struct slice){r->scratch, n});
}

static void read_response_flags(const struct log_value *v, const struct exchange *x,
                                struct log_result *r)
{
    (void)v;
    flags(r, x->response_flags);
}

// Without blanks, so that it stays one column, as Envoy does. `s` may be the scratch.
static struct slice one_column(struct log_result *r, struct slice s)
{
    size_t n = s.len < LOG_VALUE_MAX ? s.len : LOG_VALUE_MAX;
    for (size_t i = 0; i < n; i++)
        r->scratch[i] = s.ptr[i] == ' ' ? '_' : s.ptr[i];
    return (struct slice){r->scratch, n};
}

static void read_details(const struct log_value *v, const struct exchange *x, struct log_result *r)
{
    (void)v;
    words(r, one_column(r, slice_of(x->details)));
}

static void read_bytes_received(const struct log_value *v, const struct exchange *x,
                                struct log_result *r)
{
    (void)v;
    number(r, x->request_body_bytes);
}

static void read_bytes_sent(const struct log_value *v, const struct exchange *x,
                            struct log_result *r)
{
    (void)v;
    number(r, x->response_body_bytes);
}

// ---- where from and where to

static void read_upstream_host(const struct log_value *v, const struct exchange *x,
                               struct log_result *r)
{
    (void)v;
    words(r, proxy_of(x)->endpoint_text);
}

static void read_upstream_cluster(const struct log_value *v, const struct exchange *x,
                                  struct log_result *r)
{
    const struct proxy_exchange *px = proxy_of(x);
    (void)v;
    if (px->cluster)
        words(r, px->cluster->name);
    else if (px->target)
        words(r, px->target->cluster_name);
    else
        words(r, px->kept.cluster_name);
}

static void read_route_name(const struct log_value *v, const struct exchange *x,
                            struct log_result *r)
{
    const struct proxy_exchange *px = proxy_of(x);
    (void)v;
    words(r, px->route ? px->route->name : px->kept.route_name);
}

static void transport_failure(struct log_result *r, const char *reason)
{
    if (!reason)
        return;
    int n = snprintf(r->scratch, LOG_VALUE_MAX, "TLS_error:_%s", reason);
    size_t len = (size_t)n < LOG_VALUE_MAX ? (size_t)n : LOG_VALUE_MAX - 1;
    words(r, one_column(r, (struct slice){r->scratch, len}));
}

static void read_transport_failure(const struct log_value *v, const struct exchange *x,
                                   struct log_result *r)
{
    (void)v;
    transport_failure(r, x->transport_failure);
}

static void read_upstream_tls_version(const struct log_value *v, const struct exchange *x,
                                      struct log_result *r)
{
    (void)v;
    if (x->upstream_tls_version)
        words(r, slice_of(x->upstream_tls_version));
}

static void read_attempts(const struct log_value *v, const struct exchange *x, struct log_result *r)
{
    (void)v;
    number(r, proxy_of(x)->attempts);
}

static void address(struct log_result *r, const struct addr *a, bool with_port)
{
    struct text t;
    if (a->len == 0)
        return;
    if (a->sa.sa_family != AF_INET) {
        words(r, (struct slice){r->scratch, addr_format(a, r->scratch, LOG_VALUE_MAX, with_port)});
        return;
    }
    const uint8_t *ip = (const uint8_t *)&a->in.sin_addr; // the usual case, without inet_ntop
    text_init_fixed(&t, r->scratch, LOG_VALUE_MAX);
    for (int i = 0; i < 4; i++) {
        text_u64(&t, ip[i]);
        if (i < 3)
            text_char(&t, '.');
    }
    if (with_port) {
        text_char(&t, ':');
        text_u64(&t, addr_port(a));
    }
    words(r, (struct slice){t.data, t.len});
}

static void read_remote(const struct log_value *v, const struct exchange *x, struct log_result *r)
{
    (void)v;
    address(r, &x->conn->peer, true);
}

static void read_remote_ip(const struct log_value *v, const struct exchange *x,
                           struct log_result *r)
{
    (void)v;
    address(r, &x->conn->peer, false);
}

static void read_remote_port(const struct log_value *v, const struct exchange *x,
                             struct log_result *r)
{
    (void)v;
    number(r, addr_port(&x->conn->peer));
}

static void read_direct(const struct log_value *v, const struct exchange *x, struct log_result *r)
{
    (void)v;
    address(r, downstream_direct(x->conn), true);
}

static void read_direct_ip(const struct log_value *v, const struct exchange *x,
                           struct log_result *r)
{
    (void)v;
    address(r, downstream_direct(x->conn), false);
}

static void read_local(const struct log_value *v, const struct exchange *x, struct log_result *r)
{
    (void)v;
    address(r, downstream_local(x->conn), true);
}

static void read_local_ip(const struct log_value *v, const struct exchange *x, struct log_result *r)
{
    (void)v;
    address(r, downstream_local(x->conn), false);
}

static void read_local_port(const struct log_value *v, const struct exchange *x,
                            struct log_result *r)
{
    (void)v;
    number(r, addr_port(downstream_local(x->conn)));
}

// ---- the client's TLS

static bool tls_of(const struct exchange *x, struct tls_info *out)
{
    if (!x->conn->tls)
        return false;
    tls_conn_info(x->conn->tls, out);
    return true;
}

static void read_server_name(const struct log_value *v, const struct exchange *x,
                             struct log_result *r)
{
    struct tls_info tls;
    (void)v;
    if (tls_of(x, &tls))
        words(r, tls.sni);
}

static void read_tls_version(const struct log_value *v, const struct exchange *x,
                             struct log_result *r)
{
    struct tls_info tls;
    (void)v;
    if (tls_of(x, &tls))
        words(r, slice_of(tls.version));
}

static void read_tls_cipher(const struct log_value *v, const struct exchange *x,
                            struct log_result *r)
{
    struct tls_info tls;
    (void)v;
    if (tls_of(x, &tls))
        words(r, slice_of(tls.openssl_cipher));
}

static void of_certificate(struct log_result *r, const struct exchange *x,
                           size_t (*write)(struct slice leaf, char *out, size_t cap))
{
    if (!x->conn->tls)
        return;
    size_t n = write(tls_conn_peer_certificate(x->conn->tls), r->scratch, LOG_VALUE_MAX);
    words(r, (struct slice){r->scratch, n <= LOG_VALUE_MAX ? n : 0});
}

static void read_peer_subject(const struct log_value *v, const struct exchange *x,
                              struct log_result *r)
{
    (void)v;
    of_certificate(r, x, xfcc_write_subject);
}

static void read_peer_fingerprint(const struct log_value *v, const struct exchange *x,
                                  struct log_result *r)
{
    (void)v;
    of_certificate(r, x, xfcc_write_hash);
}

static void hostname(struct log_result *r)
{
    if (gethostname(r->scratch, 256) == 0) {
        r->scratch[255] = '\0';
        words(r, slice_of(r->scratch));
    }
}

static void read_hostname(const struct log_value *v, const struct exchange *x, struct log_result *r)
{
    (void)v;
    (void)x;
    hostname(r);
}

static void read_nothing(const struct log_value *v, const struct exchange *x, struct log_result *r)
{
    (void)v; // Envoy knows it; here there is never a value: "-"
    (void)x;
    (void)r;
}

// ---- a relayed connection

static void flow_start_time(const struct log_value *v, const struct proxy_flow_end *f,
                            struct log_result *r)
{
    (void)f;
    start_time(v, r);
}

static void flow_code(const struct log_value *v, const struct proxy_flow_end *f,
                      struct log_result *r)
{
    (void)v;
    (void)f;
    number(r, 0);
}

static void flow_flags(const struct log_value *v, const struct proxy_flow_end *f,
                       struct log_result *r)
{
    (void)v;
    flags(r, f->response_flags);
}

static void flow_details(const struct log_value *v, const struct proxy_flow_end *f,
                         struct log_result *r)
{
    (void)v;
    words(r, slice_of(f->details));
}

static void flow_termination(const struct log_value *v, const struct proxy_flow_end *f,
                             struct log_result *r)
{
    (void)v;
    words(r, slice_of(f->termination));
}

static void flow_bytes_received(const struct log_value *v, const struct proxy_flow_end *f,
                                struct log_result *r)
{
    (void)v;
    number(r, f->bytes_received);
}

static void flow_bytes_sent(const struct log_value *v, const struct proxy_flow_end *f,
                            struct log_result *r)
{
    (void)v;
    number(r, f->bytes_sent);
}

static void flow_duration(const struct log_value *v, const struct proxy_flow_end *f,
                          struct log_result *r)
{
    (void)v;
    number(r, (f->end_ns - f->start_ns) / NS_PER_MS);
}

static void flow_upstream_host(const struct log_value *v, const struct proxy_flow_end *f,
                               struct log_result *r)
{
    (void)v;
    words(r, f->upstream_host);
}

static void flow_upstream_cluster(const struct log_value *v, const struct proxy_flow_end *f,
                                  struct log_result *r)
{
    (void)v;
    words(r, f->cluster_name);
}

static void flow_upstream_local(const struct log_value *v, const struct proxy_flow_end *f,
                                struct log_result *r)
{
    (void)v;
    address(r, &f->upstream_local, true);
}

static void flow_transport_failure(const struct log_value *v, const struct proxy_flow_end *f,
                                   struct log_result *r)
{
    (void)v;
    transport_failure(r, f->transport_failure);
}

static void flow_attempts(const struct log_value *v, const struct proxy_flow_end *f,
                          struct log_result *r)
{
    (void)v;
    number(r, f->tries);
}

static void flow_remote(const struct log_value *v, const struct proxy_flow_end *f,
                        struct log_result *r)
{
    (void)v;
    address(r, &f->conn->peer, true);
}

static void flow_remote_ip(const struct log_value *v, const struct proxy_flow_end *f,
                           struct log_result *r)
{
    (void)v;
    address(r, &f->conn->peer, false);
}

static void flow_remote_port(const struct log_value *v, const struct proxy_flow_end *f,
                             struct log_result *r)
{
    (void)v;
    number(r, addr_port(&f->conn->peer));
}

static void flow_direct(const struct log_value *v, const struct proxy_flow_end *f,
                        struct log_result *r)
{
    (void)v;
    address(r, downstream_direct(f->conn), true);
}

static void flow_direct_ip(const struct log_value *v, const struct proxy_flow_end *f,
                           struct log_result *r)
{
    (void)v;
    address(r, downstream_direct(f->conn), false);
}

static void flow_local(const struct log_value *v, const struct proxy_flow_end *f,
                       struct log_result *r)
{
    (void)v;
    address(r, &f->conn->local, true);
}

static void flow_local_ip(const struct log_value *v, const struct proxy_flow_end *f,
                          struct log_result *r)
{
    (void)v;
    address(r, &f->conn->local, false);
}

static void flow_local_port(const struct log_value *v, const struct proxy_flow_end *f,
                            struct log_result *r)
{
    (void)v;
    number(r, addr_port(&f->conn->local));
}

static void flow_server_name(const struct log_value *v, const struct proxy_flow_end *f,
                             struct log_result *r)
{
    (void)v;
    words(r, f->server_name);
}

static void flow_hostname(const struct log_value *v, const struct proxy_flow_end *f,
                          struct log_result *r)
{
    (void)v;
    (void)f;
    hostname(r);
}

static void flow_nothing(const struct log_value *v, const struct proxy_flow_end *f,
                         struct log_result *r)
{
    (void)v; // what only a request has
    (void)f;
    (void)r;
}

// ---- the table

enum argument { ARG_NONE, ARG_FIELD, ARG_FORMAT };

static const struct log_operator {
    const char *name;
    enum argument argument;
    void (*read)(const struct log_value *v, const struct exchange *x, struct log_result *r);
    void (*read_flow)(const struct log_value *v, const struct proxy_flow_end *f,
                      struct log_result *r);
} operators[] = {
    {"START_TIME", ARG_FORMAT, read_start_time, flow_start_time},
    {"REQ", ARG_FIELD, read_req, flow_nothing},
    {"RESP", ARG_FIELD, read_resp, flow_nothing},
    {"TRAILER", ARG_FIELD, read_nothing, flow_nothing},
    {"PROTOCOL", ARG_NONE, read_protocol, flow_nothing},
    {"RESPONSE_CODE", ARG_NONE, read_response_code, flow_code},
    {"RESPONSE_FLAGS", ARG_NONE, read_response_flags, flow_flags},
    {"RESPONSE_CODE_DETAILS", ARG_NONE, read_details, flow_details},
    {"CONNECTION_TERMINATION_DETAILS", ARG_NONE, read_nothing, flow_termination},
    {"BYTES_RECEIVED", ARG_NONE, read_bytes_received, flow_bytes_received},
    {"BYTES_SENT", ARG_NONE, read_bytes_sent, flow_bytes_sent},
    {"DURATION", ARG_NONE, read_duration, flow_duration},
    {"REQUEST_DURATION", ARG_NONE, read_request_duration, flow_nothing},
    {"RESPONSE_DURATION", ARG_NONE, read_response_duration, flow_nothing},
    {"RESPONSE_TX_DURATION", ARG_NONE, read_response_tx_duration, flow_nothing},
    {"UPSTREAM_HOST", ARG_NONE, read_upstream_host, flow_upstream_host},
    {"UPSTREAM_REMOTE_ADDRESS", ARG_NONE, read_upstream_host, flow_upstream_host},
    {"UPSTREAM_CLUSTER", ARG_NONE, read_upstream_cluster, flow_upstream_cluster},
    {"UPSTREAM_CLUSTER_RAW", ARG_NONE, read_upstream_cluster, flow_upstream_cluster},
    {"UPSTREAM_LOCAL_ADDRESS", ARG_NONE, read_nothing, flow_upstream_local},
    {"UPSTREAM_TLS_VERSION", ARG_NONE, read_upstream_tls_version, flow_nothing},
    {"UPSTREAM_TRANSPORT_FAILURE_REASON", ARG_NONE, read_transport_failure, flow_transport_failure},
    {"UPSTREAM_REQUEST_ATTEMPT_COUNT", ARG_NONE, read_attempts, flow_attempts},
    {"DOWNSTREAM_REMOTE_ADDRESS", ARG_NONE, read_remote, flow_remote},
    {"DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", ARG_NONE, read_remote_ip, flow_remote_ip},
    {"DOWNSTREAM_REMOTE_PORT", ARG_NONE, read_remote_port, flow_remote_port},
    {"DOWNSTREAM_DIRECT_REMOTE_ADDRESS", ARG_NONE, read_direct, flow_direct},
    {"DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", ARG_NONE, read_direct_ip, flow_direct_ip},
    {"DOWNSTREAM_LOCAL_ADDRESS", ARG_NONE, read_local, flow_local},
    {"DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", ARG_NONE, read_local_ip, flow_local_ip},
    {"DOWNSTREAM_LOCAL_PORT", ARG_NONE, read_local_port, flow_local_port},
    {"REQUESTED_SERVER_NAME", ARG_NONE, read_server_name, flow_server_name},
    {"DOWNSTREAM_TLS_VERSION", ARG_NONE, read_tls_version, flow_nothing},
    {"DOWNSTREAM_TLS_CIPHER", ARG_NONE, read_tls_cipher, flow_nothing},
    {"DOWNSTREAM_PEER_SUBJECT", ARG_NONE, read_peer_subject, flow_nothing},
    {"DOWNSTREAM_PEER_FINGERPRINT_256", ARG_NONE, read_peer_fingerprint, flow_nothing},
    {"ROUTE_NAME", ARG_NONE, read_route_name, flow_nothing},
    {"HOSTNAME", ARG_NONE, read_hostname, flow_hostname},
};
#define OPERATORS (sizeof(operators) / sizeof(operators[0]))

static void to_lower(struct slice s)
{
    char *p = (char *)(uintptr_t)s.ptr; // the caller's own copy
    for (size_t i = 0; i < s.len; i++)
        if (p[i] >= 'A' && p[i] <= 'Z')
            p[i] |= 0x20;
}

// X or X?Y of a field operator.
static bool parse_fields(struct slice argument, struct log_value *out)
{
    ptrdiff_t mark = slice_find(argument, '?');
    to_lower(argument);
    out->name = mark < 0 ? argument : (struct slice){argument.ptr, (size_t)mark};
    out->fallback = mark < 0 ? (struct slice){NULL, 0} : slice_from(argument, (size_t)mark + 1);
    return out->name.len > 0;
}

struct operator_parts {          // NAME(ARGUMENT):LIMIT
    struct slice name, argument; // argument.ptr NULL: no parentheses
    uint64_t limit;
};

static bool split_operator(struct slice op, struct operator_parts *out)
{
    size_t name_len = 0, end = op.len;
    *out = (struct operator_parts){0};
    while (name_len < op.len && op.ptr[name_len] != '(' && op.ptr[name_len] != ':')
        name_len++;
    out->name = (struct slice){op.ptr, name_len};
    struct slice tail = slice_from(op, name_len);
    if (tail.len && tail.ptr[0] == '(') {
        while (end > name_len && op.ptr[end - 1] != ')')
            end--;
        if (end <= name_len + 1)
            return false;
        out->argument = (struct slice){op.ptr + name_len + 1, end - name_len - 2};
        tail = slice_from(op, end);
    }
    return tail.len == 0 || (tail.ptr[0] == ':' && slice_to_u64(slice_from(tail, 1), &out->limit));
}

static int find_operator(struct slice name)
{
    for (size_t i = 0; i < OPERATORS; i++)
        if (slice_eq(name, slice_of(operators[i].name)))
            return (int)i;
    return -1;
}

bool log_value_parse(char *op, size_t len, struct log_value *out, char *error, size_t cap)
{
    struct operator_parts parts;
    int shown = (int)(len < 80 ? len : 80);
    bool ok = split_operator((struct slice){op, len}, &parts);
    int i = find_operator(parts.name);
    memset(out, 0, sizeof(*out));
    if (i < 0) {
        snprintf(error, cap, "access log format: unknown operator %%%.*s%%", shown, op);
        return false;
    }
    out->operator = (uint8_t)i;
    out->max_len = parts.limit > LOG_VALUE_MAX ? LOG_VALUE_MAX : (uint32_t)parts.limit;
    if (operators[i].argument == ARG_FIELD)
        ok = ok && parts.argument.ptr && parse_fields(parts.argument, out);
    else if (operators[i].argument == ARG_FORMAT)
        out->name = parts.argument;
    else
        ok = ok && !parts.argument.ptr;
    if (!ok)
        snprintf(error, cap, "access log format: %%%.*s%% is not %s%s", shown, op,
                 operators[i].name, operators[i].argument == ARG_FIELD ? "(NAME)" : "");
    return ok;
}

static void cut(const struct log_value *v, struct log_result *r)
{
    size_t limit = v->max_len ? v->max_len : LOG_VALUE_MAX;
    if (r->text.len > limit)
        r->text.len = limit;
}

void log_value_read(const struct log_value *v, const struct exchange *x, struct log_result *r)
{
    operators[v->operator].read(v, x, r);
    cut(v, r);
}

void log_value_read_flow(const struct log_value *v, const struct proxy_flow_end *f,
                         struct log_result *r)
{
    operators[v->operator].read_flow(v, f, r);
    cut(v, r);
}
