// Rules that are computed in a cleverer way than they are defined, held against the definition.
#include "config/names.h"
#include "core/check.h"
#include "fixture.h"
#include "test.h"
#include <stdlib.h>

static bool overlap_naively(const char hosts[][16], uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = i + 1; k < n; k++)
            if (host_matches(slice_of(hosts[i]), slice_of(hosts[k])))
                return true;
    return false;
}

static uint32_t next_random(uint32_t *state, uint32_t below)
{
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 16) % below;
}

static void random_host(uint32_t *state, char *out)
{
    static const char *const firsts[] = {"*", "*-b", "*.a", "a", "b", "A", "*.b.a", "a-b"};
    static const char *const rests[] = {"", ".com", ".a.com", ".COM", ".b"};
    uint32_t first = next_random(state, 8), rest = next_random(state, 5);
    snprintf(out, 16, "%s%s", firsts[first], rests[rest]);
}

TEST(rules_hosts_of_a_virtual_service_that_cover_each_other)
{
    uint32_t state = 7, overlapping = 0;
    for (uint32_t round = 0; round < 3000; round++) {
        char hosts[4][16], text[512];
        uint32_t n = 2 + next_random(&state, 3);
        size_t len = (size_t)snprintf(text, sizeof(text),
                                      "%s  gateways: [gw]\n  http: [{route: "
                                      "[{destination: {host: b}}]}]\n  hosts:\n",
                                      HEAD("VirtualService", "vs"));
        for (uint32_t i = 0; i < n; i++) {
            random_host(&state, hosts[i]);
            len += (size_t)snprintf(text + len, sizeof(text) - len, "  - '%s'\n", hosts[i]);
        }
        bool naive = overlap_naively(hosts, n);
        bool said = strstr(errors_of(text), "duplicate hosts in virtual service") != NULL;
        overlapping += naive;
        if (naive != said)
            test_fail(__FILE__, __LINE__, "%s is %s", text, said ? "refused" : "taken");
    }
    EXPECT(overlapping > 100 && overlapping < 2900); // both were seen
}

TEST(rules_every_pair_of_hosts_is_named)
{
    EXPECT_STR(
        errors_of(HEAD("VirtualService",
                       "vs") "  hosts: ['*.a.com', b.com, '*.com', x.a.com]\n"
                             "  gateways: [gw]\n  http: [{route: [{destination: {host: b}}]}]\n"),
        "5:29 error duplicate hosts in virtual service: *.a.com & *.com\n"
        "5:29 error duplicate hosts in virtual service: b.com & *.com\n"
        "5:38 error duplicate hosts in virtual service: *.a.com & x.a.com\n"
        "5:38 error duplicate hosts in virtual service: *.com & x.a.com");
}

TEST(rules_data_of_any_number_of_keys)
{
    size_t cap = 1 << 20, n;
    char *text = malloc(cap);
    REQUIRE(text);
    n = (size_t)snprintf(text, cap,
                         "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData:\n");
    for (int i = 0; i < 5000; i++)
        n += (size_t)snprintf(text + n, cap - n, "  k%d: new\n", i);
    n += (size_t)snprintf(text + n, cap - n, "data:\n");
    for (int i = 0; i < 5001; i++)
        n += (size_t)snprintf(text + n, cap - n, "  k%d: b2xk\n", i);
    struct loaded l;
    loaded_init(&l, text);
    EXPECT_EQ(l.findings.count, 0);
    REQUIRE(l.m->secrets_count == 1);
    EXPECT_EQ(l.m->secrets[0]->data.count, 5001);
    EXPECT_STR(l.m->secrets[0]->data.items[4999].value.ptr, "new");
    EXPECT_STR(l.m->secrets[0]->data.items[5000].value.ptr, "old");
    loaded_fini(&l);
    free(text);
}
