#include "core/check.h"
#include "test.h"
#include "tls/session.h"
#include <openssl/ssl.h>
#include <pthread.h>

static SSL_CTX *ctx;

static SSL_SESSION *make(uint16_t version)
{
    if (!ctx)
        ctx = SSL_CTX_new(TLS_method());
    SSL_SESSION *s = SSL_SESSION_new(ctx);
    check(s && SSL_SESSION_set_protocol_version(s, version));
    return s;
}

__attribute__((destructor)) static void free_ctx(void)
{
    SSL_CTX_free(ctx);
}

static struct slice host_of(char out[16], int i)
{
    snprintf(out, 16, "h%d.example", i);
    return slice_of(out);
}

// More hosts than slots, so that some share one whatever the hash's key is.
TEST(session_is_never_another_hosts)
{
    struct session_cache c = {0};
    SSL_SESSION *made[100], *taken;
    char host[16];
    int hits = 0;
    for (int i = 0; i < 100; i++) {
        made[i] = make(TLS1_3_VERSION);
        SSL_SESSION_up_ref(made[i]);
        session_cache_put(&c, host_of(host, i), made[i]);
    }
    for (int i = 0; i < 100; i++) {
        for (uint32_t way = 0;
             way < SESSION_SLOTS && (taken = session_cache_take(&c, host_of(host, i))); way++) {
            EXPECT(taken == made[i]);
            SSL_SESSION_free(taken);
            hits++;
        }
    }
    EXPECT(hits > 0 && hits <= (int)SESSION_SLOTS);
    for (int i = 0; i < 100; i++)
        SSL_SESSION_free(made[i]);
    session_cache_fini(&c);
}

TEST(session_of_1_3_is_used_once_of_1_2_again)
{
    struct session_cache once = {0}, again = {0}; // of one, the two hosts might share a slot
    session_cache_put(&once, SLICE("a"), make(TLS1_3_VERSION));
    session_cache_put(&again, SLICE("b"), make(TLS1_2_VERSION));
    SSL_SESSION *s = session_cache_take(&once, SLICE("A"));
    EXPECT(s != NULL);
    SSL_SESSION_free(s);
    EXPECT(session_cache_take(&once, SLICE("a")) == NULL);
    for (int i = 0; i < 3; i++) {
        s = session_cache_take(&again, SLICE("b"));
        EXPECT(s != NULL);
        SSL_SESSION_free(s);
    }
    EXPECT(session_cache_take(&again, SLICE("c")) == NULL);
    session_cache_fini(&once);
    session_cache_fini(&again);
}

static void *work(void *arg)
{
    struct session_cache *c = arg;
    char host[16];
    for (int i = 0; i < 2000; i++) {
        session_cache_put(c, host_of(host, i % 5), make(i & 1 ? TLS1_3_VERSION : TLS1_2_VERSION));
        SSL_SESSION_free(session_cache_take(c, host_of(host, (i + 1) % 5)));
    }
    return NULL;
}

TEST(session_cache_is_shared_by_threads)
{
    struct session_cache c = {0};
    pthread_t threads[3];
    SSL_SESSION_free(make(TLS1_3_VERSION)); // the context, before they all want it
    for (int i = 0; i < 3; i++)
        check(pthread_create(&threads[i], NULL, work, &c) == 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    session_cache_fini(&c);
    EXPECT(session_cache_take(&c, SLICE("h0.example")) == NULL);
}
