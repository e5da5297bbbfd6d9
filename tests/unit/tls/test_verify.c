// The rules of verification, one by one, without a handshake.
#include "certs.h"
#include "core/check.h"
#include "test.h"
#include "tls/verify_internal.h"
#include <openssl/mem.h>
#include <openssl/ssl.h>
#include <openssl/stack.h>

#define NAMES_MAX 4

struct given {
    const struct made *ca;
    struct slice crl;
    const char *names[NAMES_MAX];
    struct slice spki, hash;
    bool insecure;
    const char *host;
    enum tls_side side;
};
static struct {
    char why[256];
    uint8_t alert;
    const char *refusal;
} got;

static struct string_list list_of(const char *const *texts, struct string_item *items)
{
    struct string_list out = {.items = items};
    for (uint32_t i = 0; i < NAMES_MAX && texts[i]; i++)
        items[out.count++].text = slice_of(texts[i]);
    return out;
}

static STACK_OF(CRYPTO_BUFFER) * chain_of(const struct made *const *sent)
{
    STACK_OF(CRYPTO_BUFFER) *out = sk_CRYPTO_BUFFER_new_null();
    check(out);
    for (; *sent; sent++) {
        uint8_t *der = NULL;
        int len = i2d_X509((*sent)->x509, &der);
        CRYPTO_BUFFER *b = CRYPTO_BUFFER_new(der, (size_t)len, NULL);
        check(len > 0 && b && sk_CRYPTO_BUFFER_push(out, b));
        OPENSSL_free(der);
    }
    return out;
}

static enum tls_verdict verify(const struct given *g, const struct made *const *sent)
{
    struct string_item names[NAMES_MAX], spki = {.text = g->spki}, hash = {.text = g->hash};
    struct tls_peer_settings s = {
        .names = list_of(g->names, names),
        .spki_pins = {&spki, g->spki.len > 0},
        .hash_pins = {&hash, g->hash.len > 0},
        .insecure_skip_verify = g->insecure,
    };
    struct tls_peer_policy p;
    if (g->ca)
        check(tls_trust_create(g->ca->pem, g->crl, &s.trust, got.why, sizeof(got.why)) == OK);
    check(tls_peer_policy_init(&p, &s, got.why, sizeof(got.why)) == OK);
    STACK_OF(CRYPTO_BUFFER) *chain = chain_of(sent);
    got.alert = 0;
    got.refusal = "";
    enum tls_verdict v =
        tls_peer_verify(&p, chain, g->side, slice_of(g->host), &got.alert, &got.refusal);
    sk_CRYPTO_BUFFER_pop_free(chain, CRYPTO_BUFFER_free);
    tls_peer_policy_fini(&p);
    tls_trust_put(s.trust);
    return v;
}

static enum tls_verdict verify_one(const struct given *g, const struct made *leaf)
{
    return verify(g, (const struct made *const[]){leaf, NULL});
}

static const struct made *make_ca(const char *cn)
{
    return made_cert(&(struct made_spec){.cn = cn, .ca = true});
}

static const struct made *leaf_of(const struct made *ca, const char *names)
{
    return made_cert(&(struct made_spec){.cn = "leaf", .issuer = ca, .names = names});
}

TEST(verify_chain_to_a_ca)
{
    const struct made *ca = make_ca("ca"), *other = make_ca("other");
    const struct made *middle =
        made_cert(&(struct made_spec){.cn = "middle", .issuer = ca, .ca = true});
    const struct made *leaf = leaf_of(middle, NULL);
    struct given g = {.ca = ca};
    EXPECT_EQ(verify(&g, (const struct made *const[]){leaf, middle, NULL}), TLS_VERDICT_OK);
    EXPECT_EQ(verify_one(&g, leaf), TLS_VERDICT_CHAIN);
    EXPECT_EQ(got.alert, SSL_AD_UNKNOWN_CA);
    g.ca = other;
    EXPECT_EQ(verify(&g, (const struct made *const[]){leaf, middle, NULL}), TLS_VERDICT_CHAIN);
    EXPECT_EQ(got.alert, SSL_AD_UNKNOWN_CA);
    g.ca = middle; // an intermediate is an anchor too
    EXPECT_EQ(verify_one(&g, leaf), TLS_VERDICT_OK);
    g.insecure = true;
    g.ca = NULL;
    EXPECT_EQ(verify_one(&g, leaf), TLS_VERDICT_OK);
}

