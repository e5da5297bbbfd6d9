// Ticket keys. Owns the published set and the retired ones; the control thread writes, workers read
// between two quiescent states.
//
// A ticket: name of the key (16 bytes), nonce (12), the session sealed, tag (16). The nonce is
// random: with 2^32 tickets under a key two nonces meet with a probability of 2^-33, and a
// key of 12 hours issues fewer.
#include "tls/ticket.h"
#include "core/check.h"
#include "tls/ctx_internal.h"
#include <openssl/aead.h>
#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdlib.h>

#define NAME_BYTES 16
#define NONCE_BYTES 12
#define KEY_BYTES 32
#define TAG_BYTES 16
#define OVERHEAD (NAME_BYTES + NONCE_BYTES + TAG_BYTES)
#define POLICY_BYTES 32

struct key {
    uint8_t name[NAME_BYTES];
    uint8_t bytes[KEY_BYTES];
    EVP_AEAD_CTX aead;
};

// Immutable once published, but for `next` and `epoch`, which the control thread alone uses.
struct key_set {
    struct key keys[2]; // the current one, the previous
    uint32_t count;
    struct key_set *next; // retired before this
    uint64_t epoch;       // of its retirement
};

struct tls_tickets {
    _Atomic(struct key_set *) live;
    struct rcu *rcu;
    struct key_set *retired;
};

static int ctx_index; // where an SSL_CTX keeps its struct tls_tickets

// --- keys ---

static bool key_init(struct key *k)
{
    return EVP_AEAD_CTX_init(&k->aead, EVP_aead_aes_256_gcm(), k->bytes, KEY_BYTES, TAG_BYTES,
                             NULL);
}

static void set_destroy(struct key_set *s)
{
    if (!s)
        return;
    for (uint32_t i = 0; i < s->count; i++)
        EVP_AEAD_CTX_cleanup(&s->keys[i].aead);
    OPENSSL_cleanse(s, sizeof(*s));
    free(s);
}

static struct key_set *set_create(const struct key_set *before)
{
    struct key_set *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    check(RAND_bytes(s->keys[0].name, NAME_BYTES) && RAND_bytes(s->keys[0].bytes, KEY_BYTES));
    s->count = key_init(&s->keys[0]);
    if (s->count == 1 && before) {
        memcpy(s->keys[1].name, before->keys[0].name, NAME_BYTES);
        memcpy(s->keys[1].bytes, before->keys[0].bytes, KEY_BYTES);
        s->count += key_init(&s->keys[1]);
    }
    if (s->count == (before ? 2u : 1u))
        return s;
    set_destroy(s);
    return NULL;
}

static const struct key *find(const struct key_set *s, const uint8_t *name)
{
    for (uint32_t i = 0; i < s->count; i++)
        if (memcmp(s->keys[i].name, name, NAME_BYTES) == 0)
            return &s->keys[i];
    return NULL;
}

// --- what BoringSSL calls, on a worker's thread ---

static const struct key_set *keys_of(const SSL *ssl)
{
    struct tls_tickets *t = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), ctx_index);
    return atomic_load_explicit(&t->live, memory_order_acquire);
}

// What is authenticated beside the session: the key's name, the nonce, the policy.
static size_t bind(const SSL *ssl, const uint8_t *ticket, uint8_t *bound)
{
    memcpy(bound, ticket, NAME_BYTES + NONCE_BYTES);
    memcpy(bound + NAME_BYTES + NONCE_BYTES, tls_ctx_of(ssl)->policy, POLICY_BYTES);
    return NAME_BYTES + NONCE_BYTES + POLICY_BYTES;
}

static size_t max_overhead(SSL *ssl)
{
    (void)ssl;
    return OVERHEAD;
}

