// What the files of the store share: a load in progress, the objects that it makes or finds again,
// and what came of a credential. Control thread. Not for anyone else.
#pragma once
#include "core/map.h"
#include "tls/credential.h"
#include "tls/store.h"
#include <openssl/sha2.h>

#define WHY_CAP 512

enum shared_kind { SHARED_CERT, SHARED_TRUST, SHARED_CTX };
enum { FOR_SERVER, FOR_CLIENT };

struct shared {
    uint8_t key[33]; // kind, digest
    uint32_t references;
    union {
        struct cert *cert;
        struct tls_trust *trust;
        struct tls_ctx *ctx;
    };
};

struct tls_store {
    struct arena arena;
    struct map shared;           // key -> struct shared
    struct map servers, clients; // address -> struct shared of a context
    struct map server_by_ask;    // what a server asks for, without its credentials' bytes -> same
    const char **files;
    uint64_t *file_signs;
    struct tls_store_row *rows;
    uint32_t file_count, row_count, row_cap;
    struct map rows_by_name;
};

// One load.
struct loading {
    struct tls_store *s;
    const struct tls_store *previous;
    const struct tls_store_options *options;
    const char *identity;
    struct findings *findings;
    struct arena scratch;
    struct credential_sources sources;
    struct slice proxy_ns; // where Istio's proxy would run
    struct map entries;    // host -> struct service_entry with subjectAltNames
    char why[WHY_CAP];
};

// What is being made: where its findings go.
struct subject {
    const struct metadata *meta;
    struct pos pos;
};

// Says l->why at the subject.
void store_complain(struct loading *l, const struct subject *who);

// ---- shared objects, by the SHA-256 of all that they are made of

void store_put(struct shared *o); // one reference
// One that this store or the one before it has; held by this one then. NULL: there is none.
struct shared *store_find(struct loading *l, const uint8_t key[33]);
struct shared *store_add(struct loading *l, const uint8_t key[33]); // the caller fills it
struct slice store_key(const uint8_t key[33]);
void store_hash(SHA256_CTX *sha, struct slice text);
void store_hash_list(SHA256_CTX *sha, const struct string_list *list);
void store_hash_peer(SHA256_CTX *sha, const struct tls_peer_settings *p,
                     const struct shared *trust);
void store_key_finish(SHA256_CTX *sha, enum shared_kind kind, uint8_t key[33]);

// ---- credentials: `e` tells whether something was found. Parsed and listed; NULL after a finding.

struct shared *store_take_cert(struct loading *l, const struct subject *who, enum err e,
                               const struct credential *c);
struct shared *store_take_trust(struct loading *l, const struct subject *who, enum err e,
                                const struct credential_ca *c);
void store_row_of_cert(struct loading *l, const char *name, const struct cert *c); // NULL: missing
// The gateway's own, of ISTIO_MUTUAL; where it cannot be read l->why says so.
enum err store_own_identity(struct loading *l, struct credential *out);
enum err store_own_root(struct loading *l, struct credential_ca *out);

// ---- contexts

void store_load_servers(struct loading *l, const struct model *m);
void store_load_clients(struct loading *l, const struct model *m);
