// The store on documents with Secrets and on files in a temporary folder.
#include "certs.h"
#include "config/load.h"
#include "core/check.h"
#include "shake.h"
#include "test.h"
#include "tls/store.h"
#include "tls/ticket.h"
#include <dirent.h>
#include <errno.h>
#include <openssl/nid.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

// ---- a world: documents, a folder with mount/ and identity/, and what was loaded

static struct world {
    char folder[64], mount[80], identity[80], system[96];
    char text[65536];
    size_t len;
    struct model *m;
    struct findings findings;
    struct tls_store *store;
    struct tls_tickets *tickets;
    char told[4096];
} w;

static const char *path_of(const char *name)
{
    static char out[4][160];
    static unsigned next;
    char *p = out[next++ % 4];
    snprintf(p, sizeof(out[0]), "%s/%s", w.folder, name);
    return p;
}

static void write_file(const char *name, struct slice text)
{
    char made[200];
    snprintf(made, sizeof(made), "%s.new", path_of(name));
    FILE *f = fopen(made, "w");
    check(f && fwrite(text.ptr, 1, text.len, f) == text.len && fclose(f) == 0);
    check(rename(made, path_of(name)) == 0);
}

static void remove_tree(const char *folder)
{
    DIR *d = opendir(folder);
    struct dirent *e;
    char path[512];
    while (d && (e = readdir(d))) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
        if (unlink(path) != 0)
            remove_tree(path);
    }
    if (d)
        closedir(d);
    rmdir(folder);
}

static void begin(void)
{
    w = (struct world){.folder = "/tmp/sluice-store-XXXXXX"};
    check(mkdtemp(w.folder) != NULL);
    snprintf(w.mount, sizeof(w.mount), "%s/mount", w.folder);
    snprintf(w.identity, sizeof(w.identity), "%s/identity", w.folder);
    snprintf(w.system, sizeof(w.system), "%s/system.pem", w.folder);
    check(mkdir(w.mount, 0700) == 0 && mkdir(w.identity, 0700) == 0);
}

__attribute__((format(printf, 1, 2))) static void add(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(w.text + w.len, sizeof(w.text) - w.len, fmt, ap);
    va_end(ap);
    check(n >= 0 && (size_t)n < sizeof(w.text) - w.len);
    w.len += (size_t)n;
}

// Quoted for YAML.
static void add_quoted(struct slice text)
{
    add("\"");
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '\n')
            add("\\n");
        else
            add("%c", text.ptr[i]);
    }
    add("\"");
}

struct entry {
    const char *key;
    struct slice value;
};

static void add_object(const char *kind, const char *ns, const char *name, const struct entry *e)
{
    add("---\napiVersion: v1\nkind: %s\nmetadata: {name: %s, namespace: %s}\n%s:\n", kind, name, ns,
        strcmp(kind, "Secret") == 0 ? "stringData" : "data");
    for (; e->key; e++) {
        add("  %s: ", e->key);
        add_quoted(e->value);
        add("\n");
    }
}
#define SECRET(ns, name, ...) \
    add_object("Secret", ns, name, (const struct entry[]){__VA_ARGS__, {NULL, {NULL, 0}}})

// A Gateway with one server of that tls (a flow mapping).
static void add_gateway(const char *ns, const char *name, const char *tls)
{
    add("---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: %s, namespace: "
        "%s}\nspec:\n  servers:\n  - port: {number: 443, name: https, protocol: HTTPS}\n    hosts: "
        "['%s.example']\n    tls: %s\n",
        name, ns, name, tls);
}

static void add_rule(const char *name, const char *host, const char *tls)
{
    add("---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: %s, "
        "namespace: istio}\nspec:\n  host: %s\n  trafficPolicy: {tls: %s}\n",
        name, host, tls);
}

static void unload(void)
{
    model_destroy(w.m);
    findings_fini(&w.findings);
    w.m = NULL;
}

// Loads what was added; the store before is destroyed once the new one is there.
static void load(void)
{
    const struct load_options options = {0};
    struct findings of_documents;
    struct tls_store *previous = w.store;
    if (w.m)
        unload();
    findings_init(&of_documents);
    findings_init(&w.findings);
    check(load_text("t.yaml", "default", (struct slice){w.text, w.len}, &options, &w.m,
                    &of_documents) == OK);
    findings_fini(&of_documents);
    const struct tls_store_options store_options = {.mount = w.mount,
                                                    .identity = w.identity,
                                                    .system_ca = w.system,
                                                    .tickets = w.tickets,
                                                    .now_s = time(NULL)};
    w.store = tls_store_load(previous, w.m, &store_options, &w.findings);
    tls_store_destroy(previous);
}

static void end(void)
{
    unload();
    tls_store_destroy(w.store);
    tls_tickets_destroy(w.tickets);
    remove_tree(w.folder);
}

static struct tls_ctx *server(uint32_t i)
{
    return tls_store_server(w.store, &w.m->gateways[i]->servers[0]);
}

static struct tls_ctx *client(uint32_t i)
{
    return tls_store_client(w.store, w.m->destination_rules[i]->traffic_policy->tls);
}

