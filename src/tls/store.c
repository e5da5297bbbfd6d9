// The contexts of a configuration. Owns a reference of each shared object (certificate, CAs,
// context), which is destroyed with the last store that holds it, and the texts of its listing. An
// object is found again by the SHA-256 of all it was made of. Control thread.
#include "tls/store.h"
#include "core/check.h"
#include "core/map.h"
#include "tls/credential.h"
#include "tls/ticket.h"
#include <openssl/sha2.h>
#include <stdlib.h>
#include <unistd.h>

#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))
#define WHY_CAP 512

enum shared_kind { SHARED_CERT, SHARED_TRUST, SHARED_CTX };
enum { FOR_SERVER, FOR_CLIENT };

struct shared {
    uint8_t key[33]; // kind, digest
    uint32_t references;
    union {
        struct cert *cert;
        struct tls_trust *trust;
        struct tls_ctx *ctx;
    };
};

struct tls_store {
    struct arena arena;
    struct map shared;           // key -> struct shared
    struct map servers, clients; // address -> struct shared of a context
    struct map server_by_ask;    // what a server asks for, without its credentials' bytes -> same
    const char **files;
    uint64_t *file_signs;
    struct tls_store_row *rows;
    uint32_t file_count, row_count, row_cap;
    struct map rows_by_name;
};

// One load.
struct loading {
    struct tls_store *s;
    const struct tls_store *previous;
    const struct tls_store_options *options;
    const char *identity;
    struct findings *findings;
    struct arena scratch;
    struct credential_sources sources;
    struct map entries; // host -> struct service_entry with subjectAltNames
    char why[WHY_CAP];
};

// What is being made: where its findings go.
struct subject {
    const struct metadata *meta;
    struct pos pos;
};

static void complain(struct loading *l, const struct subject *who)
{
    finding_add(l->findings, SEVERITY_ERROR, NULL, who->pos, who->meta, "%s", l->why);
}

// ---- shared objects

static void shared_put(struct shared *o)
{
    if (--o->references > 0)
        return;
    switch ((enum shared_kind)o->key[0]) {
    case SHARED_CERT:
        cert_destroy(o->cert);
        break;
    case SHARED_TRUST:
        tls_trust_put(o->trust);
        break;
    case SHARED_CTX:
        tls_ctx_put(o->ctx);
        break;
    }
    free(o);
}

static struct slice key_of(const uint8_t key[33])
{
    return (struct slice){(const char *)key, 33};
}

// One that this store or the one before it has; held by this one then.
static struct shared *shared_find(struct loading *l, const uint8_t key[33])
{
    struct shared *o = map_get(&l->s->shared, key_of(key));
    if (o || !l->previous)
        return o;
    o = map_get(&l->previous->shared, key_of(key));
    if (o) {
        o->references++;
        (void)map_put(&l->s->shared, key_of(o->key), o);
    }
    return o;
}

static struct shared *shared_add(struct loading *l, const uint8_t key[33])
{
    struct shared *o = calloc(1, sizeof(*o));
    check(o);
    memcpy(o->key, key, sizeof(o->key));
    o->references = 1;
    (void)map_put(&l->s->shared, key_of(o->key), o);
    return o;
}

static void hash(SHA256_CTX *sha, struct slice text)
{
    uint64_t n = text.len; // first, so that no two lists of texts look alike
    SHA256_Update(sha, &n, sizeof(n));
    SHA256_Update(sha, text.ptr, text.len);
}

static void hash_list(SHA256_CTX *sha, const struct string_list *list)
{
    uint64_t n = list->count;
    SHA256_Update(sha, &n, sizeof(n));
    for (uint32_t i = 0; i < list->count; i++)
        hash(sha, list->items[i].text);
}

static void key_finish(SHA256_CTX *sha, enum shared_kind kind, uint8_t key[33])
{
    key[0] = (uint8_t)kind;
    SHA256_Final(key + 1, sha);
}

// ---- the listing

