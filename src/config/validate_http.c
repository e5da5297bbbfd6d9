// The rules of one http route (virtualservice.go, validateHTTPRoute). Owns nothing. Control thread.
#include "config/validate_http.h"
#include "config/rules.h"

bool is_jwt_claim(struct slice header)
{
    struct slice prefix = SLICE("@request.auth.claims");
    if (!slice_has_prefix_nocase(header, prefix))
        return false;
    struct slice rest = slice_from(header, prefix.len);
    return (rest.len > 1 && rest.ptr[0] == '.') ||
           (rest.len > 2 && rest.ptr[0] == '[' && rest.ptr[rest.len - 1] == ']');
}

static void check_subset_name(struct reader *r, struct pos pos, struct slice name)
{
    if (name.len && !is_dns_label(name))
        rule_error(r, pos, "subset name is invalid: %.*s", SLICE_FMT(name));
}

void check_destination(struct reader *r, const struct destination *d)
{
    struct pos pos = d->host_pos.line ? d->host_pos : d->pos;
    const char *error = slice_eq(d->host, SLICE("*")) ? "invalid destination host *"
                                                      : wildcard_domain_error(r->arena, d->host);
    if (error && !d->host.len)
        rule_missing(r, pos, "%s", error);
    else if (error)
        rule_error(r, pos, "%s", error);
    check_subset_name(r, d->subset_pos, d->subset);
    if (d->port_pos.line)
        check_port(r, d->port_pos, d->port);
}

// ---- what may stand beside what

static void check_root(struct reader *r, const struct http_route *h)
{
    if (h->redirect)
        rule_error(r, h->redirect->pos, "root HTTP route %.*s must not specify redirect",
                   SLICE_FMT(h->name));
    if (h->route_count)
        rule_error(r, h->routes[0].pos, "root HTTP route %.*s must not specify route",
                   SLICE_FMT(h->name));
}

static void check_conflicts(struct reader *r, const struct http_route *h, bool in_delegate)
{
    if (h->delegate && !in_delegate) {
        check_root(r, h);
        return;
    }
    if (h->delegate)
        rule_error(r, h->delegate->pos, "delegate HTTP route cannot contain delegate");
    if (!h->redirect && !h->direct_response) {
        if (!h->route_count)
            rule_missing(r, h->pos, "HTTP route, redirect or direct_response is required");
        return;
    }
    const char *action = h->redirect ? "redirect" : "direct_response";
    if (h->route_count)
        rule_error(r, h->pos, "HTTP route cannot contain both route and %s", action);
    if (h->fault)
        rule_error(r, h->pos, "HTTP route cannot contain both fault and %s", action);
    if (h->rewrite)
        rule_error(r, h->pos, "HTTP route rule cannot contain both rewrite and %s", action);
    if (h->redirect && h->direct_response)
        rule_error(r, h->pos, "HTTP route rule cannot contain both direct_response and redirect");
}

// ---- match

static void check_string_match(struct reader *r, const struct load_options *options,
                               const struct string_match *m, const char *where, bool empty_prefix)
{
    if (m && m->kind == MATCH_PREFIX && m->text.len == 0 && !empty_prefix)
        rule_error(r, m->pos, "\"%s\": prefix string match should not be empty", where);
    if (m && m->kind == MATCH_REGEX)
        check_regex(r, options, m->pos, m->text, where);
}

static bool is_pseudo_header(struct slice name)
{
    static const char *const names[] = {":method", ":scheme", ":authority", ":path", ":status"};
    for (uint32_t i = 0; i < COUNT_OF(names); i++)
        if (slice_eq(name, slice_of(names[i])))
            return true;
    return false;
}