// `severity message` of all findings, one a line; the folder as `~`.
static const char *told(void)
{
    static const char *const names[] = {"info", "warning", "error"};
    size_t n = 0;
    for (uint32_t i = 0; i < w.findings.count; i++) {
        const struct finding *f = &w.findings.items[i];
        EXPECT(f->pos.line > 0);
        n += (size_t)snprintf(w.told + n, sizeof(w.told) - n, "%s%s ", i ? "\n" : "",
                              names[f->severity]);
        for (const char *p = f->message; *p && n < sizeof(w.told) - 2;) {
            bool folder = strncmp(p, w.folder, strlen(w.folder)) == 0;
            w.told[n++] = (char)(folder ? '~' : *p);
            p += folder ? strlen(w.folder) : 1;
        }
    }
    w.told[n] = '\0';
    return w.told;
}

// The CN of the certificate that a context shows to a client of that algorithm.
static const char *shown(struct tls_ctx *c, uint16_t algorithm, const struct made *identity)
{
    static char cn[64];
    struct shaken s;
    snprintf(cn, sizeof(cn), "none");
    if (!c)
        return cn;
    SSL *peer = plain_client(identity);
    check(!algorithm || SSL_set_verify_algorithm_prefs(peer, &algorithm, 1));
    shake(&s, c, peer);
    X509 *leaf = s.done ? SSL_get_peer_certificate(s.client) : NULL;
    if (leaf)
        X509_NAME_get_text_by_NID(X509_get_subject_name(leaf), NID_commonName, cn, sizeof(cn));
    X509_free(leaf);
    shake_fini(&s);
    return cn;
}

static const struct made *make(const char *cn)
{
    return made_cert(&(struct made_spec){.cn = cn});
}

static const struct made *make_ca(const char *cn)
{
    return made_cert(&(struct made_spec){.cn = cn, .ca = true});
}

static const struct made *make_of(const struct made *ca, const char *cn)
{
    return made_cert(&(struct made_spec){.cn = cn, .issuer = ca});
}

#define SIMPLE "{mode: SIMPLE, credentialName: %s}"

static void add_simple(const char *ns, const char *name, const char *credential)
{
    char tls[256];
    snprintf(tls, sizeof(tls), SIMPLE, credential);
    add_gateway(ns, name, tls);
}

// ---- Secrets

TEST(store_prefers_istios_generic_keys)
{
    const struct made *generic = make("generic"), *tls = make("tls");
    begin();
    SECRET("istio", "both", {"tls.crt", tls->pem}, {"tls.key", tls->key_pem},
           {"cert", generic->pem}, {"key", generic->key_pem});
    SECRET("istio", "tls", {"tls.crt", tls->pem}, {"tls.key", tls->key_pem}, {"cert", SLICE("")});
    SECRET("istio", "half", {"tls.crt", tls->pem}, {"tls.key", tls->key_pem},
           {"cert", generic->pem});
    add_simple("istio", "a", "both");
    add_simple("istio", "b", "tls");
    add_simple("istio", "c", "half");
    load();
    EXPECT_STR(told(), "");
    EXPECT_STR(shown(server(0), 0, NULL), "generic");
    EXPECT_STR(shown(server(1), 0, NULL), "tls");
    EXPECT_STR(shown(server(2), 0, NULL), "tls");
    end();
}

TEST(store_says_which_keys_a_secret_has)
{
    const struct made *m = make("x");
    begin();
    SECRET("istio", "few", {"b", m->pem}, {"a", m->pem});
    SECRET("istio", "many", {"d", m->pem}, {"b", m->pem}, {"a", m->pem}, {"c", m->pem},
           {"e", m->pem});
    SECRET("istio", "empty", {"tls.crt", SLICE("")}, {"tls.key", SLICE("")});
    add_simple("istio", "x", "few");
    add_simple("istio", "y", "many");
    add_simple("istio", "z", "empty");
    add_simple("istio", "missing", "nosuch");
    load();
    EXPECT_STR(told(),
               "error secret istio/few: found secret, but didn't have expected keys (cert and key) "
               "or (tls.crt and tls.key); found: a, b\n"
               "error secret istio/many: found secret, but didn't have expected keys (cert and "
               "key) or (tls.crt and tls.key); found: a, b, c, and 2 more...\n"
               "error secret istio/empty: found keys \"tls.crt\" and \"tls.key\", but they were "
               "empty\n"
               "error Referenced credentialName not found: \"nosuch\"");
    for (uint32_t i = 0; i < 4; i++)
        EXPECT(server(i) == NULL);
    end();
}

TEST(store_looks_near_then_in_istio_system)
{
    const struct made *near = make("near"), *system = make("system"), *far = make("far");
    begin();
    SECRET("far", "a", {"tls.crt", far->pem}, {"tls.key", far->key_pem});
    SECRET("istio-system", "a", {"tls.crt", system->pem}, {"tls.key", system->key_pem});
    SECRET("near", "a", {"tls.crt", near->pem}, {"tls.key", near->key_pem});
    SECRET("far", "b", {"tls.crt", far->pem}, {"tls.key", far->key_pem});
    add_simple("near", "w", "a");
    add_simple("elsewhere", "x", "a");
    add_simple("near", "y", "b");
    add_simple("near", "z", "far/a");
    add_simple("near", "kube", "'kubernetes://far/a'");
    add_simple("near", "gw", "'kubernetes-gateway://istio-system/a'");
    add_simple("near", "wrong", "nowhere/a");
    load();
    EXPECT_STR(shown(server(0), 0, NULL), "near");
    EXPECT_STR(shown(server(1), 0, NULL), "system");
    EXPECT_STR(shown(server(2), 0, NULL), "far");
    EXPECT_STR(shown(server(3), 0, NULL), "far");
    EXPECT_STR(shown(server(4), 0, NULL), "far");
    EXPECT_STR(shown(server(5), 0, NULL), "system");
    EXPECT(server(6) == NULL);
    EXPECT_STR(told(), "error Referenced credentialName not found: \"nowhere/a\"");
    end();
}

