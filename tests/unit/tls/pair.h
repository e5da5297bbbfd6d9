// A client and a server of tls/conn in memory, with keys and certificates made for the run.
#pragma once
#include "core/bufring.h"
#include "core/ring.h"
#include "tls/conn_internal.h"

struct side {
    struct tls_conn *conn;
    struct bufq wire;
    uint8_t *got; // plaintext received
    size_t got_len, got_cap;
    enum tls_read last;
    uint32_t in_place, copied; // pieces received
};

struct pair {
    struct tls_pools pools;
    struct pool chunks;
    struct ring ring;
    struct bufring bufs;
    bool with_ring;
    SSL_CTX *server_ctx, *client_ctx;
    SSL_SESSION *session; // the client's newest
    bool resume;          // the client offers it
    struct side server, client;
};

// `ring`: with a receive ring to borrow buffers from.
bool pair_init(struct pair *p, bool ring);
void pair_fini(struct pair *p);
bool pair_connect(struct pair *p, uint16_t version); // TLS1_2_VERSION, … or 0; both sides anew
void pair_disconnect(struct pair *p);
// Moves what is on the wire of `from` in pieces of at most `piece` bytes. False when the wire was
// empty.
bool pair_move(struct side *from, struct side *to, size_t piece);
// Until both wires are empty.
void pair_settle(struct pair *p, size_t piece);
bool pair_is_up(const struct pair *p);
void side_feed(struct side *to, const void *bytes, size_t len);
// Writes all; settles as often as the wire is full.
bool side_write(struct pair *p, struct side *from, const void *bytes, size_t len, size_t piece);
void side_forget(struct side *s);

EVP_PKEY *pair_make_key(void);
X509 *pair_make_certificate(EVP_PKEY *key, const char *name);
