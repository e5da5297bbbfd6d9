// Contexts by what their handshakes do.
#include "certs.h"
#include "config/names.h"
#include "core/check.h"
#include "shake.h"
#include "test.h"
#include "tls/cert_internal.h"
#include <openssl/err.h>

#define ITEMS_MAX 8

static char why[256];
static struct string_item items[3][ITEMS_MAX];

static struct string_list texts(uint32_t slot, const char *const *t)
{
    struct string_list out = {.items = items[slot]};
    for (; t[out.count]; out.count++)
        items[slot][out.count].text = slice_of(t[out.count]);
    return out;
}
#define TEXTS(slot, ...) texts(slot, (const char *const[]){__VA_ARGS__, NULL})

static struct cert *parse(const struct made *m)
{
    struct cert *c;
    check(cert_parse(m->pem, m->key_pem, &c, why, sizeof(why)) == OK);
    return c;
}

static struct tls_trust *trust(const struct made *ca)
{
    struct tls_trust *t;
    check(tls_trust_create(ca->pem, SLICE(""), &t, why, sizeof(why)) == OK);
    return t;
}

// A server with these certificates; what else is in *s stays.
static struct tls_ctx *server_with(struct tls_server_settings *s, const struct made *a,
                                   const struct made *b)
{
    struct cert *parsed[2] = {parse(a), b ? parse(b) : NULL};
    struct tls_ctx *c;
    s->identity_count = b ? 2 : 1;
    for (uint32_t i = 0; i < s->identity_count; i++)
        s->identities[i].cert = parsed[i];
    enum err e = tls_ctx_create_server(s, &c, why, sizeof(why));
    EXPECT((e == OK) == (c != NULL));
    cert_destroy(parsed[0]);
    cert_destroy(parsed[1]);
    return c;
}

static const struct made *ca, *site, *client;

static void setup(void)
{
    if (ca)
        return;
    ca = made_cert(&(struct made_spec){.cn = "ca", .ca = true});
    site = made_cert(&(struct made_spec){
        .cn = "site", .issuer = ca, .names = "DNS:a.example,DNS:b.example,IP:127.0.0.1"});
    client =
        made_cert(&(struct made_spec){.cn = "client", .issuer = ca, .names = "URI:spiffe://c"});
}

TEST(ctx_prefers_the_hybrid_group_and_1_3)
{
    struct shaken s;
    setup();
    struct tls_ctx *c = server_with(&(struct tls_server_settings){0}, site, NULL);
    REQUIRE(c != NULL);
    shake(&s, c, plain_client(NULL));
    EXPECT(s.done);
    EXPECT_EQ(SSL_version(s.server), TLS1_3_VERSION);
    EXPECT_EQ(SSL_get_group_id(s.server), SSL_GROUP_X25519_MLKEM768);
    shake_fini(&s);
    tls_ctx_put(c);
}

static void expect_version(enum tls_protocol min, enum tls_protocol max, struct string_list ciphers,
                           uint16_t client_max, uint16_t expected)
{
    struct shaken s;
    struct tls_server_settings settings = {
        .min_version = min, .max_version = max, .cipher_suites = ciphers};
    const struct made *rsa = made_cert(&(struct made_spec){.cn = "rsa", .key = MADE_RSA2048});
    struct tls_ctx *c = server_with(&settings, rsa, NULL);
    REQUIRE(c != NULL);
    SSL *peer = plain_client(NULL);
    SSL_set_min_proto_version(peer, TLS1_VERSION);
    SSL_set_max_proto_version(peer, client_max);
    shake(&s, c, peer);
    EXPECT_EQ(s.done, expected != 0);
    if (expected)
        EXPECT_EQ(SSL_version(s.server), expected);
    shake_fini(&s);
    tls_ctx_put(c);
}