static struct tls_store_row *row_add(struct loading *l, const char *name, bool is_ca)
{
    struct tls_store *s = l->s;
    if (map_get(&s->rows_by_name, slice_of(name)))
        return NULL;
    if (s->row_count == s->row_cap) {
        s->row_cap = s->row_cap ? s->row_cap * 2 : 16;
        s->rows = realloc(s->rows, sizeof(*s->rows) * s->row_cap);
        check(s->rows);
    }
    struct tls_store_row *r = &s->rows[s->row_count++];
    *r =
        (struct tls_store_row){.name = arena_strdup(&s->arena, name), .is_ca = is_ca, .serial = ""};
    (void)map_put(&s->rows_by_name, slice_of(r->name), s);
    return r;
}

static void row_fill(struct loading *l, struct tls_store_row *r, const char *serial, int64_t from,
                     int64_t until)
{
    if (!r)
        return;
    r->loaded = true;
    r->serial = arena_strdup(&l->s->arena, serial);
    r->not_before_s = from;
    r->not_after_s = until;
    r->valid = from <= l->options->now_s && l->options->now_s <= until;
}

static void row_of_cert(struct loading *l, const char *name, const struct cert *c)
{
    struct tls_store_row *r = row_add(l, name, false);
    if (c)
        row_fill(l, r, cert_serial(c), cert_not_before_s(c), cert_not_after_s(c));
}

static void row_of_trust(struct loading *l, const char *name, const struct tls_trust *t)
{
    struct tls_store_row *r = row_add(l, name, true);
    if (t)
        row_fill(l, r, tls_trust_serial(t), tls_trust_not_before_s(t), tls_trust_not_after_s(t));
}

// ---- parsing what was found

static void prefix_why(struct loading *l, const char *from)
{
    char reason[WHY_CAP];
    snprintf(reason, sizeof(reason), "%s", l->why);
    snprintf(l->why, sizeof(l->why), "%s: %.*s", from, (int)sizeof(l->why) / 2, reason);
}

static void warn_of_dates(struct loading *l, const struct subject *who, const struct credential *c,
                          const struct cert *cert)
{
    if (cert_covers(cert, l->options->now_s, l->why, sizeof(l->why)))
        return;
    finding_add(l->findings, SEVERITY_WARNING, NULL, who->pos, who->meta, "%s: %s", c->from,
                l->why);
}

// The certificate with its key; NULL after a finding.
static struct shared *parse_cert(struct loading *l, const struct subject *who,
                                 const struct credential *c)
{
    SHA256_CTX sha;
    uint8_t key[33];
    SHA256_Init(&sha);
    hash(&sha, c->chain);
    hash(&sha, c->key);
    key_finish(&sha, SHARED_CERT, key);
    struct shared *o = shared_find(l, key);
    struct cert *cert = o ? o->cert : NULL;
    if (!o && cert_parse(c->chain, c->key, &cert, l->why, sizeof(l->why)) != OK) {
        prefix_why(l, c->from);
        complain(l, who);
        return NULL;
    }
    if (!o) {
        o = shared_add(l, key);
        o->cert = cert;
    }
    warn_of_dates(l, who, c, o->cert);
    return o;
}

static struct shared *parse_trust(struct loading *l, const struct subject *who,
                                  const struct credential_ca *c)
{
    SHA256_CTX sha;
    uint8_t key[33];
    SHA256_Init(&sha);
    hash(&sha, c->ca);
    hash(&sha, c->crl);
    key_finish(&sha, SHARED_TRUST, key);
    struct shared *o = shared_find(l, key);
    if (o)
        return o;
    struct tls_trust *t;
    if (tls_trust_create(c->ca, c->crl, &t, l->why, sizeof(l->why)) != OK) {
        prefix_why(l, c->from);
        complain(l, who);
        return NULL;
    }
    o = shared_add(l, key);
    o->trust = t;
    return o;
}

