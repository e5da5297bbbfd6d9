// A small HTTP/1.1 server for the admin side: poll(2), non-blocking, bounded in connections,
// request size and time. It knows nothing of what it serves. One thread calls everything.
#pragma once
#include "admin/text.h"
#include "core/addr.h"
#include "core/err.h"

#define HTTP_SERVER_SITES 3        // sockets to listen on, each with its own budget of connections
#define HTTP_SERVER_CONNECTIONS 24 // for each site; the oldest one gives way to a new one
#define HTTP_SERVER_REQUEST_BYTES 8192 // head and body
#define HTTP_SERVER_TIMEOUT_MS 10000   // for a request to arrive, and for each piece to be taken

struct http_server;

struct http_request { // valid during the call
    uint32_t site;
    struct slice method, path, query; // query without '?', may be empty
    bool from_browser_page;           // has an Origin field: a page asks, not an operator
};

struct http_reply {
    uint32_t status;          // 200 unless set
    const char *content_type; // text/plain unless set
    struct text body;         // taken over
    // A body in pieces: appends to `out` and returns whether there is more. NULL = `body` is all.
    bool (*more)(void *state, struct text *out);
    void *state; // freed with free() in the end
};

struct http_server_config {
    void (*handle)(void *arg, const struct http_request *rq, struct http_reply *reply);
    void *arg;
    int timeout_ms; // 0 = HTTP_SERVER_TIMEOUT_MS
};

struct http_server *http_server_create(const struct http_server_config *cfg);
void http_server_destroy(struct http_server *s);
// ERR_IO with errno. bound: with the port that was chosen when the given one is 0.
enum err http_server_listen(struct http_server *s, uint32_t site, const struct addr *addr,
                            struct addr *bound) must_use;
// A connection that somebody else accepted (tests). Takes over fd, which must be non-blocking.
void http_server_adopt(struct http_server *s, uint32_t site, int fd);
// Waits at most timeout_ms and serves what is ready. Bit i of the result: extra_fds[i] is
// readable. At most 32 of them.
uint32_t http_server_poll(struct http_server *s, int timeout_ms, const int *extra_fds,
                          uint32_t extra_count);
// The value of key in "a=b&c=d", with %XX and + left as they are; {NULL, 0} if absent.
struct slice http_query_value(struct slice query, struct slice key);