TEST(ctx_versions)
{
    struct string_list none = {0}, cbc = TEXTS(0, "ECDHE-RSA-AES128-SHA", "AES128-SHA");
    expect_version(TLS_PROTO_AUTO, TLS_PROTO_AUTO, none, TLS1_3_VERSION, TLS1_3_VERSION);
    expect_version(TLS_PROTO_AUTO, TLS_PROTO_AUTO, none, TLS1_2_VERSION, TLS1_2_VERSION);
    expect_version(TLS_PROTO_AUTO, TLS_PROTO_AUTO, none, TLS1_1_VERSION, 0);
    expect_version(TLS_PROTO_1_3, TLS_PROTO_AUTO, none, TLS1_2_VERSION, 0);
    expect_version(TLS_PROTO_AUTO, TLS_PROTO_1_2, none, TLS1_3_VERSION, TLS1_2_VERSION);
    expect_version(TLS_PROTO_1_0, TLS_PROTO_1_0, cbc, TLS1_3_VERSION, TLS1_VERSION);
    expect_version(TLS_PROTO_1_1, TLS_PROTO_1_2, cbc, TLS1_1_VERSION, TLS1_1_VERSION);
    expect_version(TLS_PROTO_AUTO, TLS_PROTO_1_1, cbc, TLS1_3_VERSION, TLS1_1_VERSION);
    // As with Istio: the default has no cipher for it.
    expect_version(TLS_PROTO_1_0, TLS_PROTO_1_0, none, TLS1_3_VERSION, 0);
}

TEST(ctx_refuses_crossed_versions)
{
    setup();
    struct tls_server_settings s = {.min_version = TLS_PROTO_1_3, .max_version = TLS_PROTO_1_2};
    EXPECT(server_with(&s, site, NULL) == NULL);
    EXPECT_STR(why, "minProtocolVersion is above maxProtocolVersion");
}

static const char *cipher_with(struct string_list ciphers, const char *offered)
{
    static char name[64];
    struct shaken s;
    const struct made *rsa = made_cert(&(struct made_spec){.cn = "rsa", .key = MADE_RSA2048});
    struct tls_server_settings settings = {.cipher_suites = ciphers};
    struct tls_ctx *c = server_with(&settings, rsa, NULL);
    SSL *peer = plain_client(NULL);
    SSL_set_max_proto_version(peer, TLS1_2_VERSION);
    check(c && (!offered || SSL_set_strict_cipher_list(peer, offered)));
    shake(&s, c, peer);
    snprintf(name, sizeof(name), "%s",
             s.done ? SSL_CIPHER_get_name(SSL_get_current_cipher(s.server)) : "none");
    shake_fini(&s);
    tls_ctx_put(c);
    return name;
}

TEST(ctx_cipher_suites)
{
    EXPECT_STR(cipher_with((struct string_list){0}, NULL), "ECDHE-RSA-AES128-GCM-SHA256");
    EXPECT_STR(
        cipher_with(TEXTS(0, "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256"), NULL),
        "ECDHE-RSA-AES256-GCM-SHA384"); // ours in our order
    EXPECT_STR(cipher_with(TEXTS(0, "CDHE-RSA-AES256", "AES256-SHA", "AES256-SHA"), NULL),
               "AES256-SHA"); // unknown and second ones are passed over
    EXPECT_STR(cipher_with(TEXTS(0, "CDHE-RSA-AES256"), NULL), "ECDHE-RSA-AES128-GCM-SHA256");
    EXPECT_STR(cipher_with(TEXTS(0, "AES256-SHA"), "AES128-SHA"), "none");
    EXPECT_STR(cipher_with(TEXTS(0, "DES-CBC3-SHA"), "DES-CBC3-SHA"), "DES-CBC3-SHA");
    // What Istio's filter would let through is none of the fifteen names.
    EXPECT(!cipher_suite_is_known(SLICE("ALL")));
    EXPECT(!cipher_suite_is_known(SLICE("[AES128-SHA|AES256-SHA]")));
}

TEST(ctx_knows_all_of_istios_ciphers)
{
    setup();
    struct tls_server_settings s = {
        .cipher_suites = TEXTS(0, "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-SHA",
                               "AES128-GCM-SHA256", "AES256-GCM-SHA384", "DES-CBC3-SHA")};
    struct tls_ctx *c = server_with(&s, site, NULL);
    EXPECT(c != NULL);
    tls_ctx_put(c);
}