// What was found (`e` tells whether), parsed and listed.
static struct shared *take_cert(struct loading *l, const struct subject *who, enum err e,
                                const struct credential *c)
{
    if (e != OK)
        complain(l, who);
    struct shared *o = e == OK ? parse_cert(l, who, c) : NULL;
    row_of_cert(l, c->row, o ? o->cert : NULL);
    return o;
}

static struct shared *take_trust(struct loading *l, const struct subject *who, enum err e,
                                 const struct credential_ca *c)
{
    if (e != OK)
        complain(l, who);
    struct shared *o = e == OK ? parse_trust(l, who, c) : NULL;
    row_of_trust(l, c->row, o ? o->trust : NULL);
    return o;
}

// ---- the gateway's own identity

static struct slice identity_path(struct loading *l, const char *file)
{
    return slice_of(arena_printf(&l->scratch, "%s/%s", l->identity, file));
}

static enum err own_identity(struct loading *l, struct credential *out)
{
    enum err e = credential_from_files(&l->sources, identity_path(l, "cert-chain.pem"),
                                       identity_path(l, "key.pem"), out, l->why, sizeof(l->why));
    out->row = "default";
    if (e != OK)
        prefix_why(l, "the gateway's own identity");
    return e;
}

static enum err own_root(struct loading *l, struct credential_ca *out)
{
    enum err e = credential_ca_from_files(&l->sources, identity_path(l, "root-cert.pem"),
                                          (struct slice){NULL, 0}, out, l->why, sizeof(l->why));
    out->row = "ROOTCA";
    if (e != OK)
        prefix_why(l, "the gateway's own identity");
    return e;
}

// ---- servers

static bool terminates(const struct server *s)
{
    return s->tls && (s->port.protocol == PROTO_HTTPS || s->port.protocol == PROTO_TLS) &&
           s->tls->mode != TLS_PASSTHROUGH && s->tls->mode != TLS_AUTO_PASSTHROUGH;
}

// A Secret that a Gateway names: that there is none, `analyze` says in the same words.
static enum err secret_of(struct loading *l, const struct subject *who, struct slice name,
                          struct credential *out, bool *said)
{
    if (credential_is_builtin(name))
        return own_identity(l, out);
    enum err e =
        credential_from_secret(&l->sources, name, who->meta->ns, out, l->why, sizeof(l->why));
    *said = e == ERR_NOT_FOUND;
    if (*said)
        finding_add(l->findings, SEVERITY_ERROR, "IST0101", who->pos, who->meta,
                    "Referenced credentialName not found: \"%.*s\"", SLICE_FMT(name));
    return e;
}

static struct shared *cert_of_secret(struct loading *l, const struct subject *who,
                                     struct slice name, struct slice *ocsp)
{
    struct credential c;
    bool said = false;
    enum err e = secret_of(l, who, name, &c, &said);
    *ocsp = c.ocsp;
    if (!said)
        return take_cert(l, who, e, &c);
    row_of_cert(l, c.row, NULL);
    return NULL;
}

static struct shared *cert_of_files(struct loading *l, const struct subject *who,
                                    struct slice chain, struct slice key)
{
    struct credential c;
    return take_cert(
        l, who, credential_from_files(&l->sources, chain, key, &c, l->why, sizeof(l->why)), &c);
}

static struct shared *cert_of_identity(struct loading *l, const struct subject *who)
{
    struct credential c;
    return take_cert(l, who, own_identity(l, &c), &c);
}

struct identities {
    struct shared *certs[TLS_IDENTITIES_MAX];
    struct slice ocsp[TLS_IDENTITIES_MAX];
    uint32_t count;
    bool complete; // none of those named is missing
};

static void identity_add(struct identities *ids, struct shared *o, struct slice ocsp)
{
    if (!o)
        ids->complete = false;
    else if (ids->count < TLS_IDENTITIES_MAX) {
        ids->certs[ids->count] = o;
        ids->ocsp[ids->count++] = ocsp;
    }
}