TEST(store_takes_two_certificates)
{
    const struct made *rsa = made_cert(&(struct made_spec){.cn = "rsa", .key = MADE_RSA2048});
    const struct made *ec = make("ec");
    begin();
    SECRET("istio", "r", {"tls.crt", rsa->pem}, {"tls.key", rsa->key_pem});
    SECRET("istio", "e", {"tls.crt", ec->pem}, {"tls.key", ec->key_pem});
    add_gateway("istio", "two", "{mode: SIMPLE, credentialNames: [r, e]}");
    add_gateway("istio", "half", "{mode: SIMPLE, credentialNames: [r, nosuch]}");
    load();
    EXPECT_STR(shown(server(0), 0, NULL), "ec");
    EXPECT_STR(shown(server(0), SSL_SIGN_RSA_PSS_RSAE_SHA256, NULL), "rsa");
    EXPECT(server(1) == NULL); // it was not asked for half of it
    EXPECT_STR(told(), "error Referenced credentialName not found: \"nosuch\"");
    end();
}

// ---- what may be wrong with one

TEST(store_breaks_only_what_names_a_bad_credential)
{
    const struct made *good = make("good"), *other = make("other");
    const struct made *old =
        made_cert(&(struct made_spec){.cn = "old", .from_s = -7200, .until_s = -3600});
    begin();
    SECRET("istio", "good", {"tls.crt", good->pem}, {"tls.key", good->key_pem});
    SECRET("istio", "mixed", {"tls.crt", good->pem}, {"tls.key", other->key_pem});
    SECRET("istio", "encrypted", {"tls.crt", good->pem}, {"tls.key", made_encrypted_key(good)});
    SECRET("istio", "garbage", {"tls.crt", SLICE("garbage")}, {"tls.key", good->key_pem});
    SECRET("istio", "nokey", {"tls.crt", good->pem}, {"tls.key", good->pem});
    SECRET("istio", "old", {"tls.crt", old->pem}, {"tls.key", old->key_pem});
    add_simple("istio", "g0", "mixed");
    add_simple("istio", "g1", "encrypted");
    add_simple("istio", "g2", "garbage");
    add_simple("istio", "g3", "nokey");
    add_simple("istio", "g4", "good");
    add_simple("istio", "g5", "old");
    load();
    const char *lines = told();
    EXPECT(strncmp(lines,
                   "error secret istio/mixed: the private key is not that of the certificate "
                   "CN=good\n"
                   "error secret istio/encrypted: the private key is encrypted\n"
                   "error secret istio/garbage: no certificate in PEM\n"
                   "error secret istio/nokey: no private key in PEM\n"
                   "warning secret istio/old: the certificate CN=old expired at ",
                   260) == 0);
    for (uint32_t i = 0; i < 4; i++)
        EXPECT(server(i) == NULL);
    EXPECT_STR(shown(server(4), 0, NULL), "good");
    EXPECT_STR(shown(server(5), 0, NULL), "old"); // as Istio
    EXPECT_EQ(w.findings.count, 5);
    end();
}

TEST(store_warns_of_curves_it_does_not_know)
{
    const struct made *m = make("x");
    begin();
    SECRET("istio", "x", {"tls.crt", m->pem}, {"tls.key", m->key_pem});
    add_gateway("istio", "g", "{mode: SIMPLE, credentialName: x, ecdhCurves: [P-256, P-224]}");
    load();
    EXPECT_STR(told(), "warning ignoring unknown ecdh curves: [P-224]");
    EXPECT(server(0) != NULL);
    end();
}

// ---- CAs

TEST(store_finds_the_ca_of_clients_where_istio_does)
{
    const struct made *site = make("site"), *a = make_ca("a"), *b = make_ca("b");
    const struct made *of_a = make_of(a, "of a"), *of_b = make_of(b, "of b");
    begin();
    SECRET("istio", "same", {"cert", site->pem}, {"key", site->key_pem}, {"cacert", a->pem},
           {"ca.crt", b->pem});
    SECRET("istio", "apart", {"tls.crt", site->pem}, {"tls.key", site->key_pem},
           {"ca.crt", a->pem});
    SECRET("istio", "apart-cacert", {"ca.crt", b->pem});
    SECRET("istio", "authority", {"ca.crt", b->pem});
    add_object("ConfigMap", "istio", "map",
               (const struct entry[]){{"ca.crt", b->pem}, {NULL, {NULL, 0}}});
    add_gateway("istio", "g0", "{mode: MUTUAL, credentialName: same}");
    add_gateway("istio", "g1", "{mode: MUTUAL, credentialName: apart}");
    add_gateway("istio", "g2",
                "{mode: MUTUAL, credentialName: apart, caCertCredentialName: authority}");
    add_gateway("istio", "g3",
                "{mode: MUTUAL, credentialName: same, caCertCredentialName: "
                "'configmap://istio/map'}");
    add_gateway("istio", "g4", "{mode: OPTIONAL_MUTUAL, credentialNames: [same, apart]}");
    add_gateway("istio", "g5", "{mode: ISTIO_MUTUAL, credentialName: same}");
    load();
    EXPECT_STR(told(), "");
    static const char trusted[] = "abbbaa";
    for (uint32_t i = 0; i < 6; i++) {
        EXPECT_STR(shown(server(i), 0, of_a), trusted[i] == 'a' ? "site" : "none");
        EXPECT_STR(shown(server(i), 0, of_b), trusted[i] == 'b' ? "site" : "none");
        EXPECT_STR(shown(server(i), 0, NULL), i == 4 ? "site" : "none");
    }
    end();
}