static uint16_t group_with(struct string_list curves, uint16_t offered)
{
    struct shaken s;
    struct tls_server_settings settings = {.ecdh_curves = curves};
    setup();
    struct tls_ctx *c = server_with(&settings, site, NULL);
    SSL *peer = plain_client(NULL);
    check(c && (!offered || SSL_set1_group_ids(peer, &offered, 1)));
    shake(&s, c, peer);
    uint16_t group = s.done ? SSL_get_group_id(s.server) : 0;
    shake_fini(&s);
    tls_ctx_put(c);
    return group;
}

TEST(ctx_curves)
{
    struct string_list none = {0};
    EXPECT_EQ(group_with(none, SSL_GROUP_X25519), SSL_GROUP_X25519);
    EXPECT_EQ(group_with(none, SSL_GROUP_SECP384R1), SSL_GROUP_SECP384R1);
    EXPECT_EQ(group_with(none, SSL_GROUP_SECP521R1), 0);
    EXPECT_EQ(group_with(TEXTS(0, "P-521", "P-256"), SSL_GROUP_SECP521R1), SSL_GROUP_SECP521R1);
    EXPECT_EQ(group_with(TEXTS(0, "P-256", "P-256", "P-224"), 0), SSL_GROUP_SECP256R1);
    EXPECT_EQ(group_with(TEXTS(0, "P-256"), SSL_GROUP_X25519), 0);
    EXPECT_EQ(group_with(TEXTS(0, "P-224"), SSL_GROUP_X25519), SSL_GROUP_X25519);
    EXPECT(!tls_curve_is_known(SLICE("P-224")));
}

static int key_shown(struct tls_ctx *c, uint16_t algorithm, const char **ocsp)
{
    struct shaken s;
    SSL *peer = plain_client(NULL);
    if (algorithm)
        check(SSL_set_verify_algorithm_prefs(peer, &algorithm, 1));
    shake(&s, c, peer);
    X509 *shown = s.done ? SSL_get_peer_certificate(s.client) : NULL;
    int id = shown ? EVP_PKEY_id(X509_get0_pubkey(shown)) : 0;
    const uint8_t *staple;
    size_t len;
    SSL_get0_ocsp_response(s.client, &staple, &len);
    *ocsp = len == made_ocsp().len && memcmp(staple, made_ocsp().ptr, len) == 0 ? "staple" : "none";
    X509_free(shown);
    shake_fini(&s);
    return id;
}

TEST(ctx_chooses_the_certificate_by_the_clients_algorithms)
{
    const char *ocsp;
    setup();
    struct tls_server_settings s = {.identities = {{.ocsp = made_ocsp()}}};
    struct tls_ctx *c =
        server_with(&s, made_cert(&(struct made_spec){.cn = "rsa", .key = MADE_RSA2048}), site);
    REQUIRE(c != NULL);
    EXPECT_EQ(key_shown(c, 0, &ocsp), EVP_PKEY_EC);
    EXPECT_STR(ocsp, "none");
    EXPECT_EQ(key_shown(c, SSL_SIGN_ECDSA_SECP256R1_SHA256, &ocsp), EVP_PKEY_EC);
    EXPECT_EQ(key_shown(c, SSL_SIGN_RSA_PSS_RSAE_SHA256, &ocsp), EVP_PKEY_RSA);
    EXPECT_STR(ocsp, "staple");
    tls_ctx_put(c);
}