static uint32_t at_most(uint32_t n)
{
    return n < TLS_IDENTITIES_MAX ? n : TLS_IDENTITIES_MAX;
}

static void server_identities(struct loading *l, struct subject who, const struct server_tls *t,
                              struct identities *ids)
{
    struct slice ocsp = {NULL, 0}, none = ocsp;
    struct pos here = who.pos;
    ids->complete = true;
    for (uint32_t i = 0; i < at_most(t->credential_names.count); i++) {
        who.pos = t->credential_names.items[i].pos;
        struct shared *o = cert_of_secret(l, &who, t->credential_names.items[i].text, &ocsp);
        identity_add(ids, o, ocsp);
    }
    for (uint32_t i = 0; i < at_most(t->certificate_count); i++) {
        const struct tls_certificate *c = &t->certificates[i];
        who.pos = c->pos;
        identity_add(ids, cert_of_files(l, &who, c->server_certificate, c->private_key), none);
    }
    who.pos = t->credential_name.len ? t->credential_pos : here;
    if (t->credential_names.count || t->certificate_count)
        return;
    if (t->credential_name.len) {
        struct shared *o = cert_of_secret(l, &who, t->credential_name, &ocsp);
        identity_add(ids, o, ocsp);
    } else if (t->mode == TLS_ISTIO_MUTUAL) {
        identity_add(ids, cert_of_identity(l, &who), none);
    } else {
        identity_add(ids, cert_of_files(l, &who, t->server_certificate, t->private_key), none);
    }
}

// CAs of clients; a caCrl beside a credential counts where that has none.
static struct shared *server_trust(struct loading *l, struct subject who,
                                   const struct server_tls *t)
{
    struct credential_ca c = {0};
    struct slice name =
        t->credential_names.count ? t->credential_names.items[0].text : t->credential_name;
    enum err e;
    if (t->ca_cert_credential_name.len)
        e = credential_ca_named(&l->sources, t->ca_cert_credential_name, who.meta->ns, &c, l->why,
                                sizeof(l->why));
    else if (credential_is_builtin(name) || (!name.len && t->mode == TLS_ISTIO_MUTUAL))
        e = own_root(l, &c);
    else if (name.len)
        e = credential_ca_from_secret(&l->sources, name, who.meta->ns, &c, l->why, sizeof(l->why));
    else
        e = credential_ca_from_files(&l->sources, t->ca_certificates, t->ca_crl, &c, l->why,
                                     sizeof(l->why));
    if (e == OK && !c.crl.len && t->ca_crl.len)
        e = credential_read(&l->sources, t->ca_crl, &c.crl, l->why, sizeof(l->why));
    return take_trust(l, &who, e, &c);
}

static void warn_of_curves(struct loading *l, const struct subject *who,
                           const struct string_list *list)
{
    for (uint32_t i = 0; i < list->count; i++)
        if (!tls_curve_is_known(list->items[i].text))
            finding_add(l->findings, SEVERITY_WARNING, NULL, list->items[i].pos, who->meta,
                        "ignoring unknown ecdh curves: [%.*s]", SLICE_FMT(list->items[i].text));
}

static void hash_peer(SHA256_CTX *sha, const struct tls_peer_settings *p,
                      const struct shared *trust)
{
    uint8_t flag = p->insecure_skip_verify;
    hash(sha, trust ? key_of(trust->key) : (struct slice){NULL, 0});
    hash_list(sha, &p->names);
    hash_list(sha, &p->spki_pins);
    hash_list(sha, &p->hash_pins);
    SHA256_Update(sha, &flag, 1);
}