TEST(verify_refuses_who_is_no_ca)
{
    const struct made *ca = make_ca("ca"), *no_ca = leaf_of(ca, NULL);
    const struct made *leaf = made_cert(&(struct made_spec){.cn = "forged", .issuer = no_ca});
    struct given g = {.ca = ca};
    EXPECT_EQ(verify(&g, (const struct made *const[]){leaf, no_ca, NULL}), TLS_VERDICT_CHAIN);
    EXPECT_EQ(got.alert, SSL_AD_UNKNOWN_CA);
}

TEST(verify_dates_and_purposes)
{
    const struct made *ca = make_ca("ca");
    const struct made *old = made_cert(
        &(struct made_spec){.cn = "old", .issuer = ca, .from_s = -7200, .until_s = -3600});
    const struct made *early = made_cert(
        &(struct made_spec){.cn = "early", .issuer = ca, .from_s = 3600, .until_s = 7200});
    const struct made *server =
        made_cert(&(struct made_spec){.cn = "server", .issuer = ca, .server_only = true});
    struct given g = {.ca = ca};
    EXPECT_EQ(verify_one(&g, old), TLS_VERDICT_CHAIN);
    EXPECT_EQ(got.alert, SSL_AD_CERTIFICATE_EXPIRED);
    EXPECT_EQ(verify_one(&g, early), TLS_VERDICT_CHAIN);
    EXPECT_EQ(got.alert, SSL_AD_CERTIFICATE_EXPIRED);
    EXPECT_EQ(verify_one(&g, server), TLS_VERDICT_CHAIN);
    EXPECT_EQ(got.alert, SSL_AD_UNSUPPORTED_CERTIFICATE);
    g.side = TLS_SIDE_CLIENT;
    EXPECT_EQ(verify_one(&g, server), TLS_VERDICT_OK);
}

TEST(verify_revocation)
{
    const struct made *ca = make_ca("ca");
    const struct made *bad = leaf_of(ca, NULL), *good = leaf_of(ca, NULL);
    struct given g = {.ca = ca, .crl = made_crl(ca, &bad, 1, false)};
    EXPECT_EQ(verify_one(&g, good), TLS_VERDICT_OK);
    EXPECT_EQ(verify_one(&g, bad), TLS_VERDICT_CHAIN);
    EXPECT_EQ(got.alert, SSL_AD_CERTIFICATE_REVOKED);
    g.crl = made_crl(ca, &bad, 1, true);
    EXPECT_EQ(verify_one(&g, good), TLS_VERDICT_CHAIN);
    EXPECT_EQ(got.alert, SSL_AD_CERTIFICATE_EXPIRED);
    g.crl = made_crl(make_ca("other"), NULL, 0, false); // none of this CA
    EXPECT_EQ(verify_one(&g, good), TLS_VERDICT_CHAIN);
    EXPECT_EQ(got.alert, SSL_AD_UNKNOWN_CA);
}

TEST(verify_revocation_of_an_intermediate)
{
    const struct made *ca = make_ca("ca");
    const struct made *middle =
        made_cert(&(struct made_spec){.cn = "middle", .issuer = ca, .ca = true});
    const struct made *leaf = leaf_of(middle, NULL);
    char both[8192];
    struct slice of_ca = made_crl(ca, &middle, 1, false),
                 of_middle = made_crl(middle, NULL, 0, false);
    int n = snprintf(both, sizeof(both), "%s%s", of_ca.ptr, of_middle.ptr);
    struct given g = {.ca = ca, .crl = {both, (size_t)n}};
    EXPECT_EQ(verify(&g, (const struct made *const[]){leaf, middle, NULL}), TLS_VERDICT_CHAIN);
    EXPECT_EQ(got.alert, SSL_AD_CERTIFICATE_REVOKED);
}

TEST(verify_subject_alt_names)
{
    const struct made *ca = make_ca("ca");
    const struct made *leaf =
        leaf_of(ca, "DNS:a.example,DNS:*.b.example,URI:spiffe://td/ns/x,IP:10.0.0.1,EMAIL:a@b.c");
    static const struct {
        const char *name;
        bool matches;
    } cases[] = {
        {"a.example", true},
        {"A.EXAMPLE", true},
        {"x.b.example", true},
        {"x.y.b.example", false},
        {"b.example", false},
        {"*.b.example", true},
        {"spiffe://td/ns/x", true},
        {"spiffe://td/ns/X", false},
        {"spiffe://td/ns/", false},
        {"10.0.0.1", true},
        {"10.0.0.2", false},
        {"a@b.c", true},
        {"leaf", false}, // never the CN
        {"", false},
    };
    struct given g = {.ca = ca};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        g.names[0] = cases[i].name;
        enum tls_verdict v = verify_one(&g, leaf);
        if ((v == TLS_VERDICT_OK) != cases[i].matches)
            test_fail(__FILE__, __LINE__, "%s: verdict %d", cases[i].name, (int)v);
        if (!cases[i].matches)
            EXPECT_EQ(got.alert, SSL_AD_CERTIFICATE_UNKNOWN);
    }
    g.names[0] = "nobody";
    g.names[1] = "a.example"; // one of them is enough
    EXPECT_EQ(verify_one(&g, leaf), TLS_VERDICT_OK);
    EXPECT_EQ(verify_one(&g, leaf_of(ca, NULL)), TLS_VERDICT_NAME);
    g.insecure = true;
    EXPECT_EQ(verify_one(&g, leaf_of(ca, NULL)), TLS_VERDICT_OK);
}

