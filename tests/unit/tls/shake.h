// A handshake between two contexts in memory.
#pragma once
#include "tls/ctx_internal.h"

struct shaken {
    SSL *client, *server;
    bool done;                      // both sides
    int client_alert, server_alert; // received by that side; 0 = none
};

// Takes over `client`.
void shake(struct shaken *s, struct tls_ctx *server, SSL *client);
void shake_contexts(struct shaken *s, struct tls_ctx *server, struct tls_ctx *client,
                    const char *host);
void shake_fini(struct shaken *s);
// A client that trusts anyone; `identity` may be NULL. The caller may set more before it shakes.
struct made;
SSL *plain_client(const struct made *identity);