static void key_of_server(const struct tls_server_settings *s, const struct identities *ids,
                          const struct shared *trust, uint8_t key[33])
{
    SHA256_CTX sha;
    uint32_t numbers[] = {FOR_SERVER, s->min_version, s->max_version, s->client_auth, ids->count};
    SHA256_Init(&sha);
    SHA256_Update(&sha, numbers, sizeof(numbers));
    hash(&sha, s->name);
    for (uint32_t i = 0; i < ids->count; i++) {
        hash(&sha, key_of(ids->certs[i]->key));
        hash(&sha, ids->ocsp[i]);
    }
    hash_list(&sha, &s->cipher_suites);
    hash_list(&sha, &s->ecdh_curves);
    hash(&sha, s->alpn);
    hash_peer(&sha, &s->peer, trust);
    key_finish(&sha, SHARED_CTX, key);
}

// What the documents say of a server's TLS, whatever the credentials they name hold.
static struct slice ask_of_server(struct loading *l, const struct tls_server_settings *s,
                                  const struct server_tls *t)
{
    uint8_t *key = arena_alloc(&l->s->arena, 33);
    SHA256_CTX sha;
    uint32_t numbers[] = {t->mode, s->min_version, s->max_version, t->certificate_count};
    SHA256_Init(&sha);
    SHA256_Update(&sha, numbers, sizeof(numbers));
    hash(&sha, s->name);
    hash(&sha, t->credential_name);
    hash_list(&sha, &t->credential_names);
    hash(&sha, t->server_certificate);
    hash(&sha, t->private_key);
    for (uint32_t i = 0; i < t->certificate_count; i++) {
        hash(&sha, t->certificates[i].server_certificate);
        hash(&sha, t->certificates[i].private_key);
    }
    hash(&sha, t->ca_cert_credential_name);
    hash(&sha, t->ca_certificates);
    hash(&sha, t->ca_crl);
    hash_list(&sha, &s->cipher_suites);
    hash_list(&sha, &s->ecdh_curves);
    hash(&sha, s->alpn);
    hash_peer(&sha, &s->peer, NULL);
    key_finish(&sha, SHARED_CTX, key);
    return key_of(key);
}

static void use_for_server(struct loading *l, const struct server *server, struct slice ask,
                           struct shared *o)
{
    const struct server **address = arena_new(&l->s->arena, const struct server *);
    *address = server;
    (void)map_put(&l->s->servers, (struct slice){(const char *)address, sizeof(*address)}, o);
    (void)map_put(&l->s->server_by_ask, ask, o);
}

// A credential broken by a change breaks nothing that was whole before: a server that asks for what
// it asked for goes on with what it had.
static void keep_server(struct loading *l, const struct subject *who, const struct server *server,
                        struct slice ask)
{
    const struct shared *had = l->previous ? map_get(&l->previous->server_by_ask, ask) : NULL;
    if (!had)
        return;
    use_for_server(l, server, ask, shared_find(l, had->key));
    finding_add(l->findings, SEVERITY_WARNING, NULL, who->pos, who->meta,
                "server %.*s: the credential that was in service is kept",
                SLICE_FMT(server->port.name));
}

static bool make_server(struct loading *l, const struct subject *who, const struct server *server,
                        struct slice ask, const struct tls_server_settings *s,
                        const uint8_t key[33])
{
    struct shared *o = shared_find(l, key);
    if (!o) {
        struct tls_ctx *ctx;
        if (tls_ctx_create_server(s, &ctx, l->why, sizeof(l->why)) != OK) {
            complain(l, who);
            return false;
        }
        if (l->options->tickets)
            tls_tickets_attach(l->options->tickets, ctx);
        o = shared_add(l, key);
        o->ctx = ctx;
    }
    use_for_server(l, server, ask, o);
    return true;
}

