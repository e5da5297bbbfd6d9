// Sessions that a destination gave us, to be resumed with the next connection to it. Shared by all
// workers without a lock: a slot is one pointer, taken and put by atomic exchange, so that nobody
// waits and a session of TLS 1.3 is never offered twice (RFC 8446, C.4). Small on purpose: two
// hosts that share a slot, or workers that connect at the same moment, cost a full handshake.
#pragma once
#include "core/slice.h"
#include <openssl/base.h>
#include <stdatomic.h>

#define SESSION_SLOTS 16u // 2 hosts of 8 connections at a time, or 16 hosts

struct session_entry;
struct session_cache {
    _Atomic(struct session_entry *) slots[SESSION_SLOTS];
    atomic_uint next; // where the next one of a host goes
};

void session_cache_fini(struct session_cache *c);
// Takes over a reference of `s`, which was made with the server of that name.
void session_cache_put(struct session_cache *c, struct slice host, SSL_SESSION *s);
// A session of that host, whose reference is the caller's; NULL when there is none. One that may
// be used again (TLS 1.2) stays.
SSL_SESSION *session_cache_take(struct session_cache *c, struct slice host);