static void check_header_matches(struct reader *r, const struct load_options *options,
                                 const struct named_match_list *list, const char *where,
                                 const char *mesh)
{
    for (uint32_t i = 0; i < list->count; i++) {
        const struct named_match *m = &list->items[i];
        bool presence = m->match.kind == MATCH_REGEX && slice_eq(m->match.text, SLICE("*"));
        if (m->name.len == 0)
            rule_error(r, m->pos, "header name cannot be empty");
        else if (is_jwt_claim(m->name) && mesh)
            rule_error(
                r, m->pos,
                "JWT claim based routing (key: %.*s) is only supported for gateway, found no "
                "gateways: [%s]",
                SLICE_FMT(m->name), mesh);
        else if (!is_jwt_claim(m->name) && !is_pseudo_header(m->name) && !is_header_name(m->name))
            rule_error(r, m->pos, "header name %.*s is not a valid header name",
                       SLICE_FMT(m->name));
        if (!presence) // `*` is no regular expression, it asks for presence
            check_string_match(r, options, &m->match, where, false);
    }
}

static void check_match(struct reader *r, const struct load_options *options,
                        const struct http_match *m, const char *mesh)
{
    check_header_matches(r, options, &m->headers, "headers", mesh);
    check_header_matches(r, options, &m->without_headers, "withoutHeaders", mesh);
    check_string_match(r, options, m->uri, "uri", true);
    check_string_match(r, options, m->scheme, "scheme", false);
    check_string_match(r, options, m->method, "method", false);
    check_string_match(r, options, m->authority, "authority", false);
    for (uint32_t i = 0; i < m->query_params.count; i++)
        check_string_match(r, options, &m->query_params.items[i].match, "queryParams", false);
    if (m->port)
        check_port(r, m->pos, m->port);
    check_labels(r, &m->source_labels);
    check_gateway_names(r, &m->gateways);
    if (m->source_namespace.len && !is_dns_label(m->source_namespace))
        rule_error(r, m->pos, "sourceNamespace match %.*s is invalid",
                   SLICE_FMT(m->source_namespace));
}

// ---- actions

static bool needs_prefix_match(const struct http_route *h)
{
    for (uint32_t i = 0; i < h->match_count; i++)
        if (h->matches[i].uri && h->matches[i].uri->kind != MATCH_PREFIX)
            return true;
    return false;
}

// What is written into a request line, a Host or a Location. A line's end there would begin
// another field or message; so would a space in a request's target, to some who read it. Envoy's
// API refuses the one and lets the other through.
static void check_written(struct reader *r, struct pos pos, struct slice text, bool spaces,
                          const char *field)
{
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = (uint8_t)text.ptr[i];
        if (c < 0x20 || c == 0x7f || (c == ' ' && !spaces)) {
            rule_error(r, pos, "%s cannot have %s", field,
                       c == ' ' ? "spaces" : "control characters");
            return;
        }
    }
}

static void check_redirect(struct reader *r, const struct http_route *h)
{
    const struct http_redirect *d = h->redirect;
    if (!d)
        return;
    check_written(r, d->pos, d->uri, true, "redirect uri");
    check_written(r, d->pos, d->prefix_rewrite, true, "redirect prefix_rewrite");
    check_written(r, d->pos, d->authority, false, "redirect authority");
    if (d->uri.len && d->prefix_rewrite.len)
        rule_error(r, d->pos, "redirect may only specify one of uri or prefix_rewrite");
    else if (d->prefix_rewrite.len && needs_prefix_match(h))
        rule_error(r, d->pos,
                   "redirect prefix_rewrite requires all URI matches to use prefix match type");
    else if (!d->uri.len && !d->prefix_rewrite.len && !d->authority.len && !d->scheme.len &&
             d->port_kind == REDIRECT_PORT_UNSET)
        rule_missing(r, d->pos, "redirect must specify URI, authority, scheme, or port");
    else if (d->code && (d->code < 300 || d->code > 399))
        rule_error(r, d->pos, "%u is not a valid redirect code, must be 3xx", d->code);
    else if (d->scheme.len && !slice_eq(d->scheme, SLICE("http")) &&
             !slice_eq(d->scheme, SLICE("https")))
        rule_error(r, d->pos, "invalid redirect scheme, must be \"http\" or \"https\"");
    else if (d->port)
        check_port(r, d->pos, d->port);
}

