// From texts to a model: namespaces, order, the same object twice, lists, other kinds, Secrets; and
// the small parsers below.
#include "config/names.h"
#include "config/text.h"
#include "fixture.h"
#include "test.h"

#define SECRET(data) "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n" data

TEST(load_namespace_is_the_documents_else_the_arguments)
{
    struct loaded l;
    struct findings f;
    struct model *m;
    findings_init(&f);
    EXPECT_EQ(load_text("t", "istio",
                        SLICE("apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n"
                              "apiVersion: v1\nkind: Secret\nmetadata: {name: b}\n---\n"
                              "apiVersion: v1\nkind: Secret\nmetadata: {name: b, "
                              "namespace: other}\n"),
                        NULL, &m, &f),
              OK);
    REQUIRE(m->secrets_count == 2);
    EXPECT_STR(m->secrets[0]->meta.ns.ptr, "istio");
    EXPECT_STR(m->secrets[1]->meta.ns.ptr, "other");
    model_destroy(m);
    findings_fini(&f);
    loaded_init(&l, SECRET("data: {}"));
    EXPECT_STR(l.m->secrets[0]->meta.ns.ptr, "default");
    loaded_fini(&l);
}

TEST(load_the_last_of_equals_counts)
{
    struct loaded l;
    loaded_init(&l, SECRET("stringData: {a: first}\n---\n") SECRET("stringData: {a: second}\n"));
    REQUIRE(l.m->secrets_count == 1 && l.m->secrets[0]->data.count == 1);
    EXPECT_STR(l.m->secrets[0]->data.items[0].value.ptr, "second");
    REQUIRE(l.findings.count == 1);
    EXPECT_STR(l.findings.items[0].message,
               "replaced by the document at t.yaml:6, as kubectl apply would");
    loaded_fini(&l);
}

TEST(load_lists_and_other_kinds)
{
    struct loaded l;
    loaded_init(&l,
                "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: "
                "{name: a}}\n- {apiVersion: apps/v1, kind: Deployment, metadata: {name: b}}\n");
    EXPECT_EQ(l.m->namespaces_count, 1);
    EXPECT_EQ(l.m->skipped_count, 1);
    REQUIRE(l.findings.count == 1);
    EXPECT_EQ(l.findings.items[0].severity, SEVERITY_INFO);
    EXPECT_EQ(l.findings.items[0].pos.line, 5);
    loaded_fini(&l);
    EXPECT(strstr(findings_of(
                      "{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: List, items: "
                      "[{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: List, "
                      "items: [{apiVersion: v1, kind: List}]}]}]}]}"),
                  "nested too deeply") != NULL);
}

TEST(load_what_refers_to_a_broken_document_is_not_lost)
{
    struct loaded l;
    loaded_init(
        &l,
        HEAD(
            "Gateway",
            "gw") "  servers: [{hosts: [a.com], port: {number: 443, name: h, "
                  "protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: c, typo: 1}}]\n---\n" HEAD(
                      "VirtualService",
                      "vs") "  hosts: [a.com]\n  gateways: [gw]\n  http: [{route: "
                            "[{destination: {host: b, subset: v1}}, {destination: {host: se.com}, "
                            "weight: 1}]}]\n"
                            "---\napiVersion: v1\nkind: Service\nmetadata: {name: b}\nspec: "
                            "{ports: [{port: 0}]}\n"
                            "---\n" HEAD("DestinationRule",
                                         "dr") "  host: b\n  subsets: [{name: v1, typo: 1}]\n"
                                               "---\n" HEAD("ServiceEntry",
                                                            "se") "  hosts: [se.com]\n  typo: 1\n");
    EXPECT_EQ(l.findings.count, 4); // one for each broken document and none for the VirtualService
    EXPECT_EQ(l.findings.document_errors, 4);
    EXPECT_EQ(l.m->virtual_services_count, 1);
    loaded_fini(&l);
}

TEST(load_kinds_that_look_like_ours_are_skipped)
{
    static const char *const kinds[] = {
        "v1, kind: Node",
        "v1, kind: ServiceAccount",
        "v1, kind: PodTemplate",
        "v1, kind: Event",
        "rbac.authorization.k8s.io/v1, kind: Role",
        "batch/v1, kind: Job",
        "example.com/v1, kind: Poda",
    };
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        char text[128];
        struct loaded l;
        snprintf(text, sizeof(text), "{apiVersion: %s, metadata: {name: a}}", kinds[i]);
        loaded_init(&l, text);
        EXPECT_EQ(l.e, OK);
        EXPECT_EQ(l.m->skipped_count, 1);
        loaded_fini(&l);
    }
    EXPECT(strstr(errors_of("{apiVersion: v1, kind: Secrt, metadata: {name: a}}"),
                  "did you mean \"Secret\"?") != NULL);
}

TEST(load_secrets_are_decoded)
{
    struct loaded l;
    loaded_init(&l, SECRET("data: {a: aGVsbG8=, b: 'aGV\n    sbG8='}\nstringData: {a: plain}\n"));
    REQUIRE(l.m->secrets_count == 1 && l.m->secrets[0]->data.count == 2);
    EXPECT_STR(l.m->secrets[0]->data.items[0].value.ptr,
               "plain"); // stringData wins, as in Kubernetes
    EXPECT_STR(l.m->secrets[0]->data.items[1].value.ptr, "hello");
    loaded_fini(&l);
}

