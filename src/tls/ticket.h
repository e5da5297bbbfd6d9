// Keys of session tickets (RFC 5077; RFC 8446, 4.6.1), one set for all servers and workers: what
// one worker issues every other resumes. The control thread makes the keys and turns them;
// workers read the set through one pointer, without a lock.
//
// A ticket is sealed with AES-256-GCM under the key of its time and bound to the server's policy
// (tls_ctx_policy): under another policy it opens for nobody. The key before the last turn still
// opens; one older does not. Keys are never written anywhere: a restart ends all tickets.
#pragma once
#include "core/err.h"
#include "core/rcu.h"

struct tls_ctx;
struct tls_tickets;

// Between two turns, and how long a ticket is good for: the key before the last turn opens it
// still.
#define TLS_TICKET_TURN_S (12u * 3600u)

// Control thread. `rcu`: of the workers, lives longer than this. NULL when out of memory.
struct tls_tickets *tls_tickets_create(struct rcu *rcu);
void tls_tickets_destroy(struct tls_tickets *t); // no context that uses it may be in use any more
// A new key becomes the current one, the current the previous. ERR_NOMEM: nothing has changed.
enum err tls_tickets_turn(struct tls_tickets *t) must_use;
// The context issues and takes these tickets; without it, it keeps keys of its own. Before its
// first handshake. The tickets live longer than the context.
void tls_tickets_attach(struct tls_tickets *t, struct tls_ctx *server);