TEST(ctx_refuses_credentials_that_cannot_serve)
{
    setup();
    struct tls_server_settings s = {0};
    EXPECT(server_with(&s, made_cert(&(struct made_spec){.cn = "p", .key = MADE_P224}), NULL) ==
           NULL);
    EXPECT_STR(why, "the ECDSA key of the certificate CN=p is not on P-256, P-384 or P-521");
    EXPECT(server_with(&s, made_cert(&(struct made_spec){.cn = "r", .key = MADE_RSA1024}), NULL) ==
           NULL);
    EXPECT_STR(why, "the RSA key of the certificate CN=r has 1024 bits, less than 2048");
    s.identities[0].ocsp = SLICE("garbage");
    EXPECT(server_with(&s, site, NULL) == NULL);
    EXPECT_STR(why, "the OCSP staple of the certificate CN=site is no successful response in DER");
    s = (struct tls_server_settings){.client_auth = TLS_CLIENT_AUTH_REQUIRED};
    EXPECT(server_with(&s, site, NULL) == NULL);
    EXPECT_STR(why, "no CA to verify the peer's certificate with");
}

static const char *alpn_with(const char *ours, const char *theirs)
{
    static char out[32];
    struct shaken s;
    const uint8_t *name;
    unsigned len;
    setup();
    struct tls_server_settings settings = {.alpn = slice_of(ours)};
    struct tls_ctx *c = server_with(&settings, site, NULL);
    SSL *peer = plain_client(NULL);
    check(c && SSL_set_alpn_protos(peer, (const uint8_t *)theirs, strlen(theirs)) == 0);
    shake(&s, c, peer);
    EXPECT(s.done);
    SSL_get0_alpn_selected(s.client, &name, &len);
    snprintf(out, sizeof(out), "%.*s", (int)len, name ? (const char *)name : "");
    shake_fini(&s);
    tls_ctx_put(c);
    return out;
}

TEST(ctx_alpn_by_our_preference)
{
    EXPECT_STR(alpn_with("h2,http/1.1", "\x08http/1.1\x02h2"), "h2");
    EXPECT_STR(alpn_with("h2,http/1.1", "\x08http/1.1"), "http/1.1");
    EXPECT_STR(alpn_with("h2,http/1.1", "\x02h3\x03h2c"), "");
    EXPECT_STR(alpn_with("", "\x02h2"), "");
}

struct tried {
    bool done;
    int alert; // that the client received
};

static struct tried try_client(enum tls_client_auth auth, bool insecure, const char *name,
                               const struct made *identity, uint16_t version)
{
    struct shaken s;
    setup();
    struct tls_server_settings settings = {
        .client_auth = auth, .peer = {.trust = trust(ca), .insecure_skip_verify = insecure}};
    if (name)
        settings.peer.names = TEXTS(0, name);
    struct tls_ctx *c = server_with(&settings, site, NULL);
    tls_trust_put(settings.peer.trust);
    check(c != NULL);
    SSL *peer = plain_client(identity);
    SSL_set_max_proto_version(peer, version);
    shake(&s, c, peer);
    struct tried out = {s.done, s.client_alert};
    if (s.done && identity && auth != TLS_CLIENT_AUTH_NONE)
        EXPECT(SSL_get0_peer_certificates(s.server) != NULL);
    shake_fini(&s);
    tls_ctx_put(c);
    return out;
}

#define EXPECT_TRIED(expected_done, expected_alert, ...) \
    do {                                                 \
        struct tried t_ = try_client(__VA_ARGS__);       \
        EXPECT_EQ(t_.done, expected_done);               \
        EXPECT_EQ(t_.alert, expected_alert);             \
    } while (0)

