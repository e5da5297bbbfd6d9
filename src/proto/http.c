// HTTP vocabulary: constant tables, no state, any thread.
#include "proto/http.h"
#include <stdio.h>
#include <time.h>

static const struct slice field_names[FIELD_COUNT] = {[FIELD_OTHER] = {"", 0},
#define X(token, text) [FIELD_##token] = {text, sizeof(text) - 1},
                                                      HTTP_FIELD_TABLE(X)
#undef X
};

struct slice http_field_name(enum http_field f)
{
    return field_names[f];
}

// The candidates of one length are few, so the length and the first byte decide almost always.
// tidy: long because it is a table in the form of a switch
enum http_field http_field_of(struct slice name)
{
    switch (name.len) {
#define TRY(token)                                                                             \
    if (memcmp(name.ptr, field_names[FIELD_##token].ptr, field_names[FIELD_##token].len) == 0) \
    return FIELD_##token
    case 2:
        TRY(TE);
        break;
    case 4:
        TRY(HOST);
        TRY(DATE);
        break;
    case 6:
        TRY(COOKIE);
        TRY(EXPECT);
        TRY(SERVER);
        break;
    case 7:
        TRY(UPGRADE);
        TRY(REFERER);
        TRY(TRAILER);
        break;
    case 8:
        TRY(LOCATION);
        break;
    case 10:
        TRY(CONNECTION);
        TRY(USER_AGENT);
        TRY(KEEP_ALIVE);
        break;
    case 11:
        TRY(GRPC_STATUS);
        break;
    case 12:
        TRY(CONTENT_TYPE);
        TRY(X_REQUEST_ID);
        TRY(GRPC_MESSAGE);
        break;
    case 14:
        TRY(CONTENT_LENGTH);
        TRY(HTTP2_SETTINGS);
        break;
    case 15:
        TRY(X_FORWARDED_FOR);
        break;
    case 16:
        TRY(PROXY_CONNECTION);
        TRY(X_FORWARDED_HOST);
        break;
    case 17:
        TRY(TRANSFER_ENCODING);
        TRY(X_FORWARDED_PROTO);
        break;
    case 21:
        TRY(X_ENVOY_ATTEMPT_COUNT);
        TRY(X_ENVOY_ORIGINAL_PATH);
        TRY(X_ENVOY_ORIGINAL_HOST);
        break;
    case 23:
        TRY(X_FORWARDED_CLIENT_CERT);
        break;
    case 25:
        TRY(X_ENVOY_EXTERNAL_ADDRESS);
        break;
    case 29:
        TRY(X_ENVOY_UPSTREAM_SERVICE_TIME);
        break;
#undef TRY
    default:
        break;
    }
    return FIELD_OTHER;
}

struct slice http_reason(uint32_t status)
{
    // clang-format off
    static const struct { uint16_t status; struct slice text; } reasons[] = {
#define R(code, text) {code, {text, sizeof(text) - 1}}
        R(100, "Continue"), R(101, "Switching Protocols"), R(102, "Processing"),
        R(103, "Early Hints"), R(200, "OK"), R(201, "Created"), R(202, "Accepted"),
        R(203, "Non-Authoritative Information"), R(204, "No Content"), R(205, "Reset Content"),
        R(206, "Partial Content"), R(207, "Multi-Status"), R(208, "Already Reported"),
        R(226, "IM Used"), R(300, "Multiple Choices"), R(301, "Moved Permanently"),
        R(302, "Found"), R(303, "See Other"), R(304, "Not Modified"), R(305, "Use Proxy"),
        R(307, "Temporary Redirect"), R(308, "Permanent Redirect"), R(400, "Bad Request"),
        R(401, "Unauthorized"), R(402, "Payment Required"), R(403, "Forbidden"),
        R(404, "Not Found"), R(405, "Method Not Allowed"), R(406, "Not Acceptable"),
        R(407, "Proxy Authentication Required"), R(408, "Request Timeout"), R(409, "Conflict"),
        R(410, "Gone"), R(411, "Length Required"), R(412, "Precondition Failed"),
        R(413, "Payload Too Large"), R(414, "URI Too Long"), R(415, "Unsupported Media Type"),
        R(416, "Range Not Satisfiable"), R(417, "Expectation Failed"), R(418, "I'm a teapot"),
        R(421, "Misdirected Request"), R(422, "Unprocessable Entity"), R(423, "Locked"),
        R(424, "Failed Dependency"), R(425, "Too Early"), R(426, "Upgrade Required"),
        R(428, "Precondition Required"), R(429, "Too Many Requests"),
        R(431, "Request Header Fields Too Large"), R(451, "Unavailable For Legal Reasons"),
        R(500, "Internal Server Error"), R(501, "Not Implemented"), R(502, "Bad Gateway"),
        R(503, "Service Unavailable"), R(504, "Gateway Timeout"),
        R(505, "HTTP Version Not Supported"), R(506, "Variant Also Negotiates"),
        R(507, "Insufficient Storage"),
        R(508, "Loop Detected"), R(510, "Not Extended"), R(511, "Network Authentication Required"),
#undef R
    };
    // clang-format on
    if (status == 200)
        return SLICE("OK");
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
        if (reasons[i].status == status)
            return reasons[i].text;
    return SLICE("");
}

const uint8_t http_tchar_table[256] = {
    ['!'] = '!', ['#'] = '#', ['$'] = '$', ['%'] = '%', ['&'] = '&', ['\''] = '\'', ['*'] = '*',
    ['+'] = '+', ['-'] = '-', ['.'] = '.', ['^'] = '^', ['_'] = '_', ['`'] = '`',   ['|'] = '|',
    ['~'] = '~', ['0'] = '0', ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4',   ['5'] = '5',
    ['6'] = '6', ['7'] = '7', ['8'] = '8', ['9'] = '9', ['a'] = 'a', ['b'] = 'b',   ['c'] = 'c',
    ['d'] = 'd', ['e'] = 'e', ['f'] = 'f', ['g'] = 'g', ['h'] = 'h', ['i'] = 'i',   ['j'] = 'j',
    ['k'] = 'k', ['l'] = 'l', ['m'] = 'm', ['n'] = 'n', ['o'] = 'o', ['p'] = 'p',   ['q'] = 'q',
    ['r'] = 'r', ['s'] = 's', ['t'] = 't', ['u'] = 'u', ['v'] = 'v', ['w'] = 'w',   ['x'] = 'x',
    ['y'] = 'y', ['z'] = 'z', ['A'] = 'a', ['B'] = 'b', ['C'] = 'c', ['D'] = 'd',   ['E'] = 'e',
    ['F'] = 'f', ['G'] = 'g', ['H'] = 'h', ['I'] = 'i', ['J'] = 'j', ['K'] = 'k',   ['L'] = 'l',
    ['M'] = 'm', ['N'] = 'n', ['O'] = 'o', ['P'] = 'p', ['Q'] = 'q', ['R'] = 'r',   ['S'] = 's',
    ['T'] = 't', ['U'] = 'u', ['V'] = 'v', ['W'] = 'w', ['X'] = 'x', ['Y'] = 'y',   ['Z'] = 'z',
};

bool http_is_token(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!http_tchar((uint8_t)s.ptr[i]))
            return false;
    return s.len > 0;
}

static bool is_name_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

static bool is_address_byte(char c)
{
    return (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F') || (c >= '0' && c <= '9') || c == ':' ||
           c == '.';
}

// Where a name or a bracketed address ends, 0 where s does not begin with one.
static size_t host_end(struct slice s)
{
    bool bracket = s.len > 0 && s.ptr[0] == '[';
    size_t i = bracket ? 1 : 0;
    while (i < s.len && (bracket ? is_address_byte(s.ptr[i]) : is_name_byte(s.ptr[i])))
        i++;
    if (!bracket)
        return i;
    return i >= 3 && i < s.len && s.ptr[i] == ']' ? i + 1 : 0;
}

bool http_is_authority(struct slice s)
{
    size_t end = host_end(s);
    if (end == 0 || end == s.len)
        return end > 0;
    struct slice port = slice_from(s, end + 1);
    uint64_t number = 0;
    if (s.ptr[end] != ':' || port.len > 5)
        return false;
    return port.len == 0 || (slice_to_u64(port, &number) && number <= 65535);
}

struct slice http_authority_host(struct slice a)
{
    const char *colon = a.len ? memrchr(a.ptr, ':', a.len) : NULL;
    const char *bracket = a.len ? memrchr(a.ptr, ']', a.len) : NULL;
    if (bracket && a.ptr[0] == '[')
        return (struct slice){a.ptr + 1, (size_t)(bracket - a.ptr - 1)};
    return colon ? (struct slice){a.ptr, (size_t)(colon - a.ptr)} : a;
}

bool http_method_idempotent(struct slice m)
{
    return slice_eq(m, SLICE("GET")) || slice_eq(m, SLICE("HEAD")) ||
           slice_eq(m, SLICE("OPTIONS")) || slice_eq(m, SLICE("TRACE")) ||
           slice_eq(m, SLICE("PUT")) || slice_eq(m, SLICE("DELETE"));
}

void http_date(uint64_t unix_s, char out[HTTP_DATE_BYTES])
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t t = (time_t)unix_s;
    struct tm tm;
    char text[64];
    gmtime_r(&t, &tm);
    snprintf(text, sizeof(text), "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT", days + 3 * tm.tm_wday,
             tm.tm_mday, months + 3 * tm.tm_mon, tm.tm_year + 1900, tm.tm_hour, tm.tm_min,
             tm.tm_sec);
    memcpy(out, text, HTTP_DATE_BYTES);
}
