// HTTP/1.1 serialisation into a connection's output queue. Framing is always ours: the framing
// fields of the head given are left out and written anew.
#pragma once
#include "core/buf.h"
#include "proto/h1_parse.h"

// false when the output pool is empty (the connection is then to be reset).
bool h1_write_request(struct bufq *out, const struct head *h, enum h1_framing framing,
                      uint64_t content_length, bool upgrade);
bool h1_write_response(struct bufq *out, const struct head *h, enum h1_framing framing,
                       uint64_t content_length, bool keep_alive, bool upgrade,
                       uint8_t minor_version);
bool h1_write_chunk_start(struct bufq *out, size_t len);           // "SIZE\r\n"
bool h1_write_chunk_end(struct bufq *out);                         // "\r\n"
bool h1_write_last_chunk(struct bufq *out, struct head *trailers); // trailers may be NULL