TEST(store_needs_a_ca_for_mutual)
{
    const struct made *site = make("site");
    begin();
    SECRET("istio", "none", {"tls.crt", site->pem}, {"tls.key", site->key_pem});
    SECRET("istio", "bad", {"tls.crt", site->pem}, {"tls.key", site->key_pem},
           {"ca.crt", SLICE("garbage")});
    add_gateway("istio", "g0", "{mode: MUTUAL, credentialName: none}");
    add_gateway("istio", "g1", "{mode: MUTUAL, credentialName: bad}");
    add_gateway("istio", "g2",
                "{mode: MUTUAL, credentialName: none, caCertCredentialName: nosuch}");
    load();
    EXPECT_STR(told(),
               "error secret istio/none: found secret, but didn't have expected keys cacert or "
               "ca.crt; found: tls.crt, tls.key\n"
               "error secret istio/bad: no certificate in PEM\n"
               "error secret istio/nosuch not found");
    for (uint32_t i = 0; i < 3; i++)
        EXPECT(server(i) == NULL);
    end();
}

TEST(store_revokes_by_the_crl_of_the_credential)
{
    const struct made *ca = make_ca("ca"), *site = make("site");
    const struct made *good = make_of(ca, "good"), *bad = make_of(ca, "bad");
    struct slice crl = made_crl(ca, &bad, 1, false);
    begin();
    SECRET("istio", "tls", {"tls.crt", site->pem}, {"tls.key", site->key_pem}, {"ca.crt", ca->pem},
           {"ca.crl", crl});
    SECRET("istio", "generic", {"cert", site->pem}, {"key", site->key_pem}, {"cacert", ca->pem},
           {"crl", crl}, {"ca.crl", SLICE("not this one")});
    write_file("mount/crt", site->pem);
    write_file("mount/key", site->key_pem);
    write_file("mount/ca", ca->pem);
    write_file("mount/crl", crl);
    add_gateway("istio", "g0", "{mode: MUTUAL, credentialName: tls}");
    add_gateway("istio", "g1", "{mode: MUTUAL, credentialName: generic}");
    char tls[512];
    snprintf(tls, sizeof(tls),
             "{mode: MUTUAL, serverCertificate: %s/crt, privateKey: %s/key, caCertificates: %s/ca, "
             "caCrl: %s/crl}",
             w.mount, w.mount, w.mount, w.mount);
    add_gateway("istio", "g2", tls);
    load();
    EXPECT_STR(told(), "");
    for (uint32_t i = 0; i < 3; i++) {
        EXPECT_STR(shown(server(i), 0, good), "site");
        EXPECT_STR(shown(server(i), 0, bad), "none");
    }
    end();
}

TEST(store_holds_pins_and_names_with_files_too)
{
    const struct made *ca = make_ca("ca"), *site = make("site");
    const struct made *a =
        made_cert(&(struct made_spec){.cn = "a", .issuer = ca, .names = "URI:spiffe://a"});
    const struct made *b =
        made_cert(&(struct made_spec){.cn = "b", .issuer = ca, .names = "URI:spiffe://b"});
    begin();
    write_file("mount/crt", site->pem);
    write_file("mount/key", site->key_pem);
    write_file("mount/ca", ca->pem);
    const char *extra[] = {"verifyCertificateHash", "verifyCertificateSpki", "subjectAltNames"};
    const char *values[] = {made_hash_pin(a).ptr, made_spki_pin(a).ptr, "spiffe://a"};
    for (int i = 0; i < 3; i++) {
        char tls[1024], name[8];
        snprintf(name, sizeof(name), "g%d", i);
        snprintf(tls, sizeof(tls),
                 "{mode: MUTUAL, serverCertificate: %s/crt, privateKey: %s/key, caCertificates: "
                 "%s/ca, %s: ['%s']}",
                 w.mount, w.mount, w.mount, extra[i], values[i]);
        add_gateway("istio", name, tls);
    }
    load();
    EXPECT_STR(told(), "");
    for (uint32_t i = 0; i < 3; i++) {
        EXPECT_STR(shown(server(i), 0, a), "site");
        EXPECT_STR(shown(server(i), 0, b), "none");
    }
    end();
}

// ---- files

static void add_mounted(const char *name, const char *secret)
{
    char tls[512];
    snprintf(tls, sizeof(tls),
             "{mode: SIMPLE, serverCertificate: %s/%s/tls.crt, privateKey: %s/%s/tls.key}", w.mount,
             secret, w.mount, secret);
    add_gateway("istio", name, tls);
}

