// The cache of client sessions. Owns the sessions in its slots. A slot's content belongs to whoever
// exchanged it out. Any thread.
#include "tls/session.h"
#include <openssl/ssl.h>
#include <stdlib.h>

#define WAYS 4u // slots that one host may use

struct session_entry {
    SSL_SESSION *session;
    size_t host_len;
    char host[];
};

static void entry_destroy(struct session_entry *e)
{
    if (!e)
        return;
    SSL_SESSION_free(e->session);
    free(e);
}

static void store(struct session_cache *c, uint32_t slot, struct session_entry *e)
{
    entry_destroy(atomic_exchange_explicit(&c->slots[slot], e, memory_order_acq_rel));
}

static uint32_t slot_of(struct slice host, uint32_t way)
{
    return (uint32_t)(slice_hash_nocase(host) + way) % SESSION_SLOTS;
}

void session_cache_fini(struct session_cache *c)
{
    for (uint32_t i = 0; i < SESSION_SLOTS; i++)
        store(c, i, NULL);
}

void session_cache_put(struct session_cache *c, struct slice host, SSL_SESSION *s)
{
    struct session_entry *e = malloc(sizeof(*e) + host.len);
    if (!e) {
        SSL_SESSION_free(s);
        return;
    }
    *e = (struct session_entry){.session = s, .host_len = host.len};
    if (host.len)
        memcpy(e->host, host.ptr, host.len);
    uint32_t way = atomic_fetch_add_explicit(&c->next, 1, memory_order_relaxed) % WAYS;
    store(c, slot_of(host, way), e);
}

// Back where it was, unless something newer is there by now.
static void give_back(struct session_cache *c, uint32_t slot, struct session_entry *e)
{
    struct session_entry *none = NULL;
    if (!atomic_compare_exchange_strong_explicit(&c->slots[slot], &none, e, memory_order_acq_rel,
                                                 memory_order_relaxed))
        entry_destroy(e);
}

SSL_SESSION *session_cache_take(struct session_cache *c, struct slice host)
{
    for (uint32_t way = 0; way < WAYS; way++) {
        uint32_t slot = slot_of(host, way);
        struct session_entry *e =
            atomic_exchange_explicit(&c->slots[slot], NULL, memory_order_acq_rel);
        if (!e)
            continue;
        if (!slice_eq_nocase(host, (struct slice){e->host, e->host_len})) {
            give_back(c, slot, e);
            continue;
        }
        SSL_SESSION *s = e->session;
        SSL_SESSION_up_ref(s);
        if (SSL_SESSION_should_be_single_use(s))
            entry_destroy(e);
        else
            give_back(c, slot, e);
        return s;
    }
    return NULL;
}