// The alerts that Istio's gateway was measured to send.
TEST(ctx_client_authentication)
{
    setup();
    const enum tls_client_auth none = TLS_CLIENT_AUTH_NONE, optional = TLS_CLIENT_AUTH_OPTIONAL,
                               required = TLS_CLIENT_AUTH_REQUIRED;
    const struct made *foreign = made_cert(&(struct made_spec){.cn = "foreign"});
    const struct made *old = made_cert(
        &(struct made_spec){.cn = "old", .issuer = ca, .from_s = -7200, .until_s = -3600});
    const uint16_t v13 = TLS1_3_VERSION, v12 = TLS1_2_VERSION;
    EXPECT_TRIED(true, 0, none, false, NULL, foreign, v13);
    EXPECT_TRIED(true, 0, required, false, NULL, client, v13);
    EXPECT_TRIED(true, 0, required, false, NULL, client, v12);
    EXPECT_TRIED(false, SSL_AD_CERTIFICATE_REQUIRED, required, false, NULL, NULL, v13);
    EXPECT_TRIED(false, SSL_AD_HANDSHAKE_FAILURE, required, false, NULL, NULL, v12);
    EXPECT_TRIED(false, SSL_AD_UNKNOWN_CA, required, false, NULL, foreign, v13);
    EXPECT_TRIED(false, SSL_AD_UNKNOWN_CA, required, false, NULL, foreign, v12);
    EXPECT_TRIED(false, SSL_AD_CERTIFICATE_EXPIRED, required, false, NULL, old, v13);
    EXPECT_TRIED(true, 0, optional, false, NULL, NULL, v13);
    EXPECT_TRIED(true, 0, optional, false, NULL, client, v13);
    EXPECT_TRIED(false, SSL_AD_UNKNOWN_CA, optional, false, NULL, foreign, v13);
    EXPECT_TRIED(true, 0, required, false, "spiffe://c", client, v13);
    EXPECT_TRIED(false, SSL_AD_CERTIFICATE_UNKNOWN, required, false, "spiffe://d", client, v13);
    // insecureSkipVerify lets whoever through, but on MUTUAL one has to be shown.
    EXPECT_TRIED(true, 0, required, true, "spiffe://d", foreign, v13);
    EXPECT_TRIED(false, SSL_AD_CERTIFICATE_REQUIRED, required, true, NULL, NULL, v13);
}

static int seen_names;

static int count_names(SSL *ssl, void *arg)
{
    (void)arg;
    seen_names = (int)sk_X509_NAME_num(SSL_get_client_CA_list(ssl));
    return 1;
}

TEST(ctx_names_its_cas_to_clients)
{
    struct shaken s;
    setup();
    struct tls_server_settings settings = {.client_auth = TLS_CLIENT_AUTH_OPTIONAL,
                                           .peer = {.trust = trust(ca)}};
    struct tls_ctx *c = server_with(&settings, site, NULL);
    tls_trust_put(settings.peer.trust);
    REQUIRE(c != NULL);
    SSL *peer = plain_client(NULL);
    SSL_set_cert_cb(peer, count_names, NULL);
    seen_names = 0;
    shake(&s, c, peer);
    EXPECT(s.done);
    EXPECT_EQ(seen_names, 1);
    shake_fini(&s);
    tls_ctx_put(c);
}

static void expect_policy(struct tls_server_settings a, const struct made *cert_a,
                          struct tls_server_settings b, const struct made *cert_b, bool same)
{
    struct tls_ctx *x = server_with(&a, cert_a, NULL), *y = server_with(&b, cert_b, NULL);
    REQUIRE(x && y);
    EXPECT_EQ(memcmp(tls_ctx_policy(x), tls_ctx_policy(y), 32) == 0, same);
    tls_ctx_put(x);
    tls_ctx_put(y);
}

TEST(ctx_policy_is_of_who_may_connect)
{
    setup();
    struct tls_trust *t = trust(ca), *u = trust(client), *same = trust(ca);
    struct tls_server_settings base = {
        .name = SLICE("one"), .client_auth = TLS_CLIENT_AUTH_REQUIRED, .peer = {.trust = t}};
    struct tls_server_settings other = base;
    const struct made *renewed = made_cert(&(struct made_spec){
        .cn = "site", .issuer = ca, .names = "DNS:a.example,DNS:b.example,IP:127.0.0.1"});
    const struct made *renamed =
        made_cert(&(struct made_spec){.cn = "site", .issuer = ca, .names = "DNS:a.example"});
    expect_policy(base, site, base, site, true);
    expect_policy(base, site, base, renewed, true);
    expect_policy(base, site, base, renamed, true); // what the client makes of it is its affair
    other.peer.trust = same;
    expect_policy(base, site, other, site, true);
    other.peer.trust = u;
    expect_policy(base, site, other, site, false);
    other = base;
    other.name = SLICE("two");
    expect_policy(base, site, other, site, false);
    other = base;
    other.client_auth = TLS_CLIENT_AUTH_OPTIONAL;
    expect_policy(base, site, other, site, false);
    other = base;
    other.peer.insecure_skip_verify = true;
    expect_policy(base, site, other, site, false);
    other = base;
    other.peer.names = TEXTS(0, "a");
    expect_policy(base, site, other, site, false);
    other = base;
    other.peer.hash_pins = (struct string_list){items[0], 1};
    items[0][0].text = made_hash_pin(client);
    expect_policy(base, site, other, site, false);
    tls_trust_put(t);
    tls_trust_put(u);
    tls_trust_put(same);
}

