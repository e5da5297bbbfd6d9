// Tickets: which connection resumes with which, over turns of the keys, policies and contexts.
#include "certs.h"
#include "core/check.h"
#include "shake.h"
#include "test.h"
#include "tls/ticket.h"
#include <pthread.h>
#include <stdatomic.h>

static char why[256];
static struct rcu rcu;

static struct tls_ctx *make_server(struct tls_tickets *t, const char *name, enum tls_protocol v)
{
    static const struct made *site;
    struct cert *cert;
    struct tls_ctx *c;
    if (!site)
        site = made_cert(&(struct made_spec){.cn = "site", .names = "DNS:a.example"});
    check(cert_parse(site->pem, site->key_pem, &cert, why, sizeof(why)) == OK);
    struct tls_server_settings s = {
        .name = slice_of(name), .identity_count = 1, .min_version = v, .max_version = v};
    s.identities[0].cert = cert;
    check(tls_ctx_create_server(&s, &c, why, sizeof(why)) == OK);
    tls_tickets_attach(t, c);
    cert_destroy(cert);
    return c;
}

static struct tls_ctx *make_client(void)
{
    struct tls_client_settings s = {.peer.insecure_skip_verify = true};
    struct tls_ctx *c;
    check(tls_ctx_create_client(&s, &c, why, sizeof(why)) == OK);
    return c;
}

// The client offers what it got from the connection before.
static bool resumes(struct tls_ctx *server, struct tls_ctx *client)
{
    struct shaken s;
    shake_contexts(&s, server, client, "a.example");
    EXPECT(s.done);
    bool resumed = SSL_session_reused(s.server);
    EXPECT_EQ(SSL_session_reused(s.client), resumed);
    shake_fini(&s);
    return resumed;
}

static const enum tls_protocol protocols[] = {TLS_PROTO_1_2, TLS_PROTO_1_3};

TEST(ticket_resumes_within_one_turn)
{
    rcu_init(&rcu, 1);
    for (int v = 0; v < 2; v++) {
        struct tls_tickets *t = tls_tickets_create(&rcu);
        REQUIRE(t);
        struct tls_ctx *server = make_server(t, "a", protocols[v]), *client = make_client();
        EXPECT(!resumes(server, client));
        EXPECT(resumes(server, client));
        EXPECT_EQ(tls_tickets_turn(t), OK);
        EXPECT(resumes(server, client));
        tls_ctx_put(client);
        client = make_client();
        EXPECT(!resumes(server, client));
        EXPECT_EQ(tls_tickets_turn(t), OK);
        EXPECT_EQ(tls_tickets_turn(t), OK);
        EXPECT(!resumes(server, client));
        tls_ctx_put(client); // it may keep older ones, too
        client = make_client();
        EXPECT(!resumes(server, client));
        EXPECT(resumes(server, client));
        tls_ctx_put(server);
        tls_ctx_put(client);
        tls_tickets_destroy(t);
    }
}

// A reload makes contexts anew; tickets go on where the policy is the same, and only there.
TEST(ticket_is_of_a_policy_and_not_of_a_context)
{
    rcu_init(&rcu, 1);
    for (int v = 0; v < 2; v++) {
        struct tls_tickets *t = tls_tickets_create(&rcu);
        REQUIRE(t);
        struct tls_ctx *server = make_server(t, "a", protocols[v]), *client = make_client();
        struct tls_ctx *again = make_server(t, "a", protocols[v]);
        struct tls_ctx *other = make_server(t, "b", protocols[v]);
        EXPECT(!resumes(server, client));
        EXPECT(resumes(again, client));
        EXPECT(!resumes(other, client));
        tls_ctx_put(client);
        client = make_client();
        EXPECT(!resumes(server, client));
        // Sealed with it, too: not only compared inside the session.
        check(SSL_CTX_set_session_id_context(other->ssl, server->policy, sizeof(server->policy)));
        EXPECT(!resumes(other, client));
        tls_ctx_put(server);
        tls_ctx_put(again);
        tls_ctx_put(other);
        tls_ctx_put(client);
        tls_tickets_destroy(t);
    }
}

TEST(ticket_keys_of_two_processes_differ)
{
    rcu_init(&rcu, 1);
    struct tls_tickets *t = tls_tickets_create(&rcu), *u = tls_tickets_create(&rcu);
    REQUIRE(t && u);
    struct tls_ctx *a = make_server(t, "a", TLS_PROTO_1_3), *client = make_client();
    struct tls_ctx *b = make_server(u, "a", TLS_PROTO_1_3);
    EXPECT(!resumes(a, client));
    EXPECT(!resumes(b, client));
    tls_ctx_put(a);
    tls_ctx_put(b);
    tls_ctx_put(client);
    tls_tickets_destroy(t);
    tls_tickets_destroy(u);
}

// --- the keys turn while workers use them ---

#define WORKERS 3
#define ROUNDS 30

static struct tls_ctx *shared;
static atomic_uint running;

static void *work(void *arg)
{
    uint32_t id = (uint32_t)(uintptr_t)arg;
    struct tls_ctx *client = make_client();
    for (int i = 0; i < ROUNDS; i++) {
        rcu_online(&rcu, id);
        (void)resumes(shared, client);
        rcu_quiescent(&rcu, id);
        (void)resumes(shared, client);
        rcu_offline(&rcu, id);
    }
    tls_ctx_put(client);
    atomic_fetch_sub(&running, 1);
    return NULL;
}

TEST(ticket_keys_turn_while_workers_read_them)
{
    pthread_t threads[WORKERS];
    uint32_t turns = 0;
    rcu_init(&rcu, WORKERS);
    struct tls_tickets *t = tls_tickets_create(&rcu);
    REQUIRE(t);
    shared = make_server(t, "a", TLS_PROTO_1_3);
    atomic_store(&running, WORKERS);
    for (uint32_t i = 0; i < WORKERS; i++)
        REQUIRE(pthread_create(&threads[i], NULL, work, (void *)(uintptr_t)i) == 0);
    for (; atomic_load(&running) > 0; turns++)
        EXPECT_EQ(tls_tickets_turn(t), OK);
    for (uint32_t i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    EXPECT(turns > 2);
    tls_ctx_put(shared);
    tls_tickets_destroy(t);
}