TEST(store_reads_files_or_what_would_be_mounted_there)
{
    const struct made *file = make("file"), *secret = make("secret");
    begin();
    check(mkdir(path_of("mount/certs"), 0700) == 0);
    SECRET("istio-system", "istio-certs", {"tls.crt", secret->pem}, {"tls.key", secret->key_pem});
    SECRET("istio-system", "plain", {"tls.crt", secret->pem}, {"tls.key", secret->key_pem});
    add_mounted("g0", "certs");
    add_mounted("g1", "plain");
    add_mounted("g2", "nosuch");
    load();
    EXPECT_STR(shown(server(0), 0, NULL), "secret"); // istio-certs, as Istio's gateways mount it
    EXPECT_STR(shown(server(1), 0, NULL), "secret");
    EXPECT(server(2) == NULL);
    EXPECT_STR(told(), "error ~/mount/nosuch/tls.crt: No such file or directory, and neither "
                       "Secret nosuch nor istio-nosuch has the key tls.crt");
    // The file appears, and is what counts then.
    write_file("mount/certs/tls.crt", file->pem);
    write_file("mount/certs/tls.key", file->key_pem);
    load();
    EXPECT_STR(shown(server(0), 0, NULL), "file");
    bool watched = false;
    for (uint32_t i = 0; i < tls_store_file_count(w.store); i++)
        watched =
            watched || strcmp(tls_store_files(w.store)[i], path_of("mount/nosuch/tls.crt")) == 0;
    EXPECT(watched);
    EXPECT_EQ(tls_store_file_count(w.store),
              5); // the key of one without certificate is not asked for
    end();
}

TEST(store_says_why_a_file_cannot_be_read)
{
    begin();
    check(mkdir(path_of("folder"), 0700) == 0);
    check(mkfifo(path_of("pipe"), 0600) == 0); // nobody will ever write to it
    const char *names[] = {"folder", "pipe", "nosuch"};
    for (int i = 0; i < 3; i++) {
        char tls[512], name[8];
        snprintf(name, sizeof(name), "g%d", i);
        snprintf(tls, sizeof(tls), "{mode: SIMPLE, serverCertificate: %s, privateKey: %s}",
                 path_of(names[i]), path_of(names[i]));
        add_gateway("istio", name, tls);
    }
    load();
    EXPECT_STR(told(), "error ~/folder: Is a directory\n"
                       "error ~/pipe: Invalid argument\n"
                       "error ~/nosuch: No such file or directory");
    end();
}

TEST(store_takes_two_certificates_from_files)
{
    const struct made *rsa = made_cert(&(struct made_spec){.cn = "rsa", .key = MADE_RSA2048});
    const struct made *ec = make("ec");
    char tls[512];
    begin();
    write_file("rc", rsa->pem);
    write_file("rk", rsa->key_pem);
    write_file("ec", ec->pem);
    write_file("ek", ec->key_pem);
    snprintf(tls, sizeof(tls),
             "{mode: SIMPLE, tlsCertificates: [{serverCertificate: %s, privateKey: %s}, "
             "{serverCertificate: %s, privateKey: %s}]}",
             path_of("rc"), path_of("rk"), path_of("ec"), path_of("ek"));
    add_gateway("istio", "g", tls);
    load();
    EXPECT_STR(told(), "");
    EXPECT_STR(shown(server(0), SSL_SIGN_RSA_PSS_RSAE_SHA256, NULL), "rsa");
    EXPECT_STR(shown(server(0), SSL_SIGN_ECDSA_SECP256R1_SHA256, NULL), "ec");
    end();
}

TEST(store_has_the_gateways_own_identity_for_istio_mutual)
{
    const struct made *root = make_ca("root"), *own = make_of(root, "own");
    begin();
    add_gateway("istio", "g", "{mode: ISTIO_MUTUAL}");
    add_gateway("istio", "h", "{mode: SIMPLE, credentialName: 'builtin://'}");
    add_rule("d", "x.istio.svc.cluster.local", "{mode: ISTIO_MUTUAL}");
    load();
    EXPECT(server(0) == NULL && client(0) == NULL);
    EXPECT(strncmp(told(), "error the gateway's own identity: ~/identity/cert-chain.pem: No such",
                   60) == 0);
    write_file("identity/cert-chain.pem", own->pem);
    write_file("identity/key.pem", own->key_pem);
    write_file("identity/root-cert.pem", root->pem);
    load();
    EXPECT_STR(told(), "");
    EXPECT_STR(shown(server(0), 0, own), "own");
    EXPECT_STR(shown(server(0), 0, NULL), "none");
    EXPECT_STR(shown(server(1), 0, NULL), "own");
    struct shaken s; // no name of it is checked: it has none but its account's
    shake_contexts(&s, server(0), client(0), "outbound_.80_._.x.istio.svc.cluster.local");
    EXPECT(s.done);
    shake_fini(&s);
    end();
}

// ---- reloads