static void load_server(struct loading *l, const struct gateway *g, const struct server *server)
{
    static const enum tls_client_auth auths[] = {[TLS_SIMPLE] = TLS_CLIENT_AUTH_NONE,
                                                 [TLS_MUTUAL] = TLS_CLIENT_AUTH_REQUIRED,
                                                 [TLS_ISTIO_MUTUAL] = TLS_CLIENT_AUTH_REQUIRED,
                                                 [TLS_OPTIONAL_MUTUAL] = TLS_CLIENT_AUTH_OPTIONAL};
    const struct server_tls *t = server->tls;
    const struct subject who = {&g->meta, t->pos};
    struct identities ids = {0};
    bool http = server->port.protocol == PROTO_HTTPS;
    struct tls_server_settings s = {
        .name = slice_of(arena_printf(&l->scratch, "%.*s/%.*s/%.*s", SLICE_FMT(g->meta.ns),
                                      SLICE_FMT(g->meta.name), SLICE_FMT(server->port.name))),
        .min_version = t->min_version,
        .max_version = t->max_version,
        .cipher_suites = t->cipher_suites,
        .ecdh_curves = t->ecdh_curves,
        .alpn = http && l->options->http_alpn.len ? l->options->http_alpn : SLICE("h2,http/1.1"),
        .client_auth = auths[t->mode],
        .peer = {.names = t->subject_alt_names,
                 .spki_pins = t->verify_certificate_spki,
                 .hash_pins = t->verify_certificate_hash,
                 .insecure_skip_verify = t->insecure_skip_verify},
    };
    struct shared *trust = NULL;
    warn_of_curves(l, &who, &t->ecdh_curves);
    server_identities(l, who, t, &ids);
    if (s.client_auth != TLS_CLIENT_AUTH_NONE) {
        trust = server_trust(l, who, t);
        ids.complete = ids.complete && trust;
    }
    struct slice ask = ask_of_server(l, &s, t);
    if (!ids.complete || ids.count == 0) {
        keep_server(l, &who, server, ask);
        return;
    }
    s.identity_count = ids.count;
    for (uint32_t i = 0; i < ids.count; i++)
        s.identities[i] = (struct tls_identity){ids.certs[i]->cert, ids.ocsp[i]};
    s.peer.trust = trust ? trust->trust : NULL;
    uint8_t key[33];
    key_of_server(&s, &ids, trust, key);
    if (!make_server(l, &who, server, ask, &s, key))
        keep_server(l, &who, server, ask);
}

// ---- destinations

static enum err system_ca(struct loading *l, struct credential_ca *out)
{
    static const char *const places[] = {
        "/etc/ssl/certs/ca-certificates.crt", // Debian, Alpine
        "/etc/pki/tls/certs/ca-bundle.crt",   // Fedora
        "/etc/ssl/ca-bundle.pem",             // openSUSE
        "/etc/ssl/cert.pem",
    };
    const char *path = l->options->system_ca;
    for (uint32_t i = 0; !path && i < COUNT_OF(places); i++)
        if (access(places[i], R_OK) == 0)
            path = places[i];
    path = path ? path : places[0];
    return credential_ca_from_files(&l->sources, slice_of(path), (struct slice){NULL, 0}, out,
                                    l->why, sizeof(l->why));
}

static struct shared *client_trust(struct loading *l, const struct subject *who,
                                   const struct client_tls *t)
{
    struct credential_ca c;
    enum err e;
    if (t->mode == CLIENT_TLS_ISTIO_MUTUAL || credential_is_builtin(t->credential_name))
        e = own_root(l, &c);
    else if (t->credential_name.len)
        e = credential_ca_from_secret(&l->sources, t->credential_name, who->meta->ns, &c, l->why,
                                      sizeof(l->why));
    else if (t->ca_certificates.len && !slice_eq(t->ca_certificates, SLICE("system")))
        e = credential_ca_from_files(&l->sources, t->ca_certificates, t->ca_crl, &c, l->why,
                                     sizeof(l->why));
    else
        e = system_ca(l, &c);
    if (e == OK && !c.crl.len && t->ca_crl.len)
        e = credential_read(&l->sources, t->ca_crl, &c.crl, l->why, sizeof(l->why));
    return take_trust(l, who, e, &c);
}