static void check_status(struct reader *r, struct pos pos, int64_t status)
{
    if (status < 200 || status > 600)
        rule_error(r, pos, "HTTP status %lld is not in range 200-599", (long long)status);
}

static void check_direct_response(struct reader *r, const struct http_direct_response *d)
{
    if (!d)
        return;
    if (d->body.len > (size_t)1024 * 1024)
        rule_error(r, d->body_pos,
                   "large direct_responses may impact control plane performance, must be less than "
                   "1MB");
    else if (d->body.len > (size_t)100 * 1024)
        rule_warning(r, d->body_pos, "large direct_responses may impact control plane performance");
    check_status(r, d->pos, d->status);
}

// `uri: " "` is how Istio's users take a prefix away, because it cannot be empty. What reaches
// their servers from Envoy is a request line with one space too many.
static void check_rewritten_uri(struct reader *r, const struct http_rewrite *w)
{
    if (!w->uri.len || slice_trim(w->uri).len)
        check_written(r, w->pos, w->uri, false, "rewrite uri");
    else
        rule_warning(
            r, w->pos,
            "rewrite uri is blank: what was matched is taken away and the path begins with "
            "\"/\"; Envoy would send the space in the request line");
}

static void check_rewrite(struct reader *r, const struct load_options *options,
                          const struct http_rewrite *w)
{
    if (!w)
        return;
    check_rewritten_uri(r, w);
    check_written(r, w->pos, w->authority, false, "rewrite authority");
    if (w->uri_regex)
        check_written(r, w->uri_regex->pos, w->uri_regex->rewrite, false,
                      "UriRegexRewrite rewrite");
    if (w->uri.len && w->uri_regex)
        rule_error(r, w->pos, "rewrite may only contain one of URI or UriRegexRewrite");
    else if (!w->uri.len && !w->uri_regex && !w->authority.len)
        rule_missing(
            r, w->pos,
            "rewrite must specify at least one of URI, UriRegexRewrite, or authority. Only one "
            "of URI or UriRegexRewrite may be specified");
    else if (w->uri_regex && (!w->uri_regex->match.len || !w->uri_regex->rewrite.len))
        rule_missing(r, w->uri_regex->pos,
                     "UriRegexRewrite requires both Rewrite and Match fields to be specified");
    else if (w->uri_regex)
        check_regex(r, options, w->uri_regex->pos, w->uri_regex->match,
                    "HTTPRewrite.UriRegexRewrite.Match");
}

static void check_one_authority(struct reader *r, const struct label_map *map,
                                struct slice *current)
{
    for (uint32_t i = 0; i < map->count; i++) {
        const struct label *l = &map->items[i];
        if (!slice_eq_nocase(l->key, SLICE(":authority")) &&
            !slice_eq_nocase(l->key, SLICE("host")))
            continue;
        if (current->len)
            rule_error(
                r, l->pos,
                "authority header cannot be set multiple times: have \"%.*s\", attempting to "
                "set \"%.*s\"",
                SLICE_FMT(*current), SLICE_FMT(l->value));
        check_written(r, l->pos, l->value, false, "authority header");
        *current = l->value;
    }
}

static void check_authority(struct reader *r, const struct http_route *h)
{
    struct slice current = h->rewrite ? h->rewrite->authority : (struct slice){NULL, 0};
    if (!h->headers || !h->headers->request)
        return;
    check_one_authority(r, &h->headers->request->set, &current);
    check_one_authority(r, &h->headers->request->add, &current);
}

// ---- retries