TEST(ctx_knows_its_own_uri)
{
    setup();
    struct tls_ctx *a = server_with(&(struct tls_server_settings){0}, client, NULL);
    struct tls_ctx *b = server_with(&(struct tls_server_settings){0}, site, NULL);
    REQUIRE(a && b);
    EXPECT(slice_eq(tls_ctx_own_uri(a), SLICE("spiffe://c")));
    EXPECT_EQ(tls_ctx_own_uri(b).len, 0);
    tls_ctx_put(a);
    tls_ctx_put(b);
}

// ---- destinations

static struct tls_ctx *client_with(struct tls_client_settings s, const struct made *identity)
{
    struct tls_ctx *c;
    struct cert *parsed = identity ? parse(identity) : NULL;
    s.identity.cert = parsed;
    s.peer.trust = s.peer.insecure_skip_verify ? NULL : trust(ca);
    check(tls_ctx_create_client(&s, &c, why, sizeof(why)) == OK);
    tls_trust_put(s.peer.trust);
    cert_destroy(parsed);
    return c;
}

static int shake_host(struct tls_client_settings s, const char *host)
{
    struct shaken k;
    setup();
    struct tls_ctx *server = server_with(&(struct tls_server_settings){0}, site, NULL);
    struct tls_ctx *c = client_with(s, NULL);
    shake_contexts(&k, server, c, host);
    EXPECT_EQ(k.done, k.server_alert == 0);
    int alert = k.server_alert;
    enum tls_verdict verdict;
    const char *reason = tls_ctx_refusal(k.client, &verdict);
    EXPECT((reason == NULL) == (verdict == TLS_VERDICT_OK));
    shake_fini(&k);
    tls_ctx_put(c);
    tls_ctx_put(server);
    return alert;
}

TEST(ctx_client_checks_the_name_it_connects_to)
{
    struct tls_client_settings s = {.check_host = true};
    EXPECT_EQ(shake_host(s, "a.example"), 0);
    EXPECT_EQ(shake_host(s, "A.Example."), 0);
    EXPECT_EQ(shake_host(s, "127.0.0.1"), 0);
    EXPECT_EQ(shake_host(s, "c.example"), SSL_AD_CERTIFICATE_UNKNOWN);
    EXPECT_EQ(shake_host(s, "127.0.0.2"), SSL_AD_CERTIFICATE_UNKNOWN);
    EXPECT_EQ(shake_host(s, ""), SSL_AD_INTERNAL_ERROR); // nobody said which
    s.sni = SLICE("b.example");
    EXPECT_EQ(shake_host(s, "c.example"), 0);
    s.sni = SLICE("c.example");
    EXPECT_EQ(shake_host(s, "a.example"), SSL_AD_CERTIFICATE_UNKNOWN);
    s.check_host = false;
    EXPECT_EQ(shake_host(s, "a.example"), 0);
    s = (struct tls_client_settings){.check_host = true, .peer = {.names = TEXTS(1, "a.example")}};
    EXPECT_EQ(shake_host(s, "c.example"), 0);
    s = (struct tls_client_settings){.check_host = true, .peer = {.insecure_skip_verify = true}};
    EXPECT_EQ(shake_host(s, "c.example"), 0);
}