static struct shared *client_identity(struct loading *l, const struct subject *who,
                                      const struct client_tls *t)
{
    struct credential c;
    enum err e;
    if (t->mode == CLIENT_TLS_ISTIO_MUTUAL || credential_is_builtin(t->credential_name))
        e = own_identity(l, &c);
    else if (t->credential_name.len)
        e = credential_from_secret(&l->sources, t->credential_name, who->meta->ns, &c, l->why,
                                   sizeof(l->why));
    else
        e = credential_from_files(&l->sources, t->client_certificate, t->private_key, &c, l->why,
                                  sizeof(l->why));
    return take_cert(l, who, e, &c);
}

static void key_of_client(const struct tls_client_settings *s, const struct shared *identity,
                          const struct shared *trust, uint8_t key[33])
{
    SHA256_CTX sha;
    uint32_t numbers[] = {FOR_CLIENT, s->check_host};
    SHA256_Init(&sha);
    SHA256_Update(&sha, numbers, sizeof(numbers));
    hash(&sha, identity ? key_of(identity->key) : (struct slice){NULL, 0});
    hash(&sha, s->sni);
    hash_peer(&sha, &s->peer, trust);
    key_finish(&sha, SHARED_CTX, key);
}

static void make_client(struct loading *l, const struct subject *who, const struct client_tls *t,
                        const struct tls_client_settings *s, const uint8_t key[33])
{
    struct shared *o = shared_find(l, key);
    if (!o) {
        struct tls_ctx *ctx;
        if (tls_ctx_create_client(s, &ctx, l->why, sizeof(l->why)) != OK) {
            complain(l, who);
            return;
        }
        o = shared_add(l, key);
        o->ctx = ctx;
    }
    const struct client_tls **address = arena_new(&l->s->arena, const struct client_tls *);
    *address = t;
    (void)map_put(&l->s->clients, (struct slice){(const char *)address, sizeof(*address)}, o);
}

static void load_client(struct loading *l, const struct destination_rule *d,
                        const struct client_tls *t)
{
    if (!t || t->mode == CLIENT_TLS_DISABLE)
        return;
    const struct subject who = {&d->meta, t->pos};
    struct tls_client_settings s = {
        .sni = t->sni,
        .check_host = t->mode != CLIENT_TLS_ISTIO_MUTUAL,
        .peer = {.names = t->subject_alt_names,
                 .insecure_skip_verify = t->insecure_skip_verify == 1},
    };
    const struct service_entry *entry = map_get(&l->entries, d->host);
    if (!s.peer.names.count && entry && t->mode != CLIENT_TLS_ISTIO_MUTUAL)
        s.peer.names = entry->subject_alt_names;
    bool shows = t->mode != CLIENT_TLS_SIMPLE;
    struct shared *identity = shows ? client_identity(l, &who, t) : NULL;
    struct shared *trust = s.peer.insecure_skip_verify ? NULL : client_trust(l, &who, t);
    if ((shows && !identity) || (!s.peer.insecure_skip_verify && !trust))
        return;
    s.identity.cert = identity ? identity->cert : NULL;
    s.peer.trust = trust ? trust->trust : NULL;
    uint8_t key[33];
    key_of_client(&s, identity, trust, key);
    make_client(l, &who, t, &s, key);
}

static void load_policy(struct loading *l, const struct destination_rule *d,
                        const struct traffic_policy *p)
{
    if (!p)
        return;
    load_client(l, d, p->tls);
    for (uint32_t i = 0; i < p->port_level_count; i++)
        load_client(l, d, p->port_level[i].tls);
}

static void load_rule(struct loading *l, const struct destination_rule *d)
{
    load_policy(l, d, d->traffic_policy);
    for (uint32_t i = 0; i < d->subset_count; i++)
        load_policy(l, d, d->subsets[i].traffic_policy);
}

static void index_entries(struct loading *l, const struct model *m)
{
    map_init(&l->entries, &l->scratch, m->service_entries_count);
    for (uint32_t i = m->service_entries_count; i-- > 0;) { // the first one wins
        struct service_entry *e = m->service_entries[i];
        for (uint32_t k = 0; e->subject_alt_names.count && k < e->hosts.count; k++)
            (void)map_put(&l->entries, e->hosts.items[k].text, e);
    }
}