TEST(load_positions_name_the_file)
{
    struct loaded l;
    loaded_init(&l,
                HEAD("Gateway", "gw") "  servers: [{hosts: [a.com], port: {number: 80, name: h, "
                                      "protocol: HTTP}}]\n");
    REQUIRE(l.m->gateways_count == 1);
    const struct pos *pos = &l.m->gateways[0]->servers[0].port.number_pos;
    EXPECT_STR(pos->file, "t.yaml");
    EXPECT_EQ(pos->line, 5);
    EXPECT_EQ(pos->column, 45);
    loaded_fini(&l);
}

TEST(text_times)
{
    uint64_t s;
    EXPECT(time_parse(SLICE("1970-01-01T00:00:00Z"), &s) && s == 0);
    EXPECT(time_parse(SLICE("2021-09-07T05:30:44Z"), &s) && s == 1630992644);
    EXPECT(time_parse(SLICE("2021-09-07T07:30:44.123456+02:00"), &s) && s == 1630992644);
    EXPECT(time_parse(SLICE("2000-02-29T00:00:00-00:30"), &s) && s == 951784200);
    EXPECT(!time_parse(SLICE("2021-09-07"), &s) && !time_parse(SLICE("2021-13-07T05:30:44Z"), &s));
    EXPECT(!time_parse(SLICE("2021-09-07T05:30:44"), &s) && !time_parse(SLICE(""), &s));
}

TEST(text_base64)
{
    struct arena a;
    struct slice out;
    arena_init(&a, 0);
    EXPECT(base64_decode(&a, SLICE("YQ=="), &out) && slice_eq(out, SLICE("a")));
    EXPECT(base64_decode(&a, SLICE("YWI="), &out) && slice_eq(out, SLICE("ab")));
    EXPECT(base64_decode(&a, SLICE("YWJj\nZGVm\n"), &out) && slice_eq(out, SLICE("abcdef")));
    EXPECT(base64_decode(&a, SLICE(""), &out) && out.len == 0);
    EXPECT(!base64_decode(&a, SLICE("YQ"), &out) && !base64_decode(&a, SLICE("Y==="), &out));
    EXPECT(!base64_decode(&a, SLICE("YQ==YQ=="), &out) && !base64_decode(&a, SLICE("Y-_="), &out));
    arena_fini(&a);
}

TEST(text_nearest_word)
{
    struct {
        const char *word, *nearest;
    } rows[] = {{"hsots", "hosts"}, {"HOSTS", "hosts"}, {"host", "hosts"}, {"portt", "port"},
                {"xyz", NULL},      {"", NULL},         {"t", NULL},       {"bidn", "bind"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct nearest n = {.word = slice_of(rows[i].word)};
        nearest_offer(&n, "hosts");
        nearest_offer(&n, "port");
        nearest_offer(&n, "bind");
        EXPECT_STR(n.best ? n.best : "-", rows[i].nearest ? rows[i].nearest : "-");
    }
}

TEST(names_match_and_intersect)
{
    static const struct {
        const char *a, *b, *both;
        bool matches;
    } rows[] = {
        {"*.com", "bookinfo.com", "bookinfo.com", true},
        {"*", "a.b", "a.b", true},
        {"*.com", "*.a.com", "*.a.com", true},
        {"*.foo.com", "foo.com", NULL, false},
        {"bookinfo.com", "bookinfo.demo", NULL, false},
        {"A.com", "a.COM", "A.com", true},
        {"*.com", "*.org", NULL, false},
        {"*", "*", "*", true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct slice a = slice_of(rows[i].a), b = slice_of(rows[i].b);
        struct slice both = host_intersect(a, b);
        EXPECT_EQ(host_matches(a, b), rows[i].matches);
        EXPECT_EQ(host_matches(b, a), rows[i].matches);
        EXPECT_STR(both.ptr ? both.ptr : "-", rows[i].both ? rows[i].both : "-");
    }
}

TEST(names_of_gateways)
{
    static const struct {
        const char *ref, *ns, *name;
    } rows[] = {{"gw", "vs", "gw"},
                {"a/gw", "a", "gw"},
                {"./gw", "vs", "gw"},
                {"gw.a", "a", "gw"},
                {"gw.a.svc.cluster.local", "a", "gw"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct slice ns, name;
        gateway_ref_split(slice_of(rows[i].ref), SLICE("vs"), &ns, &name);
        EXPECT(slice_eq(ns, slice_of(rows[i].ns)) && slice_eq(name, slice_of(rows[i].name)));
    }
    struct arena a;
    arena_init(&a, 0);
    EXPECT_STR(host_fqdn(&a, SLICE("b"), SLICE("n")).ptr, "b.n.svc.cluster.local");
    EXPECT_STR(host_fqdn(&a, SLICE("b.c"), SLICE("n")).ptr, "b.c");
    EXPECT_STR(host_fqdn(&a, SLICE("*"), SLICE("n")).ptr, "*");
    arena_fini(&a);
}
