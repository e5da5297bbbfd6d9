#include "certs.h"
#include "core/check.h"
#include "test.h"
#include "tls/xfcc.h"
#include <openssl/mem.h>
#include <openssl/x509.h>

static char out[8192];

static const char *xfcc_of(const struct made *m, const char *by)
{
    uint8_t *der = NULL;
    int len = i2d_X509(m->x509, &der);
    check(len > 0);
    size_t n = xfcc_write((struct slice){(const char *)der, (size_t)len}, slice_of(by), out,
                          sizeof(out) - 1);
    OPENSSL_free(der);
    check(n < sizeof(out));
    out[n] = '\0';
    return out;
}

// What follows the certificate's text.
static const char *tail_of(const struct made *m, const char *by)
{
    const char *at = strstr(xfcc_of(m, by), "\";Subject=");
    return at ? at + 2 : "";
}

TEST(xfcc_is_what_envoy_writes)
{
    const struct made *m = made_cert(&(struct made_spec){
        .cn = "client", .org = "org", .names = "DNS:a.example,URI:spiffe://td/x,DNS:b.example"});
    EXPECT_STR(tail_of(m, NULL),
               "Subject=\"CN=client,O=org\";URI=spiffe://td/x;DNS=a.example;DNS=b.example");
    char start[160] = "By=spiffe://td/gw;Hash=", lower[65];
    struct slice hash = made_hash_pin(m);
    for (size_t i = 0; i <= hash.len; i++)
        lower[i] = (char)(hash.ptr[i] >= 'A' ? hash.ptr[i] | 0x20 : hash.ptr[i]);
    strcat(strcat(start, lower), ";Cert=\"-----BEGIN%20CERTIFICATE-----%0A");
    EXPECT(strncmp(xfcc_of(m, "spiffe://td/gw"), start, strlen(start)) == 0);
    EXPECT(strstr(out, "-----END%20CERTIFICATE-----%0A\";Subject=") != NULL);
}

TEST(xfcc_percent_encodes_the_whole_certificate)
{
    const struct made *m = made_cert(&(struct made_spec){.cn = "c"});
    char decoded[8192];
    size_t n = 0;
    const char *p = strstr(xfcc_of(m, NULL), "Cert=\"");
    REQUIRE(p != NULL);
    for (p += 6; *p && *p != '"'; p++) {
        unsigned value = (unsigned char)*p;
        EXPECT(!strchr("\n +/=", *p));
        if (*p == '%') {
            EXPECT(sscanf(p + 1, "%2x", &value) == 1);
            p += 2;
        }
        decoded[n++] = (char)value;
    }
    decoded[n] = '\0';
    EXPECT_STR(decoded, m->pem.ptr);
}

TEST(xfcc_keeps_empty_parts_and_quotes_what_would_split)
{
    EXPECT_STR(tail_of(made_cert(&(struct made_spec){0}), NULL), "Subject=\"\";URI=");
    // Commas cannot be made by the test's list of names; `;`, `=` and `"` can.
    EXPECT_STR(
        tail_of(made_cert(&(struct made_spec){.cn = "a\"b", .names = "URI:x;By=y\"z"}), NULL),
        "Subject=\"CN=a\\\"b\";URI=\"x;By=y\\\"z\"");
}

TEST(xfcc_leaves_out_names_that_would_break_the_header)
{
    const struct made *m = made_cert(&(struct made_spec){
        .cn = "x\r\ny", .names = "URI:a%00b,DNS:c\r\nevil: 1,DNS:d.example,URI:e"});
    EXPECT_STR(tail_of(m, "spiffe://a\r\nb"), "Subject=\"CN=x\\0D\\0Ay\";URI=e;DNS=d.example");
    EXPECT(strncmp(out, "Hash=", 5) == 0);
}

TEST(xfcc_says_how_long_it_would_be)
{
    const struct made *m = made_cert(&(struct made_spec){.cn = "x"});
    size_t whole = strlen(xfcc_of(m, NULL));
    uint8_t *der = NULL;
    int len = i2d_X509(m->x509, &der);
    check(len > 0);
    struct slice leaf = {(const char *)der, (size_t)len};
    memset(out, '#', sizeof(out));
    EXPECT_EQ(xfcc_write(leaf, SLICE(""), out, 100), whole);
    EXPECT(out[100] == '#');
    EXPECT_EQ(xfcc_write(leaf, SLICE(""), NULL, 0), whole);
    EXPECT_EQ(xfcc_write(SLICE("garbage"), SLICE(""), out, sizeof(out)), 0);
    OPENSSL_free(der);
}
