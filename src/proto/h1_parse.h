// HTTP/1.x message parsing, strict RFC 9112, sans I/O. Bare CR or LF, NUL and other controls, white
// space before a colon, obs-fold, more than one framing are errors, never repaired (DESIGN.md
// section 5).
#pragma once
#include "core/err.h"
#include "proto/head.h"

enum h1_error { // what to answer
    H1_OK = 0,
    H1_BAD_REQUEST = 400,
    H1_TIMEOUT = 408,
    H1_TOO_LARGE = 431,
    H1_NOT_IMPLEMENTED = 501,
    H1_UNAVAILABLE = 503,     // we lack the memory
    H1_GATEWAY_TIMEOUT = 504, // said by the connection, like 408
    H1_VERSION = 505,
};

// How the body is delimited (RFC 9112 section 6.3).
enum h1_framing { H1_BODY_NONE, H1_BODY_LENGTH, H1_BODY_CHUNKED, H1_BODY_UNTIL_CLOSE };

struct h1_message {
    enum h1_framing framing;
    uint64_t content_length;
    bool keep_alive;         // by version and Connection
    bool connection_upgrade; // Connection has "upgrade"
    uint32_t head_len;       // bytes of the head, blank line included
    enum h1_error error;
    const char *details; // static: what is wrong
};

// One past the blank line that ends the head (or trailer section) at data[0..len), or NULL: then
// *scanned becomes len, and a later call with more bytes looks only at what has come since. A bare
// LF counts as a line's end, for the parser to refuse.
const char *h1_find_head_end(const char *data, size_t len, size_t *scanned);

// Parses a whole head at data[0..len). The strings of *h point into data, whose field names are
// lower-cased in place. `scanned` is how many bytes are known to end no head (0 at first); it is
// updated, so that a head costs the same in however many pieces it arrives. MORE: the blank line
// has not come. ERR_SYNTAX: m->error and m->details say why. One empty line before a request is
// skipped.
enum err h1_parse_request(char *data, size_t len, size_t *scanned, struct head *h,
                          struct h1_message *m) must_use;
// `request_method` decides whether a body can follow (HEAD, CONNECT).
enum err h1_parse_response(char *data, size_t len, size_t *scanned, struct slice request_method,
                           struct head *h, struct h1_message *m) must_use;

// Chunked transfer coding (RFC 9112 section 7.1). Chunk extensions are checked and skipped (64
// bytes at most a chunk); trailer bytes are collected by the caller.
struct h1_chunked {
    uint8_t state;
    uint8_t digits;
    uint16_t extension_bytes;
    uint64_t remaining; // of the current chunk
};
enum h1_chunk_event { H1_CHUNK_MORE, H1_CHUNK_DATA, H1_CHUNK_TRAILERS, H1_CHUNK_ERROR };
void h1_chunked_init(struct h1_chunked *c);
// Consumes from the front of *in. DATA: *data is a run of body bytes (in *in it is consumed too).
// TRAILERS: the last chunk has been read, *in begins at the trailer section (parse with
// h1_parse_trailers).
enum h1_chunk_event h1_chunked_next(struct h1_chunked *c, struct slice *in, struct slice *data);
// The trailer section up to its blank line; MORE while that is missing. `scanned` as above.
enum err h1_parse_trailers(char *data, size_t len, size_t *scanned, struct head *h,
                           struct h1_message *m) must_use;