// CVE-2009-2408: a name that ends early for who reads it as a C string.
TEST(verify_refuses_a_nul_within_a_name)
{
    const struct made *ca = make_ca("ca");
    struct given g = {.ca = ca, .names = {"a.example"}};
    EXPECT_EQ(verify_one(&g, leaf_of(ca, "DNS:a.example%00.evil.example")), TLS_VERDICT_NAME);
    g.names[0] = "spiffe://td/x";
    EXPECT_EQ(verify_one(&g, leaf_of(ca, "URI:spiffe://td/x%00")), TLS_VERDICT_NAME);
    g.names[0] = NULL;
    g.host = "a.example";
    EXPECT_EQ(verify_one(&g, leaf_of(ca, "DNS:a.example%00")), TLS_VERDICT_NAME);
    g.host = "x.evil.example";
    EXPECT_EQ(verify_one(&g, leaf_of(ca, "DNS:*%00.evil.example")), TLS_VERDICT_NAME);
}

TEST(verify_host_of_a_destination)
{
    const struct made *ca = make_ca("ca");
    const struct made *leaf = leaf_of(ca, "DNS:*.b.example,IP:::1,URI:c.example");
    struct given g = {.ca = ca, .side = TLS_SIDE_CLIENT, .host = "x.b.example"};
    EXPECT_EQ(verify_one(&g, leaf), TLS_VERDICT_OK);
    g.host = "::1";
    EXPECT_EQ(verify_one(&g, leaf), TLS_VERDICT_OK);
    g.host = "0:0::1"; // by value
    EXPECT_EQ(verify_one(&g, leaf), TLS_VERDICT_OK);
    g.host = "c.example"; // a URI is no host
    EXPECT_EQ(verify_one(&g, leaf), TLS_VERDICT_NAME);
    EXPECT_EQ(got.alert, SSL_AD_CERTIFICATE_UNKNOWN);
    g.host = "10.0.0.1"; // an address is no DNS name
    EXPECT_EQ(verify_one(&g, leaf_of(ca, "DNS:10.0.0.1")), TLS_VERDICT_NAME);
    g.names[0] = "c.example"; // the names given are checked instead
    EXPECT_EQ(verify_one(&g, leaf), TLS_VERDICT_OK);
    g.names[0] = NULL;
    g.host = NULL;
    EXPECT_EQ(verify_one(&g, leaf), TLS_VERDICT_OK);
}

TEST(verify_wildcard_stands_for_one_label)
{
    EXPECT(tls_dns_name_matches(SLICE("*.a.example"), SLICE("x.A.example")));
    EXPECT(!tls_dns_name_matches(SLICE("*.a.example"), SLICE("a.example")));
    EXPECT(!tls_dns_name_matches(SLICE("*.a.example"), SLICE(".a.example")));
    EXPECT(!tls_dns_name_matches(SLICE("*.com"), SLICE("a.com")));
    EXPECT(!tls_dns_name_matches(SLICE("*"), SLICE("a")));
    EXPECT(!tls_dns_name_matches(SLICE("x*.a.example"), SLICE("xy.a.example")));
    EXPECT(!tls_dns_name_matches(SLICE("a.*.example"), SLICE("a.b.example")));
    EXPECT(!tls_dns_name_matches(SLICE(""), SLICE("")));
}

TEST(verify_pins)
{
    const struct made *ca = make_ca("ca");
    const struct made *leaf = leaf_of(ca, NULL), *other = leaf_of(ca, NULL);
    struct given g = {.ca = ca, .spki = made_spki_pin(leaf)};
    EXPECT_EQ(verify_one(&g, leaf), TLS_VERDICT_OK);
    EXPECT_EQ(verify_one(&g, other), TLS_VERDICT_PIN);
    EXPECT_EQ(got.alert, SSL_AD_BAD_CERTIFICATE_HASH_VALUE);
    g.hash = made_hash_pin(other); // either accepts
    EXPECT_EQ(verify_one(&g, leaf), TLS_VERDICT_OK);
    EXPECT_EQ(verify_one(&g, other), TLS_VERDICT_OK);
    g.insecure = true; // pins hold
    EXPECT_EQ(verify_one(&g, leaf_of(ca, NULL)), TLS_VERDICT_PIN);
}