TEST(store_keeps_what_has_not_changed)
{
    const struct made *a = make("a"), *b = make("b"), *a2 = make("a2");
    begin();
    check(mkdir(path_of("mount/a"), 0700) == 0 && mkdir(path_of("mount/b"), 0700) == 0);
    write_file("mount/a/tls.crt", a->pem);
    write_file("mount/a/tls.key", a->key_pem);
    write_file("mount/b/tls.crt", b->pem);
    write_file("mount/b/tls.key", b->key_pem);
    write_file("system.pem", a->pem);
    add_mounted("a", "a");
    add_mounted("b", "b");
    add_rule("d", "d.example", "{mode: SIMPLE}");
    load();
    struct tls_ctx *first = server(0), *second = server(1), *third = client(0);
    REQUIRE(first && second && third);
    EXPECT(first != second);
    load();
    EXPECT(server(0) == first && server(1) == second && client(0) == third);
    write_file("mount/a/tls.crt", a2->pem);
    write_file("mount/a/tls.key", a2->key_pem);
    struct tls_ctx *held = tls_ctx_get(first); // so that its address is not used again
    load();
    EXPECT(server(0) != first && server(1) == second && client(0) == third);
    EXPECT_STR(shown(server(0), 0, NULL), "a2");
    EXPECT_STR(shown(held, 0, NULL), "a"); // a connection may still have it
    tls_ctx_put(held);
    first = server(0);
    write_file("mount/a/tls.key", a->key_pem); // broken, but what was whole is kept
    load();
    EXPECT(server(0) == first && server(1) == second);
    write_file("system.pem", b->pem);
    held = tls_ctx_get(third);
    load();
    EXPECT(client(0) && client(0) != third);
    tls_ctx_put(held);
    end();
}

TEST(store_keeps_the_context_of_a_credential_that_breaks)
{
    const struct made *m = make("x"), *ca = make_ca("ca");
    static const char *const broken[] = {"{mode: SIMPLE, credentialName: x}",
                                         "{mode: MUTUAL, credentialName: x}",
                                         "{mode: SIMPLE, credentialName: y}"};
    begin();
    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
        w.len = 0;
        SECRET("istio", "x", {"tls.crt", m->pem}, {"tls.key", m->key_pem}, {"ca.crt", ca->pem});
        add_gateway("istio", "g", broken[0]);
        load();
        struct tls_ctx *before = server(0);
        REQUIRE(before != NULL);
        for (int again = 0; again < 2; again++) { // also when it was kept already
            w.len = 0;
            SECRET("istio", "x", {"tls.crt", SLICE("garbage")}, {"tls.key", m->key_pem});
            add_gateway("istio", "g", broken[i]);
            load();
            // With other settings it would not be what the documents ask for.
            EXPECT(server(0) == (i == 0 ? before : NULL));
            const char *kept = strstr(told(), "warning server https: the credential that was in "
                                              "service is kept");
            EXPECT_EQ(kept != NULL, i == 0);
        }
    }
    end();
}

TEST(store_sees_that_its_files_have_changed)
{
    const struct made *m = make("x"), *n = make("y");
    begin();
    check(mkdir(path_of("mount/a"), 0700) == 0);
    add_mounted("a", "a");
    write_file("mount/a/tls.crt", m->pem);
    load();
    EXPECT(!tls_store_files_changed(w.store));
    write_file("mount/a/tls.key", m->key_pem); // one that was missing
    EXPECT(tls_store_files_changed(w.store));
    load();
    EXPECT(!tls_store_files_changed(w.store));
    write_file("mount/a/tls.crt", n->pem);
    EXPECT(tls_store_files_changed(w.store));
    end();
}

TEST(store_makes_a_context_anew_when_its_settings_change)
{
    const struct made *m = make("x");
    begin();
    SECRET("istio", "x", {"tls.crt", m->pem}, {"tls.key", m->key_pem});
    size_t before = w.len;
    static const char *const variants[] = {
        "{mode: SIMPLE, credentialName: x}",
        "{mode: SIMPLE, credentialName: x, minProtocolVersion: TLSV1_3}",
        "{mode: SIMPLE, credentialName: x, maxProtocolVersion: TLSV1_2}",
        "{mode: SIMPLE, credentialName: x, cipherSuites: [AES128-SHA]}",
        "{mode: SIMPLE, credentialName: x, ecdhCurves: [P-256]}",
    };
    struct tls_ctx *held[5];
    for (int i = 0; i < 5; i++) {
        w.len = before;
        add_gateway("istio", "g", variants[i]);
        load();
        REQUIRE(server(0) != NULL);
        held[i] = tls_ctx_get(server(0));
        for (int k = 0; k < i; k++)
            EXPECT(held[k] != held[i]);
    }
    for (int i = 0; i < 5; i++)
        tls_ctx_put(held[i]);
    end();
}

static bool resumes(struct tls_ctx *site, struct tls_ctx *c)
{
    struct shaken s;
    shake_contexts(&s, site, c, "a.example");
    EXPECT(s.done);
    bool resumed = SSL_session_reused(s.client);
    shake_fini(&s);
    return resumed;
}

TEST(store_lets_tickets_outlive_a_renewed_certificate)
{
    static struct rcu rcu;
    const struct made *ca = make_ca("ca"), *other = make_ca("other");
    begin();
    rcu_init(&rcu, 1);
    w.tickets = tls_tickets_create(&rcu);
    REQUIRE(w.tickets != NULL);
    write_file("ca", ca->pem);
    char tls[512];
    snprintf(tls, sizeof(tls),
             "{mode: OPTIONAL_MUTUAL, serverCertificate: %s, privateKey: %s, caCertificates: %s}",
             path_of("crt"), path_of("key"), path_of("ca"));
    add_gateway("istio", "g", tls);
    add_rule("d", "a.example", "{mode: SIMPLE, insecureSkipVerify: true}");
    for (int i = 0; i < 3; i++) {
        if (i < 2) {
            const struct made *m = make_of(ca, "site"); // the same names, another key
            write_file("crt", m->pem);
            write_file("key", m->key_pem);
        } else {
            write_file("ca", other->pem); // who may connect changes
        }
        load();
        REQUIRE(server(0) && client(0));
        EXPECT_EQ(resumes(server(0), client(0)), i == 1);
    }
    end();
}

