// How a cluster's endpoints are connected to: the name, and what is offered.
#include "core/worker.h"
#include "test.h"
#include "tls/ctx.h"
#include "upstream/cluster.h"

static struct worker worker;
static struct conn_pool pool;
static struct tls_pools pools;
static struct upstream_cluster *asked; // whose strings the last answer has
static struct tls_ctx *ctx;

__attribute__((constructor)) static void make_ctx(void)
{
    char why[200];
    const struct tls_client_settings any = {.peer.insecure_skip_verify = true};
    if (tls_ctx_create_client(&any, &ctx, why, sizeof(why)) != OK)
        test_fail(__FILE__, __LINE__, "%s", why);
}

// How a connection for a request to `host` is made.
static enum err ask(enum client_tls_mode mode, struct tls_ctx *with, const char *name,
                    const char *host, struct tls_target *out)
{
    struct endpoint_config one = {.weight = 1};
    struct dial dial;
    (void)!addr_parse(SLICE("127.0.0.1"), 80, &one.addr);
    struct cluster_config cfg = {.name = SLICE("c"),
                                 .endpoints = &one,
                                 .endpoint_count = 1,
                                 .host = SLICE("app.ns.svc.cluster.local"),
                                 .tls_mode = mode,
                                 .tls = with,
                                 .tls_name = slice_of(name)};
    conn_pool_init(&pool, &worker, NULL, &pools);
    if (asked)
        cluster_retire(asked);
    asked = cluster_create(&pool, &cfg);
    enum err e = endpoint_dial(asked->endpoints[0], NULL, slice_of(host), &dial);
    EXPECT(dial.to == &asked->endpoints[0]->addr);
    *out = dial.tls;
    return e;
}

TEST(cluster_tls_is_clear_text_without_a_policy)
{
    struct tls_target t;
    EXPECT_EQ(ask(CLIENT_TLS_DISABLE, NULL, "", "a.test", &t), OK);
    EXPECT(t.ctx == NULL);
}

TEST(cluster_tls_without_credentials_is_no_clear_text)
{
    struct tls_target t;
    EXPECT_EQ(ask(CLIENT_TLS_MUTUAL, NULL, "", "a.test", &t), ERR_NOT_FOUND);
}

TEST(cluster_tls_names)
{
    struct tls_target t;
    EXPECT_EQ(ask(CLIENT_TLS_SIMPLE, ctx, "", "a.test", &t), OK);
    EXPECT(t.ctx == ctx && t.pools == &pools && t.alpn.len == 0);
    EXPECT(slice_eq(t.host, SLICE("a.test")));
    EXPECT_EQ(ask(CLIENT_TLS_SIMPLE, ctx, "", "a.test.", &t), OK);
    EXPECT(slice_eq(t.host, SLICE("a.test")));
    EXPECT_EQ(ask(CLIENT_TLS_SIMPLE, ctx, "", "", &t), OK); // a relay's
    EXPECT(slice_eq(t.host, SLICE("app.ns.svc.cluster.local")));
    EXPECT_EQ(ask(CLIENT_TLS_ISTIO_MUTUAL, ctx, "outbound_.80_._.app", "a.test", &t), OK);
    EXPECT(slice_eq(t.host, SLICE("outbound_.80_._.app")));
}

TEST(cluster_tls_offers_istio_its_protocols)
{
    struct tls_target t;
    EXPECT_EQ(ask(CLIENT_TLS_ISTIO_MUTUAL, ctx, "n", "a.test", &t), OK);
    EXPECT(slice_eq(t.alpn, SLICE("\x0eistio-http/1.1\x05istio\x08http/1.1")));
    EXPECT_EQ(ask(CLIENT_TLS_ISTIO_MUTUAL, ctx, "n", "", &t), OK);
    EXPECT(slice_eq(t.alpn, SLICE("\x05istio")));
}

// A host that no name may be as long as costs no attempt.
TEST(cluster_tls_refuses_a_host_that_is_too_long)
{
    struct tls_target t;
    char host[257] = {0};
    memset(host, 'a', 256);
    EXPECT_EQ(ask(CLIENT_TLS_SIMPLE, ctx, "", host, &t), ERR_INVALID);
    EXPECT_EQ(ask(CLIENT_TLS_DISABLE, NULL, "", host, &t), OK);
    host[255] = '\0';
    EXPECT_EQ(ask(CLIENT_TLS_SIMPLE, ctx, "", host, &t), OK);
}
