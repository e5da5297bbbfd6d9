// HTTP vocabulary shared by all versions: methods, status reasons and the field names that the
// gateway itself reads or writes, as tokens, so that a lookup is an integer comparison.
#pragma once
#include "core/slice.h"
#include <stdint.h>

// X(token, "name")
#define HTTP_FIELD_TABLE(X)                                 \
    X(HOST, "host")                                         \
    X(CONNECTION, "connection")                             \
    X(KEEP_ALIVE, "keep-alive")                             \
    X(PROXY_CONNECTION, "proxy-connection")                 \
    X(TRANSFER_ENCODING, "transfer-encoding")               \
    X(CONTENT_LENGTH, "content-length")                     \
    X(TE, "te")                                             \
    X(TRAILER, "trailer")                                   \
    X(UPGRADE, "upgrade")                                   \
    X(HTTP2_SETTINGS, "http2-settings")                     \
    X(EXPECT, "expect")                                     \
    X(DATE, "date")                                         \
    X(SERVER, "server")                                     \
    X(CONTENT_TYPE, "content-type")                         \
    X(USER_AGENT, "user-agent")                             \
    X(REFERER, "referer")                                   \
    X(COOKIE, "cookie")                                     \
    X(LOCATION, "location")                                 \
    X(GRPC_STATUS, "grpc-status")                           \
    X(GRPC_MESSAGE, "grpc-message")                         \
    X(X_FORWARDED_FOR, "x-forwarded-for")                   \
    X(X_FORWARDED_PROTO, "x-forwarded-proto")               \
    X(X_FORWARDED_HOST, "x-forwarded-host")                 \
    X(X_FORWARDED_CLIENT_CERT, "x-forwarded-client-cert")   \
    X(X_REQUEST_ID, "x-request-id")                         \
    X(X_ENVOY_EXTERNAL_ADDRESS, "x-envoy-external-address") \
    X(X_ENVOY_ATTEMPT_COUNT, "x-envoy-attempt-count")       \
    X(X_ENVOY_ORIGINAL_PATH, "x-envoy-original-path")       \
    X(X_ENVOY_ORIGINAL_HOST, "x-envoy-original-host")       \
    X(X_ENVOY_UPSTREAM_SERVICE_TIME, "x-envoy-upstream-service-time")

enum http_field {
    FIELD_OTHER = 0,
#define X(token, name) FIELD_##token,
    HTTP_FIELD_TABLE(X)
#undef X
        FIELD_COUNT
};

// The token of a lower-case name, FIELD_OTHER when it is none of the table.
enum http_field http_field_of(struct slice lower_name);
struct slice http_field_name(enum http_field f);

// "Not Found"; "" for an unknown code (RFC 9110 section 15).
struct slice http_reason(uint32_t status);

bool http_is_token(struct slice s); // RFC 9110 section 5.6.2, not empty
// A host with perhaps a port, as Host and :authority have it (RFC 9112 section 3.2): a name, an
// IPv4 address or an IPv6 address in brackets. Stricter than RFC 3986 has it: no escapes, no user,
// none of !$&'()*+,;=.
bool http_is_authority(struct slice s);
// Of host:port or [address]:port, the host or address alone.
struct slice http_authority_host(struct slice authority);
bool http_method_idempotent(struct slice method); // RFC 9110 section 9.2.2

// The byte lower-cased when it is a token character, else 0 (RFC 9110 section 5.6.2).
extern const uint8_t http_tchar_table[256];
static inline uint8_t http_tchar(uint8_t c)
{
    return http_tchar_table[c];
}

// IMF-fixdate (RFC 9110 section 5.6.7), 29 bytes.
#define HTTP_DATE_BYTES 29
void http_date(uint64_t unix_s, char out[HTTP_DATE_BYTES]);