// The caller destroys the new one where it does not take it.
TEST(store_before_stays_whole)
{
    const struct made *m = make("x");
    begin();
    SECRET("istio", "x", {"tls.crt", m->pem}, {"tls.key", m->key_pem});
    add_simple("istio", "g", "x");
    load();
    const struct tls_store_options options = {.mount = w.mount, .now_s = time(NULL)};
    struct tls_store *not_taken = tls_store_load(w.store, w.m, &options, &w.findings);
    tls_store_destroy(not_taken);
    EXPECT_STR(shown(server(0), 0, NULL), "x");
    end();
}

// ---- destinations

TEST(store_verifies_destinations)
{
    const struct made *ca = make_ca("ca"), *system = make_ca("system");
    const struct made *site = made_cert(
        &(struct made_spec){.cn = "site", .issuer = ca, .names = "DNS:d.example,URI:spiffe://d"});
    const struct made *public =
        made_cert(&(struct made_spec){.cn = "public", .issuer = system, .names = "DNS:d.example"});
    char tls[256];
    begin();
    SECRET("istio", "site", {"tls.crt", site->pem}, {"tls.key", site->key_pem});
    SECRET("istio", "public", {"tls.crt", public->pem}, {"tls.key", public->key_pem});
    SECRET("istio", "private-cacert", {"ca.crt", ca->pem});
    write_file("system.pem", system->pem);
    write_file("ca.pem", ca->pem);
    add_simple("istio", "g0", "site");
    add_simple("istio", "g1", "public");
    add_rule("d0", "a.example", "{mode: SIMPLE}");
    snprintf(tls, sizeof(tls), "{mode: SIMPLE, caCertificates: %s}", path_of("ca.pem"));
    add_rule("d1", "b.example", tls);
    add_rule("d2", "c.example", "{mode: SIMPLE, credentialName: private}");
    add_rule("d3", "d.example", "{mode: SIMPLE, insecureSkipVerify: true}");
    add_rule("d4", "e.example",
             "{mode: SIMPLE, credentialName: private, subjectAltNames: ['spiffe://d']}");
    add_rule("d5", "f.example", "{mode: DISABLE}");
    add_rule("d6", "g.example", "{mode: SIMPLE, credentialName: private, sni: d.example}");
    load();
    EXPECT_STR(told(), "");
    static const struct {
        uint32_t rule, gateway;
        const char *host;
        bool good;
    } cases[] = {
        {0, 0, "d.example", false}, {0, 1, "d.example", true},  {0, 1, "x.example", false},
        {1, 0, "d.example", true},  {1, 1, "d.example", false}, {1, 0, "x.example", false},
        {2, 0, "d.example", true},  {2, 1, "d.example", false}, {3, 0, "x.example", true},
        {4, 0, "x.example", true},  {4, 1, "d.example", false}, {6, 0, "x.example", true},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct shaken s;
        shake_contexts(&s, server(cases[i].gateway), client(cases[i].rule), cases[i].host);
        if (s.done != cases[i].good)
            test_fail(__FILE__, __LINE__, "case %zu", i);
        shake_fini(&s);
    }
    EXPECT(client(5) == NULL);
    EXPECT(tls_ctx_follows_host(client(0)) && !tls_ctx_follows_host(client(6)));
    end();
}

TEST(store_shows_a_client_certificate_to_destinations)
{
    const struct made *ca = make_ca("ca"), *own = make_of(ca, "own");
    const struct made *site =
        made_cert(&(struct made_spec){.cn = "site", .issuer = ca, .names = "DNS:d.example"});
    char tls[512];
    begin();
    SECRET("istio", "site", {"tls.crt", site->pem}, {"tls.key", site->key_pem},
           {"ca.crt", ca->pem});
    SECRET("istio", "own", {"tls.crt", own->pem}, {"tls.key", own->key_pem}, {"ca.crt", ca->pem});
    write_file("crt", own->pem);
    write_file("key", own->key_pem);
    write_file("ca", ca->pem);
    add_gateway("istio", "g", "{mode: MUTUAL, credentialName: site}");
    add_rule("d0", "a.example", "{mode: MUTUAL, credentialName: own}");
    snprintf(tls, sizeof(tls),
             "{mode: MUTUAL, clientCertificate: %s, privateKey: %s, caCertificates: %s}",
             path_of("crt"), path_of("key"), path_of("ca"));
    add_rule("d1", "b.example", tls);
    add_rule("d2", "c.example", "{mode: SIMPLE, credentialName: own}");
    add_rule("d3", "d.example", "{mode: MUTUAL, credentialName: nosuch}");
    load();
    EXPECT_STR(told(), "error secret istio/nosuch not found\nerror secret istio/nosuch not found");
    for (uint32_t i = 0; i < 3; i++) {
        struct shaken s;
        shake_contexts(&s, server(0), client(i), "d.example");
        EXPECT_EQ(s.done, i < 2);
        shake_fini(&s);
    }
    EXPECT(client(3) == NULL);
    end();
}