TEST(ctx_client_sends_sni_and_alpn)
{
    struct shaken k;
    setup();
    struct tls_ctx *server =
        server_with(&(struct tls_server_settings){.alpn = SLICE("h2")}, site, NULL);
    struct tls_ctx *c = client_with((struct tls_client_settings){.check_host = true}, NULL);
    EXPECT(tls_ctx_follows_host(c));
    shake(&k, server, tls_ctx_new_ssl(c, SLICE("a.example."), SLICE("\x02h2")));
    EXPECT(k.done);
    EXPECT_STR(SSL_get_servername(k.server, TLSEXT_NAMETYPE_host_name), "a.example");
    const uint8_t *name;
    unsigned len;
    SSL_get0_alpn_selected(k.client, &name, &len);
    EXPECT(len == 2 && memcmp(name, "h2", 2) == 0);
    shake_fini(&k);
    shake(&k, server, tls_ctx_new_ssl(c, SLICE("127.0.0.1"), SLICE("")));
    EXPECT(k.done);
    EXPECT(SSL_get_servername(k.server, TLSEXT_NAMETYPE_host_name) == NULL); // RFC 6066, 3
    shake_fini(&k);
    tls_ctx_put(c);
    tls_ctx_put(server);
}

TEST(ctx_client_shows_its_certificate)
{
    struct shaken k;
    setup();
    struct tls_server_settings settings = {.client_auth = TLS_CLIENT_AUTH_REQUIRED,
                                           .peer = {.trust = trust(ca)}};
    struct tls_ctx *server = server_with(&settings, site, NULL);
    struct tls_ctx *c = client_with((struct tls_client_settings){0}, client);
    tls_trust_put(settings.peer.trust);
    shake_contexts(&k, server, c, "a.example");
    EXPECT(k.done);
    shake_fini(&k);
    tls_ctx_put(c);
    tls_ctx_put(server);
}

static bool resumes(struct tls_ctx *server, struct tls_ctx *c, const char *host)
{
    struct shaken k;
    shake_contexts(&k, server, c, host);
    EXPECT(k.done);
    bool resumed = SSL_session_reused(k.client);
    shake_fini(&k);
    return resumed;
}

static void expect_resumption(enum tls_protocol version)
{
    setup();
    struct tls_server_settings s = {.name = SLICE("x"), .max_version = version};
    struct tls_server_settings t = {.name = SLICE("y"), .max_version = version};
    struct tls_ctx *server = server_with(&s, site, NULL), *other = server_with(&t, site, NULL);
    struct tls_ctx *c = client_with((struct tls_client_settings){.check_host = true}, NULL);
    // One key for both, as the workers' shared keys will be: it is the policy that divides them.
    uint8_t keys[48] = {1};
    check(SSL_CTX_set_tlsext_ticket_keys(server->ssl, keys, sizeof(keys)) &&
          SSL_CTX_set_tlsext_ticket_keys(other->ssl, keys, sizeof(keys)));
    EXPECT(!resumes(server, c, "a.example"));
    EXPECT(resumes(server, c, "A.example"));
    EXPECT(!resumes(server, c, "b.example")); // another host's session is not offered
    EXPECT(resumes(server, c, "b.example"));
    EXPECT(!resumes(other, c, "a.example")); // nor does one of another policy resume
    tls_ctx_put(c);
    tls_ctx_put(server);
    tls_ctx_put(other);
}

TEST(ctx_client_resumes_with_the_same_host)
{
    expect_resumption(TLS_PROTO_1_3);
    expect_resumption(TLS_PROTO_1_2);
}

TEST(ctx_lives_as_long_as_its_connections)
{
    struct shaken k;
    setup();
    struct tls_ctx *server = server_with(&(struct tls_server_settings){0}, site, NULL);
    struct tls_ctx *c = client_with((struct tls_client_settings){.check_host = true}, NULL);
    SSL *peer = tls_ctx_new_ssl(c, SLICE("c.example"), SLICE(""));
    tls_ctx_put(c);
    shake(&k, server, peer); // verifies after the last put
    EXPECT_EQ(k.server_alert, SSL_AD_CERTIFICATE_UNKNOWN);
    shake_fini(&k);
    tls_ctx_put(server);
    tls_ctx_put(NULL);
}