static int seal(SSL *ssl, uint8_t *out, size_t *out_len, size_t max_out_len, const uint8_t *in,
                size_t in_len)
{
    uint8_t bound[NAME_BYTES + NONCE_BYTES + POLICY_BYTES];
    const size_t head = NAME_BYTES + NONCE_BYTES;
    const struct key *k = &keys_of(ssl)->keys[0];
    if (max_out_len < in_len + OVERHEAD)
        return 0;
    uint8_t *body = out + head;
    memmove(body, in, in_len); // `in` may be `out`
    memcpy(out, k->name, NAME_BYTES);
    if (!RAND_bytes(out + NAME_BYTES, NONCE_BYTES))
        return 0;
    size_t n = bind(ssl, out, bound), sealed;
    if (!EVP_AEAD_CTX_seal(&k->aead, body, &sealed, max_out_len - head, out + NAME_BYTES,
                           NONCE_BYTES, body, in_len, bound, n))
        return 0;
    *out_len = head + sealed;
    return 1;
}

// Whatever does not open is no error: the handshake becomes a full one.
static enum ssl_ticket_aead_result_t open_ticket(SSL *ssl, uint8_t *out, size_t *out_len,
                                                 size_t max_out_len, const uint8_t *in,
                                                 size_t in_len)
{
    uint8_t bound[NAME_BYTES + NONCE_BYTES + POLICY_BYTES];
    uint8_t nonce[NONCE_BYTES];
    const size_t head = NAME_BYTES + NONCE_BYTES;
    const struct key *k = in_len >= OVERHEAD ? find(keys_of(ssl), in) : NULL;
    if (!k)
        return ssl_ticket_aead_ignore_ticket;
    size_t n = bind(ssl, in, bound), sealed = in_len - head;
    if (max_out_len < sealed)
        return ssl_ticket_aead_ignore_ticket;
    memcpy(nonce, in + NAME_BYTES, NONCE_BYTES);
    memmove(out, in + head, sealed); // `in` may be `out`
    if (!EVP_AEAD_CTX_open(&k->aead, out, out_len, max_out_len, nonce, NONCE_BYTES, out, sealed,
                           bound, n)) {
        ERR_clear_error();
        return ssl_ticket_aead_ignore_ticket;
    }
    return ssl_ticket_aead_success;
}

// --- what the control thread calls ---

static void make_index(void)
{
    ctx_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    check(ctx_index >= 0);
}

struct tls_tickets *tls_tickets_create(struct rcu *rcu)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, make_index);
    struct tls_tickets *t = calloc(1, sizeof(*t));
    struct key_set *first = t ? set_create(NULL) : NULL;
    if (!first) {
        free(t);
        return NULL;
    }
    t->rcu = rcu;
    atomic_init(&t->live, first);
    return t;
}

// Frees the retired sets that no worker can still be reading, older ones too.
static void reap(struct tls_tickets *t)
{
    struct key_set **at = &t->retired;
    while (*at && !rcu_passed(t->rcu, (*at)->epoch))
        at = &(*at)->next;
    struct key_set *s = *at;
    *at = NULL;
    while (s) {
        struct key_set *next = s->next;
        set_destroy(s);
        s = next;
    }
}

enum err tls_tickets_turn(struct tls_tickets *t)
{
    struct key_set *old = atomic_load_explicit(&t->live, memory_order_relaxed);
    struct key_set *s = set_create(old);
    if (!s)
        return ERR_NOMEM;
    atomic_store_explicit(&t->live, s, memory_order_seq_cst);
    old->epoch = rcu_advance(t->rcu);
    old->next = t->retired;
    t->retired = old;
    reap(t);
    return OK;
}

void tls_tickets_destroy(struct tls_tickets *t)
{
    if (!t)
        return;
    while (t->retired) {
        struct key_set *next = t->retired->next;
        set_destroy(t->retired);
        t->retired = next;
    }
    set_destroy(atomic_load_explicit(&t->live, memory_order_relaxed));
    free(t);
}

void tls_tickets_attach(struct tls_tickets *t, struct tls_ctx *server)
{
    static const SSL_TICKET_AEAD_METHOD tickets = {max_overhead, seal, open_ticket};
    check(server->side == TLS_SIDE_SERVER);
    check(SSL_CTX_set_ex_data(server->ssl, ctx_index, t));
    // What a client is told; the keys end it at the latest.
    SSL_CTX_set_timeout(server->ssl, TLS_TICKET_TURN_S);
    SSL_CTX_set_session_psk_dhe_timeout(server->ssl, TLS_TICKET_TURN_S);
    SSL_CTX_set_ticket_aead_method(server->ssl, &tickets);
}