// The status codes that Go's net/http has a text for.
static bool is_named_status(uint64_t code)
{
    static const struct {
        uint16_t first, last;
    } ranges[] = {
        {100, 103}, {200, 208}, {226, 226}, {300, 305}, {307, 308}, {400, 418},
        {421, 426}, {428, 429}, {431, 431}, {451, 451}, {500, 508}, {510, 511},
    };
    for (uint32_t i = 0; i < COUNT_OF(ranges); i++)
        if (code >= ranges[i].first && code <= ranges[i].last)
            return true;
    return false;
}

// Not trimmed: " 418" behind a comma is refused, as by Istio.
static bool is_retry_policy(struct slice name)
{
    static const char *const names[] = {
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "retriable-4xx",
        "refused-stream",
        "retriable-status-codes",
        "retriable-headers",
        "envoy-ratelimited",
        "http3-post-connect-failure",
        "cancelled",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "unavailable",
    };
    uint64_t code;
    for (uint32_t i = 0; i < COUNT_OF(names); i++)
        if (slice_eq(name, slice_of(names[i])))
            return true;
    return slice_to_u64(name, &code) && is_named_status(code);
}

static void check_retries(struct reader *r, const struct http_retry *t)
{
    struct slice rest, policy;
    if (!t)
        return;
    if (t->attempts < 0)
        rule_error(r, t->pos, "attempts cannot be negative");
    if (t->attempts == 0 && (t->per_try_timeout_ns != DURATION_UNSET || t->retry_on.len ||
                             t->retry_remote_localities >= 0))
        rule_missing(r, t->pos,
                     "http retry policy configured when attempts are set to 0 (disabled)");
    check_duration(r, t->pos, t->per_try_timeout_ns);
    check_duration(r, t->pos, t->backoff_ns);
    rest = t->retry_on;
    while (rest.len && slice_split(&rest, ',', &policy))
        if (!is_retry_policy(policy))
            rule_error(r, t->pos, "\"%.*s\" is not a valid retryOn policy", SLICE_FMT(policy));
}

// ---- fault, mirror, cors

static void check_percentage(struct reader *r, struct pos pos, struct percent p)
{
    if (p.given && (p.value < 0 || p.value > 100 || (p.value > 0 && p.value < 0.0001)))
        rule_error(r, pos, "percentage %g is neither 0.0, nor in range [0.0001, 100.0]", p.value);
}

static void check_fault(struct reader *r, const struct http_fault *f)
{
    static const char *const codes[] = {
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    };
    bool known = f && f->abort_grpc_status.len == 0;
    if (!f)
        return;
    if (!f->has_abort && !f->has_delay)
        rule_missing(r, f->pos, "HTTP fault injection must have an abort and/or a delay");
    check_percentage(r, f->pos, f->abort_percentage);
    check_percentage(r, f->pos, f->delay_percentage);
    check_duration(r, f->pos, f->fixed_delay_ns);
    for (uint32_t i = 0; i < COUNT_OF(codes) && !known; i++)
        known = slice_eq(f->abort_grpc_status, slice_of(codes[i]));
    if (!known)
        rule_error(r, f->pos,
                   "gRPC status \"%.*s\" is not supported. See "
                   "https://github.com/grpc/grpc/blob/master/doc/statuscodes.md for a list of "
                   "supported codes, for example 'NOT_FOUND'",
                   SLICE_FMT(f->abort_grpc_status));
    if (f->abort_http2_error.len)
        rule_error(r, f->pos, "HTTP/2 abort fault injection not supported yet");
    else if (f->abort_http_status)
        check_status(r, f->pos, f->abort_http_status);
    else if (f->has_abort && !f->abort_grpc_status.len)
        rule_warning(r, f->pos, "abort configured, but error type not set");
}

