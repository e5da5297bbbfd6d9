// The rules of header names and values (validation.go, header_value_validator.go). Owns nothing.
// Control thread.
#include "config/rules.h"
#include "config/validate_http.h"

bool is_header_name(struct slice s)
{
    static const char marks[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              (c && strchr(marks, c))))
            return false;
    }
    return s.len > 0;
}

static bool is_internal(struct slice name)
{
    return (name.len && name.ptr[0] == ':') || slice_eq_nocase(name, SLICE("host"));
}

static bool is_authority(struct slice name)
{
    return slice_eq_nocase(name, SLICE(":authority")) || slice_eq_nocase(name, SLICE("host"));
}

static void check_name(struct reader *r, struct pos pos, struct slice name, bool authority_allowed)
{
    if (name.len == 0)
        rule_error(r, pos, "header name cannot be empty");
    else if (authority_allowed && is_authority(name))
        return;
    else if (slice_eq_nocase(name, SLICE("host")))
        rule_error(r, pos, "invalid header \"%.*s\": cannot set Host header", SLICE_FMT(name));
    else if (is_internal(name))
        rule_error(r, pos, "invalid header \"%.*s\": header cannot have \":\" prefix",
                   SLICE_FMT(name));
    else if (!is_header_name(name))
        rule_error(r, pos, "header name %.*s is not a valid header name", SLICE_FMT(name));
}

// Fields of the connection or of the message's framing (RFC 9110 section 7.6.1, RFC 9112 section
// 6). Istio lets them be set, and Envoy then frames a message by what was set: the next bytes are
// read as something they are not.
static const struct {
    const char *name;
    bool always_ours; // taken away and written anew whatever the document says
} connection_headers[] = {
    {"connection", true}, {"content-length", true},    {"http2-settings", true},
    {"keep-alive", true}, {"proxy-connection", true},  {"te", false},
    {"trailer", false},   {"transfer-encoding", true}, {"upgrade", true},
};

static void check_connection_header(struct reader *r, struct pos pos, struct slice name,
                                    bool remove)
{
    for (size_t i = 0; i < COUNT_OF(connection_headers); i++) {
        if (!slice_eq_nocase(name, slice_of(connection_headers[i].name)))
            continue;
        if (!remove)
            rule_error(r, pos,
                       "invalid header \"%.*s\": cannot set a header of the connection or of the "
                       "message's framing",
                       SLICE_FMT(name));
        else if (connection_headers[i].always_ours)
            rule_warning(r, pos,
                         "header \"%.*s\" is the gateway's own on every connection: removing it "
                         "changes nothing",
                         SLICE_FMT(name));
    }
}

// Envoy's header_parser.cc as a machine: where in `text %VAR(args)% text` it stands.
enum value_state {
    LITERAL,
    VARIABLE,
    EXPECT_ARRAY,
    EXPECT_STRING,
    STRING,
    EXPECT_COMMA,
    EXPECT_PAREN,
    EXPECT_END,
};

// What is wrong with c in this state, or NULL after *state was moved on; *skip: the next one is
// escaped.
static const char *value_step(enum value_state *state, char c, bool last, char next, bool *skip)
{
    switch (*state) {
    case LITERAL:
        if (c != '%')
            return NULL;
        if (last)
            return "Un-escaped %";
        *skip = next == '%';
        *state = *skip ? LITERAL : VARIABLE;
        return NULL;
    case VARIABLE:
        *state = c == '%' ? LITERAL : c == '(' ? EXPECT_ARRAY : VARIABLE;
        return NULL;
    case EXPECT_ARRAY:
        *state = c == '[' ? EXPECT_STRING : c == ' ' ? EXPECT_ARRAY : STRING;
        return NULL;
    case EXPECT_STRING:
        *state = c == '"' ? STRING : EXPECT_STRING;
        return c == '"' || c == ' ' ? NULL : "Expecting '\"'";
    case STRING:
        if (c == '\\' && last)
            return "Un-terminated backslash in JSON string";
        *skip = c == '\\';
        *state = c == ')' ? EXPECT_END : c == '"' ? EXPECT_COMMA : STRING;
        return NULL;
    case EXPECT_COMMA:
        *state = c == ',' ? EXPECT_STRING : c == ']' ? EXPECT_PAREN : EXPECT_COMMA;
        return c == ',' || c == ']' || c == ' ' ? NULL : "Expecting ',', ']', or whitespace";
    case EXPECT_PAREN:
        *state = c == ')' ? EXPECT_END : EXPECT_PAREN;
        return c == ')' || c == ' ' ? NULL
                                    : "Expecting ')' or whitespace after '{}', but found '{}'";
    case EXPECT_END:
        *state = c == '%' ? LITERAL : EXPECT_END;
        return c == '%' || c == ' ' ? NULL : "Expecting '%' or whitespace after";
    }
    return NULL;
}

static void check_value(struct reader *r, struct pos pos, struct slice value)
{
    enum value_state state = LITERAL;
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.ptr[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            rule_error(r, pos, "header value configuration %.*s is invalid", SLICE_FMT(value));
            return;
        }
    }
    for (size_t i = 0; i < value.len; i++) {
        bool last = i + 1 == value.len, skip = false;
        const char *error =
            value_step(&state, value.ptr[i], last, last ? 0 : value.ptr[i + 1], &skip);
        if (error) {
            rule_error(r, pos, "header value configuration: invalid header configuration. %s",
                       error);
            return;
        }
        i += skip;
    }
    if (state != LITERAL)
        rule_error(
            r, pos,
            "header value configuration: invalid header configuration. Un-terminated variable "
            "expression '%.*s'",
            SLICE_FMT(value));
}

static void check_map(struct reader *r, const struct label_map *map, bool authority_allowed)
{
    for (uint32_t i = 0; i < map->count; i++) {
        check_name(r, map->items[i].pos, map->items[i].key, authority_allowed);
        check_connection_header(r, map->items[i].pos, map->items[i].key, false);
        check_value(r, map->items[i].pos, map->items[i].value);
    }
}

static void check_operations(struct reader *r, const struct header_operations *o, bool request)
{
    if (!o)
        return;
    check_map(r, &o->add, request);
    check_map(r, &o->set, request);
    for (uint32_t i = 0; i < o->remove.count; i++) {
        check_name(r, o->remove.items[i].pos, o->remove.items[i].text, false);
        check_connection_header(r, o->remove.items[i].pos, o->remove.items[i].text, true);
    }
}

void check_header_operations(struct reader *r, const struct headers *h)
{
    if (!h)
        return;
    check_operations(r, h->request, true);
    check_operations(r, h->response, false);
}