// ---- the whole

static void keep_files(struct loading *l)
{
    uint32_t n = 0;
    for (const struct credential_file *f = l->sources.first_file; f; f = f->next)
        n++;
    l->s->files = arena_array(&l->s->arena, const char *, n);
    l->s->file_signs = arena_array(&l->s->arena, uint64_t, n);
    for (const struct credential_file *f = l->sources.first_file; f; f = f->next) {
        l->s->file_signs[l->s->file_count] = f->sign;
        l->s->files[l->s->file_count++] = arena_dup(&l->s->arena, f->path).ptr;
    }
}

static struct tls_store *store_create(void)
{
    struct tls_store *s = calloc(1, sizeof(*s));
    check(s);
    arena_init(&s->arena, 0);
    map_init(&s->shared, NULL, 0);
    map_init(&s->servers, NULL, 0);
    map_init(&s->clients, NULL, 0);
    map_init(&s->server_by_ask, NULL, 0);
    map_init(&s->rows_by_name, NULL, 0);
    return s;
}

struct tls_store *tls_store_load(const struct tls_store *previous, const struct model *m,
                                 const struct tls_store_options *options, struct findings *findings)
{
    struct loading l = {.s = store_create(),
                        .previous = previous,
                        .options = options,
                        .identity = options->identity ? options->identity : "/etc/certs",
                        .findings = findings};
    arena_init(&l.scratch, 0);
    credential_sources_init(&l.sources, m, options->mount ? options->mount : "/etc/istio",
                            &l.scratch);
    index_entries(&l, m);
    for (uint32_t i = 0; i < m->gateways_count; i++)
        for (uint32_t k = 0; k < m->gateways[i]->server_count; k++)
            if (terminates(&m->gateways[i]->servers[k]))
                load_server(&l, m->gateways[i], &m->gateways[i]->servers[k]);
    for (uint32_t i = 0; i < m->destination_rules_count; i++)
        load_rule(&l, m->destination_rules[i]);
    keep_files(&l);
    credential_sources_fini(&l.sources);
    arena_fini(&l.scratch);
    return l.s;
}

void tls_store_destroy(struct tls_store *s)
{
    if (!s)
        return;
    struct map_entry *e;
    for (uint32_t i = 0; map_next(&s->shared, &i, &e);)
        shared_put(e->value);
    map_fini(&s->shared);
    map_fini(&s->servers);
    map_fini(&s->clients);
    map_fini(&s->server_by_ask);
    map_fini(&s->rows_by_name);
    free(s->rows);
    arena_fini(&s->arena);
    free(s);
}

static struct tls_ctx *ctx_at(const struct map *m, const void *address)
{
    const struct shared *o = map_get(m, (struct slice){(const char *)&address, sizeof(address)});
    return o ? o->ctx : NULL;
}

struct tls_ctx *tls_store_server(const struct tls_store *s, const struct server *server)
{
    return ctx_at(&s->servers, server);
}

struct tls_ctx *tls_store_client(const struct tls_store *s, const struct client_tls *tls)
{
    return ctx_at(&s->clients, tls);
}

uint32_t tls_store_file_count(const struct tls_store *s)
{
    return s->file_count;
}

const char *const *tls_store_files(const struct tls_store *s)
{
    return s->files;
}

bool tls_store_files_changed(const struct tls_store *s)
{
    for (uint32_t i = 0; i < s->file_count; i++)
        if (credential_file_sign(s->files[i]) != s->file_signs[i])
            return true;
    return false;
}

uint32_t tls_store_row_count(const struct tls_store *s)
{
    return s->row_count;
}

const struct tls_store_row *tls_store_row(const struct tls_store *s, uint32_t i)
{
    check(i < s->row_count);
    return &s->rows[i];
}