static void check_mirrors(struct reader *r, const struct http_route *h)
{
    for (uint32_t i = 0; i < h->mirror_count; i++) {
        const struct http_mirror *m = &h->mirrors[i];
        if (!m->destination.pos.line)
            rule_missing(r, m->pos, "destination is required for mirrors");
        else
            check_destination(r, &m->destination);
        if (m->percentage.given && m->percentage.value > 100)
            rule_error(r, m->pos, "mirror percentage must have a max value of 100 (it has %f)",
                       m->percentage.value);
        if (m->percentage.given && m->percentage.value < 0)
            rule_error(r, m->pos, "mirror percentage must have a min value of 0 (it has %f)",
                       m->percentage.value);
    }
}

static bool is_cors_method(struct slice name)
{
    static const char *const names[] = {"GET",    "HEAD",    "POST",    "PUT",   "PATCH",
                                        "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"};
    for (uint32_t i = 0; i < COUNT_OF(names); i++)
        if (slice_eq(name, slice_of(names[i])))
            return true;
    return false;
}

static void check_cors_headers(struct reader *r, const struct string_list *names)
{
    for (uint32_t i = 0; i < names->count; i++) {
        const struct string_item *it = &names->items[i];
        if (it->text.len == 0)
            rule_error(r, it->pos, "header name cannot be empty");
        else if (!is_header_name(it->text))
            rule_error(r, it->pos, "header name %.*s is not a valid header name",
                       SLICE_FMT(it->text));
    }
}

static void check_cors(struct reader *r, const struct load_options *options,
                       const struct cors_policy *c)
{
    if (!c)
        return;
    for (uint32_t i = 0; i < c->allow_origin_count; i++) {
        const struct string_match *m = &c->allow_origins[i];
        if (m->text.len == 0)
            rule_error(r, m->pos, "'' is not a valid match type for CORS allow origins");
        else
            check_string_match(r, options, m, "corsPolicy.allowOrigins", true);
    }
    for (uint32_t i = 0; i < c->allow_methods.count; i++)
        if (!is_cors_method(c->allow_methods.items[i].text))
            rule_error(r, c->allow_methods.items[i].pos, "\"%.*s\" is not a supported HTTP method",
                       SLICE_FMT(c->allow_methods.items[i].text));
    check_cors_headers(r, &c->allow_headers);
    check_cors_headers(r, &c->expose_headers);
    check_duration(r, c->pos, c->max_age_ns);
    if (c->max_age_ns != DURATION_UNSET && c->max_age_ns % 1000000000)
        rule_error(r, c->pos, "max_age duration is accurate only to seconds precision");
}

static void check_destinations(struct reader *r, const struct http_route *h)
{
    int64_t total = 0;
    for (uint32_t i = 0; i < h->route_count; i++) {
        const struct http_route_destination *d = &h->routes[i];
        if (!d->destination.pos.line)
            rule_missing(r, d->pos, "destination is required");
        else
            check_destination(r, &d->destination);
        check_header_operations(r, d->headers);
        if (d->weight < 0)
            rule_error(r, d->pos, "weight %d < 0", d->weight);
        total += d->weight;
    }
    if (h->route_count > 1 && total == 0)
        rule_missing(r, h->pos, "total destination weight = 0");
}

void validate_http_route(struct reader *r, const struct load_options *options,
                         const struct http_route *h, bool in_delegate, const char *mesh)
{
    check_conflicts(r, h, in_delegate);
    for (uint32_t i = 0; i < h->match_count; i++)
        check_match(r, options, &h->matches[i], mesh);
    check_header_operations(r, h->headers);
    check_cors(r, options, h->cors);
    check_fault(r, h->fault);
    check_mirrors(r, h);
    check_redirect(r, h);
    check_direct_response(r, h->direct_response);
    check_retries(r, h->retries);
    check_rewrite(r, options, h->rewrite);
    check_authority(r, h);
    check_destinations(r, h);
    if (h->timeout_ns != 0) // `0s` turns the timeout off, as Envoy takes it
        check_duration(r, h->timeout_pos, h->timeout_ns);
}