TEST(store_takes_the_names_of_a_service_entry)
{
    const struct made *site =
        made_cert(&(struct made_spec){.cn = "site", .ca = true, .names = "URI:spiffe://d"});
    begin();
    SECRET("istio", "site", {"tls.crt", site->pem}, {"tls.key", site->key_pem},
           {"ca.crt", site->pem});
    add_simple("istio", "g", "site");
    add("---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e, "
        "namespace: istio}\nspec:\n  hosts: [e.example, Short.istio.svc.cluster.local]\n  ports: "
        "[{number: 443, name: tls, "
        "protocol: TLS}]\n  resolution: STATIC\n  endpoints: [{address: 10.0.0.1}]\n  "
        "subjectAltNames: ['spiffe://d']\n");
    add_rule("d0", "e.example", "{mode: SIMPLE, credentialName: site}");
    add_rule("d1", "f.example", "{mode: SIMPLE, credentialName: site}");
    add_rule("d2", "short", "{mode: SIMPLE, credentialName: site}");
    add_rule("d3", "E.example", "{mode: SIMPLE, credentialName: site}");
    load();
    for (uint32_t i = 0; i < 4; i++) {
        struct shaken s;
        shake_contexts(&s, server(0), client(i), "e.example");
        EXPECT_EQ(s.done, i != 1);
        shake_fini(&s);
    }
    end();
}

// As Istio has it: of the proxy's namespace, which is that of the Service in front of its Pods.
TEST(store_looks_for_a_rules_secret_where_the_proxy_runs)
{
    const struct made *site =
        made_cert(&(struct made_spec){.cn = "site", .ca = true, .names = "DNS:e.example"});
    const struct made *other = make_ca("other");
    static const char *const services[] = {
        "", "---\napiVersion: v1\nkind: Service\nmetadata: {name: gw, namespace: edge}\n"
            "spec: {selector: {istio: gw}, ports: [{port: 443}]}\n"};
    for (int with = 0; with < 2; with++) {
        begin();
        SECRET("istio", "site", {"tls.crt", site->pem}, {"tls.key", site->key_pem});
        SECRET("istio", "ca", {"ca.crt", other->pem}); // where the rule is
        SECRET(with ? "edge" : "istio-system", "ca", {"ca.crt", site->pem});
        add("---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g, "
            "namespace: istio}\nspec:\n  selector: {istio: gw}\n  servers:\n  - port: {number: "
            "443, "
            "name: https, protocol: HTTPS}\n    hosts: ['e.example']\n    tls: {mode: SIMPLE, "
            "credentialName: site}\n%s",
            services[with]);
        add_rule("d0", "e.example", "{mode: SIMPLE, credentialName: ca}");
        add_rule("d1", "e.example", "{mode: SIMPLE, credentialName: istio/ca}");
        load();
        for (uint32_t i = 0; i < 2; i++) {
            struct shaken s;
            shake_contexts(&s, server(0), client(i), "e.example");
            EXPECT_EQ(s.done, i == 0);
            shake_fini(&s);
        }
        end();
    }
}

// ---- the listing

TEST(store_lists_its_secrets)
{
    const struct made *ca = make_ca("ca"), *site = make("site");
    const struct made *old =
        made_cert(&(struct made_spec){.cn = "old", .from_s = -7200, .until_s = -3600});
    char out[2048] = "";
    begin();
    SECRET("istio", "site", {"tls.crt", site->pem}, {"tls.key", site->key_pem},
           {"ca.crt", ca->pem});
    SECRET("istio", "old", {"tls.crt", old->pem}, {"tls.key", old->key_pem});
    add_gateway("istio", "g0", "{mode: MUTUAL, credentialName: site}");
    add_simple("istio", "g1", "site");
    add_simple("istio", "g2", "old");
    add_simple("istio", "g3", "nosuch");
    load();
    for (uint32_t i = 0; i < tls_store_row_count(w.store); i++) {
        const struct tls_store_row *r = tls_store_row(w.store, i);
        size_t n = strlen(out);
        snprintf(out + n, sizeof(out) - n, "%s %s %s %s %d\n", r->name, r->is_ca ? "CA" : "chain",
                 r->loaded ? "active" : "warming", r->valid ? "valid" : "not valid",
                 r->loaded == (r->serial[0] != '\0'));
    }
    EXPECT_STR(out, "kubernetes://site chain active valid 1\n"
                    "kubernetes://site-cacert CA active valid 1\n"
                    "kubernetes://old chain active not valid 1\n"
                    "kubernetes://nosuch chain warming not valid 1\n");
    const struct tls_store_row *r = tls_store_row(w.store, 2);
    EXPECT(r->not_after_s - r->not_before_s == 3600);
    end();
}

TEST(store_passes_over_servers_that_do_not_terminate)
{
    begin();
    add_gateway("istio", "g0", "{mode: PASSTHROUGH}");
    add_gateway("istio", "g1", "{mode: AUTO_PASSTHROUGH}");
    load();
    EXPECT_STR(told(), "");
    EXPECT(server(0) == NULL && server(1) == NULL);
    EXPECT_EQ(tls_store_row_count(w.store), 0);
    end();
}