TEST(verify_reads_pins_as_envoy_does)
{
    const struct made *m = make_ca("x");
    uint8_t plain[32], colons[32];
    char text[97];
    struct slice hex = made_hash_pin(m);
    for (size_t i = 0; i < 32; i++)
        snprintf(text + i * 3, 4, "%.2s:", hex.ptr + i * 2);
    EXPECT(tls_hash_pin_parse(hex, plain));
    EXPECT(tls_hash_pin_parse((struct slice){text, 95}, colons));
    EXPECT(memcmp(plain, colons, 32) == 0);
    EXPECT(!tls_hash_pin_parse((struct slice){text, 96}, colons));
    EXPECT(!tls_hash_pin_parse((struct slice){hex.ptr, 63}, plain));
    text[2] = '0';
    EXPECT(!tls_hash_pin_parse((struct slice){text, 95}, colons));
    text[0] = 'g';
    EXPECT(!tls_hash_pin_parse((struct slice){text, 64}, plain));
    struct slice pin = made_spki_pin(m);
    EXPECT(tls_spki_pin_parse(pin, plain));
    EXPECT(!tls_spki_pin_parse((struct slice){pin.ptr, 40}, plain));
    EXPECT(!tls_spki_pin_parse(SLICE("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), plain));
}

TEST(verify_says_what_is_wrong_with_a_bundle)
{
    struct tls_trust *t;
    const struct made *ca = make_ca("ca");
    EXPECT_EQ(tls_trust_create(SLICE("garbage"), SLICE(""), &t, got.why, sizeof(got.why)),
              ERR_SYNTAX);
    EXPECT_STR(got.why, "no certificate in PEM");
    EXPECT(t == NULL);
    EXPECT_EQ(tls_trust_create(SLICE("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE----"
                                     "-\n"),
                               SLICE(""), &t, got.why, sizeof(got.why)),
              ERR_SYNTAX);
    EXPECT_STR(got.why, "certificate 1 of the CA bundle cannot be read");
    EXPECT_EQ(tls_trust_create(ca->pem, ca->pem, &t, got.why, sizeof(got.why)), ERR_SYNTAX);
    EXPECT_STR(got.why, "no CRL in PEM");
    struct string_item pin = {.text = SLICE("short")};
    struct tls_peer_settings s = {.hash_pins = {&pin, 1}, .insecure_skip_verify = true};
    struct tls_peer_policy p;
    EXPECT_EQ(tls_peer_policy_init(&p, &s, got.why, sizeof(got.why)), ERR_INVALID);
    EXPECT_STR(got.why, "verifyCertificateHash: \"short\" is no SHA-256");
    s = (struct tls_peer_settings){0};
    EXPECT_EQ(tls_peer_policy_init(&p, &s, got.why, sizeof(got.why)), ERR_INVALID);
    EXPECT_STR(got.why, "no CA to verify the peer's certificate with");
}

TEST(verify_takes_crls_that_stand_beside_the_cas)
{
    const struct made *ca = make_ca("ca"), *bad = leaf_of(ca, NULL);
    struct slice crl = made_crl(ca, &bad, 1, false);
    char both[8192];
    int n = snprintf(both, sizeof(both), "%s%s", crl.ptr, ca->pem.ptr);
    struct made bundle = *ca;
    bundle.pem = (struct slice){both, (size_t)n};
    struct given g = {.ca = &bundle};
    EXPECT_EQ(verify_one(&g, bad), TLS_VERDICT_CHAIN);
    EXPECT_EQ(got.alert, SSL_AD_CERTIFICATE_REVOKED);
    EXPECT_EQ(verify_one(&g, leaf_of(ca, NULL)), TLS_VERDICT_OK);
}

TEST(verify_refuses_an_endless_chain)
{
    const struct made *ca = make_ca("ca"), *leaf = leaf_of(ca, NULL);
    const struct made *sent[18] = {leaf};
    for (int i = 1; i < 17; i++)
        sent[i] = ca;
    struct given g = {.ca = ca};
    EXPECT_EQ(verify(&g, sent), TLS_VERDICT_CHAIN);
    EXPECT_EQ(got.alert, SSL_AD_BAD_CERTIFICATE);
    sent[16] = NULL;
    EXPECT_EQ(verify(&g, sent), TLS_VERDICT_OK);
}
